/* transfer.h - ways between the host and a device with memory of its own on which neither waits for the other: an inlet
 * for each input, an outlet for results that are looked at while the program goes on. */
#ifndef PARE_RUNTIME_TRANSFER_H
#define PARE_RUNTIME_TRANSFER_H

#include "kernels/device.h"

/* One input. While a buffer is on its way, the other is filled; what has arrived waits in `landing` until the work
 * before it has read the input. */
typedef struct PareInlet {
  void *buffer[2]; /* on the host, `bytes` each; borrowed */
  void *landing;   /* on the device; borrowed */
  size_t bytes;
  void *sent[2], *moved; /* marks: buffer i, the landing may be overwritten */
  int turn;              /* the buffer that is filled now */
} PareInlet;

/* Makes the marks; buffers are the caller's. Pair: pare_inlet_end, also after a failure. */
PARE_MUST_USE PareStatus pare_inlet_begin(PareDevice *d, PareInlet *in);
void pare_inlet_end(PareDevice *d, PareInlet *in);
/* Queues the way of the filled buffer to `to`, before all work that is queued from now on, and takes the other, for
 * which it waits if that is still on its way. */
PARE_MUST_USE PareStatus pare_inlet_push(PareDevice *d, PareInlet *in, void *to);

/* Some tensors on the device, copied out together. Copies go in turn to two places on the host. */
typedef struct PareOutlet {
  size_t n;
  const void **from; /* on the device; borrowed, as `bytes` is */
  size_t *bytes;
  unsigned char *room[2]; /* on the host: the tensors one after another, each aligned */
  void *done[2];          /* marks */
  unsigned fetched, shown;
} PareOutlet;

enum { PARE_OUTLET_AHEAD = 1 }; /* fetches that may wait to be shown when another is made */

/* Takes the host's memory for o->n tensors. Pair: pare_outlet_end, also after a failure. */
PARE_MUST_USE PareStatus pare_outlet_begin(PareDevice *d, PareOutlet *o);
void pare_outlet_end(PareDevice *d, PareOutlet *o);
/* Queues copies of the tensors as the work so far leaves them. */
PARE_MUST_USE PareStatus pare_outlet_fetch(PareDevice *d, PareOutlet *o);
/* Waits for the oldest fetch that was not shown. Its tensors lie in *out, as pare_outlet_at says, until the fetch after
 * the next. */
PARE_MUST_USE PareStatus pare_outlet_show(PareDevice *d, PareOutlet *o, unsigned char **out);
/* Where tensor i lies in a room; of o->n: the room's size. */
size_t pare_outlet_at(const PareOutlet *o, size_t i);

#endif
