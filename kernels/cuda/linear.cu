/* linear.cu - Linear and LinearGrad: y = x·W' + bias, W' = m∘(W + s·A·B), m on W's rows. Where W is not W' in x's type
 * already, it is made so each time (merge.cu): one pass over W, where the branch (x·A)·B would cost r·M·(K+N), M rows.
 *
 * The gradients of A and B: with U = x·(m∘A) and V = s·dy·B', dA = m∘(x'·V) and dB = s·U'·dy. In bf16 lora.cu has
 * them, where the sizes fit. Here is the general way: x and dy are read twice; sums over the rows are by parts, which
 * depend on the sizes alone. */
#include "kernels/cuda/cuda.cuh"

enum { X, W, BIAS = 2, DY = 2, A, B, MASK, ADDED, H, MADE = 3, GROUP = 8, ROWS = 4, COLUMNS = 128, MAX_PARTS = 64 };

struct Linear {
  int64_t m, k, n, r, parts;
  int transposed; /* W is stored [n, k] */
  double scale;
};

static Linear linear_of(const PareKernelArgs *a) {
  const PareType *x = &a->in[X].type, *w = &a->in[W].type;
  bool t = a->attr->transB;
  Linear l = {};
  l.m = pare_span(x, 0, x->rank - 1), l.k = w->dim[t], l.n = w->dim[!t];
  l.r = pare_given(a, A) ? a->in[A].type.dim[1] : 0;
  l.parts = pare_max(1, pare_min(MAX_PARTS, l.m / 64));
  l.transposed = t;
  l.scale = pare_attr_get(a->attr, scale, 1.0);
  return l;
}

static const void *data_of(const PareKernelArgs *a, int i) { return pare_given(a, i) ? a->in[i].data : NULL; }

/* Nothing is to be merged into W; it can be multiplied as it is. */
static bool is_merged(const PareKernelArgs *a) { return a->attr->merged || !(pare_given(a, A) || pare_given(a, MASK)); }
static bool is_ready(const PareKernelArgs *a) { return is_merged(a) && a->in[W].type.dtype == a->in[X].type.dtype; }

/* *out is W', in the workspace where W is not; and bias_out what is given of a bias, in x's type. */
static PareStatus weight(PareKernelArgs *a, const Linear *l, const PareTensor *bias, void *bias_out, const void **out) {
  PareMerge m = {l->k, l->n, l->r, l->transposed, l->scale, a->in[W].data, data_of(a, A), data_of(a, B), data_of(a, MASK),
                 bias ? bias->data : NULL, a->in[X].type.dtype, a->workspace, bias_out};
  *out = is_ready(a) ? m.w : m.out;
  if (is_ready(a)) return bias ? pare_cuda_cast(a, l->n, bias->type.dtype, bias->data, m.to, bias_out) : PARE_OK;
  if (is_merged(a)) m.a = m.b = m.mask = NULL, m.r = 0;
  return pare_cuda_merge(a, &m);
}

/* The gradients of A and B as lora.cu has them; false where it has not. */
static bool lora_of(const PareKernelArgs *a, const Linear *l, PareLora *o) {
  if (!l->r || a->in[X].type.dtype != PARE_BF16) return false;
  *o = {};
  o->m = l->m, o->k = l->k, o->n = l->n, o->r = l->r, o->scale = l->scale;
  o->x = (const PareBf16 *)a->in[X].data, o->dy = (const PareBf16 *)a->in[DY].data;
  o->a = (const float *)a->in[A].data, o->b = (const float *)a->in[B].data, o->mask = (const float *)data_of(a, MASK);
  if (pare_wanted(a, 1)) o->da = (float *)a->out[1].data;
  if (pare_wanted(a, 2)) o->db = (float *)a->out[2].data;
  o->gelu = (PareGeluKind)a->attr->act;
  if (pare_given(a, H)) {
    o->slope = a->attr->approximate ? PARE_GELU_TANH : PARE_GELU_ERF;
    o->h = (const PareBf16 *)a->in[H].data, o->made = (PareBf16 *)a->out[MADE].data;
  }
  return pare_cuda_lora_fits(a, o);
}

