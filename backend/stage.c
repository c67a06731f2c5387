/* stage.c - a folder in which a model waits until it is proven. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/stage.h"
#include "base/file.h"

static PareStatus stage_error(PareCtx *c, const char *path) {
  return pare_diag_set(&c->diag, PARE_IO, path, NULL, NULL, __FILE__, __LINE__, "cannot write there: %s",
                       strerror(errno));
}

PareStatus pare_stage_open(PareCtx *c, PareArena *a, const char *path, PareStage *s) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  *s = (PareStage){.dir = pare_arena_printf(a, "%s.tmp-XXXXXX", path), .model_to = pare_arena_strdup(a, path)};
  if (!s->dir || !s->model_to) return pare_nomem(c);
  if (!mkdtemp(s->dir)) {
    s->dir = NULL;
    return stage_error(c, path);
  }
  s->model = pare_arena_printf(a, "%s/%s", s->dir, base);
  s->data_to = pare_arena_printf(a, "%s.data", path);
  s->data = pare_arena_printf(a, "%s/%s.data", s->dir, base);
  return s->model && s->data && s->data_to ? PARE_OK : pare_nomem(c);
}

static void sync_folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  char dir[4096];
  if (slash && (size_t)(slash - path) < sizeof dir) snprintf(dir, sizeof dir, "%.*s", (int)(slash - path + 1), path);
  else snprintf(dir, sizeof dir, ".");
  int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return; /* a rename is still atomic; only its durability is lost */
  fsync(fd);
  close(fd);
}

PareStatus pare_stage_sync(PareCtx *c, const PareStage *s) {
  if (s->data) PARE_TRY(pare_file_sync(c, s->data));
  return s->model ? pare_file_sync(c, s->model) : PARE_OK;
}

PareStatus pare_stage_commit(PareCtx *c, PareStage *s) {
  if (s->data && rename(s->data, s->data_to) < 0) return stage_error(c, s->data_to);
  s->data = NULL;
  if (rename(s->model, s->model_to) < 0) return stage_error(c, s->model_to);
  s->model = NULL;
  sync_folder_of(s->model_to);
  return PARE_OK;
}

void pare_stage_remove(PareStage *s) {
  if (s->data) unlink(s->data);
  if (s->model) unlink(s->model);
  if (s->dir) rmdir(s->dir);
  *s = (PareStage){0};
}
