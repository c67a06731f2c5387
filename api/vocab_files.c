/* vocab_files.c - the shortened vocabulary beside the model: it appears with it, or not at all. */
#include <inttypes.h>

#include "api/places.h"
#include "api/vocab.h"

PareStatus pare_vocab_place(PareCtx *c, PareArena *a, PareVocab *v, const PareCompressOptions *o, const char *out) {
  for (size_t i = 0; i < v->texts.n; i++) {
    if (!(v->path[i] = pare_arena_printf(a, "%s.%s", out, v->texts.at[i].name))) return pare_nomem(c);
    PARE_TRY(pare_place_check(c, a, o, v->path[i]));
  }
  return PARE_OK;
}

PareStatus pare_vocab_stage(PareCtx *c, PareArena *a, PareVocab *v) {
  for (size_t i = 0; i < v->texts.n; i++) {
    PARE_TRY(pare_out_open(c, a, v->path[i], &v->out[i]));
    PARE_TRY(pare_out_write(c, &v->out[i], v->texts.at[i].text, v->texts.at[i].n));
    PARE_TRY(pare_out_finish(c, &v->out[i]));
  }
  return PARE_OK;
}

PareStatus pare_vocab_commit(PareCtx *c, PareVocab *v) {
  for (size_t i = 0; i < v->texts.n; i++) PARE_TRY(pare_out_commit(c, &v->out[i]));
  return PARE_OK;
}

void pare_vocab_abort(PareVocab *v) {
  for (size_t i = 0; v && i < v->texts.n; i++) pare_out_abort(&v->out[i]);
}
