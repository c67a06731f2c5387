/* ruler.c - see ruler.h. */
#include "api/ruler.h"

#include <math.h>
#include <string.h>

#include "api/aside.h"
#include "api/feed.h"

const char *pare_ruler_loss_name(const PareRuler *r) {
  switch (r->by.what) {
    case PARE_JUDGES_NUMBERS: return "mse";
    case PARE_JUDGES_MARKS: return "bce";
    case PARE_JUDGES_CLASSES:
    case PARE_JUDGES_SPANS: return "ce";
    case PARE_JUDGES_REFERENCE: break;
  }
  return r->by.metric == PARE_METRIC_AGREEMENT ? "kl" : r->single ? "mse" : "1 - cosine";
}

/* log of the sum of exp, shifted by the greatest. */
static double log_sum(int64_t n, const float *x) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
  for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
  return max + log(sum);
}

/* Kullback and Leibler's divergence of softmax(x) from softmax(reference). */
static double divergence(int64_t n, const float *x, const float *reference) {
  double lx = log_sum(n, x), lr = log_sum(n, reference), sum = 0;
  for (int64_t i = 0; i < n; i++) {
    double p = (double)reference[i] - lr, q = (double)x[i] - lx;
    sum += exp(p) * (p - q);
  }
  return sum;
}

/* --- against the model itself --- */

/* One pass over the samples: the batch that is there, and what of its rows does not count. */
typedef struct Pass {
  PareCtx *c;
  const PareRuler *r;
  PareForward *f;
  int64_t *samples, count; /* of the batch */
  int64_t last;            /* numbers of a row */
  uint8_t *room;           /* for marks of its rows */
  const uint8_t *skip;     /* by row; NULL: all count */
} Pass;

static const PareValue *judged(const Pass *p) { return pare_forward_value(p->f, p->r->by.task.output); }

static PareStatus pass_start(Pass *p) {
  const PareType *t = &judged(p)->type;
  int64_t batch = pare_forward_batch(p->f), width = pare_forward_width(p->f, p->r->by.task.output);
  p->last = pare_task_row(t) ? pare_task_row(t) : 1;
  p->samples = PARE_NEW_N(p->c->scratch, batch, int64_t);
  p->room = PARE_NEW_N(p->c->scratch, batch * width / p->last + 1, uint8_t);
  return p->samples && p->room ? PARE_OK : pare_nomem(p->c);
}

/* Runs the batch that begins with the sample at `at`. */
static PareStatus pass_batch(Pass *p, int64_t at) {
  const PareRuler *r = p->r;
  int64_t left = r->chosen.n - at, batch = pare_forward_batch(p->f);
  if (pare_stopped(r->h)) return pare_error(p->c, PARE_INTERRUPTED, "interrupted");
  p->count = left < batch ? left : batch;
  for (int64_t i = 0; i < p->count; i++) p->samples[i] = r->chosen.list ? r->chosen.list[at + i] : at + i;
  PARE_TRY(pare_forward_run(p->c, p->f, p->samples, p->count));
  int64_t rows = pare_forward_width(p->f, r->by.task.output) * p->count / p->last;
  return pare_feed_padded_rows(p->c, pare_forward_graph(p->f), r->data, judged(p), p->samples, p->count, rows, p->room,
                               &p->skip);
}

static PareStatus remember(PareCtx *c, PareArena *a, PareRuler *r, PareForward *f) {
  int64_t width = pare_forward_width(f, r->by.task.output);
  Pass p = {.c = c, .r = r, .f = f};
  PARE_TRY(pass_start(&p));
  if (!(r->reference = PARE_NEW_N(a, r->chosen.n * width, float))) return pare_nomem(c);
  for (int64_t at = 0; at < r->chosen.n; at += p.count) {
    PARE_TRY(pass_batch(&p, at));
    memcpy(r->reference + at * width, pare_judge_rows(&r->by, f), (size_t)(p.count * width) * sizeof(float));
  }
  return PARE_OK;
}

