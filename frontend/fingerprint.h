/* fingerprint.h - who made this file, and in which dialect: by the table in fingerprint.def. */
#ifndef PARE_FRONTEND_FINGERPRINT_H
#define PARE_FRONTEND_FINGERPRINT_H

#include <onnx.pb-c.h>

#include "base/ctx.h"
#include "ir/fingerprint.h"

/* Reads names, domains and op types of the graph and of the functions, each of which counts once. Lives in a. */
PARE_MUST_USE PareStatus pare_fingerprint(PareCtx *c, PareArena *a, const Onnx__ModelProto *p, PareFingerprint *out);

#endif
