#include "runtime/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { LENGTH = 8, ALIGN = 8, HEADER_MOST = 100 << 20 };

/* The format's names. */
static const struct {
  PareDtype dtype;
  const char *name;
} types[] = {
    {PARE_F64, "F64"}, {PARE_F32, "F32"}, {PARE_F16, "F16"}, {PARE_BF16, "BF16"}, {PARE_I64, "I64"},
    {PARE_I32, "I32"}, {PARE_I16, "I16"}, {PARE_I8, "I8"},   {PARE_U64, "U64"},   {PARE_U32, "U32"},
    {PARE_U16, "U16"}, {PARE_U8, "U8"},   {PARE_BOOL, "BOOL"},
};

typedef struct Reader {
  PareCtx *c;
  PareArena *a;
  const char *path;
  PareSafeTensors *out;
  const uint8_t *data; /* behind the header */
  size_t len;
} Reader;

#define malformed(r, ...) pare_diag_set(&(r)->c->diag, PARE_FORMAT, (r)->path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* --- reading --- */

static PareStatus read_type(Reader *r, const char *name, const json_t *entry, PareType *type) {
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  const json_t *shape = json_object_get(entry, "shape");
  size_t i = 0, n = sizeof types / sizeof *types;
  while (dtype && i < n && strcmp(types[i].name, dtype)) i++;
  if (!dtype || i == n) return malformed(r, "tensor '%.100s' has the dtype '%.20s', which is not read here", name, dtype ? dtype : "");
  if (!json_is_array(shape) || json_array_size(shape) > PARE_MAX_RANK)
    return malformed(r, "tensor '%.100s' has no shape of up to %d axes", name, PARE_MAX_RANK);
  *type = (PareType){.dtype = types[i].dtype, .rank = (int)json_array_size(shape)};
  for (int axis = 0; axis < type->rank; axis++) {
    const json_t *dim = json_array_get(shape, (size_t)axis);
    if (!json_is_integer(dim) || json_integer_value(dim) < 0)
      return malformed(r, "tensor '%.100s' has a size that is no number", name);
    type->dim[axis] = (int64_t)json_integer_value(dim);
  }
  return PARE_OK;
}

static PareStatus read_entry(Reader *r, const char *name, const json_t *entry, PareSafeTensor *t) {
  const json_t *offsets = json_object_get(entry, "data_offsets");
  const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
  size_t bytes;
  PARE_TRY(read_type(r, name, entry, &t->type));
  if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
    return malformed(r, "tensor '%.100s' has no pair of data_offsets", name);
  json_int_t begin = json_integer_value(from), end = json_integer_value(to);
  if (begin < 0 || end < begin || (uint64_t)end > r->len)
    return malformed(r, "tensor '%.100s' lies outside of the file", name);
  if (!pare_type_bytes(&t->type, &bytes) || bytes != (size_t)(end - begin))
    return malformed(r, "tensor '%.100s' has another size than its shape says", name);
  t->data = r->data + begin;
  return (t->name = pare_arena_strdup(r->a, name)) ? PARE_OK : pare_nomem(r->c);
}

static size_t bytes_of(const PareSafeTensor *t) {
  size_t bytes;
  return pare_type_bytes(&t->type, &bytes) ? bytes : 0;
}

static int by_place(const void *x, const void *y) {
  const PareSafeTensor *a = *(const PareSafeTensor *const *)x, *b = *(const PareSafeTensor *const *)y;
  if (a->data != b->data) return (const uint8_t *)a->data < (const uint8_t *)b->data ? -1 : 1;
  return (bytes_of(a) > bytes_of(b)) - (bytes_of(a) < bytes_of(b)); /* empty ones first */
}

/* Every byte belongs to one tensor. */
static PareStatus check_whole(Reader *r) {
  const PareSafeTensor **sorted = PARE_NEW_N(r->c->scratch, r->out->n + 1, const PareSafeTensor *);
  const uint8_t *at = r->data;
  if (!sorted) return pare_nomem(r->c);
  for (size_t i = 0; i < r->out->n; i++) sorted[i] = &r->out->at[i];
  qsort(sorted, r->out->n, sizeof *sorted, by_place);
  for (size_t i = 0; i < r->out->n; i++) {
    if (sorted[i]->data != (const void *)at)
      return malformed(r, "tensor '%.100s' overlaps another one, or leaves a gap", sorted[i]->name);
    at += bytes_of(sorted[i]);
  }
  return at == r->data + r->len ? PARE_OK : malformed(r, "it has bytes behind its last tensor");
}

