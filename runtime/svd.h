/* svd.h - the largest singular values of a matrix and their vectors, by block power iteration from a random start
 * (Halko, Martinsson and Tropp 2011, algorithm 4.4), and the eigenvalues of a small symmetric matrix. */
#ifndef PARE_RUNTIME_SVD_H
#define PARE_RUNTIME_SVD_H

#include "base/ctx.h"

/* W [k, n] ~ U·diag(s)·V': u [k, r], s [r] falling, vt [r, n], r <= min(k, n). Iterates until what the vectors hold of
 * |W|² grows by no more than a millionth, 60 times at most: where singular values lie close together, vectors of
 * neighbours may be mixed. A function of W and the seed alone. PARE_DATA when W is not finite. */
PARE_MUST_USE PareStatus pare_svd_top(PareCtx *c, int64_t k, int64_t n, const float *w, int64_t r, uint64_t seed,
                                      double *u, double *s, double *vt);

/* A [n, n] symmetric <- garbage; value [n] its eigenvalues, falling; the rows of vector [n, n] (NULL: not wanted) their
 * vectors. Cyclic Jacobi (Golub and Van Loan, 8.5). */
void pare_eigen_symmetric(int64_t n, double *a, double *value, double *vector);

#endif
