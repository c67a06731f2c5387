/* expand_quant.c - ops on integers (QOperator models) as what they stand for:
 * DequantizeLinear of each operand, the op on floats, QuantizeLinear of the result. */
#include "frontend/expand.h"

PareValue *pare_expand_floats(PareExpand *x, const char *role, int k, int scale, int zero, int64_t axis) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, axis);
  PareValue *q = pare_expand_in(x, k), *s = pare_expand_in(x, scale);
  PareValue *in[] = {q, s, pare_expand_has(x, zero) ? pare_expand_in(x, zero) : NULL};
  return pare_expand_op(x, PARE_OP_DEQUANTIZELINEAR, role, &attr, in[2] ? 3 : 2, in);
}

/* A bias of 32 bits: its scale is the product of two others, its zero point 0. */
static PareValue *bias(PareExpand *x, int k, int scale, int other, double factor) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, 0);
  PareValue *s = PARE_EXPAND_OP(x, MUL, "bias_scale", NULL, pare_expand_in(x, scale), pare_expand_in(x, other));
  if (factor != 1) s = PARE_EXPAND_OP(x, MUL, "bias_scaled", NULL, s, pare_expand_float(x, s, factor));
  return PARE_EXPAND_OP(x, DEQUANTIZELINEAR, "bias", &attr, pare_expand_in(x, k), s);
}

/* Output 0 is v quantised by the scale and the zero point at these inputs; without a scale it is v. */
static void result(PareExpand *x, PareValue *v, int scale, int zero) {
  if (!pare_expand_has(x, scale)) {
    pare_expand_out(x, 0, v);
    return;
  }
  PareValue *in[] = {v, pare_expand_in(x, scale), pare_expand_has(x, zero) ? pare_expand_in(x, zero) : NULL};
  pare_expand_out(x, 0, pare_expand_op(x, PARE_OP_QUANTIZELINEAR, "quantized", NULL, in[2] ? 3 : 2, in));
}

/* a, its scale, its zero point, b, ..., y's scale and zero point; scales may be by row of a and by column of b */
void pare_expand_qlinear_matmul(PareExpand *x) {
  PareValue *a = pare_expand_floats(x, "a", 0, 1, 2, -2), *b = pare_expand_floats(x, "b", 3, 4, 5, -1);
  result(x, PARE_EXPAND_OP(x, MATMUL, "product", NULL, a, b), 6, 7);
}

/* x, w by filter, y, bias */
void pare_expand_qlinear_conv(PareExpand *x) {
  PareAttrs attr = pare_expand_conv_attrs(x);
  PareValue *in[] = {pare_expand_floats(x, "x", 0, 1, 2, 1), pare_expand_floats(x, "w", 3, 4, 5, 0),
                     pare_expand_has(x, 8) ? bias(x, 8, 1, 4, 1) : NULL};
  result(x, pare_expand_op(x, PARE_OP_CONV, "conv", &attr, in[2] ? 3 : 2, in), 6, 7);
}

/* The integers at input k less their zero point, which is one for all. */
static PareValue *centred(PareExpand *x, const char *role, int k, int zero) {
  PareValue *in[] = {pare_expand_in(x, k), pare_expand_float(x, NULL, 1),
                     pare_expand_has(x, zero) ? pare_expand_in_of(x, zero, 0) : NULL};
  return pare_expand_op(x, PARE_OP_DEQUANTIZELINEAR, role, NULL, in[2] ? 3 : 2, in);
}

/* x, w, their zero points; sums of integers */
void pare_expand_conv_integer(PareExpand *x) {
  PareAttrs attr = pare_expand_conv_attrs(x);
  PareValue *in[] = {centred(x, "x", 0, 2), centred(x, "w", 1, 3)};
  PareValue *y = pare_expand_op(x, PARE_OP_CONV, "conv", &attr, 2, in);
  pare_expand_out(x, 0, pare_expand_cast(x, y, PARE_I32));
}

/* a, b by column, bias, y; alpha·a·b + bias, the bias at the scale alpha·a_scale·b_scale */
void pare_expand_qgemm(PareExpand *x) {
  PareAttrs attr = {0};
  double alpha = pare_expand_attr_float(x, "alpha", 1);
  bool transposed = pare_expand_attr_int(x, "transB", 0) != 0;
  pare_attr_set(&attr, alpha, alpha);
  pare_attr_set(&attr, transA, pare_expand_attr_int(x, "transA", 0));
  pare_attr_set(&attr, transB, transposed);
  PareValue *in[] = {pare_expand_floats(x, "a", 0, 1, 2, 1), pare_expand_floats(x, "b", 3, 4, 5, transposed ? 0 : 1),
                     pare_expand_has(x, 6) ? bias(x, 6, 1, 4, alpha) : NULL};
  result(x, pare_expand_op(x, PARE_OP_GEMM, "gemm", &attr, in[2] ? 3 : 2, in), 7, 8);
}

static PareValue *binary(PareExpand *x, PareOp op) {
  PareValue *in[] = {pare_expand_floats(x, "a", 0, 1, 2, 1), pare_expand_floats(x, "b", 3, 4, 5, 1)};
  PareValue *y = pare_expand_op(x, op, "floats", NULL, 2, in);
  result(x, y, 6, 7);
  return y;
}
void pare_expand_qlinear_add(PareExpand *x) {
  PareValue *sum = binary(x, PARE_OP_ADD);
  if (sum && !x->call) sum->def->onnx_input = PARE_IN_SUM;
}
void pare_expand_qlinear_mul(PareExpand *x) { (void)binary(x, PARE_OP_MUL); }

