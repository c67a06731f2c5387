/* compress.h - what compress and tune share: options.def as a command line. */
#ifndef PARE_CLI_COMPRESS_H
#define PARE_CLI_COMPRESS_H

#include "cli/args.h"

typedef struct CliVerb {
  const char *name, *operands, *about;
  bool cuts; /* else options about what is cut are not shown, and refused by the library */
  int (*run)(const char *model, const char *out, const PareCompressOptions *o, const PareHooks *h,
             PareCompressResult **result, PareError *e);
} CliVerb;

int cli_run_verb(const CliVerb *verb, int argc, char **argv, const volatile sig_atomic_t *stop);

#endif
