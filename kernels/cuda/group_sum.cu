/* group_sum.cu - GroupSum: out[g] = sum of vec_k over gid_k = g; -1 belongs to no group. */
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
