/* move.c - Expand, Concat, Split, Slice, Gather, fills, ranges and shapes:
 * elements are moved, told apart by size alone. Transpose is in transpose.c. */
#include "kernels/cpu/cpu.h"

#ifndef T
/* --- runs of n elements of `size` bytes --- */
#define PARE_SIZES(X) X(1, uint8_t) X(2, uint16_t) X(4, uint32_t) X(8, uint64_t)

/* to[i·by] = from[i·step] */
static void copy_run(size_t size, int64_t n, void *to, int64_t by, const void *from, int64_t step) {
  if (by == 1 && step == 1) {
    memcpy(to, from, (size_t)n * size);
    return;
  }
  switch (size) {
#define X(bytes, E)                                                                            \
  case bytes:                                                                                  \
    for (int64_t i = 0; i < n; i++) ((E *)to)[i * by] = ((const E *)from)[i * step];           \
    break;
    PARE_SIZES(X)
#undef X
  }
}

static void expand_row(int64_t n, void *out, const void *const in[3], const bool step[3], const void *size) {
  copy_run(*(const size_t *)size, n, out, 1, in[0], step[0]);
}
void PARE_CPU(expand)(const PareTensor *out, const PareTensor *x) {
  size_t size = pare_esize(out);
  PARE_CPU(rows)(out, 1, x, expand_row, &size);
}
PareStatus PARE_CPU(EXPAND)(PareKernelArgs *a) {
  PARE_CPU(expand)(&a->out[0], &a->in[0]);
  return PARE_OK;
}

/* --- Concat and Split: the part [outer, n, inner] of the whole [outer, total, inner] at position `at` --- */
static void copy_part(char *to, size_t to_step, const char *from, size_t from_step, size_t bytes, int64_t outer) {
#pragma omp parallel for schedule(static) if (pare_threaded(outer * (int64_t)bytes / 4))
  for (int64_t o = 0; o < outer; o++) memcpy(to + (size_t)o * to_step, from + (size_t)o * from_step, bytes);
}

PareStatus PARE_CPU(CONCAT)(PareKernelArgs *a) {
  const PareType *t = &a->out[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  int64_t outer = pare_span(t, 0, axis);
  size_t size = pare_esize(&a->out[0]), whole = (size_t)pare_span(t, axis, t->rank) * size, at = 0;
  for (int i = 0; i < a->nin; i++) {
    const PareType *x = &a->in[i].type;
    size_t part = (size_t)pare_span(x, axis, x->rank) * size;
    if (part && outer) copy_part((char *)a->out[0].data + at, whole, a->in[i].data, part, part, outer);
    at += part;
  }
  return PARE_OK;
}

PareStatus PARE_CPU(SPLIT)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  int64_t outer = pare_span(t, 0, axis);
  size_t size = pare_esize(&a->in[0]), whole = (size_t)pare_span(t, axis, t->rank) * size, at = 0;
  for (int i = 0; i < a->nout; i++) {
    const PareType *y = &a->out[i].type;
    size_t part = (size_t)pare_span(y, axis, y->rank) * size;
    if (pare_wanted(a, i) && part && outer)
      copy_part(a->out[i].data, part, (const char *)a->in[0].data + at, whole, part, outer);
    at += part;
  }
  return PARE_OK;
}

/* --- Slice: the box of x that starts at `start` and steps by `step`, with the extents of `box` --- */
typedef struct Box {
  int rank; /* axes outside of the innermost */
  int64_t dim[PARE_MAX_RANK], stride[PARE_MAX_RANK]; /* stride in x, in elements; may be negative */
  int64_t inner, by;                                 /* the innermost axis */
  int64_t start;                                     /* x's element where the box begins */
} Box;

/* starts, ends, axes, steps at inputs k..k+3, the latter two optional. Fails where the data ask for
 * another extent than the types say. */
