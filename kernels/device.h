/* device.h - what a program needs of the thing that it runs on: memory, copies, kernels, an order of work. The CPU's
 * is made by runtime/device.h, a GPU's by its plug-in. Work is queued and runs in order; sync waits for it. */
#ifndef PARE_KERNELS_DEVICE_H
#define PARE_KERNELS_DEVICE_H

#include "kernels/kernel.h"

/* What work on a device may find wrong with the data, after it was queued: id, text. */
#define PARE_FAULT_LIST(X)                                    \
  X(INDEX, "index is out of range")                           \
  X(LABEL, "a label is not below the number of classes")      \
  X(GROUP, "a group number is out of range")                  \
  X(DIVISION, "division of an integer by zero")

typedef enum PareFault {
  PARE_FAULT_NONE,
#define X(id, text) PARE_FAULT_##id,
  PARE_FAULT_LIST(X)
#undef X
  PARE_FAULT_COUNT
} PareFault;

/* A device may copy beside its work: each lane is an order of its own. */
typedef enum PareLane { PARE_LANE_WORK, PARE_LANE_COPY } PareLane;

typedef struct PareDevice PareDevice;

/* On failure, functions leave a sentence in `why` (on PARE_OK it is not touched). */
struct PareDevice {
  const char *name;  /* "cpu", "cuda:0" */
  const char *about; /* "NVIDIA H200, 139 GiB" */
  const PareKernel *kernels; /* by PareOp */
  void *queue;       /* for PareKernelArgs */
  bool host;         /* its memory is the host's: no copies, constants are read where they lie */
  size_t spare;      /* bytes that were free when it was opened; 0: not known */
  size_t own;        /* of these, what it keeps for itself: room for the library of products */
  size_t grain;      /* what alloc takes of them is a multiple of this; 0 on a host */
  bool tf32;         /* set by callers before programs are made: products of f32 may round operands to TF32; GPUs */
  char why[256];

  /* Aligned to 64. free takes NULL. */
  PareStatus (*alloc)(PareDevice *d, size_t bytes, void **out);
  void (*free)(PareDevice *d, void *p);
  /* Bytes that are free now; NULL on a host. */
  size_t (*free_now)(PareDevice *d);
  /* Host memory that the device copies from and to at full speed. */
  PareStatus (*alloc_host)(PareDevice *d, size_t bytes, void **out);
  void (*free_host)(PareDevice *d, void *p);

  /* Queued: the host's side must stay as it is, or is not there yet, until the next sync. */
  PareStatus (*write)(PareDevice *d, void *to, const void *from, size_t bytes);
  PareStatus (*read)(PareDevice *d, void *to, const void *from, size_t bytes);
  PareStatus (*clear)(PareDevice *d, void *to, size_t bytes);
  PareStatus (*sync)(PareDevice *d);

  /* Work that is queued between begin and end is not run but kept, to be queued as a whole by replay: NULL where
   * the device has no such thing. Pair: drop (NULL is fine). */
  PareStatus (*record_begin)(PareDevice *d);
  PareStatus (*record_end)(PareDevice *d, void **record);
  PareStatus (*replay)(PareDevice *d, void *record);
  void (*drop)(PareDevice *d, void *record);

  /* Copies beside the work, and marks that order the lanes; NULL on a host. send is write in the copies' lane, move
   * copies within the device in the work's. */
  PareStatus (*send)(PareDevice *d, void *to, const void *from, size_t bytes);
  PareStatus (*move)(PareDevice *d, void *to, const void *from, size_t bytes);
  /* A mark is passed when all that stood in its lane before it is done, or while it has never been set. `after` makes
   * a lane wait for it, `await` the host. Pair: mark_free (NULL is fine). */
  PareStatus (*mark_new)(PareDevice *d, bool timed, void **mark);
  void (*mark_free)(PareDevice *d, void *mark);
  PareStatus (*mark_set)(PareDevice *d, void *mark, PareLane lane);
  PareStatus (*after)(PareDevice *d, void *mark, PareLane lane);
  PareStatus (*await)(PareDevice *d, void *mark);
  /* Between two timed marks that have been set and passed. */
  PareStatus (*elapsed)(PareDevice *d, void *from, void *to, double *seconds);

  void (*close)(PareDevice *d);
};

/* The one function that a plug-in exports, "pare_plugin_open". `version` and `nops` are the caller's PARE_VERSION and
 * PARE_OP_COUNT and must be the plug-in's. ordinal -1: the device with most free memory. On failure (PARE_DEVICE,
 * PARE_NOMEM) `why` is one sentence. Pair: the device's close. */
typedef PareStatus ParePluginOpen(const char *version, int nops, int ordinal, PareDevice **out, char *why,
                                  size_t why_size);

#endif
