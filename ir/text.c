/* text.c - prints and parses the textual form of the IR. Attributes and element
 * types come from their tables; docs/ir.md has the grammar. */
#include "ir/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/num.h"
#include "base/rng.h"

enum {
  MAX_NUMBERS = 64,  /* longer constants are printed as zeros, fill or hash */
  MAX_TOKEN = 64,    /* of a number */
  MAX_BYTES = 1 << 28 /* of a constant that is made from text */
};

typedef enum AttrKind { KIND_INT, KIND_FLOAT, KIND_INTS, KIND_DTYPE, KIND_WORD, KIND_TEXT } AttrKind;

static const struct {
  const char *name;
  AttrKind kind;
  const char *words; /* separated by one space */
  size_t offset;
} attr_info[PARE_ATTR_COUNT] = {
#define ATTR(name, kind, words) {#name, KIND_##kind, words, offsetof(PareAttrs, name)},
#include "ir/attrs.def"
#undef ATTR
};

static bool is_word_char(char ch) {
  return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
         (ch && strchr("_./:-", ch));
}

/* --- printing --- */

typedef struct Printer {
  FILE *f;
  const char **label; /* by value id: the name, made unique */
} Printer;

static void print_quoted(FILE *f, const char *s) {
  fputc('"', f);
  for (; *s; s++) {
    unsigned char ch = (unsigned char)*s;
    if (ch == '"' || ch == '\\') fprintf(f, "\\%c", ch);
    else if (ch < 32 || ch == 127) fprintf(f, "\\x%02x", ch);
    else fputc(ch, f);
  }
  fputc('"', f);
}

static void print_name(FILE *f, const char *s) {
  size_t n = 0;
  while (is_word_char(s[n])) n++;
  if (n && !s[n]) fputs(s, f);
  else print_quoted(f, s);
}

static void print_value(const Printer *p, const PareValue *v) {
  if (!v) {
    fputc('_', p->f);
    return;
  }
  fputc('%', p->f);
  print_name(p->f, p->label[v->id]);
}

/* The fewest digits that read back as the same number. */
static void print_double(FILE *f, double v, bool single) {
  char buf[40];
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(buf, sizeof buf, "%.*g", digits, v);
    double back = strtod(buf, NULL);
    if (single ? (float)back == (float)v : back == v) break;
  }
  fputs(isnan(v) ? "nan" : buf, f);
}

static void print_element(FILE *f, const PareValue *v, int64_t i) {
  PareDtype d = v->type.dtype;
  if (pare_dtype_is_float(d)) print_double(f, pare_data_float(v, i), d != PARE_F64);
  else if (d == PARE_U64) fprintf(f, "%" PRIu64, (uint64_t)pare_data_int(v, i));
  else fprintf(f, "%" PRId64, pare_data_int(v, i));
}

static void print_dim_name(FILE *f, const char *name) {
  if (!name) return;
  print_name(f, name);
  fputc('=', f);
}

static void print_type(FILE *f, const PareType *t, const char **dim_name) {
  fprintf(f, "%s[", pare_dtype_name(t->dtype));
  for (int i = 0; i < t->rank; i++) {
    if (i) fputc(',', f);
    print_dim_name(f, dim_name ? dim_name[i] : NULL);
    if (t->dim[i] < 0) fputc('?', f);
    else fprintf(f, "%" PRId64, t->dim[i]);
  }
  fputc(']', f);
}

static bool all_equal(const char *p, size_t count, size_t size) {
  for (size_t i = 1; i < count; i++)
    if (memcmp(p, p + i * size, size)) return false;
  return true;
}

static uint64_t hash_bytes(const unsigned char *p, size_t n) { /* FNV-1a */
  uint64_t h = 14695981039346656037u;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
  return h;
}

static void print_data(FILE *f, const PareValue *v) {
  static const char zero[8] = {0};
  int64_t count = pare_type_count(&v->type);
  size_t size = pare_dtype_size(v->type.dtype);
  fputs(" =", f);
  if (count <= MAX_NUMBERS) {
    for (int64_t i = 0; i < count; i++) {
      fputc(' ', f);
      print_element(f, v, i);
    }
  } else if (!all_equal(v->data, (size_t)count, size)) {
    fprintf(f, " hash(0x%016" PRIx64 ")", hash_bytes(v->data, (size_t)count * size));
  } else if (!memcmp(v->data, zero, size)) {
    fputs(" zeros", f);
  } else {
    fputs(" fill(", f);
    print_element(f, v, 0);
    fputc(')', f);
  }
}

