/* cuda_device.c - see cuda_device.h. */
#include "cuda_device.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#ifdef PARE_TEST_GPU
#include "runtime/device.h"
#include "support.h"

void cuda_reverse(bool on) { (void)on; }

PareDevice *cuda_device(void) {
  static PareDevice *device;
  PareCtx c;
  if (device) return device;
  cr_assert(pare_ctx_init(&c, NULL, 0));
  if (pare_device_open(&c, "cuda", &device) != PARE_OK) skip(c.diag.text);
  pare_ctx_free(&c);
  return device;
}
#else
ParePluginOpen pare_plugin_open;
void pare_emulation_reverse(bool on);
void cuda_reverse(bool on) { pare_emulation_reverse(on); }

PareDevice *cuda_device(void) {
  static PareDevice *device;
  char why[256] = "";
  if (!device)
    cr_assert_eq(pare_plugin_open(PARE_VERSION, PARE_OP_COUNT, -1, &device, why, sizeof why), PARE_OK, "%s", why);
  return device;
}
#endif

enum { MAX = 64 };

/* A call's tensors on the device; tensors that share memory on the host share it there. */
typedef struct Copies {
  PareDevice *d;
  int n;
  const PareTensor *host[MAX];
  void *on[MAX], *back[MAX]; /* on the device; what came back */
  size_t bytes[MAX];
} Copies;

static void *copy_of(Copies *c, const PareTensor *t) {
  size_t bytes;
  if (!t->data) return NULL;
  for (int i = 0; i < c->n; i++)
    if (c->host[i]->data == t->data) return c->on[i];
  cr_assert(c->n < MAX && pare_type_bytes(&t->type, &bytes));
  int i = c->n++;
  c->host[i] = t;
  c->bytes[i] = bytes;
  c->back[i] = malloc(bytes + 1);
  cr_assert_eq(c->d->alloc(c->d, bytes, &c->on[i]), PARE_OK, "%s", c->d->why);
  if (bytes) cr_assert_eq(c->d->write(c->d, c->on[i], t->data, bytes), PARE_OK);
  return c->on[i];
}

static PareStatus run_once(Copies *c, PareOp op, PareKernelArgs *a) {
  PareTensor tensor[MAX];
  const void *known[MAX] = {0};
  const PareKernel *k = &c->d->kernels[op];
  void *fault = NULL;
  uint32_t found = 0;
  cr_assert(a->nin + a->nout <= MAX);
  for (int i = 0; i < a->nin + a->nout; i++) {
    const PareTensor *t = i < a->nin ? &a->in[i] : &a->out[i - a->nin];
    tensor[i] = (PareTensor){copy_of(c, t), t->type};
    if (i < a->nin && t->type.rank <= 1) known[i] = t->data;
  }
  PareKernelArgs g = *a;
  g.in = tensor, g.out = tensor + a->nin, g.known = known, g.queue = c->d->queue;
  cr_assert_eq(c->d->alloc(c->d, sizeof found, &fault), PARE_OK);
  cr_assert_eq(c->d->clear(c->d, fault, sizeof found), PARE_OK);
  g.fault = fault;
  PareStatus s = k->run ? k->plan ? k->plan(&g) : PARE_OK : PARE_UNSUPPORTED;
  if (s == PARE_OK) s = c->d->alloc(c->d, g.workspace_bytes, &g.workspace);
  if (s == PARE_OK) s = k->run(&g);
  cr_assert_eq(c->d->read(c->d, &found, fault, sizeof found), PARE_OK);
  for (int i = 0; i < c->n; i++)
    if (c->bytes[i]) cr_assert_eq(c->d->read(c->d, c->back[i], c->on[i], c->bytes[i]), PARE_OK);
  cr_assert_eq(c->d->sync(c->d), PARE_OK, "%s", c->d->why);
  if (k->release) k->release(g.state);
  c->d->free(c->d, fault);
  c->d->free(c->d, g.workspace);
  a->why = found ? "wrong data" : g.why;
  return s == PARE_OK && found ? PARE_DATA : s;
}

/* May the call have changed tensor i? */
static bool may_change(const Copies *c, int i, PareOp op, const PareKernelArgs *a) {
  for (int k = 0; k < a->nout; k++)
    if (a->out[k].data == c->host[i]->data) return true;
  for (int k = 0; k < a->nin; k++)
    if (a->in[k].data == c->host[i]->data && pare_op_info[op].writes >> k & 1u) return true;
  return false;
}

static void drop(Copies *c) {
  for (int i = 0; i < c->n; i++) c->d->free(c->d, c->on[i]), free(c->back[i]);
}

PareStatus cuda_call(PareOp op, PareKernelArgs *a) {
  Copies c = {.d = cuda_device()}, turned = {.d = cuda_device()};
  PareStatus s = run_once(&c, op, a);
  cuda_reverse(true);
  PareStatus again = run_once(&turned, op, a);
  cuda_reverse(false);
  cr_assert_eq(s, again, "%s: %d, with the threads turned round %d", pare_op_info[op].name, (int)s, (int)again);
  for (int i = 0; s == PARE_OK && i < c.n; i++) {
    cr_assert_eq(memcmp(c.back[i], turned.back[i], c.bytes[i]), 0, "%s: tensor %d depends on the order of the threads",
                 pare_op_info[op].name, i);
    if (may_change(&c, i, op, a)) memcpy(c.host[i]->data, c.back[i], c.bytes[i]);
    else cr_assert_eq(memcmp(c.back[i], c.host[i]->data, c.bytes[i]), 0, "%s: an input has changed", pare_op_info[op].name);
  }
  drop(&c);
  drop(&turned);
  return s;
}
