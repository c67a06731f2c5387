#include "runtime/json_edit.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- the text: jansson has seen that it is JSON, so every bracket and quote has its other half --- */

static const char *skip_space(const char *p) {
  while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') p++;
  return p;
}

/* p stands on the first quote; the end is behind the last. */
static const char *string_end(const char *p) {
  for (p++; *p != '"'; p++) p += *p == '\\';
  return p + 1;
}

static const char *value_end(const char *p) {
  int depth = 0;
  if (*p != '"' && *p != '{' && *p != '[') return p + strcspn(p, ",]} \t\r\n");
  do {
    depth += *p == '{' || *p == '[';
    depth -= *p == '}' || *p == ']';
    p = *p == '"' ? string_end(p) : p + 1;
  } while (depth);
  return p;
}

PareJson pare_json_root(const json_t *root, const char *text, size_t n) {
  const char *at = skip_space(text), *end = text + n;
  while (end > at && strchr(" \t\r\n", end[-1])) end--;
  return (PareJson){root, at, end};
}

PareJsonWalk pare_json_walk(const PareJson *of) {
  return (PareJsonWalk){.of = of->value, .at = of->at + 1, .member = json_object_iter((json_t *)(uintptr_t)of->value)};
}

/* The key, and where its value stands. */
static const char *take_key(PareJsonWalk *w, PareJsonItem *out) {
  out->key = json_object_iter_key(w->member);
  out->v.value = json_object_iter_value(w->member);
  w->member = json_object_iter_next((json_t *)(uintptr_t)w->of, w->member);
  return skip_space(skip_space(string_end(out->at)) + 1);
}

bool pare_json_next(PareJsonWalk *w, PareJsonItem *out) {
  bool is_array = json_is_array(w->of);
  *out = (PareJsonItem){0};
  if (is_array ? w->index == json_array_size(w->of) : !w->member) return false;
  out->at = skip_space(w->at);
  if (*out->at == ',') out->at = skip_space(out->at + 1);
  if (is_array) out->v.value = json_array_get(w->of, w->index++);
  out->v.at = is_array ? out->at : take_key(w, out);
  out->v.end = w->at = value_end(out->v.at);
  return true;
}

bool pare_json_member(const PareJson *of, const char *key, PareJson *out) {
  PareJsonWalk w = pare_json_walk(of);
  if (!json_is_object(of->value)) return false;
  for (PareJsonItem i; pare_json_next(&w, &i);)
    if (!strcmp(i.key, key)) return *out = i.v, true;
  return false;
}

/* --- edits --- */

bool pare_json_edit(PareArena *a, const char *text, size_t n, PareJsonEdit *out) {
  *out = (PareJsonEdit){text, pare_arena_alloc(a, n + 1, 1), 0};
  return out->out != NULL;
}

void pare_json_edit_copy(PareJsonEdit *e, const char *p) {
  assert(p >= e->from);
  memcpy(e->out + e->n, e->from, (size_t)(p - e->from));
  e->n += (size_t)(p - e->from);
  e->from = p;
}

void pare_json_edit_number(PareJsonEdit *e, const PareJson *old, int64_t v) {
  char text[24];
  int n = snprintf(text, sizeof text, "%" PRId64, v);
  assert(n > 0 && n <= old->end - old->at);
  pare_json_edit_copy(e, old->at);
  memcpy(e->out + e->n, text, (size_t)n);
  e->n += (size_t)n;
  e->from = old->end;
}

void pare_json_sift(PareJsonSift *s, const PareJsonItem *i, bool stays) {
  if (!s->last) pare_json_edit_copy(s->e, i->at);
  if (s->last && s->kept) pare_json_edit_copy(s->e, s->last);
  if (s->last && stays) {
    s->e->from = s->any ? s->last : i->at;
    pare_json_edit_copy(s->e, i->at);
  }
  s->last = i->v.end;
  s->kept = stays;
  s->any |= stays;
}

void pare_json_sifted(PareJsonSift *s) {
  if (!s->last) return;
  if (s->kept) pare_json_edit_copy(s->e, s->last);
  s->e->from = s->last;
}
