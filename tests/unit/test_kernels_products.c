/* test_kernels_products.c - MatMul, Gemm, Conv (kernel_call.h). Truth comes from sums of products, index by index. */
#include "kernel_call.h"

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
