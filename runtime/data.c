#include "runtime/data.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/num.h"
#include "base/rng.h"
#include "runtime/npz.h"

PareStatus pare_data_new(PareCtx *c, const char *file, PareData **out) {
  *out = NULL;
  PareArena *a = pare_arena_new(1 << 12);
  if (!a) return pare_nomem(c);
  PareData *d = PARE_NEW(a, PareData);
  const char *copy = file ? pare_arena_strdup(a, file) : NULL;
  if (!d || (file && !copy)) {
    pare_arena_free(a);
    return pare_nomem(c);
  }
  d->arena = a;
  d->file = copy;
  *out = d;
  return PARE_OK;
}

void pare_data_free(PareData *d) {
  if (d) pare_arena_free(d->arena); /* d lives in it */
}

bool pare_data_has_suffix(const char *s, const char *suffix) {
  size_t n = strlen(s), k = strlen(suffix);
  return n >= k && !strcmp(s + n - k, suffix);
}

/* What each kind of path should become; the first row that fits speaks. */
static const struct {
  const char *suffix, *advice;
} not_npz[] = {
    {".npy", "one unnamed array: save the arrays by input name with numpy.savez"},
    {".tsv", "text: make an .npz from it with 'pare data text'"},
    {".jsonl", "text: make an .npz from it with 'pare data text'"},
    {".csv", "comma-separated text: convert it to .tsv, then use 'pare data text'"},
    {"-ubyte", "IDX images: make an .npz from them with 'pare data images'"},
    {"-ubyte.gz", "IDX images: make an .npz from them with 'pare data images'"},
    {"", "not an .npz file (arrays by input name, as numpy.savez writes them)"},
};

PareStatus pare_data_load(PareCtx *c, const char *path, PareData **out) {
  *out = NULL;
  if (pare_data_has_suffix(path, ".npz")) return pare_npz_read(c, path, 0, out);
  PareData named = {.file = path};
  struct stat st;
  if (stat(path, &st) < 0) return pare_data_error(c, &named, PARE_IO, "no such file");
  if (S_ISDIR(st.st_mode))
    return pare_data_error(c, &named, PARE_DATA, "a folder: make an .npz from its images with 'pare data images'");
  size_t k = 0;
  while (!pare_data_has_suffix(path, not_npz[k].suffix)) k++;
  return pare_data_error(c, &named, PARE_DATA, "%s", not_npz[k].advice);
}

static PareStatus check_new_array(PareCtx *c, const PareData *d, const char *name, const PareType *type) {
  char text[PARE_TYPE_TEXT];
  size_t bytes;
  if (pare_data_find(d, name)) return pare_data_error(c, d, PARE_DATA, "two arrays are named '%s'", name);
  if (type->rank < 1)
    return pare_data_error(c, d, PARE_DATA, "array '%s' is a scalar: axis 0 must count the samples", name);
  if (!pare_type_bytes(type, &bytes))
    return pare_data_error(c, d, PARE_DATA, "array '%s': impossible shape %s", name, pare_type_text(type, text));
  if (type->dim[0] == 0)
    return pare_data_error(c, d, PARE_DATA, "array '%s' holds no samples (%s)", name, pare_type_text(type, text));
  if (d->narrays && type->dim[0] != d->nsamples)
    return pare_data_error(c, d, PARE_DATA,
                           "array '%s' has %" PRId64 " samples, but '%s' has %" PRId64
                           ": axis 0 of every array must count the same samples",
                           name, type->dim[0], d->arrays[0].name, d->nsamples);
  return PARE_OK;
}

PareStatus pare_data_add(PareCtx *c, PareData *d, const char *name, const PareType *type, const void *data) {
  PARE_TRY(check_new_array(c, d, name, type));
  const char *copy = pare_arena_strdup(d->arena, name);
  if (!copy || !pare_vec_room(d->arena, (void **)&d->arrays, d->narrays, &d->cap, sizeof *d->arrays))
    return pare_nomem(c);
  d->arrays[d->narrays++] = (PareArray){copy, *type, data};
  d->nsamples = type->dim[0];
  return PARE_OK;
}

