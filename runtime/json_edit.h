/* json_edit.h - a JSON text with less in it: what jansson has parsed is walked beside the text that it was parsed from,
 * and all that no edit touches is copied as it stands: order, white space, the spelling of numbers and strings. */
#ifndef PARE_RUNTIME_JSON_EDIT_H
#define PARE_RUNTIME_JSON_EDIT_H

#include <jansson.h>
#include <stdint.h>

#include "base/ctx.h"

/* A value and where it stands in the text. */
typedef struct PareJson {
  const json_t *value;
  const char *at, *end;
} PareJson;

/* n bytes of which jansson has made `root`, without JSON_DISABLE_EOF_CHECK and with JSON_REJECT_DUPLICATES. */
PareJson pare_json_root(const json_t *root, const char *text, size_t n);

/* An element of an array or a member of an object, key included. */
typedef struct PareJsonItem {
  const char *key; /* NULL: of an array */
  const char *at;
  PareJson v;
} PareJsonItem;

typedef struct PareJsonWalk {
  const json_t *of;
  const char *at;
  size_t index;
  void *member;
} PareJsonWalk;

/* All items of an array or object in their order; of another value none. */
PareJsonWalk pare_json_walk(const PareJson *of);
bool pare_json_next(PareJsonWalk *w, PareJsonItem *out);
/* The member of that key; false when there is none. */
bool pare_json_member(const PareJson *of, const char *key, PareJson *out);

/* The new text. Edits are made in the order of the old one and do not make it longer. */
typedef struct PareJsonEdit {
  const char *from; /* the old text up to here is done with */
  char *out;
  size_t n;
} PareJsonEdit;

/* Room for what becomes of n bytes; false when memory is out. Lives in a. */
PARE_MUST_USE bool pare_json_edit(PareArena *a, const char *text, size_t n, PareJsonEdit *out);
/* The old text up to p is copied. */
void pare_json_edit_copy(PareJsonEdit *e, const char *p);
/* An integer in the place of one that is not smaller and not negative. */
void pare_json_edit_number(PareJsonEdit *e, const PareJson *old, int64_t v);

/* An array or object of which some items go, with the separator of each. Every item is told, in order, before what is
 * edited in it; those that go are not edited. */
typedef struct PareJsonSift {
  PareJsonEdit *e;
  const char *last; /* end of the item before; NULL: there was none */
  bool kept, any;   /* it stays; so does any */
} PareJsonSift;

void pare_json_sift(PareJsonSift *s, const PareJsonItem *i, bool stays);
void pare_json_sifted(PareJsonSift *s);

#endif
