/* move.cu - Concat, Split, Slice, Gather, their gradients, Transpose, fills, ranges and shapes: elements are moved,
 * told apart by size alone. Expand is in walk.cu. */
#include "kernels/cuda/cuda.cuh"

/* --- Concat and Split: the part [outer, n, inner] of the whole [outer, total, inner] --- */
static PareStatus copy_part(PareKernelArgs *a, void *to, size_t to_step, const void *from, size_t from_step,
                            size_t bytes, int64_t outer) {
  cudaStream_t stream = pare_cuda(a)->stream;
  if (!bytes || !outer) return PARE_OK;
  if (outer == 1) return pare_cuda_status(a, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
  return pare_cuda_status(a, cudaMemcpy2DAsync(to, to_step, from, from_step, bytes, (size_t)outer,
                                               cudaMemcpyDeviceToDevice, stream));
}

PareStatus pare_cuda_CONCAT(PareKernelArgs *a) {
  const PareType *t = &a->out[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  int64_t outer = pare_span(t, 0, axis);
  size_t size = pare_esize(&a->out[0]), whole = (size_t)pare_span(t, axis, t->rank) * size, at = 0;
  for (int i = 0; i < a->nin; i++) {
    const PareType *x = &a->in[i].type;
    size_t part = (size_t)pare_span(x, axis, x->rank) * size;
    PARE_TRY(copy_part(a, (char *)a->out[0].data + at, whole, a->in[i].data, part, part, outer));
    at += part;
  }
  return PARE_OK;
}

PareStatus pare_cuda_SPLIT(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  int64_t outer = pare_span(t, 0, axis);
  size_t size = pare_esize(&a->in[0]), whole = (size_t)pare_span(t, axis, t->rank) * size, at = 0;
  for (int i = 0; i < a->nout; i++) {
    const PareType *y = &a->out[i].type;
    size_t part = (size_t)pare_span(y, axis, y->rank) * size;
    if (pare_wanted(a, i))
      PARE_TRY(copy_part(a, a->out[i].data, part, (const char *)a->in[0].data + at, whole, part, outer));
    at += part;
  }
  return PARE_OK;
}

/* --- Slice: the box of x that begins at `start` and has the strides of the walk --- */
template <class E> static __global__ void take(PareWalk w, int64_t n, const E *x, E *y) {
  PARE_EACH(i, n) {
    int64_t at[1] = {0};
    pare_walk_at<1>(w, i, at);
    y[i] = x[at[0]];
  }
}
template <class E> static __global__ void put(PareWalk w, int64_t n, const E *dy, E *dx) {
  PARE_EACH(i, n) {
    int64_t at[1] = {0};
    pare_walk_at<1>(w, i, at);
    dx[at[0]] = dy[i];
  }
}

/* One axis of length d, of which `from` to `to` by `s` is taken, as numpy clamps them. */
static void clamp_range(int64_t d, int64_t s, int64_t *from, int64_t to, int64_t *extent) {
  *from += *from < 0 ? d : 0, to += to < 0 ? d : 0;
  int64_t lo = s > 0 ? 0 : -1, hi = s > 0 ? d : d - 1;
  *from = pare_min(pare_max(*from, lo), hi), to = pare_min(pare_max(to, lo), hi);
  *extent = s > 0 ? pare_max(0, (to - *from + s - 1) / s) : pare_max(0, (*from - to - s - 1) / -s);
}

/* starts, ends, axes, steps at inputs 1..4, the latter two optional. */
static PareStatus box_of(PareKernelArgs *a, const PareType *x, const PareType *box, PareWalk *w, int64_t *begin) {
  int64_t start[PARE_MAX_RANK], step[PARE_MAX_RANK], extent[PARE_MAX_RANK];
  for (int k = 1; k <= 4; k++) PARE_TRY(pare_need_known(a, k));
  for (int i = 0; i < x->rank; i++) start[i] = 0, step[i] = 1, extent[i] = x->dim[i];
  for (int64_t j = 0, n = pare_count(&a->in[1]); j < n; j++) {
    int64_t axis = pare_given(a, 3) ? pare_known_int(a, 3, j) : j;
    if (axis < -x->rank || axis >= x->rank) return pare_why(a, PARE_DATA, "axis is out of range");
    int i = pare_axis(axis, x->rank);
    int64_t d = x->dim[i], s = pare_given(a, 4) ? pare_known_int(a, 4, j) : 1;
    if (s == 0) return pare_why(a, PARE_DATA, "step is zero");
    step[i] = pare_min(pare_max(s, -d - 1), d + 1); /* as far, and sums cannot overflow */
    start[i] = pare_known_int(a, 1, j);
    clamp_range(d, step[i], &start[i], pare_known_int(a, 2, j), &extent[i]);
  }
  *w = {};
  *begin = 0;
  for (int i = 0; i < x->rank; i++) {
    if (extent[i] != box->dim[i]) return pare_why(a, PARE_DATA, "starts and ends do not give the planned shape");
    int64_t by = pare_span(x, i + 1, x->rank), stride[PARE_OPERANDS] = {by * step[i]};
    *begin += start[i] * by;
    pare_walk_add(w, box->dim[i], stride);
  }
  pare_walk_end(w, pare_type_count(box));
  return PARE_OK;
}

PareStatus pare_cuda_SLICE(PareKernelArgs *a) {
  PareWalk w;
  int64_t begin, n = pare_count(&a->out[0]);
  PARE_TRY(box_of(a, &a->in[0].type, &a->out[0].type, &w, &begin));
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(take<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const E *)a->in[0].data + begin, (E *)a->out[0].data);
    return pare_launched(a);
  });
}
/* The box of zeros is filled with dy. Inputs: dy, starts, ends, axes, steps, like. */
PareStatus pare_cuda_SLICEGRAD(PareKernelArgs *a) {
  PareWalk w;
  int64_t begin, n = pare_count(&a->in[0]), all = pare_count(&a->out[0]);
  PARE_TRY(box_of(a, &a->out[0].type, &a->in[0].type, &w, &begin));
  if (!all) return PARE_OK;
  size_t bytes = (size_t)all * pare_esize(&a->out[0]);
  PARE_TRY(pare_cuda_status(a, cudaMemsetAsync(a->out[0].data, 0, bytes, pare_cuda(a)->stream)));
  if (!n) return PARE_OK;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(put<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const E *)a->in[0].data, (E *)a->out[0].data + begin);
    return pare_launched(a);
  });
}

