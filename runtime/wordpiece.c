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

static PareStatus read_vocab(PareCtx *c, PareArena *a, const char *path, const PareFile *f, PareWordpiece *w) {
  const char *at = (const char *)f->data, *end = at + f->len;
  for (int64_t id = 0; at < end; id++) {
    const char *eol = memchr(at, '\n', (size_t)(end - at));
    size_t n = (size_t)((eol ? eol : end) - at);
    const char *next = eol ? eol + 1 : end;
    if (memchr(at, 0, n)) return vocab_error(c, path, "line %lld holds a zero byte", (long long)id + 1);
    while (n && (at[n - 1] == '\r' || at[n - 1] == ' ' || at[n - 1] == '\t')) n--;
    char *token = pare_arena_strndup(a, at, n);
    if (!token || !pare_map_put(&w->ids, token, id)) return pare_nomem(c);
    if (n > w->longest) w->longest = n;
    at = next;
  }
  for (int i = 0; i < SPECIAL_COUNT; i++) {
    w->special[i] = pare_map_get(&w->ids, special_text[i]);
    if (w->special[i] < 0 && i != SPECIAL_MASK)
      return vocab_error(c, path, "not a WordPiece vocabulary: the token %s is missing", special_text[i]);
  }
  return PARE_OK;
}

PareStatus pare_wordpiece_load(PareCtx *c, PareArena *a, const char *vocab, bool lower_case, PareWordpiece **out) {
  PareFile f = {0};
  PareWordpiece *w = PARE_NEW(a, PareWordpiece);
  if (!w) return pare_nomem(c);
  w->ids.arena = a;
  w->lower_case = lower_case;
  PARE_TRY(pare_file_map(c, vocab, &f));
  PareStatus s = read_vocab(c, a, vocab, &f, w);
  pare_file_unmap(&f);
  *out = w;
  return s;
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

/* Clean text, spaces around ideographs: n bytes into out, which has room for
 * 3n + 1. Returns the bytes written. */
static size_t clean(const char *text, size_t n, uint8_t *out) {
  size_t len = 0;
  for (size_t i = 0; i < n;) {
    Rune r;
    utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &r);
    if (k < 1) k = 1, r = 0xfffd;
    i += (size_t)k;
    if (is_removed(r)) continue;
    bool alone = is_ideograph(r);
    if (alone) out[len++] = ' ';
    len += (size_t)utf8proc_encode_char(is_space(r) ? ' ' : r, out + len);
    if (alone) out[len++] = ' ';
  }
  return len;
}

/* NFD without non-spacing marks, lower case; in place. Returns the new count. */
static size_t fold(Rune *at, size_t n) {
  size_t kept = 0;
  for (size_t i = 0; i < n; i++)
    if (utf8proc_category(at[i]) != UTF8PROC_CATEGORY_MN) at[kept++] = utf8proc_tolower(at[i]);
  return kept;
}

/* The cleaned runes of n bytes of text, in c->scratch. */
static PareStatus normalize(PareCtx *c, const PareWordpiece *w, const char *text, size_t n, Rune **out,
                            size_t *count) {
  if (n > SIZE_MAX / 4 - 1) return pare_nomem(c);
  uint8_t *buf = PARE_NEW_N(c->scratch, 3 * n + 1, uint8_t);
  if (!buf) return pare_nomem(c);
  utf8proc_ssize_t len = (utf8proc_ssize_t)clean(text, n, buf);
  utf8proc_option_t opt = w->lower_case ? UTF8PROC_DECOMPOSE | UTF8PROC_STABLE : UTF8PROC_STABLE;
  utf8proc_ssize_t room = utf8proc_decompose(buf, len, NULL, 0, opt);
  *out = room < 0 ? NULL : PARE_NEW_N(c->scratch, room + 1, Rune);
  if (!*out) return pare_nomem(c);
  *count = (size_t)utf8proc_decompose(buf, len, *out, room, opt);
  if (w->lower_case) *count = fold(*out, *count);
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

/* Appends the pieces of one word, or [UNK] when any part has none. */
static PareStatus add_word(PareCtx *c, const PareWordpiece *w, PareArena *a, const Rune *word, size_t n,
                           PareIds *ids) {
  char key[2 + 4 * WORD_CHARS_MAX + 1] = {0};
  size_t len = 0, first = ids->n;
  for (size_t i = 0; i < n && n <= WORD_CHARS_MAX; i++)
    len += (size_t)utf8proc_encode_char(word[i], (uint8_t *)key + 2 + len);
  for (size_t at = 0; at < len;) {
    int64_t id;
    size_t to = longest_piece(w, key, at, len, &id);
    if (!to) {
      len = 0;
      break;
    }
    if (!pare_vec_push(a, ids, id)) return pare_nomem(c);
    at = to;
  }
  if (len) return PARE_OK;
  ids->n = first;
  return pare_vec_push(a, ids, w->special[SPECIAL_UNK]) ? PARE_OK : pare_nomem(c);
}

/* Text without special tokens: words end at spaces, punctuation is a word each. */
static PareStatus encode_plain(PareCtx *c, const PareWordpiece *w, PareArena *a, const char *text, size_t n,
                               PareIds *ids) {
  Rune *at = NULL;
  size_t count = 0, word = 0;
  PareMark m = pare_arena_mark(c->scratch);
  PareStatus s = normalize(c, w, text, n, &at, &count);
  for (size_t i = 0; s == PARE_OK && i <= count; i++) {
    bool end = i == count, punctuation = !end && is_punctuation(at[i]);
    if (!end && !punctuation && !is_space(at[i])) continue;
    if (i > word) s = add_word(c, w, a, at + word, i - word, ids);
    if (s == PARE_OK && punctuation) s = add_word(c, w, a, at + i, 1, ids);
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
                                 PareIds *ids) {
  size_t start = 0;
  for (size_t i = 0; i < n; i++) {
    int k = text[i] == '[' ? special_at(w, text + i, n - i) : SPECIAL_COUNT;
    if (k == SPECIAL_COUNT) continue;
    PARE_TRY(encode_plain(c, w, a, text + start, i - start, ids));
    if (!pare_vec_push(a, ids, w->special[k])) return pare_nomem(c);
    start = i + strlen(special_text[k]);
    i = start - 1;
  }
  return encode_plain(c, w, a, text + start, n - start, ids);
}

void pare_wordpiece_truncate(size_t room, size_t *n1, size_t *n2) {
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
