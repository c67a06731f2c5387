/* arena.h - memory with one owner: allocate many, free once. */
#ifndef PARE_BASE_ARENA_H
#define PARE_BASE_ARENA_H

#include <stddef.h>

typedef struct PareArena PareArena;

typedef struct PareMark {
  void *block;
  size_t used;
} PareMark;

PareArena *pare_arena_new(size_t first_block);
void pare_arena_free(PareArena *a); /* NULL is fine */

/* Zeroed, 64-aligned. NULL when count*size overflows or memory is out. */
void *pare_arena_alloc(PareArena *a, size_t count, size_t size);
char *pare_arena_strdup(PareArena *a, const char *s);
char *pare_arena_strndup(PareArena *a, const char *s, size_t n);
__attribute__((format(printf, 2, 3))) char *pare_arena_printf(PareArena *a, const char *fmt, ...);
/* A copy of `old_count` items in room for `count`; the old block stays in the arena. */
void *pare_arena_grow(PareArena *a, const void *old, size_t old_count, size_t count, size_t size);
#define PARE_NEW(a, T) ((T *)pare_arena_alloc((a), 1, sizeof(T)))
#define PARE_NEW_N(a, n, T) ((T *)pare_arena_alloc((a), (size_t)(n), sizeof(T)))

PareMark pare_arena_mark(const PareArena *a);
void pare_arena_rewind(PareArena *a, PareMark m); /* frees all since m */

/* Tests: the n-th allocation of this arena from now returns NULL; 0 switches off. */
void pare_arena_fail_after(PareArena *a, size_t n);

/* A growing array in an arena: PARE_VEC(int) v = {0}; pare_vec_push(a, &v, 3).
 * The push is false when memory is out. */
#define PARE_VEC(T)   \
  struct {            \
    T *at;            \
    size_t n, cap;    \
  }
#define pare_vec_push(a, v, x) \
  (pare_vec_room((a), (void **)&(v)->at, (v)->n, &(v)->cap, sizeof *(v)->at) ? ((v)->at[(v)->n++] = (x), 1) : 0)
int pare_vec_room(PareArena *a, void **at, size_t n, size_t *cap, size_t size);

#endif
