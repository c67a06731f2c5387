/* test_safetensors.c - the container by its definition: bytes written by hand are read, and what is not as it says is
 * refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "runtime/safetensors.h"
#include "support.h"

/* A file of header and `n` bytes of data 0, 1, 2 .. */
static const char *file_of(Fix *f, const char *header, uint64_t claimed, size_t n) {
  const char *path = fmt(f, "%s/x.safetensors", dir_make(f));
  size_t len = strlen(header);
  uint8_t *bytes = PARE_NEW_N(f->arena, 8 + len + n + 1, uint8_t);
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(claimed >> 8 * i);
  memcpy(bytes + 8, header, len);
  for (size_t i = 0; i < n; i++) bytes[8 + len + i] = (uint8_t)i;
  write_file(path, bytes, 8 + len + n);
  return path;
}

static PareStatus open_text(Fix *f, const char *header, size_t n, PareSafeTensors *t) {
  return pare_safetensors_open(&f->c, f->arena, file_of(f, header, strlen(header), n), t);
}

Test(safetensors, are_read_as_the_format_says) {
  Fix f;
  PareSafeTensors t;
  fix_init(&f);
  MUST(&f, open_text(&f, "{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,1],"
                         "\"data_offsets\":[6,10]},\"a\":{\"dtype\":\"U8\",\"shape\":[2,3],\"data_offsets\":[0,6]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[6,6]}}  ", 10, &t));
  cr_assert_eq(t.n, 3);
  const PareSafeTensor *a = pare_safetensors_find(&t, "a"), *b = pare_safetensors_find(&t, "b");
  cr_assert(a && b && pare_safetensors_find(&t, "none") && !pare_safetensors_find(&t, "c"));
  cr_expect_eq(a->type.dtype, PARE_U8);
  cr_expect_eq(a->type.rank, 2);
  cr_expect_eq(a->type.dim[1], 3);
  cr_expect_eq(((const uint8_t *)a->data)[5], 5);
  cr_expect_eq(b->type.dtype, PARE_BF16);
  cr_expect_eq(((const uint8_t *)b->data)[0], 6);
  pare_safetensors_close(&t);
  fix_free(&f);
}

Test(safetensors, that_are_written_are_read_again) {
  Fix f;
  PareSafeTensors t;
  float x[6] = {1, -2, 3, 1e-30f, 5, 6};
  int8_t y[3] = {-1, 0, 1};
  const PareSafeTensor out[] = {{"a \"quoted\" name", {PARE_F32, 2, {2, 3}}, x}, {"y", {PARE_I8, 1, {3}}, y}};
  fix_init(&f);
  const char *path = fmt(&f, "%s/x.safetensors", dir_make(&f));
  MUST(&f, pare_safetensors_write(&f.c, path, 2, out));
  MUST(&f, pare_safetensors_open(&f.c, f.arena, path, &t));
  cr_assert_eq(t.n, 2);
  for (size_t i = 0; i < 2; i++) {
    size_t bytes;
    cr_assert(pare_type_bytes(&out[i].type, &bytes));
    cr_expect_str_eq(t.at[i].name, out[i].name);
    cr_expect(pare_type_equal(&t.at[i].type, &out[i].type));
    cr_expect(!memcmp(t.at[i].data, out[i].data, bytes));
  }
  cr_expect_eq(((const uint8_t *)t.at[0].data - t.file.data) % 8, 0, "the data do not begin at a multiple of 8");
  pare_safetensors_close(&t);
  fix_free(&f);
}

Test(safetensors, that_are_malformed_are_refused_by_what_is_wrong) {
  static const struct {
    const char *header;
    size_t bytes;
    const char *why;
  } bad[] = {
      {"[]", 0, "no JSON object"},
      {"{\"a\":", 0, "no JSON"},
      {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "F8_E4M3"},
      {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype"},
      {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "no shape"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "no number"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,1]}}", 1, "no number"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "no shape"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, "data_offsets"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, "outside"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "outside"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,0]}}", 1, "outside"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2, "another size"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "another size"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,1]}}", 1, "no JSON"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
       "\"data_offsets\":[1,3]}}", 3, "overlaps"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "gap"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "behind its last"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
       "\"data_offsets\":[1,2]}}", 2, "no JSON"},
      {"{\"a\":7}", 0, "dtype"},
  };
  Fix f;
  fix_init(&f);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    PareSafeTensors t;
    PareStatus s = open_text(&f, bad[i].header, bad[i].bytes, &t);
    cr_expect_eq(s, PARE_FORMAT, "%s was read, or: %s", bad[i].header, fix_why(&f));
    cr_expect(strstr(fix_why(&f), bad[i].why), "%s: '%s' does not say '%s'", bad[i].header, fix_why(&f), bad[i].why);
    if (s == PARE_OK) pare_safetensors_close(&t);
    fix_forget(&f);
  }
  fix_free(&f);
}

Test(safetensors, whose_header_is_longer_than_the_file_are_refused) {
  static const uint64_t claimed[] = {3, 1 << 20, UINT64_MAX, (uint64_t)1 << 40};
  Fix f;
  fix_init(&f);
  for (size_t i = 0; i < sizeof claimed / sizeof *claimed; i++) {
    PareSafeTensors t;
    cr_expect_eq(pare_safetensors_open(&f.c, f.arena, file_of(&f, "{}", claimed[i], 0), &t), PARE_FORMAT, "%llu bytes",
                 (unsigned long long)claimed[i]);
    fix_forget(&f);
  }
  const char *path = fmt(&f, "%s/short.safetensors", dir_make(&f));
  write_file(path, "1234567", 7);
  PareSafeTensors t;
  cr_expect_eq(pare_safetensors_open(&f.c, f.arena, path, &t), PARE_FORMAT);
  fix_forget(&f);
  fix_free(&f);
}
