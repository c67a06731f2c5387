/* facts.c - element types, ranks and lengths, forward over the nodes: a row for
 * each rule of the `infer` column. */
#include "frontend/facts.h"

#include "ir/op_columns.h"

static const PareFact nothing = {false, PARE_F32, -1, -1};

bool pare_facts_declare(PareFacts *f, const char *name, PareFact fact) {
  return pare_map_put(&f->declared, name, (int64_t)f->told.n) && pare_vec_push(f->arena, &f->told, fact);
}

PareFact pare_facts_of(const PareFacts *f, const PareValue *v) {
  if (!v) return nothing;
  if (v->role == PARE_RESULT) return v->id < f->at.n ? f->at.at[v->id] : nothing;
  PareFact x = {true, v->type.dtype, v->type.rank, -1};
  if (x.rank == 0) x.len = 1;
  if (x.rank == 1) x.len = v->type.dim[0];
  return x;
}

/* --- the families --- */

typedef struct Facts {
  const PareFacts *f;
  const PareNode *n;
} Facts;

static PareFact in(const Facts *x, int k) { return k < x->n->nin ? pare_facts_of(x->f, x->n->in[k]) : nothing; }

static PareFact same(const Facts *x) { return in(x, 0); }

/* The highest rank, the greatest length. */
static PareFact broadcast(const Facts *x) {
  PareFact y = in(x, x->n->op == PARE_OP_WHERE);
  for (int k = 0; k < x->n->nin; k++) {
    PareFact a = in(x, k);
    y.rank = y.rank < 0 || a.rank < 0 ? -1 : a.rank > y.rank ? a.rank : y.rank;
    y.len = y.len < 0 || a.len < 0 ? -1 : a.len > y.len ? a.len : y.len;
  }
  return y;
}

static PareFact compared(const Facts *x) {
  PareFact y = broadcast(x);
  y.typed = true, y.dtype = PARE_BOOL;
  return y;
}

static PareFact cast(const Facts *x) {
  PareFact y = in(x, 0);
  y.typed = pare_attr_has(&x->n->attr, to), y.dtype = x->n->attr.to;
  return y;
}

static PareFact cast_like(const Facts *x) {
  PareFact y = in(x, 0), like = in(x, 1);
  y.typed = like.typed, y.dtype = like.dtype;
  return y;
}

static PareFact size(const Facts *x) {
  (void)x;
  return (PareFact){true, PARE_I64, 0, 1};
}

static PareFact product(const Facts *x) {
  PareFact a = in(x, 0), b = in(x, 1), y = {a.typed, a.dtype, -1, -1};
  if (a.rank > 0 && b.rank > 0) y.rank = a.rank > 1 && b.rank > 1 ? (a.rank > b.rank ? a.rank : b.rank)
                                         : a.rank + b.rank - 2;
  return y;
}

static PareFact matrix(const Facts *x) {
  PareFact a = in(x, 0);
  return (PareFact){a.typed, a.dtype, 2, -1};
}

static PareFact reshaped(const Facts *x) {
  PareFact a = in(x, 0), to = in(x, 1);
  PareFact y = {a.typed, a.dtype, -1, -1};
  if (to.len >= 0 && to.len <= PARE_MAX_RANK) y.rank = (int)to.len;
  if (a.rank >= 0 && a.rank <= 1 && y.rank >= 0 && y.rank <= 1) y.len = a.len;
  return y;
}

static PareFact expanded(const Facts *x) {
  PareFact a = in(x, 0), to = in(x, 1), y = {a.typed, a.dtype, -1, -1};
  if (a.rank >= 0 && to.len >= 0 && to.len <= PARE_MAX_RANK) y.rank = a.rank > to.len ? a.rank : (int)to.len;
  return y;
}

static PareFact squeezed(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, -1, -1};
  if (a.rank >= 0 && axes.len >= 0 && axes.len <= a.rank) y.rank = a.rank - (int)axes.len;
  if (y.rank == 0) y.len = 1;
  return y;
}

static PareFact unsqueezed(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, -1, -1};
  if (a.rank >= 0 && axes.len >= 0 && axes.len <= PARE_MAX_RANK) y.rank = a.rank + (int)axes.len;
  if (y.rank == 1) y.len = a.len;
  return y;
}

static PareFact reduced(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, a.rank, -1};
  if (pare_attr_get(&x->n->attr, keepdims, 1)) return y;
  if (x->n->nin < 2 || !x->n->in[1]) y.rank = 0;
  else y.rank = a.rank >= 0 && axes.len >= 0 && axes.len <= a.rank ? a.rank - (int)axes.len : -1;
  if (y.rank == 0) y.len = 1;
  return y;
}

static PareFact joined(const Facts *x) {
  PareFact y = in(x, 0);
  for (int k = 1; k < x->n->nin; k++) {
    int64_t len = in(x, k).len;
    if (len < 0 || y.len < 0 || __builtin_add_overflow(y.len, len, &y.len)) y.len = -1;
  }
  return y;
}

