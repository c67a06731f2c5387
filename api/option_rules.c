/* option_rules.c - which options have no meaning beside each other. What is wrong by itself is told as it is read
 * (options.c); what depends on the model or the data, where that is known. */
#include <string.h>

#include "api/options.h"
#include "ir/dims.h"
#include "ir/trained.h"
#include "runtime/rank.h"
#include "runtime/schedule.h"

/* Those that say what is cut, when, and what becomes of it: pare tune takes none of them. */
static const int cutting[] = {
    PARE_OPTION_ID_sparsity,      PARE_OPTION_ID_target,         PARE_OPTION_ID_prune,       PARE_OPTION_ID_vocab_keep,
    PARE_OPTION_ID_vocab,         PARE_OPTION_ID_plan,           PARE_OPTION_ID_save_plan,   PARE_OPTION_ID_method,
    PARE_OPTION_ID_ranking,       PARE_OPTION_ID_floor,          PARE_OPTION_ID_importance,  PARE_OPTION_ID_eta,
    PARE_OPTION_ID_ema,           PARE_OPTION_ID_schedule,       PARE_OPTION_ID_curve,       PARE_OPTION_ID_regrow,
    PARE_OPTION_ID_prune_every,   PARE_OPTION_ID_prune_warmup,   PARE_OPTION_ID_prune_cooldown,
    PARE_OPTION_ID_reconstruct,   PARE_OPTION_ID_granularity,    PARE_OPTION_ID_include,     PARE_OPTION_ID_exclude,
    PARE_OPTION_ID_save_masked,   PARE_OPTION_ID_save_base,      PARE_OPTION_ID_align,
    PARE_OPTION_ID_latency_cmd,   PARE_OPTION_ID_latency_table,  PARE_OPTION_ID_latency_timeout,
    PARE_OPTION_ID_sparse_format,
};

bool pare_option_cuts(const char *name) {
  for (size_t i = 0; i < sizeof cutting / sizeof *cutting; i++)
    if (!strcmp(pare_option_name(cutting[i]), name)) return true;
  return false;
}

static bool given(const PareCompressOptions *o, int id) { return pare_option_source(o, id) != PARE_FROM_DEFAULT; }

static bool is_latency(const PareCompressOptions *o) {
  const char *kind;
  double left;
  return pare_option_target(o, &kind, &left) && !strcmp(kind, "latency");
}

/* What classes of --prune need, and what they cannot have beside them. */
static PareStatus check_classes(PareCtx *c, const PareCompressOptions *o) {
  unsigned kinds = pare_option_kinds(o);
  bool tokens = kinds & PARE_KIND_BIT(PARE_KIND_VOCAB);
  if (tokens && !*o->plan && !*o->vocab_keep)
    return pare_error(c, PARE_USAGE, "--prune vocab needs --vocab-keep FILE: the tokens that stay, one a line");
  if (!tokens && (*o->vocab_keep || *o->vocab))
    return pare_error(c, PARE_USAGE, "--vocab-keep and --vocab belong to the class vocab: add it to --prune");
  if (*o->plan && *o->vocab_keep)
    return pare_error(c, PARE_USAGE, "--plan says which tokens stay, so --vocab-keep has no meaning beside it");
  bool nested = (kinds & PARE_KIND_BIT(PARE_KIND_DEPTH)) && (kinds & ~PARE_KIND_BIT(PARE_KIND_DEPTH));
  if (nested && !*o->plan && (is_latency(o) || o->ranking == PARE_RANK_COST))
    return pare_error(c, PARE_USAGE, "branches hold groups of the other classes, so what they cost cannot be told apart: "
                      "with --target latency= or --ranking cost, depth stands alone in --prune");
  if ((kinds & PARE_KIND_BIT(PARE_KIND_DEPTH)) && !*o->plan && pare_option_is(o, PARE_OPTION_ID_method, "obs"))
    return pare_error(c, PARE_USAGE, "--method obs scores groups by what reads them, and a branch has no reader of its own: "
                      "take another, or leave depth out of --prune");
  enum { SEQUENTIAL = 1 };
  if ((kinds & PARE_KIND_BIT(PARE_KIND_WIDTH)) && (o->regrow || o->adapter == SEQUENTIAL) && !*o->plan)
    return pare_error(c, PARE_USAGE, "the width of a stream is cut, not masked, and %s keeps the program whole: leave "
                      "width out of --prune", o->regrow ? "--regrow" : "--adapter sequential");
  return PARE_OK;
}

