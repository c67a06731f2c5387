/* expand_norm.c - normalisations by the root of the mean square, and those of a
 * sum of the stream and what is added to it. */
#include "frontend/expand.h"

/* Axes `axis` to the last, counted from the end. */
static PareValue *last_axes(PareExpand *x, PareValue *v, int64_t axis) {
  int rank = pare_expand_fact(x, v).rank;
  int64_t axes[PARE_MAX_RANK], n = axis < 0 ? -axis : rank - axis;
  if (axis >= 0 && rank < 0)
    return pare_expand_fail(x, PARE_UNSUPPORTED, "the rank of '%s' is not known: run shape inference on the model",
                            v ? v->name : "");
  if (n < 1 || n > PARE_MAX_RANK) return pare_expand_fail(x, PARE_FORMAT, "attribute 'axis' is out of range");
  for (int64_t i = 0; i < n; i++) axes[i] = i - n;
  return pare_expand_ints(x, (int)n, axes);
}

/* v / sqrt(mean(v²) + epsilon), by which v is divided to *root; axes from `axis` on. */
static PareValue *rms(PareExpand *x, PareValue *v, int64_t axis, double epsilon, PareValue **root) {
  PareValue *square = PARE_EXPAND_OP(x, MUL, "square", NULL, v, v);
  PareValue *mean = PARE_EXPAND_OP(x, REDUCEMEAN, "mean", NULL, square, last_axes(x, v, axis));
  PareValue *sum = PARE_EXPAND_OP(x, ADD, "epsilon", NULL, mean, pare_expand_float(x, v, epsilon));
  *root = PARE_EXPAND_OP(x, SQRT, "root", NULL, sum);
  return PARE_EXPAND_OP(x, DIV, "normal", NULL, v, *root);
}

void pare_expand_rms_norm(PareExpand *x) {
  PareValue *root, *v = pare_expand_in(x, 0);
  double epsilon = pare_expand_attr_float(x, "epsilon", 1e-5);
  PareValue *normal = rms(x, v, pare_expand_attr_int(x, "axis", -1), epsilon, &root);
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, MUL, "scaled", NULL, normal, pare_expand_in(x, 1)));
  if (pare_expand_wants(x, 1)) pare_expand_out(x, 1, PARE_EXPAND_OP(x, RECIPROCAL, "inverse", NULL, root));
}

/* Input 0 + input 1 + bias. */
static PareValue *skip_sum(PareExpand *x, int bias) {
  PareValue *sum = PARE_EXPAND_OP(x, ADD, "skip", NULL, pare_expand_in(x, 0), pare_expand_in(x, 1));
  return pare_expand_has(x, bias) ? PARE_EXPAND_OP(x, ADD, "bias", NULL, sum, pare_expand_in(x, bias)) : sum;
}

void pare_expand_skip_layer_norm(PareExpand *x) {
  PareValue *sum = skip_sum(x, 4);
  PareAttrs attr = {0};
  pare_attr_set(&attr, axis, -1);
  pare_attr_set(&attr, epsilon, pare_expand_attr_float(x, "epsilon", 1e-12));
  PareValue *in[] = {sum, pare_expand_in(x, 2), pare_expand_has(x, 3) ? pare_expand_in(x, 3) : NULL};
  bool stats = pare_expand_wants(x, 1) || pare_expand_wants(x, 2);
  PareNode *n = pare_expand_node(x, PARE_OP_LAYERNORM, "norm", &attr, 3, in, stats ? 3 : 1);
  for (int k = 0; n && k < n->nout; k++) pare_expand_out(x, k, n->out[k]);
  pare_expand_out(x, 3, sum);
}

void pare_expand_skip_rms_norm(PareExpand *x) {
  PareValue *root, *sum = skip_sum(x, 3);
  PareValue *normal = rms(x, sum, -1, pare_expand_attr_float(x, "epsilon", 1e-12), &root);
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, MUL, "scaled", NULL, normal, pare_expand_in(x, 2)));
  if (pare_expand_wants(x, 2)) pare_expand_out(x, 2, PARE_EXPAND_OP(x, RECIPROCAL, "inverse", NULL, root));
  pare_expand_out(x, 3, sum);
}
