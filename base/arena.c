#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#include "base/pages.h"

enum { ALIGN = 64, LARGE = 1 << 20 };

typedef struct Block Block;
struct Block {
  Block *prev;
  size_t cap;
  size_t used;
  alignas(ALIGN) unsigned char mem[];
};

struct PareArena {
  Block *top;
  size_t next_cap;
  size_t fail_countdown;
};

static size_t round_up(size_t n) { return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

static Block *block_new(Block *prev, size_t cap) {
  if (cap > SIZE_MAX - sizeof(Block) - ALIGN) return NULL;
  Block *b = pare_pages_alloc(round_up(sizeof *b + cap), ALIGN);
  if (!b) return NULL;
  b->prev = prev;
  b->cap = cap;
  b->used = 0;
  POISON(b->mem, cap);
  return b;
}

static void block_free(Block *b) {
  UNPOISON(b->mem, b->cap);
  free(b);
}

PareArena *pare_arena_new(size_t first_block) {
  PareArena *a = calloc(1, sizeof *a);
  if (!a) return NULL;
  a->next_cap = first_block < 4096 ? 4096 : round_up(first_block);
  a->top = block_new(NULL, a->next_cap);
  if (!a->top) {
    free(a);
    return NULL;
  }
  return a;
}

void pare_arena_free(PareArena *a) {
  if (!a) return;
  while (a->top) {
    Block *prev = a->top->prev;
    block_free(a->top);
    a->top = prev;
  }
  free(a);
}

void pare_arena_fail_after(PareArena *a, size_t n) { a->fail_countdown = n; }

void *pare_arena_alloc(PareArena *a, size_t count, size_t size) {
  if (a->fail_countdown && --a->fail_countdown == 0) return NULL;
  if (size && count > (SIZE_MAX / 2) / size) return NULL;
  size_t n = round_up(count * size);
  if (a->top->cap - a->top->used < n) {
    if (a->next_cap < LARGE) a->next_cap *= 2;
    Block *b = block_new(a->top, n > a->next_cap ? n : a->next_cap);
    if (!b) return NULL;
    a->top = b;
  }
  void *p = a->top->mem + a->top->used;
  UNPOISON(p, n);
  a->top->used += n;
  return memset(p, 0, n);
}

char *pare_arena_strndup(PareArena *a, const char *s, size_t n) {
  char *p = pare_arena_alloc(a, n + 1, 1);
  if (p && n) memcpy(p, s, n);
  return p;
}

char *pare_arena_strdup(PareArena *a, const char *s) { return pare_arena_strndup(a, s, strlen(s)); }

char *pare_arena_printf(PareArena *a, const char *fmt, ...) {
  va_list ap, again;
  va_start(ap, fmt);
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, ap);
  va_end(ap);
  char *p = n < 0 ? NULL : pare_arena_alloc(a, (size_t)n + 1, 1);
  if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  return p;
}

void *pare_arena_grow(PareArena *a, const void *old, size_t old_count, size_t count, size_t size) {
  void *p = pare_arena_alloc(a, count, size);
  if (p && old_count) memcpy(p, old, old_count * size);
  return p;
}

int pare_vec_room(PareArena *a, void **at, size_t n, size_t *cap, size_t size) {
  if (n < *cap) return 1;
  size_t want = *cap ? *cap * 2 : 8;
  void *p = pare_arena_grow(a, *at, n, want, size);
  if (!p) return 0;
  *at = p;
  *cap = want;
  return 1;
}

PareMark pare_arena_mark(const PareArena *a) { return (PareMark){a->top, a->top->used}; }

void pare_arena_rewind(PareArena *a, PareMark m) {
  while (a->top != m.block) {
    Block *prev = a->top->prev;
    block_free(a->top);
    a->top = prev;
  }
  POISON(a->top->mem + m.used, a->top->used - m.used);
  a->top->used = m.used;
}
