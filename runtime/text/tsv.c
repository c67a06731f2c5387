/* tsv.c - a sample a line, columns parted by tabs; nothing is unquoted. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/reader.h"

enum { COLUMNS_MAX = 4096 };
typedef PARE_VEC(PareSpan) Fields;

typedef struct Table {
  PareTextReader *r;
  Fields f;
  int column[PARE_ROLES]; /* -1: none */
  int64_t short_rows;
} Table;

static PareStatus split_line(Table *t, PareSpan line) {
  t->f.n = 0;
  for (const char *at = line.at, *end = line.at + line.n;; at++) {
    const char *tab = memchr(at, '\t', (size_t)(end - at));
    PareSpan field = {at, (size_t)((tab ? tab : end) - at)};
    if (t->f.n == COLUMNS_MAX) return pare_line_error(t->r, "more than %d columns", COLUMNS_MAX);
    if (!pare_vec_push(t->r->work, &t->f, field)) return pare_nomem(t->r->c);
    if (!tab) return PARE_OK;
    at = tab;
  }
}

static int find_field(const Table *t, const char *name) {
  for (size_t i = 0; i < t->f.n; i++)
    if (t->f.at[i].n == strlen(name) && !memcmp(t->f.at[i].at, name, t->f.at[i].n)) return (int)i;
  return -1;
}

int pare_text_column(const char *s) {
  char *end;
  errno = 0;
  long v = isdigit((unsigned char)*s) ? strtol(s, &end, 10) : 0;
  return v >= 1 && !errno && !*end && v <= COLUMNS_MAX ? (int)v - 1 : -1;
}

static int find_role(const Table *t, int role) {
  const char *name = pare_text_wanted(t->r, role);
  if (name) return find_field(t, name);
  int found = -1;
  for (int i = 0; found < 0 && !t->r->task && pare_text_usual[role][i]; i++)
    found = find_field(t, pare_text_usual[role][i]);
  return found;
}

static bool looks_like_header(const Table *t) {
  const PareTextTask *task = t->r->task;
  if (t->r->opt->header != PARE_HEADER_AUTO) return t->r->opt->header == PARE_HEADER_YES;
  if (task && *task->bare[PARE_TEXT]) return find_field(t, task->role[PARE_TEXT]) >= 0;
  for (int role = 0; role < PARE_ROLES; role++) {
    const char *name = pare_text_wanted(t->r, role);
    if (name && pare_text_column(name) < 0) return true; /* columns are asked for by name */
    for (int i = 0; pare_text_usual[role][i]; i++)
      if (find_field(t, pare_text_usual[role][i]) >= 0) return true;
  }
  return false;
}

static PareStatus no_column(const Table *t, int role) {
  char have[200];
  size_t k = 0;
  have[0] = 0;
  for (size_t i = 0; i < t->f.n && k < sizeof have; i++)
    k += (size_t)snprintf(have + k, sizeof have - k, "%s%.*s", i ? ", " : "",
                          (int)(t->f.at[i].n < 60 ? t->f.at[i].n : 60), t->f.at[i].at);
  const char *name = pare_text_wanted(t->r, role);
  if (!name)
    return pare_line_error(t->r, "no column is called sentence, text or sentence1: name the %s column; there are: %s",
                           pare_text_role[role], have);
  return pare_line_error(t->r, "there is no %s column '%s'; there are: %s", pare_text_role[role], name, have);
}

/* A role's column in the first row; -1: it has none. */
static int column_of(const Table *t, int role, bool header) {
  const char *asked = role == PARE_TEXT ? t->r->opt->text : role == PARE_PAIR ? t->r->opt->pair : t->r->opt->label;
  int number = asked ? pare_text_column(asked) : -1;
  if (number >= 0) return number;
  if (header) return find_role(t, role);
  if (asked) return -1;
  if (t->r->task) return pare_text_column(t->r->task->bare[role]);
  return role == PARE_TEXT ? 0 : role == PARE_LABEL && t->f.n == 2 ? 1 : -1;
}

/* Settles the columns by the first row. A known task's test set has no labels. */
static PareStatus find_columns(Table *t, bool header) {
  PareTextReader *r = t->r;
  for (int role = 0; role < PARE_ROLES; role++) {
    bool asked = role == PARE_TEXT || (role == PARE_PAIR ? pare_text_wanted(r, role) != NULL : r->opt->label != NULL);
    t->column[role] = column_of(t, role, header);
    if ((asked && t->column[role] < 0) || t->column[role] >= (int)t->f.n) return no_column(t, role);
  }
  r->has_pair = t->column[PARE_PAIR] >= 0;
  r->has_label = t->column[PARE_LABEL] >= 0;
  return PARE_OK;
}

static PareStatus add_row(Table *t) {
  PareTextRow row = {0};
  for (int role = 0; role < PARE_ROLES; role++) {
    int col = t->column[role];
    if (col >= (int)t->f.n && t->r->task && t->r->task->skip_short) return t->short_rows++, PARE_OK;
    if (col >= (int)t->f.n)
      return pare_line_error(t->r, "%zu column%s, but the %s is in column %d", t->f.n, t->f.n == 1 ? "" : "s",
                             pare_text_role[role], col + 1);
    if (col >= 0) row.role[role] = t->f.at[col];
  }
  return pare_text_add(t->r, &row);
}

static PareStatus add_line(Table *t, PareSpan line, bool *first) {
  PARE_TRY(split_line(t, line));
  if (!*first) return add_row(t);
  *first = false;
  bool header = looks_like_header(t);
  PARE_TRY(find_columns(t, header));
  return header ? PARE_OK : add_row(t);
}

PareStatus pare_text_tsv(PareTextReader *r, const PareFile *f) {
  Table t = {.r = r};
  const char *at = (const char *)f->data, *end = at + f->len;
  bool first = true;
  for (PareSpan line; pare_text_line(r, &at, end, &line);)
    if (!pare_text_is_blank(line)) PARE_TRY(add_line(&t, line, &first));
  if (t.short_rows) pare_log(r->c, 0, "%" PRId64 " lines with too few columns are passed over", t.short_rows);
  return PARE_OK;
}
