/* opset.c - the differences between opsets, as tables. */
#include "frontend/opset.h"

#include <string.h>

static const struct {
  PareOp op;
  const char *attr;
  int input;
} moved[] = {
    {PARE_OP_SQUEEZE, "axes", 1},           {PARE_OP_UNSQUEEZE, "axes", 1},         {PARE_OP_SPLIT, "split", 1},
    {PARE_OP_SLICE, "starts", 1},           {PARE_OP_SLICE, "ends", 2},             {PARE_OP_SLICE, "axes", 3},
    {PARE_OP_REDUCEMEAN, "axes", 1},        {PARE_OP_REDUCESUM, "axes", 1},         {PARE_OP_REDUCEPROD, "axes", 1},
    {PARE_OP_REDUCEMAX, "axes", 1},         {PARE_OP_REDUCEMIN, "axes", 1},         {PARE_OP_CONSTANTOFSHAPE, "value", 1},
    {PARE_OP_REDUCEL1, "axes", 1},          {PARE_OP_REDUCEL2, "axes", 1},          {PARE_OP_REDUCELOGSUM, "axes", 1},
    {PARE_OP_TOPK, "k", 1},                 {PARE_OP_REDUCELOGSUMEXP, "axes", 1},   {PARE_OP_REDUCESUMSQUARE, "axes", 1},
    {PARE_OP_PAD, "pads", 1},               {PARE_OP_PAD, "value", 2},              {PARE_OP_RESIZE, "axes", 4},
    {PARE_OP_CLIP, "min", 1},               {PARE_OP_CLIP, "max", 2},
};

static const struct {
  PareOp op;
  const char *attr;
  bool zero; /* only as long as it is 0 */
} ignored[] = {
    {PARE_OP_CAST, "saturate", false},          {PARE_OP_DROPOUT, "ratio", false},
    {PARE_OP_DROPOUT, "seed", false},           {PARE_OP_DROPOUT, "is_test", false},
    {PARE_OP_LAYERNORM, "stash_type", false},   {PARE_OP_CAST, "round_mode", false},
    {PARE_OP_TOPK, "sorted", false},            {PARE_OP_BATCHNORM, "momentum", false},
    {PARE_OP_BATCHNORM, "is_test", false},      {PARE_OP_CASTLIKE, "saturate", false},
    {PARE_OP_CASTLIKE, "round_mode", false},    {PARE_OP_RESIZE, "extrapolation_value", false},
    {PARE_OP_RESIZE, "antialias", true},        {PARE_OP_FUSEDMATMUL, "transBatchA", true},
    {PARE_OP_FUSEDMATMUL, "transBatchB", true},
    {PARE_OP_QUANTIZELINEAR, "saturate", false}, {PARE_OP_QUANTIZELINEAR, "precision", false},
    {PARE_OP_QUANTIZELINEAR, "output_dtype", true}, {PARE_OP_DEQUANTIZELINEAR, "output_dtype", true},
};

int pare_opset_attr_input(PareOp op, const char *attr) {
  for (size_t i = 0; i < sizeof moved / sizeof *moved; i++)
    if (moved[i].op == op && !strcmp(moved[i].attr, attr)) return moved[i].input;
  return -1;
}

bool pare_opset_attr_ignored(PareOp op, const char *attr, bool nonzero) {
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
    if (ignored[i].op == op && !strcmp(ignored[i].attr, attr)) return !ignored[i].zero || !nonzero;
  return false;
}

bool pare_opset_takes_any(PareOp op, int64_t opset) { return op == PARE_OP_LAYERNORM && opset < 17; }

void pare_opset_defaults(PareOp op, int64_t opset, PareAttrs *a) {
  if (op == PARE_OP_SOFTMAX || op == PARE_OP_LOGSOFTMAX || op == PARE_OP_HARDMAX) {
    if (!pare_attr_has(a, axis)) pare_attr_set(a, axis, opset < 13 ? 1 : -1);
    if (opset < 13 && a->axis != -1) pare_attr_set(a, flatten, 1);
  }
}
