/* peft.h - adapters as HF PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors, in which
 * `base_model.model.MODULE.lora_A.weight` [r, K] and `.lora_B.weight` [N, r] add s·x·A'·B' to what MODULE makes, and
 * `base_model.model.MODULE.weight` [N, K] and `.bias` [N] (modules_to_save) take the place of MODULE's own.
 * api/peft_names.h has how a module is found. */
#ifndef PARE_API_PEFT_H
#define PARE_API_PEFT_H

#include "api/peft_names.h"
#include "runtime/safetensors.h"

/* What the folder has for a module. */
typedef struct ParePeftEntry {
  const char *module;
  int64_t rank, k, n; /* rank 0: no adapter; k and n 0: not known, there is a bias alone */
  double scale;       /* s */
  const PareSafeTensor *a, *b;         /* of the adapter */
  const PareSafeTensor *weight, *bias; /* NULL: the model's own */
} ParePeftEntry;

typedef struct ParePeft {
  const char *dir;
  PareSafeTensors file;
  PARE_VEC(ParePeftEntry) at;
} ParePeft;

/* Reads the folder; everything lives in a, but for the mapped file. PARE_FORMAT where it is not what PEFT writes,
 * PARE_UNSUPPORTED for adapters that are not LoRA's, by name. Pair: pare_peft_close
 * (NULL is fine). */
PARE_MUST_USE PareStatus pare_peft_open(PareCtx *c, PareArena *a, const char *dir, ParePeft **out);
void pare_peft_close(ParePeft *p);

/* PareAdapterSpec.wanted, arg the ParePeft: is one of its modules this layer? */
bool pare_peft_wants(const PareLayerNames *layer, void *arg);
/* PARE_DATA, by name, where a module is not in the model, is there more than once, or has another size. */
PARE_MUST_USE PareStatus pare_peft_check(PareCtx *c, const ParePeft *p, const PareAdapters *adapters);
/* What the folder has for this weight; NULL: nothing. */
const ParePeftEntry *pare_peft_find(const ParePeft *p, const PareAdapter *a);
/* One of e's matrices [rows, cols] as [cols, rows], or a vector, as floats. PARE_DATA when a number is not finite. */
PARE_MUST_USE PareStatus pare_peft_read(PareCtx *c, const ParePeft *p, const ParePeftEntry *e, const PareSafeTensor *t,
                                        float *out);

/* A module whose weight or bias is replaced; NULL: there is none (p may be NULL). */
const char *pare_peft_saved(const ParePeft *p);

/* An adapter to be written: A [k, rank], B [rank, n]. */
typedef struct ParePeftOut {
  const PareAdapter *of; /* names */
  int64_t k, n, rank;
  double scale;
  const float *a, *b;
} ParePeftOut;

/* Writes the folder. `root_scale`: rsLoRA's, scale · sqrt(rank) is alpha. */
PARE_MUST_USE PareStatus pare_peft_save(PareCtx *c, const char *dir, bool root_scale, size_t n, const ParePeftOut *out);

#endif
