/* test_cuda_ops.c - ops on the emulated GPU against the CPU in float64, at sizes that take more than one tile, part or
 * team, and odd ones. What small sizes show is in test_cuda_kernels_*, _layers and _scores. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "cuda_device.h"
#include "runtime/program.h"
#include "support.h"

/* A graph in text: T is the type of activations, C that of the arithmetic. Inputs are random, on bf16's grid; integers
 * are below `limit`, those of inputs whose name begins with l (labels) from -1 on. `terms`: of the longest sum. */
typedef struct Case {
  const char *text;
  double terms;
  int64_t limit;
} Case;

#define ADAPTED(m, k, n, r, w) \
  "input %x : T[" #m "," #k "]\ninput %w : C[" w "]\ninput %b : C[" #n "]\ninput %A : C[" #k "," #r "]\n" \
  "input %B : C[" #r "," #n "]\ninput %m : C[" #k "]\n"
#define LINEAR(m, k, n, r, w, t) \
  ADAPTED(m, k, n, r, w) "%y = pare.Linear(%x, %w, %b, %A, %B, %m) {transB=" t ", scale=0.5}\noutput %y\n"
#define LINEAR_GRAD(m, k, n, r, w, t)                                                                      \
  ADAPTED(m, k, n, r, w) "input %dy : T[" #m "," #n "]\n"                                                  \
  "%dx, %da, %db = pare.LinearGrad(%x, %w, %dy, %A, %B, %m) {transB=" t ", scale=0.5}\n"                   \
  "output %dx\noutput %da\noutput %db\n"
#define ATTENTION(q, k, v, heads, mask)                                                                    \
  "input %q : T[" q "]\ninput %k : T[" k "]\ninput %v : T[" v "]\ninput %m : C[" mask "]\n"               \
  "%y, %lse = pare.Attention(%q, %k, %v, %m) {scale=0.3, heads=[" heads "]}\n"                             \
  "%dq, %dk, %dv = pare.AttentionGrad(%q, %k, %v, %y, %lse, %y, %m) {scale=0.3, heads=[" heads "]}\n"      \
  "output %y\noutput %lse\noutput %dq\noutput %dk\noutput %dv\n"
#define UNMASKED(q, k, v, heads)                                                                           \
  "input %q : T[" q "]\ninput %k : T[" k "]\ninput %v : T[" v "]\n"                                        \
  "%y, %lse = pare.Attention(%q, %k, %v) {scale=0.3, heads=[" heads "]}\n"                                 \
  "%dq, %dk, %dv = pare.AttentionGrad(%q, %k, %v, %y, %lse, %y) {scale=0.3, heads=[" heads "]}\n"          \
  "output %y\noutput %lse\noutput %dq\noutput %dk\noutput %dv\n"
#define IMPORTANCE(k, n, r, w, t, power)                                                                   \
  "input %w : T[" w "]\ninput %A : C[" #k "," #r "]\ninput %B : C[" #r "," #n "]\ninput %dA : C[" #k "," #r "]\n" \
  "input %dB : C[" #r "," #n "]\n%row, %col = pare.Importance(%w, %A, %B, %dA, %dB) {scale=0.5, alpha=0.5, power=" power \
  ", transB=" t "}\noutput %row\noutput %col\n"

