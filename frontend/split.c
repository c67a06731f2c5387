#include "frontend/split.h"

#include <string.h>

#include "proto/wire.h"

typedef struct Split {
  PareCtx *c;
  const uint8_t *base;
  PareBuf out;
} Split;

/* A length in five bytes, so that it can be written after what it measures. */
static void patch_length(PareBuf *b, size_t at, size_t len) {
  for (int i = 0; i < 4; i++) b->at[at + (size_t)i] = (uint8_t)(len >> (7 * i) | 128);
  b->at[at + 4] = (uint8_t)(len >> 28 & 7);
}

static PareStatus walk(Split *s, PareCursor c, PareMsg msg, int depth);

static PareStatus walk_child(Split *s, const PareField *f, PareMsg child, int depth) {
  static const uint8_t room[5];
  if (depth == PARE_MAX_NESTING)
    return pare_error(s->c, PARE_FORMAT, "messages are nested deeper than %d levels", PARE_MAX_NESTING);
  pare_buf_tag(&s->out, f->num, PARE_WIRE_BYTES);
  size_t at = s->out.n;
  pare_buf_put(&s->out, room, sizeof room);
  PARE_TRY(walk(s, pare_wire_inside(f), child, depth + 1));
  if (s->out.failed) return pare_nomem(s->c);
  size_t len = s->out.n - at - sizeof room;
  if (len > INT32_MAX) return pare_error(s->c, PARE_FORMAT, "more than 2 GiB of structure");
  patch_length(&s->out, at, len);
  return PARE_OK;
}

static PareStatus walk(Split *s, PareCursor c, PareMsg msg, int depth) {
  PareField f;
  int graphs = 0, raws = 0;
  while (pare_wire_next(&c, &f)) {
    PareMsg child = f.wire == PARE_WIRE_BYTES ? pare_msg_child(msg, f.num) : PARE_MSG_LEAF;
    if (msg == PARE_MSG_MODEL && child == PARE_MSG_GRAPH && graphs++)
      return pare_error(s->c, PARE_FORMAT, "the model holds two graphs");
    if (child != PARE_MSG_LEAF) {
      PARE_TRY(walk_child(s, &f, child, depth));
    } else if (msg == PARE_MSG_TENSOR && f.num == PARE_TENSOR_RAW && f.wire == PARE_WIRE_BYTES) {
      if (raws++) return pare_error(s->c, PARE_FORMAT, "a tensor has raw_data twice");
      PareRange r = {(uint64_t)(f.body - s->base), f.len};
      pare_buf_field_bytes(&s->out, f.num, &r, sizeof r);
    } else {
      if (f.len > INT32_MAX) return pare_error(s->c, PARE_FORMAT, "a field other than raw_data is over 2 GiB");
      pare_buf_copy(&s->out, &f);
    }
  }
  if (c.p != c.end)
    return pare_error(s->c, PARE_FORMAT, "not an ONNX model, or cut short (byte %zu)", (size_t)(c.p - s->base));
  return s->out.failed ? pare_nomem(s->c) : PARE_OK;
}

PareStatus pare_split(PareCtx *c, PareArena *a, const uint8_t *file, size_t len, uint8_t **thin, size_t *thin_len) {
  Split s = {.c = c, .base = file, .out = {.arena = a}};
  PARE_TRY(walk(&s, (PareCursor){file, file + len}, PARE_MSG_MODEL, 0));
  *thin = s.out.at;
  *thin_len = s.out.n;
  return PARE_OK;
}
