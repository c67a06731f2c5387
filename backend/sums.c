/* sums.c - see sums.h. Of
 *
 *     normal, mean, deviation, sum = SkipLayerNormalization(input, skip, gamma, beta, bias)
 *
 * the branch is one of the first two, and the bias; of SkipSimplifiedLayerNormalization, which has no beta, too:
 *
 *     branch   norm    the node becomes
 *     goes     goes    sum = Identity(stream)
 *     stays    goes    sum = Add(input, skip), behind it a second Add where there is a bias
 *     goes     stays   normal, mean, deviation = LayerNormalization(stream, gamma, beta), which opset 17 has, and
 *                      beside it sum = Identity(stream)
 *                      where the file's opset has no such op: itself, of the stream and of stream - stream, a zero of
 *                      its size (ONNX Runtime before 1.15 takes no smaller one)
 *
 * sum = QLinearAdd(a, scale, zero, b, scale, zero, scale, zero) whose branch goes stays what it is, since the sum has a
 * scale of its own: what is added is the branch's zero point, one number. */
#include "backend/sums.h"

enum { GAMMA = 2, BETA = 3, SUM_OUTPUT = 3, LAYERNORM_SINCE = 17, QUANTISED = 3, ZERO_POINT = 2 };
#define BIT(k) (1u << (k))

typedef struct Sum {
  const PareNode *add, *bias; /* bias: the second Add, or NULL */
  const PareNode *norm;       /* LayerNormalization; NULL: by the root of the mean square */
  int dropped;                /* the operand, 0 or 1, that goes, or -1 */
  bool norm_goes, quantised;
} Sum;

const PareNode *pare_sum_of(const PareNode *n) {
  uint32_t op = n->onnx_index;
  while (n->prev && n->prev->onnx_index == op) n = n->prev;
  while (n && n->onnx_index == op && n->onnx_input != PARE_IN_SUM) n = n->next;
  return n && n->onnx_index == op ? n : NULL;
}

static Sum look(const PareNode *add, PareNode *const *after) {
  const PareNode *is = after[add->id];
  Sum s = {.add = add, .dropped = -1};
  if (is && is->op == PARE_OP_IDENTITY) s.dropped = is->in[0]->id == add->in[0]->id ? 1 : 0; /* the other one */
  for (const PareNode *n = add->next; n && n->onnx_index == add->onnx_index; n = n->next) {
    if (n->onnx_input == PARE_IN_SUM) s.bias = n, s.norm_goes = false; /* what stands before was the bias's */
    else s.norm_goes |= !after[n->id];
    if (n->op == PARE_OP_LAYERNORM) s.norm = n;
    s.quantised |= n->op == PARE_OP_QUANTIZELINEAR;
  }
  return s;
}

bool pare_sum_changes(const PareNode *sum, PareNode *const *after) {
  Sum s = look(sum, after);
  return after[sum->id] && (s.dropped >= 0 || s.norm_goes);
}

static int bias_input(const Sum *s) { return s->norm ? BETA + 1 : GAMMA + 1; }

static PareRename *rename_of(const PareNodeEdit *e, int input) {
  for (size_t i = 0; i < e->renames.n; i++)
    if (e->renames.at[i].input == input) return &e->renames.at[i];
  return NULL;
}

/* What the node reads at input k, 0 or 1. */
static const char *name_at(const Sum *s, const PareNodeEdit *e, int k) {
  const PareValue *v = s->add->in[k];
  const PareRename *r = rename_of(e, k);
  if (v->def && v->def->onnx_index == s->add->onnx_index) v = v->def->in[0]; /* a constant */
  return r ? r->name : v->name;
}

static PareStatus read_instead(PareCtx *c, PareArena *a, PareNodeEdit *e, int k, const char *name) {
  PareRename x = {k, name}, *old = rename_of(e, k);
  if (old) *old = x;
  return old || pare_vec_push(a, &e->renames, x) ? PARE_OK : pare_nomem(c);
}

static PareStatus insert(PareCtx *c, PareArena *a, PareNodeEdit *e, const char *op, const char *x, const char *y,
                         const char *out, const char *name) {
  PareInsert n = {.op = op, .in = {x, y}, .out = out, .name = name};
  return pare_vec_push(a, &e->inserts, n) ? PARE_OK : pare_nomem(c);
}

