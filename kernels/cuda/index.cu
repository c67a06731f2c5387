/* index.cu - GatherElements, GatherND, ScatterElements, ScatterND and OneHot: elements and slices that are picked and
 * placed by indices. What is written more than once is written in the order of the indices: they are sorted first. */
#include "kernels/cuda/cuda.cuh"

enum { REPLACE, ADD, MUL, MAX, MIN }; /* the words of `reduction` */

/* Row r of the indices, k numbers, means data's `inner` elements from start(r) + sum of number i times stride i on. */
struct Places {
  int64_t rows, inner;
  PareWalk start;
  int k, type; /* of the indices */
  int64_t size[PARE_MAX_RANK], stride[PARE_MAX_RANK]; /* of the indexed axes of data */
  const void *index;
};

/* A number for each element, along one axis; the other axes are in step. */
static PareStatus elements_of(PareKernelArgs *a, Places *p) {
  const PareType *x = &a->in[0].type, *t = &a->in[1].type;
  int axis = pare_axis(a->attr->axis, x->rank);
  *p = {};
  p->rows = pare_type_count(t), p->inner = 1, p->k = 1, p->type = (int)t->dtype, p->index = a->in[1].data;
  p->size[0] = x->dim[axis], p->stride[0] = pare_span(x, axis + 1, x->rank);
  for (int i = 0; i < x->rank; i++) {
    int64_t stride[PARE_OPERANDS] = {i == axis ? 0 : pare_span(x, i + 1, x->rank)};
    pare_walk_add(&p->start, t->dim[i], stride);
  }
  pare_walk_end(&p->start, p->rows);
  return pare_is_index(&a->in[1]) ? PARE_OK : pare_bad_type(a);
}
/* indices[batch.., rows.., k] over data[batch.., k axes, inner..] */
static PareStatus slices_of(PareKernelArgs *a, int batch, Places *p) {
  const PareType *x = &a->in[0].type, *t = &a->in[1].type;
  int64_t by_batch[PARE_OPERANDS] = {pare_span(x, batch, x->rank)}, none[PARE_OPERANDS] = {0};
  *p = {};
  p->k = (int)t->dim[t->rank - 1], p->type = (int)t->dtype, p->index = a->in[1].data;
  p->rows = pare_span(t, 0, t->rank - 1), p->inner = pare_span(x, batch + p->k, x->rank);
  for (int i = 0; i < p->k; i++) p->size[i] = x->dim[batch + i], p->stride[i] = pare_span(x, batch + i + 1, x->rank);
  pare_walk_add(&p->start, pare_span(t, 0, batch), by_batch);
  pare_walk_add(&p->start, pare_span(t, batch, t->rank - 1), none);
  pare_walk_end(&p->start, p->rows);
  return pare_is_index(&a->in[1]) ? PARE_OK : pare_bad_type(a);
}
/* -1, and a fault, where a number is out of range. */
static __device__ inline int64_t place_of(const Places &p, int64_t r, uint32_t *fault) {
  int64_t off[1] = {0};
  pare_walk_at<1>(p.start, r, off);
  for (int i = 0; i < p.k; i++) {
    int64_t at = pare_get_int(p.index, p.type, r * p.k + i);
    at += at < 0 ? p.size[i] : 0;
    if (at < 0 || at >= p.size[i]) return *fault = PARE_FAULT_INDEX, -1;
    off[0] += at * p.stride[i];
  }
  return off[0];
}

template <class E> static __global__ void pick(Places p, const E *x, E *y, uint32_t *fault) {
  PARE_EACH(i, p.rows * p.inner) {
    int64_t at = place_of(p, i / p.inner, fault);
    y[i] = at < 0 ? E() : x[at + i % p.inner];
  }
}
static PareStatus pick_run(PareKernelArgs *a, const Places &p) {
  int64_t n = p.rows * p.inner;
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(pick<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, p,
                (const E *)a->in[0].data, (E *)a->out[0].data, a->fault);
    return pare_launched(a);
  });
}
PareStatus pare_cuda_GATHERELEMENTS(PareKernelArgs *a) {
  Places p;
  PARE_TRY(elements_of(a, &p));
  return pick_run(a, p);
}
PareStatus pare_cuda_GATHERND(PareKernelArgs *a) {
  Places p;
  PARE_TRY(slices_of(a, (int)a->attr->batch_dims, &p));
  return pick_run(a, p);
}

