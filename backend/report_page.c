/* report_page.c - report.html: before and after, what is left of each dimension,
 * and the curves of the run, drawn as SVG. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "backend/report.h"

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

/* --- pieces --- */

static void text(FILE *f, const char *s) {
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
static void scaled(FILE *f, double v, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
  size_t i = 0;
  for (; fabs(v) >= 999.5 && i + 1 < sizeof prefix / sizeof *prefix; i++) v /= 1000;
  fprintf(f, "%.*f", i == 0 || fabs(v) >= 99.95 ? 0 : fabs(v) >= 9.995 ? 1 : 2, v);
  if (*prefix[i] || *unit) fprintf(f, " %s%s", prefix[i], unit);
}

static void number(FILE *f, int64_t v) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%" PRId64, v);
  for (int i = 0; i < n; i++) {
    fputc(digits[i], f);
    if (digits[i] != '-' && i + 1 < n && (n - i - 1) % 3 == 0) fputc(',', f);
  }
}

static void metric_value(FILE *f, const PareReport *r, double v) {
  if (!isfinite(v)) fputs("not measured", f);
  else if (r->metric.share) fprintf(f, "%.2f %%", 100 * v);
  else fprintf(f, "%.4g", v);
}

/* --- before and after --- */

static void card(FILE *f, const char *what, double before, double after, const char *unit) {
  double left = before > 0 ? after / before : 1;
  fprintf(f, "<div class=\"card\"><div class=\"what\">%s</div><div class=\"big\">", what);
  scaled(f, after, unit);
  fputs("</div><div class=\"from\">from ", f);
  scaled(f, before, unit);
  fprintf(f, ", %.1f&nbsp;%% left</div><div class=\"meter\"><div style=\"width:%.1f%%\"></div></div></div>\n", 100 * left,
          100 * fmin(left, 1));
}

static void cards(FILE *f, const PareReport *r) {
  fputs("<div class=\"cards\">\n", f);
  if (r->metric.name) {
    fputs("<div class=\"card\"><div class=\"what\">", f);
    text(f, r->metric.name);
    fputs("</div><div class=\"big\">", f);
    metric_value(f, r, r->metric.compact);
    fputs("</div><div class=\"from\">dense ", f);
    metric_value(f, r, r->metric.dense);
    fputs("</div></div>\n", f);
  }
  card(f, "parameters", (double)r->input.params, (double)r->output.params, "");
  card(f, "multiply-adds", (double)r->input.macs, (double)r->output.macs, "");
  card(f, "file", (double)r->input.bytes, (double)r->output.bytes, "B");
  fputs("</div>\n", f);
}

static void row(FILE *f, const char *name, int64_t before, int64_t after) {
  fprintf(f, "<tr><td>%s</td><td>", name);
  number(f, before);
  fputs("</td><td>", f);
  number(f, after);
  fprintf(f, "</td><td>%.1f %%</td></tr>\n", before > 0 ? 100 * (double)after / (double)before : 100.0);
}

static void table(FILE *f, const PareReport *r) {
  fputs("<h2>Before and after</h2>\n<div class=\"panel\"><table><tr><th></th><th>before</th><th>after</th><th>left</th></tr>\n", f);
  row(f, "parameters", r->input.params, r->output.params);
  row(f, "multiply-adds, one sample", r->input.macs, r->output.macs);
  row(f, "bytes of the file", r->input.bytes, r->output.bytes);
  if (r->metric.name) {
    fputs("<tr><td>", f);
    text(f, r->metric.name);
    fputs("</td><td>", f);
    metric_value(f, r, r->metric.dense);
    fputs("</td><td>", f);
    metric_value(f, r, r->metric.compact);
    fputs("</td><td></td></tr>\n", f);
  }
  double before = r->input.latency_seconds, after = r->output.latency_seconds;
  if (before > 0 && after > 0)
    fprintf(f, "<tr><td>latency, one sample</td><td>%.2f ms</td><td>%.2f ms</td><td>%.1f %%</td></tr>\n", 1e3 * before,
            1e3 * after, 100 * after / before);
  fputs("</table></div>\n", f);
}

