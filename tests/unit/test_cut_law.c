/* test_cut_law.c - the law of every op's cut rule: cut then run = run then cut, the right side by index arithmetic here. */
#include <criterion/criterion.h>
#include <string.h>

#include "cut_check.h"
#include "ir/op_columns.h"
#include "passes/bind_shapes.h"
#include "passes/trace_dims.h"

typedef struct Leaves {
  PareAxis *at[64];
  bool out[64]; /* stands in an output */
  int n;
  bool output;
} Leaves;

static void add_leaf(PareAxis *a, void *arg) {
  Leaves *l = arg;
  if (a->size < 2 || a->frozen_why) return;
  int i = 0;
  while (i < l->n && l->at[i] != a) i++;
  cr_assert_lt(i, 64);
  if (i == l->n) l->at[l->n++] = a, l->out[i] = false;
  l->out[i] |= l->output;
}

/* Leaves of data, not of the operands that steer: those stand in float inputs or in outputs. */
static Leaves leaves_of(PareTracer *t, const PareNode *n) {
  Leaves l = {.n = 0};
  for (int k = 0; k < n->nin; k++)
    for (int d = 0; n->in[k] && pare_dtype_is_float(n->in[k]->type.dtype) && d < n->in[k]->type.rank; d++)
      pare_axis_leaves(pare_axis_in(t, n, k, d), add_leaf, &l);
  l.output = true;
  for (int k = 0; k < n->nout; k++)
    for (int d = 0; n->out[k] && d < n->out[k]->type.rank; d++)
      pare_axis_leaves(pare_axis_out(t, n, k, d), add_leaf, &l);
  return l;
}

/* The elements of a tensor whose index on every axis stays. */
static PareTensor sliced(Fix *f, PareAxis **axes, const PareType *type, const void *data) {
  PareTensor out = {.type = *type};
  int64_t *kept[PARE_MAX_RANK];
  size_t bytes, size = pare_dtype_size(type->dtype);
  for (int d = 0; d < type->rank; d++) {
    out.type.dim[d] = pare_axis_count(axes[d]);
    kept[d] = pare_arena_alloc(f->arena, (size_t)type->dim[d] + 1, sizeof(int64_t));
    pare_axis_indices(axes[d], kept[d]);
  }
  cr_assert(pare_type_bytes(&out.type, &bytes));
  char *to = out.data = pare_arena_alloc(f->arena, bytes + 1, 1);
  for (int64_t i = 0; i < pare_type_count(&out.type); i++) {
    int64_t rest = i, from = 0, stride = 1;
    for (int d = type->rank - 1; d >= 0; d--) {
      from += kept[d][rest % out.type.dim[d]] * stride;
      rest /= out.type.dim[d];
      stride *= type->dim[d];
    }
    memcpy(to + (size_t)i * size, (const char *)data + (size_t)from * size, size);
  }
  return out;
}

/* A copy of a constant with zeros where a contracted leaf is dead. */
static void *zeroed(Fix *f, PareAxis **axes, const PareValue *v, const Leaves *l) {
  size_t bytes, size = pare_dtype_size(v->type.dtype);
  cr_assert(pare_type_bytes(&v->type, &bytes));
  char *data = pare_arena_alloc(f->arena, bytes + 1, 1);
  memcpy(data, v->data, bytes);
  for (int d = 0; d < v->type.rank; d++)
    for (int k = 0; k < l->n; k++) {
      if (l->out[k] || !l->at[k]->keep) continue;
      int64_t *at = pare_arena_alloc(f->arena, (size_t)v->type.dim[d] + 1, sizeof *at), inner = 1;
      pare_axis_positions(axes[d], l->at[k], at);
      for (int i = d + 1; i < v->type.rank; i++) inner *= v->type.dim[i];
      for (int64_t i = 0; i < pare_type_count(&v->type); i++) {
        int64_t p = at[i / inner % v->type.dim[d]];
        if (p >= 0 && !l->at[k]->keep[p]) memset(data + (size_t)i * size, 0, size);
      }
    }
  return data;
}

