/* fold_adapters - W <- W + s·A·B + D or, of sequential adapters, W <- W·(I + s·A·B) and the bias
 * likewise, in their own place, layout and dtype (METHOD 6);
 * quantised weights keep their scales and zero points. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "passes/edit.h"
#include "passes/quantized.h"

static double read_float(PareDtype d, const void *p, size_t i) {
  const uint8_t *at = (const uint8_t *)p + i * pare_dtype_size(d);
  float f;
  double x;
  uint16_t h;
  switch (d) {
  case PARE_F64: return memcpy(&x, at, 8), x;
  case PARE_F16: return memcpy(&h, at, 2), (double)pare_f16_to_f32(h);
  case PARE_BF16: return memcpy(&h, at, 2), (double)pare_bf16_to_f32(h);
  default: return memcpy(&f, at, 4), (double)f;
  }
}

/* Of all integers that adapters were added to, those that the integers have no room for. */
typedef struct Clipped {
  int64_t clipped, numbers;
} Clipped;

/* One fold: the weight's new numbers, and how they are stored. */
typedef struct Fold {
  PareDtype dtype;
  bool integers;
  PareStored stored; /* integers */
  void *w;
  int64_t clipped;
} Fold;

/* Element i += x, rounded once. Of integers, q <- round(((q - z)·s + x) / s) + z = q + round(x / s), clipped to what
 * the type holds: scale and zero point stay. False: the sum is too large for the type. */
static bool add(Fold *f, int64_t i, double x) {
  if (f->integers) {
    PareValue w = {.type.dtype = f->dtype, .data = f->w};
    double q = (double)pare_data_int(&w, i) + rint(x / pare_scale_at(&f->stored, i));
    int64_t fits = pare_saturate(f->dtype, q);
    f->clipped += (double)fits != q;
    pare_put_int(f->dtype, f->w, i, fits);
    return true;
  }
  double was = read_float(f->dtype, f->w, (size_t)i);
  return pare_store_float(f->dtype, f->w, i, was + x) || !isfinite(was);
}

/* Element i as a number. */
static double number(const Fold *f, int64_t i) {
  if (!f->integers) return read_float(f->dtype, f->w, (size_t)i);
  PareValue w = {.type.dtype = f->dtype, .data = f->w};
  return (double)(pare_data_int(&w, i) - pare_zero_at(&f->stored, i)) * pare_scale_at(&f->stored, i);
}

/* The matrix that the nodes read, [k, n] or transposed; map: where its elements are, NULL: in order. */
typedef struct Operand {
  int64_t k, n;
  bool transposed;
  const int64_t *map;
  const float *dense;   /* D [k, n]; NULL: zero */
  const uint8_t *alive; /* in the order of the nodes; NULL: all */
} Operand;

static int64_t place(const Operand *o, int64_t k, int64_t n) {
  int64_t i = o->transposed ? n * o->k + k : k * o->n + n;
  return o->map ? o->map[i] : i;
}

static void clear(Fold *f, int64_t i) {
  if (f->integers) pare_put_int(f->dtype, f->w, i, pare_zero_at(&f->stored, i));
  else pare_store_float(f->dtype, f->w, i, 0);
}

/* Elements that have gone are zero; integers are at their zero points. */
static void clear_dead(const Operand *o, Fold *f) {
  for (int64_t i = 0; o->alive && i < o->k * o->n; i++)
    if (!o->alive[i]) clear(f, o->map ? o->map[i] : i);
}

/* u[rank]: row k of the factor to the left of B: A or, of a sequential adapter, W·A. */
static void left_row(const PareDelta *d, const Operand *o, const Fold *f, int64_t k, double *u) {
  int64_t rank = d->a ? d->adapter->rank : 0;
  for (int64_t r = 0; r < rank; r++) u[r] = d->adapter->sequential ? 0 : (double)d->a[k * rank + r];
  for (int64_t n = 0; d->adapter->sequential && n < o->n; n++) {
    double w = number(f, place(o, k, n));
    for (int64_t r = 0; r < rank; r++) u[r] += w * (double)d->a[n * rank + r];
  }
}

