#include "api/vocab.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "api/plan.h"
#include "base/file.h"
#include "base/map.h"
#include "runtime/data.h"

static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

/* --- files of lines --- */

typedef struct Line {
  const char *at;
  size_t n; /* without the blanks at its end */
} Line;

static bool next_line(const char **at, const char *end, Line *out) {
  if (*at >= end) return false;
  const char *eol = memchr(*at, '\n', (size_t)(end - *at));
  *out = (Line){*at, (size_t)((eol ? eol : end) - *at)};
  while (out->n && isspace((unsigned char)out->at[out->n - 1])) out->n--;
  *at = eol ? eol + 1 : end;
  return true;
}

static bool is_id(Line l) {
  for (size_t i = 0; i < l.n; i++)
    if (!isdigit((unsigned char)l.at[i])) return false;
  return l.n > 0 && l.n < 12;
}

static bool all_ids(const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  Line l;
  while (next_line(&at, end, &l))
    if (l.n && !is_id(l)) return false;
  return true;
}

/* --- which tokens stay --- */

typedef struct Reader {
  PareCtx *c;
  PareArena *a;
  const PareCompressOptions *o;
  PareMap ids; /* by token; empty without --vocab */
  bool *keep;
  int64_t count, tokens; /* rows of the table; lines of --vocab */
} Reader;

