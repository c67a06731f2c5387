/* test_autodiff.c - every gradient rule against central differences of the
 * forward pass in float64, the numbers coming from the program as it runs. Rules of
 * ops that are rare in transformers are in test_autodiff_rare.c. */
#include "gradcheck.h"

/* --- element-wise --- */

CASE(add_same) { return N(ADD, S(2, 3), S(2, 3)); }
CASE(add_row) { return N(ADD, S(2, 3), S(3)); }
CASE(add_column) { return N(ADD, S(2, 1), S(2, 3)); }
CASE(add_both_grow) { return N(ADD, S(4, 1, 3), S(2, 1)); }
CASE(add_scalar) { return N(ADD, SCALAR(), S(2, 3)); }
CASE(sub_same) { return N(SUB, S(2, 3), S(2, 3)); }
CASE(sub_rows) { return N(SUB, S(3), S(2, 3)); }
CASE(sub_row) { return N(SUB, S(2, 3), S(1, 3)); }
CASE(mul_same) { return N(MUL, S(2, 3), S(2, 3)); }
CASE(mul_grow) { return N(MUL, S(2, 1, 3), S(4, 1)); }
CASE(mul_square) {
  PareValue *x = S(2, 3);
  return N(MUL, x, x);
}
CASE(div_same) { return N(DIV, S(2, 3), S(2, 3)); }
CASE(div_row) { return N(DIV, S(2, 3), S(3)); }
CASE(div_rows) { return N(DIV, S(3), S(2, 3)); }
CASE(pow_two) { return N(POW, S(2, 3), NUM(2)); }
CASE(pow_three) { return N(POW, S(2, 3), NUM(3)); }
CASE(pow_half) { return N(POW, P(2, 3), NUM(0.5)); }
CASE(pow_rows) { return N(POW, P(3), K(2, 3)); }
CASE(where_grow) {
  static const unsigned char yes[] = {1, 0, 1};
  PareValue *k = pare_const_add(&f->c, f->g, "c", type_of(PARE_BOOL, 1, (int64_t[]){3}), yes);
  return N(WHERE, k, S(2, 3), SCALAR());
}

Test(autodiff, binary_ops_agree_with_differences_and_sum_over_broadcast_axes) {
  static const Case cases[] = {
    ROW(add_same), ROW(add_row), ROW(add_column), ROW(add_both_grow), ROW(add_scalar), ROW(sub_same), ROW(sub_rows),
    ROW(sub_row), ROW(mul_same), ROW(mul_grow), ROW(mul_square), ROW(div_same), ROW(div_row), ROW(div_rows),
    ROW(pow_two), ROW(pow_three), ROW(pow_half), ROW(pow_rows), ROW(where_grow),
  };
  CHECK_ALL(cases);
}

/* What is clipped has slope 0, the rest 1: 0.2 to 1.7 against [-1.6, 0.95] or [-0.7, 1.3], never at their ends. */
static PareValue *clipped(Fix *f, PareDtype d, double scale, double zero) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, output_dtype, d);
  pare_attr_set(&attr, unrounded, 1);
  return NA(FAKEQUANTIZE, S(5, 4), NUM(scale), NUM(zero));
}
CASE(fake_quantize_i8) { return clipped(f, PARE_I8, 0.01, 32); }
CASE(fake_quantize_u8) { return clipped(f, PARE_U8, 2 / 255.0, 89); }

CASE(neg) { return N(NEG, S(5)); }
CASE(sqrt_) { return N(SQRT, P(5)); }
CASE(reciprocal) { return N(RECIPROCAL, S(5)); }
CASE(exp_) { return N(EXP, S(5)); }
CASE(log_) { return N(LOG, P(5)); }
CASE(erf_) { return N(ERF, S(5)); }
CASE(tanh_) { return N(TANH, S(5)); }
CASE(sigmoid) { return N(SIGMOID, S(5)); }
CASE(relu) { return N(RELU, S(9)); }
CASE(gelu) { return N(GELU, S(9)); }
CASE(gelu_tanh) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, approximate, 1);
  return NA(GELU, S(9));
}

