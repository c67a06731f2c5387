/* group_sum.cu - GroupSum: out[g] = sum of vec_k over gid_k = g; -1 belongs to no group. SampleSum: the same of each sample's
 * products v·dv along an axis. */
#include "kernels/cuda/rows.cuh"

enum { FEW = 8 }; /* members of a group, on average, that one thread adds up */

struct Groups {
  const void *x, *gid;
  void *y;
  uint32_t *fault;
  int64_t n, groups;
  int type, gtype;
  int sorted; /* numbers never fall and are in range: a group's members stand together */
  int team;   /* threads a group: 1 or a warp */
};

/* The first of the n numbers, sorted, that is not below g. */
static __device__ inline int64_t lower_bound(const void *gid, int type, int64_t n, int64_t g) {
  int64_t lo = 0, hi = n;
  while (lo < hi) {
    int64_t middle = (lo + hi) / 2;
    if (pare_get_int(gid, type, middle) < g) lo = middle + 1;
    else hi = middle;
  }
  return lo;
}
template <class T> static __device__ inline PARE_C sum_sorted(const Groups &r, int64_t g, int lane) {
  PARE_C s = 0;
  int64_t lo = lower_bound(r.gid, r.gtype, r.n, g), hi = lower_bound(r.gid, r.gtype, r.n, g + 1);
  for (int64_t k = lo + lane; k < hi; k += r.team) s += pare_load(((const T *)r.x)[k]);
  return s;
}
/* Reads all numbers. */
template <class T> static __device__ inline PARE_C sum_scattered(const Groups &r, int64_t g, int lane) {
  PARE_C s = 0;
  for (int64_t k = lane; k < r.n; k += r.team) {
    int64_t at = pare_get_int(r.gid, r.gtype, k);
    if (at < -1 || at >= r.groups) *r.fault = PARE_FAULT_GROUP;
    if (at == g) s += pare_load(((const T *)r.x)[k]);
  }
  return s;
}
template <class T> static __device__ inline void sum_groups(const Groups &r, const PareShare &share) {
  int teams = (int)blockDim.x / r.team, lane = (int)threadIdx.x % r.team;
  for (int64_t g = share.block * teams + (int)threadIdx.x / r.team; g < r.groups; g += share.blocks * teams) {
    PARE_C s = r.sorted ? sum_sorted<T>(r, g, lane) : sum_scattered<T>(r, g, lane);
    if (r.team == PARE_WARP) s = pare_warp_sum(s);
    if (lane == 0) ((T *)r.y)[g] = pare_store<T>(s);
  }
}
static __global__ void group_sum(const __grid_constant__ PareTable<Groups> t) {
  PareShare share = pare_share(t);
  const Groups &r = t.at[share.row];
  pare_as_float(r.type, [&](auto zero) { sum_groups<decltype(zero)>(r, share); });
}

/* What the host knows of the numbers. */
static bool is_sorted(const PareKernelArgs *a, int64_t n, int64_t groups) {
  if (!a->known || !a->known[1]) return false;
  int64_t last = -1;
  for (int64_t k = 0; k < n; k++) {
    int64_t g = pare_known_int(a, 1, k);
    if (g < last || g >= groups) return false;
    last = g;
  }
  return true;
}

