/* main.c - finds the command, hands over, and sees that what was printed has
 * arrived. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* Set when a signal has come, read by the library between steps. */
static volatile sig_atomic_t stop;

static void asked_to_stop(sigset_t *set) {
  sigemptyset(set);
  sigaddset(set, SIGINT);
  sigaddset(set, SIGTERM);
}

/* The first Ctrl-C asks, a second one ends the process at once. */
static void *wait_for_signals(void *arg) {
  sigset_t set;
  int number;
  (void)arg;
  asked_to_stop(&set);
  stop = sigwait(&set, &number) == 0;
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  while (pause() == -1) {
  }
  return NULL;
}

/* No handler may run on a thread that computes: products of oneDNN up to 3.11.1 let the stack pointer point into the heap,
 * where the kernel would put the handler's frame (oneDNN issue 4845). So all threads block the signals, those that are
 * made later too, and one waits for them. */
static void watch_signals(void) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  sigset_t set;
  pthread_t thread;
  sigaction(SIGPIPE, &ignore, NULL);
  asked_to_stop(&set);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  if (pthread_create(&thread, NULL, wait_for_signals, NULL)) pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  else pthread_detach(thread);
}

/* Does anything but this process run on the machine at this moment? */
static bool others_run(void) {
  int running = 0;
  FILE *f = fopen("/proc/loadavg", "r"); /* 0.00 0.01 0.05 running/all last */
  bool known = f && fscanf(f, "%*f %*f %*f %d/", &running) == 1;
  if (f) fclose(f);
  return !known || running > 1;
}

/* libgomp's threads spin for milliseconds at the end of each kernel. Where other processes want the cores too, that
 * makes a run many times slower (measured: 80 times), and even a spin of half a millisecond twice as slow; where
 * nobody does, the latter saves 5 % of a step, which is spent on waking threads. The library reads its setting as the
 * process starts and at no other time, so the process starts again with it. */
static void calm_threads(char **argv) {
  if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
  if (setenv("GOMP_SPINCOUNT", others_run() ? "1000" : "10000", 1)) return;
  execv("/proc/self/exe", argv); /* where that fails it goes on as it is */
}

static const struct {
  const char *name;
  CliMain *run;
  const char *about;
} commands[] = {
#define X(name, about) {#name, cli_##name, about},
    CLI_COMMANDS(X)
#undef X
};
enum { NCOMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *f) {
  fputs("usage: pare COMMAND ...\n\n"
        "Compresses transformers from ONNX to ONNX: prunes heads and channels, tunes what is left.\n\n",
        f);
  for (int i = 0; i < NCOMMANDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].about);
  fputs("\n'pare COMMAND --help' tells more; 'pare --version' prints the version.\n"
        "Exit codes: 0 done, 1 a gate or check failed, 2 usage or recipe, 3 model not supported, 4 file or data,\n"
        "5 memory or device, 6 target out of reach or nothing to prune, 130 interrupted.\n",
        f);
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) return print_usage(stderr), 2;
  const char *word = argv[1];
  if (!strcmp(word, "--version")) return printf("pare %s\n", pare_version()) < 0;
  if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) return print_usage(stdout), 0;
  for (int i = 0; i < NCOMMANDS; i++)
    if (!strcmp(commands[i].name, word)) return commands[i].run(argc - 2, argv + 2, &stop);
  return cli_usage_error("unknown %s '%s': see 'pare --help'", *word == '-' ? "option" : "command", word);
}

int main(int argc, char **argv) {
  calm_threads(argv);
  watch_signals();
  int code = dispatch(argc, argv);
  if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  return code ? code : cli_fail(&(PareError){4, "the results cannot be written to standard output"});
}
