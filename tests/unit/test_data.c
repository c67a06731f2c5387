/* test_data.c - data: readers, order, conversions. Truth comes from numpy's file
 * format, Pillow, Google's BERT tests and arithmetic; files are made here. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <png.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>

#include "base/file.h"
#include "runtime/data.h"
#include "runtime/idx.h"
#include "runtime/images.h"
#include "runtime/npz.h"
#include "runtime/text.h"
#include "runtime/tokenizer.h"

/* ---- a context and a folder per test ---- */

typedef struct Bench {
  PareCtx c;
  char dir[32];
  char path[512];
} Bench;

static Bench *bench_new(void) {
  static Bench b;
  cr_assert(pare_ctx_init(&b.c, NULL, 0));
  snprintf(b.dir, sizeof b.dir, "test-data-XXXXXX");
  cr_assert(mkdtemp(b.dir), "a folder for the test cannot be made");
  return &b;
}

static const char *in(Bench *b, const char *name) {
  snprintf(b->path, sizeof b->path, "%s/%s", b->dir, name);
  return b->path;
}

static void bench_free(Bench *b) {
  char command[64];
  pare_ctx_free(&b->c);
  snprintf(command, sizeof command, "rm -r '%s'", b->dir);
  cr_assert_eq(system(command), 0);
}

static void put(Bench *b, const char *name, const void *p, size_t n) {
  cr_assert_eq(pare_file_write(&b->c, in(b, name), p, n), PARE_OK);
}

static void put_text(Bench *b, const char *name, const char *text) { put(b, name, text, strlen(text)); }

/* A failure with this code whose sentence and file hold the words; clears it. */
static void expect_error(Bench *b, PareStatus got, PareStatus code, const char *file, const char *words,
                         const char *what) {
  cr_expect_eq(got, code, "%s: status %s, expected %s (%s)", what, pare_status_text(got), pare_status_text(code),
               b->c.diag.text);
  cr_expect(strstr(b->c.diag.text, words), "%s: \"%s\" does not say \"%s\"", what, b->c.diag.text, words);
  cr_expect(strstr(b->c.diag.file, file), "%s: names the file \"%s\", expected \"%s\"", what, b->c.diag.file, file);
  b->c.diag = (PareDiag){0};
}

static void expect_ok(Bench *b, PareStatus s, const char *what) {
  cr_assert_eq(s, PARE_OK, "%s: %s: %s", what, b->c.diag.file, b->c.diag.text);
}

static void *add(Bench *b, PareData *d, const char *name, PareType t) {
  size_t bytes;
  cr_assert(pare_type_bytes(&t, &bytes));
  void *p = pare_arena_alloc(d->arena, 1, bytes);
  expect_ok(b, pare_data_add(&b->c, d, name, &t, p), name);
  return p;
}

/* ---- arrays ---- */

Test(data, arrays_must_count_the_same_samples) {
  Bench *b = bench_new();
  PareData *d;
  cr_assert_eq(pare_data_new(&b->c, "set.npz", &d), PARE_OK);
  add(b, d, "input_ids", (PareType){PARE_I64, 2, {6, 4}});
  PareType five = {PARE_I64, 1, {5}}, none = {PARE_F32, 2, {0, 3}}, scalar = {PARE_F32, 0, {0}};
  PareStatus s = pare_data_add(&b->c, d, "labels", &five, NULL);
  expect_error(b, s, PARE_DATA, "set.npz", "'labels' has 5 samples, but 'input_ids' has 6", "counts");
  s = pare_data_add(&b->c, d, "input_ids", &five, NULL);
  expect_error(b, s, PARE_DATA, "set.npz", "two arrays are named 'input_ids'", "names");
  s = pare_data_add(&b->c, d, "x", &none, NULL);
  expect_error(b, s, PARE_DATA, "set.npz", "'x' holds no samples", "empty");
  s = pare_data_add(&b->c, d, "x", &scalar, NULL);
  expect_error(b, s, PARE_DATA, "set.npz", "'x' is a scalar", "scalar");
  cr_expect_eq(d->nsamples, 6);
  cr_expect_null(pare_data_find(d, "x"));
  pare_data_free(d);
  bench_free(b);
}

Test(data, order_is_a_permutation_that_depends_on_seed_and_epoch) {
  static const int64_t sizes[] = {1, 2, 3, 10, 257, 5000};
  bool seen[5000];
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    int64_t n = sizes[k], same_seed = 0, same_epoch = 0, fixed = 0;
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < n; i++) {
      int64_t at = pare_data_order(7, 3, n, i);
      cr_assert(at >= 0 && at < n && !seen[at], "n %" PRId64 ": place %" PRId64 " gives %" PRId64, n, i, at);
      seen[at] = true;
      same_seed += at == pare_data_order(7, 4, n, i);
      same_epoch += at == pare_data_order(8, 3, n, i);
      fixed += at == i;
    }
    if (n < 257) continue; /* one place in n agrees by chance */
    cr_expect(same_seed < 10 && same_epoch < 10 && fixed < 10, "n %" PRId64 ": %" PRId64 " %" PRId64 " %" PRId64, n,
              same_seed, same_epoch, fixed);
  }
}

/* 12,000 epochs over 120 orders of 5: chi-square with 119 degrees of freedom has
 * mean 119 and standard deviation 15.4; five of them are allowed. */
Test(data, every_order_is_equally_likely) {
  int count[3125] = {0}, kinds = 0;
  double chi = 0;
  for (int64_t epoch = 0; epoch < 12000; epoch++) {
    int64_t code = 0;
    for (int64_t i = 0; i < 5; i++) code = code * 5 + pare_data_order(1, epoch, 5, i);
    count[code]++;
  }
  for (int i = 0; i < 3125; i++) {
    if (!count[i]) continue;
    kinds++;
    chi += (count[i] - 100.0) * (count[i] - 100.0) / 100.0;
  }
  cr_expect_eq(kinds, 120, "%d orders, expected 120", kinds);
  cr_expect(chi < 119 + 5 * 15.4, "chi-square %g, expected about 119", chi);
}

