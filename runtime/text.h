/* text.h - sentences from files of text as the inputs of a model: input_ids, attention_mask and token_type_ids, i64
 * [N, L], and labels. */
#ifndef PARE_RUNTIME_TEXT_H
#define PARE_RUNTIME_TEXT_H

#include "runtime/data.h"

typedef enum PareTextHeader {
  PARE_HEADER_AUTO, /* a first row that holds a name of a wanted column is one */
  PARE_HEADER_YES,
  PARE_HEADER_NO
} PareTextHeader;

/* Zero means default. A column is a name (of the header row, of a JSON key) or,
 * in a .tsv, a number that counts from 1. */
typedef struct PareTextOptions {
  const char *vocab;  /* vocab.txt, vocab.json or tokenizer.json; required */
  const char *merges; /* of a vocab.json; merges.txt beside it */
  bool keep_case;     /* vocab.txt: for cased models: no lower-casing, accents stay */
  int64_t max_length; /* tokens, special ones included; 128 */
  bool pad_to_max;    /* L is max_length, else the longest sample's */
  const char *text;   /* "sentence", "text" or "sentence1"; without a header column 1 */
  const char *pair;   /* "sentence2" where there is one */
  const char *label;  /* "label" where there is one; without a header column 2 of a .tsv with just two */
  const char *task;   /* a row of text/tasks.def: the columns and classes of a known task, CoNLL's or SQuAD's form */
  const char *label_names; /* classes in their order: "no,yes" */
  PareTextHeader header;
} PareTextOptions;

/* One sample a line; empty lines are skipped, nothing is unquoted. Labels are
 * integers (i64), numbers (f32), or else classes counted in the order of label_names or, without these, of sorting,
 * which the log tells; "labels" is missing when no label column is there. Of the task ner: i64 [N, L], a word's class at its
 * first token and -100 elsewhere; of squad: i64 [N, 2], the answer's first and last token, -100 where it was cut off.
 * Errors name the file and line. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_text_read(PareCtx *c, const char *path, const PareTextOptions *opt, PareData **out);

#endif
