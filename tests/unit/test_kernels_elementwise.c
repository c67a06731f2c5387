/* test_kernels_elementwise.c - kernels of one element at a time, and broadcasting (kernel_call.h: at every level of the
 * instruction set, or on a GPU). Truth comes from formulas in double; of vmath.h, from libm. */
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
  X(ROUND, nearbyint(x), -4, 4)        \
  X(TAN, tan(x), -1, 1)                \
  X(ASIN, asin(x), -0.9, 0.9)          \
  X(ACOS, acos(x), -0.9, 0.9)          \
  X(ATAN, atan(x), -4, 4)              \
  X(SINH, sinh(x), -3, 3)              \
  X(COSH, cosh(x), -3, 3)              \
  X(ASINH, asinh(x), -4, 4)            \
  X(ACOSH, acosh(x), 1.1, 9)           \
  X(ATANH, atanh(x), -0.9, 0.9)        \
  X(SOFTPLUS, log1p(exp(x)), -8, 8)    \
  X(SOFTSIGN, x / (1 + fabs(x)), -4, 4) \
  X(HARDSWISH, x * fmax(0, fmin(1, x / 6 + 0.5)), -5, 5) \
  X(MISH, x * tanh(log1p(exp(x))), -4, 4) \
  X(SIGN, (x > 0) - (x < 0), -4, 4)    \
  X(LEAKYRELU, x < 0 ? 0.01 * x : x, -4, 4) \
  X(ELU, x < 0 ? expm1(x) : x, -4, 4)  \
  X(SELU, 1.05070102214813232 * (x < 0 ? 1.67326319217681885 * expm1(x) : x), -4, 4) \
  X(CELU, x < 0 ? expm1(x) : x, -4, 4) \
  X(HARDSIGMOID, fmax(0, fmin(1, 0.2 * x + 0.5)), -4, 4) \
  X(THRESHOLDEDRELU, x > 1 ? x : 0, -4, 4) \
  X(SHRINK, fabs(x) > 0.5 ? x : 0, -4, 4) \
  X(SWISH, x / (1 + exp(-x)), -8, 8)   \
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
  X(MOD, x - floor(x / y) * y, 0)          \
  X(PRELU, x < 0 ? x * y : x, 0)           \
  X(EQUAL, x == y, 1)                      \
  X(LESS, x < y, 1)                        \
  X(LESSEQ, x <= y, 1)                     \
  X(GREATER, x > y, 1)                     \
  X(GREATEREQ, x >= y, 1)
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32, PARE_I16, PARE_I8};
  EACH_LEVEL(c) for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) for (int d = 0; d < 7; d++) {
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

/* All pairs of bytes, with C's own integers as the truth. */
Test(eltwise, binary_ops_of_bytes_wrap_around) {
#define BYTES(X)                                                     \
  X(ADD, x + y)                                                      \
  X(SUB, x - y)                                                      \
  X(MUL, x *y)                                                       \
  X(DIV, x / y)                                                      \
  X(MOD, x % y + (x % y != 0 && (x < 0) != (y < 0) ? y : 0))         \
  X(PRELU, x < 0 ? x * y : x)                                        \
  X(MIN, x < y ? x : y)                                              \
  X(MAX, x > y ? x : y)                                              \
  X(BITAND, x &y)                                                    \
  X(BITOR, x | y)                                                    \
  X(BITXOR, x ^ y)                                                   \
  X(BITSHIFT, y < 0 || y > 7 ? 0 : (int)((unsigned)x << y))
  EACH_LEVEL(c) for (int is_signed = 0; is_signed < 2; is_signed++) {
    PareDtype d = is_signed ? PARE_I8 : PARE_U8;
    clear(&c);
    PareTensor *a = input(&c, d, DIMS(1 << 16)), *b = input(&c, d, DIMS(1 << 16)), *z = output(&c, d, DIMS(1 << 16));
    uint8_t *first = a->data, *second = b->data, *got = z->data;
    for (int i = 0; i < 1 << 16; i++) first[i] = (uint8_t)i, second[i] = (uint8_t)(i >> 8 ? i >> 8 : 1);
#define X(id, formula)                                                                              \
  must(&c, PARE_OP_##id);                                                                           \
  for (int i = 0; i < 1 << 16; i++) {                                                               \
    int x = is_signed ? (int8_t)first[i] : first[i], y = is_signed ? (int8_t)second[i] : second[i]; \
    uint8_t want = (uint8_t)(formula);                                                              \
    cr_assert_eq(got[i], want, #id " of %d and %d: got %d, want %d", x, y, got[i], want);           \
  }
    BYTES(X)
#undef X
  }
}

/* Above 2^63, where a number is not its signed self. */
Test(eltwise, the_widest_integers_have_no_sign) {
  const uint64_t x = UINT64_C(1) << 63 | 5, y = 3;
  EACH_LEVEL(c) {
    const struct { PareOp op; uint64_t want; } all[] = {{PARE_OP_DIV, x / y}, {PARE_OP_MOD, x % y}, {PARE_OP_MIN, y},
                                                        {PARE_OP_MAX, x}, {PARE_OP_ADD, x + y}, {PARE_OP_PRELU, x}};
    clear(&c);
    *(uint64_t *)input(&c, PARE_U64, DIMS(1))->data = x;
    *(uint64_t *)input(&c, PARE_U64, DIMS(1))->data = y;
    PareTensor *z = output(&c, PARE_U64, DIMS(1));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
      must(&c, all[i].op);
      uint64_t got = *(uint64_t *)z->data;
      cr_assert_eq(got, all[i].want, "%s: got %" PRIu64 ", want %" PRIu64, pare_op_info[all[i].op].name, got, all[i].want);
    }
    z->type.dtype = PARE_BOOL;
    must(&c, PARE_OP_LESS);
    cr_assert_eq(*(uint8_t *)z->data, 0);
  }
}

/* Bounds of any type of numbers, one, both or none, and a lower one above the upper one. */
Test(eltwise, clip_holds_to_the_bounds_that_are_given) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16, PARE_I64, PARE_I32, PARE_I8};
  EACH_LEVEL(c) for (int d = 0; d < 6; d++) for (int mode = 0; mode < 5; mode++) {
    double lo = mode == 4 ? 3 : -2, hi = mode == 4 ? 1 : 2;
    clear(&c);
    PareTensor *x = filled(input(&c, types[d], DIMS(101)), 3, -5, 5), *z = like(&c, x);
    if (mode & 1 || mode == 4) listed(input(&c, types[d], SCALAR), &lo);
    else left_out(&c);
    if (mode & 2 || mode == 4) listed(input(&c, types[d], SCALAR), &hi);
    must(&c, PARE_OP_CLIP);
    for (int i = 0; i < 101; i++) {
      double want = get(x, i);
      if ((mode & 1 || mode == 4) && want < lo) want = lo;
      if ((mode & 2 || mode == 4) && want > hi) want = hi;
      cr_assert_eq(get(z, i), want, "mode %d at %d: got %g, want %g", mode, i, get(z, i), want);
    }
  }
}

