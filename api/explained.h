/* explained.h - how much of what labels say a model says already. */
#ifndef PARE_API_EXPLAINED_H
#define PARE_API_EXPLAINED_H

#include "api/call.h"
#include "api/judge.h"

/* 1 - L(g) / L(constant), within [0, 1]: L the mean loss of labels (judge.h) on `samples`, of classes, marks and spans at
 * the best of some temperatures (pare_metric_softened_loss): a model that is too sure of itself may know much, and too
 * sure it is wherever it was not trained on the samples. `constant` is what says the same of every sample and does so
 * best, on `known` samples, or so many of them as have four million labels: what few labels say of many classes is told
 * with Miller and Madow's term. Of numbers the share is R²; of classes, marks and spans McFadden's pseudo-R² (1974). 0
 * where labels do not vary. `g` (unbound) runs in batches of `batch` on the device (NULL: the CPU); outputs that `aside`
 * leaves out are not asked. All borrowed. Errors are pare_judge_choose's and pare_forward_new's. */
PARE_MUST_USE PareStatus pare_labels_explained(PareCtx *c, const PareGraph *g, const bool *aside, const PareData *d,
                                               PareLabelsAs as, PareChoice samples, PareChoice known,
                                               int64_t batch, PareDevice *device, const PareHooks *h, double *share);

#endif
