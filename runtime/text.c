#include "runtime/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/map.h"
#include "base/num.h"
#include "runtime/wordpiece.h"

typedef struct Span {
  const char *at; /* NULL: missing */
  size_t n;
} Span;

typedef struct Row {
  Span text, pair, label;
} Row;

typedef struct Sample {
  size_t first1, n1, first2, n2; /* pieces of text and pair, in Reader.ids */
} Sample;

typedef struct Reader {
  PareCtx *c;
  PareData *d;
  const PareTextOptions *opt;
  int64_t line;
  int column[3]; /* of text, pair, label in a .tsv; -1: none */
  bool has_pair, has_label;
  PareWordpiece *words;
  PareArena *work; /* what is needed until the arrays are made */
  PareIds ids;
  PARE_VEC(Sample) samples;
  PARE_VEC(const char *) labels;
} Reader;

enum { TEXT, PAIR, LABEL, ROLES };
enum { DEFAULT_LENGTH = 128, COLUMNS_MAX = 4096 };
static const char *const role_name[ROLES] = {"text", "pair", "label"};
/* Names that are looked for when the options name none. */
static const char *const usual_name[ROLES][4] = {{"sentence", "text", "sentence1"}, {"sentence2"}, {"label"}};

#define line_error(r, ...) line_error_at((r), __LINE__, __VA_ARGS__)
__attribute__((format(printf, 3, 4))) static PareStatus line_error_at(Reader *r, int src_line, const char *fmt, ...) {
  char text[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return pare_diag_set(&r->c->diag, PARE_DATA, r->d->file, NULL, NULL, __FILE__, src_line, "line %" PRId64 ": %s",
                       r->line, text);
}

static const char *wanted(const Reader *r, int role) {
  return role == TEXT ? r->opt->text : role == PAIR ? r->opt->pair : r->opt->label;
}

/* ---- rows to tokens ---- */

static PareStatus check_utf8(Reader *r, Span s) {
  for (size_t i = 0; i < s.n;) {
    utf8proc_int32_t rune;
    utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)s.at + i, (utf8proc_ssize_t)(s.n - i), &rune);
    if (k < 1) return line_error(r, "not UTF-8: convert the file (iconv -t UTF-8)");
    i += (size_t)k;
  }
  return PARE_OK;
}

static PareStatus add_row(Reader *r, const Row *row) {
  Sample s = {.first1 = r->ids.n};
  PARE_TRY(check_utf8(r, row->text));
  PARE_TRY(pare_wordpiece_encode(r->c, r->words, r->work, row->text.at, row->text.n, &r->ids));
  s.first2 = r->ids.n;
  s.n1 = s.first2 - s.first1;
  if (r->has_pair) {
    PARE_TRY(check_utf8(r, row->pair));
    PARE_TRY(pare_wordpiece_encode(r->c, r->words, r->work, row->pair.at, row->pair.n, &r->ids));
    s.n2 = r->ids.n - s.first2;
  }
  pare_wordpiece_truncate((size_t)r->opt->max_length - (r->has_pair ? 3 : 2), &s.n1, &s.n2);
  if (!pare_vec_push(r->work, &r->samples, s)) return pare_nomem(r->c);
  if (!r->has_label) return PARE_OK;
  if (!row->label.n) return line_error(r, "the label is empty");
  const char *label = pare_arena_strndup(r->work, row->label.at, row->label.n);
  return label && pare_vec_push(r->work, &r->labels, label) ? PARE_OK : pare_nomem(r->c);
}

/* ---- .tsv ---- */

typedef PARE_VEC(Span) Fields;

/* Splits one line at tabs. */
static PareStatus split_line(Reader *r, Span line, Fields *out) {
  out->n = 0;
  for (const char *at = line.at, *end = line.at + line.n;; at++) {
    const char *tab = memchr(at, '\t', (size_t)(end - at));
    Span field = {at, (size_t)((tab ? tab : end) - at)};
    if (out->n == COLUMNS_MAX) return line_error(r, "more than %d columns", COLUMNS_MAX);
    if (!pare_vec_push(r->work, out, field)) return pare_nomem(r->c);
    if (!tab) return PARE_OK;
    at = tab;
  }
}

static int find_field(const Fields *f, const char *name) {
  for (size_t i = 0; i < f->n; i++)
    if (f->at[i].n == strlen(name) && !memcmp(f->at[i].at, name, f->at[i].n)) return (int)i;
  return -1;
}

/* The column of a number that counts from 1, or -1 when `s` is a name. */
static int column_number(const char *s) {
  char *end;
  errno = 0;
  long v = isdigit((unsigned char)*s) ? strtol(s, &end, 10) : 0;
  return v >= 1 && !errno && !*end && v <= COLUMNS_MAX ? (int)v - 1 : -1;
}

