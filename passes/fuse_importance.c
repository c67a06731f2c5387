/* fuse_importance - Importance comes out of the LinearGrad that its adapter's gradients come from, where these are of
 * one run alone, so that W, which it merges for dx, is not read once more:
 *   dx, dA, dB = LinearGrad(x, W, dy, A, B, ..),  a += dA, b += dB,  row, col = Importance(W, A, B, a, b)
 *   dx, dA, dB, _, row, col = LinearGrad(x, W, dy, A, B, ..) {alpha, power},  a += dA, b += dB
 * The sums a and b have to be zero before: whoever asks for the pass makes a step of one run (training.h). */
#include "passes/match.h"
#include "passes/pass.h"

enum { DX, DA, DB, ROW = 4, SCORED = 6 };

static bool writes(const PareNode *n, const PareValue *v) {
  unsigned writes = pare_op_info[n->op].writes;
  for (int i = 0; i < n->nin && i < 32 && writes >> i; i++)
    if (n->in[i] == v && writes >> i & 1u) return true;
  return false;
}

/* What alone is added to a state before n reads it. NULL: there is no such thing, or several. */
static PareValue *sole_addend(const PareNode *n, const PareValue *state) {
  PareValue *v = NULL;
  for (const PareNode *at = n->prev; at; at = at->prev) {
    if (!writes(at, state)) continue;
    if (v || at->op != PARE_OP_ACCUMULATE) return NULL;
    v = at->in[1];
  }
  return v;
}

static bool changes_between(const PareNode *d, const PareNode *n, const PareValue *v) {
  for (d = d->next; d != n; d = d->next)
    if (writes(d, v)) return true;
  return false;
}

/* Does d merge what n scores, with the adapter's halves as they still are when n reads them? */
static bool fits(const PareNode *d, const PareNode *n) {
  enum { W, A, B, LINEAR_W = 1, LINEAR_A = 3 };
  if (d->in[LINEAR_W] != n->in[W] || d->in[LINEAR_A] != n->in[A] || d->in[LINEAR_A + 1] != n->in[B]) return false;
  if (!d->out[DX] || d->nout > ROW || pare_attr_get(&d->attr, merged, 0)) return false;
  for (int i = W; i <= B; i++)
    if (changes_between(d, n, n->in[i])) return false;
  return pare_attr_get(&d->attr, transB, 0) == pare_attr_get(&n->attr, transB, 0) &&
         (float)pare_attr_get(&d->attr, scale, 1.0) == (float)pare_attr_get(&n->attr, scale, 1.0); /* d's was in f32 */
}

/* The node whose results 1 and 2 are the gradients that n reads sums of. */
static PareNode *find_gradient(const PareNode *n) {
  enum { SUM_A = 3, SUM_B, OPERANDS };
  if (n->nin < OPERANDS || !n->in[SUM_A] || !n->in[SUM_B]) return NULL;
  PareValue *da = sole_addend(n, n->in[SUM_A]), *db = sole_addend(n, n->in[SUM_B]);
  PareNode *d = da && db ? pare_made_by(da, PARE_OP_LINEARGRAD) : NULL;
  return d && d->nout > DB && d->out[DA] == da && d->out[DB] == db && fits(d, n) ? d : NULL;
}

static bool is_importance(const PareNode *n) { return n->op == PARE_OP_IMPORTANCE; }

static PareStatus fuse(PareCtx *c, PareGraph *g, PareNode *n) {
  PareNode *d = find_gradient(n);
  if (!d || n->nout < 2 || !n->out[0] || !n->out[1]) return PARE_OK;
  PareValue *col = n->out[1];
  PARE_TRY(pare_node_widen(c, g, d, d->nin, SCORED, 0));
  pare_attr_set(&d->attr, alpha, pare_attr_get(&n->attr, alpha, 1.0));
  pare_attr_set(&d->attr, power, n->attr.power);
  n->out[1] = NULL;
  pare_take_result(g, n, d, ROW);
  d->out[ROW + 1] = col, col->def = d;
  return pare_infer(c, d);
}

PareStatus pare_fuse_importance(PareCtx *c, PareGraph *g) { return pare_each_root(c, g, is_importance, fuse); }