static PareStatus box_of(PareKernelArgs *a, int k, const PareType *x, const PareType *box, Box *b) {
  int64_t start[PARE_MAX_RANK], step[PARE_MAX_RANK], extent[PARE_MAX_RANK];
  for (int i = 0; i < x->rank; i++) start[i] = 0, step[i] = 1, extent[i] = x->dim[i];
  for (int64_t j = 0, n = pare_count(&a->in[k]); j < n; j++) {
    int64_t axis = pare_given(a, k + 2) ? pare_get_int(&a->in[k + 2], j) : j;
    if (axis < -x->rank || axis >= x->rank) return pare_bad(a, "axis is out of range");
    int i = pare_axis(axis, x->rank);
    int64_t d = x->dim[i], s = pare_given(a, k + 3) ? pare_get_int(&a->in[k + 3], j) : 1;
    int64_t from = pare_get_int(&a->in[k], j), to = pare_get_int(&a->in[k + 1], j);
    if (s == 0) return pare_bad(a, "step is zero");
    s = pare_min_i64(pare_max_i64(s, -d - 1), d + 1); /* as far, and sums cannot overflow */
    from += from < 0 ? d : 0, to += to < 0 ? d : 0;
    int64_t lo = s > 0 ? 0 : -1, hi = s > 0 ? d : d - 1;
    from = pare_min_i64(pare_max_i64(from, lo), hi), to = pare_min_i64(pare_max_i64(to, lo), hi);
    start[i] = from, step[i] = s;
    extent[i] = s > 0 ? pare_max_i64(0, (to - from + s - 1) / s) : pare_max_i64(0, (from - to - s - 1) / -s);
  }
  *b = (Box){.inner = 1, .by = 1};
  for (int i = 0; i < x->rank; i++) {
    if (extent[i] != box->dim[i]) return pare_bad(a, "starts and ends do not give the planned shape");
    int64_t stride = pare_span(x, i + 1, x->rank);
    b->start += start[i] * stride;
    if (box->dim[i] == 1) continue;
    stride *= step[i];
    bool merge = b->rank && b->stride[b->rank - 1] == stride * box->dim[i];
    if (merge) b->dim[b->rank - 1] *= box->dim[i];
    else b->dim[b->rank++] = box->dim[i];
    b->stride[b->rank - 1] = stride;
  }
  if (b->rank) b->rank--, b->inner = b->dim[b->rank], b->by = b->stride[b->rank];
  return PARE_OK;
}

static int64_t box_row(const Box *b, int64_t row) {
  int64_t off = b->start;
  for (int i = b->rank - 1; i >= 0; i--) {
    off += row % b->dim[i] * b->stride[i];
    row /= b->dim[i];
  }
  return off;
}

PareStatus PARE_CPU(SLICE)(PareKernelArgs *a) {
  Box b;
  PARE_TRY(box_of(a, 1, &a->in[0].type, &a->out[0].type, &b));
  size_t size = pare_esize(&a->in[0]);
  int64_t total = pare_count(&a->out[0]), rows = total ? total / b.inner : 0;
  const char *x = a->in[0].data;
  char *y = a->out[0].data;
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t r = 0; r < rows; r++)
    copy_run(size, b.inner, y + (size_t)(r * b.inner) * size, 1, x + box_row(&b, r) * (int64_t)size, b.by);
  return PARE_OK;
}

/* The box of zeros is filled with dy. Inputs: dy, starts, ends, axes, steps, like. */
PareStatus PARE_CPU(SLICEGRAD)(PareKernelArgs *a) {
  Box b;
  PARE_TRY(box_of(a, 1, &a->out[0].type, &a->in[0].type, &b));
  size_t size = pare_esize(&a->in[0]);
  int64_t total = pare_count(&a->in[0]), rows = total ? total / b.inner : 0, all = pare_count(&a->out[0]);
  const char *dy = a->in[0].data;
  char *dx = a->out[0].data;
  if (all) memset(dx, 0, (size_t)all * size);
#pragma omp parallel for schedule(static) if (pare_threaded(total))
  for (int64_t r = 0; r < rows; r++)
    copy_run(size, b.inner, dx + box_row(&b, r) * (int64_t)size, b.by, dy + (size_t)(r * b.inner) * size, 1);
  return PARE_OK;
}

/* --- Gather: y[outer, index, inner] = x[outer, indices[index], inner] --- */
typedef struct Picks {
  int64_t outer, n, inner, count; /* n: x's axis; count: indices */
} Picks;

static PareStatus picks_of(PareKernelArgs *a, const PareType *x, const PareTensor *indices, Picks *p) {
  int axis = pare_axis(a->attr->axis, x->rank);
  *p = (Picks){pare_span(x, 0, axis), x->dim[axis], pare_span(x, axis + 1, x->rank), pare_count(indices)};
  if (!pare_is_index(indices)) return pare_bad_type(a);
  for (int64_t i = 0; i < p->count; i++) {
    int64_t at = pare_get_int(indices, i);
    if (at < -p->n || at >= p->n) return pare_bad(a, "index is out of range");
  }
  return PARE_OK;
}
static inline int64_t pick(const Picks *p, const PareTensor *indices, int64_t i) {
  int64_t at = pare_get_int(indices, i);
  return at < 0 ? at + p->n : at;
}

PareStatus PARE_CPU(GATHER)(PareKernelArgs *a) {
  Picks p;
  PARE_TRY(picks_of(a, &a->in[0].type, &a->in[1], &p));
  size_t bytes = (size_t)p.inner * pare_esize(&a->in[0]);
  const char *x = a->in[0].data;
  char *y = a->out[0].data;
  if (!bytes) return PARE_OK;
#pragma omp parallel for schedule(static) if (pare_threaded(p.outer * p.count * p.inner))
  for (int64_t i = 0; i < p.outer * p.count; i++) {
    int64_t from = i / p.count * p.n + pick(&p, &a->in[1], i % p.count);
    memcpy(y + (size_t)i * bytes, x + (size_t)from * bytes, bytes);
  }
  return PARE_OK;
}