static void print_word(FILE *f, const char *words, int index) {
  for (; index > 0 && *words; words++) index -= *words == ' ';
  fprintf(f, "%.*s", (int)strcspn(words, " "), words);
}

static void print_ints(FILE *f, const PareInts *v) {
  for (int i = 0; i < v->n; i++) fprintf(f, "%c%" PRId64, i ? ',' : '[', v->at[i]);
  fputs(v->n ? "]" : "[]", f);
}

static void print_attrs(FILE *f, const PareAttrs *a) {
  const char *before = " {";
  for (int i = 0; i < PARE_ATTR_COUNT; i++) {
    if (!(a->set >> i & 1u)) continue;
    const void *field = (const char *)a + attr_info[i].offset;
    fprintf(f, "%s%s=", before, attr_info[i].name);
    before = ", ";
    switch (attr_info[i].kind) {
      case KIND_INT: fprintf(f, "%" PRId64, *(const int64_t *)field); break;
      case KIND_FLOAT: print_double(f, *(const double *)field, false); break;
      case KIND_INTS: print_ints(f, field); break;
      case KIND_DTYPE: fputs(pare_dtype_name(*(const PareDtype *)field), f); break;
      case KIND_WORD: print_word(f, attr_info[i].words, *(const int *)field); break;
      case KIND_TEXT: print_quoted(f, *(const char *const *)field); break;
    }
  }
  if (a->set) fputc('}', f);
}

/* Is there anything to say about the type of this result? */
static bool has_type(const PareValue *v) { return v && (v->dim_name || v->data || pare_type_known(&v->type)); }

static void print_result_types(FILE *f, const PareNode *n) {
  bool any = false;
  for (int i = 0; i < n->nout; i++) any = any || has_type(n->out[i]);
  for (int i = 0; any && i < n->nout; i++) {
    const PareValue *v = n->out[i];
    fputs(i ? ", " : " : ", f);
    if (!has_type(v)) {
      fputc('?', f);
      continue;
    }
    print_type(f, &v->type, v->dim_name);
    if (v->data && pare_type_known(&v->type) && pare_type_count(&v->type) <= MAX_NUMBERS) print_data(f, v);
  }
}

static void print_node(const Printer *p, const PareNode *n) {
  const PareOpInfo *row = &pare_op_info[n->op];
  const char *result = n->nout && n->out[0] ? p->label[n->out[0]->id] : "";
  for (int i = 0; i < n->nout; i++) {
    if (i) fputs(", ", p->f);
    print_value(p, n->out[i]);
  }
  fprintf(p->f, "%s%s%s%s(", n->nout ? " = " : "", row->domain, *row->domain ? "." : "", row->name);
  for (int i = 0; i < n->nin; i++) {
    if (i) fputs(", ", p->f);
    print_value(p, n->in[i]);
  }
  fputc(')', p->f);
  print_attrs(p->f, &n->attr);
  if (strcmp(n->name, result)) {
    fputc(' ', p->f);
    print_quoted(p->f, n->name);
  }
  if (n->phase) fprintf(p->f, " @%d", n->phase);
  print_result_types(p->f, n);
  fputc('\n', p->f);
}

static void print_leaf(const Printer *p, const char *role, const PareValue *v) {
  fprintf(p->f, "%s ", role);
  print_value(p, v);
  fputs(" : ", p->f);
  print_type(p->f, &v->type, v->dim_name);
  if (v->role == PARE_CONST || (v->role == PARE_STATE && v->data)) print_data(p->f, v);
  fputc('\n', p->f);
}

/* Takes v's name, or NAME#ID where another value has it. */
static bool label_value(PareArena *a, PareMap *taken, const char **label, const PareValue *v) {
  const char *name = v->name;
  while (name && pare_map_get(taken, name) >= 0) name = pare_arena_printf(a, "%s#%u", name, v->id);
  label[v->id] = name;
  return name && pare_map_put(taken, name, v->id);
}

