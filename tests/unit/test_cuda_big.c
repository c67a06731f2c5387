/* test_cuda_big.c - tensors of more than 2^31 elements, on a GPU that has the memory: what is computed at their end is
 * what the same ops give on a small tensor with the same numbers. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "cuda_device.h"
#include "runtime/program.h"
#include "support.h"

enum { TAIL = 64 };
static const int64_t N = (INT64_C(1) << 31) + TAIL;
static const size_t ROOM = (size_t)60 << 30;

/* From %x : f32[n], and %m, the same as [n/4,4], to %y, whose last numbers depend on the last ones of %x. `row` is a
 * place among the last rows of %m. */
typedef struct Case {
  const char *name, *text;
  int tail; /* numbers of %y that are compared */
} Case;
static const Case cases[] = {
    {"Add", "%y = Add(%x, %x)\n", TAIL},
    {"Gelu", "%y = Gelu(%x)\n", TAIL},
    {"Gelu of bf16", "%l = Cast(%x) {to=bf16}\n%g = Gelu(%l)\n%y = Cast(%g) {to=f32}\n", TAIL},
    {"Add of rows", "const %k : f32[4] = 1 2 3 4\n%y = Add(%m, %k)\n", TAIL},
    {"Softmax", "%y = Softmax(%m)\n", TAIL},
    {"LayerNormalization", "const %k : f32[4] = 1 2 3 4\n%y = LayerNormalization(%m, %k, %k)\n", TAIL},
    {"ReduceSum", "const %a : i64[1] = 1\n%y = ReduceSum(%m, %a)\n", TAIL / 4},
    {"Transpose", "%y = Transpose(%m) {perm=[1,0]}\n", TAIL / 4},
    {"Gather", "%y = Gather(%m, %row) {axis=0}\n", 4},
    {"MatMul", "const %w : f32[4,4] = random(3)\n%y = MatMul(%m, %w)\n", TAIL},
};

/* The last numbers of %y, where the last TAIL of %x are 0, 1/TAIL, 2/TAIL, ... and %x begins n before its end. */
static float *tail_of(Fix *f, const Case *c, int64_t n, bool gpu) {
  PareProgram *p;
  char *text = fmt(f, "const %%lo : i64[] = %lld\nconst %%hi : i64[] = %lld\nconst %%one : i64[] = 1\n"
                      "const %%base : i64[] = %lld\nconst %%unit : f32[] = 0.015625\nconst %%four : i64[2] = -1 4\n"
                      "const %%row : i64[1] = %lld\nconst %%flat : i64[1] = -1\nconst %%from : i64[1] = -%d\n"
                      "const %%to : i64[1] = %lld\n%%i = Range(%%lo, %%hi, %%one)\n%%j = Sub(%%i, %%base)\n"
                      "%%f = Cast(%%j) {to=f32}\n%%x = Mul(%%f, %%unit)\n%%m = Reshape(%%x, %%four)\n%s%%z = Reshape(%%y, %%flat)\n"
                      "%%t = Slice(%%z, %%from, %%to)\noutput %%t\n",
                   (long long)(N - n), (long long)N, (long long)(N - TAIL), (long long)(n / 4 - 7), c->tail, (long long)INT64_MAX, c->text);
  PareGraph *g = fix_parse(f, text);
  const PareValue *t = g->outputs.at[0];
  float *out = PARE_NEW_N(f->arena, c->tail, float);
  if (gpu) MUST(f, pare_program_new_on(&f->c, g, cuda_device(), 0, NULL, &p));
  else MUST(f, pare_program_new(&f->c, g, pare_cpu_kernels(), &p));
  MUST(f, pare_program_run(&f->c, p, -1));
  MUST(f, pare_program_pull(&f->c, p, t));
  memcpy(out, pare_program_buffer(p, t), (size_t)c->tail * sizeof *out);
  pare_program_free(p);
  return out;
}

Test(cuda_big, the_end_of_a_tensor_of_more_than_2_31_elements_is_as_that_of_a_small_one) {
  if (cuda_device()->spare < ROOM) skip("the GPU has less than 60 GiB free");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Fix f;
    fix_init(&f);
    float *small = tail_of(&f, &cases[i], TAIL, false), *big = tail_of(&f, &cases[i], N, true);
    bool bf16 = strstr(cases[i].text, "bf16") != NULL;
    for (int k = 0; k < cases[i].tail; k++)
      cr_expect(fabsf(big[k] - small[k]) <= (bf16 ? 0x1p-8f : 0x1p-20f) * (1 + fabsf(small[k])), "%s at %d: %g, not %g",
                cases[i].name, k, (double)big[k], (double)small[k]);
    fix_free(&f);
  }
}
