#define _GNU_SOURCE /* copy_file_range */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static PareStatus io_error(PareCtx *c, const char *what, const char *path) {
  return pare_diag_set(&c->diag, PARE_IO, path, NULL, NULL, __FILE__, __LINE__, "cannot %s: %s", what,
                       strerror(errno));
}

PareStatus pare_file_map(PareCtx *c, const char *path, PareFile *out) {
  *out = (PareFile){.fd = -1};
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return io_error(c, "open", path);
  struct stat st;
  PareStatus s = PARE_OK;
  if (fstat(fd, &st) < 0) s = io_error(c, "stat", path);
  else if (!S_ISREG(st.st_mode)) errno = EISDIR, s = io_error(c, "read", path);
  else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) s = io_error(c, "map", path);
    else *out = (PareFile){p, (size_t)st.st_size, fd};
  }
  if (s != PARE_OK || !out->data) close(fd);
  return s;
}

void pare_file_unmap(PareFile *f) {
  if (!f->data) return;
  munmap((void *)(uintptr_t)f->data, f->len);
  close(f->fd);
  *f = (PareFile){.fd = -1};
}

void pare_file_forget(const PareFile *f) {
  if (f->data && f->fd >= 0) (void)madvise((void *)(uintptr_t)f->data, f->len, MADV_DONTNEED); /* read-only: nothing is lost */
}

PareStatus pare_out_open(PareCtx *c, PareArena *a, const char *path, PareOut *out) {
  *out = (PareOut){.path = path};
  char *tmp = pare_arena_printf(a, "%s.tmp-XXXXXX", path);
  if (!tmp) return pare_nomem(c);
  int fd = mkstemp(tmp);
  if (fd < 0) return io_error(c, "create a file beside", path);
  mode_t mask = umask(0);
  umask(mask);
  out->tmp = tmp;
  if (fchmod(fd, 0666 & ~mask) < 0 || !(out->f = fdopen(fd, "wb"))) {
    close(fd);
    pare_out_abort(out);
    return io_error(c, "write", path);
  }
  return PARE_OK;
}

PareStatus pare_out_write(PareCtx *c, PareOut *o, const void *p, size_t n) {
  if (n && fwrite(p, 1, n, o->f) != n) return io_error(c, "write", o->path);
  return PARE_OK;
}

enum { COPY_IN_KERNEL = 1 << 20 };

PareStatus pare_out_copy(PareCtx *c, PareOut *o, const PareFile *from, size_t off, size_t n) {
  if (n >= COPY_IN_KERNEL && fflush(o->f) == 0) {
    off_t in = (off_t)off;
    while (n > 0) {
      ssize_t k = copy_file_range(from->fd, &in, fileno(o->f), NULL, n, 0);
      if (k <= 0) break; /* another file system, say: written below */
      n -= (size_t)k;
    }
    off = (size_t)in;
    if (fseeko(o->f, 0, SEEK_END) < 0) return io_error(c, "write", o->path);
  }
  return n ? pare_out_write(c, o, from->data + off, n) : PARE_OK;
}

static PareStatus close_out(PareCtx *c, PareOut *o, bool ok) {
  int err = errno;
  ok = (fclose(o->f) == 0) && ok;
  o->f = NULL;
  if (!ok) errno = err;
  return ok ? PARE_OK : io_error(c, "write", o->path);
}

static PareStatus put_in_place(PareCtx *c, PareOut *o) {
  if (rename(o->tmp, o->path) < 0) return io_error(c, "put in place", o->path);
  o->tmp = NULL;
  return PARE_OK;
}

PareStatus pare_out_finish(PareCtx *c, PareOut *o) {
  return close_out(c, o, fflush(o->f) == 0 && fsync(fileno(o->f)) == 0);
}

PareStatus pare_out_commit(PareCtx *c, PareOut *o) {
  if (o->f) PARE_TRY(pare_out_finish(c, o));
  return put_in_place(c, o);
}

PareStatus pare_out_place(PareCtx *c, PareOut *o) {
  PARE_TRY(close_out(c, o, fflush(o->f) == 0));
  return put_in_place(c, o);
}

PareStatus pare_file_sync(PareCtx *c, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool ok = fd >= 0 && fsync(fd) == 0;
  int err = errno;
  if (fd >= 0) close(fd);
  errno = err;
  return ok ? PARE_OK : io_error(c, "write", path);
}

void pare_out_abort(PareOut *o) {
  if (o->f) fclose(o->f);
  if (o->tmp) unlink(o->tmp);
  *o = (PareOut){0};
}

PareStatus pare_file_write(PareCtx *c, const char *path, const void *p, size_t n) {
  PareMark m = pare_arena_mark(c->scratch);
  PareOut o = {0};
  PareStatus s = pare_out_open(c, c->scratch, path, &o);
  if (s == PARE_OK) s = pare_out_write(c, &o, p, n);
  if (s == PARE_OK) s = pare_out_commit(c, &o);
  pare_out_abort(&o);
  pare_arena_rewind(c->scratch, m);
  return s;
}

char *pare_path_beside(PareArena *a, const char *path, const char *name) {
  const char *slash = strrchr(path, '/');
  return pare_arena_printf(a, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, name);
}

PareStatus pare_dir_make(PareCtx *c, const char *path) {
  if (mkdir(path, 0777) == 0 || errno == EEXIST) return PARE_OK;
  return io_error(c, "make the folder", path);
}
