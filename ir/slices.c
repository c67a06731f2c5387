/* slices.c - see slices.h. */
#include "ir/slices.h"

#include <string.h>

enum { THIN_MIN = 64 << 10 }; /* bytes: what is smaller may be evaluated while shapes are bound */

typedef struct Walk {
  const PareSlices *s;
  size_t inner[PARE_MAX_RANK]; /* bytes of one index of the axis in the whole */
  int deepest;                 /* the last axis of which something is dead; -1: none */
  PareSink *sink;
  void *arg;
} Walk;

/* --- an axis whose indices are single numbers: what stays lies scattered, and is packed before it is handed on --- */

enum { LINE = 4096 };

/* Without a branch, which random survivors would mispredict: out[] has room for n. Returns how many stay. */
#define PACK(bits)                                                                                       \
  static size_t pack_##bits(const void *in, const bool *alive, size_t n, bool zeroed, void *out) {       \
    const uint##bits##_t *x = in;                                                                        \
    uint##bits##_t *y = out;                                                                             \
    size_t m = 0;                                                                                        \
    for (size_t i = 0; i < n && zeroed; i++) y[i] = alive[i] ? x[i] : 0;                                 \
    for (size_t i = 0; i < n && !zeroed; m += alive[i++]) y[m] = x[i];                                   \
    return zeroed ? n : m;                                                                               \
  }
PACK(8)
PACK(16)
PACK(32)
PACK(64)

typedef size_t Pack(const void *in, const bool *alive, size_t n, bool zeroed, void *out);

/* NULL: an index is no single number, or the data are not aligned for one: they are taken run by run. */
static Pack *pack_of(size_t inner, const void *data) {
  Pack *pack = inner == 1 ? pack_8 : inner == 2 ? pack_16 : inner == 4 ? pack_32 : inner == 8 ? pack_64 : NULL;
  return pack && (uintptr_t)data % inner == 0 ? pack : NULL;
}

static bool walk_line(const Walk *w, Pack *pack, const bool *alive, int64_t n, const uint8_t *at) {
  size_t inner = w->inner[w->deepest];
  union {
    uint8_t u8[LINE];
    uint16_t u16[LINE];
    uint32_t u32[LINE];
    uint64_t u64[LINE];
  } line;
  for (int64_t i = 0; i < n; i += LINE) {
    size_t m = pack(at + (size_t)i * inner, alive + i, (size_t)(n - i < LINE ? n - i : LINE), w->s->zeroed, &line);
    if (m && !w->sink(w->arg, &line, m * inner)) return false;
  }
  return true;
}

/* --- any axis --- */

static bool walk_axis(const Walk *w, int axis, const uint8_t *at) {
  const bool *alive = w->s->alive[axis];
  size_t inner = w->inner[axis];
  int64_t n = w->s->whole.dim[axis];
  Pack *pack = axis == w->deepest ? pack_of(inner, at) : NULL;
  if (pack) return walk_line(w, pack, alive, n, at);
  for (int64_t i = 0, end; i < n; i = end) {
    bool lives = !alive || alive[i];
    for (end = i + 1; end < n && (!alive || alive[end] == lives);) end++;
    size_t run = (size_t)(end - i) * inner;
    if (!lives && w->s->zeroed && !w->sink(w->arg, NULL, run)) return false;
    if (lives && axis == w->deepest && !w->sink(w->arg, at + (size_t)i * inner, run)) return false;
    for (int64_t k = i; lives && axis < w->deepest && k < end; k++)
      if (!walk_axis(w, axis + 1, at + (size_t)k * inner)) return false;
  }
  return true;
}

bool pare_slices_walk(const PareSlices *s, PareSink *sink, void *arg) {
  Walk w = {.s = s, .deepest = -1, .sink = sink, .arg = arg};
  size_t bytes = pare_dtype_size(s->whole.dtype);
  for (int axis = s->whole.rank - 1; axis >= 0; axis--) {
    w.inner[axis] = bytes;
    bytes *= (size_t)s->whole.dim[axis];
    if (s->alive[axis] && w.deepest < 0) w.deepest = axis;
  }
  return w.deepest < 0 ? sink(arg, s->data, bytes) : walk_axis(&w, 0, s->data);
}

static bool put(void *arg, const void *p, size_t n) {
  uint8_t **out = arg;
  if (p) memcpy(*out, p, n);
  else memset(*out, 0, n);
  *out += n;
  return true;
}

void pare_slices_copy(const PareSlices *s, void *out) {
  uint8_t *at = out;
  (void)pare_slices_walk(s, put, &at);
}

bool pare_slices_equal(const PareSlices *a, const PareSlices *b) {
  if (a->data != b->data || a->zeroed != b->zeroed || !pare_type_equal(&a->whole, &b->whole)) return false;
  for (int i = 0; i < a->whole.rank; i++) {
    const bool *x = a->alive[i], *y = b->alive[i];
    if (x != y && (!x || !y || memcmp(x, y, (size_t)a->whole.dim[i] * sizeof *x))) return false;
  }
  return true;
}

bool pare_slices_wanted(const PareType *whole) {
  size_t bytes;
  bool numbers = pare_dtype_is_float(whole->dtype) || whole->dtype == PARE_I8 || whole->dtype == PARE_U8;
  return numbers && pare_type_bytes(whole, &bytes) && bytes > THIN_MIN;
}

const void *pare_constant_bytes(PareArena *a, const PareValue *v) {
  size_t bytes;
  if (!v->slices) return v->data;
  void *data = pare_type_bytes(&v->type, &bytes) ? pare_arena_alloc(a, bytes + 1, 1) : NULL;
  if (data) pare_slices_copy(v->slices, data);
  return data;
}

PareStatus pare_fill_slices(PareCtx *c, PareGraph *g) {
  for (size_t i = 0; i < g->values.n; i++) {
    PareValue *v = g->values.at[i];
    if (!v->slices) continue;
    if (!(v->data = pare_constant_bytes(g->arena, v))) return pare_nomem(c);
    v->slices = NULL;
  }
  return PARE_OK;
}
