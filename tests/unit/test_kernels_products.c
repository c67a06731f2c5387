/* test_kernels_products.c - MatMul, Gemm, MatMulInteger, Einsum, Conv and other windows, Resize (kernel_call.h). Truth
 * comes from sums of products, index by index. */
#include "kernel_call.h"

#include "ir/einsum.h"

/* want[i,j] = alpha·sum op(a)·op(b) + add */
static void naive_product(const PareTensor *a, const PareTensor *b, const PareTensor *want, bool ta, bool tb, int64_t m,
                          int64_t n, int64_t k, int64_t oa, int64_t ob, int64_t oy, double alpha) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double s = 0;
      for (int64_t t = 0; t < k; t++)
        s += get(a, oa + (ta ? t * m + i : i * k + t)) * get(b, ob + (tb ? j * k + t : t * n + j));
      put(want, oy + i * n + j, alpha * s + get(want, oy + i * n + j));
    }
}

Test(matmul, agrees_with_the_sum_of_products_for_all_types_and_batches) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  const struct {
    int ra, rb, ry;
    int64_t a[4], b[4], y[4], batch, abatch, bbatch, m, n, k;
    bool ta, tb;
  } all[] = {
      {2, 2, 2, {7, 5}, {5, 9}, {7, 9}, 1, 1, 1, 7, 9, 5, false, false},
      {3, 2, 3, {3, 7, 5}, {5, 9}, {3, 7, 9}, 3, 3, 1, 7, 9, 5, false, false},
      {2, 3, 3, {7, 5}, {3, 5, 9}, {3, 7, 9}, 3, 1, 3, 7, 9, 5, false, false},
      {4, 4, 4, {2, 3, 7, 5}, {2, 3, 5, 9}, {2, 3, 7, 9}, 6, 6, 6, 7, 9, 5, false, false},
      {1, 2, 1, {5}, {5, 9}, {9}, 1, 1, 1, 1, 9, 5, false, false},
      {3, 1, 2, {3, 7, 5}, {5}, {3, 7}, 3, 3, 1, 7, 1, 5, false, false},
      {1, 1, 0, {5}, {5}, {0}, 1, 1, 1, 1, 1, 5, false, false},
      {3, 3, 3, {2, 5, 7}, {2, 9, 5}, {2, 7, 9}, 2, 2, 2, 7, 9, 5, true, true},
      {3, 2, 3, {2, 5, 7}, {5, 9}, {2, 7, 9}, 2, 2, 1, 7, 9, 5, true, false},
      {3, 2, 3, {2, 7, 5}, {9, 5}, {2, 7, 9}, 2, 2, 1, 7, 9, 5, false, true},
      {2, 2, 2, {7, 0}, {0, 9}, {7, 9}, 1, 1, 1, 7, 9, 0, false, false},
      {2, 2, 2, {0, 5}, {5, 9}, {0, 9}, 1, 1, 1, 0, 9, 5, false, false},
      {2, 2, 2, {64, 96}, {96, 80}, {64, 80}, 1, 1, 1, 64, 80, 96, false, false},
      {3, 3, 3, {40, 16, 33}, {40, 33, 17}, {40, 16, 17}, 40, 40, 40, 16, 17, 33, false, false},
  };
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 5; d++) {
    clear(&c);
    if (all[k].ta) pare_attr_set(&c.attr, transA, 1);
    if (all[k].tb) pare_attr_set(&c.attr, transB, 1);
    double alpha = (all[k].ta || all[k].tb) && pare_dtype_is_float(types[d]) ? 0.5 : 1;
    if (alpha != 1) pare_attr_set(&c.attr, alpha, alpha);
    filled(input(&c, types[d], all[k].ra, all[k].a), 1, -3, 3);
    filled(input(&c, types[d], all[k].rb, all[k].b), 2, -3, 3);
    PareTensor *y = output(&c, types[d], all[k].ry, all[k].y), want = tensor(&c, PARE_F64, all[k].ry, all[k].y);
    must(&c, all[k].ta || all[k].tb ? PARE_OP_FUSEDMATMUL : PARE_OP_MATMUL);
    for (int64_t i = 0; i < all[k].batch; i++)
      naive_product(&c.in[0], &c.in[1], &want, all[k].ta, all[k].tb, all[k].m, all[k].n, all[k].k,
                    all[k].abatch > 1 ? i * all[k].m * all[k].k : 0, all[k].bbatch > 1 ? i * all[k].k * all[k].n : 0,
                    i * all[k].m * all[k].n, alpha);
    char what[32];
    snprintf(what, sizeof what, "MatMul case %zu", k);
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, what);
  }
}