/* --- workspace: [W', unless W is][bias in x's type][lora.cu's, or U, V, sums and x, where it is made] --- */
struct Space {
  size_t bias, u, v, sums, x, bytes; /* where they begin */
};
static Space space_of(const PareKernelArgs *a, const Linear *l, bool backward) {
  PareDtype d = a->in[X].type.dtype;
  size_t c = d == PARE_F64 ? sizeof(double) : sizeof(float);
  Space s = {};
  PareLora lora;
  s.bias = is_ready(a) ? 0 : pare_part_bytes((size_t)(l->k * l->n) * pare_dtype_size(d));
  s.u = s.bias + pare_part_bytes((size_t)l->n * pare_dtype_size(d));
  s.bytes = s.u;
  if (!backward || !l->r) return s;
  if (lora_of(a, l, &lora)) return s.bytes += pare_cuda_lora_bytes(a, &lora), s;
  s.v = s.u + pare_part_bytes((size_t)(l->m * l->r) * c);
  s.sums = s.v + pare_part_bytes((size_t)(l->m * l->r) * c);
  s.x = s.sums + pare_part_bytes((size_t)(l->parts * l->r * pare_max(l->k, l->n)) * c);
  s.bytes = s.x + (a->attr->act ? pare_part_bytes((size_t)(l->m * l->k) * pare_dtype_size(d)) : 0);
  return s;
}

void pare_cuda_release_LINEAR(void *state) { pare_gemm_free((PareGemm *)state); }

/* out[m, to] = in[m, from]·W' or its transpose [+ bias] [+ what is added] */
static PareStatus plan_product(PareKernelArgs *a, const Linear *l, bool backward) {
  PareGemmSpec s = {};
  PareGemm *made;
  s.m = l->m, s.k = backward ? l->n : l->k, s.n = backward ? l->k : l->n;
  s.in = s.out = a->in[X].type.dtype;
  s.tb = l->transposed != backward;
  s.lda = s.k, s.ldb = s.tb ? s.k : s.n, s.ldc = s.n;
  s.batch = 1, s.alpha = 1, s.bias = !backward && pare_given(a, BIAS);
  s.beta = backward && pare_given(a, ADDED);
  if (s.in != PARE_F32 && s.in != PARE_F64 && s.in != PARE_BF16) return pare_bad_type(a);
  PARE_TRY(pare_gemm_new(a, &s, &made));
  a->state = made;
  return PARE_OK;
}
PareStatus pare_cuda_plan_LINEAR(PareKernelArgs *a) {
  Linear l = linear_of(a);
  a->workspace_bytes = space_of(a, &l, false).bytes;
  return plan_product(a, &l, false);
}
PareStatus pare_cuda_plan_LINEARGRAD(PareKernelArgs *a) {
  enum { ROW_SUMS = 4 };
  if (a->nout > ROW_SUMS && a->out[ROW_SUMS].type.rank) {
    a->why = "a GPU scores weights by themselves";
    return PARE_UNSUPPORTED;
  }
  Linear l = linear_of(a);
  a->workspace_bytes = space_of(a, &l, true).bytes;
  return pare_wanted(a, 0) ? plan_product(a, &l, true) : PARE_OK;
}

/* Inputs: x, W, bias, A, B, mask. */
PareStatus pare_cuda_LINEAR(PareKernelArgs *a) {
  Linear l = linear_of(a);
  const void *w, *bias = data_of(a, BIAS);
  void *cast = (char *)a->workspace + space_of(a, &l, false).bias, *y = a->out[0].data;
  bool other = bias && a->in[BIAS].type.dtype != a->in[X].type.dtype;
  PARE_TRY(weight(a, &l, other ? &a->in[BIAS] : NULL, cast, &w));
  return pare_gemm_run(a, (PareGemm *)a->state, a->in[X].data, w, other ? cast : bias, y, y);
}

/* --- the gradients of A and B --- */