Test(data, split_holds_out_a_tenth_by_seed) {
  Bench *b = bench_new();
  PareData d = {.file = "set.npz", .nsamples = 1003};
  PareSplit one, again, other;
  bool seen[1003] = {false};
  cr_assert_eq(pare_data_split(&b->c, b->c.scratch, &d, 5, &one), PARE_OK);
  cr_assert_eq(pare_data_split(&b->c, b->c.scratch, &d, 5, &again), PARE_OK);
  cr_assert_eq(pare_data_split(&b->c, b->c.scratch, &d, 6, &other), PARE_OK);
  cr_assert_eq(one.nheld, 101, "%" PRId64 " held out, expected 101", one.nheld);
  cr_assert_eq(one.ntrain, 902, "%" PRId64 " left, expected 902", one.ntrain);
  for (int64_t i = 0; i < one.nheld; i++) seen[one.held[i]] = true;
  for (int64_t i = 0; i < one.ntrain; i++) {
    cr_assert(!seen[one.train[i]], "sample %" PRId64 " is in both", one.train[i]);
    seen[one.train[i]] = true;
  }
  for (int i = 0; i < 1003; i++) cr_assert(seen[i], "sample %d is in neither", i);
  cr_expect_eq(memcmp(one.held, again.held, 101 * sizeof(int64_t)), 0);
  cr_expect_neq(memcmp(one.held, other.held, 101 * sizeof(int64_t)), 0);
  d.nsamples = 1;
  expect_error(b, pare_data_split(&b->c, b->c.scratch, &d, 5, &one), PARE_DATA, "set.npz", "too few", "one sample");
  bench_free(b);
}

Test(data, batch_gathers_and_converts_exactly) {
  Bench *b = bench_new();
  PareData *d;
  cr_assert_eq(pare_data_new(&b->c, "set.npz", &d), PARE_OK);
  int64_t *ids = add(b, d, "ids", (PareType){PARE_I64, 2, {3, 2}});
  float *x = add(b, d, "x", (PareType){PARE_F32, 1, {3}});
  uint8_t *px = add(b, d, "px", (PareType){PARE_U8, 1, {3}});
  memcpy(ids, (int64_t[]){1, -2, 3, 4, INT64_C(1) << 40, 6}, 48);
  memcpy(x, (float[]){0.5f, -1.25f, 1e6f}, 12);
  memcpy(px, (uint8_t[]){0, 128, 255}, 3);
  const PareArray *a = pare_data_find(d, "ids");
  int64_t pick[] = {1, 0, 1}, all[] = {0, 1, 2}, same[4];
  int32_t narrow[6];
  uint16_t half[2], brain[3];
  float wide[3];
  expect_ok(b, pare_data_batch(&b->c, d, a, pick, 2, PARE_I64, same), "i64");
  cr_expect(same[0] == 3 && same[1] == 4 && same[2] == 1 && same[3] == -2);
  expect_ok(b, pare_data_batch(&b->c, d, a, pick, 3, PARE_I32, narrow), "i64 to i32");
  cr_expect(narrow[0] == 3 && narrow[3] == -2 && narrow[5] == 4, "%d %d %d", narrow[0], narrow[3], narrow[5]);
  expect_error(b, pare_data_batch(&b->c, d, a, all, 3, PARE_I32, narrow), PARE_DATA, "set.npz",
               "array 'ids': a value of sample 2 does not fit from i64 into i32", "too large");
  expect_error(b, pare_data_batch(&b->c, d, a, all, 3, PARE_F32, wide), PARE_DATA, "set.npz",
               "array 'ids' is i64, but the model wants f32", "i64 to f32");
  a = pare_data_find(d, "x");
  expect_ok(b, pare_data_batch(&b->c, d, a, all, 2, PARE_F16, half), "f32 to f16");
  cr_expect(half[0] == 0x3800 && half[1] == 0xbd00, "%04x %04x", half[0], half[1]);
  expect_ok(b, pare_data_batch(&b->c, d, a, all, 3, PARE_BF16, brain), "f32 to bf16");
  cr_expect(brain[0] == 0x3f00 && brain[1] == 0xbfa0, "%04x %04x", brain[0], brain[1]);
  expect_error(b, pare_data_batch(&b->c, d, a, all, 3, PARE_F16, brain), PARE_DATA, "set.npz", "sample 2", "1e6");
  expect_error(b, pare_data_batch(&b->c, d, a, all, 3, PARE_I64, same), PARE_DATA, "set.npz", "wants i64", "f32");
  a = pare_data_find(d, "px");
  expect_ok(b, pare_data_batch(&b->c, d, a, all, 3, PARE_F32, wide), "u8 to f32");
  cr_expect(wide[1] == 128.0f && wide[2] == 255.0f, "%g %g", (double)wide[1], (double)wide[2]);
  pare_data_free(d);
  bench_free(b);
}

Test(data, nan_infinity_and_labels_out_of_range_are_named) {
  Bench *b = bench_new();
  PareData *d;
  cr_assert_eq(pare_data_new(&b->c, "set.npz", &d), PARE_OK);
  float *x = add(b, d, "x", (PareType){PARE_F32, 2, {4, 3}});
  uint16_t *h = add(b, d, "h", (PareType){PARE_F16, 1, {4}});
  int64_t *labels = add(b, d, "labels", (PareType){PARE_I64, 1, {4}});
  const PareArray *ax = &d->arrays[0], *ah = &d->arrays[1], *al = &d->arrays[2];
  expect_ok(b, pare_data_check_finite(&b->c, d, ax), "zeros");
  x[7] = NAN;
  h[3] = 0x7c00;
  labels[1] = 9, labels[2] = 10;
  expect_error(b, pare_data_check_finite(&b->c, d, ax), PARE_DATA, "set.npz", "'x' holds NaN at sample 2", "NaN");
  expect_error(b, pare_data_check_finite(&b->c, d, ah), PARE_DATA, "set.npz", "'h' holds an infinite value at sample 3",
               "infinity");
  expect_ok(b, pare_data_check_range(&b->c, d, al, 11, "classes:"), "11 classes");
  expect_error(b, pare_data_check_range(&b->c, d, al, 10, "the number of classes is"), PARE_DATA, "set.npz",
               "'labels' holds 10 at sample 2, but the number of classes is 10", "label");
  labels[0] = -1;
  expect_error(b, pare_data_check_range(&b->c, d, al, 10, ""), PARE_DATA, "set.npz", "holds -1 at sample 0", "label");
  pare_data_free(d);
  bench_free(b);
}

