/* cut_check.h - what suites of cuts share: dimensions of a graph cut at random, and the cut model against the uncut one with
 * its dead fan-in zeroed. */
#ifndef PARE_TESTS_CUT_CHECK_H
#define PARE_TESTS_CUT_CHECK_H

#include "ir/dims.h"
#include "support.h"

/* Sizes of the first two axes that are not known, batch and length, at which models are compared. */
static const int64_t two_sizes[2][2] = {{2, 9}, {3, 14}};

/* Classes that are found when they are asked for, and whose cut equals a masked model. */
enum { EXACT = PARE_KIND_BIT(PARE_KIND_HEAD_DIM) | PARE_KIND_BIT(PARE_KIND_DEPTH) };

/* At least one stays, and at least one goes where that is possible. Lives in the fixture's arena. */
const bool *random_keep(Fix *f, int64_t size, uint64_t seed);
/* The dimensions of an imported graph, those of `kinds` (PARE_KIND_BIT) too. */
PareDims *trace_classes(Fix *f, const PareGraph *g, unsigned kinds);
/* Hangs random flags on heads and channels, or on dimensions of every kind. */
void keep_some(Fix *f, PareDims *d, uint64_t seed, bool every_kind);
/* Fails the test unless the cut model, thin or not, equals the masked one at both sizes. Returns how far the masked one is
 * from the original: little, and nothing was tested. */
double check_cut(Fix *f, const char *name, const PareGraph *g, const PareDims *d, const int64_t sizes[2][2]);

#endif
