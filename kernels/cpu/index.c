/* index.c - NonZero, GatherElements, GatherND, ScatterElements, ScatterND and OneHot:
 * places, and elements and slices that are picked and placed by indices. Places that are written more than
 * once are written in the order of the indices. */
#include "kernels/cpu/cpu.h"

#ifndef T
enum { REPLACE, ADD, MUL, MAX, MIN }; /* the words of `reduction` */

/* The index tensor's rows, along its last axis, over data of the same rank. */
typedef struct Elements {
  int rank, axis;
  int64_t rows, n;                                    /* of the index tensor */
  int64_t size, step;                                 /* of data's indexed axis */
  int64_t dim[PARE_MAX_RANK], stride[PARE_MAX_RANK]; /* dims of the index tensor, strides of data; 0 for the axis */
} Elements;

static PareStatus elements_of(PareKernelArgs *a, Elements *e) {
  const PareType *x = &a->in[0].type, *t = &a->in[1].type;
  *e = (Elements){.rank = x->rank, .axis = pare_axis(a->attr->axis, x->rank), .n = t->dim[t->rank - 1]};
  e->rows = e->n ? pare_count(&a->in[1]) / e->n : 0;
  e->size = x->dim[e->axis];
  e->step = pare_span(x, e->axis + 1, x->rank);
  for (int i = 0; i < x->rank; i++) e->dim[i] = t->dim[i], e->stride[i] = i == e->axis ? 0 : pare_span(x, i + 1, x->rank);
  if (!pare_is_index(&a->in[1])) return pare_bad_type(a);
  for (int64_t i = 0, n = pare_count(&a->in[1]); i < n; i++) {
    int64_t at = pare_get_int(&a->in[1], i);
    if (at < -e->size || at >= e->size) return pare_bad(a, "index is out of range");
  }
  return PARE_OK;
}

/* Where in data row r of the index tensor begins. */
static int64_t row_start(const Elements *e, int64_t r) {
  int64_t off = 0;
  for (int i = e->rank - 2; i >= 0; i--) {
    off += r % e->dim[i] * e->stride[i];
    r /= e->dim[i];
  }
  return off;
}

/* The element of data that the index tensor's element (row r, column j) means. */
static inline int64_t place_of(const Elements *e, const PareTensor *index, int64_t start, int64_t r, int64_t j) {
  int64_t at = pare_get_int(index, r * e->n + j);
  return start + (at < 0 ? at + e->size : at) * e->step + j * e->stride[e->rank - 1];
}

static inline void copy_element(size_t size, char *to, int64_t i, const char *from, int64_t j) {
  memcpy(to + (size_t)i * size, from + (size_t)j * size, size);
}

/* Places of the elements that are not zero, [rank, as many as the output has], in the order of x. */
PareStatus PARE_CPU(NONZERO)(PareKernelArgs *a) {
  const PareType *x = &a->in[0].type;
  int64_t *to = a->out[0].data, count = a->out[0].type.dim[1], at = 0;
  bool is_float = pare_dtype_is_float(x->dtype);
  for (int64_t i = 0, all = pare_count(&a->in[0]); i < all; i++) {
    if (is_float ? pare_get_float(&a->in[0], i) == 0 : pare_get_int(&a->in[0], i) == 0) continue;
    if (at == count) return pare_bad(a, "more elements are not zero than were counted");
    int64_t rest = i;
    for (int d = x->rank - 1; d >= 0; d--) {
      to[d * count + at] = rest % x->dim[d];
      rest /= x->dim[d];
    }
    if (x->rank == 0) to[at] = 0;
    at++;
  }
  return at == count ? PARE_OK : pare_bad(a, "fewer elements are not zero than were counted");
}

PareStatus PARE_CPU(GATHERELEMENTS)(PareKernelArgs *a) {
  Elements e;
  PARE_TRY(elements_of(a, &e));
  size_t size = pare_esize(&a->in[0]);
#pragma omp parallel for schedule(static) if (pare_threaded(e.rows * e.n))
  for (int64_t r = 0; r < e.rows; r++) {
    int64_t start = row_start(&e, r);
    for (int64_t j = 0; j < e.n; j++)
      copy_element(size, a->out[0].data, r * e.n + j, a->in[0].data, place_of(&e, &a->in[1], start, r, j));
  }
  return PARE_OK;
}

/* indices[rows, k] over data[batch, size 0, ..., size k-1, inner]. */
typedef struct Slices {
  int64_t rows, k, inner, per_batch; /* rows a batch */
  int64_t size[PARE_MAX_RANK], stride[PARE_MAX_RANK];
  int64_t batch_stride;
} Slices;

static PareStatus slices_of(PareKernelArgs *a, int batch, Slices *s) {
  const PareType *x = &a->in[0].type, *t = &a->in[1].type;
  *s = (Slices){.k = t->dim[t->rank - 1], .rows = pare_span(t, 0, t->rank - 1)};
  s->inner = pare_span(x, batch + (int)s->k, x->rank);
  s->batch_stride = pare_span(x, batch, x->rank);
  s->per_batch = pare_span(t, batch, t->rank - 1);
  for (int i = 0; i < s->k; i++) s->size[i] = x->dim[batch + i], s->stride[i] = pare_span(x, batch + i + 1, x->rank);
  if (!pare_is_index(&a->in[1])) return pare_bad_type(a);
  for (int64_t i = 0, n = pare_count(&a->in[1]); i < n; i++) {
    int64_t at = pare_get_int(&a->in[1], i), size = s->size[i % s->k];
    if (at < -size || at >= size) return pare_bad(a, "index is out of range");
  }
  return PARE_OK;
}

