/* linear_merge.h - a tile of W' = m∘(W + s·A·B) of a linear layer, and what LinearGrad scores while it merges
 * (PareScored). No include guard: it is included for each type of the arithmetic, with C, FN, LANES, VEC and LOOSE as
 * floats.h has them. */

/* W as it is stored, S[rows, cols], plus left[rows, r]·right[r, cols], times a factor for each row or column. The
 * columns are read in runs of `panel`, and `right` lies in panels [r, panel]: its rows would fight for the same sets
 * of the cache where cols is a multiple of a page. */
typedef struct FN(Merge) {
  int64_t rows, cols, r, panel;
  const C *w, *left, *right, *row_mask, *col_mask; /* w may lie at any address; masks may be NULL */
  const PareScored *scored;                        /* may be NULL */
  int64_t ahead; /* so many rows further down are asked for: they are far apart in memory, where no processor looks
                  * ahead by itself; 0: somebody else asks */
} FN(Merge);

/* Where in S a tile is, all of it; cols <= panel, j a multiple of it. To out, whose rows are `next` apart. */
typedef struct FN(Tile) {
  int64_t i, j, rows, cols, next;
  C *out;
} FN(Tile);

/* Of a [k, r] and b [r, n], s times what belongs to rows of S, [rows, r]. */
static inline void FN(take_left)(const PareLinear *l, C s, const C *a, const C *b, C *left) {
  if (!l->transposed)
    for (int64_t i = 0; i < l->k * l->r; i++) left[i] = s * a[i];
  else
    for (int64_t i = 0; i < l->n; i++)
      for (int64_t t = 0; t < l->r; t++) left[i * l->r + t] = s * b[t * l->n + i];
}

/* What belongs to its columns, [r, cols], in panels. */
static inline void FN(take_right)(const PareLinear *l, int64_t panel, const C *a, const C *b, C *right) {
  int64_t cols = l->transposed ? l->k : l->n;
  for (int64_t j0 = 0; j0 < cols; j0 += panel, right += l->r * panel)
    for (int64_t t = 0; t < l->r; t++)
      for (int64_t j = 0; j < pare_min_i64(panel, cols - j0); j++)
        right[t * panel + j] = l->transposed ? a[(j0 + j) * l->r + t] : b[t * l->n + j0 + j];
}

/* u = half - eta·dhalf, v = dhalf, P. */
static inline void FN(prepare_scores)(const PareLinear *l) {
  const PareScored *s = l->scored;
  C *u = s->u, *v = s->v, eta = (C)s->eta;
  FN(take_left)(l, 1, l->a->data, l->b->data, u);
  FN(take_left)(l, 1, s->da, s->db, v);
  FN(take_right)(l, s->col_block, s->da, s->db, s->p);
  for (int64_t i = 0; i < (l->transposed ? l->n : l->k) * l->r; i++) u[i] -= eta * v[i];
}

/* Of l, for tiles no wider than `panel`. work: left and right, (rows + cols + panel)·r. */
static inline FN(Merge) FN(merge_of)(const PareLinear *l, int64_t panel, C *work) {
  const C *mask = l->mask ? l->mask->data : NULL;
  FN(Merge) m = {.rows = l->transposed ? l->n : l->k, .cols = l->transposed ? l->k : l->n, .r = l->r, .panel = panel,
                 .w = l->w->data, .left = work, .row_mask = l->transposed ? NULL : mask,
                 .col_mask = l->transposed ? mask : NULL, .scored = l->scored};
  C *right = work + m.rows * l->r;
  m.right = right;
  if (l->r) {
    FN(take_left)(l, (C)l->scale, l->a->data, l->b->data, work);
    FN(take_right)(l, panel, l->a->data, l->b->data, right);
  }
  if (l->scored) FN(prepare_scores)(l);
  return m;
}

/* The sums of the scores of the tile's columns. */
static PARE_INLINE C *FN(col_sums)(const FN(Merge) *m, const FN(Tile) *t) {
  return (C *)m->scored->col_sums + t->i / m->scored->row_block * m->cols + t->j;
}

