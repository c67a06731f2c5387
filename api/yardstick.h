/* yardstick.h - loss and metric of many cuts of one model on the same samples: against labels or, where there are none,
 * against what the model itself says, which is remembered. */
#ifndef PARE_API_YARDSTICK_H
#define PARE_API_YARDSTICK_H

#include "api/judge.h"

typedef struct PareYardstick {
  const PareData *data;
  PareChoice chosen;
  int64_t batch;
  PareDevice *device;
  const PareHooks *h; /* asked whether to stop; progress is the caller's */
  size_t output;      /* of the model, that is judged */
  PareMetricKind kind;
  bool labels;
  float *reference;   /* [chosen.n * width]; NULL with labels */
  double loss, value; /* of the model itself */
} PareYardstick;

/* Judges the model, as imported. Lives in a; everything else is borrowed. */
PARE_MUST_USE PareStatus pare_yardstick_new(PareCtx *c, PareArena *a, const PareGraph *g, const PareData *d,
                                            PareChoice chosen, int64_t batch, PareDevice *device, const PareHooks *h,
                                            PareYardstick *out);
/* Judges a cut of it. */
PARE_MUST_USE PareStatus pare_yardstick_measure(PareCtx *c, const PareYardstick *y, const PareGraph *g, double *loss,
                                                double *value);
/* "ce" or "mse" against labels; else "kl", of the model's distributions, or "1 - cosine". */
const char *pare_yardstick_loss_name(const PareYardstick *y);

#endif
