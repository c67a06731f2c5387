#include "runtime/idx.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/num.h"

enum { IDX_U8 = 8, INFLATE_MAX_RATIO = 1032, READ_STEP = 1 << 24 };

typedef struct Idx {
  PareCtx *c;
  PareData file; /* only its name, for errors */
  gzFile gz;
} Idx;

#define idx_error(x, ...) pare_data_error((x)->c, &(x)->file, PARE_FORMAT, __VA_ARGS__)

static PareStatus read_exact(Idx *x, void *out, size_t n) {
  for (size_t done = 0; done < n;) {
    size_t step = n - done < READ_STEP ? n - done : READ_STEP;
    int k = gzread(x->gz, (uint8_t *)out + done, (unsigned)step), code;
    if (k < 0) return idx_error(x, "corrupt: %s", gzerror(x->gz, &code));
    if (k == 0) return idx_error(x, "the file ends early");
    done += (size_t)k;
  }
  return PARE_OK;
}

/* At the end gzip's checksum has been compared. */
static PareStatus expect_end(Idx *x) {
  char extra;
  int k = gzread(x->gz, &extra, 1), code;
  if (k > 0) return idx_error(x, "more bytes than its header says");
  const char *text = gzerror(x->gz, &code);
  return k < 0 || code == Z_BUF_ERROR ? idx_error(x, "corrupt: %s", text) : PARE_OK;
}

/* Two zero bytes, the element type, the rank, then big-endian dims. The product
 * is compared with what the file can hold at most, before anything is made. */
static PareStatus read_dims(Idx *x, uint64_t file_bytes, int rank, int64_t dim[3], size_t *bytes) {
  uint8_t head[4], be[4];
  PARE_TRY(read_exact(x, head, 4));
  if (head[0] || head[1]) return idx_error(x, "not an IDX file: wrong magic");
  if (head[2] != IDX_U8) return idx_error(x, "IDX of element type 0x%02x: unsigned bytes (0x08) are wanted", head[2]);
  if (head[3] != rank)
    return idx_error(x, "IDX of %d axes, but %s have %d", head[3], rank == 3 ? "images" : "labels", rank);
  *bytes = 1;
  for (int i = 0; i < rank; i++) {
    PARE_TRY(read_exact(x, be, 4));
    dim[i] = (int64_t)be[0] << 24 | (int64_t)be[1] << 16 | (int64_t)be[2] << 8 | be[3];
    if (dim[i] == 0) return idx_error(x, "axis %d of the IDX file is empty", i);
    if (!pare_mul_size(*bytes, (size_t)dim[i], bytes)) return idx_error(x, "impossible dims");
  }
  if (*bytes / INFLATE_MAX_RATIO > file_bytes)
    return idx_error(x, "the header announces %zu bytes, more than the file can hold", *bytes);
  return PARE_OK;
}

/* All elements of one file, in `a`. */
static PareStatus read_idx(PareCtx *c, PareArena *a, const char *path, int rank, int64_t dim[3], uint8_t **out) {
  Idx x = {.c = c, .file = {.file = path}};
  struct stat st;
  size_t bytes = 0;
  errno = 0;
  if (stat(path, &st) < 0 || !(x.gz = gzopen(path, "rb")))
    return pare_data_error(c, &x.file, PARE_IO, "cannot open: %s", strerror(errno ? errno : ENOMEM));
  PareStatus s = S_ISREG(st.st_mode) ? read_dims(&x, (uint64_t)st.st_size, rank, dim, &bytes)
                                     : pare_data_error(c, &x.file, PARE_IO, "not a file");
  if (s == PARE_OK && bytes > pare_data_memory_limit()) s = idx_error(&x, "%zu bytes do not fit in memory", bytes);
  if (s == PARE_OK && !(*out = pare_arena_alloc(a, bytes, 1))) s = pare_nomem(c);
  if (s == PARE_OK) s = read_exact(&x, *out, bytes);
  if (s == PARE_OK) s = expect_end(&x);
  gzclose(x.gz);
  return s;
}

static PareStatus frame_one(PareCtx *c, const char *path, uint8_t *px, const int64_t dim[3],
                            const PareImageOptions *opt, PareImage *out) {
  PareImage own = {dim[1], dim[2], 1, px}, wide;
  PARE_TRY(pare_image_channels(c, c->scratch, &own, opt->channels, &wide));
  return pare_image_frame(c, c->scratch, path, &wide, opt, out);
}

static PareStatus add_images(PareCtx *c, PareData *d, const char *path, const PareImageOptions *opt) {
  int64_t dim[3];
  uint8_t *px = NULL;
  void *room = NULL;
  PareImage im;
  PARE_TRY(read_idx(c, c->scratch, path, 3, dim, &px));
  PARE_TRY(frame_one(c, path, px, dim, opt, &im));
  PareType type = {PARE_F32, 4, {dim[0], opt->channels, im.h, im.w}};
  PARE_TRY(pare_data_room(c, d, opt->name, &type, pare_data_memory_limit(), &room));
  for (int64_t i = 0; i < dim[0]; i++) {
    PareMark m = pare_arena_mark(c->scratch);
    PareStatus s = frame_one(c, path, px + (size_t)i * (size_t)(dim[1] * dim[2]), dim, opt, &im);
    if (s == PARE_OK) pare_image_normalize(&im, opt, (float *)room + i * opt->channels * im.h * im.w);
    pare_arena_rewind(c->scratch, m);
    if (s != PARE_OK) return s;
  }
  return pare_data_add(c, d, opt->name, &type, room);
}

static PareStatus add_labels(PareCtx *c, PareData *d, const char *path) {
  int64_t dim[3];
  uint8_t *raw = NULL;
  PARE_TRY(read_idx(c, c->scratch, path, 1, dim, &raw));
  int64_t *labels = PARE_NEW_N(d->arena, dim[0], int64_t);
  if (!labels) return pare_nomem(c);
  for (int64_t i = 0; i < dim[0]; i++) labels[i] = raw[i];
  PareType type = {PARE_I64, 1, {dim[0]}};
  return pare_data_add(c, d, "labels", &type, labels);
}

PareStatus pare_idx_read(PareCtx *c, const char *images, const char *labels, const PareImageOptions *opt,
                         PareData **out) {
  *out = NULL;
  PARE_TRY(pare_image_check_options(c, opt));
  PareImageOptions o = *opt;
  if (!o.name) o.name = "pixel_values";
  if (!o.channels) o.channels = 1;
  PareData *d = NULL;
  PareMark m = pare_arena_mark(c->scratch);
  PareStatus s = pare_data_new(c, images, &d);
  if (s == PARE_OK) s = add_images(c, d, images, &o);
  if (s == PARE_OK && labels) s = add_labels(c, d, labels);
  pare_arena_rewind(c->scratch, m);
  if (s == PARE_OK) *out = d;
  else pare_data_free(d);
  return s;
}

bool pare_idx_is_path(const char *path) {
  return pare_data_has_suffix(path, "-ubyte") || pare_data_has_suffix(path, "-ubyte.gz") ||
         pare_data_has_suffix(path, ".idx");
}
