#include "ir/dims.h"

#include <string.h>

static const char *const kind_name[PARE_KIND_COUNT] = {
#define X(id, name) name,
    PARE_KIND_LIST(X)
#undef X
};

const char *pare_kind_name(PareKind k) { return kind_name[k]; }

bool pare_kind_find(const char *name, size_t len, PareKind *out) {
  for (int i = 0; i < PARE_KIND_COUNT; i++)
    if (strlen(kind_name[i]) == len && !memcmp(kind_name[i], name, len)) return *out = (PareKind)i, true;
  return false;
}
