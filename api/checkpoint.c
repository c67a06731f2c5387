/* checkpoint.c - one versioned file: a header, the options as text, plain arrays, and a checksum. */
#include "api/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "api/options.h"
#include "api/tuner_parts.h"
#include "base/file.h"
#include "proto/wire.h"

typedef struct Header {
  char magic[8]; /* "PARECKP5" */
  uint64_t fingerprint;
  int64_t options; /* bytes of their text */
  int64_t step, steps, tuned;
  double loss, mu;
} Header;

static const char MAGIC[8] = {'P', 'A', 'R', 'E', 'C', 'K', 'P', '5'};

static uint64_t hash(uint64_t h, const void *p, size_t n) { /* FNV-1a */
  for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 1099511628211u;
  return h;
}

/* The type and the first bytes: enough to tell apart two tunings of one model, or two sets of samples. */
static uint64_t hash_head(uint64_t h, const PareType *type, const void *data) {
  size_t bytes;
  h = hash(h, type->dim, (size_t)type->rank * sizeof *type->dim);
  return data && pare_type_bytes(type, &bytes) ? hash(h, data, bytes < 256 ? bytes : 256) : h;
}

/* What must be the same for a checkpoint to fit: the model, the data, the schedule, and all that steers a step. */
static uint64_t fingerprint(const PareTuner *t) {
  const PareCompressOptions *o = t->o;
  uint64_t h = 14695981039346656037u;
  int64_t ints[] = {o->seed, o->batch, o->rank, o->method, t->ranking, o->align, o->importance, o->loss, o->prune_every,
                    o->lr_decay, t->spec.bf16, o->steps, t->nsamples, (int64_t)t->model->file.len,
                    (int64_t)t->dims->dims.n, t->planned, o->schedule, o->curve, o->regrow, t->spec.teach_outputs,
                    (int64_t)t->spec.hidden.at.n, t->reconstructs, t->spec.loss == PARE_LOSS_KD, isnan(t->mu) != 0,
                    o->adapter, o->granularity, o->adapter_init, o->lora_scale, t->keeps_all,
                    t->reconstruction_judged};
  double reals[] = {o->alpha, o->eta, o->ema, o->lr, o->lr_warmup, o->weight_decay, o->clip, o->temperature,
                    o->prune_warmup, o->prune_cooldown, o->epochs, t->ratio, o->floor, o->hidden_weight, o->mu, o->mu_ramp};
  h = hash(hash(h, ints, sizeof ints), reals, sizeof reals);
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    h = hash(h, t->dims->dims.at[i].name, strlen(t->dims->dims.at[i].name));
    h = hash(h, &t->pruned[i], sizeof t->pruned[i]);
  }
  if (o->num_labels) h = hash(h, &o->num_labels, sizeof o->num_labels);
  for (size_t i = 0; i < t->params.trained.at.n; i++)
    h = hash(h, t->params.trained.at.at[i].name, strlen(t->params.trained.at.at[i].name));
  for (size_t i = 0; i < t->model->ninitializers; i++)
    h = hash_head(h, &t->model->initializer[i]->type, t->model->initializer[i]->data);
  for (size_t i = 0; t->peft && i < t->peft->at.n; i++) {
    const ParePeftEntry *e = &t->peft->at.at[i];
    const PareSafeTensor *of[] = {e->a, e->b, e->weight, e->bias};
    h = hash(h, &e->scale, sizeof e->scale);
    for (size_t k = 0; k < sizeof of / sizeof *of; k++)
      if (of[k]) h = hash_head(h, &of[k]->type, of[k]->data);
  }
  for (size_t i = 0; t->other && i < t->other->ninitializers; i++)
    h = hash_head(h, &t->other->initializer[i]->type, t->other->initializer[i]->data);
  for (size_t i = 0; t->data && i < t->data->narrays; i++)
    h = hash_head(h, &t->data->arrays[i].type, t->data->arrays[i].data);
  return h;
}

/* --- what differs --- */

/* Every option as "name value", a line each: what is told when a checkpoint does not fit. */
static PareStatus options_text(PareTuner *t, PareBuf *out) {
  for (int id = 0; id < PARE_OPTION_COUNT; id++) {
    bool quoted;
    const char *value = pare_option_text(out->arena, t->o, id, &quoted), *name = pare_option_name(id);
    if (!value) return pare_nomem(t->c);
    pare_buf_put(out, name, strlen(name));
    pare_buf_put(out, " ", 1);
    pare_buf_put(out, value, strlen(value));
    pare_buf_put(out, "\n", 1);
  }
  return PARE_OK;
}