/* --- the rows' order by place; of one place as they stand. Runs of 1, 2, 4, ... that are in order are merged: a row
 * has as many before it as there are in its run and, to be searched for, in the other --- */
static __global__ void list(Places p, int64_t *place, int64_t *row, uint32_t *fault) {
  PARE_EACH(r, p.rows) place[r] = place_of(p, r, fault), row[r] = r;
}
static __global__ void merge(int64_t n, int64_t run, const int64_t *place, const int64_t *from, int64_t *to) {
  PARE_EACH(i, n) {
    int64_t mine = i / run, key = place[from[i]], first = (mine ^ 1) * run;
    int64_t lo = first < n ? first : n, hi = n - lo < run ? n : lo + run;
    while (lo < hi) {
      int64_t middle = lo + (hi - lo) / 2, other = place[from[middle]];
      if (other < key || (other == key && (mine & 1))) lo = middle + 1;
      else hi = middle;
    }
    int64_t before = lo - first; /* there is no other run: the last stays */
    to[first < n ? (mine & ~(int64_t)1) * run + i % run + before : i] = from[i];
  }
}
struct Sorted {
  const int64_t *place, *row; /* by row; by position */
};
static Sorted sorted(PareKernelArgs *a, const Places &p) {
  cudaStream_t stream = pare_cuda(a)->stream;
  size_t part = pare_part_bytes((size_t)p.rows * sizeof(int64_t));
  int64_t *place = (int64_t *)a->workspace, blocks = pare_blocks(a, p.rows, PARE_THREADS);
  int64_t *row = (int64_t *)((char *)a->workspace + part), *spare = (int64_t *)((char *)a->workspace + 2 * part);
  PARE_LAUNCH(list, blocks, PARE_THREADS, 0, stream, p, place, row, a->fault);
  for (int64_t run = 1; run < p.rows; run *= 2) {
    PARE_LAUNCH(merge, blocks, PARE_THREADS, 0, stream, p.rows, run, (const int64_t *)place, (const int64_t *)row,
                spare);
    int64_t *next = spare;
    spare = row, row = next;
  }
  return {place, row};
}

/* Position i's place, or -1: it, or its neighbour i + by, has the same. */
static __device__ inline int64_t place_at_end(const Sorted &s, int64_t n, int64_t i, int by) {
  int64_t at = s.place[s.row[i]], next = i + by;
  return next >= 0 && next < n && s.place[s.row[next]] == at ? -1 : at;
}
/* The last of a place stays. */
template <class E> static __global__ void replace(Sorted s, int64_t rows, int64_t inner, const E *from, E *y) {
  PARE_EACH(i, rows * inner) {
    int64_t at = place_at_end(s, rows, i / inner, 1);
    if (at >= 0) y[at + i % inner] = from[s.row[i / inner] * inner + i % inner];
  }
}
/* Max and Min pass a NaN on. */
template <class T> static __device__ inline PARE_C reduced(int how, PARE_C x, PARE_C v) {
  if constexpr (PareNum<T>::integer) {
    typedef typename PareNum<T>::U U;
    if (how == ADD) return (PARE_C)((U)x + (U)v);
    if (how == MUL) return (PARE_C)((U)x * (U)v);
    return (how == MAX ? v > x : v < x) ? v : x;
  } else {
    if (how == ADD) return x + v;
    if (how == MUL) return x * v;
    return v != v || (how == MAX ? v > x : v < x) ? v : x;
  }
}
/* The first of a place takes all of it, and rounds after each as if they were stored. */
template <class T>
static __global__ void reduce_into(Sorted s, int how, int64_t rows, int64_t inner, const T *from, T *y) {
  PARE_EACH(i, rows * inner) {
    int64_t k = i / inner, c = i % inner, at = place_at_end(s, rows, k, -1);
    if (at < 0) continue;
    T sum = y[at + c];
    for (; k < rows && s.place[s.row[k]] == at; k++)
      sum = pare_store<T>(reduced<T>(how, pare_load(sum), pare_load(from[s.row[k] * inner + c])));
    y[at + c] = sum;
  }
}

