#include "runtime/npz.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "base/file.h"
#include "base/num.h"

/* our type, numpy's descr when written */
#define DESCR_LIST(X) \
  X(F32, "<f4")       \
  X(F64, "<f8")       \
  X(F16, "<f2")       \
  X(BF16, "<V2")      \
  X(I8, "|i1")        \
  X(I16, "<i2")       \
  X(I32, "<i4")       \
  X(I64, "<i8")       \
  X(U8, "|u1")        \
  X(U16, "<u2")       \
  X(U32, "<u4")       \
  X(U64, "<u8")       \
  X(BOOL, "|b1")

static const char *const descr_of[PARE_DTYPE_COUNT] = {
#define X(id, descr) [PARE_##id] = descr,
    DESCR_LIST(X)
#undef X
};

enum {
  NPY_FIXED = 12,         /* magic, version and a 4-byte length */
  NPY_HEADER_MAX = 65536, /* far more than a header of plain arrays takes */
  NPY_ALIGN = 64,
  DEFLATE_MAX_RATIO = 1032 /* zlib, "Maximum Compression Factor" */
};

/* ---- the .npy header: a Python dict literal ---- */

typedef struct Header {
  PareCtx *c;
  const PareData *d;
  const char *array;
  const char *at, *end;
} Header;

#define header_error(h, ...) pare_data_error((h)->c, (h)->d, PARE_FORMAT, __VA_ARGS__)

static PareStatus bad_header(const Header *h) {
  return header_error(h, "array '%s': malformed .npy header", h->array);
}

static void skip_space(Header *h) {
  while (h->at < h->end && (*h->at == ' ' || *h->at == '\n')) h->at++;
}

static bool take(Header *h, char ch) {
  skip_space(h);
  if (h->at == h->end || *h->at != ch) return false;
  h->at++;
  return true;
}

static bool take_word(Header *h, const char *word) {
  skip_space(h);
  size_t n = strlen(word);
  if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n)) return false;
  h->at += n;
  return true;
}

/* A quoted string without escapes, cut to cap - 1 characters. */
static bool take_string(Header *h, char *out, size_t cap) {
  skip_space(h);
  if (h->at == h->end || (*h->at != '\'' && *h->at != '"')) return false;
  char quote = *h->at++;
  size_t n = 0;
  for (; h->at < h->end && *h->at != quote; h->at++)
    if (n + 1 < cap) out[n++] = *h->at;
  out[n] = 0;
  return take(h, quote);
}

static PareStatus parse_descr(Header *h, PareDtype *out) {
  char text[32];
  skip_space(h);
  if (h->at < h->end && *h->at == '[')
    return header_error(h, "array '%s' is a structured array: save each field as an array of its own", h->array);
  if (!take_string(h, text, sizeof text) || strlen(text) < 2) return bad_header(h);
  if (text[1] == 'O')
    return header_error(h, "array '%s' holds Python objects: save plain numbers (ragged lists must be padded)",
                        h->array);
  if (text[1] == 'U' || text[1] == 'S')
    return header_error(h, "array '%s' holds strings (%s): save numbers", h->array, text);
  for (int i = 0; i < PARE_DTYPE_COUNT; i++) {
    if (strcmp(text + 1, descr_of[i] + 1)) continue;
    *out = (PareDtype)i;
    if (text[0] == '<' || text[0] == '|') return PARE_OK;
    if (text[0] == '>' && pare_dtype_size(*out) > 1)
      return header_error(h, "array '%s' is big-endian (%s): save it with .astype('<%s')", h->array, text, text + 1);
  }
  return header_error(h, "array '%s': the element type '%s' is not supported", h->array, text);
}

static bool parse_dim(Header *h, int64_t *out) {
  skip_space(h);
  const char *start = h->at;
  int64_t v = 0;
  for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++)
    if (!pare_mul_i64(v, 10, &v) || __builtin_add_overflow(v, *h->at - '0', &v)) return false;
  *out = v;
  bool any = h->at > start;
  if (any) (void)take(h, 'L'); /* Python 2 wrote 3L */
  return any;
}

static PareStatus parse_shape(Header *h, PareType *t) {
  if (!take(h, '(')) return bad_header(h);
  for (t->rank = 0; !take(h, ')'); t->rank++) {
    if (t->rank == PARE_MAX_RANK)
      return header_error(h, "array '%s' has more than %d axes", h->array, PARE_MAX_RANK);
    if (!parse_dim(h, &t->dim[t->rank])) return bad_header(h);
    skip_space(h);
    if (!take(h, ',') && (h->at == h->end || *h->at != ')')) return bad_header(h);
  }
  return PARE_OK;
}

