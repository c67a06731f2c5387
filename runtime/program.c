/* program.c - picks the nodes that matter, gives every tensor its address, lets
 * kernels plan, and runs them group by group; carries tensors to devices with
 * memory of their own and back. */
#include "runtime/program.h"

#include <assert.h>
#include <string.h>

#include "base/num.h"
#include "runtime/device.h"
#include "runtime/group.h"
#include "runtime/plan.h"
#include "runtime/profile.h"
#include "runtime/transfer.h"

typedef struct Step {
  const PareNode *node;
  const PareKernel *kernel;
  PareKernelArgs args;
  uint32_t when; /* the same for the steps of a group, which run at once */
  int count;     /* of the first of them: how many they are */
  size_t part;   /* where its own part of the workspace begins */
} Step;

enum { PHASES = 8 }; /* of nodes; slot 0 is all of them */

struct PareProgram {
  PareArena *arena;
  PareDevice *device;
  PareDevice cpu; /* what `device` points to for programs on plain kernels */
  const PareGraph *graph;
  Step *step; /* without views */
  PareKernelArgs **args; /* of each step */
  size_t nsteps;
  PareTensor *tensor;      /* of all steps, one after another */
  const PareValue **shows; /* tensor i shows the memory of this root, or NULL: left out */
  size_t ntensors;
  ParePlan plan;
  void **data;    /* by value id, of roots: in the device's memory */
  void **mirror;  /* by value id, of roots: the buffer on the host; `data` itself where that is the host's */
  PareInlet *inlet; /* of each of the graph's inputs; NULL on a host. Without a landing: not fed */
  PareOutlet outlet;
  const PareValue **watched; /* of tensor i of the outlet; the last is `fault` */
  const void **known; /* of tensor i: its bytes on the host where they never change, or NULL */
  void **home;    /* by value id: where an input lies when nothing is bound to it */
  bool *readable; /* by value id: inputs, states, constants, outputs and pins */
  bool *strict;   /* by value id, of roots: somebody reads it who wants it aligned */
  bool resident;  /* large constants are copied on a host as well */
  bool passing;   /* outputs can be read until the next phase is run */
  /* The only memory outside arenas: big, and never cleared unless it must be. */
  unsigned char *slab, *workspace;
  unsigned char *own;     /* states, inputs, copied constants */
  unsigned char *mirrors; /* on the host, of a device that has its own memory */
  unsigned char *others, *landings; /* of the inlets: second buffers on the host, and memory on the device */
  uint32_t *fault, *fault_seen; /* by step: on the device, and what was last fetched; NULL on the host */
  PareProgramMemory memory;
  PareProfile profile;
  struct {
    int runs;
    void *record; /* the work of the whole phase, kept by the device */
  } phase[PHASES];
};

static PareStatus device_failed(PareCtx *c, const PareProgram *p, PareStatus s) {
  return pare_error(c, s, "%s", p->device->why[0] ? p->device->why : pare_status_text(s));
}

static PareStatus block_new(PareCtx *c, PareProgram *p, size_t bytes, unsigned char **out) {
  void *block = NULL;
  size_t grain = p->device->grain;
  PareStatus s = p->device->alloc(p->device, bytes, &block);
  if (grain) p->memory.rest += (bytes + grain - 1) / grain * grain - bytes;
  *out = block;
  return s == PARE_OK ? s : device_failed(c, p, s);
}

static void drop_records(PareProgram *p) {
  for (int i = 0; i < PHASES; i++) {
    if (p->phase[i].record) p->device->drop(p->device, p->phase[i].record);
    p->phase[i].record = NULL;
    p->phase[i].runs = 0;
  }
}

