/* peft.c - reading and writing PEFT's folder. */
#include "api/peft.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/json.h"

#define CONFIG "adapter_config.json"
#define TENSORS "adapter_model.safetensors"
#define PREFIX "base_model.model."

typedef struct Reader {
  PareCtx *c;
  PareArena *a;
  ParePeft *p;
  const char *config_path, *path;
  const json_t *config;
} Reader;

#define refuse_config(r, code, ...) pare_diag_set(&(r)->c->diag, code, (r)->config_path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)
#define refuse(r, code, ...) pare_diag_set(&(r)->c->diag, code, (r)->path, NULL, NULL, __FILE__, __LINE__, __VA_ARGS__)

/* --- the configuration --- */

static bool is_true(const Reader *r, const char *key) { return json_is_true(json_object_get(r->config, key)); }

/* PEFT takes the keys of its patterns as regular expressions for the end of a path. Of these, paths are read, in which
 * dots may be escaped; one that begins with ^ is whole. */
static PareStatus check_pattern(const Reader *r, const char *pattern) {
  const char *key;
  json_t *value;
  json_object_foreach(json_object_get(r->config, pattern), key, value) {
    if (strpbrk(key + (*key == '^'), "^$*+?()[]{}|"))
      return refuse_config(r, PARE_UNSUPPORTED, "%s has the expression '%.100s': only paths of modules, or their ends, are "
                           "read", pattern, key);
    if (!json_is_number(value)) return refuse_config(r, PARE_FORMAT, "%s of '%.100s' is no number", pattern, key);
  }
  return PARE_OK;
}

/* Ways to start that leave the base as it was; true and false are not texts. */
static bool keeps_base(const json_t *init_lora_weights) {
  static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
  const char *text = json_string_value(init_lora_weights);
  for (size_t i = 0; text && i < sizeof harmless / sizeof *harmless; i++)
    if (!strcmp(text, harmless[i])) return true;
  return !text;
}

static PareStatus check_config(const Reader *r) {
  const char *type = json_string_value(json_object_get(r->config, "peft_type"));
  const char *bias = json_string_value(json_object_get(r->config, "bias"));
  const json_t *start = json_object_get(r->config, "init_lora_weights");
  if (!json_is_object(r->config)) return refuse_config(r, PARE_FORMAT, "no JSON object");
  if (!type || strcmp(type, "LORA"))
    return refuse_config(r, PARE_UNSUPPORTED, "peft_type is '%.40s': only LORA is read", type ? type : "");
  if (bias && strcmp(bias, "none"))
    return refuse_config(r, PARE_UNSUPPORTED, "bias is '%.40s': adapters with trained biases are not read", bias);
  if (is_true(r, "use_dora") || is_true(r, "lora_bias"))
    return refuse_config(r, PARE_UNSUPPORTED, "use_dora or lora_bias is on: such adapters are not W + s*B*A");
  if (!keeps_base(start))
    return refuse_config(r, PARE_UNSUPPORTED, "init_lora_weights is '%.40s': the adapters go with a base whose weights were "
                         "changed; have PEFT convert them (path_initial_model_for_weight_conversion)",
                         json_string_value(start));
  if (!json_is_number(json_object_get(r->config, "lora_alpha")) || !json_is_integer(json_object_get(r->config, "r")))
    return refuse_config(r, PARE_FORMAT, "lora_alpha or r is missing, or no number");
  PARE_TRY(check_pattern(r, "rank_pattern"));
  return check_pattern(r, "alpha_pattern");
}

static bool key_fits(Reader *r, const char *key, const char *module) {
  bool whole = *key == '^';
  char *path = pare_arena_strdup(r->c->scratch, key + whole), *to = path;
  for (const char *at = path; at && *at; at++)
    if (*at != '\\') *to++ = *at;
  if (!path) return false;
  *to = 0;
  size_t n = strlen(path), m = strlen(module);
  if (n > m || strcmp(module + m - n, path)) return false;
  return n == m || (!whole && module[m - n - 1] == '.');
}

/* What rank_pattern or alpha_pattern say of the module, else the plain value. */
static double setting(Reader *r, const char *pattern, const char *plain, const char *module) {
  const char *key;
  json_t *value;
  json_object_foreach(json_object_get(r->config, pattern), key, value)
    if (key_fits(r, key, module)) return json_number_value(value);
  return json_number_value(json_object_get(r->config, plain));
}

/* --- the tensors --- */

/* ".lora_A.weight", or with the adapter's name in it, ".lora_A.default.weight"; where it begins in name. */
static const char *find_factor(const char *name, char factor) {
  char infix[] = ".lora_?.";
  infix[6] = factor;
  const char *at = strstr(name, infix), *rest = at ? at + sizeof infix - 1 : NULL;
  bool ends = rest && (!strcmp(rest, "weight") || !strcmp(rest, "default.weight"));
  return ends ? at : NULL;
}