/* --- Gather: y[outer, index, inner] = x[outer, indices[index], inner] --- */
struct Picks {
  int64_t outer, n, inner, count; /* n: x's axis; count: indices */
  const void *index;
  int type; /* of the indices */
};
static PareStatus picks_of(PareKernelArgs *a, const PareType *x, const PareTensor *indices, Picks *p) {
  int axis = pare_axis(a->attr->axis, x->rank);
  *p = {pare_span(x, 0, axis), x->dim[axis], pare_span(x, axis + 1, x->rank), pare_count(indices), indices->data,
        (int)indices->type.dtype};
  return pare_is_index(indices) ? PARE_OK : pare_bad_type(a);
}
/* Index i; -1 where it is out of range. */
static __device__ inline int64_t pick(const Picks &p, int64_t i) {
  int64_t at = pare_get_int(p.index, p.type, i);
  at += at < 0 ? p.n : 0;
  return at >= 0 && at < p.n ? at : -1;
}

template <class E> static __global__ void gather(Picks p, const E *x, E *y, uint32_t *fault) {
  PARE_EACH(k, p.outer * p.count * p.inner) {
    int64_t row = k / p.inner, at = pick(p, row % p.count);
    if (at < 0) *fault = PARE_FAULT_INDEX;
    y[k] = at < 0 ? E() : x[(row / p.count * p.n + at) * p.inner + k % p.inner];
  }
}

