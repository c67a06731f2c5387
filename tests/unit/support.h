/* support.h - what several suites share: a context, fixtures, models made by
 * hand, random inputs, runs, and the one place of all tolerances. */
#ifndef PARE_TESTS_SUPPORT_H
#define PARE_TESTS_SUPPORT_H

#include <onnx.pb-c.h>

#include "frontend/model.h"
#include "kernels/kernel.h"
#include "runtime/program.h"

typedef struct Fix {
  PareCtx c;
  PareArena *arena;
} Fix;

void fix_init(Fix *f);
void fix_free(Fix *f);
/* The recorded failure as "file: node 'n' (Op): text". Lives in the arena. */
const char *fix_why(Fix *f);
/* Forgets a failure that a test has provoked. */
void fix_forget(Fix *f);
/* A graph in text of n small steps in phases 0 and 1, some of which write states that others read; three results of
 * `width` numbers and all of the states %s0, %s1 .. are its outputs. A function of seed alone. */
char *random_steps(Fix *f, uint64_t seed, int n, int width);
/* Fails the test unless s is PARE_OK. */
#define MUST(f, s) cr_assert_eq((s), PARE_OK, "%s", fix_why(f))
PareGraph *fix_parse(Fix *f, const char *text);
/* An empty folder of this test's own; fix_free leaves it, dir_remove does not. */
char *dir_make(Fix *f);
void dir_remove(const char *dir);
/* printf into the arena. */
__attribute__((format(printf, 2, 3))) char *fmt(Fix *f, const char *format, ...);

/* --- fixtures: real models, in PARE_FIXTURES or beside the sources --- */

typedef struct Row {
  const char *name, *path; /* of the .onnx file */
  char set;                /* 'A': every head and ffn can be cut; 'B': may be refused */
  int layers, heads, ffn;  /* per layer; 0: the index does not say */
} Row;

/* The rows of INDEX.tsv that are models of this set (0: of any). Skips the test when there is no index. */
size_t fixtures(Fix *f, char set, Row **rows);
/* The fixture's path; skips the test when it is not there. */
const char *fixture(Fix *f, const char *name);
/* A folder among the fixtures; skips likewise. */
const char *fixture_dir(Fix *f, const char *name);
/* Ends the test, saying why it could not run. */
void skip(const char *why);

/* --- models made by hand --- */

Onnx__ModelProto *onnx_model(Fix *f, int64_t opset);
/* Names separated by one space; "_" is an input or output that is left out. */
Onnx__NodeProto *onnx_node(Fix *f, Onnx__ModelProto *m, const char *op, const char *name, const char *inputs,
                           const char *outputs);
Onnx__AttributeProto *onnx_attr(Fix *f, Onnx__NodeProto *n, const char *name, Onnx__AttributeProto__AttributeType type);
void onnx_attr_int(Fix *f, Onnx__NodeProto *n, const char *name, int64_t v);
void onnx_attr_ints(Fix *f, Onnx__NodeProto *n, const char *name, int count, const int64_t *v);
void onnx_attr_tensor(Fix *f, Onnx__NodeProto *n, const char *name, Onnx__TensorProto *t);
/* A tensor with raw data, which is copied; bytes 0 leaves the data to the caller. */
Onnx__TensorProto *onnx_tensor(Fix *f, const char *name, int32_t dtype, int rank, const int64_t *dims,
                               const void *raw, size_t bytes);
void onnx_initializer(Fix *f, Onnx__ModelProto *m, Onnx__TensorProto *t);
/* A dim of -1 is written as the name "batch". */
void onnx_input(Fix *f, Onnx__ModelProto *m, const char *name, int32_t dtype, int rank, const int64_t *dims);
void onnx_output(Fix *f, Onnx__ModelProto *m, const char *name, int32_t dtype, int rank, const int64_t *dims);
void onnx_meta(Fix *f, Onnx__ModelProto *m, const char *key, const char *value);
uint8_t *onnx_pack(Fix *f, const Onnx__ModelProto *m, size_t *len);
void write_file(const char *path, const void *p, size_t n);
void *read_file(Fix *f, const char *path, size_t *n);

#define DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}

/* --- runs --- */

/* Uniform in [-1, 1) for floats, small positive numbers for integers, a function of seed alone. */
void fill_random(const PareType *t, void *data, uint64_t seed);
/* The model's own inputs (not those named "pare."): random, masks that hide the last place, token
 * types of zeros. */
void fill_inputs(PareProgram *p, const PareGraph *g);
/* Binds a clone of g, every dynamic axis to sizes[its place among the names, modulo nsizes]. */
PareGraph *bound_at(Fix *f, const PareGraph *g, int nsizes, const int64_t *sizes);
/* How many nodes are of this op. */
int count_nodes(const PareGraph *g, PareOp op);
/* Runs a bound graph; outputs in the arena. Inputs are random; what is named "mask" is one but for
 * the last place of each row, "type" is zero. */
PareTensor *run_graph(Fix *f, const PareGraph *g, uint64_t seed);

/* --- tolerances --- */

/* max|a - b| / max|a|; 0 where both are all zero, infinite where a type differs or one alone is NaN. */
double distance(const PareTensor *a, const PareTensor *b);
/* How far two runs of the same mathematics may be apart (distance): the sums of one leave out zeros that
 * the other adds, so they round differently. A sum of K terms in float errs by about sqrt(K)·u
 * (Higham, Accuracy and Stability, 2.6 and 4.2), u = 2^-24; errors of sums one after another add up.
 * Where one of the two stores results in f16 or bf16, each adds one rounding to that type. */
double rounding_tolerance(const PareGraph *bound);
/* ONNX's own test runner: |a - b| <= atol + rtol·|b| with rtol 1e-3, atol 1e-7 in float and double, wider where
 * the type has fewer digits; integers are equal. Fills *worst with the index that is furthest out. */
bool conforms(const PareTensor *got, const PareTensor *want, int64_t *worst);
double element(const PareTensor *t, int64_t i);

#endif
