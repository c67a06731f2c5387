/* token_file_json.c - where vocab.json and tokenizer.json hold tokens and ids. Both ways, reading and cutting, walk the
 * same places of the text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/json_edit.h"
#include "runtime/token_file_parts.h"

/* One of the two. */
typedef struct Visit {
  PareTokenReader *r;
  const PareTokenCut *cut;
  PareJsonEdit e;       /* of the cut */
  int64_t entries_left; /* of the model's own vocabulary */
} Visit;

static const char *text_of(const json_t *v) { return json_is_string(v) ? json_string_value(v) : ""; }
static const char *text_at(const json_t *o, const char *key) { return text_of(json_object_get(o, key)); }

/* --- single ids --- */

static PareStatus id_of(PareTokenReader *r, const json_t *v, const char *token, int64_t *out) {
  *out = json_integer_value(v);
  if (!json_is_integer(v)) return pare_token_error(r, PARE_FORMAT, "the id of the token '%.60s' is not a whole number", token);
  return pare_token_check(r, token, *out);
}

/* An id that the tokenizer puts into samples by itself. */
static PareStatus visit_id(Visit *v, const PareJson *place, const char *token) {
  int64_t id = json_integer_value(place->value);
  if (v->cut) return pare_json_edit_number(&v->e, place, v->cut->new_id[id]), PARE_OK;
  PARE_TRY(id_of(v->r, place->value, token, &id));
  return pare_token_need(v->r, id, PARE_NEED_SPECIAL);
}

/* {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, ...} */
static PareStatus visit_template(Visit *v, const PareJson *post) {
  PareJson tokens, ids;
  PareJsonItem token, id;
  if (!pare_json_member(post, "special_tokens", &tokens)) return PARE_OK;
  for (PareJsonWalk w = pare_json_walk(&tokens); pare_json_next(&w, &token);) {
    if (!pare_json_member(&token.v, "ids", &ids)) continue;
    for (PareJsonWalk k = pare_json_walk(&ids); pare_json_next(&k, &id);) PARE_TRY(visit_id(v, &id.v, token.key ? token.key : ""));
  }
  return PARE_OK;
}

/* {"sep": ["[SEP]", 102], "cls": ["[CLS]", 101]} */
static PareStatus visit_pairs(Visit *v, const PareJson *post) {
  PareJsonItem pair, part;
  for (PareJsonWalk w = pare_json_walk(post); pare_json_next(&w, &pair);) {
    if (strcmp(pair.key, "sep") && strcmp(pair.key, "cls")) continue;
    PareJsonWalk k = pare_json_walk(&pair.v);
    while (pare_json_next(&k, &part))
      if (k.index == 2) PARE_TRY(visit_id(v, &part.v, text_of(json_array_get(pair.v.value, 0))));
  }
  return PARE_OK;
}

static PareStatus visit_nothing(Visit *v, const PareJson *post) { return (void)v, (void)post, PARE_OK; }

static PareStatus visit_post(Visit *v, const PareJson *post);

static PareStatus visit_sequence(Visit *v, const PareJson *post) {
  PareJson list;
  PareJsonItem i;
  if (!pare_json_member(post, "processors", &list)) return PARE_OK;
  for (PareJsonWalk w = pare_json_walk(&list); pare_json_next(&w, &i);) PARE_TRY(visit_post(v, &i.v));
  return PARE_OK;
}

static PareStatus visit_post(Visit *v, const PareJson *post) {
  static const struct {
    const char *type;
    PareStatus (*visit)(Visit *v, const PareJson *post);
  } known[] = {{"ByteLevel", visit_nothing},      {"TemplateProcessing", visit_template}, {"BertProcessing", visit_pairs},
               {"RobertaProcessing", visit_pairs}, {"Sequence", visit_sequence}};
  const char *type = text_at(post->value, "type");
  if (json_is_null(post->value)) return PARE_OK;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(type, known[i].type)) return known[i].visit(v, post);
  return pare_token_error(v->r, PARE_FORMAT, "the post-processor '%.60s' is not known: it may hold ids", type);
}