static bool label_all(PareArena *a, const PareGraph *g, const char **label) {
  PareMap taken = {.arena = a};
  for (size_t i = 0; i < g->values.n; i++)
    if (g->values.at[i]->role != PARE_RESULT && !label_value(a, &taken, label, g->values.at[i])) return false;
  for (const PareNode *n = g->first; n; n = n->next)
    for (int i = 0; i < n->nout; i++)
      if (n->out[i] && !label_value(a, &taken, label, n->out[i])) return false;
  return true;
}

static void print_graph(const Printer *p, const PareGraph *g) {
  if (g->opset) fprintf(p->f, "opset %" PRId64 "\n", g->opset);
  for (size_t i = 0; i < g->inputs.n; i++) print_leaf(p, "input", g->inputs.at[i]);
  for (size_t i = 0; i < g->values.n; i++) {
    const PareValue *v = g->values.at[i];
    if (v->role == PARE_CONST) print_leaf(p, "const", v);
    if (v->role == PARE_STATE) print_leaf(p, "state", v);
  }
  for (const PareNode *n = g->first; n; n = n->next) print_node(p, n);
  for (size_t i = 0; i < g->outputs.n; i++) {
    fputs("output ", p->f);
    print_value(p, g->outputs.at[i]);
    fputc('\n', p->f);
  }
}

bool pare_text_print(const PareGraph *g, FILE *f) {
  PareArena *a = pare_arena_new(1 << 16);
  if (!a) return false;
  Printer p = {.f = f, .label = PARE_NEW_N(a, g->values.n, const char *)};
  bool ok = p.label && label_all(a, g, p.label);
  if (ok) print_graph(&p, g);
  pare_arena_free(a);
  return ok && !ferror(f);
}

/* --- parsing: words and numbers --- */

typedef struct Parser {
  PareCtx *c;
  PareGraph *g;
  PareMap ids; /* name -> value id */
  const char *at;
  int line;
} Parser;

static void skip_space(Parser *p) {
  while (*p->at == ' ' || *p->at == '\t' || *p->at == '\r') p->at++;
}

static bool at_end_of_line(Parser *p) {
  skip_space(p);
  return *p->at == 0 || *p->at == '\n' || *p->at == '#';
}

static PareStatus unexpected(Parser *p, const char *wanted) {
  skip_space(p);
  int n = (int)strcspn(p->at, "\r\n");
  if (n == 0) return pare_error(p->c, PARE_FORMAT, "%s is expected but the line ends", wanted);
  return pare_error(p->c, PARE_FORMAT, "%s is expected before '%.*s'", wanted, n > 24 ? 24 : n, p->at);
}

static bool accept(Parser *p, char ch) {
  skip_space(p);
  if (*p->at != ch) return false;
  p->at++;
  return true;
}

static PareStatus expect(Parser *p, char ch) {
  const char text[] = {'\'', ch, '\'', 0};
  return accept(p, ch) ? PARE_OK : unexpected(p, text);
}

static int hex_digit(char ch) {
  if (ch >= '0' && ch <= '9') return ch - '0';
  if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
  if (ch >= 'A' && ch <= 'F') return ch - 'A' + 10;
  return -1;
}

/* After the opening quote. \" and \\ and \xHH are escapes. */
static PareStatus parse_quoted(Parser *p, const char **out) {
  size_t room = strcspn(p->at, "\n"), n = 0;
  char *s = pare_arena_alloc(p->g->arena, room + 1, 1);
  if (!s) return pare_nomem(p->c);
  for (; *p->at != '"'; p->at++) {
    if (*p->at == 0 || *p->at == '\n') return unexpected(p, "'\"'");
    if (*p->at != '\\') {
      s[n++] = *p->at;
      continue;
    }
    p->at++;
    int hi = *p->at == 'x' ? hex_digit(p->at[1]) : -1, lo = hi < 0 ? -1 : hex_digit(p->at[2]);
    bool hex = hi >= 0 && lo >= 0 && (hi || lo);
    if (!hex && *p->at != '"' && *p->at != '\\') return unexpected(p, "an escape: \\\", \\\\ or \\xHH");
    s[n++] = hex ? (char)(hi * 16 + lo) : *p->at;
    if (hex) p->at += 2;
  }
  p->at++;
  *out = s;
  return PARE_OK;
}

