/* expand_fused.c - activations with what ONNX Runtime fuses into them. */
#include <float.h>

#include "frontend/expand.h"

static PareValue *gelu(PareExpand *x, PareValue *v, bool tanh) {
  PareAttrs attr = {0};
  if (tanh) pare_attr_set(&attr, approximate, 1);
  return PARE_EXPAND_OP(x, GELU, "gelu", &attr, v);
}

static PareValue *with_bias(PareExpand *x, int k) {
  PareValue *v = pare_expand_in(x, 0);
  return pare_expand_has(x, k) ? PARE_EXPAND_OP(x, ADD, "bias", NULL, v, pare_expand_in(x, k)) : v;
}

void pare_expand_gelu(PareExpand *x) { pare_expand_out(x, 0, gelu(x, pare_expand_in(x, 0), false)); }
void pare_expand_bias_gelu(PareExpand *x) { pare_expand_out(x, 0, gelu(x, with_bias(x, 1), false)); }
void pare_expand_fast_gelu(PareExpand *x) { pare_expand_out(x, 0, gelu(x, with_bias(x, 1), true)); }

/* x·sigmoid(alpha·x) */
void pare_expand_quick_gelu(PareExpand *x) {
  PareValue *v = pare_expand_in(x, 0), *alpha = pare_expand_float(x, v, pare_expand_attr_float(x, "alpha", 1.702));
  PareValue *gate = PARE_EXPAND_OP(x, SIGMOID, "gate", NULL, PARE_EXPAND_OP(x, MUL, "scaled", NULL, v, alpha));
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, MUL, "gated", NULL, v, gate));
}

/* Parameter k of the activation: FusedGemm has attributes for it, FusedConv a list. */
static double parameter(PareExpand *x, int k, double dflt) {
  static const char *const name[] = {"activation_alpha", "activation_beta"};
  if (pare_expand_has_attr(x, "activation_params")) return pare_expand_attr_number(x, "activation_params", k, dflt);
  return pare_expand_attr_float(x, name[k], dflt);
}

static PareValue *clip(PareExpand *x, PareValue *v) {
  PareValue *low = pare_expand_float(x, v, parameter(x, 0, -FLT_MAX));
  PareValue *high = pare_expand_float(x, v, parameter(x, 1, FLT_MAX));
  return PARE_EXPAND_OP(x, CLIP, "clip", NULL, v, low, high);
}

static const struct {
  const char *name;
  PareOp op;
  int nparams; /* alpha, beta */
  double dflt[2];
} activations[] = {{"Relu", PARE_OP_RELU, 0, {0}},
                   {"Tanh", PARE_OP_TANH, 0, {0}},
                   {"Sigmoid", PARE_OP_SIGMOID, 0, {0}},
                   {"LeakyRelu", PARE_OP_LEAKYRELU, 1, {0.01}},
                   {"HardSigmoid", PARE_OP_HARDSIGMOID, 2, {0.2, 0.5}}};

static PareValue *activate(PareExpand *x, PareValue *v) {
  PareAttrs attr = {0};
  if (pare_expand_attr_is(x, "activation", "Clip")) return clip(x, v);
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
    if (!pare_expand_attr_is(x, "activation", activations[i].name)) continue;
    if (activations[i].nparams > 0) pare_attr_set(&attr, alpha, parameter(x, 0, activations[i].dflt[0]));
    if (activations[i].nparams > 1) pare_attr_set(&attr, beta, parameter(x, 1, activations[i].dflt[1]));
    return pare_expand_op(x, activations[i].op, "activation", &attr, 1, &v);
  }
  return pare_expand_fail(x, PARE_UNSUPPORTED, "the value of attribute 'activation' is not supported");
}

void pare_expand_fused_gemm(PareExpand *x) {
  PareAttrs attr = {0};
  pare_attr_set(&attr, alpha, pare_expand_attr_float(x, "alpha", 1));
  pare_attr_set(&attr, beta, pare_expand_attr_float(x, "beta", 1));
  pare_attr_set(&attr, transA, pare_expand_attr_int(x, "transA", 0));
  pare_attr_set(&attr, transB, pare_expand_attr_int(x, "transB", 0));
  PareValue *a = pare_expand_in(x, 0), *b = pare_expand_in(x, 1);
  PareValue *bias = pare_expand_has(x, 2) ? pare_expand_in(x, 2) : NULL;
  pare_expand_out(x, 0, activate(x, PARE_EXPAND_OP(x, GEMM, "gemm", &attr, a, b, bias)));
}

/* x, w, bias, what is added before the activation */
void pare_expand_fused_conv(PareExpand *x) {
  PareAttrs attr = pare_expand_conv_attrs(x);
  PareValue *in[] = {pare_expand_in(x, 0), pare_expand_in(x, 1), pare_expand_has(x, 2) ? pare_expand_in(x, 2) : NULL};
  PareValue *y = pare_expand_op(x, PARE_OP_CONV, "conv", &attr, in[2] ? 3 : 2, in);
  if (pare_expand_has(x, 3)) y = PARE_EXPAND_OP(x, ADD, "sum", NULL, y, pare_expand_in(x, 3));
  pare_expand_out(x, 0, pare_expand_has_attr(x, "activation") ? activate(x, y) : y);
}
