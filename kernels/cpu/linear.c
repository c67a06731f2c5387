/* linear.c - Linear and LinearGrad: y = x·W' + bias, W' = m∘(W + s·A·B), m on W's rows. W' is made anew each time, in
 * the order that the product likes best: r·K·N multiply-adds, where the branch (x·A)·B would cost r·M·(K+N), M rows.
 * MergedWeight is W' alone. */
#include "base/arena.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/tile.h"

#ifndef T
enum { X, W, DY = 2, ADDED = 6, H, INPUTS, MADE = 3, ROW_SUMS, COL_SUMS };

static const PareTensor *operand(const PareKernelArgs *args, int i) {
  return i < args->nin && args->in[i].type.rank ? &args->in[i] : NULL;
}

/* Inputs from w on: W, one more, A, B, mask. */
static PareLinear weight_of(const PareKernelArgs *args, int w) {
  const PareType *type = &args->in[w].type;
  bool t = args->attr->transB;
  PareLinear l = {.k = type->dim[t], .n = type->dim[!t], .transposed = t, .scale = pare_attr_get(args->attr, scale, 1.0)};
  l.w = &args->in[w];
  l.a = operand(args, w + 2);
  l.b = operand(args, w + 3);
  l.mask = operand(args, w + 4);
  l.r = l.a ? l.a->type.dim[1] : 0;
  return l;
}

static PareLinear linear_of(const PareKernelArgs *args) {
  PareLinear l = weight_of(args, W);
  l.m = pare_span(&args->in[X].type, 0, args->in[X].type.rank - 1);
  return l;
}

/* The same for the product by W', which W may be already. */
static PareLinear product_of(const PareKernelArgs *args) {
  PareLinear l = linear_of(args);
  if (args->attr->merged) l.a = l.b = l.mask = NULL, l.r = 0;
  return l;
}