Test(gemm, adds_a_broadcast_bias_scaled_by_beta) {
  const struct {
    int rank;
    int64_t dim[2];
  } bias[] = {{0, {0}}, {1, {9}}, {2, {1, 9}}, {2, {7, 1}}, {2, {7, 9}}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < 6; k++) for (int d = 0; d < 3; d++) for (int t = 0; t < 4; t++) {
    clear(&c);
    pare_attr_set(&c.attr, transA, t & 1);
    pare_attr_set(&c.attr, transB, t >> 1);
    pare_attr_set(&c.attr, alpha, 0.5);
    pare_attr_set(&c.attr, beta, 2.0);
    filled(t & 1 ? input(&c, types[d], DIMS(5, 7)) : input(&c, types[d], DIMS(7, 5)), 1, -3, 3);
    filled(t & 2 ? input(&c, types[d], DIMS(9, 5)) : input(&c, types[d], DIMS(5, 9)), 2, -3, 3);
    PareTensor want = tensor(&c, PARE_F64, DIMS(7, 9));
    if (k < 5) {
      PareTensor *b = filled(input(&c, types[d], bias[k].rank, bias[k].dim), 3, -3, 3);
      for (int i = 0; i < 63; i++) put(&want, i, 2 * get(b, broadcast(&b->type, &want.type, i)));
    } else if (t)
      left_out(&c);
    PareTensor *y = output(&c, types[d], DIMS(7, 9));
    must(&c, PARE_OP_GEMM);
    naive_product(&c.in[0], &c.in[1], &want, t & 1, t >> 1, 7, 9, 5, 0, 0, 0, 0.5);
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, "Gemm");
  }
}

/* x[2,4,9,10], kernel 3x2 with strides 2, 1, dilations 1, 2, uneven pads and groups; and a patch embedding. */
Test(conv, agrees_with_the_definition) {
  const struct {
    int64_t h, w, c, m, g, kh, kw, sh, sw, dh, dw, pt, pl, pb, pr;
  } all[] = {
      {9, 10, 4, 6, 2, 3, 2, 2, 1, 1, 2, 1, 0, 0, 3}, {8, 8, 3, 5, 1, 4, 4, 4, 4, 1, 1, 0, 0, 0, 0},
      {5, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},  {6, 40, 1, 2, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
      {1, 2, 1, 1, 1, 1, 5, 1, 3, 1, 1, 0, 4, 0, 4},  {9, 24, 3, 5, 1, 4, 8, 4, 8, 1, 1, 0, 0, 0, 0},
      {8, 40, 2, 3, 1, 2, 16, 2, 16, 1, 1, 0, 0, 0, 0},
  };
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 3; d++) {
    clear(&c);
    int64_t H = all[k].h, W = all[k].w, C = all[k].c, M = all[k].m, G = all[k].g, kh = all[k].kh, kw = all[k].kw;
    int64_t oh = (H + all[k].pt + all[k].pb - all[k].dh * (kh - 1) - 1) / all[k].sh + 1;
    int64_t ow = (W + all[k].pl + all[k].pr - all[k].dw * (kw - 1) - 1) / all[k].sw + 1;
    pare_attr_set(&c.attr, group, G);
    pare_attr_set(&c.attr, strides, ((PareInts){2, {all[k].sh, all[k].sw}}));
    pare_attr_set(&c.attr, dilations, ((PareInts){2, {all[k].dh, all[k].dw}}));
    pare_attr_set(&c.attr, pads, ((PareInts){4, {all[k].pt, all[k].pl, all[k].pb, all[k].pr}}));
    PareTensor *x = filled(input(&c, types[d], DIMS(2, C, H, W)), 1, -2, 2);
    PareTensor *w = filled(input(&c, types[d], DIMS(M, C / G, kh, kw)), 2, -2, 2);
    PareTensor *b = k % 2 ? NULL : filled(input(&c, types[d], DIMS(M)), 3, -2, 2);
    PareTensor *y = output(&c, types[d], DIMS(2, M, oh, ow)), want = tensor(&c, PARE_F64, DIMS(2, M, oh, ow));
    must(&c, PARE_OP_CONV);
    for (int64_t i = 0; i < count(y); i++) {
      int64_t ox = i % ow, oy = i / ow % oh, m = i / (ow * oh) % M, n = i / (ow * oh * M);
      double s = b ? get(b, m) : 0;
      for (int64_t t = 0; t < C / G * kh * kw; t++) {
        int64_t ch = m / (M / G) * (C / G) + t / (kh * kw);
        int64_t iy = oy * all[k].sh - all[k].pt + t / kw % kh * all[k].dh,
                ix = ox * all[k].sw - all[k].pl + t % kw * all[k].dw;
        if (iy >= 0 && iy < H && ix >= 0 && ix < W)
          s += get(x, ((n * C + ch) * H + iy) * W + ix) * get(w, m * (C / G) * kh * kw + t);
      }
      put(&want, i, s);
    }
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, "Conv");
  }
}

Test(conv, same_padding_in_one_axis) {
  EACH_LEVEL(c) for (int mode = 1; mode <= 2; mode++) {
    clear(&c);
    pare_attr_set(&c.attr, auto_pad, mode);
    listed(input(&c, PARE_F32, DIMS(1, 1, 3)), LIST(1, 2, 4));
    listed(input(&c, PARE_F32, DIMS(1, 1, 2)), LIST(1, 10));
    PareTensor *y = output(&c, PARE_F32, DIMS(1, 1, 3));
    must(&c, PARE_OP_CONV);
    const double upper[] = {21, 42, 4}, lower[] = {10, 21, 42}; /* the odd zero goes to the end or to the front */
    for (int i = 0; i < 3; i++) cr_assert_eq(get(y, i), (mode == 1 ? upper : lower)[i], "got %g", get(y, i));
  }
}

