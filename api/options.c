/* options.c - compress's options: defaults, values and their checks, all from
 * the rows of options.def. */
#include "api/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "ir/trained.h"
#include "runtime/device.h"

typedef enum Kind { STR, LIST, INT, AUTO, FLOAT, AUTO_FLOAT, FLAG, WORD } Kind;

typedef struct Row {
  const char *name, *dflt, *words;
  size_t at; /* of the field in PareCompressOptions */
  Kind kind;
} Row;

static const Row rows[PARE_OPTION_COUNT] = {
#define OPTION(field, kind, name, dflt, words, help) \
  {name, dflt, words, offsetof(PareCompressOptions, field), kind},
#include "pare/options.def"
#undef OPTION
};

/* The numbers that an option takes; `top` itself only where it is closed. */
#define RANGE_LIST(X)                          \
  X(sparsity, 0, 1, false, "at least 0 and below 1") \
  X(eta, 0, INFINITY, false, "0 or more")   \
  X(ema, 0, 1, false, "at least 0 and below 1") \
  X(floor, 0, 1, true, "between 0 and 1") \
  X(align, 1, 65536, true, "between 1 and 65536") \
  X(latency_timeout, 1e-3, 1e6, true, "between 0.001 and 1000000 seconds") \
  X(prune_every, 1, INFINITY, false, "at least 1") \
  X(prune_warmup, 0, 1, true, "between 0 and 1") \
  X(prune_cooldown, 0, 1, true, "between 0 and 1") \
  X(num_labels, 1, 1 << 20, true, "between 1 and 1048576") \
  X(rank, 1, 4096, true, "between 1 and 4096") \
  X(alpha, 0, INFINITY, false, "0 or more") \
  X(hidden_weight, 0, INFINITY, false, "0 or more") \
  X(mu, 0, 1, true, "between 0 and 1") \
  X(mu_ramp, 0, 1, true, "between 0 and 1") \
  X(temperature, 1e-3, 1e3, true, "between 0.001 and 1000") \
  X(epochs, 0, 1e9, true, "0 or more")      \
  X(steps, 0, 1e12, true, "0 or more")     \
  X(batch, 1, 1 << 20, true, "between 1 and 1048576") \
  X(lr, 0, 1e3, true, "between 0 and 1000")    \
  X(lr_warmup, 0, 1, true, "between 0 and 1")  \
  X(weight_decay, 0, 1e3, true, "between 0 and 1000") \
  X(clip, 0, INFINITY, false, "0 or more")  \
  X(seed, 0, 0x1p63, false, "0 or more")    \
  X(threads, 0, 4096, true, "between 0 and 4096") \
  X(max_drop, 0, INFINITY, false, "0 or more") \
  X(time_limit, 0, INFINITY, false, "0 or more")

static const struct {
  int id;
  double low, top;
  bool closed;
  const char *text;
} ranges[] = {
#define X(field, low, top, closed, text) {PARE_OPTION_ID_##field, low, top, closed, text},
    RANGE_LIST(X)
#undef X
};

/* --- where values live --- */

typedef struct Owner {
  PareArena *arena;
  unsigned char source[PARE_OPTION_COUNT];
} Owner;

static void *field_of(PareCompressOptions *o, const Row *r) { return (char *)o + r->at; }
static const void *field_in(const PareCompressOptions *o, const Row *r) { return (const char *)o + r->at; }

static int find_row(const char *name) {
  for (int i = 0; i < PARE_OPTION_COUNT; i++)
    if (!strcmp(rows[i].name, name)) return i;
  return -1;
}

PareOptionSource pare_option_source(const PareCompressOptions *o, int id) {
  return (PareOptionSource)((const Owner *)o->owner)->source[id];
}

const char *pare_option_name(int id) { return rows[id].name; }
bool pare_option_is_list(int id) { return rows[id].kind == LIST; }

/* --- reading values --- */

/* What is being set, for sentences. */
typedef struct Setting {
  PareCtx *c;
  const Row *row;
  const char *value, *dash; /* "--" or "" */
  bool chosen;              /* by somebody: defaults may stand outside the range, for "not given" */
} Setting;

