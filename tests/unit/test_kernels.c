/* test_kernels.c - the CPU kernels of general ops on plain buffers, at every level of the
 * instruction set that this machine has; built with PARE_TEST_CUDA, the CUDA
 * kernels on an emulated GPU. Truth comes from formulas in double,
 * index-by-index references, central differences and adjoints. */
#include "kernel_call.h"
#include "kernels/cpu/vmath.h"

#ifndef PARE_TEST_CUDA
/* --- vmath --- */
static double ulps(float got, double want) {
  if (isnan(want) || isinf((float)want)) return got == (float)want || (isnan(got) && isnan(want)) ? 0 : INFINITY;
  int e;
  frexp(want, &e);
  return fabs((double)got - want) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

Test(vmath, is_within_two_ulp_of_libm_over_all_magnitudes) {
  const struct {
    const char *name;
    float (*f)(float);
    double (*g)(double);
  } all[] = {{"exp", vm_exp, exp}, {"erf", vm_erf, erf}, {"tanh", vm_tanh, tanh}};
  for (int k = 0; k < 3; k++) {
    double worst = 0, at = 0;
    for (uint64_t u = 0; u <= UINT32_MAX; u += 4001) {
      double x = (double)pare_f32_from_bits((uint32_t)u), err = ulps(all[k].f((float)x), all[k].g(x));
      if (err > worst) worst = err, at = x;
    }
    cr_log_info("%s: %.3f ulp at %g", all[k].name, worst, at);
    cr_assert(worst <= 2, "%s: %.3f ulp at %.9g", all[k].name, worst, at);
  }
}
#endif

static double normal(double x) { return erfc(-x / sqrt(2)) / 2; }

/* Where the functions do not end: exp from -87 on, Phi from -5.7 on. Beyond, Phi is nothing beside bf16's numbers. */
Test(vmath, the_rough_ones_are_within_an_eighth_of_half_a_bf16_ulp) {
  const struct {
    const char *name;
    float (*f)(float);
    double (*g)(double);
    double lo, hi, step;
  } all[] = {{"exp", vh_exp, exp, -87, 88, 1e-3}, {"normal_cdf", vh_normal_cdf, normal, -5.7, 9, 1e-4}};
  for (int k = 0; k < 2; k++) {
    double worst = 0, at = 0;
    for (double x = all[k].lo; x < all[k].hi; x += all[k].step) {
      double want = all[k].g((double)(float)x), err = fabs((double)all[k].f((float)x) - want) / want;
      if (err > worst) worst = err, at = x;
    }
    cr_log_info("%s: %.3g at %g", all[k].name, worst, at);
    cr_assert(worst <= 0x1p-12, "%s: %.3g at %.9g", all[k].name, worst, at);
  }
  cr_assert(vh_exp(-1e4f) == 0 && vh_exp(-INFINITY) == 0 && isnan(vh_exp(NAN)), "%g %g %g", (double)vh_exp(-1e4f),
            (double)vh_exp(-INFINITY), (double)vh_exp(NAN));
}

/* --- element-wise --- */
static double gelu_tanh(double x) { return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x))); }

Test(eltwise, unary_ops_follow_their_formulas) {
#define UNARY(X)                       \
  X(NEG, -x, -4, 4)                    \
  X(ABS, fabs(x), -4, 4)               \
  X(FLOOR, floor(x), -4, 4)            \
  X(CEIL, ceil(x), -4, 4)              \
  X(SQRT, sqrt(x), 0, 9)               \
  X(RECIPROCAL, 1 / x, 0.25, 4)        \
  X(EXP, exp(x), -4, 4)                \
  X(LOG, log(x), 0.1, 9)               \
  X(SIN, sin(x), -4, 4)                \
  X(COS, cos(x), -4, 4)                \
  X(ERF, erf(x), -4, 4)                \
  X(TANH, tanh(x), -4, 4)              \
  X(SIGMOID, 1 / (1 + exp(-x)), -8, 8) \
  X(RELU, x > 0 ? x : 0, -4, 4)        \
  X(GELU, x / 2 * (1 + erf(x / sqrt(2))), -6, 6)
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int d = 0; d < 3; d++) {
#define X(id, formula, lo, hi)                                           \
  {                                                                      \
    clear(&c);                                                           \
    PareTensor *t = filled(input(&c, types[d], DIMS(3, 41)), 1, lo, hi); \
    PareTensor want = tensor(&c, PARE_F64, DIMS(3, 41));                 \
    output(&c, types[d], DIMS(3, 41));                                   \
    must(&c, PARE_OP_##id);                                              \
    for (int64_t i = 0; i < count(t); i++) {                             \
      double x = get(t, i);                                              \
      put(&want, i, formula);                                            \
    }                                                                    \
    near(&c.out[0], &want, 6, #id);                                      \
  }
    UNARY(X)
#undef X
    clear(&c);
    pare_attr_set(&c.attr, approximate, 1);
    PareTensor *t = filled(input(&c, types[d], DIMS(200)), 1, -6, 6), want = tensor(&c, PARE_F64, DIMS(200));
    output(&c, types[d], DIMS(200));
    must(&c, PARE_OP_GELU);
    for (int64_t i = 0; i < 200; i++) put(&want, i, gelu_tanh(get(t, i)));
    near(&c.out[0], &want, 8, "Gelu tanh");
  }
}

/* Of one bf16 number after the other, each within its own rounding and what the rough exp and Phi add to it; below -5.7 Phi
 * is nothing beside the others. Slopes vanish at -0.75: there the terms' size counts. */
Test(eltwise, gelu_of_every_bf16_number_is_rounded_well) {
  EACH_LEVEL(c) for (int tanh = 0; tanh < 2; tanh++) {
    int64_t n = 0;
    clear(&c);
    pare_attr_set(&c.attr, approximate, tanh);
    PareTensor *x = input(&c, PARE_BF16, DIMS(20000)), *y = output(&c, PARE_BF16, DIMS(20000));
    for (uint32_t u = 0; u < 1u << 16; u++) {
      double v = (double)pare_bf16_to_f32((uint16_t)u);
      if (v > -5.7 && v < 1e6 && fabs(v) > 0x1p-60) put(x, n++, v);
    }
    cr_assert(n > 15000 && n < 20000);
    must(&c, PARE_OP_GELU);
    for (int64_t i = 0; i < n; i++) {
      double v = get(x, i), want = tanh ? gelu_tanh(v) : v * normal(v);
      double limit = (0x1p-8 + 0x1p-11) * fabs(want) + (tanh ? 0x1p-22 : 0); /* where 1 + tanh cancels in f32 */
      cr_assert(fabs(get(y, i) - want) <= limit, "tanh %d: gelu(%g) is %g, not %g", tanh, v, get(y, i), want);
    }
    PareTensor *dy = input(&c, PARE_BF16, DIMS(20000));
    for (int64_t i = 0; i < n; i++) put(dy, i, 1);
    must(&c, PARE_OP_GELUGRAD);
    for (int64_t i = 0; i < n; i++) {
      double v = get(x, i), h = 1e-6 * fmax(1, fabs(v)), up = v + h, down = v - h;
      double want = tanh ? (gelu_tanh(up) - gelu_tanh(down)) / (up - down) : normal(v) + v * exp(-v * v / 2) / sqrt(2 * acos(-1));
      double limit = (0x1p-8 + 0x1p-11) * fabs(want) + 0x1p-12 * fmin(1, exp(-v * v / 4)) + (tanh ? 0x1p-22 : 0);
      cr_assert(fabs(get(y, i) - want) <= limit, "tanh %d: gelu'(%g) is %g, not %g", tanh, v, get(y, i), want);
    }
  }
}

/* Offset in x of the output's element i, x broadcast to it. */
static int64_t broadcast(const PareType *x, const PareType *out, int64_t i) {
  int64_t off = 0, stride = 1;
  for (int k = out->rank - 1, j = x->rank - 1; k >= 0; k--, j--) {
    int64_t at = i % out->dim[k];
    i /= out->dim[k];
    if (j < 0) continue;
    if (x->dim[j] != 1) off += at * stride;
    stride *= x->dim[j];
  }
  return off;
}

typedef struct Shapes {
  int rx, ry, rz;
  int64_t x[4], y[4], z[4];
} Shapes;
static const Shapes shapes[] = {
    {2, 2, 2, {5, 37}, {5, 37}, {5, 37}},
    {2, 0, 2, {5, 37}, {0}, {5, 37}},
    {0, 2, 2, {0}, {5, 37}, {5, 37}},
    {3, 1, 3, {2, 5, 37}, {37}, {2, 5, 37}},
    {2, 2, 2, {5, 37}, {5, 1}, {5, 37}},
    {2, 2, 2, {5, 1}, {1, 37}, {5, 37}},
    {4, 4, 4, {2, 1, 3, 4}, {1, 5, 3, 1}, {2, 5, 3, 4}},
    {4, 2, 4, {2, 3, 4, 5}, {4, 5}, {2, 3, 4, 5}},
    {0, 0, 0, {0}, {0}, {0}},
    {2, 2, 2, {0, 3}, {1, 3}, {0, 3}},
    {2, 1, 2, {3, 20000}, {20000}, {3, 20000}},
    {4, 4, 4, {2, 3, 1, 7}, {2, 1, 4, 7}, {2, 3, 4, 7}},
};

Test(eltwise, binary_ops_broadcast_like_numpy_in_every_type) {
#define BINARY(X)                          \
  X(ADD, x + y, 0)                         \
  X(SUB, x - y, 0)                         \
  X(MUL, x * y, 0)                         \
  X(DIV, is_int ? trunc(x / y) : x / y, 0) \
  X(MIN, fmin(x, y), 0)                    \
  X(MAX, fmax(x, y), 0)                    \
  X(EQUAL, x == y, 1)                      \
  X(LESS, x < y, 1)                        \
  X(LESSEQ, x <= y, 1)                     \
  X(GREATER, x > y, 1)                     \
  X(GREATEREQ, x >= y, 1)
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) for (int d = 0; d < 5; d++) {
    const Shapes *s = &shapes[k];
    bool is_int = pare_dtype_is_int(types[d]);
#define X(id, formula, compare)                                                                              \
  {                                                                                                          \
    clear(&c);                                                                                               \
    PareTensor *tx = filled(input(&c, types[d], s->rx, s->x), 1, -9, 9);                                     \
    PareTensor *ty = filled(input(&c, types[d], s->ry, s->y), 2, 1, 9);                                      \
    PareTensor *z = output(&c, compare ? PARE_BOOL : types[d], s->rz, s->z);                                 \
    PareTensor want = tensor(&c, PARE_F64, s->rz, s->z);                                                     \
    must(&c, PARE_OP_##id);                                                                                  \
    for (int64_t i = 0; i < count(z); i++) {                                                                 \
      double x = get(tx, broadcast(&tx->type, &z->type, i)), y = get(ty, broadcast(&ty->type, &z->type, i)); \
      put(&want, i, formula);                                                                                \
    }                                                                                                        \
    near(z, &want, compare || is_int ? 0 : 2, #id);                                                          \
  }
    BINARY(X)
#undef X
  }
}

Test(eltwise, where_takes_elements_of_any_size) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_U8};
  EACH_LEVEL(c)
  for (size_t k = 0; k < sizeof shapes / sizeof *shapes;
       k++) for (int d = 0; d < 4; d++) for (int turn = 0; turn < 2;
                                             turn++) { /* the condition in x's shape, then in y's */
    const Shapes *s = &shapes[k];
    clear(&c);
    PareTensor *cond = turn ? input(&c, PARE_BOOL, s->ry, s->y) : input(&c, PARE_BOOL, s->rx, s->x);
    for (int64_t i = 0; i < count(cond); i++) put(cond, i, pare_rng_u64(7, (uint64_t)i) & 1 ? 1 : 0);
    PareTensor *x = filled(input(&c, types[d], s->rx, s->x), 1, 1, 9);
    PareTensor *y = filled(input(&c, types[d], s->ry, s->y), 2, 11, 19);
    PareTensor *z = output(&c, types[d], s->rz, s->z);
    must(&c, PARE_OP_WHERE);
    for (int64_t i = 0; i < count(z); i++) {
      bool yes = get(cond, broadcast(&cond->type, &z->type, i)) != 0;
      double want = yes ? get(x, broadcast(&x->type, &z->type, i)) : get(y, broadcast(&y->type, &z->type, i));
      cr_assert_eq(get(z, i), want, "shapes %zu at %" PRId64 ": got %g, want %g", k, i, get(z, i), want);
    }
  }
}