/* --- windows over one to three axes; those that are not there come last, of extent 1 --- */
typedef struct Window {
  int space;
  int64_t in[3], k[3], s[3], d[3], lo[3], hi[3], out[3];
} Window;
static const Window windows[] = {
    {2, {9, 10, 1}, {3, 2, 1}, {2, 1, 1}, {1, 2, 1}, {1, 0, 0}, {0, 3, 0}, {4, 11, 1}},
    {1, {17, 1, 1}, {5, 1, 1}, {2, 1, 1}, {1, 1, 1}, {2, 0, 0}, {2, 0, 0}, {9, 1, 1}},
    {3, {4, 5, 6}, {2, 3, 2}, {1, 2, 2}, {1, 1, 2}, {1, 0, 1}, {0, 1, 1}, {4, 2, 3}},
    {2, {13, 14, 1}, {12, 13, 1}, {1, 1, 1}, {1, 1, 1}, {3, 2, 0}, {3, 2, 0}, {8, 6, 1}}, /* large */
    {2, {4, 150, 1}, {4, 150, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, {1, 1, 1}}, /* the plane */
    {2, {7, 8, 1}, {2, 2, 1}, {3, 3, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, {2, 3, 1}},     /* with gaps */
    {1, {3, 1, 1}, {2, 1, 1}, {1, 1, 1}, {1, 1, 1}, {3, 0, 0}, {0, 0, 0}, {5, 1, 1}},     /* pads alone */
    {1, {6, 1, 1}, {3, 1, 1}, {2, 1, 1}, {3, 1, 1}, {1, 0, 0}, {2, 0, 0}, {2, 1, 1}},
};
enum { WINDOWS = sizeof windows / sizeof *windows };

static int64_t places(const int64_t dim[3]) { return dim[0] * dim[1] * dim[2]; }
static PareInts ints(int n, const int64_t *at) {
  PareInts v = {.n = n};
  memcpy(v.at, at, (size_t)n * sizeof *at);
  return v;
}
static void slide(Call *c, const Window *w, bool with_kernel) {
  PareInts pads = ints(w->space, w->lo);
  memcpy(pads.at + w->space, w->hi, (size_t)w->space * sizeof *w->hi);
  pads.n *= 2;
  if (with_kernel) pare_attr_set(&c->attr, kernel_shape, ints(w->space, w->k));
  pare_attr_set(&c->attr, strides, ints(w->space, w->s));
  pare_attr_set(&c->attr, dilations, ints(w->space, w->d));
  pare_attr_set(&c->attr, pads, pads);
}
/* [n, c, space...] */
static const int64_t *planes(int64_t dim[5], int64_t n, int64_t c, const int64_t space[3]) {
  dim[0] = n, dim[1] = c;
  memcpy(dim + 2, space, 3 * sizeof *space);
  return dim;
}
/* Where tap t of window o lies in the plane: -1 on pads, -2 behind them. */
static int64_t tap_place(const Window *w, int64_t o, int64_t t) {
  int64_t at[3], sum = 0;
  bool pads = false;
  for (int i = 2; i >= 0; o /= w->out[i], t /= w->k[i], i--) {
    at[i] = o % w->out[i] * w->s[i] - w->lo[i] + t % w->k[i] * w->d[i];
    if (at[i] >= w->in[i] + w->hi[i]) return -2;
    pads |= at[i] < 0 || at[i] >= w->in[i];
  }
  for (int i = 0; i < 3; i++) sum = sum * w->in[i] + at[i];
  return pads ? -1 : sum;
}

Test(conv, gradient_sends_dy_back_through_the_taps) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < WINDOWS; k++) for (int d = 0; d < 3; d++) for (int64_t G = 1; G <= 2; G++) {
    const Window *w = &windows[k];
    int64_t dim[5], C = 4, M = 6, in = places(w->in), out = places(w->out), taps = places(w->k);
    clear(&c);
    slide(&c, w, false);
    pare_attr_set(&c.attr, group, G);
    PareTensor *dy = filled(input(&c, types[d], 2 + w->space, planes(dim, 2, M, w->out)), 1, -2, 2);
    PareTensor *kernel = filled(input(&c, types[d], 2 + w->space, planes(dim, M, C / G, w->k)), 2, -2, 2);
    input(&c, types[d], 2 + w->space, planes(dim, 2, C, w->in));
    PareTensor *dx = output(&c, types[d], 2 + w->space, dim), want = tensor(&c, PARE_F64, 2 + w->space, dim);
    must(&c, PARE_OP_CONVGRAD);
    for (int64_t i = 0; i < count(dy); i++) for (int64_t j = 0; j < C / G * taps; j++) {
      int64_t m = i / out % M, channel = m / (M / G) * (C / G) + j / taps, place = tap_place(w, i % out, j % taps);
      int64_t to = (i / (out * M) * C + channel) * in + place;
      if (place >= 0) put(&want, to, get(&want, to) + get(dy, i) * get(kernel, m * (C / G) * taps + j));
    }
    near(dx, &want, types[d] == PARE_BF16 ? 2 : 8, "ConvGrad");
  }
}

