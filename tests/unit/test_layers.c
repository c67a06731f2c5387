/* test_layers.c - the kernels of whole layers: merged weights, linear layers with adapters, attention, and their gradients. */
#include "kernel_call.h"

/* W' = m∘(W + s·A·B), which costs a rounding for each term, and a bias, by the definition in float64. Rounded once to
 * bf16, a number moves by 2^-8 of itself at most, two of `unit`, and what f32 has lost before is a thousandth of that. */
static void merged_weight(Call *c, PareDtype from, PareDtype to, int64_t k, int64_t n, int64_t r, bool t, bool masked) {
  clear(c);
  pare_attr_set(&c->attr, scale, 0.5);
  pare_attr_set(&c->attr, transB, t);
  pare_attr_set(&c->attr, to, to);
  PareTensor *w = filled(t ? input(c, from, DIMS(n, k)) : input(c, from, DIMS(k, n)), 1, -1, 1);
  PareTensor *bias = filled(input(c, from, DIMS(n)), 2, -1, 1), none = {0};
  PareTensor a = none, b = none, mask = none;
  if (r) a = *filled(input(c, from, DIMS(k, r)), 3, -1, 1), b = *filled(input(c, from, DIMS(r, n)), 4, -1, 1);
  else left_out(c), left_out(c);
  if (masked) mask = *filled(input(c, from, DIMS(k)), 5, 0, 1);
  PareTensor want = tensor(c, PARE_F64, w->type.rank, w->type.dim);
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = 0; j < n; j++) {
      int64_t at = t ? j * k + i : i * n + j;
      double sum = get(w, at);
      for (int64_t l = 0; l < r; l++) sum += 0.5 * get(&a, i * r + l) * get(&b, l * n + j);
      put(&want, at, masked ? sum * get(&mask, i) : sum);
    }
  PareTensor *out = output(c, to, w->type.rank, w->type.dim), *low = output(c, to, DIMS(n));
  must(c, PARE_OP_MERGEDWEIGHT);
  near(out, &want, to == PARE_BF16 ? 2.01 : (double)(r + 2), "MergedWeight");
  near(low, bias, 1, "bias");
}

Test(layers, merged_weights_are_those_of_float64) {
  static const int64_t all[][3] = {{7, 33, 3}, {40, 300, 11}, {1, 1, 1}, {96, 64, 8}, {70, 516, 0}, {516, 68, 12}};
  static const PareDtype types[][2] = {{PARE_F64, PARE_F64}, {PARE_F32, PARE_F32}, {PARE_F32, PARE_BF16}};
  EACH_LEVEL(c) for (size_t i = 0; i < sizeof all / sizeof *all; i++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 4; mode++)
    merged_weight(&c, types[d][0], types[d][1], all[i][0], all[i][1], all[i][2], mode & 1, mode & 2);
}

#ifndef PARE_TEST_CUDA /* whose layers are tested in test_cuda_ops.c */
/* --- layers: the float64 kernels (finite differences: test_autodiff) are the truth. A result is a sum of products whose
 * operands are rounded to the storage type once or twice. --- */
typedef struct Heads {
  int64_t m, n, qk, v, mask[4];
  bool inside; /* [batch, rows, heads, width] */
} Heads;

static PareTensor *side(Call *c, PareDtype d, const Heads *s, int64_t rows, int64_t width, uint64_t key) {
  return filled(input(c, d, DIMS(2, s->inside ? rows : 3, s->inside ? 3 : rows, width)), key, -1, 1);
}

/* y, lse, dq, dk, dv. What is added up for lse in bf16 are exponentials to 2^-12 (vh_exp). */
static void attention(Call *c, PareDtype d, const Heads *s, PareTensor *out) {
  PareDtype sums = d == PARE_F64 ? d : PARE_F32;
  clear(c);
  pare_attr_set(&c->attr, scale, 0.25);
  pare_attr_set(&c->attr, heads, ((PareInts){4, {s->inside ? 2 : 1, s->inside ? 2 : 1, s->inside ? 2 : 1, s->inside ? 2 : 1}}));
  PareTensor q = *side(c, d, s, s->m, s->qk, 1), k = *side(c, d, s, s->n, s->qk, 2), v = *side(c, d, s, s->n, s->v, 3);
  PareTensor mask = *filled(input(c, sums, 4, s->mask), 4, -3, 0), dy;
  out[0] = *output(c, d, DIMS(2, s->inside ? s->m : 3, s->inside ? 3 : s->m, s->v));
  out[1] = *output(c, sums, DIMS(2, 3, s->m));
  must(c, PARE_OP_ATTENTION);
  c->nin = c->nout = 0;
  dy = *side(c, d, s, s->m, s->v, 5);
  const PareTensor in[] = {q, k, v, out[0], out[1], dy, mask};
  memcpy(c->in, in, sizeof in);
  c->nin = 7;
  for (int i = 0; i < 3; i++) out[2 + i] = *like(c, &in[i]);
  must(c, PARE_OP_ATTENTIONGRAD);
}

