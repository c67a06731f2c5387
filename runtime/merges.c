#include "runtime/merges.h"

/* Two ids that stand side by side, what they become, and how early. */
typedef struct Pair {
  int64_t left, right, made; /* left -1: an empty place of the table */
  size_t rank;
} Pair;

struct PareMerges {
  Pair *pair;    /* open addressing */
  size_t npairs; /* a power of two */
};

static size_t pair_place(const PareMerges *m, int64_t left, int64_t right) {
  uint64_t h = (uint64_t)left * 0x9e3779b97f4a7c15u ^ ((uint64_t)right + 0x7f4a7c15u) * 0xc2b2ae3d27d4eb4fu;
  size_t i = (size_t)(h ^ h >> 29) & (m->npairs - 1);
  while (m->pair[i].left >= 0 && (m->pair[i].left != left || m->pair[i].right != right)) i = (i + 1) & (m->npairs - 1);
  return i;
}

static const Pair *find_pair(const PareMerges *m, int64_t left, int64_t right) {
  const Pair *p = &m->pair[pair_place(m, left, right)];
  return p->left >= 0 ? p : NULL;
}

PareMerges *pare_merges_new(PareArena *a, size_t n, const PareMergeIds *list) {
  PareMerges *m = PARE_NEW(a, PareMerges);
  if (!m) return NULL;
  m->npairs = 16;
  while (m->npairs < 2 * n) m->npairs *= 2;
  if (!(m->pair = PARE_NEW_N(a, m->npairs, Pair))) return NULL;
  for (size_t i = 0; i < m->npairs; i++) m->pair[i].left = -1;
  for (size_t i = 0; i < n; i++)
    m->pair[pair_place(m, list[i].left, list[i].right)] = (Pair){list[i].left, list[i].right, list[i].made, i};
  return m;
}

static bool earlier(const PareMergeCandidate *x, const PareMergeCandidate *y) {
  return x->rank != y->rank ? x->rank < y->rank : x->at < y->at;
}

static bool heap_push(PareMergeWord *w, PareMergeCandidate x) {
  if (!pare_vec_push(w->a, &w->heap, x)) return false;
  size_t i = w->heap.n - 1;
  for (; i && earlier(&x, &w->heap.at[(i - 1) / 2]); i = (i - 1) / 2) w->heap.at[i] = w->heap.at[(i - 1) / 2];
  w->heap.at[i] = x;
  return true;
}

static PareMergeCandidate heap_pop(PareMergeWord *w) {
  PareMergeCandidate top = w->heap.at[0], last = w->heap.at[--w->heap.n];
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
static bool consider(PareMergeWord *w, int64_t at) {
  if (at < 0 || w->symbols.at[at].behind < 0) return true;
  const Pair *p = find_pair(w->merges, w->symbols.at[at].id, w->symbols.at[w->symbols.at[at].behind].id);
  return !p || heap_push(w, (PareMergeCandidate){p->rank, at, p->made});
}

static bool merge(PareMergeWord *w, PareMergeCandidate x) {
  PareSymbol *s = &w->symbols.at[x.at];
  if (s->id < 0 || s->behind < 0) return true;
  PareSymbol *next = &w->symbols.at[s->behind];
  const Pair *p = find_pair(w->merges, s->id, next->id);
  if (!p || p->made != x.made) return true; /* what stood there has been merged otherwise */
  s->id = x.made;
  s->to = next->to;
  next->id = -1;
  s->behind = next->behind;
  if (s->behind >= 0) w->symbols.at[s->behind].before = x.at;
  if (w->keep_made && !pare_vec_push(w->a, &w->made, x.made)) return false;
  return consider(w, s->before) && consider(w, x.at);
}

void pare_merge_begin(PareMergeWord *w) { w->symbols.n = w->made.n = 0; }

bool pare_merge_add(PareMergeWord *w, int64_t id, size_t from, size_t to) {
  int64_t at = (int64_t)w->symbols.n;
  if (at) w->symbols.at[at - 1].behind = at;
  return pare_vec_push(w->a, &w->symbols, ((PareSymbol){id, from, to, at - 1, -1}));
}

bool pare_merge_run(PareMergeWord *w) {
  w->heap.n = 0;
  for (int64_t i = 0; i < (int64_t)w->symbols.n; i++)
    if (!consider(w, i)) return false;
  while (w->heap.n)
    if (!merge(w, heap_pop(w))) return false;
  return true;
}
