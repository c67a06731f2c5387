/* fuzz_model.c - any bytes as a model: split, unpack, import and, where that
 * works, untie, bind and trace. Whatever they are, the end is a status. */
#include <stdint.h>
#include <stdlib.h>

#include "frontend/model.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "passes/untie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static PareStatus run(PareCtx *c, PareArena *a, const uint8_t *data, size_t size) {
  PareModel *m;
  PareGraph *bound;
  PareDims *dims;
  PARE_TRY(pare_model_load_bytes(c, "fuzz/corpus/model/input.onnx", data, size, &m));
  PareStatus s = pare_untie(c, m->graph);
  if (s == PARE_OK) s = pare_probe_dims(c, a, m->graph, 0, &bound);
  if (s == PARE_OK) s = pare_trace_dims(c, a, bound, &dims);
  pare_model_free(m);
  return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  PareCtx c;
  PareArena *a = pare_arena_new(1 << 16);
  if (!a || !pare_ctx_init(&c, NULL, -1)) abort();
  PareStatus s = run(&c, a, data, size);
  if (s != PARE_OK && (c.diag.code != s || !*c.diag.text)) abort(); /* a failure has a sentence */
  pare_ctx_free(&c);
  pare_arena_free(a);
  return 0;
}