/* u[i][t] = scale·sum over k of x[i][k]·f[k·fs + t·ft]·mask[k]; a warp has ROWS rows, and GROUP ranks at a time. */
template <class T>
static __global__ void project(int64_t m, int64_t width, int64_t r, double scale, const T *x, const PARE_C *f,
                               int64_t fs, int64_t ft, const PARE_C *mask, PARE_C *u) {
  int lane = (int)threadIdx.x % PARE_WARP;
  int64_t warps = (int64_t)gridDim.x * blockDim.x / PARE_WARP;
  for (int64_t b = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / PARE_WARP; b * ROWS < m; b += warps)
    for (int64_t t0 = 0; t0 < r; t0 += GROUP) {
      PARE_C sum[ROWS][GROUP] = {};
      for (int64_t k = lane; k < width; k += PARE_WARP) {
        PARE_C at[GROUP], by = mask ? mask[k] : 1;
        for (int t = 0; t < GROUP; t++) at[t] = t0 + t < r ? by * f[k * fs + (t0 + t) * ft] : 0;
        for (int i = 0; i < ROWS; i++) {
          PARE_C v = b * ROWS + i < m ? pare_load(x[(b * ROWS + i) * width + k]) : 0;
          for (int t = 0; t < GROUP; t++) sum[i][t] += v * at[t];
        }
      }
      for (int i = 0; i < ROWS; i++)
        for (int t = 0; t < GROUP; t++) {
          PARE_C s = pare_warp_sum(sum[i][t]);
          if (lane == 0 && b * ROWS + i < m && t0 + t < r) u[(b * ROWS + i) * r + t0 + t] = (PARE_C)scale * s;
        }
    }
}
/* sums[part][t][j] = sum over the part's rows i of v[i][t]·x[i][j]; a thread has a column and GROUP ranks. */
template <class T>
static __global__ void collect(int64_t m, int64_t width, int64_t r, int64_t parts, const T *x, const PARE_C *v,
                               PARE_C *sums) {
  int64_t tiles = (width + COLUMNS - 1) / COLUMNS, groups = (r + GROUP - 1) / GROUP;
  for (int64_t b = blockIdx.x; b < tiles * groups * parts; b += gridDim.x) {
    int64_t j = b % tiles * COLUMNS + threadIdx.x, t0 = b / tiles % groups * GROUP, p = b / (tiles * groups);
    int64_t lo = m / parts * p, hi = p + 1 == parts ? m : lo + m / parts;
    if (j >= width) continue;
    PARE_C sum[GROUP] = {};
    for (int64_t i = lo; i < hi; i++) {
      PARE_C at = pare_load(x[i * width + j]);
      for (int t = 0; t < GROUP; t++)
        if (t0 + t < r) sum[t] += v[i * r + t0 + t] * at;
    }
    for (int t = 0; t < GROUP; t++)
      if (t0 + t < r) sums[(p * r + t0 + t) * width + j] = sum[t];
  }
}
/* d[j·ds + t·dt] = mask[j]·sum of sums[part][t][j] */
template <class C>
static __global__ void gather_parts(int64_t width, int64_t r, int64_t parts, const C *sums, const C *mask, int64_t ds,
                                    int64_t dt, C *d) {
  PARE_EACH(i, width * r) {
    int64_t t = i / width, j = i % width;
    C s = 0;
    for (int64_t p = 0; p < parts; p++) s += sums[(p * r + t) * width + j];
    d[j * ds + t * dt] = mask ? s * mask[j] : s;
  }
}

template <class T>
static PareStatus project_run(PareKernelArgs *a, const Linear *l, const T *x, int64_t width, const PARE_C *f, int64_t fs,
                              int64_t ft, const PARE_C *mask, PARE_C *u) {
  PARE_LAUNCH(project<T>, pare_blocks(a, l->m, ROWS * PARE_THREADS / PARE_WARP), PARE_THREADS, 0, pare_cuda(a)->stream,
              l->m, width, l->r, l->scale, x, f, fs, ft, mask, u);
  return pare_launched(a);
}
template <class T>
static PareStatus collect_run(PareKernelArgs *a, const Linear *l, const T *x, int64_t width, const PARE_C *v,
                              const PARE_C *mask, int64_t ds, int64_t dt, PARE_C *sums, PARE_C *d) {
  typedef PARE_C C;
  cudaStream_t stream = pare_cuda(a)->stream;
  int64_t blocks = pare_ceil_div(width, COLUMNS) * pare_ceil_div(l->r, GROUP) * l->parts;
  if (!blocks) return PARE_OK;
  PARE_LAUNCH(collect<T>, pare_blocks(a, blocks, 1), COLUMNS, 0, stream, l->m, width, l->r, l->parts, x, v, sums);
  PARE_LAUNCH(gather_parts<C>, pare_blocks(a, width * l->r, COLUMNS), COLUMNS, 0, stream, width, l->r, l->parts,
              (const C *)sums, mask, ds, dt, d);
  return pare_launched(a);
}

