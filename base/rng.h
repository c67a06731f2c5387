/* rng.h - counter-based random numbers: a function of (key, counter) alone, so
 * that order, threads and resumed runs make no difference. */
#ifndef PARE_BASE_RNG_H
#define PARE_BASE_RNG_H

#include <stdint.h>

/* splitmix64 (Steele et al. 2014) as a hash of two words. */
static inline uint64_t pare_rng_u64(uint64_t key, uint64_t counter) {
  uint64_t z = key * 0x9e3779b97f4a7c15u + (counter + 1) * 0xd1342543de82ef95u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  return z ^ z >> 31;
}
/* Uniform in [0, 1), 53 bits. */
static inline double pare_rng_uniform(uint64_t key, uint64_t counter) {
  return (double)(pare_rng_u64(key, counter) >> 11) * 0x1p-53;
}

#endif