#define refuse(s, ...) refuse_at((s), __LINE__, __VA_ARGS__)
__attribute__((format(printf, 3, 4))) static PareStatus refuse_at(const Setting *s, int line, const char *fmt, ...) {
  char text[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return pare_diag_set(&s->c->diag, PARE_USAGE, NULL, NULL, NULL, __FILE__, line, "%s%s %s", s->dash, s->row->name,
                       text);
}

static PareStatus check_range(const Setting *s, double v) {
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
    if (s->row != &rows[ranges[i].id] || !s->chosen) continue;
    bool fits = v >= ranges[i].low && (v < ranges[i].top || (ranges[i].closed && v <= ranges[i].top));
    if (!fits) return refuse(s, "must be %s, not %s", ranges[i].text, s->value);
  }
  return PARE_OK;
}

static PareStatus read_int(const Setting *s, int64_t *out) {
  char *end;
  errno = 0;
  long long v = strtoll(s->value, &end, 10);
  if (errno || end == s->value || *end) return refuse(s, "takes a whole number, not '%s'", s->value);
  PARE_TRY(check_range(s, (double)v));
  *out = v;
  return PARE_OK;
}

static PareStatus read_auto(const Setting *s, int64_t *out) {
  char *end;
  errno = 0;
  if (!strcmp(s->value, "auto")) return *out = PARE_AUTO, PARE_OK;
  (void)strtoll(s->value, &end, 10);
  if (errno || end == s->value || *end) return refuse(s, "takes a whole number or auto, not '%s'", s->value);
  return read_int(s, out);
}

static bool parse_float(const char *text, double *out) {
  char *end;
  errno = 0;
  *out = strtod(text, &end);
  return end != text && !*end && isfinite(*out);
}

static PareStatus read_float(const Setting *s, double *out) {
  double v;
  if (!parse_float(s->value, &v)) return refuse(s, "takes a number, not '%s'", s->value);
  PARE_TRY(check_range(s, v));
  *out = v;
  return PARE_OK;
}

static PareStatus read_auto_float(const Setting *s, double *out) {
  double v;
  if (!strcmp(s->value, "auto")) return *out = PARE_AUTO, PARE_OK;
  if (!parse_float(s->value, &v)) return refuse(s, "takes a number or auto, not '%s'", s->value);
  return read_float(s, out);
}

static PareStatus read_flag(const Setting *s, bool *out) {
  static const char *const words[][2] = {{"true", "false"}, {"yes", "no"}, {"on", "off"}, {"1", "0"}};
  if (!s->value) return *out = true, PARE_OK;
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    for (int no = 0; no < 2; no++)
      if (!strcmp(s->value, words[i][no])) return *out = !no, PARE_OK;
  return refuse(s, "is on or off: it takes true or false, not '%s'", s->value);
}

/* The number of a word in a list that blanks part, or -1. */
static int find_word(const char *list, const char *word, size_t len) {
  int number = 0;
  for (const char *at = list; *at; number++) {
    size_t n = strcspn(at, " ");
    if (n == len && !memcmp(at, word, n)) return number;
    at += n + strspn(at + n, " ");
  }
  return -1;
}

/* "a, b or c" of "a b c". */
static void list_words(char *buf, size_t cap, const char *list) {
  size_t n = 0;
  buf[0] = 0;
  for (const char *at = list; *at;) {
    size_t len = strcspn(at, " "), next = len + strspn(at + len, " ");
    const char *sep = at == list ? "" : at[next] ? ", " : " or ";
    if (n < cap) n += (size_t)snprintf(buf + n, cap - n, "%s%.*s", sep, (int)len, at);
    at += next;
  }
}

static PareStatus read_word(const Setting *s, int *out) {
  char words[200];
  int i = find_word(s->row->words, s->value, strlen(s->value));
  list_words(words, sizeof words, s->row->words);
  if (i < 0) return refuse(s, "takes %s, not '%s'", words, s->value);
  *out = i;
  return PARE_OK;
}

/* --- the values of text options that have a form of their own --- */

static PareStatus check_target(const Setting *s) {
  const char *eq = strchr(s->value, '=');
  size_t len = eq ? (size_t)(eq - s->value) : strlen(s->value);
  double left;
  if (!eq || find_word("params macs bytes latency", s->value, len) < 0)
    return refuse(s, "takes params=X, macs=X, bytes=X or latency=X, not '%s'", s->value);
  if (!parse_float(eq + 1, &left) || left <= 0 || left > 1)
    return refuse(s, "names the share that is left, above 0 and at most 1, not '%s'", eq + 1);
  return PARE_OK;
}

static PareStatus check_prune(const Setting *s) {
  PareKind kind;
  for (const char *at = s->value;; at++) {
    size_t n = strcspn(at, ",");
    if (!pare_kind_find(at, n, &kind)) return refuse(s, "knows no class '%.*s': it takes heads, queries, ffn, head-dim, width, depth, vocab and other", (int)n, at);
    at += n;
    if (!*at) return PARE_OK;
  }
}