static const Case cases[] = {
    {LINEAR(7, 33, 20, 3, "33,20", "0"), 33, 0},
    {LINEAR(7, 33, 20, 3, "20,33", "1"), 33, 0},
    {LINEAR(70, 130, 150, 11, "130,150", "0"), 130, 0},
    {LINEAR(70, 130, 150, 11, "150,130", "1"), 130, 0},
    {LINEAR(20, 36, 300, 11, "36,300", "0"), 36, 0}, /* W' by fours */
    {LINEAR(20, 300, 36, 11, "36,300", "1"), 300, 0},
    {LINEAR(1, 1, 1, 1, "1,1", "0"), 1, 0},
    {LINEAR_GRAD(7, 33, 20, 3, "33,20", "0"), 33, 0},
    {LINEAR_GRAD(7, 33, 20, 3, "20,33", "1"), 33, 0},
    {LINEAR_GRAD(200, 130, 150, 11, "130,150", "0"), 200, 0},
    {LINEAR_GRAD(200, 130, 150, 11, "150,130", "1"), 200, 0},
    {LINEAR_GRAD(200, 128, 192, 8, "128,192", "0"), 200, 0},  /* whole panels of lora.cu */
    {LINEAR_GRAD(100, 72, 2056, 8, "72,2056", "0"), 100, 0},  /* more of them a warp */
    {LINEAR_GRAD(50, 2100, 70, 11, "70,2100", "1"), 50, 0},   /* the same, by single numbers and ranks in turns */
    {LINEAR_GRAD(40, 64, 40, 37, "64,40", "0"), 64, 0},       /* two groups of ranks in turns */
    {LINEAR_GRAD(20, 4100, 30, 3, "4100,30", "0"), 4100, 0},  /* too wide for it */
    {ADAPTED(60, 64, 64, 8, "64,64") "input %dy : T[60,64]\n_, %da, _ = pare.LinearGrad(%x, %w, %dy, %A, %B)\n"
     "_, _, %db = pare.LinearGrad(%x, %w, %dy, %A, %B)\noutput %da\noutput %db\n", 64, 0},
    {ADAPTED(70, 40, 33, 8, "33,40") "input %dy : T[70,33]\ninput %c : T[70,40]\n%d = Neg(%c)\n" /* added to, and over */
     "%dx, _, %db = pare.LinearGrad(%x, %w, %dy, %A, %B, _, %c) {transB=1}\noutput %dx\noutput %db\n"
     "%dz, %da, _ = pare.LinearGrad(%x, %w, %dy, %A, %B, %m, %d) {transB=1}\noutput %dz\noutput %da\n", 40, 0},
    {"input %x : T[2,5,9]\ninput %w : C[9,4]\n%y = pare.Linear(%x, %w)\n%dx = pare.LinearGrad(%x, %w, %y)\n"
     "output %dx\n", 9, 0},
    {ATTENTION("2,3,5,8", "2,3,5,8", "2,3,5,8", "1,1,1,1", "2,1,1,5"), 16, 0},
    {ATTENTION("1,2,77,40", "1,2,77,40", "1,2,77,40", "1,1,1,1", "1,1,1,77"), 80, 0},
    {ATTENTION("2,77,2,40", "2,45,2,40", "2,45,2,40", "2,2,2,2", "2,1,1,45"), 80, 0},
    {ATTENTION("1,33,2,70", "1,2,34,70", "1,34,2,70", "2,1,2,2", "1,2,33,34"), 80, 0},
    {ATTENTION("1,1,3,130", "1,1,40,130", "1,1,40,130", "1,1,1,1", "1,1,3,40"), 130, 0},
    {ATTENTION("1,1,1,1", "1,1,1,1", "1,1,1,1", "1,1,1,1", "1,1,1,1"), 1, 0},
    {UNMASKED("1,2,0,16", "1,2,5,16", "1,2,5,16", "1,1,1,1"), 1, 0},
    {UNMASKED("1,1,1,64", "1,1,1,64", "1,1,1,64", "1,1,1,1"), 64, 0},
    {UNMASKED("2,16,2,32", "2,16,2,32", "2,16,2,32", "2,2,2,2"), 64, 0},
    {UNMASKED("1,197,1,64", "1,197,1,64", "1,197,1,64", "2,2,2,2"), 200, 0},
    {UNMASKED("1,2,33,24", "1,34,2,24", "1,34,2,40", "1,2,2,1"), 64, 0},
    {ATTENTION("1,128,2,64", "1,128,2,64", "1,128,2,64", "2,2,2,2", "1,1,1,128"), 200, 0},
    {ATTENTION("1,1,197,64", "1,1,197,64", "1,1,197,64", "1,1,1,1", "197,197"), 200, 0},
    {ATTENTION("2,200,1,64", "2,1,77,64", "2,77,1,64", "2,1,2,1", "2,1,1,77"), 200, 0},
    {ATTENTION("1,20,2,40", "1,530,2,40", "1,530,2,40", "2,2,2,2", "2,1,530"), 530, 0},
    {ATTENTION("1,1,90,32", "1,1,512,32", "1,1,512,32", "1,1,1,1", "512"), 512, 0},
    {ATTENTION("1,20,1,96", "1,260,1,96", "1,260,1,96", "2,2,2,2", "20,260"), 260, 0},
    {ATTENTION("1,1,70,128", "1,1,150,128", "1,1,150,128", "1,1,1,1", "1,1,1,150"), 200, 0},
    {ATTENTION("1,1,33,16", "1,1,34,16", "1,1,34,16", "1,1,1,1", "1,1,33,1"), 64, 0},
    {IMPORTANCE(150, 300, 3, "150,300", "0", "2"), 300, 0},
    {IMPORTANCE(300, 150, 11, "150,300", "1", "1"), 300, 0},
    {IMPORTANCE(130, 260, 8, "130,260", "0", "2"), 260, 0},
    {IMPORTANCE(264, 139, 8, "139,264", "1", "2"), 264, 0},
    {IMPORTANCE(5, 4, 1, "5,4", "0", "1"), 5, 0},
    {IMPORTANCE(150, 131, 40, "150,131", "0", "2"), 150, 0},
    {IMPORTANCE(150, 132, 40, "150,132", "0", "2"), 150, 0},
    {"input %w : T[140,136]\ninput %A : C[140,4]\ninput %B : C[4,136]\n"
     "%row, %col = pare.Importance(%w, %A, %B) {scale=0.5, power=1}\noutput %row\noutput %col\n", 140, 0},
    {"input %x : T[5,1500]\n%y = Softmax(%x) {axis=-1}\n%z = LogSoftmax(%x) {axis=0}\n%g = pare.SoftmaxGrad(%y, %x) "
     "{axis=-1}\noutput %y\noutput %z\noutput %g\n", 1500, 0},
    {"input %x : T[90,40]\ninput %g : T[40]\ninput %b : T[40]\n%y, %m, %r = LayerNormalization(%x, %g, %b) {axis=-1}\n"
     "%dx, %dg, %db = pare.LayerNormGrad(%x, %g, %m, %r, %y) {axis=-1}\noutput %y\noutput %dx\noutput %dg\noutput %db\n",
     90, 0},
    {"input %x : T[3,1500]\ninput %g : T[1500]\n%y, %m, %r = LayerNormalization(%x, %g) {axis=1}\n"
     "%dx, _, _ = pare.LayerNormGrad(%x, %g, %m, %r, %y) {axis=1}\noutput %y\noutput %dx\n", 1500, 0},
    {"input %x : T[3,9000]\nconst %a : i64[1] = 1\n%y = ReduceSum(%x, %a) {keepdims=0}\n%z = ReduceMean(%x, %a)\n"
     "%m = ReduceMax(%x, %a)\noutput %y\noutput %z\noutput %m\n", 9000, 0},
    {"input %x : T[900,3,5]\nconst %a : i64[2] = 0 2\ninput %like : T[3,1]\n%y = ReduceSum(%x, %a)\n"
     "%z = pare.SumTo(%x, %like)\noutput %y\noutput %z\n", 4500, 0},
    {"input %x : T[900,70]\ninput %like : T[70]\n%z = pare.SumTo(%x, %like)\noutput %z\n", 900, 0},
    {"input %x : T[300,37]\ninput %l : i64[300]\ninput %d : T[]\n%y = pare.CrossEntropy(%x, %l)\n"
     "%g = pare.CrossEntropyGrad(%x, %l, %d)\noutput %y\noutput %g\n", 300, 37},
    {"input %x : T[300,37]\ninput %t : T[300,37]\ninput %d : T[]\n%y = pare.Distill(%x, %t) {temperature=2}\n"
     "%g = pare.DistillGrad(%x, %t, %d) {temperature=2}\n%z = pare.Mse(%x, %t)\n%h = pare.MseGrad(%x, %t, %d)\n"
     "%u = pare.Bce(%x, %t)\n%v = pare.BceGrad(%x, %t, %d)\noutput %y\noutput %g\noutput %z\noutput %h\noutput %u\n"
     "output %v\n", 300, 0},
    {"input %x : T[700,3]\ninput %z : T[5000]\n%y = pare.SumSquares(%x, %z)\noutput %y\n", 5000, 0},
    {"input %i : i64[40]\ninput %dy : T[2,40,300]\ninput %like : T[2,7,300]\n"
     "%dx = pare.GatherGrad(%i, %dy, %like) {axis=1}\noutput %dx\n", 40, 7},
    {"input %x : T[3,70,45]\n%a = Transpose(%x) {perm=[0,2,1]}\n%b = Transpose(%x) {perm=[2,1,0]}\n"
     "%c = Transpose(%x) {perm=[1,0,2]}\noutput %a\noutput %b\noutput %c\n", 1, 0},
    {"input %v : T[700]\ninput %i : i64[700]\ninput %like : T[9]\n%y = pare.GroupSum(%v, %i, %like)\noutput %y\n", 700, 9},
    {"input %v : T[12]\nconst %i : i32[12] = -1 -1 0 0 0 2 2 3 7 8 8 8\nconst %o : i32[12] = 3 2 1 0 -1 3 2 1 0 -1 3 3\n"
     "input %like : T[10]\n%y = pare.GroupSum(%v, %i, %like)\n%z = pare.GroupSum(%v, %o, %like)\noutput %y\noutput %z\n",
     3, 0},
    {"input %v : T[700]\nconst %i : i32[700] = zeros\ninput %like : T[2]\n%y = pare.GroupSum(%v, %i, %like)\noutput %y\n",
     700, 0},
    {"input %x : T[3,700,2]\n%a = LpNormalization(%x) {axis=1, p=2}\n%b = LpNormalization(%x) {axis=-1, p=1}\n"
     "%c = Sub(%x, %x)\n%z = LpNormalization(%c) {axis=0}\noutput %a\noutput %b\noutput %z\n", 700, 0},
    {"input %x : T[2,3,33,29]\ninput %w : T[6,3,8,8]\ninput %b : T[6]\n"
     "%y = Conv(%x, %w, %b) {strides=[8,8], kernel_shape=[8,8]}\noutput %y\n", 192, 0},
    /* enough for the library's ways to be tried; one of the emulated ones is fast and wrong */
    {"input %a : T[512,520]\ninput %b : T[520,512]\n%y = MatMul(%a, %b)\noutput %y\n", 520, 0},
    {"input %a : T[2,3,17,33]\ninput %b : T[3,33,9]\n%y = MatMul(%a, %b)\noutput %y\n", 33, 0},
};
enum { CASES = sizeof cases / sizeof *cases, TYPES = 3 };
static const struct {
  const char *t, *c;
  double unit;
} types[TYPES] = {{"f64", "f64", 0x1p-53}, {"f32", "f32", 0x1p-24}, {"bf16", "f32", 0x1p-9}};

