/* text.c - see text.h: samples become arrays. How files are written is in text/, a file each. */
#include "runtime/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/reader.h"

enum { DEFAULT_LENGTH = 128, IGNORED = -100 };

const char *const pare_text_role[PARE_ROLES] = {"text", "pair", "label"};
const char *const pare_text_usual[PARE_ROLES][4] = {{"sentence", "text", "sentence1"}, {"sentence2"}, {"label"}};

static const PareTextTask tasks[] = {
#define TASK(name, form, text, pair, label, bare_label, bare_text, classes, skip) \
  {name, pare_text_##form, {text, pair, label}, {bare_text, "", bare_label}, classes, skip},
#include "runtime/text/tasks.def"
#undef TASK
};
enum { TASKS = sizeof tasks / sizeof *tasks };

PareStatus pare_line_error_at(PareTextReader *r, int src_line, const char *fmt, ...) {
  char text[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return pare_diag_set(&r->c->diag, PARE_DATA, r->d->file, NULL, NULL, __FILE__, src_line, "line %" PRId64 ": %s",
                       r->line, text);
}

const char *pare_text_wanted(const PareTextReader *r, int role) {
  const char *asked = role == PARE_TEXT ? r->opt->text : role == PARE_PAIR ? r->opt->pair : r->opt->label;
  return asked || !r->task ? asked : r->task->role[role];
}

/* ---- lines ---- */

bool pare_text_line(PareTextReader *r, const char **at, const char *end, PareSpan *line) {
  if (!r->line && end - *at >= 3 && !memcmp(*at, "\xef\xbb\xbf", 3)) *at += 3; /* byte order mark */
  if (*at >= end) return false;
  const char *eol = memchr(*at, '\n', (size_t)(end - *at));
  *line = (PareSpan){*at, (size_t)((eol ? eol : end) - *at)};
  *at = eol ? eol + 1 : end;
  if (line->n && line->at[line->n - 1] == '\r') line->n--;
  r->line++;
  return true;
}

bool pare_text_is_blank(PareSpan s) {
  for (size_t i = 0; i < s.n; i++)
    if (s.at[i] != ' ' && s.at[i] != '\t') return false;
  return true;
}

/* ---- rows to tokens ---- */

static PareStatus check_utf8(PareTextReader *r, PareSpan s) {
  for (size_t i = 0; i < s.n;) {
    utf8proc_int32_t rune;
    utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)s.at + i, (utf8proc_ssize_t)(s.n - i), &rune);
    if (k < 1) return pare_line_error(r, "not UTF-8: convert the file (iconv -t UTF-8)");
    i += (size_t)k;
  }
  return PARE_OK;
}

PareStatus pare_text_encode(PareTextReader *r, PareSpan s, bool word) {
  PARE_TRY(check_utf8(r, s));
  return pare_tokenizer_encode(r->c, &r->tokenizer, r->work, s.at, s.n, word, &r->tokens);
}

static const PareTemplate *template_of(const PareTextReader *r) {
  return r->has_pair ? &r->tokenizer.pair : &r->tokenizer.single;
}

PareStatus pare_text_add(PareTextReader *r, const PareTextRow *row) {
  PareTextSample s = {.first1 = r->tokens.n};
  PARE_TRY(pare_text_encode(r, row->role[PARE_TEXT], false));
  s.first2 = r->tokens.n;
  s.n1 = s.first2 - s.first1;
  if (r->has_pair) {
    PARE_TRY(pare_text_encode(r, row->role[PARE_PAIR], false));
    s.n2 = r->tokens.n - s.first2;
  }
  pare_tokens_truncate((size_t)r->opt->max_length - pare_template_special(template_of(r)), &s.n1, &s.n2);
  if (!pare_vec_push(r->work, &r->samples, s)) return pare_nomem(r->c);
  return r->has_label ? pare_text_note_label(r, row->role[PARE_LABEL]) : PARE_OK;
}

/* ---- tokens to arrays ---- */

enum { IDS, MASK, TYPES, LABELS, ARRAYS };

typedef struct Rows {
  int64_t *at[ARRAYS];    /* of one sample, L of each; LABELS: NULL unless labels are tags or places */
  const int64_t *class;   /* of tags */
  size_t place;           /* of the next token */
} Rows;

