/* test_frontend.c - files into graphs: the splitter's laws, every encoding of a
 * tensor, and what is refused with which sentence. Models are packed here by
 * protobuf-c from ONNX's own schema. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "frontend/split.h"
#include "passes/probe_dims.h"
#include "passes/trace_dims.h"
#include "proto/wire.h"
#include "support.h"

/* --- helpers --- */

static PareStatus load(Fix *f, const Onnx__ModelProto *m, const char *path, PareModel **out) {
  size_t len;
  const uint8_t *bytes = onnx_pack(f, m, &len);
  return pare_model_load_bytes(&f->c, path, bytes, len, out);
}

/* The load must fail with this status and a sentence that holds all of `parts` (separated by '|'). */
static void expect_refused(Fix *f, const Onnx__ModelProto *m, PareStatus want, const char *parts) {
  PareModel *model = NULL;
  PareStatus s = load(f, m, "made/by/hand.onnx", &model);
  cr_expect_eq(s, want, "status %d, expected %d (%s)", s, want, fix_why(f));
  const char *all = fix_why(f);
  for (const char *p = parts; *p; p += strcspn(p, "|"), p += *p == '|') {
    const char *part = fmt(f, "%.*s", (int)strcspn(p, "|"), p);
    cr_expect(strstr(all, part), "'%s' does not say '%s'", all, part);
  }
  if (s == PARE_OK) pare_model_free(model);
  fix_forget(f);
}

/* y = Relu(x) with room for what a test adds. */
static Onnx__ModelProto *relu_model(Fix *f) {
  Onnx__ModelProto *m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(-1, 4));
  onnx_output(f, m, "y", 1, DIMS(-1, 4));
  onnx_node(f, m, "Relu", "the_relu", "x", "y");
  return m;
}

/* y = x + w, w the tensor under test. */
static Onnx__ModelProto *add_model(Fix *f, Onnx__TensorProto *w) {
  Onnx__ModelProto *m = onnx_model(f, 17);
  onnx_input(f, m, "x", w->data_type, DIMS(-1, 4));
  onnx_output(f, m, "y", w->data_type, DIMS(-1, 4));
  onnx_node(f, m, "Add", "the_add", "x w", "y");
  onnx_initializer(f, m, w);
  return m;
}

/* --- the splitter --- */

static void check_ranges(const uint8_t *thin, size_t n, PareMsg msg, size_t file_len, size_t *ranges) {
  PareCursor c = {thin, thin + n};
  PareField f;
  while (pare_wire_next(&c, &f)) {
    PareMsg child = f.wire == PARE_WIRE_BYTES ? pare_msg_child(msg, f.num) : PARE_MSG_LEAF;
    if (child != PARE_MSG_LEAF) check_ranges(f.body, f.len, child, file_len, ranges);
    if (msg != PARE_MSG_TENSOR || f.num != PARE_TENSOR_RAW || f.wire != PARE_WIRE_BYTES) continue;
    PareRange r;
    cr_assert_eq(f.len, sizeof r, "a raw_data of %zu bytes is left in the thin model", f.len);
    memcpy(&r, f.body, sizeof r);
    cr_assert(r.off <= file_len && r.len <= file_len - r.off, "range %llu+%llu in a file of %zu",
              (unsigned long long)r.off, (unsigned long long)r.len, file_len);
    ++*ranges;
  }
  cr_assert(c.p == c.end, "the thin model is malformed");
}

Test(split, every_range_of_every_fixture_lies_in_the_file) {
  Fix fix, *f = &fix;
  fix_init(f);
  Row *rows;
  size_t all = 0;
  for (size_t i = 0, n = fixtures(f, 0, &rows); i < n; i++) {
    size_t len, thin_len, ranges = 0;
    uint8_t *thin;
    PareMark mark = pare_arena_mark(f->arena);
    const uint8_t *file = read_file(f, rows[i].path, &len);
    MUST(f, pare_split(&f->c, f->arena, file, len, &thin, &thin_len));
    check_ranges(thin, thin_len, PARE_MSG_MODEL, len, &ranges);
    all += ranges;
    pare_arena_rewind(f->arena, mark);
  }
  cr_expect_gt(all, 2000u, "only %zu raw_data in all fixtures", all);
  fix_free(f);
}

