/* A wall clock that tests can set, for one process and its children.
 *
 *     LD_PRELOAD=clock_shift.so CLOCK_SHIFT_FILE=shift program
 *
 * The file holds one 64-bit number in the machine's byte order: nanoseconds by which CLOCK_REALTIME
 * is ahead. It is mapped once, and whoever writes to it sets the clock of a program that runs.
 *
 * Whatever waits until a time of that clock goes by it too, as it does when the clock of a machine
 * is set: such waits are cut into short ones, at the end of which the clock is read again. The
 * monotonic clocks and all waits for a length of time are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* How late a waiting thread may notice that the clock was set. */
#define SLICE (20 * 1000000LL)
/* A time of less than so many seconds is one of a monotonic clock: the other began in 1970. */
#define NOT_THE_WALL_CLOCK 1000000000LL

static const volatile int64_t none = 0;
static const volatile int64_t *shift = &none;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_cond_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t,
                                  const struct timespec *);
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);
static int (*real_sem_clockwait)(sem_t *, clockid_t, const struct timespec *);
static long (*real_syscall)(long, ...);

static void find(void)
{
    if (real_clock_gettime)
        return;
    real_syscall = dlsym(RTLD_NEXT, "syscall");
    /* There is an older one of that name, of another layout. */
    real_cond_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real_cond_timedwait)
        real_cond_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_cond_clockwait = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    real_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    real_sem_clockwait = dlsym(RTLD_NEXT, "sem_clockwait");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_SHIFT_FILE");
    find();
    if (!path)
        return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        shift = mapped;
}

static int64_t nanoseconds(const struct timespec *t)
{
    return t->tv_sec * SECOND + t->tv_nsec;
}

static struct timespec as_timespec(int64_t t)
{
    struct timespec result = {t / SECOND, t % SECOND};
    return result;
}

static int is_wall_clock(clockid_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

/* The time as the program sees it. */
static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return nanoseconds(&t);
}

/* Until when to wait by the machine's clock for a time of the program's. */
static struct timespec next_look(int64_t until)
{
    struct timespec t;
    find();
    real_clock_gettime(CLOCK_REALTIME, &t);
    int64_t machine = nanoseconds(&t), left = until - *shift - machine;
    return as_timespec(machine + (left < 0 ? 0 : left < SLICE ? left : SLICE));
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    find();
    int result = real_clock_gettime(clock, t);
    if (result == 0 && is_wall_clock(clock) && *shift)
        *t = as_timespec(nanoseconds(t) + *shift);
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    (void)zone;
    int64_t at = now();
    t->tv_sec = at / SECOND;
    t->tv_usec = at % SECOND / 1000;
    return 0;
}

time_t time(time_t *at)
{
    time_t seconds = now() / SECOND;
    if (at)
        *at = seconds;
    return seconds;
}

int timespec_get(struct timespec *t, int base)
{
    if (base != TIME_UTC || clock_gettime(CLOCK_REALTIME, t))
        return 0;
    return base;
}

/* May wake without cause, as every wait on a condition may. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    find();
    if (until->tv_sec < NOT_THE_WALL_CLOCK)
        return real_cond_timedwait(condition, mutex, until);
    struct timespec look = next_look(nanoseconds(until));
    int result = real_cond_timedwait(condition, mutex, &look);
    return result == ETIMEDOUT && now() < nanoseconds(until) ? 0 : result;
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until)
{
    find();
    if (!is_wall_clock(clock))
        return real_cond_clockwait(condition, mutex, clock, until);
    return pthread_cond_timedwait(condition, mutex, until);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    find();
    for (;;) {
        struct timespec look = next_look(nanoseconds(until));
        int result = real_sem_timedwait(semaphore, &look);
        if (result == 0 || errno != ETIMEDOUT || now() >= nanoseconds(until))
            return result;
    }
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    find();
    if (!is_wall_clock(clock))
        return real_sem_clockwait(semaphore, clock, until);
    return sem_timedwait(semaphore, until);
}

/* gRPC waits by the system call itself. */
long syscall(long number, ...)
{
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    find();
    int by_wall_clock = number == SYS_futex && a[3] && (a[1] & FUTEX_CLOCK_REALTIME)
                        && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
    if (!by_wall_clock)
        return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    int64_t until = nanoseconds((const struct timespec *)a[3]);
    struct timespec look = next_look(until);
    long result = real_syscall(number, a[0], a[1], a[2], &look, a[4], a[5]);
    if (result == -1 && errno == ETIMEDOUT && now() < until)
        errno = EINTR; /* the caller looks whether it is over, and waits on */
    return result;
}
