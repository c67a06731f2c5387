/* sweep_report.c - see sweep_report.h. */
#include "backend/sweep_report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "backend/json.h"
#include "backend/page.h"
#include "backend/report.h"

/* --- JSON --- */

static json_t *curve_json(const PareSweepReportCurve *c) {
  json_t *points = json_array();
  for (size_t i = 0; i < c->npoints; i++) {
    const PareSweepReportPoint *p = &c->points[i];
    json_array_append_new(points, json_pack("{s:o, s:I, s:o, s:o}", "share", pare_json_number(p->share), "gone",
                                            (json_int_t)p->gone, "loss", pare_json_number(p->loss), "metric",
                                            pare_json_number(p->value)));
  }
  return json_pack("{s:o, s:s, s:I, s:o, s:I}", "name", pare_json_text(c->name), "kind", c->kind, "groups",
                   (json_int_t)c->count, "points", points, "kept", (json_int_t)c->kept);
}

/* Loss and metric of one model. */
static json_t *judged_json(double loss, double value) {
  return json_pack("{s:o, s:o}", "loss", pare_json_number(loss), "metric", pare_json_number(value));
}

char *pare_sweep_report_json(const PareSweepReport *r) {
  json_t *classes = json_array(), *layers = json_array();
  for (size_t i = 0; i < r->ncurves; i++)
    json_array_append_new(*r->curves[i].name ? layers : classes, curve_json(&r->curves[i]));
  json_t *o = json_pack("{s:o, s:s, s:o, s:s, s:I, s:o, s:o, s:{s:s, s:o, s:o, s:o, s:o, s:s}, s:o, s:o, s:o}", "model",
                        pare_json_text(r->model), "method", r->method, "metric", pare_json_text(r->metric), "loss",
                        r->loss_name, "samples", (json_int_t)r->samples, "seconds", pare_json_number(r->seconds),
                        "dense", judged_json(r->loss, r->value), "proposal", "target", r->target, "requested",
                        pare_json_number(r->requested), "sparsity", pare_json_number(r->sparsity), "split",
                        judged_json(r->split_loss, r->split_value), "ranked", judged_json(r->ranked_loss, r->ranked_value),
                        "by", r->by_scores ? "ranked" : "split", "classes", classes, "layers", layers, "version",
                        pare_json_text(r->version));
  return pare_json_print(o);
}

/* --- the page --- */

/* Layers from the first, blue, to the last, red. */
static double hue(size_t i, size_t n) { return n > 1 ? 220 - 220 * (double)i / (double)(n - 1) : 220; }

static bool of_class(const PareSweepReportCurve *c, const PareSweepReportCurve *class) {
  return *c->name && !strcmp(c->kind, class->kind);
}

static size_t count_layers(const PareSweepReport *r, const PareSweepReportCurve *class) {
  size_t n = 0;
  for (size_t i = 0; i < r->ncurves; i++) n += of_class(&r->curves[i], class);
  return n;
}

/* In per cent of the groups; what is not finite is left out. */
static void draw(const PareChart *chart, const PareSweepReportCurve *c, const char *style) {
  fprintf(chart->f, "<polyline style=\"fill:none;stroke-linejoin:round;%s\" points=\"", style);
  for (size_t i = 0; i < c->npoints; i++)
    if (isfinite(c->points[i].loss))
      fprintf(chart->f, "%.1f,%.1f ", pare_chart_x(chart, 100 * (double)c->points[i].gone / (double)c->count),
              pare_chart_y(chart, c->points[i].loss));
  fputs("\"><title>", chart->f);
  pare_page_text(chart->f, *c->name ? c->name : c->kind);
  fputs("</title></polyline>\n", chart->f);
}

static PareChart chart_of(FILE *f, const PareSweepReport *r, const PareSweepReportCurve *class) {
  PareChart chart = {f, 0, 100, r->loss, r->loss};
  for (size_t i = 0; i < r->ncurves; i++)
    for (size_t k = 0; k < r->curves[i].npoints; k++) {
      double loss = r->curves[i].points[k].loss;
      if (strcmp(r->curves[i].kind, class->kind) || !isfinite(loss)) continue;
      chart.y0 = fmin(chart.y0, loss);
      chart.y1 = fmax(chart.y1, loss);
    }
  return chart;
}

