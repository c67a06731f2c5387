#include "api/digest.h"

#include <omp.h>
#include <openssl/evp.h>

static bool digest(EVP_MD_CTX *md, const PareModel *m, unsigned char out[32]) {
  if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL) || !EVP_DigestUpdate(md, m->file.data, m->file.len))
    return false;
  for (size_t i = 0; i < m->external.n; i++)
    if (!EVP_DigestUpdate(md, m->external.at[i].file.data, m->external.at[i].file.len)) return false;
  return EVP_DigestFinal_ex(md, out, NULL) == 1;
}

static void *work(void *arg) {
  PareDigest *d = arg;
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  d->ok = digest(md, d->model, d->sum);
  EVP_MD_CTX_free(md);
  return NULL;
}

void pare_digest_begin(PareDigest *d, const PareModel *m) {
  *d = (PareDigest){.model = m};
  d->beside = omp_get_max_threads() > 1 && pthread_create(&d->thread, NULL, work, d) == 0;
}

void pare_digest_leave(PareDigest *d) {
  if (d->beside) (void)pthread_join(d->thread, NULL);
  d->beside = false;
}

PareStatus pare_digest_end(PareCtx *c, PareDigest *d, char hex[65]) {
  static const char digits[] = "0123456789abcdef";
  if (d->beside) pare_digest_leave(d);
  else work(d);
  if (!d->ok) return pare_nomem(c);
  for (int i = 0; i < 32; i++) {
    hex[2 * i] = digits[d->sum[i] >> 4];
    hex[2 * i + 1] = digits[d->sum[i] & 15];
  }
  hex[64] = 0;
  return PARE_OK;
}
