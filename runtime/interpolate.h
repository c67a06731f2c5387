/* interpolate.h - what lies between points that were measured. */
#ifndef PARE_RUNTIME_INTERPOLATE_H
#define PARE_RUNTIME_INTERPOLATE_H

#include <stddef.h>
#include <stdint.h>

/* Linear between n points whose at[] does not fall, and level beyond them: out[0 .. count]. */
void pare_interpolate(size_t n, const int64_t *at, const double *value, int64_t count, double *out);

#endif