static int find_role(const Reader *r, const Fields *f, int role) {
  const char *name = wanted(r, role);
  if (name) return find_field(f, name);
  int found = -1;
  for (int i = 0; found < 0 && usual_name[role][i]; i++) found = find_field(f, usual_name[role][i]);
  return found;
}

static bool looks_like_header(const Reader *r, const Fields *f) {
  if (r->opt->header != PARE_HEADER_AUTO) return r->opt->header == PARE_HEADER_YES;
  for (int role = 0; role < ROLES; role++) {
    const char *name = wanted(r, role);
    if (name && column_number(name) < 0) return true; /* columns are asked for by name */
    for (int i = 0; usual_name[role][i]; i++)
      if (find_field(f, usual_name[role][i]) >= 0) return true;
  }
  return false;
}

static PareStatus no_column(Reader *r, int role, const Fields *f) {
  char have[200];
  size_t k = 0;
  have[0] = 0;
  for (size_t i = 0; i < f->n && k < sizeof have; i++)
    k += (size_t)snprintf(have + k, sizeof have - k, "%s%.*s", i ? ", " : "",
                          (int)(f->at[i].n < 60 ? f->at[i].n : 60), f->at[i].at);
  const char *name = wanted(r, role);
  if (!name)
    return line_error(r, "no column is called sentence, text or sentence1: name the %s column; there are: %s",
                      role_name[role], have);
  return line_error(r, "there is no %s column '%s'; there are: %s", role_name[role], name, have);
}

/* Settles r->column from the first row. */
static PareStatus find_columns(Reader *r, const Fields *f, bool header) {
  for (int role = 0; role < ROLES; role++) {
    const char *name = wanted(r, role);
    int number = name ? column_number(name) : -1;
    int *col = &r->column[role];
    if (number >= 0) *col = number;
    else if (header) *col = find_role(r, f, role);
    else *col = name ? -1 : role == TEXT ? 0 : role == LABEL && f->n == 2 ? 1 : -1;
    bool required = role == TEXT || name;
    if ((required && *col < 0) || *col >= (int)f->n) return no_column(r, role, f);
  }
  r->has_pair = r->column[PAIR] >= 0;
  r->has_label = r->column[LABEL] >= 0;
  return PARE_OK;
}

static PareStatus tsv_row(Reader *r, const Fields *f) {
  Span got[ROLES] = {{0}};
  for (int role = 0; role < ROLES; role++) {
    int col = r->column[role];
    if (col >= (int)f->n)
      return line_error(r, "%zu column%s, but the %s is in column %d", f->n, f->n == 1 ? "" : "s", role_name[role],
                        col + 1);
    if (col >= 0) got[role] = f->at[col];
  }
  return add_row(r, &(Row){got[TEXT], got[PAIR], got[LABEL]});
}

static PareStatus tsv_line(Reader *r, Span line, Fields *f, bool *first) {
  PARE_TRY(split_line(r, line, f));
  if (!*first) return tsv_row(r, f);
  *first = false;
  bool header = looks_like_header(r, f);
  PARE_TRY(find_columns(r, f, header));
  return header ? PARE_OK : tsv_row(r, f);
}

/* ---- .jsonl ---- */

static Span json_text(const json_t *v) { return (Span){json_string_value(v), json_string_length(v)}; }

/* The key of a role in the first object; NULL when there is none. */
static const char *json_key(const Reader *r, const json_t *o, int role) {
  const char *name = wanted(r, role);
  if (name) return json_object_get(o, name) ? name : NULL;
  for (int i = 0; usual_name[role][i]; i++)
    if (json_object_get(o, usual_name[role][i])) return usual_name[role][i];
  return NULL;
}