void pare_program_free(PareProgram *p) {
  if (!p) return;
  p->device->sync(p->device); /* whatever it says: nothing is read any more */
  for (size_t i = 0; i < p->nsteps; i++)
    if (p->step[i].args.state && p->step[i].kernel->release) p->step[i].kernel->release(p->step[i].args.state);
  PareDevice *d = p->device;
  drop_records(p);
  d->free(d, p->slab);
  d->free(d, p->workspace);
  d->free(d, p->own);
  d->free(d, p->fault);
  for (size_t i = 0; p->inlet && i < p->graph->inputs.n; i++) pare_inlet_end(d, &p->inlet[i]);
  if (!d->host) pare_outlet_end(d, &p->outlet);
  pare_profile_free(d, &p->profile);
  d->free(d, p->landings);
  d->free_host(d, p->others);
  d->free_host(d, p->mirrors);
  d->free_host(d, p->fault_seen);
  pare_arena_free(p->arena);
}

/* --- which nodes run --- */

static bool must_run(const PareNode *n, const bool *needed) {
  if (pare_op_info[n->op].writes) return true;
  for (int i = 0; i < n->nout; i++)
    if (n->out[i] && needed[n->out[i]->id] && !n->out[i]->data) return true;
  return false;
}

static PareStatus check_node(PareCtx *c, const PareNode *n, const PareDevice *d, const bool *needed) {
  size_t bytes;
  for (int i = 0; i < n->nin + n->nout; i++) {
    const PareValue *v = i < n->nin ? n->in[i] : n->out[i - n->nin];
    if (v && !pare_type_bytes(&v->type, &bytes))
      return pare_fail(c, n, PARE_UNSUPPORTED, "the size of '%s' is not known or too large", v->name);
  }
  for (int i = 1; pare_is_view(n) && i < n->nout; i++)
    if (n->out[i] && needed[n->out[i]->id])
      return pare_fail(c, n, PARE_UNSUPPORTED, "its output %d is not computed", i);
  if (pare_is_view(n) || d->kernels[n->op].run) return PARE_OK;
  if (d->host) return pare_fail(c, n, PARE_UNSUPPORTED, "no kernel runs this op here");
  return pare_fail(c, n, PARE_UNSUPPORTED, "no kernel runs this op on %s: take --device cpu", d->name);
}

/* The nodes to run in order, in c->scratch, and the values that they or the user read. */
static PareStatus choose(PareCtx *c, const PareGraph *g, const PareDevice *d, bool *needed, PareNode ***out,
                         size_t *nout) {
  PareNode **list = PARE_NEW_N(c->scratch, g->nnodes, PareNode *);
  if (!list) return pare_nomem(c);
  size_t at = g->nnodes; /* filled from the back */
  for (PareNode *n = g->last; n; n = n->prev) {
    if (!must_run(n, needed)) continue;
    PARE_TRY(check_node(c, n, d, needed));
    assert(at > 0);
    list[--at] = n;
    for (int i = 0; i < n->nin; i++)
      if (pare_plan_reads(n, i)) needed[n->in[i]->id] = true;
  }
  *out = list + at;
  *nout = g->nnodes - at;
  return PARE_OK;
}

/* --- where tensors lie --- */

static bool is_aligned(const void *p, PareDtype d) { return (uintptr_t)p % pare_dtype_size(d) == 0; }

/* Bytes that are known before the program runs, and never change. */
static bool is_constant(const PareProgram *p, const PareValue *v) {
  return v->role == PARE_CONST || (v->role == PARE_RESULT && v->data && p->plan.record[v->id] == PARE_NO_RECORD);
}

/* Which large constants of a resident program are: those that a step reads for longer than it takes to begin. */
static bool is_large(const PareValue *v) {
  size_t bytes;
  return pare_type_bytes(&v->type, &bytes) && bytes >= 1 << 16;
}

/* The counter of what v takes of the program's own memory; NULL when it takes none. */
static size_t *own_memory(PareProgram *p, const PareValue *v, bool needed) {
  if (v->role == PARE_STATE) return &p->memory.states;
  if (v->role == PARE_INPUT) return &p->memory.inputs;
  if (!is_constant(p, v) || !needed) return NULL;
  bool in_place = p->device->host && v->data && (is_aligned(v->data, v->type.dtype) || !p->strict[v->id]) &&
                  !(p->resident && is_large(v));
  return in_place ? NULL : &p->memory.constants;
}

