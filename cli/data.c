/* data.c - pare data images, pare data text. */
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"

typedef int DataFn(const char *source, const char *out, const PareDataOptions *o, const PareHooks *h, PareError *e);

static int convert(const CliCommand *cmd, int argc, char **argv, const volatile sig_atomic_t *stop,
                   const char *const *out, const PareDataOptions *o, const int64_t *channels, DataFn *fn) {
  CliInput in;
  CliProgress progress;
  PareError e;
  int code = cli_read(cmd, argc, argv, &in);
  if (code >= 0) return code;
  if (!*out) return cli_usage_error("'pare %s' wants -o OUT.npz", cmd->name);
  if (*channels != 0 && *channels != 1 && *channels != 3) return cli_usage_error("--channels takes 1 or 3");
  PareDataOptions options = *o;
  options.channels = (int)*channels;
  PareHooks h = cli_hooks(&in, &progress, stop);
  return fn(in.operand[0], *out, &options, &h, &e) ? cli_fail(&e) : 0;
}

static int images(int argc, char **argv, const volatile sig_atomic_t *stop) {
  PareDataOptions o = {.limit = 0};
  const char *out = NULL;
  int64_t channels = 0;
  const CliOption options[] = {
      {"output", 'o', CLI_TEXT, "OUT.npz", "", "the file to write", &out},
      {"input", 0, CLI_TEXT, "NAME", "pixel_values", "name of the model's input", &o.input},
      {"size", 0, CLI_WHOLE, "PIXELS", "", "resize to a square of this side; with --crop, the shorter side", &o.size},
      {"crop", 0, CLI_WHOLE, "PIXELS", "", "then cut a square of this side from the centre", &o.crop},
      {"channels", 0, CLI_WHOLE, "1|3", "", "grey or colour; 3 for a folder, the file's own for IDX", &channels},
      {"resample", 0, CLI_TEXT, "HOW", "bilinear", "bilinear or bicubic, with antialias, as Pillow does", &o.resample},
      {"normalize", 0, CLI_TEXT, "NAME", "none", "pixels become (value / 255 - mean) / std: none, half (-1 to 1), imagenet "
       "or clip", &o.normalize},
      {"mean", 0, CLI_TEXT, "X|R,G,B", "", "instead of --normalize's", &o.mean},
      {"std", 0, CLI_TEXT, "X|R,G,B", "", "instead of --normalize's", &o.std},
      {"labels", 0, CLI_TEXT, "FILE", "", "IDX: the file of labels, else the one named like the images'", &o.labels},
      {"limit", 0, CLI_WHOLE, "N", "", "at most so many samples: an IDX file's first, evenly spread ones of a folder",
       &o.limit},
  };
  const CliCommand cmd = {.name = "data images", .operands = "SOURCE", .options = options,
                          .about = "Makes an .npz from a folder with a sub-folder of JPEG or PNG files for each class,\n"
                                   "or from an IDX file (MNIST, Fashion-MNIST), gzipped or not.",
                          .noptions = sizeof options / sizeof *options};
  return convert(&cmd, argc, argv, stop, &out, &o, &channels, pare_data_images);
}

static int text(int argc, char **argv, const volatile sig_atomic_t *stop) {
  PareDataOptions o = {.limit = 0};
  const char *out = NULL;
  int64_t channels = 0;
  const CliOption options[] = {
      {"output", 'o', CLI_TEXT, "OUT.npz", "", "the file to write", &out},
      {"vocab", 0, CLI_TEXT, "FILE", "", "the model's: WordPiece's vocab.txt, byte-level BPE's vocab.json, or "
       "tokenizer.json", &o.vocab},
      {"merges", 0, CLI_TEXT, "FILE", "", "of a vocab.json; X.merges.txt beside X.vocab.json or merges.txt, unless given", &o.merges},
      {"task", 0, CLI_TEXT, "NAME", "", "GLUE's columns and classes: cola mnli mrpc qnli qqp rte sst-2 sts-b wnli; CoNLL's "
       "words and tags: ner; SQuAD's JSON: squad", &o.task},
      {"max-length", 0, CLI_WHOLE, "TOKENS", "128", "longer texts are cut, of two the longer one first", &o.max_length},
      {"pad-to-max", 0, CLI_FLAG, "", "", "pad to --max-length, not to the longest text", &o.pad_to_max},
      {"keep-case", 0, CLI_FLAG, "", "", "vocab.txt: for cased models", &o.keep_case},
      {"text", 0, CLI_TEXT, "COLUMN", "", "name or number of the text's column; sentence, text or sentence1", &o.text},
      {"pair", 0, CLI_TEXT, "COLUMN", "", "of the second text; sentence2 where there is one", &o.pair},
      {"label", 0, CLI_TEXT, "COLUMN", "", "of the label; label where there is one", &o.label},
      {"label-names", 0, CLI_TEXT, "A,B", "", "classes in their order; sorted, unless given", &o.label_names},
      {"limit", 0, CLI_WHOLE, "N", "", "the first N samples", &o.limit},
  };
  const CliCommand cmd = {.name = "data text", .operands = "SOURCE", .options = options,
                          .about = "Makes an .npz of tokens from a .tsv or .jsonl file, or a known task's: input_ids,\n"
                                   "attention_mask, token_type_ids and labels.",
                          .noptions = sizeof options / sizeof *options};
  return convert(&cmd, argc, argv, stop, &out, &o, &channels, pare_data_text);
}

int cli_data(int argc, char **argv, const volatile sig_atomic_t *stop) {
  if (argc > 0 && !strcmp(argv[0], "images")) return images(argc - 1, argv + 1, stop);
  if (argc > 0 && !strcmp(argv[0], "text")) return text(argc - 1, argv + 1, stop);
  if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
    puts("usage: pare data images|text SOURCE -o OUT.npz [options]\n\n'pare data images --help' and 'pare data text --help' tell more.");
    return 0;
  }
  return cli_usage_error("'pare data' wants 'images' or 'text': see 'pare data --help'");
}
