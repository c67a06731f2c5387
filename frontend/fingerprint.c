/* fingerprint.c - reads the marks of fingerprint.def off a model. */
#include "frontend/fingerprint.h"

#include <fnmatch.h>
#include <string.h>

#include "base/map.h"
#include "frontend/nodes.h"

typedef enum Clue {
#define X(name) CLUE_##name,
#define MAKER(what, name, clue, pattern)
#define FORM(kind, form, domain, path)
#include "frontend/fingerprint.def"
  PARE_CLUES(X)
#undef X
#undef MAKER
#undef FORM
} Clue;

typedef enum What { EXPORTER, REWRITER, GUESS } What;

static const struct {
  What what;
  const char *name;
  Clue clue;
  const char *pattern;
} makers[] = {
#define MAKER(what, name, clue, pattern) {what, name, CLUE_##clue, pattern},
#define FORM(kind, form, domain, path)
#include "frontend/fingerprint.def"
#undef MAKER
#undef FORM
};

static const struct {
  const char *kind, *form, *domain, *path;
} forms[] = {
#define MAKER(what, name, clue, pattern)
#define FORM(kind, form, domain, path) {kind, form, domain, path},
#include "frontend/fingerprint.def"
#undef MAKER
#undef FORM
};

enum { MAKERS = sizeof makers / sizeof *makers, FORMS = sizeof forms / sizeof *forms };

/* --- marks --- */

static bool fits(const char *pattern, const char *text) { return !fnmatch(pattern, pare_text(text), 0); }

static bool has_key(const char *pattern, size_t n, Onnx__StringStringEntryProto *const *entry) {
  for (size_t i = 0; i < n; i++)
    if (fits(pattern, entry[i]->key)) return true;
  return false;
}

static bool any_node(const Onnx__GraphProto *g, Clue clue, const char *pattern) {
  for (size_t i = 0; i < g->n_node; i++)
    if (fits(pattern, clue == CLUE_NODE ? g->node[i]->name : g->node[i]->op_type)) return true;
  return false;
}

static bool any_initializer(const Onnx__GraphProto *g, const char *pattern) {
  for (size_t i = 0; i < g->n_initializer; i++)
    if (fits(pattern, g->initializer[i]->name)) return true;
  for (size_t i = 0; i < g->n_sparse_initializer; i++)
    if (g->sparse_initializer[i]->values && fits(pattern, g->sparse_initializer[i]->values->name)) return true;
  return false;
}

static bool any_domain(const Onnx__ModelProto *p, bool of_functions, const char *pattern) {
  for (size_t i = 0; !of_functions && i < p->n_opset_import; i++)
    if (fits(pattern, p->opset_import[i]->domain)) return true;
  for (size_t i = 0; of_functions && i < p->n_functions; i++)
    if (fits(pattern, p->functions[i]->domain)) return true;
  return false;
}

static bool is_there(const PareFingerprint *f, const Onnx__ModelProto *p, Clue clue, const char *pattern) {
  switch (clue) {
    case CLUE_PRODUCER: return fits(pattern, p->producer_name);
    case CLUE_METADATA: return has_key(pattern, p->n_metadata_props, p->metadata_props);
    case CLUE_DOMAIN:
    case CLUE_FUNCTION: return any_domain(p, clue == CLUE_FUNCTION, pattern);
    case CLUE_GRAPH: return fits(pattern, p->graph->name);
    case CLUE_INITIALIZER: return any_initializer(p->graph, pattern);
    case CLUE_NODE: return any_node(p->graph, clue, pattern);
    case CLUE_LACKS:
      return f->exporter && !strcmp(f->exporter, PARE_TORCHSCRIPT) && !any_node(p->graph, clue, pattern);
  }
  return false;
}

static void add_rewriter(PareFingerprint *f, const char **list, const char *name) {
  for (size_t i = 0; i < f->nrewriters; i++)
    if (!strcmp(list[i], name)) return;
  list[f->nrewriters++] = name;
}

static PareStatus find_makers(PareCtx *c, PareArena *a, const Onnx__ModelProto *p, PareFingerprint *f) {
  const char **rewriter = PARE_NEW_N(a, MAKERS, const char *);
  if (!rewriter) return pare_nomem(c);
  f->rewriters = rewriter;
  for (size_t i = 0; i < MAKERS; i++) {
    bool open = makers[i].what == EXPORTER ? !f->exporter : makers[i].what == REWRITER || !f->nrewriters;
    if (!open || !is_there(f, p, makers[i].clue, makers[i].pattern)) continue;
    if (makers[i].what == EXPORTER) f->exporter = makers[i].name;
    else add_rewriter(f, rewriter, makers[i].name);
  }
  return PARE_OK;
}