static PareStatus scatter(PareKernelArgs *a, const Places &p) {
  size_t size = pare_esize(&a->in[0]), bytes = (size_t)pare_count(&a->in[0]) * size;
  cudaStream_t stream = pare_cuda(a)->stream;
  int64_t n = p.rows * p.inner, blocks = pare_blocks(a, n, PARE_THREADS);
  int how = (int)a->attr->reduction;
  void *y = a->out[0].data;
  if (bytes) PARE_TRY(pare_cuda_status(a, cudaMemcpyAsync(y, a->in[0].data, bytes, cudaMemcpyDeviceToDevice, stream)));
  if (!n) return PARE_OK;
  Sorted s = sorted(a, p);
  if (how == REPLACE)
    return pare_by_size(a, size, [&](auto zero) {
      typedef decltype(zero) E;
      PARE_LAUNCH(replace<E>, blocks, PARE_THREADS, 0, stream, s, p.rows, p.inner, (const E *)a->in[2].data, (E *)y);
      return pare_launched(a);
    });
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(reduce_into<T>, blocks, PARE_THREADS, 0, stream, s, how, p.rows, p.inner, (const T *)a->in[2].data, (T *)y);
    return pare_launched(a);
  });
}
static PareStatus scatter_plan(PareKernelArgs *a, int64_t rows) {
  a->workspace_bytes = 3 * pare_part_bytes((size_t)rows * sizeof(int64_t));
  return PARE_OK;
}
PareStatus pare_cuda_plan_SCATTERELEMENTS(PareKernelArgs *a) { return scatter_plan(a, pare_count(&a->in[1])); }
PareStatus pare_cuda_plan_SCATTERND(PareKernelArgs *a) {
  return scatter_plan(a, pare_span(&a->in[1].type, 0, a->in[1].type.rank - 1));
}
PareStatus pare_cuda_SCATTERELEMENTS(PareKernelArgs *a) {
  Places p;
  PARE_TRY(elements_of(a, &p));
  return scatter(a, p);
}
PareStatus pare_cuda_SCATTERND(PareKernelArgs *a) {
  Places p;
  PARE_TRY(slices_of(a, 0, &p));
  return scatter(a, p);
}

/* --- OneHot: indices, depth, [off, on]: an index out of [-depth, depth) is on nowhere --- */
template <class E>
static __global__ void one_hot(int64_t n, int64_t depth, int64_t inner, const void *index, int type, int real,
                               const E *values, E *y) {
  PARE_EACH(i, n) {
    int64_t at = i / inner % depth, from = i / inner / depth * inner + i % inner;
    double v = real ? pare_get_float(index, type, from) : (double)pare_get_int(index, type, from);
    y[i] = values[v == (double)at || v == (double)(at - depth)];
  }
}
PareStatus pare_cuda_ONEHOT(PareKernelArgs *a) {
  const PareType *y = &a->out[0].type;
  PareDtype d = a->in[0].type.dtype;
  int axis = pare_axis(pare_attr_get(a->attr, axis, -1), y->rank);
  int64_t n = pare_count(&a->out[0]);
  if (d == PARE_F16) return pare_bad_type(a);
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->out[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(one_hot<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, y->dim[axis],
                pare_span(y, axis + 1, y->rank), (const void *)a->in[0].data, (int)d, (int)pare_dtype_is_float(d),
                (const E *)a->in[2].data, (E *)a->out[0].data);
    return pare_launched(a);
  });
}