/* Rows of many bytes: a warp has one, moved AT_ONCE units of 16 bytes a lane at once; p.inner counts units. */
enum { AT_ONCE = 4, UNIT = 16, FEW_UNITS = 8 };
typedef ParePack<uint32_t> Unit;
static __global__ void gather_rows(Picks p, const Unit *__restrict__ x, Unit *__restrict__ y, uint32_t *fault) {
  int64_t warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP, lane = threadIdx.x % PARE_WARP;
  for (int64_t r = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; r < p.outer * p.count; r += warps) {
    int64_t at = pick(p, r % p.count);
    if (at < 0) *fault = PARE_FAULT_INDEX;
    const Unit *from = x + (r / p.count * p.n + at) * p.inner;
    Unit *to = y + r * p.inner;
    for (int64_t u = lane; u < p.inner; u += AT_ONCE * PARE_WARP) {
      Unit v[AT_ONCE] = {};
      for (int k = 0; k < AT_ONCE; k++)
        if (at >= 0 && u + k * PARE_WARP < p.inner) v[k] = from[u + k * PARE_WARP];
      for (int k = 0; k < AT_ONCE; k++)
        if (u + k * PARE_WARP < p.inner) to[u + k * PARE_WARP] = v[k];
    }
  }
}

PareStatus pare_cuda_GATHER(PareKernelArgs *a) {
  Picks p;
  PARE_TRY(picks_of(a, &a->in[0].type, &a->in[1], &p));
  int64_t n = p.outer * p.count * p.inner, bytes = p.inner * (int64_t)pare_esize(&a->in[0]);
  if (!n) return PARE_OK;
  if (bytes % UNIT == 0 && bytes >= FEW_UNITS * UNIT && pare_aligned(a->in[0].data) && pare_aligned(a->out[0].data)) {
    p.inner = bytes / UNIT;
    PARE_LAUNCH(gather_rows, pare_blocks(a, p.outer * p.count, PARE_THREADS / PARE_WARP), PARE_THREADS, 0,
                pare_cuda(a)->stream, p, (const Unit *)a->in[0].data, (Unit *)a->out[0].data, a->fault);
    return pare_launched(a);
  }
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(gather<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, p,
                (const E *)a->in[0].data, (E *)a->out[0].data, a->fault);
    return pare_launched(a);
  });
}

/* A block has index i of an outer position, if no earlier one is equal: it adds up the rows of dy of all that are, in
 * their order. */
template <class T> static __global__ void gather_grad(Picks p, const T *dy, T *dx, uint32_t *fault) {
  __shared__ int earlier;
  for (int64_t b = blockIdx.x; b < p.outer * p.count; b += gridDim.x) {
    int64_t o = b / p.count, i = b % p.count, at = pick(p, i);
    __syncthreads();
    if (threadIdx.x == 0) earlier = at < 0;
    if (threadIdx.x == 0 && at < 0) *fault = PARE_FAULT_INDEX;
    __syncthreads();
    for (int64_t j = threadIdx.x; j < i; j += blockDim.x)
      if (pick(p, j) == at) earlier = 1;
    __syncthreads();
    if (earlier) continue;
    for (int64_t c = threadIdx.x; c < p.inner; c += blockDim.x) {
      PARE_C sum = 0;
      for (int64_t j = i; j < p.count; j++)
        if (pick(p, j) == at) sum += pare_load(dy[(o * p.count + j) * p.inner + c]);
      dx[(o * p.n + at) * p.inner + c] = pare_store<T>(sum);
    }
  }
}
/* Inputs: indices, dy, like. */
PareStatus pare_cuda_GATHERGRAD(PareKernelArgs *a) {
  Picks p;
  PARE_TRY(picks_of(a, &a->out[0].type, &a->in[0], &p));
  size_t bytes = (size_t)pare_count(&a->out[0]) * pare_esize(&a->out[0]);
  if (bytes) PARE_TRY(pare_cuda_status(a, cudaMemsetAsync(a->out[0].data, 0, bytes, pare_cuda(a)->stream)));
  if (p.outer * p.count * p.inner == 0) return PARE_OK;
  return pare_by_float(a, a->in[1].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(gather_grad<T>, pare_blocks(a, p.outer * p.count, 1), PARE_THREADS, 0, pare_cuda(a)->stream, p,
                (const T *)a->in[1].data, (T *)a->out[0].data, a->fault);
    return pare_launched(a);
  });
}

