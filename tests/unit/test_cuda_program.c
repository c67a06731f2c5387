/* test_cuda_program.c - programs on a device that has its own memory: what is pushed and pulled, what is recorded, what
 * goes wrong after it was queued. Truth is the same program on the CPU, and the emulated GPU's own rules (tests/cuda):
 * its memory is out of reach and its work is done when it is waited for. */
#include <criterion/criterion.h>
#include <string.h>

#include "cuda_device.h"
#include "passes/pass.h"
#include "runtime/device.h"
#include "runtime/program.h"
#include "support.h"

static PareProgram *on_gpu(Fix *f, const PareGraph *g) {
  PareProgram *p;
  MUST(f, pare_program_new_on(&f->c, g, cuda_device(), 0, NULL, &p));
  return p;
}

static void feed(Fix *f, PareProgram *p, const PareValue *v, const void *data) {
  size_t bytes;
  cr_assert(pare_type_bytes(&v->type, &bytes));
  memcpy(pare_program_buffer(p, v), data, bytes);
  MUST(f, pare_program_push(&f->c, p, v));
}

static const float *result(Fix *f, PareProgram *p, const PareValue *v) {
  MUST(f, pare_program_pull(&f->c, p, v));
  return pare_program_buffer(p, v);
}

/* The first run is plain, the second recorded, all after it replayed. */
Test(cuda_program, every_run_sees_what_was_pushed_before_it_and_states_live_on) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %x : f32[3]\nstate %s : f32[3] = 1 2 3\nconst %k : f32[3] = 2 2 2\n"
                              "%y = Mul(%x, %k)\npare.Accumulate(%s, %y)\n%z = Add(%s, %k)\noutput %z\n");
  PareProgram *p = on_gpu(f, g);
  const PareValue *x = pare_graph_find(g, "x"), *s = pare_graph_find(g, "s"), *z = g->outputs.at[0];
  float want[3] = {1, 2, 3};
  for (int run = 0; run < 5; run++) {
    float in[3] = {(float)run, 1, -(float)run};
    feed(f, p, x, in);
    MUST(f, pare_program_run(&f->c, p, 0));
    for (int i = 0; i < 3; i++) want[i] += 2 * in[i];
    const float *got = result(f, p, z);
    for (int i = 0; i < 3; i++) cr_expect_eq(got[i], want[i] + 2, "run %d: %g, not %g", run, got[i], want[i] + 2);
    got = result(f, p, s);
    for (int i = 0; i < 3; i++) cr_expect_eq(got[i], want[i], "run %d: the state is %g, not %g", run, got[i], want[i]);
  }
  float again[3] = {0, 0, 0};
  feed(f, p, s, again);
  MUST(f, pare_program_run(&f->c, p, 0));
  cr_expect_eq(result(f, p, s)[0], 8, "%g", result(f, p, s)[0]);
  pare_program_free(p);
  fix_free(f);
}

Test(cuda_program, an_input_and_a_constant_are_outputs_too) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %x : f32[2]\nconst %c : f32[2] = 5 6\n%same = Identity(%x)\n"
                              "output %same\noutput %c\n");
  PareProgram *p = on_gpu(f, g);
  feed(f, p, pare_graph_find(g, "x"), (float[]){7, 8});
  MUST(f, pare_program_run(&f->c, p, -1));
  const float *same = result(f, p, g->outputs.at[0]), *c = result(f, p, g->outputs.at[1]);
  cr_expect(same[0] == 7 && same[1] == 8 && c[0] == 5 && c[1] == 6, "%g %g %g %g", same[0], same[1], c[0], c[1]);
  pare_program_free(p);
  fix_free(f);
}

/* Six batches, and results looked at one run late; copies beside the work are made as late, or as early, as they may. */
static void feed_ahead(Fix *f) {
  enum { RUNS = 6 };
  PareGraph *g = fix_parse(f, "input %x : f32[3]\nstate %s : f32[3]\npare.Accumulate(%s, %x)\n%y = Mul(%x, %s)\n"
                              "output %y\n");
  PareProgram *p = on_gpu(f, g);
  const PareValue *x = pare_graph_find(g, "x"), *y = g->outputs.at[0];
  MUST(f, pare_program_watch(&f->c, p, 1, &y));
  cr_assert_eq(pare_program_ahead(p), 1);
  for (int run = 0; run < RUNS + 1; run++) {
    if (run < RUNS) {
      void *before = pare_program_buffer(p, x);
      feed(f, p, x, (float[]){(float)(run + 1), 0, -(float)run});
      cr_expect_neq(pare_program_buffer(p, x), before);
      memset(pare_program_buffer(p, x), 0xff, 3 * sizeof(float)); /* the next batch begins to come in */
      MUST(f, pare_program_run(&f->c, p, 0));
      MUST(f, pare_program_fetch(&f->c, p));
    }
    if (!run) continue;
    MUST(f, pare_program_show(&f->c, p));
    const float *got = pare_program_buffer(p, y), sum = (float)(run * (run + 1) / 2), less = (float)(run * (run - 1) / 2);
    float want[] = {(float)run * sum, 0, (float)(run - 1) * less};
    for (int i = 0; i < 3; i++) cr_expect_eq(got[i], want[i], "run %d: %g, not %g", run, got[i], want[i]);
  }
  pare_program_free(p);
}

