/* labels.c - labels of samples: integers, numbers, or names that are counted. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/reader.h"

static bool is_integer(const char *s, int64_t *out) {
  char *end;
  errno = 0;
  *out = strtoll(s, &end, 10);
  return !errno && end != s && !*end && !isspace((unsigned char)*s);
}

static bool is_number(const char *s, float *out) {
  char *end;
  *out = strtof(s, &end);
  return end != s && !*end && !isspace((unsigned char)*s);
}

static int64_t find_name(const PareTextReader *r, const char *name) {
  for (size_t i = 0; i < r->names.n; i++)
    if (!strcmp(r->names.at[i], name)) return (int64_t)i;
  return -1;
}

static PareStatus unknown_name(PareTextReader *r, const char *name) {
  char all[200];
  size_t k = 0;
  for (size_t i = 0; i < r->names.n && k < sizeof all; i++)
    k += (size_t)snprintf(all + k, sizeof all - k, "%s%s", i ? ", " : "", r->names.at[i]);
  return pare_line_error(r, "the label '%.60s' is none of %s: give --label-names", name, all);
}

PareStatus pare_text_note_label(PareTextReader *r, PareSpan label) {
  float number;
  if (!label.n) return pare_line_error(r, "the label is empty");
  const char *text = memchr(label.at, 0, label.n) ? NULL : pare_arena_strndup(r->work, label.at, label.n);
  if (!text && memchr(label.at, 0, label.n)) return pare_line_error(r, "the label holds a zero byte");
  if (!text || !pare_vec_push(r->work, &r->labels, text)) return pare_nomem(r->c);
  if (r->numbers && !is_number(text, &number)) return pare_line_error(r, "the label '%.60s' is not a number", text);
  return r->names.n && find_name(r, text) < 0 ? unknown_name(r, text) : PARE_OK;
}

/* ---- names that the file alone knows ---- */

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Fills r->names with the n texts, each once, in sorted order, `first` before all others; the log tells. */
static PareStatus sort_names(PareTextReader *r, size_t n, const char *const *text, const char *first) {
  const char **sorted = pare_arena_grow(r->work, text, n, n + 1, sizeof *sorted);
  if (!sorted) return pare_nomem(r->c);
  qsort(sorted, n, sizeof *sorted, by_text);
  for (int pass = 0; pass < 2; pass++)
    for (size_t i = 0; i < n; i++) {
      bool leads = first && !strcmp(sorted[i], first), again = i && !strcmp(sorted[i], sorted[i - 1]);
      if (again || leads != (pass == 0)) continue;
      pare_log(r->c, 0, "label %zu: %s", r->names.n, sorted[i]);
      if (!pare_vec_push(r->work, &r->names, sorted[i])) return pare_nomem(r->c);
    }
  return PARE_OK;
}

/* By a map: there may be as many names as samples. */
static PareStatus number_classes(PareTextReader *r, int64_t *out) {
  PareMap number = {.arena = r->work};
  if (!r->names.n) PARE_TRY(sort_names(r, r->labels.n, r->labels.at, NULL));
  for (size_t i = 0; i < r->names.n; i++)
    if (!pare_map_put(&number, r->names.at[i], (int64_t)i)) return pare_nomem(r->c);
  for (size_t i = 0; i < r->labels.n; i++) out[i] = pare_map_get(&number, r->labels.at[i]);
  return PARE_OK;
}

PareStatus pare_text_number_tags(PareTextReader *r, int64_t **class) {
  size_t n = r->seen.n;
  const char **tag = PARE_NEW_N(r->work, n + 1, const char *);
  *class = PARE_NEW_N(r->work, n + 1, int64_t);
  if (!tag || !*class) return pare_nomem(r->c);
  for (size_t i = 0; i < r->seen.cap; i++)
    if (r->seen.key[i]) tag[r->seen.val[i]] = r->seen.key[i];
  if (!r->names.n) PARE_TRY(sort_names(r, n, tag, "O"));
  for (size_t i = 0; i < n; i++) (*class)[i] = find_name(r, tag[i]);
  return PARE_OK;
}

PareStatus pare_text_add_labels(PareTextReader *r) {
  size_t n = r->labels.n;
  int64_t *ints = PARE_NEW_N(r->d->arena, n, int64_t);
  float *reals = PARE_NEW_N(r->d->arena, n, float);
  if (!ints || !reals) return pare_nomem(r->c);
  bool all_ints = !r->numbers && !r->names.n, all_reals = !r->names.n;
  for (size_t i = 0; i < n; i++) {
    all_ints = is_integer(r->labels.at[i], &ints[i]) && all_ints;
    all_reals = is_number(r->labels.at[i], &reals[i]) && all_reals;
  }
  PareType t = {all_ints || !all_reals ? PARE_I64 : PARE_F32, 1, {(int64_t)n}};
  if (!all_ints && !all_reals) PARE_TRY(number_classes(r, ints));
  return pare_data_add(r->c, r->d, "labels", &t, t.dtype == PARE_I64 ? (void *)ints : (void *)reals);
}
