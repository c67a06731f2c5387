/* print.c - numbers for people, text for terminals, JSON for scripts. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

int cli_fail(const PareError *e) {
  fputs("pare: ", stderr);
  cli_text(stderr, e->text);
  fputc('\n', stderr);
  return e->code;
}

int cli_usage_error(const char *fmt, ...) {
  PareError e = {.code = 2};
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(e.text, sizeof e.text, fmt, ap);
  va_end(ap);
  return cli_fail(&e);
}

const char *cli_count(int64_t n, char buf[CLI_NUMBER_TEXT]) {
  char digits[24];
  int len = snprintf(digits, sizeof digits, "%" PRId64, n), at = 0;
  for (int i = 0; i < len; i++) {
    bool sign = digits[i] == '-';
    buf[at++] = digits[i];
    if (!sign && i + 1 < len && (len - i - 1) % 3 == 0) buf[at++] = ',';
  }
  buf[at] = 0;
  return buf;
}

const char *cli_scaled(double v, const char *unit, char buf[CLI_NUMBER_TEXT]) {
  static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
  size_t i = 0;
  while (fabs(v) >= 999.5 && i + 1 < sizeof prefix / sizeof *prefix) {
    v /= 1000;
    i++;
  }
  const char *gap = *prefix[i] || *unit ? " " : "";
  snprintf(buf, CLI_NUMBER_TEXT, "%.*f%s%s%s", i == 0 || v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2, v, gap, prefix[i], unit);
  return buf;
}

const char *cli_seconds(double v, char buf[CLI_NUMBER_TEXT]) {
  double size = v < 0 ? -v : v;
  if (size < 1e-3) snprintf(buf, CLI_NUMBER_TEXT, "%.1f us", v * 1e6);
  else if (size < 1) snprintf(buf, CLI_NUMBER_TEXT, "%.2f ms", v * 1e3);
  else snprintf(buf, CLI_NUMBER_TEXT, "%.2f s", v);
  return buf;
}

void cli_text(FILE *f, const char *s) {
  for (; s && *s; s++) fputc((unsigned char)*s < 32 || *s == 127 ? '?' : *s, f);
}

void cli_json_text(FILE *f, const char *s) {
  fputc('"', f);
  for (; s && *s; s++) {
    unsigned char b = (unsigned char)*s;
    if (b == '"' || b == '\\') fprintf(f, "\\%c", b);
    else if (b < 32) fprintf(f, "\\u%04x", b);
    else fputc(b, f);
  }
  fputc('"', f);
}

void cli_json_number(FILE *f, double v) {
  if (isfinite(v)) fprintf(f, "%.9g", v);
  else fputs("null", f);
}