/* A field with a message of `len` bytes, in front of which the bytes grow: returns the new length. */
static size_t wrap(uint8_t *end, size_t len, uint32_t field) {
  uint8_t head[12];
  size_t n = 0;
  head[n++] = (uint8_t)(field << 3 | PARE_WIRE_BYTES);
  size_t v = len;
  for (; v > 127; v >>= 7) head[n++] = (uint8_t)(v | 128);
  head[n++] = (uint8_t)v;
  memcpy(end - len - n, head, n);
  return len + n;
}

/* model.graph.(node.attribute.g)*depth; each level is three messages. */
static PareStatus split_nested(Fix *f, int depth, size_t *bytes) {
  enum { ROOM = 64 << 10 };
  static uint8_t buf[ROOM];
  uint8_t *end = buf + ROOM, *thin;
  size_t len = 0, thin_len;
  for (int i = 0; i < depth; i++) {
    len = wrap(end, len, 6); /* AttributeProto.g */
    len = wrap(end, len, PARE_NODE_ATTRIBUTE);
    len = wrap(end, len, PARE_GRAPH_NODE);
  }
  *bytes = wrap(end, len, PARE_MODEL_GRAPH);
  return pare_split(&f->c, f->arena, end - *bytes, *bytes, &thin, &thin_len);
}

Test(split, graphs_inside_graphs_are_refused_over_64_levels_and_not_before) {
  Fix fix, *f = &fix;
  fix_init(f);
  size_t bytes;
  MUST(f, split_nested(f, (PARE_MAX_NESTING - 1) / 3, &bytes));
  cr_expect_eq(split_nested(f, PARE_MAX_NESTING / 3 + 1, &bytes), PARE_FORMAT);
  fix_forget(f);
  cr_expect_eq(split_nested(f, 3600, &bytes), PARE_FORMAT);
  cr_expect_gt(bytes, 30000u);
  cr_expect(strstr(f->c.diag.text, "nested deeper than 64"), "%s", f->c.diag.text);
  fix_free(f);
}

static PareStatus split_bytes(Fix *f, PareBuf *b) {
  uint8_t *thin;
  size_t len;
  return pare_split(&f->c, f->arena, b->at, b->n, &thin, &len);
}

Test(split, what_protobuf_would_merge_is_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  PareBuf two = {.arena = f->arena}, tensor = two, graph = two, raws = two, twice = two;
  pare_buf_field_bytes(&two, PARE_MODEL_GRAPH, "", 0);
  pare_buf_field_bytes(&two, PARE_MODEL_GRAPH, "", 0);
  cr_expect_eq(split_bytes(f, &two), PARE_FORMAT);
  cr_expect(strstr(f->c.diag.text, "two graphs"), "%s", f->c.diag.text);
  fix_forget(f);
  pare_buf_field_bytes(&tensor, PARE_TENSOR_RAW, "abcd", 4);
  pare_buf_field_bytes(&tensor, PARE_TENSOR_RAW, "abcd", 4);
  pare_buf_field_bytes(&graph, PARE_GRAPH_INITIALIZER, tensor.at, tensor.n);
  pare_buf_field_bytes(&raws, PARE_MODEL_GRAPH, graph.at, graph.n);
  cr_expect_eq(split_bytes(f, &raws), PARE_FORMAT);
  cr_expect(strstr(f->c.diag.text, "raw_data twice"), "%s", f->c.diag.text);
  fix_forget(f);
  pare_buf_put(&twice, "\x3a\x05xy", 4); /* a graph of 5 bytes, of which there are 2 */
  cr_expect_eq(split_bytes(f, &twice), PARE_FORMAT);
  fix_free(f);
}