static PareStatus read_header(Reader *r, json_t *root) {
  const char *name;
  json_t *entry;
  if (!json_is_object(root)) return malformed(r, "its header is no JSON object");
  if (!(r->out->at = PARE_NEW_N(r->a, json_object_size(root) + 1, PareSafeTensor))) return pare_nomem(r->c);
  json_object_foreach(root, name, entry)
    if (strcmp(name, "__metadata__")) PARE_TRY(read_entry(r, name, entry, &r->out->at[r->out->n++]));
  PareMark mark = pare_arena_mark(r->c->scratch);
  PareStatus s = check_whole(r);
  pare_arena_rewind(r->c->scratch, mark);
  return s;
}

static PareStatus read_file(Reader *r) {
  const PareFile *f = &r->out->file;
  uint64_t header = 0;
  json_error_t why;
  if (f->len < LENGTH) return malformed(r, "no safetensors file: it is shorter than 8 bytes");
  for (int i = LENGTH; i-- > 0;) header = header << 8 | f->data[i];
  if (header > HEADER_MOST || header > f->len - LENGTH)
    return malformed(r, "no safetensors file: its header is longer than it");
  r->data = f->data + LENGTH + header;
  r->len = f->len - LENGTH - (size_t)header;
  json_t *root = json_loadb((const char *)f->data + LENGTH, (size_t)header, JSON_REJECT_DUPLICATES, &why);
  if (!root) return malformed(r, "its header is no JSON: %.150s", why.text);
  PareStatus s = read_header(r, root);
  json_decref(root);
  return s;
}

PareStatus pare_safetensors_open(PareCtx *c, PareArena *a, const char *path, PareSafeTensors *out) {
  *out = (PareSafeTensors){0};
  Reader r = {.c = c, .a = a, .path = path, .out = out};
  PARE_TRY(pare_file_map(c, path, &out->file));
  PareStatus s = read_file(&r);
  if (s != PARE_OK) pare_safetensors_close(out);
  return s;
}

void pare_safetensors_close(PareSafeTensors *t) {
  pare_file_unmap(&t->file);
  *t = (PareSafeTensors){0};
}

const PareSafeTensor *pare_safetensors_find(const PareSafeTensors *t, const char *name) {
  for (size_t i = 0; i < t->n; i++)
    if (!strcmp(t->at[i].name, name)) return &t->at[i];
  return NULL;
}

/* --- writing --- */

static const char *type_name(PareDtype d) {
  size_t i = 0;
  while (types[i].dtype != d) i++;
  return types[i].name;
}

static json_t *header_json(size_t n, const PareSafeTensor *tensor) {
  json_t *root = json_object();
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    json_t *shape = json_array();
    for (int axis = 0; axis < tensor[i].type.rank; axis++)
      json_array_append_new(shape, json_integer((json_int_t)tensor[i].type.dim[axis]));
    size_t end = at + bytes_of(&tensor[i]);
    json_object_set_new(root, tensor[i].name, json_pack("{s:s, s:o, s:[I, I]}", "dtype", type_name(tensor[i].type.dtype),
                                                        "shape", shape, "data_offsets", (json_int_t)at,
                                                        (json_int_t)end));
    at = end;
  }
  return root;
}

/* Padded with blanks, so that the data begin at a multiple of ALIGN. NULL when memory is out. Lives in a. */
static char *header_text(PareArena *a, size_t n, const PareSafeTensor *tensor) {
  json_t *root = header_json(n, tensor);
  size_t len = json_dumpb(root, NULL, 0, JSON_COMPACT), padded = (len + ALIGN - 1) / ALIGN * ALIGN;
  char *text = len ? pare_arena_alloc(a, padded + 1, 1) : NULL;
  if (text) json_dumpb(root, text, len, JSON_COMPACT);
  if (text) memset(text + len, ' ', padded - len);
  json_decref(root);
  return text;
}

static PareStatus write_all(PareCtx *c, PareOut *o, const char *header, size_t n, const PareSafeTensor *tensor) {
  uint64_t len = strlen(header);
  uint8_t prefix[LENGTH];
  for (int i = 0; i < LENGTH; i++) prefix[i] = (uint8_t)(len >> 8 * i);
  PARE_TRY(pare_out_write(c, o, prefix, sizeof prefix));
  PARE_TRY(pare_out_write(c, o, header, len));
  for (size_t i = 0; i < n; i++) PARE_TRY(pare_out_write(c, o, tensor[i].data, bytes_of(&tensor[i])));
  PARE_TRY(pare_out_finish(c, o));
  return pare_out_commit(c, o);
}

PareStatus pare_safetensors_write(PareCtx *c, const char *path, size_t n, const PareSafeTensor *tensor) {
  PareOut o = {0};
  PareMark mark = pare_arena_mark(c->scratch);
  char *header = header_text(c->scratch, n, tensor);
  PareStatus s = header ? pare_out_open(c, c->scratch, path, &o) : pare_nomem(c);
  if (s == PARE_OK) s = write_all(c, &o, header, n, tensor);
  if (s != PARE_OK) pare_out_abort(&o);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