/* w[k, n] += s · (left·B - A0·B0)[k, n] + D[k, n]. work: [n + rank]. False: a sum is too large for the type. */
static bool add_delta(const PareDelta *d, const Operand *o, double *work, Fold *f) {
  double *row = work, *u = work + o->n;
  for (int64_t k = 0; k < o->k; k++) {
    left_row(d, o, f, k, u);
    for (int64_t n = 0; n < o->n; n++) row[n] = o->dense ? (double)o->dense[k * o->n + n] : 0;
    for (int64_t r = 0; d->a && r < d->adapter->rank; r++) {
      double x = u[r] * d->adapter->scale;
      for (int64_t n = 0; n < o->n; n++) row[n] += x * (double)d->b[r * o->n + n];
    }
    for (int64_t r = 0; d->a0 && r < d->adapter->rank; r++) {
      double x = (double)d->a0[k * d->adapter->rank + r] * d->adapter->scale;
      for (int64_t n = 0; n < o->n; n++) row[n] -= x * (double)d->b0[r * o->n + n];
    }
    for (int64_t n = 0; n < o->n; n++)
      if (row[n] != 0 && !add(f, place(o, k, n), row[n])) return false;
  }
  return true;
}

/* tmp holds what f->stored points to. */
static PareStatus how_stored(PareCtx *c, PareArena *tmp, const PareGraph *g, PareNode *n, int k, const PareValue *w,
                             Fold *f) {
  f->dtype = w->type.dtype;
  f->integers = pare_quantized(g, n, k, &f->stored);
  if (f->integers) PARE_TRY(pare_stored_places(c, tmp, &f->stored));
  if (f->integers ? f->stored.scale != NULL : pare_dtype_is_float(f->dtype)) return PARE_OK;
  return pare_fail(c, n, PARE_UNSUPPORTED, "its weight '%s' is of integers whose scale is not known", w->name);
}

/* f->w <- the constant w that n reads as input k, with the adapter, in the graph's arena. */
static PareStatus folded_constant(PareCtx *c, PareGraph *g, PareNode *n, int k, const PareDelta *d, Operand o,
                                  const PareValue *w, Fold *f) {
  size_t bytes;
  if (!pare_type_bytes(&w->type, &bytes)) return pare_nomem(c);
  if (pare_type_count(&w->type) != o.k * o.n)
    return pare_fail(c, n, PARE_UNSUPPORTED, "its weight '%s' is not the matrix that was adapted", w->name);
  PareArena *tmp = pare_arena_new(1 << 16);
  double *work = tmp ? PARE_NEW_N(tmp, o.n + d->adapter->rank, double) : NULL;
  const int64_t *map;
  f->w = pare_arena_alloc(g->arena, bytes, 1);
  PareStatus s = work && f->w ? how_stored(c, tmp, g, n, k, w, f) : pare_nomem(c);
  if (s == PARE_OK) s = pare_root_elements(c, tmp, n, k, &map, NULL);
  if (s == PARE_OK) {
    o.map = map;
    memcpy(f->w, w->data, bytes);
    if (!add_delta(d, &o, work, f))
      s = pare_fail(c, n, PARE_GATE, "with its adapter, the weight '%s' is too large for %s: lower --lr", w->name,
                    pare_dtype_name(w->type.dtype));
    clear_dead(&o, f);
  }
  pare_arena_free(tmp);
  return s;
}

/* A constant that was folded, and what it has become: the next reader takes it. */
typedef struct Folded {
  PareValue *was, *is;
} Folded;

static PareStatus fold_input(PareCtx *c, PareGraph *g, PareNode *n, int k, const PareDelta *d, Operand o, Folded *last,
                             Clipped *total) {
  PareNode *root;
  int input;
  PareValue *w = pare_root_constant(n, k, &root, &input);
  if (!w) return pare_fail(c, n, PARE_UNSUPPORTED, "its weight is not a constant");
  if (w == last->is) return PARE_OK; /* read through the same chain of views */
  if (w == last->was) {
    root->in[input] = last->is;
    return PARE_OK;
  }
  Fold f = {0};
  PARE_TRY(folded_constant(c, g, n, k, d, o, w, &f));
  PARE_TRY(pare_replace_constant(c, g, root, input, w->type, f.w));
  total->clipped += f.clipped;
  total->numbers += f.integers ? o.k * o.n : 0;
  *last = (Folded){w, root->in[input]};
  return PARE_OK;
}

/* All sites of one adapter: the first makes the new constants, the others take them. A bias is a row of numbers that a
 * sequential adapter changes as it changes those of the weight. */