static PareStatus parse_name(Parser *p, const char **out) {
  if (accept(p, '"')) return parse_quoted(p, out);
  size_t n = 0;
  while (is_word_char(p->at[n])) n++;
  if (!n) return unexpected(p, "a name");
  *out = pare_arena_strndup(p->g->arena, p->at, n);
  p->at += n;
  return *out ? PARE_OK : pare_nomem(p->c);
}

/* A number's characters, or a word of an attribute. */
static PareStatus parse_token(Parser *p, char buf[MAX_TOKEN]) {
  size_t n = 0;
  skip_space(p);
  while ((is_word_char(p->at[n]) || p->at[n] == '+') && n < MAX_TOKEN - 1) n++;
  if (!n) return unexpected(p, "a number or a word");
  memcpy(buf, p->at, n);
  buf[n] = 0;
  p->at += n;
  return PARE_OK;
}

static PareStatus parse_int(Parser *p, int64_t *out) {
  char buf[MAX_TOKEN], *end;
  PARE_TRY(parse_token(p, buf));
  errno = 0;
  *out = strtoll(buf, &end, 10);
  return *end || errno ? pare_error(p->c, PARE_FORMAT, "'%s' is no 64-bit integer", buf) : PARE_OK;
}

static PareStatus parse_unsigned(Parser *p, uint64_t *out) {
  char buf[MAX_TOKEN], *end;
  PARE_TRY(parse_token(p, buf));
  errno = 0;
  *out = strtoull(buf, &end, 0);
  if (*end || errno || buf[0] == '-') return pare_error(p->c, PARE_FORMAT, "'%s' is no unsigned integer", buf);
  return PARE_OK;
}

static PareStatus parse_double(Parser *p, double *out) {
  char buf[MAX_TOKEN], *end;
  PARE_TRY(parse_token(p, buf));
  *out = strtod(buf, &end);
  return *end ? pare_error(p->c, PARE_FORMAT, "'%s' is no number", buf) : PARE_OK;
}

/* --- parsing: types and data --- */

static PareStatus parse_dtype(Parser *p, PareDtype *out) {
  char buf[MAX_TOKEN];
  PARE_TRY(parse_token(p, buf));
  if (pare_dtype_from_name(buf, out)) return PARE_OK;
  return pare_error(p->c, PARE_FORMAT, "'%s' is no element type", buf);
}

/* [NAME=]SIZE or [NAME=]? */
static PareStatus parse_dim(Parser *p, const char **name, int64_t *dim) {
  const char *start;
  *name = NULL;
  *dim = -1;
  skip_space(p);
  start = p->at;
  if (accept(p, '?')) return PARE_OK;
  PARE_TRY(parse_name(p, name));
  if (accept(p, '=')) {
    if (accept(p, '?')) return PARE_OK;
  } else {
    *name = NULL;
    p->at = start;
  }
  PARE_TRY(parse_int(p, dim));
  return *dim < 0 ? pare_error(p->c, PARE_FORMAT, "a size is negative") : PARE_OK;
}

/* `dim_name` becomes NULL when no axis has a name. */
static PareStatus parse_type(Parser *p, PareType *t, const char ***dim_name) {
  const char *names[PARE_MAX_RANK];
  bool any = false;
  *t = (PareType){0};
  *dim_name = NULL;
  PARE_TRY(parse_dtype(p, &t->dtype));
  PARE_TRY(expect(p, '['));
  while (!accept(p, ']')) {
    if (t->rank) PARE_TRY(expect(p, ','));
    if (t->rank == PARE_MAX_RANK) return pare_error(p->c, PARE_FORMAT, "more than %d axes", PARE_MAX_RANK);
    PARE_TRY(parse_dim(p, &names[t->rank], &t->dim[t->rank]));
    any = any || names[t->rank];
    t->rank++;
  }
  if (!any) return PARE_OK;
  *dim_name = pare_arena_grow(p->g->arena, names, (size_t)t->rank, (size_t)t->rank, sizeof *names);
  return *dim_name ? PARE_OK : pare_nomem(p->c);
}