Test(conv, gradient_of_nothing_is_zero) {
  static const int64_t all[][3] = {{0, 3, 4}, {2, 3, 0}, {2, 0, 4}}; /* images, outputs, places */
  EACH_LEVEL(c) for (int k = 0; k < 3; k++) {
    int64_t n = all[k][0], m = all[k][1], out = all[k][2], in = out ? out + 1 : 1;
    clear(&c);
    input(&c, PARE_F32, DIMS(n, m, out)), input(&c, PARE_F32, DIMS(m, 2, 2)), input(&c, PARE_F32, DIMS(n, 2, in));
    PareTensor *dx = filled(output(&c, PARE_F32, DIMS(n, 2, in)), 1, 1, 2);
    must(&c, PARE_OP_CONVGRAD);
    for (int64_t i = 0; i < count(dx); i++) cr_assert_eq(get(dx, i), 0, "%d at %" PRId64 ": %g", k, i, get(dx, i));
  }
}

/* Numbers that repeat, and here and there a NaN. */
static PareTensor *repeating(PareTensor *t) {
  for (int64_t i = 0, n = count(t); i < n; i++) {
    double v = floor(7 * pare_rng_uniform(5, (uint64_t)i)) - (t->type.dtype == PARE_U8 ? 0 : 3);
    put(t, i, pare_dtype_is_float(t->type.dtype) && i % 23 == 11 ? (double)NAN : v);
  }
  return t;
}
/* The first largest in the plane that x begins at `from`, NaN above all; -1: none. */
static int64_t largest(const Window *w, const PareTensor *x, int64_t from, int64_t o) {
  int64_t best = -1;
  for (int64_t t = 0; t < places(w->k); t++) {
    int64_t at = tap_place(w, o, t);
    if (at < 0) continue;
    double v = get(x, from + at), b = best < 0 ? -INFINITY : get(x, from + best);
    if (best < 0 || v > b || (isnan(v) && !isnan(b))) best = at;
  }
  return best;
}

Test(pool, max_is_the_first_largest_of_a_window_and_where_it_lies) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32, PARE_I8, PARE_U8};
  const double least[] = {-INFINITY, -INFINITY, -INFINITY, (double)INT64_MIN, INT32_MIN, INT8_MIN, 0};
  EACH_LEVEL(c) for (int k = 0; k < WINDOWS; k++) for (int d = 0; d < 7; d++) for (int order = 0; order < 2; order++) {
    const Window *w = &windows[k];
    int64_t dim[5], in = places(w->in), out = places(w->out), n0 = w->in[0], n1 = w->in[1], n2 = w->in[2];
    clear(&c);
    slide(&c, w, true);
    pare_attr_set(&c.attr, storage_order, order);
    PareTensor *x = repeating(input(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->in)));
    PareTensor *y = output(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->out));
    PareTensor *index = output(&c, PARE_I64, 2 + w->space, dim);
    must(&c, PARE_OP_MAXPOOL);
    for (int64_t i = 0; i < 6 * out; i++) {
      int64_t plane = i / out * in, at = largest(w, x, plane, i % out), got = (int64_t)get(index, i);
      double want = at < 0 ? least[d] : get(x, plane + at);
      cr_assert(get(y, i) == want || (isnan(want) && isnan(get(y, i))), "window %d, %s at %" PRId64 ": %g, want %g", k,
                pare_dtype_name(types[d]), i, get(y, i), want);
      if (order && at >= 0 && w->space == 2) at = at / n1 + at % n1 * n0;
      if (order && at >= 0 && w->space == 3) at = at / (n1 * n2) + n0 * (at / n2 % n1 + n1 * (at % n2));
      cr_assert_eq(got, at < 0 ? -1 : plane + at, "window %d at %" PRId64 ": index %" PRId64, k, i, got);
    }
    c.nout = 1;
    must(&c, PARE_OP_MAXPOOL);
  }
}

/* Each window's y goes back: to the place that it took, or in parts to all. */
Test(pool, gradients_go_to_the_largest_or_to_all_alike) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < WINDOWS; k++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 3; mode++) {
    const Window *w = &windows[k];
    int64_t dim[5], in = places(w->in), out = places(w->out);
    clear(&c);
    slide(&c, w, true);
    if (mode == 2) pare_attr_set(&c.attr, count_include_pad, 1);
    PareTensor *x = repeating(input(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->in)));
    PareTensor *dx = output(&c, types[d], 2 + w->space, dim), want = tensor(&c, PARE_F64, 2 + w->space, dim);
    PareTensor *dy = filled(input(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->out)), 7, 0.5, 2);
    must(&c, mode ? PARE_OP_AVERAGEPOOLGRAD : PARE_OP_MAXPOOLGRAD);
    for (int64_t i = 0; i < 6 * out; i++) {
      int64_t plane = i / out * in, at = mode ? -1 : largest(w, x, plane, i % out);
      double counted = 0;
      if (at >= 0) put(&want, plane + at, get(&want, plane + at) + get(dy, i));
      for (int64_t t = 0; t < places(w->k); t++) counted += tap_place(w, i % out, t) >= (mode == 2 ? -1 : 0);
      for (int64_t t = 0; mode && t < places(w->k); t++)
        if ((at = plane + tap_place(w, i % out, t)) >= plane) put(&want, at, get(&want, at) + get(dy, i) / counted);
    }
    near(dx, &want, 2 + (double)out, "the gradient of a pool"); /* of sums of one sign, as many as windows */
  }
}

