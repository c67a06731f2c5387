/* latency_table.c - the file: JSON, by jansson. */
#include "api/latency_table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/json.h"
#include "base/file.h"

static const char FORMAT[] = "pare latency table 1";

struct PareLatencyTable {
  PareCtx *c;
  PareArena *arena;
  const char *path;
  json_t *root;
};

/* --- opening --- */

static json_t *key_json(const PareLatencyKey *k) {
  return json_pack("{s:o, s:o, s:o, s:I, s:o, s:I}", "model_sha256", pare_json_text(k->sha256), "command",
                   pare_json_text(k->command), "device", pare_json_text(k->device), "threads", (json_int_t)k->threads,
                   "shapes", pare_json_text(k->shapes), "tokens", (json_int_t)k->tokens);
}

static json_t *new_root(const PareLatencyKey *k) {
  return json_pack("{s:s, s:s, s:o, s:{}, s:[]}", "format", FORMAT, "unit", "ms", "key", key_json(k), "whole", "classes");
}

/* The first member of the key that is another; NULL: none. */
static const char *other_key(const json_t *root, const PareLatencyKey *k) {
  json_t *want = key_json(k), *value;
  const json_t *have = json_object_get(root, "key");
  const char *name, *other = NULL;
  json_object_foreach(want, name, value) {
    if (!other && !json_equal(json_object_get(have, name), value)) other = name;
  }
  json_decref(want);
  return other;
}

static bool is_table(const json_t *root) {
  const char *format = json_string_value(json_object_get(root, "format"));
  return format && !strcmp(format, FORMAT) && json_is_object(json_object_get(root, "whole")) &&
         json_is_array(json_object_get(root, "classes"));
}

static PareStatus take(PareLatencyTable *t, json_t *read, const PareLatencyKey *key) {
  if (!is_table(read)) {
    json_decref(read);
    return pare_diag_set(&t->c->diag, PARE_FORMAT, t->path, NULL, NULL, __FILE__, __LINE__,
                         "this is no latency table, so it is not overwritten: give --latency-table another name");
  }
  const char *other = other_key(read, key);
  if (other) {
    pare_log(t->c, 0, "%s: the table is of another '%s': it is measured anew", t->path, other);
    json_decref(read);
    return PARE_OK;
  }
  t->root = read;
  return PARE_OK;
}

static PareStatus open_table(PareLatencyTable *t, const PareLatencyKey *key) {
  PareFile f = {0};
  if (*t->path && access(t->path, F_OK) == 0) {
    PARE_TRY(pare_file_map(t->c, t->path, &f));
    json_t *read = json_loadb(f.data ? (const char *)f.data : "", f.len, JSON_REJECT_DUPLICATES, NULL);
    pare_file_unmap(&f);
    PARE_TRY(take(t, read, key));
  }
  if (!t->root) t->root = new_root(key);
  return t->root ? PARE_OK : pare_nomem(t->c);
}

PareStatus pare_latency_table_open(PareCtx *c, const char *path, const PareLatencyKey *key, PareLatencyTable **out) {
  PareArena *a = pare_arena_new(1 << 12);
  PareLatencyTable *t = a ? PARE_NEW(a, PareLatencyTable) : NULL;
  if (!t) return pare_arena_free(a), pare_nomem(c);
  *t = (PareLatencyTable){c, a, path, NULL};
  PareStatus s = open_table(t, key);
  if (s == PARE_OK) *out = t;
  else pare_latency_table_close(t);
  return s;
}

void pare_latency_table_close(PareLatencyTable *t) {
  if (!t) return;
  json_decref(t->root);
  pare_arena_free(t->arena);
}

/* --- times --- */

static json_t *timing_json(const PareTiming *x) {
  return json_pack("{s:o, s:o, s:i}", "ms", pare_json_number(x->ms), "spread", pare_json_number(x->spread), "runs",
                   x->runs);
}

static bool read_timing(const json_t *o, PareTiming *out) {
  *out = (PareTiming){json_number_value(json_object_get(o, "ms")), json_number_value(json_object_get(o, "spread")),
                      (int)json_integer_value(json_object_get(o, "runs"))};
  return out->ms > 0;
}

static PareStatus save(const PareLatencyTable *t) {
  if (!*t->path) return PARE_OK;
  char *text = pare_json_print(json_incref(t->root));
  PareStatus s = text ? pare_file_write(t->c, t->path, text, strlen(text)) : pare_nomem(t->c);
  free(text); /* jansson's */
  return s;
}

bool pare_latency_table_find_whole(const PareLatencyTable *t, const char *name, PareTiming *out) {
  return read_timing(json_object_get(json_object_get(t->root, "whole"), name), out);
}

PareStatus pare_latency_table_put_whole(PareLatencyTable *t, const char *name, const PareTiming *timing) {
  if (json_object_set_new(json_object_get(t->root, "whole"), name, timing_json(timing))) return pare_nomem(t->c);
  return save(t);
}

static json_t *class_json(const PareLatencyClass *class) {
  json_t *layers = json_array();
  for (size_t i = 0; i < class->nlayers; i++) json_array_append_new(layers, pare_json_text(class->layer[i]));
  return json_pack("{s:s, s:I, s:o}", "kind", class->kind, "groups", (json_int_t)class->count, "layers", layers);
}

/* The entry of the same layers. */
static json_t *find_class(const PareLatencyTable *t, const PareLatencyClass *class) {
  json_t *want = class_json(class), *entry, *found = NULL;
  size_t i;
  json_array_foreach(json_object_get(t->root, "classes"), i, entry) {
    bool same = true;
    const char *name;
    json_t *value;
    json_object_foreach(want, name, value) same &= json_equal(json_object_get(entry, name), value) == 1;
    if (same) found = entry;
  }
  json_decref(want);
  return found;
}

bool pare_latency_table_find(const PareLatencyTable *t, const PareLatencyClass *class, int64_t kept, PareTiming *out) {
  const json_t *sizes = json_object_get(find_class(t, class), "sizes");
  for (size_t i = 0; i < json_array_size(sizes); i++) {
    const json_t *size = json_array_get(sizes, i);
    if (json_integer_value(json_object_get(size, "kept")) == kept && read_timing(size, out)) return true;
  }
  return false;
}

PareStatus pare_latency_table_put(PareLatencyTable *t, const PareLatencyClass *class, int64_t kept,
                                  const PareTiming *timing) {
  json_t *entry = find_class(t, class), *size = timing_json(timing);
  if (!entry) {
    entry = class_json(class);
    json_object_set_new(entry, "sizes", json_array());
    json_array_append_new(json_object_get(t->root, "classes"), entry); /* the array owns it; NULL where memory is out */
  }
  json_object_set_new(size, "kept", json_integer((json_int_t)kept));
  if (!entry || json_array_append_new(json_object_get(entry, "sizes"), size)) return pare_nomem(t->c);
  return save(t);
}
