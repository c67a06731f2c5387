#include "runtime/wordpiece.h"

#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/map.h"

/* Tokens with a role, in the order of the ids in PareWordpiece; [MASK] may be missing. */
#define SPECIAL_LIST(X) X(PAD) X(UNK) X(CLS) X(SEP) X(MASK)
enum {
#define X(name) SPECIAL_##name,
  SPECIAL_LIST(X)
#undef X
  SPECIAL_COUNT
};
static const char *const special_text[SPECIAL_COUNT] = {
#define X(name) "[" #name "]",
    SPECIAL_LIST(X)
#undef X
};

struct PareWordpiece {
  PareMap ids;
  int64_t special[SPECIAL_COUNT]; /* -1: not in the vocabulary */
  size_t longest;                 /* bytes of the longest token, "##" included */
  bool lower_case;
};

enum { WORD_CHARS_MAX = 100 }; /* a longer word is [UNK] */

int64_t pare_wordpiece_pad(const PareWordpiece *w) { return w->special[SPECIAL_PAD]; }
int64_t pare_wordpiece_cls(const PareWordpiece *w) { return w->special[SPECIAL_CLS]; }
int64_t pare_wordpiece_sep(const PareWordpiece *w) { return w->special[SPECIAL_SEP]; }

#define vocab_error(c, path, ...) \
  pare_diag_set(&(c)->diag, PARE_FORMAT, (path), NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

static PareStatus add_token(PareCtx *c, PareWordpiece *w, const char *token, size_t n, int64_t id) {
  if (!pare_map_put(&w->ids, token, id)) return pare_nomem(c);
  if (n > w->longest) w->longest = n;
  return PARE_OK;
}

static PareStatus find_specials(PareCtx *c, const char *path, PareWordpiece *w) {
  for (int i = 0; i < SPECIAL_COUNT; i++) {
    w->special[i] = pare_map_get(&w->ids, special_text[i]);
    if (w->special[i] < 0 && i != SPECIAL_MASK)
      return vocab_error(c, path, "not a WordPiece vocabulary: the token %s is missing", special_text[i]);
  }
  return PARE_OK;
}

static PareStatus read_vocab(PareCtx *c, PareArena *a, const char *path, const PareFile *f, PareWordpiece *w) {
  const char *at = (const char *)f->data, *end = at + f->len;
  for (int64_t id = 0; at < end; id++) {
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((eol ? eol : end) - at);
    const char *next = eol ? eol + 1 : end;
    if (memchr(at, 0, n)) return vocab_error(c, path, "line %lld holds a zero byte", (long long)id + 1);
    while (n && (at[n - 1] == '\r' || at[n - 1] == ' ' || at[n - 1] == '\t')) n--;
    char *token = pare_arena_strndup(a, at, n);
    if (!token) return pare_nomem(c);
    PARE_TRY(add_token(c, w, token, n, id));
    at = next;
  }
  return find_specials(c, path, w);
}

static PareWordpiece *wordpiece_new(PareArena *a, bool lower_case) {
  PareWordpiece *w = PARE_NEW(a, PareWordpiece);
  if (!w) return NULL;
  w->ids.arena = a;
  w->lower_case = lower_case;
  return w;
}

PareStatus pare_wordpiece_load(PareCtx *c, PareArena *a, const char *vocab, bool lower_case, PareWordpiece **out) {
  PareFile f = {0};
  if (!(*out = wordpiece_new(a, lower_case))) return pare_nomem(c);
  PARE_TRY(pare_file_map(c, vocab, &f));
  PareStatus s = read_vocab(c, a, vocab, &f, *out);
  pare_file_unmap(&f);
  return s;
}

PareStatus pare_wordpiece_make(PareCtx *c, PareArena *a, const char *path, size_t n, const PareVocabEntry *vocab,
                               bool lower_case, PareWordpiece **out) {
  if (!(*out = wordpiece_new(a, lower_case))) return pare_nomem(c);
  for (size_t i = 0; i < n; i++) PARE_TRY(add_token(c, *out, vocab[i].token, strlen(vocab[i].token), vocab[i].id));
  return find_specials(c, path, *out);
}

/* ---- characters, as the `tokenizers` crate classes them ---- */

typedef int32_t Rune;

static bool is_space(Rune r) {
  utf8proc_category_t k = utf8proc_category(r);
  return (r >= 9 && r <= 13) || r == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL ||
         k == UTF8PROC_CATEGORY_ZP;
}

static bool is_removed(Rune r) {
  if (r == '\t' || r == '\n' || r == '\r') return false;
  utf8proc_category_t k = utf8proc_category(r);
  return r == 0xfffd || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO;
}

static bool is_punctuation(Rune r) {
  if (r < 128) return (r >= 33 && r <= 47) || (r >= 58 && r <= 64) || (r >= 91 && r <= 96) || (r >= 123 && r <= 126);
  utf8proc_category_t k = utf8proc_category(r);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* CJK ideographs, each a word of its own. 2B820..2B91F are left out as in the
 * crate, though they are ideographs too. */
static bool is_ideograph(Rune r) {
  static const Rune range[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},  {0x20000, 0x2a6df},
                                  {0x2a700, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f}};
  for (size_t i = 0; i < sizeof range / sizeof *range; i++)
    if (r >= range[i][0] && r <= range[i][1]) return true;
  return false;
}

/* ---- text to words ---- */

/* Normalised text: a rune at a time, and the bytes of the text that it is made of. */
typedef struct Runes {
  Rune *at;
  size_t *from, *to;
  size_t n;
} Runes;

/* Clean text, spaces around ideographs: n bytes into out, which has room for
 * 3n + 1. Returns the bytes written. Fills *where with each character's place, where there is room for n of 3. */
static size_t clean(const char *text, size_t n, uint8_t *out, Runes *where) {
  size_t len = 0;
  where->n = 0;
  for (size_t i = 0, next; i < n; i = next) {
    Rune r;
    utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &r);
    if (k < 1) k = 1, r = 0xfffd;
    next = i + (size_t)k;
    if (is_removed(r)) continue;
    bool alone = is_ideograph(r);
    for (int part = alone ? 0 : 1; part < (alone ? 3 : 2); part++) {
      Rune put = part != 1 || is_space(r) ? ' ' : r;
      len += (size_t)utf8proc_encode_char(put, out + len);
      where->at[where->n] = put;
      where->from[where->n] = i;
      where->to[where->n++] = next;
    }
  }
  return len;
}

