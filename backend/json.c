/* json.c - see json.h. */
#include "backend/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

json_t *pare_json_text(const char *s) {
  json_t *text = json_string(s ? s : "");
  if (text) return text;
  char clean[1024];
  size_t n = 0;
  for (; s[n] && n + 1 < sizeof clean; n++) clean[n] = (unsigned char)s[n] < 128 ? s[n] : '?';
  clean[n] = 0;
  return json_string(clean);
}

json_t *pare_json_number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

char *pare_json_print(json_t *o) {
  char *text = NULL;
  size_t n;
  FILE *f = o ? open_memstream(&text, &n) : NULL;
  bool ok = f && !json_dumpf(o, f, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) && fputc('\n', f) > 0;
  if (f && fclose(f)) ok = false;
  json_decref(o);
  if (ok) return text;
  free(text);
  return NULL;
}
