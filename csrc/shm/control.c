/* The control lock is a robust mutex: the kernel hands it on when its holder dies, and says so.
 *
 * The mutex lies in memory that may hold anything. The C library would believe a kind that it finds there, so the kind
 * is compared first with that of a mutex as mqshm makes it; and nobody waits for ever.
 */
#include <errno.h>
#include <pthread.h>

#include "shm/subs.h"

#define PATIENCE_S 10

/* What an initialised mutex has non-zero is its kind, which no locking changes. */
static bool is_ours(const pthread_mutex_t *mutex)
{
	pthread_mutexattr_t kind;
	pthread_mutex_t made, found;
	uint32_t want[sizeof made / sizeof(uint32_t)], have[sizeof made / sizeof(uint32_t)];
	memset(&made, 0, sizeof made);
	pthread_mutexattr_init(&kind);
	pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&made, &kind);
	memcpy(&found, mutex, sizeof found);
	memcpy(want, &made, sizeof want);
	memcpy(have, &found, sizeof have);
	pthread_mutex_destroy(&made);
	pthread_mutexattr_destroy(&kind);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++)
		if (want[i] && want[i] != have[i]) return false;
	return true;
}

static int taken(struct mqshm *h, int error)
{
	switch (error) {
	case 0:
		/* Odd without a death: it was left so by one whom the kernel did not know as the holder. */
		if (mqi_load_acq(&h->hdr->subs_version) & 1) mqi_subs_recover(h);
		return MQSHM_OK;
	case EOWNERDEAD: /* consistent last: should this process die as well, the next one does it again */
		mqi_subs_recover(h);
		pthread_mutex_consistent(&h->hdr->control);
		return MQSHM_OK;
	case ETIMEDOUT:
		return mqi_fail(MQSHM_TIMEOUT, "another process has held the broker's control lock for %d seconds: it is stopped, or hangs",
		                PATIENCE_S);
	default:
		return mqi_fail(MQSHM_CORRUPT, "the broker's control lock is broken: %s", strerror(error));
	}
}

int mqi_control_lock(struct mqshm *h)
{
	struct timespec end;
	if (!is_ours(&h->hdr->control)) return taken(h, EINVAL);
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += PATIENCE_S;
	return taken(h, pthread_mutex_timedlock(&h->hdr->control, &end));
}

bool mqi_control_try(struct mqshm *h)
{
	if (!is_ours(&h->hdr->control)) return false;
	int error = pthread_mutex_trylock(&h->hdr->control);
	return error != EBUSY && taken(h, error) == MQSHM_OK;
}

void mqi_control_unlock(struct mqshm *h) { pthread_mutex_unlock(&h->hdr->control); }