static PareStatus visit_padding(Visit *v, const PareJson *padding) {
  PareJson id;
  return pare_json_member(padding, "pad_id", &id) ? visit_id(v, &id, text_at(padding->value, "pad_token")) : PARE_OK;
}

/* --- reading --- */

static PareStatus want_list(PareTokenReader *r, const json_t *v, const char *what) {
  if (!v || json_is_array(v) || json_is_null(v)) return PARE_OK;
  return pare_token_error(r, PARE_FORMAT, "its %s are no list", what);
}

/* {"token": id, ...} */
static PareStatus read_vocab(PareTokenReader *r, json_t *vocab) {
  const char *token;
  json_t *v;
  json_object_foreach(vocab, token, v) {
    int64_t id;
    PARE_TRY(id_of(r, v, token, &id));
    PARE_TRY(pare_token_add(r, token, id));
  }
  return PARE_OK;
}

/* [["piece", score], ...]: the id is the place. What Unigram does not know costs 10 more than its cheapest piece, so that
 * one stays. */
static PareStatus read_pieces(PareTokenReader *r, const json_t *list) {
  size_t i, lowest = 0;
  json_t *piece;
  double least = 0;
  json_array_foreach(list, i, piece) {
    const json_t *token = json_array_get(piece, 0), *score = json_array_get(piece, 1);
    if (!json_is_string(token) || !json_is_number(score))
      return pare_token_error(r, PARE_FORMAT, "piece %zu of the vocabulary is not a text and its score", i);
    PARE_TRY(pare_token_add(r, json_string_value(token), (int64_t)i));
    if (!i || json_number_value(score) < least) lowest = i, least = json_number_value(score);
  }
  return pare_token_need(r, i ? (int64_t)lowest : -1, PARE_NEED_LOWEST);
}

/* ["left right", ...] or [["left", "right"], ...] */
static PareStatus read_merges(PareTokenReader *r, const json_t *list) {
  size_t i;
  json_t *m;
  PARE_TRY(want_list(r, list, "merges"));
  json_array_foreach(list, i, m) {
    const json_t *left = json_array_get(m, 0), *right = json_array_get(m, 1);
    if (json_is_string(m)) {
      PARE_TRY(pare_token_merge_text(r, r->f->path, json_string_value(m), json_string_length(m)));
      continue;
    }
    if (json_array_size(m) != 2 || !json_is_string(left) || !json_is_string(right))
      return pare_token_error(r, PARE_FORMAT, "merge %zu is not two tokens", i + 1);
    PARE_TRY(pare_token_merge(r, r->f->path, json_string_value(left), json_string_value(right)));
  }
  return PARE_OK;
}

/* The token of unknown text, by name, or by number as Unigram has it. */
static PareStatus read_unknown(PareTokenReader *r, const json_t *model) {
  const json_t *id = json_object_get(model, "unk_id");
  const char *token = text_at(model, "unk_token");
  if (*token) r->f->unknown = pare_map_get(&r->f->ids, token);
  if (id && !json_is_null(id)) PARE_TRY(id_of(r, id, "unk", &r->f->unknown));
  return pare_token_need(r, r->f->unknown, PARE_NEED_SPECIAL);
}

/* Whether a normalizer or pre-tokenizer, or one in its sequence, writes text as bytes. */
static bool writes_bytes(const json_t *o) {
  static const char *const lists[] = {"normalizers", "pretokenizers"};
  bool found = !strcmp(text_at(o, "type"), "ByteLevel");
  for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(o, lists[k]), i, part) found |= writes_bytes(part);
  }
  return found;
}

/* <0x00> .. <0xFF> */
static PareStatus need_fallback(PareTokenReader *r) {
  for (unsigned byte = 0; byte < 256; byte++) {
    char token[8];
    snprintf(token, sizeof token, "<0x%02X>", byte);
    PARE_TRY(pare_token_need(r, pare_map_get(&r->f->ids, token), PARE_NEED_BYTE));
  }
  return PARE_OK;
}