/* The set of --trainable that a list names; *bad is a word that is none, NULL when all are known. */
static unsigned trainable_of(const char *list, const char **bad) {
  static const char *const words[] = {
#define X(id, word) word,
      PARE_TRAINABLE_LIST(X)
#undef X
  };
  unsigned set = 0;
  *bad = NULL;
  for (const char *at = list;; at++) {
    size_t n = strcspn(at, ","), i = 0;
    while (i < PARE_TRAINABLE_COUNT && (strlen(words[i]) != n || memcmp(words[i], at, n))) i++;
    if (i == PARE_TRAINABLE_COUNT) return *bad = at, 0;
    set |= 1u << i;
    at += n;
    if (!*at) return set;
  }
}

static PareStatus check_trainable(const Setting *s) {
  const char *bad;
  trainable_of(s->value, &bad);
  return bad ? refuse(s, "takes lora, bias, norm, head or all, not '%.*s'", (int)strcspn(bad, ","), bad) : PARE_OK;
}

static PareStatus check_regex(const Setting *s) {
  regex_t re;
  char why[120];
  int err = regcomp(&re, s->value, REG_EXTENDED | REG_NOSUB);
  if (!err) return regfree(&re), PARE_OK;
  regerror(err, &re, why, sizeof why);
  return refuse(s, "takes a regular expression; '%s' is none: %s", s->value, why);
}

static PareStatus check_device(const Setting *s) {
  if (pare_device_name_ok(s->value)) return PARE_OK;
  return refuse(s, "takes auto, cpu, cuda or cuda:N, not '%s'", s->value);
}

static const struct {
  int id;
  PareStatus (*check)(const Setting *s);
} forms[] = {
    {PARE_OPTION_ID_target, check_target},   {PARE_OPTION_ID_prune, check_prune},
    {PARE_OPTION_ID_include, check_regex},   {PARE_OPTION_ID_exclude, check_regex},
    {PARE_OPTION_ID_device, check_device},   {PARE_OPTION_ID_trainable, check_trainable},
};

/* Text is copied; a list grows while its values come from one source. */
static PareStatus read_text(const Setting *s, Owner *own, bool append, const char **out) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
    if (s->row == &rows[forms[i].id]) PARE_TRY(forms[i].check(s));
  const char *copy = append && **out ? pare_arena_printf(own->arena, "%s,%s", *out, s->value)
                                     : pare_arena_strdup(own->arena, s->value);
  if (!copy) return pare_nomem(s->c);
  *out = copy;
  return PARE_OK;
}

static PareStatus read_value(const Setting *s, PareCompressOptions *o, bool append) {
  void *field = field_of(o, s->row);
  switch (s->row->kind) {
    case STR: return read_text(s, o->owner, false, field);
    case LIST: return read_text(s, o->owner, append, field);
    case INT: return read_int(s, field);
    case AUTO: return read_auto(s, field);
    case FLOAT: return read_float(s, field);
    case AUTO_FLOAT: return read_auto_float(s, field);
    case FLAG: return read_flag(s, field);
    case WORD: return read_word(s, field);
  }
  return PARE_OK;
}

PareStatus pare_option_take(PareCtx *c, PareCompressOptions *o, const char *name, const char *value,
                            PareOptionSource source) {
  const char *dash = source == PARE_FROM_RECIPE ? "" : "--";
  Owner *own = o->owner;
  int id = find_row(name);
  if (id < 0) return pare_error(c, PARE_USAGE, "there is no option %s%s", dash, name);
  Setting s = {c, &rows[id], value, dash, source != PARE_FROM_DEFAULT};
  if (!value && s.row->kind != FLAG) return refuse(&s, "wants a value: %s", s.row->words);
  if (source < (PareOptionSource)own->source[id]) return PARE_OK;
  PARE_TRY(read_value(&s, o, own->source[id] == source && source != PARE_FROM_DEFAULT));
  own->source[id] = (unsigned char)source;
  return PARE_OK;
}

/* --- the public side --- */

typedef struct SetCall {
  PareCompressOptions *o;
  const char *name, *value;
} SetCall;

static PareStatus set_body(PareCtx *c, void *arg) {
  SetCall *call = arg;
  return pare_option_take(c, call->o, call->name, call->value, PARE_FROM_CALLER);
}