Test(autodiff, unary_ops_agree_with_differences) {
  static const Case cases[] = {ROW(neg), ROW(sqrt_), ROW(reciprocal), ROW(exp_), ROW(log_), ROW(erf_),
                               ROW(tanh_), ROW(sigmoid), ROW(relu), ROW(gelu), ROW(gelu_tanh),
                               ROW(fake_quantize_i8), ROW(fake_quantize_u8)};
  CHECK_ALL(cases);
}

/* --- products --- */

static PareValue *product(Fix *f, PareValue *a, PareValue *b, int trans_a, int trans_b, double alpha) {
  PareAttrs attr = {0};
  if (trans_a) pare_attr_set(&attr, transA, 1);
  if (trans_b) pare_attr_set(&attr, transB, 1);
  if (alpha != 1) pare_attr_set(&attr, alpha, alpha);
  return NA(FUSEDMATMUL, a, b);
}

CASE(matmul_2d) { return N(MATMUL, S(3, 4), S(4, 2)); }
CASE(matmul_shared) { return N(MATMUL, S(2, 3, 4), S(4, 2)); }
CASE(matmul_shared_left) { return N(MATMUL, S(3, 4), S(2, 4, 2)); }
CASE(matmul_batch) { return N(MATMUL, S(2, 2, 3, 4), S(2, 2, 4, 2)); }
CASE(matmul_grow) { return N(MATMUL, S(2, 1, 3, 4), S(3, 4, 2)); }
CASE(matmul_ones) { return N(MATMUL, S(2, 3, 4), S(1, 4, 2)); }
CASE(matmul_row) { return N(MATMUL, S(4), S(2, 4, 3)); }
CASE(matmul_column) { return N(MATMUL, S(2, 3, 4), S(4)); }
CASE(matmul_dot) { return N(MATMUL, S(4), S(4)); }
CASE(fused_a) { return product(f, S(4, 3), S(4, 2), 1, 0, 1); }
CASE(fused_b) { return product(f, S(2, 3, 4), S(2, 2, 4), 0, 1, 0.5); }
CASE(fused_ab) { return product(f, S(2, 4, 3), S(2, 2, 4), 1, 1, -2); }
CASE(fused_shared_b) { return product(f, S(2, 3, 4), S(2, 4), 0, 1, 3); }
CASE(fused_shared_a) { return product(f, S(2, 4, 3), S(4, 2), 1, 0, 1); }
CASE(fused_shared_ab) { return product(f, S(2, 4, 3), S(2, 4), 1, 1, 0.25); }

Test(autodiff, products_agree_with_differences_for_batches_transposes_and_vectors) {
  static const Case cases[] = {
    ROW(matmul_2d), ROW(matmul_shared), ROW(matmul_shared_left), ROW(matmul_batch), ROW(matmul_grow), ROW(matmul_ones),
    ROW(matmul_row), ROW(matmul_column), ROW(matmul_dot), ROW(fused_a), ROW(fused_b), ROW(fused_ab),
    ROW(fused_shared_b), ROW(fused_shared_a), ROW(fused_shared_ab),
  };
  CHECK_ALL(cases);
}

CASE(gemm_plain) { return N(GEMM, S(3, 4), S(4, 2)); }
CASE(gemm_bias) { return N(GEMM, S(3, 4), S(4, 2), S(2)); }
CASE(gemm_trans) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, transA, 1);
  pare_attr_set(&attr, transB, 1);
  pare_attr_set(&attr, alpha, 0.5);
  pare_attr_set(&attr, beta, -2);
  return NA(GEMM, S(4, 3), S(2, 4), S(3, 1));
}
CASE(gemm_trans_b) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, transB, 1);
  return NA(GEMM, S(3, 4), S(2, 4), SCALAR());
}

Test(autodiff, gemm_agrees_with_differences_for_every_kind_of_c) {
  static const Case cases[] = {ROW(gemm_plain), ROW(gemm_bias), ROW(gemm_trans), ROW(gemm_trans_b)};
  CHECK_ALL(cases);
}