Test(layers, attention_of_every_type_agrees_with_float64) {
  static const char *const name[] = {"y", "lse", "dq", "dk", "dv"};
  static const Heads all[] = {{32, 32, 32, 32, {1, 1, 1, 32}, false}, {5, 7, 4, 6, {2, 1, 1, 7}, true},
                              {33, 45, 40, 24, {2, 3, 33, 45}, false}, {50, 17, 67, 33, {1, 1, 50, 17}, true},
                              {1, 1, 1, 1, {1, 1, 1, 1}, true},        {64, 130, 64, 64, {2, 1, 64, 1}, false},
                              {1, 130, 64, 64, {2, 1, 1, 130}, false}};
  const PareDtype types[] = {PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 2; d++) {
    PareTensor want[5], got[5];
    attention(&c, PARE_F64, &all[k], want);
    attention(&c, types[d], &all[k], got);
    for (int i = 0; i < 5; i++) near(&got[i], &want[i], i != 1 ? 16 : d ? 0x1p12 : 64, name[i]);
  }
}

/* y, dx, dA, dB, dx + what is added */
static void linear(Call *c, PareDtype d, int64_t m, int64_t k, int64_t n, int64_t r, bool t, PareTensor *out) {
  PareDtype sums = d == PARE_F64 ? d : PARE_F32;
  clear(c);
  pare_attr_set(&c->attr, scale, 0.5);
  pare_attr_set(&c->attr, transB, t);
  PareTensor *x = filled(input(c, d, DIMS(m, k)), 1, -1, 1);
  filled(t ? input(c, sums, DIMS(n, k)) : input(c, sums, DIMS(k, n)), 2, -1, 1);
  filled(input(c, sums, DIMS(n)), 3, -1, 1);
  filled(input(c, sums, DIMS(k, r)), 4, -1, 1);
  filled(input(c, sums, DIMS(r, n)), 5, -1, 1);
  PareTensor *mask = filled(input(c, sums, DIMS(k)), 6, 0, 1);
  for (int64_t i = 0; i < k; i += 3) put(mask, i, 0);
  out[0] = *output(c, d, DIMS(m, n));
  must(c, PARE_OP_LINEAR);
  c->in[2] = tensor(c, d, DIMS(m, n));
  filled(&c->in[2], 7, -1, 1);
  c->nout = 0;
  out[1] = *like(c, x), out[2] = *like(c, &c->in[3]), out[3] = *like(c, &c->in[4]);
  must(c, PARE_OP_LINEARGRAD);
  filled(input(c, d, DIMS(m, k)), 8, -4, 4);
  c->nout = 0;
  out[4] = *like(c, x);
  must(c, PARE_OP_LINEARGRAD);
  in_place(c, PARE_OP_LINEARGRAD, 6);
}

/* dA and dB are f32: of bf16 they sum exact products of numbers with 16 bits, 2^-17 of their size apart each. */
Test(layers, linear_of_every_type_agrees_with_float64) {
  static const char *const name[] = {"y", "dx", "dA", "dB", "dx + add"};
  static const int64_t all[][4] = {{7, 33, 20, 3}, {130, 40, 300, 11}, {1, 1, 1, 1}, {300, 96, 64, 8},
                                   {37, 2050, 70, 8}, {33, 50, 2111, 3}, {67, 1610, 170, 8}, {64, 150, 800, 3}};
  const PareDtype types[] = {PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int t = 0; t < 2; t++) for (int d = 0; d < 2; d++) {
    PareTensor want[5], got[5];
    linear(&c, PARE_F64, all[k][0], all[k][1], all[k][2], all[k][3], t, want);
    linear(&c, types[d], all[k][0], all[k][1], all[k][2], all[k][3], t, got);
    for (int i = 0; i < 4; i++) near(&got[i], &want[i], i < 2 ? 16 : d ? 0x1p9 : 256, name[i]);
    near(&got[4], &want[4], 16, name[4]);
    for (int64_t i = 0; i < count(&want[1]); i++) put(&want[1], i, get(&want[1], i) + get(&c.in[6], i));
    near(&want[4], &want[1], 4, name[4]);
  }
}
#endif