/* --- damaged files --- */

/* What loads is taken further, since its shapes may still be nonsense: to the dimensions. */
static PareStatus load_and_trace(Fix *f, const uint8_t *bytes, size_t len, PareModel **m) {
  PareGraph *bound;
  PareDims *dims;
  PARE_TRY(pare_model_load_bytes(&f->c, "damaged.onnx", bytes, len, m));
  PARE_TRY(pare_probe_dims(&f->c, f->arena, (*m)->graph, 0, &bound));
  return pare_trace_dims(&f->c, f->arena, bound, &dims);
}

static void load_damaged(Fix *f, const uint8_t *bytes, size_t len, const char *what, size_t at, int *good) {
  PareModel *m = NULL;
  PareMark mark = pare_arena_mark(f->arena);
  PareStatus s = load_and_trace(f, bytes, len, &m);
  *good += s == PARE_OK;
  if (s != PARE_OK) {
    cr_assert(f->c.diag.code == s && *f->c.diag.text, "%s at %zu: status %d without a sentence", what, at, s);
    cr_assert(s != PARE_NOMEM && s != PARE_USAGE, "%s at %zu: status %d (%s)", what, at, s, fix_why(f));
  }
  pare_model_free(m);
  pare_arena_rewind(f->arena, mark);
  fix_forget(f);
}

Test(damage, a_file_cut_at_any_byte_is_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  size_t len;
  int loaded = 0;
  const uint8_t *whole = read_file(f, fixture(f, "vespa-dummy-transformer"), &len);
  for (size_t n = 0; n < len; n++) load_damaged(f, whole, n, "cut", n, &loaded);
  cr_expect_eq(loaded, 0, "%d cut files were taken for whole ones", loaded);
  fix_free(f);
}

Test(damage, a_bit_that_flips_ends_in_a_model_or_a_sentence) {
  Fix fix, *f = &fix;
  fix_init(f);
  size_t len;
  int loaded = 0;
  enum { FLIPS = 6000 };
  uint8_t *bytes = read_file(f, fixture(f, "vespa-dummy-transformer"), &len);
  for (size_t i = 0; i < FLIPS; i++) {
    size_t bit = pare_rng_u64(11, i) % (8 * len);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    load_damaged(f, bytes, len, "bit", bit, &loaded);
    bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  cr_expect(loaded > 0 && loaded < FLIPS, "%d of %d loaded", loaded, FLIPS);
  fix_free(f);
}

Test(damage, files_that_are_no_models_say_so) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const char *const texts[] = {"", "{\"not\": \"onnx\"}", "PK\x03\x04 a zip file, perhaps", "\x08\x08"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    PareModel *m;
    PareStatus s = pare_model_load_bytes(&f->c, "odd.onnx", texts[i], strlen(texts[i]), &m);
    cr_expect_eq(s, PARE_FORMAT, "'%s': status %d", texts[i], s);
    cr_expect_str_eq(f->c.diag.file, "odd.onnx");
    fix_forget(f);
  }
  PareModel *m;
  cr_expect_eq(pare_model_load(&f->c, "there/is/no/such.onnx", &m), PARE_IO);
  fix_forget(f);
  cr_expect_eq(pare_model_load(&f->c, PARE_TEST_TMP, &m), PARE_IO, "a folder is no model");
  fix_free(f);
}

/* --- encodings of tensors --- */

