/* op_cost.c - the cost column: what one run of a node multiplies, computes and
 * moves. Types must be known; a result that nobody names costs nothing.
 * A multiply-add is one MAC and two FLOPs. */
#include "ir/einsum.h"
#include "ir/op_columns.h"

static double count(const PareValue *v) { return v ? (double)pare_type_count(&v->type) : 0; }

static double bytes(const PareValue *v) {
  return v ? count(v) * (double)pare_dtype_size(v->type.dtype) : 0;
}

/* Each operand and result once. */
static double traffic(const PareNode *n) {
  double sum = 0;
  for (int i = 0; i < n->nin; i++) sum += bytes(n->in[i]);
  for (int i = 0; i < n->nout; i++) sum += bytes(n->out[i]);
  return sum;
}

static PareCost of_macs(const PareNode *n, double macs) {
  return (PareCost){.macs = macs, .flops = 2 * macs, .bytes = traffic(n)};
}

PareCost pare_cost_free(const PareNode *n) {
  (void)n;
  return (PareCost){0};
}

PareCost pare_cost_move(const PareNode *n) { return (PareCost){.bytes = traffic(n)}; }

PareCost pare_cost_eltwise(const PareNode *n) {
  double elements = 0;
  for (int i = 0; i < n->nout; i++) elements += count(n->out[i]);
  return (PareCost){.flops = elements, .bytes = traffic(n)};
}

/* Every element of the result is a sum over the inner axis, K. */
PareCost pare_cost_matmul(const PareNode *n) {
  const PareType *a = &n->in[0]->type;
  bool inner_first = a->rank > 1 && pare_attr_get(&n->attr, transA, 0);
  double k = (double)a->dim[a->rank - (inner_first ? 2 : 1)];
  return of_macs(n, count(n->out[0]) * k);
}

/* Every choice of an index for each label is one multiply-add; of one operand, an addition. */
PareCost pare_cost_einsum(const PareNode *n) {
  const PareType *in[2] = {&n->in[0]->type, n->nin > 1 ? &n->in[1]->type : NULL};
  PareEinsum e;
  double terms = 1;
  if (n->nin > 2 || pare_einsum_parse(pare_attr_get(&n->attr, equation, ""), n->nin, in, &e)) return pare_cost_eltwise(n);
  for (int l = 0; l < PARE_EINSUM_LABELS; l++)
    if (e.used[l]) terms *= (double)e.size[l];
  return n->nin > 1 ? of_macs(n, terms) : (PareCost){.flops = terms, .bytes = traffic(n)};
}

/* x, W, dy, A, B: dx sums over dy's columns; U, V, dA and dB over the rank, as A·dB, dA·B and dA·dB of scores do. */
PareCost pare_cost_lineargrad(const PareNode *n) {
  const PareType *dy = &n->in[2]->type;
  double macs = n->nout > 0 && n->out[0] ? count(n->in[0]) * (double)dy->dim[dy->rank - 1] : 0;
  if (n->nout > 4) macs += 3 * count(n->in[1]) * (double)n->in[3]->type.dim[1];
  if (n->nin > 3 && n->in[3]) macs += 2 * (count(n->in[0]) + count(n->in[2])) * (double)n->in[3]->type.dim[1];
  return of_macs(n, macs);
}

/* A·B, a sum over the rank for every element of W. */
PareCost pare_cost_mergedweight(const PareNode *n) {
  return of_macs(n, n->nin > 2 && n->in[2] ? count(n->in[0]) * (double)n->in[2]->type.dim[1] : 0);
}

/* Sizes of one product of q with k', for all heads. */
static double score_macs(const PareNode *n) {
  const PareType *k = &n->in[1]->type;
  return count(n->in[0]) * (double)k->dim[n->attr.heads.at[1] == 1 ? 2 : 1];
}

PareCost pare_cost_attention(const PareNode *n) { return of_macs(n, 2 * score_macs(n)); }
/* The scores again, dP, dq, dk and dv. */
PareCost pare_cost_attentiongrad(const PareNode *n) { return of_macs(n, 5 * score_macs(n)); }

/* Every element of the result (of dy, in the gradient) is a sum over one filter of W[M, C/group, K...]. */
PareCost pare_cost_conv(const PareNode *n) {
  const PareType *w = &n->in[1]->type;
  double filter = w->dim[0] ? count(n->in[1]) / (double)w->dim[0] : 0;
  return of_macs(n, count(n->op == PARE_OP_CONV ? n->out[0] : n->in[0]) * filter);
}

/* A·B and, of G, x'·dy of every pair or the three products of the adapters. */
PareCost pare_cost_weightscore(const PareNode *n) {
  double terms = (double)n->in[1]->type.dim[1] * (n->nin > 4 && n->in[4] ? 4 : 1);
  for (int i = 6; i < n->nin; i += 2) {
    const PareType *x = &n->in[i]->type;
    terms += count(n->in[i]) / (double)x->dim[x->rank - 1];
  }
  return of_macs(n, count(n->in[0]) * terms);
}

/* A·dB, dA·B, dA·dB and A·B, each a sum over the rank, for every element of W. */
PareCost pare_cost_importance(const PareNode *n) {
  return of_macs(n, 4 * count(n->in[0]) * (double)n->in[1]->type.dim[1]);
}