/* The text with T[ and C[ written out. */
static char *typed(Fix *f, const char *text, int type) {
  char *out = pare_arena_alloc(f->arena, 3 * strlen(text) + 1, 1), *at = out;
  for (const char *p = text; *p; p++) {
    bool one = (*p == 'T' || *p == 'C') && p[1] == '[';
    const char *word = one ? *p == 'T' ? types[type].t : types[type].c : NULL;
    if (word) memcpy(at, word, strlen(word)), at += strlen(word);
    else *at++ = *p;
  }
  return out;
}

static void put(PareDtype d, void *p, int64_t i, double v) {
  if (d == PARE_F64) ((double *)p)[i] = v;
  else if (d == PARE_BF16) ((uint16_t *)p)[i] = pare_f32_to_bf16((float)v);
  else ((float *)p)[i] = (float)v;
}

static void fill(const PareValue *v, void *p, uint64_t seed, int64_t limit) {
  bool label = v->name[0] == 'l';
  for (int64_t i = 0; i < pare_type_count(&v->type); i++) {
    double u = 2 * pare_rng_uniform(seed, (uint64_t)i) - 1;
    int64_t whole = (int64_t)(pare_rng_u64(seed, (uint64_t)i) % (uint64_t)(limit + label)) - label;
    if (v->type.dtype == PARE_I64) ((int64_t *)p)[i] = whole;
    else put(v->type.dtype, p, i, (double)pare_bf16_to_f32(pare_f32_to_bf16((float)u)));
  }
}