/* The same four numbers in a typed field. The lists are protobuf's: f16, bf16, i8, bool... travel in int32_data. */
static void typed_fields(Fix *f, Onnx__TensorProto *t, const double *v, const uint8_t *raw, size_t n) {
  enum { ROOM = 8 };
  t->float_data = pare_arena_alloc(f->arena, ROOM, sizeof(float));
  t->double_data = pare_arena_alloc(f->arena, ROOM, sizeof(double));
  t->int32_data = pare_arena_alloc(f->arena, ROOM, sizeof(int32_t));
  t->int64_data = pare_arena_alloc(f->arena, ROOM, sizeof(int64_t));
  t->uint64_data = pare_arena_alloc(f->arena, ROOM, sizeof(uint64_t));
  for (size_t i = 0; i < n; i++) {
    uint16_t half;
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT: t->float_data[i] = (float)v[i], t->n_float_data = n; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE: t->double_data[i] = v[i], t->n_double_data = n; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64: t->int64_data[i] = (int64_t)v[i], t->n_int64_data = n; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64: t->uint64_data[i] = (uint64_t)v[i], t->n_uint64_data = n; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
      memcpy(&half, raw + 2 * i, 2);
      t->int32_data[i] = half, t->n_int32_data = n;
      break;
    default: t->int32_data[i] = (int32_t)v[i], t->n_int32_data = n; break;
    }
  }
}

static const struct {
  int32_t dtype;
  size_t size;
  double v[4];
  uint8_t raw[32]; /* by hand, little-endian; the numbers are those of v */
} encodings[] = {
    {1, 4, {1, -2, 0.5, 0}, {0, 0, 128, 63, 0, 0, 0, 192, 0, 0, 0, 63}},
    {11, 8, {1, -2, 0.5, 0}, {0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0, 0, 0, 0, 0, 224, 63}},
    {10, 2, {1, -2, 0.5, 0}, {0, 60, 0, 192, 0, 56}},
    {16, 2, {1, -2, 0.5, 0}, {128, 63, 0, 192, 0, 63}},
    {3, 1, {1, -2, 127, -128}, {1, 254, 127, 128}},
    {2, 1, {1, 2, 127, 255}, {1, 2, 127, 255}},
    {5, 2, {1, -2, 300, -32768}, {1, 0, 254, 255, 44, 1, 0, 128}},
    {4, 2, {1, 2, 300, 65535}, {1, 0, 2, 0, 44, 1, 255, 255}},
    {6, 4, {1, -2, 65536, 0}, {1, 0, 0, 0, 254, 255, 255, 255, 0, 0, 1, 0}},
    {12, 4, {1, 2, 4294967295.0, 0}, {1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255}},
    {7, 8, {1, -2, 4294967296.0, 0},
     {1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 1, 0, 0, 0}},
    {13, 8, {1, 2, 4294967296.0, 0}, {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}},
    {9, 1, {1, 0, 1, 1}, {1, 0, 1, 1}},
};

static void expect_values(Fix *f, Onnx__TensorProto *t, const char *path, const double *v, const char *how) {
  PareModel *m;
  MUST(f, load(f, add_model(f, t), path, &m));
  const PareValue *w = m->initializer[0];
  for (int64_t i = 0; i < 4; i++)
    cr_expect(pare_data_float(w, i) == v[i], "type %d, %s: element %d is %g, not %g", t->data_type, how, (int)i,
              pare_data_float(w, i), v[i]);
  pare_model_free(m);
}

static void external_entry(Fix *f, Onnx__TensorProto *t, const char *key, const char *value) {
  Onnx__StringStringEntryProto **list = pare_arena_alloc(f->arena, t->n_external_data + 1, sizeof *list);
  if (t->n_external_data) memcpy(list, t->external_data, t->n_external_data * sizeof *list);
  Onnx__StringStringEntryProto *e = PARE_NEW(f->arena, Onnx__StringStringEntryProto);
  onnx__string_string_entry_proto__init(e);
  e->key = fmt(f, "%s", key);
  e->value = fmt(f, "%s", value);
  list[t->n_external_data++] = e;
  t->external_data = list;
  t->has_data_location = 1;
  t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
}

