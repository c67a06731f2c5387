/* pare.h - libpare's public interface. Options structs are made by their _init
 * function; every function returns an exit code (0 done, see README) and leaves
 * one sentence in PareError when it is not 0. Results are freed by their _free
 * function, for which NULL is fine. */
#ifndef PARE_H
#define PARE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PARE_API __attribute__((visibility("default")))

typedef struct PareError {
  int code;
  char text[1200];
} PareError;

/* What every call may be given. Zero: silent, not to be interrupted. */
typedef struct PareProgress {
  const char *phase; /* "tuning", "judging", "writing" */
  int64_t step, steps;
  double loss;              /* NaN where there is none */
  double sparsity;          /* groups that are gone, of those that may go */
  double samples_per_second, seconds_left;
} PareProgress;

typedef struct PareHooks {
  FILE *log;   /* human output; NULL: none */
  int verbose; /* -1 quiet, 0, 1 */
  void (*progress)(void *arg, const PareProgress *p);
  void *arg;
  const volatile sig_atomic_t *stop; /* set by a signal handler: finish the step, save, return 130 */
} PareHooks;

PARE_API const char *pare_version(void);

/* --- options of compress: include/pare/options.def --- */
typedef struct PareCompressOptions {
#define PARE_OPTION_STR const char *
#define PARE_OPTION_LIST const char *
#define PARE_OPTION_INT int64_t
#define PARE_OPTION_AUTO int64_t
#define PARE_AUTO INT64_C(-1)
#define PARE_OPTION_FLOAT double
#define PARE_OPTION_AUTO_FLOAT double
#define PARE_OPTION_FLAG bool
#define PARE_OPTION_WORD int /* index of the word */
#define OPTION(field, kind, name, dflt, words, help) PARE_OPTION_##kind field;
#include "pare/options.def"
#undef OPTION
  bool keep_all; /* pare_tune: nothing is cut */
  void *owner;   /* strings that were set live here */
} PareCompressOptions;

PARE_API int pare_options_init(PareCompressOptions *o, PareError *e);
PARE_API void pare_options_free(PareCompressOptions *o);
/* `name` as on the command line, without dashes; NULL value for flags. Code 2
 * when there is no such option or the value is not one it takes. */
PARE_API int pare_options_set(PareCompressOptions *o, const char *name, const char *value, PareError *e);
/* A YAML file of `name: value`; a list stands for several. Errors name the line. */
PARE_API int pare_options_recipe(PareCompressOptions *o, const char *path, PareError *e);
/* Is the option about what is cut? pare_tune takes no such. */
PARE_API bool pare_option_cuts(const char *name);

/* --- inspect --- */
typedef struct PareTensorInfo {
  const char *name, *dtype;
  int rank;
  const int64_t *dim;          /* -1: dynamic */
  const char *const *dim_name; /* NULL where an axis has none */
} PareTensorInfo;

typedef struct PareGroupInfo {
  const char *name, *kind;
  int64_t count, params; /* groups; parameters of one group */
  size_t nmembers;
  const char *const *members; /* weight names with axis: "layer0.q.weight:1"; of whole branches the sums' names */
  bool exact;                 /* what is cut equals what is masked; not where a norm is taken over it */
} PareGroupInfo;

typedef struct PareFrozenInfo {
  const char *name, *reason;
  int64_t count;
} PareFrozenInfo;

typedef struct PareOpaqueInfo { /* a node of an op that pare does not know */
  const char *node, *op, *domain;
} PareOpaqueInfo;

typedef struct PareInspection {
  const char *path, *producer;
  const char *exporter; /* "PyTorch TorchScript, rewritten by ONNX Runtime"; "": nothing tells. The JSON has more */
  int64_t ir_version, opset, params, macs, bytes, nodes;
  int64_t axes_at; /* MACs: the size of dynamic axes that --shape says nothing of, but for the batch's */
  size_t ninputs, noutputs, ngroups, nfrozen;
  int64_t prunable_params; /* in groups of the classes that compress prunes by default */
  const PareTensorInfo *inputs, *outputs;
  const PareGroupInfo *groups;
  const PareFrozenInfo *frozen;
  size_t nopaque;
  const PareOpaqueInfo *opaque;
  int64_t left_out; /* nodes: the opaque ones and what depends on them stay as they are; `outputs` are what they read */
  void *owner;
} PareInspection;

