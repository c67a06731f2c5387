/* conll.c - sentences as CoNLL's shared tasks write them: a word a line with its columns parted by spaces or tabs, an
 * empty line behind each sentence. A word's tag is the label of its first token; the others have none. */
#include <string.h>

#include "runtime/text/reader.h"

typedef struct Words {
  PareTextReader *r;
  int word, tag;    /* columns; -1: the last */
  size_t first, n;  /* the sentence's first token, its words */
} Words;

static bool is_gap(char c) { return c == ' ' || c == '\t'; }

/* Column `k` of the line (-1: the last), and how many there are. */
static PareSpan column(PareSpan line, int k, int *columns) {
  PareSpan found = {0};
  *columns = 0;
  for (size_t i = 0; i < line.n;) {
    while (i < line.n && is_gap(line.at[i])) i++;
    size_t from = i;
    while (i < line.n && !is_gap(line.at[i])) i++;
    if (i > from && (k < 0 || *columns == k)) found = (PareSpan){line.at + from, i - from};
    *columns += i > from;
  }
  return found;
}

static PareStatus tag_number(PareTextReader *r, PareSpan tag, int64_t *out) {
  if (memchr(tag.at, 0, tag.n)) return pare_line_error(r, "the tag holds a zero byte");
  const char *name = pare_arena_strndup(r->work, tag.at, tag.n);
  if (!name) return pare_nomem(r->c);
  if ((*out = pare_map_get(&r->seen, name)) >= 0) return PARE_OK;
  bool known = !r->names.n;
  for (size_t i = 0; i < r->names.n; i++) known |= !strcmp(r->names.at[i], name);
  if (!known) return pare_line_error(r, "the tag '%.60s' is none of --label-names", name);
  *out = (int64_t)r->seen.n;
  return pare_map_put(&r->seen, name, *out) ? PARE_OK : pare_nomem(r->c);
}

static PareStatus add_word(Words *w, PareSpan line) {
  PareTextReader *r = w->r;
  int columns;
  PareSpan word = column(line, w->word, &columns), tag = column(line, w->tag, &columns);
  if (!word.at || !tag.at || columns < 2)
    return pare_line_error(r, "%d column%s, but a word and its tag are wanted", columns, columns == 1 ? "" : "s");
  size_t before = r->tokens.n;
  int64_t number;
  PARE_TRY(tag_number(r, tag, &number));
  PARE_TRY(pare_text_encode(r, word, true));
  for (size_t i = before; i < r->tokens.n; i++)
    if (!pare_vec_push(r->work, &r->tags, i == before ? number : -1)) return pare_nomem(r->c);
  w->n++;
  return PARE_OK;
}

static PareStatus end_sentence(Words *w) {
  PareTextReader *r = w->r;
  size_t room = (size_t)r->opt->max_length - pare_template_special(&r->tokenizer.single);
  PareTextSample s = {.first1 = w->first, .n1 = r->tokens.n - w->first};
  if (s.n1 > room) s.n1 = room;
  w->first = r->tokens.n;
  if (!w->n) return PARE_OK;
  w->n = 0;
  return pare_vec_push(r->work, &r->samples, s) ? PARE_OK : pare_nomem(r->c);
}

static bool is_document_start(PareSpan line) { return line.n >= 10 && !memcmp(line.at, "-DOCSTART-", 10); }

/* --text and --label number the columns: the first and the last. */
static PareStatus choose_columns(Words *w) {
  const PareTextOptions *o = w->r->opt;
  w->word = o->text ? pare_text_column(o->text) : 0;
  w->tag = o->label ? pare_text_column(o->label) : -1;
  if (o->pair || (o->text && w->word < 0) || (o->label && w->tag < 0))
    return pare_error(w->r->c, PARE_USAGE, "--task ner: --text and --label take a column's number, and there is no --pair");
  return PARE_OK;
}

PareStatus pare_text_conll(PareTextReader *r, const PareFile *f) {
  Words w = {.r = r};
  const char *at = (const char *)f->data, *end = at + f->len;
  PARE_TRY(choose_columns(&w));
  r->by_token = r->has_label = true;
  r->seen.arena = r->work;
  for (PareSpan line; pare_text_line(r, &at, end, &line);) {
    if (is_document_start(line)) continue;
    PARE_TRY(pare_text_is_blank(line) ? end_sentence(&w) : add_word(&w, line));
  }
  return end_sentence(&w);
}