Test(pool, mean_counts_what_lies_inside_or_the_pads_too) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < WINDOWS; k++) for (int d = 0; d < 3; d++) for (int pads = 0; pads < 2; pads++) {
    const Window *w = &windows[k];
    int64_t dim[5], in = places(w->in), out = places(w->out);
    clear(&c);
    slide(&c, w, true);
    pare_attr_set(&c.attr, count_include_pad, pads);
    PareTensor *x = filled(input(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->in)), 1, -2, 2);
    PareTensor *y = output(&c, types[d], 2 + w->space, planes(dim, 2, 3, w->out));
    PareTensor want = tensor(&c, PARE_F64, 2 + w->space, dim);
    must(&c, PARE_OP_AVERAGEPOOL);
    for (int64_t i = 0; i < 6 * out; i++) {
      double sum = 0, counted = 0;
      for (int64_t t = 0; t < places(w->k); t++) {
        int64_t at = tap_place(w, i % out, t);
        counted += at >= -pads;
        if (at >= 0) sum += get(x, i / out * in + at);
      }
      put(&want, i, sum / fmax(counted, 1));
    }
    near(y, &want, 8, "AveragePool");
  }
}

/* ONNX Runtime's figures: SAME_UPPER has the odd pad behind, and the last window's mean counts it. */
Test(pool, mean_counts_the_odd_pad_of_same_upper) {
  EACH_LEVEL(c) {
    pare_attr_set(&c.attr, kernel_shape, ((PareInts){2, {3, 3}}));
    pare_attr_set(&c.attr, strides, ((PareInts){2, {2, 2}}));
    pare_attr_set(&c.attr, auto_pad, 1);
    pare_attr_set(&c.attr, count_include_pad, 1);
    PareTensor *x = input(&c, PARE_F32, DIMS(1, 1, 4, 4)), *y = output(&c, PARE_F32, DIMS(1, 1, 2, 2));
    for (int i = 0; i < 16; i++) put(x, i, 1);
    must(&c, PARE_OP_AVERAGEPOOL);
    near(y, listed(output(&c, PARE_F64, DIMS(4)), LIST(1, 6.0 / 9, 6.0 / 9, 4.0 / 9)), 2, "means");
  }
}

Test(pool, global_forms_see_the_plane_and_empty_ones_nothing) {
  static const PareOp forms[] = {PARE_OP_GLOBALMAXPOOL, PARE_OP_GLOBALAVERAGEPOOL};
  static const int64_t empty[][4] = {{0, 3, 4, 5}, {2, 0, 4, 5}};
  EACH_LEVEL(c) for (int o = 0; o < 2; o++) {
    clear(&c);
    listed(input(&c, PARE_F32, DIMS(1, 2, 2, 3)), LIST(1, 2, 3, 4, 5, 9, -1, -2, -3, -4, -5, -3));
    PareTensor *y = output(&c, PARE_F32, DIMS(1, 2, 1, 1));
    must(&c, forms[o]);
    cr_assert(get(y, 0) == (o ? 4 : 9) && get(y, 1) == (o ? -3 : -1), "%g %g", get(y, 0), get(y, 1));
    for (int k = 0; k < 2; k++) {
      clear(&c);
      PareTensor *x = input(&c, PARE_F32, 4, empty[k]);
      output(&c, PARE_F32, DIMS(empty[k][0], empty[k][1], 1, 1));
      must(&c, forms[o]);
      c.in[1] = c.out[0], c.nin = 2, c.out[0] = *x;
      must(&c, o ? PARE_OP_AVERAGEPOOLGRAD : PARE_OP_MAXPOOLGRAD);
    }
  }
}

/* --- Resize: the weight of an input is a function of its distance from where the output lies --- */
enum { HALF_PIXEL, PYTORCH_HALF_PIXEL, ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_SYMMETRIC };

static double lies_at(int mode, double i, double n, double m, double scale) {
  if (mode == ASYMMETRIC) return i / scale;
  if (mode == ALIGN_CORNERS) return n * scale > 1 ? i * (n - 1) / (n * scale - 1) : 0;
  if (mode == PYTORCH_HALF_PIXEL && m <= 1) return 0;
  double half = (i + 0.5) / scale - 0.5;
  return mode == HALF_PIXEL_SYMMETRIC ? n / 2 * (1 - m / (n * scale)) + half : half;
}
static double weight(int mode, double a, double far) {
  far = fabs(far);
  if (mode == PARE_MODE_LINEAR) return far < 1 ? 1 - far : 0;
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  return far < 2 ? a * (((far - 5) * far + 8) * far - 4) : 0;
}
/* w[n] of the inputs along an axis for output i. */
static void weights(const PareAttrs *attr, int64_t n, int64_t m, double scale, int64_t i, double *w) {
  double at = lies_at(attr->coordinate_transformation_mode, (double)i, (double)n, (double)m, scale), sum = 0;
  double nearest[] = {ceil(at - 0.5), floor(at + 0.5), floor(at), ceil(at)}, a = pare_attr_get(attr, cubic_coeff_a, -0.75);
  for (int64_t k = 0; k < n; k++) w[k] = 0;
  for (int64_t k = (int64_t)floor(at) - 3; k <= (int64_t)floor(at) + 3; k++) {
    double v = attr->mode == PARE_MODE_NEAREST ? (double)k == nearest[attr->nearest_mode]
                                               : weight(attr->mode, a, (double)k - at);
    if (attr->exclude_outside && (k < 0 || k >= n)) continue;
    w[k < 0 ? 0 : k >= n ? n - 1 : k] += v;
    sum += v;
  }
  for (int64_t k = 0; attr->exclude_outside && sum != 0 && k < n; k++) w[k] /= sum;
}