static void class_chart(FILE *f, const PareSweepReport *r, const PareSweepReportCurve *class) {
  char title[160], style[80];
  size_t n = count_layers(r, class), at = 0;
  snprintf(title, sizeof title, "%s: %s over the share of groups that is gone, %% (bold: all layers; from the first, blue, to "
           "the last, red)", class->kind, r->loss_name);
  PareChart chart = chart_of(f, r, class);
  pare_chart_start(&chart, title, false);
  for (size_t i = 0; i < r->ncurves; i++) {
    if (!of_class(&r->curves[i], class)) continue;
    snprintf(style, sizeof style, "stroke:hsl(%.0f,70%%,55%%);stroke-width:1.5", hue(at++, n));
    draw(&chart, &r->curves[i], style);
  }
  draw(&chart, class, "stroke:currentColor;stroke-width:3");
  pare_chart_end(&chart);
}

static void table_row(FILE *f, const PareSweepReportCurve *c) {
  fputs(*c->name ? "<tr><td><code>" : "<tr><td><b>", f);
  pare_page_text(f, *c->name ? c->name : c->kind);
  fprintf(f, "%s</td>", *c->name ? "</code>" : "</b>");
  for (size_t k = 0; k < c->npoints; k++) fprintf(f, "<td>%.4g</td>", c->points[k].loss);
  fprintf(f, "<td>%" PRId64 " of %" PRId64 "</td></tr>\n", c->kept, c->count);
}

static void table(FILE *f, const PareSweepReport *r) {
  fputs("<h2>The loss when so much is gone</h2>\n<div class=\"panel\"><table><tr><th></th>", f);
  for (size_t k = 0; r->ncurves && k < r->curves[0].npoints; k++)
    fprintf(f, "<th>%.4g %%</th>", 100 * r->curves[0].points[k].share);
  fputs("<th>kept</th></tr>\n", f);
  for (size_t i = 0; i < r->ncurves; i++) {
    if (*r->curves[i].name) continue;
    table_row(f, &r->curves[i]);
    for (size_t k = 0; k < r->ncurves; k++)
      if (of_class(&r->curves[k], &r->curves[i])) table_row(f, &r->curves[k]);
  }
  fputs("</table></div>\n", f);
}

bool pare_sweep_report_page(FILE *f, const PareSweepReport *r) {
  pare_page_start(f, r->model);
  fprintf(f, "<p class=\"soft\">What the loss does when groups go, by classes and layers, before any tuning: scored by %s, judged "
          "on %" PRId64 " samples by pare ", r->method, r->samples);
  pare_page_text(f, r->version);
  fputs("</p>\n<div class=\"two\">\n", f);
  for (size_t i = 0; i < r->ncurves; i++)
    if (!*r->curves[i].name) class_chart(f, r, &r->curves[i]);
  fputs("</div>\n", f);
  table(f, r);
  fprintf(f, "<h2>A split of the budget</h2>\n<div class=\"panel\"><p>Without %.4g %% of the groups (%s %.4g). By the curves (the "
          "loss rises alike in every layer when one more goes): %s %.4g, ", 100 * r->sparsity, r->target, r->requested,
          r->loss_name, r->split_loss);
  pare_page_text(f, r->metric);
  fprintf(f, " %.4g. By scores alone, as compress would: %.4g, %.4g. The whole model: %.4g, %.4g. The last column is that %s.</p></div>\n",
          r->split_value, r->ranked_loss, r->ranked_value, r->loss, r->value, r->by_scores ? "by scores" : "by the curves");
  pare_page_end(f);
  return !ferror(f);
}

static bool page_of(FILE *f, const void *r) { return pare_sweep_report_page(f, r); }

PareStatus pare_sweep_report_write(PareCtx *c, const char *dir, const PareSweepReport *r) {
  return pare_report_put(c, dir, pare_sweep_report_json(r), page_of, r);
}
