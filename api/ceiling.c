#include "api/ceiling.h"

#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "runtime/program.h"

enum { FIRST_SIDE = 256, LAST_SIDE = 16384, WARM_UP = 3, RUNS = 20, DRAWN = 1 << 20 };
static const double ENOUGH = 1e-3; /* seconds: then the product is large for this device; 8192 on an H200 */

/* Numbers in (-1, 1): zeros would let the chip run faster than data do. A short sequence of them, over and over. */
static void fill(void *to, PareDtype type, int64_t n) {
  size_t each = pare_dtype_size(type);
  for (int64_t i = 0; i < DRAWN && i < n; i++) {
    float v = (float)(2 * pare_rng_uniform(1, (uint64_t)i) - 1);
    if (type == PARE_F32) ((float *)to)[i] = v;
    else ((uint16_t *)to)[i] = pare_f32_to_bf16(v);
  }
  for (int64_t i = DRAWN; i < n; i += DRAWN)
    memcpy((char *)to + (size_t)i * each, to, (size_t)(i + DRAWN < n ? DRAWN : n - i) * each);
}

static PareStatus measure(PareCtx *c, PareProgram *p, const PareValue *x, const PareValue *y, double *seconds) {
  fill(pare_program_buffer(p, x), x->type.dtype, pare_type_count(&x->type));
  PARE_TRY(pare_program_push(c, p, x));
  for (int i = 0; i < WARM_UP; i++) PARE_TRY(pare_program_run(c, p, -1));
  PARE_TRY(pare_program_profile(c, p));
  for (int i = 0; i < RUNS; i++) PARE_TRY(pare_program_run(c, p, -1));
  PARE_TRY(pare_program_times(c, p, seconds)); /* by node: there is one */
  *seconds /= RUNS;
  return pare_program_pull(c, p, y);
}

static PareStatus make(PareCtx *c, PareArena *a, PareDevice *d, bool bf16, int64_t side, double *seconds) {
  PareType square = {bf16 ? PARE_BF16 : PARE_F32, 2, {side, side}};
  PareProgram *p = NULL;
  PareGraph *g = pare_graph_new(c, a);
  PareValue *x = g ? pare_value_add(c, g, PARE_INPUT, "x", square) : NULL;
  PareValue *y = x ? PARE_EMIT(c, g, NULL, PARE_OP_MATMUL, "ceiling", NULL, x, x) : NULL;
  if (!y || !pare_vec_push(a, &g->outputs, y)) return pare_nomem(c);
  PARE_TRY(pare_program_new_on(c, g, d, 0, NULL, &p));
  PareStatus s = measure(c, p, x, y, seconds);
  pare_program_free(p);
  return s;
}

PareStatus pare_ceiling_measure(PareCtx *c, PareDevice *d, bool bf16, double *flops_per_second) {
  double seconds = 0, n = 0;
  for (int64_t side = FIRST_SIDE; side <= LAST_SIDE && seconds < ENOUGH; side *= 2) {
    PareArena *a = pare_arena_new(1 << 12);
    PareStatus s = a ? make(c, a, d, bf16, side, &seconds) : pare_nomem(c);
    pare_arena_free(a);
    if (s != PARE_OK) return s;
    n = (double)side;
  }
  *flops_per_second = seconds > 0 ? 2 * n * n * n / seconds : 0;
  return PARE_OK;
}