Test(eltwise, integer_division_truncates_and_never_traps) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_I64, DIMS(4)), LIST(-7, 7, 9, 0));
    listed(input(&c, PARE_I64, DIMS(4)), LIST(2, -2, 4, 5));
    PareTensor *z = output(&c, PARE_I64, DIMS(4));
    must(&c, PARE_OP_DIV);
    const double want[] = {-3, -3, 2, 0};
    for (int i = 0; i < 4; i++) cr_assert_eq(get(z, i), want[i], "at %d: got %g, want %g", i, get(z, i), want[i]);
    ((int64_t *)c.in[0].data)[0] = INT64_MIN;
    ((int64_t *)c.in[1].data)[0] = -1;
    must(&c, PARE_OP_DIV);
    cr_assert_eq(((int64_t *)z->data)[0], INT64_MIN);
    put(&c.in[1], 2, 0);
    cr_assert_eq(run(&c, PARE_OP_DIV), PARE_DATA);
    cr_assert_not_null(c.why);
  }
}

Test(eltwise, min_and_max_fold_any_number_and_keep_nan) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_F32, DIMS(3)), LIST(1, NAN, 3));
    listed(input(&c, PARE_F32, SCALAR), LIST(2));
    listed(input(&c, PARE_F32, DIMS(3)), LIST(0, 9, NAN));
    PareTensor *z = output(&c, PARE_F32, DIMS(3));
    must(&c, PARE_OP_MIN);
    cr_assert(get(z, 0) == 0 && isnan(get(z, 1)) && isnan(get(z, 2)), "%g %g %g", get(z, 0), get(z, 1), get(z, 2));
    must(&c, PARE_OP_MAX);
    cr_assert(get(z, 0) == 2 && isnan(get(z, 1)) && isnan(get(z, 2)), "%g %g %g", get(z, 0), get(z, 1), get(z, 2));
  }
}

Test(eltwise, pow_takes_float_and_integer_exponents) {
  const double exps[] = {2, 3, 0.5, -1, 0, 1.7};
  EACH_LEVEL(c) for (int e = 0; e < 6; e++) for (int d = 0; d < 2; d++) {
    clear(&c);
    PareTensor *x = filled(input(&c, d ? PARE_F32 : PARE_F64, DIMS(50)), 3, 0.1, 5);
    listed(input(&c, exps[e] == floor(exps[e]) ? PARE_I64 : PARE_F32, SCALAR), &exps[e]);
    PareTensor *z = output(&c, x->type.dtype, DIMS(50)), want = tensor(&c, PARE_F64, DIMS(50));
    must(&c, PARE_OP_POW);
    for (int i = 0; i < 50; i++) put(&want, i, pow(get(x, i), get(&c.in[1], 0)));
    near(z, &want, 2, "Pow");
  }
  EACH_LEVEL(c) {
    listed(input(&c, PARE_I64, DIMS(4)), LIST(3, -2, 2, 1));
    listed(input(&c, PARE_I32, DIMS(4)), LIST(39, 3, -1, -5));
    PareTensor *z = output(&c, PARE_I64, DIMS(4));
    must(&c, PARE_OP_POW);
    const int64_t want[] = {4052555153018976267, -8, 0, 1}; /* 3^39 is beyond double's 53 bits */
    for (int i = 0; i < 4; i++)
      cr_assert_eq(((int64_t *)z->data)[i], want[i], "got %" PRId64 ", want %" PRId64, ((int64_t *)z->data)[i],
                   want[i]);
  }
}

/* --- Cast --- */
Test(cast, saturates_truncates_and_rounds) {
  const struct {
    PareDtype from, to;
    double x, want;
  } all[] = {
      {PARE_F32, PARE_I32, -1.9, -1},
      {PARE_F32, PARE_I32, 3e9, 2147483647},
      {PARE_F64, PARE_I64, -1e30, -0x1p63},
      {PARE_F32, PARE_I32, NAN, 0},
      {PARE_F32, PARE_U8, 300, 255},
      {PARE_F32, PARE_U8, -3, 0},
      {PARE_F32, PARE_BOOL, 0.25, 1},
      {PARE_I64, PARE_BOOL, -4, 1},
      {PARE_F32, PARE_BOOL, 0, 0},
      {PARE_I64, PARE_F32, 16777217, 16777216},
      {PARE_F32, PARE_BF16, 1.00390625, 1},
      {PARE_F64, PARE_F16, 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-10},
      {PARE_F64, PARE_BF16, 1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-7},
      {PARE_F16, PARE_F32, 0x1p-24, 0x1p-24},
      {PARE_BOOL, PARE_F32, 1, 1},
      {PARE_I32, PARE_I64, -5, -5},
      {PARE_F32, PARE_F16, 1e6, INFINITY},
      {PARE_F64, PARE_F32, 0.1, (double)0.1f},
  };
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
    clear(&c);
    put(input(&c, all[k].from, SCALAR), 0, all[k].x);
    PareTensor *z = output(&c, all[k].to, SCALAR);
    must(&c, PARE_OP_CAST);
    cr_assert_eq(get(z, 0), all[k].want, "%s %.17g to %s: got %.9g, want %.9g", pare_dtype_name(all[k].from),
                 all[k].x, pare_dtype_name(all[k].to), get(z, 0), all[k].want);
  }
}

Test(cast, small_integers_survive_every_pair_of_types) {
  EACH_LEVEL(c) for (int from = 0; from < PARE_DTYPE_COUNT; from++) for (int to = 0; to < PARE_DTYPE_COUNT; to++) {
    clear(&c);
    PareTensor *x = input(&c, PARE_I64, DIMS(1200)), *y = output(&c, (PareDtype)from, DIMS(1200));
    for (int i = 0; i < 1200; i++) put(x, i, i % 100);
    must(&c, PARE_OP_CAST);
    c.in[0] = *y;
    c.nout = 0;
    output(&c, (PareDtype)to, DIMS(1200));
    must(&c, PARE_OP_CAST);
    c.in[0] = c.out[0];
    c.nout = 0;
    y = output(&c, PARE_F64, DIMS(1200));
    must(&c, PARE_OP_CAST);
    for (int i = 0; i < 1200; i++) {
      double want = from == PARE_BOOL || to == PARE_BOOL ? i % 100 != 0 : i % 100;
      cr_assert_eq(get(y, i), want, "%s to %s: got %g, want %g", pare_dtype_name((PareDtype)from),
                   pare_dtype_name((PareDtype)to), get(y, i), want);
    }
  }
}

/* --- products --- */
/* want[i,j] = alpha·sum op(a)·op(b) + add */
static void naive_product(const PareTensor *a, const PareTensor *b, const PareTensor *want, bool ta, bool tb, int64_t m,
                          int64_t n, int64_t k, int64_t oa, int64_t ob, int64_t oy, double alpha) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      double s = 0;
      for (int64_t t = 0; t < k; t++)
        s += get(a, oa + (ta ? t * m + i : i * k + t)) * get(b, ob + (tb ? j * k + t : t * n + j));
      put(want, oy + i * n + j, alpha * s + get(want, oy + i * n + j));
    }
}