Test(cuda_program, the_next_batch_is_gathered_and_copied_while_the_last_is_computed) {
  Fix fix, *f = &fix;
  fix_init(f);
  feed_ahead(f);
  cuda_reverse(true);
  feed_ahead(f);
  cuda_reverse(false);
  fix_free(f);
}

Test(cuda_program, a_state_may_be_written_again_as_soon_as_it_was_pushed) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %x : f32[2]\nstate %s : f32[2]\n%y = Add(%x, %s)\noutput %y\n");
  PareProgram *p = on_gpu(f, g);
  const PareValue *s = pare_graph_find(g, "s");
  feed(f, p, s, (float[]){1, 2});
  memset(pare_program_buffer(p, s), 0xff, 2 * sizeof(float));
  feed(f, p, pare_graph_find(g, "x"), (float[]){10, 20});
  MUST(f, pare_program_run(&f->c, p, 0));
  const float *got = result(f, p, g->outputs.at[0]);
  cr_expect(got[0] == 11 && got[1] == 22, "%g %g", got[0], got[1]);
  pare_program_free(p);
  fix_free(f);
}

Test(cuda_program, what_is_shown_late_tells_wrong_data_as_a_pull_does) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %i : i64[1]\nconst %t : f32[3,2] = random(1)\n"
                              "%y = Gather(%t, %i) {axis=0} \"embeddings/lookup\"\noutput %y\n");
  PareProgram *p = on_gpu(f, g);
  const PareValue *y = g->outputs.at[0];
  MUST(f, pare_program_watch(&f->c, p, 1, &y));
  for (int64_t run = 0; run < 2; run++) {
    feed(f, p, g->inputs.at[0], (int64_t[]){run ? 3 : 2});
    MUST(f, pare_program_run(&f->c, p, -1));
    MUST(f, pare_program_fetch(&f->c, p));
  }
  MUST(f, pare_program_show(&f->c, p));
  cr_expect_eq(pare_program_show(&f->c, p), PARE_DATA);
  cr_expect_str_eq(f->c.diag.node, "embeddings/lookup");
  fix_forget(f);
  pare_program_free(p);
  fix_free(f);
}

Test(cuda_program, wrong_data_are_told_by_the_next_pull_which_names_the_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %i : i64[2]\nconst %t : f32[3,2] = random(1)\n"
                              "%y = Gather(%t, %i) {axis=0} \"embeddings/lookup\"\noutput %y\n");
  PareProgram *p = on_gpu(f, g);
  for (int run = 0; run < 3; run++) { /* plain, recorded, replayed: all right */
    feed(f, p, g->inputs.at[0], (int64_t[]){2, -3});
    MUST(f, pare_program_run(&f->c, p, -1));
    MUST(f, pare_program_pull(&f->c, p, g->outputs.at[0]));
  }
  feed(f, p, g->inputs.at[0], (int64_t[]){0, 3});
  MUST(f, pare_program_run(&f->c, p, -1));
  cr_expect_eq(pare_program_pull(&f->c, p, g->outputs.at[0]), PARE_DATA);
  cr_expect_str_eq(f->c.diag.node, "embeddings/lookup");
  cr_expect(strstr(f->c.diag.text, "out of range"), "%s", f->c.diag.text);
  fix_forget(f);
  pare_program_free(p);
  fix_free(f);
}

/* All outputs after each of `runs` runs of phases 0 and 1, in the arena. */
static float *outputs_of_runs(Fix *f, const PareGraph *g, int runs, size_t *count) {
  PareProgram *p = on_gpu(f, g);
  PareValue *x = g->inputs.at[0];
  size_t n = (size_t)pare_type_count(&x->type), at = 0;
  float *in = pare_arena_alloc(f->arena, n, sizeof *in);
  float *all = pare_arena_alloc(f->arena, n * g->outputs.n * (size_t)runs, sizeof *all);
  for (int run = 0; run < runs; run++) {
    fill_random(&x->type, in, (uint64_t)run);
    feed(f, p, x, in);
    for (int phase = 0; phase < 2; phase++) MUST(f, pare_program_run(&f->c, p, phase));
    for (size_t i = 0; i < g->outputs.n; i++, at += n) memcpy(all + at, result(f, p, g->outputs.at[i]), n * sizeof *in);
  }
  *count = at;
  pare_program_free(p);
  return all;
}

