/* test_autodiff_rare.c - the gradient rules of ops that transformers seldom have
 * between a loss and an adapter, against central differences in float64. */
#include "gradcheck.h"

/* --- functions of one number --- */

/* Numbers of magnitude 0.2 to 1.7 times `scale`, then moved. */
static PareValue *spread(Fix *f, PareValue *x, double scale, double move) {
  return N(ADD, N(MUL, x, NUM(scale)), NUM(move));
}

static const struct {
  PareOp op;
  double scale, move; /* into the domain, away from kinks */
} functions[] = {
    {PARE_OP_ABS, 1, 0},       {PARE_OP_SIN, 1, 0},         {PARE_OP_COS, 1, 0},
    {PARE_OP_TAN, 0.7, 0},     {PARE_OP_ASIN, 0.5, 0},      {PARE_OP_ACOS, 0.5, 0},
    {PARE_OP_ATAN, 1, 0},      {PARE_OP_SINH, 1, 0},        {PARE_OP_COSH, 1, 0},
    {PARE_OP_ASINH, 1, 0},     {PARE_OP_ACOSH, 0.5, 2.5},   {PARE_OP_ATANH, 0.5, 0},
    {PARE_OP_SOFTPLUS, 3, 0},  {PARE_OP_SOFTSIGN, 1, 0},    {PARE_OP_HARDSWISH, 4, 0},
    {PARE_OP_MISH, 2, 0},      {PARE_OP_LEAKYRELU, 1, 0},   {PARE_OP_ELU, 1, 0},
    {PARE_OP_SELU, 1, 0},      {PARE_OP_CELU, 1, 0},        {PARE_OP_HARDSIGMOID, 2.5, 0},
    {PARE_OP_SHRINK, 1, 0},    {PARE_OP_SWISH, 1, 0},       {PARE_OP_THRESHOLDEDRELU, 1.3, 0},
};

static PareOp current;
static double current_scale, current_move;
static bool with_numbers;
CASE(function) {
  PareAttrs attr = {0};
  if (with_numbers) {
    pare_attr_set(&attr, alpha, 0.35);
    pare_attr_set(&attr, beta, 0.45);
    pare_attr_set(&attr, gamma, 1.3);
    pare_attr_set(&attr, lambd, 0.15);
    pare_attr_set(&attr, bias, 0.25);
  }
  PareValue *x = spread(f, S(9), current_scale, current_move);
  return must(f, pare_emit(&f->c, f->g, NULL, current, pare_op_info[current].name, &attr, 1, &x));
}

Test(autodiff_rare, functions_of_one_number_agree_with_differences_by_default_and_with_numbers) {
  for (size_t i = 0; i < 2 * sizeof functions / sizeof *functions; i++) {
    current = functions[i / 2].op, current_scale = functions[i / 2].scale, current_move = functions[i / 2].move;
    with_numbers = i % 2;
    check(&(Case){pare_op_info[current].name, function});
  }
}

/* --- several operands --- */

CASE(mod_of_floats) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, fmod, 1);
  return NA(MOD, S(2, 3), NUM(0.7));
}
CASE(prelu) { return N(PRELU, S(2, 3, 4), S(3, 1)); }
CASE(min_two) { return N(MIN, S(2, 3), S(3)); }
CASE(max_three) { return N(MAX, S(2, 3), K(2, 1), S(2, 3)); }
CASE(max_of_itself) {
  PareValue *x = S(4);
  return N(MAX, x, x);
}
CASE(sum_three) { return N(SUM, S(2, 3), S(3), S(2, 1)); }
CASE(mean_three) { return N(MEAN, S(2, 3), K(3), S(2, 1)); }
CASE(clip_both) { return N(CLIP, S(9), NUM(-0.6), NUM(0.8)); }
CASE(clip_above) { return N(CLIP, S(9), NULL, NUM(0.5)); }
CASE(castlike) { return N(CASTLIKE, S(5), K(2)); }

Test(autodiff_rare, ops_of_several_operands_agree_with_differences) {
  static const Case cases[] = {ROW(mod_of_floats), ROW(prelu), ROW(min_two), ROW(max_three), ROW(max_of_itself),
                               ROW(sum_three), ROW(mean_three), ROW(clip_both), ROW(clip_above), ROW(castlike)};
  CHECK_ALL(cases);
}

/* --- along axes --- */