#define at_line(r, path, ...) \
  pare_diag_set(&(r)->c->diag, PARE_DATA, (path), NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

static PareStatus read_tokens(Reader *r, const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  for (Line l; next_line(&at, end, &l); r->tokens++) {
    const char *token = pare_arena_strndup(r->a, l.at, l.n);
    if (!token || !pare_map_put(&r->ids, token, r->tokens)) return pare_nomem(r->c);
  }
  if (r->tokens <= r->count) return PARE_OK;
  return at_line(r, r->o->vocab, "has %" PRId64 " tokens, but the model's table has %" PRId64 " rows", r->tokens, r->count);
}

static PareStatus load_vocab(Reader *r) {
  PareFile f = {0};
  if (!*r->o->vocab) return PARE_OK;
  if (pare_data_has_suffix(r->o->vocab, ".json"))
    return pare_error(r->c, PARE_USAGE, "--vocab %s: of tokenizers only a WordPiece's vocab.txt can be written anew; without "
                      "--vocab, --vocab-keep takes ids", r->o->vocab);
  PARE_TRY(pare_file_map(r->c, r->o->vocab, &f));
  PareStatus s = read_tokens(r, &f);
  pare_file_unmap(&f);
  return s;
}

static PareStatus keep_line(Reader *r, Line l, bool ids, int64_t number) {
  const char *text = pare_arena_strndup(r->a, l.at, l.n);
  if (!text) return pare_nomem(r->c);
  int64_t id = ids ? (int64_t)strtoll(text, NULL, 10) : pare_map_get(&r->ids, text);
  if (!ids && id < 0)
    return at_line(r, r->o->vocab_keep, "line %" PRId64 ": '%s' is no token of %s", number, text, r->o->vocab);
  if (id >= r->count)
    return at_line(r, r->o->vocab_keep, "line %" PRId64 ": there is no id %s: the model's table has %" PRId64 " rows",
                   number, text, r->count);
  r->keep[id] = true;
  return PARE_OK;
}

/* A file of numbers alone says exactly which ids stay; one of tokens keeps the special ones as well. */
static PareStatus keep_lines(Reader *r, const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  bool ids = all_ids(f);
  Line l;
  if (!ids && !*r->o->vocab)
    return pare_error(r->c, PARE_USAGE, "--vocab-keep %s names tokens: give --vocab, the file that numbers them",
                      r->o->vocab_keep);
  for (int64_t number = 1; next_line(&at, end, &l); number++)
    if (l.n) PARE_TRY(keep_line(r, l, ids, number));
  for (size_t i = 0; !ids && i < sizeof special / sizeof *special; i++) {
    int64_t id = pare_map_get(&r->ids, special[i]);
    if (id >= 0) r->keep[id] = true;
  }
  return PARE_OK;
}

static PareStatus load_keep(Reader *r) {
  PareFile f = {0};
  PARE_TRY(pare_file_map(r->c, r->o->vocab_keep, &f));
  PareStatus s = keep_lines(r, &f);
  pare_file_unmap(&f);
  return s;
}

/* *found: the plan says something about tokens. */
static PareStatus take_plan(Reader *r, const PareDims *d, size_t dim, bool *found) {
  bool **keep = PARE_NEW_N(r->a, d->dims.n + 1, bool *);
  if (!keep) return pare_nomem(r->c);
  PARE_TRY(pare_plan_load(r->c, r->a, r->o->plan, d, keep));
  *found = keep[dim] != NULL;
  if (*found) memcpy(r->keep, keep[dim], (size_t)r->count);
  return PARE_OK;
}

static PareStatus number(Reader *r, PareVocab *v) {
  int64_t unknown = pare_map_get(&r->ids, "[UNK]");
  v->new_id = PARE_NEW_N(r->a, v->count, int64_t);
  v->old_id = PARE_NEW_N(r->a, v->count, int64_t);
  if (!v->new_id || !v->old_id) return pare_nomem(r->c);
  for (int64_t i = 0; i < v->count; i++)
    if (v->keep[i]) v->new_id[i] = v->left, v->old_id[v->left++] = i;
  int64_t lost = unknown >= 0 && v->keep[unknown] ? v->new_id[unknown] : -1;
  for (int64_t i = 0; i < v->count; i++)
    if (!v->keep[i]) v->new_id[i] = lost;
  return v->left ? PARE_OK : at_line(r, r->o->vocab_keep, "keeps no token");
}

/* Labels are tokens where the first output of floats, which tuning looks at, ends in the vocabulary. */
static bool labels_are_tokens(const PareDims *d, const PareAxis *leaf) {
  const PareGraph *g = d->tracer->g;
  for (size_t i = 0; i < g->outputs.n; i++) {
    const PareValue *y = g->outputs.at[i];
    if (!pare_dtype_is_float(y->type.dtype) || y->role == PARE_CONST || !y->type.rank) continue;
    return pare_axis_find(d->tracer->value_axis[y->id][y->type.rank - 1]) == leaf;
  }
  return false;
}

static void give(PareDims *d, PareVocab *v) {
  for (size_t i = 0; i < d->dims.n; i++) {
    PareDim *dim = &d->dims.at[i];
    if (dim->kind != PARE_KIND_VOCAB) continue;
    dim->given = v->keep;
    v->outputs |= (dim->leaf->met & PARE_MET_OUTPUT) != 0;
    v->labels |= labels_are_tokens(d, dim->leaf);
  }
}

static PareStatus read_keep(Reader *r, PareDims *d, size_t dim, PareVocab *v) {
  bool found = true;
  r->count = v->count = d->dims.at[dim].count;
  if (!(v->keep = r->keep = PARE_NEW_N(r->a, r->count, bool))) return pare_nomem(r->c);
  PARE_TRY(load_vocab(r));
  if (*r->o->plan) PARE_TRY(take_plan(r, d, dim, &found));
  else PARE_TRY(load_keep(r));
  if (!found && *r->o->vocab)
    return pare_error(r->c, PARE_USAGE, "--vocab has no meaning: the plan %s says nothing about tokens", r->o->plan);
  if (!found) return v->keep = NULL, PARE_OK;
  PARE_TRY(number(r, v));
  give(d, v);
  pare_log(r->c, 0, "%" PRId64 " of %" PRId64 " tokens stay and are numbered anew%s", v->left, v->count,
           v->outputs ? ", in the outputs too" : "");
  return PARE_OK;
}

PareStatus pare_vocab_read(PareCtx *c, PareArena *a, const PareCompressOptions *o, PareDims *d, PareVocab **out) {
  Reader r = {.c = c, .a = a, .o = o, .ids = {.arena = a}};
  size_t dim = 0;
  *out = NULL;
  if (!(pare_option_kinds(o) & PARE_KIND_BIT(PARE_KIND_VOCAB))) return PARE_OK;
  while (dim < d->dims.n && d->dims.at[dim].kind != PARE_KIND_VOCAB) dim++;
  if (dim == d->dims.n && *o->plan) return PARE_OK; /* a plan that names tokens does not fit, which it says itself */
  if (dim == d->dims.n)
    return pare_error(c, PARE_TARGET, "the vocabulary cannot be cut: %s", d->no_vocab ? d->no_vocab : "there is none");
  PareVocab *v = PARE_NEW(a, PareVocab);
  if (!v) return pare_nomem(c);
  v->dims = d;
  PARE_TRY(read_keep(&r, d, dim, v));
  if (v->keep) *out = v;
  return PARE_OK;
}

/* --- samples --- */

enum { IGNORED = -100 }; /* a label that counts for nothing */

static bool holds_ids(const PareVocab *v, const PareArray *a) {
  for (size_t i = 0; i < v->dims->tokens.n; i++)
    if (!strcmp(v->dims->tokens.at[i].input, a->name)) return true;
  return false;
}

static bool holds_labels(const PareVocab *v, const PareArray *a) {
  return v->labels && !strcmp(a->name, "labels") && !pare_dtype_is_float(a->type.dtype);
}

/* Samples `index` of one array, as they are or, of ids and labels, mapped: negative labels stay. */
static PareStatus copy_array(PareCtx *c, const PareVocab *v, const PareData *d, const PareArray *a,
                             const int64_t *index, int64_t n, const int64_t *map, PareData *out) {
  bool ids = holds_ids(v, a), labels = holds_labels(v, a);
  PareType t = a->type;
  void *room;
  t.dim[0] = n;
  if (map && (ids || labels)) t.dtype = PARE_I64;
  PARE_TRY(pare_data_room(c, out, a->name, &t, pare_data_memory_limit(), &room));
  PARE_TRY(pare_data_batch(c, d, a, index, n, t.dtype, room));
  int64_t *x = room;
  for (int64_t i = 0; map && (ids || labels) && i < pare_type_count(&t); i++)
    if (x[i] >= 0) x[i] = map[x[i]] < 0 ? IGNORED : map[x[i]];
  return pare_data_add(c, out, a->name, &t, room);
}

static PareStatus copy_samples(PareCtx *c, const PareVocab *v, const PareData *d, const int64_t *index, int64_t n,
                               const int64_t *map, PareData **out) {
  PARE_TRY(pare_data_new(c, d->file, out));
  PareStatus s = PARE_OK;
  for (size_t i = 0; s == PARE_OK && i < d->narrays; i++) s = copy_array(c, v, d, &d->arrays[i], index, n, map, *out);
  if (s == PARE_OK) return s;
  pare_data_free(*out);
  *out = NULL;
  return s;
}

/* Does a sample of one array hold a token that cannot be named any more? Labels of single tokens may be passed over. */
static PareStatus check_sample(PareCtx *c, const PareVocab *v, const PareData *d, const PareArray *a, int64_t sample,
                               bool *fits, int64_t *lost) {
  int64_t n = pare_type_count(&a->type) / a->type.dim[0];
  PareMark mark = pare_arena_mark(c->scratch);
  int64_t *x = PARE_NEW_N(c->scratch, n + 1, int64_t);
  if (!x) return pare_nomem(c);
  PARE_TRY(pare_data_batch(c, d, a, &sample, 1, PARE_I64, x));
  bool ids = holds_ids(v, a);
  for (int64_t i = 0; i < n; i++) {
    if (x[i] < 0) continue;
    if (x[i] >= v->count)
      return pare_data_error(c, d, PARE_DATA, "array '%s': sample %" PRId64 " holds %" PRId64 ", but the model's tokens "
                             "number %" PRId64, a->name, sample, x[i], v->count);
    if (!v->keep[x[i]]) ++*lost;
    if (v->new_id[x[i]] < 0 && (ids || a->type.rank == 1)) *fits = false;
  }
  pare_arena_rewind(c->scratch, mark);
  return PARE_OK;
}

/* The samples that can be told in new ids. */
static PareStatus choose(PareCtx *c, const PareVocab *v, const PareData *d, int64_t *index, int64_t *n, int64_t *lost) {
  *n = *lost = 0;
  for (size_t i = 0; i < d->narrays; i++)
    if (holds_ids(v, &d->arrays[i]))
      PARE_TRY(pare_data_check_range(c, d, &d->arrays[i], v->count, "the model's tokens number"));
  for (int64_t sample = 0; sample < d->nsamples; sample++) {
    bool fits = true;
    for (size_t i = 0; i < d->narrays; i++)
      if (holds_ids(v, &d->arrays[i]) || holds_labels(v, &d->arrays[i]))
        PARE_TRY(check_sample(c, v, d, &d->arrays[i], sample, &fits, lost));
    if (fits) index[(*n)++] = sample;
  }
  return PARE_OK;
}

PareStatus pare_vocab_renumber(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out, PareData **raw) {
  int64_t n, lost;
  *out = *raw = NULL;
  PareArena *a = pare_arena_new(1 << 12);
  int64_t *index = a ? PARE_NEW_N(a, d->nsamples + 1, int64_t) : NULL;
  PareStatus s = index ? choose(c, v, d, index, &n, &lost) : pare_nomem(c);
  if (s == PARE_OK && n == 0)
    s = pare_data_error(c, d, PARE_DATA, "every sample holds a token that goes: keep more, or give --vocab with [UNK]");
  if (s == PARE_OK) s = copy_samples(c, v, d, index, n, v->new_id, out);
  if (s == PARE_OK) s = copy_samples(c, v, d, index, n, NULL, raw);
  if (s == PARE_OK && lost)
    pare_log(c, 0, "%s: %" PRId64 " ids are of tokens that go: %" PRId64 " of %" PRId64 " samples are left out, the rest "
             "read [UNK] there", d->file, lost, d->nsamples - n, d->nsamples);
  pare_arena_free(a);
  return s;
}

PareStatus pare_vocab_restore(PareCtx *c, const PareVocab *v, const PareData *d, PareData **out) {
  PareArena *a = pare_arena_new(1 << 12);
  int64_t *index = a ? PARE_NEW_N(a, d->nsamples + 1, int64_t) : NULL;
  for (int64_t i = 0; index && i < d->nsamples; i++) index[i] = i;
  PareStatus s = index ? copy_samples(c, v, d, index, d->nsamples, v->old_id, out) : pare_nomem(c);
  pare_arena_free(a);
  return s;
}

/* --- the file --- */

static PareStatus write_lines(PareCtx *c, const PareVocab *v, const PareFile *f, const char *path) {
  const char *at = (const char *)f->data, *end = at + f->len;
  PareArena *a = pare_arena_new(1 << 12);
  char *text = a ? pare_arena_alloc(a, f->len + 1, 1) : NULL;
  size_t n = 0;
  Line l;
  for (int64_t id = 0; text && id < v->count && next_line(&at, end, &l); id++) {
    if (!v->keep[id]) continue;
    memcpy(text + n, l.at, l.n);
    n += l.n;
    text[n++] = '\n';
  }
  PareStatus s = text ? pare_file_write(c, path, text, n) : pare_nomem(c);
  pare_arena_free(a);
  return s;
}

PareStatus pare_vocab_write(PareCtx *c, const PareVocab *v, const char *vocab, const char *out) {
  PareFile f = {0};
  if (!*vocab) return PARE_OK;
  PareMark mark = pare_arena_mark(c->scratch);
  const char *path = pare_arena_printf(c->scratch, "%s.vocab.txt", out);
  if (!path) return pare_nomem(c);
  PARE_TRY(pare_file_map(c, vocab, &f));
  PareStatus s = write_lines(c, v, &f, path);
  pare_file_unmap(&f);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