static void store_float(void *data, PareDtype d, int64_t i, double v) {
  float f = (float)v;
  uint16_t half = d == PARE_F16 ? pare_f32_to_f16(f) : pare_f32_to_bf16(f);
  char *at = (char *)data + (size_t)i * pare_dtype_size(d);
  if (d == PARE_F64) memcpy(at, &v, sizeof v);
  else if (d == PARE_F32) memcpy(at, &f, sizeof f);
  else memcpy(at, &half, sizeof half);
}

static bool int_fits(PareDtype d, int64_t v) {
  switch (d) {
    case PARE_I8: return v >= INT8_MIN && v <= INT8_MAX;
    case PARE_I16: return v >= INT16_MIN && v <= INT16_MAX;
    case PARE_I32: return v >= INT32_MIN && v <= INT32_MAX;
    case PARE_U8: return v >= 0 && v <= UINT8_MAX;
    case PARE_U16: return v >= 0 && v <= UINT16_MAX;
    case PARE_U32: return v >= 0 && v <= UINT32_MAX;
    case PARE_BOOL: return v == 0 || v == 1;
    default: return true;
  }
}

static void store_int(void *data, PareDtype d, int64_t i, int64_t v) {
  size_t size = pare_dtype_size(d);
  char *at = (char *)data + (size_t)i * size;
  int8_t v8 = (int8_t)v;
  int16_t v16 = (int16_t)v;
  int32_t v32 = (int32_t)v;
  if (size == 1) memcpy(at, &v8, size);
  else if (size == 2) memcpy(at, &v16, size);
  else if (size == 4) memcpy(at, &v32, size);
  else memcpy(at, &v, size);
}

static PareStatus parse_element(Parser *p, PareDtype d, void *data, int64_t i) {
  if (pare_dtype_is_float(d)) {
    double v;
    PARE_TRY(parse_double(p, &v));
    store_float(data, d, i, v);
    return PARE_OK;
  }
  int64_t v = 0;
  uint64_t u = 0;
  PARE_TRY(d == PARE_U64 ? parse_unsigned(p, &u) : parse_int(p, &v));
  if (d == PARE_U64) memcpy(&v, &u, sizeof v);
  if (!int_fits(d, v)) return pare_error(p->c, PARE_FORMAT, "%" PRId64 " is no %s", v, pare_dtype_name(d));
  store_int(data, d, i, v);
  return PARE_OK;
}

/* Uniform in [-1, 1). */
static void fill_random(void *data, PareDtype d, int64_t count, uint64_t seed) {
  for (int64_t i = 0; i < count; i++)
    store_float(data, d, i, 2 * pare_rng_uniform(seed, (uint64_t)i) - 1);
}

static bool accept_word(Parser *p, const char *word) {
  size_t n = strlen(word);
  skip_space(p);
  if (strncmp(p->at, word, n) || is_word_char(p->at[n])) return false;
  p->at += n;
  return true;
}

/* random(SEED), or hash(NUMBER): a stand-in for bytes that were not printed,
 * random too where the type is a float and zeros elsewhere. */
static PareStatus parse_seeded(Parser *p, const PareType *t, void *data, bool hash) {
  uint64_t seed;
  PARE_TRY(expect(p, '('));
  PARE_TRY(parse_unsigned(p, &seed));
  PARE_TRY(expect(p, ')'));
  if (pare_dtype_is_float(t->dtype)) fill_random(data, t->dtype, pare_type_count(t), seed);
  else if (!hash) return pare_error(p->c, PARE_FORMAT, "random() makes floats, not %s", pare_dtype_name(t->dtype));
  return PARE_OK;
}

static PareStatus parse_fill(Parser *p, const PareType *t, void *data) {
  char one[8];
  size_t size = pare_dtype_size(t->dtype);
  PARE_TRY(expect(p, '('));
  PARE_TRY(parse_element(p, t->dtype, one, 0));
  PARE_TRY(expect(p, ')'));
  for (int64_t i = 0, n = pare_type_count(t); i < n; i++) memcpy((char *)data + (size_t)i * size, one, size);
  return PARE_OK;
}

