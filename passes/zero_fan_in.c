/* zero_fan_in - the masked model at full size: where a weight reads a dead
 * group, it is zero (METHOD 6). */
#include <string.h>

#include "ir/slices.h"
#include "passes/edit.h"
#include "passes/quantized.h"

/* Zeroes the slabs of `data` (of type t) whose index on `axis` is dead; zero: what stands for it by element, or NULL. */
static void zero_positions(const PareType *t, int axis, const int64_t *position, const bool *keep, const int64_t *zero,
                           uint8_t *data) {
  size_t size = pare_dtype_size(t->dtype), inner = 1, outer = 1, width = (size_t)t->dim[axis];
  for (int d = 0; d < axis; d++) outer *= (size_t)t->dim[d];
  for (int d = axis + 1; d < t->rank; d++) inner *= (size_t)t->dim[d];
  for (size_t slab = 0; slab < outer * width; slab++) {
    int64_t at = position[slab % width];
    if (at < 0 || keep[at]) continue;
    if (!zero) memset(data + slab * inner * size, 0, inner * size);
    for (size_t i = slab * inner; zero && i < (slab + 1) * inner; i++)
      pare_put_int(t->dtype, data, (int64_t)i, zero[i]);
  }
}

/* What is alive on `axis`, where that of `was`, NULL for all, is alive as well. In the graph's arena. */
static const bool *alive_on(PareCtx *c, PareGraph *g, int64_t dim, const int64_t *position, const bool *keep,
                            const bool *was) {
  bool *alive = PARE_NEW_N(g->arena, dim + 1, bool);
  if (!alive) return pare_nomem(c), NULL;
  for (int64_t i = 0; i < dim; i++) alive[i] = (position[i] < 0 || keep[position[i]]) && (!was || was[i]);
  return alive;
}

/* n reads v with zeros in it, a thin constant. */
static PareStatus zero_thin(PareCtx *c, PareGraph *g, PareNode *n, int k, int axis, const int64_t *position,
                            const bool *keep) {
  const PareValue *v = n->in[k];
  PareSlices *s = PARE_NEW(g->arena, PareSlices);
  if (!s) return pare_nomem(c);
  *s = v->slices ? *v->slices : (PareSlices){.whole = v->type, .data = v->data, .zeroed = true};
  if (!(s->alive[axis] = alive_on(c, g, v->type.dim[axis], position, keep, s->alive[axis]))) return c->diag.code;
  return pare_replace_sliced(c, g, n, k, v->type, s);
}

static PareStatus zero_thick(PareCtx *c, PareGraph *g, PareNode *n, int k, int axis, const int64_t *position,
                             const bool *keep) {
  const PareValue *v = n->in[k];
  const int64_t *zero;
  size_t bytes;
  uint8_t *data = pare_type_bytes(&v->type, &bytes) ? pare_arena_alloc(g->arena, bytes, 1) : NULL;
  PareArena *tmp = pare_arena_new(1 << 12);
  PareStatus s = data && tmp ? pare_zero_points(c, tmp, g, n, k, &zero) : pare_nomem(c);
  if (s == PARE_OK) {
    memcpy(data, v->data, bytes);
    zero_positions(&v->type, axis, position, keep, zero, data);
    s = pare_replace_constant(c, g, n, k, v->type, data);
  }
  pare_arena_free(tmp);
  return s;
}

static bool any_dead(int64_t n, const int64_t *position, const bool *keep) {
  for (int64_t i = 0; i < n; i++)
    if (position[i] >= 0 && !keep[position[i]]) return true;
  return false;
}

