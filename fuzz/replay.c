/* replay.c - stands in for libFuzzer: runs the target once on each file of the
 * folders that are named, and on every prefix of it and every byte inverted. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly that size, so that a sanitizer sees a byte too far. */
static void run_copy(const uint8_t *data, size_t n) {
  uint8_t *copy = malloc(n ? n : 1);
  if (!copy) abort();
  for (size_t i = 0; i < n; i++) copy[i] = data[i];
  LLVMFuzzerTestOneInput(copy, n);
  free(copy);
}

static void run_variants(uint8_t *data, size_t n) {
  for (size_t i = 0; i <= n; i++) run_copy(data, i);
  for (size_t i = 0; i < n; i++) {
    data[i] ^= 0xff;
    run_copy(data, n);
    data[i] ^= 0xff;
  }
}

static int run_file(const char *path) {
  static uint8_t data[1 << 16];
  FILE *f = fopen(path, "rb");
  if (!f) return 0; /* a folder */
  size_t n = fread(data, 1, sizeof data, f);
  fclose(f);
  run_variants(data, n);
  return n > 0;
}

int main(int argc, char **argv) {
  int files = 0;
  for (int i = 1; i < argc; i++) {
    DIR *d = opendir(argv[i]);
    for (struct dirent *e; d && (e = readdir(d));) {
      char path[4096];
      int n = snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
      if (e->d_name[0] != '.' && n > 0 && (size_t)n < sizeof path) files += run_file(path);
    }
    if (d) closedir(d);
  }
  printf("%d files replayed\n", files);
  return files ? EXIT_SUCCESS : EXIT_FAILURE;
}
