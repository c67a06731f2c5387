/* fingerprint_json.h - the fingerprint of a file as inspect and the report print it. */
#ifndef PARE_BACKEND_FINGERPRINT_JSON_H
#define PARE_BACKEND_FINGERPRINT_JSON_H

#include "backend/json.h"
#include "ir/fingerprint.h"

/* {exporter, rewritten_by, producer_name, producer_version, attention: {form: count}, layernorm, gelu} */
json_t *pare_fingerprint_json(const PareFingerprint *f);

#endif
