/* device.c - see device.h. */
#include "runtime/device.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pages.h"

enum { ALIGN = 64, PATH_SIZE = 4096 };

/* --- the CPU --- */

static PareStatus cpu_alloc(PareDevice *d, size_t bytes, void **out) {
  if ((*out = pare_pages_alloc(bytes, ALIGN))) return PARE_OK;
  snprintf(d->why, sizeof d->why, "out of memory: %zu bytes for the model's tensors", bytes);
  return PARE_NOMEM;
}
static void cpu_free(PareDevice *d, void *p) {
  (void)d;
  free(p);
}
static PareStatus cpu_copy(PareDevice *d, void *to, const void *from, size_t bytes) {
  (void)d;
  if (bytes) memcpy(to, from, bytes);
  return PARE_OK;
}
static PareStatus cpu_clear(PareDevice *d, void *to, size_t bytes) {
  (void)d;
  if (bytes) memset(to, 0, bytes);
  return PARE_OK;
}
static PareStatus cpu_sync(PareDevice *d) {
  (void)d;
  return PARE_OK;
}

PareDevice pare_device_cpu(const PareKernel *kernels) {
  return (PareDevice){.name = "cpu", .about = "this machine's processor", .kernels = kernels, .host = true,
                      .alloc = cpu_alloc, .free = cpu_free, .alloc_host = cpu_alloc, .free_host = cpu_free,
                      .write = cpu_copy, .read = cpu_copy, .clear = cpu_clear, .sync = cpu_sync};
}

typedef struct OwnedCpu {
  PareDevice device; /* first: it is what callers hold */
  PareArena *arena;
} OwnedCpu;

static void cpu_close(PareDevice *d) { pare_arena_free(((OwnedCpu *)d)->arena); }

static PareStatus open_cpu(PareCtx *c, PareDevice **out) {
  PareArena *a = pare_arena_new(sizeof(OwnedCpu) + ALIGN);
  OwnedCpu *own = a ? PARE_NEW(a, OwnedCpu) : NULL;
  if (!own) return pare_arena_free(a), pare_nomem(c);
  own->device = pare_device_cpu(pare_cpu_kernels());
  own->device.close = cpu_close;
  own->arena = a;
  *out = &own->device;
  return PARE_OK;
}

/* --- names --- */

/* The N of cuda:N, -1 for cuda alone and auto; false for other names. */
static bool parse(const char *name, int *ordinal) {
  *ordinal = -1;
  if (!strcmp(name, "auto") || !strcmp(name, "cpu") || !strcmp(name, "cuda")) return true;
  if (strncmp(name, "cuda:", 5)) return false;
  size_t digits = strspn(name + 5, "0123456789");
  if (digits < 1 || digits > 3 || name[5 + digits]) return false;
  *ordinal = (int)strtol(name + 5, NULL, 10);
  return true;
}

bool pare_device_name_ok(const char *name) {
  int ordinal;
  return parse(name, &ordinal);
}

/* --- the plug-in --- */

static const char PLUGIN[] = "libpare_cuda.so";

/* The folder of this program, without the last slash; "" where the system does not tell. */
static void program_folder(char path[PATH_SIZE]) {
  ssize_t n = readlink("/proc/self/exe", path, PATH_SIZE - 1);
  path[n > 0 ? n : 0] = 0;
  char *slash = strrchr(path, '/');
  if (slash) *slash = 0;
}

/* Fills path with the first place that has the plug-in. */
static bool find_plugin(char path[PATH_SIZE]) {
  char folder[PATH_SIZE];
  const char *given = getenv("PARE_PLUGIN_DIR");
  program_folder(folder);
  const char *place[][2] = {{given ? given : "", ""}, {folder, ""}, {folder, "/../lib"}};
  for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
    if (!*place[i][0]) continue;
    int n = snprintf(path, PATH_SIZE, "%s%s/%s", place[i][0], place[i][1], PLUGIN);
    if (n > 0 && n < PATH_SIZE && access(path, R_OK) == 0) return true;
  }
  return false;
}

/* A plug-in stays loaded: its runtime cannot be taken down and brought up again. */
static PareStatus open_plugin(int ordinal, PareDevice **out, char *why, size_t size) {
  char path[PATH_SIZE];
  if (!find_plugin(path)) {
    snprintf(why, size, "there is no %s in $PARE_PLUGIN_DIR, beside this program or in ../lib (built with -DPARE_CUDA=ON)",
             PLUGIN);
    return PARE_DEVICE;
  }
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void *found = lib ? dlsym(lib, "pare_plugin_open") : NULL;
  if (!found) {
    const char *text = dlerror();
    snprintf(why, size, "the plug-in cannot be loaded: %.300s", text ? text : path);
    return PARE_DEVICE;
  }
  ParePluginOpen *open;
  memcpy(&open, &found, sizeof open); /* C has no cast from object to function */
  return open(PARE_VERSION, PARE_OP_COUNT, ordinal, out, why, size);
}

PareStatus pare_device_open(PareCtx *c, const char *name, PareDevice **out) {
  int ordinal;
  char why[400] = "";
  *out = NULL;
  if (!parse(name, &ordinal)) return pare_error(c, PARE_USAGE, "'%s' is no device: auto, cpu, cuda or cuda:N", name);
  if (!strcmp(name, "cpu")) return open_cpu(c, out);
  PareStatus s = open_plugin(ordinal, out, why, sizeof why);
  if (s == PARE_OK) return pare_log(c, 0, "device %s: %s", (*out)->name, (*out)->about), PARE_OK;
  if (strcmp(name, "auto")) return pare_error(c, s, "--device %s: %s; --device cpu runs without a GPU", name, why);
  pare_log(c, 1, "device cpu: %s", why);
  return open_cpu(c, out);
}

void pare_device_close(PareDevice *d) {
  if (d) d->close(d);
}
