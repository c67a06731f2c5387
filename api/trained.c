#include "api/trained.h"

static const PareNode *find_node(const PareGraph *g, uint32_t id) {
  const PareNode *n = g->first;
  while (n && n->id != id) n = n->next;
  return n;
}

PareStatus pare_trained_new(PareCtx *c, PareParams *p, const PareDims *d, unsigned what) {
  PARE_TRY(pare_find_trained(c, p->arena, d, &p->full, what, &p->trained));
  if (!(p->t = PARE_NEW_N(p->arena, p->trained.at.n + 1, PareMoments))) return pare_nomem(c);
  for (size_t i = 0; i < p->trained.at.n; i++) {
    const PareTrained *t = &p->trained.at.at[i];
    int64_t n = pare_type_count(&t->type);
    PareMoments m = {PARE_NEW_N(p->arena, n, float), PARE_NEW_N(p->arena, n, float), PARE_NEW_N(p->arena, n, float)};
    if (!m.value || !m.m || !m.v) return pare_nomem(c);
    for (int64_t k = 0; k < n; k++) m.value[k] = (float)pare_data_float(t->was, k);
    p->t[i] = m;
  }
  return PARE_OK;
}

/* --- to the program and back --- */

/* What lives of a tensor under the cut: rows of its last axis, by where they begin, and columns. */
typedef struct Living {
  int64_t rows, cols, *row, *col;
} Living;

static PareStatus find_living(PareCtx *c, const PareTrained *t, const PareDims *d, Living *out) {
  const PareUse *u = &t->readings.at[0];
  int last = t->type.rank - 1;
  PareAxis *columns = pare_axis_in(d->tracer, u->node, u->input, last);
  int64_t inner = 1, stride = t->type.dim[last];
  *out = (Living){.rows = 1, .cols = pare_axis_count(columns)};
  for (int k = 0; k < last; k++) out->rows *= pare_axis_count(pare_axis_in(d->tracer, u->node, u->input, k));
  out->row = PARE_NEW_N(c->scratch, out->rows + 1, int64_t);
  out->col = PARE_NEW_N(c->scratch, out->cols + 1, int64_t);
  if (!out->row || !out->col) return pare_nomem(c);
  pare_axis_indices(columns, out->col);
  for (int k = last - 1; k >= 0; k--) {
    PareAxis *axis = pare_axis_in(d->tracer, u->node, u->input, k);
    int64_t count = pare_axis_count(axis), *index = PARE_NEW_N(c->scratch, count + 1, int64_t);
    if (!index) return pare_nomem(c);
    pare_axis_indices(axis, index);
    for (int64_t i = 0; i < out->rows; i++) out->row[i] += index[i / inner % count] * stride;
    inner *= count;
    stride *= t->type.dim[k];
  }
  return PARE_OK;
}

static PareStatus copy(PareCtx *c, const Living *l, float *full, const PareValue *v, PareProgram *program, bool save) {
  float *cut = v ? pare_program_buffer(program, v) : NULL;
  if (!cut) return PARE_OK;
  if (save) PARE_TRY(pare_program_pull(c, program, v));
  for (int64_t i = 0; i < l->rows; i++, cut += l->cols) {
    float *row = full + l->row[i];
    for (int64_t j = 0; j < l->cols && save; j++) row[l->col[j]] = cut[j];
    for (int64_t j = 0; j < l->cols && !save; j++) cut[j] = row[l->col[j]];
  }
  return save ? PARE_OK : pare_program_push(c, program, v);
}

PareStatus pare_trained_transfer(PareCtx *c, const PareParams *p, const PareDims *d, const PareTrainGraph *t,
                                 PareProgram *program, bool save) {
  for (size_t i = 0; i < p->trained.at.n; i++) {
    const PareParam *x = &t->trained[i];
    Living l;
    PareMark mark = pare_arena_mark(c->scratch);
    PARE_TRY(find_living(c, &p->trained.at.at[i], d, &l));
    PARE_TRY(copy(c, &l, p->t[i].value, x->value, program, save));
    PARE_TRY(copy(c, &l, p->t[i].m, x->m, program, save));
    PARE_TRY(copy(c, &l, p->t[i].v, x->v, program, save));
    pare_arena_rewind(c->scratch, mark);
  }
  return PARE_OK;
}

/* --- to the model --- */

PareStatus pare_trained_write(PareCtx *c, PareArena *a, const PareParams *p, const PareGraph *g, const PareGraph **out) {
  *out = g;
  if (!p->trained.at.n) return PARE_OK;
  const float **value = PARE_NEW_N(a, p->trained.at.n, const float *);
  PareGraph *tuned = value ? pare_graph_clone(c, a, g) : NULL;
  if (!tuned) return value ? c->diag.code : pare_nomem(c);
  for (size_t i = 0; i < p->trained.at.n; i++) value[i] = p->t[i].value;
  *out = tuned;
  return pare_write_trained(c, tuned, &p->trained, value);
}

static void absorb(PareMoments *m, const PareTrained *t, const PareGraph *was, const PareGraph *is) {
  for (size_t i = 0; i < t->readings.n; i++) {
    const PareUse *u = &t->readings.at[i];
    const PareValue *old = find_node(was, u->node->id)->in[u->input], *now = find_node(is, u->node->id)->in[u->input];
    if (old->data == now->data) continue;
    for (int64_t k = 0; k < pare_type_count(&t->type); k++)
      m->value[k] = (float)((double)m->value[k] + pare_data_float(now, k) - pare_data_float(old, k));
    return; /* all readings have got the same */
  }
}

/* Adapter i's weight and bias have taken over what was kept beside them, if they are tuned themselves. */
static void forget_absorbed(PareParams *p, size_t i, const PareGraph *g) {
  const PareSite *s = &p->full.at.at[i].sites.at[0];
  PareNode *n = (PareNode *)(uintptr_t)find_node(g, s->node), *root, *reader;
  int input;
  if (p->dense[i] && pare_root_constant(n, s->w, &root, &input) && pare_trained_at(&p->trained, root->id, input) >= 0)
    p->dense[i] = NULL;
  if (p->bias[i] && pare_bias_of(g, n, p->full.at.at[i].n, &reader, &input) &&
      pare_trained_at(&p->trained, reader->id, input) >= 0)
    p->bias[i] = NULL;
}

void pare_trained_absorb(PareParams *p, const PareGraph *was, const PareGraph *is) {
  for (size_t i = 0; i < p->trained.at.n; i++) absorb(&p->t[i], &p->trained.at.at[i], was, is);
  for (size_t i = 0; i < p->full.at.n && p->trained.at.n; i++) forget_absorbed(p, i, is);
}

int64_t pare_trained_count(const PareParams *p, const PareTrainGraph *t) {
  int64_t count = 0;
  for (size_t i = 0; i < p->full.at.n; i++) {
    const PareAdapter *a = &p->full.at.at[i];
    count += (pare_adapter_rows(a) + a->n) * a->rank;
  }
  for (size_t i = 0; i < p->trained.at.n; i++)
    if (!t || t->trained[i].grad) count += pare_type_count(&p->trained.at.at[i].type);
  return count;
}
