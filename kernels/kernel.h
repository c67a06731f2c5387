/* kernel.h - what a kernel is given. Kernels see plain buffers and an op's
 * attributes: no graph, no ONNX, no policy. Tensors are contiguous, row-major. */
#ifndef PARE_KERNELS_KERNEL_H
#define PARE_KERNELS_KERNEL_H

#include "ir/ir.h"

typedef struct PareTensor {
  void *data; /* aligned to its element; NULL: an optional tensor that is left out */
  PareType type;
} PareTensor;

typedef struct PareKernelArgs {
  const PareTensor *in;
  const PareTensor *out;
  int nin, nout;
  const PareAttrs *attr;
  void *workspace;        /* workspace_bytes, 64-aligned: a kernel's run never allocates */
  size_t workspace_bytes; /* set by plan */
  void *state;            /* made by plan, freed by release */
  const char *why;        /* on failure: a string literal that says what is wrong */

  /* For devices with memory of their own; NULL on the CPU. */
  const void *const *known; /* by input: its bytes on the host, maybe unaligned, where they are known for good */
  void *queue;              /* PareDevice.queue: run puts its work there and does not wait for it */
  uint32_t *fault;          /* in the device's memory: the work sets it to a PareFault when it meets wrong data */
} PareKernelArgs;

/* Failures are PARE_DATA (an index out of range, say), PARE_UNSUPPORTED (types),
 * PARE_NOMEM or PARE_DEVICE; the executor adds the node. */
typedef PareStatus PareKernelFn(PareKernelArgs *a);

typedef struct PareKernel {
  PareKernelFn *plan; /* NULL: no workspace, no state. Sees types, not data */
  PareKernelFn *run;
  /* NULL, or does what run does on each of n calls, none of which reads or writes what another writes, with less work to
   * begin. The call that fails has a `why`. */
  PareStatus (*run_many)(PareKernelArgs *const *a, int n);
  void (*release)(void *state);
  unsigned loose; /* bit i: input i may lie at any address, as weights in a mapped file do */
} PareKernel;

/* The CPU device's kernels, by PareOp, for the instructions that this machine
 * has; run is NULL for NONE and VIEW rows. */
const PareKernel *pare_cpu_kernels(void);

#endif
