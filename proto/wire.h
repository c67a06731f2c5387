/* wire.h - protobuf's wire format, read without copying and written field by
 * field, and the nesting of ONNX's messages as a table. The frontend splits
 * weights from structure with it; the backend edits files with it. */
#ifndef PARE_PROTO_WIRE_H
#define PARE_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

/* Field numbers of onnx.proto that are read or written by hand. */
enum {
  PARE_MODEL_IR_VERSION = 1,
  PARE_MODEL_GRAPH = 7,
  PARE_MODEL_METADATA = 14,
  PARE_GRAPH_NODE = 1,
  PARE_GRAPH_INITIALIZER = 5,
  PARE_GRAPH_INPUT = 11,
  PARE_GRAPH_OUTPUT = 12,
  PARE_GRAPH_VALUE_INFO = 13,
  PARE_GRAPH_SPARSE = 15,
  PARE_SPARSE_VALUES = 1,
  PARE_SPARSE_INDICES = 2,
  PARE_SPARSE_DIMS = 3,
  PARE_MODEL_FUNCTION = 25,
  PARE_FUNCTION_NAME = 1,
  PARE_FUNCTION_NODE = 7,
  PARE_NODE_INPUT = 1,
  PARE_NODE_OUTPUT = 2,
  PARE_NODE_NAME = 3,
  PARE_NODE_OP = 4,
  PARE_NODE_ATTRIBUTE = 5,
  PARE_NODE_DOMAIN = 7,
  PARE_ATTR_NAME = 1,
  PARE_ATTR_F = 2,
  PARE_ATTR_I = 3,
  PARE_ATTR_T = 5,
  PARE_ATTR_G = 6,
  PARE_ATTR_FLOATS = 7,
  PARE_ATTR_INTS = 8,
  PARE_ATTR_GRAPHS = 11,
  PARE_ATTR_TYPE = 20,
  PARE_TENSOR_DIMS = 1,
  PARE_TENSOR_TYPE = 2,
  PARE_TENSOR_FLOAT = 4,
  PARE_TENSOR_INT32 = 5,
  PARE_TENSOR_INT64 = 7,
  PARE_TENSOR_NAME = 8,
  PARE_TENSOR_RAW = 9,
  PARE_TENSOR_DOUBLE = 10,
  PARE_TENSOR_UINT64 = 11,
  PARE_TENSOR_EXTERNAL = 13,
  PARE_TENSOR_LOCATION = 14,
  PARE_VALUE_INFO_NAME = 1,
  PARE_VALUE_INFO_TYPE = 2,
  PARE_TYPE_TENSOR = 1,
  PARE_TYPE_TENSOR_SHAPE = 2,
  PARE_SHAPE_DIM = 1,
  PARE_DIM_VALUE = 1,
  PARE_ENTRY_KEY = 1,
  PARE_ENTRY_VALUE = 2,
};

enum { PARE_WIRE_VARINT = 0, PARE_WIRE_64 = 1, PARE_WIRE_BYTES = 2, PARE_WIRE_32 = 5 };

typedef struct PareCursor {
  const uint8_t *p, *end;
} PareCursor;

typedef struct PareField {
  uint32_t num;
  int wire;
  const uint8_t *tag;  /* the whole field is [tag, body + len) */
  const uint8_t *body; /* the payload, behind tag and length */
  size_t len;          /* of the payload */
  uint64_t value;      /* varints */
} PareField;

/* The next field of a message. False at the end and on malformed bytes; then
 * c->p == c->end holds only at a proper end. */
bool pare_wire_next(PareCursor *c, PareField *f);
static inline PareCursor pare_wire_inside(const PareField *f) { return (PareCursor){f->body, f->body + f->len}; }
/* The last field `num` of bytes in a message, which is the one that counts. False when there is none. */
bool pare_wire_find(const PareField *message, uint32_t num, PareField *out);

/* Bytes being written, in an arena. `failed` is set, and stays, when memory is out. */
typedef struct PareBuf {
  PareArena *arena;
  uint8_t *at;
  size_t n, cap;
  bool failed;
} PareBuf;

void pare_buf_put(PareBuf *b, const void *p, size_t n);
void pare_buf_varint(PareBuf *b, uint64_t v);
void pare_buf_tag(PareBuf *b, uint32_t num, int wire);
void pare_buf_field_varint(PareBuf *b, uint32_t num, uint64_t v);
void pare_buf_field_bytes(PareBuf *b, uint32_t num, const void *p, size_t n);
void pare_buf_field_str(PareBuf *b, uint32_t num, const char *s);
static inline void pare_buf_copy(PareBuf *b, const PareField *f) {
  pare_buf_put(b, f->tag, (size_t)(f->body + f->len - f->tag));
}
size_t pare_varint_size(uint64_t v);

/* What kind of message stands in a field of a message; PARE_MSG_LEAF: none that matters. */
typedef enum PareMsg {
  PARE_MSG_LEAF,
  PARE_MSG_MODEL,
  PARE_MSG_GRAPH,
  PARE_MSG_NODE,
  PARE_MSG_ATTR,
  PARE_MSG_TENSOR,
  PARE_MSG_SPARSE,
  PARE_MSG_FUNCTION,
  PARE_MSG_TRAINING,
  PARE_MSG_VALUE_INFO,
  PARE_MSG_TYPE,
  PARE_MSG_TYPE_INNER,
  PARE_MSG_TYPE_MAP,
} PareMsg;
PareMsg pare_msg_child(PareMsg parent, uint32_t field);

#endif
