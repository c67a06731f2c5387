/* report_page.c - report.html: before and after, what is left of each dimension,
 * and the curves of the run, drawn as SVG. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "backend/page.h"
#include "backend/report.h"

static void metric_value(FILE *f, const PareReport *r, double v) {
  if (!isfinite(v)) fputs("not measured", f);
  else if (r->metric.share) fprintf(f, "%.2f %%", 100 * v);
  else fprintf(f, "%.4g", v);
}

/* --- before and after --- */

static void card(FILE *f, const char *what, double before, double after, const char *unit) {
  double left = before > 0 ? after / before : 1;
  fprintf(f, "<div class=\"card\"><div class=\"what\">%s</div><div class=\"big\">", what);
  pare_page_scaled(f, after, unit);
  fputs("</div><div class=\"from\">from ", f);
  pare_page_scaled(f, before, unit);
  fprintf(f, ", %.1f&nbsp;%% left</div><div class=\"meter\"><div style=\"width:%.1f%%\"></div></div></div>\n", 100 * left,
          100 * fmin(left, 1));
}

static void cards(FILE *f, const PareReport *r) {
  fputs("<div class=\"cards\">\n", f);
  if (r->metric.name) {
    fputs("<div class=\"card\"><div class=\"what\">", f);
    pare_page_text(f, r->metric.name);
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
  pare_page_number(f, before);
  fputs("</td><td>", f);
  pare_page_number(f, after);
  fprintf(f, "</td><td>%.1f %%</td></tr>\n", before > 0 ? 100 * (double)after / (double)before : 100.0);
}

static void table(FILE *f, const PareReport *r) {
  fputs("<h2>Before and after</h2>\n<div class=\"panel\"><table><tr><th></th><th>before</th><th>after</th><th>left</th></tr>\n", f);
  row(f, "parameters", r->input.params, r->output.params);
  row(f, "multiply-adds, one sample", r->input.macs, r->output.macs);
  row(f, "bytes of the file", r->input.bytes, r->output.bytes);
  if (r->metric.name) {
    fputs("<tr><td>", f);
    pare_page_text(f, r->metric.name);
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

enum { MOST_POINTS = 500 };

static double point_value(const PareReportPoint *p, bool sparsity) { return sparsity ? p->sparsity : p->loss; }

/* A polyline of at most MOST_POINTS; `keep` of the running mean stays at each step. */
static void curve(const PareChart *c, const PareReport *r, bool sparsity, double keep, const char *class) {
  size_t stride = r->npoints / MOST_POINTS + 1;
  double mean = NAN;
  fprintf(c->f, "<polyline class=\"%s\" points=\"", class);
  for (size_t i = 0; i < r->npoints; i++) {
    double v = point_value(&r->points[i], sparsity);
    if (!isfinite(v)) continue;
    mean = isfinite(mean) ? keep * mean + (1 - keep) * v : v;
    if (i % stride == 0 || i + 1 == r->npoints)
      fprintf(c->f, "%.1f,%.1f ", pare_chart_x(c, (double)r->points[i].step), pare_chart_y(c, mean));
  }
  fputs("\"/>\n", c->f);
}

static PareChart chart_of(FILE *f, const PareReport *r, bool sparsity) {
  PareChart c = {f, 0, 1, INFINITY, -INFINITY};
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
  PareChart c = {f, 0, r->npoints ? (double)r->points[r->npoints - 1].step : 1, INFINITY, -INFINITY};
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
  pare_chart_start(&c, title, share);
  fputs("<polyline class=\"curve\" points=\"", f);
  for (size_t i = 0; i < r->nevals; i++)
    fprintf(f, "%.1f,%.1f ", pare_chart_x(&c, (double)r->evals[i].step), pare_chart_y(&c, r->evals[i].value));
  fputs("\"/>\n", f);
  for (size_t i = 0; i < r->nevals; i++)
    fprintf(f, "<circle class=\"dot\" r=\"3.5\" cx=\"%.1f\" cy=\"%.1f\"/>\n", pare_chart_x(&c, (double)r->evals[i].step),
            pare_chart_y(&c, r->evals[i].value));
  pare_chart_end(&c);
}

static void curves(FILE *f, const PareReport *r) {
  if (!r->npoints && !r->nevals) return;
  fputs("<h2>The run</h2>\n<div class=\"two\">\n", f);
  if (r->npoints) {
    PareChart loss = chart_of(f, r, false);
    pare_chart_start(&loss, "loss over steps (bold: running mean)", false);
    curve(&loss, r, false, 0, "faint");
    curve(&loss, r, false, 0.95, "curve");
    pare_chart_end(&loss);
    PareChart sparsity = chart_of(f, r, true);
    pare_chart_start(&sparsity, "sparsity over steps (groups that are gone)", true);
    curve(&sparsity, r, true, 0, "curve");
    pare_chart_end(&sparsity);
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
    pare_page_text(f, g->name);
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
    pare_page_text(f, r->latency.command);
    fputs("</code>.</p>\n", f);
  }
  if (r->alignment.align <= 1) return;
  fprintf(f, "<p>Kept sizes are multiples of %" PRId64, r->alignment.align);
  for (size_t i = 0; i < r->alignment.nuneven; i++) {
    fputs(i ? ", " : ", but for ", f);
    pare_page_text(f, r->alignment.uneven[i]);
  }
  fputs(".</p>\n", f);
}

static void vocabulary_facts(FILE *f, const PareReport *r) {
  if (!r->vocabulary.tokens) return;
  fprintf(f, "<p>%" PRId64 " of %" PRId64 " tokens are left", r->vocabulary.left, r->vocabulary.tokens);
  for (size_t i = 0; i < r->vocabulary.nfiles; i++) {
    fputs(i ? ", <code>" : ", numbered by <code>", f);
    pare_page_text(f, r->vocabulary.files[i]);
    fputs("</code>", f);
  }
  fputs(".</p>\n", f);
}

static void facts(FILE *f, const PareReport *r) {
  fputs("<h2>How</h2>\n<div class=\"panel\">\n<p>Target: ", f);
  pare_page_text(f, r->target.kind);
  fprintf(f, " %.4g asked for, %.4g reached", r->target.requested, r->target.reached);
  for (size_t i = 0; i < r->target.nclasses; i++) {
    fputs(i ? ", " : " (", f);
    pare_page_text(f, r->target.classes[i].kind);
    fprintf(f, " %.4g", r->target.classes[i].reached);
  }
  fprintf(f, "%s.</p>\n", r->target.nclasses ? ")" : "");
  budget_facts(f, r);
  vocabulary_facts(f, r);
  fprintf(f, "<p>%s and cut model, run side by side on %" PRId64 " samples, differ by at most %.2g (%.2g relative): "
          "<span class=\"%s\">%s</span>.</p>\n<p>", r->validation.exact ? "Pruned" : "Re-specialised",
          r->validation.samples,
          r->validation.max_abs, r->validation.max_rel, r->validation.passed ? "ok" : "bad",
          r->validation.passed ? "equal to rounding" : "not equal");
  fprintf(f, "%" PRId64 " steps in %.1f s, %.0f samples/s, on ", r->training.steps, r->training.seconds,
          r->training.samples_per_second);
  pare_page_text(f, r->training.device);
  fputs(" in ", f);
  pare_page_text(f, r->training.precision);
  fputs("; at most ", f);
  pare_page_scaled(f, (double)r->training.peak_memory_bytes, "B");
  fputs(" of memory.</p>\n<details class=\"small\"><summary>Options and files</summary><table>\n", f);
  for (size_t i = 0; i < r->noptions; i++) {
    fputs("<tr><td>", f);
    pare_page_text(f, r->options[i].name);
    fputs("</td><td><code>", f);
    pare_page_text(f, r->options[i].value);
    fputs("</code></td></tr>\n", f);
  }
  const PareReportModel *model[] = {&r->input, &r->output};
  for (int i = 0; i < 2; i++) {
    fprintf(f, "<tr><td>sha256 of the %s</td><td><code>", i ? "output" : "input");
    pare_page_text(f, model[i]->sha256);
    fputs("</code></td></tr>\n", f);
  }
  fputs("</table></details>\n</div>\n", f);
}

bool pare_report_page(FILE *f, const PareReport *r) {
  pare_page_start(f, r->output.path);
  fputs("<p class=\"soft\">compressed from <code>", f);
  pare_page_text(f, r->input.path);
  fputs("</code> by pare ", f);
  pare_page_text(f, r->version);
  fputs("</p>\n", f);
  cards(f, r);
  dimensions(f, r);
  curves(f, r);
  table(f, r);
  facts(f, r);
  pare_page_end(f);
  return !ferror(f);
}
