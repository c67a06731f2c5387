/* order.c - ArgMax, ArgMin and TopK: which elements along an axis are the largest.
 * Of equal ones the first counts as larger; a NaN is larger than any number. */
#include "kernels/cpu/cpu.h"

#ifndef T
typedef struct Line {
  int64_t outer, n, inner;
} Line;

static Line line_of(const PareKernelArgs *a, int64_t dflt) {
  const PareType *t = &a->in[0].type;
  if (t->rank == 0) return (Line){1, 1, 1};
  int axis = pare_axis(pare_attr_get(a->attr, axis, dflt), t->rank);
  return (Line){pare_span(t, 0, axis), t->dim[axis], pare_span(t, axis + 1, t->rank)};
}

#define PARE_TEMPLATE "kernels/cpu/order.c"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/ints.h"
#include "kernels/cpu/otherints.h"

#define PARE_ORDER(ID, f) \
  PareStatus PARE_CPU(ID)(PareKernelArgs *a) { return pare_call(PARE_PICK_ANY(a->in[0].type.dtype, f), a); }
PARE_ORDER(ARGMAX, arg_max)
PARE_ORDER(ARGMIN, arg_min)
PARE_ORDER(TOPK, top_k)

#else /* the template */
static inline bool FN(before)(C x, C y, bool largest) {
  if (PICK(x != x || y != y, false)) return PICK(largest ? x != x && y == y : x == x && y != y, false);
  return largest ? x > y : x < y;
}

static PareStatus FN(arg_extreme)(PareKernelArgs *a, bool largest) {
  Line l = line_of(a, 0);
  bool last = a->attr->select_last_index != 0;
  if (l.n == 0 && l.outer * l.inner > 0) return pare_bad(a, "the axis is empty: none of its elements is the largest");
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < l.outer * l.inner; i++) {
    const T *x = (const T *)a->in[0].data + i / l.inner * l.n * l.inner + i % l.inner;
    int64_t best = 0;
    for (int64_t j = 1; j < l.n; j++) {
      C v = LOAD(x[j * l.inner]), b = LOAD(x[best * l.inner]);
      if (FN(before)(v, b, largest) || (last && v == b)) best = j;
    }
    ((int64_t *)a->out[0].data)[i] = best;
  }
  return PARE_OK;
}
static PareStatus FN(arg_max)(PareKernelArgs *a) { return FN(arg_extreme)(a, true); }
static PareStatus FN(arg_min)(PareKernelArgs *a) { return FN(arg_extreme)(a, false); }

/* The k best so far stand in order in the output; a better one is moved up to its place. */
static void FN(top_line)(const T *x, int64_t n, int64_t step, int64_t k, bool largest, T *y, int64_t *index) {
  for (int64_t j = 0, have = 0; j < n; j++) {
    C v = LOAD(x[j * step]);
    if (have == k && !FN(before)(v, LOAD(y[(k - 1) * step]), largest)) continue;
    int64_t at = have < k ? have++ : k - 1;
    for (; at > 0 && FN(before)(v, LOAD(y[(at - 1) * step]), largest); at--) {
      y[at * step] = y[(at - 1) * step];
      if (index) index[at * step] = index[(at - 1) * step];
    }
    y[at * step] = x[j * step];
    if (index) index[at * step] = j;
  }
}

static PareStatus FN(top_k)(PareKernelArgs *a) {
  Line l = line_of(a, -1);
  const PareType *t = &a->out[0].type;
  int64_t k = t->rank ? t->dim[pare_axis(pare_attr_get(a->attr, axis, -1), t->rank)] : 1;
  bool largest = pare_attr_get(a->attr, largest, 1) != 0;
#pragma omp parallel for schedule(static) if (pare_threaded(l.outer * l.n * l.inner))
  for (int64_t i = 0; i < (k ? l.outer * l.inner : 0); i++) {
    int64_t at = i / l.inner * k * l.inner + i % l.inner;
    FN(top_line)((const T *)a->in[0].data + i / l.inner * l.n * l.inner + i % l.inner, l.n, l.inner, k, largest,
                 (T *)a->out[0].data + at, pare_wanted(a, 1) ? (int64_t *)a->out[1].data + at : NULL);
  }
  return PARE_OK;
}
#endif
