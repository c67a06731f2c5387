/* pages.c - see pages.h. */
#define _DEFAULT_SOURCE /* madvise */
#include "base/pages.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { HUGE = 2 << 20 };

void pare_pages_trim(void) {
#ifdef __GLIBC__
  (void)malloc_trim(0);
#endif
}

void *pare_pages_alloc(size_t bytes, size_t align) {
  bool huge = bytes >= 2 * (size_t)HUGE;
  if (huge) align = HUGE;
  if (bytes > SIZE_MAX - align) return NULL;
  size_t size = bytes ? (bytes + align - 1) / align * align : align;
  void *p = aligned_alloc(align, size);
#ifdef MADV_HUGEPAGE
  if (p && huge) (void)madvise(p, bytes / HUGE * HUGE, MADV_HUGEPAGE); /* a wish; the rest in small ones */
#endif
  return p;
}
