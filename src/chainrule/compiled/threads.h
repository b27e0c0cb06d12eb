/* Threads that share work: a pool of our own for walks, PyTorch's for what stands between its own operations. */

#ifndef CHAINRULE_THREADS_H
#define CHAINRULE_THREADS_H

#include <stdint.h>

typedef void work(const void *argument, int64_t share, int64_t shares);

/* Call work(argument, share, shares) once for every share from 0 to shares - 1, and return when all have been done.

   Shares are taken by the calling thread and by workers, each by one of them; a thread that is done takes another, so
   that nothing waits for a worker that the system does not run. A caller that comes while the pool is in use, in a work
   that is shared out already or from another thread, does all of its shares itself. */
void in_parallel(work *run, const void *argument, int64_t shares);

/* The same in the threads of the OpenMP library that PyTorch has loaded, which look for work between its operations and
   would take the cores from ours; in the pool, where there is no such library. */
void beside_pytorch(work *run, const void *argument, int64_t shares);

#endif
