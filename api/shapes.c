/* shapes.c - see shapes.h. */
#include "api/shapes.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "passes/bind_shapes.h"
#include "passes/probe_dims.h"

typedef struct Shapes {
  PareCtx *c;
  PareArena *a;
  const PareGraph *g;
  PARE_VEC(PareDimBinding) dims;
} Shapes;

static PareDimBinding *find_dim(Shapes *s, const char *key) {
  for (size_t i = 0; i < s->dims.n; i++)
    if (!strcmp(s->dims.at[i].name, key)) return &s->dims.at[i];
  return NULL;
}

/* --- the text --- */

static PareStatus set_axis(Shapes *s, const PareValue *v, int axis, int64_t size) {
  PareCtx *c = s->c;
  int64_t have = v->type.dim[axis];
  if (have >= 0)
    return have == size ? PARE_OK
                        : pare_error(c, PARE_USAGE, "--shape gives %" PRId64 " to axis %d of '%s', which is always %" PRId64,
                                     size, axis, v->name, have);
  const char *key = pare_axis_key(s->a, v, axis);
  if (!key) return pare_nomem(c);
  const PareDimBinding *d = find_dim(s, key);
  if (d && d->size != size)
    return pare_error(c, PARE_USAGE, "--shape gives both %" PRId64 " and %" PRId64 " to the axis '%s'", d->size, size,
                      key);
  if (d) return PARE_OK;
  return pare_vec_push(s->a, &s->dims, ((PareDimBinding){key, size})) ? PARE_OK : pare_nomem(c);
}

static PareStatus find_input(Shapes *s, const char *name, size_t len, const PareValue **out) {
  char have[300] = "";
  size_t n = 0;
  for (size_t i = 0; i < s->g->inputs.n; i++) {
    *out = s->g->inputs.at[i];
    if (strlen((*out)->name) == len && !memcmp((*out)->name, name, len)) return PARE_OK;
    if (n < sizeof have) n += (size_t)snprintf(have + n, sizeof have - n, "%s%s", i ? ", " : "", (*out)->name);
  }
  return pare_error(s->c, PARE_USAGE, "--shape names '%.*s', but the model's inputs are %s", (int)len, name, have);
}

/* The end of what belongs to one name: the comma before the next, or the end.
 * A piece without ':' goes on with the dims of the one before. */
static const char *entry_end(const char *at) {
  const char *end = at + strcspn(at, ",");
  while (*end) {
    const char *piece = end + 1, *stop = piece + strcspn(piece, ",");
    if (memchr(piece, ':', (size_t)(stop - piece))) break;
    end = stop;
  }
  return end;
}

static const char *last_colon(const char *at, const char *end) {
  const char *colon = NULL;
  for (const char *p = at; p < end && (*p != ',' || !colon); p++)
    if (*p == ':') colon = p;
  return colon;
}

static PareStatus read_entry(Shapes *s, const char *at, const char *end) {
  PareCtx *c = s->c;
  const char *colon = last_colon(at, end);
  if (!colon)
    return pare_error(c, PARE_USAGE, "--shape wants NAME:DIMS like input_ids:1x128, not '%.*s'", (int)(end - at), at);
  const PareValue *v = NULL;
  PARE_TRY(find_input(s, at, (size_t)(colon - at), &v));
  int axis = 0;
  for (const char *p = colon + 1; p <= end; p++, axis++) {
    char *stop = NULL;
    errno = 0;
    long long size = p < end && isdigit((unsigned char)*p) ? strtoll(p, &stop, 10) : 0;
    if (errno || size < 1 || size > INT32_MAX || (stop < end && *stop != 'x' && *stop != ','))
      return pare_error(c, PARE_USAGE, "--shape wants sizes like 1x128 for '%s', not '%.*s'", v->name,
                        (int)(end - colon - 1), colon + 1);
    if (axis < v->type.rank) PARE_TRY(set_axis(s, v, axis, size));
    p = stop;
  }
  if (axis == v->type.rank) return PARE_OK;
  return pare_error(c, PARE_USAGE, "--shape gives %d sizes to '%s', which has %d axes", axis, v->name, v->type.rank);
}

