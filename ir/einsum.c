/* einsum.c - reads and writes Einsum's equations. */
#include "ir/einsum.h"

#include <string.h>

enum { LETTERS = 52, ELLIPSIS = -1 };

static int letter(char ch) {
  if (ch >= 'A' && ch <= 'Z') return ch - 'A';
  if (ch >= 'a' && ch <= 'z') return ch - 'a' + 26;
  return -1;
}

/* A term up to a comma, an arrow or the end: letters and at most one ELLIPSIS. */
typedef struct Term {
  int n, item[PARE_MAX_RANK + 1];
  bool dots;
} Term;

static const char *read_term(const char **at, Term *t) {
  *t = (Term){.n = 0};
  for (; **at && **at != ',' && **at != '-'; ++*at) {
    if (**at == ' ') continue;
    int item = letter(**at);
    if (item < 0) {
      if (strncmp(*at, "...", 3) || t->dots) return "it has something that is no letter and no ellipsis";
      *at += 2;
      t->dots = true;
      item = ELLIPSIS;
    }
    if (t->n == PARE_MAX_RANK + 1) return "a term has more letters than pare has axes";
    t->item[t->n++] = item;
  }
  return NULL;
}

/* Gives label `l` the size of an axis. */
static bool fit(PareEinsum *e, int l, int64_t size) {
  if (!e->used[l] || e->size[l] == 1) e->size[l] = size;
  e->used[l] = true;
  return size == 1 || e->size[l] == size;
}

/* Labels of operand k; the axes under an ellipsis are numbered from the last. */
static const char *label_operand(PareEinsum *e, int k, const Term *t, const PareType *type, int *dots) {
  int under = type->rank - (t->n - t->dots);
  if (under < 0 || (under > 0 && !t->dots)) return "a term has not as many letters as its operand has axes";
  e->rank[k] = type->rank;
  if (t->dots && under > *dots) *dots = under;
  for (int i = 0, axis = 0; i < t->n; i++) {
    int count = t->item[i] == ELLIPSIS ? under : 1;
    for (int j = 0; j < count; j++, axis++) {
      int l = t->item[i] == ELLIPSIS ? LETTERS + under - 1 - j : t->item[i];
      e->label[k][axis] = l;
      if (!fit(e, l, type->dim[axis])) return "a letter stands for two sizes";
    }
  }
  return NULL;
}

static const char *push_out(PareEinsum *e, int l) {
  if (pare_einsum_axis(e, PARE_EINSUM_OUT, l) >= 0) return "the result names a letter twice";
  if (!e->used[l]) return "the result names a letter that no operand has";
  if (e->rank[PARE_EINSUM_OUT] == PARE_MAX_RANK) return "the result has more axes than pare supports";
  e->label[PARE_EINSUM_OUT][e->rank[PARE_EINSUM_OUT]++] = l;
  return NULL;
}

static const char *label_result(PareEinsum *e, const Term *t, int dots) {
  const char *why = NULL;
  for (int i = 0; i < t->n && !why; i++) {
    if (t->item[i] != ELLIPSIS) why = push_out(e, t->item[i]);
    for (int j = dots - 1; t->item[i] == ELLIPSIS && j >= 0 && !why; j--) why = push_out(e, LETTERS + j);
  }
  return why;
}

/* Without an arrow: what stands under ellipses, then the letters that occur once, in their order. */
static const char *label_implicit(PareEinsum *e, int dots) {
  int times[LETTERS] = {0};
  const char *why = NULL;
  for (int k = 0; k < e->nin; k++)
    for (int a = 0; a < e->rank[k]; a++)
      if (e->label[k][a] < LETTERS) times[e->label[k][a]]++;
  for (int j = dots - 1; j >= 0 && !why; j--) why = push_out(e, LETTERS + j);
  for (int l = 0; l < LETTERS && !why; l++)
    if (times[l] == 1) why = push_out(e, l);
  return why;
}

const char *pare_einsum_parse(const char *equation, int nin, const PareType *const *in, PareEinsum *out) {
  const char *at = equation, *why;
  int dots = 0;
  *out = (PareEinsum){.nin = nin};
  for (int k = 0; k < nin; k++) {
    Term t;
    if ((why = read_term(&at, &t)) || (why = label_operand(out, k, &t, in[k], &dots))) return why;
    if (k < nin - 1 && *at++ != ',') return "it has fewer terms than there are operands";
  }
  if (*at == ',') return "it has more terms than there are operands";
  if (!*at) return label_implicit(out, dots);
  if (strncmp(at, "->", 2)) return "what is between operands and result is no arrow";
  at += 2;
  Term t;
  if ((why = read_term(&at, &t))) return why;
  return *at ? "something stands behind the result" : label_result(out, &t, dots);
}

int pare_einsum_axis(const PareEinsum *e, int k, int label) {
  for (int a = 0; a < e->rank[k]; a++)
    if (e->label[k][a] == label) return a;
  return -1;
}

/* Labels under an ellipsis take letters that are not used; there are at most 24 axes. */
static char name_of(const PareEinsum *e, int l) {
  int skip = l - LETTERS;
  if (l < LETTERS) return (char)(l < 26 ? 'A' + l : 'a' + l - 26);
  for (int i = 0; i < LETTERS; i++)
    if (!e->used[i] && skip-- == 0) return (char)(i < 26 ? 'A' + i : 'a' + i - 26);
  return '?';
}

void pare_einsum_text(const PareEinsum *e, int a, int b, int n, const int *target, char out[PARE_EINSUM_TEXT]) {
  for (int i = 0; i < e->rank[a]; i++) *out++ = name_of(e, e->label[a][i]);
  if (b >= 0) *out++ = ',';
  for (int i = 0; b >= 0 && i < e->rank[b]; i++) *out++ = name_of(e, e->label[b][i]);
  *out++ = '-', *out++ = '>';
  for (int i = 0; i < n; i++) *out++ = name_of(e, target[i]);
  *out = 0;
}
