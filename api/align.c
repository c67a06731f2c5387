/* align.c - see align.h. */
#include "api/align.h"

/* Channels that one head is, where its fan-in is contracted. */
static PareStatus head_width(PareCtx *c, const PareDims *d, const PareDim *dim, int64_t *width) {
  *width = 1;
  if (!dim->readers.n) return PARE_OK;
  const PareContraction *r = &dim->readers.at[0];
  PareAxis *axis = pare_axis_in(d->tracer, r->node, r->input, r->axis);
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *at = PARE_NEW_N(c->scratch, axis->size + 1, int64_t), own = 0;
  if (!at) return pare_nomem(c);
  pare_axis_positions(axis, dim->leaf, at);
  for (int64_t i = 0; i < axis->size; i++) own += at[i] >= 0;
  pare_arena_rewind(c->scratch, mark);
  if (own >= dim->count) *width = own / dim->count;
  return PARE_OK;
}

static int64_t common_divisor(int64_t a, int64_t b) {
  while (b) {
    int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

PareStatus pare_align_multiple(PareCtx *c, const PareDims *d, const PareDim *dim, int64_t align, int64_t *multiple) {
  int64_t width = 1;
  *multiple = 1;
  if (align <= 1 || dim->kind == PARE_KIND_DEPTH) return PARE_OK;
  if (dim->kind == PARE_KIND_HEADS || dim->kind == PARE_KIND_QUERIES) PARE_TRY(head_width(c, d, dim, &width));
  *multiple = align / common_divisor(align, width);
  return PARE_OK;
}

PareStatus pare_align_uneven(PareCtx *c, const PareDims *d, bool *const *keep, int64_t align, const char **name,
                             size_t *n) {
  *n = 0;
  for (size_t i = 0; i < d->dims.n; i++) {
    int64_t multiple, alive = 0;
    if (!keep[i] || d->dims.at[i].given || pare_dims_gone(d, keep, i)) continue;
    PARE_TRY(pare_align_multiple(c, d, &d->dims.at[i], align, &multiple));
    for (int64_t k = 0; k < d->dims.at[i].count; k++) alive += keep[i][k];
    if (alive % multiple) name[(*n)++] = d->dims.at[i].name;
  }
  return PARE_OK;
}
