/* eltwise.cu - two operands and Where, with broadcasting: arithmetic, comparison, logic, Pow. One row an op in the
 * tables; the row is chosen inside of the kernel, since all wait for memory alike. */
#include "kernels/cuda/rows.cuh"

/* op, of floats, of integers (which wrap around; other types than i64 and i32 are eltwise_int.cu's). Min and Max pass a NaN
 * on; Mod has the divisor's sign, FMod the dividend's. */
#define ARITHMETIC(X)                                    \
  X(ADD, x + y, (C)((U)x + (U)y))                        \
  X(SUB, x - y, (C)((U)x - (U)y))                        \
  X(MUL, x * y, (C)((U)x * (U)y))                        \
  X(DIV, x / y, y == -1 ? (C)(0 - (U)x) : y ? x / y : 0) \
  X(MOD, float_modulo(x, y), int_modulo(x, y))           \
  X(FMOD, fmod(x, y), y == -1 || !y ? 0 : x % y)         \
  X(PRELU, x < 0 ? x * y : x, x < 0 ? (C)((U)x * (U)y) : x) \
  X(MIN, x < y || x != x ? x : y, x < y ? x : y)         \
  X(MAX, x > y || x != x ? x : y, x > y ? x : y)
#define COMPARE(X)        \
  X(EQUAL, x == y)        \
  X(LESS, x < y)          \
  X(LESSEQ, x <= y)       \
  X(GREATER, x > y)       \
  X(GREATEREQ, x >= y)    \
  X(AND, x && y)          \
  X(OR, x || y)           \
  X(XOR, !x != !y)