Test(eltwise, expand_and_sum_to_are_adjoint) {
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

Test(cast, like_takes_the_other_operands_type) {
  EACH_LEVEL(c) {
    listed(input(&c, PARE_F32, DIMS(4)), LIST(-1.5, 2.75, 300, NAN));
    input(&c, PARE_I8, DIMS(0));
    PareTensor *z = output(&c, PARE_I8, DIMS(4));
    const double want[] = {-1, 2, 127, 0};
    must(&c, PARE_OP_CASTLIKE);
    for (int i = 0; i < 4; i++) cr_assert_eq(get(z, i), want[i], "at %d: got %g, want %g", i, get(z, i), want[i]);
  }
}

/* --- quantisation: scales are powers of two, so that halves come up and all float types hold what is made --- */
static const struct {
  PareDtype d;
  double lo, hi;
} small[] = {
    {PARE_I8, -128, 127}, {PARE_U8, 0, 255}, {PARE_I16, -32768, 32767}, {PARE_U16, 0, 65535}, {PARE_I32, 0, 0}};
static double clamped(double v, double lo, double hi) { return v > lo ? v < hi ? v : hi : lo; }
static const int64_t quantized[][3] = {{3, 4, 5}, {70, 4, 33}, {3, 4, 0}, {1, 4, 1}};

/* Scale, and zero point unless it is left out: one, or one for each of the 4 indices of axis 1. */
static void scaled(Call *c, PareDtype d, bool several, bool zero, bool same) {
  int64_t n = 4;
  if (several) pare_attr_set(&c->attr, axis, same ? 1 : -2);
  listed(input(c, PARE_F32, several, &n), LIST(0.5, 0.25, 2, 0.125));
  if (zero) listed(input(c, d, several, &n), LIST(3, 0, 100, 7));
}
static double of_index(const PareTensor *t, int64_t inner, int64_t i) {
  return get(t, count(t) == 1 ? 0 : i / inner % count(t));
}

Test(quantize, rounds_half_to_even_and_clamps) {
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) for (int d = 0; d < 4; d++) for (int mode = 0; mode < 4; mode++) {
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, 3, quantized[k]), 1, -40, 40);
    PareTensor *y = output(&c, small[d].d, 3, quantized[k]);
    static const double odd[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, 0.25, -0.25, 0.75};
    for (int i = 0; i < 8 && count(x) > 8; i++) put(x, 3 * i, odd[i]);
    scaled(&c, small[d].d, mode & 1, mode & 2, d & 1);
    must(&c, PARE_OP_QUANTIZELINEAR);
    for (int64_t i = 0; i < count(x); i++) {
      double zero = mode & 2 ? of_index(&c.in[2], quantized[k][2], i) : 0;
      double want = clamped(rint(get(x, i) / of_index(&c.in[1], quantized[k][2], i)) + zero, small[d].lo, small[d].hi);
      cr_assert_eq(get(y, i), want, "%g to %s: got %g, want %g", get(x, i), pare_dtype_name(small[d].d), get(y, i),
                   want);
    }
  }
}