Test(matmul, agrees_with_the_sum_of_products_for_all_types_and_batches) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  const struct {
    int ra, rb, ry;
    int64_t a[4], b[4], y[4], batch, abatch, bbatch, m, n, k;
    bool ta, tb;
  } all[] = {
      {2, 2, 2, {7, 5}, {5, 9}, {7, 9}, 1, 1, 1, 7, 9, 5, false, false},
      {3, 2, 3, {3, 7, 5}, {5, 9}, {3, 7, 9}, 3, 3, 1, 7, 9, 5, false, false},
      {2, 3, 3, {7, 5}, {3, 5, 9}, {3, 7, 9}, 3, 1, 3, 7, 9, 5, false, false},
      {4, 4, 4, {2, 3, 7, 5}, {2, 3, 5, 9}, {2, 3, 7, 9}, 6, 6, 6, 7, 9, 5, false, false},
      {1, 2, 1, {5}, {5, 9}, {9}, 1, 1, 1, 1, 9, 5, false, false},
      {3, 1, 2, {3, 7, 5}, {5}, {3, 7}, 3, 3, 1, 7, 1, 5, false, false},
      {1, 1, 0, {5}, {5}, {0}, 1, 1, 1, 1, 1, 5, false, false},
      {3, 3, 3, {2, 5, 7}, {2, 9, 5}, {2, 7, 9}, 2, 2, 2, 7, 9, 5, true, true},
      {3, 2, 3, {2, 5, 7}, {5, 9}, {2, 7, 9}, 2, 2, 1, 7, 9, 5, true, false},
      {3, 2, 3, {2, 7, 5}, {9, 5}, {2, 7, 9}, 2, 2, 1, 7, 9, 5, false, true},
      {2, 2, 2, {7, 0}, {0, 9}, {7, 9}, 1, 1, 1, 7, 9, 0, false, false},
      {2, 2, 2, {0, 5}, {5, 9}, {0, 9}, 1, 1, 1, 0, 9, 5, false, false},
      {2, 2, 2, {64, 96}, {96, 80}, {64, 80}, 1, 1, 1, 64, 80, 96, false, false},
      {3, 3, 3, {40, 16, 33}, {40, 33, 17}, {40, 16, 17}, 40, 40, 40, 16, 17, 33, false, false},
  };
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 5; d++) {
    clear(&c);
    if (all[k].ta) pare_attr_set(&c.attr, transA, 1);
    if (all[k].tb) pare_attr_set(&c.attr, transB, 1);
    double alpha = (all[k].ta || all[k].tb) && pare_dtype_is_float(types[d]) ? 0.5 : 1;
    if (alpha != 1) pare_attr_set(&c.attr, alpha, alpha);
    filled(input(&c, types[d], all[k].ra, all[k].a), 1, -3, 3);
    filled(input(&c, types[d], all[k].rb, all[k].b), 2, -3, 3);
    PareTensor *y = output(&c, types[d], all[k].ry, all[k].y), want = tensor(&c, PARE_F64, all[k].ry, all[k].y);
    must(&c, all[k].ta || all[k].tb ? PARE_OP_FUSEDMATMUL : PARE_OP_MATMUL);
    for (int64_t i = 0; i < all[k].batch; i++)
      naive_product(&c.in[0], &c.in[1], &want, all[k].ta, all[k].tb, all[k].m, all[k].n, all[k].k,
                    all[k].abatch > 1 ? i * all[k].m * all[k].k : 0, all[k].bbatch > 1 ? i * all[k].k * all[k].n : 0,
                    i * all[k].m * all[k].n, alpha);
    char what[32];
    snprintf(what, sizeof what, "MatMul case %zu", k);
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, what);
  }
}

Test(gemm, adds_a_broadcast_bias_scaled_by_beta) {
  const struct {
    int rank;
    int64_t dim[2];
  } bias[] = {{0, {0}}, {1, {9}}, {2, {1, 9}}, {2, {7, 1}}, {2, {7, 9}}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < 6; k++) for (int d = 0; d < 3; d++) for (int t = 0; t < 4; t++) {
    clear(&c);
    pare_attr_set(&c.attr, transA, t & 1);
    pare_attr_set(&c.attr, transB, t >> 1);
    pare_attr_set(&c.attr, alpha, 0.5);
    pare_attr_set(&c.attr, beta, 2.0);
    filled(t & 1 ? input(&c, types[d], DIMS(5, 7)) : input(&c, types[d], DIMS(7, 5)), 1, -3, 3);
    filled(t & 2 ? input(&c, types[d], DIMS(9, 5)) : input(&c, types[d], DIMS(5, 9)), 2, -3, 3);
    PareTensor want = tensor(&c, PARE_F64, DIMS(7, 9));
    if (k < 5) {
      PareTensor *b = filled(input(&c, types[d], bias[k].rank, bias[k].dim), 3, -3, 3);
      for (int i = 0; i < 63; i++) put(&want, i, 2 * get(b, broadcast(&b->type, &want.type, i)));
    } else if (t)
      left_out(&c);
    PareTensor *y = output(&c, types[d], DIMS(7, 9));
    must(&c, PARE_OP_GEMM);
    naive_product(&c.in[0], &c.in[1], &want, t & 1, t >> 1, 7, 9, 5, 0, 0, 0, 0.5);
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, "Gemm");
  }
}

/* x[2,4,9,10], kernel 3x2 with strides 2, 1, dilations 1, 2, uneven pads and groups; and a patch embedding. */
Test(conv, agrees_with_the_definition) {
  const struct {
    int64_t h, w, c, m, g, kh, kw, sh, sw, dh, dw, pt, pl, pb, pr;
  } all[] = {
      {9, 10, 4, 6, 2, 3, 2, 2, 1, 1, 2, 1, 0, 0, 3}, {8, 8, 3, 5, 1, 4, 4, 4, 4, 1, 1, 0, 0, 0, 0},
      {5, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0},  {6, 40, 1, 2, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},
      {1, 2, 1, 1, 1, 1, 5, 1, 3, 1, 1, 0, 4, 0, 4},  {9, 24, 3, 5, 1, 4, 8, 4, 8, 1, 1, 0, 0, 0, 0},
      {8, 40, 2, 3, 1, 2, 16, 2, 16, 1, 1, 0, 0, 0, 0},
  };
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof all / sizeof *all; k++) for (int d = 0; d < 3; d++) {
    clear(&c);
    int64_t H = all[k].h, W = all[k].w, C = all[k].c, M = all[k].m, G = all[k].g, kh = all[k].kh, kw = all[k].kw;
    int64_t oh = (H + all[k].pt + all[k].pb - all[k].dh * (kh - 1) - 1) / all[k].sh + 1;
    int64_t ow = (W + all[k].pl + all[k].pr - all[k].dw * (kw - 1) - 1) / all[k].sw + 1;
    pare_attr_set(&c.attr, group, G);
    pare_attr_set(&c.attr, strides, ((PareInts){2, {all[k].sh, all[k].sw}}));
    pare_attr_set(&c.attr, dilations, ((PareInts){2, {all[k].dh, all[k].dw}}));
    pare_attr_set(&c.attr, pads, ((PareInts){4, {all[k].pt, all[k].pl, all[k].pb, all[k].pr}}));
    PareTensor *x = filled(input(&c, types[d], DIMS(2, C, H, W)), 1, -2, 2);
    PareTensor *w = filled(input(&c, types[d], DIMS(M, C / G, kh, kw)), 2, -2, 2);
    PareTensor *b = k % 2 ? NULL : filled(input(&c, types[d], DIMS(M)), 3, -2, 2);
    PareTensor *y = output(&c, types[d], DIMS(2, M, oh, ow)), want = tensor(&c, PARE_F64, DIMS(2, M, oh, ow));
    must(&c, PARE_OP_CONV);
    for (int64_t i = 0; i < count(y); i++) {
      int64_t ox = i % ow, oy = i / ow % oh, m = i / (ow * oh) % M, n = i / (ow * oh * M);
      double s = b ? get(b, m) : 0;
      for (int64_t t = 0; t < C / G * kh * kw; t++) {
        int64_t ch = m / (M / G) * (C / G) + t / (kh * kw);
        int64_t iy = oy * all[k].sh - all[k].pt + t / kw % kh * all[k].dh,
                ix = ox * all[k].sw - all[k].pl + t % kw * all[k].dw;
        if (iy >= 0 && iy < H && ix >= 0 && ix < W)
          s += get(x, ((n * C + ch) * H + iy) * W + ix) * get(w, m * (C / G) * kh * kw + t);
      }
      put(&want, i, s);
    }
    near(y, &want, types[d] == PARE_BF16 ? 2 : 8, "Conv");
  }
}

Test(conv, same_padding_in_one_axis) {
  EACH_LEVEL(c) for (int mode = 1; mode <= 2; mode++) {
    clear(&c);
    pare_attr_set(&c.attr, auto_pad, mode);
    listed(input(&c, PARE_F32, DIMS(1, 1, 3)), LIST(1, 2, 4));
    listed(input(&c, PARE_F32, DIMS(1, 1, 2)), LIST(1, 10));
    PareTensor *y = output(&c, PARE_F32, DIMS(1, 1, 3));
    must(&c, PARE_OP_CONV);
    const double upper[] = {21, 42, 4}, lower[] = {10, 21, 42}; /* the odd zero goes to the end or to the front */
    for (int i = 0; i < 3; i++) cr_assert_eq(get(y, i), (mode == 1 ? upper : lower)[i], "got %g", get(y, i));
  }
}

/* --- along axes --- */
Test(norm, softmax_normalises_exponentials_along_any_axis) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int axis = -3; axis < 3; axis++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 3; mode++) {
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    if (mode == 2) pare_attr_set(&c.attr, flatten, 1);
    PareTensor *x = filled(input(&c, types[d], DIMS(3, 5, 37)), 4, -6, 6), *y = output(&c, types[d], DIMS(3, 5, 37));
    PareTensor want = tensor(&c, PARE_F64, DIMS(3, 5, 37));
    must(&c, mode == 1 ? PARE_OP_LOGSOFTMAX : PARE_OP_SOFTMAX);
    int k = axis < 0 ? axis + 3 : axis;
    int64_t inner = mode == 2 || k == 2 ? 1
                    : k == 1            ? 37
                                        : 185,
            n = mode == 2 ? (k == 2   ? 37
                             : k == 1 ? 185
                                      : 555)
                : k == 0  ? 3
                : k == 1  ? 5
                          : 37;
    for (int64_t i = 0; i < 555; i++) {
      double sum = 0;
      int64_t first = i / (n * inner) * n * inner + i % inner;
      for (int64_t j = 0; j < n; j++) sum += exp(get(x, first + j * inner));
      put(&want, i, mode == 1 ? get(x, i) - log(sum) : exp(get(x, i)) / sum);
    }
    near(y, &want, 32, "Softmax"); /* arguments of exp are up to 12 and as inexact */
  }
}

