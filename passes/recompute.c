/* recompute.c - which results to make again: greedily, the one whose making costs least for the bytes it frees, each
 * choice seen in the light of those before it (as rematerialisation is done by Kirisame et al., DTR, 2021, but ahead of
 * time). A result's cost is that of every node between it and what is at hand: inputs, weights, states and results that
 * are kept. */
#include "passes/recompute.h"

#include <math.h>

typedef enum Place {
  ELSEWHERE, /* nobody behind forward reads it */
  KEPT,
  STAYS, /* the same, whatever it costs: an output */
  AGAIN,
} Place;

typedef struct Plan {
  PareCtx *c;
  PareGraph *g;
  PareRecompute limit;
  size_t n;               /* values of the graph as it was */
  bool *forward;          /* by node id */
  const PareValue **root; /* by value: whose bytes it shows */
  Place *place;           /* by value, of roots */
  uint32_t *seen, stamp;  /* by node id: counted for this cost */
  double kept;
  PareValue **again[UINT8_MAX + 1]; /* by phase, by value: its second making; NULL: none yet */
} Plan;

static const PareValue *root_of(const PareValue *v) {
  while (v->role == PARE_RESULT && v->def && pare_is_view(v->def)) v = v->def->in[0];
  return v;
}

/* Made by forward, when the program runs. */
static bool is_made(const Plan *p, const PareValue *v) {
  return v && v->role == PARE_RESULT && v->def && !v->data && p->forward[v->def->id];
}

static Place place_of(const Plan *p, const PareValue *v) { return p->place[p->root[v->id]->id]; }
static bool at_hand(const Plan *p, const PareValue *v) {
  return !is_made(p, v) || place_of(p, v) == KEPT || place_of(p, v) == STAYS;
}

static double bytes_of(const PareValue *v) {
  return (double)pare_type_count(&v->type) * (double)pare_dtype_size(v->type.dtype);
}

static void find_kept(Plan *p, const PareNode *forward) {
  for (const PareNode *n = p->g->first; n; n = n->next) {
    p->forward[n->id] = true;
    if (n == forward) break;
  }
  for (size_t i = 0; i < p->n; i++) p->root[i] = root_of(p->g->values.at[i]);
  for (size_t i = 0; i < p->g->outputs.n; i++) p->place[p->root[p->g->outputs.at[i]->id]->id] = STAYS;
  for (const PareNode *n = forward->next; n; n = n->next)
    for (int i = 0; i < n->nin; i++) {
      const PareValue *root = n->in[i] ? p->root[n->in[i]->id] : NULL;
      if (!is_made(p, root) || p->place[root->id] != ELSEWHERE) continue;
      p->place[root->id] = KEPT;
      p->kept += bytes_of(root);
    }
}

/* --- what a result costs --- */

static double node_cost(const PareNode *n) {
  PareCost c = pare_op_info[n->op].cost(n);
  return fmax(c.bytes, c.flops / PARE_FLOPS_A_BYTE);
}

/* Adds the nodes that make v, as far as nothing at hand does, until the sum passes `most`. */
static double cost_to_make(Plan *p, const PareValue *v, double most) {
  const PareNode *n = v->def;
  if (p->seen[n->id] == p->stamp) return 0;
  p->seen[n->id] = p->stamp;
  double sum = pare_is_view(n) ? 0 : node_cost(n);
  for (int i = 0; i < n->nin && sum <= most; i++)
    if (n->in[i] && !at_hand(p, n->in[i])) sum += cost_to_make(p, n->in[i], most - sum);
  return sum;
}

/* The kept result that costs least for a byte, at most limit.dear; NULL: none does. */
static const PareValue *cheapest(Plan *p) {
  const PareValue *best = NULL;
  double least = p->limit.dear;
  for (size_t i = 0; i < p->n; i++) {
    const PareValue *v = p->g->values.at[i];
    double bytes = bytes_of(v);
    if (p->place[i] != KEPT || bytes <= 0) continue;
    p->stamp++;
    double each = cost_to_make(p, v, least * bytes) / bytes;
    if (each < least || (!best && each <= least && isfinite(each))) best = v, least = each;
  }
  return best;
}

static void choose(Plan *p) {
  const PareValue *v;
  while (p->kept > p->limit.most && (v = cheapest(p))) {
    p->place[v->id] = AGAIN;
    p->kept -= bytes_of(v);
  }
}

/* --- making again --- */

/* Points *v to its second making for `reader`, where it has one. */
static PareStatus make_again(Plan *p, PareNode *reader, PareValue **v);

static PareStatus clone(Plan *p, PareNode *reader, const PareNode *n) {
  PareValue **in = PARE_NEW_N(p->c->scratch, n->nin + 1, PareValue *);
  if (!in) return pare_nomem(p->c);
  for (int i = 0; i < n->nin; i++) {
    in[i] = n->in[i];
    PARE_TRY(make_again(p, reader, &in[i]));
  }
  PareNode *copy = pare_node_add(p->c, p->g, reader, n->op, n->name, n->nin, in, n->nout);
  if (!copy) return p->c->diag.code;
  copy->attr = n->attr;
  copy->phase = reader->phase;
  for (int i = 0; i < n->nout; i++) {
    if (n->out[i]) {
      copy->out[i]->type = n->out[i]->type;
      p->again[reader->phase][n->out[i]->id] = copy->out[i];
    } else {
      copy->out[i]->def = NULL;
      copy->out[i] = NULL;
    }
  }
  return PARE_OK;
}

static PareStatus make_again(Plan *p, PareNode *reader, PareValue **v) {
  if (!*v || (*v)->id >= p->n || at_hand(p, *v)) return PARE_OK;
  PareValue ***made = &p->again[reader->phase];
  if (!*made && !(*made = PARE_NEW_N(p->c->scratch, p->n, PareValue *))) return pare_nomem(p->c);
  if (!(*made)[(*v)->id]) PARE_TRY(clone(p, reader, (*v)->def));
  *v = (*made)[(*v)->id];
  return PARE_OK;
}

/* Readers of what is made again; nodes added on the way stand before them and are right already. */
static PareStatus redirect(Plan *p, PareNode *forward) {
  for (PareNode *n = forward->next; n; n = n->next)
    for (int i = 0; i < n->nin; i++) {
      PareValue *v = n->in[i];
      if (v && v->id < p->n && is_made(p, v) && place_of(p, v) == AGAIN) PARE_TRY(make_again(p, n, &n->in[i]));
    }
  return PARE_OK;
}

static PareStatus recompute(Plan *p, PareNode *forward) {
  find_kept(p, forward);
  choose(p);
  return redirect(p, forward);
}

PareStatus pare_recompute(PareCtx *c, PareGraph *g, PareNode *forward, PareRecompute limit, double *kept) {
  PareMark mark = pare_arena_mark(c->scratch);
  Plan p = {.c = c, .g = g, .limit = limit, .n = g->values.n};
  p.forward = PARE_NEW_N(c->scratch, g->nnodes, bool);
  p.seen = PARE_NEW_N(c->scratch, g->nnodes, uint32_t);
  p.root = PARE_NEW_N(c->scratch, p.n, const PareValue *);
  p.place = PARE_NEW_N(c->scratch, p.n, Place);
  PareStatus s = p.forward && p.seen && p.root && p.place ? recompute(&p, forward) : pare_nomem(c);
  if (kept) *kept = p.kept;
  pare_arena_rewind(c->scratch, mark);
  return s;
}