static void *wanted(Fix *f, const PareValue *v, const int64_t *want) {
  int64_t n = pare_type_count(&v->type), *data = pare_arena_alloc(f->arena, (size_t)n + 1, sizeof *data);
  for (int64_t i = 0; i < n; i++) data[i] = want[i] == PARE_ANY ? pare_data_int(v, i) : want[i];
  return data;
}

static void check_keep(Fix *f, const char *text, const PareGraph *g, PareTracer *t, const Leaves *l) {
  const PareNode *n = g->last;
  PareGraph *zero = pare_graph_clone(&f->c, f->arena, g), *cut = pare_graph_clone(&f->c, f->arena, g);
  int64_t *want = pare_arena_alloc(f->arena, 256, sizeof *want);
  for (int k = 0; k < n->nin; k++) {
    if (!n->in[k]) continue;
    PareValue *z = zero->last->in[k], *x = cut->last->in[k];
    if (pare_dtype_is_float(z->type.dtype)) z->data = zeroed(f, pare_axes(t, n, k), n->in[k], l);
    if (pare_op_info[n->op].want(t, n, k, want)) {
      x->data = wanted(f, n->in[k], want);
      continue;
    }
    PareTensor s = sliced(f, pare_axes(t, n, k), &n->in[k]->type, n->in[k]->data);
    x->type = s.type;
    x->data = s.data;
  }
  cr_assert_eq(pare_bind_shapes(&f->c, zero, 0, NULL), PARE_OK, "%s\n%s", fix_why(f), text);
  cr_assert_eq(pare_bind_shapes(&f->c, cut, 0, NULL), PARE_OK, "cut: %s\n%s", fix_why(f), text);
  for (int k = 0; k < n->nout; k++) {
    if (!n->out[k]) continue;
    PareValue *z = zero->last->out[k], *x = cut->last->out[k];
    PareTensor right = sliced(f, t->value_axis[n->out[k]->id], &z->type, z->data), left = {(void *)x->data, x->type};
    char a[PARE_TYPE_TEXT], b[PARE_TYPE_TEXT];
    double far = distance(&left, &right), most = rounding_tolerance(zero);
    cr_expect(far <= most, "output %d: cut then run %s and run then cut %s are %g apart, more than %g\n%s", k,
              pare_type_text(&left.type, a), pare_type_text(&right.type, b), far, most, text);
  }
}

/* Binds `text`, one node on constants, and cuts every leaf by itself and all at once. */
static int check_law(const char *text) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, text);
  cr_assert_eq(pare_bind_shapes(&f->c, g, 0, NULL), PARE_OK, "%s\n%s", fix_why(f), text);
  const PareNode *n = g->last;
  PareTracer *t;
  MUST(f, pare_tracer_new(&f->c, f->arena, g, &t));
  MUST(f, pare_op_info[n->op].cut(t, n));
  Leaves l = leaves_of(t, n);
  for (int trial = -1; trial < l.n; trial++) {
    for (int i = 0; i < l.n; i++)
      l.at[i]->keep = trial < 0 || trial == i ? random_keep(f, l.at[i]->size, (uint64_t)(31 * trial + i + 100)) : NULL;
    check_keep(f, text, g, t, &l);
  }
  fix_free(f);
  return l.n;
}

