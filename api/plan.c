/* plan.c - plans as JSON, by jansson. */
#include "api/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backend/json.h"
#include "base/file.h"

static json_t *entry_json(const PareDim *d, const bool *keep) {
  json_t *kept = json_array();
  for (int64_t i = 0; i < d->count; i++)
    if (keep[i]) json_array_append_new(kept, json_integer((json_int_t)i));
  return json_pack("{s:o, s:s, s:I, s:o}", "name", pare_json_text(d->name), "kind", pare_kind_name(d->kind), "count",
                   (json_int_t)d->count, "keep", kept);
}

PareStatus pare_plan_save(PareCtx *c, const char *path, const PareDims *d, bool *const *keep) {
  json_t *list = json_array();
  for (size_t i = 0; i < d->dims.n; i++)
    if (keep[i]) json_array_append_new(list, entry_json(&d->dims.at[i], keep[i]));
  char *text = pare_json_print(json_pack("{s:s, s:o}", "pare", PARE_VERSION, "dimensions", list));
  PareStatus s = text ? pare_file_write(c, path, text, strlen(text)) : pare_nomem(c);
  free(text); /* jansson's */
  return s;
}

/* A dimension as a plan names it. */
typedef struct Entry {
  const char *name;
  PareKind kind;
  int64_t count;
  const json_t *keep;
} Entry;

typedef struct Plan {
  PareCtx *c;
  PareArena *a;
  const char *path;
  const PareDims *d;
  Entry *entry;
  size_t n;
  bool **keep;
} Plan;

#define no_plan(p, ...) pare_diag_set(&(p)->c->diag, PARE_FORMAT, (p)->path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

static PareStatus read_entry(Plan *p, const json_t *o, Entry *e) {
  const char *kind = json_string_value(json_object_get(o, "kind"));
  e->name = json_string_value(json_object_get(o, "name"));
  e->count = (int64_t)json_integer_value(json_object_get(o, "count"));
  e->keep = json_object_get(o, "keep");
  if (!e->name || !kind || !pare_kind_find(kind, strlen(kind), &e->kind) || !json_is_array(e->keep))
    return no_plan(p, "dimension %zu of the plan has no name, kind or list of what to keep", p->n + 1);
  if (json_array_size(e->keep) == 0 || e->count < 1)
    return no_plan(p, "the plan keeps nothing of '%s': one group has to stay", e->name);
  return PARE_OK;
}

static PareStatus read_entries(Plan *p, const json_t *root) {
  const json_t *list = json_object_get(root, "dimensions");
  if (!json_is_array(list)) return no_plan(p, "not a plan: it has no list 'dimensions'");
  if (!(p->entry = PARE_NEW_N(p->c->scratch, json_array_size(list) + 1, Entry))) return pare_nomem(p->c);
  for (; p->n < json_array_size(list); p->n++) PARE_TRY(read_entry(p, json_array_get(list, p->n), &p->entry[p->n]));
  return PARE_OK;
}

static bool fits(const Entry *e, const PareDim *d) { return e->kind == d->kind && e->count == d->count; }

/* The dimension of that name. */
static int64_t by_name(const Plan *p, const Entry *e) {
  for (size_t i = 0; i < p->d->dims.n; i++)
    if (fits(e, &p->d->dims.at[i]) && !strcmp(e->name, p->d->dims.at[i].name)) return (int64_t)i;
  return -1;
}

/* The dimension at the same place among those of its kind, where all their counts agree. */
static int64_t by_place(const Plan *p, const Entry *e) {
  int64_t found = -1;
  size_t k = 0;
  for (size_t i = 0; i < p->d->dims.n; i++) {
    if (p->d->dims.at[i].kind != e->kind) continue;
    while (k < p->n && p->entry[k].kind != e->kind) k++;
    if (k == p->n || !fits(&p->entry[k], &p->d->dims.at[i])) return -1;
    if (&p->entry[k++] == e) found = (int64_t)i;
  }
  while (k < p->n && p->entry[k].kind != e->kind) k++;
  return k == p->n ? found : -1;
}

static PareStatus set_flags(Plan *p, const Entry *e, int64_t dim) {
  if (p->keep[dim]) return no_plan(p, "the plan names '%s' twice", e->name);
  bool *flags = p->keep[dim] = PARE_NEW_N(p->a, e->count, bool);
  if (!flags) return pare_nomem(p->c);
  for (size_t i = 0; i < json_array_size(e->keep); i++) {
    const json_t *v = json_array_get(e->keep, i);
    json_int_t at = json_integer_value(v);
    if (!json_is_integer(v) || at < 0 || at >= e->count)
      return no_plan(p, "'%s' has groups 0 to %" PRId64 ": the plan keeps another", e->name, e->count - 1);
    flags[at] = true;
  }
  return PARE_OK;
}

static PareStatus apply(Plan *p) {
  bool named = true;
  for (size_t k = 0; k < p->n && named; k++) named = by_name(p, &p->entry[k]) >= 0;
  for (size_t k = 0; k < p->n; k++) {
    const Entry *e = &p->entry[k];
    int64_t dim = named ? by_name(p, e) : by_place(p, e);
    if (dim < 0)
      return pare_error(p->c, PARE_TARGET, "the plan %s does not fit: the model has no dimension '%s' (%s) of %" PRId64
                        " groups, nor as many of that kind in the same order", p->path, e->name,
                        pare_kind_name(e->kind), e->count);
    PARE_TRY(set_flags(p, e, dim));
  }
  return p->n ? PARE_OK : no_plan(p, "the plan is empty");
}

PareStatus pare_plan_load(PareCtx *c, PareArena *a, const char *path, const PareDims *d, bool **keep) {
  PareFile f = {0};
  Plan p = {.c = c, .a = a, .path = path, .d = d, .keep = keep};
  json_error_t why;
  PARE_TRY(pare_file_map(c, path, &f));
  PareMark mark = pare_arena_mark(c->scratch);
  json_t *root = json_loadb((const char *)f.data, f.len, JSON_REJECT_DUPLICATES, &why);
  PareStatus s = root ? read_entries(&p, root) : no_plan(&p, "not JSON: line %d: %s", why.line, why.text);
  if (s == PARE_OK) s = apply(&p);
  json_decref(root);
  pare_file_unmap(&f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