static PareStatus parse_order(Header *h) {
  if (take_word(h, "False")) return PARE_OK;
  if (!take_word(h, "True")) return bad_header(h);
  return header_error(h, "array '%s' is in Fortran order: save it with numpy.ascontiguousarray", h->array);
}

PareStatus pare_npy_parse(PareCtx *c, const PareData *d, const char *array, const char *text, size_t n,
                          PareType *out) {
  Header h = {c, d, array, text, text + n};
  unsigned seen = 0;
  *out = (PareType){0};
  if (!take(&h, '{')) return bad_header(&h);
  while (!take(&h, '}')) {
    char key[32];
    if (!take_string(&h, key, sizeof key) || !take(&h, ':')) return bad_header(&h);
    if (!strcmp(key, "descr")) {
      PARE_TRY(parse_descr(&h, &out->dtype));
      seen |= 1u;
    } else if (!strcmp(key, "fortran_order")) {
      PARE_TRY(parse_order(&h));
      seen |= 2u;
    } else if (!strcmp(key, "shape")) {
      PARE_TRY(parse_shape(&h, out));
      seen |= 4u;
    } else {
      return bad_header(&h);
    }
    (void)take(&h, ',');
  }
  skip_space(&h);
  return seen == 7u && h.at == h.end ? PARE_OK : bad_header(&h);
}

/* ---- reading ---- */

typedef struct Reader {
  PareCtx *c;
  PareData *d;
  zip_t *zip;
  uint64_t left; /* bytes that further arrays may take */
  uint64_t limit;
} Reader;

typedef struct Entry {
  zip_file_t *f;
  const char *array;
  uint64_t size; /* as announced */
} Entry;

#define read_error(r, ...) pare_data_error((r)->c, (r)->d, PARE_FORMAT, __VA_ARGS__)

/* Reads exactly n bytes. */
static PareStatus read_exact(Reader *r, const Entry *e, void *out, uint64_t n) {
  for (uint64_t done = 0; done < n;) {
    zip_int64_t k = zip_fread(e->f, (uint8_t *)out + done, n - done);
    if (k < 0)
      return read_error(r, "array '%s' is corrupt: %s", e->array, zip_error_strerror(zip_file_get_error(e->f)));
    if (k == 0) return read_error(r, "array '%s' ends early: the file is truncated", e->array);
    done += (uint64_t)k;
  }
  return PARE_OK;
}

/* At the end of an entry libzip compares size and checksum. */
static PareStatus expect_end(Reader *r, const Entry *e) {
  char extra;
  zip_int64_t k = zip_fread(e->f, &extra, 1);
  if (k == 0) return PARE_OK;
  if (k > 0) return read_error(r, "array '%s' holds more bytes than its header says", e->array);
  return read_error(r, "array '%s' is corrupt: %s", e->array, zip_error_strerror(zip_file_get_error(e->f)));
}

static PareStatus read_header(Reader *r, const Entry *e, PareType *type, uint64_t *header_bytes) {
  uint8_t fixed[NPY_FIXED];
  PARE_TRY(read_exact(r, e, fixed, 10));
  if (memcmp(fixed, "\x93NUMPY", 6)) return read_error(r, "array '%s' is not an .npy file: wrong magic", e->array);
  if (fixed[6] < 1 || fixed[6] > 3)
    return read_error(r, "array '%s': .npy version %d is not supported", e->array, fixed[6]);
  uint64_t n = (uint64_t)fixed[8] | (uint64_t)fixed[9] << 8, start = 10;
  if (fixed[6] > 1) {
    PARE_TRY(read_exact(r, e, fixed + 10, 2));
    n |= (uint64_t)fixed[10] << 16 | (uint64_t)fixed[11] << 24;
    start = 12;
  }
  if (n > NPY_HEADER_MAX) return read_error(r, "array '%s': .npy header of %" PRIu64 " bytes", e->array, n);
  PareMark m = pare_arena_mark(r->c->scratch);
  char *text = pare_arena_alloc(r->c->scratch, n + 1, 1);
  PareStatus s = text ? read_exact(r, e, text, n) : pare_nomem(r->c);
  if (s == PARE_OK) s = pare_npy_parse(r->c, r->d, e->array, text, n, type);
  pare_arena_rewind(r->c->scratch, m);
  *header_bytes = start + n;
  return s;
}