static void put_token(Rows *to, int64_t id, int64_t type) {
  to->at[IDS][to->place] = id;
  to->at[MASK][to->place] = 1;
  to->at[TYPES][to->place++] = type;
}

/* Tokens [first, first + n) of one text, and what their labels are. */
static void put_text(const PareTextReader *r, const PareTextSample *s, size_t first, size_t n, int64_t type, Rows *to) {
  for (size_t i = first; i < first + n; i++) {
    if (r->by_token && r->tags.at[i] >= 0) to->at[LABELS][to->place] = to->class[r->tags.at[i]];
    if (r->by_span && s->first <= s->last && i == s->first) to->at[LABELS][0] = (int64_t)to->place;
    if (r->by_span && s->first <= s->last && i == s->last) to->at[LABELS][1] = (int64_t)to->place;
    put_token(to, r->tokens.at[i].id, type);
  }
}

static void put_sample(const PareTextReader *r, const PareTextSample *s, size_t length, Rows *to) {
  const PareTemplate *t = template_of(r);
  if (r->by_span && s->no_answer) to->at[LABELS][0] = to->at[LABELS][1] = 0;
  for (size_t i = 0; i < t->n; i++) {
    const PareTemplatePiece *p = &t->piece[i];
    if (p->what == PARE_PIECE_TOKEN) put_token(to, p->id, p->type);
    else if (p->what == PARE_PIECE_TEXT) put_text(r, s, s->first1, s->n1, p->type, to);
    else put_text(r, s, s->first2, s->n2, p->type, to);
  }
  for (; to->place < length; to->place++) to->at[IDS][to->place] = r->tokenizer.pad; /* the others are zero already */
}

static size_t longest(const PareTextReader *r) {
  size_t special = pare_template_special(template_of(r)), length = 1;
  for (size_t i = 0; i < r->samples.n; i++) {
    size_t n = r->samples.at[i].n1 + r->samples.at[i].n2 + special;
    if (n > length) length = n;
  }
  return r->opt->pad_to_max ? (size_t)r->opt->max_length : length;
}

static PareStatus add_tokens(PareTextReader *r) {
  static const char *const name[ARRAYS] = {"input_ids", "attention_mask", "token_type_ids", "labels"};
  size_t length = longest(r), arrays = r->by_token || r->by_span ? ARRAYS : LABELS;
  int64_t *to[ARRAYS] = {NULL}, *class = NULL;
  PareType type[ARRAYS];
  for (size_t k = 0; k < arrays; k++) {
    void *room;
    type[k] = (PareType){PARE_I64, 2, {(int64_t)r->samples.n, k == LABELS && r->by_span ? 2 : (int64_t)length}};
    PARE_TRY(pare_data_room(r->c, r->d, name[k], &type[k], pare_data_memory_limit() / arrays, &room));
    to[k] = room;
  }
  if (r->by_token) PARE_TRY(pare_text_number_tags(r, &class));
  for (int64_t i = 0, n = arrays == ARRAYS ? pare_type_count(&type[LABELS]) : 0; i < n; i++) to[LABELS][i] = IGNORED;
  for (size_t i = 0; i < r->samples.n; i++) {
    Rows rows = {.class = class};
    for (size_t k = 0; k < arrays; k++) rows.at[k] = to[k] + (int64_t)i * type[k].dim[1];
    put_sample(r, &r->samples.at[i], length, &rows);
  }
  for (size_t k = 0; k < arrays; k++) PARE_TRY(pare_data_add(r->c, r->d, name[k], &type[k], to[k]));
  return PARE_OK;
}

/* ---- the file ---- */

/* Letters and digits alone count: "SST-2" is sst-2, "stsb" is sts-b. */
static bool same_name(const char *a, const char *b) {
  for (;; a++, b++) {
    while (*a && !isalnum((unsigned char)*a)) a++;
    while (*b && !isalnum((unsigned char)*b)) b++;
    if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) return false;
    if (!*a) return true;
  }
}