Test(data, load_says_what_to_do_with_other_files) {
  Bench *b = bench_new();
  PareData *d;
  put_text(b, "a.tsv", "x");
  expect_error(b, pare_data_load(&b->c, in(b, "a.tsv"), &d), PARE_DATA, "a.tsv", "pare data text", "tsv");
  expect_error(b, pare_data_load(&b->c, b->dir, &d), PARE_DATA, b->dir, "pare data images", "folder");
  expect_error(b, pare_data_load(&b->c, in(b, "none.npz"), &d), PARE_IO, "none.npz", "No such file", "missing");
  expect_error(b, pare_data_load(&b->c, in(b, "none.bin"), &d), PARE_IO, "none.bin", "no such file", "missing");
  bench_free(b);
}

/* ---- .npz ---- */

/* A zip of n entries, each given as name, bytes, length. */
static void put_zip(Bench *b, const char *file, int n, ...) {
  int code;
  va_list ap;
  zip_t *z = zip_open(in(b, file), ZIP_CREATE | ZIP_TRUNCATE, &code);
  cr_assert(z);
  va_start(ap, n);
  for (int i = 0; i < n; i++) {
    const char *name = va_arg(ap, const char *);
    const void *p = va_arg(ap, const void *);
    size_t len = va_arg(ap, size_t);
    zip_source_t *src = zip_source_buffer(z, p, len, 0);
    cr_assert(zip_file_add(z, name, src, 0) >= 0, "%s", zip_strerror(z));
  }
  va_end(ap);
  cr_assert_eq(zip_close(z), 0);
}

/* An .npy of the version with this dictionary and `payload` bytes of 1, 2, 3... */
static size_t make_npy(uint8_t *out, int version, const char *dict, size_t payload) {
  size_t n = strlen(dict), at = version > 1 ? 12 : 10;
  memcpy(out, "\x93NUMPY", 6);
  out[6] = (uint8_t)version;
  out[7] = 0;
  out[8] = (uint8_t)n;
  out[9] = (uint8_t)(n >> 8);
  if (version > 1) out[10] = out[11] = 0;
  memcpy(out + at, dict, n);
  for (size_t i = 0; i < payload; i++) out[at + n + i] = (uint8_t)(i + 1);
  return at + n + payload;
}

Test(npz, round_trip_keeps_every_type_stored_and_deflated) {
  Bench *b = bench_new();
  for (int deflate = 0; deflate < 2; deflate++) {
    PareData *d, *back;
    cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
    for (int t = 0; t < PARE_DTYPE_COUNT; t++) {
      PareType type = {(PareDtype)t, 3, {3, 2, 5}};
      uint8_t *p = add(b, d, pare_dtype_name((PareDtype)t), type);
      for (size_t i = 0; i < 30 * pare_dtype_size((PareDtype)t); i++) p[i] = (uint8_t)(i * 31 + (size_t)t) & 1u;
    }
    add(b, d, "vector", (PareType){PARE_F32, 1, {3}});
    expect_ok(b, pare_npz_write(&b->c, in(b, "a.npz"), d, deflate), "write");
    expect_ok(b, pare_data_load(&b->c, in(b, "a.npz"), &back), "read");
    cr_assert_eq(back->narrays, d->narrays);
    for (size_t i = 0; i < d->narrays; i++) {
      const PareArray *x = &d->arrays[i], *y = pare_data_find(back, x->name);
      size_t bytes;
      cr_assert(y && pare_type_equal(&x->type, &y->type) && pare_type_bytes(&x->type, &bytes), "%s", x->name);
      cr_expect_eq(memcmp(x->data, y->data, bytes), 0, "%s differs", x->name);
      cr_expect_eq((uintptr_t)y->data % 64, 0, "%s is not aligned", x->name);
    }
    pare_data_free(d);
    pare_data_free(back);
  }
  bench_free(b);
}

/* The header as numpy 1.24 writes numpy.save of float32[2, 3]. */
Test(npz, headers_are_those_of_numpy) {
  Bench *b = bench_new();
  PareData *d;
  PareFile f;
  const char *dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
  add(b, d, "x", (PareType){PARE_F32, 2, {2, 3}});
  expect_ok(b, pare_npz_write(&b->c, in(b, "a.npz"), d, false), "write");
  expect_ok(b, pare_file_map(&b->c, in(b, "a.npz"), &f), "map");
  const uint8_t *npy = f.data + 30 + strlen("x.npy"); /* after a local file header */
  npy += (size_t)f.data[28] + 256u * f.data[29];
  cr_expect_eq(memcmp(npy, "\x93NUMPY\x01\x00\x76\x00", 10), 0);
  cr_expect_eq(memcmp(npy + 10, dict, strlen(dict)), 0, "%.60s", (const char *)npy + 10);
  cr_expect_eq(npy[127], '\n');
  pare_file_unmap(&f);
  pare_data_free(d);
  bench_free(b);
}

Test(npz, all_versions_and_spellings_of_a_header_are_read) {
  static const char *const dicts[] = {
      "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }   \n",
      "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<i2\"}\n",
      "{'descr': '<i2', 'fortran_order': False, 'shape': (2L, 3L)}\n",
  };
  Bench *b = bench_new();
  uint8_t npy[256];
  for (int version = 1; version <= 3; version++) {
    for (size_t k = 0; k < sizeof dicts / sizeof *dicts; k++) {
      PareData *d;
      put_zip(b, "a.npz", 1, "x.npy", npy, make_npy(npy, version, dicts[k], 12));
      expect_ok(b, pare_data_load(&b->c, in(b, "a.npz"), &d), dicts[k]);
      const PareArray *x = pare_data_find(d, "x");
      cr_assert(x && x->type.dtype == PARE_I16 && x->type.rank == 2 && x->type.dim[1] == 3);
      cr_expect_eq(((const int16_t *)x->data)[5], 0x0c0b);
      pare_data_free(d);
    }
  }
  bench_free(b);
}

