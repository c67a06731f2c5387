// emulate.cpp - CUDA's execution model on one thread of the host. A block's threads are fibers that switch at barriers
// and shuffles; blocks run one after another. A kernel that breaks a rule of the model ends the program with a message.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

struct emulated_graph {
  std::vector<std::function<void()>> work;
};
struct emulated_event {
  emulate::Stream *stream;   // where it was last recorded
  unsigned recorded, passed; // how often
  bool timed;
  double at; // seconds
};
namespace emulate {
struct Item {
  std::function<void()> work;
  emulated_event *event; // waits until it has been passed so often
  unsigned times;
};
struct Stream {
  std::deque<Item> pending;
  bool capturing = false;
  emulated_graph *graph = nullptr;
};

Index thread_index, block_index, block_dim, grid_dim;

[[noreturn]] static void broken(const char *rule) {
  fprintf(stderr, "emulated CUDA: %s (block %u of %u, thread %u of %u)\n", rule, block_index.x, grid_dim.x,
          thread_index.x, block_dim.x);
  abort();
}

// --- threads ---

enum { WARP = 32, MAX_THREADS = 1024, STACK = 256 << 10 };
enum State { UNSTARTED, READY, AT_WARP, AT_BLOCK, DONE };

// A place to go on from. ucontext makes a stack; from then on jumps are enough, and ask the system for nothing.
struct Place {
  jmp_buf jump;
  ucontext_t fresh;
  bool been;
};
static void go(Place *from, Place *to) {
  from->been = true;
  if (_setjmp(from->jump)) return;
  if (to->been) _longjmp(to->jump, 1);
  setcontext(&to->fresh);
}

struct Fiber {
  Place place;
  std::unique_ptr<char[]> stack;
};
struct Copy {
  void *to;
  const void *from; // NULL: zeros
  unsigned group;
};
struct Thread {
  State state;
  Fiber *fiber;
  unsigned exchanges, groups;
};
struct Block {
  unsigned n, started, until, now; // threads; those started, and to be started now; the one that runs
  Thread thread[MAX_THREADS];
  unsigned char slot[2][MAX_THREADS][SLOT];
  std::vector<Copy> copies[MAX_THREADS]; // those that nobody has waited for
  const std::function<void()> *body;
  Place scheduler;
  std::vector<std::unique_ptr<Fiber>> fibers; // kept from launch to launch
  std::vector<Fiber *> idle;
  Fiber *running;
  std::vector<unsigned char> shared;
};
static Block block;
static bool reversed = getenv("PARE_EMULATION_REVERSED") != nullptr;

extern "C" void pare_emulation_reverse(bool on) { reversed = on; }

unsigned char *shared() { return (unsigned char *)(((uintptr_t)block.shared.data() + 15) & ~(uintptr_t)15); }
int lane() { return (int)(thread_index.x % WARP); }

static void become(unsigned t) {
  block.now = t;
  thread_index.x = t;
}
// Leaves the thread until the scheduler finds that all have come as far.
static void wait_at(State where) {
  unsigned me = block.now;
  block.thread[me].state = where;
  go(&block.thread[me].fiber->place, &block.scheduler);
  become(me);
}
void sync_block() { wait_at(AT_BLOCK); }

// Two sets of slots: a lane can be one exchange ahead of another, not two.
const unsigned char *publish(const void *value, size_t size) {
  Thread *t = &block.thread[block.now];
  unsigned turn = t->exchanges++ % 2;
  memcpy(block.slot[turn][block.now], value, size);
  wait_at(AT_WARP);
  return block.slot[turn][block.now / WARP * WARP];
}
void exchange(void *value, size_t size, int from) {
  if (size > 8) broken("a shuffle of more than 8 bytes");
  if (block.now / WARP * WARP + (unsigned)from >= block.n) broken("a shuffle from a lane that is not there");
  memcpy(value, publish(value, size) + from * SLOT, size);
}

// --- copies to shared memory: made as late as may be, at the wait, and lost without one; with the threads turned round
// as early as may be, at once ---

static void check_aligned(const void *p) {
  if ((uintptr_t)p % 16) broken("an address that is not aligned to 16 bytes");
}
static void make(const Copy &c) {
  if (c.from) memcpy(c.to, c.from, 16);
  else memset(c.to, 0, 16);
}
void copy(void *to, const void *from, bool there) {
  check_aligned(to), check_aligned(from);
  Copy c = {to, there ? from : nullptr, block.thread[block.now].groups};
  if (reversed) make(c);
  else block.copies[block.now].push_back(c);
}
void copy_commit() { block.thread[block.now].groups++; }
void copy_wait(int left) {
  std::vector<Copy> &c = block.copies[block.now], later;
  for (const Copy &x : c) {
    if (x.group + (unsigned)left >= block.thread[block.now].groups) later.push_back(x);
    else make(x);
  }
  c = later;
}

// --- the tensor cores; how lanes share the matrices: kernels/cuda/mma.cuh ---

static float half_of(uint32_t pair, int which) {
  uint32_t u = which ? pair & 0xffff0000u : pair << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
struct Operands {
  uint32_t a[4], b[2];
};
static_assert(sizeof(Operands) <= SLOT, "a lane's operands fit a slot");
void mma(float c[4], const uint32_t a[4], const uint32_t b[2]) {
  Operands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, row, column;
  const unsigned char *all = publish(&mine, sizeof mine);
  int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; i++) {
    float sum = 0;
    for (int k = 0; k < 16; k++) { // element [g + 8·(i/2), k] times [k, 2t + i%2]
      memcpy(&row, all + (4 * g + k % 8 / 2) * SLOT, sizeof row);
      memcpy(&column, all + (4 * (2 * t + i % 2) + k % 8 / 2) * SLOT, sizeof column);
      sum += half_of(row.a[i / 2 + k / 8 * 2], k % 2) * half_of(column.b[k / 8], k % 2);
    }
    c[i] += sum;
  }
}
void ldmatrix(uint32_t r[4], const void *row, bool transposed) {
  check_aligned(row);
  const unsigned char *all = publish(&row, sizeof row);
  int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 2; k++) {
      int line = transposed ? 2 * t + k : g, at = transposed ? g : 2 * t + k;
      const char *from;
      memcpy(&from, all + (8 * i + line) * SLOT, sizeof from);
      memcpy((char *)(r + i) + 2 * k, from + 2 * at, 2);
    }
}

