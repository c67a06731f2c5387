/* score_values.h - what criteria read besides gradients of adapters and masks: the products by adapted weights, and
 * what masks multiply, sample by sample. */
#ifndef PARE_PASSES_SCORE_VALUES_H
#define PARE_PASSES_SCORE_VALUES_H

#include "passes/criteria/criterion.h"

/* Every product by an adapted weight; x and dy are still to come. The graph may be changed around these nodes
 * afterwards. The list is in the graph's arena. */
PARE_MUST_USE PareStatus pare_find_products(PareCtx *c, PareGraph *g, const PareAdapters *adapters,
                                            const PareLora *lora, PareProducts *out);
/* What the product reads: before the mask, if there is one. */
PareValue *pare_product_input(const PareMasks *masks, const PareProduct *p);
/* The result that dy belongs to, also where the node's own type has changed since it was found. */
PareValue *pare_product_output(const PareProduct *p);

/* By mask: what it multiplies, the product (in *product) and how samples lie in it. `g` is a bound clone of the graph
 * that was traced into `d`, or of its cut. PARE_UNSUPPORTED where a mask has been fused away. */
PARE_MUST_USE PareStatus pare_find_masked(PareCtx *c, const PareGraph *g, const PareDims *d, const PareMasks *masks,
                                          PareMasked *out, PareValue **product);

#endif