static bool is_matrix(const PareSafeTensor *t) { return t->type.rank == 2 && pare_dtype_is_float(t->type.dtype); }

/* name[0 .. len) without PEFT's prefix; of saved modules also without the wrapper's part. NULL when memory is out. */
static char *module_of(Reader *r, const char *name, size_t len) {
  static const char wrapper[] = ".modules_to_save", named[] = ".modules_to_save.default";
  size_t skip = len >= sizeof PREFIX - 1 && !strncmp(name, PREFIX, sizeof PREFIX - 1) ? sizeof PREFIX - 1 : 0;
  char *module = pare_arena_strndup(r->a, name + skip, len - skip), *at = module ? strstr(module, wrapper) : NULL;
  if (!at) return module;
  size_t cut = !strncmp(at, named, sizeof named - 1) ? sizeof named - 1 : sizeof wrapper - 1;
  memmove(at, at + cut, strlen(at + cut) + 1);
  return module;
}

static PareStatus entry_of(Reader *r, const char *name, size_t len, ParePeftEntry **out) {
  char *module = module_of(r, name, len);
  if (!module) return pare_nomem(r->c);
  for (size_t i = 0; i < r->p->at.n; i++)
    if (!strcmp(r->p->at.at[i].module, module)) return *out = &r->p->at.at[i], PARE_OK;
  if (!pare_vec_push(r->a, &r->p->at, (ParePeftEntry){.module = module})) return pare_nomem(r->c);
  *out = &r->p->at.at[r->p->at.n - 1];
  return PARE_OK;
}

static PareStatus take_sizes(Reader *r, ParePeftEntry *e, int64_t k, int64_t n) {
  if (e->n && (e->n != n || (e->k && k && e->k != k)))
    return refuse(r, PARE_FORMAT, "the tensors of '%s' are of different sizes", e->module);
  e->n = n;
  if (k) e->k = k;
  return PARE_OK;
}

/* a's name is that of its module up to `at`. */
static PareStatus add_factors(Reader *r, const PareSafeTensor *a, const char *at) {
  ParePeftEntry *e;
  size_t len = (size_t)(at - a->name);
  char *partner = pare_arena_strdup(r->a, a->name);
  if (!partner) return pare_nomem(r->c);
  PARE_TRY(entry_of(r, a->name, len, &e));
  partner[len + 6] = 'B';
  const PareSafeTensor *b = pare_safetensors_find(&r->p->file, partner);
  if (!b) return refuse(r, PARE_FORMAT, "'%.200s' has no '%.200s' beside it", a->name, partner);
  if (!is_matrix(a) || !is_matrix(b) || a->type.dim[0] != b->type.dim[1] || a->type.dim[0] < 1 || e->a)
    return refuse(r, PARE_FORMAT, "lora_A and lora_B of '%s' are no two matrices of floats [r, K] and [N, r]", e->module);
  e->a = a, e->b = b, e->rank = a->type.dim[0];
  PARE_TRY(take_sizes(r, e, a->type.dim[1], b->type.dim[0]));
  double rank = setting(r, "rank_pattern", "r", e->module), alpha = setting(r, "alpha_pattern", "lora_alpha", e->module);
  if (rank != (double)e->rank)
    return refuse(r, PARE_FORMAT, "'%s' has rank %lld, but " CONFIG " says %g", e->module, (long long)e->rank, rank);
  e->scale = alpha / (is_true(r, "use_rslora") ? sqrt(rank) : rank);
  return isfinite(e->scale) ? PARE_OK : refuse_config(r, PARE_FORMAT, "alpha of '%s' is no number", e->module);
}

/* A weight or bias that replaces the model's. */
static PareStatus add_saved(Reader *r, const PareSafeTensor *t) {
  ParePeftEntry *e;
  const char *last = strrchr(t->name, '.');
  bool weight = last && !strcmp(last, ".weight") && is_matrix(t) && !strstr(t->name, ".lora_");
  bool bias = last && !strcmp(last, ".bias") && t->type.rank == 1 && pare_dtype_is_float(t->type.dtype);
  if (!weight && !bias)
    return refuse(r, PARE_UNSUPPORTED, "'%.200s' is neither a factor of a layer's adapter nor a layer's weight or bias: "
                  "nothing else is read", t->name);
  PARE_TRY(entry_of(r, t->name, (size_t)(last - t->name), &e));
  if (weight) e->weight = t;
  else e->bias = t;
  return take_sizes(r, e, weight ? t->type.dim[1] : 0, t->type.dim[0]);
}

