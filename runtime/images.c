#include "runtime/images.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"

typedef struct Picture {
  const char *path;
  int64_t label;
} Picture;

typedef struct Folder {
  PareCtx *c;
  PareData *d;
  PareArena *names;
  PareImageOptions opt;
  PARE_VEC(Picture) pictures;
} Folder;

typedef PARE_VEC(const char *) Names;

enum { MOST_NESTED = 32 }; /* folders; links may go round in circles */

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static bool is_picture(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg") || !strcasecmp(dot, ".png"));
}

/* Whether what `path` names is a folder, a file that is a picture, or neither. */
typedef enum What { FOLDER, PICTURE, OTHER } What;

static What look_at(const char *path) {
  struct stat st;
  if (stat(path, &st) < 0) return OTHER; /* a link to nowhere */
  return S_ISDIR(st.st_mode) ? FOLDER : S_ISREG(st.st_mode) && is_picture(path) ? PICTURE : OTHER;
}

/* The names in `path` of one kind, sorted, without hidden ones. */
static PareStatus list(Folder *f, const char *path, What kind, Names *out) {
  PareData named = {.file = path};
  DIR *dir = opendir(path);
  if (!dir) return pare_data_error(f->c, &named, PARE_IO, "cannot read the folder: %s", strerror(errno));
  PareStatus s = PARE_OK;
  for (struct dirent *e; s == PARE_OK && (e = readdir(dir));) {
    if (e->d_name[0] == '.') continue;
    char *name = pare_arena_printf(f->names, "%s/%s", path, e->d_name);
    if (!name || (look_at(name) == kind && !pare_vec_push(f->names, out, name))) s = pare_nomem(f->c);
  }
  closedir(dir);
  if (s == PARE_OK && out->n) qsort(out->at, out->n, sizeof *out->at, by_name);
  return s;
}

/* `path` and the folders in it, at any depth. */
static PareStatus list_nested(Folder *f, const char *path, int depth, Names *out) {
  Names inner = {0};
  PareData named = {.file = path};
  if (depth > MOST_NESTED) return pare_data_error(f->c, &named, PARE_DATA, "more than %d folders in each other", MOST_NESTED);
  if (!pare_vec_push(f->names, out, path)) return pare_nomem(f->c);
  PARE_TRY(list(f, path, FOLDER, &inner));
  for (size_t i = 0; i < inner.n; i++) PARE_TRY(list_nested(f, inner.at[i], depth + 1, out));
  return PARE_OK;
}

static PareStatus find_in(Folder *f, const char *folder, int64_t label, Names *others) {
  Names files = {0};
  PARE_TRY(list(f, folder, PICTURE, &files));
  PARE_TRY(list(f, folder, OTHER, others));
  for (size_t i = 0; i < files.n; i++)
    if (!pare_vec_push(f->names, &f->pictures, ((Picture){files.at[i], label}))) return pare_nomem(f->c);
  return PARE_OK;
}

/* Folder by folder in the order of their paths, as torchvision's ImageFolder walks them. */
static PareStatus find_class(Folder *f, const char *path, int64_t label, Names *others) {
  Names folders = {0};
  size_t before = f->pictures.n;
  const char *name = strrchr(path, '/') + 1;
  PARE_TRY(list_nested(f, path, 0, &folders));
  qsort(folders.at, folders.n, sizeof *folders.at, by_name);
  for (size_t i = 0; i < folders.n; i++) PARE_TRY(find_in(f, folders.at[i], label, others));
  if (f->pictures.n == before)
    return pare_data_error(f->c, f->d, PARE_DATA, "class folder '%s' holds no .jpg, .jpeg or .png file", name);
  pare_log(f->c, 0, "label %" PRId64 ": %s (%zu pictures)", label, name, f->pictures.n - before);
  return PARE_OK;
}