/* Inputs: vec, gid, like. */
static int64_t groups_row(const PareKernelArgs *a, Groups *r) {
  const PareTensor *in = a->in;
  int64_t n = pare_count(&in[0]), groups = pare_count(&a->out[0]);
  bool sorted = is_sorted(a, n, groups);
  int team = sorted && n < FEW * groups ? 1 : PARE_WARP;
  *r = {in[0].data, in[1].data, a->out[0].data, a->fault, n, groups, (int)in[0].type.dtype, (int)in[1].type.dtype,
        sorted, team};
  return groups ? pare_blocks(a, groups, PARE_THREADS / team) : 0;
}
PareStatus pare_cuda_many_GROUPSUM(PareKernelArgs *const *a, int n) {
  for (int i = 0; i < n; i++)
    if (!pare_is_index(&a[i]->in[1]) || !pare_is_float(&a[i]->in[0])) return pare_bad_type(a[i]);
  return pare_each_table<Groups>(
      n, [&](int64_t i, Groups *r) { return groups_row(a[i], r); },
      [&](const PareTable<Groups> &t, int64_t blocks) {
        PARE_LAUNCH(group_sum, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_GROUPSUM(PareKernelArgs *a) { return pare_cuda_many_GROUPSUM(&a, 1); }

/* --- SampleSum --- */
struct Samples {
  int64_t samples, rows, run, k, rest, groups; /* v [rows, k, rest]; `run` rows one after another are of one sample */
};

/* part[i, j] = sum of v·dv of sample i over what stands before and behind place j of the axis: a warp each. */
template <class T> static __global__ void sum_places(Samples s, const T *v, const T *dv, PARE_C *part) {
  int64_t warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP, lane = threadIdx.x % PARE_WARP;
  int64_t turns = (s.rows + s.run * s.samples - 1) / (s.run * s.samples); /* the last of which may lack samples */
  int64_t each = turns * s.run * s.rest;                                   /* numbers of a sample at a place */
  for (int64_t p = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; p < s.samples * s.k; p += warps) {
    int64_t i = p / s.k, j = p % s.k;
    PARE_C sum = 0;
    for (int64_t e = lane; e < each; e += PARE_WARP) {
      int64_t nth = e / s.rest, row = (nth / s.run * s.samples + i) * s.run + nth % s.run;
      int64_t at = (row * s.k + j) * s.rest + e % s.rest;
      if (row >= s.rows) continue;
      sum += pare_load(v[at]) * pare_load(dv[at]);
    }
    sum = pare_warp_sum(sum);
    if (lane == 0) part[p] = sum;
  }
}
/* out[i, g] = sum of part[i, j] over gid_j = g: a warp each. */
template <class T>
static __global__ void sum_members(Samples s, const PARE_C *part, const void *gid, int type, T *out, uint32_t *fault) {
  int64_t warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP, lane = threadIdx.x % PARE_WARP;
  for (int64_t p = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; p < s.samples * s.groups; p += warps) {
    int64_t i = p / s.groups, g = p % s.groups;
    PARE_C sum = 0;
    for (int64_t j = lane; j < s.k; j += PARE_WARP) {
      int64_t at = pare_get_int(gid, type, j);
      if (at < -1 || at >= s.groups) *fault = PARE_FAULT_GROUP;
      if (at == g) sum += part[i * s.k + j];
    }
    sum = pare_warp_sum(sum);
    if (lane == 0) out[p] = pare_store<T>(sum);
  }
}
static Samples samples_of(const PareKernelArgs *a) {
  const PareType *t = &a->in[0].type;
  int axis = pare_axis(a->attr->axis, t->rank);
  return {a->out[0].type.dim[0], pare_span(t, 0, axis), (int64_t)pare_attr_get(a->attr, block_size, 1), t->dim[axis],
          pare_span(t, axis + 1, t->rank), a->out[0].type.dim[1]};
}
PareStatus pare_cuda_plan_SAMPLESUM(PareKernelArgs *a) {
  Samples s = samples_of(a);
  a->workspace_bytes = (size_t)(s.samples * s.k) * sizeof(double);
  return PARE_OK;
}
/* Inputs: v, dv, gid, like. Output [samples, groups]. */
PareStatus pare_cuda_SAMPLESUM(PareKernelArgs *a) {
  Samples s = samples_of(a);
  cudaStream_t stream = pare_cuda(a)->stream;
  enum { WARPS = PARE_THREADS / PARE_WARP };
  if (!pare_is_index(&a->in[2])) return pare_bad_type(a);
  if (!s.samples) return PARE_OK;
  return pare_by_float(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    typedef PARE_C C;
    C *part = (C *)a->workspace;
    if (s.k)
      PARE_LAUNCH(sum_places<T>, pare_blocks(a, s.samples * s.k, WARPS), PARE_THREADS, 0, stream, s,
                  (const T *)a->in[0].data, (const T *)a->in[1].data, part);
    if (s.groups)
      PARE_LAUNCH(sum_members<T>, pare_blocks(a, s.samples * s.groups, WARPS), PARE_THREADS, 0, stream, s,
                  (const C *)part, (const void *)a->in[2].data, (int)a->in[2].type.dtype, (T *)a->out[0].data, a->fault);
    return pare_launched(a);
  });
}