#define DICT(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"

Test(npz, malformed_arrays_end_in_a_sentence) {
  static const struct {
    const char *dict;
    size_t payload;
    const char *words;
  } bad[] = {
      {DICT("'<f4'", "False", "(2, 3)"), 23, "has 93 bytes, but f32[2,3] needs 94"},
      {DICT("'<f4'", "False", "(2, 3)"), 25, "needs"},
      {DICT("'<f4'", "True", "(2, 3)"), 24, "Fortran order: save it with numpy.ascontiguousarray"},
      {DICT("'>f4'", "False", "(2, 3)"), 24, "big-endian (>f4)"},
      {DICT("'|O'", "False", "(2,)"), 16, "Python objects"},
      {DICT("'<U5'", "False", "(2,)"), 40, "strings (<U5)"},
      {DICT("'<c8'", "False", "(2,)"), 16, "'<c8' is not supported"},
      {DICT("[('a', '<f4')]", "False", "(2,)"), 8, "structured array"},
      {DICT("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, "more than 8 axes"},
      {DICT("'<f4'", "False", "(4294967296, 4294967296)"), 0, "impossible shape"},
      {DICT("'<f4'", "False", "(99999999999999999999,)"), 0, "malformed .npy header"},
      {DICT("'<f4'", "False", "(-1,)"), 4, "malformed .npy header"},
      {DICT("'<f4'", "False", "2"), 8, "malformed .npy header"},
      {DICT("'<f4'", "Maybe", "(2,)"), 8, "malformed .npy header"},
      {DICT("'<f4", "False", "(2,)"), 8, "'<f4, ' is not supported"},
      {"{'descr': '<f4', 'shape': (2,), }\n", 8, "malformed .npy header"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}\n", 8, "malformed .npy header"},
      {"", 8, "malformed .npy header"},
      {DICT("'<f4'", "False", "()"), 4, "'x' is a scalar"},
      {DICT("'<f4'", "False", "(0, 3)"), 0, "'x' holds no samples"},
  };
  Bench *b = bench_new();
  uint8_t npy[512];
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
    PareData *d;
    put_zip(b, "bad.npz", 1, "x.npy", npy, make_npy(npy, 1, bad[k].dict, bad[k].payload));
    PareStatus s = pare_data_load(&b->c, in(b, "bad.npz"), &d);
    cr_expect_eq(pare_status_exit(s), 4, "%s: exit %d", bad[k].dict, pare_status_exit(s));
    cr_expect(strstr(b->c.diag.text, "'x'"), "%s: \"%s\" does not name the array", bad[k].dict, b->c.diag.text);
    expect_error(b, s, s, "bad.npz", bad[k].words, bad[k].dict);
  }
  bench_free(b);
}

Test(npz, malformed_archives_end_in_a_sentence) {
  Bench *b = bench_new();
  PareData *d;
  uint8_t npy[256], other[256];
  size_t n = make_npy(npy, 1, DICT("'<f4'", "False", "(2, 3)"), 24);
  size_t m = make_npy(other, 1, DICT("'<f4'", "False", "(3,)"), 12);
  put_text(b, "a.npz", "PK is not enough");
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_FORMAT, "a.npz", "not an .npz file", "magic");
  put(b, "a.npz", npy, n);
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_FORMAT, "a.npz", "not an .npz file", ".npy");
  put_zip(b, "a.npz", 1, "x.txt", npy, n);
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_FORMAT, "a.npz", "'x.txt' is not an .npy", "name");
  put_zip(b, "a.npz", 2, "x.npy", npy, n, "y.npy", other, m);
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_DATA, "a.npz", "'y' has 3 samples, but 'x' has 2",
               "counts");
  npy[1] = 'X';
  put_zip(b, "a.npz", 1, "x.npy", npy, n);
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_FORMAT, "a.npz", "array 'x' is not an .npy file",
               "npy magic");
  npy[1] = 'N', npy[6] = 9;
  put_zip(b, "a.npz", 1, "x.npy", npy, n);
  expect_error(b, pare_data_load(&b->c, in(b, "a.npz"), &d), PARE_FORMAT, "a.npz", "version 9", "version");
  bench_free(b);
}

/* The bytes of a small valid .npz with two arrays, one deflated well. */
static size_t good_npz(Bench *b, uint8_t *out, size_t cap) {
  PareData *d;
  PareFile f;
  cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
  add(b, d, "x", (PareType){PARE_F32, 2, {4, 100}});
  add(b, d, "y", (PareType){PARE_I64, 1, {4}});
  expect_ok(b, pare_npz_write(&b->c, in(b, "good.npz"), d, true), "write");
  expect_ok(b, pare_file_map(&b->c, in(b, "good.npz"), &f), "map");
  size_t n = f.len;
  cr_assert(n <= cap, "%zu bytes", n);
  memcpy(out, f.data, n);
  pare_file_unmap(&f);
  pare_data_free(d);
  return n;
}

Test(npz, every_truncation_is_refused) {
  Bench *b = bench_new();
  uint8_t bytes[2048];
  size_t n = good_npz(b, bytes, sizeof bytes);
  for (size_t k = 0; k < n; k++) {
    PareData *d;
    put(b, "cut.npz", bytes, k);
    PareStatus s = pare_data_load(&b->c, in(b, "cut.npz"), &d);
    cr_expect_eq(pare_status_exit(s), 4, "cut to %zu of %zu bytes: %s", k, n, pare_status_text(s));
    b->c.diag = (PareDiag){0};
  }
  bench_free(b);
}