/* rows by vecs vectors of the tile, from (i, j) of it. line: the rows' scores; NULL where nobody asks. */
static PARE_INLINE void FN(merge_rows)(const FN(Merge) *m, const FN(Tile) *t, int rows, int vecs, int64_t i, int64_t j,
                                       FN(Vec) *line) {
  FN(Vec) sum[PARE_MERGE_ROWS][PARE_MERGE_VECS], g[PARE_MERGE_ROWS][PARE_MERGE_VECS];
  const C *w = m->w + (t->i + i) * m->cols + t->j + j, *left = m->left + (t->i + i) * m->r;
  const C *right = m->right + t->j * m->r + j, *u = NULL, *v = NULL, *p = NULL;
  for (int k = 0; k < rows; k++)
    for (int x = 0; x < vecs; x++) sum[k][x] = LOOSE(w + k * m->cols + x * LANES), g[k][x] = (FN(Vec)){0};
  if (line) {
    const PareScored *s = m->scored;
    u = (const C *)s->u + (t->i + i) * m->r, v = (const C *)s->v + (t->i + i) * m->r;
    p = (const C *)s->p + t->j * m->r + j;
  }
  for (int64_t n = 0; n < m->r; n++)
    for (int x = 0; x < vecs; x++) {
      FN(Vec) q = VEC(right + n * m->panel + x * LANES);
      for (int k = 0; k < rows; k++) sum[k][x] += left[k * m->r + n] * q;
      for (int k = 0; line && k < rows; k++) g[k][x] += v[k * m->r + n] * q;
      for (int k = 0; line && k < rows; k++) g[k][x] += u[k * m->r + n] * VEC(p + n * m->panel + x * LANES);
    }
  for (int x = 0; x < vecs; x++) {
    for (int k = 0; k < rows; k++) VEC(t->out + (i + k) * t->next + j + x * LANES) = sum[k][x];
    if (!line) continue;
    FN(Vec) *col = &VEC(FN(col_sums)(m, t) + j + x * LANES), all = *col;
    for (int k = 0; k < rows; k++) {
      FN(Vec) e = g[k][x] * sum[k][x];
      e = PARE_POWER(m->scored->square, e);
      all += e, line[k] += e;
    }
    *col = all;
  }
}

/* The same of one element; what its score adds to its row. */
static PARE_INLINE C FN(merge_one)(const FN(Merge) *m, const FN(Tile) *t, int64_t i, int64_t j) {
  int64_t row = (t->i + i) * m->r, col = t->j * m->r + j;
  const C *left = m->left + row, *right = m->right + col;
  C sum, g = 0;
  memcpy(&sum, m->w + (t->i + i) * m->cols + t->j + j, sizeof sum);
  for (int64_t n = 0; n < m->r; n++) sum += left[n] * right[n * m->panel];
  t->out[i * t->next + j] = sum;
  if (!m->scored) return 0;
  const C *u = (const C *)m->scored->u + row, *v = (const C *)m->scored->v + row, *p = (const C *)m->scored->p + col;
  for (int64_t n = 0; n < m->r; n++) g += u[n] * p[n * m->panel] + v[n] * right[n * m->panel];
  C e = g * sum;
  e = m->scored->square ? e * e : e < 0 ? -e : e;
  FN(col_sums)(m, t)[j] += e;
  return e;
}

typedef C FN(Half) __attribute__((vector_size(32), aligned(sizeof(C)), may_alias));
typedef C FN(Quarter) __attribute__((vector_size(16), aligned(sizeof(C)), may_alias));

