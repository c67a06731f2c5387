/* args.c - see args.h. */
#include "cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct Reader {
  const CliCommand *cmd;
  CliInput *in;
  bool quiet, verbose, help;
  int noperands;
} Reader;

enum { COMMON = 3 };
static void common_options(Reader *r, CliOption out[COMMON]) {
  out[0] = (CliOption){"quiet", 'q', CLI_FLAG, "", "", "say nothing but errors", &r->quiet};
  out[1] = (CliOption){"verbose", 'v', CLI_FLAG, "", "", "say more", &r->verbose};
  out[2] = (CliOption){"help", 'h', CLI_FLAG, "", "", "print this", &r->help};
}

/* --- help --- */

/* Alternatives of an option that takes one of several words are parted by '|'. */
static void print_unit(const char *unit) {
  for (; *unit; unit++) putchar(*unit == ' ' ? '|' : *unit);
}

enum { HELP_COLUMN = 30, LINE = 100 };

/* Breaks the text between words; the cursor stands at HELP_COLUMN. */
static void print_wrapped(const char *text) {
  int column = HELP_COLUMN;
  for (const char *at = text; *at;) {
    int n = (int)strcspn(at, " ");
    bool breaks = column + 1 + n > LINE;
    if (breaks) printf("\n%*s", HELP_COLUMN, "");
    else if (at > text) putchar(' ');
    column = (breaks ? HELP_COLUMN : column + 1) + n;
    printf("%.*s", n, at);
    at += n;
    at += strspn(at, " ");
  }
  putchar('\n');
}

static void print_option(const CliOption *o) {
  if (!o->help) return;
  int n = o->letter ? printf("  -%c, --%s", o->letter, o->name) : printf("  --%s", o->name);
  if (*o->unit) {
    putchar(' ');
    print_unit(o->unit);
    n += 1 + (int)strlen(o->unit);
  }
  if (n > HELP_COLUMN - 2) printf("\n%*s", HELP_COLUMN, "");
  else printf("%*s", HELP_COLUMN - n, "");
  char text[400];
  snprintf(text, sizeof text, *o->dflt ? "%s [%s]" : "%s", o->help, o->dflt);
  print_wrapped(text);
}

static void print_help(Reader *r) {
  CliOption common[COMMON];
  common_options(r, common);
  printf("usage: pare %s %s [options]\n\n%s\n\noptions:\n", r->cmd->name, r->cmd->operands, r->cmd->about);
  for (size_t i = 0; i < r->cmd->noptions; i++) print_option(&r->cmd->options[i]);
  for (int i = 0; i < COMMON; i++) print_option(&common[i]);
}

/* --- mistakes --- */

static int min3(int a, int b, int c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* Levenshtein's distance, by rows. */
static int distance(const char *a, const char *b) {
  enum { MOST = 40 };
  int row[MOST + 1], n = (int)strlen(b);
  if (n > MOST) return MOST;
  for (int j = 0; j <= n; j++) row[j] = j;
  for (int i = 1; a[i - 1]; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= n; j++) {
      int cost = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = min3(cost, row[j] + 1, row[j - 1] + 1);
    }
  }
  return row[n];
}

static const char *nearest(const CliCommand *cmd, const char *name) {
  const char *best = NULL;
  int least = 3;
  for (size_t i = 0; i < cmd->noptions; i++) {
    int d = distance(name, cmd->options[i].name);
    if (d >= least) continue;
    least = d;
    best = cmd->options[i].name;
  }
  return best;
}

static int unknown_option(const Reader *r, const char *dash, const char *name) {
  const char *near = dash[1] ? nearest(r->cmd, name) : NULL;
  if (near) return cli_usage_error("unknown option %s%s: did you mean --%s?", dash, name, near);
  return cli_usage_error("unknown option %s%s: see 'pare %s --help'", dash, name, r->cmd->name);
}

/* --- values --- */

