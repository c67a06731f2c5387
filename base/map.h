/* map.h - string keys to small integers; keys are borrowed. */
#ifndef PARE_BASE_MAP_H
#define PARE_BASE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

typedef struct PareMap {
  PareArena *arena;
  const char **key;
  int64_t *val;
  size_t n, cap; /* cap is 0 or a power of two */
} PareMap;

/* Sets key to val, replacing what was there. False when memory is out. */
bool pare_map_put(PareMap *m, const char *key, int64_t val);
/* The value, or -1. */
int64_t pare_map_get(const PareMap *m, const char *key);

#endif
