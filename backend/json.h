/* json.h - what jansson leaves to its caller: text that is not UTF-8, numbers
 * that are none. */
#ifndef PARE_BACKEND_JSON_H
#define PARE_BACKEND_JSON_H

#include <jansson.h>

/* Names come from files: bytes that are not UTF-8 become '?'. NULL: "". */
json_t *pare_json_text(const char *s);
/* null where the number is not finite. */
json_t *pare_json_number(double v);
/* Indented, in the order in which things were put in, with a newline; takes the
 * object over. Free with free(). NULL when memory was out at some point. */
char *pare_json_print(json_t *o);

#endif