Test(tensor, every_encoding_of_every_type_holds_the_same_numbers) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *model = fmt(f, "%s/model.onnx", dir);
  for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++) {
    int32_t type = encodings[i].dtype;
    const double *v = encodings[i].v;
    size_t bytes = 4 * encodings[i].size;
    expect_values(f, onnx_tensor(f, "w", type, DIMS(4), encodings[i].raw, bytes), model, v, "raw_data");
    Onnx__TensorProto *typed = onnx_tensor(f, "w", type, DIMS(4), NULL, 0);
    typed_fields(f, typed, v, encodings[i].raw, 4);
    expect_values(f, typed, model, v, "a typed field");
    uint8_t file[64] = {0};
    memcpy(file + 5, encodings[i].raw, bytes); /* no alignment is promised */
    write_file(fmt(f, "%s/weights.bin", dir), file, 5 + bytes + 3);
    Onnx__TensorProto *external = onnx_tensor(f, "w", type, DIMS(4), NULL, 0);
    external_entry(f, external, "location", "weights.bin");
    external_entry(f, external, "offset", "5");
    external_entry(f, external, "length", fmt(f, "%zu", bytes));
    expect_values(f, external, model, v, "external data");
  }
  dir_remove(dir);
  fix_free(f);
}

Test(tensor, data_that_do_not_fit_the_dims_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const float four[4];
  expect_refused(f, add_model(f, onnx_tensor(f, "w", 1, DIMS(5), four, 16)), PARE_FORMAT, "'w'|16 bytes|20");
  Onnx__TensorProto *typed = onnx_tensor(f, "w", 1, DIMS(5), NULL, 0);
  typed_fields(f, typed, (double[4]){0}, NULL, 4);
  expect_refused(f, add_model(f, typed), PARE_FORMAT, "'w'|4 numbers|5");
  expect_refused(f, add_model(f, onnx_tensor(f, "w", 1, DIMS(-4), four, 16)), PARE_FORMAT, "'w'|impossible dims");
  int64_t huge = (int64_t)1 << 62;
  expect_refused(f, add_model(f, onnx_tensor(f, "w", 1, 3, (int64_t[]){huge, huge, huge}, four, 16)), PARE_FORMAT,
                 "impossible dims");
  expect_refused(f, add_model(f, onnx_tensor(f, "w", 1, DIMS(1, 1, 1, 1, 1, 1, 1, 1, 4), four, 16)), PARE_UNSUPPORTED,
                 "rank 9");
  expect_refused(f, add_model(f, onnx_tensor(f, "w", 8, DIMS(4), four, 16)), PARE_UNSUPPORTED, "'w'|element type 8");
  fix_free(f);
}

/* --- external data --- */

static void external_case(Fix *f, const char *model, const char *location, const char *offset, const char *length,
                          PareStatus want, const char *parts) {
  Onnx__TensorProto *t = onnx_tensor(f, "w", 1, DIMS(4), NULL, 0);
  if (location) external_entry(f, t, "location", location);
  else external_entry(f, t, "checksum", "0");
  if (offset) external_entry(f, t, "offset", offset);
  if (length) external_entry(f, t, "length", length);
  PareModel *m = NULL;
  PareStatus s = load(f, add_model(f, t), model, &m);
  cr_expect_eq(s, want, "'%s' + %s: status %d, expected %d (%s)", location ? location : "none", offset ? offset : "0",
               s, want, fix_why(f));
  cr_expect(s == PARE_OK || strstr(f->c.diag.text, parts) || strstr(f->c.diag.file, parts), "'%s' does not say '%s'",
            fix_why(f), parts);
  if (s == PARE_OK) pare_model_free(m);
  fix_forget(f);
}