/* What has a meaning for groups only. */
static PareStatus check_granularity(PareCtx *c, const PareCompressOptions *o) {
  static const int groups_only[] = {PARE_OPTION_ID_target, PARE_OPTION_ID_plan, PARE_OPTION_ID_save_plan,
                                    PARE_OPTION_ID_floor, PARE_OPTION_ID_save_masked, PARE_OPTION_ID_vocab_keep,
                                    PARE_OPTION_ID_align};
  enum { TWO_FOUR = 2, SEQUENTIAL = 1 };
  if (!o->granularity && o->sparse_format)
    return pare_error(c, PARE_USAGE, "--sparse-format is about elements that have gone: it needs --granularity "
                      "unstructured or 2:4");
  if (!o->granularity) return PARE_OK;
  for (size_t i = 0; i < sizeof groups_only / sizeof *groups_only; i++)
    if (given(o, groups_only[i]))
      return pare_error(c, PARE_USAGE, "--%s is about groups: it needs --granularity structured",
                        pare_option_name(groups_only[i]));
  if (o->adapter == SEQUENTIAL)
    return pare_error(c, PARE_USAGE, "--adapter sequential needs --granularity structured");
  static const char *const of_groups[] = {"gate", "fisher", "obs"};
  for (size_t i = 0; i < sizeof of_groups / sizeof *of_groups && given(o, PARE_OPTION_ID_method); i++)
    if (pare_option_is(o, PARE_OPTION_ID_method, of_groups[i]))
      return pare_error(c, PARE_USAGE, "--method %s scores groups, not elements: take another, or --granularity "
                        "structured", of_groups[i]);
  if (o->granularity != TWO_FOUR) return PARE_OK;
  if (given(o, PARE_OPTION_ID_sparsity) || given(o, PARE_OPTION_ID_ranking))
    return pare_error(c, PARE_USAGE, "--granularity 2:4 takes two of every four: --sparsity and --ranking have no meaning "
                      "beside it");
  return PARE_OK;
}

/* What has a meaning beside adapters only, and what all weights leave no room for. */
static PareStatus check_tuned(PareCtx *c, const PareCompressOptions *o) {
  static const int of_adapters[] = {PARE_OPTION_ID_rank,         PARE_OPTION_ID_alpha,      PARE_OPTION_ID_adapter,
                                    PARE_OPTION_ID_eta,          PARE_OPTION_ID_lora_scale, PARE_OPTION_ID_adapter_init,
                                    PARE_OPTION_ID_adapters,     PARE_OPTION_ID_save_adapters};
  unsigned what = pare_option_trainable_listed(o);
  if (what & PARE_TRAIN_ALL && what != PARE_TRAIN_ALL)
    return pare_error(c, PARE_USAGE, "--trainable all is every weight itself, without adapters: nothing else stands beside it");
  if (what & PARE_TRAIN_LORA) return PARE_OK;
  for (size_t i = 0; i < sizeof of_adapters / sizeof *of_adapters; i++)
    if (given(o, of_adapters[i]))
      return pare_error(c, PARE_USAGE, "--%s is about adapters: it needs lora in --trainable", pare_option_name(of_adapters[i]));
  if (given(o, PARE_OPTION_ID_method) && pare_option_is(o, PARE_OPTION_ID_method, "loraprune"))
    return pare_error(c, PARE_USAGE, "--method loraprune reads the gradients of adapters, and there are none: it needs lora "
                      "in --trainable; grad has the true gradient");
  return PARE_OK;
}

/* A fresh classifier is made for labels, and no untouched model knows what it should say. */
static PareStatus check_new_head(PareCtx *c, const PareCompressOptions *o) {
  enum { KD = 4 };
  if (!o->num_labels) return PARE_OK;
  if (o->loss == KD || o->distill == PARE_DISTILL_LOGITS || o->distill == PARE_DISTILL_BOTH)
    return pare_error(c, PARE_USAGE, "--num-labels makes a classifier that the untouched model does not have: its outputs "
                      "cannot be distilled, so --loss kd and --distill %s have no meaning beside it",
                      o->distill == PARE_DISTILL_BOTH ? "both" : "logits");
  if (!*o->train || !o->steps)
    return pare_error(c, PARE_USAGE, "--num-labels makes a classifier that knows nothing yet: it needs --train DATA and steps");
  return PARE_OK;
}

/* What has a meaning where times are measured only. */
static PareStatus check_latency(PareCtx *c, const PareCompressOptions *o) {
  static const int latency_only[] = {PARE_OPTION_ID_latency_cmd, PARE_OPTION_ID_latency_table,
                                     PARE_OPTION_ID_latency_timeout};
  for (size_t i = 0; i < sizeof latency_only / sizeof *latency_only; i++)
    if (given(o, latency_only[i]) && !is_latency(o))
      return pare_error(c, PARE_USAGE, "--%s is about --target latency=X: give that, or leave it out",
                        pare_option_name(latency_only[i]));
  return PARE_OK;
}

