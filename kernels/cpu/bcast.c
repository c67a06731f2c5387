/* bcast.c - walks the elements of an output together with inputs that are
 * broadcast to its shape, in runs that are contiguous in all of them. Same
 * shape, a scalar, a trailing vector and a column all become runs. */
#include "kernels/cpu/cpu.h"

enum { MAX_IN = 3, RUN = 1 << 14 };

/* Axes that all operands walk alike are merged; what is left of the innermost is the run. */
typedef struct Walk {
  int nin, rank; /* rank: axes outside of the run */
  int64_t dim[PARE_MAX_RANK], stride[MAX_IN][PARE_MAX_RANK]; /* in elements; 0: broadcast */
  int64_t inner;
  bool step[MAX_IN];
  size_t out_size, in_size[MAX_IN];
} Walk;

/* Input's stride along out's axis i. */
static int64_t stride_of(const PareType *x, const PareType *out, int i) {
  int k = i - (out->rank - x->rank);
  return k < 0 || x->dim[k] == 1 ? 0 : pare_span(x, k + 1, x->rank);
}

static bool mergeable(const Walk *w, const int64_t *stride, int64_t dim) {
  for (int j = 0; j < w->nin; j++)
    if (w->stride[j][w->rank - 1] != stride[j] * dim) return false;
  return true;
}

static void walk_init(Walk *w, const PareTensor *out, int nin, const PareTensor *in) {
  *w = (Walk){.nin = nin, .inner = 1, .out_size = pare_esize(out)};
  for (int i = 0; i < out->type.rank; i++) {
    int64_t d = out->type.dim[i], s[MAX_IN] = {0};
    if (d == 1) continue;
    for (int j = 0; j < nin; j++) s[j] = stride_of(&in[j].type, &out->type, i);
    if (w->rank && mergeable(w, s, d)) w->dim[w->rank - 1] *= d;
    else w->dim[w->rank++] = d;
    for (int j = 0; j < nin; j++) w->stride[j][w->rank - 1] = s[j];
  }
  if (w->rank) w->inner = w->dim[--w->rank];
  for (int j = 0; j < nin; j++) {
    w->in_size[j] = pare_esize(&in[j]);
    w->step[j] = w->stride[j][w->rank] != 0;
  }
}

/* Rows lo..hi-1, elements at..at+n-1 of each. */
static void walk_rows(const Walk *w, const PareTensor *out, const PareTensor *in, int64_t lo, int64_t hi, int64_t at,
                      int64_t n, PareRowFn *fn, const void *arg) {
  int64_t idx[PARE_MAX_RANK] = {0}, off[MAX_IN] = {0}, rest = lo;
  for (int i = w->rank - 1; i >= 0; i--) {
    idx[i] = rest % w->dim[i];
    rest /= w->dim[i];
    for (int j = 0; j < w->nin; j++) off[j] += idx[i] * w->stride[j][i];
  }
  for (int64_t row = lo; row < hi; row++) {
    const void *x[MAX_IN] = {0};
    for (int j = 0; j < w->nin; j++)
      x[j] = (const char *)in[j].data + (size_t)(off[j] + (w->step[j] ? at : 0)) * w->in_size[j];
    fn(n, (char *)out->data + (size_t)(row * w->inner + at) * w->out_size, x, w->step, arg);
    for (int i = w->rank - 1; i >= 0; i--) {
      for (int j = 0; j < w->nin; j++) off[j] += w->stride[j][i];
      if (++idx[i] < w->dim[i]) break;
      idx[i] = 0;
      for (int j = 0; j < w->nin; j++) off[j] -= w->stride[j][i] * w->dim[i];
    }
  }
}

void PARE_CPU(rows)(const PareTensor *out, int nin, const PareTensor *in, PareRowFn *fn, const void *arg) {
  Walk w;
  walk_init(&w, out, nin, in);
  int64_t total = pare_count(out), rows = w.inner ? total / w.inner : 0;
  if (!total) return;
  int64_t pieces = pare_ceil_div(w.inner, RUN), group = w.inner >= RUN ? 1 : RUN / w.inner;
  int64_t groups = pare_ceil_div(rows, group);
#pragma omp parallel for collapse(2) schedule(static) if (pare_threaded(total))
  for (int64_t g = 0; g < groups; g++)
    for (int64_t p = 0; p < pieces; p++)
      walk_rows(&w, out, in, g * group, pare_min_i64(rows, (g + 1) * group), p * RUN,
                pare_min_i64(RUN, w.inner - p * RUN), fn, arg);
}
