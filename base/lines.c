#include "base/lines.h"

#include <ctype.h>
#include <string.h>

bool pare_line_next(const char **at, const char *end, PareLine *out) {
  if (*at >= end) return false;
  const char *eol = memchr(*at, '\n', (size_t)(end - *at));
  *out = (PareLine){*at, (size_t)((eol ? eol : end) - *at)};
  while (out->n && isspace((unsigned char)out->at[out->n - 1])) out->n--;
  *at = eol ? eol + 1 : end;
  return true;
}
