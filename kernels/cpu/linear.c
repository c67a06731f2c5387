/* linear.c - Linear and LinearGrad: y = x·W' + bias, W' = m∘(W + s·A·B), m on W's rows. W' is made anew each time, in
 * the order that the product likes best: r·K·N multiply-adds, where the branch (x·A)·B would cost r·M·(K+N), M rows. */
#include "base/arena.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/vmath.h"

#ifndef T
enum { X, W, DY = 2, ROWS = 24, GROUP = 8, PARTS = 16 };

/* Inputs: x, W, bias (Linear) or dy (LinearGrad), A, B, mask. */
typedef struct Linear {
  int64_t m, k, n, r;
  bool transposed; /* W is stored [n, k] */
  double scale;
  const PareTensor *w, *a, *b, *mask; /* NULL: left out */
} Linear;

static Linear linear_of(const PareKernelArgs *args) {
  enum { A = 3, B, MASK };
  const PareType *x = &args->in[X].type, *w = &args->in[W].type;
  bool t = args->attr->transB;
  Linear l = {.k = w->dim[t], .n = w->dim[!t], .transposed = t, .scale = pare_attr_get(args->attr, scale, 1.0)};
  l.m = pare_span(x, 0, x->rank - 1);
  l.w = &args->in[W];
  l.a = args->nin > A && args->in[A].type.rank ? &args->in[A] : NULL;
  l.b = args->nin > B && args->in[B].type.rank ? &args->in[B] : NULL;
  l.mask = args->nin > MASK && args->in[MASK].type.rank ? &args->in[MASK] : NULL;
  l.r = l.a ? l.a->type.dim[1] : 0;
  return l;
}

