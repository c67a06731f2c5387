#include "runtime/bpe.h"

#include <string.h>
#include <utf8proc.h>

#include "base/map.h"

enum { BYTES = 256 };

/* Two ids that stand side by side, what they become, and how early. */
typedef struct Pair {
  int64_t left, right, made; /* left -1: an empty place of the table */
  size_t rank;
} Pair;

struct PareBpe {
  PareMap ids;
  int64_t of_byte[BYTES]; /* -1: not in the vocabulary */
  Pair *pair;             /* open addressing */
  size_t npairs;          /* a power of two */
  const PareAddedToken *added;
  size_t nadded;
  bool prefix_space;
};

/* ---- making one ---- */

/* GPT-2's bytes_to_unicode: printable bytes are themselves, the others U+0100 and on, in their order. */
static bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static void number_bytes(PareBpe *b) {
  int others = 0;
  for (int byte = 0; byte < BYTES; byte++) {
    char text[5] = {0};
    utf8proc_encode_char(is_printable(byte) ? byte : BYTES + others++, (uint8_t *)text);
    b->of_byte[byte] = pare_map_get(&b->ids, text);
  }
}

static size_t pair_place(const PareBpe *b, int64_t left, int64_t right) {
  uint64_t h = (uint64_t)left * 0x9e3779b97f4a7c15u ^ ((uint64_t)right + 0x7f4a7c15u) * 0xc2b2ae3d27d4eb4fu;
  size_t i = (size_t)(h ^ h >> 29) & (b->npairs - 1);
  while (b->pair[i].left >= 0 && (b->pair[i].left != left || b->pair[i].right != right)) i = (i + 1) & (b->npairs - 1);
  return i;
}

static const Pair *find_pair(const PareBpe *b, int64_t left, int64_t right) {
  const Pair *p = &b->pair[pair_place(b, left, right)];
  return p->left >= 0 ? p : NULL;
}

static PareStatus merge_error(PareCtx *c, const char *file, int64_t line, size_t merge, const char *token) {
  char where[40] = "";
  if (line) snprintf(where, sizeof where, "line %lld: ", (long long)(line + (int64_t)merge));
  return pare_diag_set(&c->diag, PARE_FORMAT, file, NULL, NULL, __FILE__, __LINE__,
                       "%smerge %zu makes or reads the token '%.60s', which is not in the vocabulary: take the merges "
                       "that belong to it", where, merge + 1, token);
}

static PareStatus add_merges(PareCtx *c, PareBpe *b, const PareBpeParts *p, const char *file, int64_t line) {
  for (size_t i = 0; i < p->nmerges; i++) {
    const PareMerge *m = &p->merges[i];
    PareMark mark = pare_arena_mark(c->scratch);
    const char *made = pare_arena_printf(c->scratch, "%s%s", m->left, m->right);
    if (!made) return pare_nomem(c);
    const char *part[] = {m->left, m->right, made};
    int64_t id[3];
    for (int k = 0; k < 3; k++)
      if ((id[k] = pare_map_get(&b->ids, part[k])) < 0) return merge_error(c, file, line, i, part[k]);
    b->pair[pair_place(b, id[0], id[1])] = (Pair){id[0], id[1], id[2], i}; /* of equal ones the last counts */
    pare_arena_rewind(c->scratch, mark);
  }
  return PARE_OK;
}

PareStatus pare_bpe_make(PareCtx *c, PareArena *a, const PareBpeParts *p, const char *file, int64_t line,
                         PareBpe **out) {
  PareBpe *b = PARE_NEW(a, PareBpe);
  if (!b) return pare_nomem(c);
  *b = (PareBpe){.ids.arena = a, .npairs = 16, .added = p->added, .nadded = p->nadded, .prefix_space = p->prefix_space};
  for (size_t i = 0; i < p->nvocab; i++)
    if (!pare_map_put(&b->ids, p->vocab[i].token, p->vocab[i].id)) return pare_nomem(c);
  while (b->npairs < 2 * p->nmerges) b->npairs *= 2;
  if (!(b->pair = PARE_NEW_N(a, b->npairs, Pair))) return pare_nomem(c);
  for (size_t i = 0; i < b->npairs; i++) b->pair[i].left = -1;
  number_bytes(b);
  *out = b;
  return add_merges(c, b, p, file, line);
}

