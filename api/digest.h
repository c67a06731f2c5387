/* digest.h - SHA-256 of model files, made beside other work: a file of a gigabyte takes a second. */
#ifndef PARE_API_DIGEST_H
#define PARE_API_DIGEST_H

#include <pthread.h>

#include "frontend/model.h"

/* Zeroed before it begins. */
typedef struct PareDigest {
  const PareModel *model;
  pthread_t thread;
  bool beside; /* `thread` is at work */
  bool ok;
  unsigned char sum[32];
} PareDigest;

/* Of the file and its external data, by a thread of its own where there is more than one to have. `m` is borrowed until
 * the end. */
void pare_digest_begin(PareDigest *d, const PareModel *m);
/* Waits; in hex. */
PARE_MUST_USE PareStatus pare_digest_end(PareCtx *c, PareDigest *d, char hex[65]);
/* Waits where it was begun and never ended. */
void pare_digest_leave(PareDigest *d);

#endif