Test(external, data_outside_the_folder_missing_or_too_short_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  const char *dir = dir_make(f), *inner = fmt(f, "%s/inner", dir), *model = fmt(f, "%s/model.onnx", inner);
  MUST(f, pare_dir_make(&f->c, inner));
  static const char zeros[32];
  write_file(fmt(f, "%s/outside.bin", dir), zeros, sizeof zeros);
  write_file(fmt(f, "%s/w.bin", inner), zeros, sizeof zeros);
  external_case(f, model, "w.bin", NULL, NULL, PARE_OK, "");
  external_case(f, model, "./w.bin", "16", "16", PARE_OK, "");
  static const char *const outside[] = {"../outside.bin", "/etc/passwd", "a/../../outside.bin", "..", "a/..", "",
                                        "..\\outside.bin"};
  for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
    external_case(f, model, outside[i], NULL, NULL, PARE_FORMAT, "outside the model's folder");
  external_case(f, model, "gone.bin", NULL, NULL, PARE_IO, "gone.bin");
  external_case(f, model, "w.bin", "17", NULL, PARE_FORMAT, "behind the end");
  external_case(f, model, "w.bin", "18446744073709551615", NULL, PARE_FORMAT, "behind the end");
  external_case(f, model, "w.bin", "99999999999999999999", NULL, PARE_FORMAT, "malformed offset");
  external_case(f, model, "w.bin", "-1", NULL, PARE_FORMAT, "malformed offset");
  external_case(f, model, "w.bin", "1x", NULL, PARE_FORMAT, "malformed offset");
  external_case(f, model, "w.bin", NULL, "12", PARE_FORMAT, "12 bytes");
  external_case(f, model, NULL, NULL, NULL, PARE_FORMAT, "without a location");
  dir_remove(dir);
  fix_free(f);
}

/* --- graphs that are refused --- */

Test(import, a_missing_initializer_and_a_cycle_name_the_node) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = relu_model(f);
  onnx_node(f, m, "Add", "the_add", "y gone", "z");
  expect_refused(f, m, PARE_FORMAT, "the_add|'gone'");
  m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(4));
  onnx_output(f, m, "b", 1, DIMS(4));
  onnx_node(f, m, "Add", "first", "x b", "a");
  onnx_node(f, m, "Relu", "second", "a", "b");
  expect_refused(f, m, PARE_FORMAT, "second|'a'|cycle");
  fix_free(f);
}

Test(import, nodes_that_do_not_stand_in_order_are_put_in_one) { /* as ONNX Runtime does */
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = onnx_model(f, 17);
  onnx_input(f, m, "x", 1, DIMS(4));
  onnx_output(f, m, "d", 1, DIMS(4));
  onnx_node(f, m, "Add", "last", "c b", "d");
  onnx_node(f, m, "Relu", "first", "x", "a");
  onnx_node(f, m, "Add", "third", "b a", "c");
  onnx_node(f, m, "Neg", "second", "a", "b");
  PareModel *model;
  MUST(f, load(f, m, "unsorted.onnx", &model));
  MUST(f, pare_graph_verify(&f->c, model->graph));
  static const char *const order[] = {"first", "second", "third", "last"};
  static const uint32_t index[] = {1, 3, 2, 0};
  int i = 0;
  for (const PareNode *n = model->graph->first; n; n = n->next, i++) {
    cr_expect_str_eq(n->name, order[i]);
    cr_expect_eq(n->onnx_index, index[i], "%s has number %u in the file", n->name, n->onnx_index);
  }
  cr_expect_eq(i, 4);
  pare_model_free(model);
  fix_free(f);
}

Test(import, names_that_are_defined_twice_are_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  static const float one[1] = {1};
  Onnx__ModelProto *m = relu_model(f);
  onnx_node(f, m, "Relu", "again", "x", "y");
  expect_refused(f, m, PARE_FORMAT, "'y' is defined twice");
  m = relu_model(f);
  onnx_initializer(f, m, onnx_tensor(f, "w", 1, DIMS(1), one, 4));
  onnx_initializer(f, m, onnx_tensor(f, "w", 1, DIMS(1), one, 4));
  expect_refused(f, m, PARE_FORMAT, "'w' is defined twice");
  m = relu_model(f);
  onnx_input(f, m, "x", 1, DIMS(4));
  expect_refused(f, m, PARE_FORMAT, "'x' is defined twice");
  fix_free(f);
}