static size_t up(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
/* Elements of the factors that merging reads: [rows, r] and panels of [r, at most PARE_BLOCK] of W as it is stored. */
static int64_t factors(const PareLinear *l) { return (l->k + l->n + PARE_BLOCK) * l->r; }

/* Workspace: [merged W'][factors][scratch], or what linear_bf16 and linear_parts take. f64 has no primitive. */
static size_t factor_bytes(const PareLinear *l, PareDtype d) {
  return up((size_t)factors(l) * (d == PARE_F64 ? sizeof(double) : sizeof(float)));
}
static PareStatus plan_product(PareKernelArgs *args, const PareLinear *l, bool backward) {
  PareDtype d = args->in[X].type.dtype;
  int64_t elements = l->k * l->n;
  PareProduct *p = NULL;
  size_t scratch = 0;
  bool sum = backward && operand(args, ADDED);
  const PareTensor *bias = backward ? NULL : operand(args, 2);
  if (l->w->type.dtype == PARE_BF16 || (bias && bias->type.dtype == PARE_BF16)) {
    args->why = "the CPU merges weights as it multiplies by them: they and biases are f32";
    return PARE_UNSUPPORTED;
  }
  if (d == PARE_BF16 && PARE_CPU(linear_fits_bf16)(l, backward)) {
    args->workspace_bytes = PARE_CPU(linear_bytes_bf16)(l, backward);
    return PARE_OK;
  }
  if (d == PARE_F32 && PARE_CPU(linear_fits_parts)(l)) {
    args->workspace_bytes = PARE_CPU(linear_bytes_parts)(l, backward);
    return PARE_OK;
  }
  if (d == PARE_F32 || d == PARE_BF16) {
    PareProductSpec s = {.alpha = 1, .beta = sum, .packed = true};
    s.bias = bias != NULL;
    int64_t from = backward ? l->n : l->k, to = backward ? l->k : l->n;
    s.a = pare_view2(d, l->m, from, false);
    s.b = pare_view2(d, from, to, false);
    s.c = pare_view2(d, l->m, to, false);
    PareStatus status = PARE_CPU(product_new)(&s, &p);
    if (status == PARE_UNSUPPORTED) args->why = "this CPU has no product of this type: take --precision fp32";
    if (status != PARE_OK) return status;
    args->state = p;
    elements = PARE_CPU(product_order)(p).size;
    scratch = PARE_CPU(product_scratch)(p);
  }
  size_t merged = up((size_t)elements * pare_dtype_size(d));
  args->workspace_bytes = merged + factor_bytes(l, d) + up(scratch);
  return PARE_OK;
}

void PARE_CPU(release_LINEAR)(void *state) { PARE_CPU(product_free)(state); }

PareStatus PARE_CPU(plan_LINEAR)(PareKernelArgs *args) {
  PareLinear l = linear_of(args);
  return plan_product(args, &l, false);
}

static size_t made_bytes(const PareKernelArgs *args) {
  return args->attr->act ? up((size_t)pare_count(&args->in[X]) * pare_esize(&args->in[X])) : 0;
}

/* What of S is merged at a time for dx. Of the product that has been planned. */
static void blocks_of(const PareKernelArgs *args, const PareLinear *l, int64_t *row_block, int64_t *col_block) {
  *row_block = *col_block = PARE_STRIP;
  if (!args->state && args->in[X].type.dtype != PARE_F64) return;
  PareOrder o = args->state ? PARE_CPU(product_order)(args->state) : pare_plain_order(l->n, l->k);
  *row_block = l->transposed ? o.kb : o.nb, *col_block = l->transposed ? o.nb : o.kb;
}

/* Lays out what scores take from the front of the workspace, which may be NULL. Bytes; 0 where nobody asks. */
static size_t lay_out_scores(const PareKernelArgs *args, const PareLinear *l, PareScored *s) {
  if (args->nout <= ROW_SUMS || !args->out[ROW_SUMS].type.rank) return 0;
  int64_t rows = l->transposed ? l->n : l->k, cols = l->transposed ? l->k : l->n;
  size_t of = args->in[X].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float), at = 0;
  blocks_of(args, l, &s->row_block, &s->col_block);
  int64_t row_sums = pare_ceil_div(cols, s->col_block) * rows, col_sums = pare_ceil_div(rows, s->row_block) * cols;
  struct { void **to; int64_t n; } part[] = {{&s->u, rows * l->r}, {&s->v, rows * l->r},
                                             {&s->p, (cols + s->col_block) * l->r}, {&s->row_sums, row_sums},
                                             {&s->col_sums, col_sums}};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
    *part[i].to = args->workspace ? (char *)args->workspace + at : NULL;
    at += up((size_t)part[i].n * of);
  }
  s->da = args->out[1].data, s->db = args->out[2].data;
  s->eta = pare_attr_get(args->attr, alpha, 1.0), s->square = args->attr->power == 2;
  return at;
}

/* The gradients of A and B come first: what they take is free again when W' is merged and scored. Before all is x,
 * where it is made. */
PareStatus PARE_CPU(plan_LINEARGRAD)(PareKernelArgs *args) {
  PareLinear l = linear_of(args), product = product_of(args);
  size_t lora = l.r ? PARE_CPU(lora_bytes)(&l, args->in[X].type.dtype) : 0;
  bool dx = args->out[0].type.rank != 0; /* else nobody wants it */
  if (dx) PARE_TRY(plan_product(args, &product, true));
  PareScored s;
  args->workspace_bytes += lay_out_scores(args, &l, &s);
  if (args->workspace_bytes < lora) args->workspace_bytes = lora;
  args->workspace_bytes += made_bytes(args);
  return PARE_OK;
}

PareStatus PARE_CPU(plan_MERGEDWEIGHT)(PareKernelArgs *args) {
  PareLinear l = weight_of(args, 0);
  args->workspace_bytes = factor_bytes(&l, args->in[0].type.dtype);
  return PARE_OK;
}