/* Input 0, at any address; input 1, where given, tells which indices of an axis live: the others are zero, whatever
 * stood there. Without it, axis 0 lives. */
PareStatus PARE_CPU(FETCH)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  const bool *alive = pare_given(a, 1) ? a->in[1].data : NULL;
  int axis = alive ? pare_axis(a->attr->axis, t->rank) : 0;
  int64_t n = t->rank ? t->dim[axis] : 1, inner = pare_span(t, axis + 1, t->rank), rows = pare_span(t, 0, axis) * n;
  size_t bytes = (size_t)inner * pare_esize(&a->in[0]);
  const char *x = a->in[0].data;
  char *y = a->out[0].data;
#pragma omp parallel for schedule(static) if (pare_threaded(rows * inner))
  for (int64_t i = 0; i < rows; i++) {
    size_t at = (size_t)i * bytes;
    if (!alive || alive[i % n]) memcpy(y + at, x + at, bytes);
    else memset(y + at, 0, bytes);
  }
  return PARE_OK;
}

#define PARE_TEMPLATE "kernels/cpu/move.c"
#include "kernels/cpu/floats.h"

/* Inputs: indices, dy, like. */
PareStatus PARE_CPU(GATHERGRAD)(PareKernelArgs *a) {
  return pare_call(PARE_PICK_FLOAT(a->in[1].type.dtype, gather_grad), a);
}

/* --- made from nothing --- */
/* Input 1, where given, is the value; else zeros. */
PareStatus PARE_CPU(CONSTANTOFSHAPE)(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  size_t size = pare_esize(&a->out[0]);
  if (pare_given(a, 1)) copy_run(size, n, a->out[0].data, 1, a->in[1].data, 0);
  else if (n) memset(a->out[0].data, 0, (size_t)n * size);
  return PARE_OK;
}

/* y[i] = start + i·delta */
PareStatus PARE_CPU(RANGE)(PareKernelArgs *a) {
  const PareTensor *y = &a->out[0];
  int64_t n = pare_count(y);
  if (pare_is_index(y)) {
    uint64_t start = (uint64_t)pare_get_int(&a->in[0], 0), delta = (uint64_t)pare_get_int(&a->in[2], 0);
    for (int64_t i = 0; i < n; i++) {
      int64_t v = (int64_t)(start + (uint64_t)i * delta);
      if (y->type.dtype == PARE_I64) ((int64_t *)y->data)[i] = v;
      else ((int32_t *)y->data)[i] = (int32_t)v;
    }
    return PARE_OK;
  }
  if (!pare_dtype_is_float(y->type.dtype) || y->type.dtype == PARE_F16) return pare_bad_type(a);
  double start = pare_get_float(&a->in[0], 0), delta = pare_get_float(&a->in[2], 0);
  for (int64_t i = 0; i < n; i++) pare_put_float(y, i, start + (double)i * delta);
  return PARE_OK;
}

/* Dims start..end-1 of input 0; the output's length says how many. */
PareStatus PARE_CPU(SHAPE)(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t start = a->attr->start, n = pare_count(&a->out[0]);
  start = pare_min_i64(pare_max_i64(start < 0 ? start + t->rank : start, 0), t->rank);
  for (int64_t i = 0; i < n; i++) ((int64_t *)a->out[0].data)[i] = t->dim[start + i];
  return PARE_OK;
}

#else /* the template */
/* Rows of dy are added in the order of the indices; a thread has its own outer positions or columns. */
static PareStatus FN(gather_grad)(PareKernelArgs *a) {
  Picks p;
  PARE_TRY(picks_of(a, &a->out[0].type, &a->in[0], &p));
  const T *dy = a->in[1].data;
  T *dx = a->out[0].data;
  int64_t all = pare_count(&a->out[0]), width = 64, strips = pare_ceil_div(p.inner, width);
  if (all) memset(dx, 0, (size_t)all * sizeof(T));
#pragma omp parallel for collapse(2) schedule(static) if (pare_threaded(p.outer * p.count * p.inner))
  for (int64_t o = 0; o < p.outer; o++)
    for (int64_t s = 0; s < strips; s++)
      for (int64_t i = 0; i < p.count; i++) {
        const T *from = dy + (o * p.count + i) * p.inner;
        T *to = dx + (o * p.n + pick(&p, &a->in[0], i)) * p.inner;
        int64_t hi = pare_min_i64(p.inner, (s + 1) * width);
#pragma omp simd
        for (int64_t j = s * width; j < hi; j++) to[j] = STORE(LOAD(to[j]) + LOAD(from[j]));
      }
  return PARE_OK;
}
#endif