/* The same by a device of which every node has a launch of its own. */
static float *outputs_one_by_one(Fix *f, const PareGraph *g, int runs, size_t *count) {
  PareKernel alone[PARE_OP_COUNT];
  PareDevice *d = cuda_device();
  const PareKernel *all = d->kernels;
  memcpy(alone, all, sizeof alone);
  for (int i = 0; i < PARE_OP_COUNT; i++) alone[i].run_many = NULL;
  d->kernels = alone;
  float *out = outputs_of_runs(f, g, runs, count);
  d->kernels = all;
  return out;
}

Test(cuda_program, nodes_that_run_at_once_leave_the_same_bytes) {
  for (uint64_t seed = 0; seed < 40; seed++) {
    Fix fix, *f = &fix;
    size_t n, same;
    fix_init(f);
    const char *text = random_steps(f, seed, 50, 300);
    PareGraph *g = fix_parse(f, text);
    float *want = outputs_one_by_one(f, g, 3, &n), *got = outputs_of_runs(f, g, 3, &same);
    cr_assert_eq(n, same);
    for (size_t i = 0; i < n; i++)
      cr_assert_eq(memcmp(&got[i], &want[i], sizeof *got), 0, "number %zu is %g, not %g\n%s", i, (double)got[i],
                   (double)want[i], text);
    fix_free(f);
  }
}

/* Layer i, [24, k] times W [k, n], and its gradients. */
static char *layer(Fix *f, const char *before, int i, int k, int n, int r, bool t) {
  char *text = fmt(f, "%sinput %%x%d : f32[24,%d]\nconst %%w%d : f32[%d,%d] = random(%d)\nconst %%b%d : f32[%d] = random(1)\n"
                   "state %%A%d : f32[%d,%d] = random(2)\nstate %%B%d : f32[%d,%d] = random(3)\nstate %%m%d : f32[%d] = random(4)\n",
                   before, i, k, i, t ? n : k, t ? k : n, 9 + i, i, n, i, k, r, i, r, n, i, k);
  return fmt(f, "%s%%l%d = Cast(%%x%d) {to=bf16}\n%%y%d = pare.Linear(%%l%d, %%w%d, %%b%d, %%A%d, %%B%d, %%m%d) {transB=%d, "
             "scale=0.5}\n%%dx%d, %%da%d, %%db%d = pare.LinearGrad(%%l%d, %%w%d, %%y%d, %%A%d, %%B%d, %%m%d) {transB=%d, "
             "scale=0.5}\noutput %%y%d\noutput %%dx%d\noutput %%da%d\noutput %%db%d\n",
             text, i, i, i, i, i, i, i, i, i, t, i, i, i, i, i, i, i, i, i, t, i, i, i, i);
}

/* After three runs: plain, recorded, replayed. */
static PareTensor *outputs_after_runs(Fix *f, const PareGraph *g) {
  PareProgram *p = on_gpu(f, g);
  PareTensor *out = PARE_NEW_N(f->arena, g->outputs.n, PareTensor);
  for (int run = 0; run < 3; run++) {
    for (size_t i = 0; i < g->inputs.n; i++) {
      fill_random(&g->inputs.at[i]->type, pare_program_buffer(p, g->inputs.at[i]), (uint64_t)run + i);
      MUST(f, pare_program_push(&f->c, p, g->inputs.at[i]));
    }
    MUST(f, pare_program_run(&f->c, p, 0));
  }
  for (size_t i = 0; i < g->outputs.n; i++) {
    size_t bytes;
    const PareValue *v = g->outputs.at[i];
    cr_assert(pare_type_bytes(&v->type, &bytes));
    out[i] = (PareTensor){pare_arena_alloc(f->arena, bytes, 8), v->type};
    memcpy(out[i].data, result(f, p, v), bytes);
  }
  pare_program_free(p);
  return out;
}

/* Of sizes that have whole quads and others, both ways round, with more ranks than stay in registers. */
Test(cuda_program, layers_on_weights_merged_at_once_leave_the_bytes_of_layers_that_merge_their_own) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const struct {
    int k, n, r;
    bool t;
  } all[] = {{64, 300, 8, false}, {300, 64, 8, true}, {33, 35, 3, false}, {44, 37, 3, true}, {37, 44, 5, true},
             {40, 36, 20, false}, {36, 41, 20, true}};
  char *text = "";
  int layers = sizeof all / sizeof *all, made = 0;
  for (int i = 0; i < layers; i++) text = layer(f, text, i, all[i].k, all[i].n, all[i].r, all[i].t);
  PareGraph *plain = fix_parse(f, text), *merged = fix_parse(f, text);
  MUST(f, pare_run_passes(&f->c, merged, "merge-weights", NULL));
  for (const PareNode *n = merged->first; n; n = n->next) made += n->op == PARE_OP_MERGEDWEIGHT;
  cr_expect_eq(made, layers, "%d of %d", made, layers);
  PareTensor *want = outputs_after_runs(f, plain), *got = outputs_after_runs(f, merged);
  for (size_t i = 0; i < plain->outputs.n; i++) {
    size_t bytes;
    cr_assert(pare_type_bytes(&want[i].type, &bytes));
    cr_expect(!memcmp(want[i].data, got[i].data, bytes), "output %zu, %s, is %g apart", i, plain->outputs.at[i]->name,
              distance(&want[i], &got[i]));
  }
  fix_free(f);
}

