#include "api/peft_names.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_PATH = 512, NAMES = 3 };

/* A module's path; "": the name holds none. */
typedef struct Path {
  char text[MAX_PATH];
} Path;

/* "bert.layer.0.query.weight" -> bert.layer.0.query */
static Path of_parameter(const char *name, const char *suffix) {
  Path p = {""};
  size_t n = name ? strlen(name) : 0, tail = strlen(suffix);
  if (n > tail && n < MAX_PATH && !strcmp(name + n - tail, suffix)) memcpy(p.text, name, n - tail);
  return p;
}

/* Is the part [at, at + len) followed by itself with a number, as in blocks/blocks.0? */
static bool stands_twice(const char *at, size_t len) {
  const char *next = at + len + 1;
  return at[len] == '/' && !strncmp(next, at, len) && next[len] == '.' && next[len + 1] >= '0' && next[len + 1] <= '9';
}

/* "/bert/layer.0/query/MatMul" -> bert.layer.0.query */
static Path of_node(const char *name) {
  Path p = {""};
  const char *last = name && *name == '/' ? strrchr(name, '/') : NULL;
  if (!last || strlen(name) >= MAX_PATH) return p;
  size_t n = 0;
  for (const char *at = name + 1; at < last;) {
    size_t len = strcspn(at, "/");
    if (!stands_twice(at, len)) {
      if (n) p.text[n++] = '.';
      memcpy(p.text + n, at, len);
      n += len;
    }
    at += len + 1;
  }
  return p;
}

/* In the order in which they are believed. */
static void paths_of(const PareLayerNames *layer, Path out[NAMES]) {
  out[0] = of_parameter(layer->weight, ".weight");
  out[1] = of_parameter(layer->bias, ".bias");
  out[2] = of_node(layer->node);
}

static PareNameFit compare(const char *a, const char *b) {
  size_t n = strlen(a), m = strlen(b);
  const char *longer = n > m ? a : b, *shorter = n > m ? b : a;
  size_t more = n > m ? n - m : m - n;
  if (!*shorter || strcmp(longer + more, shorter)) return PARE_NAME_OTHER;
  if (!more) return PARE_NAME_SAME;
  return longer[more - 1] == '.' ? PARE_NAME_ENDS_ALIKE : PARE_NAME_OTHER;
}

PareNameFit pare_module_fits(const char *module, const PareLayerNames *layer) {
  PareNameFit best = PARE_NAME_OTHER;
  Path path[NAMES];
  paths_of(layer, path);
  for (int i = 0; i < NAMES; i++) {
    PareNameFit fit = compare(module, path[i].text);
    if (fit > best) best = fit;
  }
  return best;
}

const char *pare_module_path(PareArena *a, const PareLayerNames *layer) {
  Path path[NAMES];
  paths_of(layer, path);
  int i = 0;
  while (i < NAMES && !*path[i].text) i++;
  char *text = pare_arena_strdup(a, i < NAMES ? path[i].text : layer->weight);
  for (char *at = text; at && *at; at++)
    if (*at <= ' ' || *at > '~') *at = '?'; /* JSON's keys are UTF-8, Python's names mostly ASCII */
  return text;
}
