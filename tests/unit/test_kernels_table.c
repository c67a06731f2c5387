/* test_kernels_table.c - what holds of every row of the table of kernels (kernel_call.h). */
#include "kernel_call.h"

Test(table, empty_tensors_pass_through) {
  EACH_LEVEL(c) {
    const struct {
      PareOp op;
      int nin;
    } like[] = {{PARE_OP_ADD, 2},        {PARE_OP_MAX, 2},       {PARE_OP_GELU, 1},        {PARE_OP_SOFTMAX, 1},
                {PARE_OP_LOGSOFTMAX, 1}, {PARE_OP_GELUGRAD, 2},  {PARE_OP_SOFTMAXGRAD, 2}, {PARE_OP_CONCAT, 2},
                {PARE_OP_SPLIT, 1},      {PARE_OP_TRANSPOSE, 1}, {PARE_OP_CAST, 1},        {PARE_OP_SUMTO, 2},
                {PARE_OP_HARDMAX, 1},    {PARE_OP_TRILU, 1}};
    for (size_t k = 0; k < sizeof like / sizeof *like; k++)
      for (int where = 0; where < 3; where++) {
        int64_t dim[3] = {2, 3, 4};
        dim[where] = 0;
        clear(&c);
        pare_attr_set(&c.attr, axis, 1);
        if (like[k].op == PARE_OP_TRANSPOSE) pare_attr_set(&c.attr, perm, ((PareInts){3, {0, 1, 2}}));
        for (int i = 0; i < like[k].nin; i++) input(&c, PARE_F32, 3, dim);
        output(&c, PARE_F32, 3, dim);
        must(&c, like[k].op);
      }
    clear(&c);
    input(&c, PARE_F32, DIMS(0, 4)), input(&c, PARE_F32, DIMS(4)), input(&c, PARE_F32, DIMS(0)),
        input(&c, PARE_F32, DIMS(0));
    input(&c, PARE_F32, DIMS(0, 4)), output(&c, PARE_F32, DIMS(0, 4));
    PareTensor *dgamma = filled(output(&c, PARE_F32, DIMS(4)), 1, 1, 2);
    must(&c, PARE_OP_LAYERNORMGRAD);
    for (int i = 0; i < 4; i++) cr_assert_eq(get(dgamma, i), 0, "dgamma of no rows: %g", get(dgamma, i));
    clear(&c);
    input(&c, PARE_F32, DIMS(0, 4)), input(&c, PARE_I64, DIMS(0));
    PareTensor *loss = filled(output(&c, PARE_F32, SCALAR), 1, 1, 2);
    must(&c, PARE_OP_CROSSENTROPY);
    cr_assert_eq(get(loss, 0), 0, "loss of no rows: %g", get(loss, 0));
    clear(&c);
    input(&c, PARE_F32, DIMS(5, 3)), input(&c, PARE_I64, DIMS(0)), output(&c, PARE_F32, DIMS(0, 3));
    must(&c, PARE_OP_GATHER);
    clear(&c);
    input(&c, PARE_F32, DIMS(0, 1, 4, 4)), input(&c, PARE_F32, DIMS(2, 1, 2, 2)),
        output(&c, PARE_F32, DIMS(0, 2, 3, 3));
    must(&c, PARE_OP_CONV);
  }
}

Test(table, every_row_that_promises_a_kernel_has_one_at_every_level) {
  for (int l = 0; level(l); l++) {
#define KIND_ANY true
#ifdef PARE_TEST_CUDA
#define KIND_CPU false
#else
#define KIND_CPU true
#endif
#define KIND_VIEW false
#define KIND_NONE false
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  cr_assert_eq(level(l)[PARE_OP_##id].run != NULL, KIND_##kernel, "%s at level %d", name, l);
#include "ir/ops.def"
#undef OP
  }
}

Test(table, large_tensors_give_the_same_bytes_each_time) {
  Call c = {.arena = pare_arena_new(1 << 20), .kernels = level(0)};
  PareTensor *x = filled(input(&c, PARE_F32, DIMS(300, 400)), 1, -3, 3);
  PareTensor *gamma = filled(input(&c, PARE_F32, DIMS(400)), 2, -3, 3);
  PareTensor mean = tensor(&c, PARE_F32, DIMS(300)), rstd = tensor(&c, PARE_F32, DIMS(300)), dy = *x;
  filled(&rstd, 3, 0.5, 2);
  c.in[2] = mean, c.in[3] = rstd, c.in[4] = dy, c.nin = 5;
  (void)gamma;
  float first[400];
  for (int k = 0; k < 4; k++) {
    c.nout = 0;
    output(&c, PARE_F32, DIMS(300, 400)), output(&c, PARE_F32, DIMS(400)), output(&c, PARE_F32, DIMS(400));
    must(&c, PARE_OP_LAYERNORMGRAD);
    if (k == 0) memcpy(first, c.out[1].data, sizeof first);
    cr_assert_eq(memcmp(first, c.out[1].data, sizeof first), 0, "run %d differs", k);
  }
  pare_arena_free(c.arena);
}