/* x[2, 3, n0, n1] to [2, 3, m0, m1]; by: 0 scales of all axes, 1 sizes, 2 sizes of axes 3 and 2, 3 scales of these. */
static void resize(Call *c, PareDtype d, const int64_t n[2], const double scale[2], int by) {
  int64_t m[2] = {(int64_t)floor((double)n[0] * scale[0]), (int64_t)floor((double)n[1] * scale[1])};
  double real[2] = {scale[0], scale[1]};
  for (int k = 0; k < 2 && by % 3; k++) real[k] = (double)m[k] / (double)n[k];
  const double all[] = {1, 1, scale[0], scale[1]}, sizes[] = {2, 3, (double)m[0], (double)m[1]};
  c->nin = c->nout = 0;
  bool whole = pare_dtype_is_int(d);
  PareTensor *x = filled(input(c, d, DIMS(2, 3, n[0], n[1])), 3, d == PARE_U8 ? 0 : -100, d == PARE_U8 ? 250 : 100);
  left_out(c);
  if (by == 0) listed(input(c, PARE_F32, DIMS(4)), all);
  if (by == 3) listed(input(c, PARE_F32, DIMS(2)), LIST(scale[1], scale[0]));
  if (by == 1 || by == 2) left_out(c);
  if (by == 1) listed(input(c, PARE_I64, DIMS(4)), sizes);
  if (by == 2) listed(input(c, PARE_I64, DIMS(2)), LIST((double)m[1], (double)m[0]));
  if (by == 3) left_out(c);
  if (by >= 2) listed(input(c, PARE_I64, DIMS(2)), LIST(3, -2));
  PareTensor *y = output(c, d, DIMS(2, 3, m[0], m[1])), want = tensor(c, PARE_F64, DIMS(2, 3, m[0], m[1]));
  must(c, PARE_OP_RESIZE);
  double lo = d == PARE_U8 ? 0 : d == PARE_I8 ? -128 : -1e9, hi = d == PARE_U8 ? 255 : d == PARE_I8 ? 127 : 1e9;
  for (int64_t i = 0; i < count(y); i++) {
    double w0[16], w1[16], sum = 0;
    weights(&c->attr, n[0], m[0], real[0], i / m[1] % m[0], w0);
    weights(&c->attr, n[1], m[1], real[1], i % m[1], w1);
    for (int64_t k = 0; k < n[0] * n[1]; k++)
      sum += w0[k / n[1]] * w1[k % n[1]] * get(x, i / (m[0] * m[1]) * n[0] * n[1] + k);
    put(&want, i, fmin(fmax(sum, lo), hi));
    double off = fabs(get(y, i) - get(&want, i));
    cr_assert(!whole || off <= 0.5 + 1e-9, "at %" PRId64 ": %g of %g", i, get(y, i), sum);
  }
  if (!whole) near(y, &want, d == PARE_F64 ? 64 : 2, "Resize"); /* weights of a distance that is rounded */
}

Test(resize, weighs_inputs_by_their_distance) {
  static const int modes[] = {PARE_MODE_NEAREST, PARE_MODE_LINEAR, PARE_MODE_CUBIC};
  static const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_U8, PARE_I8, PARE_I32};
  static const double scales[][2] = {{1.5, 2.25}, {0.625, 0.5}, {1, 3}, {0.25, 1}, {1, 1}};
  EACH_LEVEL(c) for (int mode = 0; mode < 3; mode++) for (int k = 0; k < 5; k++)
    for (int from = HALF_PIXEL; from <= HALF_PIXEL_SYMMETRIC; from++) for (int round = 0; round < 4; round++) {
      clear(&c);
      pare_attr_set(&c.attr, mode, modes[mode]);
      pare_attr_set(&c.attr, coordinate_transformation_mode, from);
      if (mode) pare_attr_set(&c.attr, exclude_outside, round % 2);
      if (mode == 2 && round > 1) pare_attr_set(&c.attr, cubic_coeff_a, -0.5);
      else if (!mode) pare_attr_set(&c.attr, nearest_mode, round);
      resize(&c, types[(k + from + round) % 6], (const int64_t[]){5, 8}, scales[k], round);
    }
}

/* Output i of m shows input i·(n-1)/(m-1), of two as near the first: in whole numbers. */
Test(resize, to_a_size_with_aligned_corners_takes_the_first_of_two_as_near) {
  EACH_LEVEL(c) for (int64_t n = 1; n < 40; n++) for (int64_t m = 2; m < 64; m++) {
    clear(&c);
    pare_attr_set(&c.attr, coordinate_transformation_mode, 2);
    PareTensor *x = input(&c, PARE_F32, DIMS(n));
    left_out(&c), left_out(&c);
    listed(input(&c, PARE_I64, DIMS(1)), LIST((double)m));
    PareTensor *y = output(&c, PARE_F32, DIMS(m));
    for (int64_t i = 0; i < n; i++) put(x, i, (double)i);
    must(&c, PARE_OP_RESIZE);
    for (int64_t i = 0; i < m; i++) {
      int64_t want = (2 * i * (n - 1) + m - 2) / (2 * (m - 1));
      cr_assert_eq(get(y, i), (double)want, "%d of %d to %d: got %g, want %d", (int)i, (int)n, (int)m, get(y, i), (int)want);
    }
  }
}