const PareArray *pare_data_find(const PareData *d, const char *name) {
  for (size_t i = 0; i < d->narrays; i++)
    if (!strcmp(d->arrays[i].name, name)) return &d->arrays[i];
  return NULL;
}

/* Swap-or-not mixes n points in a few times log2(n) rounds (Ethereum orders its
 * validators with 90); a sample costs a microsecond or two. */
enum { SHUFFLE_ROUNDS = 128 };
/* Parts the key space of rng.h, so that epochs and the split are independent. */
enum { KEY_EPOCH = 0x6f726465, KEY_SPLIT = 0x73706c69 };

static int64_t permute(uint64_t key, uint64_t n, uint64_t i) {
  for (uint64_t r = 0; r < SHUFFLE_ROUNDS; r++) {
    uint64_t k = pare_rng_u64(key, r) % n;
    uint64_t partner = k >= i ? k - i : k + n - i; /* k - i mod n: its own inverse */
    uint64_t high = partner > i ? partner : i;
    if (pare_rng_u64(key ^ (r + 1) * 0x9e3779b97f4a7c15u, high) & 1u) i = partner;
  }
  return (int64_t)i;
}

int64_t pare_data_order(uint64_t seed, int64_t epoch, int64_t n, int64_t place) {
  assert(place >= 0 && place < n);
  return permute(pare_rng_u64(pare_rng_u64(seed, KEY_EPOCH), (uint64_t)epoch), (uint64_t)n, (uint64_t)place);
}

PareStatus pare_data_split(PareCtx *c, PareArena *a, const PareData *d, uint64_t seed, PareSplit *out) {
  int64_t n = d->nsamples;
  if (n < 2) return pare_data_error(c, d, PARE_DATA, "too few samples to hold a tenth out: give --eval data");
  int64_t nheld = n / 10 + (n % 10 != 0);
  *out = (PareSplit){PARE_NEW_N(a, n - nheld, int64_t), PARE_NEW_N(a, nheld, int64_t), 0, 0};
  PareMark m = pare_arena_mark(c->scratch);
  bool *is_held = PARE_NEW_N(c->scratch, n, bool);
  bool ok = out->train && out->held && is_held;
  uint64_t key = pare_rng_u64(seed, KEY_SPLIT);
  for (int64_t i = 0; ok && i < nheld; i++) is_held[permute(key, (uint64_t)n, (uint64_t)i)] = true;
  for (int64_t i = 0; ok && i < n; i++) {
    if (is_held[i]) out->held[out->nheld++] = i;
    else out->train[out->ntrain++] = i;
  }
  pare_arena_rewind(c->scratch, m);
  return ok ? PARE_OK : pare_nomem(c);
}

/* How the elements of integer types are read and what range they take. */
#define INTEGER_LIST(X)              \
  X(I8, int8_t, INT8_MIN, INT8_MAX)  \
  X(I16, int16_t, INT16_MIN, INT16_MAX) \
  X(I32, int32_t, INT32_MIN, INT32_MAX) \
  X(I64, int64_t, INT64_MIN, INT64_MAX) \
  X(U8, uint8_t, 0, UINT8_MAX)       \
  X(U16, uint16_t, 0, UINT16_MAX)    \
  X(U32, uint32_t, 0, UINT32_MAX)    \
  X(U64, uint64_t, 0, INT64_MAX)     \
  X(BOOL, uint8_t, 0, 1)

static bool is_integer(PareDtype t) { return !pare_dtype_is_float(t); }

/* False when the value passes INT64_MAX. */
static bool load_int(PareDtype t, const void *p, int64_t i, int64_t *out) {
  switch (t) {
#define X(id, type, lo, hi) \
  case PARE_##id: *out = (int64_t)((const type *)p)[i]; return t != PARE_U64 || *out >= 0;
    INTEGER_LIST(X)
#undef X
    default: return false;
  }
}

