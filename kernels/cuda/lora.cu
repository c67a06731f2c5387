/* lora.cu - the gradients of A and B of y = x·m∘(W + s·A·B) on the tensor cores, x and dy in bf16 and read once: with
 * U = s·x·(m∘A) and V = s·dy·B', dA = m∘(x'·V) and dB = U'·dy. m∘A, B, U and V are rounded to bf16, sums are f32.
 *
 * A block stays for the whole launch and takes every so-many-th block of ROWS rows. Its warps share the columns of x
 * and dy: each has up to PANELS panels of WIDTH columns of one of them, the matching part of the factor (m∘A or B) and
 * of the sums (dA or dB) in registers, and a ring of SLOTS panels of rows in shared memory, which it alone fills and
 * reads: two barriers a block of rows are enough, between which the warps' shares of U and V are added, in their order.
 * A panel's place goes to a panel of a later block of rows as soon as it has been used. Each block leaves its sums in
 * the workspace, and a second kernel adds those in the order of the blocks: the same bytes on the same device.
 *
 * x may be gelu(h) of a given h, and dy a given gradient times gelu'(h): each lane then makes of the pieces that it
 * brought, where they are, what Gelu and GeluGrad make of them. */
#include "kernels/cuda/gelu.cuh"

enum {
  ROWS = 16,  /* of an mma */
  WIDTH = 64, /* columns of a panel */
  PIECE = 8,  /* numbers that are copied at once */
  STEPS = WIDTH / 16,
  RANKS = 8, /* of an mma */
  WARPS = 16,
  SCHEDULERS = 4,
  THREADS = WARPS * PARE_WARP,
  SLOTS = 6,
  AHEAD = 2, /* of them for panels of h, where dy is made */
  PANEL_BYTES = ROWS * WIDTH * 2,
  SHARE = ROWS * RANKS, /* numbers of a warp's share of U or V */
  FEW = 2,              /* panels a warp */
  MANY = 4,
  MAX_ROWS = 1 << 30,
  MAX_RANK = 1 << 16,
  ADDERS = 8, /* threads that share the parts of one sum */
  BATCH = 20  /* parts that a thread sends for at once: all of its own on up to 160 processors */
};

/* x or dy, its factor and the gradient. */
struct Side {
  const PareBf16 *data; /* [m, width] */
  const float *factor;  /* element (column, rank) at column·fs + rank·ft */
  float *grad;          /* the same at column·gs + rank·gt; NULL: not wanted */
  int64_t fs, ft, gs, gt;
  const float *mask; /* by column; NULL: ones */
  int width, panels, warps;
  PareGeluKind gelu;  /* data is not yet what is multiplied: that is gelu(data), or, */
  const PareBf16 *h;  /* where given, data·gelu'(h), */
  PareBf16 *made;     /* which goes here too: it may be data */
};
struct Lora {
  Side side[2]; /* x's warps come first */
  int m, r, first; /* rows; ranks; this launch's first rank */
  float scale;
};

static int panels_of(int64_t width) { return (int)pare_ceil_div(width, WIDTH); }

/* Warps for x, in proportion to its panels, where each has at most `panels`: so many for each of the processor's
 * SCHEDULERS, between which warps go round, if they can be; 0: there are not enough. */
static int split(int x, int dy, int panels) {
  int least = (int)pare_ceil_div(x, panels), most = WARPS - (int)pare_ceil_div(dy, panels);
  if (least > most) return 0;
  int even = (WARPS / SCHEDULERS * x + (x + dy) / 2) / (x + dy) * SCHEDULERS;
  if (even >= least && even <= most) return even;
  return (int)pare_max(least, pare_min(most, (WARPS * x + (x + dy) / 2) / (x + dy)));
}
static int panels_for(const PareLora *l) {
  if (pare_min(l->k, l->n) < 1 || pare_max(l->k, l->n) > WARPS * MANY * WIDTH) return 0;
  int x = panels_of(l->k), dy = panels_of(l->n);
  return split(x, dy, FEW) ? (int)FEW : split(x, dy, MANY) ? (int)MANY : 0;
}
/* Groups of RANKS at a time: what the registers hold. */
static int groups_for(const PareLora *l) { return panels_for(l) == FEW && l->r > RANKS ? 2 : 1; }
static size_t shared_bytes(int groups) {
  return WARPS * SLOTS * PANEL_BYTES + (size_t)groups * SHARE * (WARPS * sizeof(float) + 2 * sizeof(PareBf16));
}
static int64_t parts_of(const PareKernelArgs *a, const PareLora *l) {
  return pare_max(1, pare_min(pare_cuda(a)->processors, pare_ceil_div(l->m, ROWS)));
}

