/* program.h - a bound graph made ready to run on one device: kernels chosen,
 * memory planned and taken. Nothing is allocated while it runs.
 *
 * A device may have memory of its own. Then buffers are copies on the host:
 * push brings one to the device, pull fetches it. On the CPU both are free and
 * the buffer is the tensor itself, so callers always push and pull. */
#ifndef PARE_RUNTIME_PROGRAM_H
#define PARE_RUNTIME_PROGRAM_H

#include "ir/ir.h"
#include "kernels/device.h"

typedef struct PareProgram PareProgram;

/* Bytes of the device, by what they are for. Constants that are read where they lie cost nothing. The rest: words of
 * what work finds wrong, and what blocks are rounded up by. */
typedef struct PareProgramMemory {
  size_t results, workspace, states, inputs, constants, rest;
} PareProgramMemory;

/* Takes the nodes that outputs, `pins` and states need; results that binding has
 * worked out are constants. `g` is borrowed and must not change. Errors name the
 * node: PARE_UNSUPPORTED (no kernel, a type not known), PARE_NOMEM.
 * Pair: pare_program_free (NULL is fine). */
PARE_MUST_USE PareStatus pare_program_new(PareCtx *c, const PareGraph *g, const PareKernel *kernels,
                                          PareProgram **out);
/* The same; results in `pins` stay readable after a run, as outputs do. */
PARE_MUST_USE PareStatus pare_program_new_pinned(PareCtx *c, const PareGraph *g, const PareKernel *kernels,
                                                 size_t npins, PareValue *const *pins, PareProgram **out);
/* The same on a device, which is borrowed. PARE_NOMEM, saying what is wanted and what is free, when it does not fit. */
PARE_MUST_USE PareStatus pare_program_new_on(PareCtx *c, const PareGraph *g, PareDevice *d, size_t npins,
                                             PareValue *const *pins, PareProgram **out);
/* The same; on a host, large constants are copied into the program's memory too. A program that runs often reads them
 * there twice as fast as in a mapped file (base/pages.h). */
PARE_MUST_USE PareStatus pare_program_new_resident(PareCtx *c, const PareGraph *g, PareDevice *d, size_t npins,
                                                   PareValue *const *pins, PareProgram **out);
/* On the host: outputs can be read until a later phase than that of their node is run. Nodes are in the order of their
 * phases, and so are runs: what a program holds is what one phase needs. */
PARE_MUST_USE PareStatus pare_program_new_passing(PareCtx *c, const PareGraph *g, const PareKernel *kernels,
                                                  PareProgram **out);
void pare_program_free(PareProgram *p);

/* Runs the nodes of a phase in order, or in one in which they see the same (runtime/group.h); phase -1 is all of them. Phase 0 may run
 * several times before phase 1, which sees the results of the last time. A GPU
 * may still be at work afterwards: what it finds wrong is told by the next pull. */
PARE_MUST_USE PareStatus pare_program_run(PareCtx *c, PareProgram *p, int phase);

/* Inputs: memory to fill, or what was bound. States, constants: their bytes.
 * Results: only outputs and pins; NULL for others, since their place is reused. */
void *pare_program_buffer(const PareProgram *p, const PareValue *v);
/* What was written to the buffer of an input or a state is what the next run sees. An input's buffer is another one
 * afterwards, to be filled whole, so that a device can copy the last batch while the host gathers the next. A state's
 * stays, and its push waits. */
PARE_MUST_USE PareStatus pare_program_push(PareCtx *c, PareProgram *p, const PareValue *v);
/* Waits for what has been run and makes the buffer show its result. Values without a buffer are left alone. */
PARE_MUST_USE PareStatus pare_program_pull(PareCtx *c, PareProgram *p, const PareValue *v);

/* Results that are looked at while the program goes on. watch: which, outputs or pins; once. fetch: as the runs so far
 * leave them. show waits for the oldest fetch that was not shown, makes the buffers show it until the next fetch, and
 * tells what the work before it found wrong. No more than pare_program_ahead fetches may wait to be shown when the
 * program is run again: none on a host, where all this costs nothing. */
PARE_MUST_USE PareStatus pare_program_watch(PareCtx *c, PareProgram *p, size_t n, const PareValue *const *values);
PARE_MUST_USE PareStatus pare_program_fetch(PareCtx *c, PareProgram *p);
PARE_MUST_USE PareStatus pare_program_show(PareCtx *c, PareProgram *p);
int pare_program_ahead(const PareProgram *p);

/* Hosts only. The input is read from `data`, aligned to its element, from now on; NULL: from the program's memory again. */
void pare_program_bind(PareProgram *p, const PareValue *input, const void *data);

PareProgramMemory pare_program_memory(const PareProgram *p);
/* All of it. */
size_t pare_program_bytes(const PareProgram *p);
/* From now on runs are timed: by the host's clock, or on the device, which is not waited for. */
PARE_MUST_USE PareStatus pare_program_profile(PareCtx *c, PareProgram *p);
/* No longer. Waits, and adds the time of each node's runs, its share of a group's, to seconds_by_node[node id]. */
PARE_MUST_USE PareStatus pare_program_times(PareCtx *c, PareProgram *p, double *seconds_by_node);

#endif