static PareStatus fold(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareDelta *d, Clipped *total) {
  const PareAdapter *a = d->adapter;
  Folded weight = {0}, bias = {0};
  for (size_t i = 0; i < a->sites.n; i++) {
    const PareSite *s = &a->sites.at[i];
    Operand matrix = {d->k, d->n, a->transposed, NULL, d->dense, d->alive}, row = {.k = 1, .n = d->n};
    PARE_TRY(fold_input(c, g, by_id[s->node], s->w, d, matrix, &weight, total));
    if (a->sequential && s->bias >= 0)
      PARE_TRY(fold_input(c, g, by_id[s->bias_node], s->bias, d, row, &bias, total));
  }
  return PARE_OK;
}

/* Biases are read by one node each, or by several sites in the same way. */
static PareStatus fold_bias(PareCtx *c, PareGraph *g, PareNode *const *by_id, const PareDelta *d) {
  PareValue *was = NULL, *is = NULL;
  for (size_t i = 0; d->bias && i < d->adapter->sites.n; i++) {
    PareNode *n = by_id[d->adapter->sites.at[i].node], *reader;
    int input;
    size_t bytes;
    PareValue *b = pare_bias_of(g, n, d->n, &reader, &input);
    if (!b) return pare_fail(c, n, PARE_UNSUPPORTED, "its bias is not a constant");
    if (b == is) continue;
    if (b == was) {
      reader->in[input] = is;
      continue;
    }
    uint8_t *data = pare_type_bytes(&b->type, &bytes) ? pare_arena_alloc(g->arena, bytes, 1) : NULL;
    if (!data) return pare_nomem(c);
    memcpy(data, b->data, bytes);
    Fold f = {.dtype = b->type.dtype, .w = data};
    for (int64_t k = 0; k < d->n; k++)
      if (d->bias[k] != 0 && !add(&f, k, (double)d->bias[k]))
        return pare_fail(c, n, PARE_GATE, "what its bias '%s' takes over is too large for %s", b->name,
                         pare_dtype_name(b->type.dtype));
    PARE_TRY(pare_replace_constant(c, g, reader, input, b->type, data));
    was = b;
    is = reader->in[input];
  }
  return PARE_OK;
}

PareStatus pare_fold_adapters(PareCtx *c, PareArena *a, const PareGraph *g, size_t n, const PareDelta *delta,
                              PareGraph **out) {
  *out = pare_graph_clone(c, a, g);
  PareNode **by_id = *out ? PARE_NEW_N(a, g->nnodes + 1, PareNode *) : NULL;
  if (!by_id) return pare_nomem(c);
  for (PareNode *x = (*out)->first; x; x = x->next) by_id[x->id] = x;
  Clipped total = {0};
  for (size_t i = 0; i < n; i++) {
    PARE_TRY(fold(c, *out, by_id, &delta[i], &total));
    PARE_TRY(fold_bias(c, *out, by_id, &delta[i]));
  }
  if (total.clipped)
    pare_log(c, 0, "%lld of %lld quantised weights do not fit their scales any more and are clipped",
             (long long)total.clipped, (long long)total.numbers);
  return PARE_OK;
}

PareStatus pare_adapted_weight(PareCtx *c, const PareGraph *g, const PareAdapter *a, float *out) {
  const PareSite *site = &a->sites.at[0];
  PareNode *n = g->first, *root;
  int input;
  while (n && n->id != site->node) n = n->next;
  const PareValue *w = n ? pare_root_constant(n, site->w, &root, &input) : NULL;
  if (!w || pare_type_count(&w->type) != a->k * a->n)
    return pare_fail(c, n, PARE_UNSUPPORTED, "its weight '%s' is not one constant matrix", a->name);
  Fold f = {.w = (void *)(uintptr_t)w->data}; /* which is read only */
  Operand o = {a->k, a->n, a->transposed, NULL, NULL, NULL};
  PareArena *tmp = pare_arena_new(1 << 16);
  if (!tmp) return pare_nomem(c);
  PareStatus s = how_stored(c, tmp, g, n, site->w, w, &f);
  if (s == PARE_OK && f.integers)
    s = pare_fail(c, n, PARE_UNSUPPORTED, "its weight '%s' is stored in integers: nothing can be taken out of it exactly "
                     "(--adapter-init lora takes nothing), nor can it be replaced", w->name);
  const int64_t *map = NULL;
  if (s == PARE_OK) s = pare_root_elements(c, tmp, n, site->w, &map, NULL);
  o.map = map;
  for (int64_t i = 0; s == PARE_OK && i < a->k * a->n; i++)
    out[i] = (float)number(&f, place(&o, i / a->n, i % a->n));
  pare_arena_free(tmp);
  return s;
}