Test(norm, softmax_of_huge_and_masked_numbers_is_finite) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_F32, DIMS(4)), LIST(1e30, 1e30, -INFINITY, -1e30));
    PareTensor *y = output(&c, PARE_F32, DIMS(4));
    must(&c, PARE_OP_SOFTMAX);
    const double want[] = {0.5, 0.5, 0, 0};
    for (int i = 0; i < 4; i++) cr_assert_eq(get(y, i), want[i], "got %g", get(y, i));
  }
}

Test(norm, layernorm_gives_its_mean_and_inverse_deviation_too) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int d = 0; d < 3; d++) for (int with = 0; with < 2; with++) {
    clear(&c);
    pare_attr_set(&c.attr, epsilon, 1e-3);
    pare_attr_set(&c.attr, axis, 1);
    PareTensor *x = filled(input(&c, types[d], DIMS(6, 5, 13)), 5, -1, 5);
    PareTensor *gamma = filled(input(&c, types[d], DIMS(5, 13)), 6, -2, 2);
    PareTensor *beta = with ? filled(input(&c, types[d], DIMS(5, 13)), 7, -2, 2) : NULL;
    PareTensor *y = output(&c, types[d], DIMS(6, 5, 13)), want = tensor(&c, PARE_F64, DIMS(6, 5, 13));
    PareDtype stats = types[d] == PARE_F64 ? PARE_F64 : PARE_F32;
    PareTensor *mean = output(&c, stats, DIMS(6, 1, 1)), *rstd = output(&c, stats, DIMS(6, 1, 1));
    PareTensor wmean = tensor(&c, PARE_F64, DIMS(6)), wrstd = tensor(&c, PARE_F64, DIMS(6));
    if (!with) c.nout = 1;
    must(&c, PARE_OP_LAYERNORM);
    for (int64_t r = 0; r < 6; r++) {
      double m = 0, v = 0;
      for (int i = 0; i < 65; i++) m += get(x, r * 65 + i) / 65;
      for (int i = 0; i < 65; i++) v += pow(get(x, r * 65 + i) - m, 2) / 65;
      put(&wmean, r, m), put(&wrstd, r, 1 / sqrt(v + 1e-3));
      for (int i = 0; i < 65; i++)
        put(&want, r * 65 + i, (get(x, r * 65 + i) - m) / sqrt(v + 1e-3) * get(gamma, i) + (beta ? get(beta, i) : 0));
    }
    near(y, &want, 8, "LayerNormalization");
    if (with) near(mean, &wmean, 8, "mean"), near(rstd, &wrstd, 8, "rstd");
  }
}

/* Widths that lie on both sides of those for which a kernel has code of its own. */
static const int64_t norm_widths[] = {13, 20, 300, 768, 1000, 1030, 2048, 2052, 4100};
enum { NORM_WIDTHS = sizeof norm_widths / sizeof *norm_widths, NORM_ROWS = 5 };
static const PareDtype norm_types[] = {PARE_F64, PARE_F32, PARE_BF16};

/* The sums of bf16 are rounded before they are normalised. */
Test(norm, addnorm_gives_the_sum_its_norm_and_a_copy_in_bf16) {
  enum { SUM, Y, MEAN, RSTD, LOW };
  static const char *const name[] = {"sum", "y", "mean", "rstd", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int b = 0; b < 6; b++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    clear(&c);
    pare_attr_set(&c.attr, epsilon, 1e-3);
    PareTensor *x = filled(input(&c, T, DIMS(NORM_ROWS, n)), 5, -1, 5), *gamma = filled(input(&c, T, DIMS(n)), 6, -2, 2);
    PareTensor *beta = b % 2 ? filled(input(&c, T, DIMS(n)), 7, -2, 2) : (left_out(&c), NULL), *branch = NULL;
    if (b / 2) branch = filled(input(&c, b / 2 == 1 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 8, -2, 2);
    PareTensor want[5] = {tensor(&c, PARE_F64, DIMS(NORM_ROWS, n)), tensor(&c, PARE_F64, DIMS(NORM_ROWS, n)),
                          tensor(&c, PARE_F64, DIMS(NORM_ROWS)), tensor(&c, PARE_F64, DIMS(NORM_ROWS)),
                          tensor(&c, PARE_F64, DIMS(NORM_ROWS, n))};
    output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(NORM_ROWS, n));
    output(&c, stat, DIMS(NORM_ROWS, 1)), output(&c, stat, DIMS(NORM_ROWS, 1));
    output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    must(&c, PARE_OP_ADDNORM);
    for (int64_t r = 0; r < NORM_ROWS; r++) {
      long double m = 0, v = 0;
      for (int64_t i = r * n; i < (r + 1) * n; i++) {
        double s = get(x, i) + (branch ? get(branch, i) : 0);
        put(&want[SUM], i, d == 2 ? (double)pare_bf16_to_f32(pare_f32_to_bf16((float)s)) : s);
        m += get(&want[SUM], i) / (long double)n;
      }
      for (int64_t i = r * n; i < (r + 1) * n; i++) v += (get(&want[SUM], i) - m) * (get(&want[SUM], i) - m) / n;
      double mean = (double)m, rstd = 1 / sqrt((double)v + 1e-3);
      put(&want[MEAN], r, mean), put(&want[RSTD], r, rstd);
      for (int64_t i = r * n; i < (r + 1) * n; i++) {
        double y = (get(&want[SUM], i) - mean) * rstd * get(gamma, i - r * n) + (beta ? get(beta, i - r * n) : 0);
        put(&want[Y], i, y), put(&want[LOW], i, y);
      }
    }
    double sums = 8 + (double)n / 2; /* n roundings of a sum at most, half as much in its root; of f32 also in bf16 */
    double factor[] = {[SUM] = 2, [Y] = d < 2 ? sums : 16, [MEAN] = sums, [RSTD] = sums, [LOW] = 2};
    for (int i = 0; i < 5; i++) near(&c.out[i], &want[i], factor[i], name[i]);
    in_place(&c, PARE_OP_ADDNORM, 0);
    if (branch) in_place(&c, PARE_OP_ADDNORM, 3);
    PareTensor all[5];
    memcpy(all, c.out, sizeof all);
    for (int one = SUM; one <= LOW; one++) { /* and each result when it alone is wanted */
      for (int i = 0; i < 5; i++) c.out[i] = i == one ? tensor(&c, all[i].type.dtype, all[i].type.rank, all[i].type.dim) : (PareTensor){0};
      must(&c, PARE_OP_ADDNORM);
      near(&c.out[one], &all[one], 0, name[one]);
    }
  }
}

/* As LayerNormalization would first, whose result is rounded to its type. */
Test(norm, addnorm_norms_what_it_adds_to_where_it_is_given_a_norm) {
  static const char *const name[] = {"sum", "y", "mean", "rstd", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int b = 0; b < 2; b++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    PareTensor want[5], first[4] = {{0}}, branch;
    clear(&c);
    PareTensor x = *filled(input(&c, T, DIMS(NORM_ROWS, n)), 5, -1, 5);
    first[2] = *filled(input(&c, T, DIMS(n)), 6, -2, 2);
    if (b) first[3] = *filled(input(&c, T, DIMS(n)), 7, -2, 2);
    PareTensor y = *output(&c, T, DIMS(NORM_ROWS, n));
    first[0] = *output(&c, stat, DIMS(NORM_ROWS, 1)), first[1] = *output(&c, stat, DIMS(NORM_ROWS, 1));
    must(&c, PARE_OP_LAYERNORM);
    branch = *filled(input(&c, T, DIMS(NORM_ROWS, n)), 8, -2, 2);
    for (int fused = 0; fused < 2; fused++) {
      clear(&c);
      c.in[c.nin++] = fused ? x : y;
      filled(input(&c, T, DIMS(n)), 9, -2, 2);
      filled(input(&c, T, DIMS(n)), 10, -2, 2);
      c.in[c.nin++] = branch;
      for (int i = 0; fused && i < 4; i++) c.in[c.nin++] = first[i];
      output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(NORM_ROWS, n));
      output(&c, stat, DIMS(NORM_ROWS, 1)), output(&c, stat, DIMS(NORM_ROWS, 1));
      output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
      must(&c, PARE_OP_ADDNORM);
      for (int i = 0; fused && i < 5; i++) near(&c.out[i], &want[i], 8 + (double)n / 2, name[i]);
      memcpy(want, c.out, sizeof want);
    }
    in_place(&c, PARE_OP_ADDNORM, 0);
  }
}

