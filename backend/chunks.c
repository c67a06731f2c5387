#include "backend/chunks.h"

#include <string.h>

void pare_chunks_put(PareChunks *c, const void *p, size_t len) {
  if (!len) return;
  PareChunk *last = c->at.n ? &c->at.at[c->at.n - 1] : NULL;
  c->bytes += len;
  if (last && last->len && last->p + last->len == (const uint8_t *)p) {
    last->len += len;
    return;
  }
  PareChunk x = {p, len, NULL};
  if (!pare_vec_push(c->arena, &c->at, x)) c->failed = true;
}

void pare_chunks_put_constant(PareChunks *c, const PareValue *v, size_t len) {
  if (!v->slices) {
    pare_chunks_put(c, v->data, len);
    return;
  }
  PareChunk x = {NULL, len, v->slices};
  c->bytes += len;
  if (!pare_vec_push(c->arena, &c->at, x)) c->failed = true;
}

size_t pare_chunks_reserve(PareChunks *c) {
  PareChunk none = {NULL, 0, NULL};
  if (!pare_vec_push(c->arena, &c->at, none)) c->failed = true;
  return c->at.n - 1;
}

void pare_chunks_fill(PareChunks *c, size_t index, const void *p, size_t len) {
  if (c->failed) return;
  c->at.at[index] = (PareChunk){p, len, NULL};
  c->bytes += len;
}

/* Runs of a thin constant on their way to the file: they may be a few bytes long. */
typedef struct Stream {
  PareCtx *c;
  PareOut *out;
  PareStatus status;
  size_t n; /* bytes that wait in `room` */
  uint8_t *room;
} Stream;

enum { ROOM = 1 << 18 };

static bool flush(Stream *s) {
  s->status = pare_out_write(s->c, s->out, s->room, s->n);
  s->n = 0;
  return s->status == PARE_OK;
}

static bool take(void *arg, const void *p, size_t len) {
  Stream *s = arg;
  for (size_t part; len; len -= part) {
    if (s->n == ROOM && !flush(s)) return false;
    part = len < ROOM - s->n ? len : ROOM - s->n;
    if (p) memcpy(s->room + s->n, p, part), p = (const uint8_t *)p + part;
    else memset(s->room + s->n, 0, part);
    s->n += part;
  }
  return true;
}

static PareStatus write_slices(PareCtx *c, const PareSlices *slices, PareOut *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  Stream s = {.c = c, .out = out, .room = PARE_NEW_N(c->scratch, ROOM, uint8_t)};
  if (!s.room) return pare_nomem(c);
  bool whole = pare_slices_walk(slices, take, &s) && flush(&s);
  pare_arena_rewind(c->scratch, mark);
  return whole ? PARE_OK : s.status;
}

static PareStatus write_chunk(PareCtx *c, const PareFile *from, const PareChunk *x, PareOut *out) {
  if (x->slices) return write_slices(c, x->slices, out);
  bool mapped = from->data && x->p >= from->data && x->p < from->data + from->len;
  if (mapped) return pare_out_copy(c, out, from, (size_t)(x->p - from->data), x->len);
  return pare_out_write(c, out, x->p, x->len);
}

PareStatus pare_chunks_write(PareCtx *c, const PareChunks *ch, PareOut *out) {
  for (size_t i = 0; i < ch->at.n; i++) PARE_TRY(write_chunk(c, ch->original, &ch->at.at[i], out));
  return PARE_OK;
}
