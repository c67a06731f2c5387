/* infer_index.c - the infer column, elements that are picked and placed by indices. */
#include "ir/infer.h"

static PareStatus need_indices(PareCtx *c, const PareNode *n, int i) {
  return pare_dtype_is_int(n->in[i]->type.dtype) ? PARE_OK : bad_input(c, n, i, "indices must be integers");
}

PareStatus pare_infer_gather(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type;
  int axis;
  PARE_TRY(need_indices(c, n, 1));
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), x->rank, &axis));
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < axis; a++) PARE_TRY(push_dim(c, n, &t, x->dim[a]));
  for (int a = 0; a < idx->rank; a++) PARE_TRY(push_dim(c, n, &t, idx->dim[a]));
  for (int a = axis + 1; a < x->rank; a++) PARE_TRY(push_dim(c, n, &t, x->dim[a]));
  return set_out(c, n, 0, t);
}

/* Indices i of data input 0 along one axis: of its rank, and no larger on the other axes. */
static PareStatus element_indices(PareCtx *c, const PareNode *n) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type;
  int axis;
  PARE_TRY(need_indices(c, n, 1));
  if (x->rank != idx->rank) return clash(c, n, 0, 1, "the ranks differ");
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, 0), x->rank, &axis));
  for (int a = 0; a < x->rank; a++)
    if (a != axis && idx->dim[a] > x->dim[a]) return clash(c, n, 0, 1, "the indices reach over an axis");
  return PARE_OK;
}

PareStatus pare_infer_gatherelements(PareCtx *c, PareNode *n) {
  PARE_TRY(element_indices(c, n));
  PareType t = n->in[1]->type;
  t.dtype = n->in[0]->type.dtype;
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_scatterelements(PareCtx *c, PareNode *n) {
  PARE_TRY(element_indices(c, n));
  PARE_TRY(same_dtype(c, n, 0, 2));
  PARE_TRY(same_dims(c, n, 1, 2));
  return set_out(c, n, 0, n->in[0]->type);
}

/* indices[..., k] pick slices of data behind its axes batch..batch+k-1; the first `batch` axes are common. */
static PareStatus slice_indices(PareCtx *c, const PareNode *n, int64_t batch, int64_t *k) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type;
  PARE_TRY(need_indices(c, n, 1));
  if (x->rank < 1 || idx->rank < 1) return clash(c, n, 0, 1, "there is no axis to index");
  if (batch < 0 || batch >= x->rank || batch >= idx->rank)
    return pare_fail(c, n, PARE_FORMAT, "the attribute 'batch_dims' is %" PRId64 ", which does not fit the ranks", batch);
  for (int64_t a = 0; a < batch; a++)
    if (x->dim[a] != idx->dim[a]) return clash(c, n, 0, 1, "the batch axes differ");
  *k = idx->dim[idx->rank - 1];
  if (*k < 1 || *k > x->rank - batch) return clash(c, n, 0, 1, "an index has not as many numbers as there are axes");
  return PARE_OK;
}

PareStatus pare_infer_gathernd(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type;
  int64_t batch = pare_attr_get(&n->attr, batch_dims, 0), k;
  PARE_TRY(slice_indices(c, n, batch, &k));
  PareType t = {.dtype = x->dtype};
  for (int a = 0; a < idx->rank - 1; a++) PARE_TRY(push_dim(c, n, &t, idx->dim[a]));
  for (int a = (int)(batch + k); a < x->rank; a++) PARE_TRY(push_dim(c, n, &t, x->dim[a]));
  return set_out(c, n, 0, t);
}

PareStatus pare_infer_scatternd(PareCtx *c, PareNode *n) {
  const PareType *x = &n->in[0]->type, *idx = &n->in[1]->type, *up = &n->in[2]->type;
  int64_t k;
  PARE_TRY(slice_indices(c, n, 0, &k));
  PARE_TRY(same_dtype(c, n, 0, 2));
  int lead = idx->rank - 1;
  bool fits = up->rank == lead + x->rank - (int)k;
  for (int a = 0; fits && a < up->rank; a++) fits = up->dim[a] == (a < lead ? idx->dim[a] : x->dim[k + a - lead]);
  return fits ? set_out(c, n, 0, *x) : clash(c, n, 1, 2, "the updates are not a slice for each index");
}

/* indices, depth, [off, on] */
PareStatus pare_infer_onehot(PareCtx *c, PareNode *n) {
  const PareType *idx = &n->in[0]->type;
  const PareValue *depth = n->in[1];
  int axis;
  if (pare_type_count(&depth->type) != 1) return bad_input(c, n, 1, "one number is needed here");
  if (!is_known(depth))
    return pare_fail(c, n, PARE_UNSUPPORTED, "the shape in input 1 '%s' cannot be computed from the input shapes",
                     depth->name);
  double wide = pare_dtype_is_float(depth->type.dtype) ? pare_data_float(depth, 0) : 0;
  if (!(wide >= 0 && wide < 0x1p62)) return bad_input(c, n, 1, "the depth is no size");
  int64_t size = pare_dtype_is_float(depth->type.dtype) ? (int64_t)wide : pare_data_int(depth, 0);
  if (size < 0) return bad_input(c, n, 1, "the depth is negative");
  if (n->in[2]->type.rank != 1 || n->in[2]->type.dim[0] != 2) return bad_input(c, n, 2, "two numbers are needed here");
  if (idx->rank == PARE_MAX_RANK) return bad_input(c, n, 0, "the result has more axes than pare supports");
  PARE_TRY(wrap_axis(c, n, 0, pare_attr_get(&n->attr, axis, -1), idx->rank + 1, &axis));
  PareType t = {.dtype = n->in[2]->type.dtype};
  for (int a = 0, from = 0; a <= idx->rank; a++) PARE_TRY(push_dim(c, n, &t, a == axis ? size : idx->dim[from++]));
  return set_out(c, n, 0, t);
}