Test(reduce, folds_every_choice_of_axes_in_every_type) {
#define REDUCERS(X)                                                                  \
  X(REDUCESUM, 0, s + v)                                                             \
  X(REDUCEMEAN, 0, s + v) X(REDUCEPROD, 1, s *v) X(REDUCEMAX, -INFINITY, fmax(s, v)) \
      X(REDUCEMIN, INFINITY, fmin(s, v))
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  const int64_t dim[] = {3, 4, 2, 150};
  EACH_LEVEL(c) for (int mask = 0; mask < 16; mask++) for (int d = 0; d < 5; d++) {
    int64_t kept[4], axes[4], n = 0, each = 1;
    for (int i = 0; i < 4; i++) {
      bool fold = mask >> i & 1;
      kept[i] = fold ? 1 : dim[i];
      if (fold) axes[n++] = i % 2 ? i - 4 : i, each *= dim[i];
    }
#define X(id, start, step)                                                                                            \
  if (pare_dtype_is_float(types[d]) || PARE_OP_##id != PARE_OP_REDUCEMEAN) {                                          \
    clear(&c);                                                                                                        \
    pare_attr_set(&c.attr, noop_with_empty_axes, 1);                                                                  \
    double hi = PARE_OP_##id == PARE_OP_REDUCEPROD ? 1.0078125 : 9, lo = PARE_OP_##id == PARE_OP_REDUCEPROD ? 1 : -9; \
    PareTensor *x = filled(input(&c, types[d], 4, dim), 8, lo, hi), *a = input(&c, PARE_I64, 1, &n);                  \
    for (int64_t i = 0; i < n; i++) put(a, i, (double)axes[i]);                                                       \
    PareTensor *y = output(&c, types[d], 4, kept), want = tensor(&c, PARE_F64, 4, kept);                              \
    must(&c, PARE_OP_##id);                                                                                           \
    for (int64_t i = 0; i < count(&want); i++) put(&want, i, start);                                                  \
    for (int64_t i = 0; i < count(x); i++) {                                                                          \
      int64_t o = broadcast(&want.type, &x->type, i);                                                                 \
      double s = get(&want, o), v = get(x, i);                                                                        \
      put(&want, o, step);                                                                                            \
    }                                                                                                                 \
    for (int64_t i = 0; PARE_OP_##id == PARE_OP_REDUCEMEAN && i < count(&want); i++)                                  \
      put(&want, i, get(&want, i) / (double)each);                                                                    \
    near(y, &want, pare_dtype_is_int(types[d]) ? 0 : types[d] == PARE_F64 ? (double)each : 2, #id);                   \
  }
    REDUCERS(X)
#undef X
  }
}

Test(reduce, of_nothing_gives_the_neutral_element_and_nan_stays) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(2, 0));
    PareTensor *y = output(&c, PARE_F32, DIMS(1, 1));
    const struct {
      PareOp op;
      double want;
    } all[] = {
        {PARE_OP_REDUCESUM, 0}, {PARE_OP_REDUCEPROD, 1}, {PARE_OP_REDUCEMAX, -INFINITY}, {PARE_OP_REDUCEMIN, INFINITY}};
    for (int i = 0; i < 4; i++) {
      must(&c, all[i].op);
      cr_assert_eq(get(y, 0), all[i].want, "op %d: got %g, want %g", (int)all[i].op, get(y, 0), all[i].want);
    }
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, DIMS(77)), 1, 0, 1);
    y = output(&c, PARE_F32, SCALAR);
    put(x, 40, NAN);
    must(&c, PARE_OP_REDUCEMAX);
    cr_assert(isnan(get(y, 0)), "max: got %g", get(y, 0));
    must(&c, PARE_OP_REDUCEMIN);
    cr_assert(isnan(get(y, 0)), "min: got %g", get(y, 0));
  }
}

Test(reduce, cumsum_runs_both_ways) {
  const double want[4][6] = {{1, 3, 6, 4, 9, 15}, {0, 1, 3, 0, 4, 9}, {6, 5, 3, 15, 11, 6}, {5, 3, 0, 11, 6, 0}};
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32};
  EACH_LEVEL(c) for (int mode = 0; mode < 4; mode++) for (int d = 0; d < 5; d++) {
    clear(&c);
    pare_attr_set(&c.attr, exclusive, mode & 1);
    pare_attr_set(&c.attr, reverse, mode >> 1);
    listed(input(&c, types[d], DIMS(2, 3)), LIST(1, 2, 3, 4, 5, 6));
    listed(input(&c, PARE_I64, SCALAR), LIST(-1));
    PareTensor *y = output(&c, types[d], DIMS(2, 3));
    must(&c, PARE_OP_CUMSUM);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(y, i), want[mode][i], "mode %d at %d: got %g", mode, i, get(y, i));
  }
}

/* --- movement --- */
static int64_t drawn(uint64_t key, uint64_t i, int64_t lo, int64_t hi) {
  return lo + (int64_t)(pare_rng_u64(key, i) % (uint64_t)(hi - lo + 1));
}
static const PareDtype sizes[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_U8};
/* Numbers its elements, modulo what one byte holds. */
static PareTensor *numbered(PareTensor *t) {
  for (int64_t i = 0, n = count(t); i < n; i++) put(t, i, (double)(i % 251));
  return t;
}
static void unravel(const PareType *t, int64_t i, int64_t *idx) {
  for (int k = t->rank - 1; k >= 0; k--) idx[k] = i % t->dim[k], i /= t->dim[k];
}
static int64_t ravel(const PareType *t, const int64_t *idx) {
  int64_t i = 0;
  for (int k = 0; k < t->rank; k++) i = i * t->dim[k] + idx[k];
  return i;
}

Test(move, transpose_permutes_random_shapes) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    clear(&c);
    int rank = (int)drawn(k, 0, 0, 5), perm[5] = {0, 1, 2, 3, 4};
    int64_t dim[5], to[5], x_idx[5], y_idx[5];
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, k % 7 ? 1 : 0, rank < 3 ? 70 : 9);
    for (int i = rank - 1; i > 0; i--) {
      int j = (int)drawn(k, 20 + (uint64_t)i, 0, i), t = perm[i];
      perm[i] = perm[j], perm[j] = t;
    }
    c.attr.set |= (uint64_t)1 << PARE_ATTR_perm;
    c.attr.perm.n = rank;
    for (int i = 0; i < rank; i++) c.attr.perm.at[i] = perm[i], to[i] = dim[perm[i]];
    PareTensor *x = numbered(input(&c, sizes[k % 4], rank, dim)), *y = output(&c, sizes[k % 4], rank, to);
    must(&c, PARE_OP_TRANSPOSE);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, y_idx);
      for (int j = 0; j < rank; j++) x_idx[perm[j]] = y_idx[j];
      double want = get(x, ravel(&x->type, x_idx));
      cr_assert_eq(get(y, i), want, "case %" PRIu64 " at %" PRId64 ": got %g, want %g", k, i, get(y, i), want);
    }
  }
}

/* What numpy's x[from:to:step] takes of an axis of d elements, by walking. */
static int64_t walk(int64_t d, int64_t from, int64_t to, int64_t step, int64_t *at) {
  int64_t n = 0;
  if (from < 0) from += d;
  if (to < 0) to += d;
  if (step > 0)
    for (int64_t i = from < 0 ? 0 : from; i < to && i < d; i += step) at[n++] = i;
  else
    for (int64_t i = from >= d ? d - 1 : from; i > to && i >= 0; i += step) at[n++] = i;
  return n;
}

Test(move, slice_reads_and_its_gradient_writes_where_numpy_would) {
  EACH_LEVEL(c) for (uint64_t k = 0; k < 300; k++) {
    clear(&c);
    int rank = (int)drawn(k, 0, 1, 4);
    int64_t dim[4], box[4], at[4][16], idx[4], n = rank;
    for (int i = 0; i < rank; i++) dim[i] = drawn(k, 10 + (uint64_t)i, k % 7 ? 1 : 0, 9);
    PareTensor *x = numbered(input(&c, sizes[k % 4], rank, dim));
    PareTensor *from = input(&c, PARE_I64, 1, &n), *to = input(&c, PARE_I64, 1, &n);
    PareTensor *axes = input(&c, PARE_I32, 1, &n), *step = input(&c, PARE_I64, 1, &n);
    for (int i = 0; i < rank; i++) {
      int axis = rank - 1 - i;
      int64_t s = drawn(k, 20 + (uint64_t)i, 1, 3) * (pare_rng_u64(k, 30 + (uint64_t)i) & 1 ? 1 : -1);
      int64_t f = drawn(k, 40 + (uint64_t)i, -12, 12), t = drawn(k, 50 + (uint64_t)i, -12, 12);
      if (pare_rng_u64(k, 60 + (uint64_t)i) % 4 == 0) f = s > 0 ? 0 : INT64_MAX, t = s > 0 ? INT64_MAX : INT64_MIN;
      ((int64_t *)from->data)[i] = f, ((int64_t *)to->data)[i] = t, ((int64_t *)step->data)[i] = s;
      put(axes, i, i % 2 ? axis : axis - rank);
      box[axis] = walk(dim[axis], f, t, s, at[axis]);
    }
    PareTensor *y = output(&c, sizes[k % 4], rank, box);
    must(&c, PARE_OP_SLICE);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, idx);
      for (int j = 0; j < rank; j++) idx[j] = at[j][idx[j]];
      double want = get(x, ravel(&x->type, idx));
      cr_assert_eq(get(y, i), want, "case %" PRIu64 " at %" PRId64 ": got %g, want %g", k, i, get(y, i), want);
    }
    PareTensor like = c.in[0], want = tensor(&c, sizes[k % 4], rank, dim);
    c.in[0] = *y, c.in[5] = like, c.nin = 6, c.nout = 0;
    PareTensor *dx = output(&c, sizes[k % 4], rank, dim);
    numbered(&c.in[0]);
    memset(dx->data, 1, (size_t)count(dx) * pare_dtype_size(sizes[k % 4]));
    must(&c, PARE_OP_SLICEGRAD);
    for (int64_t i = 0; i < count(&c.in[0]); i++) {
      unravel(&c.in[0].type, i, idx);
      for (int j = 0; j < rank; j++) idx[j] = at[j][idx[j]];
      put(&want, ravel(&want.type, idx), get(&c.in[0], i));
    }
    near(dx, &want, 0, "SliceGrad");
  }
}

Test(move, slice_refuses_bounds_that_do_not_fit_the_planned_shape) {
  EACH_LEVEL(c) {
    input(&c, PARE_F32, DIMS(5));
    listed(input(&c, PARE_I64, DIMS(1)), LIST(1));
    listed(input(&c, PARE_I64, DIMS(1)), LIST(9));
    output(&c, PARE_F32, DIMS(3));
    cr_assert_eq(run(&c, PARE_OP_SLICE), PARE_DATA);
    cr_assert_not_null(c.why);
  }
}