/* What adapters may be, come from and go to. */
static PareStatus check_adapters(PareCtx *c, const PareCompressOptions *o) {
  enum { SEQUENTIAL = 1, PISSA = 1 };
  if (o->adapter == SEQUENTIAL && (o->adapter_init == PISSA || *o->adapters || *o->save_adapters))
    return pare_error(c, PARE_USAGE, "--%s is about adapters beside the weight: take --adapter parallel",
                      o->adapter_init == PISSA ? "adapter-init pissa" : *o->adapters ? "adapters" : "save-adapters");
  if (o->alpha == 0 && (o->adapter_init == PISSA || o->rank == PARE_AUTO))
    return pare_error(c, PARE_USAGE, "--alpha 0 leaves adapters without effect: --%s needs one above 0",
                      o->adapter_init == PISSA ? "adapter-init pissa" : "rank auto");
  if (*o->adapters && (o->adapter_init == PISSA || o->rank == PARE_AUTO))
    return pare_error(c, PARE_USAGE, "--adapters says what tuning starts from, so --%s has no meaning beside it",
                      o->adapter_init == PISSA ? "adapter-init pissa" : "rank auto");
  if (*o->save_adapters && pare_option_trainable(o) != PARE_TRAIN_LORA)
    return pare_error(c, PARE_USAGE, "--save-adapters: adapters cannot say what else --trainable and --num-labels tune: leave "
                      "one of them out");
  if (o->num_labels && (*o->adapters || *o->teacher))
    return pare_error(c, PARE_USAGE, "--%s knows the classifier that --num-labels replaces: leave one of them out",
                      *o->teacher ? "teacher" : "adapters");
  if (*o->save_adapters && o->granularity)
    return pare_error(c, PARE_USAGE, "--save-adapters: what is zero in W + s*B*A alone cannot be said by adapters: it needs "
                      "--granularity structured");
  if (*o->save_adapters && pare_options_may_cut(o) && !*o->save_base)
    return pare_error(c, PARE_USAGE, "--save-adapters: the adapters of a cut model go with the cut model without them: "
                      "give --save-base FILE, or cut nothing (pare tune, --sparsity 0)");
  if (*o->save_base && !*o->save_adapters)
    return pare_error(c, PARE_USAGE, "--save-base is what --save-adapters goes with: give both");
  return PARE_OK;
}

/* A teacher is there to be followed. */
static PareStatus check_teacher(PareCtx *c, const PareCompressOptions *o) {
  if (*o->teacher && !*o->train) return pare_error(c, PARE_USAGE, "--teacher is run on the data: give --train");
  if (*o->teacher && o->distill == PARE_DISTILL_NONE)
    return pare_error(c, PARE_USAGE, "--distill none takes nothing from a --teacher: leave out one of them");
  return PARE_OK;
}

/* pare tune cuts nothing. */
static PareStatus check_kept(PareCtx *c, const PareCompressOptions *o) {
  for (size_t i = 0; i < sizeof cutting / sizeof *cutting && o->keep_all; i++)
    if (given(o, cutting[i]))
      return pare_error(c, PARE_USAGE, "--%s is about what is cut, and 'pare tune' cuts nothing: take 'pare compress'",
                        pare_option_name(cutting[i]));
  return PARE_OK;
}

PareStatus pare_options_check(PareCtx *c, const PareCompressOptions *o) {
  static const int either[][2] = {{PARE_OPTION_ID_sparsity, PARE_OPTION_ID_target},
                                  {PARE_OPTION_ID_epochs, PARE_OPTION_ID_steps}};
  bool says[] = {true, o->epochs != PARE_AUTO};
  for (size_t i = 0; i < sizeof either / sizeof *either; i++)
    if (says[i] && given(o, either[i][0]) && given(o, either[i][1]))
      return pare_error(c, PARE_USAGE, "--%s and --%s say the same thing twice: give one of them",
                        pare_option_name(either[i][0]), pare_option_name(either[i][1]));
  PARE_TRY(check_kept(c, o));
  PARE_TRY(check_classes(c, o));
  PARE_TRY(check_tuned(c, o));
  PARE_TRY(check_new_head(c, o));
  PARE_TRY(check_adapters(c, o));
  PARE_TRY(check_teacher(c, o));
  if (*o->plan && *o->target)
    return pare_error(c, PARE_USAGE, "--plan says what goes, so --target has no meaning beside it");
  if (o->resume && !*o->checkpoint) return pare_error(c, PARE_USAGE, "--resume needs --checkpoint DIR");
  PARE_TRY(check_granularity(c, o));
  PARE_TRY(check_latency(c, o));
  if (o->regrow && o->schedule != PARE_GRADUAL)
    return pare_error(c, PARE_USAGE, "--regrow needs more than one prune: take --schedule gradual");
  if (o->prune_warmup + o->prune_cooldown > 1)
    return pare_error(c, PARE_USAGE, "--prune-warmup and --prune-cooldown together are more than the whole run");
  return PARE_OK;
}
