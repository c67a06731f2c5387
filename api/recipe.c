/* recipe.c - options from a YAML file: one flat mapping of option names to
 * scalars, or to lists of scalars. Read as libyaml's events, which neither
 * recurse nor build a tree. */
#include <stdarg.h>
#include <stdarg.h>
#include <string.h>
#include <yaml.h>

#include "api/call.h"
#include "api/options.h"
#include "base/file.h"

typedef struct Recipe {
  PareCtx *c;
  PareCompressOptions *o;
  const char *path;
  yaml_parser_t parser;
  yaml_event_t event; /* the present one; deleted before the next is read */
  bool seen[PARE_OPTION_COUNT];
} Recipe;

#define recipe_error(r, mark, code, ...) recipe_error_at((r), (mark), (code), __LINE__, __VA_ARGS__)
__attribute__((format(printf, 5, 6))) static PareStatus recipe_error_at(Recipe *r, size_t mark, PareStatus code,
                                                                        int src_line, const char *fmt, ...) {
  char text[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return pare_diag_set(&r->c->diag, code, r->path, NULL, NULL, __FILE__, src_line, "line %zu: %s", mark + 1, text);
}

static size_t line_of(const Recipe *r) { return r->event.start_mark.line; }

static PareStatus next(Recipe *r) {
  yaml_event_delete(&r->event);
  if (yaml_parser_parse(&r->parser, &r->event)) return PARE_OK;
  if (r->parser.error == YAML_MEMORY_ERROR) return pare_nomem(r->c);
  return recipe_error(r, r->parser.problem_mark.line, PARE_USAGE, "not YAML: %s",
                      r->parser.problem ? r->parser.problem : "malformed");
}

/* The scalar of the present event; NULL where it is something else, or empty. */
static const char *scalar(const Recipe *r) {
  if (r->event.type != YAML_SCALAR_EVENT) return NULL;
  const char *text = (const char *)r->event.data.scalar.value;
  bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  bool null = plain && (!*text || !strcmp(text, "~") || !strcmp(text, "null"));
  return null || strlen(text) != r->event.data.scalar.length ? NULL : text;
}

/* The option's own sentence, with the file and line before it. */
static PareStatus take(Recipe *r, const char *name, const char *value) {
  PareDiag outer = r->c->diag;
  PareStatus s = pare_option_take(r->c, r->o, name, value, PARE_FROM_RECIPE);
  if (s == PARE_OK || s == PARE_NOMEM) return s;
  char text[sizeof outer.text];
  snprintf(text, sizeof text, "%s", r->c->diag.text);
  r->c->diag = outer;
  return recipe_error(r, line_of(r), s, "%s", text);
}

static PareStatus read_list(Recipe *r, const char *name) {
  PARE_TRY(next(r));
  for (; r->event.type != YAML_SEQUENCE_END_EVENT;) {
    const char *value = scalar(r);
    if (!value) return recipe_error(r, line_of(r), PARE_USAGE, "the list of %s holds something that is not a value", name);
    PARE_TRY(take(r, name, value));
    PARE_TRY(next(r));
  }
  return PARE_OK;
}

static PareStatus read_pair(Recipe *r) {
  const char *key = scalar(r);
  if (!key) return recipe_error(r, line_of(r), PARE_USAGE, "an option's name is wanted here");
  char name[64];
  if (strlen(key) >= sizeof name) return recipe_error(r, line_of(r), PARE_USAGE, "there is no option %.60s...", key);
  memcpy(name, key, strlen(key) + 1);
  int id = 0;
  while (id < PARE_OPTION_COUNT && strcmp(pare_option_name(id), name)) id++;
  if (id == PARE_OPTION_COUNT) return take(r, name, "");
  if (r->seen[id]) return recipe_error(r, line_of(r), PARE_USAGE, "%s stands here a second time", name);
  r->seen[id] = true;
  PARE_TRY(next(r));
  if (r->event.type == YAML_SEQUENCE_START_EVENT && pare_option_is_list(id)) return read_list(r, name);
  const char *value = scalar(r);
  if (!value) return recipe_error(r, line_of(r), PARE_USAGE, "%s wants %s", name,
                                  pare_option_is_list(id) ? "a value, or a list of values" : "one value");
  return take(r, name, value);
}

static PareStatus read_all(Recipe *r) {
  do PARE_TRY(next(r));
  while (r->event.type == YAML_STREAM_START_EVENT || r->event.type == YAML_DOCUMENT_START_EVENT);
  if (r->event.type == YAML_STREAM_END_EVENT) return PARE_OK; /* nothing but comments */
  if (r->event.type != YAML_MAPPING_START_EVENT)
    return recipe_error(r, line_of(r), PARE_USAGE, "a recipe is a list of lines like 'sparsity: 0.5'");
  PARE_TRY(next(r));
  while (r->event.type != YAML_MAPPING_END_EVENT) {
    PARE_TRY(read_pair(r));
    PARE_TRY(next(r));
  }
  do PARE_TRY(next(r));
  while (r->event.type == YAML_DOCUMENT_END_EVENT);
  if (r->event.type == YAML_STREAM_END_EVENT) return PARE_OK;
  return recipe_error(r, line_of(r), PARE_USAGE, "a second document begins here: a recipe has one");
}

typedef struct RecipeCall {
  PareCompressOptions *o;
  const char *path;
} RecipeCall;

static PareStatus recipe_body(PareCtx *c, void *arg) {
  RecipeCall *call = arg;
  Recipe r = {.c = c, .o = call->o, .path = call->path};
  PareFile f = {0};
  PARE_TRY(pare_file_map(c, call->path, &f));
  PareStatus s = PARE_OK;
  if (!yaml_parser_initialize(&r.parser)) s = pare_nomem(c);
  if (s == PARE_OK) {
    yaml_parser_set_input_string(&r.parser, f.data ? f.data : (const unsigned char *)"", f.len);
    s = read_all(&r);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
  }
  pare_file_unmap(&f);
  return s;
}

int pare_options_recipe(PareCompressOptions *o, const char *path, PareError *e) {
  RecipeCall call = {o, path};
  return pare_call(NULL, 1, e, recipe_body, &call);
}