Test(npz, a_flipped_byte_never_crashes_nor_changes_an_element) {
  Bench *b = bench_new();
  uint8_t bytes[2048];
  size_t n = good_npz(b, bytes, sizeof bytes);
  for (size_t k = 0; k < n; k++) {
    PareData *d;
    bytes[k] ^= 0x55;
    put(b, "flip.npz", bytes, n);
    bytes[k] ^= 0x55;
    PareStatus s = pare_data_load(&b->c, in(b, "flip.npz"), &d);
    cr_expect(s == PARE_OK || pare_status_exit(s) == 4, "byte %zu: %s", k, pare_status_text(s));
    for (size_t i = 0; s == PARE_OK && i < d->narrays; i++)
      for (int64_t e = 0; d->arrays[i].type.dtype == PARE_F32 && e < 400; e++)
        cr_assert_eq(((const float *)d->arrays[i].data)[e], 0.0f, "byte %zu: element %" PRId64, k, e);
    pare_data_free(d);
    b->c.diag = (PareDiag){0};
  }
  bench_free(b);
}

Test(npz, bombs_are_refused_before_they_are_inflated) {
  Bench *b = bench_new();
  PareData *d;
  PareFile f;
  cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
  add(b, d, "x", (PareType){PARE_F32, 2, {2, 1 << 20}});
  expect_ok(b, pare_npz_write(&b->c, in(b, "bomb.npz"), d, true), "write");
  pare_data_free(d);
  PareStatus s = pare_npz_read(&b->c, in(b, "bomb.npz"), 1 << 20, &d);
  expect_error(b, s, PARE_DATA, "bomb.npz", "array 'x' (f32[2,1048576]) passes the limit", "8 MiB, limit 1 MiB");
  expect_ok(b, pare_npz_read(&b->c, in(b, "bomb.npz"), 1 << 23, &d), "limit 8 MiB");
  pare_data_free(d);

  /* Both directories say 1 GiB: no deflate stream of 8 KB holds that. */
  expect_ok(b, pare_file_map(&b->c, in(b, "bomb.npz"), &f), "map");
  uint8_t *bytes = pare_arena_alloc(b->c.scratch, f.len, 1);
  size_t n = f.len, patched = 0;
  memcpy(bytes, f.data, n);
  pare_file_unmap(&f);
  uint32_t said = (2u << 22) + 128, lie = 1u << 30;
  for (size_t i = 0; i + 4 <= n; i++)
    if (!memcmp(bytes + i, &said, 4)) memcpy(bytes + i, &lie, 4), patched++;
  cr_assert_eq(patched, 2, "%zu places hold the size, expected 2", patched);
  put(b, "lie.npz", bytes, n);
  s = pare_data_load(&b->c, in(b, "lie.npz"), &d);
  expect_error(b, s, PARE_FORMAT, "lie.npz", "array 'x' announces 1073741824 bytes", "lie");
  bench_free(b);
}

Test(npz, memory_may_run_out_anywhere_while_writing) {
  Bench *b = bench_new();
  PareData *d;
  cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
  add(b, d, "x", (PareType){PARE_F32, 2, {4, 3}});
  PareStatus s = PARE_NOMEM;
  for (size_t k = 1; s != PARE_OK; k++) {
    cr_assert(k < 100);
    b->c.diag = (PareDiag){0};
    pare_arena_fail_after(b->c.scratch, k);
    s = pare_npz_write(&b->c, in(b, "a.npz"), d, false);
    cr_expect(s == PARE_OK || (s == PARE_NOMEM && access(in(b, "a.npz"), F_OK) < 0), "allocation %zu: %s", k,
              pare_status_text(s));
  }
  pare_data_free(d);
  bench_free(b);
}

Test(npz, a_folder_that_is_not_there_is_an_io_error) {
  Bench *b = bench_new();
  PareData *d;
  cr_assert_eq(pare_data_new(&b->c, NULL, &d), PARE_OK);
  add(b, d, "x", (PareType){PARE_F32, 1, {4}});
  PareStatus s = pare_npz_write(&b->c, in(b, "no/such/a.npz"), d, false);
  expect_error(b, s, PARE_IO, "a.npz", "No such file", "write");
  pare_data_free(d);
  bench_free(b);
}

/* ---- IDX ---- */

static void put_gz(Bench *b, const char *name, const uint8_t *p, size_t n) {
  gzFile f = gzopen(in(b, name), "wb");
  cr_assert(f && gzwrite(f, p, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
}

Test(idx, images_and_labels_are_read_plain_and_gzipped) {
  static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 51, 102, 255, 1, 2, 3, 4};
  static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 9};
  Bench *b = bench_new();
  char images_path[512];
  put(b, "a-ubyte", images, sizeof images);
  put_gz(b, "a-ubyte.gz", images, sizeof images);
  put_gz(b, "l-ubyte.gz", labels, sizeof labels);
  for (int gz = 0; gz < 2; gz++) {
    PareData *d;
    snprintf(images_path, sizeof images_path, "%s", in(b, gz ? "a-ubyte.gz" : "a-ubyte"));
    PareImageOptions o = {.mean = {0.5f}, .std = {0.25f}, .name = "x"};
    expect_ok(b, pare_idx_read(&b->c, images_path, in(b, "l-ubyte.gz"), &o, &d), "read");
    const PareArray *x = pare_data_find(d, "x"), *l = pare_data_find(d, "labels");
    cr_assert(x && l && x->type.rank == 4 && x->type.dim[0] == 2 && x->type.dim[1] == 1 && x->type.dim[2] == 2);
    const float want[] = {-2.0f, -1.2f, -0.4f, 2.0f}; /* (px/255 - 1/2) / (1/4) */
    for (int i = 0; i < 4; i++) {
      float got = ((const float *)x->data)[i];
      cr_expect_float_eq(got, want[i], 1e-6, "pixel %d: %g, expected %g", i, (double)got, (double)want[i]);
    }
    cr_expect(((const int64_t *)l->data)[0] == 7 && ((const int64_t *)l->data)[1] == 9);
    pare_data_free(d);
  }
  bench_free(b);
}