int pare_options_set(PareCompressOptions *o, const char *name, const char *value, PareError *e) {
  SetCall call = {o, name, value};
  return pare_call(NULL, 1, e, set_body, &call);
}

static PareStatus init_body(PareCtx *c, void *arg) {
  PareCompressOptions *o = arg;
  PareArena *a = pare_arena_new(1 << 12);
  Owner *own = a ? PARE_NEW(a, Owner) : NULL;
  if (!own) return pare_arena_free(a), pare_nomem(c);
  own->arena = a;
  o->owner = own;
  for (int i = 0; i < PARE_OPTION_COUNT; i++) {
    if (rows[i].kind == STR || rows[i].kind == LIST) *(const char **)field_of(o, &rows[i]) = rows[i].dflt;
    else if (rows[i].kind != FLAG)
      PARE_TRY(pare_option_take(c, o, rows[i].name, rows[i].dflt, PARE_FROM_DEFAULT));
  }
  return PARE_OK;
}

int pare_options_init(PareCompressOptions *o, PareError *e) {
  *o = (PareCompressOptions){.owner = NULL};
  int code = pare_call(NULL, 1, e, init_body, o);
  if (code) pare_options_free(o);
  return code;
}

void pare_options_free(PareCompressOptions *o) {
  Owner *own = o->owner;
  o->owner = NULL;
  if (own) pare_arena_free(own->arena);
}

/* --- for the pipeline --- */

/* The word in force, which ends at a blank or at the end. */
static const char *words_of(int id, int word) {
  const char *at = rows[id].words;
  for (; word > 0; word--) at += strcspn(at, " ") + 1;
  return at;
}

bool pare_option_is(const PareCompressOptions *o, int id, const char *word) {
  const char *at = words_of(id, *(const int *)field_in(o, &rows[id]));
  return strcspn(at, " ") == strlen(word) && !memcmp(at, word, strlen(word));
}

const char *pare_option_text(PareArena *a, const PareCompressOptions *o, int id, bool *quoted) {
  const Row *r = &rows[id];
  const void *f = field_in(o, r);
  bool is_auto = (r->kind == AUTO && *(const int64_t *)f == PARE_AUTO) ||
                 (r->kind == AUTO_FLOAT && *(const double *)f == PARE_AUTO);
  *quoted = r->kind == STR || r->kind == LIST || r->kind == WORD || is_auto;
  if (is_auto) return "auto";
  switch (r->kind) {
    case STR:
    case LIST: return *(const char *const *)f;
    case INT:
    case AUTO: return pare_arena_printf(a, "%" PRId64, *(const int64_t *)f);
    case FLOAT:
    case AUTO_FLOAT: return pare_arena_printf(a, "%.15g", *(const double *)f);
    case FLAG: return *(const bool *)f ? "true" : "false";
    case WORD: break;
  }
  const char *at = words_of(id, *(const int *)f);
  return pare_arena_strndup(a, at, strcspn(at, " "));
}

bool pare_option_target(const PareCompressOptions *o, const char **kind, double *left) {
  static const char *const kinds[] = {"params", "macs", "bytes", "latency"};
  const char *eq = strchr(o->target, '=');
  if (!eq || !parse_float(eq + 1, left)) return false;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (!strncmp(kinds[i], o->target, (size_t)(eq - o->target))) return *kind = kinds[i], true;
  return false;
}

bool pare_options_may_cut(const PareCompressOptions *o) {
  return !o->keep_all && (o->sparsity > 0 || *o->target || *o->plan || *o->vocab_keep || o->granularity);
}

unsigned pare_option_kinds(const PareCompressOptions *o) {
  unsigned kinds;
  return *o->plan || !pare_kinds_find(o->prune, &kinds) ? ~0u : kinds;
}

unsigned pare_option_trainable_listed(const PareCompressOptions *o) {
  const char *bad;
  return trainable_of(o->trainable, &bad);
}

unsigned pare_option_trainable(const PareCompressOptions *o) {
  return pare_option_trainable_listed(o) | (o->num_labels ? PARE_TRAIN_HEAD : 0);
}

PareLabelsAs pare_option_labels_as(const PareCompressOptions *o) {
  if (pare_option_is(o, PARE_OPTION_ID_loss, "mse")) return PARE_LABELS_AS_NUMBERS;
  return pare_option_is(o, PARE_OPTION_ID_loss, "bce") ? PARE_LABELS_AS_MARKS : PARE_LABELS_AS_THEY_LOOK;
}