/* What stands behind '=': an initialiser, or each element's number. */
static PareStatus parse_data(Parser *p, const PareType *t, const void **out) {
  size_t bytes;
  if (!pare_type_bytes(t, &bytes) || bytes > MAX_BYTES)
    return pare_error(p->c, PARE_FORMAT, "data need a known shape of at most %d bytes", MAX_BYTES);
  void *data = pare_arena_alloc(p->g->arena, bytes, 1);
  if (!data) return pare_nomem(p->c);
  *out = data;
  if (accept_word(p, "zeros")) return PARE_OK;
  if (accept_word(p, "fill")) return parse_fill(p, t, data);
  if (accept_word(p, "random")) return parse_seeded(p, t, data, false);
  if (accept_word(p, "hash")) return parse_seeded(p, t, data, true);
  for (int64_t i = 0, n = pare_type_count(t); i < n; i++) PARE_TRY(parse_element(p, t->dtype, data, i));
  return PARE_OK;
}

/* --- parsing: attributes --- */

static PareStatus parse_ints(Parser *p, PareInts *v) {
  v->n = 0;
  PARE_TRY(expect(p, '['));
  while (!accept(p, ']')) {
    if (v->n) PARE_TRY(expect(p, ','));
    if (v->n == PARE_MAX_INTS) return pare_error(p->c, PARE_FORMAT, "more than %d numbers", PARE_MAX_INTS);
    PARE_TRY(parse_int(p, &v->at[v->n]));
    v->n++;
  }
  return PARE_OK;
}

static PareStatus parse_choice(Parser *p, const char *words, int *out) {
  char buf[MAX_TOKEN];
  PARE_TRY(parse_token(p, buf));
  *out = 0;
  for (const char *w = words; *w; *out += 1) {
    size_t n = strcspn(w, " ");
    if (strlen(buf) == n && !strncmp(w, buf, n)) return PARE_OK;
    w += n + (w[n] == ' ');
  }
  return pare_error(p->c, PARE_FORMAT, "'%s' is none of: %s", buf, words);
}

static PareStatus parse_attr(Parser *p, PareAttrs *a) {
  char name[MAX_TOKEN];
  PARE_TRY(parse_token(p, name));
  PARE_TRY(expect(p, '='));
  for (int i = 0; i < PARE_ATTR_COUNT; i++) {
    if (strcmp(attr_info[i].name, name)) continue;
    void *field = (char *)a + attr_info[i].offset;
    a->set |= (uint64_t)1 << i;
    switch (attr_info[i].kind) {
      case KIND_INT: return parse_int(p, field);
      case KIND_FLOAT: return parse_double(p, field);
      case KIND_INTS: return parse_ints(p, field);
      case KIND_DTYPE: return parse_dtype(p, field);
      case KIND_WORD: return parse_choice(p, attr_info[i].words, field);
      case KIND_TEXT: return accept(p, '"') ? parse_quoted(p, field) : unexpected(p, "'\"'");
    }
  }
  return pare_error(p->c, PARE_FORMAT, "there is no attribute '%s'", name);
}

static PareStatus parse_attrs(Parser *p, PareAttrs *a) {
  if (!accept(p, '{')) return PARE_OK;
  for (bool first = true; !accept(p, '}'); first = false) {
    if (!first) PARE_TRY(expect(p, ','));
    PARE_TRY(parse_attr(p, a));
  }
  return PARE_OK;
}

/* --- parsing: lines --- */

static PareStatus define(Parser *p, PareValue *v, const char *name) {
  if (pare_map_get(&p->ids, name) >= 0) return pare_error(p->c, PARE_FORMAT, "'%%%s' is made twice", name);
  v->name = name;
  return pare_map_put(&p->ids, name, v->id) ? PARE_OK : pare_nomem(p->c);
}

static bool accept_blank(Parser *p) { return accept_word(p, "_"); }

static PareStatus parse_value_name(Parser *p, const char **name) {
  PARE_TRY(expect(p, '%'));
  return parse_name(p, name);
}

