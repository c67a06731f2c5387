#include "proto/wire.h"

#include <string.h>

static bool varint(PareCursor *c, uint64_t *v) {
  *v = 0;
  for (int shift = 0; shift < 64 && c->p < c->end; shift += 7) {
    uint8_t b = *c->p++;
    *v |= (uint64_t)(b & 127) << shift;
    if (!(b & 128)) return true;
  }
  return false;
}

/* Leaves the cursor where it was, short of the end, when the bytes are malformed. */
static bool malformed(PareCursor *c, const uint8_t *start) {
  c->p = start;
  return false;
}

bool pare_wire_next(PareCursor *c, PareField *f) {
  const uint8_t *start = c->p;
  uint64_t tag, len;
  if (c->p == c->end) return false;
  if (!varint(c, &tag) || tag >> 3 == 0 || tag >> 32) return malformed(c, start);
  *f = (PareField){.num = (uint32_t)(tag >> 3), .wire = (int)(tag & 7), .tag = start, .body = c->p};
  switch (f->wire) {
  case PARE_WIRE_VARINT:
    if (!varint(c, &f->value)) return malformed(c, start);
    f->len = (size_t)(c->p - f->body);
    return true;
  case PARE_WIRE_64: len = 8; break;
  case PARE_WIRE_32: len = 4; break;
  case PARE_WIRE_BYTES:
    if (!varint(c, &len)) return malformed(c, start);
    break;
  default: return malformed(c, start);
  }
  if (len > (size_t)(c->end - c->p)) return malformed(c, start);
  f->body = c->p;
  f->len = (size_t)len;
  c->p += len;
  return true;
}

bool pare_wire_find(const PareField *message, uint32_t num, PareField *out) {
  PareCursor c = pare_wire_inside(message);
  PareField f;
  bool found = false;
  while (pare_wire_next(&c, &f))
    if (f.num == num && f.wire == PARE_WIRE_BYTES) *out = f, found = true;
  return found;
}

void pare_buf_put(PareBuf *b, const void *p, size_t n) {
  if (b->failed || n == 0) return;
  if (b->cap - b->n < n) {
    size_t cap = b->cap ? b->cap : 1024;
    while (cap - b->n < n && cap <= SIZE_MAX / 2) cap *= 2;
    uint8_t *at = pare_arena_grow(b->arena, b->at, b->n, cap, 1);
    if (!at) {
      b->failed = true;
      return;
    }
    b->at = at;
    b->cap = cap;
  }
  memcpy(b->at + b->n, p, n);
  b->n += n;
}

void pare_buf_varint(PareBuf *b, uint64_t v) {
  uint8_t out[10];
  size_t n = 0;
  for (; v > 127; v >>= 7) out[n++] = (uint8_t)(v | 128);
  out[n++] = (uint8_t)v;
  pare_buf_put(b, out, n);
}

size_t pare_varint_size(uint64_t v) {
  size_t n = 1;
  for (; v > 127; v >>= 7) n++;
  return n;
}

void pare_buf_tag(PareBuf *b, uint32_t num, int wire) { pare_buf_varint(b, (uint64_t)num << 3 | (unsigned)wire); }

void pare_buf_field_varint(PareBuf *b, uint32_t num, uint64_t v) {
  pare_buf_tag(b, num, PARE_WIRE_VARINT);
  pare_buf_varint(b, v);
}

void pare_buf_field_bytes(PareBuf *b, uint32_t num, const void *p, size_t n) {
  pare_buf_tag(b, num, PARE_WIRE_BYTES);
  pare_buf_varint(b, n);
  pare_buf_put(b, p, n);
}

void pare_buf_field_str(PareBuf *b, uint32_t num, const char *s) { pare_buf_field_bytes(b, num, s, strlen(s)); }

static const struct {
  PareMsg parent;
  uint32_t field;
  PareMsg child;
} nesting[] = {
    {PARE_MSG_MODEL, 7, PARE_MSG_GRAPH},       {PARE_MSG_MODEL, 20, PARE_MSG_TRAINING},
    {PARE_MSG_MODEL, 25, PARE_MSG_FUNCTION},   {PARE_MSG_TRAINING, 1, PARE_MSG_GRAPH},
    {PARE_MSG_TRAINING, 2, PARE_MSG_GRAPH},    {PARE_MSG_GRAPH, 1, PARE_MSG_NODE},
    {PARE_MSG_GRAPH, 5, PARE_MSG_TENSOR},      {PARE_MSG_GRAPH, 15, PARE_MSG_SPARSE},
    {PARE_MSG_GRAPH, 11, PARE_MSG_VALUE_INFO}, {PARE_MSG_GRAPH, 12, PARE_MSG_VALUE_INFO},
    {PARE_MSG_GRAPH, 13, PARE_MSG_VALUE_INFO}, {PARE_MSG_SPARSE, 1, PARE_MSG_TENSOR},
    {PARE_MSG_SPARSE, 2, PARE_MSG_TENSOR},     {PARE_MSG_NODE, 5, PARE_MSG_ATTR},
    {PARE_MSG_ATTR, 5, PARE_MSG_TENSOR},       {PARE_MSG_ATTR, 6, PARE_MSG_GRAPH},
    {PARE_MSG_ATTR, 10, PARE_MSG_TENSOR},      {PARE_MSG_ATTR, 11, PARE_MSG_GRAPH},
    {PARE_MSG_ATTR, 14, PARE_MSG_TYPE},        {PARE_MSG_ATTR, 15, PARE_MSG_TYPE},
    {PARE_MSG_ATTR, 22, PARE_MSG_SPARSE},      {PARE_MSG_ATTR, 23, PARE_MSG_SPARSE},
    {PARE_MSG_FUNCTION, 7, PARE_MSG_NODE},     {PARE_MSG_FUNCTION, 11, PARE_MSG_ATTR},
    {PARE_MSG_FUNCTION, 12, PARE_MSG_VALUE_INFO}, {PARE_MSG_VALUE_INFO, 2, PARE_MSG_TYPE},
    {PARE_MSG_TYPE, 4, PARE_MSG_TYPE_INNER},   {PARE_MSG_TYPE, 9, PARE_MSG_TYPE_INNER},
    {PARE_MSG_TYPE, 5, PARE_MSG_TYPE_MAP},     {PARE_MSG_TYPE_INNER, 1, PARE_MSG_TYPE},
    {PARE_MSG_TYPE_MAP, 2, PARE_MSG_TYPE},
};

PareMsg pare_msg_child(PareMsg parent, uint32_t field) {
  for (size_t i = 0; i < sizeof nesting / sizeof *nesting; i++)
    if (nesting[i].parent == parent && nesting[i].field == field) return nesting[i].child;
  return PARE_MSG_LEAF;
}
