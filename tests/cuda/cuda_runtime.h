// cuda_runtime.h - stands in for CUDA's header, so that the files of kernels/cuda compile for the host and their
// kernels run there, thread by thread. It is stricter than a GPU: queued work runs at the last moment, when the host
// waits (turned round, that of every stream but the first runs as early as it may); the device's memory cannot be touched outside of that work, nor beyond what was asked for; barriers and
// shuffles must be reached by all; threads run in an order that can be turned round. See emulate.cpp.
#ifndef PARE_TESTS_CUDA_RUNTIME_H
#define PARE_TESTS_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static /* blocks run one after another */
#define __launch_bounds__(...)
#define __grid_constant__
#define PARE_UNROLL
#define PARE_ROLL

namespace emulate {
struct Index {
  unsigned x;
};
extern Index thread_index, block_index, block_dim, grid_dim;
void sync_block();
// The lane's 8 bytes go to the warp; those of lane `from` come back.
void exchange(void *value, size_t size, int from);
// The lane's bytes go to the warp; those of lane i are at i * SLOT, until the lane's next exchange.
enum { SLOT = 32 };
const unsigned char *publish(const void *value, size_t size);
int lane();
// Copies to shared memory that are made when they are waited for or, with the threads turned round, at once.
void copy(void *to, const void *from, bool there);
void copy_commit();
void copy_wait(int left);
void mma(float c[4], const uint32_t a[4], const uint32_t b[2]);
void ldmatrix(uint32_t r[4], const void *row, bool transposed);
unsigned char *shared();

// The next launches run threads and blocks from the last to the first.
extern "C" void pare_emulation_reverse(bool on);

// The GPU fails at the kernel that is run after so many.
extern "C" void pare_emulation_fail(long kernels);

bool configure(unsigned grid, unsigned threads, size_t shared_bytes, const void *kernel);
void check_pointer(const void *p);
void run(unsigned grid, unsigned threads, size_t shared_bytes, const std::function<void()> &thread);
struct Stream;
void queue(Stream *s, std::function<void()> work);

template <class T> void check(const T &) {}
template <class T> void check(T *const &p) { check_pointer((const void *)p); }

// The arguments are copied, as a launch does.
template <class... P, class... A>
void launch(unsigned grid, unsigned threads, size_t shared_bytes, Stream *s, void (*kernel)(P...), A... args) {
  if (!configure(grid, threads, shared_bytes, (const void *)kernel)) return;
  std::tuple<P...> values(static_cast<P>(args)...);
  std::apply([](auto &...v) { (check(v), ...); }, values);
  queue(s, [=]() { run(grid, threads, shared_bytes, [&]() { std::apply(kernel, values); }); });
}
}  // namespace emulate

#define threadIdx (emulate::thread_index)
#define blockIdx (emulate::block_index)
#define blockDim (emulate::block_dim)
#define gridDim (emulate::grid_dim)
#define __syncthreads() emulate::sync_block()
#define PARE_LAUNCH(kernel, grid, block, shared, stream, ...) \
  emulate::launch((unsigned)(grid), (unsigned)(block), (shared), (stream), kernel, __VA_ARGS__)
#define PARE_SHARED(T, name) T *name = reinterpret_cast<T *>(emulate::shared())

template <class V> static inline V __shfl_sync(unsigned, V v, int from) {
  emulate::exchange(&v, sizeof v, from);
  return v;
}
template <class V> static inline V __shfl_xor_sync(unsigned, V v, int mask) {
  emulate::exchange(&v, sizeof v, emulate::lane() ^ mask);
  return v;
}
static inline void __syncwarp() { emulate::publish("", 1); }
static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }

// --- what kernels/cuda/mma.cuh has for the device in PTX ---
static inline void pare_mma(float c[4], const uint32_t a[4], const uint32_t b[2]) { emulate::mma(c, a, b); }
static inline void pare_ldmatrix(uint32_t r[4], const void *row) { emulate::ldmatrix(r, row, false); }
static inline void pare_ldmatrix_t(uint32_t r[4], const void *row) { emulate::ldmatrix(r, row, true); }
static inline void pare_copy(void *to, const void *from, bool there) { emulate::copy(to, from, there); }
static inline void pare_copy_commit() { emulate::copy_commit(); }
template <int LEFT> static inline void pare_copy_wait() { emulate::copy_wait(LEFT); }
static inline float pare_exp2(float x) { return exp2f(x); }
static inline float pare_reciprocal(float x) { return 1 / x; }
static inline uint32_t pare_pack2(float low, float high) {
  uint32_t u[2], r = 0;
  memcpy(u, &low, 4), memcpy(u + 1, &high, 4);
  for (int i = 0; i < 2; i++)
    r |= ((u[i] & 0x7fffffffu) > 0x7f800000u ? u[i] >> 16 | 0x40u : (u[i] + 0x7fffu + (u[i] >> 16 & 1u)) >> 16) << 16 * i;
  return r;
}

// --- the runtime's functions that the plug-in calls ---
typedef emulate::Stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidDevice = 101,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2, CUDART_VERSION = 13000 };
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaMemGetInfo(size_t *spare, size_t *all);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what, int value);

#endif
