/* tune.c - pare tune: several tasks on one model that has been cut, or on any other. */
#include "cli/cli.h"
#include "cli/compress.h"

int cli_tune(int argc, char **argv, const volatile sig_atomic_t *stop) {
  static const CliVerb verb = {.name = "tune", .operands = "MODEL [OUT]", .run = pare_tune,
                               .about = "Tunes adapters on a model as it is, cuts nothing, and writes the model with the "
                                        "adapters folded,\nor (--save-adapters DIR) the adapters for HF PEFT, or both."};
  return cli_run_verb(&verb, argc, argv, stop);
}