static size_t up(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
static int64_t up_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
/* Elements of the factors that merging reads: [rows, r] and panels of [r, at most PARE_BLOCK] of W as it is stored. */
static int64_t factors(const Linear *l) { return (l->k + l->n + PARE_BLOCK) * l->r; }

/* What the gradients of A and B take: A', B padded [r8, kp], [r8, np]; sums by part; rows by part, where they must be
 * widened or padded. */
typedef struct LoraPlan {
  int64_t r, kp, np, parts;
  bool copy_x, copy_dy;
} LoraPlan;

static LoraPlan lora_plan(const Linear *l, PareDtype d) {
  int64_t unit = 2 * 64 / (int64_t)(d == PARE_F64 ? sizeof(double) : sizeof(float));
  LoraPlan p = {.r = up_to(l->r, GROUP), .kp = up_to(l->k, unit), .np = up_to(l->n, unit)};
  p.parts = pare_min_i64(PARTS, l->m);
  p.copy_x = d == PARE_BF16 || p.kp != l->k;
  p.copy_dy = d == PARE_BF16 || p.np != l->n;
  return p;
}
static int64_t lora_elements(const LoraPlan *p) {
  return (p->r + p->parts * p->r) * (p->kp + p->np) + p->parts * ROWS * (p->kp + p->np);
}

static size_t sum_size(PareDtype d) { return d == PARE_F64 ? sizeof(double) : sizeof(float); }

/* Workspace: [merged W'][factors or what LoRA's gradients take][scratch]. f64 has no primitive. */
static PareStatus plan_product(PareKernelArgs *args, const Linear *l, bool backward, size_t extra) {
  PareDtype d = args->in[X].type.dtype;
  int64_t elements = l->k * l->n;
  PareProduct *p = NULL;
  size_t scratch = 0;
  if (d == PARE_F32 || d == PARE_BF16) {
    PareProductSpec s = {.alpha = 1, .packed = true, .bias = !backward && args->nin > 2 && args->in[2].type.rank > 0};
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
  args->workspace_bytes = merged + up(extra) + up(scratch);
  return PARE_OK;
}

void PARE_CPU(release_LINEAR)(void *state) { PARE_CPU(product_free)(state); }

PareStatus PARE_CPU(plan_LINEAR)(PareKernelArgs *args) {
  Linear l = linear_of(args);
  return plan_product(args, &l, false, (size_t)factors(&l) * sum_size(args->in[X].type.dtype));
}

PareStatus PARE_CPU(plan_LINEARGRAD)(PareKernelArgs *args) {
  Linear l = linear_of(args);
  PareDtype d = args->in[X].type.dtype;
  LoraPlan p = lora_plan(&l, d);
  int64_t n = pare_max_i64(factors(&l), l.r ? lora_elements(&p) : 0);
  if (args->out[0].type.rank == 0) { /* nobody wants dx */
    args->workspace_bytes = (size_t)n * sum_size(d);
    return PARE_OK;
  }
  return plan_product(args, &l, true, (size_t)n * sum_size(d));
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

/* The same of the tile's transpose: a pair stands side by side in a row of the tile. */
static void put_pairs_turned(int64_t np, int64_t nq, const float *tile, int64_t stride, uint32_t *out) {
  uint32_t pair[PARE_BLOCK][PARE_BLOCK / 2 + 1]; /* an odd width: columns of it spread over the cache */
  for (int64_t q = 0; q < nq; q++) {
    const float *row = tile + q * PARE_BLOCK;
#pragma omp simd
    for (int64_t p = 0; p < PARE_BLOCK / 2; p++)
      pair[q][p] = (uint32_t)pare_f32_to_bf16(row[2 * p]) | (uint32_t)pare_f32_to_bf16(row[2 * p + 1]) << 16;
  }
  for (int64_t p = 0; p < np / 2; p++)
    for (int64_t q = 0; q < nq; q++) out[p * stride + q] = pair[q][p];
}

#define PARE_TEMPLATE "kernels/cpu/linear.c"
#include "kernels/cpu/floats.h"

PARE_FLOAT_KERNEL(LINEAR, linear)
PARE_FLOAT_KERNEL(LINEARGRAD, linear_grad)

#else /* the template */
/* W as it is stored, S[rows, cols], plus left[rows, r]·right[r, cols], times a factor for each row or column. The
 * columns are read in runs of `panel`, and `right` lies in panels [r, panel]: its rows would fight for the same sets
 * of the cache where cols is a multiple of a page. */
typedef struct FN(Merge) {
  int64_t rows, cols, r, panel; /* w may lie at any address */
  const C *w, *left, *right, *row_mask, *col_mask;
} FN(Merge);

/* W plus the adapter, n·LANES elements of a row, n 4 or 1: the sums stay in registers. */
static PARE_INLINE void FN(add_adapter)(int n, const FN(Merge) *m, const C *w, const C *left, const C *right, C *out) {
  FN(Vec) sum[4];
  for (int v = 0; v < n; v++) sum[v] = LOOSE(w + v * LANES);
  for (int64_t t = 0; t < m->r; t++, right += m->panel)
    for (int v = 0; v < n; v++) sum[v] += left[t] * VEC(right + v * LANES);
  for (int v = 0; v < n; v++) VEC(out + v * LANES) = sum[v];
}

/* S's elements [i][j0, j0 + n), n <= panel, j0 a multiple of it. The rows below are far apart in memory, where no
 * processor looks ahead by itself. */
static PARE_INLINE void FN(merge_run)(const FN(Merge) *m, int64_t i, int64_t j0, int64_t n, C *out) {
  enum { AHEAD = 12, LINE = 64 / sizeof(C) };
  const C *w = m->w + i * m->cols + j0, *left = m->left + i * m->r, *right = m->right + j0 * m->r;
  int64_t j = 0;
  for (; i + AHEAD < m->rows && j < n; j += LINE) __builtin_prefetch(w + AHEAD * m->cols + j);
  for (j = 0; j + 4 * LANES <= n; j += 4 * LANES) FN(add_adapter)(4, m, w + j, left, right + j, out + j);
  for (; j + LANES <= n; j += LANES) FN(add_adapter)(1, m, w + j, left, right + j, out + j);
  for (; j < n; j++) {
    C sum;
    memcpy(&sum, w + j, sizeof sum);
    for (int64_t t = 0; t < m->r; t++) sum += left[t] * right[t * m->panel + j];
    out[j] = sum;
  }
  C scale = m->row_mask ? m->row_mask[i] : 1;
  if (m->col_mask)
#pragma omp simd
    for (j = 0; j < n; j++) out[j] *= m->col_mask[j0 + j];
  if (scale != 1)
#pragma omp simd
    for (j = 0; j < n; j++) out[j] *= scale;
}

/* One block of the result at (p0, q0): rows p are S's rows, or its columns when `turned`. */
static void FN(merge_block)(const FN(Merge) *m, bool turned, const PareOrder *o, int64_t p0, int64_t q0, T *out) {
  C tile[PARE_BLOCK][PARE_BLOCK];
  int64_t np = pare_min_i64(o->kb, (turned ? m->cols : m->rows) - p0);
  int64_t nq = pare_min_i64(o->nb, (turned ? m->rows : m->cols) - q0);
  if (o->padded && (np < o->kb || nq < o->nb)) memset(tile, 0, sizeof tile);
  if (turned)
    for (int64_t i = 0; i < nq; i++) FN(merge_run)(m, q0 + i, p0, np, tile[i]);
  else
    for (int64_t i = 0; i < np; i++) FN(merge_run)(m, p0 + i, q0, nq, tile[i]);
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

/* left[i, t] and right[t, j] of the stored matrix; the scale goes with left. */
static void FN(factor)(const Linear *l, int64_t panel, C *left, C *right) {
  const C *a = l->a->data, *b = l->b->data;
  C s = (C)l->scale;
  int64_t cols = l->transposed ? l->k : l->n;
  if (!l->transposed)
    for (int64_t i = 0; i < l->k * l->r; i++) left[i] = s * a[i];
  else
    for (int64_t i = 0; i < l->n; i++)
      for (int64_t t = 0; t < l->r; t++) left[i * l->r + t] = s * b[t * l->n + i];
  for (int64_t j0 = 0; j0 < cols; j0 += panel, right += l->r * panel)
    for (int64_t t = 0; t < l->r; t++)
      for (int64_t j = 0; j < pare_min_i64(panel, cols - j0); j++)
        right[t * panel + j] = l->transposed ? a[(j0 + j) * l->r + t] : b[t * l->n + j0 + j];
}

/* W' [k, n], or its transpose, into `out` in the order o. work: factors() elements. */
static void FN(merge)(const Linear *l, bool transpose, const PareOrder *o, C *work, T *out) {
  const C *mask = l->mask ? l->mask->data : NULL;
  FN(Merge) m = {.rows = l->transposed ? l->n : l->k, .cols = l->transposed ? l->k : l->n, .r = l->r,
                 .w = l->w->data, .left = work, .right = work + (l->transposed ? l->n : l->k) * l->r,
                 .row_mask = l->transposed ? NULL : mask, .col_mask = l->transposed ? mask : NULL};
  bool turned = transpose != l->transposed;
  m.panel = turned ? o->kb : o->nb;
  if (l->r) FN(factor)(l, m.panel, work, work + m.rows * l->r);
  int64_t rows = turned ? m.cols : m.rows, cols = turned ? m.rows : m.cols;
  int64_t nk = pare_ceil_div(rows, o->kb), nn = pare_ceil_div(cols, o->nb);
#pragma omp parallel for schedule(static) if (pare_threaded(rows * cols))
  for (int64_t i = 0; i < nk * nn; i++) { /* along S's rows, as it lies in memory */
    int64_t p = turned ? i % nk : i / nn, q = turned ? i / nk : i % nn;
    FN(merge_block)(&m, turned, o, p * o->kb, q * o->nb, out);
  }
}

/* out[m, to] = in[m, from]·W' or its transpose [+ bias]. */
static PareStatus FN(multiply)(PareKernelArgs *args, const Linear *l, bool backward, size_t extra, const void *in,
                               const void *bias, void *out) {
  int64_t from = backward ? l->n : l->k, to = backward ? l->k : l->n;
  PareOrder o = args->state ? PARE_CPU(product_order)(args->state) : pare_plain_order(from, to);
  T *merged = args->workspace;
  char *work = (char *)args->workspace + up((size_t)o.size * sizeof(T));
  FN(merge)(l, backward, &o, (C *)work, merged);
  if (args->state) return PARE_CPU(product_run)(args->state, in, merged, bias, out, work + up(extra));
  if (sizeof(T) != sizeof(C)) return PARE_UNSUPPORTED; /* plan has refused it */
  for (int64_t i = 0; bias && i < l->m; i++) memcpy((T *)out + i * to, bias, (size_t)to * sizeof(T));
  return GEMM(false, false, l->m, to, from, 1, in, from, (const C *)(const void *)merged, to, bias ? 1 : 0, out, to);
}

/* Inputs: x, W, bias, A, B, mask. */
static PareStatus FN(linear)(PareKernelArgs *args) {
  Linear l = linear_of(args);
  return FN(multiply)(args, &l, false, (size_t)factors(&l) * sizeof(C), args->in[X].data,
                      pare_given(args, 2) ? args->in[2].data : NULL, args->out[0].data);
}

/* --- the gradients of A and B: with U = x·A, V = s·dy·B', x and dy read once in blocks of rows:
 *     dA = x'·V, dB = s·U'·dy --- */
static PARE_INLINE C FN(lanes)(FN(Vec) v) {
  C sum = 0;
  for (int64_t i = 0; i < LANES; i++) sum += v[i];
  return sum;
}

/* u[i][GROUP] = scale·x[i]·a', i < n (1 or 3), a[GROUP][width]. */
static PARE_INLINE void FN(dots)(int n, int64_t width, const C *x, int64_t ldx, const C *a, C scale, C (*u)[GROUP]) {
  FN(Vec) sum[3][GROUP] = {0};
  for (int64_t k = 0; k < width; k += LANES)
    for (int t = 0; t < GROUP; t++) {
      FN(Vec) at = VEC(a + t * width + k);
      for (int i = 0; i < n; i++) sum[i][t] += VEC(x + i * ldx + k) * at;
    }
  for (int i = 0; i < n; i++)
    for (int t = 0; t < GROUP; t++) u[i][t] = scale * FN(lanes)(sum[i][t]);
}

/* u[rows][GROUP] = scale·x·a' */
static void FN(project)(int64_t rows, int64_t width, const C *x, int64_t ldx, const C *a, C scale, C (*u)[GROUP]) {
  int64_t i = 0;
  for (; i + 3 <= rows; i += 3) FN(dots)(3, width, x + i * ldx, ldx, a, scale, u + i);
  for (; i < rows; i++) FN(dots)(1, width, x + i * ldx, ldx, a, scale, u + i);
}

/* d[GROUP][width] += v'·x over `rows` rows. */
static void FN(collect)(int64_t rows, int64_t width, const C *x, int64_t ldx, C (*v)[GROUP], C *d) {
  for (int64_t k = 0; k < width; k += 2 * LANES) {
    FN(Vec) s0[GROUP], s1[GROUP];
    for (int t = 0; t < GROUP; t++) s0[t] = VEC(d + t * width + k), s1[t] = VEC(d + t * width + k + LANES);
    for (int64_t i = 0; i < rows; i++) {
      FN(Vec) x0 = VEC(x + i * ldx + k), x1 = VEC(x + i * ldx + k + LANES);
      for (int t = 0; t < GROUP; t++) s0[t] += x0 * v[i][t], s1[t] += x1 * v[i][t];
    }
    for (int t = 0; t < GROUP; t++) VEC(d + t * width + k) = s0[t], VEC(d + t * width + k + LANES) = s1[t];
  }
}

/* Rows of x as numbers of the arithmetic, padded with zeros; x itself where it is that already. */
static const C *FN(widen)(bool copy, int64_t rows, int64_t n, int64_t padded, const T *x, C *to) {
  if (!copy) return (const C *)(const void *)x;
  for (int64_t i = 0; i < rows; i++) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) to[i * padded + j] = LOAD(x[i * n + j]);
    for (int64_t j = n; j < padded; j++) to[i * padded + j] = 0;
  }
  return to;
}

/* One part's share: da[r, kp] and db[r, np], cleared first. */
static void FN(lora_part)(const Linear *l, const LoraPlan *p, int64_t part, const T *x, const T *dy, const C *a,
                          const C *b, C *da, C *db, C *rows) {
  C u[ROWS][GROUP], v[ROWS][GROUP], s = (C)l->scale;
  int64_t lo, hi;
  pare_part(l->m, p->parts, part, &lo, &hi);
  memset(da, 0, (size_t)(p->r * p->kp) * sizeof *da);
  memset(db, 0, (size_t)(p->r * p->np) * sizeof *db);
  for (int64_t i = lo; i < hi; i += ROWS) {
    int64_t n = pare_min_i64(ROWS, hi - i);
    const C *xr = FN(widen)(p->copy_x, n, l->k, p->kp, x + i * l->k, rows);
    const C *dr = FN(widen)(p->copy_dy, n, l->n, p->np, dy + i * l->n, rows + ROWS * p->kp);
    for (int64_t t = 0; t < p->r; t += GROUP) {
      FN(project)(n, p->kp, xr, p->kp, a + t * p->kp, s, u);
      FN(project)(n, p->np, dr, p->np, b + t * p->np, s, v);
      FN(collect)(n, p->kp, xr, p->kp, v, da + t * p->kp);
      FN(collect)(n, p->np, dr, p->np, u, db + t * p->np);
    }
  }
}

/* work: lora_elements(). */
static void FN(lora_grad)(const Linear *l, const T *x, const T *dy, C *work, C *dA, C *dB) {
  LoraPlan p = lora_plan(l, sizeof(T) == sizeof(double) ? PARE_F64 : sizeof(T) == sizeof(float) ? PARE_F32 : PARE_BF16);
  const C *A = l->a->data, *B = l->b->data, *mask = l->mask ? l->mask->data : NULL;
  C *a = work, *b = a + p.r * p.kp, *sums = b + p.r * p.np, *rows = sums + p.parts * p.r * (p.kp + p.np);
  memset(a, 0, (size_t)(p.r * (p.kp + p.np)) * sizeof *a);
  for (int64_t k = 0; k < l->k; k++)
    for (int64_t t = 0; t < l->r; t++) a[t * p.kp + k] = A[k * l->r + t] * (mask ? mask[k] : 1);
  for (int64_t t = 0; t < l->r; t++) memcpy(b + t * p.np, B + t * l->n, (size_t)l->n * sizeof *B);
#pragma omp parallel for schedule(static) if (pare_threaded(l->m * (l->k + l->n)))
  for (int64_t i = 0; i < p.parts; i++)
    FN(lora_part)(l, &p, i, x, dy, a, b, sums + i * p.r * (p.kp + p.np), sums + i * p.r * (p.kp + p.np) + p.r * p.kp,
                  rows + i * ROWS * (p.kp + p.np));
  for (int64_t i = 1; i < p.parts; i++)
#pragma omp simd
    for (int64_t j = 0; j < p.r * (p.kp + p.np); j++) sums[j] += sums[i * p.r * (p.kp + p.np) + j];
  for (int64_t k = 0; dA && k < l->k; k++)
    for (int64_t t = 0; t < l->r; t++) dA[k * l->r + t] = sums[t * p.kp + k] * (mask ? mask[k] : 1);
  for (int64_t t = 0; dB && t < l->r; t++)
    memcpy(dB + t * l->n, sums + p.r * p.kp + t * p.np, (size_t)l->n * sizeof *dB);
}

/* Inputs: x, W, dy, A, B, mask. Outputs: dx, dA, dB, each if wanted. */
static PareStatus FN(linear_grad)(PareKernelArgs *args) {
  Linear l = linear_of(args);
  LoraPlan p = lora_plan(&l, args->in[X].type.dtype);
  C *dA = pare_wanted(args, 1) ? args->out[1].data : NULL, *dB = pare_wanted(args, 2) ? args->out[2].data : NULL;
  size_t extra = (size_t)pare_max_i64(factors(&l), l.r ? lora_elements(&p) : 0) * sizeof(C);
  if (l.r && (dA || dB)) FN(lora_grad)(&l, args->in[X].data, args->in[DY].data, args->workspace, dA, dB);
  if (!pare_wanted(args, 0)) return PARE_OK;
  return FN(multiply)(args, &l, true, extra, args->in[DY].data, NULL, args->out[0].data);
}
#endif