/* LinearGrad with its operands made: `own` is `args` with gelu(x) in the place of x and dy·gelu'(h) in that of dy, as
 * args says; in: INPUTS of them. */
static PareStatus make_operands(const PareKernelArgs *args, PareTensor *in, PareKernelArgs *own) {
  enum { TANH = 2 };
  PareAttrs attr = {0};
  size_t bytes = made_bytes(args);
  *own = *args;
  memcpy(in, args->in, (size_t)args->nin * sizeof *in);
  own->in = in;
  own->workspace = (char *)args->workspace + bytes, own->workspace_bytes -= bytes;
  if (args->attr->act) {
    in[X].data = args->workspace;
    pare_attr_set(&attr, approximate, args->attr->act == TANH);
    PARE_TRY(PARE_CPU(GELU)(&(PareKernelArgs){.in = args->in, .out = &in[X], .nin = 1, .nout = 1, .attr = &attr}));
  }
  if (!pare_given(args, H)) return PARE_OK;
  in[DY] = args->out[MADE];
  return PARE_CPU(GELUGRAD)(&(PareKernelArgs){
      .in = (PareTensor[]){args->in[H], args->in[DY]}, .out = &in[DY], .nin = 2, .nout = 1, .attr = args->attr});
}

/* Rows p and p + 1 of the tile [np, nq] as pairs of bf16: out[p/2][q]. */
static void put_pairs(int64_t np, int64_t nq, const float *tile, int64_t stride, uint32_t *out) {
  for (int64_t p = 0; p < np; p += 2) {
    const float *even = tile + p * PARE_BLOCK, *odd = even + PARE_BLOCK;
    uint32_t *to = out + p / 2 * stride;
#pragma omp simd
    for (int64_t q = 0; q < nq; q++)
      to[q] = (uint32_t)pare_f32_to_bf16(even[q]) | (uint32_t)pare_f32_to_bf16(odd[q]) << 16;
  }
}

/* The same of the tile's transpose, all of it: a pair stands side by side in a row of the tile. */
static void put_pairs_turned(int64_t np, int64_t nq, const float *tile, int64_t stride, uint32_t *out) {
  uint32_t pair[PARE_TILE][PARE_BLOCK / 2], turned[PARE_TILE][PARE_TILE];
  for (int64_t q = 0; q < nq; q += PARE_TILE) {
    for (int64_t i = 0; i < PARE_TILE; i++) {
      const float *row = tile + (q + i) * PARE_BLOCK;
#pragma omp simd
      for (int64_t p = 0; p < PARE_BLOCK / 2; p++)
        pair[i][p] = (uint32_t)pare_f32_to_bf16(row[2 * p]) | (uint32_t)pare_f32_to_bf16(row[2 * p + 1]) << 16;
    }
    for (int64_t p = 0; p < np / 2; p += PARE_TILE) {
      int64_t rows = pare_min_i64(PARE_TILE, np / 2 - p), cols = pare_min_i64(PARE_TILE, nq - q);
      PARE_CPU(tile_turn)(&pair[0][p], PARE_BLOCK / 2, turned, PARE_TILE);
      for (int64_t i = 0; i < rows; i++) memcpy(out + (p + i) * stride + q, turned[i], (size_t)cols * sizeof *out);
    }
  }
}

#define PARE_TEMPLATE "kernels/cpu/linear.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(LINEAR, linear)
PARE_FLOAT_KERNEL(LINEARGRAD, linear_grad)
PareStatus PARE_CPU(MERGEDWEIGHT)(PareKernelArgs *args) {
  return pare_call(PARE_PICK_FLOAT(args->out[0].type.dtype, merged_weight), args);
}

#else /* the template */
#include "kernels/cpu/linear_merge.h"

