/* bind_shapes.c - one walk over the nodes that infers each and evaluates it at
 * once where that is cheap, since the next node's shape may depend on the numbers. */
#include "passes/bind_shapes.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "kernels/kernel.h"

enum { EVAL_LIMIT = 64 << 10 };

/* --- the inputs' axes --- */

const char *pare_axis_key(PareArena *a, const PareValue *v, int axis) {
  if (v->dim_name && v->dim_name[axis]) return v->dim_name[axis];
  return pare_arena_printf(a, "%s:%d", v->name, axis);
}

int64_t pare_bound_size(size_t n, const PareDimBinding *dims, const char *name) {
  for (size_t i = 0; name && i < n; i++)
    if (!strcmp(dims[i].name, name)) return dims[i].size;
  return -1;
}

/* By name first, then by place. */
static int64_t axis_size(const PareValue *v, int axis, int ndims, const PareDimBinding *dims) {
  int64_t size = v->dim_name ? pare_bound_size((size_t)ndims, dims, v->dim_name[axis]) : -1;
  if (size >= 0) return size;
  size_t len = strlen(v->name);
  for (int i = 0; i < ndims; i++) {
    char place[16];
    snprintf(place, sizeof place, ":%d", axis);
    if (!strncmp(dims[i].name, v->name, len) && !strcmp(dims[i].name + len, place)) return dims[i].size;
  }
  return -1;
}

/* What the user would call the axis: "batch (input_ids:0)" or "input_ids:0". */
static void list_axis(char *buf, size_t cap, const PareValue *v, int axis) {
  size_t at = strlen(buf);
  const char *name = v->dim_name ? v->dim_name[axis] : NULL;
  const char *sep = at ? ", " : "";
  if (name) snprintf(buf + at, cap - at, "%s%s (%s:%d)", sep, name, v->name, axis);
  else snprintf(buf + at, cap - at, "%s%s:%d", sep, v->name, axis);
}

static PareStatus bind_inputs(PareCtx *c, PareGraph *g, int ndims, const PareDimBinding *dims) {
  char missing[400] = "";
  size_t bytes;
  for (size_t i = 0; i < g->inputs.n; i++) {
    PareValue *v = g->inputs.at[i];
    for (int axis = 0; axis < v->type.rank; axis++) {
      if (v->type.dim[axis] >= 0) continue;
      v->type.dim[axis] = axis_size(v, axis, ndims, dims);
      if (v->type.dim[axis] < 0) list_axis(missing, sizeof missing, v, axis);
    }
    if (!missing[0] && !pare_type_bytes(&v->type, &bytes))
      return pare_error(c, PARE_USAGE, "the input '%s' is too large at these sizes", v->name);
  }
  if (missing[0]) return pare_error(c, PARE_USAGE, "give a size to these dynamic axes: %s", missing);
  return PARE_OK;
}

/* --- evaluation --- */

static bool is_known(const PareValue *v) {
  if (v->role == PARE_CONST) return v->data || pare_type_count(&v->type) == 0;
  return v->role == PARE_RESULT && v->data;
}

bool pare_node_known(const PareNode *n) {
  for (int i = 0; i < n->nin; i++)
    if (n->in[i] && !is_known(n->in[i])) return pare_reads_type(n);
  return true;
}

/* Halves are computed in f32, but for Cast's, which knows every type. */
static bool is_widened(const PareNode *n, const PareValue *v) {
  return n->op != PARE_OP_CAST && (v->type.dtype == PARE_F16 || v->type.dtype == PARE_BF16);
}

/* Known halves as floats. */
static PareStatus widened_input(PareCtx *c, PareArena *a, const PareValue *v, PareTensor *out) {
  int64_t n = pare_type_count(&v->type);
  float *x = PARE_NEW_N(a, n, float);
  if (!x) return pare_nomem(c);
  for (int64_t i = 0; v->data && i < n; i++) x[i] = (float)pare_data_float(v, i);
  *out = (PareTensor){x, v->type};
  out->type.dtype = PARE_F32;
  return PARE_OK;
}

/* What was computed as floats, rounded to what the model says. */
static void *narrowed(PareArena *a, PareDtype d, const PareTensor *x) {
  int64_t n = pare_type_count(&x->type);
  const float *from = x->data;
  uint16_t *to = PARE_NEW_N(a, n, uint16_t);
  for (int64_t i = 0; to && i < n; i++) to[i] = d == PARE_F16 ? pare_f32_to_f16(from[i]) : pare_f32_to_bf16(from[i]);
  return to;
}

/* Known bytes where a kernel can read them: a copy in `a` if they are not aligned. */
static PareStatus eval_input(PareCtx *c, PareArena *a, const PareNode *n, const PareValue *v, PareTensor *out) {
  size_t bytes;
  if (!v) return PARE_OK;
  if (!pare_type_bytes(&v->type, &bytes)) return pare_error(c, PARE_UNSUPPORTED, "'%s' is too large", v->name);
  if (is_widened(n, v)) return widened_input(c, a, v, out);
  *out = (PareTensor){(void *)v->data, v->type};
  if (v->data && (uintptr_t)v->data % pare_dtype_size(v->type.dtype) == 0) return PARE_OK;
  out->data = pare_arena_alloc(a, v->data ? bytes : 0, 1); /* Shape's input, an empty tensor: an address is enough */
  if (!out->data) return pare_nomem(c);
  if (v->data && bytes) memcpy(out->data, v->data, bytes);
  return PARE_OK;
}

