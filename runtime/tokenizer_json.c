#include "runtime/tokenizer_json.h"

#include <jansson.h>
#include <string.h>

#include "base/file.h"
#include "runtime/token_file.h"

typedef struct Reader {
  PareCtx *c;
  PareArena *a;
  const char *path, *merges_path;
  PareTokenizer *t;
  PARE_VEC(PareVocabEntry) vocab;
  PARE_VEC(PareMerge) merges;
  PARE_VEC(PareAddedToken) added;
  int64_t merges_line; /* of the first merge; 0: they have no file of their own */
  bool prefix_space;
} Reader;

#define format_error(r, ...) \
  pare_diag_set(&(r)->c->diag, PARE_FORMAT, (r)->path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* ---- what JSON holds ---- */

static const char *string_of(const json_t *o, const char *key) {
  const char *s = json_string_value(json_object_get(o, key));
  return s ? s : "";
}
static bool truth_of(const json_t *o, const char *key) { return json_is_true(json_object_get(o, key)); }

static PareStatus keep(Reader *r, const json_t *s, const char *what, const char **out) {
  if (!json_is_string(s)) return format_error(r, "%s is not a string", what);
  *out = pare_arena_strdup(r->a, json_string_value(s));
  return *out ? PARE_OK : pare_nomem(r->c);
}

enum { IDS_MOST = 1 << 28 };

static PareStatus id_of(Reader *r, const json_t *v, const char *token, int64_t *out) {
  *out = json_is_integer(v) ? json_integer_value(v) : -1;
  if (*out >= 0 && *out < IDS_MOST) return PARE_OK;
  return format_error(r, "the id of the token '%.60s' is not a number from 0 to %d", token, IDS_MOST - 1);
}

/* {"token": id, ...} */
static PareStatus read_vocab(Reader *r, json_t *o) {
  const char *token;
  json_t *id;
  if (!json_is_object(o)) return format_error(r, "there is no vocabulary: an object of tokens and their ids");
  json_object_foreach(o, token, id) {
    PareVocabEntry e = {.token = pare_arena_strdup(r->a, token)};
    PARE_TRY(id_of(r, id, token, &e.id));
    if (!e.token || !pare_vec_push(r->a, &r->vocab, e)) return pare_nomem(r->c);
  }
  return PARE_OK;
}

static int64_t find_id(const Reader *r, const char *token) {
  for (size_t i = 0; i < r->added.n; i++)
    if (!strcmp(r->added.at[i].text, token)) return r->added.at[i].id;
  for (size_t i = 0; i < r->vocab.n; i++)
    if (!strcmp(r->vocab.at[i].token, token)) return r->vocab.at[i].id;
  return -1;
}

/* ---- merges ---- */

/* "left right", n bytes. */
static PareStatus add_merge(Reader *r, const char *line, size_t n, const char *where, long long number) {
  const char *space = memchr(line, ' ', n), *end = line + n;
  bool two = space && space > line && space + 1 < end && !memchr(space + 1, ' ', (size_t)(end - space - 1));
  if (!two || memchr(line, 0, n))
    return pare_diag_set(&r->c->diag, PARE_FORMAT, where, NULL, NULL, __FILE__, __LINE__,
                         "line %lld: a merge is two tokens with a space between them", number);
  PareMerge m = {pare_arena_strndup(r->a, line, (size_t)(space - line)),
                 pare_arena_strndup(r->a, space + 1, (size_t)(end - space - 1))};
  return m.left && m.right && pare_vec_push(r->a, &r->merges, m) ? PARE_OK : pare_nomem(r->c);
}

/* A line a merge; the first may be "#version: ...". */
static PareStatus read_merge_lines(Reader *r, const PareFile *f) {
  const char *at = (const char *)f->data, *end = at + f->len;
  for (int64_t line = 1; at < end; line++) {
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((eol ? eol : end) - at);
    const char *text = at;
    at = eol ? eol + 1 : end;
    while (n && text[n - 1] == '\r') n--;
    if (line == 1 && n >= 8 && !memcmp(text, "#version", 8)) continue;
    if (!n && at == end) break; /* an empty last line */
    if (!r->merges_line) r->merges_line = line;
    PARE_TRY(add_merge(r, text, n, r->merges_path, (long long)line));
  }
  return PARE_OK;
}

static PareStatus read_merges_file(Reader *r) {
  PareFile f = {0};
  PARE_TRY(pare_file_map(r->c, r->merges_path, &f));
  PareStatus s = read_merge_lines(r, &f);
  pare_file_unmap(&f);
  return s;
}

/* ["left right", ...] or [["left", "right"], ...] */
static PareStatus read_merges(Reader *r, const json_t *list) {
  size_t i;
  json_t *m;
  if (!json_is_array(list)) return format_error(r, "the model has no list of merges");
  json_array_foreach(list, i, m) {
    PareMerge pair;
    if (json_is_string(m)) {
      PARE_TRY(add_merge(r, json_string_value(m), json_string_length(m), r->path, (long long)i + 1));
      continue;
    }
    if (!json_is_array(m) || json_array_size(m) != 2) return format_error(r, "merge %zu is not two tokens", i + 1);
    PARE_TRY(keep(r, json_array_get(m, 0), "a part of a merge", &pair.left));
    PARE_TRY(keep(r, json_array_get(m, 1), "a part of a merge", &pair.right));
    if (!pare_vec_push(r->a, &r->merges, pair)) return pare_nomem(r->c);
  }
  return PARE_OK;
}

/* ---- vocab.json and merges.txt: GPT-2's and RoBERTa's ---- */

static PareStatus add_special(Reader *r, const char *text, bool lstrip) {
  PareAddedToken t = {.text = text, .id = find_id(r, text), .lstrip = lstrip};
  return t.id < 0 || pare_vec_push(r->a, &r->added, t) ? PARE_OK : pare_nomem(r->c);
}

static PareTemplatePiece token(int64_t id, int64_t type) { return (PareTemplatePiece){PARE_PIECE_TOKEN, id, type}; }
static PareTemplatePiece text(int64_t type) { return (PareTemplatePiece){PARE_PIECE_TEXT, 0, type}; }
static PareTemplatePiece other(int64_t type) { return (PareTemplatePiece){PARE_PIECE_PAIR, 0, type}; }

/* Texts as they are. */
static void bare_templates(PareTokenizer *t) {
  t->single = (PareTemplate){1, {text(0)}};
  t->pair = (PareTemplate){2, {text(0), other(1)}};
}

static void bert_templates(PareTokenizer *t, int64_t cls, int64_t sep) {
  t->single = (PareTemplate){3, {token(cls, 0), text(0), token(sep, 0)}};
  t->pair = (PareTemplate){5, {token(cls, 0), text(0), token(sep, 0), other(1), token(sep, 1)}};
}

/* <s> text </s>, <s> text </s></s> pair </s>, all of type 0. */
static void roberta_templates(PareTokenizer *t, int64_t cls, int64_t sep) {
  t->single = (PareTemplate){3, {token(cls, 0), text(0), token(sep, 0)}};
  t->pair = (PareTemplate){6, {token(cls, 0), text(0), token(sep, 0), token(sep, 0), other(0), token(sep, 0)}};
}

static PareStatus make_bpe(Reader *r) {
  PareBpeParts p = {r->vocab.n, r->merges.n, r->added.n, r->vocab.at, r->merges.at, r->added.at, r->prefix_space};
  return pare_bpe_make(r->c, r->a, &p, r->merges_line ? r->merges_path : r->path, r->merges_line, &r->t->bpe);
}

static PareStatus read_plain(Reader *r, json_t *root) {
  static const char *const special[] = {"<s>", "</s>", "<pad>", "<unk>", "<|endoftext|>"};
  PARE_TRY(read_vocab(r, root));
  for (size_t i = 0; i < sizeof special / sizeof *special; i++) PARE_TRY(add_special(r, special[i], false));
  PARE_TRY(add_special(r, "<mask>", true));
  int64_t cls = find_id(r, "<s>"), sep = find_id(r, "</s>"), end = find_id(r, "<|endoftext|>");
  bool roberta = cls >= 0 && sep >= 0;
  r->t->pad = roberta ? find_id(r, "<pad>") : end;
  if (r->t->pad < 0)
    return format_error(r, "not a vocabulary of RoBERTa, which has <s>, </s> and <pad>, nor of GPT-2, which has "
                        "<|endoftext|>: give the model's tokenizer.json");
  if (roberta) roberta_templates(r->t, cls, sep);
  else bare_templates(r->t);
  PARE_TRY(read_merges_file(r));
  return make_bpe(r);
}

/* ---- tokenizer.json ---- */

static PareStatus read_added(Reader *r, const json_t *list) {
  size_t i;
  json_t *o;
  json_array_foreach(list, i, o) {
    PareAddedToken t = {.lstrip = truth_of(o, "lstrip"), .rstrip = truth_of(o, "rstrip")};
    PARE_TRY(keep(r, json_object_get(o, "content"), "the content of an added token", &t.text));
    PARE_TRY(id_of(r, json_object_get(o, "id"), t.text, &t.id));
    if (truth_of(o, "single_word"))
      return format_error(r, "the added token '%.60s' is one that must be a word, which is not there", t.text);
    if (!pare_vec_push(r->a, &r->added, t)) return pare_nomem(r->c);
  }
  return PARE_OK;
}

static PareStatus add_piece(Reader *r, PareTemplate *t, PareTemplatePiece p) {
  if (t->n == sizeof t->piece / sizeof *t->piece) return format_error(r, "a template of more than %zu pieces", t->n);
  t->piece[t->n++] = p;
  return PARE_OK;
}

/* [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, ...] */
static PareStatus read_template(Reader *r, const json_t *list, const json_t *tokens, PareTemplate *t) {
  size_t i;
  json_t *o;
  json_array_foreach(list, i, o) {
    json_t *special = json_object_get(o, "SpecialToken"), *sequence = json_object_get(o, "Sequence"), *id;
    int64_t type = json_integer_value(json_object_get(special ? special : sequence, "type_id"));
    size_t k;
    if (sequence) PARE_TRY(add_piece(r, t, strcmp(string_of(sequence, "id"), "A") ? other(type) : text(type)));
    if (!special) continue;
    json_t *ids = json_object_get(json_object_get(tokens, string_of(special, "id")), "ids");
    if (!json_array_size(ids))
      return format_error(r, "the template's token '%.60s' has no id", string_of(special, "id"));
    json_array_foreach(ids, k, id) {
      PareTemplatePiece p = token(0, type);
      PARE_TRY(id_of(r, id, string_of(special, "id"), &p.id));
      PARE_TRY(add_piece(r, t, p));
    }
  }
  return PARE_OK;
}

/* Whether every text is there once. */
static bool is_whole(const PareTemplate *t, int texts, int pairs) {
  for (size_t i = 0; i < t->n; i++) {
    texts -= t->piece[i].what == PARE_PIECE_TEXT;
    pairs -= t->piece[i].what == PARE_PIECE_PAIR;
  }
  return !texts && !pairs;
}

static PareStatus read_templates(Reader *r, const json_t *post) {
  const char *type = string_of(post, "type");
  const json_t *tokens = json_object_get(post, "special_tokens");
  if (!post || json_is_null(post) || !strcmp(type, "ByteLevel")) return PARE_OK;
  if (!strcmp(type, "Sequence")) {
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(post, "processors"), i, o) {
      if (!strcmp(string_of(o, "type"), "Sequence"))
        return format_error(r, "a sequence of post-processors inside of another is not there");
      PARE_TRY(read_templates(r, o));
    }
    return PARE_OK;
  }
  if (!strcmp(type, "TemplateProcessing")) {
    r->t->single.n = r->t->pair.n = 0;
    PARE_TRY(read_template(r, json_object_get(post, "single"), tokens, &r->t->single));
    PARE_TRY(read_template(r, json_object_get(post, "pair"), tokens, &r->t->pair));
    bool whole = is_whole(&r->t->single, 1, 0) && is_whole(&r->t->pair, 1, 1);
    return whole ? PARE_OK : format_error(r, "the templates do not hold every text once");
  }
  bool bert = !strcmp(type, "BertProcessing");
  if (!bert && strcmp(type, "RobertaProcessing"))
    return format_error(r, "the post-processor '%.60s' is not there", type);
  int64_t cls, sep;
  PARE_TRY(id_of(r, json_array_get(json_object_get(post, "cls"), 1), "cls", &cls));
  PARE_TRY(id_of(r, json_array_get(json_object_get(post, "sep"), 1), "sep", &sep));
  if (bert) bert_templates(r->t, cls, sep);
  else roberta_templates(r->t, cls, sep);
  return PARE_OK;
}