Test(quantize, dequantizes) {
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) for (int d = 0; d < 5; d++) for (int mode = 0; mode < 4; mode++) {
    clear(&c);
    PareTensor *x = filled(input(&c, small[d].d, 3, quantized[k]), 1, 0, 127);
    PareTensor *y = output(&c, PARE_F32, 3, quantized[k]);
    for (int64_t i = 0; i < count(x) && small[d].hi != 0; i += 3) put(x, i, i % 2 ? small[d].lo : small[d].hi);
    scaled(&c, small[d].d, mode & 1, mode & 2, d & 1);
    must(&c, PARE_OP_DEQUANTIZELINEAR);
    for (int64_t i = 0; i < count(x); i++) {
      double zero = mode & 2 ? of_index(&c.in[2], quantized[k][2], i) : 0;
      double want = (get(x, i) - zero) * of_index(&c.in[1], quantized[k][2], i);
      cr_assert_eq(get(y, i), want, "%g of %s: got %g, want %g", get(x, i), pare_dtype_name(small[d].d), get(y, i),
                   want);
    }
  }
}

Test(quantize, scale_comes_from_the_extremes_and_zero) {
  static const double range[][2] = {{-3, 5}, {1, 5}, {-5, -1}, {0, 0}};
  static const int64_t sizes[] = {0, 1, 7, 5000, 70000};
  EACH_LEVEL(c) for (int k = 0; k < 5; k++) for (int r = 0; r < 4; r++) for (int nan = 0; nan < 2; nan++) {
    clear(&c);
    PareTensor *x = filled(input(&c, PARE_F32, DIMS(sizes[k])), 1, range[r][0], range[r][1]);
    PareTensor *y = output(&c, PARE_U8, DIMS(sizes[k])), *s = output(&c, PARE_F32, SCALAR);
    PareTensor *z = output(&c, PARE_U8, SCALAR);
    float lo = 0, hi = 0;
    if (nan && sizes[k]) put(x, sizes[k] / 2, NAN);
    for (int64_t i = 0; i < sizes[k]; i++) lo = fminf(lo, (float)get(x, i)), hi = fmaxf(hi, (float)get(x, i));
    float scale = hi > lo ? (hi - lo) / 255 : 1, zero = rintf(-lo / scale);
    must(&c, PARE_OP_DYNAMICQUANTIZELINEAR);
    cr_assert_eq(get(s, 0), (double)scale, "scale: got %g, want %g", get(s, 0), (double)scale);
    cr_assert_eq(get(z, 0), (double)zero, "zero point: got %g, want %g", get(z, 0), (double)zero);
    for (int64_t i = 0; i < sizes[k]; i++) {
      double want = clamped((double)(rintf((float)get(x, i) / scale) + zero), 0, 255);
      cr_assert_eq(get(y, i), want, "%g: got %g, want %g", get(x, i), get(y, i), want);
    }
  }
}

Test(quantize, fake_stays_a_float_and_its_mask_is_0_where_it_clamps) {
  const PareDtype types[] = {PARE_F64, PARE_F32, PARE_BF16};
  EACH_LEVEL(c) for (int k = 0; k < 4; k++) for (int t = 0; t < 3; t++) for (int mode = 0; mode < 16; mode++) {
    clear(&c);
    bool mask = mode & 1, rounds = !(mode & 2), several = mode & 4;
    int d = mode >> 3;
    const double scale[] = {0.5, 0.25, 2, 0.125}, zero[] = {3, 0, 100, 7};
    pare_attr_set(&c.attr, output_dtype, small[d].d);
    if (!rounds) pare_attr_set(&c.attr, unrounded, 1);
    PareTensor *x = filled(input(&c, types[t], 3, quantized[k]), 1, -80, 80);
    if (several) listed(input(&c, types[t], DIMS(4, 1)), scale), listed(input(&c, types[t], DIMS(4, 1)), zero);
    else listed(input(&c, types[t], SCALAR), scale), listed(input(&c, types[t], SCALAR), zero);
    PareTensor *y = output(&c, types[t], 3, quantized[k]);
    must(&c, mask ? PARE_OP_QUANTIZEMASK : PARE_OP_FAKEQUANTIZE);
    for (int64_t i = 0; i < count(x); i++) {
      int64_t j = several ? i / quantized[k][2] % 4 : 0;
      double q = get(x, i) / scale[j], v = (rounds ? rint(q) : q) + zero[j], in = clamped(v, small[d].lo, small[d].hi);
      double want = mask ? v == in : (in - zero[j]) * scale[j];
      cr_assert_eq(get(y, i), want, "%g in mode %d: got %g, want %g", get(x, i), mode, get(y, i), want);
    }
  }
}
