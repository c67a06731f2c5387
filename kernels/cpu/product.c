/* product.c - makes, describes and runs oneDNN matmul primitives. */
#include "kernels/cpu/product.h"

#include <oneapi/dnnl/dnnl.h>

#include "base/arena.h"

enum { A, B, C, BIAS, SCRATCH, NMEM };

struct PareProduct {
  PareArena *arena; /* holds this struct */
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_t matmul;
  dnnl_memory_t memory[NMEM];
  bool bias;
  size_t scratch;
  PareOrder order;
};

void PARE_CPU(product_free)(PareProduct *p) {
  if (!p) return;
  for (int i = 0; i < NMEM; i++)
    if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
  if (p->matmul) dnnl_primitive_destroy(p->matmul);
  if (p->stream) dnnl_stream_destroy(p->stream);
  if (p->engine) dnnl_engine_destroy(p->engine);
  pare_arena_free(p->arena);
}

static dnnl_data_type_t type_of(PareDtype d) { return d == PARE_BF16 ? dnnl_bf16 : dnnl_f32; }

/* An axis of one element may have any stride, and oneDNN's cache of primitives takes descriptions that differ in that
 * alone for the same, though it makes other primitives of them, which round otherwise: what a process made before would
 * show in results. Each gets the one stride that follows from the others: a matrix is row-major unless its columns say no. */
static int64_t stride_of_one(const PareView *v, int axis, int64_t inner) {
  int last = v->rank - 1;
  bool column_major = axis == last - 1 && v->dim[last] > 1 && v->stride[last] != 1;
  return column_major ? 1 : inner;
}

static bool describe(dnnl_memory_desc_t *md, const PareView *v, bool any) {
  dnnl_dims_t dims, strides;
  int64_t inner = 1; /* past all that lies behind the axis */
  for (int i = v->rank - 1; i >= 0; i--) {
    dims[i] = v->dim[i];
    strides[i] = v->dim[i] == 1 ? stride_of_one(v, i, inner) : v->stride[i];
    if (strides[i] * dims[i] > inner) inner = strides[i] * dims[i];
  }
  dnnl_data_type_t type = type_of(v->dtype);
  if (any) return dnnl_memory_desc_init_by_tag(md, v->rank, dims, type, dnnl_format_tag_any) == dnnl_success;
  return dnnl_memory_desc_init_by_strides(md, v->rank, dims, type, strides) == dnnl_success;
}

/* [K, N] row-major, or in blocks kb@k nb@n, or kb@k nb@n pair@k; anything else cannot be told. */
static bool read_order(const dnnl_memory_desc_t *md, PareOrder *o) {
  const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
  if (md->format_kind != dnnl_blocked || md->ndims != 2 || md->offset0 != 0) return false;
  int64_t size = (int64_t)(dnnl_memory_desc_get_size(md) / dnnl_data_type_size(md->data_type));
  int64_t ks = b->strides[0], ns = b->strides[1];
  int n = b->inner_nblks;
  *o = (PareOrder){16, PARE_BLOCK, 1, 16 * ks, PARE_BLOCK * ns, ks, ns, size, false};
  if (n == 0) return true;
  if (n < 2 || n > 3 || b->inner_idxs[0] != 0 || b->inner_idxs[1] != 1 || (n == 3 && b->inner_idxs[2] != 0))
    return false;
  int64_t pair = n == 3 ? b->inner_blks[2] : 1, nb = b->inner_blks[1];
  *o = (PareOrder){b->inner_blks[0] * pair, nb, pair, ks, ns, nb * pair, pair, size, true};
  return o->kb <= PARE_BLOCK && nb <= PARE_BLOCK && pair <= 2;
}

static bool set_attr(const PareProductSpec *s, dnnl_primitive_attr_t attr, dnnl_post_ops_t ops) {
  float alpha = (float)s->alpha;
  return dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
         (alpha == 1 || dnnl_primitive_attr_set_output_scales(attr, 1, 0, &alpha) == dnnl_success) &&
         (s->beta == 0 || (dnnl_post_ops_append_sum(ops, (float)s->beta) == dnnl_success &&
                           dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success));
}