/* `shape` as in --shape, `prune` classes to look for beside the usual ones, or NULL. MACs count one sample at that shape. */
PARE_API int pare_inspect(const char *model, const char *shape, const char *prune, const PareHooks *h,
                          PareInspection **out, PareError *e);
PARE_API void pare_inspection_free(PareInspection *i);
/* The JSON of DESIGN 3, indented, with a newline. Free with free(). */
PARE_API char *pare_inspection_json(const PareInspection *i);

/* --- inspect --why --- */
typedef struct PareWhyStep { /* `node` ties the axis before it to this one; NULL: it is the same weight, read elsewhere */
  const char *node, *op;
  const char *tensor;
  int axis;
} PareWhyStep;

typedef struct PareWhyChain { /* from the axis asked about to `axis` of `tensor`, by as few ops as possible */
  const char *tensor;
  int axis;
  size_t nsteps;
  const PareWhyStep *steps;
} PareWhyChain;

typedef struct PareWhyPart { /* a factor or segment of an axis */
  int64_t size;                 /* -1: dynamic */
  const char *dimension, *kind; /* that may lose groups: a chain to each of its other weights. NULL: it may not, */
  const char *reason;           /* because of this, */
  const char *node, *op;        /* of this node (NULL: of the graph's inputs and outputs); a chain leads there */
  size_t nchains;
  const PareWhyChain *chains;
} PareWhyPart;

typedef struct PareWhyAxis {
  const char *tensor;
  int axis;
  int64_t size; /* -1: dynamic */
  size_t nparts;
  const PareWhyPart *parts;
} PareWhyAxis;

typedef struct PareWhy {
  const char *name, *what; /* "weight", "node" (its results) or "tensor" */
  size_t naxes;
  const PareWhyAxis *axes;
  void *owner;
} PareWhy;

/* What the axes of a weight, of a node's results or of a tensor belong to, and why. Code 2 where there is none. */
PARE_API int pare_why(const char *model, const char *name, const PareHooks *h, PareWhy **out, PareError *e);
PARE_API void pare_why_free(PareWhy *w);
/* Indented, with a newline. Free with free(). */
PARE_API char *pare_why_json(const PareWhy *w);

/* --- compress --- */
typedef struct PareModelInfo {
  const char *path;
  char sha256[65];
  int64_t opset, params, macs, bytes;
} PareModelInfo;

/* What the time of a run goes to, in this order: the model read; its dimensions found; data read, scores made and
 * tuning; the cut model written, not waiting for the disk; compared with the masked one; both judged, and timed where
 * that was asked for; the disk waited for. */
#define PARE_SPANS(X) X(IMPORT, import) X(TRACE, trace) X(TUNE, tune) X(EMIT, emit) X(PROVE, prove) X(JUDGE, judge) X(SYNC, sync)
typedef enum PareSpan {
#define X(ID, name) PARE_SPAN_##ID,
  PARE_SPANS(X)
#undef X
  PARE_SPAN_COUNT
} PareSpan;

typedef struct PareCompressResult {
  PareModelInfo input, output;
  const char *metric; /* its name, as --metric takes it */
  double dense, compact;
  double points; /* that a metric of 1 is: 100 for shares and correlations, else 1 */
  bool share;    /* the metric is printed in % */
  double requested, reached; /* of the target */
  const char *target;        /* "sparsity", "params", "macs", "bytes", "latency", "plan" */
  double dense_ms, predicted_ms; /* of --target latency, by its table; 0: another target */
  double dense_ms_now, measured_ms; /* measured at the end, the dense model beside the compact one */
  bool exact; /* the compact model is the masked one; else (a normalised axis was cut) both were cut there */
  double masked_vs_compact_abs, masked_vs_compact_rel;
  int64_t steps;
  double seconds, samples_per_second, final_loss; /* of tuning */
  double span_seconds[PARE_SPAN_COUNT];
  int64_t peak_memory_bytes; /* of the process; where a GPU tunes, of its memory */
  void *owner;
} PareCompressResult;