static size_t round_up(size_t bytes) { return (bytes + PARE_PLAN_ALIGN - 1) / PARE_PLAN_ALIGN * PARE_PLAN_ALIGN; }

/* Bytes of v rounded up, never 0: a tensor that is there has an address. */
static PareStatus own_bytes(PareCtx *c, const PareValue *v, size_t *bytes) {
  if (!pare_type_bytes(&v->type, bytes) || *bytes > SIZE_MAX / 4)
    return pare_error(c, PARE_UNSUPPORTED, "the size of '%s' is not known or too large", v->name);
  if (*bytes && v->role == PARE_CONST && !v->data)
    return pare_error(c, PARE_FORMAT, "the constant '%s' has no data", v->name);
  *bytes = *bytes ? round_up(*bytes) : PARE_PLAN_ALIGN;
  return PARE_OK;
}

/* States, inputs and constants that cannot be read in place: one block. */
static PareStatus own_new(PareCtx *c, PareProgram *p, const bool *needed) {
  const PareGraph *g = p->graph;
  PareDevice *d = p->device;
  size_t total = 0, bytes, at = 0;
  for (size_t i = 0; i < g->values.n; i++) {
    size_t *sum = own_memory(p, g->values.at[i], needed[i]);
    if (!sum) continue;
    PARE_TRY(own_bytes(c, g->values.at[i], &bytes));
    *sum += bytes;
    if (!pare_add_size(total, bytes, &total)) return pare_nomem(c);
  }
  PARE_TRY(block_new(c, p, total, &p->own));
  PareStatus s = d->clear(d, p->own, total);
  for (size_t i = 0; i < g->values.n && s == PARE_OK; i++) {
    const PareValue *v = g->values.at[i];
    if (!own_memory(p, v, needed[i])) continue;
    PARE_TRY(own_bytes(c, v, &bytes));
    p->data[i] = p->own + at;
    at += bytes;
    if (v->data && pare_type_bytes(&v->type, &bytes) && bytes) s = d->write(d, p->data[i], v->data, bytes);
  }
  return s == PARE_OK ? s : device_failed(c, p, s);
}

static PareStatus place_values(PareCtx *c, PareProgram *p, const bool *needed) {
  const PareGraph *g = p->graph;
  PARE_TRY(block_new(c, p, p->plan.bytes, &p->slab));
  p->memory.results = p->plan.bytes;
  PARE_TRY(own_new(c, p, needed));
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    uint32_t record = p->plan.record[i];
    if (record != PARE_NO_RECORD) p->data[i] = p->slab + p->plan.records.at[record].offset;
    else if (!p->data[i] && v->data && p->device->host) p->data[i] = (void *)v->data;
    p->home[i] = p->data[i];
  }
  return PARE_OK;
}

/* --- buffers on the host, of a device that has its own memory --- */

static bool has_mirror(const PareProgram *p, const PareValue *v) {
  if (v->role == PARE_INPUT || v->role == PARE_STATE) return true;
  return p->readable[v->id] && !(is_constant(p, v) && v->data && is_aligned(v->data, v->type.dtype));
}

static PareStatus mirrors_new(PareCtx *c, PareProgram *p) {
  const PareGraph *g = p->graph;
  PareDevice *d = p->device;
  size_t total = 0, bytes, at = 0;
  void *block = NULL;
  bool *shown = PARE_NEW_N(c->scratch, g->values.n, bool); /* roots */
  if (!shown) return pare_nomem(c);
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *root = p->plan.root[i];
    if (!has_mirror(p, g->values.at[i]) || shown[root->id]) continue;
    shown[root->id] = true;
    PARE_TRY(own_bytes(c, root, &bytes));
    if (!pare_add_size(total, bytes, &total)) return pare_nomem(c);
  }
  PareStatus s = d->alloc_host(d, total, &block);
  if (s != PARE_OK) return device_failed(c, p, s);
  memset(p->mirrors = block, 0, total);
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (is_constant(p, v) && v->data) p->mirror[i] = (void *)v->data; /* its own, unless it is unaligned and shown */
    if (!shown[i]) continue;
    PARE_TRY(own_bytes(c, v, &bytes));
    p->mirror[i] = p->mirrors + at;
    at += bytes;
    if (v->data && pare_type_bytes(&v->type, &bytes) && bytes) memcpy(p->mirror[i], v->data, bytes);
  }
  return PARE_OK;
}