/* The outputs, in the arena. */
static PareTensor *outputs_of(Fix *f, const PareGraph *g, bool gpu, int64_t limit) {
  PareProgram *p;
  PareTensor *out = pare_arena_alloc(f->arena, g->outputs.n, sizeof *out);
  if (gpu) MUST(f, pare_program_new_on(&f->c, g, cuda_device(), 0, NULL, &p));
  else MUST(f, pare_program_new(&f->c, g, pare_cpu_kernels(), &p));
  for (size_t i = 0; i < g->inputs.n; i++) {
    fill(g->inputs.at[i], pare_program_buffer(p, g->inputs.at[i]), 5 + i, limit);
    MUST(f, pare_program_push(&f->c, p, g->inputs.at[i]));
  }
  MUST(f, pare_program_run(&f->c, p, -1));
  for (size_t i = 0; i < g->outputs.n; i++) {
    const PareValue *v = g->outputs.at[i];
    size_t bytes;
    MUST(f, pare_program_pull(&f->c, p, v));
    cr_assert(pare_type_bytes(&v->type, &bytes));
    out[i].type = v->type;
    out[i].data = pare_arena_alloc(f->arena, bytes + 1, 1);
    memcpy(out[i].data, pare_program_buffer(p, v), bytes);
  }
  pare_program_free(p);
  return out;
}

