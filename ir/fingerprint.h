/* fingerprint.h - what a model file tells of the tools that made it. Found by
 * frontend/fingerprint, printed by inspect and the report. */
#ifndef PARE_IR_FINGERPRINT_H
#define PARE_IR_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

/* How something that every transformer has is written, and by how many nodes. */
typedef struct PareForm {
  const char *kind;  /* "attention", "layernorm", "gelu" */
  const char *form;
  int64_t count;
} PareForm;

typedef struct PareFingerprint {
  const char *producer, *version; /* as the file says, or "" */
  const char *exporter;           /* "PyTorch TorchScript"; NULL: nothing tells */
  size_t nrewriters;
  const char *const *rewriters;   /* tools that changed the file since, in the order of the table */
  size_t nforms;
  const PareForm *forms;
} PareFingerprint;

#endif
