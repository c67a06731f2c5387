/* num.h - checked sizes and the 16-bit float formats. */
#ifndef PARE_BASE_NUM_H
#define PARE_BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline bool pare_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool pare_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool pare_mul_i64(int64_t a, int64_t b, int64_t *out) { return !__builtin_mul_overflow(a, b, out); }

static inline float pare_f32_from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
static inline uint32_t pare_f32_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

static inline float pare_bf16_to_f32(uint16_t h) { return pare_f32_from_bits((uint32_t)h << 16); }
/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t pare_f32_to_bf16(float f) {
  uint32_t u = pare_f32_bits(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
  return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float pare_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 1023u;
  if (exp == 31) return pare_f32_from_bits(sign | 0x7f800000u | man << 13);
  if (exp == 0) {
    float f = (float)man * 0x1p-24f;
    return sign ? -f : f;
  }
  return pare_f32_from_bits(sign | (exp + 112u) << 23 | man << 13);
}
/* Round to nearest, ties to even; overflow goes to infinity. */
static inline uint16_t pare_f32_to_f16(float f) {
  uint32_t u = pare_f32_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
  if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
  if (a < 0x38800000u) { /* subnormal: let the FPU round on the grid of 2^-24 */
    float v = pare_f32_from_bits(a) + 0.5f;
    return (uint16_t)(sign | (pare_f32_bits(v) - 0x3f000000u));
  }
  uint32_t odd = (a >> 13) & 1u;
  return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
}

#endif