static PareStatus read_bytes(PareTokenReader *r, const json_t *root, const json_t *model) {
  bool level = writes_bytes(json_object_get(root, "pre_tokenizer")) || writes_bytes(json_object_get(root, "normalizer"));
  bool fallback = json_is_true(json_object_get(model, "byte_fallback"));
  r->f->spells = level || fallback;
  if (level) PARE_TRY(pare_token_need_bytes(r));
  return fallback ? need_fallback(r) : PARE_OK;
}

static PareStatus read_model(PareTokenReader *r, const json_t *root, const json_t *model) {
  static const char *const types[] = {"", "WordPiece", "BPE", "Unigram", "WordLevel"}; /* older files do not say */
  const char *type = text_at(model, "type");
  json_t *vocab = json_object_get(model, "vocab");
  bool known = false;
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) known |= !strcmp(types[i], type);
  if (!known)
    return pare_token_error(r, PARE_FORMAT, "its model is '%.60s': of WordPiece, BPE, Unigram and WordLevel tokens can go", type);
  if (!json_is_object(vocab) && !json_is_array(vocab))
    return pare_token_error(r, PARE_FORMAT, "its model has no vocabulary");
  PARE_TRY(json_is_array(vocab) ? read_pieces(r, vocab) : read_vocab(r, vocab));
  r->f->prefix = text_at(model, "continuing_subword_prefix");
  r->f->suffix = text_at(model, "end_of_word_suffix");
  PARE_TRY(read_merges(r, json_object_get(model, "merges")));
  PARE_TRY(read_unknown(r, model));
  return read_bytes(r, root, model);
}

/* [{"id": 0, "content": "[PAD]", ..., "special": true}, ...] */
static PareStatus read_added(PareTokenReader *r, const json_t *list) {
  size_t i;
  json_t *o;
  PARE_TRY(want_list(r, list, "added tokens"));
  json_array_foreach(list, i, o) {
    const json_t *content = json_object_get(o, "content");
    int64_t id, had;
    if (!json_is_string(content)) return pare_token_error(r, PARE_FORMAT, "added token %zu has no content", i + 1);
    PARE_TRY(id_of(r, json_object_get(o, "id"), text_of(content), &id));
    had = pare_map_get(&r->f->ids, text_of(content));
    if (had >= 0 && had != id)
      return pare_token_error(r, PARE_FORMAT, "the added token '%.60s' has the id %" PRId64 ", and %" PRId64 " in the "
                              "vocabulary", text_of(content), id, had);
    if (had < 0 && !pare_vec_push(r->a, &r->f->beyond, id)) return pare_nomem(r->c);
    PARE_TRY(pare_token_add(r, text_of(content), id));
    if (json_is_true(json_object_get(o, "special"))) PARE_TRY(pare_token_need(r, id, PARE_NEED_SPECIAL));
  }
  return PARE_OK;
}

/* What transformers' slow tokenizers of GPT-2, RoBERTa and CLIP know by name. */
static PareStatus read_plain(PareTokenReader *r) {
  static const char *const special[] = {"<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|endoftext|>", "<|startoftext|>"};
  PARE_TRY(read_vocab(r, r->f->root));
  for (size_t i = 0; i < sizeof special / sizeof *special; i++)
    PARE_TRY(pare_token_need(r, pare_map_get(&r->f->ids, special[i]), PARE_NEED_SPECIAL));
  r->f->unknown = pare_map_get(&r->f->ids, "<unk>");
  r->f->spells = true;
  return PARE_OK;
}

static PareJson root_of(const PareTokenFile *f) { return pare_json_root(f->root, (const char *)f->file.data, f->file.len); }

bool pare_token_file_is_plain(const PareTokenFile *f) { return f->root && !json_is_object(json_object_get(f->root, "model")); }

PareStatus pare_token_file_read_json(PareTokenReader *r) {
  Visit v = {.r = r};
  PareJson root = root_of(r->f), place;
  if (!json_is_object(root.value)) return pare_token_error(r, PARE_FORMAT, "not a JSON object");
  if (pare_token_file_is_plain(r->f)) return read_plain(r);
  PARE_TRY(read_model(r, root.value, json_object_get(root.value, "model")));
  PARE_TRY(read_added(r, json_object_get(root.value, "added_tokens")));
  if (pare_json_member(&root, "post_processor", &place)) PARE_TRY(visit_post(&v, &place));
  return pare_json_member(&root, "padding", &place) ? visit_padding(&v, &place) : PARE_OK;
}