/* Sums of n terms err by about sqrt(n) units (Higham, 2.6), here of the greatest value of the tensor; with bf16, what
 * is stored between two ops of a case and W' are rounded too. So are attention's P and dS on the tensor cores, by a unit
 * of each element at most and of either sign: the sums that read them (y, dv; dq, dk) err by a unit more, as they would
 * had v or k been rounded once more. Where terms cancel - one key has no gradient - what is left is f32's rounding of
 * sums of up to n terms below 1. */
static void compare(Fix *f, const Case *c, const char *as, int type) {
  PareGraph *exact = fix_parse(f, typed(f, as, 0)), *g = fix_parse(f, typed(f, c->text, type));
  PareTensor *want = outputs_of(f, exact, false, c->limit), *got = outputs_of(f, g, true, c->limit);
  cuda_reverse(true);
  PareTensor *turned = outputs_of(f, g, true, c->limit);
  cuda_reverse(false);
  for (size_t i = 0; i < g->outputs.n; i++) {
    double most = 0, tolerance = types[type].unit * 8 * sqrt(c->terms);
    double left = type == 2 ? 0x1p-24 * c->terms : 0;
    if (type == 2) tolerance = types[type].unit * 8;
    int64_t n = pare_type_count(&want[i].type);
    cr_assert_eq(distance(&got[i], &turned[i]), 0, "%s, output %zu depends on the order of the threads\n%s",
                 types[type].t, i, typed(f, c->text, type));
    for (int64_t k = 0; k < n; k++) most = fmax(most, fabs(element(&want[i], k)));
    for (int64_t k = 0; k < n; k++) {
      double a = element(&got[i], k), b = element(&want[i], k);
      cr_assert(fabs(a - b) <= tolerance * most + left, "%s, output %zu at %lld: %.9g, not %.9g; tolerance %.3g\n%s",
                types[type].t, i, (long long)k, a, b, tolerance * most + left, typed(f, c->text, type));
    }
  }
}

static void check(Fix *f, const Case *c, int type) { compare(f, c, c->text, type); }

static void check_all(int type) {
  for (size_t i = 0; i < CASES; i++) {
    Fix f;
    fix_init(&f);
    check(&f, &cases[i], type);
    fix_free(&f);
  }
}
Test(cuda_ops, agree_with_the_cpu_in_f64) { check_all(0); }
Test(cuda_ops, agree_with_the_cpu_in_f32) { check_all(1); }
Test(cuda_ops, agree_with_the_cpu_in_bf16) { check_all(2); }

/* --- masked rows: the plain kernels (f32) and those on the tensor cores (bf16) do the same, NaN where all is -infinity
 * (%z is 0) and the mean where all is the least number that a mask of an exported model has. --- */
#define MASKED(mask)                                                                                        \
  "input %q : T[1,3,4,16]\ninput %k : T[1,3,5,16]\ninput %v : T[1,3,5,16]\n" mask                            \
  "%y, %lse = pare.Attention(%q, %k, %v, %m) {scale=0.3, heads=[1,1,1,1]}\n"                                \
  "%dq, %dk, %dv = pare.AttentionGrad(%q, %k, %v, %y, %lse, %q, %m) {scale=0.3, heads=[1,1,1,1]}\n"         \
  "output %y\noutput %lse\noutput %dq\noutput %dk\noutput %dv\n"
