/* Preloaded: from the n-th write below $FULL_DISK on, the disk is full. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long seen, full_from;

void disk_full_from(long n) { seen = 0; full_from = n; }
long disk_writes(void) { return seen; }

static int refused(int fd) {
  const char *root = getenv("FULL_DISK");
  char link[64], path[PATH_MAX];
  if (!root || fd < 3) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  if (strncmp(path, root, strlen(root))) return 0;
  long now = ++seen;
  if (!full_from || now < full_from) return 0;
  errno = ENOSPC;
  return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
  static __typeof__(&write) real;
  if (!real) real = REAL(write);
  return refused(fd) ? -1 : real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  static __typeof__(&pwrite) real;
  if (!real) real = REAL(pwrite);
  return refused(fd) ? -1 : real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  static __typeof__(&pwrite64) real;
  if (!real) real = REAL(pwrite64);
  return refused(fd) ? -1 : real(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  static __typeof__(&writev) real;
  if (!real) real = REAL(writev);
  return refused(fd) ? -1 : real(fd, parts, count);
}
