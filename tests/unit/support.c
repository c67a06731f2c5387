/* support.c - helpers of the suites; every one ends the test when it cannot do
 * its work. */
#define _XOPEN_SOURCE 700 /* nftw */
#include "support.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/rng.h"
#include "ir/text.h"
#include "passes/bind_shapes.h"

void fix_init(Fix *f) {
  cr_assert(pare_ctx_init(&f->c, NULL, 0));
  f->arena = pare_arena_new(1 << 16);
  cr_assert_not_null(f->arena);
}

void fix_free(Fix *f) {
  pare_arena_free(f->arena);
  pare_ctx_free(&f->c);
}

static void *need(void *p) {
  cr_assert(p != NULL, "out of memory");
  return p;
}
#define NEW(f, n, T) ((T *)need(pare_arena_alloc((f)->arena, (size_t)(n), sizeof(T))))

const char *fix_why(Fix *f) {
  const PareDiag *d = &f->c.diag;
  return fmt(f, "%s: node '%s' (%s): %s", d->file, d->node, d->op, d->text);
}

void fix_forget(Fix *f) { f->c.diag = (PareDiag){0}; }

PareGraph *fix_parse(Fix *f, const char *text) {
  PareGraph *g = NULL;
  PareStatus s = pare_text_parse(&f->c, f->arena, text, &g);
  cr_assert_eq(s, PARE_OK, "%s\n%s", fix_why(f), text);
  return g;
}

char *fmt(Fix *f, const char *format, ...) {
  va_list v;
  va_start(v, format);
  int n = vsnprintf(NULL, 0, format, v);
  va_end(v);
  char *s = NEW(f, n + 1, char);
  va_start(v, format);
  vsnprintf(s, (size_t)n + 1, format, v);
  va_end(v);
  return s;
}

enum { STEP_STATES = 4 };

/* An input, a state or one of the last results; those of view steps show others' memory. */
static const char *random_operand(Fix *f, uint64_t seed, uint64_t at, int results) {
  uint64_t u = pare_rng_u64(seed, at) % 16;
  if (results && u < 11) return fmt(f, "%%v%d", results - 1 - (int)(pare_rng_u64(seed, at + 1) % (uint64_t)results) % 6);
  return u < 15 ? fmt(f, "%%s%d", (int)(u % STEP_STATES)) : "%x";
}

char *random_steps(Fix *f, uint64_t seed, int n, int width) {
  static const char *const binary[] = {"Add", "Mul", "Add"}, *const unary[] = {"Tanh", "Identity"};
  char *text = fmt(f, "input %%x : f32[%d]\n", width);
  int results = 0;
  for (int i = 0; i < STEP_STATES; i++) text = fmt(f, "%sstate %%s%d : f32[%d] = random(%d)\n", text, i, width, i + 1);
  for (int i = 0; i < n; i++) {
    uint64_t at = 8 * (uint64_t)i, kind = pare_rng_u64(seed, at) % 7;
    const char *a = random_operand(f, seed, at + 1, results), *b = random_operand(f, seed, at + 3, results);
    const char *state = fmt(f, "%%s%d", (int)(pare_rng_u64(seed, at + 5) % STEP_STATES));
    const char *phase = i < n / 2 ? "" : " @1";
    if (kind < 3) text = fmt(f, "%s%%v%d = %s(%s, %s)%s\n", text, results++, binary[kind], a, b, phase);
    else if (kind < 5) text = fmt(f, "%s%%v%d = %s(%s)%s\n", text, results++, unary[kind - 3], a, phase);
    else if (kind == 5) text = fmt(f, "%spare.Accumulate(%s, %s)%s\n", text, state, b, phase);
    else text = fmt(f, "%spare.Ema(%s, %s) {alpha=0.5}%s\n", text, state, b, phase);
  }
  for (int i = 0; i < 3; i++) text = fmt(f, "%soutput %%v%d\n", text, results - 1 - i);
  for (int i = 0; i < STEP_STATES; i++) text = fmt(f, "%soutput %%s%d\n", text, i);
  return text;
}

