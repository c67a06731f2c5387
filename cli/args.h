/* args.h - a reader of command lines, driven by a table that --help is printed
 * from as well. */
#ifndef PARE_CLI_ARGS_H
#define PARE_CLI_ARGS_H

#include "pare/pare.h"

typedef enum CliKind {
  CLI_FLAG,   /* bool */
  CLI_TEXT,   /* const char * */
  CLI_WHOLE,  /* int64_t, not negative */
  CLI_NUMBER, /* double, not negative */
  CLI_TAKEN,  /* handed to CliCommand.take with its value */
  CLI_SWITCH, /* the same, without a value */
} CliKind;

typedef struct CliOption {
  const char *name; /* without dashes */
  char letter;      /* 'o' for -o; 0: none */
  CliKind kind;
  const char *unit, *dflt, *help; /* for --help; dflt "" where there is none to show; help NULL: it is not shown */
  void *to;
} CliOption;

typedef struct CliCommand {
  const char *name;     /* "data images" */
  const char *operands; /* "MODEL [OUT]": all but those in brackets are wanted */
  const char *about;
  size_t noptions;
  const CliOption *options;
  int (*take)(void *arg, const char *name, const char *value, PareError *e);
  void *arg;
} CliCommand;

enum { CLI_MAX_OPERANDS = 2 };

typedef struct CliInput {
  const char *operand[CLI_MAX_OPERANDS]; /* NULL: it is not there */
  int verbose; /* of PareHooks */
} CliInput;

/* Reads options and operands. Returns -1 when the command is to go on, else the
 * exit code: 0 after --help, 2 after a mistake that it has told about. Every
 * command takes -q, -v and --help. */
int cli_read(const CliCommand *cmd, int argc, char **argv, CliInput *in);

#endif