static PareStatus read_text(Shapes *s, const char *text) {
  for (const char *at = text; at && *at;) {
    const char *end = entry_end(at);
    PARE_TRY(read_entry(s, at, end));
    at = *end ? end + 1 : end;
  }
  return PARE_OK;
}

/* --- the rest --- */

static PareStatus fill_rest(Shapes *s, int64_t batch, int64_t other) {
  for (size_t i = 0; i < s->g->inputs.n; i++) {
    const PareValue *v = s->g->inputs.at[i];
    for (int axis = 0; axis < v->type.rank; axis++) {
      if (v->type.dim[axis] >= 0) continue;
      const char *key = pare_axis_key(s->a, v, axis);
      if (!key) return pare_nomem(s->c);
      PareDimBinding *d = find_dim(s, key);
      if (d && axis == 0 && batch > 0) d->size = batch;
      if (d) continue;
      int64_t size = axis > 0 ? other : batch > 0 ? batch : 1;
      if (!pare_vec_push(s->a, &s->dims, ((PareDimBinding){key, size}))) return pare_nomem(s->c);
    }
  }
  return PARE_OK;
}

/* The axes that the text says nothing of have one size. */
static PareStatus bind_rest(Shapes *s, size_t told, int64_t batch, int64_t other, PareGraph **out) {
  s->dims.n = told;
  PARE_TRY(fill_rest(s, batch, other));
  *out = pare_graph_clone(s->c, s->a, s->g);
  if (!*out) return s->c->diag.code;
  return pare_bind_shapes(s->c, *out, (int)s->dims.n, s->dims.at);
}

PareStatus pare_shapes_tell(PareCtx *c, PareGraph *g, const char *text) {
  Shapes s = {.c = c, .a = g->arena, .g = g};
  PARE_TRY(read_text(&s, text));
  g->told.at = s.dims.at;
  g->told.n = g->told.cap = s.dims.n;
  return PARE_OK;
}

PareStatus pare_shapes_bind(PareCtx *c, PareArena *a, const PareGraph *g, const char *text, int64_t batch,
                            int64_t other, PareGraph **out) {
  static const int64_t larger[] = {8, 64, 512};
  Shapes s = {.c = c, .a = a, .g = g};
  PARE_TRY(read_text(&s, text));
  size_t told = s.dims.n;
  PareDiag before = c->diag;
  PareStatus status = bind_rest(&s, told, batch, other, out);
  PareDiag first = c->diag;
  for (size_t i = 0; i < sizeof larger / sizeof *larger && status != PARE_OK && status != PARE_NOMEM; i++) {
    if (larger[i] <= other) continue;
    c->diag = before;
    status = bind_rest(&s, told, batch, larger[i], out);
  }
  if (status == PARE_OK || status == PARE_NOMEM) return status;
  c->diag = first;
  if (!told) pare_ask_for_sizes(g, &c->diag);
  return first.code;
}

int64_t pare_shapes_other(const PareGraph *g, const PareGraph *bound) {
  for (size_t i = 0; i < g->inputs.n; i++)
    for (int axis = 1; axis < g->inputs.at[i]->type.rank; axis++)
      if (g->inputs.at[i]->type.dim[axis] < 0) return bound->inputs.at[i]->type.dim[axis];
  return 1;
}

PareStatus pare_shapes_like(PareCtx *c, PareArena *a, const PareGraph *g, const PareGraph *bound, PareGraph **out) {
  if (!(*out = pare_graph_clone(c, a, g))) return c->diag.code;
  for (size_t i = 0; i < g->inputs.n; i++) (*out)->inputs.at[i]->type = bound->inputs.at[i]->type;
  return pare_bind_shapes(c, *out, 0, NULL);
}
