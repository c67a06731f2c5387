/* expand_norm.c - normalisations: by the root of the mean square, of a sum of the
 * stream and what is added to it, of groups of channels, over any axes. */
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

/* sqrt(mean(v²) + epsilon) over `axes`. */
static PareValue *root_mean_square(PareExpand *x, PareValue *v, PareValue *axes, double epsilon) {
  PareValue *mean = PARE_EXPAND_OP(x, REDUCEMEAN, "power", NULL, PARE_EXPAND_OP(x, MUL, "square", NULL, v, v), axes);
  PareValue *sum = PARE_EXPAND_OP(x, ADD, "epsilon", NULL, mean, pare_expand_float(x, v, epsilon));
  return PARE_EXPAND_OP(x, SQRT, "root", NULL, sum);
}

/* v / rms(v), computed in f32 where v has fewer digits (stash_type 1); *root is by what it is divided. */
static PareValue *rms(PareExpand *x, PareValue *v, int64_t axis, double epsilon, PareValue **root) {
  PareFact f = pare_expand_fact(x, v);
  bool narrow = f.typed && (f.dtype == PARE_F16 || f.dtype == PARE_BF16);
  bool stash = narrow && pare_expand_attr_int(x, "stash_type", 1) == 1;
  if (stash) v = pare_expand_cast(x, v, PARE_F32);
  *root = root_mean_square(x, v, last_axes(x, v, axis), epsilon);
  PareValue *normal = PARE_EXPAND_OP(x, DIV, "normal", NULL, v, *root);
  return stash ? pare_expand_cast(x, normal, f.dtype) : normal;
}

void pare_expand_rms_norm(PareExpand *x) {
  PareValue *root, *v = pare_expand_in(x, 0);
  double epsilon = pare_expand_attr_float(x, "epsilon", 1e-5);
  PareValue *normal = rms(x, v, pare_expand_attr_int(x, "axis", -1), epsilon, &root);
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, MUL, "scaled", NULL, normal, pare_expand_in(x, 1)));
  if (pare_expand_wants(x, 1)) pare_expand_out(x, 1, PARE_EXPAND_OP(x, RECIPROCAL, "inverse", NULL, root));
}

static PareValue *centred(PareExpand *x, PareValue *v, PareValue *axes) {
  return PARE_EXPAND_OP(x, SUB, "centred", NULL, v, PARE_EXPAND_OP(x, REDUCEMEAN, "mean", NULL, v, axes));
}

/* normal·scale + bias, each a number for every index of axis 1 of three. */
static PareValue *scale_and_shift(PareExpand *x, PareValue *normal) {
  PareValue *axis = PARE_EXPAND_INTS(x, 1);
  PareValue *scale = PARE_EXPAND_OP(x, UNSQUEEZE, "scale", NULL, pare_expand_in_of(x, 1, 1), axis);
  PareValue *bias = PARE_EXPAND_OP(x, UNSQUEEZE, "bias", NULL, pare_expand_in_of(x, 2, 1), axis);
  return PARE_EXPAND_OP(x, ADD, "shifted", NULL, PARE_EXPAND_OP(x, MUL, "scaled", NULL, normal, scale), bias);
}

/* [batch, channels, ...] as [batch, groups, rest]; scale and bias are those of groups before opset 21, then of
 * channels. */
void pare_expand_group_norm(PareExpand *x) {
  PareValue *v = pare_expand_in(x, 0), *groups = pare_expand_attr(x, "num_groups", 0, NULL);
  PareValue *shape = PARE_EXPAND_JOIN(x, "apart", 0, PARE_EXPAND_INTS(x, 0), groups, PARE_EXPAND_INTS(x, -1));
  PareValue *part = PARE_EXPAND_OP(x, RESHAPE, "groups", NULL, v, shape), *last = PARE_EXPAND_INTS(x, -1);
  PareValue *d = centred(x, part, last);
  PareValue *root = root_mean_square(x, d, last, pare_expand_attr_float(x, "epsilon", 1e-5));
  PareValue *y = PARE_EXPAND_OP(x, DIV, "normal", NULL, d, root);
  if (x->opset >= 21) {
    PareValue *flat = PARE_EXPAND_JOIN(x, "flat", 0, PARE_EXPAND_INTS(x, 0), pare_expand_dim(x, v, 1),
                                       PARE_EXPAND_INTS(x, -1));
    y = PARE_EXPAND_OP(x, RESHAPE, "channels", NULL, y, flat);
  }
  y = scale_and_shift(x, y);
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, RESHAPE, "whole", NULL, y, PARE_EXPAND_OP(x, SHAPE, "shape", NULL, v)));
}

/* (v - mean) / (sqrt(mean(v²) - mean²) + 1e-9): the standard's function; the variance as that of v - mean. */
void pare_expand_mean_variance(PareExpand *x) {
  PareValue *axes = pare_expand_list(x, "axes", 3, (int64_t[]){0, 2, 3});
  PareValue *d = centred(x, pare_expand_in(x, 0), axes), *root = root_mean_square(x, d, axes, 0);
  PareValue *sum = PARE_EXPAND_OP(x, ADD, "away_from_zero", NULL, root, pare_expand_float(x, d, 1e-9));
  pare_expand_out(x, 0, PARE_EXPAND_OP(x, DIV, "normal", NULL, d, sum));
}

/* One of its parts is that which a branch is. */
static PareValue *add_up(PareExpand *x, const char *role, PareValue *a, PareValue *b) {
  PareValue *sum = PARE_EXPAND_OP(x, ADD, role, NULL, a, b);
  if (sum && !x->call) sum->def->onnx_input = PARE_IN_SUM;
  return sum;
}

/* Input 0 + input 1 + bias. */
static PareValue *skip_sum(PareExpand *x, int bias) {
  PareValue *sum = add_up(x, "skip", pare_expand_in(x, 0), pare_expand_in(x, 1));
  return pare_expand_has(x, bias) ? add_up(x, "bias", sum, pare_expand_in(x, bias)) : sum;
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