Test(autodiff, a_weight_shared_by_a_batch_is_summed_by_one_product) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *loss = weigh(f, matmul_shared(f)), *dloss = NUM(1), *grad[2];
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, 2, f->wrt, grad), PARE_OK);
  cr_assert_eq(grad[1]->def->op, PARE_OP_MATMUL, "dW is made by %s", pare_op_info[grad[1]->def->op].name);
  fix_free(f);
}

/* --- along axes --- */

static PareValue *along(Fix *f, PareOp op, PareValue *x, int64_t axis, int flatten) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  if (flatten) pare_attr_set(&attr, flatten, 1);
  return must(f, pare_emit(&f->c, f->g, NULL, op, "along", &attr, 1, &x));
}
CASE(softmax_last) { return along(f, PARE_OP_SOFTMAX, S(2, 3, 4), -1, 0); }
CASE(softmax_middle) { return along(f, PARE_OP_SOFTMAX, S(2, 3, 4), 1, 0); }
CASE(softmax_flat) { return along(f, PARE_OP_SOFTMAX, S(2, 3, 2), 1, 1); }

static PareValue *layernorm(Fix *f, int64_t axis, PareValue *x, PareValue *gamma, PareValue *beta) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  pare_attr_set(&attr, epsilon, 1e-3);
  return beta ? NA(LAYERNORM, x, gamma, beta) : NA(LAYERNORM, x, gamma);
}
CASE(layernorm_all) { return layernorm(f, -1, S(2, 3, 5), S(5), S(5)); }
CASE(layernorm_no_beta) { return layernorm(f, -1, S(4, 5), S(5), NULL); }
CASE(layernorm_two_axes) { return layernorm(f, 1, S(3, 2, 3), S(2, 3), S(2, 3)); }
CASE(layernorm_frozen_x) { return layernorm(f, -1, K(4, 5), S(5), S(5)); }
CASE(layernorm_frozen_scale) { return layernorm(f, -1, S(4, 5), K(5), S(5)); }
CASE(layernorm_only_x) { return layernorm(f, -1, S(4, 5), K(5), K(5)); }

static PareValue *reduce(Fix *f, PareOp op, int keep, int noop, PareValue *x, PareValue *axes) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, keepdims, keep);
  if (noop) pare_attr_set(&attr, noop_with_empty_axes, 1);
  return must(f, pare_emit(&f->c, f->g, NULL, op, "reduce", &attr, axes ? 2 : 1, (PareValue *[]){x, axes}));
}
CASE(mean_last) { return reduce(f, PARE_OP_REDUCEMEAN, 1, 0, S(2, 3, 4), INTS(-1)); }
CASE(mean_middle) { return reduce(f, PARE_OP_REDUCEMEAN, 0, 0, S(2, 3, 4), INTS(1)); }
CASE(mean_two) { return reduce(f, PARE_OP_REDUCEMEAN, 0, 0, S(2, 3, 4), INTS(0, 2)); }
CASE(mean_all) { return reduce(f, PARE_OP_REDUCEMEAN, 0, 0, S(2, 3), NULL); }
CASE(sum_first) { return reduce(f, PARE_OP_REDUCESUM, 0, 0, S(2, 3), INTS(0)); }
CASE(sum_all) { return reduce(f, PARE_OP_REDUCESUM, 1, 0, S(2, 3), NULL); }
CASE(sum_noop) { return reduce(f, PARE_OP_REDUCESUM, 1, 1, S(2, 3), NULL); }

Test(autodiff, norms_and_reductions_agree_with_differences) {
  static const Case cases[] = {
    ROW(softmax_last), ROW(softmax_middle), ROW(softmax_flat), ROW(layernorm_all), ROW(layernorm_no_beta),
    ROW(layernorm_two_axes), ROW(layernorm_frozen_x), ROW(layernorm_frozen_scale), ROW(layernorm_only_x),
    ROW(mean_last), ROW(mean_middle), ROW(mean_two), ROW(mean_all), ROW(sum_first), ROW(sum_all), ROW(sum_noop),
  };
  CHECK_ALL(cases);
}

/* --- movement --- */