/* --- cutting --- */

static void cut_vocab(Visit *v, const PareJson *vocab) {
  PareJsonSift s = {.e = &v->e};
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(vocab); pare_json_next(&w, &i);) {
    int64_t id = i.key ? json_integer_value(i.v.value) : (int64_t)w.index - 1;
    bool stays = v->cut->keep[id];
    pare_json_sift(&s, &i, stays);
    if (stays && i.key) pare_json_edit_number(&v->e, &i.v, v->cut->new_id[id]);
    v->entries_left += stays;
  }
  pare_json_sifted(&s);
}

static void cut_merges(Visit *v, const PareJson *merges) {
  PareJsonSift s = {.e = &v->e};
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(merges); pare_json_next(&w, &i);)
    pare_json_sift(&s, &i, pare_merge_stays(&v->cut->f->merges.at[w.index - 1], v->cut->keep));
  pare_json_sifted(&s);
}

static PareStatus cut_model(Visit *v, const PareJson *model) {
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(model); pare_json_next(&w, &i);) {
    if (!strcmp(i.key, "vocab")) cut_vocab(v, &i.v);
    if (!strcmp(i.key, "merges")) cut_merges(v, &i.v);
    if (!strcmp(i.key, "unk_id") && !json_is_null(i.v.value)) PARE_TRY(visit_id(v, &i.v, "unk"));
  }
  return PARE_OK;
}

static PareStatus cut_added(Visit *v, const PareJson *list) {
  PareJsonSift s = {.e = &v->e};
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(list); pare_json_next(&w, &i);) {
    PareJson id;
    bool stays = v->cut->keep[json_integer_value(json_object_get(i.v.value, "id"))];
    pare_json_sift(&s, &i, stays);
    if (stays && pare_json_member(&i.v, "id", &id)) PARE_TRY(visit_id(v, &id, ""));
  }
  pare_json_sifted(&s);
  return PARE_OK;
}

/* The library numbers added tokens that the model's vocabulary does not have itself, from that one's size on. */
static PareStatus check_added(const Visit *v) {
  const PareTokenCut *t = v->cut;
  int64_t next = v->entries_left;
  for (size_t i = 0; i < t->f->beyond.n; i++) {
    int64_t id = t->f->beyond.at[i];
    if (t->keep[id] && t->new_id[id] != next++)
      return pare_token_error(t, PARE_DATA, "the added token '%.60s' would be read with the id %" PRId64 ", not %" PRId64 ": rows "
                              "without a token stay before its own", t->f->token[id], next - 1, t->new_id[id]);
  }
  return PARE_OK;
}

static PareStatus cut_tokenizer(Visit *v, const PareJson *root) {
  static const struct {
    const char *key;
    PareStatus (*cut)(Visit *v, const PareJson *place);
  } places[] = {{"added_tokens", cut_added}, {"post_processor", visit_post}, {"padding", visit_padding}, {"model", cut_model}};
  PareJsonItem i;
  for (PareJsonWalk w = pare_json_walk(root); pare_json_next(&w, &i);)
    for (size_t k = 0; k < sizeof places / sizeof *places; k++)
      if (!strcmp(i.key, places[k].key)) PARE_TRY(places[k].cut(v, &i.v));
  return check_added(v);
}

PareStatus pare_token_file_cut_json(const PareTokenCut *t) {
  Visit v = {.cut = t};
  PareJson root = root_of(t->f);
  const char *text = (const char *)t->f->file.data;
  bool plain = pare_token_file_is_plain(t->f);
  if (!pare_json_edit(t->a, text, t->f->file.len, &v.e)) return pare_nomem(t->c);
  if (plain) cut_vocab(&v, &root);
  else PARE_TRY(cut_tokenizer(&v, &root));
  pare_json_edit_copy(&v.e, text + t->f->file.len);
  t->out->at[t->out->n++] = (PareTokenText){plain ? "vocab.json" : "tokenizer.json", v.e.out, v.e.n};
  return PARE_OK;
}