/* --- Transpose --- */
enum { TILE = 32, TILE_ROWS = 8 };

/* In the order of the output's axes; operand 0 is x, operand 1 is y. */
static PareWalk order_of(const PareKernelArgs *a) {
  const PareType *x = &a->in[0].type, *y = &a->out[0].type;
  const PareInts *perm = &a->attr->perm;
  PareWalk w = {};
  for (int i = 0; i < x->rank; i++) {
    int k = perm->n ? pare_axis(perm->at[i], x->rank) : x->rank - 1 - i;
    int64_t stride[PARE_OPERANDS] = {pare_span(x, k + 1, x->rank), pare_span(y, i + 1, y->rank)};
    pare_walk_add(&w, x->dim[k], stride);
  }
  return w;
}
static void order_drop(PareWalk *w, int i) {
  w->rank--;
  for (; i < w->rank; i++) w->axis[i] = w->axis[i + 1];
}

/* y[j, i] = x[i, j] for i < rows, j < cols, at the places of the outer walk: by tiles through shared memory, so that
 * both sides are read and written along their rows. The pad keeps a tile's columns in different banks. */
template <class E>
static __global__ void swap(PareWalk outer, int64_t rows, int64_t cols, int64_t from_row, int64_t to_row, int64_t n,
                            const E *x, E *y) {
  __shared__ E tile[TILE][TILE + 1];
  int64_t high = (rows + TILE - 1) / TILE, wide = (cols + TILE - 1) / TILE;
  int tx = (int)threadIdx.x % TILE, ty = (int)threadIdx.x / TILE;
  for (int64_t b = blockIdx.x; b < n * high * wide; b += gridDim.x) {
    int64_t at[2] = {0, 0}, r0 = b % high * TILE, c0 = b / high % wide * TILE;
    pare_walk_at<2>(outer, b / (high * wide), at);
    __syncthreads();
    for (int i = ty; i < TILE; i += TILE_ROWS)
      if (r0 + i < rows && c0 + tx < cols) tile[i][tx] = x[at[0] + (r0 + i) * from_row + c0 + tx];
    __syncthreads();
    for (int j = ty; j < TILE; j += TILE_ROWS)
      if (c0 + j < cols && r0 + tx < rows) y[at[1] + (c0 + j) * to_row + r0 + tx] = tile[tx][j];
  }
}