Test(idx, malformed_files_end_in_a_sentence) {
  static const struct {
    uint8_t bytes[24];
    size_t n;
    const char *words;
  } bad[] = {
      {{1, 2, 8, 3}, 16, "wrong magic"},
      {{0, 0, 13, 3}, 16, "element type 0x0d"},
      {{0, 0, 8, 1, 0, 0, 0, 2, 7, 9}, 10, "IDX of 1 axes, but images have 3"},
      {{0, 0, 8, 3, 0, 0, 0, 2, 0, 0}, 10, "ends early"},
      {{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3}, 19, "ends early"},
      {{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3}, 19, "more bytes"},
      {{0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2}, 16, "axis 0 of the IDX file is empty"},
      {{0, 0, 8, 3, 0, 255, 0, 0, 0, 255, 0, 0, 0, 0, 0, 2}, 16, "more than the file can hold"},
      {{0, 0, 8, 3, 255, 255, 0, 0, 255, 255, 0, 0, 255, 0, 0, 2}, 16, "impossible dims"},
  };
  Bench *b = bench_new();
  PareImageOptions o = {0};
  PareData *d;
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
    put(b, "a-ubyte", bad[k].bytes, bad[k].n);
    expect_error(b, pare_idx_read(&b->c, in(b, "a-ubyte"), NULL, &o, &d), PARE_FORMAT, "a-ubyte", bad[k].words,
                 bad[k].words);
  }
  bench_free(b);
}

/* ---- pictures ---- */

/* Values of Pillow 11: Image.fromarray(a).resize((w, h), Image.BILINEAR). */
Test(images, resizing_is_that_of_pillow) {
  static const uint8_t small[12] = {58, 116, 162, 137, 137, 88, 117, 132, 88, 146, 109, 126};
  Bench *b = bench_new();
  uint8_t px[35];
  for (int y = 0; y < 5; y++)
    for (int x = 0; x < 7; x++) px[y * 7 + x] = (uint8_t)(x * 37 + y * 91);
  PareImage a = {5, 7, 1, px}, out;
  expect_ok(b, pare_image_resize(&b->c, b->c.scratch, &a, 3, 4, PARE_BILINEAR, &out), "resize");
  for (int i = 0; i < 12; i++) cr_expect_eq(out.px[i], small[i], "pixel %d: %d, expected %d", i, out.px[i], small[i]);
  bench_free(b);
}

Test(images, a_crop_is_cut_from_the_centre_of_the_shorter_side) {
  Bench *b = bench_new();
  uint8_t px[4 * 7 * 3];
  for (int i = 0; i < 84; i++) px[i] = (uint8_t)i;
  PareImage a = {4, 7, 3, px}, out;
  PareImageOptions o = {.resize = 4, .crop = 2, .channels = 3};
  expect_ok(b, pare_image_frame(&b->c, b->c.scratch, "x", &a, &o, &out), "frame");
  cr_assert(out.h == 2 && out.w == 2);
  cr_expect_eq(out.px[0], 27, "first byte %d, expected that of row 1, column 2: 27", out.px[0]);
  a.h = 1, a.w = 2;
  o = (PareImageOptions){.crop = 2, .channels = 3};
  expect_error(b, pare_image_frame(&b->c, b->c.scratch, "x", &a, &o, &out), PARE_DATA, "x", "too few for a crop of 2",
               "crop");
  bench_free(b);
}

static void put_png(Bench *b, const char *name, png_uint_32 w, png_uint_32 h, const uint8_t *rgb) {
  png_image p = {.version = PNG_IMAGE_VERSION, .width = w, .height = h, .format = PNG_FORMAT_RGB};
  cr_assert(png_image_write_to_file(&p, in(b, name), 0, rgb, 0, NULL), "%s", p.message);
}

static void make_folder(Bench *b, const char *name) { cr_assert_eq(pare_dir_make(&b->c, in(b, name)), PARE_OK); }

Test(images, classes_and_files_are_counted_in_sorted_order) {
  static const uint8_t red[] = {255, 0, 0}, green[] = {0, 255, 0}, blue[] = {0, 0, 255};
  Bench *b = bench_new();
  PareData *d;
  make_folder(b, "zebra");
  make_folder(b, "ant");
  put_png(b, "zebra/a.png", 1, 1, red);
  put_png(b, "ant/2.PNG", 1, 1, blue);
  put_png(b, "ant/1.png", 1, 1, green);
  put_text(b, "ant/notes.txt", "passed over");
  PareImageOptions o = {0};
  expect_ok(b, pare_images_read(&b->c, b->dir, &o, &d), "read");
  const PareArray *x = pare_data_find(d, "pixel_values"), *l = pare_data_find(d, "labels");
  const float want[9] = {0, 1, 0, 0, 0, 1, 1, 0, 0};
  const int64_t want_label[3] = {0, 0, 1};
  cr_assert(x && l && x->type.dim[0] == 3 && x->type.dim[1] == 3);
  for (int i = 0; i < 9; i++) cr_expect_eq(((const float *)x->data)[i], want[i], "value %d", i);
  for (int i = 0; i < 3; i++) cr_expect_eq(((const int64_t *)l->data)[i], want_label[i], "label %d", i);
  pare_data_free(d);
  bench_free(b);
}

Test(images, pictures_that_cannot_be_used_are_named) {
  static const uint8_t px[12] = {1, 2, 3};
  static const char jpeg[] = "\xff\xd8\xff\xe0 not much of a picture";
  Bench *b = bench_new();
  PareData *d;
  PareFile f;
  PareImageOptions o = {0};
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_DATA, b->dir, "no sub-folders", "empty");
  make_folder(b, "a");
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_DATA, b->dir, "class folder 'a' holds no", "class");
  put_png(b, "a/1.png", 1, 1, px);
  put_png(b, "a/2.png", 2, 2, px);
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_DATA, "a/2.png", "give a size to resize to", "sizes");
  o.resize = 2;
  expect_ok(b, pare_file_map(&b->c, in(b, "a/2.png"), &f), "map");
  put(b, "a/3.png", f.data, f.len - 20);
  pare_file_unmap(&f);
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_FORMAT, "a/3.png", "not a sound PNG", "truncated");
  put(b, "a/3.png", "", 0);
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_FORMAT, "a/3.png", "neither a JPEG nor a PNG", "empty");
  put(b, "a/3.png", jpeg, sizeof jpeg);
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_FORMAT, "a/3.png", "not a sound JPEG", "JPEG");
  o.crop = 3;
  expect_error(b, pare_images_read(&b->c, b->dir, &o, &d), PARE_USAGE, "", "crop of 3 is larger", "options");
  bench_free(b);
}

