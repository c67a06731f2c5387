/* peft_names.h - which module of the original model a layer is. PyTorch's exporter keeps a module's path in the names of
 * parameters that it has not transposed (MODULE.weight of a Gemm, MODULE.bias of nearly all) and, since 1.13, in those
 * of nodes (/SOME/MODULE/MatMul, where a Sequential stands twice, as /blocks/blocks.0). */
#ifndef PARE_API_PEFT_NAMES_H
#define PARE_API_PEFT_NAMES_H

#include "base/arena.h"
#include "ir/adapter.h"

/* How well a module's path fits a layer: one of the layer's own, one that ends with it or that it ends with (models are
 * wrapped by exporters and by PEFT), or none. */
typedef enum PareNameFit { PARE_NAME_OTHER, PARE_NAME_ENDS_ALIKE, PARE_NAME_SAME } PareNameFit;
PareNameFit pare_module_fits(const char *module, const PareLayerNames *layer);

/* The path by which PEFT would know the layer: the weight's, else the bias's, else the node's; else the weight's name.
 * NULL when memory is out. Lives in a. */
const char *pare_module_path(PareArena *a, const PareLayerNames *layer);

#endif