CASE(reshape) { return N(RESHAPE, S(2, 6), INTS(3, -1)); }
CASE(flatten) { return N(FLATTEN, S(2, 3, 2)); }
CASE(squeeze) { return N(SQUEEZE, S(2, 1, 3), INTS(1)); }
CASE(unsqueeze) { return N(UNSQUEEZE, S(2, 3), INTS(0, 3)); }
CASE(identity) { return N(IDENTITY, S(4)); }
CASE(dropout) { return N(DROPOUT, S(4)); }
CASE(transpose_default) { return N(TRANSPOSE, S(2, 3, 4)); }
CASE(transpose_cycle) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, perm, ((PareInts){3, {1, 2, 0}}));
  return NA(TRANSPOSE, S(2, 3, 4));
}
CASE(concat) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  return NA(CONCAT, S(2, 3), K(2, 2), S(2, 1));
}
/* Three parts, of which the middle one is not used. */
CASE(split) {
  PareValue *in[] = {S(2, 6), INTS(1, 2, 3)};
  PareNode *n = pare_node_add(&f->c, f->g, NULL, PARE_OP_SPLIT, "split", 2, in, 3);
  pare_attr_set(&n->attr, axis, 1);
  cr_assert_eq(pare_infer(&f->c, n), PARE_OK);
  return N(MUL, n->out[0], n->out[2]);
}
CASE(slice_plain) { return N(SLICE, S(4, 5), INTS(1, 0), INTS(3, 100)); }
CASE(slice_axes) { return N(SLICE, S(4, 5), INTS(-3), INTS(-1), INTS(1)); }
CASE(slice_steps) { return N(SLICE, S(4, 5), INTS(4, 3), INTS(0, -100), INTS(1, 0), INTS(-2, -1)); }
CASE(gather_rows) { return N(GATHER, S(4, 3), INTS(2, 0, 2, -1)); }
CASE(gather_axis) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 1);
  return NA(GATHER, S(2, 4, 3), INTS(3, 3));
}
CASE(expand) { return N(EXPAND, S(3, 1), INTS(2, 1, 4)); }

Test(autodiff, movement_agrees_with_differences) {
  static const Case cases[] = {
    ROW(reshape), ROW(flatten), ROW(squeeze), ROW(unsqueeze), ROW(identity), ROW(dropout), ROW(transpose_default),
    ROW(transpose_cycle), ROW(concat), ROW(split), ROW(slice_plain), ROW(slice_axes), ROW(slice_steps),
    ROW(gather_rows), ROW(gather_axis), ROW(expand),
  };
  CHECK_ALL(cases);
}

Test(autodiff, a_cast_passes_the_gradient_on_in_the_type_it_came_from) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareAttrs attr = {0};
  PareValue *x = S(3);
  pare_attr_set(&attr, to, PARE_F32);
  PareValue *narrow = NA(CAST, x), *two = must(f, pare_const_float(&f->c, f->g, "2", PARE_F32, 2));
  PareValue *y = N(MUL, narrow, two);
  pare_attr_set(&attr, to, PARE_F64);
  PareValue *wide = NA(CAST, y), *r = K(3), *dloss = NUM(1), *grad;
  PareAttrs drop = {0};
  pare_attr_set(&drop, keepdims, 0);
  PareValue *prod = N(MUL, wide, r);
  PareValue *loss = must(f, pare_emit(&f->c, f->g, NULL, PARE_OP_REDUCESUM, "sum", &drop, 1, &prod));
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, 1, &x, &grad), PARE_OK);
  cr_assert_eq(grad->type.dtype, PARE_F64);
  PareProgram *p;
  cr_assert_eq(pare_program_new_pinned(&f->c, f->g, pare_cpu_kernels(), 2, (PareValue *[]){loss, grad}, &p), PARE_OK);
  run_loss(f, p, loss);
  const double *got = pare_program_buffer(p, grad);
  for (int i = 0; i < 3; i++) {
    double want = 2 * (double)(float)((const double *)r->data)[i];
    cr_expect_eq(got[i], want, "gradient %d is %.17g, not %.17g", i, got[i], want);
  }
  pare_program_free(p);
  fix_free(f);
}

