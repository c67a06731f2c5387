#include "backend/chunks.h"

void pare_chunks_put(PareChunks *c, const void *p, size_t len) {
  if (!len) return;
  PareChunk *last = c->at.n ? &c->at.at[c->at.n - 1] : NULL;
  c->bytes += len;
  if (last && last->len && last->p + last->len == (const uint8_t *)p) {
    last->len += len;
    return;
  }
  PareChunk x = {p, len};
  if (!pare_vec_push(c->arena, &c->at, x)) c->failed = true;
}

size_t pare_chunks_reserve(PareChunks *c) {
  PareChunk none = {NULL, 0};
  if (!pare_vec_push(c->arena, &c->at, none)) c->failed = true;
  return c->at.n - 1;
}

void pare_chunks_fill(PareChunks *c, size_t index, const void *p, size_t len) {
  if (c->failed) return;
  c->at.at[index] = (PareChunk){p, len};
  c->bytes += len;
}

PareStatus pare_chunks_write(PareCtx *c, const PareChunks *ch, PareOut *out) {
  const uint8_t *base = ch->original->data;
  for (size_t i = 0; i < ch->at.n; i++) {
    const PareChunk *x = &ch->at.at[i];
    bool mapped = base && x->p >= base && x->p < base + ch->original->len;
    PARE_TRY(mapped ? pare_out_copy(c, out, ch->original, (size_t)(x->p - base), x->len)
                    : pare_out_write(c, out, x->p, x->len));
  }
  return PARE_OK;
}
