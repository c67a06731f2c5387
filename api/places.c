#include "api/places.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static bool same_file(const char *a, const char *b) {
  struct stat x, y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

PareStatus pare_place_check(PareCtx *c, PareArena *a, const PareCompressOptions *o, const char *path) {
  struct stat st;
  const char *slash = strrchr(path, '/');
  const char *folder = !slash ? "." : pare_arena_printf(a, "%.*s", (int)(slash - path + 1), path);
  if (!folder) return pare_nomem(c);
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return pare_error(c, PARE_IO, "'%s' is a folder", path);
  if (access(folder, W_OK | X_OK)) return pare_error(c, PARE_IO, "cannot write '%s': %s", path, strerror(errno));
  if (same_file(path, o->train) || same_file(path, o->eval))
    return pare_error(c, PARE_USAGE, "'%s' would overwrite the data", path);
  if (!o->overwrite && (same_file(path, o->vocab) || same_file(path, o->vocab_keep)))
    return pare_error(c, PARE_USAGE, "'%s' would overwrite the vocabulary: give OUT another name, or --overwrite", path);
  return PARE_OK;
}

/* A folder can be made at `path`, or is there. */
static PareStatus check_folder(PareCtx *c, PareArena *a, const PareCompressOptions *o, const char *path) {
  struct stat st;
  if (stat(path, &st)) return pare_place_check(c, a, o, path);
  if (!S_ISDIR(st.st_mode)) return pare_error(c, PARE_IO, "'%s' is a file, not a folder", path);
  return access(path, W_OK | X_OK) ? pare_error(c, PARE_IO, "cannot write '%s': %s", path, strerror(errno)) : PARE_OK;
}

typedef struct Places {
  PareCtx *c;
  PareArena *a;
  const char *model, *out;
  const PareCompressOptions *o;
} Places;

/* --save-masked and --save-base: another file than MODEL, OUT and each other. */
static PareStatus check_also(const Places *p, const char *option, const char *path, const char *other) {
  if (!*path) return PARE_OK;
  if (same_file(p->model, path)) return pare_error(p->c, PARE_USAGE, "--%s would overwrite the model", option);
  if (!strcmp(p->out, path) || same_file(p->out, path))
    return pare_error(p->c, PARE_USAGE, "--%s and OUT are the same file", option);
  if (!strcmp(other, path) || same_file(other, path))
    return pare_error(p->c, PARE_USAGE, "--save-masked and --save-base are the same file");
  return pare_place_check(p->c, p->a, p->o, path);
}

PareStatus pare_places_check(PareCtx *c, PareArena *a, const char *model, const char *out,
                             const PareCompressOptions *o) {
  Places p = {c, a, model, out, o};
  if (same_file(model, out) && !o->overwrite)
    return pare_error(c, PARE_USAGE, "OUT is MODEL: give another name, or --overwrite");
  PARE_TRY(pare_place_check(c, a, o, out));
  PARE_TRY(check_also(&p, "save-masked", o->save_masked, ""));
  PARE_TRY(check_also(&p, "save-base", o->save_base, o->save_masked));
  if (*o->save_adapters) PARE_TRY(check_folder(c, a, o, o->save_adapters));
  return *o->save_plan ? pare_place_check(c, a, o, o->save_plan) : PARE_OK;
}

static PareStatus check_external(PareCtx *c, PareArena *a, const PareModel *m, const char *path) {
  const char *data = pare_arena_printf(a, "%s.data", path);
  if (!data) return pare_nomem(c);
  for (size_t i = 0; i < m->external.n; i++) {
    const char *in = pare_path_beside(a, m->path, m->external.at[i].location);
    if (!in) return pare_nomem(c);
    if (same_file(in, data) || same_file(in, path))
      return pare_error(c, PARE_USAGE, "'%s' would overwrite '%s', which holds the model's weights: give "
                        "another name", path, in);
  }
  return PARE_OK;
}

PareStatus pare_places_check_external(PareCtx *c, PareArena *a, const PareModel *m, const char *out,
                                      const PareCompressOptions *o) {
  const char *path[] = {out, o->save_masked, o->save_base};
  for (size_t i = 0; i < sizeof path / sizeof *path; i++)
    if (*path[i]) PARE_TRY(check_external(c, a, m, path[i]));
  return PARE_OK;
}