/* Input i to `to`: gelu of it or, of h, dy·gelu'(h). */
static PareStatus make(PareKernelArgs *a, int i, bool tanh, void *to) {
  PareTensor in[] = {a->in[i], a->in[DY]}, out = {to, a->in[i].type};
  PareAttrs attr = {};
  PareKernelArgs own = *a;
  pare_attr_set(&attr, approximate, tanh);
  own.in = in, own.nin = i == H ? 2 : 1, own.out = &out, own.nout = 1, own.attr = &attr;
  PareStatus s = i == H ? pare_cuda_GELUGRAD(&own) : pare_cuda_GELU(&own);
  a->why = own.why;
  return s;
}

/* What lora.cu does not fit. */
template <class T> static PareStatus lora_grad(PareKernelArgs *a, const Linear *l, const T *dy) {
  typedef PARE_C C;
  Space s = space_of(a, l, true);
  char *work = (char *)a->workspace;
  C *u = (C *)(void *)(work + s.u), *v = (C *)(void *)(work + s.v), *sums = (C *)(void *)(work + s.sums);
  const C *mask = (const C *)data_of(a, MASK);
  const T *x = (const T *)a->in[X].data;
  if (a->attr->act) {
    PARE_TRY(make(a, X, a->attr->act == PARE_GELU_TANH, work + s.x));
    x = (const T *)(void *)(work + s.x);
  }
  if (pare_wanted(a, 1)) {
    PARE_TRY(project_run(a, l, dy, l->n, (const C *)a->in[B].data, 1, l->n, (const C *)NULL, v));
    PARE_TRY(collect_run(a, l, x, l->k, (const C *)v, mask, l->r, 1, sums, (C *)a->out[1].data));
  }
  if (pare_wanted(a, 2)) {
    PARE_TRY(project_run(a, l, x, l->k, (const C *)a->in[A].data, l->r, 1, mask, u));
    PARE_TRY(collect_run(a, l, dy, l->n, (const C *)u, (const C *)NULL, 1, l->n, sums, (C *)a->out[2].data));
  }
  return PARE_OK;
}

/* Inputs: x, W, dy, A, B, mask, what is added to dx (it may be dx), h. Outputs: dx, dA, dB, each if wanted; with h, what
 * is dy then, dy·gelu'(h). */
PareStatus pare_cuda_LINEARGRAD(PareKernelArgs *a) {
  Linear l = linear_of(a);
  PareDtype d = a->in[X].type.dtype;
  PareLora lora;
  bool wanted = l.r && (pare_wanted(a, 1) || pare_wanted(a, 2)), fast = wanted && lora_of(a, &l, &lora);
  void *dy = pare_given(a, H) ? a->out[MADE].data : a->in[DY].data;
  if (fast) PARE_TRY(pare_cuda_lora_grad(a, &lora, (char *)a->workspace + space_of(a, &l, true).u));
  else if (pare_given(a, H)) PARE_TRY(make(a, H, a->attr->approximate, dy));
  if (wanted && !fast)
    PARE_TRY(pare_by_float(a, d, [&](auto zero) {
      return lora_grad<decltype(zero)>(a, &l, (const decltype(zero) *)dy);
    }));
  if (!pare_wanted(a, 0)) return PARE_OK;
  const void *w;
  PARE_TRY(weight(a, &l, NULL, NULL, &w));
  return pare_gemm_run(a, (PareGemm *)a->state, dy, w, NULL, data_of(a, ADDED), a->out[0].data);
}