/* One block of the result at (p0, q0): rows p are S's rows, or its columns when `turned`. */
static void FN(merge_block)(const FN(Merge) *m, bool turned, const PareOrder *o, int64_t p0, int64_t q0, T *out) {
  C tile[PARE_BLOCK][PARE_BLOCK];
  int64_t np = pare_min_i64(o->kb, (turned ? m->cols : m->rows) - p0);
  int64_t nq = pare_min_i64(o->nb, (turned ? m->rows : m->cols) - q0);
  if (o->padded && (np < o->kb || nq < o->nb)) memset(tile, 0, sizeof tile);
  FN(merge_tile)(m, turned ? &(FN(Tile)){q0, p0, nq, np, PARE_BLOCK, tile[0]}
                           : &(FN(Tile)){p0, q0, np, nq, PARE_BLOCK, tile[0]});
  if (o->padded) np = o->kb, nq = o->nb;
  T *to = out + p0 / o->kb * o->kblock + q0 / o->nb * o->nblock;
  if (o->pair == 2 && sizeof(T) == 2) {
    (turned ? put_pairs_turned : put_pairs)(np, nq, (const void *)tile, o->kin / 2, (uint32_t *)(void *)to);
    return;
  }
  for (int64_t p = 0; p < np; p++) {
    T *line = to + p / o->pair * o->kin + p % o->pair;
    if (turned)
      for (int64_t q = 0; q < nq; q++) line[q * o->nin] = STORE(tile[q][p]);
    else if (o->nin == 1)
#pragma omp simd
      for (int64_t q = 0; q < nq; q++) line[q] = STORE(tile[p][q]);
    else
      for (int64_t q = 0; q < nq; q++) line[q * o->nin] = STORE(tile[p][q]);
  }
}

/* out[i] = sum of the n blocks' sums [n, count] */
static void FN(add_sums)(int64_t n, int64_t count, const C *sums, C *out) {
#pragma omp parallel for schedule(static) if (pare_threaded(n * count))
  for (int64_t part = 0; part < PARE_PARTS; part++) {
    int64_t lo, hi;
    pare_part(count, PARE_PARTS, part, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) out[i] = 0;
    for (int64_t k = 0; k < n; k++)
#pragma omp simd
      for (int64_t i = lo; i < hi; i++) out[i] += sums[k * count + i];
  }
}

/* row [k], col [n]; rows of S are columns of a transposed W. */
static void FN(finish_scores)(const PareLinear *l, C *row, C *col) {
  const PareScored *s = l->scored;
  int64_t rows = l->transposed ? l->n : l->k, cols = l->transposed ? l->k : l->n;
  FN(add_sums)(pare_ceil_div(cols, s->col_block), rows, s->row_sums, l->transposed ? col : row);
  FN(add_sums)(pare_ceil_div(rows, s->row_block), cols, s->col_sums, l->transposed ? row : col);
}

/* W' [k, n], or its transpose, into `out` in the order o. work: factors() elements. */
static void FN(merge)(const PareLinear *l, bool transpose, const PareOrder *o, C *work, T *out) {
  enum { AHEAD = 32 }; /* rows: with scores 12 are too few */
  bool turned = transpose != l->transposed;
  FN(Merge) m = FN(merge_of)(l, turned ? o->kb : o->nb, work);
  m.ahead = AHEAD;
  int64_t rows = turned ? m.cols : m.rows, cols = turned ? m.rows : m.cols;
  int64_t nk = pare_ceil_div(rows, o->kb), nn = pare_ceil_div(cols, o->nb);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * cols))
  for (int64_t i = 0; i < nk * nn; i++) { /* along S's rows, as it lies in memory */
    int64_t p = turned ? i % nk : i / nn, q = turned ? i / nk : i % nn;
    FN(merge_block)(&m, turned, o, p * o->kb, q * o->nb, out);
  }
}

