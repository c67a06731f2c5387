/* fingerprint_json.c - a fingerprint as a JSON object. */
#include "backend/fingerprint_json.h"

#include <string.h>

static json_t *forms_json(const PareFingerprint *f, const char *kind) {
  json_t *o = json_object();
  for (size_t i = 0; i < f->nforms; i++)
    if (!strcmp(f->forms[i].kind, kind))
      json_object_set_new(o, f->forms[i].form, json_integer((json_int_t)f->forms[i].count));
  return o;
}

json_t *pare_fingerprint_json(const PareFingerprint *f) {
  json_t *rewriters = json_array();
  for (size_t i = 0; i < f->nrewriters; i++) json_array_append_new(rewriters, pare_json_text(f->rewriters[i]));
  return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "exporter",
                   f->exporter ? pare_json_text(f->exporter) : json_null(), "rewritten_by", rewriters, "producer_name",
                   pare_json_text(f->producer), "producer_version", pare_json_text(f->version), "attention",
                   forms_json(f, "attention"), "layernorm", forms_json(f, "layernorm"), "gelu", forms_json(f, "gelu"));
}