/* op, how many leaves may be cut (by hand), graph */
static const struct {
  PareOp op;
  int leaves;
  const char *text;
} cases[] = {
    {PARE_OP_WHERE, 3, "const %c : bool[4,1] = 1 0 0 1\nconst %a : f32[3,4,5] = random(1)\n"
                       "const %b : f32[5] = random(2)\n"
                       "%y = Where(%c, %a, %b)\n"},
    {PARE_OP_AND, 2, "const %a : bool[2,3] = 1 0 1 1 0 0\nconst %b : bool[3] = 1 1 0\n%y = And(%a, %b)\n"},
    {PARE_OP_OR, 2, "const %a : bool[2,3] = 1 0 1 1 0 0\nconst %b : bool[2,1] = 1 0\n%y = Or(%a, %b)\n"},
    {PARE_OP_XOR, 2, "const %a : bool[2,3] = 1 0 1 1 0 0\nconst %b : bool[2,1] = 1 0\n%y = Xor(%a, %b)\n"},
    {PARE_OP_BITAND, 2, "const %a : i32[2,3] = 5 6 7 8 9 10\nconst %b : i32[3] = 3 5 6\n%y = BitwiseAnd(%a, %b)\n"},
    {PARE_OP_BITOR, 2, "const %a : u8[2,3] = 5 6 7 8 9 10\nconst %b : u8[3] = 3 5 6\n%y = BitwiseOr(%a, %b)\n"},
    {PARE_OP_BITXOR, 2, "const %a : i64[2,3] = 5 6 7 8 9 10\nconst %b : i64[3] = 3 5 6\n%y = BitwiseXor(%a, %b)\n"},
    {PARE_OP_BITNOT, 2, "const %a : i64[2,3] = 5 6 7 8 9 10\n%y = BitwiseNot(%a)\n"},
    {PARE_OP_BITSHIFT, 2, "const %a : u32[2,3] = 5 6 7 8 9 10\nconst %b : u32[3] = 3 5 6\n"
                          "%y = BitShift(%a, %b) {direction=LEFT}\n"},
    {PARE_OP_CASTLIKE, 3, "const %a : f32[3,4] = random(1)\nconst %b : f64[3] = random(2)\n%y = CastLike(%a, %b)\n"},
    {PARE_OP_NOT, 2, "const %a : bool[2,3] = 1 0 1 1 0 0\n%y = Not(%a)\n"},
    {PARE_OP_QUANTIZELINEAR, 2, "const %a : f32[3,4] = random(1)\nconst %s : f32[] = 0.05\nconst %z : u8[] = 20\n"
                                "%y = QuantizeLinear(%a, %s, %z)\n"},
    {PARE_OP_QUANTIZELINEAR, 3, "const %a : f32[2,3,4] = random(1)\nconst %s : f32[3] = 0.01 0.02 0.03\n"
                                "const %z : i8[3] = 1 -2 3\n%y = QuantizeLinear(%a, %s, %z)\n"},
    {PARE_OP_DEQUANTIZELINEAR, 2, "const %a : i8[3,2] = 1 -128 127 4 5 -6\nconst %s : f32[3] = 0.5 2 3\n"
                                  "const %z : i8[3] = 1 -2 3\n%y = DequantizeLinear(%a, %s, %z) {axis=-2}\n"},
    {PARE_OP_MATMULINTEGER, 2, "const %a : u8[2,3] = 1 255 3 4 0 6\nconst %b : i8[3,4] = 1 -128 127 4 5 -6 7 8 9 10 11 "
                               "12\nconst %za : u8[] = 7\nconst %zb : i8[4] = 1 -2 3 4\n"
                               "%y = MatMulInteger(%a, %b, %za, %zb)\n"},
    {PARE_OP_CAST, 2, "const %a : f32[3,4] = random(1)\n%y = Cast(%a) {to=f64}\n"},
    {PARE_OP_MATMUL, 4, "const %a : f32[2,5,6] = random(1)\nconst %b : f32[6,7] = random(2)\n%y = MatMul(%a, %b)\n"},
    {PARE_OP_MATMUL, 5, "const %a : f32[2,3,5,6] = random(1)\nconst %b : f32[3,6,7] = random(2)\n"
                        "%y = MatMul(%a, %b)\n"},
    {PARE_OP_MATMUL, 3, "const %a : f32[6] = random(1)\nconst %b : f32[2,6,7] = random(2)\n%y = MatMul(%a, %b)\n"},
    {PARE_OP_MATMUL, 3, "const %a : f32[2,5,6] = random(1)\nconst %b : f32[6] = random(2)\n%y = MatMul(%a, %b)\n"},
    {PARE_OP_FUSEDMATMUL, 4, "const %a : f32[2,6,5] = random(1)\nconst %b : f32[2,7,6] = random(2)\n"
                             "%y = com.microsoft.FusedMatMul(%a, %b) {transA=1, transB=1, alpha=0.5}\n"},
    {PARE_OP_GEMM, 3, "const %a : f32[5,6] = random(1)\nconst %b : f32[6,7] = random(2)\n"
                      "const %c : f32[7] = random(3)\n"
                      "%y = Gemm(%a, %b, %c)\n"},
    {PARE_OP_GEMM, 3, "const %a : f32[6,5] = random(1)\nconst %b : f32[7,6] = random(2)\n"
                      "const %c : f32[5,1] = random(3)\n"
                      "%y = Gemm(%a, %b, %c) {transA=1, transB=1, alpha=0.5, beta=2.0}\n"},
    {PARE_OP_CONV, 3, "const %x : f32[2,3,6,6] = random(1)\nconst %w : f32[4,3,2,2] = random(2)\n"
                      "const %b : f32[4] = random(3)\n%y = Conv(%x, %w, %b) {strides=[2,2]}\n"},
    {PARE_OP_AVERAGEPOOL, 2, "const %a : f32[3,4,5,6] = random(1)\n"
       "%y = AveragePool(%a) {kernel_shape=[2,2]}\n"},
    {PARE_OP_MAXPOOL, 2, "const %a : f32[3,4,5,6] = random(1)\n"
       "%y = MaxPool(%a) {kernel_shape=[2,3], strides=[2,2]}\n"},
    {PARE_OP_GLOBALAVERAGEPOOL, 2, "const %a : f32[3,4,5,6] = random(1)\n"
       "%y = GlobalAveragePool(%a)\n"},
    {PARE_OP_GLOBALMAXPOOL, 2, "const %a : f32[3,4,5,6] = random(1)\n"
       "%y = GlobalMaxPool(%a)\n"},
    {PARE_OP_RESIZE, 2, "const %a : f32[3,4,5,6] = random(1)\n"
       "const %s : i64[4] = 3 4 7 6\n"
       "%y = Resize(%a, _, _, %s) {mode=linear}\n"},
    {PARE_OP_SOFTMAX, 2, "const %a : f32[3,4,5] = random(1)\n%y = Softmax(%a) {axis=1}\n"},
    {PARE_OP_SOFTMAX, 1, "const %a : f32[3,4,5] = random(1)\n%y = Softmax(%a) {axis=1, flatten=1}\n"},
    {PARE_OP_LOGSOFTMAX, 1, "const %a : f32[3,4] = random(1)\n%y = LogSoftmax(%a) {axis=-1}\n"},
    {PARE_OP_LAYERNORM, 2, "const %a : f32[3,4,5] = random(1)\nconst %g : f32[5] = random(2)\n"
                           "const %b : f32[5] = random(3)\n"
                           "%y, %m, %s = LayerNormalization(%a, %g, %b) {axis=-1}\n"},
    {PARE_OP_LAYERNORM, 1, "const %a : f32[3,4,5] = random(1)\nconst %g : f32[4,5] = random(2)\n"
                           "%y = LayerNormalization(%a, %g) {axis=1}\n"},
    {PARE_OP_REDUCEMEAN, 2, "const %a : f32[3,4,5] = random(1)\nconst %x : i64[1] = 1\n%y = ReduceMean(%a, %x)\n"},
    {PARE_OP_REDUCESUM, 1, "const %a : f32[3,4,5] = random(1)\nconst %x : i64[2] = 0 -1\n"
                           "%y = ReduceSum(%a, %x) {keepdims=0}\n"},
    {PARE_OP_REDUCEMAX, 0, "const %a : f32[3,4,5] = random(1)\n%y = ReduceMax(%a)\n"},
    {PARE_OP_REDUCEMIN, 3, "const %a : f32[3,4,5] = random(1)\n%y = ReduceMin(%a) {noop_with_empty_axes=1}\n"},
    {PARE_OP_REDUCEPROD, 2, "const %a : f32[3,4,5] = random(1)\nconst %x : i64[1] = 2\n"
                            "%y = ReduceProd(%a, %x) {keepdims=0}\n"},
    {PARE_OP_REDUCEL1, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %x : i64[1] = 1\n"
       "%y = ReduceL1(%a, %x)\n"},
    {PARE_OP_REDUCEL2, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %x : i64[1] = 1\n"
       "%y = ReduceL2(%a, %x)\n"},
    {PARE_OP_REDUCELOGSUMEXP, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %x : i64[1] = 1\n"
       "%y = ReduceLogSumExp(%a, %x)\n"},
    {PARE_OP_REDUCESUMSQUARE, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %x : i64[1] = 1\n"
       "%y = ReduceSumSquare(%a, %x)\n"},
    {PARE_OP_REDUCELOGSUM, 1, "const %b : f32[3,4,5] = random(1)\n"
       "const %x : i64[2] = 0 1\n"
       "%y = ReduceLogSum(%b, %x) {keepdims=0}\n"},
    {PARE_OP_CUMPROD, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %x : i64[] = 1\n"
       "%y = CumProd(%a, %x) {reverse=1}\n"},
    {PARE_OP_ARGMAX, 2, "const %a : f32[3,4,5] = random(1)\n"
       "%y = ArgMax(%a) {axis=1}\n"},
    {PARE_OP_ARGMIN, 2, "const %a : f32[3,4,5] = random(1)\n"
       "%y = ArgMin(%a) {axis=-1, keepdims=0}\n"},
    {PARE_OP_TOPK, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %k : i64[1] = 2\n"
       "%y, %i = TopK(%a, %k) {axis=1}\n"},
    {PARE_OP_HARDMAX, 2, "const %a : f32[3,4,5] = random(1)\n"
       "%y = Hardmax(%a) {axis=0}\n"},
    {PARE_OP_LPNORM, 2, "const %a : f32[3,4,5] = random(1)\n"
       "%y = LpNormalization(%a) {axis=1, p=1}\n"},
    {PARE_OP_BATCHNORM, 3, "const %a : f32[3,4,5] = random(1)\n"
       "const %s : f32[4] = random(2)\n"
       "const %b : f32[4] = random(3)\n"
       "const %m : f32[4] = random(4)\n"
       "const %v : f32[4] = 1 2 3 4\n"
       "%y = BatchNormalization(%a, %s, %b, %m, %v)\n"},
    {PARE_OP_INSTANCENORM, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %s : f32[4] = random(2)\n"
       "const %b : f32[4] = random(3)\n"
       "%y = InstanceNormalization(%a, %s, %b)\n"},
    {PARE_OP_CUMSUM, 2, "const %a : f32[3,4,5] = random(1)\nconst %x : i64[] = -2\n%y = CumSum(%a, %x)\n"},
    {PARE_OP_RESHAPE, 3, "const %a : f32[3,20] = random(1)\nconst %s : i64[3] = 0 4 5\n%y = Reshape(%a, %s)\n"},
    {PARE_OP_RESHAPE, 3, "const %a : f32[3,4,5] = random(1)\nconst %s : i64[2] = 3 -1\n%y = Reshape(%a, %s)\n"},
    {PARE_OP_RESHAPE, 2, "const %a : f32[4,6] = random(1)\nconst %s : i64[3] = 4 1 6\n%y = Reshape(%a, %s)\n"},
    {PARE_OP_RESHAPE, 4, "const %a : f32[6,10] = random(1)\nconst %s : i64[4] = 3 2 2 5\n%y = Reshape(%a, %s)\n"},
    {PARE_OP_FLATTEN, 3, "const %a : f32[3,4,5] = random(1)\n%y = Flatten(%a) {axis=1}\n"},
    {PARE_OP_SQUEEZE, 2, "const %a : f32[3,1,5,1] = random(1)\nconst %x : i64[2] = 1 -1\n%y = Squeeze(%a, %x)\n"},
    {PARE_OP_UNSQUEEZE, 2, "const %a : f32[3,5] = random(1)\nconst %x : i64[2] = 0 2\n%y = Unsqueeze(%a, %x)\n"},
    {PARE_OP_TRANSPOSE, 3, "const %a : f32[3,4,5] = random(1)\n%y = Transpose(%a) {perm=[2,0,1]}\n"},
    {PARE_OP_TRANSPOSE, 3, "const %a : f32[3,4,5] = random(1)\n%y = Transpose(%a)\n"},
    {PARE_OP_CONCAT, 4, "const %a : f32[3,4] = random(1)\nconst %b : f32[3,2] = random(2)\n"
                        "const %c : f32[3,5] = random(3)\n"
                        "%y = Concat(%a, %b, %c) {axis=1}\n"},
    {PARE_OP_SPLIT, 4, "const %a : f32[3,12] = random(1)\nconst %s : i64[3] = 3 4 5\n"
                       "%y, %z, %w = Split(%a, %s) {axis=1}\n"},
    {PARE_OP_SLICE, 4, "const %a : f32[3,12] = random(1)\nconst %s : i64[1] = 3\nconst %e : i64[1] = -4\n"
                       "const %x : i64[1] = 1\n"
                       "%y = Slice(%a, %s, %e, %x)\n"},
    {PARE_OP_SLICE, 3, "const %a : f32[3,12] = random(1)\nconst %s : i64[2] = 0 -5\n"
                       "const %e : i64[2] = 100 9223372036854775807\n"
                       "%y = Slice(%a, %s, %e)\n"},
    {PARE_OP_GATHER, 4, "const %a : f32[4,5,6] = random(1)\nconst %i : i64[2,3] = 0 3 -1 2 1 1\n"
                        "%y = Gather(%a, %i) {axis=1}\n"},
    {PARE_OP_GATHER, 2, "const %a : f32[3,5,6] = random(1)\nconst %i : i64[] = 2\n%y = Gather(%a, %i) {axis=0}\n"},
    {PARE_OP_TILE, 4, "const %a : f32[3,4,5] = random(1)\n"
       "const %r : i64[3] = 1 2 1\n"
       "%y = Tile(%a, %r)\n"},
    {PARE_OP_PAD, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %p : i64[6] = 0 1 0 0 2 0\n"
       "%y = Pad(%a, %p)\n"},
    {PARE_OP_PAD, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %p : i64[2] = 2 1\n"
       "const %x : i64[1] = -2\n"
       "%y = Pad(%a, %p, _, %x) {mode=edge}\n"},
    {PARE_OP_TRILU, 1, "const %a : f32[3,4,5] = random(1)\n"
       "%y = Trilu(%a) {upper=0}\n"},
    {PARE_OP_GATHERELEMENTS, 3, "const %a : f32[3,4,5] = random(1)\n"
       "const %i : i64[3,2,5] = 0 3 2 1 0 3 2 1 0 3 2 1 0 3 2 1 0 3 2 1 0 3 2 1 0 3 2 1 0 3\n"
       "%y = GatherElements(%a, %i) {axis=1}\n"},
    {PARE_OP_SCATTERELEMENTS, 1, "const %a : f32[3,4,5] = random(1)\n"
       "const %i : i64[3,2,2] = 0 1 2 3 0 1 2 3 0 1 2 3\n"
       "const %u : f32[3,2,2] = random(2)\n"
       "%y = ScatterElements(%a, %i, %u) {axis=1, reduction=add}\n"},
    {PARE_OP_GATHERND, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %i : i64[2,2] = 0 3 2 -1\n"
       "%y = GatherND(%a, %i)\n"},
    {PARE_OP_GATHERND, 3, "const %a : f32[3,4,5] = random(1)\n"
       "const %i : i64[3,2,1] = 0 3 2 -1 1 1\n"
       "%y = GatherND(%a, %i) {batch_dims=1}\n"},
    {PARE_OP_SCATTERND, 2, "const %a : f32[3,4,5] = random(1)\n"
       "const %i : i64[2,1] = 0 2\n"
       "const %u : f32[2,4,5] = random(2)\n"
       "%y = ScatterND(%a, %i, %u)\n"},
    {PARE_OP_ONEHOT, 2, "const %a : i64[3,4] = 0 1 2 3 4 0 1 2 3 4 0 1\n"
       "const %d : i64[] = 5\n"
       "const %v : f32[2] = 0 1\n"
       "%y = OneHot(%a, %d, %v) {axis=1}\n"},
    {PARE_OP_EINSUM, 3, "const %a : f32[3,4] = random(1)\n"
       "const %b : f32[4,5] = random(2)\n"
       "%y = Einsum(%a, %b) {equation=\"ij,jk->ik\"}\n"},
    {PARE_OP_EINSUM, 5, "const %a : f32[2,3,4] = random(1)\n"
       "const %b : f32[5,4,6] = random(2)\n"
       "%y = Einsum(%a, %b) {equation=\"...d,hdk->h...k\"}\n"},
    {PARE_OP_EINSUM, 2, "const %a : f32[3,4,5] = random(1)\n"
       "%y = Einsum(%a) {equation=\"ijk->ki\"}\n"},
    {PARE_OP_EXPAND, 3, "const %a : f32[3,1,5] = random(1)\nconst %s : i64[4] = 2 1 1 5\n%y = Expand(%a, %s)\n"},
    {PARE_OP_CONSTANTOFSHAPE, 2, "const %s : i64[2] = 3 4\n%y = ConstantOfShape(%s)\n"},
};