bool pare_cuda_lora_fits(const PareKernelArgs *a, const PareLora *l) {
  bool small = panels_for(l) && l->m <= MAX_ROWS && l->r <= MAX_RANK;
  return small && shared_bytes(groups_for(l)) <= (size_t)pare_cuda(a)->shared;
}
size_t pare_cuda_lora_bytes(const PareKernelArgs *a, const PareLora *l) {
  return (size_t)(parts_of(a, l) * (l->k + l->n) * groups_for(l) * RANKS) * sizeof(float);
}

/* --- a warp's panels --- */

struct Warp {
  int panels, column;  /* of the side that it has; the first one's */
  int slots;           /* panels of the ring; behind them, where dy is made, is that of h */
  unsigned char *ring;
  /* Of the lane: row, column and place of the first piece that it brings; the places of its rows for ldmatrix. */
  int row, first, to, along, across;
};
/* Where a piece is in its panel: shuffled in each row, against bank conflicts. */
static __device__ inline int place(int row, int piece) { return (row * PIECE + (piece ^ row % PIECE)) * PIECE * 2; }
/* The place of the piece whose number, or whose row's, differs in these bits of the lowest three. */
static __device__ inline int flip(int place, int bits) { return place ^ bits * PIECE * 2; }

static __device__ inline Warp warp_of(const Side &s, int mine, unsigned char *ring) {
  int lane = (int)threadIdx.x % PARE_WARP, from = mine * s.panels / s.warps, to = (mine + 1) * s.panels / s.warps;
  Warp w = {};
  w.panels = to - from, w.column = from * WIDTH, w.slots = SLOTS, w.ring = ring;
  w.row = lane / PIECE, w.first = w.column + lane % PIECE * PIECE, w.to = place(w.row, lane % PIECE);
  w.along = place(lane % 16, lane / 16), w.across = place(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  return w;
}

/* A piece by single numbers. */
static __device__ inline void fill_piece(const PareBf16 *from, int count, void *to) {
  ParePack<PareBf16> v = {};
  for (int i = 0; i < PIECE; i++)
    if (i < count) v.at[i] = from[i];
  *(ParePack<PareBf16> *)to = v;
}
/* The place in a panel of piece i that the lane brings: the lanes have 4 rows at once. */
static __device__ inline int brought(const Warp &w, int i) { return flip(w.to, i % 2 * 4) + i * 4 * WIDTH * 2; }
/* Panel p of the rows that begin at `row` on its way into the ring, zeros where there are none; a group of copies. */
template <bool PIECES>
static __device__ inline void fetch(const PareBf16 *data, int width, int m, const Warp &w, int row, int p, int slot) {
  if (p < w.panels && row < m) {
    int column = w.first + p * WIDTH;
    const PareBf16 *from = data + (int64_t)(row + w.row) * width + column;
    PARE_UNROLL
    for (int i = 0; i < ROWS / 4; i++, from += 4 * width) {
      unsigned char *to = w.ring + slot * PANEL_BYTES + brought(w, i);
      bool there = row + w.row + 4 * i < m && column < width;
      if (PIECES) pare_copy(to, there ? from : data, there);
      else fill_piece(from, there ? width - column : 0, to);
    }
  }
  pare_copy_commit();
}
static __device__ inline int next(const Warp &w, int slot, int by) {
  return slot + by < w.slots ? slot + by : slot + by - w.slots;
}

/* --- x and dy that are made --- */

struct alignas(16) Piece {
  uint32_t pair[PIECE / 2];
};
template <class F> static __device__ inline void activate(Piece *x) {
  PARE_UNROLL
  for (int i = 0; i < PIECE / 2; i++) x->pair[i] = pare_pack2(F::of(pare_low(x->pair[i])), F::of(pare_high(x->pair[i])));
}
template <class F> static __device__ inline void slope(const Piece &h, Piece *dy) {
  PARE_UNROLL
  for (int i = 0; i < PIECE / 2; i++)
    dy->pair[i] = pare_pack2(F::of(pare_low(h.pair[i]), pare_low(dy->pair[i])),
                             F::of(pare_high(h.pair[i]), pare_high(dy->pair[i])));
}

/* The first `count` numbers of a piece that is there, one by one. */
static __device__ inline void write_piece(const Piece &v, int count, PareBf16 *to) {
  ParePack<PareBf16> each = *(const ParePack<PareBf16> *)(const void *)&v;
  for (int i = 0; i < PIECE; i++)
    if (i < count) to[i] = each.at[i];
}
/* Of panel p, which is in slot `slot` of rows from `row` on, what the lane brought, and of h what is in slot `held`. */
template <bool PIECES>
static __device__ inline void make_panel(const Side &s, int m, const Warp &w, int row, int p, int slot, int held) {
  int column = w.first + p * WIDTH;
  PARE_ROLL
  for (int i = 0; i < ROWS / 4; i++) {
    Piece *at = (Piece *)(void *)(w.ring + slot * PANEL_BYTES + brought(w, i)), v = *at;
    if (!s.h) {
      if (s.gelu == PARE_GELU_ERF) activate<GELU_ERF_LOW>(&v);
      else activate<GELU_TANH_LOW>(&v);
      *at = v;
      continue;
    }
    Piece h = *(const Piece *)(const void *)(w.ring + held * PANEL_BYTES + brought(w, i));
    if (s.gelu == PARE_GELU_ERF) slope<GELUGRAD_ERF_LOW>(h, &v);
    else slope<GELUGRAD_TANH_LOW>(h, &v);
    *at = v;
    int64_t r = row + w.row + 4 * i;
    if (r >= m || column >= s.width) continue;
    PareBf16 *to = s.made + r * s.width + column;
    if (PIECES) *(Piece *)(void *)to = v;
    else write_piece(v, s.width - column, to);
  }
}

/* Waits for all of the thread's copies but the last `left`, fewer than SLOTS. */
static __device__ inline void wait_but(int left) {
  if (left == 0) pare_copy_wait<0>();
  else if (left == 1) pare_copy_wait<1>();
  else if (left == 2) pare_copy_wait<2>();
  else if (left == 3) pare_copy_wait<3>();
  else if (left == 4) pare_copy_wait<4>();
  else pare_copy_wait<5>();
}
/* The panels of the rows from `row` on, each as soon as it is there. Of h, whose panels take turns in AHEAD slots, the
 * next but one is sent for. Behind panel p come, in the order in which they were sent for, the other panels of the ring;
 * where dy is made, at most w.slots - 1 of dy and h up to p = AHEAD, then those of h alone. */
template <int PANELS, bool PIECES>
static __device__ inline void make(const Side &s, int m, const Warp &w, int row, int stride, int slot) {
  PARE_ROLL
  for (int p = 0; p < PANELS; p++) {
    int held = SLOTS - AHEAD + p % AHEAD;
    if (!s.h) wait_but(SLOTS - 1 - p);
    else wait_but(p < AHEAD ? SLOTS - AHEAD - 1 : AHEAD - 1);
    if (p < w.panels) make_panel<PIECES>(s, m, w, row, p, next(w, slot, p), held);
    if (s.h) fetch<PIECES>(s.h, s.width, m, w, row + (p + AHEAD) / PANELS * stride, (p + AHEAD) % PANELS, held);
  }
}

/* The warp's part of the factor, times the mask, as B of the products; all of it is sent for before any is waited for. */
template <int PANELS, int GROUPS>
static __device__ inline void load_factor(const Lora &l, const Side &s, const Warp &w,
                                          uint32_t (&factor)[PANELS][STEPS][GROUPS][2]) {
  enum { PAIRS = PANELS * STEPS * GROUPS * 2 };
  int g = (int)threadIdx.x % PARE_WARP / 4, column = w.column + 2 * ((int)threadIdx.x % 4);
  float v[PAIRS][2];
  PARE_UNROLL
  for (int i = 0; i < PAIRS * 2; i++) {
    int c = column + i / 4 / GROUPS * 16 + i / 2 % 2 * 8 + i % 2, rank = l.first + i / 4 % GROUPS * RANKS + g;
    bool there = c < s.width && rank < l.r;
    float at = s.factor[there ? c * s.fs + rank * s.ft : 0];
    v[i / 2][i % 2] = there ? at : 0;
  }
  if (s.mask)
    PARE_UNROLL
    for (int i = 0; i < PAIRS * 2; i++) {
      int c = column + i / 4 / GROUPS * 16 + i / 2 % 2 * 8 + i % 2;
      v[i / 2][i % 2] *= s.mask[c < s.width ? c : 0];
    }
  PARE_UNROLL
  for (int i = 0; i < PAIRS; i++) {
    int q = i / 2 / GROUPS;
    factor[q / STEPS][q % STEPS][i / 2 % GROUPS][i % 2] = pare_pack2(v[i][0], v[i][1]);
  }
}

/* Neighbours in the last axis, stored at once. */
struct alignas(8) Two {
  float at[2];
};
static __device__ inline void put_two(float *to, float a, float b) { *(Two *)(void *)to = {{a, b}}; }

/* The warp's share of U or V, [groups, ROWS, RANKS]: its columns times its part of the factor, by two sums in turn. */
template <int PANELS, int GROUPS>
static __device__ inline void project(const Warp &w, int slot, const uint32_t (&factor)[PANELS][STEPS][GROUPS][2],
                                      float *share) {
  float c[2][GROUPS][4] = {};
  PARE_UNROLL
  for (int p = 0; p < PANELS; p++) {
    if (p >= w.panels) continue;
    unsigned char *panel = w.ring + next(w, slot, p) * PANEL_BYTES;
    PARE_UNROLL
    for (int q = 0; q < STEPS; q++) {
      uint32_t a[4];
      pare_ldmatrix(a, panel + flip(w.along, 2 * q));
      PARE_UNROLL
      for (int j = 0; j < GROUPS; j++) pare_mma(c[q % 2][j], a, factor[p][q][j]);
    }
  }
  int lane = (int)threadIdx.x % PARE_WARP, g = lane / 4, t = lane % 4;
  PARE_UNROLL
  for (int j = 0; j < GROUPS; j++)
    PARE_UNROLL
    for (int i = 0; i < 4; i += 2)
      put_two(share + j * SHARE + (g + i * 4) * RANKS + 2 * t, c[0][j][i] + c[1][j][i], c[0][j][i + 1] + c[1][j][i + 1]);
}

/* The sums over the rows of a panel's columns times V or U, in the form of b. */
template <int GROUPS>
static __device__ inline void collect(unsigned char *panel, int across, const uint32_t (&b)[GROUPS][2],
                                      float (&sum)[STEPS][GROUPS][4]) {
  PARE_UNROLL
  for (int q = 0; q < STEPS; q++) {
    uint32_t a[4];
    pare_ldmatrix_t(a, panel + flip(across, 2 * q));
    PARE_UNROLL
    for (int j = 0; j < GROUPS; j++) pare_mma(sum[q][j], a, b[j]);
  }
}

/* U and V: the warps' shares added in order, scaled, rounded and turned: [U, V][group][rank][row]. By all threads. */
template <int GROUPS> static __device__ inline void add_shares(const Lora &l, const float *shares, PareBf16 *turned) {
  for (int i = (int)threadIdx.x; i < 2 * GROUPS * SHARE; i += THREADS) {
    int of_dy = i / (GROUPS * SHARE), at = i % SHARE;
    const float *from = shares + (of_dy ? l.side[0].warps : 0) * GROUPS * SHARE + i % (GROUPS * SHARE);
    float v = 0;
    for (int k = 0; k < l.side[of_dy].warps; k++) v += from[k * GROUPS * SHARE];
    turned[i - at + at % RANKS * ROWS + at / RANKS] = pare_store<PareBf16>(l.scale * v);
  }
}

/* sums[part][x's columns, then dy's][GROUPS·RANKS]. MADE: x or dy is. */
template <int PANELS, int GROUPS, bool PIECES, bool MADE>
static __global__ void __launch_bounds__(THREADS, 1) gradients(Lora l, float *sums) {
  PARE_SHARED(unsigned char, shared);
  float *shares = (float *)(void *)(shared + WARPS * SLOTS * PANEL_BYTES); /* [warp][group][row][rank] */
  PareBf16 *turned = (PareBf16 *)(void *)(shares + WARPS * GROUPS * SHARE);
  int warp = (int)threadIdx.x / PARE_WARP, g = (int)threadIdx.x % PARE_WARP / 4, t = (int)threadIdx.x % 4;
  bool is_dy = warp >= l.side[0].warps;
  const Side &s = l.side[is_dy];
  const uint32_t *other = (const uint32_t *)(const void *)(turned + (is_dy ? 0 : GROUPS * SHARE));
  Warp w = warp_of(s, is_dy ? warp - l.side[0].warps : warp, shared + warp * SLOTS * PANEL_BYTES);
  int row = (int)blockIdx.x * ROWS, stride = (int)gridDim.x * ROWS;
  if (MADE && s.h) {
    w.slots = SLOTS - AHEAD;
    for (int i = 0; i < AHEAD; i++) fetch<PIECES>(s.h, s.width, l.m, w, row, i, w.slots + i);
  }
  PARE_UNROLL
  for (int i = 0; i < SLOTS; i++)
    if (i < w.slots) fetch<PIECES>(s.data, s.width, l.m, w, row + i / PANELS * stride, i % PANELS, i);

  uint32_t factor[PANELS][STEPS][GROUPS][2], b[GROUPS][2];
  float sum[PANELS][STEPS][GROUPS][4] = {};
  load_factor<PANELS, GROUPS>(l, s, w, factor);
  for (int slot = 0; row < l.m; row += stride, slot = next(w, slot, PANELS)) {
    if (MADE && s.gelu) make<PANELS, PIECES>(s, l.m, w, row, stride, slot);
    else pare_copy_wait<SLOTS - PANELS>();
    __syncwarp();
    project<PANELS, GROUPS>(w, slot, factor, shares + warp * GROUPS * SHARE);
    __syncthreads();
    add_shares<GROUPS>(l, shares, turned);
    __syncthreads();
    PARE_UNROLL
    for (int i = 0; i < GROUPS * 2; i++) b[i / 2][i % 2] = other[(i / 2 * SHARE + g * ROWS) / 2 + i % 2 * 4 + t];
    PARE_UNROLL
    for (int p = 0; p < PANELS; p++) {
      int at = next(w, slot, p);
      if (p < w.panels) collect<GROUPS>(w.ring + at * PANEL_BYTES, w.across, b, sum[p]);
      __syncwarp();
      fetch<PIECES>(s.data, s.width, l.m, w, row + (p + w.slots) / PANELS * stride, (p + w.slots) % PANELS, at);
    }
  }
  int64_t part = (int64_t)blockIdx.x * (l.side[0].width + l.side[1].width) + (is_dy ? l.side[0].width : 0);
  PARE_UNROLL
  for (int i = 0; i < PANELS * STEPS * GROUPS * 4; i += 2) {
    int q = i / (GROUPS * 4), j = i / 4 % GROUPS, column = w.column + q * 16 + g + i % 4 * 4;
    const float *c = &sum[q / STEPS][q % STEPS][j][i % 4];
    if (q / STEPS < w.panels && column < s.width)
      put_two(sums + (part + column) * GROUPS * RANKS + j * RANKS + 2 * t, c[0], c[1]);
  }
}

/* A block adds up PARE_WARP sums, ADDERS threads for each, whose parts are neighbours. */
static __global__ void add_parts(Lora l, int parts, int ranks, const float *sums) {
  __shared__ float part[ADDERS][PARE_WARP];
  int64_t all = (int64_t)(l.side[0].width + l.side[1].width) * ranks;
  int one = (int)threadIdx.x % PARE_WARP, team = (int)threadIdx.x / PARE_WARP;
  int64_t i = (int64_t)blockIdx.x * PARE_WARP + one;
  float v = 0;
  if (i < all)
    for (int p = team * parts / ADDERS, end = (team + 1) * parts / ADDERS; p < end; p += BATCH) {
      float at[BATCH];
      PARE_UNROLL
      for (int k = 0; k < BATCH; k++) at[k] = p + k < end ? sums[(p + k) * all + i] : 0;
      PARE_UNROLL
      for (int k = 0; k < BATCH; k++) v += at[k];
    }
  part[team][one] = v;
  __syncthreads();
  if (team || i >= all) return;
  for (int k = 1; k < ADDERS; k++) v += part[k][one];
  int64_t column = i / ranks, rank = l.first + i % ranks;
  bool is_dy = column >= l.side[0].width;
  const Side &s = l.side[is_dy];
  column -= is_dy ? l.side[0].width : 0;
  if (s.grad && rank < l.r) s.grad[column * s.gs + rank * s.gt] = s.mask ? v * s.mask[column] : v;
}

template <int PANELS, int GROUPS, bool PIECES, bool MADE>
static PareStatus launch(PareKernelArgs *a, Lora *l, int parts, float *sums) {
  cudaStream_t stream = pare_cuda(a)->stream;
  auto kernel = gradients<PANELS, GROUPS, PIECES, MADE>;
  size_t bytes = shared_bytes(GROUPS);
  int64_t all = (int64_t)(l->side[0].width + l->side[1].width) * GROUPS * RANKS;
  PARE_TRY(pare_cuda_status(a, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    (int)bytes)));
  for (l->first = 0; l->first < l->r; l->first += GROUPS * RANKS) {
    PARE_LAUNCH(kernel, parts, THREADS, bytes, stream, *l, sums);
    PARE_LAUNCH(add_parts, pare_ceil_div(all, PARE_WARP), ADDERS * PARE_WARP, 0, stream, *l, parts, GROUPS * RANKS,
                (const float *)sums);
    Side *dy = &l->side[1];
    if (dy->h) dy->data = dy->made, dy->h = NULL, dy->gelu = PARE_GELU_NONE; /* it is there for the next ranks */
  }
  return pare_launched(a);
}
template <bool PIECES, bool MADE> static PareStatus run(PareKernelArgs *a, const PareLora *o, Lora *l, float *sums) {
  int parts = (int)parts_of(a, o);
  if (panels_for(o) == MANY) return launch<MANY, 1, PIECES, MADE>(a, l, parts, sums);
  if (groups_for(o) == 2) return launch<FEW, 2, PIECES, MADE>(a, l, parts, sums);
  return launch<FEW, 1, PIECES, MADE>(a, l, parts, sums);
}

PareStatus pare_cuda_lora_grad(PareKernelArgs *a, const PareLora *o, void *work) {
  Lora l = {};
  l.side[0] = {o->x, o->a, o->da, o->r, 1, o->r, 1, o->mask, (int)o->k, panels_of(o->k), 0, o->gelu, NULL, NULL};
  l.side[1] = {o->dy, o->b, o->db, 1, o->n, 1, o->n, NULL, (int)o->n, panels_of(o->n), 0, o->slope, o->h, o->made};
  l.side[0].warps = split(l.side[0].panels, l.side[1].panels, panels_for(o));
  l.side[1].warps = WARPS - l.side[0].warps;
  l.m = (int)o->m, l.r = (int)o->r, l.scale = (float)o->scale;
  bool pieces = o->k % PIECE == 0 && o->n % PIECE == 0 && pare_aligned(o->x) && pare_aligned(o->dy) &&
                pare_aligned(o->h) && pare_aligned(o->made);
  float *sums = (float *)work;
  if (o->gelu || o->slope) return pieces ? run<true, true>(a, o, &l, sums) : run<false, true>(a, o, &l, sums);
  return pieces ? run<true, false>(a, o, &l, sums) : run<false, false>(a, o, &l, sums);
}
