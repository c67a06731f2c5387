/* forward.h - a model run on samples: checks that the data fit its inputs, binds
 * its axes to the data's lengths, and gathers batches. */
#ifndef PARE_API_FORWARD_H
#define PARE_API_FORWARD_H

#include "runtime/data.h"
#include "runtime/program.h"

/* --- samples --- */

/* Reads data for a model: an .npz, or a folder of ONNX's test data (input_0.pb,
 * input_1.pb ...; tensors without a name go to the input of their number).
 * NaN and infinities are PARE_DATA. Arrays that are neither an input nor
 * "labels" are told to the log. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_samples_load(PareCtx *c, const PareGraph *g, const char *path, PareData **out);

/* Random samples for the inputs of a bound graph (pare_shapes_bind), `count` of
 * them: floats are normal, integers uniform below the length of the tables that
 * Gather looks them up in, other integers and truth values (masks) are 1. A
 * function of the seed alone. Pair: pare_data_free. */
PARE_MUST_USE PareStatus pare_samples_random(PareCtx *c, const PareGraph *bound, int64_t count, uint64_t seed,
                                             PareData **out);

/* --- running --- */

typedef struct PareForward PareForward;

typedef enum PareForwardKind {
  PARE_FORWARD_PLAIN,     /* node by node: names of outputs are the model's */
  PARE_FORWARD_FUSED,     /* for speed: names of outputs may be others */
} PareForwardKind;

/* A program for g, as imported, on the data's lengths. Axis 0 is `batch` where it
 * is dynamic and nothing in the model insists on 1, less where a GPU has no room
 * (pare_forward_batch tells).
 * Errors: PARE_DATA naming array and input, or what binding says. g and d are
 * borrowed. `device` NULL is the CPU. Pair: pare_forward_free (NULL is fine). */
PARE_MUST_USE PareStatus pare_forward_new(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                          PareForwardKind how, PareDevice *device, PareForward **out);
void pare_forward_free(PareForward *f);

/* A plain program on the CPU that is run part by part: output i belongs to part[i], and can be read when that has run
 * until a later one runs. Memory is what one part needs. What is quantised and dequantised is clipped and not rounded:
 * else values that differ by rounding could part by a step of quantisation. Thin constants (ir/slices.h) may be among
 * g's. Otherwise as above. */
PARE_MUST_USE PareStatus pare_forward_new_in_parts(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                                   const uint8_t *part, PareForward **out);
/* Fills the inputs as pare_forward_run does; then the parts are run, the first first. */
PARE_MUST_USE PareStatus pare_forward_begin(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count);
PARE_MUST_USE PareStatus pare_forward_run_part(PareCtx *c, PareForward *f, uint8_t part);

/* Values besides the outputs that can be read after each run. */
typedef struct PareWatch {
  size_t n;
  const uint32_t *value; /* ids in g of f32 results (once widened) whose axis 0 counts samples */
  size_t felt;           /* of so many, the first, also how much the outputs feel each position (passes/hidden.h) */
  const bool *aside;     /* by output: it feels nothing (passes/task.h); NULL: all of floats do */
  bool bf16;             /* products of layers and attention in bf16 */
} PareWatch;

/* A fused program that also shows the watched values. Where something in the model has no gradient, relevance is 1
 * everywhere, and the log says why. `w` is read now only. Pair: pare_forward_free. */
PARE_MUST_USE PareStatus pare_forward_new_watching(PareCtx *c, const PareGraph *g, const PareData *d, int64_t batch,
                                                   const PareWatch *w, PareDevice *device, PareForward **out);
/* Value i of the watched ones in the last run, and its type. */
const float *pare_forward_watched(const PareForward *f, size_t i, PareType *type);
/* The relevance of value i < felt, a number a position: all of a sample's add up to 1, or to 0 where nothing is felt.
 * out[positions]. */
void pare_forward_relevance(const PareForward *f, size_t i, float *out);

int64_t pare_forward_batch(const PareForward *f);
/* Runs samples[0 .. count), count <= batch; the rest of the batch repeats the last. */
PARE_MUST_USE PareStatus pare_forward_run(PareCtx *c, PareForward *f, const int64_t *samples, int64_t count);

size_t pare_forward_outputs(const PareForward *f); /* the model's */
/* Name and type; axis 0 is the batch. */
const PareValue *pare_forward_value(const PareForward *f, size_t i);
/* Elements that belong to one sample. */
int64_t pare_forward_width(const PareForward *f, size_t i);
/* Output i of the last run as f32, whatever its type; valid until the next. */
const float *pare_forward_floats(PareForward *f, size_t i);
/* The same, but as losses of classes and marks read it (pare_output_logits), of a fused program. One of the two is valid
 * at a time. */
const float *pare_forward_scores(PareForward *f, size_t i);

const PareGraph *pare_forward_graph(const PareForward *f); /* bound */
PareProgram *pare_forward_program(const PareForward *f);

#endif