template <class C> static __device__ inline C float_modulo(C x, C y) {
  C r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
template <class C> static __device__ inline C int_modulo(C x, C y) {
  C r = y == -1 || !y ? 0 : x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}
template <class T> static __device__ inline PARE_C arithmetic_of(int op, PARE_C x, PARE_C y) {
  typedef PARE_C C;
  if constexpr (PareNum<T>::integer) {
    typedef typename PareNum<T>::U U;
    switch (op) {
#define X(id, f, i) \
  case PARE_OP_##id: return i;
      ARITHMETIC(X)
#undef X
    }
  } else {
    switch (op) {
#define X(id, f, i) \
  case PARE_OP_##id: return f;
      ARITHMETIC(X)
#undef X
    }
  }
  return (C)0;
}
static __host__ __device__ inline bool divides(int op) {
  return op == PARE_OP_DIV || op == PARE_OP_MOD || op == PARE_OP_FMOD;
}
template <class C> static __device__ inline uint8_t compare_of(int op, C x, C y) {
  switch (op) {
#define X(id, cond) \
  case PARE_OP_##id: return cond;
    COMPARE(X)
#undef X
  }
  return 0;
}

/* All three alike: n/N packs, and the rest one by one. */
template <class T> static __global__ void arithmetic_flat(int op, int64_t n, const T *x, const T *y, T *z) {
  typedef ParePack<T> Pack;
  int64_t packs = n / Pack::N;
  PARE_EACH(i, packs) {
    Pack p = ((const Pack *)x)[i], q = ((const Pack *)y)[i];
    for (int k = 0; k < Pack::N; k++)
      p.at[k] = pare_store<T>(arithmetic_of<T>(op, pare_load(p.at[k]), pare_load(q.at[k])));
    ((Pack *)z)[i] = p;
  }
  PARE_EACH(i, n - packs * Pack::N) {
    int64_t k = packs * Pack::N + i;
    z[k] = pare_store<T>(arithmetic_of<T>(op, pare_load(x[k]), pare_load(y[k])));
  }
}

template <class T>
static __global__ void arithmetic(int op, PareWalk w, int64_t n, const T *x, const T *y, T *z, uint32_t *fault) {
  PARE_EACH(i, n) {
    int64_t off[2] = {0, 0};
    pare_walk_at<2>(w, i, off);
    PARE_C u = pare_load(x[off[0]]), v = pare_load(y[off[1]]);
    if (PareNum<T>::integer && divides(op) && v == 0) *fault = PARE_FAULT_DIVISION;
    z[i] = pare_store<T>(arithmetic_of<T>(op, u, v));
  }
}

/* The same by packs, at the places of a walk over packs. */
template <class T>
static __global__ void arithmetic_packs(int op, PareWalk w, int64_t packs, const T *x, const T *y, T *z) {
  typedef ParePack<T> Pack;
  PARE_EACH(i, packs) {
    int64_t off[2] = {0, 0};
    pare_walk_at<2>(w, i, off);
    Pack p = ((const Pack *)x)[off[0]], q = ((const Pack *)y)[off[1]];
    for (int k = 0; k < Pack::N; k++)
      p.at[k] = pare_store<T>(arithmetic_of<T>(op, pare_load(p.at[k]), pare_load(q.at[k])));
    ((Pack *)z)[i] = p;
  }
}

static bool alike(const PareWalk *w) {
  return w->rank == 0 || (w->rank == 1 && w->axis[0].stride[0] == 1 && w->axis[0].stride[1] == 1);
}

/* Makes w a walk over packs of `each` elements of both operands, of which there are n in all; false where they do not lie
 * in packs: each must be whole along the innermost axis, and repeats along others alone. */
static bool walk_packs(PareWalk *w, int64_t n, int64_t each) {
  if (w->rank == 0) return false;
  PareAxis *last = &w->axis[w->rank - 1];
  if (last->stride[0] != 1 || last->stride[1] != 1 || last->dim % each) return false;
  for (int i = 0; i < w->rank - 1; i++)
    for (int j = 0; j < 2; j++) {
      if (w->axis[i].stride[j] % each) return false;
      w->axis[i].stride[j] /= each;
    }
  last->dim /= each;
  pare_walk_end(w, n / each);
  return true;
}

/* Integers of other types than an index's. */
static bool is_other_integer(const PareTensor *t) { return pare_dtype_is_int(t->type.dtype) && !pare_is_index(t); }

static PareStatus binary(PareKernelArgs *a, int op, const PareTensor *x, const PareTensor *y) {
  const PareTensor *z = &a->out[0];
  if (is_other_integer(x)) return pare_cuda_integers(a, op, x, y);
  PareTensor in[2] = {*x, *y};
  int64_t n = pare_count(z);
  cudaStream_t stream = pare_cuda(a)->stream;
  PareWalk w = pare_walk_broadcast(z, 2, in);
  bool aligned = pare_aligned(x->data) && pare_aligned(y->data) && pare_aligned(z->data);
  if (!n) return PARE_OK;
  return pare_by_number(a, x->type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PareWalk packs = w;
    bool checked = PareNum<T>::integer && divides(op); /* for division by zero */
    if (aligned && !checked && !alike(&w) && walk_packs(&packs, n, ParePack<T>::N))
      PARE_LAUNCH(arithmetic_packs<T>, pare_blocks(a, n, PARE_THREADS * ParePack<T>::N), PARE_THREADS, 0, stream,
                  op, packs, n / ParePack<T>::N, (const T *)x->data, (const T *)y->data, (T *)z->data);
    else if (aligned && !checked && alike(&w))
      PARE_LAUNCH(arithmetic_flat<T>, pare_blocks(a, n, PARE_THREADS * ParePack<T>::N), PARE_THREADS, 0, stream,
                  op, n, (const T *)x->data, (const T *)y->data, (T *)z->data);
    else
      PARE_LAUNCH(arithmetic<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, stream, op, w, n,
                  (const T *)x->data, (const T *)y->data, (T *)z->data, a->fault);
    return pare_launched(a);
  });
}
/* --- many at once, those that are all alike and not broadcast --- */
struct Pair {
  const void *x, *y;
  void *z;
  int64_t n;
  int type;
};
static __global__ void arithmetic_rows(int op, const __grid_constant__ PareTable<Pair> t) {
  PareShare s = pare_share(t);
  const Pair &r = t.at[s.row];
  pare_as_float(r.type, [&](auto zero) {
    typedef decltype(zero) T;
    const T *x = (const T *)r.x, *y = (const T *)r.y;
    PARE_EACH_SHARED(i, r.n, s) ((T *)r.z)[i] = pare_store<T>(arithmetic_of<T>(op, pare_load(x[i]), pare_load(y[i])));
  });
}
static bool is_flat(const PareKernelArgs *a) {
  PareWalk w = pare_walk_broadcast(&a->out[0], 2, a->in);
  return alike(&w) && pare_is_float(&a->in[0]);
}
static PareStatus many(PareKernelArgs *const *a, int n, PareOp op) {
  for (int i = 0; i < n; i++)
    if (!is_flat(a[i])) PARE_TRY(binary(a[i], op, &a[i]->in[0], &a[i]->in[1]));
  return pare_each_table<Pair>(
      n,
      [&](int64_t i, Pair *r) {
        const PareTensor *in = a[i]->in;
        *r = {in[0].data, in[1].data, a[i]->out[0].data, pare_count(&a[i]->out[0]), (int)in[0].type.dtype};
        return is_flat(a[i]) ? pare_row_blocks(a[i], r->n) : 0;
      },
      [&](const PareTable<Pair> &t, int64_t blocks) {
        PARE_LAUNCH(arithmetic_rows, blocks, PARE_THREADS, 0, pare_cuda(a[0])->stream, (int)op, t);
        return pare_launched(a[0]);
      });
}
PareStatus pare_cuda_many_ADD(PareKernelArgs *const *a, int n) { return many(a, n, PARE_OP_ADD); }
PareStatus pare_cuda_many_MUL(PareKernelArgs *const *a, int n) { return many(a, n, PARE_OP_MUL); }