Test(import, all_ops_that_are_not_supported_are_listed_at_once) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = relu_model(f);
  onnx_node(f, m, "LSTM", "rnn_a", "x", "a");
  onnx_node(f, m, "GRU", "", "x", "b");
  onnx_node(f, m, "LSTM", "rnn_b", "a", "c");
  onnx_node(f, m, "Gelu", "contrib", "c", "d")->domain = fmt(f, "org.example");
  onnx_node(f, m, "AdamW", "ours", "d", "e")->domain = fmt(f, "pare");
  m->graph->output[0]->name = fmt(f, "e"); /* else they could stay, as what nothing depends on */
  expect_refused(f, m, PARE_UNSUPPORTED,
                 "4 kinds|LSTM (ai.onnx, opset 17, first 'rnn_a', 2 times)|"
                 "GRU (ai.onnx, opset 17, first 'b', 1 time)|"
                 "Gelu (org.example, opset 0, first 'contrib', 1 time)|AdamW (pare");
  fix_free(f);
}

Test(import, thousands_of_unknown_ops_take_no_time) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = relu_model(f);
  Onnx__NodeProto *n = m->graph->node[0];
  enum { MANY = 20000 };
  Onnx__NodeProto **list = pare_arena_alloc(f->arena, MANY, sizeof *list);
  for (int i = 0; i < MANY; i++) {
    list[i] = pare_arena_alloc(f->arena, 1, sizeof *n);
    *list[i] = *n;
    list[i]->op_type = fmt(f, "Op%d", i);
  }
  m->graph->node = list;
  m->graph->n_node = MANY;
  expect_refused(f, m, PARE_UNSUPPORTED, "20000 kinds|Op0 (ai.onnx");
  fix_free(f);
}

Test(import, what_a_node_may_not_have_names_it) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = relu_model(f);
  onnx_attr_int(f, m->graph->node[0], "leakiness", 1);
  expect_refused(f, m, PARE_UNSUPPORTED, "the_relu|Relu|'leakiness'");
  m = relu_model(f);
  onnx_attr_int(f, m->graph->node[0], "act", 1); /* pare's own: not for files */
  expect_refused(f, m, PARE_UNSUPPORTED, "the_relu|'act'");
  m = relu_model(f);
  onnx_node(f, m, "Relu", "two_inputs", "x y", "z");
  expect_refused(f, m, PARE_FORMAT, "two_inputs|2 inputs");
  m = relu_model(f);
  onnx_node(f, m, "Add", "one_input", "x", "z");
  expect_refused(f, m, PARE_FORMAT, "one_input|missing");
  m = relu_model(f);
  onnx_node(f, m, "Cast", "to_nothing", "x", "z");
  onnx_attr_int(f, m->graph->node[1], "to", 8);
  expect_refused(f, m, PARE_UNSUPPORTED, "to_nothing|'to'");
  fix_free(f);
}

Test(import, a_model_without_graph_output_opset_or_rank_is_refused) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = relu_model(f);
  m->graph->n_output = 0;
  expect_refused(f, m, PARE_FORMAT, "no output");
  m = relu_model(f);
  m->graph = NULL;
  expect_refused(f, m, PARE_FORMAT, "no graph");
  m = relu_model(f);
  m->n_opset_import = 0;
  expect_refused(f, m, PARE_FORMAT, "opset");
  m = relu_model(f);
  m->graph->input[0]->type->tensor_type->shape = NULL;
  expect_refused(f, m, PARE_UNSUPPORTED, "'x'|rank");
  m = relu_model(f);
  onnx_output(f, m, "nowhere", 1, DIMS(4));
  expect_refused(f, m, PARE_FORMAT, "'nowhere'");
  fix_free(f);
}

/* --- normalisation of old opsets --- */

