/* infer.c - when a node's types can be inferred: the types of its inputs and, where
 * an operand steers the shape, its numbers are known. The rules are in infer_*.c. */
#include "ir/infer.h"

/* Which inputs' numbers a rule needs; every other rule needs none. */
static const struct {
  PareInferFn *rule;
  unsigned inputs;
} steering[] = {
    {pare_infer_reshape, 1u << 1}, {pare_infer_squeeze, 1u << 1}, {pare_infer_unsqueeze, 1u << 1},
    {pare_infer_reduce, 1u << 1},  {pare_infer_split, 1u << 1},   {pare_infer_slice, 15u << 1},
    {pare_infer_expand, 1u << 1},  {pare_infer_fill, 1u << 0},    {pare_infer_range, 7u << 0},
    {pare_infer_topk, 1u << 1},    {pare_infer_tile, 1u << 1},      {pare_infer_pad, 5u << 1},
    {pare_infer_onehot, 1u << 1},  {pare_infer_resize, 7u << 2},  {pare_infer_nonzero, 1u << 0},
};

bool pare_infer_ready(const PareNode *n) {
  unsigned steers = 0;
  for (size_t i = 0; i < sizeof steering / sizeof *steering; i++)
    if (steering[i].rule == pare_op_info[n->op].infer) steers = steering[i].inputs;
  for (int i = 0; i < n->nin; i++) {
    if (!n->in[i]) continue;
    if (!pare_type_known(&n->in[i]->type)) return false;
    if (i < 8 && (steers >> i & 1u) && !is_known(n->in[i])) return false;
  }
  return true;
}