PareStatus pare_cuda_TRANSPOSE(PareKernelArgs *a) {
  PareWalk w = order_of(a);
  int64_t total = pare_count(&a->out[0]);
  cudaStream_t stream = pare_cuda(a)->stream;
  if (!total) return PARE_OK;
  if (w.rank <= 1)
    return pare_cuda_status(a, cudaMemcpyAsync(a->out[0].data, a->in[0].data, (size_t)total * pare_esize(&a->in[0]),
                                               cudaMemcpyDeviceToDevice, stream));
  int last = 0; /* the axis that is innermost in x */
  while (last < w.rank && w.axis[last].stride[0] != 1) last++;
  return pare_by_size(a, pare_esize(&a->in[0]), [&](auto zero) {
    typedef decltype(zero) E;
    const E *x = (const E *)a->in[0].data;
    E *y = (E *)a->out[0].data;
    if (last == w.rank - 1) { /* runs are moved whole */
      pare_walk_end(&w, total);
      PARE_LAUNCH(take<E>, pare_blocks(a, total, PARE_THREADS), PARE_THREADS, 0, stream, w, total, x, y);
      return pare_launched(a);
    }
    PareAxis row = w.axis[w.rank - 1], col = w.axis[last];
    order_drop(&w, w.rank - 1);
    order_drop(&w, last);
    int64_t outer = total / row.dim / col.dim;
    pare_walk_end(&w, outer);
    int64_t tiles = outer * pare_ceil_div(row.dim, TILE) * pare_ceil_div(col.dim, TILE);
    PARE_LAUNCH(swap<E>, pare_blocks(a, tiles, 1), TILE * TILE_ROWS, 0, stream, w, row.dim, col.dim, row.stride[0],
                col.stride[1], outer, x, y);
    return pare_launched(a);
  });
}

/* --- made from nothing --- */
/* Input 1, where given, is the value; else zeros. */
PareStatus pare_cuda_CONSTANTOFSHAPE(PareKernelArgs *a) {
  if (pare_given(a, 1)) {
    PareTensor scalar = a->in[1];
    scalar.type.rank = 0;
    return pare_cuda_expand(a, &a->out[0], &scalar);
  }
  size_t bytes = (size_t)pare_count(&a->out[0]) * pare_esize(&a->out[0]);
  return bytes ? pare_cuda_status(a, cudaMemsetAsync(a->out[0].data, 0, bytes, pare_cuda(a)->stream)) : PARE_OK;
}

/* y[i] = start + i·delta */
static __global__ void range(int64_t n, int type, const void *start, const void *delta, void *y) {
  PARE_EACH(i, n) {
    if (type == PARE_I64 || type == PARE_I32) {
      uint64_t v = (uint64_t)pare_get_int(start, type, 0) + (uint64_t)i * (uint64_t)pare_get_int(delta, type, 0);
      if (type == PARE_I64) ((int64_t *)y)[i] = (int64_t)v;
      else ((int32_t *)y)[i] = (int32_t)v;
    } else {
      pare_put_float(y, type, i, pare_get_float(start, type, 0) + (double)i * pare_get_float(delta, type, 0));
    }
  }
}
PareStatus pare_cuda_RANGE(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  PareDtype d = a->out[0].type.dtype;
  if (!pare_is_index(&a->out[0]) && d != PARE_F32 && d != PARE_F64 && d != PARE_BF16) return pare_bad_type(a);
  if (!n) return PARE_OK;
  PARE_LAUNCH(range, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, (int)d,
              (const void *)a->in[0].data, (const void *)a->in[2].data, (void *)a->out[0].data);
  return pare_launched(a);
}

struct Numbers {
  int64_t at[PARE_MAX_RANK];
};
static __global__ void write_numbers(Numbers v, int64_t n, int64_t *y) {
  PARE_EACH(i, n) y[i] = v.at[i];
}
static PareStatus give(PareKernelArgs *a, const Numbers &v, int64_t n) {
  if (!n) return PARE_OK;
  PARE_LAUNCH(write_numbers, 1, PARE_WARP, 0, pare_cuda(a)->stream, v, n, (int64_t *)a->out[0].data);
  return pare_launched(a);
}
/* Dims start..end-1 of input 0; the output's length says how many. */
PareStatus pare_cuda_SHAPE(PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int64_t start = a->attr->start, n = pare_count(&a->out[0]);
  start = pare_min(pare_max(start < 0 ? start + t->rank : start, 0), t->rank);
  Numbers v = {};
  for (int64_t i = 0; i < n; i++) v.at[i] = t->dim[start + i];
  return give(a, v, n);
}
PareStatus pare_cuda_SIZE(PareKernelArgs *a) { return give(a, {{pare_count(&a->in[0])}}, 1); }