/* Of those that may be others when a run goes on. */
static bool may_differ(const char *line, size_t n) {
  static const int free_to[] = {
      PARE_OPTION_ID_threads,     PARE_OPTION_ID_device,    PARE_OPTION_ID_checkpoint,    PARE_OPTION_ID_resume,
      PARE_OPTION_ID_report,      PARE_OPTION_ID_overwrite, PARE_OPTION_ID_time_limit,    PARE_OPTION_ID_eval,
      PARE_OPTION_ID_metric,      PARE_OPTION_ID_max_drop,  PARE_OPTION_ID_dump_after,    PARE_OPTION_ID_save_masked,
      PARE_OPTION_ID_save_plan,   PARE_OPTION_ID_save_base, PARE_OPTION_ID_save_adapters,
  };
  for (size_t i = 0; i < sizeof free_to / sizeof *free_to; i++) {
    const char *name = pare_option_name(free_to[i]);
    if (strlen(name) <= n && !memcmp(line, name, strlen(name)) && line[strlen(name)] == ' ') return true;
  }
  return false;
}

static size_t line_length(const char *at, const char *end) {
  const char *stop = memchr(at, '\n', (size_t)(end - at));
  return (size_t)((stop ? stop : end) - at);
}

/* Every option that is another: "--lr 0.01 (was 0.001), --rank 4 (was 8)"; "" where none is. NULL: memory is out. */
static const char *differences(PareTuner *t, const char *was, size_t n) {
  PareBuf now = {.arena = t->c->scratch};
  if (options_text(t, &now) != PARE_OK || now.failed) return NULL;
  const char *a = was, *a_end = was + n, *b = (const char *)now.at, *b_end = b + now.n, *said = "";
  while (said && a < a_end && b < b_end) {
    size_t x = line_length(a, a_end), y = line_length(b, b_end), name = 0;
    if ((x != y || memcmp(a, b, x)) && !may_differ(b, y)) {
      while (name < x && name < y && a[name] == b[name] && a[name] != ' ') name++;
      const char *value = name + 1 < x ? a + name + 1 : "not given";
      said = pare_arena_printf(t->c->scratch, "%s%s--%.*s (was %.*s)", said, *said ? ", " : "", (int)y, b,
                               name + 1 < x ? (int)(x - name - 1) : 9, value);
    }
    a += x + 1, b += y + 1;
  }
  return said;
}

/* One walk over everything that is saved, in a fixed order: it writes or reads. */
typedef struct Walk {
  PareBuf *out;
  const uint8_t *in, *end;
  bool fits;
} Walk;

static void item(Walk *w, void *p, size_t n) {
  if (w->out) {
    pare_buf_put(w->out, p, n);
  } else if ((size_t)(w->end - w->in) < n) {
    w->fits = false;
    w->in = w->end;
  } else {
    memcpy(p, w->in, n);
    w->in += n;
  }
}

static void moments(Walk *w, const PareMoments *m, size_t n) {
  item(w, m->value, n * sizeof(float));
  item(w, m->m, n * sizeof(float));
  item(w, m->v, n * sizeof(float));
}

/* What reconstruction has added, if it has. */
static PareStatus added(Walk *w, PareTuner *t, size_t i) {
  const PareAdapter *a = &t->params.full.at.at[i];
  bool there[] = {t->params.dense[i] != NULL, t->params.bias[i] != NULL};
  item(w, there, sizeof there);
  if (there[0]) PARE_TRY(pare_params_add_dense(t->c, &t->params, i));
  if (there[1]) PARE_TRY(pare_params_add_bias(t->c, &t->params, i));
  if (there[0]) item(w, t->params.dense[i], (size_t)(a->k * a->n) * sizeof(float));
  if (there[1]) item(w, t->params.bias[i], (size_t)a->n * sizeof(float));
  return PARE_OK;
}

/* --rank auto: those that the probe gave. The adapters are started with them before they are read. */
static PareStatus ranks(Walk *w, PareTuner *t) {
  size_t n = t->params.full.at.n;
  if (t->o->rank != PARE_AUTO) return PARE_OK;
  int64_t *rank = PARE_NEW_N(t->arena, n + 1, int64_t);
  if (!rank) return pare_nomem(t->c);
  for (size_t i = 0; i < n; i++) rank[i] = t->params.full.at.at[i].rank;
  item(w, rank, n * sizeof *rank);
  if (w->out || !w->fits) return PARE_OK;
  for (size_t i = 0; i < n; i++)
    if (rank[i] < 1 || rank[i] > PARE_RANK_MOST) return w->fits = false, PARE_OK;
  return pare_tuner_take_ranks(t, rank);
}