static void unary(PareExpand *x, PareOp op, const PareAttrs *attr) {
  PareValue *in = pare_expand_floats(x, "x", 0, 1, 2, 1);
  result(x, pare_expand_op(x, op, "floats", attr, 1, &in), 3, 4);
}
void pare_expand_qlinear_sigmoid(PareExpand *x) { unary(x, PARE_OP_SIGMOID, NULL); }
void pare_expand_qlinear_leaky(PareExpand *x) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, alpha, pare_expand_attr_float(x, "alpha", 0.01));
  unary(x, PARE_OP_LEAKYRELU, &attr);
}
/* The attribute `opset` says which Softmax is meant. */
void pare_expand_qlinear_softmax(PareExpand *x) {
  PareAttrs attr = {0};
  bool old = pare_expand_attr_int(x, "opset", 13) < 13;
  pare_attr_set(&attr, axis, pare_expand_attr_int(x, "axis", -1));
  if (old && attr.axis != -1) pare_attr_set(&attr, flatten, 1);
  unary(x, PARE_OP_SOFTMAX, &attr);
}

/* x [N, C, ...]; the other layout is made at level 'all' alone */
static void pool(PareExpand *x, PareOp op, const PareAttrs *attr) {
  if (pare_expand_attr_int(x, "channels_last", 0))
    pare_expand_fail(x, PARE_UNSUPPORTED, "the value of attribute 'channels_last' is not supported");
  unary(x, op, attr);
}
void pare_expand_qlinear_pool(PareExpand *x) {
  PareAttrs attr = pare_expand_window_attrs(x);
  pare_attr_set(&attr, ceil_mode, pare_expand_attr_int(x, "ceil_mode", 0));
  pare_attr_set(&attr, count_include_pad, pare_expand_attr_int(x, "count_include_pad", 0));
  pool(x, PARE_OP_AVERAGEPOOL, &attr);
}
void pare_expand_qlinear_global_pool(PareExpand *x) { pool(x, PARE_OP_GLOBALAVERAGEPOOL, NULL); }

/* y's scale and zero point, then each part with its own */
void pare_expand_qlinear_concat(PareExpand *x) {
  enum { MOST = 64 };
  PareValue *part[MOST];
  int parts = (x->nin - 2) / 3;
  if (parts > MOST || x->nin != 2 + 3 * parts) {
    pare_expand_fail(x, PARE_UNSUPPORTED, "%d inputs are not those of up to %d parts", x->nin, MOST);
    return;
  }
  for (int i = 0; i < parts; i++) part[i] = pare_expand_floats(x, "part", 2 + 3 * i, 3 + 3 * i, 4 + 3 * i, 1);
  result(x, pare_expand_join(x, "floats", pare_expand_attr_int(x, "axis", 0), parts, part), 0, 1);
}

static PareValue *plus_bias(PareExpand *x, PareValue *v, int k) {
  return pare_expand_has(x, k) ? PARE_EXPAND_OP(x, ADD, "biased", NULL, v, pare_expand_in(x, k)) : v;
}

/* A and B, their scales, their zero points, bias of floats; the result is of floats */
void pare_expand_matmul_integer_to_float(PareExpand *x) {
  PareValue *a = pare_expand_floats(x, "a", 0, 2, 4, -2), *b = pare_expand_floats(x, "b", 1, 3, 5, -1);
  pare_expand_out(x, 0, plus_bias(x, PARE_EXPAND_OP(x, MATMUL, "product", NULL, a, b), 6));
}

/* A of floats, quantised by its own range; B, its scale, its zero point, bias */
void pare_expand_dynamic_matmul(PareExpand *x) {
  PareValue *a = pare_expand_in(x, 0);
  PareNode *q = pare_expand_node(x, PARE_OP_DYNAMICQUANTIZELINEAR, "measured", NULL, 1, &a, 3);
  PareValue *da = q ? PARE_EXPAND_OP(x, DEQUANTIZELINEAR, "a", NULL, q->out[0], q->out[1], q->out[2]) : NULL;
  PareValue *b = pare_expand_floats(x, "b", 1, 2, 3, -1);
  pare_expand_out(x, 0, plus_bias(x, PARE_EXPAND_OP(x, MATMUL, "product", NULL, da, b), 4));
}

/* com.microsoft's copies of the standard's ops: 16 bits came there first. */
static void same_op(PareExpand *x, PareOp op) {
  PareAttrs attr = {0};
  if (pare_expand_has_attr(x, "axis")) pare_attr_set(&attr, axis, pare_expand_attr_int(x, "axis", 1));
  PareValue *in[] = {pare_expand_in(x, 0), pare_expand_in(x, 1), pare_expand_has(x, 2) ? pare_expand_in(x, 2) : NULL};
  pare_expand_out(x, 0, pare_expand_op(x, op, "standard", &attr, in[2] ? 3 : 2, in));
}
void pare_expand_quantize(PareExpand *x) { same_op(x, PARE_OP_QUANTIZELINEAR); }
void pare_expand_dequantize(PareExpand *x) { same_op(x, PARE_OP_DEQUANTIZELINEAR); }