#define LEAST "-3.4028234663852886e38 "

Test(cuda_ops, rows_without_a_key_are_the_same_on_the_tensor_cores) {
  static const char *const all[] = {
      MASKED("const %z : C[3,1,5] = 0 0 0 0 0 1 0 1 1 0 1 1 1 1 1\n%m = Log(%z)\n"),
      MASKED("const %z : C[4,5] = 1 1 1 1 1 0 0 0 0 0 0 1 0 1 1 1 1 0 1 0\n%m = Log(%z)\n"),
      MASKED("const %m : C[3,1,5] = " LEAST LEAST LEAST LEAST LEAST "0 0 " LEAST LEAST "0 0 0 0 0 0\n"),
      MASKED("const %m : C[4,5] = 0 0 0 0 0 " LEAST LEAST LEAST LEAST LEAST LEAST "0 0 0 0 0 0 0 0 0\n"),
  };
  for (size_t c = 0; c < sizeof all / sizeof *all; c++) {
    Fix fix, *f = &fix;
    fix_init(f);
    PareTensor *plain = outputs_of(f, fix_parse(f, typed(f, all[c], 1)), true, 0);
    PareTensor *fast = outputs_of(f, fix_parse(f, typed(f, all[c], 2)), true, 0);
    for (int i = 0; i < 5; i++) {
      double most = 0;
      int64_t n = pare_type_count(&plain[i].type);
      for (int64_t k = 0; k < n; k++)
        if (isfinite(element(&plain[i], k))) most = fmax(most, fabs(element(&plain[i], k)));
      for (int64_t k = 0; k < n; k++) {
        double a = element(&fast[i], k), b = element(&plain[i], k);
        bool same = (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= 8 * types[2].unit * most;
        cr_expect(same, "mask %zu, output %d at %lld: %g, not %g", c, i, (long long)k, a, b);
      }
    }
    fix_free(f);
  }
}

#define SUM_GRAD(m, k, n, w, t, ops)                                                                        \
  "input %x : T[" #m "," #k "]\ninput %w : C[" w "]\ninput %A : C[" #k ",8]\ninput %B : C[8," #n "]\n" \
  "input %dy : T[" #m "," #n "]\ninput %add : T[" #m "," #k "]\n" ops "output %dx\noutput %da\n"
#define SUM_GRAD_CASE(m, k, n, w, t)                                                                        \
  {{SUM_GRAD(m, k, n, w, t, "%dx, %da, _ = pare.LinearGrad(%x, %w, %dy, %A, %B, _, %add) {transB=" t "}\n"), n, 0}, \
   SUM_GRAD(m, k, n, w, t, "%d, %da, _ = pare.LinearGrad(%x, %w, %dy, %A, %B) {transB=" t "}\n%dx = Add(%d, %add)\n")}

Test(cuda_ops, a_layers_gradient_is_added_to_what_is_given) {
  static const struct {
    Case c;
    const char *as;
  } all[] = {SUM_GRAD_CASE(70, 40, 33, "40,33", "0"), SUM_GRAD_CASE(64, 32, 48, "48,32", "1")};
  for (int type = 0; type < TYPES; type++)
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
      Fix f;
      fix_init(&f);
      compare(&f, &all[i].c, all[i].as, type);
      fix_free(&f);
    }
}

/* --- GELU on the way: the same bits as with Gelu and GeluGrad before it; %n is written over --- */
#define GELU_GRAD(m, k, n, r, w, ops)                                                                       \
  "input %x : T[" #m "," #k "]\ninput %w : C[" w "]\ninput %A : C[" #k "," #r "]\ninput %B : C[" #r "," #n "]\n" \
  "input %m : C[" #k "]\ninput %dy : T[" #m "," #n "]\ninput %h : T[" #m "," #n "]\n" ops
