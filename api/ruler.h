/* ruler.h - loss and metric of many cuts of one model on the same samples: against labels or, where there are none,
 * against what the model itself says, which is remembered. */
#ifndef PARE_API_RULER_H
#define PARE_API_RULER_H

#include "api/judge.h"

typedef struct PareRuler {
  const PareData *data;
  PareChoice chosen;
  int64_t batch;
  PareDevice *device;
  const PareHooks *h; /* asked whether to stop; progress is the caller's */
  PareYardstick by;
  float *reference;         /* [chosen.n * width]; NULL with labels */
  bool single;              /* a row of the reference is one number, whose cosine is its sign alone: squares, then */
  PareVerdict whole;        /* on the model itself */
} PareRuler;

/* Judges the model, as imported. Lives in a; everything else is borrowed. */
PARE_MUST_USE PareStatus pare_ruler_new(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d,
                                        PareChoice chosen, int64_t batch, PareAsked asked, PareDevice *device,
                                        const PareHooks *h, PareRuler *out);
/* Judges a cut of it. */
PARE_MUST_USE PareStatus pare_ruler_measure(PareCtx *c, const PareRuler *r, const PareGraph *g, PareVerdict *out);
/* "ce", "bce" or "mse" against labels; else "kl", of the model's distributions, "1 - cosine" or, of single numbers, "mse". */
const char *pare_ruler_loss_name(const PareRuler *r);

#endif