static PareStatus find_pad(Reader *r, const json_t *padding) {
  static const char *const names[] = {"[PAD]", "<pad>", "<|endoftext|>"};
  const json_t *id = json_object_get(padding, "pad_id");
  if (id) return id_of(r, id, "pad", &r->t->pad);
  r->t->pad = -1;
  for (size_t i = 0; i < sizeof names / sizeof *names && r->t->pad < 0; i++) r->t->pad = find_id(r, names[i]);
  return r->t->pad >= 0 ? PARE_OK : format_error(r, "no token pads: there is neither [PAD], <pad> nor <|endoftext|>");
}

/* Where this is not the usual value, the tokenizer is another. */
static PareStatus want_type(Reader *r, const json_t *root, const char *key, const char *type) {
  const json_t *o = json_object_get(root, key);
  if (!strcmp(string_of(o, "type"), type)) return PARE_OK;
  return format_error(r, "its %s is '%.60s': of a %s, %s is read", key, json_is_object(o) ? string_of(o, "type") : "none",
                      string_of(json_object_get(root, "model"), "type"), type);
}

static PareStatus refuse_if(Reader *r, bool is_set, const char *what) {
  return is_set ? format_error(r, "%s is set, which is not there", what) : PARE_OK;
}

static PareStatus read_wordpiece(Reader *r, const json_t *root, json_t *model) {
  static const char *const usual[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  const json_t *norm = json_object_get(root, "normalizer"), *strip = json_object_get(norm, "strip_accents");
  bool lower = truth_of(norm, "lowercase");
  PARE_TRY(want_type(r, root, "normalizer", "BertNormalizer"));
  PARE_TRY(want_type(r, root, "pre_tokenizer", "BertPreTokenizer"));
  PARE_TRY(refuse_if(r, !truth_of(norm, "clean_text") || !truth_of(norm, "handle_chinese_chars"),
                     "a BertNormalizer without clean_text and handle_chinese_chars"));
  PARE_TRY(refuse_if(r, json_is_boolean(strip) && json_is_true(strip) != lower, "strip_accents unlike lowercase"));
  PARE_TRY(refuse_if(r, strcmp(string_of(model, "continuing_subword_prefix"), "##") ||
                         strcmp(string_of(model, "unk_token"), "[UNK]") ||
                         json_integer_value(json_object_get(model, "max_input_chars_per_word")) != 100,
                     "a WordPiece with other than '##', '[UNK]' and words of 100 characters"));
  for (size_t i = 0; i < r->added.n; i++) {
    bool known = false;
    for (size_t k = 0; k < sizeof usual / sizeof *usual; k++) known |= !strcmp(usual[k], r->added.at[i].text);
    if (!known || r->added.at[i].lstrip || r->added.at[i].rstrip)
      return format_error(r, "the added token '%.60s' is not one of BERT's", r->added.at[i].text);
  }
  PARE_TRY(read_vocab(r, json_object_get(model, "vocab")));
  return pare_wordpiece_make(r->c, r->a, r->path, r->vocab.n, r->vocab.at, lower, &r->t->words);
}

static bool is_set(const json_t *o, const char *key) {
  const json_t *v = json_object_get(o, key);
  return v && !json_is_null(v) && !json_is_false(v) && (!json_is_string(v) || json_string_length(v));
}

static PareStatus read_bpe(Reader *r, const json_t *root, json_t *model) {
  static const char *const unread[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                                       "ignore_merges"};
  const json_t *pre = json_object_get(root, "pre_tokenizer"), *regex = json_object_get(pre, "use_regex");
  PARE_TRY(want_type(r, root, "pre_tokenizer", "ByteLevel"));
  PARE_TRY(refuse_if(r, json_is_object(json_object_get(root, "normalizer")), "a normalizer before byte-level BPE"));
  PARE_TRY(refuse_if(r, json_is_false(regex), "a ByteLevel without use_regex"));
  for (size_t i = 0; i < sizeof unread / sizeof *unread; i++)
    PARE_TRY(refuse_if(r, is_set(model, unread[i]), unread[i]));
  r->prefix_space = truth_of(pre, "add_prefix_space");
  PARE_TRY(read_vocab(r, json_object_get(model, "vocab")));
  PARE_TRY(read_merges(r, json_object_get(model, "merges")));
  return make_bpe(r);
}

static PareStatus read_tokenizer(Reader *r, json_t *root) {
  json_t *model = json_object_get(root, "model");
  const char *type = string_of(model, "type");
  if (!*type && json_object_get(model, "merges")) type = "BPE"; /* older files do not say */
  bool words = !strcmp(type, "WordPiece");
  if (!words && strcmp(type, "BPE"))
    return format_error(r, "its model is '%.60s': WordPiece and byte-level BPE are read", type);
  bare_templates(r->t);
  PARE_TRY(read_added(r, json_object_get(root, "added_tokens")));
  PARE_TRY(words ? read_wordpiece(r, root, model) : read_bpe(r, root, model));
  PARE_TRY(read_templates(r, json_object_get(root, "post_processor")));
  return find_pad(r, json_object_get(root, "padding"));
}

/* ---- the file ---- */

static PareStatus read_root(Reader *r, json_t *root) {
  if (!json_is_object(root)) return format_error(r, "not a JSON object");
  return json_is_object(json_object_get(root, "model")) ? read_tokenizer(r, root) : read_plain(r, root);
}

PareStatus pare_tokenizer_load_json(PareCtx *c, PareArena *a, const char *path, const char *merges,
                                    PareTokenizer *out) {
  Reader r = {.c = c, .a = a, .path = path, .t = out};
  PareFile f = {0};
  json_error_t e;
  r.merges_path = merges ? merges : pare_merges_beside(a, path);
  if (!r.merges_path) return pare_nomem(c);
  PARE_TRY(pare_file_map(c, path, &f));
  json_t *root = json_loadb((const char *)f.data, f.len, 0, &e);
  PareStatus s = root ? read_root(&r, root) : format_error(&r, "line %d: not JSON: %s", e.line, e.text);
  json_decref(root);
  pare_file_unmap(&f);
  return s;
}