#define GELU_CASE(m, k, n, r, w, t)                                                                         \
  {GELU_GRAD(m, k, n, r, w, "%dx, %da, %db = pare.LinearGrad(%x, %w, %dy, %A, %B, %m) {act=gelu, transB=" t "}\n" \
             "%dx2, %da2, %db2, %made = pare.LinearGrad(%x, %w, %dy, %A, %B, _, _, %h) {transB=" t "}\n"     \
             "%n = Neg(%dy)\n_, %da3, _, %made3 = pare.LinearGrad(%x, %w, %n, %A, %B, %m, _, %h) {act=gelu_tanh, " \
             "approximate=tanh, transB=" t "}\noutput %dx\noutput %da\noutput %db\noutput %dx2\noutput %da2\noutput %db2\noutput %made\n"  \
             "output %da3\noutput %made3\n"),                                                                \
   GELU_GRAD(m, k, n, r, w, "%g = Gelu(%x)\n%t = Gelu(%x) {approximate=tanh}\n"                             \
             "%made = pare.GeluGrad(%h, %dy)\n%n = Neg(%dy)\n%made3 = pare.GeluGrad(%h, %n) {approximate=tanh}\n"          \
             "%dx, %da, %db = pare.LinearGrad(%g, %w, %dy, %A, %B, %m) {transB=" t "}\n"                      \
             "%dx2, %da2, %db2 = pare.LinearGrad(%x, %w, %made, %A, %B) {transB=" t "}\n"                     \
             "_, %da3, _ = pare.LinearGrad(%t, %w, %made3, %A, %B, %m) {transB=" t "}\n"                      \
             "output %dx\noutput %da\noutput %db\noutput %dx2\noutput %da2\noutput %db2\noutput %made\n"    \
             "output %da3\noutput %made3\n")}

Test(cuda_ops, gelu_and_its_slope_on_the_way_are_what_they_are_made_before) {
  static const char *const all[][2] = {
      GELU_CASE(200, 128, 192, 8, "128,192", "0"), /* whole panels, few a warp */
      GELU_CASE(90, 72, 2056, 8, "72,2056", "0"),  /* many */
      GELU_CASE(90, 2056, 72, 8, "72,2056", "1"),
      GELU_CASE(50, 70, 2100, 11, "70,2100", "0"), /* by single numbers, ranks in turns */
      GELU_CASE(40, 64, 40, 37, "64,40", "0"),     /* groups of ranks in turns */
      GELU_CASE(20, 4100, 30, 3, "4100,30", "0"),  /* too wide for lora.cu */
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    for (int type = 0; type < TYPES; type++)
      for (int gpu = 0; gpu < 2; gpu++) {
        Fix f;
        fix_init(&f);
        PareGraph *g = fix_parse(&f, typed(&f, all[i][0], type));
        PareTensor *got = outputs_of(&f, g, gpu, 0);
        PareTensor *want = outputs_of(&f, fix_parse(&f, typed(&f, all[i][1], type)), gpu, 0);
        for (size_t k = 0; k < g->outputs.n; k++)
          cr_expect_eq(distance(&got[k], &want[k]), 0, "%s, %s, case %zu, '%s' is %g away", gpu ? "GPU" : "CPU",
                       types[type].t, i, g->outputs.at[k]->name, distance(&got[k], &want[k]));
        fix_free(&f);
      }
}

/* --- states --- */
static const char adamw[] =
    "state %p : C[300] = random(1)\nstate %g : C[300] = random(2)\nstate %m : C[300] = random(3)\n"
    "state %v : C[300] = fill(0.5)\ninput %h : C[8]\n%s = pare.SumSquares(%g)\npare.AdamW(%p, %g, %m, %v, %h, %s)\n"
    "state %e : C[300] = random(4)\npare.Ema(%e, %p) {alpha=0.75}\noutput %p\noutput %g\noutput %m\noutput %v\noutput %e\n";

Test(cuda_ops, an_update_changes_its_states_as_on_the_cpu) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, typed(f, adamw, 1));
  PareTensor *want = outputs_of(f, g, false, 0), *got = outputs_of(f, g, true, 0);
  for (size_t i = 0; i < g->outputs.n; i++)
    cr_expect(distance(&want[i], &got[i]) <= 0x1p-21, "state %zu is %g apart", i, distance(&want[i], &got[i]));
  fix_free(f);
}