/* Does anything that is left, but for the op itself, read the sum? */
static const PareValue *sum_wanted(const PareGraph *before, const Sum *s, PareNode *const *after) {
  const PareValue *v = (s->bias ? s->bias : s->add)->out[0];
  bool wanted = pare_is_output(before, v);
  for (const PareNode *n = s->add->next; n && !wanted; n = n->next)
    for (int k = 0; k < n->nin; k++) wanted |= n->in[k] == v && after[n->id] && n->onnx_index != s->add->onnx_index;
  return wanted ? v : NULL;
}

static PareStatus make_sum(PareCtx *c, PareArena *a, const Sum *s, const char *fresh, PareNodeEdit *e) {
  const char *x = name_at(s, e, 0), *y = name_at(s, e, 1);
  e->op = "Add";
  e->cut_out = ~BIT(SUM_OUTPUT);
  e->cut_in = ~(BIT(0) | BIT(1));
  if (!s->bias) return PARE_OK;
  e->cut_in = ~(BIT(0) | BIT(bias_input(s)));
  PARE_TRY(insert(c, a, e, "Add", x, y, fresh, fresh));
  return read_instead(c, a, e, 0, fresh);
}

static PareStatus make_norm(PareCtx *c, PareArena *a, const Sum *s, const PareValue *sum, const char *fresh,
                            PareNodeEdit *e) {
  PareValue *v = PARE_NEW(a, PareValue);
  float *epsilon = PARE_NEW(a, float);
  if (!v || !epsilon) return pare_nomem(c);
  *epsilon = (float)s->norm->attr.epsilon; /* the two ops' defaults are not the same */
  *v = (PareValue){.name = "epsilon", .type = {PARE_F32, 0, {0}}, .data = epsilon};
  v->origin = (PareOrigin){PARE_ORIGIN_ABSENT, s->add->onnx_index, "epsilon", 0};
  e->op = "LayerNormalization";
  e->cut_in = BIT(s->dropped) | ~(BIT(0) | BIT(1) | BIT(GAMMA) | BIT(BETA));
  e->cut_out = s->norm->nout > 1 ? BIT(SUM_OUTPUT) : ~BIT(0);
  if (!pare_vec_push(a, &e->attrs, (const PareValue *)v)) return pare_nomem(c);
  return sum ? insert(c, a, e, "Identity", name_at(s, e, 1 - s->dropped), NULL, sum->name, fresh) : PARE_OK;
}

static PareStatus add_nothing(PareCtx *c, PareArena *a, const Sum *s, const char *fresh, PareNodeEdit *e) {
  const char *stream = name_at(s, e, 1 - s->dropped);
  e->cut_in = BIT(bias_input(s));
  PARE_TRY(insert(c, a, e, "Sub", stream, stream, fresh, fresh));
  return read_instead(c, a, e, s->dropped, fresh);
}

/* The operand that goes is its own zero point. */
static PareStatus read_zero_point(PareCtx *c, PareArena *a, const Sum *s, PareNodeEdit *e) {
  int operand = s->dropped * QUANTISED;
  const PareRename *r = rename_of(e, operand + ZERO_POINT);
  const PareValue *zero = s->add->in[s->dropped]->def->in[ZERO_POINT];
  if (zero->def && zero->def->onnx_index == s->add->onnx_index) zero = zero->def->in[0]; /* a constant */
  return read_instead(c, a, e, operand, r ? r->name : zero->name);
}

PareStatus pare_sum_edit(PareCtx *c, PareArena *a, const PareGraph *before, const PareNode *sum, PareNode *const *after,
                         const char *fresh, PareNodeEdit *e) {
  Sum s = look(sum, after);
  if (s.quantised) return read_zero_point(c, a, &s, e);
  if (s.dropped < 0) return make_sum(c, a, &s, fresh, e);
  if (s.norm_goes) {
    e->op = "Identity";
    e->cut_in = ~BIT(1 - s.dropped);
    e->cut_out = ~BIT(SUM_OUTPUT);
    return PARE_OK;
  }
  bool known = s.norm && before->opset >= LAYERNORM_SINCE;
  return known ? make_norm(c, a, &s, sum_wanted(before, &s, after), fresh, e) : add_nothing(c, a, &s, fresh, e);
}
