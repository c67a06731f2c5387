#include "api/digest.h"

#include <openssl/evp.h>

static bool digest(EVP_MD_CTX *md, const PareModel *m, unsigned char out[32]) {
  if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL) || !EVP_DigestUpdate(md, m->file.data, m->file.len))
    return false;
  for (size_t i = 0; i < m->external.n; i++)
    if (!EVP_DigestUpdate(md, m->external.at[i].file.data, m->external.at[i].file.len)) return false;
  return EVP_DigestFinal_ex(md, out, NULL) == 1;
}

PareStatus pare_model_digest(PareCtx *c, const PareModel *m, char hex[65]) {
  static const char digits[] = "0123456789abcdef";
  unsigned char out[32];
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  bool ok = digest(md, m, out);
  EVP_MD_CTX_free(md);
  if (!ok) return pare_nomem(c);
  for (int i = 0; i < 32; i++) {
    hex[2 * i] = digits[out[i] >> 4];
    hex[2 * i + 1] = digits[out[i] & 15];
  }
  hex[64] = 0;
  return PARE_OK;
}