/* By halves: in a row, one addition would wait for the other. */
static PARE_INLINE C FN(sum_lanes)(const FN(Vec) *x) {
  const FN(Half) *half = (const FN(Half) *)(uintptr_t)x;
  FN(Half) h = half[0] + half[1];
  const FN(Quarter) *quarter = (const FN(Quarter) *)(uintptr_t)&h;
  FN(Quarter) q = quarter[0] + quarter[1];
  enum { EACH = 16 / sizeof(C) };
  return EACH == 2 ? q[0] + q[1] : (q[0] + q[2 % EACH]) + (q[1] + q[3 % EACH]);
}

/* Asks for what lies below the tile's rows i to i + rows - 1. */
static PARE_INLINE void FN(ask_below)(const FN(Merge) *m, const FN(Tile) *t, int rows, int64_t i) {
  enum { STEP = 64 / sizeof(C) };
  int64_t from = t->i + i + m->ahead, to = pare_min_i64(m->rows, from + rows);
  for (; from < to; from++)
    for (int64_t at = 0; at < t->cols; at += STEP) __builtin_prefetch(m->w + from * m->cols + t->j + at);
}

/* All of the tile's rows i to i + rows - 1, but for masks, vecs vectors at a time. */
static PARE_INLINE void FN(merge_lines)(const FN(Merge) *m, const FN(Tile) *t, int rows, int vecs, bool scored,
                                        int64_t i) {
  FN(Vec) line[PARE_MERGE_ROWS] = {0};
  C rest[PARE_MERGE_ROWS] = {0};
  int64_t j = 0;
  if (m->ahead) FN(ask_below)(m, t, rows, i);
  for (; j + vecs * LANES <= t->cols; j += vecs * LANES)
    FN(merge_rows)(m, t, rows, vecs, i, j, scored ? line : NULL);
  for (; j < t->cols; j++)
    for (int k = 0; k < rows; k++) rest[k] += FN(merge_one)(m, t, i + k, j);
  if (!scored) return;
  C *out = (C *)m->scored->row_sums + t->j / m->scored->col_block * m->rows + t->i + i;
  for (int k = 0; k < rows; k++) out[k] = FN(sum_lanes)(&line[k]) + rest[k];
}

static inline void FN(apply_masks)(const FN(Merge) *m, const FN(Tile) *t) {
  for (int64_t i = 0; i < t->rows; i++) {
    C *row = t->out + i * t->next, scale = m->row_mask ? m->row_mask[t->i + i] : 1;
    if (m->col_mask)
#pragma omp simd
      for (int64_t j = 0; j < t->cols; j++) row[j] *= m->col_mask[t->j + j];
    if (scale != 1)
#pragma omp simd
      for (int64_t j = 0; j < t->cols; j++) row[j] *= scale;
  }
}

static PARE_INLINE void FN(merge_all)(const FN(Merge) *m, const FN(Tile) *t, int rows, int vecs, bool scored) {
  int64_t i = 0;
  for (; i + rows <= t->rows; i += rows) FN(merge_lines)(m, t, rows, vecs, scored, i);
  for (; i < t->rows; i++) FN(merge_lines)(m, t, 1, vecs, scored, i);
}

/* The tile of W', and its scores to the sums of its rows and columns. Tiles of a block of S that stand over each other
 * come one after the other, from above. */
static inline void FN(merge_tile)(const FN(Merge) *m, const FN(Tile) *t) {
  bool wide = t->cols % ((m->scored ? PARE_SCORE_VECS : PARE_MERGE_VECS) * LANES) == 0; /* else some are left over */
  if (m->scored && t->i % m->scored->row_block == 0) memset(FN(col_sums)(m, t), 0, (size_t)t->cols * sizeof(C));
  if (m->scored && wide) FN(merge_all)(m, t, PARE_SCORE_ROWS, PARE_SCORE_VECS, true);
  else if (m->scored) FN(merge_all)(m, t, PARE_SCORE_ROWS, 1, true);
  else if (wide) FN(merge_all)(m, t, PARE_MERGE_ROWS, PARE_MERGE_VECS, false);
  else FN(merge_all)(m, t, PARE_MERGE_ROWS, 1, false);
  FN(apply_masks)(m, t);
}
