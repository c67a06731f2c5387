/* reader.h - what readers of text files share: they add samples, text.c makes arrays of them. */
#ifndef PARE_RUNTIME_TEXT_READER_H
#define PARE_RUNTIME_TEXT_READER_H

#include "base/file.h"
#include "base/map.h"
#include "runtime/text.h"
#include "runtime/tokenizer.h"

typedef struct PareSpan {
  const char *at; /* NULL: missing */
  size_t n;
} PareSpan;

enum { PARE_TEXT, PARE_PAIR, PARE_LABEL, PARE_ROLES };

typedef struct PareTextRow {
  PareSpan role[PARE_ROLES];
} PareTextRow;

typedef struct PareTextSample {
  size_t first1, n1, first2, n2; /* tokens of text and pair, in PareTextReader.tokens */
  size_t first, last;            /* spans: the answer's, in the same list; last < first: it does not count */
  bool no_answer;                /* spans: there is none to be found */
} PareTextSample;

typedef struct PareTextReader PareTextReader;
typedef PareStatus PareTextForm(PareTextReader *r, const PareFile *f);

/* A row of tasks.def. */
typedef struct PareTextTask {
  const char *name;
  PareTextForm *read;
  const char *role[PARE_ROLES], *bare[PARE_ROLES];
  const char *classes;
  bool skip_short;
} PareTextTask;

struct PareTextReader {
  PareCtx *c;
  PareData *d;
  const PareTextOptions *opt;
  const PareTextTask *task; /* NULL: none was named */
  int64_t line;
  bool has_pair, has_label;
  bool by_token, by_span; /* labels are tokens' tags, or places */
  bool numbers;           /* labels are numbers, whatever they look like */
  PareTokenizer tokenizer;
  PareArena *work; /* what is needed until the arrays are made */
  PareTokens tokens;
  PARE_VEC(PareTextSample) samples;
  PARE_VEC(const char *) names;  /* of classes, in their order; empty: they come from the file */
  PARE_VEC(const char *) labels; /* by sample, as text */
  PARE_VEC(int64_t) tags;        /* by token: number in `seen`, -1: it has none */
  PareMap seen;                  /* tags, in the order that they were met in */
};

PareTextForm pare_text_tsv, pare_text_jsonl, pare_text_conll, pare_text_squad;

/* A failure at r->line. */
#define pare_line_error(r, ...) pare_line_error_at((r), __LINE__, __VA_ARGS__)
__attribute__((format(printf, 3, 4)))
PareStatus pare_line_error_at(PareTextReader *r, int src_line, const char *fmt, ...);

/* The name that the options or the task give a role; NULL: none. */
const char *pare_text_wanted(const PareTextReader *r, int role);
/* Names that are looked for where there is none; the list ends in NULL. */
extern const char *const pare_text_usual[PARE_ROLES][4];
extern const char *const pare_text_role[PARE_ROLES];

/* Takes the next line from *at on, without its end; r->line counts. False at the end. */
bool pare_text_line(PareTextReader *r, const char **at, const char *end, PareSpan *line);
bool pare_text_is_blank(PareSpan s);
/* The number of a column that is counted from 1, less one; -1 when `s` is a name. */
int pare_text_column(const char *s);

/* Appends the tokens of a text. PARE_DATA where it is not UTF-8. */
PARE_MUST_USE PareStatus pare_text_encode(PareTextReader *r, PareSpan s, bool word);
/* A sample of a row: tokens of the text and, with has_pair, of the pair; with has_label the label. */
PARE_MUST_USE PareStatus pare_text_add(PareTextReader *r, const PareTextRow *row);

/* labels.c: notes a sample's label, whose text is checked against the names; and makes the array. */
PARE_MUST_USE PareStatus pare_text_note_label(PareTextReader *r, PareSpan label);
PARE_MUST_USE PareStatus pare_text_add_labels(PareTextReader *r);
/* The class of each of r->seen by the names, or 0 for "O" and the others in sorted order, which the log tells. */
PARE_MUST_USE PareStatus pare_text_number_tags(PareTextReader *r, int64_t **class);

#endif
