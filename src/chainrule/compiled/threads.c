/* The pool of threads.

   A walk hands out work every few microseconds, so whoever waits first looks again and again. On a busy machine what it
   waits for may not even be running: after a moment it offers its core to others (sched_yield), and then sleeps until it
   is woken.

   A round is one call of in_parallel. It is published as a single number, its own and how many shares it has, so that a
   late worker never mixes two rounds up; a share is taken by writing the round's number into its place, which nobody who
   still believes in an earlier round can do. */

#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define MOST_SHARES 256 /* in a round; the caller does what is beyond */
#define LOOKS 1000      /* of one who waits, before it yields */
#define YIELDS 100      /* before it sleeps */

static struct {
    pthread_mutex_t owner, lock;
    pthread_cond_t wake, done;
    atomic_int_fast64_t round; /* its number times 1024, plus its shares */
    atomic_int_fast64_t left;  /* shares of the round that are not done */
    atomic_int sleepers;       /* workers that sleep */
    atomic_int owner_sleeps;
    int64_t workers, numbers[MOST_SHARES];
    work *run;
    const void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static struct {
    _Alignas(64) atomic_int_fast64_t round; /* in which the share was last taken; a cache line each */
} taken[MOST_SHARES];

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* One more look: 0 if it is time to sleep. */
static int may_look(int *looks) {
    if (*looks >= LOOKS + YIELDS) return 0;
    if ((*looks)++ < LOOKS)
        relax();
    else
        sched_yield();
    return 1;
}

/* Take the first share from `first` on, around, that nobody has taken in this round; -1 if there is none. */
static int64_t take_share(int64_t round, int64_t first) {
    const int64_t shares = round % 1024;
    for (int64_t k = 0; k < shares; k++) {
        const int64_t share = (first + k) % shares;
        int_fast64_t before = atomic_load(&taken[share].round);
        if (before < round && atomic_compare_exchange_strong(&taken[share].round, &before, round)) return share;
    }
    return -1;
}

/* Do what is left of the round, one's own share first; whether there was anything. */
static int do_shares(int64_t round, int64_t first) {
    int any = 0;
    for (int64_t share; (share = take_share(round, first)) >= 0; any = 1) {
        pool.run(pool.argument, share, round % 1024);
        if (atomic_fetch_sub(&pool.left, 1) == 1 && atomic_load(&pool.owner_sleeps)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
    return any;
}

static void *worker(void *argument) {
    const int64_t number = *(const int64_t *)argument;
    int64_t seen = 0;
    for (int looks = 0;;) {
        const int64_t round = atomic_load(&pool.round);
        if (round != seen) {
            seen = round;
            if (do_shares(round, number)) looks = 0;
        } else if (!may_look(&looks)) {
            pthread_mutex_lock(&pool.lock);
            atomic_fetch_add(&pool.sleepers, 1);
            while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
            atomic_fetch_sub(&pool.sleepers, 1);
            pthread_mutex_unlock(&pool.lock);
            looks = 0;
        }
    }
    return 0;
}

/* In a forked process there are no threads but the one that forked, and nobody is at work on a round. */
static void forget(void) {
    pthread_mutex_init(&pool.owner, 0);
    pthread_mutex_init(&pool.lock, 0);
    pthread_cond_init(&pool.wake, 0);
    pthread_cond_init(&pool.done, 0);
    atomic_store(&pool.round, (atomic_load(&pool.round) / 1024 + 1) * 1024);
    atomic_store(&pool.left, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.owner_sleeps, 0);
    pool.workers = 0;
}

/* Workers for shares 1 … shares - 1, as many as can be had. */
static void hire(int64_t shares) {
    static int registered = 0;
    if (!registered) registered = !pthread_atfork(0, 0, forget);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (; pool.workers < shares - 1; pool.workers++) {
        pool.numbers[pool.workers] = pool.workers + 1;
        pthread_t thread;
        if (pthread_create(&thread, &attributes, worker, pool.numbers + pool.workers)) break;
    }
    pthread_attr_destroy(&attributes);
}

/* As many sleepers as the round has use for, beside those who are awake. */
static void wake(int64_t shares) {
    const int64_t sleepers = atomic_load(&pool.sleepers), awake = pool.workers - sleepers;
    if (!sleepers) return;
    pthread_mutex_lock(&pool.lock);
    for (int64_t k = awake; k < shares - 1; k++) pthread_cond_signal(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

static void wait_for_others(void) {
    int looks = 0;
    while (atomic_load(&pool.left))
        if (!may_look(&looks)) {
            pthread_mutex_lock(&pool.lock);
            atomic_store(&pool.owner_sleeps, 1);
            while (atomic_load(&pool.left)) pthread_cond_wait(&pool.done, &pool.lock);
            atomic_store(&pool.owner_sleeps, 0);
            pthread_mutex_unlock(&pool.lock);
        }
}

void in_parallel(work *run, const void *argument, int64_t shares) {
    if (shares < 2 || shares > MOST_SHARES || pthread_mutex_trylock(&pool.owner)) {
        for (int64_t share = 0; share < shares; share++) run(argument, share, shares);
        return;
    }
    hire(shares);
    pool.run = run, pool.argument = argument;
    atomic_store(&pool.left, shares);
    const int64_t round = (atomic_load(&pool.round) / 1024 + 1) * 1024 + shares;
    atomic_store(&pool.round, round);
    wake(shares);
    do_shares(round, 0);
    wait_for_others();
    pthread_mutex_unlock(&pool.owner);
}

/* -------------------------------------------------------------------------------------------------------------- OpenMP */

#ifdef __linux__
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));

typedef struct {
    work *run;
    const void *argument;
    int64_t shares;
} task;

/* A thread's shares: there may be fewer threads than were asked for. */
static void some_shares(void *argument) {
    const task *t = argument;
    for (int64_t share = omp_get_thread_num(); share < t->shares; share += omp_get_num_threads())
        t->run(t->argument, share, t->shares);
}

void beside_pytorch(work *run, const void *argument, int64_t shares) {
    task t = {run, argument, shares};
    if (shares > 1 && GOMP_parallel && omp_get_thread_num && omp_get_num_threads)
        GOMP_parallel(some_shares, &t, (unsigned)shares, 0);
    else
        in_parallel(run, argument, shares);
}
#else
void beside_pytorch(work *run, const void *argument, int64_t shares) { in_parallel(run, argument, shares); }
#endif