Test(move, concat_and_split_are_inverse) {
  EACH_LEVEL(c) for (int axis = -3; axis < 3; axis++) for (int d = 0; d < 4; d++) {
    clear(&c);
    int64_t dim[3] = {4, 5, 6}, k = axis < 0 ? axis + 3 : axis, part[4] = {1, 0, 3, 0}, at = 0;
    part[3] = dim[k] - 4;
    PareTensor *x = numbered(input(&c, sizes[d], 3, dim)), whole = *x;
    pare_attr_set(&c.attr, axis, axis);
    for (int i = 0; i < 4; i++) {
      int64_t p[3] = {4, 5, 6}, idx[3];
      p[k] = part[i];
      output(&c, sizes[d], 3, p);
      if (i < 3) continue;
      must(&c, PARE_OP_SPLIT);
      for (int j = 0; j < 4; at += part[j++])
        for (int64_t e = 0; e < count(&c.out[j]); e++) {
          unravel(&c.out[j].type, e, idx);
          idx[k] += at;
          cr_assert_eq(get(&c.out[j], e), get(&whole, ravel(&whole.type, idx)), "axis %d part %d at %" PRId64, axis, j,
                       e);
        }
    }
    memcpy(c.in, c.out, sizeof c.in);
    c.nin = 4, c.nout = 0;
    near((must((output(&c, sizes[d], 3, dim), &c), PARE_OP_CONCAT), &c.out[0]), &whole, 0, "Concat");
  }
}

Test(move, gather_takes_negative_indices_and_refuses_others) {
  EACH_LEVEL(c) for (int axis = 0; axis < 3; axis++) for (int d = 0; d < 8; d++) {
    clear(&c);
    int64_t dim[3] = {4, 4, axis == 2 ? 4 : d / 4 ? 720 : 4}, to[4], n = 0, idx[4]; /* long rows are moved in one go */
    pare_attr_set(&c.attr, axis, axis);
    PareTensor *x = numbered(input(&c, sizes[d % 4], 3, dim));
    PareTensor *at = listed(input(&c, d % 2 ? PARE_I32 : PARE_I64, DIMS(2, 3)), LIST(3, -4, 1, -1, 0, 2));
    for (int i = 0; i < 3; i++) {
      if (i == axis)
        to[n++] = 2, to[n++] = 3;
      else
        to[n++] = dim[i];
    }
    PareTensor *y = output(&c, sizes[d % 4], 4, to);
    must(&c, PARE_OP_GATHER);
    for (int64_t i = 0; i < count(y); i++) {
      unravel(&y->type, i, idx);
      double v = get(at, idx[axis] * 3 + idx[axis + 1]);
      int64_t from[3];
      for (int j = 0; j < 3; j++) from[j] = j < axis ? idx[j] : j == axis ? (int64_t)(v < 0 ? v + 4 : v) : idx[j + 1];
      double want = get(x, ravel(&x->type, from));
      cr_assert_eq(get(y, i), want, "axis %d at %" PRId64 ": got %g, want %g", axis, i, get(y, i), want);
    }
    put(at, 4, 4);
    cr_assert_eq(run(&c, PARE_OP_GATHER), PARE_DATA);
    put(at, 4, -5);
    cr_assert_eq(run(&c, PARE_OP_GATHER), PARE_DATA);
  }
}

Test(move, gathers_gradient_is_its_adjoint) {
  EACH_LEVEL(c) for (int axis = 0; axis < 2; axis++) {
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    PareTensor x = *filled(input(&c, PARE_F64, DIMS(5, 70)), 1, -1, 1);
    PareTensor at = *listed(input(&c, PARE_I64, DIMS(4)), LIST(3, 0, 3, -1));
    PareTensor y = axis ? *output(&c, PARE_F64, DIMS(5, 4)) : *output(&c, PARE_F64, DIMS(4, 70)), dy = y;
    must(&c, PARE_OP_GATHER);
    double left = 0, right = 0;
    clear(&c);
    c.in[0] = at, c.in[1] = tensor(&c, PARE_F64, y.type.rank, y.type.dim), c.in[2] = x, c.nin = 3;
    dy = *filled(&c.in[1], 2, -1, 1);
    pare_attr_set(&c.attr, axis, axis);
    PareTensor *dx = output(&c, PARE_F64, DIMS(5, 70));
    must(&c, PARE_OP_GATHERGRAD);
    for (int64_t i = 0; i < count(&y); i++) left += get(&y, i) * get(&dy, i);
    for (int64_t i = 0; i < count(dx); i++) right += get(dx, i) * get(&x, i);
    cr_assert(fabs(left - right) < 1e-10, "<Gx, dy> = %.12g, <x, G'dy> = %.12g", left, right);
  }
}

Test(move, expand_and_sum_to_are_adjoint) {
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
    const Shapes *s = &shapes[k];
    clear(&c);
    PareTensor y = *filled(input(&c, PARE_F64, s->ry, s->y), 1, -1, 1), like = y;
    input(&c, PARE_I64, DIMS(s->rz));
    PareTensor wide = *output(&c, PARE_F64, s->rz, s->z);
    must(&c, PARE_OP_EXPAND);
    for (int64_t i = 0; i < count(&wide); i++) cr_assert_eq(get(&wide, i), get(&y, broadcast(&y.type, &wide.type, i)));
    clear(&c);
    PareTensor *dw = filled(input(&c, PARE_F64, s->rz, s->z), 2, -1, 1);
    c.in[c.nin++] = like;
    PareTensor *sum = output(&c, PARE_F64, s->ry, s->y), want = tensor(&c, PARE_F64, s->ry, s->y);
    must(&c, PARE_OP_SUMTO);
    for (int64_t i = 0; i < count(dw); i++) {
      int64_t o = broadcast(&y.type, &wide.type, i);
      put(&want, o, get(&want, o) + get(dw, i));
    }
    near(sum, &want, 64, "SumTo");
  }
}

Test(move, fills_ranges_and_shapes) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_I64, DIMS(2)), LIST(2, 3));
    listed(input(&c, PARE_F32, DIMS(1)), LIST(1.5));
    PareTensor *y = output(&c, PARE_F32, DIMS(2, 3));
    must(&c, PARE_OP_CONSTANTOFSHAPE);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(y, i), 1.5);
    c.nin = 1;
    must(&c, PARE_OP_CONSTANTOFSHAPE);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(y, i), 0);
    const PareDtype types[] = {PARE_F64, PARE_F32, PARE_I64, PARE_I32};
    for (int d = 0; d < 4; d++) {
      clear(&c);
      listed(input(&c, types[d], SCALAR), LIST(9));
      listed(input(&c, types[d], SCALAR), LIST(2));
      listed(input(&c, types[d], SCALAR), LIST(-3));
      y = output(&c, types[d], DIMS(3));
      must(&c, PARE_OP_RANGE);
      cr_assert(get(y, 0) == 9 && get(y, 1) == 6 && get(y, 2) == 3, "%g %g %g", get(y, 0), get(y, 1), get(y, 2));
    }
    clear(&c);
    input(&c, PARE_F32, DIMS(4, 5, 6));
    pare_attr_set(&c.attr, start, -2);
    y = output(&c, PARE_I64, DIMS(2));
    must(&c, PARE_OP_SHAPE);
    cr_assert(get(y, 0) == 5 && get(y, 1) == 6, "%g %g", get(y, 0), get(y, 1));
  }
}

/* --- gradients against central differences in f64 --- */
/* d(sum of weight·out0)/d(in[k]) of the op as it stands in c, element by element. */
static PareTensor numeric(Call *c, PareOp op, int k, const PareTensor *weight) {
  PareTensor g = tensor(c, PARE_F64, c->in[k].type.rank, c->in[k].type.dim);
  const double h = 1e-5;
  for (int64_t i = 0; i < count(&g); i++) {
    double x = get(&c->in[k], i), sum = 0;
    for (int side = -1; side <= 1; side += 2) {
      put(&c->in[k], i, x + side * h);
      must(c, op);
      for (int64_t j = 0; j < count(&c->out[0]); j++) sum += side * get(&c->out[0], j) * (weight ? get(weight, j) : 1);
    }
    put(&c->in[k], i, x);
    put(&g, i, sum / (2 * h));
  }
  return g;
}
/* Central differences are good to about h² and unit/h: 1e-8 of the greatest gradient. */
static void near_numeric(const PareTensor *got, const PareTensor *want, const char *what) {
  near(got, want, 1e-7 / unit(PARE_F64), what);
}

Test(grad, activations) {
  const struct {
    PareOp op, grad;
    bool from_y;
    int approximate;
    const char *name;
  } all[] = {{PARE_OP_RELU, PARE_OP_RELUGRAD, false, 0, "Relu"},
             {PARE_OP_GELU, PARE_OP_GELUGRAD, false, 0, "Gelu"},
             {PARE_OP_GELU, PARE_OP_GELUGRAD, false, 1, "Gelu tanh"},
             {PARE_OP_ERF, PARE_OP_ERFGRAD, false, 0, "Erf"},
             {PARE_OP_TANH, PARE_OP_TANHGRAD, true, 0, "Tanh"},
             {PARE_OP_SIGMOID, PARE_OP_SIGMOIDGRAD, true, 0, "Sigmoid"},
             {PARE_OP_SOFTMAX, PARE_OP_SOFTMAXGRAD, true, 0, "Softmax"}};
  EACH_LEVEL(c) for (int k = 0; k < 7; k++) for (int axis = 0; axis < 2; axis++) {
    clear(&c);
    pare_attr_set(&c.attr, axis, axis);
    if (all[k].approximate) pare_attr_set(&c.attr, approximate, 1);
    filled(input(&c, PARE_F64, DIMS(3, 40)), 11 + (uint64_t)k, -3, 3);
    output(&c, PARE_F64, DIMS(3, 40));
    PareTensor dy = tensor(&c, PARE_F64, DIMS(3, 40));
    filled(&dy, 12, -1, 1);
    PareTensor want = numeric(&c, all[k].op, 0, &dy);
    must(&c, all[k].op);
    if (all[k].from_y) c.in[0] = c.out[0];
    c.in[1] = dy, c.nin = 2, c.nout = 0;
    output(&c, PARE_F64, DIMS(3, 40));
    must(&c, all[k].grad);
    near_numeric(&c.out[0], &want, all[k].name);
    for (int d = 0; d < 2; d++) { /* the other types against f64 */
      PareTensor f64 = c.out[0], x = c.in[0];
      PareDtype t = d ? PARE_BF16 : PARE_F32;
      Call low = {.arena = c.arena, .kernels = c.kernels, .attr = c.attr};
      PareTensor *lx = input(&low, t, DIMS(3, 40)), *ldy = input(&low, t, DIMS(3, 40));
      for (int i = 0; i < 120; i++) put(lx, i, get(&x, i)), put(ldy, i, get(&dy, i));
      output(&low, t, DIMS(3, 40));
      must(&low, all[k].grad);
      near(&low.out[0], &f64, 16, all[k].name);
    }
  }
}

