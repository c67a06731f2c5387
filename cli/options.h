/* options.h - the rows of options.def as options of a command: include pare/options.def in a list of CliOption behind
 * this, and undefine OPTION. */
#ifndef PARE_CLI_OPTIONS_H
#define PARE_CLI_OPTIONS_H

#include "cli/args.h"

/* For CliCommand.take, whose arg is the PareCompressOptions. */
static inline int cli_take_option(void *arg, const char *name, const char *value, PareError *e) {
  return pare_options_set(arg, name, value, e);
}

#define CLI_KIND_STR CLI_TAKEN
#define CLI_KIND_LIST CLI_TAKEN
#define CLI_KIND_INT CLI_TAKEN
#define CLI_KIND_AUTO CLI_TAKEN
#define CLI_KIND_FLOAT CLI_TAKEN
#define CLI_KIND_AUTO_FLOAT CLI_TAKEN
#define CLI_KIND_FLAG CLI_SWITCH
#define CLI_KIND_WORD CLI_TAKEN
/* A default of -1 stands for "not given". */
#define OPTION(field, kind, name, dflt, words, help) \
  {name, 0, CLI_KIND_##kind, words, (dflt)[0] == '-' ? "" : (dflt), help, NULL},

#endif