/* A label may be a string, a number or a truth value; as text, in r->work. */
static PareStatus json_label(Reader *r, const json_t *v, Span *out) {
  char *text = NULL;
  if (json_is_string(v)) {
    *out = json_text(v);
    return PARE_OK;
  }
  if (json_is_integer(v)) text = pare_arena_printf(r->work, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
  else if (json_is_real(v)) text = pare_arena_printf(r->work, "%.17g", json_real_value(v));
  else if (json_is_boolean(v)) text = pare_arena_strdup(r->work, json_is_true(v) ? "1" : "0");
  else return line_error(r, "the label is neither a string nor a number");
  if (!text) return pare_nomem(r->c);
  *out = (Span){text, strlen(text)};
  return PARE_OK;
}

static PareStatus json_row(Reader *r, const json_t *o, const char *const key[ROLES]) {
  Row row = {{0}, {0}, {0}};
  for (int role = 0; role < ROLES; role++) {
    const json_t *v = key[role] ? json_object_get(o, key[role]) : NULL;
    if (key[role] && !v) return line_error(r, "the key '%s' is missing", key[role]);
    if (v && role == LABEL) PARE_TRY(json_label(r, v, &row.label));
    else if (v && !json_is_string(v)) return line_error(r, "'%s' is not a string", key[role]);
    else if (v) *(role == TEXT ? &row.text : &row.pair) = json_text(v);
  }
  return add_row(r, &row);
}

/* Settles the keys from the first object. */
static PareStatus find_keys(Reader *r, const json_t *o, const char *key[ROLES]) {
  for (int role = 0; role < ROLES; role++) {
    const char *name = wanted(r, role);
    key[role] = json_key(r, o, role);
    if (!key[role] && (role == TEXT || name))
      return line_error(r, "the key '%s' is missing", name ? name : "sentence' or 'text");
  }
  r->has_pair = key[PAIR] != NULL;
  r->has_label = key[LABEL] != NULL;
  return PARE_OK;
}

static PareStatus json_line(Reader *r, Span line, const char *key[ROLES], bool *first) {
  json_error_t e;
  json_t *o = json_loadb(line.at, line.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
  PareStatus s = PARE_OK;
  if (!o) s = line_error(r, "not JSON: %s", e.text);
  else if (!json_is_object(o)) s = line_error(r, "not a JSON object");
  else if (*first) s = find_keys(r, o, key);
  if (s == PARE_OK) s = json_row(r, o, key);
  *first = false;
  json_decref(o);
  return s;
}

static bool is_blank(Span s) {
  for (size_t i = 0; i < s.n; i++)
    if (s.at[i] != ' ' && s.at[i] != '\t') return false;
  return true;
}

static PareStatus read_lines(Reader *r, const PareFile *f, bool json) {
  Fields fields = {0};
  const char *key[ROLES] = {NULL}, *at = (const char *)f->data, *end = at + f->len;
  bool first = true;
  if (f->len >= 3 && !memcmp(at, "\xef\xbb\xbf", 3)) at += 3; /* byte order mark */
  while (at < end) {
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    Span line = {at, (size_t)((eol ? eol : end) - at)};
    at = eol ? eol + 1 : end;
    r->line++;
    if (line.n && line.at[line.n - 1] == '\r') line.n--;
    if (is_blank(line)) continue;
    PARE_TRY(json ? json_line(r, line, key, &first) : tsv_line(r, line, &fields, &first));
  }
  if (!r->samples.n) return pare_data_error(r->c, r->d, PARE_DATA, "the file holds no samples");
  return PARE_OK;
}

/* ---- tokens to arrays ---- */

static void put_tokens(const int64_t *ids, size_t n, int64_t type, int64_t *to[3], size_t *at) {
  for (size_t i = 0; i < n; i++, ++*at) {
    to[0][*at] = ids[i];
    to[1][*at] = 1;
    to[2][*at] = type;
  }
}

/* One row of L tokens: [CLS] text [SEP] (pair [SEP]) [PAD]... */
static void put_sample(const Reader *r, const Sample *s, size_t length, int64_t *to[3]) {
  const int64_t cls = pare_wordpiece_cls(r->words), sep = pare_wordpiece_sep(r->words);
  size_t at = 0;
  put_tokens(&cls, 1, 0, to, &at);
  put_tokens(r->ids.at + s->first1, s->n1, 0, to, &at);
  put_tokens(&sep, 1, 0, to, &at);
  if (r->has_pair) {
    put_tokens(r->ids.at + s->first2, s->n2, 1, to, &at);
    put_tokens(&sep, 1, 1, to, &at);
  }
  for (; at < length; at++) to[0][at] = pare_wordpiece_pad(r->words); /* mask and type are zero already */
}

static PareStatus add_tokens(Reader *r) {
  static const char *const name[3] = {"input_ids", "attention_mask", "token_type_ids"};
  size_t special = r->has_pair ? 3 : 2, length = 0;
  void *to[3];
  for (size_t i = 0; i < r->samples.n; i++) {
    size_t n = r->samples.at[i].n1 + r->samples.at[i].n2 + special;
    if (n > length) length = n;
  }
  if (r->opt->pad_to_max) length = (size_t)r->opt->max_length;
  PareType t = {PARE_I64, 2, {(int64_t)r->samples.n, (int64_t)length}};
  uint64_t limit = pare_data_memory_limit() / 3;
  for (int k = 0; k < 3; k++) PARE_TRY(pare_data_room(r->c, r->d, name[k], &t, limit, &to[k]));
  for (size_t i = 0; i < r->samples.n; i++) {
    int64_t *row[3];
    for (int k = 0; k < 3; k++) row[k] = (int64_t *)to[k] + i * length;
    put_sample(r, &r->samples.at[i], length, row);
  }
  for (int k = 0; k < 3; k++) PARE_TRY(pare_data_add(r->c, r->d, name[k], &t, to[k]));
  return PARE_OK;
}

/* ---- labels ---- */

static bool is_integer(const char *s, int64_t *out) {
  char *end;
  errno = 0;
  *out = strtoll(s, &end, 10);
  return !errno && end != s && !*end && !isspace((unsigned char)*s);
}

static bool is_number(const char *s, float *out) {
  char *end;
  *out = strtof(s, &end);
  return end != s && !*end && !isspace((unsigned char)*s);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static PareStatus number_classes(Reader *r, int64_t *out) {
  size_t n = r->labels.n, classes = 0;
  PareMap number = {.arena = r->work};
  const char **sorted = pare_arena_grow(r->work, r->labels.at, n, n, sizeof *sorted);
  if (!sorted) return pare_nomem(r->c);
  qsort(sorted, n, sizeof *sorted, by_text);
  for (size_t i = 0; i < n; i++) {
    if (i && !strcmp(sorted[i], sorted[i - 1])) continue;
    pare_log(r->c, 0, "label %zu: %s", classes, sorted[i]);
    if (!pare_map_put(&number, sorted[i], (int64_t)classes++)) return pare_nomem(r->c);
  }
  for (size_t i = 0; i < n; i++) out[i] = pare_map_get(&number, r->labels.at[i]);
  return PARE_OK;
}

static PareStatus add_labels(Reader *r) {
  size_t n = r->labels.n;
  if (!r->has_label) return PARE_OK;
  int64_t *ints = PARE_NEW_N(r->d->arena, n, int64_t);
  float *reals = PARE_NEW_N(r->d->arena, n, float);
  if (!ints || !reals) return pare_nomem(r->c);
  bool all_ints = true, all_reals = true;
  for (size_t i = 0; i < n; i++) {
    all_ints = all_ints && is_integer(r->labels.at[i], &ints[i]);
    all_reals = all_reals && is_number(r->labels.at[i], &reals[i]);
  }
  PareType t = {all_ints || !all_reals ? PARE_I64 : PARE_F32, 1, {(int64_t)n}};
  if (!all_ints && !all_reals) PARE_TRY(number_classes(r, ints));
  return pare_data_add(r->c, r->d, "labels", &t, t.dtype == PARE_I64 ? (void *)ints : (void *)reals);
}

static PareStatus check_options(PareCtx *c, const PareTextOptions *opt) {
  if (!opt->vocab) return pare_error(c, PARE_USAGE, "text needs a WordPiece vocabulary (vocab.txt)");
  if (opt->max_length < 4 || opt->max_length > 1 << 20)
    return pare_error(c, PARE_USAGE, "a length of %" PRId64 " tokens makes no sense: 4 to 1048576", opt->max_length);
  return PARE_OK;
}

static PareStatus read_all(Reader *r, const char *path) {
  PareFile f = {0};
  bool json = pare_data_has_suffix(path, ".jsonl") || pare_data_has_suffix(path, ".json");
  if (!json && !pare_data_has_suffix(path, ".tsv") && !pare_data_has_suffix(path, ".txt"))
    return pare_data_error(r->c, r->d, PARE_DATA, "not text that can be read: .tsv or .jsonl is wanted");
  PARE_TRY(pare_wordpiece_load(r->c, r->work, r->opt->vocab, !r->opt->keep_case, &r->words));
  PARE_TRY(pare_file_map(r->c, path, &f));
  PareStatus s = read_lines(r, &f, json);
  if (s == PARE_OK) s = add_tokens(r);
  if (s == PARE_OK) s = add_labels(r);
  pare_file_unmap(&f);
  return s;
}

PareStatus pare_text_read(PareCtx *c, const char *path, const PareTextOptions *opt, PareData **out) {
  *out = NULL;
  PareTextOptions o = *opt;
  if (!o.max_length) o.max_length = DEFAULT_LENGTH;
  PARE_TRY(check_options(c, &o));
  Reader r = {.c = c, .opt = &o, .work = pare_arena_new(1 << 20)};
  PareStatus s = r.work ? pare_data_new(c, path, &r.d) : pare_nomem(c);
  if (s == PARE_OK) s = read_all(&r, path);
  pare_arena_free(r.work);
  if (s == PARE_OK) *out = r.d;
  else pare_data_free(r.d);
  return s;
}