PARE_API int pare_compress(const char *model, const char *out, const PareCompressOptions *o, const PareHooks *h,
                           PareCompressResult **result, PareError *e);
PARE_API void pare_compress_result_free(PareCompressResult *r);
/* The same with nothing cut: adapters are tuned on the model as it is, and folded. Code 2 where an option that cuts is
 * given (pare_option_cuts). `out` NULL: the adapters alone are written, to --save-adapters. */
PARE_API int pare_tune(const char *model, const char *out, const PareCompressOptions *o, const PareHooks *h,
                       PareCompressResult **result, PareError *e);

/* --- sweep --- */
typedef struct PareSweepPoint {
  double share;  /* of the groups, that shall go; one always stays */
  int64_t gone;  /* groups that this is, the least important first */
  double loss, metric;
} PareSweepPoint;

typedef struct PareSweepCurve {
  const char *name, *kind; /* a dimension's; or name "" and a class: groups go as --ranking says */
  int64_t count;           /* groups */
  size_t npoints;
  const PareSweepPoint *points; /* at the same shares in every curve; [0] is the whole model */
  int64_t kept;            /* what the proposal keeps of them */
} PareSweepCurve;

typedef struct PareSweepResult {
  const char *model, *method;
  const char *metric; /* as compress judges: "accuracy", "agreement", ... */
  bool share;             /* it is printed in % */
  const char *loss_name;  /* "ce", "bce", "mse" against labels; else of the whole model's outputs: "kl", "mse", "1 - cosine" */
  double loss, value;     /* of the whole model */
  const char *target;     /* that the proposal is for: "sparsity" of each class, "params", "macs" or "bytes" that stay */
  double requested;
  double sparsity;        /* share of all groups that goes */
  double split_loss, split_value;   /* of the model that is cut where the curves say, nothing tuned */
  double ranked_loss, ranked_value; /* of one that is cut as compress would, by --ranking */
  bool by_scores;         /* the latter has less of a loss, and is what is proposed */
  int64_t samples;
  size_t ncurves;
  const PareSweepCurve *curves; /* classes first, then dimensions */
  double seconds;
  void *owner;
} PareSweepResult;

/* The curve of the loss over sparsity, before any tuning, of every class and dimension that o->prune names, and a
 * proposal of what each should keep at o->sparsity or o->target (but latency); of the other options those that scores, data, device and what may
 * go depend on are read. o->save_plan, if any, gets the proposal as a plan for compress, o->report the page. */
PARE_API int pare_sweep(const char *model, const PareCompressOptions *o, const PareHooks *h, PareSweepResult **out,
                        PareError *e);
PARE_API void pare_sweep_result_free(PareSweepResult *r);
/* Indented, with a newline. Free with free(). */
PARE_API char *pare_sweep_json(const PareSweepResult *r);

/* --- eval, verify, bench --- */
typedef struct PareEvalResult {
  const char *metric;
  double value, loss;
  int64_t samples;
  double seconds;
  double points; /* as above */
  bool share;
} PareEvalResult;
/* `metric` as --metric, one that judges by labels; `device` as --device. NULL: auto. */
PARE_API int pare_eval(const char *model, const char *data, const char *metric, int64_t batch, int threads,
                       const char *device, const PareHooks *h, PareEvalResult *out, PareError *e);

typedef struct PareVerifyResult {
  double max_abs, max_rel; /* rel: max|a-b| / max|a| of the worst output */
  const char *worst;       /* its name; lives until the process ends or the next call */
  char worst_name[128];
  int64_t samples;
  bool passed;
} PareVerifyResult;
/* Runs both models on `data` (NULL: random inputs) and compares every output.
 * Code 1 when an output differs by more than atol + rtol * max|a|. */
