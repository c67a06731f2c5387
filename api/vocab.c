#include "api/vocab.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "api/plan.h"
#include "base/lines.h"
#include "runtime/data.h"

static bool is_id(PareLine l) {
  for (size_t i = 0; i < l.n; i++)
    if (!isdigit((unsigned char)l.at[i])) return false;
  return l.n > 0 && l.n < 12;
}

static bool all_ids(const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  PareLine l;
  while (pare_line_next(&at, end, &l))
    if (l.n && !is_id(l)) return false;
  return true;
}

/* --- which tokens stay --- */

typedef struct Reader {
  PareCtx *c;
  PareArena *a;
  const PareCompressOptions *o;
  PareTokenFile file; /* --vocab; its map is empty without */
  bool *keep;
  int64_t count; /* rows of the table */
} Reader;

#define at_line(r, path, ...) \
  pare_diag_set(&(r)->c->diag, PARE_DATA, (path), NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

static PareStatus keep_line(Reader *r, PareLine l, bool ids, int64_t number) {
  const char *text = pare_arena_strndup(r->a, l.at, l.n);
  if (!text) return pare_nomem(r->c);
  int64_t id = ids ? (int64_t)strtoll(text, NULL, 10) : pare_map_get(&r->file.ids, text);
  if (!ids && id < 0)
    return at_line(r, r->o->vocab_keep, "line %" PRId64 ": '%s' is no token of %s", number, text, r->o->vocab);
  if (id >= r->count)
    return at_line(r, r->o->vocab_keep, "line %" PRId64 ": there is no id %s: the model's table has %" PRId64 " rows",
                   number, text, r->count);
  r->keep[id] = true;
  return PARE_OK;
}

/* A file of numbers alone is one of ids. */
static PareStatus keep_lines(Reader *r, const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  bool ids = all_ids(f), any = false;
  PareLine l;
  if (!ids && !*r->o->vocab)
    return pare_error(r->c, PARE_USAGE, "--vocab-keep %s names tokens: give --vocab, the file that numbers them",
                      r->o->vocab_keep);
  for (int64_t number = 1; pare_line_next(&at, end, &l); number++) {
    if (l.n) PARE_TRY(keep_line(r, l, ids, number));
    any |= l.n > 0;
  }
  return any ? PARE_OK : at_line(r, r->o->vocab_keep, "keeps no token");
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
  int64_t unknown = *r->o->vocab ? r->file.unknown : -1;
  v->new_id = PARE_NEW_N(r->a, v->count, int64_t);
  v->old_id = PARE_NEW_N(r->a, v->count, int64_t);
  if (!v->new_id || !v->old_id) return pare_nomem(r->c);
  for (int64_t i = 0; i < v->count; i++)
    if (v->keep[i]) v->new_id[i] = v->left, v->old_id[v->left++] = i;
  for (int64_t i = 0; i < v->count; i++)
    if (!v->keep[i]) v->new_id[i] = unknown < 0 ? -1 : v->new_id[unknown];
  if (unknown >= 0 && !(v->unknown = pare_arena_strdup(r->a, r->file.token[unknown]))) return pare_nomem(r->c);
  return PARE_OK;
}

/* --- what the tokenizer takes beside them --- */

/* "5 special and 243 bytes" */
static const char *added_text(Reader *r, const PareTokensAdded *added) {
  const char *text = "";
  for (int i = 0, last = PARE_NEED_COUNT - 1; i < PARE_NEED_COUNT && text; i++) {
    if (!added->n[i]) continue;
    while (last > i && !added->n[last]) last--;
    text = pare_arena_printf(r->a, "%s%s%" PRId64 " %s", text, !*text ? "" : i == last ? " and " : ", ", added->n[i],
                             pare_need_text((PareNeed)i));
  }
  return text;
}

static PareStatus refuse_plan(Reader *r, const PareTokensAdded *added, const char *text) {
  int why = 0;
  while (!added->n[why]) why++;
  return pare_error(r->c, PARE_TARGET, "the plan %s lets tokens go that the tokenizer %s needs (%s): '%.60s' for one. Cut the "
                    "vocabulary by --vocab-keep, or leave out --vocab", r->o->plan, r->o->vocab, text,
                    r->file.token[added->first[why]]);
}

static PareStatus complete(Reader *r, PareVocab *v) {
  const char *path = r->o->vocab;
  PARE_TRY(pare_token_file_complete(r->c, &r->file, r->keep, &v->added));
  const char *text = added_text(r, &v->added);
  if (!text) return pare_nomem(r->c);
  if (*text && *r->o->plan) return refuse_plan(r, &v->added, text);
  if (*text) pare_log(r->c, 0, "%s: the tokenizer needs tokens that were not asked for, which stay as well: %s", path, text);
  if (r->file.unknown < 0 && !r->file.spells)
    pare_log(r->c, 0, "%s names no token for unknown text: text that needs a token that goes cannot be told", path);
  return PARE_OK;
}

/* The texts are made now, so that what is wrong with them is told before anything is tuned. */
static PareStatus shorten(Reader *r, PareVocab *v) {
  int64_t bare = 0;
  PARE_TRY(pare_token_file_cut(r->c, r->a, &r->file, v->keep, v->new_id, &v->texts));
  if (v->texts.merges)
    pare_log(r->c, 0, "%s: %" PRId64 " of %" PRId64 " merges stay: those whose parts and result do", r->o->vocab,
             v->texts.merges_left, v->texts.merges);
  for (int64_t i = 0; i < r->count; i++) bare += !r->file.token[i];
  if (bare)
    pare_log(r->c, 0, "%s: %" PRId64 " of the %" PRId64 " rows of the model's table have no token there", r->o->vocab, bare,
             r->count);
  return PARE_OK;
}

/* --- who is to know --- */

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
  bool found = true, named = *r->o->vocab;
  r->count = v->count = d->dims.at[dim].count;
  if (!(v->keep = r->keep = PARE_NEW_N(r->a, r->count, bool))) return pare_nomem(r->c);
  if (named) PARE_TRY(pare_token_file_open(r->c, r->a, r->o->vocab, r->count, &r->file));
  if (*r->o->plan) PARE_TRY(take_plan(r, d, dim, &found));
  else PARE_TRY(load_keep(r));
  if (!found && named)
    return pare_error(r->c, PARE_USAGE, "--vocab has no meaning: the plan %s says nothing about tokens", r->o->plan);
  if (!found) return v->keep = NULL, PARE_OK;
  if (named) PARE_TRY(complete(r, v));
  PARE_TRY(number(r, v));
  give(d, v);
  pare_log(r->c, 0, "%" PRId64 " of %" PRId64 " tokens stay and are numbered anew%s", v->left, v->count,
           v->outputs ? ", in the outputs too" : "");
  return named ? shorten(r, v) : PARE_OK;
}

PareStatus pare_vocab_read(PareCtx *c, PareArena *a, const PareCompressOptions *o, PareDims *d, PareVocab **out) {
  Reader r = {.c = c, .a = a, .o = o};
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
  PareStatus s = read_keep(&r, d, dim, v);
  pare_token_file_close(&r.file);
  if (s == PARE_OK && v->keep) *out = v;
  return s;
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
    s = pare_data_error(c, d, PARE_DATA, "every sample holds a token that goes: keep more, or give a --vocab that has a token for "
                        "unknown text");
  if (s == PARE_OK) s = copy_samples(c, v, d, index, n, v->new_id, out);
  if (s == PARE_OK) s = copy_samples(c, v, d, index, n, NULL, raw);
  if (s == PARE_OK && lost)
    pare_log(c, 0, "%s: %" PRId64 " ids are of tokens that go: %" PRId64 " of %" PRId64 " samples are left out%s%s%s", d->file,
             lost, d->nsamples - n, d->nsamples, v->unknown ? ", the rest read " : "", v->unknown ? v->unknown : "",
             v->unknown ? " there" : "");
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
