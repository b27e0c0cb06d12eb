/* Threads that wait for work: in_parallel(work, argument, n) calls work(argument, 0 … n - 1), each in its own thread.

   A walk hands out work every few microseconds, so that waiting threads first look again and again before they sleep.
   One caller has the threads at a time; another that comes meanwhile does its work alone. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define MOST_WORKERS 63
#define LOOKS 4000

static struct {
    pthread_mutex_t owner, lock;
    pthread_cond_t wake;
    atomic_int sleepers, pending;
    atomic_uint round;
    int64_t workers, shares;
    void (*work)(const void *, int64_t);
    const void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static struct hired {
    int64_t share;
    unsigned seen; /* rounds before it came */
} hired[MOST_WORKERS];

static void *worker(void *argument) {
    const struct hired *self = argument;
    unsigned seen = self->seen;
    for (;;) {
        for (int looks = 0; looks < LOOKS && atomic_load(&pool.round) == seen; looks++) relax();
        if (atomic_load(&pool.round) == seen) {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleepers, 1);
            while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
            atomic_fetch_sub(&pool.sleepers, 1);
            pthread_mutex_unlock(&pool.lock);
        }
        seen++; /* no round begins before all have ended the last */
        if (self->share < pool.shares) pool.work(pool.argument, self->share);
        atomic_fetch_sub(&pool.pending, 1);
    }
    return 0;
}

/* In a forked process there are no threads but the one that forked. */
static void forget(void) {
    pthread_mutex_init(&pool.owner, 0);
    pthread_mutex_init(&pool.lock, 0);
    pthread_cond_init(&pool.wake, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.pending, 0);
    atomic_store(&pool.round, 0);
    pool.workers = 0;
}

/* Threads for shares 1 … shares - 1, as many as can be had. */
static void hire(int64_t shares) {
    static int registered = 0;
    if (!registered) registered = !pthread_atfork(0, 0, forget);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (; pool.workers < shares - 1 && pool.workers < MOST_WORKERS; pool.workers++) {
        struct hired *next = hired + pool.workers;
        next->share = pool.workers + 1;
        next->seen = atomic_load(&pool.round);
        pthread_t thread;
        if (pthread_create(&thread, &attributes, worker, next)) break;
    }
    pthread_attr_destroy(&attributes);
}

static void in_parallel(void (*work)(const void *, int64_t), const void *argument, int64_t shares) {
    int64_t done = 0;
    if (shares > 1 && !pthread_mutex_trylock(&pool.owner)) {
        if (pool.workers < shares - 1) hire(shares);
        done = pool.workers + 1 < shares ? pool.workers + 1 : shares;
        if (done > 1) {
            pool.work = work, pool.argument = argument, pool.shares = done;
            atomic_store(&pool.pending, (int)pool.workers);
            atomic_fetch_add(&pool.round, 1);
            if (atomic_load(&pool.sleepers)) {
                pthread_mutex_lock(&pool.lock);
                pthread_cond_broadcast(&pool.wake);
                pthread_mutex_unlock(&pool.lock);
            }
            work(argument, 0);
            while (atomic_load(&pool.pending)) relax();
        } else
            done = 0;
        pthread_mutex_unlock(&pool.owner);
    }
    for (; done < shares; done++) work(argument, done);
}
