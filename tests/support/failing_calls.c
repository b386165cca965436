/* Goes between a process and its C library (LD_PRELOAD), and has the Nth call that changes files
 * under one directory fail, be done by half, or be the last thing that the process does.
 *
 * Calls are counted over all threads, from calls_arm() on. What they are is given to calls_named(),
 * one line for each, so that two runs can be compared.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* What happens at the call that was named. */
enum { NOTHING, KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL, HALF, HALF_THEN_FAIL };

static char directory[PATH_MAX];
static int armed, action, error_number, log_file = -1;
static long at, last, calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Calls number `first` to `through` (counted from 1) do `what`, those of which the name stands in
 * `kinds` (all if empty) being counted. */
static char kinds[256];

void calls_arm(const char *under, const char *counted, int what, int error, long first,
               long through, int log) {
    snprintf(directory, sizeof directory, "%s", under);
    snprintf(kinds, sizeof kinds, "%s", counted);
    action = what;
    error_number = error;
    at = first;
    last = through;
    log_file = log;
    calls = 0;
    armed = 1;
}

long calls_counted(void) { return calls; }

__attribute__((constructor)) static void arm_from_environment(void) {
    const char *plan = getenv("FAILING_CALLS");
    char under[PATH_MAX], counted[256];
    int what, error;
    long first, through;
    if (plan && sscanf(plan, "%4095s %255s %d %d %ld %ld", under, counted, &what, &error, &first,
                       &through) == 6)
        calls_arm(under, strcmp(counted, "*") ? counted : "", what, error, first, through, -1);
}

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

#define REAL(name) \
    static __typeof__(&name) real_##name; \
    if (!real_##name) \
        real_##name = (__typeof__(&name))real(#name)

static int under_directory(const char *path) {
    size_t length = strlen(directory);
    return !strncmp(path, directory, length) && (path[length] == '/' || path[length] == 0);
}

static int path_counts(const char *path) {
    char full[PATH_MAX];
    if (!armed || !path)
        return 0;
    if (path[0] == '/')
        return under_directory(path);
    if (!getcwd(full, sizeof full))
        return 0;
    strncat(full, "/", sizeof full - strlen(full) - 1);
    strncat(full, path, sizeof full - strlen(full) - 1);
    return under_directory(full);
}

static const char *path_of(int file, char *full) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, full, PATH_MAX - 1);
    full[length < 0 ? 0 : length] = 0;
    return full;
}

static void end(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What this call is to do: NOTHING out of the way, or the action. */
static int reached(const char *name, const char *path) {
    char line[PATH_MAX + 32], word[40];
    int now = NOTHING;
    snprintf(word, sizeof word, " %s ", name);
    if (kinds[0]) {
        char padded[258];
        snprintf(padded, sizeof padded, " %s ", kinds);
        for (char *each = padded; *each; each++)
            if (*each == ',')
                *each = ' ';
        if (!strstr(padded, word))
            return NOTHING;
    }
    pthread_mutex_lock(&lock);
    calls++;
    if (calls >= at && calls <= last)
        now = action;
    if (log_file >= 0) {
        const char *base = strrchr(path, '/');
        int length = snprintf(line, sizeof line, "%s %s\n", name, base ? base + 1 : path);
        REAL(write);
        if (real_write(log_file, line, length) < 0)
            abort();
    }
    if (now == KILL_BEFORE)
        end();
    pthread_mutex_unlock(&lock);
    return now;
}

/* A call that is done as a whole or not at all. */
#define WHOLE(name, path, counts, call) \
    do { \
        if (!(counts)) \
            return call; \
        int now = reached(name, path); \
        if (now == FAIL || now == HALF_THEN_FAIL) { \
            errno = error_number; \
            return -1; \
        } \
        __typeof__(call) result = call; \
        if (now == KILL_AFTER || now == KILL_HALFWAY) \
            end(); \
        return result; \
    } while (0)

/* A call that may write only some of what it was given. */
#define PARTLY(name, file, size, call) \
    do { \
        char path[PATH_MAX]; \
        if (!armed || !under_directory(path_of(file, path))) \
            return call; \
        int now = reached(name, path); \
        if (now == FAIL || (now == HALF_THEN_FAIL && calls > at)) { \
            errno = error_number; \
            return -1; \
        } \
        if ((now == KILL_HALFWAY || now == HALF || now == HALF_THEN_FAIL) && size > 1) \
            size /= 2; \
        ssize_t result = call; \
        if (now == KILL_AFTER || now == KILL_HALFWAY) \
            end(); \
        return result; \
    } while (0)

ssize_t write(int file, const void *from, size_t size) {
    REAL(write);
    PARTLY("write", file, size, real_write(file, from, size));
}

ssize_t pwrite(int file, const void *from, size_t size, off_t offset) {
    REAL(pwrite);
    PARTLY("pwrite", file, size, real_pwrite(file, from, size, offset));
}

ssize_t pwrite64(int file, const void *from, size_t size, off64_t offset) {
    REAL(pwrite64);
    PARTLY("pwrite", file, size, real_pwrite64(file, from, size, offset));
}

#define ON_FILE(name, file, call) \
    do { \
        char path[PATH_MAX]; \
        int counts = armed && under_directory(path_of(file, path)); \
        WHOLE(name, path, counts, call); \
    } while (0)

int fsync(int file) {
    REAL(fsync);
    ON_FILE("fsync", file, real_fsync(file));
}

int fdatasync(int file) {
    REAL(fdatasync);
    ON_FILE("fdatasync", file, real_fdatasync(file));
}

int ftruncate(int file, off_t size) {
    REAL(ftruncate);
    ON_FILE("ftruncate", file, real_ftruncate(file, size));
}

int ftruncate64(int file, off64_t size) {
    REAL(ftruncate64);
    ON_FILE("ftruncate", file, real_ftruncate64(file, size));
}

/* This one returns the error. */
int posix_fallocate64(int file, off64_t offset, off64_t size) {
    REAL(posix_fallocate64);
    char path[PATH_MAX];
    if (!armed || !under_directory(path_of(file, path)))
        return real_posix_fallocate64(file, offset, size);
    int now = reached("fallocate", path);
    if (now == FAIL || now == HALF_THEN_FAIL)
        return error_number;
    int result = real_posix_fallocate64(file, offset, now == KILL_HALFWAY ? size / 2 : size);
    if (now == KILL_AFTER || now == KILL_HALFWAY)
        end();
    return result;
}

int posix_fallocate(int file, off_t offset, off_t size) {
    return posix_fallocate64(file, offset, size);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    WHOLE("rename", to, path_counts(to), real_rename(from, to));
}

int unlink(const char *path) {
    REAL(unlink);
    WHOLE("unlink", path, path_counts(path), real_unlink(path));
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    WHOLE("mkdir", path, path_counts(path), real_mkdir(path, mode));
}

/* Opening counts where it may make a file. */
#define OPENING(name, path, flags, call) \
    do { \
        WHOLE("open", path, (flags & O_CREAT) && path_counts(path), call); \
    } while (0)

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    REAL(open);
    MODE(flags)
    OPENING("open", path, flags, real_open(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    MODE(flags)
    OPENING("open", path, flags, real_open64(path, flags, mode));
}

int openat(int at_directory, const char *path, int flags, ...) {
    REAL(openat);
    MODE(flags)
    OPENING("open", path, flags, real_openat(at_directory, path, flags, mode));
}

int openat64(int at_directory, const char *path, int flags, ...) {
    REAL(openat64);
    MODE(flags)
    OPENING("open", path, flags, real_openat64(at_directory, path, flags, mode));
}