Test(grad, layernorm) {
  EACH_LEVEL(c) for (int rows = 1; rows < 50; rows += 24) {
    clear(&c);
    filled(input(&c, PARE_F64, DIMS(rows, 20)), 1, -2, 2);
    filled(input(&c, PARE_F64, DIMS(20)), 2, -2, 2);
    filled(input(&c, PARE_F64, DIMS(20)), 3, -2, 2);
    PareTensor dy = tensor(&c, PARE_F64, DIMS(rows, 20));
    filled(&dy, 4, -1, 1);
    for (int i = 0; i < 1; i++) output(&c, PARE_F64, DIMS(rows, 20));
    output(&c, PARE_F64, DIMS(rows, 1)), output(&c, PARE_F64, DIMS(rows, 1));
    PareTensor want[3];
    for (int i = 0; i < 3; i++) want[i] = numeric(&c, PARE_OP_LAYERNORM, i, &dy);
    must(&c, PARE_OP_LAYERNORM);
    c.in[2] = c.out[1], c.in[3] = c.out[2], c.in[4] = dy, c.nin = 5, c.nout = 0;
    output(&c, PARE_F64, DIMS(rows, 20)), output(&c, PARE_F64, DIMS(20)), output(&c, PARE_F64, DIMS(20));
    must(&c, PARE_OP_LAYERNORMGRAD);
    const char *names[] = {"dx", "dgamma", "dbeta"};
    for (int i = 0; i < 3; i++) near_numeric(&c.out[i], &want[i], names[i]);
    PareTensor full = c.out[0];
    c.nout = 0;
    output(&c, PARE_F64, DIMS(rows, 20)); /* dx alone */
    must(&c, PARE_OP_LAYERNORMGRAD);
    near(&c.out[0], &full, 0, "dx alone");
    PareTensor f64[5];
    for (int i = 0; i < 5; i++) f64[i] = c.in[i];
    for (int d = 0; d < 2; d++) {
      PareDtype t = d ? PARE_BF16 : PARE_F32;
      Call low = {.arena = c.arena, .kernels = c.kernels};
      for (int i = 0; i < 5; i++) {
        PareTensor *x = input(&low, i == 2 || i == 3 ? PARE_F32 : t, f64[i].type.rank, f64[i].type.dim);
        for (int64_t j = 0; j < count(x); j++) put(x, j, get(&f64[i], j));
      }
      output(&low, t, DIMS(rows, 20)), output(&low, t, DIMS(20)), output(&low, t, DIMS(20));
      must(&low, PARE_OP_LAYERNORMGRAD);
      near(&low.out[0], &full, 16, "dx");
      near(&low.out[1], &want[1], 16, "dgamma"), near(&low.out[2], &want[2], 16, "dbeta");
    }
  }
}

/* Against the gradient in float64 of the whole dy, to which the rest is added. */
Test(grad, layernorm_takes_its_gradient_in_two_parts_and_adds_to_the_result) {
  enum { X, GAMMA, MEAN, RSTD, DY, DY2, ADDED, DX = 0, DGAMMA, DBETA, LOW };
  static const char *const name[] = {"dx", "dgamma", "dbeta", "low"};
  EACH_LEVEL(c) for (int k = 0; k < NORM_WIDTHS; k++) for (int d = 0; d < 3; d++) for (int mode = 0; mode < 10; mode++) {
    int64_t n = norm_widths[k];
    PareDtype T = norm_types[d], stat = d ? PARE_F32 : PARE_F64;
    int parts = mode / 2; /* dy and dy2: T, T bf16, bf16 T, bf16 bf16, bf16 */
    Call full = {.arena = c.arena, .kernels = c.kernels};
    filled(input(&full, PARE_F64, DIMS(NORM_ROWS, n)), 1, -2, 2), filled(input(&full, PARE_F64, DIMS(n)), 2, -2, 2);
    filled(input(&full, PARE_F64, DIMS(NORM_ROWS, 1)), 3, -1, 1), filled(input(&full, PARE_F64, DIMS(NORM_ROWS, 1)), 4, 0.5, 2);
    PareTensor *dy = input(&full, PARE_F64, DIMS(NORM_ROWS, n));
    clear(&c);
    for (int i = X; i <= RSTD; i++) {
      PareTensor *t = input(&c, i < MEAN ? T : stat, full.in[i].type.rank, full.in[i].type.dim);
      for (int64_t j = 0; j < count(t); j++) put(t, j, get(&full.in[i], j));
    }
    filled(input(&c, parts < 2 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 5, -1, 1);
    if (parts % 4) filled(input(&c, parts == 2 ? T : PARE_BF16, DIMS(NORM_ROWS, n)), 6, -1, 1);
    else left_out(&c);
    if (mode % 2) filled(input(&c, T, DIMS(NORM_ROWS, n)), 7, -3, 3);
    for (int64_t i = 0; i < count(dy); i++) put(dy, i, get(&c.in[DY], i) + (c.in[DY2].data ? get(&c.in[DY2], i) : 0));
    output(&full, PARE_F64, DIMS(NORM_ROWS, n)), output(&full, PARE_F64, DIMS(n)), output(&full, PARE_F64, DIMS(n));
    must(&full, PARE_OP_LAYERNORMGRAD);
    for (int64_t i = 0; i < count(dy) && mode % 2; i++) put(&full.out[DX], i, get(&full.out[DX], i) + get(&c.in[ADDED], i));
    full.out[LOW] = full.out[DX];
    output(&c, T, DIMS(NORM_ROWS, n)), output(&c, T, DIMS(n)), output(&c, T, DIMS(n));
    output(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    must(&c, PARE_OP_LAYERNORMGRAD);
    for (int i = DX; i <= LOW; i++) near(&c.out[i], &full.out[i], i == LOW && d < 2 ? 2 : 16, name[i]);
    in_place(&c, PARE_OP_LAYERNORMGRAD, X), in_place(&c, PARE_OP_LAYERNORMGRAD, DY);
    if (parts % 4) in_place(&c, PARE_OP_LAYERNORMGRAD, DY2);
    if (mode % 2) in_place(&c, PARE_OP_LAYERNORMGRAD, ADDED);
    PareTensor low = c.out[LOW];
    c.out[LOW] = tensor(&c, PARE_BF16, DIMS(NORM_ROWS, n));
    for (int i = DX; i < LOW; i++) c.out[i] = (PareTensor){0};
    must(&c, PARE_OP_LAYERNORMGRAD);
    near(&c.out[LOW], &low, 0, "the copy in bf16 alone");
  }
}

/* --- losses --- */
static double log_softmax(const PareTensor *x, int64_t row, int64_t n, int64_t k, double t) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += exp(get(x, row * n + i) / t);
  return get(x, row * n + k) / t - log(sum);
}

Test(loss, values_follow_their_formulas_and_gradients_central_differences) {
  enum { R = 6, N = 9 };
  const struct {
    PareOp op, grad;
    const char *name;
  } all[] = {{PARE_OP_CROSSENTROPY, PARE_OP_CROSSENTROPYGRAD, "CrossEntropy"},
             {PARE_OP_DISTILL, PARE_OP_DISTILLGRAD, "Distill"},
             {PARE_OP_MSE, PARE_OP_MSEGRAD, "Mse"},
             {PARE_OP_BCE, PARE_OP_BCEGRAD, "Bce"}};
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) {
    clear(&c);
    double T = 2.5, want = 0;
    pare_attr_set(&c.attr, temperature, T);
    PareTensor *x = filled(input(&c, PARE_F64, DIMS(2, R / 2, N)), 1, -3, 3), *t;
    if (k == 0)
      t = listed(input(&c, PARE_I64, DIMS(2, R / 2)), LIST(3, -1, 0, 8, -100, 5));
    else
      t = filled(input(&c, PARE_F64, DIMS(2, R / 2, N)), 2, k == 3 ? 0 : -3, k == 3 ? 1 : 3);
    output(&c, PARE_F64, SCALAR);
    must(&c, all[k].op);
    for (int64_t r = 0; r < R; r++) {
      if (k == 0 && get(t, r) >= 0) want -= log_softmax(x, r, N, (int64_t)get(t, r), 1) / 4;
      for (int64_t i = 0; i < N && k; i++) {
        double a = get(x, r * N + i), b = get(t, r * N + i), lt = log_softmax(t, r, N, i, T);
        if (k == 1) want += T * T / R * exp(lt) * (lt - log_softmax(x, r, N, i, T));
        if (k == 2) want += (a - b) * (a - b) / (R * N);
        if (k == 3) want -= (b * log(1 / (1 + exp(-a))) + (1 - b) * log(1 - 1 / (1 + exp(-a)))) / (R * N);
      }
    }
    cr_assert(fabs(get(&c.out[0], 0) - want) < 1e-12 * fabs(want) * 10, "%s: got %.15g, want %.15g", all[k].name,
              get(&c.out[0], 0), want);
    PareTensor w = tensor(&c, PARE_F64, SCALAR);
    put(&w, 0, 1.75);
    PareTensor g = numeric(&c, all[k].op, 0, &w), f64 = *x;
    c.in[2] = w, c.nin = 3, c.nout = 0;
    output(&c, PARE_F64, DIMS(2, R / 2, N));
    must(&c, all[k].grad);
    near_numeric(&c.out[0], &g, all[k].name);
    for (int d = 0; d < 2; d++) {
      Call low = {.arena = c.arena, .kernels = c.kernels, .attr = c.attr};
      PareDtype type = d ? PARE_BF16 : PARE_F32;
      PareTensor *lx = input(&low, type, DIMS(2, R / 2, N));
      for (int64_t i = 0; i < R * N; i++) put(lx, i, get(&f64, i));
      if (k) {
        PareTensor *lt = input(&low, type, DIMS(2, R / 2, N));
        for (int64_t i = 0; i < R * N; i++) put(lt, i, get(&c.in[1], i));
      } else
        low.in[low.nin++] = c.in[1];
      PareTensor *loss = output(&low, PARE_F32, SCALAR);
      must(&low, all[k].op);
      cr_assert(fabs(get(loss, 0) - want) <= 4e-6 * fabs(want), "%s: got %.9g, want %.9g", all[k].name, get(loss, 0),
                want);
      put(input(&low, PARE_F32, SCALAR), 0, 1.75);
      low.nout = 0;
      PareTensor *dx = output(&low, type, DIMS(2, R / 2, N));
      must(&low, all[k].grad);
      near(dx, &g, 16, all[k].name);
    }
  }
}

