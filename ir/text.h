/* text.h - the textual form of the IR: what dumps show and tests are written
 * in. docs/ir.md has the grammar. Printing and parsing again gives the same
 * graph, but for the bytes of constants of more than 64 elements that are not
 * all equal, for ids and for where things stood in an ONNX file. */
#ifndef PARE_IR_TEXT_H
#define PARE_IR_TEXT_H

#include <stdio.h>

#include "ir/ir.h"

/* False when the file cannot be written or memory is out. */
bool pare_text_print(const PareGraph *g, FILE *f);

/* Makes a graph in `a`. Types are inferred as far as they can be, and types in
 * the text are checked against them. Errors name the line. */
PARE_MUST_USE PareStatus pare_text_parse(PareCtx *c, PareArena *a, const char *text, PareGraph **out);

#endif
