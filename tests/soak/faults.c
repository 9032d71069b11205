/* Fails the N-th write, flush or rename below a folder, once: loaded with LD_PRELOAD, armed by tests/soak/faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4 };
static char folder[4096];
static int kinds, error_number; /* error_number < 0: kill the process instead */
static long target, seen;

void faults_arm(const char *below, int which, long number, int error) {
    snprintf(folder, sizeof folder, "%s", below);
    kinds = which;
    target = number;
    error_number = error;
    seen = 0;
}

long faults_seen(void) { return seen; }

static int strikes(int kind, const char *path) {
    if (!folder[0] || !(kinds & kind) || strncmp(path, folder, strlen(folder)) != 0) return 0;
    if (++seen != target) return 0;
    if (error_number < 0) kill(getpid(), SIGKILL);
    errno = error_number;
    return 1;
}

static int strikes_file(int kind, int fd) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strikes(kind, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return strikes_file(WRITE, fd) ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return strikes_file(WRITE, fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return strikes_file(WRITE, fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
int fsync(int fd) { return strikes_file(SYNC, fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return strikes_file(SYNC, fd) ? -1 : REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { return strikes(RENAME, to) ? -1 : REAL(rename)(from, to); }
