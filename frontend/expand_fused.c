/* expand_fused.c - activations with what ONNX Runtime fuses into them. */
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

static PareValue *relu(PareExpand *x, PareValue *v) { return PARE_EXPAND_OP(x, RELU, "relu", NULL, v); }
static PareValue *tanh_of(PareExpand *x, PareValue *v) { return PARE_EXPAND_OP(x, TANH, "tanh", NULL, v); }
static PareValue *sigmoid(PareExpand *x, PareValue *v) { return PARE_EXPAND_OP(x, SIGMOID, "sigmoid", NULL, v); }
/* relu(v) - alpha·relu(-v) */
static PareValue *leaky(PareExpand *x, PareValue *v) {
  PareValue *alpha = pare_expand_float(x, v, pare_expand_attr_float(x, "activation_alpha", 0.01));
  PareValue *below = relu(x, PARE_EXPAND_OP(x, NEG, "neg", NULL, v));
  PareValue *leak = PARE_EXPAND_OP(x, MUL, "leak", NULL, below, alpha);
  return PARE_EXPAND_OP(x, SUB, "leaky", NULL, relu(x, v), leak);
}

static const struct {
  const char *name;
  PareValue *(*emit)(PareExpand *, PareValue *);
} activations[] = {{"Relu", relu}, {"Tanh", tanh_of}, {"Sigmoid", sigmoid}, {"LeakyRelu", leaky}};

static PareValue *activate(PareExpand *x, PareValue *v) {
  for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
    if (pare_expand_attr_is(x, "activation", activations[i].name)) return activations[i].emit(x, v);
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