int64_t pare_bpe_id(const PareBpe *b, const char *token) { return pare_map_get(&b->ids, token); }

/* ---- one word: the earliest pair first, of equal ones the leftmost ---- */

typedef struct Symbol {
  int64_t id; /* -1: gone into the one before it */
  size_t from, to;
  int64_t before, behind; /* -1: none */
} Symbol;

typedef struct Candidate {
  size_t rank;
  int64_t at, made;
} Candidate;

typedef struct Word {
  const PareBpe *b;
  PareArena *a;
  PARE_VEC(Symbol) symbols;
  PARE_VEC(Candidate) heap;
} Word;

static bool earlier(const Candidate *x, const Candidate *y) {
  return x->rank != y->rank ? x->rank < y->rank : x->at < y->at;
}

static bool heap_push(Word *w, Candidate x) {
  if (!pare_vec_push(w->a, &w->heap, x)) return false;
  size_t i = w->heap.n - 1;
  for (; i && earlier(&x, &w->heap.at[(i - 1) / 2]); i = (i - 1) / 2) w->heap.at[i] = w->heap.at[(i - 1) / 2];
  w->heap.at[i] = x;
  return true;
}

static Candidate heap_pop(Word *w) {
  Candidate top = w->heap.at[0], last = w->heap.at[--w->heap.n];
  size_t i = 0;
  for (size_t k; (k = 2 * i + 1) < w->heap.n; i = k) {
    if (k + 1 < w->heap.n && earlier(&w->heap.at[k + 1], &w->heap.at[k])) k++;
    if (!earlier(&w->heap.at[k], &last)) break;
    w->heap.at[i] = w->heap.at[k];
  }
  if (w->heap.n) w->heap.at[i] = last;
  return top;
}

/* The pair of symbol `at` and the one behind it, if the list has it. */
static bool consider(Word *w, int64_t at) {
  if (at < 0 || w->symbols.at[at].behind < 0) return true;
  const Pair *p = find_pair(w->b, w->symbols.at[at].id, w->symbols.at[w->symbols.at[at].behind].id);
  return !p || heap_push(w, (Candidate){p->rank, at, p->made});
}

static bool merge(Word *w, Candidate x) {
  Symbol *s = &w->symbols.at[x.at];
  if (s->id < 0 || s->behind < 0) return true;
  Symbol *next = &w->symbols.at[s->behind];
  const Pair *p = find_pair(w->b, s->id, next->id);
  if (!p || p->made != x.made) return true; /* what stood there has been merged otherwise */
  s->id = x.made;
  s->to = next->to;
  next->id = -1;
  s->behind = next->behind;
  if (s->behind >= 0) w->symbols.at[s->behind].before = x.at;
  return consider(w, s->before) && consider(w, x.at);
}

static bool merge_word(Word *w) {
  w->heap.n = 0;
  for (int64_t i = 0; i < (int64_t)w->symbols.n; i++)
    if (!consider(w, i)) return false;
  while (w->heap.n)
    if (!merge(w, heap_pop(w))) return false;
  return true;
}

static bool add_byte(Word *w, uint8_t byte, size_t from, size_t to) {
  int64_t id = w->b->of_byte[byte], at = (int64_t)w->symbols.n;
  if (id < 0) return true;
  if (at) w->symbols.at[at - 1].behind = at;
  return pare_vec_push(w->a, &w->symbols, ((Symbol){id, from, to, at - 1, -1}));
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
    w->symbols.n = 0;
    for (size_t k = i; k < end; k++) {
      size_t at = k < shift ? base : base + k - shift;
      if (!add_byte(w, (uint8_t)text[k], at, k < shift ? at : at + 1)) return pare_nomem(c);
    }
    if (!merge_word(w)) return pare_nomem(c);
    for (int64_t s = w->symbols.n ? 0 : -1; s >= 0; s = w->symbols.at[s].behind) {
      PareToken t = {w->symbols.at[s].id, w->symbols.at[s].from, w->symbols.at[s].to};
      if (!pare_vec_push(a, out, t)) return pare_nomem(c);
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
  Word w = {.b = b, .a = c->scratch};
  PareStatus s = encode(c, &w, a, text, n, word || b->prefix_space, out);
  pare_arena_rewind(c->scratch, m);
  return s;
}