static PareValue *along(Fix *f, PareOp op, PareValue *x, int64_t axis, bool flatten) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  if (flatten) pare_attr_set(&attr, flatten, 1);
  return must(f, pare_emit(&f->c, f->g, NULL, op, "along", &attr, 1, &x));
}
CASE(logsoftmax_last) { return along(f, PARE_OP_LOGSOFTMAX, S(3, 4), -1, false); }
CASE(logsoftmax_middle) { return along(f, PARE_OP_LOGSOFTMAX, S(2, 3, 2), 1, false); }
CASE(logsoftmax_flat) { return along(f, PARE_OP_LOGSOFTMAX, S(2, 3, 2), 1, true); }
CASE(lpnorm_two) { return along(f, PARE_OP_LPNORM, S(2, 3, 2), 1, false); }
CASE(lpnorm_one) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, p, 1);
  return NA(LPNORM, S(3, 4));
}
CASE(cumsum) { return N(CUMSUM, S(2, 4), INTS(1)); }
CASE(cumsum_reverse_exclusive) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, reverse, 1);
  pare_attr_set(&attr, exclusive, 1);
  return NA(CUMSUM, S(2, 4), INTS(0));
}
CASE(batchnorm) {
  PareValue *var = N(ABS, K(3));
  return N(BATCHNORM, S(2, 3, 2, 2), K(3), K(3), K(3), var);
}
CASE(batchnorm_trained) {
  PareValue *var = N(ABS, K(3));
  return N(BATCHNORM, S(2, 3, 2, 2), S(3), S(3), K(3), var);
}
CASE(batchnorm_of_one_channel) {
  PareValue *var = N(ABS, K(1));
  return N(BATCHNORM, K(4), S(1), S(1), K(1), var);
}
CASE(instancenorm) { return N(INSTANCENORM, S(2, 3, 2, 2), K(3), K(3)); }
CASE(instancenorm_trained) { return N(INSTANCENORM, S(2, 3, 2, 2), S(3), S(3)); }

static PareValue *reduce(Fix *f, PareOp op, int keep, int noop, PareValue *x, PareValue *axes) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, keepdims, keep);
  if (noop) pare_attr_set(&attr, noop_with_empty_axes, 1);
  return must(f, pare_emit(&f->c, f->g, NULL, op, "reduce", &attr, axes ? 2 : 1, (PareValue *[]){x, axes}));
}
CASE(reduce_max) { return reduce(f, PARE_OP_REDUCEMAX, 0, 0, S(2, 3, 4), INTS(1)); }
CASE(reduce_min_all) { return reduce(f, PARE_OP_REDUCEMIN, 1, 0, S(2, 3), NULL); }
CASE(reduce_l1) { return reduce(f, PARE_OP_REDUCEL1, 0, 0, S(2, 3, 4), INTS(-1, 0)); }
CASE(reduce_l2) { return reduce(f, PARE_OP_REDUCEL2, 1, 0, S(2, 3, 4), INTS(-1)); }
CASE(reduce_log_sum) { return reduce(f, PARE_OP_REDUCELOGSUM, 0, 0, P(2, 3, 4), INTS(1)); }
CASE(reduce_log_sum_exp) { return reduce(f, PARE_OP_REDUCELOGSUMEXP, 0, 0, S(2, 3, 4), INTS(1)); }
CASE(reduce_sum_square) { return reduce(f, PARE_OP_REDUCESUMSQUARE, 0, 0, S(2, 3, 4), INTS(0, 2)); }
CASE(reduce_nothing) { return reduce(f, PARE_OP_REDUCESUMSQUARE, 1, 1, S(2, 3), NULL); }

Test(autodiff_rare, norms_and_reductions_agree_with_differences) {
  static const Case cases[] = {
      ROW(logsoftmax_last), ROW(logsoftmax_middle), ROW(logsoftmax_flat), ROW(lpnorm_two), ROW(lpnorm_one),
      ROW(cumsum), ROW(cumsum_reverse_exclusive), ROW(batchnorm), ROW(batchnorm_trained),
      ROW(batchnorm_of_one_channel), ROW(instancenorm), ROW(instancenorm_trained), ROW(reduce_max),
      ROW(reduce_min_all), ROW(reduce_l1), ROW(reduce_l2), ROW(reduce_log_sum), ROW(reduce_log_sum_exp),
      ROW(reduce_sum_square), ROW(reduce_nothing),
  };
  CHECK_ALL(cases);
}

