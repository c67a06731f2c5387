/* infer_quantize.c - the infer column, quantisation. */
#include "ir/infer.h"

#include <math.h>

static bool is_quantized(PareDtype d) { return d == PARE_I8 || d == PARE_U8 || d == PARE_I16 || d == PARE_U16; }

/* Input 1, the scale: one number, or one for each index of an axis of input 0. Input 2, the zero point, has as many. */
static PareStatus check_scale(PareCtx *c, const PareNode *n) {
  const PareType *x = &n->in[0]->type, *s = &n->in[1]->type;
  int axis;
  if (!pare_dtype_is_float(s->dtype)) return bad_input(c, n, 1, "the scale must be a float");
  if (pare_attr_get(&n->attr, block_size, 0) || s->rank > 1)
    return pare_fail(c, n, PARE_UNSUPPORTED, "it quantises by blocks (the scale '%s' has rank %d); pare knows one "
                     "scale, or one for each index of an axis", n->in[1]->name, s->rank);
  if (given(n, 2) && pare_type_count(&n->in[2]->type) != pare_type_count(s))
    return clash(c, n, 1, 2, "there must be as many zero points as scales");
  if (pare_type_count(s) == 1) return PARE_OK;
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 1), x->rank, &axis));
  if (s->dim[0] == x->dim[axis]) return PARE_OK;
  return clash(c, n, 0, 1, "there must be one scale, or one for each index of the axis");
}

/* Known scales are numbers, and what is divided by is not 0. */
static PareStatus check_scale_numbers(PareCtx *c, const PareNode *n, bool divides) {
  const PareValue *s = n->in[1];
  for (int64_t i = 0; is_known(s) && i < pare_type_count(&s->type); i++) {
    double v = pare_data_float(s, i);
    if (isfinite(v) && (v != 0 || !divides)) continue;
    return pare_fail(c, n, PARE_FORMAT, "the scale '%s' holds %g at %" PRId64 ": nothing can be %s by that", s->name, v,
                     i, divides ? "divided" : "multiplied");
  }
  return PARE_OK;
}

PareStatus pare_infer_quantize(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (!pare_dtype_is_float(t.dtype)) return bad_input(c, n, 0, "only floats are quantised");
  PARE_TRY(check_scale(c, n));
  PARE_TRY(check_scale_numbers(c, n, true));
  t.dtype = given(n, 2) ? n->in[2]->type.dtype : pare_attr_get(&n->attr, output_dtype, PARE_U8);
  if (!is_quantized(t.dtype))
    return pare_fail(c, n, PARE_UNSUPPORTED, "numbers are quantised to 8 or 16 bits, not to %s",
                     pare_dtype_name(t.dtype));
  if (pare_attr_has(&n->attr, output_dtype) && n->attr.output_dtype != t.dtype)
    return bad_input(c, n, 2, "the zero point is not of the type that 'output_dtype' names");
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_dequantize(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type;
  if (!is_quantized(t.dtype) && t.dtype != PARE_I32) return bad_input(c, n, 0, "this type is not dequantised");
  if (given(n, 2)) PARE_TRY(same_dtype(c, n, 0, 2));
  PARE_TRY(check_scale(c, n));
  PARE_TRY(check_scale_numbers(c, n, false));
  t.dtype = pare_attr_get(&n->attr, output_dtype, n->in[1]->type.dtype);
  if (!pare_dtype_is_float(t.dtype))
    return pare_fail(c, n, PARE_UNSUPPORTED, "'output_dtype' is %s, which is no float", pare_dtype_name(t.dtype));
  return set_out(c, n, 0, t);
}

/* x -> y u8 of x's shape, one scale, one zero point */
PareStatus pare_infer_dynquant(PareCtx *c, PareNode *n) {
  PareType t = n->in[0]->type, one = {.dtype = t.dtype};
  if (!pare_dtype_is_float(t.dtype)) return bad_input(c, n, 0, "only floats are quantised");
  PARE_TRY(set_out(c, n, 1, one));
  one.dtype = t.dtype = PARE_U8;
  PARE_TRY(set_out(c, n, 2, one));
  return set_out(c, n, 0, t);
}

/* x, and scale and zero point as floats of x's type that broadcast to x. */
PareStatus pare_infer_fakequant(PareCtx *c, PareNode *n) {
  if (!is_quantized(pare_attr_get(&n->attr, output_dtype, PARE_F32)))
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'output_dtype' must name a type of 8 or 16 bits");
  for (int i = 0; i < 3; i++) {
    PARE_TRY(need_input(c, n, i));
    PARE_TRY(same_dtype(c, n, 0, i));
    PARE_TRY(bcast_to(c, n, i, &n->in[0]->type));
  }
  return set_out(c, n, 0, n->in[0]->type);
}