static PareStatus read_tensors(Reader *r) {
  size_t factors = 0, adapters = 0;
  PARE_TRY(pare_safetensors_open(r->c, r->a, r->path, &r->p->file));
  for (size_t i = 0; i < r->p->file.n; i++) {
    const PareSafeTensor *t = &r->p->file.at[i];
    const char *a = find_factor(t->name, 'A'), *b = find_factor(t->name, 'B');
    factors += b != NULL;
    adapters += a != NULL;
    if (a) PARE_TRY(add_factors(r, t, a));
    else if (!b) PARE_TRY(add_saved(r, t));
  }
  if (!r->p->at.n) return refuse(r, PARE_FORMAT, "it has no adapters");
  return factors == adapters ? PARE_OK : refuse(r, PARE_FORMAT, "a lora_B has no lora_A beside it");
}

static PareStatus read_folder(Reader *r) {
  PareFile f = {0};
  json_error_t why;
  PARE_TRY(pare_file_map(r->c, r->config_path, &f));
  json_t *config = json_loadb((const char *)f.data, f.len, JSON_REJECT_DUPLICATES, &why);
  r->config = config;
  PareStatus s = config ? check_config(r) : refuse_config(r, PARE_FORMAT, "not JSON: line %d: %.150s", why.line, why.text);
  PareMark mark = pare_arena_mark(r->c->scratch);
  if (s == PARE_OK) s = read_tensors(r);
  pare_arena_rewind(r->c->scratch, mark);
  json_decref(config);
  pare_file_unmap(&f);
  return s;
}

PareStatus pare_peft_open(PareCtx *c, PareArena *a, const char *dir, ParePeft **out) {
  ParePeft *p = PARE_NEW(a, ParePeft);
  if (!p) return pare_nomem(c);
  Reader r = {.c = c, .a = a, .p = p, .config_path = pare_arena_printf(a, "%s/" CONFIG, dir),
              .path = pare_arena_printf(a, "%s/" TENSORS, dir)};
  if (!r.config_path || !r.path) return pare_nomem(c);
  p->dir = dir;
  PareStatus s = read_folder(&r);
  if (s == PARE_OK) *out = p;
  else pare_peft_close(p);
  return s;
}

void pare_peft_close(ParePeft *p) {
  if (p) pare_safetensors_close(&p->file);
}

/* --- which weight is meant --- */

bool pare_peft_wants(const PareLayerNames *layer, void *arg) {
  const ParePeft *p = arg;
  for (size_t i = 0; i < p->at.n; i++)
    if (pare_module_fits(p->at.at[i].module, layer)) return true;
  return false;
}

static PareNameFit fit(const ParePeftEntry *e, const PareAdapter *a) { return pare_module_fits(e->module, &a->layer); }

const ParePeftEntry *pare_peft_find(const ParePeft *p, const PareAdapter *a) {
  const ParePeftEntry *best = NULL;
  for (size_t i = 0; i < p->at.n; i++)
    if (fit(&p->at.at[i], a) > (best ? fit(best, a) : PARE_NAME_OTHER)) best = &p->at.at[i];
  return best;
}

PareStatus pare_peft_check(PareCtx *c, const ParePeft *p, const PareAdapters *adapters) {
  for (size_t i = 0; i < p->at.n; i++) {
    const ParePeftEntry *e = &p->at.at[i];
    const PareAdapter *found = NULL;
    size_t n = 0;
    for (size_t k = 0; k < adapters->at.n; k++)
      if (pare_peft_find(p, &adapters->at.at[k]) == e) found = &adapters->at.at[k], n++;
    if (n != 1)
      return pare_error(c, PARE_DATA, "'%s' has something for '%s', and the model has %s of that name that multiplies by a "
                        "matrix of its own: PEFT's paths must be those of the weights, biases or nodes here", p->dir,
                        e->module, n ? "more than one layer" : "no layer");
    if ((e->k && e->k != found->k) || e->n != found->n)
      return pare_error(c, PARE_DATA, "'%s' has '%s' go from %lld to %lld, but the model's layer goes from %lld to %lld",
                        p->dir, e->module, (long long)(e->k ? e->k : found->k), (long long)e->n, (long long)found->k,
                        (long long)found->n);
  }
  return PARE_OK;
}

PareStatus pare_peft_read(PareCtx *c, const ParePeft *p, const ParePeftEntry *e, const PareSafeTensor *t, float *out) {
  const PareValue v = {.type = t->type, .data = t->data};
  int64_t rows = t->type.dim[0], cols = t->type.rank > 1 ? t->type.dim[1] : 1;
  for (int64_t i = 0; i < rows * cols; i++) {
    float x = (float)pare_data_float(&v, i);
    if (!isfinite(x)) return pare_error(c, PARE_DATA, "'%s': '%s' has numbers that are not finite", p->dir, e->module);
    out[i % cols * rows + i / cols] = x;
  }
  return PARE_OK;
}

