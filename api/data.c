/* data.c - raw files to the .npz that models are fed from. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/call.h"
#include "runtime/idx.h"
#include "runtime/images.h"
#include "runtime/npz.h"
#include "runtime/text.h"

typedef struct DataCall {
  const char *source, *out;
  const PareDataOptions *o;
} DataCall;

static bool is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static PareStatus check_out(PareCtx *c, const char *out) {
  if (pare_data_has_suffix(out, ".npz")) return PARE_OK;
  return pare_error(c, PARE_USAGE, "the output '%s' must be named .npz", out);
}

/* Keeps `limit` samples: the first, or evenly spread over all (a folder's come
 * class by class). */
static void keep(PareData *d, int64_t limit, bool spread) {
  int64_t n = d->nsamples;
  if (limit <= 0 || limit >= n) return;
  for (size_t k = 0; k < d->narrays; k++) {
    PareArray *a = &d->arrays[k];
    size_t row = (size_t)(pare_type_count(&a->type) / n) * pare_dtype_size(a->type.dtype);
    char *at = (char *)(uintptr_t)a->data; /* ours: readers allocate it in d->arena */
    for (int64_t i = 0; spread && i < limit; i++)
      memmove(at + (size_t)i * row, at + (size_t)(i * n / limit) * row, row);
    a->type.dim[0] = limit;
  }
  d->nsamples = limit;
}

static PareStatus finish(PareCtx *c, const DataCall *call, PareData *d, bool spread, bool deflate) {
  char type[PARE_TYPE_TEXT];
  keep(d, call->o->limit, spread);
  PARE_TRY(pare_npz_write(c, call->out, d, deflate));
  for (size_t i = 0; i < d->narrays; i++)
    pare_log(c, 0, "%s: %s %s", call->out, d->arrays[i].name, pare_type_text(&d->arrays[i].type, type));
  return PARE_OK;
}

/* --- images --- */

/* One number for all channels, or one for each. */
static PareStatus read_channels(PareCtx *c, const char *what, const char *text, float out[3]) {
  int n = 0;
  for (const char *at = text; at && *at; n++) {
    char *end;
    float v = strtof(at, &end);
    if (n == 3 || end == at || (*end && *end != ','))
      return pare_error(c, PARE_USAGE, "--%s takes one number, or three joined by ',', not '%s'", what, text);
    out[n] = v;
    at = *end ? end + 1 : end;
  }
  if (n == 2) return pare_error(c, PARE_USAGE, "--%s takes one number, or three joined by ',', not '%s'", what, text);
  if (n == 1) out[1] = out[2] = out[0];
  return PARE_OK;
}

/* What models are usually trained with. */
typedef struct Normalization {
  const char *name, *mean, *std;
} Normalization;
static const Normalization normalizations[] = {
    {"none", "0", "1"},
    {"half", "0.5", "0.5"},                                /* ViT, BEiT: -1 to 1 */
    {"imagenet", "0.485,0.456,0.406", "0.229,0.224,0.225"}, /* torchvision, DeiT, Swin */
    {"clip", "0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711"},
};

static PareStatus find_normalization(PareCtx *c, const char *name, const Normalization **out) {
  *out = &normalizations[0];
  if (!name) return PARE_OK;
  for (size_t i = 0; i < sizeof normalizations / sizeof *normalizations; i++)
    if (!strcmp(name, normalizations[i].name)) return *out = &normalizations[i], PARE_OK;
  return pare_error(c, PARE_USAGE, "--normalize takes none, half, imagenet or clip, not '%s'", name);
}

static PareStatus image_options(PareCtx *c, const PareDataOptions *o, PareImageOptions *out) {
  const Normalization *usual;
  bool cubic = o->resample && !strcmp(o->resample, "bicubic");
  *out = (PareImageOptions){.name = o->input, .resize = o->size, .crop = o->crop, .channels = o->channels,
                            .resample = cubic ? PARE_BICUBIC : PARE_BILINEAR};
  if (o->resample && !cubic && strcmp(o->resample, "bilinear"))
    return pare_error(c, PARE_USAGE, "--resample takes bilinear or bicubic, not '%s'", o->resample);
  PARE_TRY(find_normalization(c, o->normalize, &usual));
  PARE_TRY(read_channels(c, "mean", o->mean ? o->mean : usual->mean, out->mean));
  return read_channels(c, "std", o->std ? o->std : usual->std, out->std);
}

/* "…/t10k-labels-idx1-ubyte.gz" for "…/t10k-images-idx3-ubyte.gz", if there is such a file. */
static const char *sibling_labels(PareCtx *c, const char *images) {
  char *name = pare_arena_strdup(c->scratch, images);
  char *base = name ? strrchr(name, '/') : NULL;
  char *what = name ? strstr(base ? base : name, "images") : NULL;
  if (!what) return NULL;
  memcpy(what, "labels", 6);
  char *rank = strstr(what, "idx3");
  if (rank) rank[3] = '1';
  struct stat st;
  return stat(name, &st) == 0 ? name : NULL;
}

static PareStatus read_idx(PareCtx *c, const DataCall *call, const PareImageOptions *opt, PareData **d) {
  const char *labels = call->o->labels ? call->o->labels : sibling_labels(c, call->source);
  if (labels) pare_log(c, 0, "labels from %s", labels);
  else pare_log(c, 0, "no labels: no file is named like %s with 'labels'", call->source);
  return pare_idx_read(c, call->source, labels, opt, d);
}

static PareStatus images_body(PareCtx *c, void *arg) {
  const DataCall *call = arg;
  PareImageOptions opt;
  PareData *d = NULL;
  PARE_TRY(check_out(c, call->out));
  PARE_TRY(image_options(c, call->o, &opt));
  bool folder = is_folder(call->source);
  PareStatus s = folder ? pare_images_read(c, call->source, &opt, &d) : read_idx(c, call, &opt, &d);
  if (s == PARE_OK) s = finish(c, call, d, folder, false);
  pare_data_free(d);
  return s;
}

int pare_data_images(const char *source, const char *out, const PareDataOptions *o, const PareHooks *h, PareError *e) {
  DataCall call = {source, out, o};
  return pare_call(h, 0, e, images_body, &call);
}

/* --- text --- */

static PareStatus text_body(PareCtx *c, void *arg) {
  const DataCall *call = arg;
  const PareDataOptions *o = call->o;
  PareTextOptions opt = {.vocab = o->vocab, .merges = o->merges, .task = o->task, .label_names = o->label_names,
                         .keep_case = o->keep_case, .max_length = o->max_length, .pad_to_max = o->pad_to_max,
                         .text = o->text, .pair = o->pair, .label = o->label};
  PareData *d = NULL;
  PARE_TRY(check_out(c, call->out));
  PARE_TRY(pare_text_read(c, call->source, &opt, &d));
  PareStatus s = finish(c, call, d, false, true);
  pare_data_free(d);
  return s;
}

int pare_data_text(const char *source, const char *out, const PareDataOptions *o, const PareHooks *h, PareError *e) {
  DataCall call = {source, out, o};
  return pare_call(h, 0, e, text_body, &call);
}
