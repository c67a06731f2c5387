#include "runtime/token_file.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/lines.h"
#include "runtime/bpe.h"
#include "runtime/data.h"
#include "runtime/token_file_parts.h"

const char *pare_need_name(PareNeed n) {
  static const char *const all[] = {
#define X(ID, name, text) #name,
      PARE_NEEDS(X)
#undef X
  };
  return all[n];
}

const char *pare_need_text(PareNeed n) {
  static const char *const all[] = {
#define X(ID, name, text) text,
      PARE_NEEDS(X)
#undef X
  };
  return all[n];
}

/* --- what every form has --- */

PareStatus pare_token_check(PareTokenReader *r, const char *token, int64_t id) {
  if (id >= 0 && id < r->f->rows) return PARE_OK;
  return pare_token_error(r, PARE_DATA, "the token '%.60s' has the id %" PRId64 ", but the model's table has %" PRId64 " rows",
                          token, id, r->f->rows);
}

PareStatus pare_token_add(PareTokenReader *r, const char *token, int64_t id) {
  PARE_TRY(pare_token_check(r, token, id));
  if (!r->f->token[id]) r->f->token[id] = token;
  return pare_map_put(&r->f->ids, token, id) ? PARE_OK : pare_nomem(r->c);
}

PareStatus pare_token_need(PareTokenReader *r, int64_t id, PareNeed why) {
  return id < 0 || pare_vec_push(r->a, &r->f->needs, ((PareTokenNeed){id, why})) ? PARE_OK : pare_nomem(r->c);
}

PareStatus pare_token_need_bytes(PareTokenReader *r) {
  const char *before[] = {"", r->f->prefix}, *behind[] = {"", r->f->suffix};
  char text[PARE_BYTES][PARE_BYTE_TEXT];
  pare_bpe_alphabet(text);
  for (int i = 0; i < 4 * PARE_BYTES; i++) {
    PareMark mark = pare_arena_mark(r->c->scratch);
    const char *token = pare_arena_printf(r->c->scratch, "%s%s%s", before[i & 1], text[i >> 2], behind[i >> 1 & 1]);
    if (!token) return pare_nomem(r->c);
    PARE_TRY(pare_token_need(r, pare_map_get(&r->f->ids, token), PARE_NEED_BYTE));
    pare_arena_rewind(r->c->scratch, mark);
  }
  return PARE_OK;
}

/* The token that left and right become: of a prefix for symbols inside of a word one is left. */
PareStatus pare_token_merge(PareTokenReader *r, const char *where, const char *left, const char *right) {
  size_t drop = strlen(r->f->prefix);
  PareMark mark = pare_arena_mark(r->c->scratch);
  const char *made = pare_arena_printf(r->c->scratch, "%s%s", left, strlen(right) > drop ? right + drop : "");
  if (!made) return pare_nomem(r->c);
  const char *part[] = {left, right, made};
  int64_t id[3];
  for (int i = 0; i < 3; i++)
    if ((id[i] = pare_map_get(&r->f->ids, part[i])) < 0)
      return pare_diag_set(&r->c->diag, PARE_FORMAT, where, NULL, NULL, __FILE__, __LINE__,
                           "merge %zu makes or reads the token '%.60s', which is not in the vocabulary: take the "
                           "merges that belong to it", r->f->merges.n + 1, part[i]);
  pare_arena_rewind(r->c->scratch, mark);
  return pare_vec_push(r->a, &r->f->merges, ((PareMergeIds){id[0], id[1], id[2]})) ? PARE_OK : pare_nomem(r->c);
}

PareStatus pare_token_merge_text(PareTokenReader *r, const char *where, const char *text, size_t n) {
  const char *space = memchr(text, ' ', n), *end = text + n;
  bool two = space && space > text && space + 1 < end && !memchr(space + 1, ' ', (size_t)(end - space - 1));
  if (!two || memchr(text, 0, n))
    return pare_diag_set(&r->c->diag, PARE_FORMAT, where, NULL, NULL, __FILE__, __LINE__,
                         "merge %zu is not two tokens with a space between them", r->f->merges.n + 1);
  PareMark mark = pare_arena_mark(r->c->scratch);
  char *left = pare_arena_strndup(r->c->scratch, text, (size_t)(space - text));
  char *right = pare_arena_strndup(r->c->scratch, space + 1, (size_t)(end - space - 1));
  if (!left || !right) return pare_nomem(r->c);
  PARE_TRY(pare_token_merge(r, where, left, right));
  pare_arena_rewind(r->c->scratch, mark);
  return PARE_OK;
}

bool pare_merge_stays(const PareMergeIds *m, const bool *keep) {
  return keep[m->left] && keep[m->right] && keep[m->made];
}

/* --- vocab.txt: the line's number is the id --- */

