/* einsum.c - Einsum of one or two operands. Each is packed as a matrix [batch, own, common] (summed over what
 * neither the other operand nor the result has), multiplied batch by batch, and the product [batch, m, n] is
 * unpacked into the result's order. */
#include "ir/einsum.h"
#include "kernels/cpu/cpu.h"

#ifndef T
enum { OUT = PARE_EINSUM_OUT };

/* Axes of a packed tensor in order, with the strides of where its elements come from. */
typedef struct Axes {
  int n;
  int64_t count, dim[PARE_EINSUM_LABELS], stride[PARE_EINSUM_LABELS];
} Axes;

typedef struct Product {
  Axes a, b, out;      /* packed order; strides in the operands and in the result */
  Axes sum_a, sum_b;   /* what is summed over while packing */
  int64_t batch, m, n, k;
} Product;

/* How far tensor k of this type moves when the label's index grows by one: a diagonal moves along all its axes. */
static int64_t stride_of(const PareEinsum *e, int k, const PareType *t, int l) {
  int64_t s = 0;
  for (int a = 0; a < e->rank[k]; a++)
    if (e->label[k][a] == l && t->dim[a] != 1) s += pare_span(t, a + 1, t->rank);
  return s;
}

static void push(Axes *x, int64_t dim, int64_t stride) {
  x->dim[x->n] = dim;
  x->stride[x->n++] = stride;
  x->count *= dim;
}

static bool has(const PareEinsum *e, int k, int l) { return k < OUT && k >= e->nin ? false : pare_einsum_axis(e, k, l) >= 0; }

/* Labels of batches, of a's own rows, of b's own columns, and common ones that vanish. */
static const char *product_of(const PareKernelArgs *a, Product *p) {
  const PareType *in[2] = {&a->in[0].type, a->nin > 1 ? &a->in[1].type : NULL}, *y = &a->out[0].type;
  PareEinsum e;
  const char *why = pare_einsum_parse(pare_attr_get(a->attr, equation, ""), a->nin, in, &e);
  if (why) return why;
  *p = (Product){.a.count = 1, .b.count = 1, .out.count = 1, .sum_a.count = 1, .sum_b.count = 1,
                 .batch = 1, .m = 1, .n = 1, .k = 1};
  for (int group = 0; group < 4; group++) /* batch, m, n, k: the order of each packed tensor */
    for (int l = 0; l < PARE_EINSUM_LABELS; l++) {
      bool in_a = has(&e, 0, l), in_b = has(&e, 1, l), out = has(&e, OUT, l);
      int64_t size = e.size[l], sa = in_a ? stride_of(&e, 0, in[0], l) : 0, sb = in_b ? stride_of(&e, 1, in[1], l) : 0;
      int is = out ? (in_a && in_b ? 0 : in_a ? 1 : 2) : in_a && in_b ? 3 : -1;
      if (group == 0 && is < 0 && in_a) push(&p->sum_a, size, sa);
      if (group == 0 && is < 0 && in_b) push(&p->sum_b, size, sb);
      if (is != group) continue;
      if (out) push(&p->out, size, stride_of(&e, OUT, y, l));
      if (group != 2) push(&p->a, size, sa);
      *(group == 0 ? &p->batch : group == 1 ? &p->m : group == 2 ? &p->n : &p->k) *= size;
    }
  /* b is [batch, k, n] */
  static const int order[3] = {0, 3, 2};
  for (int i = 0; i < 3; i++)
    for (int l = 0; l < PARE_EINSUM_LABELS; l++) {
      bool in_a = has(&e, 0, l), in_b = has(&e, 1, l), out = has(&e, OUT, l);
      int is = out ? (in_a && in_b ? 0 : in_a ? 1 : 2) : in_a && in_b ? 3 : -1;
      if (is == order[i]) push(&p->b, e.size[l], in_b ? stride_of(&e, 1, in[1], l) : 0);
    }
  return NULL;
}

/* The offset of element i of a packed tensor. */
static inline int64_t offset(const Axes *x, int64_t i) {
  int64_t off = 0;
  for (int a = x->n - 1; a >= 0; a--) {
    off += i % x->dim[a] * x->stride[a];
    i /= x->dim[a];
  }
  return off;
}

#define PARE_TEMPLATE "kernels/cpu/einsum.c"
#include "kernels/cpu/floats.h"

/* Both packed operands and the product, in the type of the arithmetic. */
PareStatus PARE_CPU(plan_EINSUM)(PareKernelArgs *a) {
  Product p;
  if ((a->why = product_of(a, &p))) return PARE_DATA;
  size_t size = a->in[0].type.dtype == PARE_F64 ? sizeof(double) : sizeof(float), ab, all;
  if (!pare_add_size((size_t)p.a.count, a->nin > 1 ? (size_t)p.b.count : 0, &ab) ||
      !pare_add_size(ab, (size_t)p.out.count, &all) || !pare_mul_size(all, size, &a->workspace_bytes))
    return a->why = "its operands do not fit in memory twice", PARE_NOMEM;
  return PARE_OK;
}

PARE_FLOAT_KERNEL(EINSUM, einsum)

#else /* the template */
/* to[i] = Σ over `sum` of the element that i means; rows are along the last packed axis. */
static void FN(pack)(const Axes *x, const Axes *sum, const T *from, C *to) {
  int64_t n = x->n ? x->dim[x->n - 1] : 1, step = x->n ? x->stride[x->n - 1] : 0;
#pragma omp parallel for schedule(static) if (pare_threaded(x->count * sum->count))
  for (int64_t r = 0; r < (n ? x->count / n : 0); r++) {
    const T *row = from + offset(x, r * n);
    for (int64_t j = 0; j < n; j++) {
      double s = 0;
      if (sum->n == 0) s = (double)LOAD(row[j * step]);
      else
        for (int64_t i = 0; i < sum->count; i++) s += (double)LOAD(row[j * step + offset(sum, i)]);
      to[r * n + j] = (C)s;
    }
  }
}

static PareStatus FN(einsum)(PareKernelArgs *a) {
  Product p;
  if ((a->why = product_of(a, &p))) return PARE_DATA;
  C *x = a->workspace, *w = x + p.a.count, *y = a->nin > 1 ? w + p.b.count : x;
  T *out = a->out[0].data;
  FN(pack)(&p.a, &p.sum_a, a->in[0].data, x);
  if (a->nin > 1) {
    FN(pack)(&p.b, &p.sum_b, a->in[1].data, w);
    for (int64_t i = 0; i < p.batch; i++)
      PARE_TRY(GEMM(false, false, p.m, p.n, p.k, 1, x + i * p.m * p.k, p.k, w + i * p.k * p.n, p.n, 0, y + i * p.m * p.n,
                    p.n));
  }
  int64_t n = p.out.n ? p.out.dim[p.out.n - 1] : 1, step = p.out.n ? p.out.stride[p.out.n - 1] : 0;
#pragma omp parallel for schedule(static) if (pare_threaded(p.out.count))
  for (int64_t r = 0; r < (n ? p.out.count / n : 0); r++) {
    T *to = out + offset(&p.out, r * n);
    for (int64_t j = 0; j < n; j++) to[j * step] = STORE(y[r * n + j]);
  }
  return PARE_OK;
}
#endif