/* out[m, to] = in[m, from]·W' or its transpose [+ bias] [+ add, which may be out]. */
static PareStatus FN(multiply)(PareKernelArgs *args, const PareLinear *l, bool backward, const void *in,
                               const void *bias, const void *add, void *out) {
  int64_t from = backward ? l->n : l->k, to = backward ? l->k : l->n;
  if (sizeof(T) < sizeof(double) && !args->state) {
    if (sizeof(T) == sizeof(float))
      PARE_CPU(linear_parts)(l, backward, in, bias, add, args->workspace, args->workspace_bytes, out);
    else PARE_CPU(linear_bf16)(l, backward, in, bias, add, args->workspace, args->workspace_bytes, out);
    return PARE_OK;
  }
  if (add && add != out) memcpy(out, add, (size_t)(l->m * to) * sizeof(T));
  PareOrder o = args->state ? PARE_CPU(product_order)(args->state) : pare_plain_order(from, to);
  T *merged = args->workspace;
  char *work = (char *)args->workspace + up((size_t)o.size * sizeof(T));
  FN(merge)(l, backward, &o, (C *)work, merged);
  void *scratch = work + factor_bytes(l, args->in[X].type.dtype);
  if (args->state) return PARE_CPU(product_run)(args->state, in, merged, bias, out, scratch);
  for (int64_t i = 0; bias && i < l->m; i++) memcpy((T *)out + i * to, bias, (size_t)to * sizeof(T));
  return GEMM(false, false, l->m, to, from, 1, in, from, (const C *)(const void *)merged, to, bias || add ? 1 : 0, out,
              to);
}

/* Inputs: x, W, bias, A, B, mask. */
static PareStatus FN(linear)(PareKernelArgs *args) {
  PareLinear l = linear_of(args);
  return FN(multiply)(args, &l, false, args->in[X].data, pare_given(args, 2) ? args->in[2].data : NULL, NULL,
                      args->out[0].data);
}

/* Inputs: x, W, dy, A, B, mask, add, h. Outputs: dx, dA, dB, each if wanted; with h, what is dy then; row [K], col [N],
 * sums of scores. */
static PareStatus FN(linear_grad)(PareKernelArgs *given) {
  PareTensor in[INPUTS];
  PareKernelArgs own, *args = &own;
  PARE_TRY(make_operands(given, in, args));
  PareLinear l = linear_of(args);
  void *dA = pare_wanted(args, 1) ? args->out[1].data : NULL, *dB = pare_wanted(args, 2) ? args->out[2].data : NULL;
  if (l.r && (dA || dB))
    PARE_CPU(lora_grad)(&l, args->in[X].type.dtype, args->in[X].data, args->in[DY].data, args->workspace, dA, dB);
  if (!pare_wanted(args, 0)) return PARE_OK;
  const void *add = pare_given(args, ADDED) ? args->in[ADDED].data : NULL;
  PareScored scored;
  l = product_of(args);
  size_t bytes = lay_out_scores(args, &l, &scored);
  if (bytes) l.scored = &scored;
  args->workspace = (char *)args->workspace + bytes, args->workspace_bytes -= bytes;
  PARE_TRY(FN(multiply)(args, &l, true, args->in[DY].data, NULL, add, args->out[0].data));
  if (l.scored) FN(finish_scores)(&l, args->out[ROW_SUMS].data, args->out[COL_SUMS].data);
  return PARE_OK;
}

/* Inputs: W, bias, A, B, mask. Outputs: W' as W is stored, the bias, in T. */
static PareStatus FN(merged_weight)(PareKernelArgs *args) {
  PareLinear l = weight_of(args, 0);
  PareOrder o = l.transposed ? pare_plain_order(l.n, l.k) : pare_plain_order(l.k, l.n);
  FN(merge)(&l, l.transposed, &o, args->workspace, args->out[0].data);
  if (!pare_wanted(args, 1)) return PARE_OK;
  const C *bias = args->in[1].data;
  T *to = args->out[1].data;
  for (int64_t i = 0; i < l.n; i++) to[i] = STORE(bias[i]);
  return PARE_OK;
}
#endif
