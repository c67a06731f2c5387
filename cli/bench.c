/* bench.c - pare bench. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

static void field(const char *name, double v) {
  printf(",\n  \"%s\": ", name);
  cli_json_number(stdout, v);
}

static void print_json(const PareBenchResult *r, bool io, bool beside) {
  printf("{\n  \"memory_bytes\": %" PRId64, r->memory_bytes);
  if (r->device_bytes) printf(",\n  \"device_bytes\": %" PRId64, r->device_bytes);
  if (io) {
    field("load_seconds", r->load_seconds);
    field("write_seconds", r->write_seconds);
    field("sync_seconds", r->sync_seconds);
    puts("\n}");
    return;
  }
  field("median_seconds", r->median_seconds);
  field("min_seconds", r->min_seconds);
  field("samples_per_second", r->samples_per_second);
  field("gflops", r->gflops);
  field("tflops", 1e-3 * r->gflops);
  if (r->ceiling_gflops > 0) {
    field("ceiling_tflops", 1e-3 * r->ceiling_gflops);
    field("ceiling_share", r->gflops / r->ceiling_gflops);
  }
  if (beside) field("importance_seconds", r->importance_seconds);
  printf(",\n  \"macs\": %" PRId64 ",\n  \"ops\": [", r->macs);
  for (size_t i = 0; i < r->nrows; i++) {
    printf("%s\n    {\"op\": \"%s\", \"count\": %" PRId64 ", \"seconds\": ", i ? "," : "", r->rows[i].op,
           r->rows[i].count);
    cli_json_number(stdout, r->rows[i].seconds);
    putchar('}');
  }
  puts("\n  ]\n}");
}

static void print_io(const PareBenchResult *r) {
  char a[CLI_NUMBER_TEXT];
  printf("read       %s\n", cli_seconds(r->load_seconds, a));
  printf("write      %s (validation and hashing apart)\n", cli_seconds(r->write_seconds, a));
  printf("sync       %s more until it is on the disk\n", cli_seconds(r->sync_seconds, a));
  printf("memory     %s private while it is open\n", cli_scaled((double)r->memory_bytes, "B", a));
}

static void print_table(const PareBenchResult *r, bool beside) {
  char a[CLI_NUMBER_TEXT], b[CLI_NUMBER_TEXT];
  double total = 0;
  printf("latency    %s median, %s least\n", cli_seconds(r->median_seconds, a), cli_seconds(r->min_seconds, b));
  printf("rate       %.1f samples/s, %.1f GFLOP/s (%s MACs a sample)\n", r->samples_per_second, r->gflops,
         cli_scaled((double)r->macs, "", a));
  if (beside)
    printf("importance %s, %.1f%% of a step: by so much the same step without scores is faster, in alternation\n",
           cli_seconds(r->importance_seconds, a), 100 * r->importance_seconds / r->median_seconds);
  if (r->ceiling_gflops > 0)
    printf("ceiling    %.1f GFLOP/s in a large product alone; the step reaches %.1f%%\n", r->ceiling_gflops,
           100 * r->gflops / r->ceiling_gflops);
  if (r->device_bytes)
    printf("memory     %s planned, %s seen by the device\n", cli_scaled((double)r->memory_bytes, "B", a),
           cli_scaled((double)r->device_bytes, "B", b));
  else printf("memory     %s beside the weights\n", cli_scaled((double)r->memory_bytes, "B", a));
  printf("\n%-22s %6s %10s %6s\n", "op", "nodes", "time", "share");
  for (size_t i = 0; i < r->nrows; i++) total += r->rows[i].seconds;
  for (size_t i = 0; i < r->nrows; i++)
    printf("%-22s %6" PRId64 " %10s %5.1f%%\n", r->rows[i].op, r->rows[i].count, cli_seconds(r->rows[i].seconds, a),
           100 * r->rows[i].seconds / total);
}

int cli_bench(int argc, char **argv, const volatile sig_atomic_t *stop) {
  static const char *const precisions[] = {"auto", "fp32", "bf16", "tf32"}; /* as --precision of compress */
  const char *precision = precisions[0];
  bool json = false;
  int64_t batch = 0, threads = 0, runs = 20;
  PareBenchOptions o = {.runs = 0};
  const CliOption options[] = {
      {"batch", 0, CLI_WHOLE, "N", "1", "samples at a time", &batch},
      {"threads", 0, CLI_WHOLE, "N", "", "one for each core, unless given", &threads},
      {"runs", 0, CLI_WHOLE, "N", "20", "runs that are timed", &runs},
      {"shape", 0, CLI_TEXT, "NAME:DIMS", "", "sizes of dynamic axes, input_ids:1x128; 1 unless given", &o.shape},
      {"train", 0, CLI_FLAG, "", "", "time a LoRAPrune step instead: forward, backward, importance, update", &o.train},
      {"importance", 0, CLI_FLAG, "", "", "with --train, on the CPU: what scores take", &o.importance},
      {"method", 0, CLI_TEXT, "WORD", "loraprune", "with --train: how groups are scored, as compress takes it", &o.method},
      {"precision", 0, CLI_TEXT, "WORD", "auto", "of matrix products in tuning: auto, fp32, bf16 or tf32", &precision},
      {"device", 0, CLI_TEXT, "DEVICE", "auto", "where to run: auto, cpu, cuda or cuda:N", &o.device},
      {"io", 0, CLI_FLAG, "", "", "time reading the file, and writing it with nothing changed (in $TMPDIR)", &o.io},
      {"json", 0, CLI_FLAG, "", "", "print JSON", &json},
  };
  const CliCommand cmd = {.name = "bench", .operands = "MODEL", .options = options,
                          .about = "Measures the latency of a model in pare's runtime, on random inputs.",
                          .noptions = sizeof options / sizeof *options};
  CliInput in;
  CliProgress progress;
  PareBenchResult *r;
  PareError e;
  int code = cli_read(&cmd, argc, argv, &in);
  if (code >= 0) return code;
  if (batch > 1 << 20 || threads > 4096 || runs < 1 || runs > 1 << 20)
    return cli_usage_error("--batch, --threads or --runs is out of range");
  while (o.precision < 4 && strcmp(precision, precisions[o.precision])) o.precision++;
  if (o.precision == 4) return cli_usage_error("--precision is auto, fp32, bf16 or tf32");
  if (o.io && o.train) return cli_usage_error("--io and --train are two measurements: give one");
  if (o.importance && !o.train) return cli_usage_error("--importance is a part of a step: give --train too");
  if (o.method && !o.train) return cli_usage_error("--method is how a step scores groups: give --train too");
  o.batch = batch;
  o.threads = (int)threads;
  o.runs = (int)runs;
  PareHooks h = cli_hooks(&in, &progress, stop);
  code = pare_bench(in.operand[0], &o, &h, &r, &e);
  if (code) return cli_fail(&e);
  if (json) print_json(r, o.io, o.importance);
  else if (o.io) print_io(r);
  else print_table(r, o.importance);
  pare_bench_result_free(r);
  return 0;
}
