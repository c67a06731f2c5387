/* least_squares.h - what can be made up for of what was lost: second moments of a layer's inputs, and the weights
 * that the kept inputs take over from the lost ones (structured OBS: Hassibi and Stork 1993; Kurtic et al. 2022). */
#ifndef PARE_RUNTIME_LEAST_SQUARES_H
#define PARE_RUNTIME_LEAST_SQUARES_H

#include "base/ctx.h"

/* Of second moments, relative to their mean diagonal, as is usual (Frantar et al. 2022). */
#define PARE_DAMPING 1e-2

/* H = sum of w·x·x', m = sum of w·x over weighted rows x [K], summed in f32 by blocks of rows and in f64 over blocks. */
typedef struct PareSecondMoments PareSecondMoments;

/* Pair: pare_second_moments_free (NULL is fine). */
PARE_MUST_USE PareStatus pare_second_moments_new(PareCtx *c, int64_t k, PareSecondMoments **out);
void pare_second_moments_free(PareSecondMoments *m);
/* Rows of weight 0 cost nothing. x [rows, K], weight [rows] (NULL: all 1). */
PARE_MUST_USE PareStatus pare_second_moments_add(PareCtx *c, PareSecondMoments *m, int64_t rows, const float *x,
                                                 const float *weight);
/* What was added since new; valid until the next call. h [K, K], both triangles; mean [K], the weighted one; *rows is
 * how many rows had a weight. With `centred`, H is about the mean, and
 * what rounding may have taken from its diagonal is added. All NULL where not wanted. */
PARE_MUST_USE PareStatus pare_second_moments_get(PareCtx *c, PareSecondMoments *m, bool centred, const double **h,
                                                 const double **mean, int64_t *rows);

/* A <- L with A = L·L', lower triangle, A [n, n] symmetric positive definite (the upper is not read). PARE_DATA when
 * it is not. Blocked, threaded; sums have one order. */
PARE_MUST_USE PareStatus pare_cholesky(PareCtx *c, int64_t n, double *a);
/* B <- A^-1·B by A's factor L; B [rhs, n]: right-hand sides are rows. */
void pare_cholesky_solve(int64_t n, const double *l, int64_t rhs, double *b);

/* What the weights of kept inputs take over from those of lost ones: G [nkept, n] with the least
 * sum of w·|x_lost·W - x_kept·G|² + damping·mean(diag H)·|G|². kept[] and lost[] are indices into H [K, K], the
 * moments of x; W [nlost, n] are the lost weights. */
PARE_MUST_USE PareStatus pare_least_squares(PareCtx *c, int64_t k, const double *h, int64_t nkept,
                                            const int64_t *kept, int64_t nlost, const int64_t *lost, int64_t n,
                                            const double *w, double damping, double *g);

#endif