/* ---- WordPiece ---- */

/* Ids in their order; the first six are fixed by the enum below. */
static const char vocab[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwant\n##want\n##ed\nwa\nun\nrunn\n##ing\n,\nhello\n!\nhow\nare\nyou\n?\n"
    "ah\n\xe5\x8d\x9a\n\xe6\x8e\xa8\nzz\n";
enum { PAD, UNK, CLS, SEP, MASK, WANT, WANT_, ED_, WA, UN, RUNN, ING_, COMMA, HELLO, BANG, HOW, ARE, YOU, WHAT, AH,
       BO, TUI, ZZ, END = -1 };

/* From google-research/bert, tokenization_test.py, and the rules it documents. */
Test(wordpiece, known_cases_give_their_pieces) {
  static const struct {
    const char *text;
    int ids[12];
  } cases[] = {
      {"", {END}},
      {"unwanted running", {UN, WANT_, ED_, RUNN, ING_, END}},
      {"unwantedX running", {UNK, RUNN, ING_, END}},
      {"UNwant\xc3\xa9""d,running", {UN, WANT_, ED_, COMMA, RUNN, ING_, END}},
      {" \tHeLLo!how  \n Are yoU?  ", {HELLO, BANG, HOW, ARE, YOU, WHAT, END}},
      {"H\xc3\xa9llo he\xcc\x81llo", {HELLO, HELLO, END}},
      {"ah\xe5\x8d\x9a\xe6\x8e\xa8zz", {AH, BO, TUI, ZZ, END}},
      {"h\x01""e\xe2\x80\x8bllo\xef\xbf\xbd\xc2\xa0you", {HELLO, YOU, END}},
      {"hello[MASK]you [SEP][mask]", {HELLO, MASK, YOU, SEP, UNK, UNK, UNK, END}},
      {"\xff\xfehello\xc3", {HELLO, END}},
  };
  Bench *b = bench_new();
  PareWordpiece *w;
  PareArena *a = pare_arena_new(0);
  put_text(b, "vocab.txt", vocab);
  expect_ok(b, pare_wordpiece_load(&b->c, a, in(b, "vocab.txt"), true, &w), "load");
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    PareTokens ids = {0};
    size_t n = 0;
    expect_ok(b, pare_wordpiece_encode(&b->c, w, a, cases[k].text, strlen(cases[k].text), &ids), cases[k].text);
    while (cases[k].ids[n] != END) n++;
    cr_expect_eq(ids.n, n, "'%s': %zu pieces, expected %zu", cases[k].text, ids.n, n);
    for (size_t i = 0; i < n && i < ids.n; i++)
      cr_expect_eq(ids.at[i].id, cases[k].ids[i], "'%s': piece %zu is %" PRId64 ", expected %d", cases[k].text, i,
                   ids.at[i].id, cases[k].ids[i]);
  }
  pare_arena_free(a);
  bench_free(b);
}

Test(wordpiece, a_word_of_more_than_100_characters_is_unknown) {
  Bench *b = bench_new();
  PareWordpiece *w;
  PareArena *a = pare_arena_new(0);
  char text[128];
  put_text(b, "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##a");
  expect_ok(b, pare_wordpiece_load(&b->c, a, in(b, "vocab.txt"), true, &w), "load");
  for (size_t n = 100; n <= 101; n++) {
    PareTokens ids = {0};
    memset(text, 'a', n);
    expect_ok(b, pare_wordpiece_encode(&b->c, w, a, text, n, &ids), "encode");
    cr_expect_eq(ids.n, n == 100 ? 100 : 1, "%zu letters give %zu pieces", n, ids.n);
  }
  put_text(b, "bad.txt", "[PAD]\n[UNK]\nhello\n");
  expect_error(b, pare_wordpiece_load(&b->c, a, in(b, "bad.txt"), true, &w), PARE_FORMAT, "bad.txt",
               "the token [CLS] is missing", "vocabulary");
  pare_arena_free(a);
  bench_free(b);
}

/* Values of the `tokenizers` library, truncation strategy longest_first. */
Test(wordpiece, pairs_are_cut_longest_first) {
  static const size_t cases[][5] = {{10, 5, 3, 5, 3},   {10, 20, 0, 10, 0}, {10, 8, 3, 7, 3}, {10, 3, 8, 3, 7},
                                    {10, 20, 20, 5, 5}, {9, 20, 19, 5, 4},  {9, 19, 20, 4, 5}, {9, 20, 20, 4, 5}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    size_t n1 = cases[k][1], n2 = cases[k][2];
    pare_tokens_truncate(cases[k][0], &n1, &n2);
    cr_expect(n1 == cases[k][3] && n2 == cases[k][4], "case %zu: %zu and %zu, expected %zu and %zu", k, n1, n2,
              cases[k][3], cases[k][4]);
  }
}

/* ---- text ---- */

static PareStatus read_text(Bench *b, const char *name, const char *text, PareTextOptions o, PareData **out) {
  char path[512];
  put_text(b, "vocab.txt", vocab);
  put_text(b, name, text);
  snprintf(path, sizeof path, "%s", in(b, name));
  o.vocab = in(b, "vocab.txt");
  return pare_text_read(&b->c, path, &o, out);
}

static void expect_row(const PareData *d, const char *name, int64_t row, const int *want) {
  const PareArray *a = pare_data_find(d, name);
  cr_assert(a, "there is no %s", name);
  int64_t n = a->type.rank > 1 ? a->type.dim[1] : 1, k = 0;
  for (; want[k] != END; k++) {
    cr_assert(k < n, "%s has %" PRId64 " columns", name, n);
    int64_t got = ((const int64_t *)a->data)[row * n + k];
    cr_expect_eq(got, want[k], "%s[%" PRId64 ", %" PRId64 "] is %" PRId64 ", expected %d", name, row, k, got, want[k]);
  }
  cr_expect_eq(n, k, "%s has %" PRId64 " columns, expected %" PRId64, name, n, k);
}