static bool store_int(PareDtype t, void *p, int64_t i, int64_t v) {
  switch (t) {
#define X(id, type, lo, hi) \
  case PARE_##id: if (v < (lo) || v > (hi)) return false; ((type *)p)[i] = (type)v; return true;
    INTEGER_LIST(X)
#undef X
    default: return false;
  }
}

static double load_float(PareDtype t, const void *p, int64_t i) {
  int64_t v = 0;
  switch (t) {
    case PARE_F32: return (double)((const float *)p)[i];
    case PARE_F64: return ((const double *)p)[i];
    case PARE_F16: return (double)pare_f16_to_f32(((const uint16_t *)p)[i]);
    case PARE_BF16: return (double)pare_bf16_to_f32(((const uint16_t *)p)[i]);
    default: (void)load_int(t, p, i, &v); return (double)v;
  }
}

/* False when a finite value became infinite. */
static bool store_float(PareDtype t, void *p, int64_t i, double v) {
  float f = (float)v, back = f;
  switch (t) {
    case PARE_F32: ((float *)p)[i] = f; break;
    case PARE_F16: back = pare_f16_to_f32(((uint16_t *)p)[i] = pare_f32_to_f16(f)); break;
    case PARE_BF16: back = pare_bf16_to_f32(((uint16_t *)p)[i] = pare_f32_to_bf16(f)); break;
    default: ((double *)p)[i] = v; return true;
  }
  return isfinite(back) || !isfinite(v);
}

static bool may_convert(PareDtype from, PareDtype to) {
  if (pare_dtype_is_float(to))
    return pare_dtype_is_float(from) || from == PARE_U8 || from == PARE_I8 || from == PARE_BOOL;
  return is_integer(from);
}

/* `count` elements; the first that does not fit, or count. */
static int64_t convert(PareDtype from, const void *src, PareDtype to, void *dst, int64_t count) {
  int64_t v;
  if (pare_dtype_is_float(to)) {
    for (int64_t i = 0; i < count; i++)
      if (!store_float(to, dst, i, load_float(from, src, i))) return i;
  } else {
    for (int64_t i = 0; i < count; i++)
      if (!load_int(from, src, i, &v) || !store_int(to, dst, i, v)) return i;
  }
  return count;
}

/* Copies that take longer than it takes to wake other threads. */
enum { MANY_BYTES = 4 << 20 };

/* Copies rows of n elements; the first that does not fit, or count. */
static int64_t copy_rows(const PareArray *a, const int64_t *index, int64_t count, int64_t n, PareDtype want, void *out) {
  PareDtype have = a->type.dtype;
  size_t from = (size_t)n * pare_dtype_size(have), to = (size_t)n * pare_dtype_size(want);
  int64_t bad = count;
#pragma omp parallel for schedule(static) reduction(min : bad) if ((size_t)count * (from + to) > MANY_BYTES)
  for (int64_t k = 0; k < count; k++) {
    const uint8_t *src = (const uint8_t *)a->data + (size_t)index[k] * from;
    uint8_t *dst = (uint8_t *)out + (size_t)k * to;
    if (have == want) memcpy(dst, src, from);
    else if (convert(have, src, want, dst, n) < n && k < bad) bad = k;
  }
  return bad;
}

PareStatus pare_data_batch(PareCtx *c, const PareData *d, const PareArray *a, const int64_t *index, int64_t count,
                           PareDtype want, void *out) {
  PareDtype have = a->type.dtype;
  if (have != want && !may_convert(have, want))
    return pare_data_error(c, d, PARE_DATA, "array '%s' is %s, but the model wants %s", a->name,
                           pare_dtype_name(have), pare_dtype_name(want));
  for (int64_t k = 0; k < count; k++) assert(index[k] >= 0 && index[k] < a->type.dim[0]);
  int64_t k = copy_rows(a, index, count, pare_type_count(&a->type) / a->type.dim[0], want, out);
  if (k == count) return PARE_OK;
  return pare_data_error(c, d, PARE_DATA, "array '%s': a value of sample %" PRId64 " does not fit from %s into %s",
                         a->name, index[k], pare_dtype_name(have), pare_dtype_name(want));
}