/* Bound k of a Slice of a list of `len`, cut to the list; -1: not known. */
static int64_t bound(const Facts *x, int k, int64_t len) {
  const PareValue *v = x->n->in[k];
  if (!v || v->role != PARE_CONST || !v->data || pare_type_count(&v->type) != 1) return -1;
  int64_t at = pare_data_int(v, 0);
  if (at < 0) at = at < -len ? 0 : at + len;
  return at > len ? len : at;
}

static PareFact sliced(const Facts *x) {
  PareFact y = in(x, 0);
  if (y.rank != 1 || y.len < 0 || x->n->nin < 3 || (x->n->nin > 4 && x->n->in[4])) y.len = -1;
  if (y.len < 0) return y;
  int64_t from = bound(x, 1, y.len), to = bound(x, 2, y.len);
  y.len = from < 0 || to < 0 ? -1 : to > from ? to - from : 0;
  return y;
}

/* Parts of a list are of unknown lengths. */
static PareFact part(const Facts *x) {
  PareFact y = in(x, 0);
  y.len = -1;
  return y;
}

static PareFact gathered(const Facts *x) {
  PareFact a = in(x, 0), at = in(x, 1), y = {a.typed, a.dtype, -1, -1};
  if (a.rank >= 1 && at.rank >= 0 && a.rank + at.rank <= PARE_MAX_RANK + 1) y.rank = a.rank + at.rank - 1;
  if (a.rank == 1) y.len = at.len;
  return y;
}

static PareFact shape(const Facts *x) {
  const PareAttrs *a = &x->n->attr;
  PareFact of = in(x, 0), y = {true, PARE_I64, 1, -1};
  if (!pare_attr_has(a, start) && !pare_attr_has(a, end)) y.len = of.rank;
  return y;
}

static PareFact filled(const Facts *x) {
  PareFact of = in(x, 0), value = in(x, 1), y = {true, value.typed ? value.dtype : PARE_F32, -1, -1};
  if (of.len >= 0 && of.len <= PARE_MAX_RANK) y.rank = (int)of.len;
  return y;
}

static PareFact list(const Facts *x) {
  PareFact a = in(x, 0);
  return (PareFact){a.typed, a.dtype, 1, -1};
}

/* The type of the zero point; of the scale. */
static PareFact quantized(const Facts *x) {
  PareFact a = in(x, 0), zero = in(x, 2);
  return (PareFact){zero.typed, zero.dtype, a.rank, a.len};
}
static PareFact dequantized(const Facts *x) {
  PareFact a = in(x, 0), scale = in(x, 1);
  return (PareFact){scale.typed, scale.dtype, a.rank, a.len};
}

static const struct {
  PareInferFn *rule;
  PareFact (*fact)(const Facts *);
} families[] = {
    {pare_infer_like0, same},         {pare_infer_bcast, broadcast}, {pare_infer_pow, broadcast},
    {pare_infer_where, broadcast},    {pare_infer_compare, compared}, {pare_infer_cast, cast},
    {pare_infer_matmul, product},     {pare_infer_gemm, matrix},     {pare_infer_flatten, matrix},
    {pare_infer_conv, part},          {pare_infer_layernorm, part},  {pare_infer_dropout, same},
    {pare_infer_reshape, reshaped},   {pare_infer_expand, expanded}, {pare_infer_squeeze, squeezed},
    {pare_infer_unsqueeze, unsqueezed}, {pare_infer_reduce, reduced}, {pare_infer_concat, joined},
    {pare_infer_split, part},         {pare_infer_slice, sliced},      {pare_infer_transpose, part},
    {pare_infer_gather, gathered},    {pare_infer_shape, shape},     {pare_infer_fill, filled},
    {pare_infer_range, list},         {pare_infer_clip, same},       {pare_infer_prelu, same},
    {pare_infer_castlike, cast_like}, {pare_infer_test, compared},   {pare_infer_channels, same},
    {pare_infer_pad, part},           {pare_infer_tile, part},       {pare_infer_trilu, part},
    {pare_infer_lpnorm, same},        {pare_infer_size, size},
    {pare_infer_quantize, quantized}, {pare_infer_dequantize, dequantized},
};

bool pare_facts_infer(PareFacts *f, const PareNode *n) {
  const Facts x = {f, n};
  PareFact y = nothing;
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (families[i].rule == pare_op_info[n->op].infer) y = families[i].fact(&x);
  for (int k = 0; k < n->nout; k++) {
    if (!n->out[k]) continue;
    PareFact it = y;
    int64_t told = pare_map_get(&f->declared, n->out[k]->name);
    if (told >= 0 && !it.typed) it.typed = f->told.at[told].typed, it.dtype = f->told.at[told].dtype;
    if (told >= 0 && it.rank < 0) it.rank = f->told.at[told].rank;
    while (f->at.n <= n->out[k]->id)
      if (!pare_vec_push(f->arena, &f->at, nothing)) return false;
    f->at.at[n->out[k]->id] = it;
  }
  return true;
}
