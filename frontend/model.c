/* model.c - opens a model: map, split, unpack, import. */
#include "frontend/model.h"

#include <stdlib.h>
#include <string.h>

#include "frontend/import.h"
#include "frontend/split.h"
#include "frontend/tensor.h"

/* protobuf-c allocates in the arena that it is given and never frees there. */
static void *arena_alloc(void *arena, size_t n) { return pare_arena_alloc(arena, n, 1); }
static void arena_free(void *arena, void *p) { (void)arena, (void)p; }

/* `from` NULL: the file at m->path. The message lives in `a`. */
static PareStatus unpack(PareCtx *c, PareModel *m, const PareFile *from, PareArena *a, Onnx__ModelProto **out) {
  if (from) m->file = *from;
  else PARE_TRY(pare_file_map(c, m->path, &m->file));
  if (!m->file.len) return pare_error(c, PARE_FORMAT, "the file is empty");
  uint8_t *thin;
  size_t len;
  PARE_TRY(pare_split(c, c->scratch, m->file.data, m->file.len, &thin, &len));
  ProtobufCAllocator alloc = {arena_alloc, arena_free, a};
  *out = onnx__model_proto__unpack(&alloc, len, thin);
  return *out ? PARE_OK : pare_error(c, PARE_FORMAT, "not an ONNX model (protobuf refuses it)");
}

/* Imports it, or hands out the message where `proto` is given. */
static PareStatus load_from(PareCtx *c, const char *path, const PareFile *from, PareModel **out,
                            const Onnx__ModelProto **proto) {
  PareArena *a = pare_arena_new(1 << 16);
  PareModel *m = a ? PARE_NEW(a, PareModel) : NULL;
  if (!m || !(m->path = pare_arena_strdup(a, path))) {
    pare_arena_free(a);
    return pare_nomem(c);
  }
  m->arena = a;
  PareMark mark = pare_arena_mark(c->scratch);
  const char *outer = c->file;
  c->file = path;
  Onnx__ModelProto *p;
  PareStatus s = unpack(c, m, from, proto ? a : c->scratch, &p);
  if (s == PARE_OK && proto) *proto = p;
  else if (s == PARE_OK) s = pare_import(c, m, p);
  c->file = outer;
  pare_arena_rewind(c->scratch, mark);
  if (s == PARE_OK) *out = m;
  else pare_model_free(m);
  return s;
}

PareStatus pare_model_load(PareCtx *c, const char *path, PareModel **out) {
  return load_from(c, path, NULL, out, NULL);
}

PareStatus pare_model_open(PareCtx *c, const char *path, PareModel **out, const Onnx__ModelProto **proto) {
  return load_from(c, path, NULL, out, proto);
}

PareStatus pare_model_load_bytes(PareCtx *c, const char *path, const void *data, size_t len, PareModel **out) {
  PareFile borrowed = {data, len, -1};
  return load_from(c, path, &borrowed, out, NULL);
}

void pare_model_free(PareModel *m) {
  if (!m) return;
  for (size_t i = 0; i < m->external.n; i++) pare_file_unmap(&m->external.at[i].file);
  if (m->file.fd >= 0) pare_file_unmap(&m->file); /* else borrowed */
  pare_arena_free(m->arena);
}

void pare_model_tell(const PareCtx *c, const PareModel *m) {
  if (!m->opaque.n) return;
  const PareOpaque *o = &m->opaque.at[0];
  pare_log(c, 0, "%s: node '%s' (%s) is of an op that pare does not know: %zu nodes, it and what depends on it, stay as "
           "they are; outputs are judged at what they read", m->path, o->node, o->op, m->nleft_out);
}

size_t pare_model_bytes(const PareModel *m) {
  size_t n = m->file.len;
  for (size_t i = 0; i < m->external.n; i++) n += m->external.at[i].file.len;
  return n;
}

static PareStatus tensor_load(PareCtx *c, PareModel *m, const char *path, PareTensorFile *out) {
  PARE_TRY(pare_file_map(c, path, &m->file));
  ProtobufCAllocator alloc = {arena_alloc, arena_free, m->arena};
  Onnx__TensorProto *t = onnx__tensor_proto__unpack(&alloc, m->file.len, m->file.data);
  if (!t) return pare_error(c, PARE_FORMAT, "not a TensorProto");
  PareRange r = {0, t->raw_data.len}; /* the reader below takes raw data as a range of the mapping */
  const uint8_t *raw = t->raw_data.data;
  if (t->has_raw_data) t->raw_data = (ProtobufCBinaryData){sizeof r, (uint8_t *)&r};
  const void *data;
  PARE_TRY(pare_tensor_read(c, m, t, t->name && *t->name ? t->name : path, &out->type, &data));
  out->name = t->name ? t->name : "";
  size_t bytes;
  void *copy = pare_type_bytes(&out->type, &bytes) ? pare_arena_alloc(m->arena, bytes + 1, 1) : NULL;
  if (!copy) return pare_nomem(c);
  if (bytes) memcpy(copy, t->has_raw_data ? raw : data, bytes);
  out->data = copy;
  return PARE_OK;
}

PareStatus pare_tensor_load(PareCtx *c, PareArena *a, const char *path, PareTensorFile *out) {
  PareModel m = {.arena = a, .path = path};
  const char *outer = c->file;
  c->file = path;
  PareStatus s = tensor_load(c, &m, path, out);
  c->file = outer;
  for (size_t i = 0; i < m.external.n; i++) pare_file_unmap(&m.external.at[i].file);
  pare_file_unmap(&m.file);
  return s;
}
