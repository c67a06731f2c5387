/* facts.c - element types, ranks, lengths and the sizes of last axes, forward over
 * the nodes: a row for each rule of the `infer` column. */
#include "frontend/facts.h"

#include "ir/op_columns.h"

static const PareFact nothing = {false, PARE_F32, -1, -1, {0}};

bool pare_facts_declare(PareFacts *f, const char *name, PareFact fact) {
  return pare_map_put(&f->declared, name, (int64_t)f->told.n) && pare_vec_push(f->arena, &f->told, fact);
}

/* The size of axis d, counted from the first one on; 0: not known. */
static int64_t size_at(const PareFact *f, int d) {
  int i = f->rank - 1 - d;
  return f->rank >= 0 && i >= 0 && i < PARE_TAIL ? f->tail[i] : 0;
}

static void set_size(PareFact *f, int d, int64_t size) {
  int i = f->rank - 1 - d;
  if (i >= 0 && i < PARE_TAIL) f->tail[i] = size > 0 ? size : 0;
}

static void forget_sizes(PareFact *f) {
  for (int i = 0; i < PARE_TAIL; i++) f->tail[i] = 0;
}

PareFact pare_facts_of(const PareFacts *f, const PareValue *v) {
  if (!v) return nothing;
  if (v->role == PARE_RESULT) return v->id < f->at.n ? f->at.at[v->id] : nothing;
  PareFact x = {true, v->type.dtype, v->type.rank, -1, {1, 1}};
  if (x.rank == 0) x.len = 1;
  if (x.rank == 1) x.len = v->type.dim[0];
  for (int d = 0; d < x.rank; d++) set_size(&x, d, v->type.dim[d]);
  return x;
}

/* --- the families --- */

typedef struct Facts {
  const PareFacts *f;
  const PareNode *n;
} Facts;

static PareFact in(const Facts *x, int k) { return k < x->n->nin ? pare_facts_of(x->f, x->n->in[k]) : nothing; }

static PareFact same(const Facts *x) { return in(x, 0); }

/* The axis that is meant, of a tensor of this rank; -1: not known. */
static int wrap(int64_t axis, int rank) {
  int64_t d = axis < 0 ? axis + rank : axis;
  return d >= 0 && d < rank ? (int)d : -1;
}

static bool is_known(const PareValue *v) { return v && v->role == PARE_CONST && v->data; }

/* Does the list of axes, of a tensor of this rank, name axis d? One that is not known may. */
static bool names(const PareValue *axes, int rank, int d) {
  for (int64_t i = 0; is_known(axes) && i < pare_type_count(&axes->type); i++)
    if (wrap(pare_data_int(axes, i), rank) == d) return true;
  return !is_known(axes);
}

/* What two sizes broadcast to. */
static int64_t wider(int64_t a, int64_t b) { return a > 1 ? a : b > 1 ? b : a && b; }

