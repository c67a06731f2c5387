/* digest.h - SHA-256 of a model's bytes, for reports. */
#ifndef PARE_API_DIGEST_H
#define PARE_API_DIGEST_H

#include "frontend/model.h"

/* Of the file, then of its external data in the order of first use; in hex. */
PARE_MUST_USE PareStatus pare_model_digest(PareCtx *c, const PareModel *m, char hex[65]);

#endif