PARE_API int pare_verify(const char *reference, const char *model, const char *data, double atol, double rtol,
                         const PareHooks *h, PareVerifyResult *out, PareError *e);

/* --- diff --- */
typedef struct PareChange {
  const char *what;          /* "opset", "metadata", "input", "output", "tensor", "node", "attribute", ... */
  const char *name;          /* of the thing: a tensor's, a node's */
  const char *before, *after; /* NULL: it is not there */
} PareChange;

typedef struct PareDiff {
  size_t nchanges;
  const PareChange *changes;
  bool ran;                 /* both models run here, and `outputs` says how far they are apart */
  PareVerifyResult outputs;
  PareError why;            /* where they do not */
  void *owner;
} PareDiff;
/* What changed from one model file to another: every field outside the tensors' bytes, tensors by type and values, and
 * the outputs on `data` (NULL: random inputs). Files need not be ones that pare supports. */
PARE_API int pare_diff(const char *before, const char *after, const char *data, const PareHooks *h, PareDiff **out,
                       PareError *e);
PARE_API void pare_diff_free(PareDiff *d);

typedef struct PareBenchOptions {
  int64_t batch; /* 1 */
  int threads;   /* all */
  int runs;      /* 20 */
  const char *shape;
  bool train;    /* a LoRAPrune step instead of a forward run */
  bool importance; /* train, on the CPU: what scores take, beside the same step without them */
  const char *method; /* train: as --method; NULL: loraprune */
  bool io;       /* reading and writing the file instead */
  int precision; /* as --precision */
  const char *device; /* as --device; NULL: auto */
} PareBenchOptions;

typedef struct PareBenchRow { /* time by op kind, most first */
  const char *op;
  double seconds;
  int64_t count;
} PareBenchRow;

typedef struct PareBenchResult {
  double median_seconds, min_seconds, samples_per_second, gflops; /* achieved, GFLOP/s */
  double ceiling_gflops; /* train, on a GPU: of a large product alone, in the same run; else 0 */
  double importance_seconds; /* importance: the median of the differences; else 0 */
  int64_t macs;
  int64_t memory_bytes; /* planned: all that is taken before the first run */
  int64_t device_bytes; /* on a GPU: by how much its free memory fell; else 0 */
  double load_seconds, write_seconds, sync_seconds; /* io: read, written, and after that on the disk */
  size_t nrows;
  const PareBenchRow *rows;
  void *owner;
} PareBenchResult;
PARE_API int pare_bench(const char *model, const PareBenchOptions *o, const PareHooks *h, PareBenchResult **out,
                        PareError *e);
PARE_API void pare_bench_result_free(PareBenchResult *r);

/* --- data --- */
typedef struct PareDataOptions {
  const char *input;     /* name of the model's input; images: pixel_values */
  int64_t size, crop;    /* images: side in pixels; 0: as they are */
  int channels;          /* 3, or 1 */
  const char *mean, *std; /* a number, or one for each channel: "0.485,0.456,0.406" */
  const char *normalize;  /* images: "none", "half", "imagenet" or "clip", for those of the two that are NULL */
  const char *resample;   /* images: "bilinear" or "bicubic" */
  const char *labels;    /* IDX: the label file */
  const char *vocab;     /* text: vocab.txt, vocab.json or tokenizer.json */
  const char *merges;    /* text: of a vocab.json; X.merges.txt or merges.txt beside it */
  const char *task;      /* text: a known task's columns, classes and form */
  const char *label_names; /* text: classes in their order, joined by ',' */
  int64_t max_length;
  bool pad_to_max, keep_case;
  const char *text, *pair, *label; /* text: columns */
  int64_t limit;         /* at most so many samples; 0: all */
} PareDataOptions;
PARE_API int pare_data_images(const char *source, const char *out, const PareDataOptions *o, const PareHooks *h,
                              PareError *e);
PARE_API int pare_data_text(const char *source, const char *out, const PareDataOptions *o, const PareHooks *h,
                            PareError *e);

#ifdef __cplusplus
}
#endif
#endif