static PareStatus read_array(Reader *r, const Entry *e) {
  PareType type;
  char text[PARE_TYPE_TEXT];
  uint64_t header = 0;
  size_t bytes, total;
  void *data = NULL;
  PARE_TRY(read_header(r, e, &type, &header));
  if (!pare_type_bytes(&type, &bytes) || !pare_add_size(bytes, header, &total))
    return read_error(r, "array '%s': impossible shape %s", e->array, pare_type_text(&type, text));
  if (total != e->size)
    return read_error(r, "array '%s' has %" PRIu64 " bytes, but %s needs %zu with its header", e->array, e->size,
                      pare_type_text(&type, text), total);
  if (bytes > r->left)
    return pare_data_error(r->c, r->d, PARE_DATA, "array '%s' (%s) passes the limit of %.1f GiB for all arrays",
                           e->array, pare_type_text(&type, text), (double)r->limit / 0x1p30);
  PARE_TRY(pare_data_room(r->c, r->d, e->array, &type, r->left, &data));
  r->left -= bytes;
  PARE_TRY(read_exact(r, e, data, bytes));
  PARE_TRY(expect_end(r, e));
  return pare_data_add(r->c, r->d, e->array, &type, data);
}

static PareStatus check_entry(Reader *r, const zip_stat_t *st, const char *array) {
  const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
  if ((st->valid & need) != need) return read_error(r, "array '%s': its sizes are missing", array);
  if (st->comp_method != ZIP_CM_STORE && st->comp_method != ZIP_CM_DEFLATE)
    return read_error(r, "array '%s' is compressed by zip method %d: save it with numpy.savez_compressed", array,
                      st->comp_method);
  if (st->size / DEFLATE_MAX_RATIO > st->comp_size)
    return read_error(r, "array '%s' announces %" PRIu64 " bytes, more than %" PRIu64 " compressed bytes can hold",
                      array, (uint64_t)st->size, (uint64_t)st->comp_size);
  return PARE_OK;
}

static PareStatus read_entry(Reader *r, zip_uint64_t i) {
  zip_stat_t st;
  if (zip_stat_index(r->zip, i, 0, &st) < 0 || !(st.valid & ZIP_STAT_NAME))
    return read_error(r, "entry %" PRIu64 ": %s", (uint64_t)i, zip_strerror(r->zip));
  size_t n = strlen(st.name);
  if (n <= 4 || strcmp(st.name + n - 4, ".npy"))
    return read_error(r, "entry '%s' is not an .npy array", st.name);
  char *array = pare_arena_strndup(r->d->arena, st.name, n - 4);
  if (!array) return pare_nomem(r->c);
  PARE_TRY(check_entry(r, &st, array));
  Entry e = {zip_fopen_index(r->zip, i, 0), array, st.size};
  if (!e.f) return read_error(r, "array '%s' cannot be read: %s", array, zip_strerror(r->zip));
  PareStatus s = read_array(r, &e);
  zip_fclose(e.f);
  return s;
}

static PareStatus open_zip(PareCtx *c, const PareData *d, const char *path, zip_t **out) {
  int code = 0;
  *out = zip_open(path, ZIP_RDONLY, &code);
  if (*out) return PARE_OK;
  int sys = errno;
  if (code == ZIP_ER_NOENT || code == ZIP_ER_OPEN || code == ZIP_ER_READ)
    return pare_data_error(c, d, PARE_IO, "cannot read: %s", strerror(code == ZIP_ER_NOENT ? ENOENT : sys));
  zip_error_t e;
  zip_error_init_with_code(&e, code);
  PareStatus s = pare_data_error(c, d, PARE_FORMAT, "not an .npz file, or a truncated one: %s", zip_error_strerror(&e));
  zip_error_fini(&e);
  return s;
}

PareStatus pare_npz_read(PareCtx *c, const char *path, uint64_t limit, PareData **out) {
  *out = NULL;
  if (!limit) limit = pare_data_memory_limit();
  Reader r = {.c = c, .left = limit, .limit = limit};
  PareStatus s = pare_data_new(c, path, &r.d);
  if (s == PARE_OK) s = open_zip(c, r.d, path, &r.zip);
  zip_int64_t n = r.zip ? zip_get_num_entries(r.zip, 0) : 0;
  if (s == PARE_OK && n == 0) s = read_error(&r, "the .npz holds no arrays");
  for (zip_int64_t i = 0; s == PARE_OK && i < n; i++) s = read_entry(&r, (zip_uint64_t)i);
  if (r.zip) zip_discard(r.zip);
  if (s == PARE_OK) *out = r.d;
  else pare_data_free(r.d);
  return s;
}