Test(text, the_same_samples_come_from_every_spelling) {
  static const struct {
    const char *name, *text;
    PareTextOptions o;
  } cases[] = {
      {"a.tsv", "sentence\tlabel\nhow are you\t1\nhello\t0\n", {0}},
      {"a.tsv", "\xef\xbb\xbfid\tlabel\ttext\r\n7\t1\thow are you\r\n\r\n8\t0\thello", {0}},
      {"a.tsv", "how are you\t1\n\n\nhello\t0\n", {0}},
      {"a.tsv", "x\t1\thow are you\ny\t0\thello\n", {.text = "3", .label = "2"}},
      {"a.tsv", "class\tq\nb\thow are you\na\thello\n", {.text = "q", .label = "class"}},
      {"a.tsv", "class\tq\nb\thow are you\na\thello\n", {.text = "2", .label = "1", .header = PARE_HEADER_YES}},
      {"a.jsonl", "{\"text\": \"how are you\", \"label\": 1}\n\n{\"label\": 0, \"text\": \"hello\"}\n", {0}},
      {"a.jsonl",
       "{\"q\": \"how are you\", \"y\": \"yes\"}\n{\"y\": \"no\", \"q\": \"hello\"}",
       {.text = "q", .label = "y"}},
  };
  Bench *b = bench_new();
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    PareData *d;
    expect_ok(b, read_text(b, cases[k].name, cases[k].text, cases[k].o, &d), cases[k].text);
    cr_assert_eq(d->nsamples, 2, "'%s': %" PRId64 " samples", cases[k].text, d->nsamples);
    expect_row(d, "input_ids", 0, (int[]){CLS, HOW, ARE, YOU, SEP, END});
    expect_row(d, "input_ids", 1, (int[]){CLS, HELLO, SEP, PAD, PAD, END});
    expect_row(d, "attention_mask", 1, (int[]){1, 1, 1, 0, 0, END});
    expect_row(d, "token_type_ids", 1, (int[]){0, 0, 0, 0, 0, END});
    expect_row(d, "labels", 0, (int[]){1, END});
    expect_row(d, "labels", 1, (int[]){0, END});
    pare_data_free(d);
  }
  bench_free(b);
}

Test(text, pairs_have_types_and_are_cut_to_the_length) {
  Bench *b = bench_new();
  PareData *d;
  PareTextOptions o = {.max_length = 7, .pad_to_max = true};
  const char *text = "sentence1\tsentence2\nhow are you\thello hello\nyou\tyou\n";
  expect_ok(b, read_text(b, "a.tsv", text, o, &d), "read");
  expect_row(d, "input_ids", 0, (int[]){CLS, HOW, ARE, SEP, HELLO, HELLO, SEP, END});
  expect_row(d, "token_type_ids", 0, (int[]){0, 0, 0, 0, 1, 1, 1, END});
  expect_row(d, "input_ids", 1, (int[]){CLS, YOU, SEP, YOU, SEP, PAD, PAD, END});
  expect_row(d, "token_type_ids", 1, (int[]){0, 0, 0, 1, 1, 0, 0, END});
  cr_expect_null(pare_data_find(d, "labels"));
  pare_data_free(d);
  bench_free(b);
}

Test(text, numbers_that_are_no_integers_are_targets) {
  Bench *b = bench_new();
  PareData *d;
  expect_ok(b, read_text(b, "a.tsv", "hello\t3.5\nyou\t2\n", (PareTextOptions){0}, &d), "read");
  const PareArray *l = pare_data_find(d, "labels");
  cr_assert(l && l->type.dtype == PARE_F32);
  cr_expect(((const float *)l->data)[0] == 3.5f && ((const float *)l->data)[1] == 2.0f);
  pare_data_free(d);
  bench_free(b);
}

Test(text, errors_name_file_and_line) {
  static const struct {
    const char *name, *text;
    PareTextOptions o;
    PareStatus code;
    const char *words;
  } cases[] = {
      {"a.tsv", "sentence\tlabel\nhello\t1\n\nyou\n", {0}, PARE_DATA, "line 4: 1 column, but the label is in column 2"},
      {"a.tsv", "a\tb\n1\t2\n", {.text = "q"}, PARE_DATA, "line 1: there is no text column 'q'; there are: a, b"},
      {"a.tsv", "id\tlabel\n1\t2\n", {0}, PARE_DATA, "line 1: no column is called sentence"},
      {"a.tsv", "hello\n", {.label = "2"}, PARE_DATA, "line 1: there is no label column '2'"},
      {"a.tsv", "hello\t1\nyou\t\n", {0}, PARE_DATA, "line 2: the label is empty"},
      {"a.tsv", "hello\t1\nyo\xff\t0\n", {0}, PARE_DATA, "line 2: not UTF-8"},
      {"a.tsv", "sentence\tlabel\n\n", {0}, PARE_DATA, "no samples"},
      {"a.tsv", "", {0}, PARE_DATA, "no samples"},
      {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n", {0}, PARE_DATA, "line 2: not JSON"},
      {"a.jsonl", "[1]\n", {0}, PARE_DATA, "line 1: not a JSON object"},
      {"a.jsonl", "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"a\"}\n", {0}, PARE_DATA, "line 2: the key 'label'"},
      {"a.jsonl", "{\"text\": 5}\n", {0}, PARE_DATA, "line 1: 'text' is not a string"},
      {"a.jsonl", "{\"text\": \"a\", \"label\": [1]}\n", {0}, PARE_DATA, "line 1: the label is neither"},
      {"a.jsonl", "{\"txt\": \"a\"}\n", {0}, PARE_DATA, "line 1: the key 'sentence' or 'text' is missing"},
      {"a.doc", "hello\n", {0}, PARE_DATA, ".tsv or .jsonl is wanted"},
      {"a.tsv", "hello\n", {.max_length = 2}, PARE_USAGE, "a length of 2 tokens"},
  };
  Bench *b = bench_new();
  PareData *d;
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    PareStatus s = read_text(b, cases[k].name, cases[k].text, cases[k].o, &d);
    expect_error(b, s, cases[k].code, cases[k].code == PARE_USAGE ? "" : cases[k].name, cases[k].words, cases[k].text);
  }
  bench_free(b);
}