/* NFD without non-spacing marks, lower case; in place. */
static void fold(Runes *r) {
  size_t kept = 0;
  for (size_t i = 0; i < r->n; i++) {
    if (utf8proc_category(r->at[i]) == UTF8PROC_CATEGORY_MN) continue;
    r->at[kept] = utf8proc_tolower(r->at[i]);
    r->from[kept] = r->from[i];
    r->to[kept++] = r->to[i];
  }
  r->n = kept;
}

static bool runes_new(PareArena *a, size_t n, Runes *r) {
  *r = (Runes){PARE_NEW_N(a, n + 1, Rune), PARE_NEW_N(a, n + 1, size_t), PARE_NEW_N(a, n + 1, size_t), 0};
  return r->at && r->from && r->to;
}

/* The places of what each cleaned character became: as many runes as it decomposes to by itself. Marks that then
 * change their order keep the places of one another. */
static void place(const Runes *cleaned, bool decompose, Runes *out) {
  size_t k = 0;
  for (size_t i = 0; i < cleaned->n; i++) {
    Rune parts[32];
    int last = 0;
    utf8proc_option_t opt = decompose ? UTF8PROC_DECOMPOSE | UTF8PROC_STABLE : UTF8PROC_STABLE;
    utf8proc_ssize_t n = utf8proc_decompose_char(cleaned->at[i], parts, 32, opt, &last);
    for (utf8proc_ssize_t j = 0; j < n && k < out->n; j++) {
      out->from[k] = cleaned->from[i];
      out->to[k++] = cleaned->to[i];
    }
  }
}

/* The cleaned runes of n bytes of text, in c->scratch. */
static PareStatus normalize(PareCtx *c, const PareWordpiece *w, const char *text, size_t n, Runes *out) {
  Runes cleaned;
  if (n > SIZE_MAX / 32 - 1) return pare_nomem(c);
  uint8_t *buf = PARE_NEW_N(c->scratch, 3 * n + 1, uint8_t);
  if (!buf || !runes_new(c->scratch, 3 * n, &cleaned)) return pare_nomem(c);
  utf8proc_ssize_t len = (utf8proc_ssize_t)clean(text, n, buf, &cleaned);
  utf8proc_option_t opt = w->lower_case ? UTF8PROC_DECOMPOSE | UTF8PROC_STABLE : UTF8PROC_STABLE;
  utf8proc_ssize_t room = utf8proc_decompose(buf, len, NULL, 0, opt);
  if (room < 0 || !runes_new(c->scratch, (size_t)room, out)) return pare_nomem(c);
  out->n = (size_t)utf8proc_decompose(buf, len, out->at, room, opt);
  place(&cleaned, w->lower_case, out);
  if (w->lower_case) fold(out);
  return PARE_OK;
}

