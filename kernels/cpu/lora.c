/* lora.c - the gradients of A and B of f32 and f64: x and dy are read once, in blocks of rows. bf16: lora_bf16.c. */
#include "kernels/cpu/linear.h"

#include <string.h>

#ifndef T
enum { ROWS = 24, GROUP = 8, PARTS = 16 };

/* A', B padded [r8, kp], [r8, np]; sums by part; rows by part, where they must be padded. */
typedef struct LoraPlan {
  int64_t r, kp, np, parts;
} LoraPlan;

static LoraPlan lora_plan(const PareLinear *l, size_t element) {
  int64_t unit = 2 * 64 / (int64_t)element;
  return (LoraPlan){pare_ceil_div(l->r, GROUP) * GROUP, pare_ceil_div(l->k, unit) * unit,
                    pare_ceil_div(l->n, unit) * unit, pare_min_i64(PARTS, l->m)};
}

size_t PARE_CPU(lora_bytes)(const PareLinear *l, PareDtype d) {
  if (d == PARE_BF16) return PARE_CPU(lora_bytes_bf16)(l);
  LoraPlan p = lora_plan(l, pare_dtype_size(d));
  return (size_t)((p.r + p.parts * (p.r + ROWS)) * (p.kp + p.np)) * pare_dtype_size(d);
}

#define PARE_TEMPLATE "kernels/cpu/lora.c"
#define PARE_NO_BF16
#include "kernels/cpu/floats.h"

void PARE_CPU(lora_grad)(const PareLinear *l, PareDtype d, const void *x, const void *dy, void *work, void *dA,
                         void *dB) {
  if (d == PARE_BF16) PARE_CPU(lora_grad_bf16)(l, x, dy, work, dA, dB);
  else if (d == PARE_F32) lora_grad_f32(l, x, dy, work, dA, dB);
  else lora_grad_f64(l, x, dy, work, dA, dB);
}

#else /* the template */
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

/* Rows of x padded with zeros; x itself where it needs none. */
static const C *FN(pad)(int64_t rows, int64_t n, int64_t padded, const C *x, C *to) {
  if (padded == n) return x;
  for (int64_t i = 0; i < rows; i++) {
    memcpy(to + i * padded, x + i * n, (size_t)n * sizeof *x);
    memset(to + i * padded + n, 0, (size_t)(padded - n) * sizeof *x);
  }
  return to;
}

/* One part's share: da[r, kp] and db[r, np], cleared first. */
static void FN(lora_part)(const PareLinear *l, const LoraPlan *p, int64_t part, const T *x, const T *dy, const C *a,
                          const C *b, C *da, C *db, C *rows) {
  C u[ROWS][GROUP], v[ROWS][GROUP], s = (C)l->scale;
  int64_t lo, hi;
  pare_part(l->m, p->parts, part, &lo, &hi);
  memset(da, 0, (size_t)(p->r * p->kp) * sizeof *da);
  memset(db, 0, (size_t)(p->r * p->np) * sizeof *db);
  for (int64_t i = lo; i < hi; i += ROWS) {
    int64_t n = pare_min_i64(ROWS, hi - i);
    const C *xr = FN(pad)(n, l->k, p->kp, x + i * l->k, rows);
    const C *dr = FN(pad)(n, l->n, p->np, dy + i * l->n, rows + ROWS * p->kp);
    for (int64_t t = 0; t < p->r; t += GROUP) {
      FN(project)(n, p->kp, xr, p->kp, a + t * p->kp, s, u);
      FN(project)(n, p->np, dr, p->np, b + t * p->np, s, v);
      FN(collect)(n, p->kp, xr, p->kp, v, da + t * p->kp);
      FN(collect)(n, p->np, dr, p->np, u, db + t * p->np);
    }
  }
}

static void FN(lora_grad)(const PareLinear *l, const T *x, const T *dy, C *work, C *dA, C *dB) {
  LoraPlan p = lora_plan(l, sizeof *work);
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
#endif
