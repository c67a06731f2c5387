/* device.cu - the plug-in's door: a GPU as a PareDevice. A stream for the work and one for copies beside it; memory by
 * cudaMalloc; a phase of a program as a CUDA graph. */
#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "base/arena.h"
}

enum { BLAS_BYTES = 32 << 20, GRAIN = 2 << 20 }; /* of cudaMalloc: smaller blocks share one of that size */
enum { OLDEST = 80 };                             /* compute capability, as 10·major + minor */

struct CudaDevice {
  PareDevice device; /* first: it is what callers hold */
  PareArena *arena;  /* holds this struct */
  PareCuda cuda;
  cudaStream_t copies;
  char name[16], about[160];
  PareKernel table[PARE_OP_COUNT];
};

static CudaDevice *own(PareDevice *d) { return (CudaDevice *)d; }
static cudaStream_t stream_of(PareDevice *d) { return own(d)->cuda.stream; }

static PareStatus status(PareDevice *d, const char *what, cudaError_t e) {
  if (e == cudaSuccess) return PARE_OK;
  snprintf(d->why, sizeof d->why, "%s: %s: %s", d->name, what, cudaGetErrorString(e));
  cudaGetLastError(); /* told */
  return e == cudaErrorMemoryAllocation ? PARE_NOMEM : PARE_DEVICE;
}

/* --- memory --- */

