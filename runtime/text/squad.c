/* squad.c - questions on paragraphs, as SQuAD's JSON has them: the question is the text, the paragraph the pair, the
 * label the first and the last token of the first answer. What cannot be answered has its answer at token 0; an answer
 * that was cut off has none. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "runtime/text/reader.h"

enum { QUESTION_MOST = 64 }; /* tokens, as in BERT's own reader */

typedef struct Squad {
  PareTextReader *r;
  int64_t article, paragraph, question; /* for messages, from 0 */
  int64_t cut;
  PareSpan context;
} Squad;

static PareStatus squad_error(const Squad *q, const char *what) {
  return pare_data_error(q->r->c, q->r->d, PARE_DATA,
                         "data[%" PRId64 "].paragraphs[%" PRId64 "].qas[%" PRId64 "]: %s", q->article, q->paragraph,
                         q->question, what);
}

static PareSpan text_of(const json_t *o, const char *key) {
  const json_t *v = json_object_get(o, key);
  return (PareSpan){json_string_value(v), json_string_length(v)};
}

/* Where character number `n` begins; s.n where there are no more. */
static size_t byte_of(PareSpan s, int64_t n) {
  size_t i = 0;
  for (; i < s.n && n > 0; n--)
    do i++;
    while (i < s.n && ((uint8_t)s.at[i] & 0xc0) == 0x80);
  return i;
}

/* The tokens [from, to) that hold bytes [at, end) of the context; none where there are none. */
static void find_answer(const PareTextReader *r, size_t from, size_t to, size_t at, size_t end, PareTextSample *s) {
  s->first = to;
  s->last = from;
  for (size_t i = from; i < to; i++) {
    const PareToken *t = &r->tokens.at[i];
    if (t->to <= at || t->from >= end) continue;
    if (s->first == to) s->first = i;
    s->last = i;
  }
}

static PareStatus read_answer(const Squad *q, const json_t *qa, PareTextSample *s) {
  const json_t *answer = json_array_get(json_object_get(qa, "answers"), 0);
  s->first = 1, s->last = 0;
  if (!answer) return PARE_OK;
  PareSpan text = text_of(answer, "text");
  const json_t *start = json_object_get(answer, "answer_start");
  if (!text.at || !text.n || !json_is_integer(start)) return squad_error(q, "the answer lacks its text or answer_start");
  size_t at = json_integer_value(start) < 0 ? q->context.n : byte_of(q->context, json_integer_value(start));
  if (text.n > q->context.n - at || memcmp(q->context.at + at, text.at, text.n))
    return squad_error(q, "the answer's text is not at answer_start (which counts characters)");
  find_answer(q->r, s->first2, s->first2 + s->n2, at, at + text.n, s);
  return PARE_OK;
}

static PareStatus add_question(Squad *q, const json_t *qa) {
  PareTextReader *r = q->r;
  PareTextSample s = {.first1 = r->tokens.n};
  PareSpan question = text_of(qa, "question");
  size_t room = (size_t)r->opt->max_length - pare_template_special(&r->tokenizer.pair);
  if (!question.at) return squad_error(q, "there is no question");
  PARE_TRY(pare_text_encode(r, question, false));
  s.first2 = r->tokens.n;
  s.n1 = s.first2 - s.first1;
  PARE_TRY(pare_text_encode(r, q->context, false));
  s.n2 = r->tokens.n - s.first2;
  PARE_TRY(read_answer(q, qa, &s));
  if (s.n1 > QUESTION_MOST) s.n1 = QUESTION_MOST;
  if (s.n1 > room / 2) s.n1 = room / 2;
  if (s.n2 > room - s.n1) s.n2 = room - s.n1;
  bool cut = s.first <= s.last && s.last >= s.first2 + s.n2;
  q->cut += cut;
  s.no_answer = !json_array_size(json_object_get(qa, "answers"));
  if (cut) s.first = 1, s.last = 0;
  return pare_vec_push(r->work, &r->samples, s) ? PARE_OK : pare_nomem(r->c);
}

static PareStatus add_paragraph(Squad *q, const json_t *paragraph) {
  const json_t *list = json_object_get(paragraph, "qas");
  q->context = text_of(paragraph, "context");
  q->question = 0;
  if (!q->context.at || !json_is_array(list)) return squad_error(q, "the paragraph lacks its context or qas");
  for (; q->question < (int64_t)json_array_size(list); q->question++)
    PARE_TRY(add_question(q, json_array_get(list, (size_t)q->question)));
  return PARE_OK;
}

static PareStatus read_root(Squad *q, const json_t *root) {
  const json_t *data = json_object_get(root, "data"), *list;
  if (!json_is_array(data)) return pare_data_error(q->r->c, q->r->d, PARE_DATA, "not SQuAD: there is no list 'data'");
  for (; q->article < (int64_t)json_array_size(data); q->article++) {
    list = json_object_get(json_array_get(data, (size_t)q->article), "paragraphs");
    if (!json_is_array(list)) return squad_error(q, "the article has no list 'paragraphs'");
    for (q->paragraph = 0; q->paragraph < (int64_t)json_array_size(list); q->paragraph++)
      PARE_TRY(add_paragraph(q, json_array_get(list, (size_t)q->paragraph)));
  }
  if (q->cut)
    pare_log(q->r->c, 0, "%" PRId64 " of %zu answers are behind the %" PRId64 " tokens of --max-length: not counted", q->cut,
             q->r->samples.n, q->r->opt->max_length);
  return PARE_OK;
}

PareStatus pare_text_squad(PareTextReader *r, const PareFile *f) {
  Squad q = {.r = r};
  json_error_t e;
  json_t *root = json_loadb((const char *)f->data, f->len, JSON_ALLOW_NUL, &e);
  r->by_span = r->has_pair = r->has_label = true;
  r->line = root ? 0 : e.line;
  PareStatus s = root ? read_root(&q, root) : pare_line_error(r, "not JSON: %s", e.text);
  json_decref(root);
  return s;
}