static PareStatus find_pictures(Folder *f, const char *path) {
  Names classes = {0}, others = {0};
  PARE_TRY(list(f, path, FOLDER, &classes));
  if (!classes.n) return pare_data_error(f->c, f->d, PARE_DATA, "no sub-folders: one per class is wanted");
  PARE_TRY(list(f, path, PICTURE, &others)); /* of no class */
  PARE_TRY(list(f, path, OTHER, &others));
  for (size_t k = 0; k < classes.n; k++) PARE_TRY(find_class(f, classes.at[k], (int64_t)k, &others));
  if (others.n)
    pare_log(f->c, 0, "%zu files are passed over, beside the class folders or neither .jpg, .jpeg nor .png: %s%s",
             others.n, others.at[0], others.n > 1 ? " .." : "");
  return PARE_OK;
}

/* Decoded and framed in c->scratch, which the caller rewinds. */
static PareStatus read_picture(Folder *f, const char *path, PareImage *out) {
  PareFile file;
  PareImage whole;
  PARE_TRY(pare_file_map(f->c, path, &file));
  PareStatus s = pare_image_decode(f->c, f->c->scratch, path, file.data, file.len, f->opt.channels, &whole);
  pare_file_unmap(&file);
  return s == PARE_OK ? pare_image_frame(f->c, f->c->scratch, path, &whole, &f->opt, out) : s;
}

/* The first picture settles H and W. */
static PareStatus make_arrays(Folder *f, PareType *type, float **pixels, int64_t **labels) {
  PareImage first;
  PareMark m = pare_arena_mark(f->c->scratch);
  PareStatus s = read_picture(f, f->pictures.at[0].path, &first);
  pare_arena_rewind(f->c->scratch, m);
  if (s != PARE_OK) return s;
  *type = (PareType){PARE_F32, 4, {(int64_t)f->pictures.n, f->opt.channels, first.h, first.w}};
  void *room = NULL;
  PARE_TRY(pare_data_room(f->c, f->d, f->opt.name, type, pare_data_memory_limit(), &room));
  *pixels = room;
  *labels = PARE_NEW_N(f->d->arena, f->pictures.n, int64_t);
  return *labels ? PARE_OK : pare_nomem(f->c);
}

static PareStatus fill(Folder *f, size_t i, const PareType *type, float *pixels) {
  const char *path = f->pictures.at[i].path;
  PareImage image;
  PARE_TRY(read_picture(f, path, &image));
  if (image.h != type->dim[2] || image.w != type->dim[3])
    return pare_diag_set(&f->c->diag, PARE_DATA, path, NULL, NULL, __FILE__, __LINE__,
                         "%" PRId64 " x %" PRId64 " pixels, but the first picture has %" PRId64 " x %" PRId64
                         ": give a size to resize to",
                         image.w, image.h, type->dim[3], type->dim[2]);
  pare_image_normalize(&image, &f->opt, pixels + i * (size_t)image.channels * (size_t)(image.h * image.w));
  return PARE_OK;
}

static PareStatus read_folder(Folder *f, const char *path) {
  PareType type;
  float *pixels = NULL;
  int64_t *labels = NULL;
  PARE_TRY(find_pictures(f, path));
  PARE_TRY(make_arrays(f, &type, &pixels, &labels));
  for (size_t i = 0; i < f->pictures.n; i++) {
    PareMark m = pare_arena_mark(f->c->scratch);
    PareStatus s = fill(f, i, &type, pixels);
    pare_arena_rewind(f->c->scratch, m);
    if (s != PARE_OK) return s;
    labels[i] = f->pictures.at[i].label;
  }
  PareType one = {PARE_I64, 1, {(int64_t)f->pictures.n}};
  PARE_TRY(pare_data_add(f->c, f->d, f->opt.name, &type, pixels));
  return pare_data_add(f->c, f->d, "labels", &one, labels);
}

PareStatus pare_images_read(PareCtx *c, const char *folder, const PareImageOptions *opt, PareData **out) {
  *out = NULL;
  PARE_TRY(pare_image_check_options(c, opt));
  Folder f = {.c = c, .opt = *opt, .names = pare_arena_new(1 << 16)};
  if (!f.opt.name) f.opt.name = "pixel_values";
  if (!f.opt.channels) f.opt.channels = 3;
  PareStatus s = f.names ? pare_data_new(c, folder, &f.d) : pare_nomem(c);
  if (s == PARE_OK) s = read_folder(&f, folder);
  pare_arena_free(f.names);
  if (s == PARE_OK) *out = f.d;
  else pare_data_free(f.d);
  return s;
}
