/* Interposed by LD_PRELOAD: records, fails or cuts short what a process does to the files of one folder.

   faults_watch  names the folder, and where to write the trace (-1: nowhere)
   faults_mark   puts a number into the trace, in order with the calls around it
   faults_arm    makes the n-th call of some kinds fail with an error, or, with error 0, the process die in it
   faults_disarm ends that; gives how many calls of those kinds were seen

   A record of the trace is the struct below, then `first` and `second` bytes: paths, or the data written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { READ = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, OPEN = 16, NAME = 32 };
struct record {
    char what;
    int32_t fd;
    int64_t offset;
    uint32_t first, second;
} __attribute__((packed));

static char folder[PATH_MAX];
static size_t length;
static int trace = -1, kinds, error, sticky;
static long limit, seen;
static char watched[1024]; /* by file descriptor */

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int inside(const char *path) {
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int is_watched(int fd) { return fd >= 0 && fd < (int)sizeof watched && watched[fd]; }

static void record(char what, int fd, int64_t offset, const void *first, size_t n, const char *second) {
    struct record r = {what, fd, offset, n, second ? strlen(second) : 0};
    struct iovec parts[] = {{&r, sizeof r}, {(void *)first, n}, {(void *)second, r.second}};
    if (trace >= 0 && syscall(SYS_writev, trace, parts, 3) != (long)(sizeof r + n + r.second)) raise(SIGABRT);
}

/* 0: go on; else this call is the one: fail with `error`, or die where that is 0. */
static int fault(enum kind kind) {
    if (!(kinds & kind)) return 0;
    seen++;
    return seen == limit || (sticky && seen > limit);
}

static int fail(void) {
    if (!error) raise(SIGKILL);
    errno = error;
    return -1;
}

void faults_watch(const char *path, int fd) {
    length = strlen(path);
    memcpy(folder, path, length + 1);
    trace = fd;
    memset(watched, 0, sizeof watched);
}

void faults_mark(long number) { record('m', 0, number, "", 0, NULL); }

void faults_arm(int which, long n, int number, int keep_on) {
    kinds = which, limit = n, error = number, sticky = keep_on, seen = 0;
}

long faults_disarm(void) {
    kinds = 0;
    return seen;
}

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < (int)sizeof watched) {
        watched[fd] = inside(path);
        if (watched[fd]) record('o', fd, flags, path, strlen(path), NULL);
    }
    return fd;
}

static int open_it(int at, const char *path, int flags, mode_t mode) {
    if (inside(path) && flags & (O_WRONLY | O_RDWR | O_CREAT) && fault(OPEN)) return fail();
    return opened(REAL(openat)(at, path, flags, mode), path, flags);
}

#define OPENS(name, before, at)                 \
    int name(before const char *path, int flags, ...) { \
        va_list rest;                           \
        va_start(rest, flags);                  \
        mode_t mode = va_arg(rest, mode_t);     \
        va_end(rest);                           \
        return open_it(at, path, flags, mode);  \
    }
#define COMMA ,
OPENS(open, , AT_FDCWD)
OPENS(open64, , AT_FDCWD)
OPENS(openat, int at COMMA, at)
OPENS(openat64, int at COMMA, at)

int close(int fd) {
    if (fd >= 0 && fd < (int)sizeof watched) watched[fd] = 0;
    return REAL(close)(fd);
}

static ssize_t write_it(int fd, const void *data, size_t n, int64_t offset) {
    if (!is_watched(fd)) return offset < 0 ? REAL(write)(fd, data, n) : REAL(pwrite)(fd, data, n, offset);
    struct stat status;
    int moves = 0;
    if (offset < 0) {
        int append = fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &status);
        offset = append ? status.st_size : lseek(fd, 0, SEEK_CUR);
        moves = 1;
    }
    int hit = fault(WRITE);
    if (hit && (n < 2 || seen > limit || seen % 2)) return fail();
    if (hit) {
        n /= 2; /* a disk that gets full takes what still fits; the next call is the one that fails */
        limit++;
    }
    ssize_t done = syscall(SYS_pwrite64, fd, data, n, offset);
    if (hit && !error) return fail();
    if (done > 0) record('w', fd, offset, data, done, NULL);
    if (done > 0 && moves) lseek(fd, offset + done, SEEK_SET);
    return done;
}

ssize_t write(int fd, const void *data, size_t n) { return write_it(fd, data, n, -1); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) { return write_it(fd, data, n, offset); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) { return write_it(fd, data, n, offset); }

ssize_t read(int fd, void *data, size_t n) {
    return is_watched(fd) && fault(READ) ? fail() : syscall(SYS_read, fd, data, n);
}
ssize_t pread(int fd, void *data, size_t n, off_t offset) {
    return is_watched(fd) && fault(READ) ? fail() : syscall(SYS_pread64, fd, data, n, offset);
}
ssize_t pread64(int fd, void *data, size_t n, off64_t offset) { return pread(fd, data, n, offset); }

int ftruncate(int fd, off_t size) {
    if (is_watched(fd) && fault(TRUNCATE)) return fail();
    int result = syscall(SYS_ftruncate, fd, size);
    if (!result && is_watched(fd)) record('t', fd, size, "", 0, NULL);
    return result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

/* Without a descriptor: in the trace, one that nothing else has. */
int truncate(const char *path, off_t size) {
    if (inside(path) && fault(TRUNCATE)) return fail();
    int result = syscall(SYS_truncate, path, size);
    if (!result && inside(path)) {
        record('o', sizeof watched, O_WRONLY, path, strlen(path), NULL);
        record('t', sizeof watched, size, "", 0, NULL);
    }
    return result;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

/* Only to make a file longer. */
int posix_fallocate(int fd, off_t offset, off_t size) {
    if (is_watched(fd) && fault(TRUNCATE)) return fail() ? errno : 0;
    int result = REAL(posix_fallocate)(fd, offset, size);
    if (!result && is_watched(fd)) record('t', fd, offset + size, "", 0, NULL);
    return result;
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) { return posix_fallocate(fd, offset, size); }

static int sync_it(int fd, long number) {
    if (is_watched(fd) && fault(SYNC)) {
        record('f', fd, 0, "", 0, NULL);
        return fail();
    }
    int result = syscall(number, fd);
    if (!result && is_watched(fd)) record('s', fd, 0, "", 0, NULL);
    return result;
}
int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }

int rename(const char *from, const char *to) {
    if (inside(to) && fault(NAME)) return fail();
    int result = REAL(rename)(from, to);
    if (!result && inside(to)) record('r', 0, 0, from, strlen(from), to);
    return result;
}
int unlink(const char *path) {
    if (inside(path) && fault(NAME)) return fail();
    int result = REAL(unlink)(path);
    if (!result && inside(path)) record('u', 0, 0, path, strlen(path), NULL);
    return result;
}
