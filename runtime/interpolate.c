#include "runtime/interpolate.h"

void pare_interpolate(size_t n, const int64_t *at, const double *value, int64_t count, double *out) {
  size_t right = 0;
  for (int64_t k = 0; k <= count; k++) {
    while (right < n && at[right] < k) right++;
    if (right == 0) out[k] = value[0];
    else if (right == n) out[k] = value[n - 1];
    else {
      double share = (double)(k - at[right - 1]) / (double)(at[right] - at[right - 1]);
      out[k] = value[right - 1] + share * (value[right] - value[right - 1]);
    }
  }
}