/* Element-wise rows have one graph, by their arity. */
static bool law_of_row(PareOp op, Fix *f) {
  const PareOpInfo *i = &pare_op_info[op];
  if (i->cut != pare_cut_same) return false;
  const char *text = fmt(f, "const %%a : f32[3,4,5] = random(1)\n%%y = %s(%%a)\n", i->name);
  if (i->min_in == 2 || i->max_in < 0)
    text = fmt(f, "const %%a : f32[3,4,5] = random(1)\nconst %%b : f32[4,1] = random(2)\n%%y = %s(%%a, %%b)\n",
               i->name);
  int n = check_law(text);
  cr_expect_eq(n, 3, "%d leaves, expected 3\n%s", n, text);
  return true;
}

Test(cut, of_every_op_and_run_is_run_and_cut) {
  Fix fix, *f = &fix;
  fix_init(f);
  bool covered[PARE_OP_COUNT] = {false};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int n = check_law(cases[i].text);
    cr_expect_eq(n, cases[i].leaves, "%d leaves may be cut, expected %d\n%s", n, cases[i].leaves, cases[i].text);
    covered[cases[i].op] = true;
  }
  for (int op = 0; op < PARE_OP_COUNT; op++) {
    PareCutFn *rule = pare_op_info[op].cut; /* a source's numbers are sizes: what reads them is patched, see below; */
    if (rule == pare_cut_opaque || rule == pare_cut_source || covered[op]) continue;
    if (rule == pare_cut_dynquant) continue; /* and a measured scale follows from all that is left: see the fixture */
    cr_expect(law_of_row((PareOp)op, f), "the cut rule of %s is not tested", pare_op_info[op].id);
  }
  fix_free(f);
}