// Starts threads one after another, for as long as none of them has to wait: then the scheduler takes another fiber.
static void fiber_main() {
  Fiber *mine = block.running;
  for (;;) {
    while (block.started < block.until) {
      unsigned k = block.started++, t = reversed ? block.n - 1 - k : k;
      block.thread[t] = {READY, mine, 0, 0};
      block.copies[t].clear();
      become(t);
      (*block.body)();
      block.thread[t].state = DONE;
    }
    block.idle.push_back(mine);
    go(&mine->place, &block.scheduler);
  }
}

static void make_fiber() {
  block.fibers.push_back(std::make_unique<Fiber>());
  Fiber *f = block.fibers.back().get();
  f->stack.reset(new char[STACK]);
  getcontext(&f->place.fresh);
  f->place.fresh.uc_stack.ss_sp = f->stack.get();
  f->place.fresh.uc_stack.ss_size = STACK;
  f->place.fresh.uc_link = nullptr;
  makecontext(&f->place.fresh, fiber_main, 0);
  block.idle.push_back(f);
}

static void start_fiber() {
  if (block.idle.empty()) make_fiber();
  block.running = block.idle.back();
  block.idle.pop_back();
  go(&block.scheduler, &block.running->place);
}

static void resume(unsigned t) {
  block.running = block.thread[t].fiber;
  become(t);
  go(&block.scheduler, &block.running->place);
}

// Are all threads of lo..hi-1 at this barrier? Some there and others past the end break a rule.
static bool all_at(State where, unsigned lo, unsigned hi) {
  unsigned there = 0, done = 0;
  for (unsigned t = lo; t < hi; t++) there += block.thread[t].state == where, done += block.thread[t].state == DONE;
  if (there && done) broken(where == AT_WARP ? "a shuffle that not all lanes reach" : "a barrier that not all threads reach");
  return there == hi - lo;
}

// Runs the ready threads of lo..hi-1, a warp, and lets them through their shuffles, until they are at the block's
// barrier or at their end: as far ahead of other warps as the kernel allows.
static void run_warp(unsigned lo, unsigned hi) {
  do {
    for (unsigned k = lo; k < hi; k++) {
      unsigned t = reversed ? hi - 1 - (k - lo) : k;
      if (block.thread[t].state == READY || block.thread[t].state == AT_WARP) resume(t);
    }
  } while (all_at(AT_WARP, lo, hi));
}

static void run_block() {
  unsigned warp = block.n % WARP ? block.n : (unsigned)WARP;
  block.started = 0;
  for (unsigned t = 0; t < block.n; t++) block.thread[t] = {UNSTARTED, nullptr, 0, 0};
  for (unsigned k = 0; k < block.n; k += warp) {
    unsigned lo = reversed ? block.n - warp - k : k;
    block.until = k + warp;
    while (block.started < block.until) start_fiber();
    if (all_at(AT_WARP, lo, lo + warp)) run_warp(lo, lo + warp);
  }
  while (all_at(AT_BLOCK, 0, block.n)) {
    for (unsigned t = 0; t < block.n; t++) block.thread[t].state = READY;
    for (unsigned k = 0; k < block.n; k += warp) {
      unsigned lo = reversed ? block.n - warp - k : k;
      run_warp(lo, lo + warp);
    }
  }
  for (unsigned t = 0; t < block.n; t++)
    if (block.thread[t].state != DONE) become(t), broken("threads wait for each other");
}