/* Second buffers, landings and marks of the inputs. */
static PareStatus inlets_new(PareCtx *c, PareProgram *p) {
  const PareGraph *g = p->graph;
  PareDevice *d = p->device;
  size_t total = 0, at = 0, bytes;
  void *block = NULL;
  if (!(p->inlet = PARE_NEW_N(p->arena, g->inputs.n, PareInlet))) return pare_nomem(c);
  for (size_t i = 0; i < g->inputs.n; i++) {
    PARE_TRY(own_bytes(c, g->inputs.at[i], &bytes));
    if (!pare_add_size(total, bytes, &total)) return pare_nomem(c);
  }
  PARE_TRY(block_new(c, p, total, &p->landings));
  PareStatus s = d->alloc_host(d, total, &block);
  if (s != PARE_OK) return device_failed(c, p, s);
  memset(p->others = block, 0, total);
  p->memory.inputs += total;
  for (size_t i = 0; i < g->inputs.n && s == PARE_OK; i++) {
    const PareValue *v = g->inputs.at[i];
    PareInlet *in = &p->inlet[i];
    *in = (PareInlet){.buffer = {p->mirror[v->id], p->others + at}, .landing = p->landings + at};
    if (pare_type_bytes(&v->type, &in->bytes)) s = pare_inlet_begin(d, in);
    PARE_TRY(own_bytes(c, v, &bytes));
    at += bytes;
  }
  return s == PARE_OK ? s : device_failed(c, p, s);
}

static PareStatus faults_new(PareCtx *c, PareProgram *p) {
  PareDevice *d = p->device;
  size_t bytes = (p->nsteps + 1) * sizeof *p->fault;
  unsigned char *on;
  void *seen = NULL;
  PARE_TRY(block_new(c, p, bytes, &on));
  p->memory.rest += bytes;
  p->fault = (uint32_t *)(void *)on;
  PareStatus s = d->clear(d, p->fault, bytes);
  if (s == PARE_OK) s = d->alloc_host(d, bytes, &seen);
  p->fault_seen = seen;
  for (size_t i = 0; i < p->nsteps; i++) p->step[i].args.fault = p->fault + i;
  return s == PARE_OK ? s : device_failed(c, p, s);
}

