/* What stands in for the kernel where it would stop the only thread there is: the robust mutex, futexes, yielding,
 * barriers. The linker sends the core's calls here. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "kernel.h"
#include "memory.h"
#include "os/atomic.h"
#include "scheduler.h"

int __wrap_pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *end);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_consistent(pthread_mutex_t *mutex);
int __wrap_mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t timeout_ns);
int __wrap_mqi_futex_wake(const uint32_t *word, int how_many);
int __wrap_sched_yield(void);
bool __wrap_mqi_global_barrier(bool expedited);

static struct {
	unsigned holder; /* plus one */
	const uint32_t *sleeping_on[ACTORS];
	unsigned slept_through;
} kernel;

void kernel_reset(void) { memset(&kernel, 0, sizeof kernel); }
unsigned kernel_slept_through(void) { return kernel.slept_through; }

/* ---- the control lock: the only mutex ---- */

static bool lock_is_free(void *with)
{
	(void)with;
	return kernel.holder == 0 || has_died(kernel.holder - 1);
}

static int take_lock(void)
{
	int rc = kernel.holder ? EOWNERDEAD : 0;
	kernel.holder = me() + 1;
	return rc;
}

int __wrap_pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *end)
{
	(void)end;
	mqi_hook(MQI_CAS, mutex, __FILE__, __LINE__);
	wait_until(lock_is_free, NULL, false);
	return take_lock();
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	mqi_hook(MQI_CAS, mutex, __FILE__, __LINE__);
	return lock_is_free(NULL) ? take_lock() : EBUSY;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	mqi_hook(MQI_CAS, mutex, __FILE__, __LINE__);
	kernel.holder = 0;
	return 0;
}

int __wrap_pthread_mutex_consistent(pthread_mutex_t *mutex)
{
	(void)mutex;
	return 0;
}

/* ---- sleeping ---- */

static bool is_awake(void *with)
{
	const uint32_t **on = with;
	return !*on;
}

/* Time passes only when nobody else can do anything: a sleep that ends by its timeout was ended by nobody. */
int __wrap_mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	mqi_hook(MQI_LOAD, word, __FILE__, __LINE__);
	if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return 0;
	const uint32_t **on = &kernel.sleeping_on[me()];
	*on = word;
	if (wait_until(is_awake, on, timeout_ns >= 0)) return 0;
	*on = NULL;
	kernel.slept_through++;
	clock_advance((uint64_t)timeout_ns / 1000000u + 1);
	return ETIMEDOUT;
}

int __wrap_mqi_futex_wake(const uint32_t *word, int how_many)
{
	int woken = 0;
	mqi_hook(MQI_CAS, word, __FILE__, __LINE__);
	for (unsigned i = 0; i < ACTORS && woken < how_many; i++)
		if (kernel.sleeping_on[i] == word && !has_died(i)) {
			kernel.sleeping_on[i] = NULL;
			woken++;
		}
	return woken;
}

int __wrap_sched_yield(void)
{
	yield_here();
	return 0;
}

/* One thread: every access is over when the next begins. */
bool __wrap_mqi_global_barrier(bool expedited)
{
	(void)expedited;
	return true;
}