/* ---- words to pieces ---- */

/* The longest piece that starts at byte `from` of the word, key[2..]; its end,
 * or 0 when there is none. `key` begins with "##", used unless from is 0. */
static size_t longest_piece(const PareWordpiece *w, char *key, size_t from, size_t len, int64_t *id) {
  char *start = key + from; /* two before the piece, where "##" is put */
  const char saved[2] = {start[0], start[1]};
  if (from) start[0] = start[1] = '#';
  const char *token = from ? start : start + 2;
  size_t most = w->longest - (from ? 2 : 0), found = 0; /* [PAD] is in it, so longest >= 5 */
  size_t to = len - from > most ? from + most : len;
  for (; to > from && !found; to--) {
    char cut = key[2 + to];
    key[2 + to] = 0;
    *id = pare_map_get(&w->ids, token);
    key[2 + to] = cut;
    if (*id >= 0) found = to;
  }
  start[0] = saved[0], start[1] = saved[1];
  return found;
}

/* Appends the pieces of the runes [first, end), which are one word, or [UNK] when any part has none. `base` is where
 * the text begins. */
static PareStatus add_word(PareCtx *c, const PareWordpiece *w, PareArena *a, const Runes *r, size_t first, size_t end,
                           size_t base, PareTokens *out) {
  char key[2 + 4 * WORD_CHARS_MAX + 1] = {0};
  size_t rune_at[4 * WORD_CHARS_MAX + 1], len = 0, before = out->n; /* the rune that a byte of the key belongs to */
  for (size_t i = first; i < end && end - first <= WORD_CHARS_MAX; i++) {
    size_t k = (size_t)utf8proc_encode_char(r->at[i], (uint8_t *)key + 2 + len);
    while (k--) rune_at[len++] = i;
  }
  for (size_t at = 0; at < len;) {
    PareToken t;
    size_t to = longest_piece(w, key, at, len, &t.id);
    if (!to) {
      len = 0;
      break;
    }
    t.from = base + r->from[rune_at[at]];
    t.to = base + r->to[rune_at[to - 1]];
    if (!pare_vec_push(a, out, t)) return pare_nomem(c);
    at = to;
  }
  if (len) return PARE_OK;
  out->n = before;
  PareToken unknown = {w->special[SPECIAL_UNK], base + r->from[first], base + r->to[end - 1]};
  return pare_vec_push(a, out, unknown) ? PARE_OK : pare_nomem(c);
}

/* n bytes without special tokens from text[base] on: words end at spaces, punctuation is a word each. */
static PareStatus encode_plain(PareCtx *c, const PareWordpiece *w, PareArena *a, const char *text, size_t base,
                               size_t n, PareTokens *out) {
  Runes r = {0};
  size_t word = 0;
  PareMark m = pare_arena_mark(c->scratch);
  PareStatus s = normalize(c, w, text + base, n, &r);
  for (size_t i = 0; s == PARE_OK && i <= r.n; i++) {
    bool end = i == r.n, punctuation = !end && is_punctuation(r.at[i]);
    if (!end && !punctuation && !is_space(r.at[i])) continue;
    if (i > word) s = add_word(c, w, a, &r, word, i, base, out);
    if (s == PARE_OK && punctuation) s = add_word(c, w, a, &r, i, i + 1, base, out);
    word = i + 1;
  }
  pare_arena_rewind(c->scratch, m);
  return s;
}

/* The special token that text begins with, or SPECIAL_COUNT. */
static int special_at(const PareWordpiece *w, const char *text, size_t n) {
  int i = 0;
  for (; i < SPECIAL_COUNT; i++) {
    size_t k = strlen(special_text[i]);
    if (w->special[i] >= 0 && n >= k && !memcmp(text, special_text[i], k)) break;
  }
  return i;
}

PareStatus pare_wordpiece_encode(PareCtx *c, const PareWordpiece *w, PareArena *a, const char *text, size_t n,
                                 PareTokens *out) {
  size_t start = 0;
  for (size_t i = 0; i < n; i++) {
    int k = text[i] == '[' ? special_at(w, text + i, n - i) : SPECIAL_COUNT;
    if (k == SPECIAL_COUNT) continue;
    PARE_TRY(encode_plain(c, w, a, text, start, i - start, out));
    PareToken t = {w->special[k], i, i + strlen(special_text[k])};
    if (!pare_vec_push(a, out, t)) return pare_nomem(c);
    start = t.to;
    i = start - 1;
  }
  return encode_plain(c, w, a, text, start, n - start, out);
}