/* --- movement and indices --- */

CASE(tile) { return N(TILE, S(2, 3, 1), INTS(2, 1, 3)); }
CASE(pad) { return N(PAD, S(2, 3), INTS(1, 0, 2, 1), NUM(0.5)); }
CASE(pad_axes) { return N(PAD, S(2, 3), INTS(1, 2), NULL, INTS(-1)); }
CASE(trilu_upper) { return N(TRILU, S(2, 3, 4)); }
CASE(trilu_lower) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, upper, 0);
  return NA(TRILU, S(4, 3), INTS(-1));
}
static PareValue *blocks(Fix *f, PareOp op, PareValue *x, int mode) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, blocksize, 2);
  pare_attr_set(&attr, mode, mode);
  return must(f, pare_emit(&f->c, f->g, NULL, op, "blocks", &attr, 1, &x));
}
CASE(depth_dcr) { return blocks(f, PARE_OP_DEPTHTOSPACE, S(2, 8, 1, 3), PARE_MODE_DCR); }
CASE(depth_crd) { return blocks(f, PARE_OP_DEPTHTOSPACE, S(1, 8, 2, 3), PARE_MODE_CRD); }
CASE(space) { return blocks(f, PARE_OP_SPACETODEPTH, S(2, 2, 4, 2), PARE_MODE_DCR); }

static PareValue *table(Fix *f, int rank, const int64_t *dim, const int64_t *v) {
  return must(f, pare_const_add(&f->c, f->g, "i", type_of(PARE_I64, rank, dim), v));
}
static const int64_t picks[] = {2, 0, 0, -1, 1, 2}, pairs[] = {0, 2, 1, 0, 0, 2};
CASE(gather_elements) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 1);
  return NA(GATHERELEMENTS, S(2, 3), table(f, DIMS(2, 3), picks));
}
CASE(gather_nd) { return N(GATHERND, S(2, 3, 2), table(f, DIMS(3, 2), pairs)); }
CASE(scatter_elements) {
  static const int64_t rows[] = {2, 0};
  return N(SCATTERELEMENTS, S(3, 2), table(f, DIMS(1, 2), rows), S(1, 2));
}
CASE(scatter_elements_add) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 1);
  pare_attr_set(&attr, reduction, 1);
  return NA(SCATTERELEMENTS, S(2, 3), table(f, DIMS(2, 3), picks), S(2, 3));
}
CASE(scatter_nd) { return N(SCATTERND, S(2, 3, 2), table(f, DIMS(2, 2), pairs), S(2, 2)); }
CASE(scatter_nd_add) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, reduction, 1);
  return NA(SCATTERND, S(2, 3, 2), table(f, DIMS(3, 2), pairs), S(3, 2));
}
CASE(top_k) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 1);
  PareValue *in[] = {S(2, 4, 2), INTS(2)};
  PareNode *n = pare_node_add(&f->c, f->g, NULL, PARE_OP_TOPK, "top", 2, in, 2);
  n->attr = attr;
  cr_assert_eq(pare_infer(&f->c, n), PARE_OK, "%s", f->c.diag.text);
  return n->out[0];
}

Test(autodiff_rare, movement_and_indices_agree_with_differences) {
  static const Case cases[] = {
      ROW(tile), ROW(pad), ROW(pad_axes), ROW(trilu_upper), ROW(trilu_lower), ROW(depth_dcr), ROW(depth_crd), ROW(space),
      ROW(gather_elements), ROW(gather_nd), ROW(scatter_elements), ROW(scatter_elements_add), ROW(scatter_nd),
      ROW(scatter_nd_add), ROW(top_k),
  };
  CHECK_ALL(cases);
}

/* --- Einsum --- */

static PareValue *einsum(Fix *f, const char *equation, PareValue *a, PareValue *b) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, equation, equation);
  return b ? NA(EINSUM, a, b) : NA(EINSUM, a);
}
CASE(einsum_matmul) { return einsum(f, "ij,jk->ik", S(2, 3), S(3, 4)); }
CASE(einsum_scores) { return einsum(f, "bihd,bjhd->bhij", S(2, 3, 2, 2), S(2, 4, 2, 2)); }
CASE(einsum_heads) { return einsum(f, "...d,hdk->h...k", S(2, 3, 4), S(2, 4, 3)); }
CASE(einsum_stretch) { return einsum(f, "...ij,...j->...i", S(2, 1, 3, 2), S(4, 2)); }
CASE(einsum_implicit) { return einsum(f, "ba, bc", S(3, 2), S(3, 4)); }
CASE(einsum_sums) { return einsum(f, "ijk,jl->j", S(2, 3, 2), S(3, 4)); }
CASE(einsum_outer) { return einsum(f, "i,j->ji", S(3), S(2)); }
CASE(einsum_dot) { return einsum(f, "i,i->", S(3), S(3)); }
CASE(einsum_one) { return einsum(f, "ijk->kj", S(2, 3, 4), NULL); }

