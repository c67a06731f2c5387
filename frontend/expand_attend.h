/* expand_attend.h - what all attention ops share: heads apart and together,
 * masks, softmax(scale·q·k' + mask)·v. Tensors are [batch, heads, rows, width]. */
#ifndef PARE_FRONTEND_EXPAND_ATTEND_H
#define PARE_FRONTEND_EXPAND_ATTEND_H

#include "frontend/expand.h"

typedef struct PareAttend {
  PareValue *q, *k, *v; /* one number of heads each */
  PareValue *mask;      /* added to the scaled products; NULL: none */
  double scale;         /* 0: 1/sqrt(width) */
  double softcap;       /* 0: none; else c·tanh(product / c), before the mask */
  bool cast;            /* softmax in `precision` */
  PareDtype precision;
  /* what is made on the way to the result */
  PareValue *products, *capped, *masked, *softmax;
} PareAttend;

/* softmax(scale·q·k' + mask)·v */
PareValue *pare_expand_attend(PareExpand *x, PareAttend *a);

/* k or v repeated for the heads of q that share it: [batch, heads of q, rows, width]. */
PareValue *pare_expand_repeat(PareExpand *x, const char *role, PareValue *v, PareValue *q);

/* [batch, rows, heads·width] to [batch, heads, rows, width], `heads` being a list of one, and back. */
PareValue *pare_expand_heads(PareExpand *x, const char *role, PareValue *v, PareValue *heads);
PareValue *pare_expand_merge(PareExpand *x, PareValue *v);

/* The sum of two masks, either of which may be NULL. */
PareValue *pare_expand_masks(PareExpand *x, PareValue *a, PareValue *b);
/* Bool to number: 0 where `open`, else `fill`, of the type that `like` has. */
PareValue *pare_expand_closed(PareExpand *x, PareValue *open, PareValue *like, double fill);
/* The position of each row of q, `shift` for the first (a scalar, or [batch, 1, 1, 1]; NULL: 0): [.., rows, 1]. */
PareValue *pare_expand_rows(PareExpand *x, PareValue *q, PareValue *shift);
/* The number of each row of k: [columns]. */
PareValue *pare_expand_columns(PareExpand *x, PareValue *k);
/* 0, 1, ..., n - 1 for a scalar n. */
PareValue *pare_expand_range(PareExpand *x, PareValue *n);
PareValue *pare_expand_unsqueeze(PareExpand *x, const char *role, PareValue *v, int n, const int64_t *axes);

#endif