/* --- losses --- */

static PareValue *labels(Fix *f, int n, const int64_t *v) { return must(f, pare_const_ints(&f->c, f->g, "y", n, v)); }
CASE(crossentropy) { return N(CROSSENTROPY, S(4, 3), labels(f, 4, (int64_t[]){2, -1, 0, 0})); }
CASE(crossentropy_tokens) {
  static const int64_t of[] = {2, -100, 0, 1, -100, -100};
  PareValue *y = must(f, pare_const_add(&f->c, f->g, "y", (PareType){PARE_I64, 2, {2, 3}}, of));
  return N(CROSSENTROPY, S(2, 3, 4), y);
}
/* Scores of first and of last tokens, as training stacks them (passes/training.c). */
static PareValue *places(Fix *f) {
  static const int64_t of[] = {1, 4, 0, -100};
  return must(f, pare_const_add(&f->c, f->g, "y", (PareType){PARE_I64, 2, {2, 2}}, of));
}
CASE(crossentropy_spans) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 1);
  PareValue *first = N(UNSQUEEZE, S(2, 5), INTS(1)), *last = N(UNSQUEEZE, S(2, 5), INTS(1));
  return N(CROSSENTROPY, NA(CONCAT, first, last), places(f));
}
CASE(crossentropy_spans_in_one) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, perm, ((PareInts){3, {0, 2, 1}}));
  return N(CROSSENTROPY, NA(TRANSPOSE, S(2, 5, 2)), places(f));
}
/* The mean over the places that are not padding. */
CASE(distill_padded) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, keepdims, 0);
  static const double real[] = {1, 1, 0, 1, 0, 0};
  PareValue *mask = must(f, pare_const_add(&f->c, f->g, "m", (PareType){PARE_F64, 3, {2, 3, 1}}, real));
  return N(DIV, N(DISTILL, N(MUL, S(2, 3, 4), mask), N(MUL, K(2, 3, 4), mask)), NA(REDUCEMEAN, mask));
}
CASE(distill) { return N(DISTILL, S(4, 3), K(4, 3)); }
CASE(distill_warm) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, temperature, 3);
  return NA(DISTILL, S(2, 2, 3), K(2, 2, 3));
}
CASE(mse) { return N(MSE, S(2, 3), S(2, 3)); }
CASE(bce) { return N(BCE, S(2, 3), N(SIGMOID, K(2, 3))); }

Test(autodiff, losses_agree_with_differences) {
  static const Case cases[] = {ROW(crossentropy), ROW(crossentropy_tokens), ROW(crossentropy_spans),
                               ROW(crossentropy_spans_in_one), ROW(distill), ROW(distill_warm), ROW(distill_padded),
                               ROW(mse), ROW(bce)};
  CHECK_ALL(cases);
}

/* --- networks --- */

static PareValue *heads(Fix *f, PareValue *x, PareValue *w) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, perm, ((PareInts){4, {0, 2, 1, 3}}));
  return NA(TRANSPOSE, N(RESHAPE, N(MATMUL, x, w), INTS(0, 0, 2, 3)));
}

/* Two heads of 3 over x[2,4,6], with its residual path. */
CASE(attention) {
  PareAttrs attr = {0};
  PareValue *x = S(2, 4, 6), *q = heads(f, x, S(6, 6)), *k = heads(f, x, S(6, 6)), *v = heads(f, x, S(6, 6));
  PareValue *scores = product(f, q, k, 0, 1, 1 / sqrt(3.0));
  PareValue *mixed = N(MATMUL, along(f, PARE_OP_SOFTMAX, scores, -1, 0), v);
  pare_attr_set(&attr, perm, ((PareInts){4, {0, 2, 1, 3}}));
  PareValue *flat = N(RESHAPE, NA(TRANSPOSE, mixed), INTS(0, 0, 6));
  return layernorm(f, -1, N(ADD, x, N(ADD, N(MATMUL, flat, S(6, 6)), S(6))), K(6), K(6));
}