Test(autodiff_rare, einsum_agrees_with_differences) {
  static const Case cases[] = {ROW(einsum_matmul),   ROW(einsum_scores), ROW(einsum_heads),
                               ROW(einsum_stretch),  ROW(einsum_implicit), ROW(einsum_sums),
                               ROW(einsum_outer),    ROW(einsum_dot),    ROW(einsum_one)};
  CHECK_ALL(cases);
}

/* --- windows --- */

static PareAttrs window(int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, kernel_shape, ((PareInts){2, {kernel, kernel}}));
  pare_attr_set(&attr, strides, ((PareInts){2, {stride, stride}}));
  pare_attr_set(&attr, dilations, ((PareInts){2, {dilation, dilation}}));
  pare_attr_set(&attr, pads, ((PareInts){4, {pad, pad, pad, 0}}));
  return attr;
}
CASE(conv_plain) { return N(CONV, S(2, 3, 4, 5), K(2, 3, 2, 2), K(2)); }
CASE(conv_strided) {
  PareAttrs attr = window(2, 2, 2, 1);
  return NA(CONV, S(1, 2, 5, 6), K(3, 2, 2, 2));
}
CASE(conv_groups) {
  PareAttrs attr = window(3, 1, 1, 1);
  pare_attr_set(&attr, group, 2);
  return NA(CONV, S(2, 4, 4, 4), K(4, 2, 3, 3));
}
CASE(conv_line) { return N(CONV, S(2, 2, 7), K(3, 2, 3)); }
CASE(conv_trained) { return N(CONV, S(2, 3, 4, 5), S(2, 3, 2, 2), S(2)); }
/* Patches: strides of the kernel's size, and a last column that no kernel reaches. */
CASE(conv_trained_patches) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, strides, ((PareInts){2, {2, 3}}));
  return NA(CONV, K(3, 2, 4, 7), S(5, 2, 2, 3), S(5));
}
CASE(conv_trained_dilated_groups) {
  PareAttrs attr = window(2, 2, 2, 1);
  pare_attr_set(&attr, group, 2);
  return NA(CONV, S(2, 4, 5, 6), S(6, 2, 2, 2), S(6));
}
CASE(conv_trained_same) {
  enum { SAME_LOWER = 2 };
  PareAttrs attr = {0};
  pare_attr_set(&attr, auto_pad, SAME_LOWER);
  pare_attr_set(&attr, strides, ((PareInts){1, {2}}));
  return NA(CONV, S(2, 2, 6), S(3, 2, 4));
}
CASE(average_pool) {
  PareAttrs attr = window(3, 2, 1, 1);
  return NA(AVERAGEPOOL, S(2, 2, 5, 6));
}
CASE(average_pool_with_pads) {
  PareAttrs attr = window(2, 1, 2, 1);
  pare_attr_set(&attr, count_include_pad, 1);
  return NA(AVERAGEPOOL, S(1, 2, 5, 4));
}
CASE(max_pool) {
  PareAttrs attr = window(2, 2, 1, 1);
  pare_attr_set(&attr, ceil_mode, 1);
  return NA(MAXPOOL, S(2, 2, 4, 5));
}
CASE(global_average) { return N(GLOBALAVERAGEPOOL, S(2, 3, 2, 3)); }
CASE(global_max) { return N(GLOBALMAXPOOL, S(2, 3, 2, 3)); }

Test(autodiff_rare, windows_agree_with_differences) {
  static const Case cases[] = {ROW(conv_plain),   ROW(conv_strided), ROW(conv_groups),
                               ROW(conv_line),    ROW(conv_trained),
                               ROW(conv_trained_patches), ROW(conv_trained_dilated_groups), ROW(conv_trained_same), ROW(average_pool), ROW(average_pool_with_pads),
                               ROW(max_pool),     ROW(global_average), ROW(global_max)};
  CHECK_ALL(cases);
}