static PareStatus parse_value(Parser *p, PareValue **out) {
  const char *name;
  PARE_TRY(parse_value_name(p, &name));
  int64_t id = pare_map_get(&p->ids, name);
  if (id < 0) return pare_error(p->c, PARE_FORMAT, "'%%%s' is not made above", name);
  *out = p->g->values.at[id];
  return PARE_OK;
}

/* input|const|state %NAME : TYPE [= DATA] */
static PareStatus parse_leaf(Parser *p, PareRole role) {
  const char *name, **dim_name;
  const void *data = NULL;
  PareType t;
  PARE_TRY(parse_value_name(p, &name));
  PARE_TRY(expect(p, ':'));
  PARE_TRY(parse_type(p, &t, &dim_name));
  if (role == PARE_CONST) PARE_TRY(expect(p, '='));
  if (role == PARE_CONST || (role == PARE_STATE && accept(p, '='))) PARE_TRY(parse_data(p, &t, &data));
  PareValue *v = pare_value_add(p->c, p->g, role, name, t);
  if (!v) return PARE_NOMEM;
  v->dim_name = dim_name;
  v->data = data;
  return define(p, v, name);
}

static PareStatus parse_output(Parser *p) {
  PareValue *v;
  PARE_TRY(parse_value(p, &v));
  return pare_vec_push(p->g->arena, &p->g->outputs, v) ? PARE_OK : pare_nomem(p->c);
}

/* A node as it is written, before its types are known. */
typedef struct NodeText {
  PARE_VEC(const char *) results; /* NULL: "_" */
  PARE_VEC(PareValue *) operands;
  PareAttrs attr;
  PareOp op;
  const char *name;
  uint8_t phase;
} NodeText;

static PareStatus parse_results(Parser *p, NodeText *t) {
  do {
    const char *name = NULL;
    if (!accept_blank(p)) PARE_TRY(parse_value_name(p, &name));
    if (!pare_vec_push(p->g->arena, &t->results, name)) return pare_nomem(p->c);
  } while (accept(p, ','));
  return expect(p, '=');
}

/* DOMAIN.OP or OP */
static PareStatus parse_op(Parser *p, PareOp *op) {
  char buf[MAX_TOKEN];
  PARE_TRY(parse_token(p, buf));
  char *dot = strrchr(buf, '.');
  if (dot) *dot = 0;
  *op = pare_op_find(dot ? buf : "", dot ? dot + 1 : buf);
  if (*op != PARE_OP_COUNT) return PARE_OK;
  if (dot) *dot = '.';
  return pare_error(p->c, PARE_FORMAT, "there is no operator '%s'", buf);
}

static PareStatus parse_operands(Parser *p, NodeText *t) {
  PARE_TRY(expect(p, '('));
  while (!accept(p, ')')) {
    PareValue *v = NULL;
    if (t->operands.n) PARE_TRY(expect(p, ','));
    if (!accept_blank(p)) PARE_TRY(parse_value(p, &v));
    if (!pare_vec_push(p->g->arena, &t->operands, v)) return pare_nomem(p->c);
  }
  return PARE_OK;
}

static PareStatus parse_name_and_phase(Parser *p, NodeText *t) {
  int64_t phase = 0;
  t->name = t->results.n && t->results.at[0] ? t->results.at[0] : "";
  if (accept(p, '"')) PARE_TRY(parse_quoted(p, &t->name));
  if (accept(p, '@')) PARE_TRY(parse_int(p, &phase));
  if (phase < 0 || phase > 1) return pare_error(p->c, PARE_FORMAT, "there are phases 0 and 1");
  t->phase = (uint8_t)phase;
  return PARE_OK;
}

static PareStatus make_node(Parser *p, const NodeText *t, PareNode **out) {
  PareNode *n = pare_node_add(p->c, p->g, NULL, t->op, t->name, (int)t->operands.n, t->operands.at, (int)t->results.n);
  if (!n) return PARE_NOMEM;
  n->attr = t->attr;
  n->phase = t->phase;
  for (int i = 0; i < n->nout; i++) {
    if (t->results.at[i]) {
      PARE_TRY(define(p, n->out[i], t->results.at[i]));
    } else {
      n->out[i]->def = NULL;
      n->out[i] = NULL;
    }
  }
  *out = n;
  return PARE_OK;
}