char *dir_make(Fix *f) {
  char *dir = fmt(f, "%s/XXXXXX", PARE_TEST_TMP);
  cr_assert(mkdtemp(dir), "no folder can be made in %s", PARE_TEST_TMP);
  return dir;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
  (void)st, (void)type, (void)at;
  return remove(path);
}
void dir_remove(const char *dir) { nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

void write_file(const char *path, const void *p, size_t n) {
  FILE *o = fopen(path, "wb");
  cr_assert(o, "cannot write %s", path);
  cr_assert(fwrite(p, 1, n, o) == n);
  cr_assert(fclose(o) == 0);
}

void *read_file(Fix *f, const char *path, size_t *n) {
  PareFile file;
  MUST(f, pare_file_map(&f->c, path, &file));
  char *p = NEW(f, file.len + 1, char);
  if (file.len) memcpy(p, file.data, file.len);
  *n = file.len;
  pare_file_unmap(&file);
  return p;
}

/* --- fixtures --- */

void skip(const char *why) {
  fprintf(stderr, "skipped: %s\n", why);
  cr_skip_test("%s", why);
}

static const char *fixtures_dir(void) {
  const char *env = getenv("PARE_FIXTURES");
  return env && *env ? env : PARE_SOURCE_DIR "/../shared/fixtures";
}

/* Field i of a line of tab-separated ones; a copy. */
static const char *column(Fix *f, const char *line, int i) {
  for (; i > 0 && *line && *line != '\n'; line++) i -= *line == '\t';
  return fmt(f, "%.*s", (int)strcspn(line, "\t\n"), i ? "" : line);
}

static const char *model_of(Fix *f, const char *name) {
  static const char *const files[] = {"model.onnx", "final_model.onnx"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    const char *path = fmt(f, "%s/%s/%s", fixtures_dir(), name, files[i]);
    if (access(path, R_OK) == 0) return path;
  }
  return NULL;
}

enum { COL_NAME = 0, COL_SET = 13, COL_LAYERS, COL_HEADS, COL_FFN };

size_t fixtures(Fix *f, char set, Row **rows) {
  const char *path = fmt(f, "%s/INDEX.tsv", fixtures_dir());
  if (access(path, R_OK)) skip(fmt(f, "no fixtures at %s (set PARE_FIXTURES)", fixtures_dir()));
  size_t len, n = 0;
  const char *text = read_file(f, path, &len);
  *rows = NEW(f, 200, Row);
  for (const char *line = strchr(text, '\n'); line && line[1] && n < 200; line = strchr(line + 1, '\n')) {
    Row r = {.name = column(f, line + 1, COL_NAME), .set = *column(f, line + 1, COL_SET)};
    r.layers = atoi(column(f, line + 1, COL_LAYERS));
    r.heads = atoi(column(f, line + 1, COL_HEADS));
    r.ffn = atoi(column(f, line + 1, COL_FFN));
    r.path = model_of(f, r.name);
    if (r.path && (!set || r.set == set)) (*rows)[n++] = r;
  }
  return n;
}

const char *fixture(Fix *f, const char *name) {
  const char *path = model_of(f, name);
  if (!path) skip(fmt(f, "no fixture '%s' at %s (set PARE_FIXTURES)", name, fixtures_dir()));
  return path;
}

const char *fixture_dir(Fix *f, const char *name) {
  const char *path = fmt(f, "%s/%s", fixtures_dir(), name);
  if (access(path, R_OK)) skip(fmt(f, "no fixture '%s' at %s (set PARE_FIXTURES)", name, fixtures_dir()));
  return path;
}

/* --- models made by hand --- */

#define APPEND(f, list, count, item, T)                     \
  do {                                                      \
    T **grown_ = NEW(f, (count) + 1, T *);                  \
    if (count) memcpy(grown_, (list), (count) * sizeof(T *)); \
    grown_[(count)++] = (item);                             \
    (list) = grown_;                                        \
  } while (0)

Onnx__ModelProto *onnx_model(Fix *f, int64_t opset) {
  Onnx__ModelProto *m = NEW(f, 1, Onnx__ModelProto);
  onnx__model_proto__init(m);
  m->has_ir_version = 1;
  m->ir_version = 8;
  m->graph = NEW(f, 1, Onnx__GraphProto);
  onnx__graph_proto__init(m->graph);
  m->graph->name = fmt(f, "graph");
  Onnx__OperatorSetIdProto *o = NEW(f, 1, Onnx__OperatorSetIdProto);
  onnx__operator_set_id_proto__init(o);
  o->domain = fmt(f, "%s", "");
  o->has_version = 1;
  o->version = opset;
  APPEND(f, m->opset_import, m->n_opset_import, o, Onnx__OperatorSetIdProto);
  return m;
}

static char **words(Fix *f, const char *s, size_t *n) {
  char **list = NEW(f, 64, char *);
  for (*n = 0; *s && *n < 64; s += *s == ' ') {
    size_t len = strcspn(s, " ");
    bool none = len == 1 && *s == '_';
    list[(*n)++] = fmt(f, "%.*s", none ? 0 : (int)len, s);
    s += len;
  }
  return list;
}

Onnx__NodeProto *onnx_node(Fix *f, Onnx__ModelProto *m, const char *op, const char *name, const char *inputs,
                           const char *outputs) {
  Onnx__NodeProto *n = NEW(f, 1, Onnx__NodeProto);
  onnx__node_proto__init(n);
  n->op_type = fmt(f, "%s", op);
  n->name = fmt(f, "%s", name);
  n->input = words(f, inputs, &n->n_input);
  n->output = words(f, outputs, &n->n_output);
  APPEND(f, m->graph->node, m->graph->n_node, n, Onnx__NodeProto);
  return n;
}

Onnx__AttributeProto *onnx_attr(Fix *f, Onnx__NodeProto *n, const char *name,
                                Onnx__AttributeProto__AttributeType type) {
  Onnx__AttributeProto *a = NEW(f, 1, Onnx__AttributeProto);
  onnx__attribute_proto__init(a);
  a->name = fmt(f, "%s", name);
  a->has_type = 1;
  a->type = type;
  APPEND(f, n->attribute, n->n_attribute, a, Onnx__AttributeProto);
  return a;
}

void onnx_attr_int(Fix *f, Onnx__NodeProto *n, const char *name, int64_t v) {
  Onnx__AttributeProto *a = onnx_attr(f, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
  a->has_i = 1;
  a->i = v;
}

void onnx_attr_ints(Fix *f, Onnx__NodeProto *n, const char *name, int count, const int64_t *v) {
  Onnx__AttributeProto *a = onnx_attr(f, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
  a->n_ints = (size_t)count;
  a->ints = NEW(f, count + 1, int64_t);
  memcpy(a->ints, v, (size_t)count * sizeof *v);
}

void onnx_attr_tensor(Fix *f, Onnx__NodeProto *n, const char *name, Onnx__TensorProto *t) {
  onnx_attr(f, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR)->t = t;
}

Onnx__TensorProto *onnx_tensor(Fix *f, const char *name, int32_t dtype, int rank, const int64_t *dims,
                               const void *raw, size_t bytes) {
  Onnx__TensorProto *t = NEW(f, 1, Onnx__TensorProto);
  onnx__tensor_proto__init(t);
  t->name = fmt(f, "%s", name);
  t->has_data_type = 1;
  t->data_type = dtype;
  t->n_dims = (size_t)rank;
  t->dims = NEW(f, rank + 1, int64_t);
  if (rank) memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
  if (!bytes) return t;
  t->has_raw_data = 1;
  t->raw_data = (ProtobufCBinaryData){bytes, NEW(f, bytes, uint8_t)};
  memcpy(t->raw_data.data, raw, bytes);
  return t;
}

void onnx_initializer(Fix *f, Onnx__ModelProto *m, Onnx__TensorProto *t) {
  APPEND(f, m->graph->initializer, m->graph->n_initializer, t, Onnx__TensorProto);
}

static Onnx__TensorShapeProto *shape_of(Fix *f, int rank, const int64_t *dims) {
  Onnx__TensorShapeProto *s = NEW(f, 1, Onnx__TensorShapeProto);
  onnx__tensor_shape_proto__init(s);
  for (int i = 0; i < rank; i++) {
    Onnx__TensorShapeProto__Dimension *d = NEW(f, 1, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(d);
    d->value_case = dims[i] < 0 ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                                : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (dims[i] < 0) d->dim_param = fmt(f, "batch");
    else d->dim_value = dims[i];
    APPEND(f, s->dim, s->n_dim, d, Onnx__TensorShapeProto__Dimension);
  }
  return s;
}

static Onnx__ValueInfoProto *value_info(Fix *f, const char *name, int32_t dtype, int rank, const int64_t *dims) {
  Onnx__ValueInfoProto *v = NEW(f, 1, Onnx__ValueInfoProto);
  onnx__value_info_proto__init(v);
  v->name = fmt(f, "%s", name);
  v->type = NEW(f, 1, Onnx__TypeProto);
  onnx__type_proto__init(v->type);
  v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
  Onnx__TypeProto__Tensor *t = v->type->tensor_type = NEW(f, 1, Onnx__TypeProto__Tensor);
  onnx__type_proto__tensor__init(t);
  t->has_elem_type = 1;
  t->elem_type = dtype;
  t->shape = shape_of(f, rank, dims);
  return v;
}

void onnx_input(Fix *f, Onnx__ModelProto *m, const char *name, int32_t dtype, int rank, const int64_t *dims) {
  APPEND(f, m->graph->input, m->graph->n_input, value_info(f, name, dtype, rank, dims), Onnx__ValueInfoProto);
}

void onnx_output(Fix *f, Onnx__ModelProto *m, const char *name, int32_t dtype, int rank, const int64_t *dims) {
  APPEND(f, m->graph->output, m->graph->n_output, value_info(f, name, dtype, rank, dims), Onnx__ValueInfoProto);
}

void onnx_meta(Fix *f, Onnx__ModelProto *m, const char *key, const char *value) {
  Onnx__StringStringEntryProto *e = NEW(f, 1, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = fmt(f, "%s", key);
  e->value = fmt(f, "%s", value);
  APPEND(f, m->metadata_props, m->n_metadata_props, e, Onnx__StringStringEntryProto);
}

uint8_t *onnx_pack(Fix *f, const Onnx__ModelProto *m, size_t *len) {
  *len = onnx__model_proto__get_packed_size(m);
  uint8_t *p = NEW(f, *len + 1, uint8_t);
  onnx__model_proto__pack(m, p);
  return p;
}

/* --- runs --- */

static void put(PareDtype d, void *data, int64_t i, double v) {
  char *at = (char *)data + (size_t)i * pare_dtype_size(d);
#define PUT(T, x)           \
  {                         \
    T put_ = (T)(x);        \
    memcpy(at, &put_, sizeof put_); \
    return;                 \
  }
  switch (d) {
  case PARE_F32: PUT(float, v)
  case PARE_F64: PUT(double, v)
  case PARE_F16: PUT(uint16_t, pare_f32_to_f16((float)v))
  case PARE_BF16: PUT(uint16_t, pare_f32_to_bf16((float)v))
  case PARE_I8:
  case PARE_U8:
  case PARE_BOOL: PUT(uint8_t, v)
  case PARE_I16:
  case PARE_U16: PUT(uint16_t, v)
  case PARE_I32:
  case PARE_U32: PUT(uint32_t, v)
  default: PUT(uint64_t, v)
  }
#undef PUT
}

void fill_random(const PareType *t, void *data, uint64_t seed) {
  for (int64_t i = 0; i < pare_type_count(t); i++) {
    double u = pare_rng_uniform(seed, (uint64_t)i);
    double v = pare_dtype_is_float(t->dtype) ? 2 * u - 1 : t->dtype == PARE_BOOL ? u < 0.5 : floor(1 + 18 * u);
    put(t->dtype, data, i, v);
  }
}

static void fill_input(const PareValue *v, void *data, uint64_t seed) {
  bool mask = strstr(v->name, "mask") != NULL, type = strstr(v->name, "type") != NULL;
  fill_random(&v->type, data, seed);
  if (pare_dtype_is_float(v->type.dtype) || !(mask || type) || !v->type.rank) return;
  int64_t last = v->type.dim[v->type.rank - 1];
  for (int64_t i = 0; i < pare_type_count(&v->type); i++)
    put(v->type.dtype, data, i, mask && (i % last < last - 1 || last == 1));
}

void fill_inputs(PareProgram *p, const PareGraph *g) {
  for (size_t i = 0; i < g->inputs.n; i++) {
    void *to = pare_program_buffer(p, g->inputs.at[i]);
    if (to && strncmp(g->inputs.at[i]->name, "pare.", 5) != 0) fill_input(g->inputs.at[i], to, 40 + i);
  }
}

PareGraph *bound_at(Fix *f, const PareGraph *g, int nsizes, const int64_t *sizes) {
  PareDimBinding dims[32];
  int n = 0;
  for (size_t i = 0; i < g->inputs.n; i++) {
    const PareValue *v = g->inputs.at[i];
    for (int d = 0; d < v->type.rank; d++) {
      if (v->type.dim[d] >= 0) continue;
      const char *name = v->dim_name && v->dim_name[d] ? v->dim_name[d] : fmt(f, "%s:%d", v->name, d);
      bool known = false;
      for (int k = 0; k < n; k++) known |= !strcmp(dims[k].name, name);
      cr_assert(n < 32);
      if (!known) dims[n] = (PareDimBinding){name, sizes[n % nsizes]}, n++;
    }
  }
  PareGraph *b = pare_graph_clone(&f->c, f->arena, g);
  cr_assert_not_null(b);
  MUST(f, pare_bind_shapes(&f->c, b, n, dims));
  return b;
}

int count_nodes(const PareGraph *g, PareOp op) {
  int n = 0;
  for (const PareNode *x = g->first; x; x = x->next) n += x->op == op;
  return n;
}

PareTensor *run_graph(Fix *f, const PareGraph *g, uint64_t seed) {
  PareProgram *p;
  MUST(f, pare_program_new(&f->c, g, pare_cpu_kernels(), &p));
  for (size_t i = 0; i < g->inputs.n; i++)
    fill_input(g->inputs.at[i], pare_program_buffer(p, g->inputs.at[i]), seed * 1000 + i);
  MUST(f, pare_program_run(&f->c, p, -1));
  PareTensor *out = NEW(f, g->outputs.n + 1, PareTensor);
  for (size_t i = 0; i < g->outputs.n; i++) {
    size_t bytes;
    out[i].type = g->outputs.at[i]->type;
    cr_assert(pare_type_bytes(&out[i].type, &bytes));
    out[i].data = NEW(f, bytes + 1, char);
    memcpy(out[i].data, pare_program_buffer(p, g->outputs.at[i]), bytes);
  }
  pare_program_free(p);
  return out;
}

/* --- tolerances --- */

double element(const PareTensor *t, int64_t i) {
  PareValue v = {.type = t->type, .data = t->data};
  return pare_data_float(&v, i);
}

double distance(const PareTensor *a, const PareTensor *b) {
  double most = 0, size = 0;
  if (!pare_type_equal(&a->type, &b->type)) return INFINITY;
  for (int64_t i = 0; i < pare_type_count(&a->type); i++) {
    double x = element(a, i), y = element(b, i);
    if (isnan(x) != isnan(y)) return INFINITY;
    if (isfinite(x)) size = fmax(size, fabs(x));
    if (!isnan(x) && x != y) most = fmax(most, fabs(x - y));
  }
  return most == 0 ? 0 : most / size;
}

double rounding_tolerance(const PareGraph *bound) {
  double terms = 1, halves = 0;
  double u = 0x1p-24, half = 0;
  enum { GROWTH = 8 }; /* what normalisation and residual sums make of an error, at most, in models of real scale */
  for (const PareNode *n = bound->first; n; n = n->next) {
    for (int i = 0; i < n->nout; i++) {
      if (!n->out[i]) continue;
      if (n->out[i]->type.dtype == PARE_F16) halves++, half = fmax(half, 0x1p-11);
      if (n->out[i]->type.dtype == PARE_BF16) halves++, half = 0x1p-8;
    }
    if (n->op == PARE_OP_MATMUL || n->op == PARE_OP_GEMM || n->op == PARE_OP_FUSEDMATMUL)
      terms += (double)n->in[1]->type.dim[n->in[1]->type.rank > 1 ? n->in[1]->type.rank - 2 : 0];
  }
  return GROWTH * u * sqrt(terms) + half * sqrt(halves);
}

bool conforms(const PareTensor *got, const PareTensor *want, int64_t *worst) {
  double rtol = 0, atol = 0, most = -1;
  switch (want->type.dtype) {
  case PARE_F32:
  case PARE_F64: rtol = 1e-3, atol = 1e-7; break;
  case PARE_F16: rtol = 2e-3, atol = 1e-3; break; /* u = 2^-11 */
  case PARE_BF16: rtol = 1.6e-2, atol = 1e-2; break; /* u = 2^-8 */
  default: break;
  }
  *worst = -1;
  if (!pare_type_equal(&got->type, &want->type)) return false;
  for (int64_t i = 0; i < pare_type_count(&want->type); i++) {
    double a = element(got, i), b = element(want, i);
    if (a == b || (isnan(a) && isnan(b))) continue;
    double over = fabs(a - b) - atol - rtol * fabs(b);
    if (over <= 0) continue;
    if (!(over <= most)) most = over, *worst = i;
  }
  return *worst < 0;
}
