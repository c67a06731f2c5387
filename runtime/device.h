/* device.h - finds the device that a run asks for: the CPU, or a GPU by way of a plug-in that is opened when it is
 * asked for, so that pare runs where there is none. */
#ifndef PARE_RUNTIME_DEVICE_H
#define PARE_RUNTIME_DEVICE_H

#include "kernels/device.h"

/* The host with these kernels; they may be NULL where none is run. Needs no close. */
PareDevice pare_device_cpu(const PareKernel *kernels);

/* Is `name` of the form auto, cpu, cuda or cuda:N? */
bool pare_device_name_ok(const char *name);
/* Opens the device. "auto" is a GPU where there is one, else the CPU. PARE_DEVICE, saying in one sentence why: no
 * plug-in (it is looked for in $PARE_PLUGIN_DIR, beside the program and in ../lib), no driver, no such GPU.
 * Pair: pare_device_close (NULL is fine). */
PARE_MUST_USE PareStatus pare_device_open(PareCtx *c, const char *name, PareDevice **out);
void pare_device_close(PareDevice *d);

#endif
