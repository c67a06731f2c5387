/* lines.h - the lines of a text that is mapped. */
#ifndef PARE_BASE_LINES_H
#define PARE_BASE_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct PareLine {
  const char *at; /* borrowed */
  size_t n;       /* without the white space at its end */
} PareLine;

/* The line at *at, which moves on behind it; false at the end. An end of file behind a line's end begins none. */
bool pare_line_next(const char **at, const char *end, PareLine *out);

#endif