/* --- forms --- */

/* Nodes of the graph or of a function. */
typedef struct Nodes {
  size_t n;
  Onnx__NodeProto *const *at;
  PareMap made_by; /* name of a result -> number of its node */
  size_t looks;    /* that are left: a file that is broken on purpose could ask for any number */
} Nodes;

enum { MAX_SKIPPED = 8, LOOKS = 100 }; /* skipped in a row, since nodes may stand in a circle; looks a node */

/* Is `name` one of the words of "A|B C D" up to the first blank? */
static bool is_word(const char *name, const char *path) {
  size_t n = strlen(name), all = strcspn(path, " ");
  for (const char *end = path + all; path < end;) {
    size_t len = strcspn(path, "| ");
    if (len == n && !strncmp(path, name, n)) return true;
    path += len + 1;
  }
  return false;
}

static bool is_skipped(const Onnx__NodeProto *n) {
  return is_word(pare_text(n->op_type), "Cast|Dropout|Identity|Where|QuantizeLinear|DequantizeLinear|DynamicQuantizeLinear");
}

static bool path_fits(Nodes *g, const Onnx__NodeProto *n, const char *path, int skipped);

/* Does an input of n come from what the path asks for? */
static bool inputs_fit(Nodes *g, const Onnx__NodeProto *n, const char *path, int skipped) {
  for (size_t i = 0; i < n->n_input; i++) {
    int64_t by = pare_map_get(&g->made_by, pare_text(n->input[i]));
    if (by >= 0 && path_fits(g, g->at[by], path, skipped)) return true;
  }
  return false;
}

static bool path_fits(Nodes *g, const Onnx__NodeProto *n, const char *path, int skipped) {
  const char *rest = path + strcspn(path, " ");
  if (!g->looks) return false;
  g->looks--;
  if (is_word(pare_text(n->op_type), path)) return !*rest || inputs_fit(g, n, rest + 1, 0);
  return skipped < MAX_SKIPPED && is_skipped(n) && inputs_fit(g, n, path, skipped + 1);
}

static void count_node(Nodes *g, const Onnx__NodeProto *n, int64_t *count) {
  const char *done = ""; /* the kind that it has counted in: rows of a kind stand together */
  for (size_t i = 0; i < FORMS; i++) {
    if (!strcmp(forms[i].kind, done) || strcmp(forms[i].domain, pare_domain_of(n))) continue;
    if (!is_word(pare_text(n->op_type), forms[i].path) || !path_fits(g, n, forms[i].path, 0)) continue;
    count[i]++;
    done = forms[i].kind;
  }
}

static bool count_nodes(PareArena *tmp, size_t n, Onnx__NodeProto *const *node, int64_t *count) {
  Nodes g = {n, node, {.arena = tmp}, n * LOOKS};
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < node[i]->n_output; k++)
      if (!pare_map_put(&g.made_by, pare_text(node[i]->output[k]), (int64_t)i)) return false;
  for (size_t i = 0; i < n; i++) count_node(&g, node[i], count);
  return true;
}

static PareStatus find_forms(PareCtx *c, PareArena *a, const Onnx__ModelProto *p, PareFingerprint *f) {
  int64_t count[FORMS] = {0};
  PareForm *form = PARE_NEW_N(a, FORMS, PareForm);
  bool ok = form && count_nodes(c->scratch, p->graph->n_node, p->graph->node, count);
  for (size_t i = 0; ok && i < p->n_functions; i++)
    ok = count_nodes(c->scratch, p->functions[i]->n_node, p->functions[i]->node, count);
  if (!ok) return pare_nomem(c);
  for (size_t i = 0; i < FORMS; i++) {
    PareForm *last = f->nforms ? &form[f->nforms - 1] : NULL;
    if (!count[i]) continue;
    if (last && !strcmp(last->kind, forms[i].kind) && !strcmp(last->form, forms[i].form)) last->count += count[i];
    else form[f->nforms++] = (PareForm){forms[i].kind, forms[i].form, count[i]};
  }
  f->forms = form;
  return PARE_OK;
}

PareStatus pare_fingerprint(PareCtx *c, PareArena *a, const Onnx__ModelProto *p, PareFingerprint *out) {
  *out = (PareFingerprint){.producer = pare_arena_strdup(a, pare_text(p->producer_name)),
                           .version = pare_arena_strdup(a, pare_text(p->producer_version))};
  if (!out->producer || !out->version) return pare_nomem(c);
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = find_makers(c, a, p, out);
  if (s == PARE_OK) s = find_forms(c, a, p, out);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