/* --- curves --- */

enum { W = 520, H = 220, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 30, MOST_POINTS = 500 };

typedef struct Chart {
  FILE *f;
  double x0, x1, y0, y1;
} Chart;

static double at_x(const Chart *c, double x) { return LEFT + (x - c->x0) / (c->x1 - c->x0) * (W - LEFT - RIGHT); }
static double at_y(const Chart *c, double y) { return H - BOTTOM - (y - c->y0) / (c->y1 - c->y0) * (H - TOP - BOTTOM); }

/* 1, 2 or 5 times a power of ten, about a quarter of the range. */
static double tick_of(double range) {
  double unit = pow(10, floor(log10(range / 4))), n = range / 4 / unit;
  return unit * (n < 1.5 ? 1 : n < 3.5 ? 2 : n < 7.5 ? 5 : 10);
}

static void widen(double *lo, double *hi) {
  if (!(*lo <= *hi)) *lo = 0, *hi = 1;
  if (*hi - *lo < 1e-9 * fmax(1, fabs(*hi))) *hi = *lo + (*lo ? fabs(*lo) : 1);
}

static void chart_start(Chart *c, const char *title, bool percent) {
  widen(&c->x0, &c->x1);
  widen(&c->y0, &c->y1);
  double dx = fmax(1, tick_of(c->x1 - c->x0)), dy = tick_of(c->y1 - c->y0);
  fprintf(c->f, "<div class=\"panel\"><div class=\"soft small\">");
  text(c->f, title);
  fprintf(c->f, "</div><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
  text(c->f, title);
  fputs("\">\n", c->f);
  for (double y = ceil(c->y0 / dy) * dy; y <= c->y1 + 1e-9 * dy; y += dy) {
    double py = at_y(c, y);
    fprintf(c->f, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
            LEFT, W - RIGHT, py, py, LEFT - 6, py + 4);
    if (percent) fprintf(c->f, "%.4g%%</text>\n", 100 * (fabs(y) < 1e-9 * dy ? 0 : y));
    else fprintf(c->f, "%.4g</text>\n", fabs(y) < 1e-9 * dy ? 0 : y);
  }
  for (double x = ceil(c->x0 / dx) * dx; x <= c->x1 + 1e-9 * dx; x += dx)
    fprintf(c->f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", at_x(c, x), H - 10, x);
}

static void chart_end(const Chart *c) { fputs("</svg></div>\n", c->f); }

static double point_value(const PareReportPoint *p, bool sparsity) { return sparsity ? p->sparsity : p->loss; }

/* A polyline of at most MOST_POINTS; `keep` of the running mean stays at each step. */
static void curve(const Chart *c, const PareReport *r, bool sparsity, double keep, const char *class) {
  size_t stride = r->npoints / MOST_POINTS + 1;
  double mean = NAN;
  fprintf(c->f, "<polyline class=\"%s\" points=\"", class);
  for (size_t i = 0; i < r->npoints; i++) {
    double v = point_value(&r->points[i], sparsity);
    if (!isfinite(v)) continue;
    mean = isfinite(mean) ? keep * mean + (1 - keep) * v : v;
    if (i % stride == 0 || i + 1 == r->npoints)
      fprintf(c->f, "%.1f,%.1f ", at_x(c, (double)r->points[i].step), at_y(c, mean));
  }
  fputs("\"/>\n", c->f);
}

static Chart chart_of(FILE *f, const PareReport *r, bool sparsity) {
  Chart c = {f, 0, 1, INFINITY, -INFINITY};
  for (size_t i = 0; i < r->npoints; i++) {
    double v = point_value(&r->points[i], sparsity);
    c.x1 = fmax(c.x1, (double)r->points[i].step);
    if (!isfinite(v)) continue;
    c.y0 = fmin(c.y0, v);
    c.y1 = fmax(c.y1, v);
  }
  if (sparsity) c.y0 = 0;
  return c;
}

static void metric_chart(FILE *f, const PareReport *r) {
  char title[120];
  bool share = r->metric.share;
  Chart c = {f, 0, r->npoints ? (double)r->points[r->npoints - 1].step : 1, INFINITY, -INFINITY};
  for (size_t i = 0; i < r->nevals; i++) {
    c.x1 = fmax(c.x1, (double)r->evals[i].step);
    c.y0 = fmin(c.y0, r->evals[i].value);
    c.y1 = fmax(c.y1, r->evals[i].value);
  }
  double margin = 0.1 * (c.y1 - c.y0);
  c.y0 -= margin;
  c.y1 += margin;
  if (share) c.y1 = fmin(c.y1, 1);
  snprintf(title, sizeof title, "%s over steps", r->metric.name);
  chart_start(&c, title, share);
  fputs("<polyline class=\"curve\" points=\"", f);
  for (size_t i = 0; i < r->nevals; i++)
    fprintf(f, "%.1f,%.1f ", at_x(&c, (double)r->evals[i].step), at_y(&c, r->evals[i].value));
  fputs("\"/>\n", f);
  for (size_t i = 0; i < r->nevals; i++)
    fprintf(f, "<circle class=\"dot\" r=\"3.5\" cx=\"%.1f\" cy=\"%.1f\"/>\n", at_x(&c, (double)r->evals[i].step),
            at_y(&c, r->evals[i].value));
  chart_end(&c);
}

static void curves(FILE *f, const PareReport *r) {
  if (!r->npoints && !r->nevals) return;
  fputs("<h2>The run</h2>\n<div class=\"two\">\n", f);
  if (r->npoints) {
    Chart loss = chart_of(f, r, false);
    chart_start(&loss, "loss over steps (bold: running mean)", false);
    curve(&loss, r, false, 0, "faint");
    curve(&loss, r, false, 0.95, "curve");
    chart_end(&loss);
    Chart sparsity = chart_of(f, r, true);
    chart_start(&sparsity, "sparsity over steps (groups that are gone)", true);
    curve(&sparsity, r, true, 0, "curve");
    chart_end(&sparsity);
  }
  if (r->nevals && r->metric.name) metric_chart(f, r);
  fputs("</div>\n", f);
}

/* --- what is left of each dimension --- */

enum { BAR_W = 600, BAR_H = 16 };

/* Each index is a cell, in its own place; cells that touch and are alike are one. */
static void strip(FILE *f, const PareReportGroup *g) {
  double cell = (double)BAR_W / (double)g->before, gap = g->before <= 64 ? 3 : 0;
  fprintf(f, "<svg viewBox=\"0 0 %d %d\" preserveAspectRatio=\"none\" style=\"height:%dpx\" role=\"img\" aria-label=\"%" PRId64
          " of %" PRId64 " are left\">", BAR_W, BAR_H, BAR_H, g->after, g->before);
  for (int64_t i = 0; i < g->before;) {
    bool kept = !g->kept || g->kept[i];
    int64_t end = i + 1;
    while (gap == 0 && end < g->before && (!g->kept || g->kept[end]) == kept) end++;
    fprintf(f, "<rect class=\"%s\" x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"%d\"/>", kept ? "kept" : "gone",
            (double)i * cell, (double)(end - i) * cell - gap, BAR_H);
    i = end;
  }
  fputs("</svg>", f);
}

static void dimensions(FILE *f, const PareReport *r) {
  if (!r->ngroups) return;
  fputs("<h2>What is left of each layer</h2>\n<div class=\"panel\"><div class=\"dims\">\n", f);
  for (size_t i = 0; i < r->ngroups; i++) {
    const PareReportGroup *g = &r->groups[i];
    fputs("<code>", f);
    text(f, g->name);
    fputs("</code>", f);
    strip(f, g);
    fprintf(f, "<span class=\"n\">%" PRId64 " of %" PRId64 "</span>\n", g->after, g->before);
  }
  fputs("</div></div>\n", f);
}

/* --- the rest --- */

/* What was measured to reach a latency, and which sizes are no multiples. */
static void budget_facts(FILE *f, const PareReport *r) {
  if (r->latency.command) {
    fprintf(f, "<p>Latency: dense %.4g ms; the table predicted %.4g ms. At the end dense %.4g ms (spread %.1f %%), "
            "compact %.4g ms (spread %.1f %%), by <code>", r->latency.dense_ms, r->latency.predicted_ms,
            r->latency.dense_now_ms, 100 * r->latency.dense_now_spread, r->latency.measured_ms,
            100 * r->latency.measured_spread);
    text(f, r->latency.command);
    fputs("</code>.</p>\n", f);
  }
  if (r->alignment.align <= 1) return;
  fprintf(f, "<p>Kept sizes are multiples of %" PRId64, r->alignment.align);
  for (size_t i = 0; i < r->alignment.nuneven; i++) {
    fputs(i ? ", " : ", but for ", f);
    text(f, r->alignment.uneven[i]);
  }
  fputs(".</p>\n", f);
}

static void facts(FILE *f, const PareReport *r) {
  fputs("<h2>How</h2>\n<div class=\"panel\">\n<p>Target: ", f);
  text(f, r->target.kind);
  fprintf(f, " %.4g asked for, %.4g reached", r->target.requested, r->target.reached);
  for (size_t i = 0; i < r->target.nclasses; i++) {
    fputs(i ? ", " : " (", f);
    text(f, r->target.classes[i].kind);
    fprintf(f, " %.4g", r->target.classes[i].reached);
  }
  fprintf(f, "%s.</p>\n", r->target.nclasses ? ")" : "");
  budget_facts(f, r);
  fprintf(f, "<p>%s and cut model, run side by side on %" PRId64 " samples, differ by at most %.2g (%.2g relative): "
          "<span class=\"%s\">%s</span>.</p>\n<p>", r->validation.exact ? "Pruned" : "Re-specialised",
          r->validation.samples,
          r->validation.max_abs, r->validation.max_rel, r->validation.passed ? "ok" : "bad",
          r->validation.passed ? "equal to rounding" : "not equal");
  fprintf(f, "%" PRId64 " steps in %.1f s, %.0f samples/s, on ", r->training.steps, r->training.seconds,
          r->training.samples_per_second);
  text(f, r->training.device);
  fputs(" in ", f);
  text(f, r->training.precision);
  fputs("; at most ", f);
  scaled(f, (double)r->training.peak_memory_bytes, "B");
  fputs(" of memory.</p>\n<details class=\"small\"><summary>Options and files</summary><table>\n", f);
  for (size_t i = 0; i < r->noptions; i++) {
    fputs("<tr><td>", f);
    text(f, r->options[i].name);
    fputs("</td><td><code>", f);
    text(f, r->options[i].value);
    fputs("</code></td></tr>\n", f);
  }
  const PareReportModel *model[] = {&r->input, &r->output};
  for (int i = 0; i < 2; i++) {
    fprintf(f, "<tr><td>sha256 of the %s</td><td><code>", i ? "output" : "input");
    text(f, model[i]->sha256);
    fputs("</code></td></tr>\n", f);
  }
  fputs("</table></details>\n</div>\n", f);
}

bool pare_report_page(FILE *f, const PareReport *r) {
  fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n<title>pare: ", f);
  text(f, r->output.path);
  fprintf(f, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
  text(f, r->output.path);
  fputs("</h1>\n<p class=\"soft\">compressed from <code>", f);
  text(f, r->input.path);
  fputs("</code> by pare ", f);
  text(f, r->version);
  fputs("</p>\n", f);
  cards(f, r);
  dimensions(f, r);
  curves(f, r);
  table(f, r);
  facts(f, r);
  fputs("</main>\n</body>\n</html>\n", f);
  return !ferror(f);
}