Test(resize, of_nothing_is_nothing) {
  EACH_LEVEL(c) {
    clear(&c);
    pare_attr_set(&c.attr, mode, PARE_MODE_LINEAR);
    input(&c, PARE_F32, DIMS(0, 3, 4)), left_out(&c), left_out(&c), listed(input(&c, PARE_I64, DIMS(3)), LIST(0, 6, 8));
    output(&c, PARE_F32, DIMS(0, 6, 8));
    must(&c, PARE_OP_RESIZE);
  }
}

#ifndef PARE_TEST_CUDA
/* Weights in a file may lie at odd addresses: with a primitive (f32), and without one. */
Test(matmul, reads_its_right_operand_at_any_address) {
  static const PareDtype types[] = {PARE_F32, PARE_F64, PARE_BF16, PARE_I32, PARE_I64};
  static const PareOp ops[] = {PARE_OP_MATMUL, PARE_OP_GEMM};
  EACH_LEVEL(c) for (int d = 0; d < 5; d++) for (int o = 0; o < 2; o++) {
    clear(&c);
    filled(input(&c, types[d], DIMS(17, 40)), 1, -3, 3);
    PareTensor *w = filled(input(&c, types[d], DIMS(40, 33)), 2, -3, 3), *y = output(&c, types[d], DIMS(17, 33));
    size_t bytes = 40 * 33 * pare_dtype_size(types[d]), out = 17 * 33 * pare_dtype_size(types[d]);
    must(&c, ops[o]);
    char *want = malloc(out), *odd = malloc(bytes + 1);
    memcpy(want, y->data, out);
    w->data = memcpy(odd + 1, w->data, bytes);
    must(&c, ops[o]);
    cr_expect(!memcmp(y->data, want, out), "%s of %s", pare_op_info[ops[o]].name, pare_dtype_name(types[d]));
    free(want), free(odd);
  }
}
#endif

/* --- MatMulInteger and Einsum --- */
Test(matmul_integer, is_exact_with_zero_points_by_row_and_by_column) {
  static const struct {
    int ra, rb, ry;
    int64_t a[4], b[4], y[4], abatch, bbatch, m, n, k; /* batches: of a, of b; y has the larger */
  } all[] = {
      {2, 2, 2, {7, 5}, {5, 9}, {7, 9}, 1, 1, 7, 9, 5},
      {3, 2, 3, {3, 7, 5}, {5, 9}, {3, 7, 9}, 3, 1, 7, 9, 5},
      {2, 3, 3, {7, 5}, {3, 5, 9}, {3, 7, 9}, 1, 3, 7, 9, 5},
      {4, 4, 4, {2, 3, 7, 5}, {2, 3, 5, 9}, {2, 3, 7, 9}, 6, 6, 7, 9, 5},
      {1, 2, 1, {5}, {5, 9}, {9}, 1, 1, 1, 9, 5},
      {3, 1, 2, {3, 7, 5}, {5}, {3, 7}, 3, 1, 7, 1, 5},
      {1, 1, 0, {5}, {5}, {0}, 1, 1, 1, 1, 5},
      {2, 2, 2, {7, 0}, {0, 9}, {7, 9}, 1, 1, 7, 9, 0},
      {2, 2, 2, {0, 5}, {5, 9}, {0, 9}, 1, 1, 0, 9, 5},
      {2, 2, 2, {40, 300}, {300, 33}, {40, 33}, 1, 1, 40, 33, 300},
  };
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int way = 0; way < 16; way++) {
    clear(&c);
    int d = way & 3, zeros = way >> 2;
    PareDtype da = d & 1 ? PARE_I8 : PARE_U8, db = d & 2 ? PARE_I8 : PARE_U8;
    int64_t m = all[k].m, n = all[k].n, each = all[k].k;
    PareTensor *a = filled(input(&c, da, all[k].ra, all[k].a), 1, d & 1 ? -128 : 0, d & 1 ? 127 : 255);
    PareTensor *b = filled(input(&c, db, all[k].rb, all[k].b), 2, d & 2 ? -128 : 0, d & 2 ? 127 : 255);
    PareTensor *za = NULL, *zb = NULL;
    if (zeros & 1) za = filled(k % 2 ? input(&c, da, SCALAR) : input(&c, da, DIMS(m)), 3, 0, 100);
    else if (zeros) left_out(&c);
    if (zeros & 2) zb = filled(k % 2 ? input(&c, db, DIMS(1)) : input(&c, db, DIMS(n)), 4, 0, 100);
    PareTensor *y = output(&c, PARE_I32, all[k].ry, all[k].y);
    must(&c, PARE_OP_MATMULINTEGER);
    for (int64_t i = 0; i < count(y); i++) {
      int64_t batch = i / (m * n), row = i / n % m, column = i % n, want = 0;
      int64_t oa = all[k].abatch > 1 ? batch * m * each : 0, ob = all[k].bbatch > 1 ? batch * each * n : 0;
      int64_t u = za ? (int64_t)get(za, count(za) > 1 ? row : 0) : 0;
      int64_t v = zb ? (int64_t)get(zb, count(zb) > 1 ? column : 0) : 0;
      for (int64_t t = 0; t < each; t++)
        want += ((int64_t)get(a, oa + row * each + t) - u) * ((int64_t)get(b, ob + t * n + column) - v);
      cr_assert_eq((int64_t)get(y, i), want, "case %zu at %" PRId64 ": got %g, want %" PRId64, k, i, get(y, i), want);
    }
  }
}