static bool make_memory(PareProduct *p, dnnl_primitive_desc_t pd, bool packed) {
  static const dnnl_query_t what[NMEM] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md,
                                          dnnl_query_weights_md, dnnl_query_scratchpad_md};
  for (int i = 0; i < NMEM; i++) {
    if (i == BIAS && !p->bias) continue;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, what[i], i == BIAS);
    if (!md || dnnl_memory_create(&p->memory[i], md, p->engine, DNNL_MEMORY_NONE) != dnnl_success) return false;
    if (i == B && packed && !read_order(md, &p->order)) return false;
    if (i == SCRATCH) p->scratch = dnnl_memory_desc_get_size(md);
  }
  return true;
}

/* oneDNN's reference code takes any shape and is a hundred times slower. */
static bool is_fast(dnnl_primitive_desc_t pd) {
  const char *name = NULL;
  dnnl_status_t s = dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
  return s == dnnl_success && name && !strstr(name, "ref");
}

static bool make_primitive(PareProduct *p, const PareProductSpec *s) {
  dnnl_memory_desc_t a, b, c, bias;
  dnnl_matmul_desc_t desc;
  PareView row = {PARE_F32, s->c.rank, {0}, {0}};
  for (int i = 0; i < row.rank; i++) row.dim[i] = 1, row.stride[i] = s->c.dim[s->c.rank - 1];
  row.dim[row.rank - 1] = s->c.dim[s->c.rank - 1], row.stride[row.rank - 1] = 1;
  if (!describe(&a, &s->a, false) || !describe(&b, &s->b, s->packed) || !describe(&c, &s->c, false) ||
      !describe(&bias, &row, false) ||
      dnnl_matmul_desc_init(&desc, &a, &b, s->bias ? &bias : NULL, &c) != dnnl_success)
    return false;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_post_ops_t ops = NULL;
  dnnl_primitive_desc_t pd = NULL;
  bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success && dnnl_post_ops_create(&ops) == dnnl_success &&
            set_attr(s, attr, ops) && dnnl_primitive_desc_create(&pd, &desc, attr, p->engine, NULL) == dnnl_success &&
            is_fast(pd) && dnnl_primitive_create(&p->matmul, pd) == dnnl_success && make_memory(p, pd, s->packed);
  if (pd) dnnl_primitive_desc_destroy(pd);
  if (ops) dnnl_post_ops_destroy(ops);
  if (attr) dnnl_primitive_attr_destroy(attr);
  return ok;
}

PareStatus PARE_CPU(product_new)(const PareProductSpec *spec, PareProduct **out) {
  *out = NULL;
  PareArena *arena = pare_arena_new(sizeof(PareProduct) + 256);
  PareProduct *p = arena ? PARE_NEW(arena, PareProduct) : NULL;
  if (!p) return pare_arena_free(arena), PARE_NOMEM;
  p->arena = arena;
  p->bias = spec->bias;
  int threads = omp_get_max_threads();
  if (spec->alone) omp_set_num_threads(1); /* a primitive divides its work when it is made */
  bool ok = dnnl_engine_create(&p->engine, dnnl_cpu, 0) == dnnl_success &&
            dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) == dnnl_success &&
            make_primitive(p, spec);
  if (spec->alone) omp_set_num_threads(threads);
  if (!ok) return PARE_CPU(product_free)(p), PARE_UNSUPPORTED;
  *out = p;
  return PARE_OK;
}

size_t PARE_CPU(product_scratch)(const PareProduct *p) { return p->scratch; }
PareOrder PARE_CPU(product_order)(const PareProduct *p) { return p->order; }

PareStatus PARE_CPU(product_run)(PareProduct *p, const void *a, const void *b, const void *bias, void *c,
                                 void *scratch) {
  static const int arg[NMEM] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS, DNNL_ARG_SCRATCHPAD};
  const void *data[NMEM] = {a, b, c, bias, scratch};
  dnnl_exec_arg_t exec[NMEM];
  int n = 0;
  for (int i = 0; i < NMEM; i++) {
    if (!p->memory[i]) continue;
    /* oneDNN takes inputs as void * too; it does not write to them */
    if (dnnl_memory_set_data_handle(p->memory[i], (void *)(uintptr_t)data[i]) != dnnl_success) return PARE_DEVICE;
    exec[n++] = (dnnl_exec_arg_t){arg[i], p->memory[i]};
  }
  bool ok = dnnl_primitive_execute(p->matmul, p->stream, n, exec) == dnnl_success &&
            dnnl_stream_wait(p->stream) == dnnl_success;
  return ok ? PARE_OK : PARE_DEVICE;
}
