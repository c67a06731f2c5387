/* test_kernels_training.c - gradients, losses, AdamW and what criteria add up (kernel_call.h). Truth comes from central
 * differences in f64 and from formulas. */
#include "kernel_call.h"

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
