/* pages.h - large blocks of memory. */
#ifndef PARE_BASE_PAGES_H
#define PARE_BASE_PAGES_H

#include <stddef.h>

/* At least `bytes`, aligned to `align`, a power of two up to a page; NULL when memory is out. Blocks of some megabytes lie
 * in huge pages where the system has them: looking up small ones halves the speed of reading, most of all under a
 * hypervisor. Pair: free. */
void *pare_pages_alloc(size_t bytes, size_t align);
/* Gives what was freed back to the system, where it can. */
void pare_pages_trim(void);

#endif