PareStatus pare_cuda_ADD(PareKernelArgs *a) { return binary(a, PARE_OP_ADD, &a->in[0], &a->in[1]); }
PareStatus pare_cuda_SUB(PareKernelArgs *a) { return binary(a, PARE_OP_SUB, &a->in[0], &a->in[1]); }
PareStatus pare_cuda_MUL(PareKernelArgs *a) { return binary(a, PARE_OP_MUL, &a->in[0], &a->in[1]); }
PareStatus pare_cuda_DIV(PareKernelArgs *a) { return binary(a, PARE_OP_DIV, &a->in[0], &a->in[1]); }
PareStatus pare_cuda_MOD(PareKernelArgs *a) {
  return binary(a, a->attr->fmod ? (int)PARE_OP_FMOD : (int)PARE_OP_MOD, &a->in[0], &a->in[1]);
}
PareStatus pare_cuda_PRELU(PareKernelArgs *a) { return binary(a, PARE_OP_PRELU, &a->in[0], &a->in[1]); }

/* Any number of operands, folded from the left into the output. */
static PareStatus fold(PareKernelArgs *a, PareOp op) {
  if (a->nin == 1) return pare_cuda_expand(a, &a->out[0], &a->in[0]);
  PARE_TRY(binary(a, op, &a->in[0], &a->in[1]));
  for (int i = 2; i < a->nin; i++) PARE_TRY(binary(a, op, &a->out[0], &a->in[i]));
  return PARE_OK;
}
PareStatus pare_cuda_MIN(PareKernelArgs *a) { return fold(a, PARE_OP_MIN); }
PareStatus pare_cuda_MAX(PareKernelArgs *a) { return fold(a, PARE_OP_MAX); }
PareStatus pare_cuda_SUM(PareKernelArgs *a) { return fold(a, PARE_OP_ADD); }