/* The highest rank, the greatest length. */
static PareFact broadcast(const Facts *x) {
  PareFact y = in(x, x->n->op == PARE_OP_WHERE);
  for (int k = 0; k < x->n->nin; k++) {
    PareFact a = in(x, k);
    y.rank = y.rank < 0 || a.rank < 0 ? -1 : a.rank > y.rank ? a.rank : y.rank;
    y.len = y.len < 0 || a.len < 0 ? -1 : a.len > y.len ? a.len : y.len;
    for (int i = 0; i < PARE_TAIL; i++) y.tail[i] = wider(y.tail[i], a.tail[i]);
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
  return (PareFact){true, PARE_I64, 0, 1, {1, 1}};
}

/* Rows of a, columns of b, either matrix transposed by attribute. */
static void of_matrices(const Facts *x, const PareFact *a, const PareFact *b, PareFact *y) {
  bool ta = pare_attr_get(&x->n->attr, transA, 0), tb = pare_attr_get(&x->n->attr, transB, 0);
  y->tail[0] = b->tail[tb];
  y->tail[1] = a->tail[!ta];
}

static PareFact product(const Facts *x) {
  PareFact a = in(x, 0), b = in(x, 1), y = {a.typed, a.dtype, -1, -1, {0}};
  if (a.rank > 0 && b.rank > 0) y.rank = a.rank > 1 && b.rank > 1 ? (a.rank > b.rank ? a.rank : b.rank)
                                         : a.rank + b.rank - 2;
  if (a.rank != 1 && b.rank > 1) of_matrices(x, &a, &b, &y);
  return y;
}

static PareFact matrix(const Facts *x) {
  PareFact a = in(x, 0);
  return (PareFact){a.typed, a.dtype, 2, -1, {0}};
}

static PareFact matrix_product(const Facts *x) {
  PareFact a = in(x, 0), b = in(x, 1), y = matrix(x);
  of_matrices(x, &a, &b, &y);
  return y;
}

/* Number i from the end of a list that is a constant, or of lists that are joined; -1: not known. */
static int64_t from_end(const Facts *x, const PareValue *list, int64_t i) {
  int64_t count = pare_facts_of(x->f, list).len;
  if (is_known(list)) return i < count ? pare_data_int(list, count - 1 - i) : -1;
  const PareNode *n = list->def;
  for (int k = n && n->op == PARE_OP_CONCAT ? n->nin : 0; k-- > 0; i -= count) {
    count = pare_facts_of(x->f, n->in[k]).len;
    if (count < 0 || i < count) return i < count && is_known(n->in[k]) ? from_end(x, n->in[k], i) : -1;
  }
  return -1;
}

static PareFact reshaped(const Facts *x) {
  PareFact a = in(x, 0), to = in(x, 1);
  PareFact y = {a.typed, a.dtype, -1, -1, {0}};
  if (to.len >= 0 && to.len <= PARE_MAX_RANK) y.rank = (int)to.len;
  for (int d = 0; d < y.rank; d++) {
    int64_t size = from_end(x, x->n->in[1], y.rank - 1 - d);
    set_size(&y, d, size || pare_attr_get(&x->n->attr, allowzero, 0) ? size : size_at(&a, d));
  }
  if (a.rank >= 0 && a.rank <= 1 && y.rank >= 0 && y.rank <= 1) y.len = a.len;
  return y;
}

static PareFact expanded(const Facts *x) {
  PareFact a = in(x, 0), to = in(x, 1), y = {a.typed, a.dtype, -1, -1, {0}};
  if (a.rank >= 0 && to.len >= 0 && to.len <= PARE_MAX_RANK) y.rank = a.rank > to.len ? a.rank : (int)to.len;
  return y;
}

static PareFact squeezed(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, -1, -1, {0}};
  if (a.rank >= 0 && axes.len >= 0 && axes.len <= a.rank) y.rank = a.rank - (int)axes.len;
  for (int d = 0, to = 0; y.rank >= 0 && d < a.rank; d++)
    if (!names(x->n->in[1], a.rank, d)) set_size(&y, to++, size_at(&a, d));
  if (y.rank == 0) y.len = 1;
  return y;
}

static PareFact unsqueezed(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, -1, -1, {0}};
  if (a.rank >= 0 && axes.len >= 0 && axes.len <= PARE_MAX_RANK) y.rank = a.rank + (int)axes.len;
  for (int d = 0, from = 0; is_known(x->n->in[1]) && d < y.rank; d++)
    set_size(&y, d, names(x->n->in[1], y.rank, d) ? 1 : size_at(&a, from++));
  if (y.rank == 1) y.len = a.len;
  return y;
}

static PareFact reduced(const Facts *x) {
  PareFact a = in(x, 0), axes = in(x, 1), y = {a.typed, a.dtype, a.rank, -1, {0}};
  if (pare_attr_get(&x->n->attr, keepdims, 1)) return y;
  if (x->n->nin < 2 || !x->n->in[1]) y.rank = 0;
  else y.rank = a.rank >= 0 && axes.len >= 0 && axes.len <= a.rank ? a.rank - (int)axes.len : -1;
  if (y.rank == 0) y.len = 1;
  return y;
}

