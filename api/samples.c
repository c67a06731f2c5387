/* samples.c - where samples come from: files, or a random generator. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "api/forward.h"
#include "base/rng.h"
#include "frontend/model.h"
#include "ir/op_columns.h"

/* --- files --- */

static bool is_file(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* ONNX's own form of test data: one TensorProto a file. */
static PareStatus load_tensors(PareCtx *c, const PareGraph *g, const char *folder, PareData **out) {
  PARE_TRY(pare_data_new(c, folder, out));
  PareArena *a = (*out)->arena;
  for (size_t i = 0; i < g->inputs.n; i++) {
    PareTensorFile t;
    const char *path = pare_arena_printf(a, "%s/input_%zu.pb", folder, i);
    if (!path) return pare_nomem(c);
    if (!is_file(path)) break;
    PARE_TRY(pare_tensor_load(c, a, path, &t));
    PARE_TRY(pare_data_add(c, *out, *t.name ? t.name : g->inputs.at[i]->name, &t.type, t.data));
  }
  return PARE_OK;
}

static PareStatus load(PareCtx *c, const PareGraph *g, const char *path, PareData **out) {
  const char *first = pare_arena_printf(c->scratch, "%s/input_0.pb", path);
  if (!first) return pare_nomem(c);
  return is_file(first) ? load_tensors(c, g, path, out) : pare_data_load(c, path, out);
}

static PareStatus check(PareCtx *c, const PareGraph *g, const PareData *d) {
  for (size_t i = 0; i < d->narrays; i++) {
    const PareArray *a = &d->arrays[i];
    bool wanted = !strcmp(a->name, "labels");
    for (size_t k = 0; k < g->inputs.n; k++) wanted |= !strcmp(a->name, g->inputs.at[k]->name);
    if (wanted) PARE_TRY(pare_data_check_finite(c, d, a));
    else pare_log(c, 0, "%s: array '%s' is not an input of the model and is passed over", d->file, a->name);
  }
  return PARE_OK;
}

PareStatus pare_samples_load(PareCtx *c, const PareGraph *g, const char *path, PareData **out) {
  PareData *d = NULL;
  *out = NULL;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = load(c, g, path, &d);
  if (s == PARE_OK) s = check(c, g, d);
  pare_arena_rewind(c->scratch, mark);
  if (s == PARE_OK) *out = d;
  else pare_data_free(d);
  return s;
}

/* --- random --- */

/* Does the op only move elements of what it reads? */
static bool moves(const PareNode *n) {
  PareCostFn *cost = pare_op_info[n->op].cost;
  return (cost == pare_cost_free || cost == pare_cost_move || n->op == PARE_OP_CAST) && n->op != PARE_OP_SHAPE;
}

/* The shortest table that numbers from `input` are looked up in, or -1. */
static PareStatus index_limit(PareCtx *c, const PareGraph *g, const PareValue *input, int64_t *out) {
  bool *from = PARE_NEW_N(c->scratch, g->values.n, bool);
  if (!from) return pare_nomem(c);
  *out = -1;
  from[input->id] = true;
  for (const PareNode *n = g->first; n; n = n->next) {
    bool reads = false;
    for (int i = 0; i < n->nin; i++) reads |= n->in[i] && from[n->in[i]->id];
    if (!reads) continue;
    if (n->op == PARE_OP_GATHER && n->in[1] && from[n->in[1]->id]) {
      const PareType *t = &n->in[0]->type;
      int64_t axis = pare_attr_get(&n->attr, axis, 0), size = t->dim[axis < 0 ? axis + t->rank : axis];
      if (*out < 0 || size < *out) *out = size;
    } else if (moves(n)) {
      for (int i = 0; i < n->nout; i++)
        if (n->out[i]) from[n->out[i]->id] = true;
    }
  }
  return PARE_OK;
}

/* Box-Muller (1958), one number of the pair. */
static float normal(uint64_t key, uint64_t i) {
  double u = pare_rng_uniform(key, 2 * i), v = pare_rng_uniform(key, 2 * i + 1);
  return (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
}

/* Arrays are f32 or i64: gathering a batch converts them. */
static PareStatus add_input(PareCtx *c, PareData *d, const PareGraph *g, const PareValue *v, int64_t count,
                            uint64_t key) {
  bool is_float = pare_dtype_is_float(v->type.dtype);
  int64_t limit = -1;
  PARE_TRY(index_limit(c, g, v, &limit));
  if (v->type.dtype == PARE_I8 || v->type.dtype == PARE_U8) limit = limit > 100 ? 100 : limit;
  PareType t = v->type;
  if (t.rank < 1) return pare_error(c, PARE_UNSUPPORTED, "the input '%s' is a scalar", v->name);
  t.dim[0] = count;
  t.dtype = is_float ? PARE_F32 : PARE_I64;
  void *room;
  PARE_TRY(pare_data_room(c, d, v->name, &t, pare_data_memory_limit(), &room));
  uint64_t n = (uint64_t)pare_type_count(&t);
  for (uint64_t i = 0; i < n; i++) {
    if (is_float) ((float *)room)[i] = normal(key, i);
    else ((int64_t *)room)[i] = limit > 0 ? (int64_t)(pare_rng_u64(key, i) % (uint64_t)limit) : 1;
  }
  return pare_data_add(c, d, v->name, &t, room);
}

PareStatus pare_samples_random(PareCtx *c, const PareGraph *bound, int64_t count, uint64_t seed, PareData **out) {
  *out = NULL;
  PareData *d;
  PARE_TRY(pare_data_new(c, "random inputs", &d));
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = PARE_OK;
  for (size_t i = 0; s == PARE_OK && i < bound->inputs.n; i++)
    s = add_input(c, d, bound, bound->inputs.at[i], count, pare_rng_u64(seed, i));
  pare_arena_rewind(c->scratch, mark);
  if (s == PARE_OK) *out = d;
  else pare_data_free(d);
  return s;
}
