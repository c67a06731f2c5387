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

bool pare_kinds_find(const char *list, unsigned *out) {
  PareKind kind;
  *out = 0;
  for (const char *at = list; *at; at += *at == ',') {
    size_t n = strcspn(at, ",");
    if (!pare_kind_find(at, n, &kind)) return false;
    *out |= PARE_KIND_BIT(kind);
    at += n;
  }
  return true;
}

static bool name_taken(const PareDims *d, const char *name) {
  for (size_t i = 0; i < d->dims.n; i++)
    if (!strcmp(d->dims.at[i].name, name)) return true;
  return false;
}

PareStatus pare_dims_add(PareCtx *c, PareArena *a, PareDims *d, PareDim dim) {
  const char *base = dim.name;
  for (int i = 2; dim.name && name_taken(d, dim.name); i++) dim.name = pare_arena_printf(a, "%s#%d", base, i);
  return dim.name && pare_vec_push(a, &d->dims, dim) ? PARE_OK : pare_nomem(c);
}

void pare_dims_hide(const PareDims *d, bool exact, const bool **saved) {
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    saved[i] = dim->leaf->keep;
    if (dim->exact == exact) dim->leaf->keep = NULL;
  }
}

void pare_dims_show(const PareDims *d, const bool *const *saved) {
  for (size_t i = 0; i < d->dims.n; i++) d->dims.at[i].leaf->keep = saved[i];
}

bool pare_dims_exact(const PareDims *d) {
  for (size_t i = 0; i < d->dims.n; i++)
    if (!d->dims.at[i].exact && pare_axis_count(d->dims.at[i].leaf) < d->dims.at[i].count) return false;
  return true;
}

const bool *pare_dims_tokens(const PareDims *d, int64_t *count) {
  for (size_t i = 0; i < d->dims.n; i++) {
    const PareDim *dim = &d->dims.at[i];
    if (dim->kind != PARE_KIND_VOCAB) continue;
    *count = dim->count;
    return dim->leaf->keep;
  }
  return NULL;
}

bool pare_dims_dropped(const PareDims *d, const PareNode *n) {
  for (size_t i = 0; i < d->dims.n; i++)
    for (size_t b = 0; b < d->dims.at[i].branches.n; b++) {
      const PareBranch *branch = &d->dims.at[i].branches.at[b];
      for (size_t k = 0; pare_branch_dead(branch) && k < branch->nodes.n; k++)
        if (branch->nodes.at[k] == n) return true;
    }
  return false;
}

bool pare_dims_gone(const PareDims *d, bool *const *keep, size_t i) {
  const PareBranch *b = d->dims.at[i].inside;
  for (size_t k = 0; b && k < d->dims.n; k++)
    if (d->dims.at[k].leaf == b->leaf) return keep[k] && !keep[k][b->number];
  return false;
}