Test(loss, a_label_beyond_the_classes_is_an_error_and_none_at_all_is_zero) {
  EACH_LEVEL(c) {
    filled(input(&c, PARE_F32, DIMS(2, 3)), 1, -1, 1);
    PareTensor *label = listed(input(&c, PARE_I64, DIMS(2)), LIST(0, 3)), *loss = output(&c, PARE_F32, SCALAR);
    cr_assert_eq(run(&c, PARE_OP_CROSSENTROPY), PARE_DATA);
    cr_assert_not_null(c.why);
    listed(label, LIST(-1, -1));
    must(&c, PARE_OP_CROSSENTROPY);
    cr_assert_eq(get(loss, 0), 0);
  }
}

/* --- optimiser and criteria --- */
/* After one step from zero moments m̂ = g and v̂ = g², so x becomes x - lr·(g/(|g| + eps) + decay·x). */
Test(optim, adamws_first_step_is_the_sign_of_the_clipped_gradient) {
  EACH_LEVEL(c) for (int d = 0; d < 2; d++) for (int clip = 0; clip < 2; clip++) {
    clear(&c);
    PareDtype t = d ? PARE_F32 : PARE_F64;
    double lr = 0.01, eps = 1e-3, decay = 0.1, max_norm = clip ? 0.5 : 0;
    PareTensor *x = filled(input(&c, t, DIMS(100)), 1, -2, 2), *g = filled(input(&c, t, DIMS(100)), 2, -1, 1);
    input(&c, t, DIMS(100)), input(&c, t, DIMS(100));
    listed(input(&c, PARE_F32, DIMS(8)), LIST(lr, 0.9, 0.999, eps, decay, 1 / (1 - 0.9), 1 / (1 - 0.999), max_norm));
    PareTensor want = tensor(&c, PARE_F64, DIMS(100)), m = tensor(&c, PARE_F64, DIMS(100));
    double squares = 0;
    for (int i = 0; i < 100; i++) squares += get(g, i) * get(g, i);
    put(input(&c, PARE_F32, SCALAR), 0, squares);
    for (int i = 0; i < 100; i++) {
      double gi = get(g, i) * (clip ? max_norm / sqrt(squares) : 1), xi = get(x, i);
      put(&want, i, xi - lr * (gi / (fabs(gi) + eps) + decay * xi));
      put(&m, i, 0.1 * gi);
    }
    must(&c, PARE_OP_ADAMW);
    double factor = 64 * unit(PARE_F32) / unit(t); /* the hyperparameters are f32 */
    near(x, &want, factor, "param");
    near(&c.in[2], &m, factor, "m");
    for (int i = 0; i < 100; i++) cr_assert_eq(get(g, i), 0);
  }
}

Test(optim, sums_of_squares_accumulate_and_ema) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int d = 0; d < 3; d++) {
    clear(&c);
    double want = 0;
    PareTensor *a = filled(input(&c, types[d], DIMS(70000)), 1, -1, 1),
               *b = filled(input(&c, types[d], DIMS(3, 7)), 2, -1, 1);
    for (int64_t i = 0; i < count(a); i++) want += get(a, i) * get(a, i);
    for (int64_t i = 0; i < count(b); i++) want += get(b, i) * get(b, i);
    output(&c, PARE_F32, SCALAR);
    must(&c, PARE_OP_SUMSQUARES);
    cr_assert(fabs(get(&c.out[0], 0) - want) <= 1e-7 * want, "got %.9g, want %.9g", get(&c.out[0], 0), want);
    clear(&c);
    PareTensor *s = filled(input(&c, types[d], DIMS(50)), 1, -1, 1),
               *g = filled(input(&c, types[d], DIMS(50)), 2, -1, 1);
    PareTensor sum = tensor(&c, PARE_F64, DIMS(50));
    for (int i = 0; i < 50; i++) put(&sum, i, get(s, i) + get(g, i));
    must(&c, PARE_OP_ACCUMULATE);
    near(s, &sum, 2, "Accumulate");
    pare_attr_set(&c.attr, alpha, 0.75);
    for (int i = 0; i < 50; i++) put(&sum, i, 0.75 * get(s, i) + 0.25 * get(g, i));
    must(&c, PARE_OP_EMA);
    near(s, &sum, 2, "Ema");
  }
}

#ifndef PARE_TEST_CUDA
/* Weights in a file may lie at odd addresses: with a primitive (f32), and without one. */
Test(matmul, reads_its_right_operand_at_any_address) {
  static const PareDtype types[] = {PARE_F32, PARE_F64, PARE_BF16, PARE_I32, PARE_I64};
  static const PareOp ops[] = {PARE_OP_MATMUL, PARE_OP_GEMM};
  EACH_LEVEL(c) for (int d = 0; d < 5; d++) for (int o = 0; o < 2; o++) {
    clear(&c);
    filled(input(&c, types[d], DIMS(17, 40)), 1, -3, 3);
    PareTensor *w = filled(input(&c, types[d], DIMS(40, 33)), 2, -3, 3), *y = output(&c, types[d], DIMS(17, 33));
    size_t bytes = 40 * 33 * pare_dtype_size(types[d]), out = 17 * 33 * pare_dtype_size(types[d]);
    must(&c, ops[o]);
    char *want = malloc(out), *odd = malloc(bytes + 1);
    memcpy(want, y->data, out);
    w->data = memcpy(odd + 1, w->data, bytes);
    must(&c, ops[o]);
    cr_expect(!memcmp(y->data, want, out), "%s of %s", pare_op_info[ops[o]].name, pare_dtype_name(types[d]));
    free(want), free(odd);
  }
}

Test(fetch, reads_at_any_address_and_leaves_zeros_where_an_index_is_dead) {
  static const int64_t dims[] = {3, 5, 4};
  EACH_LEVEL(c) for (int axis = -1; axis < 3; axis++) {
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, 3, dims), 1, -1, 1), *y = output(&c, PARE_F32, 3, dims);
    PareTensor want = tensor(&c, PARE_F32, 3, dims);
    float odd[61];
    char *at = (char *)odd + 1;
    memcpy(at, x->data, 60 * sizeof(float));
    memcpy(want.data, x->data, 60 * sizeof(float));
    pare_attr_set(&c.attr, axis, axis);
    if (axis >= 0) {
      PareTensor *alive = input(&c, PARE_BOOL, 1, &dims[axis]);
      for (int64_t i = 0; i < dims[axis]; i++) ((bool *)alive->data)[i] = i != 1;
      int64_t inner = axis == 0 ? 20 : axis == 1 ? 4 : 1;
      for (int64_t i = 0; i < 60; i++)
        if (i / inner % dims[axis] == 1) put(&want, i, 0);
    }
    x->data = at;
    must(&c, PARE_OP_FETCH);
    cr_assert(!memcmp(y->data, want.data, 60 * sizeof(float)), "axis %d", axis);
  }
}
#endif

/* --- all --- */
Test(table, empty_tensors_pass_through) {
  EACH_LEVEL(c) {
    const struct {
      PareOp op;
      int nin;
    } like[] = {{PARE_OP_ADD, 2},        {PARE_OP_MAX, 2},       {PARE_OP_GELU, 1},        {PARE_OP_SOFTMAX, 1},
                {PARE_OP_LOGSOFTMAX, 1}, {PARE_OP_GELUGRAD, 2},  {PARE_OP_SOFTMAXGRAD, 2}, {PARE_OP_CONCAT, 2},
                {PARE_OP_SPLIT, 1},      {PARE_OP_TRANSPOSE, 1}, {PARE_OP_CAST, 1},        {PARE_OP_SUMTO, 2}};
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

#ifndef PARE_TEST_CUDA
Test(table, every_row_that_promises_a_kernel_has_one_at_every_level) {
  for (int l = 0; level(l); l++) {
#define KIND_CPU true
#define KIND_VIEW false
#define KIND_NONE false
#define OP(id, name, domain, in_lo, in_hi, out_lo, out_hi, infer, grad, cost, cut, want, rows, kernel, writes) \
  cr_assert_eq(level(l)[PARE_OP_##id].run != NULL, KIND_##kernel, "%s at level %d", name, l);
#include "ir/ops.def"
#undef OP
  }
}
#endif

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
