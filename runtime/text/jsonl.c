/* jsonl.c - a sample a line, a JSON object each. */
#include <jansson.h>
#include <string.h>

#include "runtime/text/reader.h"

static PareSpan json_text(const json_t *v) { return (PareSpan){json_string_value(v), json_string_length(v)}; }

/* The key of a role in the first object; NULL when there is none. */
static const char *json_key(const PareTextReader *r, const json_t *o, int role) {
  const char *name = pare_text_wanted(r, role);
  if (name) return json_object_get(o, name) ? name : NULL;
  for (int i = 0; pare_text_usual[role][i]; i++)
    if (json_object_get(o, pare_text_usual[role][i])) return pare_text_usual[role][i];
  return NULL;
}

/* A label may be a string, a number or a truth value; as text, in r->work. */
static PareStatus json_label(PareTextReader *r, const json_t *v, PareSpan *out) {
  char *text = NULL;
  if (json_is_string(v)) {
    *out = json_text(v);
    return PARE_OK;
  }
  if (json_is_integer(v)) text = pare_arena_printf(r->work, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
  else if (json_is_real(v)) text = pare_arena_printf(r->work, "%.17g", json_real_value(v));
  else if (json_is_boolean(v)) text = pare_arena_strdup(r->work, json_is_true(v) ? "1" : "0");
  else return pare_line_error(r, "the label is neither a string nor a number");
  if (!text) return pare_nomem(r->c);
  *out = (PareSpan){text, strlen(text)};
  return PARE_OK;
}

static PareStatus json_row(PareTextReader *r, const json_t *o, const char *const key[PARE_ROLES]) {
  PareTextRow row = {0};
  for (int role = 0; role < PARE_ROLES; role++) {
    const json_t *v = key[role] ? json_object_get(o, key[role]) : NULL;
    if (key[role] && !v) return pare_line_error(r, "the key '%s' is missing", key[role]);
    if (v && role == PARE_LABEL) PARE_TRY(json_label(r, v, &row.role[role]));
    else if (v && !json_is_string(v)) return pare_line_error(r, "'%s' is not a string", key[role]);
    else if (v) row.role[role] = json_text(v);
  }
  return pare_text_add(r, &row);
}

/* Settles the keys from the first object. */
static PareStatus find_keys(PareTextReader *r, const json_t *o, const char *key[PARE_ROLES]) {
  for (int role = 0; role < PARE_ROLES; role++) {
    const char *name = pare_text_wanted(r, role);
    key[role] = json_key(r, o, role);
    if (!key[role] && (role == PARE_TEXT || name))
      return pare_line_error(r, "the key '%s' is missing", name ? name : "sentence' or 'text");
  }
  r->has_pair = key[PARE_PAIR] != NULL;
  r->has_label = key[PARE_LABEL] != NULL;
  return PARE_OK;
}

static PareStatus json_line(PareTextReader *r, PareSpan line, const char *key[PARE_ROLES], bool *first) {
  json_error_t e;
  json_t *o = json_loadb(line.at, line.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
  PareStatus s = PARE_OK;
  if (!o) s = pare_line_error(r, "not JSON: %s", e.text);
  else if (!json_is_object(o)) s = pare_line_error(r, "not a JSON object");
  else if (*first) s = find_keys(r, o, key);
  if (s == PARE_OK) s = json_row(r, o, key);
  *first = false;
  json_decref(o);
  return s;
}

PareStatus pare_text_jsonl(PareTextReader *r, const PareFile *f) {
  const char *key[PARE_ROLES] = {NULL}, *at = (const char *)f->data, *end = at + f->len;
  bool first = true;
  for (PareSpan line; pare_text_line(r, &at, end, &line);)
    if (!pare_text_is_blank(line)) PARE_TRY(json_line(r, line, key, &first));
  return PARE_OK;
}