const char *pare_peft_saved(const ParePeft *p) {
  for (size_t i = 0; p && i < p->at.n; i++)
    if (p->at.at[i].weight || p->at.at[i].bias) return p->at.at[i].module;
  return NULL;
}

/* --- writing --- */

static double alpha_of(const ParePeftOut *o, bool root_scale) {
  return o->scale * (root_scale ? sqrt((double)o->rank) : (double)o->rank);
}

/* Rank and alpha are those of the first; modules with others are in the patterns. */
static char *config_text(PareArena *a, bool root_scale, size_t n, const ParePeftOut *out) {
  json_t *modules = json_array(), *ranks = json_object(), *alphas = json_object();
  double alpha = n ? alpha_of(&out[0], root_scale) : 1;
  int64_t rank = n ? out[0].rank : 1;
  for (size_t i = 0; i < n; i++) {
    const char *path = pare_module_path(a, &out[i].of->layer);
    double own = alpha_of(&out[i], root_scale);
    json_array_append_new(modules, pare_json_text(path));
    if (out[i].rank != rank) json_object_set_new(ranks, path ? path : "", json_integer((json_int_t)out[i].rank));
    if (own != alpha) json_object_set_new(alphas, path ? path : "", json_real(own));
  }
  return pare_json_print(json_pack(
      "{s:s, s:n, s:n, s:I, s:f, s:f, s:s, s:b, s:b, s:b, s:b, s:o, s:o, s:o}", "peft_type", "LORA", "task_type",
      "base_model_name_or_path", "r", (json_int_t)rank, "lora_alpha", alpha, "lora_dropout", 0.0, "bias", "none",
      "use_rslora", root_scale, "fan_in_fan_out", false, "init_lora_weights", true, "inference_mode", true,
      "target_modules", modules, "rank_pattern", ranks, "alpha_pattern", alphas));
}

/* [cols, rows] of m [rows, cols]. */
static PareStatus add_tensor(PareCtx *c, const char *name, int64_t rows, int64_t cols, const float *m,
                             PareSafeTensor *t) {
  float *data = PARE_NEW_N(c->scratch, rows * cols + 1, float);
  if (!data || !name) return pare_nomem(c);
  for (int64_t i = 0; i < rows * cols; i++) data[i % cols * rows + i / cols] = m[i];
  *t = (PareSafeTensor){name, {PARE_F32, 2, {cols, rows}}, data};
  return PARE_OK;
}

/* Names are told apart by their layers'. */
static PareStatus check_unlike(PareCtx *c, const char *dir, size_t n, const char *const *path) {
  for (size_t i = 0; i < n; i++)
    for (size_t k = 0; k < i; k++)
      if (!strcmp(path[i], path[k]))
        return pare_error(c, PARE_UNSUPPORTED, "two layers are called '%s': their adapters cannot be told apart in '%s'",
                          path[i], dir);
  return PARE_OK;
}

static PareStatus write_folder(PareCtx *c, const char *dir, bool root_scale, size_t n, const ParePeftOut *out) {
  PareSafeTensor *t = PARE_NEW_N(c->scratch, 2 * n + 1, PareSafeTensor);
  const char **path = PARE_NEW_N(c->scratch, n + 1, const char *);
  const char *config = pare_arena_printf(c->scratch, "%s/" CONFIG, dir);
  const char *tensors = pare_arena_printf(c->scratch, "%s/" TENSORS, dir);
  if (!t || !path || !config || !tensors) return pare_nomem(c);
  for (size_t i = 0; i < n; i++)
    if (!(path[i] = pare_module_path(c->scratch, &out[i].of->layer))) return pare_nomem(c);
  PARE_TRY(check_unlike(c, dir, n, path));
  for (size_t i = 0; i < n; i++) {
    PARE_TRY(add_tensor(c, pare_arena_printf(c->scratch, PREFIX "%s.lora_A.weight", path[i]), out[i].k, out[i].rank,
                        out[i].a, &t[2 * i]));
    PARE_TRY(add_tensor(c, pare_arena_printf(c->scratch, PREFIX "%s.lora_B.weight", path[i]), out[i].rank, out[i].n,
                        out[i].b, &t[2 * i + 1]));
  }
  PARE_TRY(pare_dir_make(c, dir));
  PARE_TRY(pare_safetensors_write(c, tensors, 2 * n, t));
  char *text = config_text(c->scratch, root_scale, n, out);
  PareStatus s = text ? pare_file_write(c, config, text, strlen(text)) : pare_nomem(c);
  free(text); /* jansson's */
  return s;
}

PareStatus pare_peft_save(PareCtx *c, const char *dir, bool root_scale, size_t n, const ParePeftOut *out) {
  PareMark mark = pare_arena_mark(c->scratch);
  PareStatus s = write_folder(c, dir, root_scale, n, out);
  pare_arena_rewind(c->scratch, mark);
  return s;
}
