/* elements.c - weights whose elements go one by one (--granularity): their masks and scores on the host, in the program,
 * and at a prune. */
#include <string.h>

#include "api/tuner_parts.h"
#include "base/rng.h"
#include "passes/edit.h"
#include "runtime/rank_elements.h"

enum { TWO_FOUR = 2, FOUR = 4 }; /* word of --granularity; elements of its groups */

typedef struct Touch {
  const PareTuner *t;
  bool any;
} Touch;

static void touches(PareAxis *leaf, void *arg) {
  Touch *x = arg;
  x->any |= leaf->dim >= 0 && x->t->pruned[leaf->dim];
}

/* The weight is on an axis that --prune, --include and --exclude mean. */
static bool is_meant(const PareTuner *t, const PareAdapter *a) {
  Touch x = {t, false};
  const PareNode *n = t->dims->tracer->g->first;
  while (n && n->id != a->sites.at[0].node) n = n->next;
  for (int axis = 0; n && axis < 2; axis++)
    pare_axis_leaves(pare_axis_in(t->dims->tracer, n, a->sites.at[0].w, axis), touches, &x);
  return x.any;
}

static int64_t count_of(const PareAdapter *a) { return a->k * a->n; }

PareStatus pare_tuner_choose_elements(PareTuner *t) {
  bool any = false;
  size_t n = t->params.full.at.n;
  bool *none = PARE_NEW_N(t->arena, t->dims->dims.n + 1, bool);
  t->element = PARE_NEW_N(t->arena, n + 1, PareElementMask);
  if (!t->element || !none) return pare_nomem(t->c);
  t->spec.pruned = none; /* groups stay */
  for (size_t i = 0; i < n; i++) {
    PareAdapter *a = &t->params.full.at.at[i];
    PareElementMask *e = &t->element[i];
    a->elementwise = is_meant(t, a) && (t->o->granularity != TWO_FOUR || a->k >= FOUR);
    if (!a->elementwise) continue;
    any = true;
    e->score = PARE_NEW_N(t->arena, count_of(a), float);
    e->alive = PARE_NEW_N(t->arena, count_of(a), uint8_t);
    if (!e->score || !e->alive) return pare_nomem(t->c);
    memset(e->alive, 1, (size_t)count_of(a));
    t->params.alive[i] = e->alive;
  }
  if (any) return PARE_OK;
  return pare_error(t->c, PARE_TARGET, "nothing to prune: no weight of kind %s was found (pare inspect --groups tells "
                    "what there is and what forbids it)", t->o->prune);
}

PareStatus pare_tuner_carry_elements(PareTuner *t, bool to_program) {
  for (size_t i = 0; t->element && i < t->params.full.at.n; i++) {
    const PareValue *v = t->graph.score ? t->graph.score[t->graph.ndims + i] : NULL;
    void *at = v ? pare_program_buffer(t->program, v) : NULL;
    size_t bytes = (size_t)count_of(&t->params.full.at.at[i]) * sizeof(float);
    if (!at) continue;
    if (to_program) {
      memcpy(at, t->element[i].score, bytes);
      PARE_TRY(pare_program_push(t->c, t->program, v));
    } else {
      PARE_TRY(pare_program_pull(t->c, t->program, v));
      memcpy(t->element[i].score, at, bytes);
    }
  }
  return PARE_OK;
}

PareStatus pare_tuner_mask_elements(PareTuner *t) {
  for (size_t i = 0; t->element && i < t->params.full.at.n; i++) {
    const PareValue *v = t->graph.mask[i];
    void *at = v ? pare_program_buffer(t->program, v) : NULL;
    if (!at) continue;
    memcpy(at, t->element[i].alive, (size_t)count_of(&t->params.full.at.at[i]));
    PARE_TRY(pare_program_push(t->c, t->program, v));
  }
  return PARE_OK;
}

void pare_tuner_draw_elements(PareTuner *t) {
  for (size_t i = 0; t->element && i < t->params.full.at.n; i++)
    for (int64_t k = 0; t->element[i].score && k < count_of(&t->params.full.at.at[i]); k++)
      t->element[i].score[k] = (float)pare_rng_uniform(pare_rng_u64((uint64_t)t->o->seed, 0x5c00 + i), (uint64_t)k);
}

PareStatus pare_tuner_prune_elements(PareTuner *t, double share) {
  PareMark mark = pare_arena_mark(t->c->scratch);
  size_t n = 0;
  PareElements *weight = PARE_NEW_N(t->c->scratch, t->params.full.at.n + 1, PareElements);
  if (!weight) return pare_nomem(t->c);
  for (size_t i = 0; i < t->params.full.at.n; i++) {
    const PareAdapter *a = &t->params.full.at.at[i];
    if (!a->elementwise) continue;
    if (t->o->regrow) memset(t->element[i].alive, 1, (size_t)count_of(a));
    weight[n++] = (PareElements){a->k, a->n, a->transposed, t->element[i].score, t->element[i].alive};
  }
  PARE_TRY(t->o->granularity == TWO_FOUR
               ? pare_rank_2_4(t->c, n, weight, share)
               : pare_rank_elements(t->c, n, weight, share * t->ratio, t->o->ranking != PARE_RANK_UNIFORM));
  pare_arena_rewind(t->c->scratch, mark);
  return PARE_OK;
}

void pare_tuner_count_elements(const PareTuner *t, int64_t *all, int64_t *dead) {
  *all = *dead = 0;
  for (size_t i = 0; i < t->params.full.at.n; i++)
    for (int64_t k = 0; t->element[i].alive && k < count_of(&t->params.full.at.at[i]); k++)
      ++*all, *dead += !t->element[i].alive[k];
}