/* fc1, gelu as exporters spell it, fc2 and a low-rank branch beside it. */
CASE(ffn) {
  PareValue *x = S(3, 4), *h = N(ADD, N(MATMUL, x, S(4, 5)), S(5));
  PareValue *erf = N(ADD, N(ERF, N(DIV, h, NUM(sqrt(2.0)))), NUM(1));
  PareValue *act = N(MUL, N(MUL, h, erf), NUM(0.5));
  PareValue *branch = N(MUL, N(MATMUL, N(MATMUL, act, S(5, 2)), S(2, 4)), NUM(2));
  return N(ADD, x, N(ADD, N(MATMUL, act, K(5, 4)), branch));
}

/* LayerNormalization as old exporters spell it. */
CASE(layernorm_by_hand) {
  PareValue *x = S(3, 5), *mean = reduce(f, PARE_OP_REDUCEMEAN, 1, 0, x, INTS(-1)), *d = N(SUB, x, mean);
  PareValue *var = reduce(f, PARE_OP_REDUCEMEAN, 1, 0, N(POW, d, NUM(2)), INTS(-1));
  PareValue *norm = N(DIV, d, N(SQRT, N(ADD, var, NUM(1e-3))));
  return N(ADD, N(MUL, norm, S(5)), S(5));
}

/* --- fused ops --- */

static PareValue *linear(Fix *f, bool transposed, PareValue *x, PareValue *w, PareValue *bias, PareValue *a,
                         PareValue *b, PareValue *mask) {
  PareAttrs attr = {0};
  if (transposed) pare_attr_set(&attr, transB, 1);
  pare_attr_set(&attr, scale, 1.75);
  return NA(LINEAR, x, w, bias, a, b, mask);
}
CASE(linear_all) { return linear(f, false, S(2, 3, 5), K(5, 4), S(4), S(5, 2), S(2, 4), K(5)); }
CASE(linear_transposed) { return linear(f, true, S(7, 5), K(4, 5), S(4), S(5, 3), S(3, 4), K(5)); }
CASE(linear_no_adapter) { return linear(f, false, S(3, 5), K(5, 4), NULL, NULL, NULL, NULL); }
CASE(linear_frozen_x) { return linear(f, false, K(30, 5), K(5, 70), K(70), S(5, 9), S(9, 70), NULL); }
CASE(linear_frozen_adapter) { return linear(f, true, S(3, 70), K(4, 70), NULL, K(70, 2), K(2, 4), NULL); }
CASE(linear_trained) { return linear(f, false, S(2, 3, 5), S(5, 4), S(4), S(5, 2), S(2, 4), K(5)); }
CASE(linear_trained_transposed) { return linear(f, true, S(7, 5), S(4, 5), S(4), NULL, NULL, K(5)); }
CASE(linear_trained_alone) { return linear(f, true, K(2, 3, 5), S(4, 5), S(4), NULL, NULL, NULL); }

/* heads: of q, k, v and the result, on axis 1 or 2 */
static PareValue *fused_attention(Fix *f, PareInts heads, PareValue *q, PareValue *k, PareValue *v, PareValue *mask) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, scale, 0.6);
  pare_attr_set(&attr, heads, heads);
  PareNode *n = pare_node_add(&f->c, f->g, NULL, PARE_OP_ATTENTION, "attention", 4, (PareValue *[]){q, k, v, mask}, 2);
  cr_assert(n != NULL);
  n->attr = attr;
  cr_assert_eq(pare_infer(&f->c, n), PARE_OK, "%s", f->c.diag.text);
  return n->out[0];
}
CASE(attention_apart) {
  return fused_attention(f, (PareInts){4, {1, 1, 1, 1}}, S(1, 2, 3, 2), S(1, 2, 4, 2), S(1, 2, 4, 3), NULL);
}
CASE(attention_inside) {
  return fused_attention(f, (PareInts){4, {2, 2, 2, 2}}, S(2, 3, 2, 2), S(2, 4, 2, 2), S(2, 4, 2, 3), K(2, 1, 1, 4));
}
CASE(attention_mixed) {
  return fused_attention(f, (PareInts){4, {1, 2, 1, 2}}, S(1, 2, 3, 2), S(1, 3, 2, 2), S(1, 2, 3, 2), K(3, 3));
}

