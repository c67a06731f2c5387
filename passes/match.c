/* match.c - readers are looked up in the graph as it is now: passes edit while they match. */
#include "passes/match.h"

#include <math.h>
#include <string.h>

PareNode *pare_made_by(const PareValue *v, PareOp op) { return v && v->def && v->def->op == op ? v->def : NULL; }

PareNode *pare_sole_reader(const PareGraph *g, const PareValue *v) {
  PareNode *found = NULL;
  if (!v || pare_is_output(g, v)) return NULL;
  for (PareNode *n = v->def ? v->def->next : g->first; n; n = n->next)
    for (int i = 0; i < n->nin; i++) {
      if (n->in[i] != v) continue;
      if (found && found != n) return NULL;
      found = n;
    }
  return found;
}

PareNode *pare_sole_reader_op(const PareGraph *g, const PareValue *v, PareOp op) {
  PareNode *n = pare_sole_reader(g, v);
  return n && n->op == op ? n : NULL;
}

PareValue *pare_other_operand(const PareNode *n, const PareValue *v) {
  if (n->nin != 2 || (n->in[0] == v) == (n->in[1] == v)) return NULL;
  return n->in[n->in[0] == v];
}

bool pare_reads(const PareNode *n, const PareValue *v) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] == v) return true;
  return false;
}

bool pare_is_read_between(const PareValue *v, const PareNode *n) {
  for (const PareNode *m = v->def->next; m != n; m = m->next)
    if (pare_reads(m, v)) return true;
  return false;
}

bool pare_is_fixed(const PareValue *v) {
  return v && v->data && v->role != PARE_STATE && v->role != PARE_INPUT && pare_type_known(&v->type);
}

bool pare_fixed_number(const PareValue *v, double *x) {
  if (!pare_is_fixed(v) || !pare_dtype_is_float(v->type.dtype) || pare_type_count(&v->type) != 1) return false;
  *x = pare_data_float(v, 0);
  return true;
}

bool pare_is_number(const PareValue *v, double x) {
  double is;
  return pare_fixed_number(v, &is) && fabs(is - x) <= 1e-6 * fabs(x);
}

bool pare_is_parameter(const PareValue *v) { return pare_is_fixed(v) || (v && v->trained); }

bool pare_is_vector(const PareValue *v, int64_t n) {
  return pare_is_parameter(v) && v->type.rank > 0 && v->type.dim[v->type.rank - 1] == n && pare_type_count(&v->type) == n;
}

bool pare_is_row_mean(const PareNode *n) {
  if (!n || n->op != PARE_OP_REDUCEMEAN || n->nin < 2 || !pare_is_fixed(n->in[1])) return false;
  int64_t rank = n->in[0]->type.rank, axis;
  if (rank < 1 || pare_type_count(&n->in[1]->type) != 1 || !pare_attr_get(&n->attr, keepdims, 1)) return false;
  axis = pare_data_int(n->in[1], 0);
  return axis == -1 || axis == rank - 1;
}

PareValue *pare_as_vector(PareCtx *c, PareGraph *g, PareValue *v) {
  if (v->type.rank == 1) return v;
  if (v->trained) {
    PareValue *shape = pare_const_ints(c, g, v->name, 1, (int64_t[]){-1});
    return shape ? PARE_EMIT(c, g, g->first, PARE_OP_RESHAPE, v->name, NULL, v, shape) : NULL;
  }
  return pare_const_add(c, g, v->name, (PareType){v->type.dtype, 1, {pare_type_count(&v->type)}}, v->data);
}

static bool is_read(const PareGraph *g, const PareNode *n) {
  for (int i = 0; i < n->nout; i++) {
    if (!n->out[i]) continue;
    if (pare_is_output(g, n->out[i])) return true;
    for (const PareNode *m = n->next; m; m = m->next)
      for (int k = 0; k < m->nin; k++)
        if (m->in[k] == n->out[i]) return true;
  }
  return false;
}

void pare_remove_dead(PareGraph *g, PareValue *v) {
  PareNode *n = v ? v->def : NULL;
  if (!n || pare_op_info[n->op].writes || is_read(g, n)) return;
  pare_node_remove(g, n);
  for (int i = 0; i < n->nin; i++) pare_remove_dead(g, n->in[i]);
}

void pare_fuse_into(PareGraph *g, PareValue *from, PareValue *to) {
  pare_replace_uses(g, from, to, to->def);
  pare_remove_dead(g, from);
}

PareStatus pare_each_root(PareCtx *c, PareGraph *g, bool (*is_root)(const PareNode *),
                          PareStatus (*fuse)(PareCtx *, PareGraph *, PareNode *)) {
  size_t n = 0;
  PareMark mark = pare_arena_mark(c->scratch);
  PareNode **root = PARE_NEW_N(c->scratch, g->nnodes + 1, PareNode *);
  if (!root) return pare_nomem(c);
  for (PareNode *at = g->first; at; at = at->next)
    if (is_root(at)) root[n++] = at;
  PareStatus s = PARE_OK;
  for (size_t i = 0; i < n && s == PARE_OK; i++)
    if (root[i]->out[0]->def == root[i]) s = fuse(c, g, root[i]);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

void pare_take_result(PareGraph *g, PareNode *from, PareNode *n, int i) {
  PareValue *v = from->out[0];
  from->out[0] = NULL;
  pare_node_remove(g, from);
  n->out[i] = v;
  v->def = n;
}

PareStatus pare_node_widen(PareCtx *c, PareGraph *g, PareNode *n, int nin, int nout, int at) {
  PareValue **in = PARE_NEW_N(g->arena, nin, PareValue *), **out = PARE_NEW_N(g->arena, nout, PareValue *);
  if (!in || !out) return pare_nomem(c);
  memcpy(in, n->in, (size_t)n->nin * sizeof *in);
  memcpy(out + at, n->out, (size_t)n->nout * sizeof *out);
  n->in = in, n->nin = nin;
  n->out = out, n->nout = nout;
  return PARE_OK;
}