/* Constants are copied, the workspace taken: all that the first step needs. */
static PareStatus prepare_device(PareCtx *c, PareProgram *p) {
  if (p->device->host) {
    p->mirror = p->data;
    return PARE_OK;
  }
  p->mirror = PARE_NEW_N(p->arena, p->graph->values.n, void *);
  if (!p->mirror) return pare_nomem(c);
  PARE_TRY(mirrors_new(c, p));
  PARE_TRY(inlets_new(c, p));
  PARE_TRY(faults_new(c, p));
  PareStatus s = p->device->sync(p->device);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

/* --- steps --- */

static void step_tensors(PareProgram *p, Step *s, size_t first) {
  const PareNode *n = s->node;
  for (int i = 0; i < n->nin + n->nout; i++) {
    const PareValue *v = i < n->nin ? n->in[i] : n->out[i - n->nin];
    if (!v) continue;
    const PareValue *root = p->plan.root[v->id];
    void *data = p->data[root->id];
    /* An input of which only the type matters may have no memory. */
    p->tensor[first + (size_t)i] = (PareTensor){data ? data : p->slab, v->type};
    p->shows[first + (size_t)i] = root;
    if (is_constant(p, v)) p->known[first + (size_t)i] = v->data;
  }
  s->args = (PareKernelArgs){.in = p->tensor + first, .nin = n->nin, .out = p->tensor + first + n->nin,
                             .nout = n->nout, .attr = &n->attr, .queue = p->device->queue};
  if (!p->device->host) s->args.known = p->known + first;
}

static PareStatus step_failed(PareCtx *c, const PareProgram *p, const Step *s, PareStatus status) {
  const char *why = s->args.why ? s->args.why : p->device->why[0] ? p->device->why : pare_status_text(status);
  return pare_fail(c, s->node, status, "%s", why);
}

/* Takes the step into the group of its time; what the group's steps need of the workspace is laid side by side. */
static void join_group(PareProgram *p, Step *s, Step **group) {
  if (!*group || (*group)->when != s->when) *group = s;
  else s->part = round_up(s[-1].part + s[-1].args.workspace_bytes);
  (*group)->count++;
  p->args[s - p->step] = &s->args;
  size_t end = s->part + s->args.workspace_bytes;
  if (end > p->memory.workspace) p->memory.workspace = end;
}

static PareStatus make_steps(PareCtx *c, PareProgram *p, size_t n, PareNode *const *list, const uint32_t *when) {
  Step *group = NULL;
  p->step = PARE_NEW_N(p->arena, n, Step);
  p->args = PARE_NEW_N(p->arena, n, PareKernelArgs *);
  for (size_t i = 0; i < n; i++)
    if (!pare_is_view(list[i])) p->ntensors += (size_t)(list[i]->nin + list[i]->nout);
  p->tensor = PARE_NEW_N(p->arena, p->ntensors, PareTensor);
  p->shows = PARE_NEW_N(p->arena, p->ntensors, const PareValue *);
  p->known = PARE_NEW_N(p->arena, p->ntensors, const void *);
  if (!p->step || !p->args || !p->tensor || !p->shows || !p->known) return pare_nomem(c);
  size_t first = 0;
  for (size_t i = 0; i < n; i++) {
    if (pare_is_view(list[i])) continue;
    Step *s = &p->step[p->nsteps++];
    *s = (Step){.node = list[i], .kernel = &p->device->kernels[list[i]->op], .when = when[i]};
    step_tensors(p, s, first);
    first += (size_t)(s->node->nin + s->node->nout);
    PareStatus status = s->kernel->plan ? s->kernel->plan(&s->args) : PARE_OK;
    if (status != PARE_OK) return step_failed(c, p, s, status);
    join_group(p, s, &group);
  }
  PARE_TRY(block_new(c, p, p->memory.workspace, &p->workspace));
  for (size_t i = 0; i < p->nsteps; i++) p->step[i].args.workspace = p->workspace + p->step[i].part;
  return PARE_OK;
}

/* Who reads what: kernels say which inputs they take at any address; all else is aligned. */
static void find_strict(PareProgram *p, size_t n, PareNode *const *list) {
  for (size_t i = 0; i < p->graph->values.n; i++) p->strict[p->plan.root[i]->id] |= p->readable[i];
  for (size_t i = 0; i < n; i++) {
    unsigned loose = p->device->kernels[list[i]->op].loose;
    for (int k = 0; k < list[i]->nin && !pare_is_view(list[i]); k++)
      if (list[i]->in[k] && !(k < 32 && (loose >> k & 1))) p->strict[p->plan.root[list[i]->in[k]->id]->id] = true;
  }
}

static PareStatus make_plan(PareCtx *c, PareProgram *p, size_t n, PareNode *const *list, const uint32_t *when) {
  if (!p->passing) return pare_plan_make(c, p->arena, p->graph, n, list, when, p->readable, NULL, &p->plan);
  bool *none = PARE_NEW_N(c->scratch, p->graph->values.n + 1, bool);
  return none ? pare_plan_make(c, p->arena, p->graph, n, list, when, none, p->readable, &p->plan) : pare_nomem(c);
}

static PareStatus program_make(PareCtx *c, PareProgram *p, size_t npins, PareValue *const *pins) {
  const PareGraph *g = p->graph;
  p->data = PARE_NEW_N(p->arena, g->values.n, void *);
  p->home = PARE_NEW_N(p->arena, g->values.n, void *);
  p->readable = PARE_NEW_N(p->arena, g->values.n, bool);
  p->strict = PARE_NEW_N(p->arena, g->values.n, bool);
  bool *needed = PARE_NEW_N(c->scratch, g->values.n, bool);
  if (!p->data || !p->home || !p->readable || !p->strict || !needed) return pare_nomem(c);
  for (size_t i = 0; i < g->outputs.n; i++) p->readable[g->outputs.at[i]->id] = true;
  for (size_t i = 0; i < npins; i++) p->readable[pins[i]->id] = true;
  memcpy(needed, p->readable, g->values.n * sizeof *needed);
  PareNode **list = NULL;
  size_t n = 0;
  PARE_TRY(choose(c, g, p->device, needed, &list, &n));
  uint32_t *when = PARE_NEW_N(c->scratch, n, uint32_t);
  if (!when) return pare_nomem(c);
  PARE_TRY(pare_group_steps(c, g, p->device->kernels, n, list, when));
  PARE_TRY(make_plan(c, p, n, list, when));
  find_strict(p, n, list);
  PARE_TRY(place_values(c, p, needed));
  PARE_TRY(make_steps(c, p, n, list, when));
  PARE_TRY(prepare_device(c, p));
  for (size_t i = 0; i < g->values.n; i++)
    if (g->values.at[i]->role != PARE_RESULT) p->readable[i] = true;
  return PARE_OK;
}

/* On p->device, or on the host with p's own kernels where that is NULL. Takes p, which is NULL where memory is out. */
static PareStatus program_finish(PareCtx *c, PareProgram *p, size_t npins, PareValue *const *pins, PareProgram **out) {
  *out = NULL;
  if (!p) return pare_nomem(c);
  if (!p->device) p->device = &p->cpu;
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = program_make(c, p, npins, pins);
  pare_arena_rewind(c->scratch, mark);
  if (s == PARE_OK) *out = p;
  else pare_program_free(p);
  return s;
}

static PareProgram *program_start(const PareGraph *g, PareDevice *d, const PareKernel *kernels) {
  PareArena *arena = pare_arena_new(1 << 16);
  PareProgram *p = arena ? PARE_NEW(arena, PareProgram) : NULL;
  if (!p) return pare_arena_free(arena), NULL;
  p->arena = arena;
  p->graph = g;
  p->cpu = pare_device_cpu(kernels);
  p->device = d;
  return p;
}

PareStatus pare_program_new_on(PareCtx *c, const PareGraph *g, PareDevice *d, size_t npins, PareValue *const *pins,
                               PareProgram **out) {
  return program_finish(c, program_start(g, d, NULL), npins, pins, out);
}
PareStatus pare_program_new_resident(PareCtx *c, const PareGraph *g, PareDevice *d, size_t npins,
                                     PareValue *const *pins, PareProgram **out) {
  PareProgram *p = program_start(g, d, NULL);
  if (p) p->resident = true;
  return program_finish(c, p, npins, pins, out);
}
PareStatus pare_program_new_pinned(PareCtx *c, const PareGraph *g, const PareKernel *kernels, size_t npins,
                                   PareValue *const *pins, PareProgram **out) {
  return program_finish(c, program_start(g, NULL, kernels), npins, pins, out);
}
PareStatus pare_program_new_passing(PareCtx *c, const PareGraph *g, const PareKernel *kernels, PareProgram **out) {
  PareProgram *p = program_start(g, NULL, kernels);
  if (p) p->passing = true;
  return program_finish(c, p, 0, NULL, out);
}
PareStatus pare_program_new(PareCtx *c, const PareGraph *g, const PareKernel *kernels, PareProgram **out) {
  return program_finish(c, program_start(g, NULL, kernels), 0, NULL, out);
}

/* --- running --- */

/* The steps of a group, of which step i is the first. Careful: they are waited for, so that what a device cannot do is
 * told of the node that wanted it. */
static PareStatus run_group(PareCtx *c, PareProgram *p, size_t i, bool careful) {
  Step *s = &p->step[i], *blamed = s;
  for (int k = 0; k < s->count; k++) s[k].args.why = NULL;
  PareStatus status = p->profile.on ? pare_profile_begin(p->device, &p->profile, i) : PARE_OK;
  if (status == PARE_OK)
    status = s->count == 1 ? s->kernel->run(&s->args) : s->kernel->run_many(p->args + i, s->count);
  if (status == PARE_OK && p->profile.on) status = pare_profile_end(p->device, &p->profile, i);
  if (status == PARE_OK && careful) status = p->device->sync(p->device);
  for (int k = s->count - 1; k >= 0; k--)
    if (s[k].args.why) blamed = s + k;
  return status == PARE_OK ? PARE_OK : step_failed(c, p, blamed, status);
}

static PareStatus run_steps(PareCtx *c, PareProgram *p, int phase, bool careful) {
  for (size_t i = 0; i < p->nsteps; i += (size_t)p->step[i].count)
    if (phase < 0 || p->step[i].node->phase == phase) PARE_TRY(run_group(c, p, i, careful));
  return PARE_OK;
}

/* Keeps the work of a phase instead of running it. */
static PareStatus record(PareCtx *c, PareProgram *p, int phase, void **out) {
  PareDevice *d = p->device;
  PareStatus s = d->record_begin(d);
  if (s != PARE_OK) return device_failed(c, p, s);
  PareStatus queued = run_steps(c, p, phase, false);
  s = d->record_end(d, out); /* also when that failed */
  if (queued != PARE_OK) return queued;
  return s == PARE_OK ? s : device_failed(c, p, s);
}

/* The first run is plain: kernels are loaded by it, and each is waited for. The second is kept, where the device can, and
 * from then on replayed. */
PareStatus pare_program_run(PareCtx *c, PareProgram *p, int phase) {
  PareDevice *d = p->device;
  int slot = phase + 1;
  if (!d->record_begin || p->profile.on || slot >= PHASES) return run_steps(c, p, phase, false);
  if (p->phase[slot].runs++ == 0) return run_steps(c, p, phase, true);
  if (!p->phase[slot].record) PARE_TRY(record(c, p, phase, &p->phase[slot].record));
  PareStatus s = d->replay(d, p->phase[slot].record);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

/* --- buffers --- */

void *pare_program_buffer(const PareProgram *p, const PareValue *v) {
  return p->readable[v->id] || is_constant(p, v) ? p->mirror[p->plan.root[v->id]->id] : NULL;
}

static PareStatus push_input(PareProgram *p, const PareValue *v) {
  size_t i = 0;
  while (p->graph->inputs.at[i] != v) i++;
  PareStatus s = pare_inlet_push(p->device, &p->inlet[i], p->data[v->id]);
  p->mirror[v->id] = p->inlet[i].buffer[p->inlet[i].turn];
  return s;
}

PareStatus pare_program_push(PareCtx *c, PareProgram *p, const PareValue *v) {
  PareDevice *d = p->device;
  size_t bytes;
  void *to = p->data[v->id];
  assert(v->role == PARE_INPUT || v->role == PARE_STATE);
  if (d->host || !to || !pare_type_bytes(&v->type, &bytes) || !bytes) return PARE_OK;
  PareStatus s = v->role == PARE_INPUT ? push_input(p, v) : d->write(d, to, p->mirror[v->id], bytes);
  if (s == PARE_OK && v->role == PARE_STATE) s = d->sync(d);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

static PareStatus check_faults(PareCtx *c, const PareProgram *p, const uint32_t *seen) {
  static const char *const text[] = {
#define X(id, text) [PARE_FAULT_##id] = text,
      PARE_FAULT_LIST(X)
#undef X
  };
  for (size_t i = 0; i < p->nsteps; i++) {
    uint32_t f = seen[i];
    if (f) return pare_fail(c, p->step[i].node, PARE_DATA, "%s", f < PARE_FAULT_COUNT ? text[f] : "the data are wrong");
  }
  return PARE_OK;
}

PareStatus pare_program_pull(PareCtx *c, PareProgram *p, const PareValue *v) {
  PareDevice *d = p->device;
  const PareValue *root = p->plan.root[v->id];
  size_t bytes;
  if (d->host || !pare_program_buffer(p, v)) return PARE_OK;
  PareStatus s = PARE_OK;
  if (!is_constant(p, root) && pare_type_bytes(&root->type, &bytes) && bytes && p->data[root->id])
    s = d->read(d, p->mirror[root->id], p->data[root->id], bytes);
  if (s == PARE_OK && p->nsteps) s = d->read(d, p->fault_seen, p->fault, p->nsteps * sizeof *p->fault);
  if (s == PARE_OK) s = d->sync(d);
  return s == PARE_OK ? check_faults(c, p, p->fault_seen) : device_failed(c, p, s);
}

PareStatus pare_program_watch(PareCtx *c, PareProgram *p, size_t n, const PareValue *const *values) {
  PareOutlet *o = &p->outlet;
  assert(!o->n);
  if (p->device->host) return PARE_OK;
  p->watched = PARE_NEW_N(p->arena, n + 1, const PareValue *);
  o->from = PARE_NEW_N(p->arena, n + 1, const void *);
  o->bytes = PARE_NEW_N(p->arena, n + 1, size_t);
  if (!p->watched || !o->from || !o->bytes) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) {
    const PareValue *root = p->plan.root[values[i]->id];
    assert(p->readable[values[i]->id]);
    if (is_constant(p, root) || !p->data[root->id] || !pare_type_bytes(&root->type, &o->bytes[o->n])) continue;
    o->from[o->n] = p->data[root->id];
    p->watched[o->n++] = root;
  }
  o->from[o->n] = p->fault;
  o->bytes[o->n++] = p->nsteps * sizeof *p->fault;
  PareStatus s = pare_outlet_begin(p->device, o);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

PareStatus pare_program_fetch(PareCtx *c, PareProgram *p) {
  PareStatus s = p->device->host ? PARE_OK : pare_outlet_fetch(p->device, &p->outlet);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

PareStatus pare_program_show(PareCtx *c, PareProgram *p) {
  const PareOutlet *o = &p->outlet;
  unsigned char *room = NULL;
  if (p->device->host) return PARE_OK;
  PareStatus s = pare_outlet_show(p->device, &p->outlet, &room);
  if (s != PARE_OK) return device_failed(c, p, s);
  for (size_t i = 0; i + 1 < o->n; i++) p->mirror[p->watched[i]->id] = room + pare_outlet_at(o, i);
  return check_faults(c, p, (const uint32_t *)(void *)(room + pare_outlet_at(o, o->n - 1)));
}

int pare_program_ahead(const PareProgram *p) { return p->device->host ? 0 : PARE_OUTLET_AHEAD; }

void pare_program_bind(PareProgram *p, const PareValue *input, const void *data) {
  assert(p->device->host && input->role == PARE_INPUT && is_aligned(data, input->type.dtype));
  p->data[input->id] = data ? (void *)data : p->home[input->id];
  for (size_t i = 0; i < p->ntensors; i++)
    if (p->shows[i] == input) p->tensor[i].data = p->data[input->id];
}

PareProgramMemory pare_program_memory(const PareProgram *p) { return p->memory; }

size_t pare_program_bytes(const PareProgram *p) {
  const PareProgramMemory *m = &p->memory;
  return m->results + m->workspace + m->states + m->inputs + m->constants + m->rest;
}

PareStatus pare_program_profile(PareCtx *c, PareProgram *p) {
  PareStatus s = pare_profile_start(p->device, &p->profile, p->arena, p->nsteps);
  return s == PARE_OK ? s : device_failed(c, p, s);
}

PareStatus pare_program_times(PareCtx *c, PareProgram *p, double *seconds_by_node) {
  PareStatus s = pare_profile_stop(p->device, &p->profile);
  if (s != PARE_OK) return device_failed(c, p, s);
  for (size_t i = 0, first = 0; i < p->nsteps; i++) {
    if (p->step[i].count) first = i;
    seconds_by_node[p->step[i].node->id] += p->profile.seconds[first] / p->step[first].count;
  }
  return PARE_OK;
}
