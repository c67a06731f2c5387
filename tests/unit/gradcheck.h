/* gradcheck.h - what suites of gradient rules share: graphs of one op made by hand and
 * the judge, central differences of the forward pass in float64. */
#ifndef PARE_TESTS_GRADCHECK_H
#define PARE_TESTS_GRADCHECK_H

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>

#include "base/rng.h"
#include "passes/autodiff.h"
#include "runtime/program.h"

enum { MAX_WRT = 8 };

typedef struct Fix {
  PareCtx c;
  PareArena *arena;
  PareGraph *g;
  PareValue *wrt[MAX_WRT];
  size_t nwrt;
  uint64_t drawn;
} Fix;

static inline void fix_init(Fix *f) {
  *f = (Fix){0};
  cr_assert(pare_ctx_init(&f->c, NULL, 0));
  f->arena = pare_arena_new(1 << 14);
  f->g = pare_graph_new(&f->c, f->arena);
  cr_assert(f->g != NULL);
}

static inline void fix_free(Fix *f) {
  pare_arena_free(f->arena);
  pare_ctx_free(&f->c);
}

static inline PareValue *must(Fix *f, PareValue *v) {
  cr_assert(v != NULL, "node '%s' (%s): %s", f->c.diag.node, f->c.diag.op, f->c.diag.text);
  return v;
}

/* Numbers of magnitude 0.2 to 1.7: away from kinks and poles; signed or not. */
static inline double *draw(Fix *f, size_t n, bool positive) {
  double *x = PARE_NEW_N(f->arena, n, double);
  for (size_t i = 0; i < n; i++) {
    x[i] = 0.2 + 1.5 * pare_rng_uniform(7, f->drawn++);
    if (!positive && pare_rng_u64(11, f->drawn) & 1) x[i] = -x[i];
  }
  return x;
}

static inline PareType type_of(PareDtype d, int rank, const int64_t *dim) {
  PareType t = {.dtype = d, .rank = rank};
  for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
  return t;
}

static inline PareValue *state(Fix *f, bool positive, int rank, const int64_t *dim) {
  PareType t = type_of(PARE_F64, rank, dim);
  PareValue *v = must(f, pare_value_add(&f->c, f->g, PARE_STATE, "x", t));
  v->data = draw(f, (size_t)pare_type_count(&t), positive);
  cr_assert(f->nwrt < MAX_WRT);
  return f->wrt[f->nwrt++] = v;
}

static inline PareValue *constant(Fix *f, int rank, const int64_t *dim) {
  PareType t = type_of(PARE_F64, rank, dim);
  return must(f, pare_const_add(&f->c, f->g, "k", t, draw(f, (size_t)pare_type_count(&t), false)));
}

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__}
/* A differentiated tensor, a positive one, a constant, a constant list of integers, a number. */
#define S(...) state(f, false, DIMS(__VA_ARGS__))
#define P(...) state(f, true, DIMS(__VA_ARGS__))
#define K(...) constant(f, DIMS(__VA_ARGS__))
#define INTS(...) must(f, pare_const_ints(&f->c, f->g, "i", DIMS(__VA_ARGS__)))
#define NUM(x) must(f, pare_const_float(&f->c, f->g, "n", PARE_F64, (x)))
#define SCALAR() state(f, false, 0, NULL)
/* One node without attributes, and one with those that `attr` was given before. */
#define N(op, ...) must(f, PARE_EMIT(&f->c, f->g, NULL, PARE_OP_##op, #op, NULL, __VA_ARGS__))
#define NA(op, ...) must(f, PARE_EMIT(&f->c, f->g, NULL, PARE_OP_##op, #op, &attr, __VA_ARGS__))

typedef PareValue *BuildFn(Fix *f);
typedef struct Case {
  const char *name;
  BuildFn *build;
} Case;
/* Defines a build function; `attr` is at hand. */
#define CASE(name) static PareValue *name(Fix *f)

/* --- the judge --- */

/* loss = Σ y·r with r random, so that no two elements of y count the same. */
static inline PareValue *weigh(Fix *f, PareValue *y) {
  PareValue *r = constant(f, y->type.rank, y->type.dim);
  PareAttrs attr = {0};
  pare_attr_set(&attr, keepdims, 0);
  PareValue *p = N(MUL, y, r);
  return y->type.rank ? NA(REDUCESUM, p) : p;
}

static inline double run_loss(Fix *f, PareProgram *p, const PareValue *loss) {
  cr_assert_eq(pare_program_run(&f->c, p, -1), PARE_OK, "node '%s' (%s): %s", f->c.diag.node, f->c.diag.op,
               f->c.diag.text);
  return *(const double *)pare_program_buffer(p, loss);
}

/* Central differences err by h²·f'''/6 + eps·|f|/h; h = cbrt(eps)·|x| balances both at
 * eps^(2/3). 1000 stands for third derivatives (poles at 0.2) and for sums. */
static inline double tolerance(double loss, double grad) {
  return 1000 * pow(DBL_EPSILON, 2.0 / 3) * (1 + fabs(loss) + fabs(grad));
}

static inline void compare(Fix *f, const char *name, PareProgram *p, const PareValue *loss, size_t w, const double *grad) {
  double *x = pare_program_buffer(p, f->wrt[w]);
  for (int64_t i = 0; i < pare_type_count(&f->wrt[w]->type); i++) {
    double at = x[i], h = cbrt(DBL_EPSILON) * fmax(1, fabs(at));
    x[i] = at + h;
    double up = run_loss(f, p, loss);
    x[i] = at - h;
    double down = run_loss(f, p, loss);
    x[i] = at;
    double want = (up - down) / (2 * h), got = grad ? grad[i] : 0;
    cr_expect(fabs(got - want) <= tolerance(up, want), "%s: d/d(input %zu)[%lld] is %.12g, differences say %.12g", name,
              w, (long long)i, got, want);
  }
}

static inline void check(const Case *cs) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareValue *loss = weigh(f, cs->build(f)), *dloss = NUM(1), *grad[MAX_WRT], *pin[MAX_WRT + 1] = {loss};
  cr_assert_eq(pare_autodiff(&f->c, f->g, loss, dloss, f->nwrt, f->wrt, grad), PARE_OK, "%s: node '%s' (%s): %s",
               cs->name, f->c.diag.node, f->c.diag.op, f->c.diag.text);
  cr_assert_eq(pare_graph_verify(&f->c, f->g), PARE_OK, "%s: %s", cs->name, f->c.diag.text);
  size_t npins = 1;
  for (size_t i = 0; i < f->nwrt; i++)
    if (grad[i]) pin[npins++] = grad[i];
  PareProgram *p;
  cr_assert_eq(pare_program_new_pinned(&f->c, f->g, pare_cpu_kernels(), npins, pin, &p), PARE_OK, "%s: %s", cs->name,
               f->c.diag.text);
  run_loss(f, p, loss);
  double *copy[MAX_WRT] = {0};
  for (size_t i = 0; i < f->nwrt; i++) {
    if (!grad[i]) continue;
    cr_assert(pare_type_equal(&grad[i]->type, &f->wrt[i]->type), "%s: gradient %zu has another type", cs->name, i);
    size_t n = (size_t)pare_type_count(&grad[i]->type);
    copy[i] = pare_arena_grow(f->arena, pare_program_buffer(p, grad[i]), n, n, sizeof(double));
  }
  for (size_t i = 0; i < f->nwrt; i++) compare(f, cs->name, p, loss, i, copy[i]);
  pare_program_free(p);
  fix_free(f);
}

#define CHECK_ALL(cases) \
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check(&cases[i])
#define ROW(name) {#name, name}

#endif