static PareStatus walk(Walk *w, PareTuner *t) {
  PARE_TRY(ranks(w, t));
  if (!w->out && !w->fits) return PARE_OK;
  for (size_t i = 0; i < t->dims->dims.n; i++) {
    size_t n = (size_t)t->dims->dims.at[i].count;
    if (!t->keep[i]) continue;
    item(w, t->keep[i], n * sizeof(bool));
    item(w, t->stage_keep[i], n * sizeof(bool));
    item(w, t->score[i], n * sizeof(double));
  }
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    const PareAdapter *a = &t->params.full.at.at[i];
    if (a->elementwise) {
      item(w, t->element[i].score, (size_t)(a->k * a->n) * sizeof(float));
      item(w, t->element[i].alive, (size_t)(a->k * a->n));
    }
    moments(w, &t->params.a[i], (size_t)(pare_adapter_rows(a) * a->rank));
    moments(w, &t->params.b[i], (size_t)(a->n * a->rank));
    PARE_TRY(added(w, t, i));
  }
  for (size_t i = 0; i < t->params.trained.at.n; i++)
    moments(w, &t->params.t[i], (size_t)pare_type_count(&t->params.trained.at.at[i].type));
  return PARE_OK;
}

static char *state_path(const PareTuner *t, const char *dir) {
  return pare_arena_printf(t->c->scratch, "%s/state.pare", dir);
}

PareStatus pare_checkpoint_save(PareTuner *t, const char *dir) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  PareBuf b = {.arena = t->c->scratch};
  Header h = {.fingerprint = fingerprint(t), .step = t->step, .steps = t->schedule.steps, .tuned = t->tuned,
              .loss = t->loss, .mu = t->mu};
  memcpy(h.magic, MAGIC, sizeof MAGIC);
  PareBuf text = {.arena = t->c->scratch};
  PARE_TRY(options_text(t, &text));
  h.options = (int64_t)text.n;
  pare_buf_put(&b, &h, sizeof h);
  pare_buf_put(&b, text.at, text.n);
  b.failed |= text.failed;
  PARE_TRY(walk(&(Walk){.out = &b}, t));
  uint64_t sum = hash(14695981039346656037u, b.at, b.n);
  pare_buf_put(&b, &sum, sizeof sum);
  char *path = state_path(t, dir);
  PareStatus s = b.failed || !path ? pare_nomem(t->c) : pare_dir_make(t->c, dir);
  if (s == PARE_OK) s = pare_file_write(t->c, path, b.at, b.n);
  if (s == PARE_OK) t->saved_step = t->step;
  pare_arena_rewind(t->c->scratch, mark);
  return s;
}

static PareStatus read_state(PareTuner *t, const PareFile *f, const char *path) {
  Header h;
  uint64_t sum;
  if (f->len < sizeof h + sizeof sum) return pare_error(t->c, PARE_FORMAT, "'%s' is no checkpoint", path);
  memcpy(&h, f->data, sizeof h);
  memcpy(&sum, f->data + f->len - sizeof sum, sizeof sum);
  if (memcmp(h.magic, MAGIC, sizeof MAGIC) && !memcmp(h.magic, MAGIC, sizeof MAGIC - 1))
    return pare_error(t->c, PARE_FORMAT, "'%s' is a checkpoint of another version of pare: start anew", path);
  if (memcmp(h.magic, MAGIC, sizeof MAGIC) || sum != hash(14695981039346656037u, f->data, f->len - sizeof sum))
    return pare_error(t->c, PARE_FORMAT, "'%s' is no checkpoint, or damaged", path);
  if (h.options < 0 || (uint64_t)h.options > f->len - sizeof h - sizeof sum)
    return pare_error(t->c, PARE_FORMAT, "'%s' has the wrong size", path);
  if (h.fingerprint != fingerprint(t)) {
    const char *other = differences(t, (const char *)f->data + sizeof h, (size_t)h.options);
    return pare_error(t->c, PARE_USAGE, "'%s' belongs to another run: %s", path,
                      other && *other ? other : "the model, the adapters, the teacher, the data or the precision are others");
  }
  Walk w = {.in = f->data + sizeof h + h.options, .end = f->data + f->len - sizeof sum, .fits = true};
  PARE_TRY(walk(&w, t));
  if (!w.fits || w.in != w.end) return pare_error(t->c, PARE_FORMAT, "'%s' has the wrong size", path);
  t->step = h.step;
  t->schedule.steps = h.steps;
  t->tuned = h.tuned;
  t->loss = h.loss;
  t->mu = h.mu;
  t->saved_step = t->step;
  return PARE_OK;
}

PareStatus pare_checkpoint_load(PareTuner *t, const char *dir) {
  PareFile f = {0};
  char *path = state_path(t, dir);
  PareStatus s = path ? pare_file_map(t->c, path, &f) : pare_nomem(t->c);
  if (s == PARE_OK) s = read_state(t, &f, path);
  pare_file_unmap(&f);
  return s;
}
