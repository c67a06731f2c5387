/* why.h - printing of pare inspect --why. */
#ifndef PARE_CLI_WHY_H
#define PARE_CLI_WHY_H

#include "cli/cli.h"

/* Axis by axis: the parts that it is made of, and for each the chains of ops. */
void cli_print_why(const PareWhy *w);

#endif
