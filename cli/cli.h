/* cli.h - what the commands share: the table of commands, options that all of
 * them take, and how things are printed. Includes the public API alone. */
#ifndef PARE_CLI_CLI_H
#define PARE_CLI_CLI_H

#include "cli/args.h"
#include "pare/pare.h"

/* One row a command: name, function, what it does. Each lives in cli/NAME.c. */
#define CLI_COMMANDS(X)                                                              \
  X(inspect, "what a model is, what it costs and what can be pruned of it")          \
  X(compress, "prune and tune a model, and write a smaller one that is proven equal") \
  X(sweep, "tell what the loss does when groups go, by class and layer, before any tuning") \
  X(tune, "tune adapters on a model as it is, and fold them, or write them for others to use")   \
  X(eval, "judge a model by labelled data")                                          \
  X(verify, "run two models on the same inputs and compare every output")            \
  X(diff, "tell what changed between two models")                                    \
  X(bench, "measure the latency of a model in this runtime, or its reading and writing") \
  X(data, "turn images or text into the .npz that models are fed from")

/* Given the words behind the command's name; returns the exit code. */
typedef int CliMain(int argc, char **argv, const volatile sig_atomic_t *stop);
#define X(name, about) CliMain cli_##name;
CLI_COMMANDS(X)
#undef X

/* "pare: text" on stderr; returns the code. */
int cli_fail(const PareError *e);
__attribute__((format(printf, 1, 2))) int cli_usage_error(const char *fmt, ...);

/* --- printing --- */
enum { CLI_NUMBER_TEXT = 40 };
/* "2,116,098" */
const char *cli_count(int64_t n, char buf[CLI_NUMBER_TEXT]);
/* "2.12 M"; `unit` is put behind the prefix: "8.53 MB". */
const char *cli_scaled(double v, const char *unit, char buf[CLI_NUMBER_TEXT]);
/* "1.24 ms" */
const char *cli_seconds(double v, char buf[CLI_NUMBER_TEXT]);
/* Names come from files: control characters are printed as '?'. */
void cli_text(FILE *f, const char *s);
/* A JSON string; a JSON number, or null where it is not finite. */
void cli_json_text(FILE *f, const char *s);
void cli_json_number(FILE *f, double v);

#endif
