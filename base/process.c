/* process.c - see process.h. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OUT, ERR, STREAMS, TICK_MS = 20 };

extern char **environ;

typedef struct Run {
  PareCtx *c;
  pid_t pid;
  int end[STREAMS]; /* that is read; -1: closed */
  char *text[STREAMS];
  size_t n[STREAMS];
} Run;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void close_end(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static PareStatus no_process(PareCtx *c, const char *what, int err) {
  return pare_error(c, PARE_DEVICE, "cannot start a command: %s: %s", what, strerror(err));
}

/* Standard input is empty, the two outputs are the pipes' ends. */
static int describe(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, const int to[STREAMS]) {
  sigset_t none, usual;
  sigemptyset(&none);
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);
  int err = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!err) err = posix_spawn_file_actions_adddup2(files, to[OUT], STDOUT_FILENO);
  if (!err) err = posix_spawn_file_actions_adddup2(files, to[ERR], STDERR_FILENO);
  if (!err) err = posix_spawnattr_setpgroup(attr, 0);
  if (!err) err = posix_spawnattr_setsigmask(attr, &none);
  if (!err) err = posix_spawnattr_setsigdefault(attr, &usual);
  if (!err) err = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return err;
}

static int spawn(Run *r, const char *command, const int to[STREAMS]) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attr;
  char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)command, NULL};
  int err = posix_spawn_file_actions_init(&files);
  if (err) return err;
  err = posix_spawnattr_init(&attr);
  if (!err) {
    err = describe(&files, &attr, to);
    if (!err) err = posix_spawn(&r->pid, "/bin/sh", &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
  }
  posix_spawn_file_actions_destroy(&files);
  return err;
}

/* Close-on-exec, so that no other child holds them; what is read does not block. */
static int open_pipe(int *from, int *to) {
  int fd[2];
  if (pipe(fd)) return errno;
  *from = fd[0];
  *to = fd[1];
  if (fcntl(fd[0], F_SETFD, FD_CLOEXEC) || fcntl(fd[1], F_SETFD, FD_CLOEXEC)) return errno;
  return fcntl(fd[0], F_SETFL, O_NONBLOCK) ? errno : 0;
}

static PareStatus start(Run *r, const char *command) {
  int to[STREAMS] = {-1, -1};
  int err = open_pipe(&r->end[OUT], &to[OUT]);
  if (!err) err = open_pipe(&r->end[ERR], &to[ERR]);
  if (!err) err = spawn(r, command, to);
  close_end(&to[OUT]);
  close_end(&to[ERR]);
  return err ? no_process(r->c, "/bin/sh", err) : PARE_OK;
}

/* Keeps the last bytes. */
static void keep(Run *r, int k, const char *bytes, size_t n) {
  size_t room = PARE_PROCESS_TEXT - 1;
  if (n > room) bytes += n - room, n = room;
  size_t old = r->n[k] + n > room ? room - n : r->n[k];
  memmove(r->text[k], r->text[k] + r->n[k] - old, old);
  memcpy(r->text[k] + old, bytes, n);
  r->n[k] = old + n;
  r->text[k][r->n[k]] = 0;
}

static void drain(Run *r) {
  char buf[4096];
  for (int k = 0; k < STREAMS; k++) {
    ssize_t n;
    while (r->end[k] >= 0 && (n = read(r->end[k], buf, sizeof buf)) > 0) keep(r, k, buf, (size_t)n);
    if (r->end[k] >= 0 && n == 0) close_end(&r->end[k]);
  }
}

static void wait_a_little(const Run *r) {
  struct pollfd p[STREAMS] = {{.fd = r->end[OUT], .events = POLLIN}, {.fd = r->end[ERR], .events = POLLIN}};
  poll(p, STREAMS, TICK_MS);
}

static void reap(const Run *r, int *how) {
  kill(-r->pid, SIGKILL);
  while (waitpid(r->pid, how, 0) < 0 && errno == EINTR) {}
}

/* Until the command is gone: what it left behind in its group may still hold the pipes, and goes with it. */
static PareStatus watch(Run *r, double seconds, const volatile sig_atomic_t *stop, PareProcess *out) {
  int how = 0;
  for (double end = now() + seconds; waitpid(r->pid, &how, WNOHANG) == 0;) {
    wait_a_little(r);
    drain(r);
    out->late = now() > end;
    bool stopped = stop && *stop;
    if (!out->late && !stopped) continue;
    reap(r, &how);
    if (stopped) return pare_error(r->c, PARE_INTERRUPTED, "interrupted");
    break;
  }
  kill(-r->pid, SIGKILL);
  drain(r);
  out->exit_code = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
  return PARE_OK;
}

PareStatus pare_process_run(PareCtx *c, const char *command, double seconds, const volatile sig_atomic_t *stop,
                            PareProcess *out) {
  *out = (PareProcess){0};
  Run r = {.c = c, .end = {-1, -1}, .text = {out->out, out->err}};
  PareStatus s = start(&r, command);
  if (s == PARE_OK) s = watch(&r, seconds, stop, out);
  close_end(&r.end[OUT]);
  close_end(&r.end[ERR]);
  return s;
}
