/* training.h - from a bound model to ONE training program (DESIGN 1): trained initializers, masks,
 * adapters, loss, backward, scores, AdamW, all nodes of one graph in phases. */
#ifndef PARE_PASSES_TRAINING_H
#define PARE_PASSES_TRAINING_H

#include "passes/criteria/criterion.h"
#include "passes/hidden.h"
#include "passes/recompute.h"
#include "passes/task.h"
#include "passes/trained.h"

/* PareNode.phase of the program's parts. */
typedef enum ParePhase {
  PARE_PHASE_TUNE,   /* forward, loss, backward: once a micro-batch */
  PARE_PHASE_SCORE,  /* a backward pass for the scores alone (METHOD 5), where tuning has no labels */
  PARE_PHASE_RANK,   /* importance and moving average: before an update */
  PARE_PHASE_UPDATE, /* clipping and AdamW: once a step */
} ParePhase;

/* id, command line; CE is for classes and spans, MSE and BCE for numbers and marks (task.h), KD wants a teacher */
#define PARE_LOSS_LIST(X) X(CE, "ce") X(MSE, "mse") X(BCE, "bce") X(KD, "kd")
typedef enum PareLossKind {
#define X(id, name) PARE_LOSS_##id,
  PARE_LOSS_LIST(X)
#undef X
} PareLossKind;

typedef struct PareTrainSpec {
  PareLossKind loss;
  double temperature;
  PareType labels;           /* of a batch; rank 0: there are none */
  PareTask task;             /* of the labels; outputs as the graph numbers them */
  bool teach_outputs;        /* distil the outputs: the loss of PARE_LOSS_KD, or beside another */
  const bool *aside;         /* by output: no loss looks at it (pare_is_followed); NULL: none is left aside */
  PareHiddens hidden;        /* states that are distilled too */
  const PareCriterion *criterion;
  int power;                 /* of importance: 1 or 2 */
  double eta, ema;
  bool sum;                  /* scores of one RANK after another add up, whatever the criterion says */
  bool normalise;
  const bool *pruned;        /* by dimension: scored at all */
  bool regrow;               /* what is masked is scored too, as what may come back */
  const PareTrainedSet *trained; /* initializers that are tuned themselves; NULL: none */
  bool bf16;                 /* products of layers and attention in bf16 */
  bool renorm;               /* norms in f32 are made again rather than written: a GPU computes faster than it stores */
  bool reread;               /* GELU is made again where the gradients of adapters read it: less memory, more time */
  bool one_run;              /* a step is one micro-batch, on a host: weights are scored where they are merged */
  bool merge;                /* weights with their adapters are made once a run, all at once; else at each product */
  PareRecompute recompute;   /* dear 0: every result that backward reads is kept */
  bool scores_alone;         /* of a criterion that needs nothing: no loss, no backward, no update */
  bool plain;                /* no fusion: the reference that fused programs must equal */
  const char *dump_after;    /* --dump-after: a pass or a step of assembling; may be NULL */
} PareTrainSpec;

/* A trained tensor and what belongs to it. All are states of one type. */
typedef struct PareParam {
  PareValue *value;        /* NULL: a factor of an adapter of rank 0 */
  PareValue *grad, *m, *v; /* NULL where the loss does not depend on an initializer: it stays as it is */
  PareValue *score_grad;   /* adapters: the SCORE phase's gradient; equal to grad where there is none */
  bool decays;
} PareParam;

/* How an output is compared with a teacher's. */
typedef struct PareTeacherOutput {
  PareValue *output;  /* of the model */
  PareValue *scores;  /* what losses of classes and marks read of it (passes/classes.h) */
  PareValue *teacher; /* input of its type; NULL without distillation */
  PareValue *sampled; /* SCORE: input of labels i64 drawn from the teacher's softmax, for class outputs */
  PareValue *signs;   /* SCORE: input of ±1 like the output, for others */
  bool classes;       /* distributions along the last axis */
} PareTeacherOutput;

/* A hidden state and what it is compared with: the loss has mean((scale·state - target)²). */
typedef struct PareTeacherHidden {
  PareValue *state, *target, *scale; /* target: input of its type; scale: the same with a last axis of 1 */
} PareTeacherHidden;

typedef struct PareTrainGraph {
  PareGraph *g;
  PareValue *labels;  /* input: i64 for classes and spans, else like `judged`; NULL without */
  PareValue *judged;  /* logits or numbers [.., classes] that the labels speak of; of spans [N, 2, L], scores of
                       * first and last tokens. Without labels the first output of floats, or its logits */
  PareValue *dloss;   /* input, scalar: weight of a micro-batch */
  PareValue *hyper;   /* input [8], AdamW's (docs/ir.md) */
  PareValue *mu;      /* input, scalar: the loss is (1 - mu)·labels' + mu·distillation's. NULL unless it has both */
  PareValue *loss;    /* output, scalar; NULL with scores_alone */
  bool score_phase;   /* the SCORE phase has nodes */
  size_t nadapters, noutputs, ndims, nhidden, nparams;
  size_t nscored;     /* dimensions, then adapters */
  PareParam *param;   /* all of them: */
  PareParam *a, *b;   /* by adapter */
  PareParam *trained; /* by number in the spec's set */
  PareTeacherOutput *outputs; /* those that are followed */
  PareTeacherHidden *hidden;
  PareMasks masks;
  PareValue **score;  /* moving averages, states: by dimension [count], then by adapter like its weight; NULL where not
                       * scored */
  PareValue **mask;   /* by adapter: state of bools like its weight; NULL where no elements go */
} PareTrainGraph;

/* Where elements of weights go, groups stay: no masks of groups are made.
 * `g` is a bound clone of the graph that was traced into `d`, or of its cut by the
 * leaves' `keep`; it is extended. Adapters have the sizes that g has; scores and
 * groups are numbered as before the cut. */
PARE_MUST_USE PareStatus pare_build_training(PareCtx *c, PareGraph *g, const PareDims *d,
                                             const PareAdapters *adapters, const PareTrainSpec *spec,
                                             PareTrainGraph *out);

#endif
