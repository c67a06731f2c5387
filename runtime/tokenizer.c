#include "runtime/tokenizer.h"

#include <string.h>

#include "runtime/data.h"
#include "runtime/tokenizer_json.h"

#define TOKEN(id, type) {PARE_PIECE_TOKEN, (id), (type)}
#define TEXT(type) {PARE_PIECE_TEXT, 0, (type)}
#define PAIR(type) {PARE_PIECE_PAIR, 0, (type)}

/* [CLS] text [SEP] (pair [SEP]) */
static PareStatus load_bert(PareCtx *c, PareArena *a, const char *vocab, bool lower_case, PareTokenizer *t) {
  PARE_TRY(pare_wordpiece_load(c, a, vocab, lower_case, &t->words));
  int64_t cls = pare_wordpiece_cls(t->words), sep = pare_wordpiece_sep(t->words);
  t->pad = pare_wordpiece_pad(t->words);
  t->single = (PareTemplate){3, {TOKEN(cls, 0), TEXT(0), TOKEN(sep, 0)}};
  t->pair = (PareTemplate){5, {TOKEN(cls, 0), TEXT(0), TOKEN(sep, 0), PAIR(1), TOKEN(sep, 1)}};
  return PARE_OK;
}

PareStatus pare_tokenizer_load(PareCtx *c, PareArena *a, const char *vocab, const char *merges, bool lower_case,
                               PareTokenizer *out) {
  *out = (PareTokenizer){0};
  if (pare_data_has_suffix(vocab, ".json")) return pare_tokenizer_load_json(c, a, vocab, merges, out);
  if (merges) return pare_error(c, PARE_USAGE, "--merges belongs to a vocab.json, but the vocabulary is %s", vocab);
  return load_bert(c, a, vocab, lower_case, out);
}

PareStatus pare_tokenizer_encode(PareCtx *c, const PareTokenizer *t, PareArena *a, const char *text, size_t n,
                                 bool word, PareTokens *out) {
  if (t->words) return pare_wordpiece_encode(c, t->words, a, text, n, out);
  return pare_bpe_encode(c, t->bpe, a, text, n, word, out);
}

size_t pare_template_special(const PareTemplate *t) {
  size_t n = 0;
  for (size_t i = 0; i < t->n; i++) n += t->piece[i].what == PARE_PIECE_TOKEN;
  return n;
}

void pare_tokens_truncate(size_t room, size_t *n1, size_t *n2) {
  if (*n1 + *n2 <= room) return;
  size_t shorter = *n1 <= *n2 ? *n1 : *n2;
  size_t small = shorter, large = room > shorter && room - shorter > shorter ? room - shorter : shorter;
  if (small + large > room) {
    small = room / 2;
    large = room - small;
  }
  if (*n1 > *n2) *n1 = large, *n2 = small;
  else *n1 = small, *n2 = large;
}
