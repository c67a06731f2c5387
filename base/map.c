#include "base/map.h"

#include <string.h>

static uint64_t hash(const char *s) { /* FNV-1a */
  uint64_t h = 14695981039346656037u;
  for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
  return h ^ h >> 29;
}

static size_t slot(const PareMap *m, const char *key) {
  size_t i = hash(key) & (m->cap - 1);
  while (m->key[i] && strcmp(m->key[i], key)) i = (i + 1) & (m->cap - 1);
  return i;
}

static bool grow(PareMap *m) {
  PareMap w = {.arena = m->arena, .cap = m->cap ? m->cap * 2 : 64};
  w.key = PARE_NEW_N(m->arena, w.cap, const char *);
  w.val = PARE_NEW_N(m->arena, w.cap, int64_t);
  if (!w.key || !w.val) return false;
  for (size_t i = 0; i < m->cap; i++) {
    if (!m->key[i]) continue;
    size_t j = slot(&w, m->key[i]);
    w.key[j] = m->key[i];
    w.val[j] = m->val[i];
  }
  w.n = m->n;
  *m = w;
  return true;
}

bool pare_map_put(PareMap *m, const char *key, int64_t val) {
  if (m->n * 2 >= m->cap && !grow(m)) return false;
  size_t i = slot(m, key);
  if (!m->key[i]) m->n++;
  m->key[i] = key;
  m->val[i] = val;
  return true;
}

int64_t pare_map_get(const PareMap *m, const char *key) {
  if (!m->cap) return -1;
  size_t i = slot(m, key);
  return m->key[i] ? m->val[i] : -1;
}