/* The sum of divergences of the rows that count; their number is added to *n. */
static double add_divergences(const PareJudged *b, int64_t *n) {
  double sum = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    if (b->skip && b->skip[i]) continue;
    sum += divergence(b->width, b->x + i * b->width, b->want + i * b->width);
    ++*n;
  }
  return sum;
}

/* The same of squares. */
static double add_squares(const PareJudged *b, int64_t *n) {
  double sum = 0;
  for (int64_t i = 0; i < b->rows; i++) {
    if (b->skip && b->skip[i]) continue;
    sum += ((double)b->x[i] - (double)b->want[i]) * ((double)b->x[i] - (double)b->want[i]);
    ++*n;
  }
  return sum;
}

static PareStatus compare(PareCtx *c, const PareRuler *r, PareForward *f, PareVerdict *out) {
  int64_t width = pare_forward_width(f, r->by.task.output), n = 0;
  double sum = 0;
  PareMetric m;
  Pass p = {.c = c, .r = r, .f = f};
  pare_metric_start(&m, r->by.metric, c->scratch);
  PARE_TRY(pass_start(&p));
  for (int64_t at = 0; at < r->chosen.n; at += p.count) {
    PARE_TRY(pass_batch(&p, at));
    PareJudged b = {.what = PARE_JUDGES_REFERENCE, .rows = width * p.count / p.last, .width = p.last,
                    .x = pare_judge_rows(&r->by, f), .want = r->reference + at * width, .skip = p.skip};
    PARE_TRY(pare_metric_add(c, &m, &b));
    if (r->by.metric == PARE_METRIC_AGREEMENT) sum += add_divergences(&b, &n);
    else if (r->single) sum += add_squares(&b, &n);
  }
  PARE_TRY(pare_metric_value(c, &m, &out->value));
  out->loss = r->by.metric == PARE_METRIC_AGREEMENT || r->single ? sum / (double)n : 1 - out->value;
  return PARE_OK;
}

/* --- either --- */

static PareStatus judge(PareCtx *c, const PareRuler *r, PareForward *f, PareVerdict *out) {
  PareHooks quiet = {.stop = r->h ? r->h->stop : NULL};
  if (r->by.what == PARE_JUDGES_REFERENCE) return compare(c, r, f, out);
  return pare_judge_run(c, f, NULL, r->data, r->chosen, &r->by, &quiet, out);
}

static PareStatus set_up(PareCtx *c, PareArena *a, const PareGraph *g, PareRuler *r, PareForward *f, PareAsked asked) {
  PareAside aside;
  PARE_TRY(pare_find_aside(c, a, g, r->data, &aside));
  PARE_TRY(pare_judge_choose(c, pare_forward_graph(f), aside.of, r->data, asked, &r->by));
  if (r->by.what == PARE_JUDGES_REFERENCE) {
    r->single = pare_task_row(&pare_forward_value(f, r->by.task.output)->type) == 1;
    PARE_TRY(remember(c, a, r, f));
  }
  return judge(c, r, f, &r->whole);
}

PareStatus pare_ruler_new(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d, PareChoice chosen,
                          int64_t batch, PareAsked asked, PareDevice *device, const PareHooks *h, PareRuler *out) {
  PareForward *f = NULL;
  *out = (PareRuler){.data = d, .chosen = chosen, .batch = batch, .device = device, .h = h};
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = pare_forward_new(c, g, d, batch, PARE_FORWARD_FUSED, device, &f);
  if (s == PARE_OK) s = set_up(c, a, g, out, f, asked);
  pare_forward_free(f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

PareStatus pare_ruler_measure(PareCtx *c, const PareRuler *r, const PareGraph *g, PareVerdict *out) {
  PareForward *f = NULL;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = pare_forward_new(c, g, r->data, r->batch, PARE_FORWARD_FUSED, r->device, &f);
  if (s == PARE_OK) s = judge(c, r, f, out);
  pare_forward_free(f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
