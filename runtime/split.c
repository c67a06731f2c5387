/* split.c - see split.h. */
#include "runtime/split.h"

#include <math.h>

#include "runtime/blocks.h"
#include "runtime/interpolate.h"
#include "runtime/tradeoff.h"

/* A layer's possible sizes as points of a trade: groups for loss. What is over a multiple is gone before. Losses are
 * measured on few samples: where more has gone for less, that is chance, and no reason to let more go than is asked for. */
static PareStatus draw(PareCtx *c, const PareLayer *l, const PareLossCurve *curve, PareTrade *out) {
  int64_t size = pare_block_size(l), over = l->count % size, most = l->count - pare_block_least(l);
  size_t n = most > over ? (size_t)((most - over) / size) : 0;
  double *all = PARE_NEW_N(c->scratch, l->count + 1, double);
  double *gain = PARE_NEW_N(c->scratch, n + 1, double), *loss = PARE_NEW_N(c->scratch, n + 1, double);
  if (!all || !gain || !loss) return pare_nomem(c);
  pare_interpolate(curve->n, curve->gone, curve->loss, l->count, all);
  for (size_t k = 0; k <= n; k++) {
    gain[k] = (double)((int64_t)k * size);
    loss[k] = all[over + (int64_t)k * size] - all[over];
    if (k > 0 && loss[k] < loss[k - 1]) loss[k] = loss[k - 1];
  }
  *out = (PareTrade){n + 1, gain, loss, 0};
  return PARE_OK;
}

static PareStatus split_kind(PareCtx *c, size_t n, const PareLayer *layer, const PareLossCurve *curve, size_t first,
                             double ratio, int64_t *dead) {
  PareTrade *trade = PARE_NEW_N(c->scratch, n + 1, PareTrade);
  size_t m = 0;
  double all = 0, over = 0;
  if (!trade) return pare_nomem(c);
  for (size_t i = first; i < n; i++) {
    if (layer[i].kind != layer[first].kind) continue;
    PARE_TRY(draw(c, &layer[i], &curve[i], &trade[m++]));
    all += (double)layer[i].count;
    over += (double)(layer[i].count % pare_block_size(&layer[i]));
  }
  PARE_TRY(pare_trade_off(c, m, trade, floor(ratio * all + 0.5) - over));
  m = 0;
  for (size_t i = first; i < n; i++) {
    if (layer[i].kind != layer[first].kind) continue;
    int64_t size = pare_block_size(&layer[i]);
    dead[i] = layer[i].count % size + (int64_t)trade[m++].chosen * size;
  }
  return PARE_OK;
}

PareStatus pare_split_by_loss(PareCtx *c, size_t n, const PareLayer *layer, const PareLossCurve *curve,
                              const double *ratio, int64_t *dead) {
  PareMark mark = pare_arena_mark(c->scratch);
  for (size_t i = 0; i < n; i++) dead[i] = -1;
  for (size_t i = 0; i < n; i++)
    if (dead[i] < 0) PARE_TRY(split_kind(c, n, layer, curve, i, ratio[layer[i].kind], dead));
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}