// The GPU fails at the kernel that is run after so many, and does nothing more: $PARE_EMULATION_FAIL.
static long healthy = getenv("PARE_EMULATION_FAIL") ? atol(getenv("PARE_EMULATION_FAIL")) : -1;
static bool lost;
extern "C" void pare_emulation_fail(long kernels) { healthy = kernels; }

void run(unsigned grid, unsigned threads, size_t shared_bytes, const std::function<void()> &body) {
  lost = lost || healthy == 0;
  if (healthy > 0) healthy--;
  if (lost) return;
  block.n = threads;
  block.body = &body;
  grid_dim.x = grid;
  block_dim.x = threads;
  for (unsigned i = 0; i < grid; i++) {
    block_index.x = reversed ? grid - 1 - i : i;
    block.shared.assign(shared_bytes + 16, 0xff); // whatever was there before
    run_block();
  }
}

// --- memory: pages that can be touched while queued work runs, ending at one that never can ---

struct Pages {
  char *base;
  size_t bytes; // without the guard
  bool fresh;   // not touched yet: NaN and -1, not zeros, is what work finds there
};
static std::map<const char *, Pages> allocated; // by the address that was given
static std::multimap<size_t, char *> spare;     // freed, by their size
static std::map<const void *, int> shared_limit; // by kernel
static cudaError_t last_error;
static cudaError_t health() { return lost ? cudaErrorIllegalAddress : cudaSuccess; }
static double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
// The device's memory: $PARE_EMULATION_MIB.
static size_t capacity() {
  const char *mib = getenv("PARE_EMULATION_MIB");
  return (size_t)(mib ? atol(mib) : 4096) << 20;
}
static size_t taken(size_t grain) {
  size_t sum = 0;
  for (auto &a : allocated) sum += (a.second.bytes + grain - 1) / grain * grain;
  return sum;
}
static bool at_work;

static void protect(int how) {
  at_work = how != PROT_NONE;
  for (auto &a : allocated) {
    mprotect(a.second.base, a.second.bytes, how);
    if (at_work && a.second.fresh) memset(a.second.base, 0xff, a.second.bytes);
    a.second.fresh = a.second.fresh && !at_work;
  }
}

void check_pointer(const void *p) {
  if (!p) return;
  auto next = allocated.upper_bound((const char *)p);
  if (next != allocated.begin()) {
    const Pages &a = std::prev(next)->second;
    if ((const char *)p >= a.base && (const char *)p <= a.base + a.bytes) return;
  }
  broken("a kernel is given the address of something that is not the device's");
}

bool configure(unsigned grid, unsigned threads, size_t shared_bytes, const void *kernel) {
  auto limit = shared_limit.find(kernel);
  size_t allowed = limit == shared_limit.end() ? 48 << 10 : (size_t)limit->second;
  if (grid >= 1 && grid <= INT32_MAX && threads >= 1 && threads <= MAX_THREADS && shared_bytes <= allowed) return true;
  last_error = cudaErrorInvalidConfiguration;
  return false;
}

// --- streams ---

static std::vector<Stream *> streams;

// Runs the first of the stream's work, and before it what it waits for.
static void step(Stream *s) {
  Item i = std::move(s->pending.front());
  s->pending.pop_front();
  while (i.event && i.event->passed < i.times) step(i.event->stream);
  if (i.work) i.work();
}
static bool blocked(const Stream *s) {
  const Item &i = s->pending.front();
  return i.event && i.event->passed < i.times;
}
// Turned round, copies beside the work are made as soon as nothing forbids it.
static void run_ahead() {
  for (size_t k = 1; reversed && k < streams.size(); k++)
    while (!streams[k]->pending.empty() && !blocked(streams[k])) step(streams[k]);
}
static void add(Stream *s, Item i) {
  s->pending.push_back(std::move(i));
  if (!reversed || s == streams[0] || blocked(s)) return;
  protect(PROT_READ | PROT_WRITE);
  run_ahead();
  protect(PROT_NONE);
}
void queue(Stream *s, std::function<void()> work) {
  if (s->capturing) s->graph->work.push_back(std::move(work));
  else add(s, {std::move(work), nullptr, 0});
}
static void drain(Stream *s, const emulated_event *until = nullptr) {
  unsigned times = until ? until->recorded : 0;
  if (s->pending.empty() || (until && until->passed >= times)) return;
  protect(PROT_READ | PROT_WRITE);
  while (!s->pending.empty() && !(until && until->passed >= times)) step(s), run_ahead();
  protect(PROT_NONE);
}
}  // namespace emulate

