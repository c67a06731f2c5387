/* page.h - what the pages for people share: one file, nothing from elsewhere, charts as SVG. */
#ifndef PARE_BACKEND_PAGE_H
#define PARE_BACKEND_PAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* From the doctype to the heading, which is the title; from what was written since to the end. */
void pare_page_start(FILE *f, const char *title);
void pare_page_end(FILE *f);

/* Escaped. */
void pare_page_text(FILE *f, const char *s);
/* 2116098 as "2.12 M" */
void pare_page_scaled(FILE *f, double v, const char *unit);
/* 2116098 as "2,116,098" */
void pare_page_number(FILE *f, int64_t v);

/* A panel with axes. Ranges that are empty are widened. */
typedef struct PareChart {
  FILE *f;
  double x0, x1, y0, y1;
} PareChart;
/* `percent`: of the labels of y. What is drawn between start and end is SVG, at these places. */
void pare_chart_start(PareChart *c, const char *title, bool percent);
void pare_chart_end(const PareChart *c);
double pare_chart_x(const PareChart *c, double x);
double pare_chart_y(const PareChart *c, double y);

#endif