Test(cuda_program, an_op_that_the_gpu_lacks_is_refused_by_name) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareKernel some[PARE_OP_COUNT];
  PareDevice *d = cuda_device();
  const PareKernel *all = d->kernels;
  PareProgram *p;
  PareGraph *g = fix_parse(f, "input %x : f32[2]\n%y = Relu(%x) \"block/act\"\noutput %y\n");
  memcpy(some, all, sizeof some);
  some[PARE_OP_RELU] = (PareKernel){0};
  d->kernels = some;
  cr_expect_eq(pare_program_new_on(&f->c, g, d, 0, NULL, &p), PARE_UNSUPPORTED);
  d->kernels = all;
  cr_expect_str_eq(f->c.diag.node, "block/act");
  cr_expect(strstr(f->c.diag.text, "--device cpu"), "%s", f->c.diag.text);
  fix_forget(f);
  fix_free(f);
}

Test(cuda_program, sizes_that_steer_a_shape_must_not_come_from_data) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareProgram *p = NULL;
  PareGraph *g = fix_parse(f, "input %x : f32[4]\ninput %from : i64[1]\nconst %to : i64[1] = 4\n"
                              "%y = Slice(%x, %from, %to) : f32[2]\noutput %y\n");
  MUST(f, pare_program_new_on(&f->c, g, cuda_device(), 0, NULL, &p));
  cr_expect_eq(pare_program_run(&f->c, p, -1), PARE_UNSUPPORTED);
  cr_expect(strstr(f->c.diag.text, "--device cpu"), "%s", f->c.diag.text);
  fix_forget(f);
  pare_program_free(p);
  fix_free(f);
}

Test(cuda_program, memory_that_is_not_there_is_a_sentence) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareProgram *p;
  PareGraph *g = fix_parse(f, "input %x : f32[99,1024,1024,1024]\n%y = Relu(%x)\noutput %y\n");
  cr_expect_eq(pare_program_new_on(&f->c, g, cuda_device(), 0, NULL, &p), PARE_NOMEM);
  cr_expect(strstr(f->c.diag.text, "cuda:0") && strstr(f->c.diag.text, "MiB"), "%s", f->c.diag.text);
  fix_forget(f);
  fix_free(f);
}

Test(device, names_are_auto_cpu_and_cuda_with_a_number) {
  static const char *const good[] = {"auto", "cpu", "cuda", "cuda:0", "cuda:12"};
  static const char *const bad[] = {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "cuda:1234", "CPU"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) cr_expect(pare_device_name_ok(good[i]), "%s", good[i]);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_expect_not(pare_device_name_ok(bad[i]), "'%s'", bad[i]);
}

#ifndef PARE_TEST_GPU
void pare_emulation_fail(long kernels);

/* At the first run, that is. */
Test(cuda_program, a_device_that_fails_is_told_of_the_node_that_it_failed_at) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareGraph *g = fix_parse(f, "input %x : f32[2]\n%a = Exp(%x) \"first\"\n%b = Sqrt(%a) \"second\"\n"
                              "%y = Neg(%b) \"third\"\noutput %y\n");
  PareProgram *p = on_gpu(f, g);
  feed(f, p, g->inputs.at[0], (float[]){1, 2});
  pare_emulation_fail(1);
  cr_expect_eq(pare_program_run(&f->c, p, -1), PARE_DEVICE);
  cr_expect_str_eq(f->c.diag.node, "second");
  cr_expect(strstr(f->c.diag.text, "illegal memory access"), "%s", f->c.diag.text);
  fix_forget(f);
  pare_program_free(p);
  fix_free(f);
}

Test(device, a_plug_in_of_another_build_is_refused) {
  ParePluginOpen pare_plugin_open;
  PareDevice *d;
  char why[200] = "";
  cr_expect_eq(pare_plugin_open("0.0.0", PARE_OP_COUNT, -1, &d, why, sizeof why), PARE_DEVICE);
  cr_expect(strstr(why, "another build"), "%s", why);
  cr_expect_eq(pare_plugin_open(PARE_VERSION, PARE_OP_COUNT - 1, -1, &d, why, sizeof why), PARE_DEVICE);
}
#endif