/* ---- writing ---- */

/* An .npy version 1 header, padded so that the elements start at 64. */
static char *make_header(PareArena *a, const PareType *t, size_t *n) {
  char shape[PARE_MAX_RANK * 24] = "";
  size_t k = 0;
  for (int i = 0; i < t->rank; i++)
    k += (size_t)snprintf(shape + k, sizeof shape - k, "%s%" PRId64, i ? ", " : "", t->dim[i]);
  char *dict = pare_arena_printf(a, "{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }", descr_of[t->dtype],
                                 shape, t->rank == 1 ? "," : "");
  if (!dict) return NULL;
  size_t used = strlen(dict);
  *n = (10 + used + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
  char *h = pare_arena_alloc(a, *n, 1);
  if (!h) return NULL;
  memset(h, ' ', *n);
  memcpy(h, "\x93NUMPY\x01", 8);
  h[8] = (char)((*n - 10) & 255u);
  h[9] = (char)((*n - 10) >> 8);
  memcpy(h + 10, dict, used);
  h[*n - 1] = '\n';
  return h;
}

static PareStatus add_array(PareCtx *c, const PareData *named, zip_t *z, const PareArray *x, bool deflate) {
  size_t bytes, header_bytes;
  char *name = pare_arena_printf(c->scratch, "%s.npy", x->name);
  char *header = make_header(c->scratch, &x->type, &header_bytes);
  if (!name || !header || !pare_type_bytes(&x->type, &bytes)) return pare_nomem(c);
  zip_buffer_fragment_t part[2] = {{(zip_uint8_t *)header, header_bytes},
                                   {(zip_uint8_t *)(uintptr_t)x->data, bytes}};
  zip_source_t *src = zip_source_buffer_fragment(z, part, 2, 0);
  zip_int64_t i = src ? zip_file_add(z, name, src, ZIP_FL_ENC_UTF_8) : -1;
  if (i < 0) zip_source_free(src);
  /* 1980-01-01 00:00, zip's first moment: the same data give the same bytes */
  if (i < 0 || zip_set_file_compression(z, (zip_uint64_t)i, deflate ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0) < 0 ||
      zip_file_set_dostime(z, (zip_uint64_t)i, 0, 0x21, 0) < 0)
    return pare_data_error(c, named, PARE_IO, "cannot write array '%s': %s", x->name, zip_strerror(z));
  return PARE_OK;
}

static PareStatus write_zip(PareCtx *c, const PareData *named, const char *tmp, const PareData *d, bool deflate) {
  int code = 0;
  zip_t *z = zip_open(tmp, ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (!z) return pare_data_error(c, named, PARE_IO, "cannot write: %s", strerror(errno));
  PareStatus s = PARE_OK;
  for (size_t i = 0; s == PARE_OK && i < d->narrays; i++) s = add_array(c, named, z, &d->arrays[i], deflate);
  if (s == PARE_OK && zip_close(z) == 0) return PARE_OK;
  if (s == PARE_OK) s = pare_data_error(c, named, PARE_IO, "cannot write: %s", zip_strerror(z));
  zip_discard(z);
  return s;
}

/* libzip puts a new file under the temporary name at zip_close, so it is that
 * file that must reach the disk before the rename. */
static PareStatus sync_file(PareCtx *c, const PareData *named, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool ok = fd >= 0 && fsync(fd) == 0;
  PareStatus s = ok ? PARE_OK : pare_data_error(c, named, PARE_IO, "cannot write: %s", strerror(errno));
  if (fd >= 0) close(fd);
  return s;
}

PareStatus pare_npz_write(PareCtx *c, const char *path, const PareData *d, bool deflate) {
  PareMark m = pare_arena_mark(c->scratch);
  PareData named = {.file = path};
  PareOut o = {0};
  PareStatus s = pare_out_open(c, c->scratch, path, &o);
  if (s == PARE_OK) s = write_zip(c, &named, o.tmp, d, deflate);
  if (s == PARE_OK) s = sync_file(c, &named, o.tmp);
  if (s == PARE_OK) s = pare_out_commit(c, &o);
  pare_out_abort(&o);
  pare_arena_rewind(c->scratch, m);
  return s;
}