Test(import, attributes_of_old_opsets_become_inputs_that_know_where_they_came_from) {
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = onnx_model(f, 9);
  onnx_input(f, m, "x", 1, DIMS(-1, 4));
  onnx_output(f, m, "y", 1, DIMS(-1, 2));
  Onnx__NodeProto *n = onnx_node(f, m, "Slice", "old_slice", "x", "y");
  onnx_attr_ints(f, n, "starts", DIMS(1));
  onnx_attr_ints(f, n, "ends", DIMS(3));
  onnx_attr_ints(f, n, "axes", DIMS(1));
  PareModel *model;
  MUST(f, load(f, m, "old.onnx", &model));
  const PareNode *s = model->graph->first;
  static const char *const attr[] = {NULL, "starts", "ends", "axes"};
  static const int64_t value[] = {0, 1, 3, 1};
  cr_assert_eq(s->nin, 4, "%d inputs", s->nin);
  for (int k = 1; k < 4; k++) {
    cr_assert(s->in[k] && s->in[k]->role == PARE_CONST);
    cr_expect_eq(pare_data_int(s->in[k], 0), value[k], "%s is %lld", attr[k], (long long)pare_data_int(s->in[k], 0));
    cr_expect_eq(s->in[k]->origin.kind, PARE_ORIGIN_ATTRIBUTE);
    cr_expect_str_eq(s->in[k]->origin.attr, attr[k]);
  }
  pare_model_free(model);
  fix_free(f);
}

Test(import, the_meaning_of_softmax_changed_at_13) {
  Fix fix, *f = &fix;
  fix_init(f);
  for (int64_t opset = 12; opset < 14; opset++) {
    Onnx__ModelProto *m = onnx_model(f, opset);
    onnx_input(f, m, "x", 1, DIMS(2, 3, 4));
    onnx_output(f, m, "y", 1, DIMS(2, 3, 4));
    onnx_node(f, m, "Softmax", "s", "x", "y");
    PareModel *model;
    MUST(f, load(f, m, "softmax.onnx", &model));
    const PareAttrs *a = &model->graph->first->attr;
    cr_expect_eq(a->axis, opset < 13 ? 1 : -1, "opset %d: axis %d", (int)opset, (int)a->axis);
    cr_expect_eq(a->flatten, opset < 13, "opset %d: flatten %d", (int)opset, (int)a->flatten);
    pare_model_free(model);
  }
  fix_free(f);
}

Test(import, an_initializer_that_is_also_an_input_is_a_constant) { /* IR version 3 */
  Fix fix, *f = &fix;
  fix_init(f);
  Onnx__ModelProto *m = add_model(f, onnx_tensor(f, "w", 1, DIMS(4), (float[]){1, 2, 3, 4}, 16));
  onnx_input(f, m, "w", 1, DIMS(4));
  PareModel *model;
  MUST(f, load(f, m, "ir3.onnx", &model));
  cr_expect_eq(model->graph->inputs.n, 1u, "%zu inputs", model->graph->inputs.n);
  cr_expect_eq(model->initializer[0]->role, PARE_CONST);
  pare_model_free(model);
  fix_free(f);
}

Test(import, memory_may_run_out_anywhere) {
  Fix fix, *f = &fix;
  fix_init(f);
  size_t len, k = 0;
  const uint8_t *bytes = onnx_pack(f, add_model(f, onnx_tensor(f, "w", 1, DIMS(4), (float[]){1, 2, 3, 4}, 16)), &len);
  PareStatus s = PARE_NOMEM;
  while (s != PARE_OK && ++k < 1000) {
    PareModel *m;
    pare_arena_fail_after(f->c.scratch, k);
    s = pare_model_load_bytes(&f->c, "m.onnx", bytes, len, &m);
    /* protobuf-c says no more than that it could not unpack */
    cr_expect(s == PARE_OK || s == PARE_NOMEM || s == PARE_FORMAT, "allocation %zu: status %d", k, s);
    if (s == PARE_OK) pare_model_free(m);
    fix_forget(f);
  }
  pare_arena_fail_after(f->c.scratch, 0);
  cr_expect_gt(k, 5u, "only %zu allocations", k);
  fix_free(f);
}
