#include "runtime/bpe.h"

#include <string.h>
#include <utf8proc.h>

#include "base/map.h"
#include "runtime/merges.h"

struct PareBpe {
  PareMap ids;
  int64_t of_byte[PARE_BYTES]; /* -1: not in the vocabulary */
  PareMerges *merges;
  const PareAddedToken *added;
  size_t nadded;
  bool prefix_space;
};

/* ---- making one ---- */

static bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

void pare_bpe_alphabet(char text[PARE_BYTES][PARE_BYTE_TEXT]) {
  int others = 0;
  for (int byte = 0; byte < PARE_BYTES; byte++) {
    memset(text[byte], 0, PARE_BYTE_TEXT);
    utf8proc_encode_char(is_printable(byte) ? byte : PARE_BYTES + others++, (uint8_t *)text[byte]);
  }
}

static void number_bytes(PareBpe *b) {
  char text[PARE_BYTES][PARE_BYTE_TEXT];
  pare_bpe_alphabet(text);
  for (int byte = 0; byte < PARE_BYTES; byte++) b->of_byte[byte] = pare_map_get(&b->ids, text[byte]);
}

static PareStatus merge_error(PareCtx *c, const char *file, int64_t line, size_t merge, const char *token) {
  char where[40] = "";
  if (line) snprintf(where, sizeof where, "line %lld: ", (long long)(line + (int64_t)merge));
  return pare_diag_set(&c->diag, PARE_FORMAT, file, NULL, NULL, __FILE__, __LINE__,
                       "%smerge %zu makes or reads the token '%.60s', which is not in the vocabulary: take the merges "
                       "that belong to it", where, merge + 1, token);
}

static PareStatus add_merges(PareCtx *c, PareArena *a, PareBpe *b, const PareBpeParts *p, const char *file,
                             int64_t line) {
  PareMark all = pare_arena_mark(c->scratch);
  PareMergeIds *list = PARE_NEW_N(c->scratch, p->nmerges + 1, PareMergeIds);
  if (!list) return pare_nomem(c);
  for (size_t i = 0; i < p->nmerges; i++) {
    const PareMerge *m = &p->merges[i];
    PareMark mark = pare_arena_mark(c->scratch);
    const char *made = pare_arena_printf(c->scratch, "%s%s", m->left, m->right);
    if (!made) return pare_nomem(c);
    const char *part[] = {m->left, m->right, made};
    int64_t id[3];
    for (int k = 0; k < 3; k++)
      if ((id[k] = pare_map_get(&b->ids, part[k])) < 0) return merge_error(c, file, line, i, part[k]);
    list[i] = (PareMergeIds){id[0], id[1], id[2]};
    pare_arena_rewind(c->scratch, mark);
  }
  b->merges = pare_merges_new(a, p->nmerges, list);
  pare_arena_rewind(c->scratch, all);
  return b->merges ? PARE_OK : pare_nomem(c);
}

PareStatus pare_bpe_make(PareCtx *c, PareArena *a, const PareBpeParts *p, const char *file, int64_t line,
                         PareBpe **out) {
  PareBpe *b = PARE_NEW(a, PareBpe);
  if (!b) return pare_nomem(c);
  *b = (PareBpe){.ids.arena = a, .added = p->added, .nadded = p->nadded, .prefix_space = p->prefix_space};
  for (size_t i = 0; i < p->nvocab; i++)
    if (!pare_map_put(&b->ids, p->vocab[i].token, p->vocab[i].id)) return pare_nomem(c);
  number_bytes(b);
  *out = b;
  return add_merges(c, a, b, p, file, line);
}

int64_t pare_bpe_id(const PareBpe *b, const char *token) { return pare_map_get(&b->ids, token); }

typedef struct Word {
  const PareBpe *b;
  PareMergeWord m;
} Word;

static bool add_byte(Word *w, uint8_t byte, size_t from, size_t to) {
  int64_t id = w->b->of_byte[byte];
  return id < 0 || pare_merge_add(&w->m, id, from, to);
}

/* ---- GPT-2's pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ ---- */

typedef enum Class { SPACE, LETTER, NUMBER, OTHER } Class;

static bool is_white(int32_t r) {
  return (r >= 9 && r <= 13) || r == ' ' || r == 0x85 || r == 0xa0 || r == 0x1680 || (r >= 0x2000 && r <= 0x200a) ||
         r == 0x2028 || r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000;
}

/* The class of the character at text[i] < n, and its bytes. What is not UTF-8 is a character of one byte. */
static Class class_at(const char *text, size_t n, size_t i, size_t *bytes) {
  int32_t r;
  utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &r);
  *bytes = k < 1 ? 1 : (size_t)k;
  if (k < 1) return OTHER;
  if (is_white(r)) return SPACE;
  utf8proc_category_t cat = utf8proc_category(r);
  if (cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO) return LETTER;
  return cat >= UTF8PROC_CATEGORY_ND && cat <= UTF8PROC_CATEGORY_NO ? NUMBER : OTHER;
}

