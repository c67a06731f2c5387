/* walk.cu - how an output's positions become elements of operands that are broadcast or strided; Expand. */
#include "kernels/cuda/cuda.cuh"

void pare_walk_add(PareWalk *w, int64_t dim, const int64_t stride[PARE_OPERANDS]) {
  if (dim == 1) return;
  PareAxis *last = w->rank ? &w->axis[w->rank - 1] : NULL;
  bool merge = last != NULL;
  for (int j = 0; merge && j < PARE_OPERANDS; j++) merge = last->stride[j] == stride[j] * dim;
  if (!merge) last = &w->axis[w->rank++], last->dim = 1;
  last->dim *= dim;
  for (int j = 0; j < PARE_OPERANDS; j++) last->stride[j] = stride[j];
}

/* q = (mulhi(factor, n) + n) >> shift, with 2^shift the least power not below dim. */
void pare_walk_end(PareWalk *w, int64_t n) {
  w->small = n < (int64_t)1 << 31;
  for (int i = 0; w->small && i < w->rank; i++) {
    PareAxis *x = &w->axis[i];
    uint64_t d = (uint64_t)x->dim;
    if (d == 0) continue; /* there are no positions */
    x->shift = 0;
    while ((uint64_t)1 << x->shift < d) x->shift++;
    x->factor = (uint32_t)((((uint64_t)1 << 32) * (((uint64_t)1 << x->shift) - d)) / d + 1);
  }
}

PareWalk pare_walk_broadcast(const PareTensor *out, int n, const PareTensor *in) {
  PareWalk w = {};
  for (int i = 0; i < out->type.rank; i++) {
    int64_t stride[PARE_OPERANDS] = {0};
    for (int j = 0; j < n; j++) {
      const PareType *x = &in[j].type;
      int k = i - (out->type.rank - x->rank);
      stride[j] = k < 0 || x->dim[k] == 1 ? 0 : pare_span(x, k + 1, x->rank);
    }
    pare_walk_add(&w, out->type.dim[i], stride);
  }
  pare_walk_end(&w, pare_count(out));
  return w;
}

template <class E> static __global__ void expand(PareWalk w, int64_t n, const E *x, E *z) {
  PARE_EACH(i, n) {
    int64_t off[1] = {0};
    pare_walk_at<1>(w, i, off);
    z[i] = x[off[0]];
  }
}

PareStatus pare_cuda_expand(PareKernelArgs *a, const PareTensor *out, const PareTensor *x) {
  int64_t n = pare_count(out);
  if (!n) return PARE_OK;
  PareWalk w = pare_walk_broadcast(out, 1, x);
  return pare_by_size(a, pare_esize(out), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(expand<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const E *)x->data, (E *)out->data);
    return pare_launched(a);
  });
}

PareStatus pare_cuda_EXPAND(PareKernelArgs *a) { return pare_cuda_expand(a, &a->out[0], &a->in[0]); }
