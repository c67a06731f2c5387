/* page.c - see page.h. */
#include "backend/page.h"

#include <inttypes.h>
#include <math.h>

static const char style[] =
    ":root{color-scheme:light dark;--bg:#fbfaf8;--card:#fff;--ink:#1d2430;--soft:#5d6675;--line:#e3e1dc;"
    "--main:#2f6fde;--main2:#9dbcf3;--gone:#e9e6e0;--ok:#1d8a52;--bad:#c2362b}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171c;--card:#1c2128;--ink:#e6e9ee;--soft:#98a2b1;--line:#2d343e;"
    "--main:#6ea0ff;--main2:#35517f;--gone:#2b313a;--ok:#4cc38a;--bad:#ff7b6e}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif}"
    "main{max-width:1000px;margin:0 auto;padding:40px 20px 80px}"
    "h1{font-size:26px;margin:0}h2{font-size:18px;margin:44px 0 12px}"
    "p{margin:6px 0}.soft{color:var(--soft)}.small{font-size:13.5px}"
    "code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:14px;margin-top:26px}"
    ".card,.panel{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px}"
    ".card .what{color:var(--soft);font-size:13.5px}.card .big{font-size:25px;font-weight:650;letter-spacing:-.01em}"
    ".card .from{color:var(--soft);font-size:13.5px}"
    ".meter{height:6px;border-radius:3px;background:var(--gone);margin-top:10px;overflow:hidden}"
    ".meter div{height:100%;background:var(--main);border-radius:3px}"
    ".panel{overflow-x:auto}.panel+.panel{margin-top:14px}"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft);font-size:13.5px}"
    "tr:last-child td{border-bottom:0}.ok{color:var(--ok)}.bad{color:var(--bad)}"
    "svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font:12px system-ui,sans-serif}"
    ".grid{stroke:var(--line);stroke-width:1}.curve{fill:none;stroke:var(--main);stroke-width:2;stroke-linejoin:round}"
    ".faint{fill:none;stroke:var(--main2);stroke-width:1}.dot{fill:var(--main)}"
    ".kept{fill:var(--main)}.gone{fill:var(--gone)}"
    ".dims{display:grid;grid-template-columns:minmax(120px,auto) 1fr auto;gap:6px 14px;align-items:center}"
    ".dims code{color:var(--ink)}.dims .n{font-variant-numeric:tabular-nums;color:var(--soft);font-size:13.5px}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:14px}.two .panel{margin:0}"
    "details summary{cursor:pointer;color:var(--soft)}";

/* --- the frame --- */

void pare_page_start(FILE *f, const char *title) {
  fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n<title>pare: ", f);
  pare_page_text(f, title);
  fprintf(f, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
  pare_page_text(f, title);
  fputs("</h1>\n", f);
}

void pare_page_end(FILE *f) { fputs("</main>\n</body>\n</html>\n", f); }

/* --- pieces --- */

void pare_page_text(FILE *f, const char *s) {
  for (; s && *s; s++) {
    unsigned char b = (unsigned char)*s;
    if (b == '<') fputs("&lt;", f);
    else if (b == '>') fputs("&gt;", f);
    else if (b == '&') fputs("&amp;", f);
    else if (b == '"') fputs("&quot;", f);
    else fputc(b < 32 || b == 127 ? '?' : b, f);
  }
}

/* 2116098 as "2.12 M" */
void pare_page_scaled(FILE *f, double v, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
  size_t i = 0;
  for (; fabs(v) >= 999.5 && i + 1 < sizeof prefix / sizeof *prefix; i++) v /= 1000;
  fprintf(f, "%.*f", i == 0 || fabs(v) >= 99.95 ? 0 : fabs(v) >= 9.995 ? 1 : 2, v);
  if (*prefix[i] || *unit) fprintf(f, " %s%s", prefix[i], unit);
}

void pare_page_number(FILE *f, int64_t v) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%" PRId64, v);
  for (int i = 0; i < n; i++) {
    fputc(digits[i], f);
    if (digits[i] != '-' && i + 1 < n && (n - i - 1) % 3 == 0) fputc(',', f);
  }
}

/* --- charts --- */

enum { W = 520, H = 220, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 30 };

double pare_chart_x(const PareChart *c, double x) { return LEFT + (x - c->x0) / (c->x1 - c->x0) * (W - LEFT - RIGHT); }
double pare_chart_y(const PareChart *c, double y) { return H - BOTTOM - (y - c->y0) / (c->y1 - c->y0) * (H - TOP - BOTTOM); }

/* 1, 2 or 5 times a power of ten, about a quarter of the range. */
static double tick_of(double range) {
  double unit = pow(10, floor(log10(range / 4))), n = range / 4 / unit;
  return unit * (n < 1.5 ? 1 : n < 3.5 ? 2 : n < 7.5 ? 5 : 10);
}

static void widen(double *lo, double *hi) {
  if (!(*lo <= *hi)) *lo = 0, *hi = 1;
  if (*hi - *lo < 1e-9 * fmax(1, fabs(*hi))) *hi = *lo + (*lo ? fabs(*lo) : 1);
}

void pare_chart_start(PareChart *c, const char *title, bool percent) {
  widen(&c->x0, &c->x1);
  widen(&c->y0, &c->y1);
  double dx = fmax(1, tick_of(c->x1 - c->x0)), dy = tick_of(c->y1 - c->y0);
  fprintf(c->f, "<div class=\"panel\"><div class=\"soft small\">");
  pare_page_text(c->f, title);
  fprintf(c->f, "</div><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
  pare_page_text(c->f, title);
  fputs("\">\n", c->f);
  for (double y = ceil(c->y0 / dy) * dy; y <= c->y1 + 1e-9 * dy; y += dy) {
    double py = pare_chart_y(c, y);
    fprintf(c->f, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
            LEFT, W - RIGHT, py, py, LEFT - 6, py + 4);
    if (percent) fprintf(c->f, "%.4g%%</text>\n", 100 * (fabs(y) < 1e-9 * dy ? 0 : y));
    else fprintf(c->f, "%.4g</text>\n", fabs(y) < 1e-9 * dy ? 0 : y);
  }
  for (double x = ceil(c->x0 / dx) * dx; x <= c->x1 + 1e-9 * dx; x += dx)
    fprintf(c->f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", pare_chart_x(c, x), H - 10, x);
}

void pare_chart_end(const PareChart *c) { fputs("</svg></div>\n", c->f); }