static size_t contraction(const char *text, size_t n) {
  static const char *const all[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
  for (size_t k = 0; k < sizeof all / sizeof *all; k++)
    if (n >= strlen(all[k]) && !memcmp(text, all[k], strlen(all[k]))) return strlen(all[k]);
  return 0;
}

/* The end of the run of one class from i on; *last is where its last character begins. */
static size_t run_end(const char *text, size_t n, size_t i, Class class, size_t *last) {
  size_t bytes;
  for (; i < n && class_at(text, n, i, &bytes) == class; i += bytes) *last = i;
  return i;
}

/* The end of the piece that begins at i < n. */
static size_t piece_end(const char *text, size_t n, size_t i) {
  size_t bytes, last = i, k = contraction(text + i, n - i);
  if (k) return i + k;
  Class class = class_at(text, n, i, &bytes);
  bool led = text[i] == ' ' && i + 1 < n;
  Class led_by = led ? class_at(text, n, i + 1, &bytes) : SPACE;
  if (led_by != SPACE) return run_end(text, n, i + 1, led_by, &last);
  size_t end = run_end(text, n, i, class, &last);
  if (class != SPACE || end == n || last == i) return end;
  return last; /* white space leaves its last character to what follows */
}

/* ---- text ---- */

/* The pieces of text[from .. to); `shift` leading bytes of `text` are not the caller's. */
static PareStatus encode_plain(PareCtx *c, Word *w, PareArena *a, const char *text, size_t n, size_t base, size_t shift,
                               PareTokens *out) {
  for (size_t i = 0, end; i < n; i = end) {
    end = piece_end(text, n, i);
    pare_merge_begin(&w->m);
    for (size_t k = i; k < end; k++) {
      size_t at = k < shift ? base : base + k - shift;
      if (!add_byte(w, (uint8_t)text[k], at, k < shift ? at : at + 1)) return pare_nomem(c);
    }
    if (!pare_merge_run(&w->m)) return pare_nomem(c);
    for (int64_t s = w->m.symbols.n ? 0 : -1; s >= 0; s = w->m.symbols.at[s].behind) {
      const PareSymbol *x = &w->m.symbols.at[s];
      if (!pare_vec_push(a, out, ((PareToken){x->id, x->from, x->to}))) return pare_nomem(c);
    }
  }
  return PARE_OK;
}

/* A stretch without added tokens, with a space before it where one is wanted. */
static PareStatus encode_stretch(PareCtx *c, Word *w, PareArena *a, const char *text, size_t from, size_t to,
                                 bool space, PareTokens *out) {
  if (from == to) return PARE_OK;
  if (!space || text[from] == ' ') return encode_plain(c, w, a, text + from, to - from, from, 0, out);
  char *led = PARE_NEW_N(c->scratch, to - from + 2, char);
  if (!led) return pare_nomem(c);
  led[0] = ' ';
  memcpy(led + 1, text + from, to - from);
  return encode_plain(c, w, a, led, to - from + 1, from, 1, out);
}

/* The longest added token that text begins with. */
static const PareAddedToken *added_at(const PareBpe *b, const char *text, size_t n) {
  const PareAddedToken *best = NULL;
  for (size_t i = 0; i < b->nadded; i++) {
    size_t k = strlen(b->added[i].text);
    if (k && n >= k && !memcmp(text, b->added[i].text, k) && (!best || k > strlen(best->text))) best = &b->added[i];
  }
  return best;
}

static size_t skip_white_back(const char *text, size_t from, size_t to) {
  while (to > from) {
    size_t at = to - 1, bytes;
    while (at > from && ((uint8_t)text[at] & 0xc0) == 0x80) at--;
    if (class_at(text, to, at, &bytes) != SPACE) break;
    to = at;
  }
  return to;
}

static PareStatus encode(PareCtx *c, Word *w, PareArena *a, const char *text, size_t n, bool space, PareTokens *out) {
  size_t start = 0, last;
  for (size_t i = 0; i < n; i++) {
    const PareAddedToken *t = added_at(w->b, text + i, n - i);
    if (!t) continue;
    size_t end = i + strlen(t->text), from = t->lstrip ? skip_white_back(text, start, i) : i;
    PARE_TRY(encode_stretch(c, w, a, text, start, from, space, out));
    if (!pare_vec_push(a, out, ((PareToken){t->id, i, end}))) return pare_nomem(c);
    start = t->rstrip ? run_end(text, n, end, SPACE, &last) : end;
    i = start - 1;
  }
  return encode_stretch(c, w, a, text, start, n, space, out);
}

PareStatus pare_bpe_encode(PareCtx *c, const PareBpe *b, PareArena *a, const char *text, size_t n, bool word,
                           PareTokens *out) {
  PareMark m = pare_arena_mark(c->scratch);
  Word w = {b, {.merges = b->merges, .a = c->scratch}};
  PareStatus s = encode(c, &w, a, text, n, word || b->prefix_space, out);
  pare_arena_rewind(c->scratch, m);
  return s;
}