/* Does the type in the text, which may have open dims, fit the inferred one? */
static bool fits(const PareType *text, const PareType *t) {
  if (text->dtype != t->dtype || text->rank != t->rank) return false;
  for (int i = 0; i < t->rank; i++)
    if (text->dim[i] >= 0 && text->dim[i] != t->dim[i]) return false;
  return true;
}

/* TYPE [= DATA] of result i; `inferred` says that the result has its type already. */
static PareStatus parse_result_type(Parser *p, PareNode *n, int i, bool inferred) {
  PareType t;
  const char **dim_name;
  PareValue *v = n->out[i];
  if (accept(p, '?')) return PARE_OK;
  if (!v) return pare_fail(p->c, n, PARE_FORMAT, "output %d is left out but has a type", i);
  PARE_TRY(parse_type(p, &t, &dim_name));
  if (inferred && !fits(&t, &v->type)) {
    char has[PARE_TYPE_TEXT], want[PARE_TYPE_TEXT];
    return pare_fail(p->c, n, PARE_FORMAT, "'%s' is %s but the text says %s", v->name, pare_type_text(&v->type, has),
                     pare_type_text(&t, want));
  }
  if (!inferred) v->type = t;
  v->dim_name = dim_name;
  return accept(p, '=') ? parse_data(p, &v->type, &v->data) : PARE_OK;
}

/* [RESULTS =] OP(OPERANDS) [{ATTRS}] ["NAME"] [@PHASE] [: TYPES] */
static PareStatus parse_node(Parser *p) {
  NodeText t = {0};
  PareNode *n;
  skip_space(p);
  if (*p->at == '%' || *p->at == '_') PARE_TRY(parse_results(p, &t));
  PARE_TRY(parse_op(p, &t.op));
  PARE_TRY(parse_operands(p, &t));
  PARE_TRY(parse_attrs(p, &t.attr));
  PARE_TRY(parse_name_and_phase(p, &t));
  PARE_TRY(make_node(p, &t, &n));
  PARE_TRY(pare_arity_check(p->c, n));
  bool inferred = pare_infer_ready(n);
  if (inferred) PARE_TRY(pare_infer(p->c, n));
  if (!accept(p, ':')) return PARE_OK;
  for (int i = 0; i < n->nout; i++) {
    if (i) PARE_TRY(expect(p, ','));
    PARE_TRY(parse_result_type(p, n, i, inferred));
  }
  return PARE_OK;
}

static PareStatus parse_line(Parser *p) {
  PareStatus s;
  if (at_end_of_line(p)) return PARE_OK;
  if (accept_word(p, "opset")) s = parse_int(p, &p->g->opset);
  else if (accept_word(p, "input")) s = parse_leaf(p, PARE_INPUT);
  else if (accept_word(p, "const")) s = parse_leaf(p, PARE_CONST);
  else if (accept_word(p, "state")) s = parse_leaf(p, PARE_STATE);
  else if (accept_word(p, "output")) s = parse_output(p);
  else s = parse_node(p);
  PARE_TRY(s);
  return at_end_of_line(p) ? PARE_OK : unexpected(p, "the end of the line");
}

static void name_line(PareDiag *d, int line) {
  char text[sizeof d->text];
  memcpy(text, d->text, sizeof text);
  snprintf(d->text, sizeof d->text, "line %d: %.*s", line, (int)sizeof d->text - 24, text);
}

PareStatus pare_text_parse(PareCtx *c, PareArena *a, const char *text, PareGraph **out) {
  PareMark mark = pare_arena_mark(c->scratch);
  Parser p = {.c = c, .g = pare_graph_new(c, a), .ids = {.arena = c->scratch}, .at = text, .line = 1};
  PareStatus s = p.g ? PARE_OK : PARE_NOMEM;
  while (s == PARE_OK && *p.at) {
    s = parse_line(&p);
    if (s != PARE_OK) break;
    p.at += strcspn(p.at, "\n");
    if (*p.at == '\n') p.at++, p.line++;
  }
  if (s == PARE_OK) *out = p.g;
  else if (s != PARE_NOMEM) name_line(&c->diag, p.line);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