Test(autodiff, fused_ops_agree_with_differences) {
  static const Case cases[] = {ROW(linear_all), ROW(linear_transposed), ROW(linear_no_adapter), ROW(linear_frozen_x),
                               ROW(linear_frozen_adapter), ROW(linear_trained),
                               ROW(linear_trained_transposed), ROW(linear_trained_alone), ROW(attention_apart), ROW(attention_inside),
                               ROW(attention_mixed)};
  CHECK_ALL(cases);
}

Test(autodiff, blocks_of_transformers_agree_with_differences) {
  static const Case cases[] = {ROW(attention), ROW(ffn), ROW(layernorm_by_hand)};
  CHECK_ALL(cases);
}

/* --- what is and is not differentiated --- */

Test(autodiff, an_inner_result_has_a_gradient_too) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = S(3), *h = N(EXP, x), *loss = weigh(f, h), *dloss = NUM(1), *grad[2];
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, 2, (PareValue *[]){h, x}, grad), PARE_OK);
  cr_assert(grad[0] != NULL && grad[1] != NULL);
  cr_assert_eq(grad[1]->def->op, PARE_OP_MUL, "exp's rule reads the gradient of its result");
  cr_assert_eq(grad[1]->def->in[0], grad[0]);
  fix_free(f);
}

Test(autodiff, there_is_no_gradient_where_the_loss_does_not_depend_on_the_value) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = S(3), *other = S(3), *loss = weigh(f, N(EXP, x)), *dloss = NUM(1), *grad[2];
  N(NEG, other);
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, 2, (PareValue *[]){x, other}, grad), PARE_OK);
  cr_expect(grad[0] != NULL);
  cr_expect(grad[1] == NULL);
  fix_free(f);
}

Test(autodiff, a_node_without_a_rule_matters_only_on_the_path) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = S(3), *off = N(REDUCEPROD, K(3)), *loss = weigh(f, N(MUL, x, off)), *dloss = NUM(1), *grad;
  cr_expect_eq(pare_autodiff(&f->c, f->g, loss, dloss, 1, &x, &grad), PARE_OK, "%s", f->c.diag.text);
  PareValue *y = must(f, PARE_EMIT(&f->c, f->g, NULL, PARE_OP_REDUCEPROD, "layer.3/Prod", NULL, x));
  loss = weigh(f, y);
  cr_expect_eq(pare_autodiff(&f->c, f->g, loss, dloss, 1, &x, &grad), PARE_UNSUPPORTED);
  cr_expect_str_eq(f->c.diag.node, "layer.3/Prod");
  fix_free(f);
}

Test(autodiff, frozen_branches_get_no_backward_nodes) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *x = K(3, 4), *h = N(MATMUL, x, K(4, 4)), *a = S(4, 2), *loss = weigh(f, N(MATMUL, h, a));
  PareValue *dloss = NUM(1), *grad;
  uint32_t before = f->g->nnodes;
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, 1, &a, &grad), PARE_OK);
  int products = 0;
  for (const PareNode *n = f->g->first; n; n = n->next) products += n->id >= before && n->op == PARE_OP_MATMUL;
  cr_assert_eq(products, 1, "%d products where dA alone is wanted", products);
  fix_free(f);
}

Test(autodiff, every_allocation_may_fail) {
  for (int which = 0; which < 2; which++) {
    PareStatus s = PARE_NOMEM;
    for (size_t k = 1; s != PARE_OK; k++) {
      Fix fix, *f = &fix;
      fix_init(f);
      PareValue *loss = weigh(f, attention(f)), *dloss = NUM(1), *grad[MAX_WRT];
      pare_arena_fail_after(which ? f->arena : f->c.scratch, k);
      s = pare_autodiff(&f->c, f->g, loss, dloss, f->nwrt, f->wrt, grad);
      cr_assert(s == PARE_OK || s == PARE_NOMEM, "allocation %zu: %s", k, f->c.diag.text);
      fix_free(f);
    }
  }
}