/* The place of these indices in operand or result k. */
static int64_t at_labels(const PareEinsum *e, int k, const PareType *t, const int64_t *index) {
  int64_t at = 0;
  for (int i = 0; i < t->rank; i++) at = at * t->dim[i] + (t->dim[i] == 1 ? 0 : index[e->label[k][i]]);
  return at;
}
/* want[..] = the sum of products over all indices */
static void naive_einsum(const PareEinsum *e, const Call *c, const PareTensor *want) {
  int64_t index[PARE_EINSUM_LABELS] = {0}, all = 1;
  for (int l = 0; l < PARE_EINSUM_LABELS; l++) all *= e->used[l] ? e->size[l] : 1;
  for (int64_t i = 0; i < all; i++) {
    double v = 1;
    for (int64_t l = 0, rest = i; l < PARE_EINSUM_LABELS; l++)
      if (e->used[l]) index[l] = rest % e->size[l], rest /= e->size[l];
    for (int k = 0; k < c->nin; k++) v *= get(&c->in[k], at_labels(e, k, &c->in[k].type, index));
    int64_t at = at_labels(e, PARE_EINSUM_OUT, &want->type, index);
    put(want, at, get(want, at) + v);
  }
}

Test(einsum, agrees_with_the_sum_over_all_indices) {
  static const struct {
    const char *equation;
    int ra, rb; /* rb -1: one operand */
    int64_t a[4], b[4];
  } all[] = {
      {"ij,jk->ik", 2, 2, {7, 5}, {5, 9}},
      {"ij,jk->ki", 2, 2, {7, 5}, {5, 9}},
      {"ji,jk", 2, 2, {5, 7}, {5, 9}},
      {"bhid,bhjd->bhij", 4, 4, {2, 3, 7, 5}, {2, 3, 9, 5}},
      {"bhij,bhjd->bihd", 4, 4, {2, 3, 7, 5}, {2, 3, 5, 9}},
      {"bihd,bjhd->bhij", 4, 4, {2, 7, 3, 5}, {2, 9, 3, 5}},
      {"ijb,jkb->kib", 3, 3, {7, 5, 3}, {5, 9, 3}},
      {"bij,bjk->bik", 3, 3, {1, 7, 5}, {3, 5, 9}},
      {"ij,jk->ik", 2, 2, {7, 1}, {5, 9}},
      {"...ij,jk->...ik", 4, 2, {2, 3, 7, 5}, {5, 9}},
      {"...i,...i->...", 2, 2, {1, 5}, {3, 5}},
      {"iij,jk->ik", 3, 2, {7, 7, 5}, {5, 9}},
      {"bijs,jk->bik", 4, 2, {2, 7, 5, 3}, {5, 9}},
      {"is,i->i", 2, 1, {7, 300}, {7}},
      {"ij,kl->", 2, 2, {7, 5}, {5, 9}},
      {"ijs,jkt->ki", 3, 3, {7, 5, 2}, {5, 9, 3}},
      {"i,i->", 1, 1, {300}, {300}},
      {"bi,bi->b", 2, 2, {7, 300}, {7, 300}},
      {"i,j->ij", 1, 1, {7}, {5}},
      {"ij,ij->ji", 2, 2, {7, 5}, {7, 5}},
      {",i->i", 0, 1, {0}, {5}},
      {"ij,jk->ik", 2, 2, {7, 0}, {0, 9}},
      {"ij,jk->ik", 2, 2, {0, 5}, {5, 9}},
      {"bij,bjk->bik", 3, 3, {0, 7, 5}, {0, 5, 9}},
      {"ij->ji", 2, -1, {7, 5}, {0}},
      {"ijk->j", 3, -1, {7, 5, 300}, {0}},
      {"ij->", 2, -1, {7, 5}, {0}},
      {"ii->i", 2, -1, {7, 7}, {0}},
      {"ii", 2, -1, {7, 7}, {0}},
      {"...ij->...", 3, -1, {3, 0, 7}, {0}},
  };
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 3; d++) {
    clear(&c);
    pare_attr_set(&c.attr, equation, all[k].equation);
    filled(input(&c, types[d], all[k].ra, all[k].a), 1, -1, 3);
    if (all[k].rb >= 0) filled(input(&c, types[d], all[k].rb, all[k].b), 2, -1, 3);
    const PareType *in[] = {&c.in[0].type, &c.in[1].type};
    PareEinsum e;
    int64_t dim[PARE_MAX_RANK];
    cr_assert_null(pare_einsum_parse(all[k].equation, c.nin, in, &e));
    int rank = e.rank[PARE_EINSUM_OUT];
    for (int i = 0; i < rank; i++) dim[i] = e.size[e.label[PARE_EINSUM_OUT][i]];
    PareTensor *y = output(&c, types[d], rank, dim), want = tensor(&c, PARE_F64, rank, dim);
    must(&c, PARE_OP_EINSUM);
    naive_einsum(&e, &c, &want);
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, all[k].equation);
  }
}