using namespace emulate;

const char *cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorInvalidConfiguration ? "invalid configuration argument"
         : e == cudaErrorMemoryAllocation   ? "out of memory"
         : e == cudaErrorIllegalAddress     ? "an illegal memory access was encountered"
         : e == cudaSuccess                 ? "no error"
                                            : "invalid argument";
}
cudaError_t cudaGetLastError() {
  cudaError_t e = lost ? health() : last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) { return *n = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
  *p = {};
  snprintf(p->name, sizeof p->name, "emulated GPU");
  p->major = 9, p->multiProcessorCount = 2, p->sharedMemPerBlockOptin = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all) {
  *all = capacity();
  size_t gone = taken(2 << 20); // as a GPU tells it, though small blocks share
  *free_bytes = gone < *all ? *all - gone : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (bytes + 63) & ~(size_t)63, size = (used + page - 1) / page * page;
  *p = nullptr;
  if (size > capacity() - taken(page)) return last_error = cudaErrorMemoryAllocation;
  char *base;
  auto again = spare.find(size);
  if (again != spare.end()) {
    base = again->second;
    spare.erase(again);
  } else {
    base = (char *)mmap(nullptr, size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == (char *)MAP_FAILED) return last_error = cudaErrorMemoryAllocation;
  }
  *p = base + (size - used);
  allocated[(const char *)*p] = {base, size, size <= 16 << 20}; // a large one stays untouched: its pages would cost at each switch
  if (at_work) broken("memory is taken while work runs");
  return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
  if (!p) return cudaSuccess;
  for (Stream *s : streams) drain(s);
  auto a = allocated.find((const char *)p);
  if (a == allocated.end()) return last_error = cudaErrorInvalidValue;
  if (a->second.bytes <= 1 << 20) spare.insert({a->second.bytes, a->second.base});
  else munmap(a->second.base, a->second.bytes + (size_t)sysconf(_SC_PAGESIZE));
  allocated.erase(a);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes) {
  *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void *p) {
  for (Stream *s : streams) drain(s);
  free(p);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s) {
  if (kind != cudaMemcpyDeviceToHost) check_pointer(to);
  if (kind != cudaMemcpyHostToDevice) check_pointer(from);
  queue(s, [=]() { memmove(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_step, const void *from, size_t from_step, size_t width, size_t height,
                              cudaMemcpyKind, cudaStream_t s) {
  check_pointer(to), check_pointer(from);
  if (width > to_step || width > from_step || to_step > INT32_MAX || from_step > INT32_MAX)
    return last_error = cudaErrorInvalidValue;
  queue(s, [=]() {
    for (size_t i = 0; i < height; i++) memcpy((char *)to + i * to_step, (const char *)from + i * from_step, width);
  });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t s) {
  check_pointer(to);
  queue(s, [=]() { memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
  streams.push_back(*s = new Stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  drain(s);
  for (size_t i = 0; i < streams.size(); i++)
    if (streams[i] == s) streams.erase(streams.begin() + (ptrdiff_t)i--);
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  if (s->capturing) return last_error = cudaErrorStreamCaptureUnsupported;
  drain(s);
  return health();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  if (s->capturing) return last_error = cudaErrorStreamCaptureUnsupported;
  add(s, {nullptr, e, e->recorded});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
  *e = new emulated_event{nullptr, 0, 0, !(flags & cudaEventDisableTiming), 0};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  for (Stream *s : streams) drain(s);
  return delete e, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  if (s->capturing) return last_error = cudaErrorStreamCaptureUnsupported;
  e->stream = s;
  e->recorded++;
  queue(s, [=]() { e->passed++, e->at = now(); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  if (e->stream) drain(e->stream, e);
  return health();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
  for (cudaEvent_t e : {from, to}) {
    if (!e->timed || !e->recorded) return last_error = cudaErrorInvalidValue;
    if (e->passed < e->recorded) return last_error = cudaErrorNotReady;
  }
  return *ms = (float)(1e3 * (to->at - from->at)), cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  s->capturing = true;
  s->graph = new emulated_graph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out) {
  *out = s->graph;
  s->capturing = false;
  s->graph = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long) {
  *out = new emulated_graph(*g);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) { return delete g, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { return delete g, cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) {
  for (auto &w : g->work) queue(s, w);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value) {
  if (value > 227 << 10) return last_error = cudaErrorInvalidValue;
  shared_limit[kernel] = value;
  return cudaSuccess;
}