static PareStatus zero_edge(PareCtx *c, PareGraph *g, PareNode *n, int k, int axis, PareAxis *term,
                            const PareAxis *leaf) {
  const PareType *t = &n->in[k]->type;
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *position = PARE_NEW_N(c->scratch, t->dim[axis], int64_t);
  if (!position) return pare_nomem(c);
  pare_axis_positions(term, leaf, position);
  PareStatus s = PARE_OK;
  bool dead = any_dead(t->dim[axis], position, leaf->keep);
  if (dead && pare_slices_wanted(t) && t->dtype == PARE_F32)
    s = zero_thin(c, g, n, k, axis, position, leaf->keep);
  else if (dead)
    s = zero_thick(c, g, n, k, axis, position, leaf->keep);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

static PareStatus zero_member(PareCtx *c, PareGraph *g, PareNode **by_id, const PareDims *d, const PareDim *dim,
                              const PareMember *m) {
  PareAxis *term = pare_axis_in(d->tracer, m->node, m->input, m->axis);
  return zero_edge(c, g, by_id[m->node->id], m->input, m->axis, term, dim->leaf);
}

/* What the fan-in of dead groups meets is zero. */
static PareStatus zero_readers(PareCtx *c, PareGraph *g, PareNode **by_id, const PareDims *d, const PareDim *dim) {
  for (size_t z = 0; z < dim->zeros.at.n; z++) {
    const PareUse *use = &dim->zeros.at.at[z];
    for (size_t i = 0; i < dim->members.n; i++) {
      const PareMember *m = &dim->members.at[i];
      if (m->node == use->node && m->input == use->input) PARE_TRY(zero_member(c, g, by_id, d, dim, m));
    }
  }
  return PARE_OK;
}

/* Where two activations are multiplied, no weight reads what is dead: what makes it is zeroed. So it is where dead
 * values must not widen the range that a dynamic quantisation measures; an activation makes 0 of 0. Scales and zero
 * points of integers stay. */
static PareStatus zero_makers(PareCtx *c, PareGraph *g, PareNode **by_id, const PareDims *d, const PareDim *dim) {
  for (size_t i = 0; i < dim->members.n; i++) {
    const PareMember *m = &dim->members.at[i];
    if (pare_is_weight(m->node, m->input) && !pare_is_scale(g, by_id[m->node->id], m->input))
      PARE_TRY(zero_member(c, g, by_id, d, dim, m));
  }
  return PARE_OK;
}

/* All of the constant that n reads as input k; integers that are dequantised are zero at their zero points. */
static PareStatus zero_all(PareCtx *c, PareGraph *g, PareNode *n, int k) {
  const PareValue *v = n->in[k];
  const int64_t *zero;
  size_t bytes;
  uint8_t *data = pare_type_bytes(&v->type, &bytes) ? pare_arena_alloc(g->arena, bytes, 1) : NULL;
  PareArena *tmp = pare_arena_new(1 << 12);
  PareStatus s = data && tmp ? pare_zero_points(c, tmp, g, n, k, &zero) : pare_nomem(c);
  if (s == PARE_OK) {
    memset(data, 0, bytes);
    for (int64_t i = 0; zero && i < pare_type_count(&v->type); i++) pare_put_int(v->type.dtype, data, i, zero[i]);
    s = pare_replace_constant(c, g, n, k, v->type, data);
  }
  pare_arena_free(tmp);
  return s;
}

static PareStatus zero_branches(PareCtx *c, PareGraph *g, PareNode **by_id, const PareDim *dim) {
  for (size_t i = 0; i < dim->branches.n; i++) {
    const PareBranch *b = &dim->branches.at[i];
    for (size_t k = 0; pare_branch_dead(b) && k < b->ends.n; k++)
      PARE_TRY(zero_all(c, g, by_id[b->ends.at[k].node->id], b->ends.at[k].input));
  }
  return PARE_OK;
}

PareStatus pare_zero_fan_in_thin(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  *out = pare_graph_clone(c, a, g);
  PareNode **by_id = *out ? PARE_NEW_N(a, g->nnodes + 1, PareNode *) : NULL;
  if (!by_id) return pare_nomem(c);
  for (PareNode *n = (*out)->first; n; n = n->next) by_id[n->id] = n;
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    if (!dim->leaf->keep || !dim->exact) continue;
    PARE_TRY(zero_readers(c, *out, by_id, d, dim));
    PARE_TRY(zero_branches(c, *out, by_id, dim));
    if (dim->pair || dim->leaf->measured) PARE_TRY(zero_makers(c, *out, by_id, d, dim));
  }
  return PARE_OK;
}

PareStatus pare_zero_fan_in(PareCtx *c, PareArena *a, const PareGraph *g, const PareDims *d, PareGraph **out) {
  PARE_TRY(pare_zero_fan_in_thin(c, a, g, d, out));
  return pare_fill_slices(c, *out);
}