static PareFact joined(const Facts *x) {
  PareFact y = in(x, 0);
  int axis = wrap(pare_attr_get(&x->n->attr, axis, 0), y.rank);
  int64_t all = size_at(&y, axis);
  for (int k = 1; k < x->n->nin; k++) {
    PareFact a = in(x, k);
    int64_t len = a.len, size = size_at(&a, axis);
    if (len < 0 || y.len < 0 || __builtin_add_overflow(y.len, len, &y.len)) y.len = -1;
    if (!all || !size || __builtin_add_overflow(all, size, &all)) all = 0;
    for (int d = 0; d < y.rank; d++)
      if (!size_at(&y, d)) set_size(&y, d, size_at(&a, d));
  }
  if (axis < 0) forget_sizes(&y);
  set_size(&y, axis, all);
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

static bool is_sliced(const Facts *x, int rank, int d) {
  int64_t count = in(x, 1).len;
  return x->n->nin > 3 && x->n->in[3] ? names(x->n->in[3], rank, d) : count < 0 || d < count;
}

static PareFact sliced(const Facts *x) {
  PareFact y = in(x, 0);
  for (int d = 0; d < y.rank; d++)
    if (is_sliced(x, y.rank, d)) set_size(&y, d, 0);
  if (y.rank < 0) forget_sizes(&y);
  if (y.rank != 1 || y.len < 0 || x->n->nin < 3 || (x->n->nin > 4 && x->n->in[4])) y.len = -1;
  if (y.len < 0) return y;
  int64_t from = bound(x, 1, y.len), to = bound(x, 2, y.len);
  y.len = from < 0 || to < 0 ? -1 : to > from ? to - from : 0;
  return y;
}

/* Parts are of unknown sizes. */
static PareFact part(const Facts *x) {
  PareFact a = in(x, 0);
  return (PareFact){a.typed, a.dtype, a.rank, -1, {0}};
}

/* All of the results of a Split. */
static PareFact parted(const Facts *x) {
  PareFact a = in(x, 0), y = part(x);
  int axis = wrap(pare_attr_get(&x->n->attr, axis, 0), a.rank);
  for (int d = 0; axis >= 0 && d < a.rank; d++)
    if (d != axis) set_size(&y, d, size_at(&a, d));
  return y;
}

static PareFact transposed(const Facts *x) {
  const PareAttrs *attr = &x->n->attr;
  PareFact a = in(x, 0), y = part(x);
  if (pare_attr_has(attr, perm) && attr->perm.n != a.rank) return y;
  for (int d = 0; d < a.rank; d++)
    set_size(&y, d, size_at(&a, pare_attr_has(attr, perm) ? (int)attr->perm.at[d] : a.rank - 1 - d));
  return y;
}

static PareFact gathered(const Facts *x) {
  PareFact a = in(x, 0), at = in(x, 1), y = {a.typed, a.dtype, -1, -1, {0}};
  int axis = wrap(pare_attr_get(&x->n->attr, axis, 0), a.rank);
  if (a.rank >= 1 && at.rank >= 0 && a.rank + at.rank <= PARE_MAX_RANK + 1) y.rank = a.rank + at.rank - 1;
  for (int d = 0; axis >= 0 && y.rank >= 0 && d < a.rank; d++)
    if (d != axis) set_size(&y, d < axis ? d : d + at.rank - 1, size_at(&a, d));
  if (a.rank == 1) y.len = at.len;
  return y;
}

static PareFact shape(const Facts *x) {
  const PareAttrs *a = &x->n->attr;
  PareFact of = in(x, 0), y = {true, PARE_I64, 1, -1, {0}};
  if (!pare_attr_has(a, start) && !pare_attr_has(a, end)) y.len = of.rank;
  return y;
}

static PareFact filled(const Facts *x) {
  PareFact of = in(x, 0), value = in(x, 1), y = {true, value.typed ? value.dtype : PARE_F32, -1, -1, {0}};
  if (of.len >= 0 && of.len <= PARE_MAX_RANK) y.rank = (int)of.len;
  return y;
}

static PareFact list(const Facts *x) {
  PareFact a = in(x, 0);
  return (PareFact){a.typed, a.dtype, 1, -1, {0}};
}

/* The type of the zero point; of the scale. */
static PareFact quantized(const Facts *x) {
  PareFact y = in(x, 0), zero = in(x, 2);
  y.typed = zero.typed, y.dtype = zero.dtype;
  return y;
}
static PareFact dequantized(const Facts *x) {
  PareFact y = in(x, 0), scale = in(x, 1);
  y.typed = scale.typed, y.dtype = scale.dtype;
  return y;
}

static const struct {
  PareInferFn *rule;
  PareFact (*fact)(const Facts *);
} families[] = {
    {pare_infer_like0, same},         {pare_infer_bcast, broadcast}, {pare_infer_pow, broadcast},
    {pare_infer_where, broadcast},    {pare_infer_compare, compared}, {pare_infer_cast, cast},
    {pare_infer_matmul, product},     {pare_infer_gemm, matrix_product}, {pare_infer_flatten, matrix},
    {pare_infer_conv, part},          {pare_infer_layernorm, part},  {pare_infer_dropout, same},
    {pare_infer_reshape, reshaped},   {pare_infer_expand, expanded}, {pare_infer_squeeze, squeezed},
    {pare_infer_unsqueeze, unsqueezed}, {pare_infer_reduce, reduced}, {pare_infer_concat, joined},
    {pare_infer_split, parted},       {pare_infer_slice, sliced},    {pare_infer_transpose, transposed},
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