static PareStatus find_task(PareTextReader *r) {
  const char *names = "";
  if (!r->opt->task) return PARE_OK;
  for (size_t i = 0; i < TASKS && !r->task; i++)
    if (same_name(tasks[i].name, r->opt->task)) r->task = &tasks[i];
  if (r->task) return PARE_OK;
  for (size_t i = 0; names && i < TASKS; i++)
    names = pare_arena_printf(r->work, "%s%s%s", names, i ? ", " : "", tasks[i].name);
  if (!names) return pare_nomem(r->c);
  return pare_error(r->c, PARE_USAGE, "--task: '%s' is not known; there are %s", r->opt->task, names);
}

/* "a,b,c" */
static PareStatus split_names(PareTextReader *r) {
  const char *text = r->opt->label_names ? r->opt->label_names : r->task ? r->task->classes : NULL;
  r->numbers = text && !*text && !r->opt->label_names;
  while (text && *text) {
    size_t n = strcspn(text, ",");
    const char *name = pare_arena_strndup(r->work, text, n);
    if (!n) return pare_error(r->c, PARE_USAGE, "--label-names wants names joined by ',', none of them empty");
    if (!name || !pare_vec_push(r->work, &r->names, name)) return pare_nomem(r->c);
    text += n + (text[n] == ',');
  }
  return PARE_OK;
}

static PareStatus check_options(PareCtx *c, const PareTextOptions *opt) {
  if (!opt->vocab)
    return pare_error(c, PARE_USAGE, "text needs the model's vocabulary: vocab.txt, vocab.json or tokenizer.json");
  if (opt->max_length < 4 || opt->max_length > 1 << 20)
    return pare_error(c, PARE_USAGE, "a length of %" PRId64 " tokens makes no sense: 4 to 1048576", opt->max_length);
  return PARE_OK;
}

static PareStatus choose_form(PareTextReader *r, const char *path, PareTextForm **form) {
  bool json = pare_data_has_suffix(path, ".jsonl") || pare_data_has_suffix(path, ".json");
  *form = json ? pare_text_jsonl : pare_text_tsv;
  if (r->task && r->task->read != pare_text_tsv) return *form = r->task->read, PARE_OK;
  if (json || pare_data_has_suffix(path, ".tsv") || pare_data_has_suffix(path, ".txt")) return PARE_OK;
  return pare_data_error(r->c, r->d, PARE_DATA,
                         "not text that can be read: .tsv or .jsonl is wanted, or --task ner or squad");
}

static PareStatus check_room(PareTextReader *r) {
  size_t special = pare_template_special(&r->tokenizer.pair);
  if ((size_t)r->opt->max_length > special) return PARE_OK;
  return pare_error(r->c, PARE_USAGE, "a length of %" PRId64 " tokens has no room beside %zu special ones",
                    r->opt->max_length, special);
}

static PareStatus read_all(PareTextReader *r, const char *path) {
  PareFile f = {0};
  PareTextForm *read;
  PARE_TRY(find_task(r));
  PARE_TRY(split_names(r));
  PARE_TRY(choose_form(r, path, &read));
  PARE_TRY(pare_tokenizer_load(r->c, r->work, r->opt->vocab, r->opt->merges, !r->opt->keep_case, &r->tokenizer));
  PARE_TRY(check_room(r));
  PARE_TRY(pare_file_map(r->c, path, &f));
  PareStatus s = read(r, &f);
  if (s == PARE_OK && !r->samples.n) s = pare_data_error(r->c, r->d, PARE_DATA, "the file holds no samples");
  if (s == PARE_OK) s = add_tokens(r);
  if (s == PARE_OK && r->labels.n) s = pare_text_add_labels(r);
  pare_file_unmap(&f);
  return s;
}

PareStatus pare_text_read(PareCtx *c, const char *path, const PareTextOptions *opt, PareData **out) {
  *out = NULL;
  PareTextOptions o = *opt;
  if (!o.max_length) o.max_length = DEFAULT_LENGTH;
  PARE_TRY(check_options(c, &o));
  PareTextReader r = {.c = c, .opt = &o, .work = pare_arena_new(1 << 20)};
  PareStatus s = r.work ? pare_data_new(c, path, &r.d) : pare_nomem(c);
  if (s == PARE_OK) s = read_all(&r, path);
  pare_arena_free(r.work);
  if (s == PARE_OK) *out = r.d;
  else pare_data_free(r.d);
  return s;
}
