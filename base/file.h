/* file.h - files read by mapping and written whole or not at all. */
#ifndef PARE_BASE_FILE_H
#define PARE_BASE_FILE_H

#include <stdint.h>

#include "base/ctx.h"

typedef struct PareFile {
  const uint8_t *data; /* read-only mapping; NULL when the file is empty */
  size_t len;
  int fd;
} PareFile;

/* Maps `path` for reading. Error: PARE_IO, naming the path and the reason.
 * Pair: pare_file_unmap (a zeroed PareFile is fine). */
PARE_MUST_USE PareStatus pare_file_map(PareCtx *c, const char *path, PareFile *out);
void pare_file_unmap(PareFile *f);
/* Gives back what of the mapping is in memory; it is read again where it is touched. */
void pare_file_forget(const PareFile *f);

/* A file that appears under `path` only at commit: it is written under a
 * temporary name beside it, synced and renamed. */
typedef struct PareOut {
  FILE *f;
  char *tmp;        /* in the arena that was given */
  const char *path; /* borrowed */
} PareOut;

PARE_MUST_USE PareStatus pare_out_open(PareCtx *c, PareArena *a, const char *path, PareOut *out);
PARE_MUST_USE PareStatus pare_out_write(PareCtx *c, PareOut *o, const void *p, size_t n);
/* Copies `n` bytes at `off` of a mapped file, in the kernel where that works. */
PARE_MUST_USE PareStatus pare_out_copy(PareCtx *c, PareOut *o, const PareFile *from, size_t off, size_t n);
/* Flushes, syncs and closes, but leaves the file under its temporary name. */
PARE_MUST_USE PareStatus pare_out_finish(PareCtx *c, PareOut *o);
PARE_MUST_USE PareStatus pare_out_commit(PareCtx *c, PareOut *o);
/* The same without waiting for the disk: pare_file_sync is to follow. */
PARE_MUST_USE PareStatus pare_out_place(PareCtx *c, PareOut *o);
/* Removes what was written; fine after commit and on a zeroed PareOut. */
void pare_out_abort(PareOut *o);

/* Waits until `path` is on the disk. Error: PARE_IO, the disk being full, say. */
PARE_MUST_USE PareStatus pare_file_sync(PareCtx *c, const char *path);

/* Writes a whole small file atomically. */
PARE_MUST_USE PareStatus pare_file_write(PareCtx *c, const char *path, const void *p, size_t n);

/* `name` in the folder of `path`; lives in a. NULL when memory is out. */
char *pare_path_beside(PareArena *a, const char *path, const char *name);
/* mkdir -p of one level; fine when it is there. */
PARE_MUST_USE PareStatus pare_dir_make(PareCtx *c, const char *path);

#endif