PareStatus pare_data_check_finite(PareCtx *c, const PareData *d, const PareArray *a) {
  if (!pare_dtype_is_float(a->type.dtype)) return PARE_OK;
  int64_t n = pare_type_count(&a->type), row = n / a->type.dim[0];
  for (int64_t i = 0; i < n; i++) {
    double v = load_float(a->type.dtype, a->data, i);
    if (!isfinite(v))
      return pare_data_error(c, d, PARE_DATA, "array '%s' holds %s at sample %" PRId64, a->name,
                             isnan(v) ? "NaN" : "an infinite value", i / row);
  }
  return PARE_OK;
}

PareStatus pare_data_numbers(PareCtx *c, const PareData *d, const PareArray *a, const int64_t *index, int64_t count,
                             float *out) {
  int64_t k = copy_rows(a, index, count, pare_type_count(&a->type) / a->type.dim[0], PARE_F32, out);
  if (k == count) return PARE_OK;
  return pare_data_error(c, d, PARE_DATA, "array '%s': a value of sample %" PRId64 " does not fit into f32", a->name,
                         index[k]);
}

bool pare_data_marks(const PareArray *a) {
  for (int64_t i = 0, n = pare_type_count(&a->type); i < n; i++) {
    double v = load_float(a->type.dtype, a->data, i);
    if (v != 0 && v != 1) return false;
  }
  return true;
}

static PareStatus check_integers(PareCtx *c, const PareData *d, const PareArray *a, int64_t from, int64_t end,
                                 const char *what) {
  int64_t n = pare_type_count(&a->type), row = n / a->type.dim[0], v = 0;
  if (!is_integer(a->type.dtype))
    return pare_data_error(c, d, PARE_DATA, "array '%s' is %s, but must hold integers", a->name,
                           pare_dtype_name(a->type.dtype));
  for (int64_t i = 0; i < n; i++) {
    bool small = load_int(a->type.dtype, a->data, i, &v);
    if (!small || v < from || v >= end)
      return pare_data_error(c, d, PARE_DATA, "array '%s' holds %s%" PRId64 " at sample %" PRId64 ", but %s %" PRId64,
                             a->name, small ? "" : "more than ", small ? v : INT64_MAX, i / row, what, end);
  }
  return PARE_OK;
}

PareStatus pare_data_check_range(PareCtx *c, const PareData *d, const PareArray *a, int64_t end, const char *what) {
  return check_integers(c, d, a, 0, end, what);
}

PareStatus pare_data_check_below(PareCtx *c, const PareData *d, const PareArray *a, int64_t end, const char *what) {
  return check_integers(c, d, a, INT64_MIN, end, what);
}

uint64_t pare_data_memory_limit(void) {
  uint64_t limit = (uint64_t)16 << 30;
  FILE *f = fopen("/proc/meminfo", "r");
  char line[128];
  uint64_t kib;
  while (f && fgets(line, sizeof line, f))
    if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1 && kib << 10 < limit) limit = kib << 10;
  if (f) fclose(f);
  return limit;
}

PareStatus pare_data_room(PareCtx *c, PareData *d, const char *name, const PareType *type, uint64_t limit,
                          void **out) {
  char text[PARE_TYPE_TEXT];
  size_t bytes;
  if (!pare_type_bytes(type, &bytes) || bytes > limit)
    return pare_data_error(c, d, PARE_DATA, "array '%s' would be %s, over the limit of %.1f GiB", name,
                           pare_type_text(type, text), (double)limit / 0x1p30);
  *out = pare_arena_alloc(d->arena, 1, bytes);
  return *out ? PARE_OK : pare_nomem(c);
}