static PareStatus read_tokens(PareTokenReader *r) {
  static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  PareTokenFile *f = r->f;
  const char *at = (const char *)f->file.data, *end = at + f->file.len;
  int64_t n = 0;
  for (PareLine l; pare_line_next(&at, end, &l); n++) {
    const char *token = pare_arena_strndup(r->a, l.at, l.n);
    if (!token) return pare_nomem(r->c);
    if (n < f->rows) PARE_TRY(pare_token_add(r, token, n));
  }
  if (n > f->rows)
    return pare_token_error(r, PARE_DATA, "has %" PRId64 " tokens, but the model's table has %" PRId64 " rows", n, f->rows);
  f->unknown = pare_map_get(&f->ids, "[UNK]");
  for (size_t i = 0; i < sizeof special / sizeof *special; i++)
    PARE_TRY(pare_token_need(r, pare_map_get(&f->ids, special[i]), PARE_NEED_SPECIAL));
  return PARE_OK;
}

static PareStatus cut_tokens(const PareTokenCut *t) {
  const PareFile *f = &t->f->file;
  const char *at = (const char *)f->data, *end = at + f->len;
  char *text = pare_arena_alloc(t->a, f->len + 1, 1);
  size_t n = 0;
  PareLine l;
  if (!text) return pare_nomem(t->c);
  for (int64_t id = 0; pare_line_next(&at, end, &l); id++) {
    if (!t->keep[id]) continue;
    memcpy(text + n, l.at, l.n);
    n += l.n;
    text[n++] = '\n';
  }
  t->out->at[t->out->n++] = (PareTokenText){"vocab.txt", text, n};
  return PARE_OK;
}

/* --- merges.txt: a merge a line; the first may be "#version: ..." --- */

static bool is_merge(const PareLine *l, const char *begin) {
  bool version = l->at == begin && l->n >= 8 && !memcmp(l->at, "#version", 8);
  return l->n > 0 && !version;
}

/* The end of a word is told by the merges: CLIP's and GPT's have "</w>" there, GPT-2's nothing. */
static PareStatus read_merge_lines(PareTokenReader *r) {
  static const char suffix[] = "</w>";
  size_t k = strlen(suffix);
  const char *begin = (const char *)r->f->merges_file.data, *at = begin, *end = at + r->f->merges_file.len;
  for (PareLine l; pare_line_next(&at, end, &l);) {
    if (!is_merge(&l, begin)) continue;
    PARE_TRY(pare_token_merge_text(r, r->f->merges_path, l.at, l.n));
    if (l.n > k && !memcmp(l.at + l.n - k, suffix, k)) r->f->suffix = suffix;
  }
  return PARE_OK;
}

static PareStatus cut_merge_lines(const PareTokenCut *t) {
  const PareFile *f = &t->f->merges_file;
  const char *begin = (const char *)f->data, *at = begin, *line = begin, *end = at + f->len;
  char *text = pare_arena_alloc(t->a, f->len + 1, 1);
  size_t n = 0, merge = 0;
  if (!text) return pare_nomem(t->c);
  for (PareLine l; pare_line_next(&at, end, &l); line = at) {
    if (is_merge(&l, begin) && !pare_merge_stays(&t->f->merges.at[merge++], t->keep)) continue;
    memcpy(text + n, line, (size_t)(at - line));
    n += (size_t)(at - line);
  }
  t->out->at[t->out->n++] = (PareTokenText){"merges.txt", text, n};
  return PARE_OK;
}

const char *pare_merges_beside(PareArena *a, const char *vocab) {
  static const char name[] = "vocab.json";
  size_t n = strlen(vocab) - (pare_data_has_suffix(vocab, name) ? strlen(name) : 0);
  const char *alike = pare_arena_printf(a, "%.*smerges.txt", (int)n, vocab);
  if (!alike || (vocab[n] && !access(alike, F_OK))) return alike;
  return pare_path_beside(a, vocab, "merges.txt");
}

/* --- the file --- */

/* vocab.json or tokenizer.json */
static PareStatus read_json(PareTokenReader *r) {
  PARE_TRY(pare_token_file_read_json(r));
  if (!pare_token_file_is_plain(r->f)) return PARE_OK;
  if (!(r->f->merges_path = pare_merges_beside(r->a, r->f->path))) return pare_nomem(r->c);
  PARE_TRY(pare_file_map(r->c, r->f->merges_path, &r->f->merges_file));
  PARE_TRY(read_merge_lines(r));
  return pare_token_need_bytes(r);
}

PareStatus pare_token_file_open(PareCtx *c, PareArena *a, const char *path, int64_t rows, PareTokenFile *out) {
  *out = (PareTokenFile){.path = path, .rows = rows, .ids = {.arena = a}, .unknown = -1, .prefix = "", .suffix = ""};
  PareTokenReader r = {c, a, out};
  json_error_t e;
  if (!(out->token = PARE_NEW_N(a, rows + 1, const char *))) return pare_nomem(c);
  PARE_TRY(pare_file_map(c, path, &out->file));
  if (!pare_data_has_suffix(path, ".json")) return read_tokens(&r);
  out->root = json_loadb((const char *)out->file.data, out->file.len, JSON_REJECT_DUPLICATES, &e);
  if (!out->root) return pare_token_error(&r, PARE_FORMAT, "line %d: not JSON: %s", e.line, e.text);
  return read_json(&r);
}