/* The output, a sum of `parts` operands, becomes their mean. */
template <class T> static __global__ void part_of(int64_t n, int parts, T *z) {
  PARE_EACH(i, n) z[i] = pare_store<T>(pare_load(z[i]) / (PARE_C)parts);
}
PareStatus pare_cuda_MEAN(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  PARE_TRY(fold(a, PARE_OP_ADD));
  if (!n) return PARE_OK;
  return pare_by_float(a, a->out[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(part_of<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, n, a->nin,
                (T *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- comparison and logic --- */

template <class T>
static __global__ void compare(int op, PareWalk w, int64_t n, const T *x, const T *y, uint8_t *z) {
  PARE_EACH(i, n) {
    int64_t off[2] = {0, 0};
    pare_walk_at<2>(w, i, off);
    if constexpr (sizeof(T) == 1) z[i] = compare_of<int>(op, x[off[0]], y[off[1]]);
    else z[i] = compare_of<PARE_C>(op, pare_load(x[off[0]]), pare_load(y[off[1]]));
  }
}

template <class T> static PareStatus compare_run(PareKernelArgs *a, PareOp op) {
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  PareWalk w = pare_walk_broadcast(&a->out[0], 2, a->in);
  PARE_LAUNCH(compare<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, op, w, n,
              (const T *)a->in[0].data, (const T *)a->in[1].data, (uint8_t *)a->out[0].data);
  return pare_launched(a);
}
static PareStatus comparison(PareKernelArgs *a, PareOp op) {
  if (is_other_integer(&a->in[0])) return pare_cuda_integers(a, op, &a->in[0], &a->in[1]);
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) { return compare_run<decltype(zero)>(a, op); });
}
static PareStatus logic(PareKernelArgs *a, PareOp op) {
  return a->in[0].type.dtype == PARE_BOOL ? compare_run<uint8_t>(a, op) : pare_bad_type(a);
}
PareStatus pare_cuda_EQUAL(PareKernelArgs *a) {
  return pare_esize(&a->in[0]) == 1 ? compare_run<uint8_t>(a, PARE_OP_EQUAL) : comparison(a, PARE_OP_EQUAL);
}
PareStatus pare_cuda_LESS(PareKernelArgs *a) { return comparison(a, PARE_OP_LESS); }
PareStatus pare_cuda_LESSEQ(PareKernelArgs *a) { return comparison(a, PARE_OP_LESSEQ); }
PareStatus pare_cuda_GREATER(PareKernelArgs *a) { return comparison(a, PARE_OP_GREATER); }
PareStatus pare_cuda_GREATEREQ(PareKernelArgs *a) { return comparison(a, PARE_OP_GREATEREQ); }
PareStatus pare_cuda_AND(PareKernelArgs *a) { return logic(a, PARE_OP_AND); }
PareStatus pare_cuda_OR(PareKernelArgs *a) { return logic(a, PARE_OP_OR); }
PareStatus pare_cuda_XOR(PareKernelArgs *a) { return logic(a, PARE_OP_XOR); }

/* --- Where: elements of any type, told apart by size alone --- */

template <class E>
static __global__ void where(PareWalk w, int64_t n, const uint8_t *c, const E *x, const E *y, E *z) {
  PARE_EACH(i, n) {
    int64_t off[3] = {0, 0, 0};
    pare_walk_at<3>(w, i, off);
    z[i] = c[off[0]] ? x[off[1]] : y[off[2]];
  }
}
PareStatus pare_cuda_WHERE(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  if (!n) return PARE_OK;
  PareWalk w = pare_walk_broadcast(&a->out[0], 3, a->in);
  return pare_by_size(a, pare_esize(&a->out[0]), [&](auto zero) {
    typedef decltype(zero) E;
    PARE_LAUNCH(where<E>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const uint8_t *)a->in[0].data, (const E *)a->in[1].data, (const E *)a->in[2].data,
                (E *)a->out[0].data);
    return pare_launched(a);
  });
}

/* --- Pow: the result has the base's type, the exponent any number type --- */

/* x^e modulo 2^width; a negative exponent gives the truncated quotient 1/x^|e|. */
template <class T> static __device__ inline T int_power(T x, int64_t e) {
  if (e < 0) return x == 1 ? 1 : x == -1 ? (e % 2 ? -1 : 1) : 0;
  typename PareNum<T>::U r = 1, b = (typename PareNum<T>::U)x;
  for (; e; e >>= 1, b *= b)
    if (e & 1) r *= b;
  return (T)r;
}
template <class T> static __device__ inline T power_of(T x, double e, bool whole) {
  if constexpr (PareNum<T>::integer) {
    typedef typename PareNum<T>::U U;
    double lo = sizeof(T) == 8 ? -0x1p63 : -0x1p31, hi = -lo;
    if (whole || e == floor(e)) return int_power<T>(x, (int64_t)fmin(fmax(e, -0x1p62), 0x1p62));
    double v = pow((double)x, e);
    if (v >= hi) return (T)(~(U)0 >> 1);
    return v > lo ? (T)v : v == v ? (T)((U)1 << (sizeof(T) * 8 - 1)) : 0;
  } else {
    PARE_C b = pare_load(x);
    if (e == 2) return pare_store<T>(b * b);
    if (e == 3) return pare_store<T>(b * b * b);
    if (e == 0.5) return pare_store<T>(sqrt(b));
    return pare_store<T>((PARE_C)pow((double)b, e));
  }
}
template <class T>
static __global__ void power(PareWalk w, int64_t n, const T *x, const void *e, int etype, T *z) {
  bool whole = etype == PARE_I64 || etype == PARE_I32;
  PARE_EACH(i, n) {
    int64_t off[2] = {0, 0};
    pare_walk_at<2>(w, i, off);
    double v = whole ? (double)pare_get_int(e, etype, off[1]) : pare_get_float(e, etype, off[1]);
    z[i] = power_of<T>(x[off[0]], v, whole);
  }
}
PareStatus pare_cuda_POW(PareKernelArgs *a) {
  int64_t n = pare_count(&a->out[0]);
  PareDtype e = a->in[1].type.dtype;
  bool fits = pare_is_index(&a->in[1]) || e == PARE_F32 || e == PARE_F64 || e == PARE_BF16;
  if (!fits) return pare_bad_type(a);
  if (!n) return PARE_OK;
  PareWalk w = pare_walk_broadcast(&a->out[0], 2, a->in);
  return pare_by_number(a, a->in[0].type.dtype, [&](auto zero) {
    typedef decltype(zero) T;
    PARE_LAUNCH(power<T>, pare_blocks(a, n, PARE_THREADS), PARE_THREADS, 0, pare_cuda(a)->stream, w, n,
                (const T *)a->in[0].data, (const void *)a->in[1].data, (int)e, (T *)a->out[0].data);
    return pare_launched(a);
  });
}