static int64_t slice_start(const Slices *s, const PareTensor *index, int64_t row) {
  int64_t off = row / s->per_batch * s->batch_stride;
  for (int64_t i = 0; i < s->k; i++) {
    int64_t at = pare_get_int(index, row * s->k + i);
    off += (at < 0 ? at + s->size[i] : at) * s->stride[i];
  }
  return off;
}

PareStatus PARE_CPU(GATHERND)(PareKernelArgs *a) {
  Slices s;
  PARE_TRY(slices_of(a, (int)a->attr->batch_dims, &s));
  size_t size = pare_esize(&a->in[0]), bytes = (size_t)s.inner * size;
  if (!bytes) return PARE_OK;
#pragma omp parallel for schedule(static) if (pare_threaded(s.rows * s.inner))
  for (int64_t r = 0; r < s.rows; r++)
    memcpy((char *)a->out[0].data + (size_t)r * bytes,
           (const char *)a->in[0].data + (size_t)slice_start(&s, &a->in[1], r) * size, bytes);
  return PARE_OK;
}

#define PARE_TEMPLATE "kernels/cpu/index.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"

static void copy_data(PareKernelArgs *a) {
  size_t bytes = (size_t)pare_count(&a->in[0]) * pare_esize(&a->in[0]);
  if (bytes) memcpy(a->out[0].data, a->in[0].data, bytes);
}

PareStatus PARE_CPU(SCATTERELEMENTS)(PareKernelArgs *a) {
  Elements e;
  PARE_TRY(elements_of(a, &e));
  copy_data(a);
  if (a->attr->reduction != REPLACE) return pare_call(PARE_PICK_NUMBER(a->in[0].type.dtype, scatter_elements), a);
  size_t size = pare_esize(&a->in[0]);
  for (int64_t r = 0; r < e.rows; r++) {
    int64_t start = row_start(&e, r);
    for (int64_t j = 0; j < e.n; j++)
      copy_element(size, a->out[0].data, place_of(&e, &a->in[1], start, r, j), a->in[2].data, r * e.n + j);
  }
  return PARE_OK;
}

PareStatus PARE_CPU(SCATTERND)(PareKernelArgs *a) {
  Slices s;
  PARE_TRY(slices_of(a, 0, &s));
  copy_data(a);
  if (a->attr->reduction != REPLACE) return pare_call(PARE_PICK_NUMBER(a->in[0].type.dtype, scatter_slices), a);
  size_t size = pare_esize(&a->in[0]), bytes = (size_t)s.inner * size;
  for (int64_t r = 0; bytes && r < s.rows; r++)
    memcpy((char *)a->out[0].data + (size_t)slice_start(&s, &a->in[1], r) * size,
           (const char *)a->in[2].data + (size_t)r * bytes, bytes);
  return PARE_OK;
}

/* Indices, depth, [off, on]: an index out of [-depth, depth) is on nowhere. */
PareStatus PARE_CPU(ONEHOT)(PareKernelArgs *a) {
  const PareType *y = &a->out[0].type;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), y->rank);
  int64_t depth = y->dim[axis], inner = pare_span(y, axis + 1, y->rank), n = pare_count(&a->out[0]);
  bool floats = pare_dtype_is_float(a->in[0].type.dtype);
  size_t size = pare_esize(&a->out[0]);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i / inner % depth, from = i / inner / depth * inner + i % inner;
    double index = floats ? pare_get_float(&a->in[0], from) : (double)pare_get_int(&a->in[0], from);
    bool on = index == (double)at || index == (double)(at - depth);
    copy_element(size, a->out[0].data, i, a->in[2].data, on);
  }
  return PARE_OK;
}

#else /* the template */
static inline C FN(reduced)(C x, C v, int how) {
  switch (how) {
  case ADD: return PICK(x + v, (C)((U)x + (U)v));
  case MUL: return PICK(x * v, (C)((U)x * (U)v));
  case MAX: return v > x || PICK(v != v, false) ? v : x;
  default: return v < x || PICK(v != v, false) ? v : x;
  }
}

static PareStatus FN(scatter_elements)(PareKernelArgs *a) {
  Elements e;
  PARE_TRY(elements_of(a, &e));
  T *y = a->out[0].data;
  const T *up = a->in[2].data;
  for (int64_t r = 0; r < e.rows; r++) {
    int64_t start = row_start(&e, r);
    for (int64_t j = 0; j < e.n; j++) {
      T *to = y + place_of(&e, &a->in[1], start, r, j);
      *to = STORE(FN(reduced)(LOAD(*to), LOAD(up[r * e.n + j]), a->attr->reduction));
    }
  }
  return PARE_OK;
}

static PareStatus FN(scatter_slices)(PareKernelArgs *a) {
  Slices s;
  PARE_TRY(slices_of(a, 0, &s));
  const T *up = a->in[2].data;
  for (int64_t r = 0; r < s.rows; r++) {
    T *to = (T *)a->out[0].data + slice_start(&s, &a->in[1], r);
    for (int64_t j = 0; j < s.inner; j++)
      to[j] = STORE(FN(reduced)(LOAD(to[j]), LOAD(up[r * s.inner + j]), a->attr->reduction));
  }
  return PARE_OK;
}
#endif