void pare_token_file_close(PareTokenFile *f) {
  json_decref(f->root);
  pare_file_unmap(&f->file);
  pare_file_unmap(&f->merges_file);
  f->root = NULL;
}

PareStatus pare_token_file_cut(PareCtx *c, PareArena *a, const PareTokenFile *f, const bool *keep, const int64_t *new_id,
                               PareTokenTexts *out) {
  PareTokenCut t = {c, a, f, keep, new_id, out};
  *out = (PareTokenTexts){.merges = (int64_t)f->merges.n};
  for (size_t i = 0; i < f->merges.n; i++) out->merges_left += pare_merge_stays(&f->merges.at[i], keep);
  if (!f->root) return cut_tokens(&t);
  PARE_TRY(pare_token_file_cut_json(&t));
  return pare_token_file_is_plain(f) ? cut_merge_lines(&t) : PARE_OK;
}

/* --- what has to stay --- */

/* The first symbols of a token, as a word has them that it stands in; false where it has characters that are none. */
static PareStatus spell(PareCtx *c, const PareTokenFile *f, const char *token, PareMergeWord *w, bool *spelled) {
  size_t prefix = strlen(f->prefix), suffix = strlen(f->suffix), n = strlen(token);
  bool inside = prefix && n > prefix && !strncmp(token, f->prefix, prefix);
  if (inside) token += prefix, n -= prefix;
  bool ends = suffix && n > suffix && !strcmp(token + n - suffix, f->suffix);
  if (ends) n -= suffix;
  pare_merge_begin(w);
  *spelled = true;
  for (size_t i = 0, k; i < n && *spelled; i = k) {
    for (k = i + 1; k < n && ((unsigned char)token[k] & 0xc0) == 0x80;) k++;
    PareMark mark = pare_arena_mark(c->scratch);
    const char *symbol = pare_arena_printf(c->scratch, "%s%.*s%s", i || inside ? f->prefix : "", (int)(k - i), token + i,
                                           ends && k == n ? f->suffix : "");
    if (!symbol) return pare_nomem(c);
    int64_t id = pare_map_get(&f->ids, symbol);
    pare_arena_rewind(c->scratch, mark);
    *spelled = id >= 0;
    if (*spelled && !pare_merge_add(w, id, i, k)) return pare_nomem(c);
  }
  return PARE_OK;
}

static void add(bool *keep, int64_t id, PareNeed why, PareTokensAdded *added) {
  if (keep[id]) return;
  if (!added->n[why]++ || id < added->first[why]) added->first[why] = id;
  keep[id] = true;
}

/* Where a text's tokens include this one, the merges within its span were those of the token by itself: a pair across
 * its edge was never the earliest. So what these made is what it takes. */
static PareStatus add_parts(PareCtx *c, const PareTokenFile *f, int64_t id, PareMergeWord *w, bool *keep,
                            PareTokensAdded *added) {
  bool spelled;
  PARE_TRY(spell(c, f, f->token[id], w, &spelled));
  if (!spelled || w->symbols.n < 2) return PARE_OK;
  size_t n = w->symbols.n;
  int64_t *first = PARE_NEW_N(c->scratch, n, int64_t);
  if (!first) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) first[i] = w->symbols.at[i].id;
  if (!pare_merge_run(w)) return pare_nomem(c);
  if (w->symbols.at[0].behind >= 0 || w->symbols.at[0].id != id) return PARE_OK; /* no merges make it */
  for (size_t i = 0; i < n; i++) add(keep, first[i], PARE_NEED_PART, added);
  for (size_t i = 0; i < w->made.n; i++) add(keep, w->made.at[i], PARE_NEED_PART, added);
  return PARE_OK;
}

static PareStatus add_all_parts(PareCtx *c, PareArena *a, const PareTokenFile *f, bool *keep, PareTokensAdded *added) {
  PareMergeWord w = {.merges = pare_merges_new(a, f->merges.n, f->merges.at), .a = a, .keep_made = true};
  if (!w.merges) return pare_nomem(c);
  for (int64_t id = 0; id < f->rows; id++) {
    if (!keep[id] || !f->token[id]) continue;
    PareMark mark = pare_arena_mark(c->scratch);
    PARE_TRY(add_parts(c, f, id, &w, keep, added));
    pare_arena_rewind(c->scratch, mark);
  }
  return PARE_OK;
}

PareStatus pare_token_file_complete(PareCtx *c, const PareTokenFile *f, bool *keep, PareTokensAdded *added) {
  *added = (PareTokensAdded){0};
  for (size_t i = 0; i < f->needs.n; i++) add(keep, f->needs.at[i].id, f->needs.at[i].why, added);
  if (!f->merges.n) return PARE_OK;
  PareArena *a = pare_arena_new(1 << 16);
  PareStatus s = a ? add_all_parts(c, a, f, keep, added) : pare_nomem(c);
  pare_arena_free(a);
  return s;
}