static int set_value(Reader *r, const CliOption *o, const char *value) {
  PareError e;
  char *end = NULL;
  switch (o->kind) {
    case CLI_FLAG: *(bool *)o->to = true; return -1;
    case CLI_TEXT: *(const char **)o->to = value; return -1;
    case CLI_WHOLE:
      errno = 0;
      *(int64_t *)o->to = strtoll(value, &end, 10);
      if (!errno && end != value && !*end && *(int64_t *)o->to >= 0) return -1;
      return cli_usage_error("--%s takes a whole number that is not negative, not '%s'", o->name, value);
    case CLI_NUMBER:
      *(double *)o->to = strtod(value, &end);
      if (end != value && !*end && isfinite(*(double *)o->to) && *(double *)o->to >= 0) return -1;
      return cli_usage_error("--%s takes a number that is not negative, not '%s'", o->name, value);
    case CLI_TAKEN:
    case CLI_SWITCH: return r->cmd->take(r->cmd->arg, o->name, value, &e) ? cli_fail(&e) : -1;
  }
  return -1;
}

static const CliOption *find_option(const Reader *r, const CliOption *common, const char *name, size_t len, char letter) {
  for (size_t i = 0; i < r->cmd->noptions + COMMON; i++) {
    const CliOption *o = i < r->cmd->noptions ? &r->cmd->options[i] : &common[i - r->cmd->noptions];
    bool found = letter ? o->letter == letter : strlen(o->name) == len && !memcmp(o->name, name, len);
    if (found) return o;
  }
  return NULL;
}

/* One option at argv[*i]; moves on to its value where that is a word of its own. */
static int read_option(Reader *r, int argc, char **argv, int *i) {
  CliOption common[COMMON];
  common_options(r, common);
  const char *arg = argv[*i], *value = NULL;
  bool is_long = arg[1] == '-';
  const char *name = arg + 1 + is_long, *eq = is_long ? strchr(name, '=') : NULL;
  size_t len = eq ? (size_t)(eq - name) : strlen(name);
  const CliOption *o = find_option(r, common, name, len, is_long ? 0 : *name);
  char shown[80];
  snprintf(shown, sizeof shown, "%.*s", (int)(len < 60 ? len : 60), name);
  if (!o) return unknown_option(r, is_long ? "--" : "-", shown);
  bool wants = o->kind != CLI_FLAG && o->kind != CLI_SWITCH;
  if (eq) value = eq + 1;
  else if (!is_long && name[1]) value = name + 1; /* -oFILE */
  if (value && !wants && !(o->kind == CLI_SWITCH && eq))
    return cli_usage_error("--%s takes no value, but '%s' follows", o->name, value);
  if (wants && !value) {
    if (*i + 1 >= argc) return cli_usage_error("--%s wants a value: %s", o->name, o->unit);
    value = argv[++*i];
  }
  return set_value(r, o, value);
}

/* --- the whole --- */

/* With or without those in brackets. */
static int count_words(const char *s, bool all) {
  int n = 0;
  while (*s) {
    n += all || *s != '[';
    s += strcspn(s, " ");
    s += strspn(s, " ");
  }
  return n;
}

static int check_operands(const Reader *r) {
  const char *operands = r->cmd->operands;
  if (r->noperands >= count_words(operands, false) && r->noperands <= count_words(operands, true)) return -1;
  return cli_usage_error("'pare %s' wants %s: see 'pare %s --help'", r->cmd->name, r->cmd->operands, r->cmd->name);
}

int cli_read(const CliCommand *cmd, int argc, char **argv, CliInput *in) {
  Reader r = {.cmd = cmd, .in = in};
  bool only_operands = false;
  *in = (CliInput){.verbose = 0};
  for (int i = 0; i < argc; i++) {
    int code = -1;
    if (!only_operands && !strcmp(argv[i], "--")) only_operands = true;
    else if (!only_operands && argv[i][0] == '-' && argv[i][1]) code = read_option(&r, argc, argv, &i);
    else if (r.noperands < CLI_MAX_OPERANDS) in->operand[r.noperands++] = argv[i];
    else return cli_usage_error("'%s' is one word too many: see 'pare %s --help'", argv[i], cmd->name);
    if (code >= 0) return code;
    if (r.help) return print_help(&r), 0;
  }
  in->verbose = r.quiet ? -1 : r.verbose;
  return check_operands(&r);
}