static PareStatus eval_output(PareCtx *c, PareArena *a, const PareNode *n, const PareValue *v, PareTensor *out) {
  size_t bytes;
  if (!v) return PARE_OK;
  if (!pare_type_bytes(&v->type, &bytes)) return pare_fail(c, n, PARE_UNSUPPORTED, "'%s' is too large", v->name);
  bool wide = is_widened(n, v);
  *out = (PareTensor){wide ? pare_arena_alloc(c->scratch, bytes, 2) : pare_arena_alloc(a, bytes, 1), v->type};
  if (wide) out->type.dtype = PARE_F32;
  return out->data ? PARE_OK : pare_nomem(c);
}

static PareStatus run_kernel(PareCtx *c, const PareNode *n, PareKernelArgs *args) {
  const PareKernel *k = &pare_cpu_kernels()[n->op];
  if (!k->run) return pare_fail(c, n, PARE_UNSUPPORTED, "no kernel runs this op");
  PareStatus s = k->plan ? k->plan(args) : PARE_OK;
  if (s == PARE_OK && args->workspace_bytes) {
    args->workspace = pare_arena_alloc(c->scratch, args->workspace_bytes, 1);
    if (!args->workspace) s = PARE_NOMEM;
  }
  if (s == PARE_OK) s = k->run(args);
  if (args->state && k->release) k->release(args->state);
  return s == PARE_OK ? s : pare_fail(c, n, s, "%s", args->why ? args->why : pare_status_text(s));
}

static PareStatus eval_in_scratch(PareCtx *c, PareNode *n, PareArena *a) {
  PareTensor *in = PARE_NEW_N(c->scratch, n->nin, PareTensor), *out = PARE_NEW_N(c->scratch, n->nout, PareTensor);
  if (!in || !out) return pare_nomem(c);
  if (pare_is_view(n)) {
    n->out[0]->data = n->in[0]->data;
    return PARE_OK;
  }
  for (int i = 0; i < n->nin; i++) PARE_TRY(eval_input(c, c->scratch, n, n->in[i], &in[i]));
  for (int i = 0; i < n->nout; i++) PARE_TRY(eval_output(c, a, n, n->out[i], &out[i]));
  PareKernelArgs args = {.in = in, .out = out, .nin = n->nin, .nout = n->nout, .attr = &n->attr};
  PARE_TRY(run_kernel(c, n, &args));
  for (int i = 0; i < n->nout; i++) {
    PareValue *v = n->out[i];
    if (v && !(v->data = is_widened(n, v) ? narrowed(a, v->type.dtype, &out[i]) : out[i].data))
      return pare_nomem(c);
  }
  return PARE_OK;
}

PareStatus pare_node_eval(PareCtx *c, PareNode *n, PareArena *a) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = eval_in_scratch(c, n, a);
  pare_arena_rewind(c->scratch, mark);
  return s;
}

/* --- the pass --- */

/* A view's second output (Dropout's mask) has no kernel. */
static bool is_small(const PareNode *n) {
  size_t total = 0, bytes;
  if (pare_is_view(n) && (!n->out[0] || (n->nout > 1 && n->out[1]))) return false;
  for (int i = 0; i < n->nout; i++)
    if (n->out[i] && (!pare_type_bytes(&n->out[i]->type, &bytes) || !pare_add_size(total, bytes, &total))) return false;
  return n->nout > 0 && total <= EVAL_LIMIT;
}

static PareStatus check_results(PareCtx *c, const PareNode *n) {
  char text[PARE_TYPE_TEXT];
  size_t bytes;
  for (int i = 0; i < n->nout; i++) {
    const PareValue *v = n->out[i];
    if (v && !pare_type_bytes(&v->type, &bytes))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the shape of its result '%s' depends on data or is too large: %s",
                       v->name, pare_type_text(&v->type, text));
  }
  return PARE_OK;
}

PareStatus pare_bind_node(PareCtx *c, PareGraph *g, PareNode *n) {
  for (int i = 0; i < n->nout; i++)
    if (n->out[i]) n->out[i]->data = NULL; /* of an earlier binding */
  PARE_TRY(pare_infer(c, n));
  PARE_TRY(check_results(c, n));
  bool evaluate = pare_op_info[n->op].writes == 0 && pare_node_known(n) && is_small(n);
  return evaluate ? pare_node_eval(c, n, g->arena) : PARE_OK;
}

PareStatus pare_bind_shapes(PareCtx *c, PareGraph *g, int ndims, const PareDimBinding *dims) {
  PARE_TRY(bind_inputs(c, g, ndims, dims));
  for (PareNode *n = g->first; n; n = n->next) PARE_TRY(pare_bind_node(c, g, n));
  return PARE_OK;
}