static PareStatus gpu_alloc(PareDevice *d, size_t bytes, void **out) {
  char what[80];
  *out = NULL;
  snprintf(what, sizeof what, "%zu MiB for the model's tensors", (bytes >> 20) + 1);
  return status(d, what, cudaMalloc(out, bytes ? bytes : 1));
}
static void gpu_free(PareDevice *d, void *p) {
  if (p) status(d, "memory", cudaFree(p));
}
static size_t gpu_free_now(PareDevice *d) {
  size_t now = 0, all = 0;
  return status(d, "memory", cudaMemGetInfo(&now, &all)) == PARE_OK ? now : 0;
}
static PareStatus gpu_alloc_host(PareDevice *d, size_t bytes, void **out) {
  *out = NULL;
  return status(d, "pinned memory", cudaMallocHost(out, bytes ? bytes : 1));
}
static void gpu_free_host(PareDevice *d, void *p) {
  if (p) status(d, "pinned memory", cudaFreeHost(p));
}
static PareStatus gpu_write(PareDevice *d, void *to, const void *from, size_t bytes) {
  return status(d, "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(d)));
}
static PareStatus gpu_read(PareDevice *d, void *to, const void *from, size_t bytes) {
  return status(d, "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(d)));
}
static PareStatus gpu_clear(PareDevice *d, void *to, size_t bytes) {
  return bytes ? status(d, "clear", cudaMemsetAsync(to, 0, bytes, stream_of(d))) : PARE_OK;
}
static PareStatus gpu_sync(PareDevice *d) { return status(d, "work", cudaStreamSynchronize(stream_of(d))); }

/* --- copies beside the work --- */

static cudaStream_t lane_of(PareDevice *d, PareLane lane) {
  return lane == PARE_LANE_COPY ? own(d)->copies : own(d)->cuda.stream;
}
static PareStatus gpu_send(PareDevice *d, void *to, const void *from, size_t bytes) {
  return status(d, "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, own(d)->copies));
}
static PareStatus gpu_move(PareDevice *d, void *to, const void *from, size_t bytes) {
  return status(d, "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(d)));
}
static PareStatus gpu_mark_new(PareDevice *d, bool timed, void **mark) {
  cudaEvent_t e = NULL;
  PareStatus s = status(d, "event", cudaEventCreateWithFlags(&e, timed ? cudaEventDefault : cudaEventDisableTiming));
  return *mark = e, s;
}
static void gpu_mark_free(PareDevice *d, void *mark) {
  if (mark) status(d, "event", cudaEventDestroy((cudaEvent_t)mark));
}
static PareStatus gpu_mark_set(PareDevice *d, void *mark, PareLane lane) {
  return status(d, "work", cudaEventRecord((cudaEvent_t)mark, lane_of(d, lane)));
}
static PareStatus gpu_after(PareDevice *d, void *mark, PareLane lane) {
  return status(d, "work", cudaStreamWaitEvent(lane_of(d, lane), (cudaEvent_t)mark, 0));
}
static PareStatus gpu_await(PareDevice *d, void *mark) {
  return status(d, "work", cudaEventSynchronize((cudaEvent_t)mark));
}
static PareStatus gpu_elapsed(PareDevice *d, void *from, void *to, double *seconds) {
  float ms = 0;
  PareStatus s = status(d, "event", cudaEventElapsedTime(&ms, (cudaEvent_t)from, (cudaEvent_t)to));
  return *seconds = 1e-3 * (double)ms, s;
}

/* --- recording --- */

static PareStatus gpu_record_begin(PareDevice *d) {
  return status(d, "graph", cudaStreamBeginCapture(stream_of(d), cudaStreamCaptureModeThreadLocal));
}
static PareStatus gpu_record_end(PareDevice *d, void **record) {
  cudaGraph_t graph = NULL;
  cudaGraphExec_t exec = NULL;
  *record = NULL;
  PareStatus s = status(d, "graph", cudaStreamEndCapture(stream_of(d), &graph));
  if (s == PARE_OK) s = status(d, "graph", cudaGraphInstantiate(&exec, graph, 0));
  if (graph) cudaGraphDestroy(graph);
  *record = exec;
  return s;
}
static PareStatus gpu_replay(PareDevice *d, void *record) {
  return status(d, "graph", cudaGraphLaunch((cudaGraphExec_t)record, stream_of(d)));
}
static void gpu_drop(PareDevice *d, void *record) {
  if (record) status(d, "graph", cudaGraphExecDestroy((cudaGraphExec_t)record));
}

/* --- opening --- */

static void gpu_close(PareDevice *d) {
  CudaDevice *g = own(d);
  if (g->cuda.blas_space) cudaFree(g->cuda.blas_space);
  pare_gemm_memo_free(g->cuda.memo);
  if (g->cuda.blas) cublasLtDestroy(g->cuda.blas);
  if (g->copies) cudaStreamDestroy(g->copies);
  if (g->cuda.stream) cudaStreamDestroy(g->cuda.stream);
  pare_arena_free(g->arena);
}

/* The GPU with most free memory; -1 where there is none that works. */
static int roomiest(int count) {
  size_t best = 0;
  int found = -1;
  for (int i = 0; i < count; i++) {
    size_t spare = 0, all = 0;
    if (cudaSetDevice(i) != cudaSuccess || cudaMemGetInfo(&spare, &all) != cudaSuccess) continue;
    if (spare > best) best = spare, found = i;
  }
  cudaGetLastError();
  return found;
}

static void tell_driver(char *why, size_t size) {
  int have = 0;
  cudaDriverGetVersion(&have);
  if (!have) snprintf(why, size, "no NVIDIA driver is loaded on this machine");
  else
    snprintf(why, size, "the NVIDIA driver is for CUDA %d.%d, the plug-in wants %d.%d: a newer driver is needed",
             have / 1000, have % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

static PareStatus choose(int *ordinal, char *why, size_t size) {
  int count = 0;
  cudaError_t e = cudaGetDeviceCount(&count);
  if (e == cudaErrorInsufficientDriver) return tell_driver(why, size), PARE_DEVICE;
  if (e != cudaSuccess) return snprintf(why, size, "no GPU can be used: %s", cudaGetErrorString(e)), PARE_DEVICE;
  if (*ordinal >= count)
    return snprintf(why, size, "there is no GPU %d: the last is %d", *ordinal, count - 1), PARE_DEVICE;
  if (*ordinal < 0) *ordinal = roomiest(count);
  if (*ordinal < 0) return snprintf(why, size, "none of %d GPUs has free memory that can be used", count), PARE_DEVICE;
  e = cudaSetDevice(*ordinal);
  if (e == cudaSuccess) return PARE_OK;
  return snprintf(why, size, "GPU %d cannot be used: %s", *ordinal, cudaGetErrorString(e)), PARE_DEVICE;
}

static PareStatus describe(CudaDevice *g, int ordinal, char *why, size_t size) {
  cudaDeviceProp p;
  size_t all = 0;
  cudaError_t e = cudaGetDeviceProperties(&p, ordinal);
  if (e == cudaSuccess) e = cudaMemGetInfo(&g->device.spare, &all);
  if (e != cudaSuccess)
    return snprintf(why, size, "GPU %d cannot be used: %s", ordinal, cudaGetErrorString(e)), PARE_DEVICE;
  if (10 * p.major + p.minor < OLDEST)
    return snprintf(why, size, "GPU %d (%s) has compute capability %d.%d; 8.0 is the least", ordinal, p.name, p.major,
                    p.minor), PARE_DEVICE;
  snprintf(g->name, sizeof g->name, "cuda:%d", ordinal);
  snprintf(g->about, sizeof g->about, "%.100s, %zu of %zu MiB free", p.name, g->device.spare >> 20, all >> 20);
  g->cuda.processors = p.multiProcessorCount;
  g->cuda.shared = (int)p.sharedMemPerBlockOptin;
  return PARE_OK;
}

static PareStatus equip(CudaDevice *g, char *why, size_t size) {
  PareCuda *c = &g->cuda;
  c->blas_bytes = BLAS_BYTES;
  c->memo = pare_gemm_memo_new();
  cudaError_t e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
  if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&g->copies, cudaStreamNonBlocking);
  if (e == cudaSuccess) e = cudaMalloc(&c->blas_space, c->blas_bytes);
  if (e != cudaSuccess) return snprintf(why, size, "%s: %s", g->name, cudaGetErrorString(e)), PARE_DEVICE;
  if (cublasLtCreate(&c->blas) == CUBLAS_STATUS_SUCCESS) return PARE_OK;
  return c->blas = NULL, snprintf(why, size, "%s: cuBLASLt does not start", g->name), PARE_DEVICE;
}

static void fill(CudaDevice *g) {
  PareDevice *d = &g->device;
  pare_cuda_table(g->table);
  g->cuda.device = d;
  d->name = g->name, d->about = g->about, d->kernels = g->table, d->queue = &g->cuda;
  d->own = BLAS_BYTES, d->grain = GRAIN, d->free_now = gpu_free_now;
  d->alloc = gpu_alloc, d->free = gpu_free, d->alloc_host = gpu_alloc_host, d->free_host = gpu_free_host;
  d->write = gpu_write, d->read = gpu_read, d->clear = gpu_clear, d->sync = gpu_sync;
  d->record_begin = gpu_record_begin, d->record_end = gpu_record_end;
  d->replay = gpu_replay, d->drop = gpu_drop, d->close = gpu_close;
  d->send = gpu_send, d->move = gpu_move, d->mark_new = gpu_mark_new, d->mark_free = gpu_mark_free;
  d->mark_set = gpu_mark_set, d->after = gpu_after, d->await = gpu_await, d->elapsed = gpu_elapsed;
}

extern "C" __attribute__((visibility("default"))) ParePluginOpen pare_plugin_open;
PareStatus pare_plugin_open(const char *version, int nops, int ordinal, PareDevice **out, char *why, size_t why_size) {
  *out = NULL;
  if (strcmp(version, PARE_VERSION) || nops != PARE_OP_COUNT)
    return snprintf(why, why_size, "the plug-in belongs to another build of pare"), PARE_DEVICE;
  PARE_TRY(choose(&ordinal, why, why_size));
  PareArena *arena = pare_arena_new(sizeof(CudaDevice) + 64);
  CudaDevice *g = arena ? PARE_NEW(arena, CudaDevice) : NULL;
  if (!g) return pare_arena_free(arena), snprintf(why, why_size, "out of memory"), PARE_NOMEM;
  g->arena = arena;
  fill(g);
  PareStatus s = describe(g, ordinal, why, why_size);
  if (s == PARE_OK) s = equip(g, why, why_size);
  if (s == PARE_OK) *out = &g->device;
  else gpu_close(&g->device);
  return s;
}
