#include "runtime/transfer.h"

#include <assert.h>

enum { ALIGN = 64 };

PareStatus pare_inlet_begin(PareDevice *d, PareInlet *in) {
  PARE_TRY(d->mark_new(d, false, &in->sent[0]));
  PARE_TRY(d->mark_new(d, false, &in->sent[1]));
  return d->mark_new(d, false, &in->moved);
}

void pare_inlet_end(PareDevice *d, PareInlet *in) {
  d->mark_free(d, in->sent[0]);
  d->mark_free(d, in->sent[1]);
  d->mark_free(d, in->moved);
}

PareStatus pare_inlet_push(PareDevice *d, PareInlet *in, void *to) {
  int i = in->turn;
  PARE_TRY(d->after(d, in->moved, PARE_LANE_COPY));
  PARE_TRY(d->send(d, in->landing, in->buffer[i], in->bytes));
  PARE_TRY(d->mark_set(d, in->sent[i], PARE_LANE_COPY));
  PARE_TRY(d->after(d, in->sent[i], PARE_LANE_WORK));
  PARE_TRY(d->move(d, to, in->landing, in->bytes));
  PARE_TRY(d->mark_set(d, in->moved, PARE_LANE_WORK));
  in->turn = 1 - i;
  return d->await(d, in->sent[in->turn]);
}

size_t pare_outlet_at(const PareOutlet *o, size_t i) {
  size_t at = 0;
  for (size_t k = 0; k < i; k++) at += (o->bytes[k] + ALIGN - 1) / ALIGN * ALIGN;
  return at;
}

PareStatus pare_outlet_begin(PareDevice *d, PareOutlet *o) {
  void *room;
  for (int i = 0; i < 2; i++) {
    PARE_TRY(d->alloc_host(d, pare_outlet_at(o, o->n), &room));
    o->room[i] = room;
    PARE_TRY(d->mark_new(d, false, &o->done[i]));
  }
  return PARE_OK;
}

void pare_outlet_end(PareDevice *d, PareOutlet *o) {
  for (int i = 0; i < 2; i++) {
    d->free_host(d, o->room[i]);
    d->mark_free(d, o->done[i]);
  }
}

PareStatus pare_outlet_fetch(PareDevice *d, PareOutlet *o) {
  unsigned i = o->fetched % 2;
  assert(o->fetched - o->shown <= PARE_OUTLET_AHEAD);
  for (size_t k = 0; k < o->n; k++)
    if (o->bytes[k]) PARE_TRY(d->read(d, o->room[i] + pare_outlet_at(o, k), o->from[k], o->bytes[k]));
  PARE_TRY(d->mark_set(d, o->done[i], PARE_LANE_WORK));
  o->fetched++;
  return PARE_OK;
}

PareStatus pare_outlet_show(PareDevice *d, PareOutlet *o, unsigned char **out) {
  unsigned i = o->shown % 2;
  assert(o->shown < o->fetched);
  PARE_TRY(d->await(d, o->done[i]));
  o->shown++;
  *out = o->room[i];
  return PARE_OK;
}
