/* cuda_device.h - the emulated GPU (tests/cuda) for suites, or with PARE_TEST_GPU a real one: a device, and one call of
 * a kernel on copies of tensors. */
#ifndef PARE_TESTS_CUDA_DEVICE_H
#define PARE_TESTS_CUDA_DEVICE_H

#include "kernels/device.h"

/* Opened by the plug-in's own door when it is first asked for; never closed. Skips the test where there is no real GPU. */
PareDevice *cuda_device(void);

/* Emulated: from now on threads run in the other order, and copies beside the work as early as they may, not as late; nothing on a real GPU. */
void cuda_reverse(bool on);

/* Plans and runs an op's kernel on copies of the tensors, which lie on the host, twice: emulated, with the threads in
 * both orders. Fails the test when the bytes differ, or an input that the op does not write has changed. */
PareStatus cuda_call(PareOp op, PareKernelArgs *a);

#endif
