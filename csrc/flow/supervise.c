/* Election, start and end of the supervisor. The kernel elects: it is whoever holds the record lock on row 0's byte, and
 * the kernel takes that from it when it dies. So there is never more than one, and none is ever believed in that is gone.
 *
 * Who misses one starts it, one starter at a time: `started` is moved on by compare-and-swap, and says when the next may
 * be started. It is a time, not a lock: a starter that is stopped, or dies, holds nobody up for longer than that. */
#include "flow/supervise.h"

#include <errno.h>

#include "os/mapping.h"
#include "os/spawn.h"
#include "shm/event.h"
#include "shm/reach.h"

#define SPACING_MS 250u  /* between an election and the next start */
#define PATIENCE_MS 1000u /* until one that was started is taken to have failed; twice as long after each that was ... */
#define MOST_TRIES 7u    /* ... up to a minute. More of them at once would only slow each other down */

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

static uint64_t started(uint64_t ms, uint64_t tries) { return ms << 16 | tries; }

int mqshm_supervise(mqshm_t *h)
{
	if (h->forks != mqi_fork_count()) return forked();
	int error = mqi_byte_lock(h->fd, MQI_SUPERVISOR_LOCK);
	if (error == EAGAIN) return mqi_fail(MQSHM_EXISTS, "the broker has a supervisor");
	if (error) return mqi_fail(MQSHM_SYSTEM, "locking a byte of the segment's file: %s", strerror(error));
	h->supervises = true;
	mqi_store_rel(&h->hdr->supervisor, (uint64_t)h->peer);
	mqi_store_rlx(&h->hdr->started, started(mqi_boot_ms(), 0));
	return MQSHM_OK;
}

int64_t mqshm_supervised(mqshm_t *h)
{
	return h->supervises ? (int64_t)h->identity.pid : mqi_byte_holder(h->fd, MQI_SUPERVISOR_LOCK);
}

void mqi_supervisor_ring(struct mqshm *h)
{
	uint64_t row = mqi_load_acq(&h->hdr->supervisor);
	if (row > 0 && row < mqi_peers_rows(h)) mqi_event_ring_peer(h, (unsigned)row);
}

/* Whether it is this process's turn. */
static bool claim_start(struct mqshm *h)
{
	uint64_t was = mqi_load_acq(&h->hdr->started), now = mqi_boot_ms(), tries = was & 0xffff;
	uint64_t wait = tries == 0 ? SPACING_MS : (uint64_t)PATIENCE_MS << ((tries < MOST_TRIES ? tries : MOST_TRIES) - 1);
	if (was && now >= was >> 16 && now - (was >> 16) < wait) return false;
	return mqi_cas64(&h->hdr->started, was, started(now, tries < MOST_TRIES ? tries + 1 : tries));
}

void mqi_supervisor_look(struct mqshm *h)
{
	uint64_t now = mqi_wall_coarse_ns(), was = __atomic_load_n(&h->looked_ns, __ATOMIC_RELAXED);
	if (now - was < MQI_LOOK_NS || !__atomic_compare_exchange_n(&h->looked_ns, &was, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
	char **command = __atomic_load_n(&h->command, __ATOMIC_ACQUIRE);
	if (!command || mqi_enter(h) != MQSHM_OK) return;
	h->outside++; /* so the handle is not closed meanwhile */
	mqi_leave(h);
	if (!mqi_byte_held(h->fd, MQI_SUPERVISOR_LOCK) && claim_start(h)) mqi_spawn_aside(command);
	if (mqi_enter(h) != MQSHM_OK) return; /* a forked child's */
	h->outside--;
	mqi_leave(h);
}

int mqshm_supervisor_start(mqshm_t *h)
{
	if (h->forks != mqi_fork_count()) return forked();
	if (!__atomic_load_n(&h->command, __ATOMIC_ACQUIRE)) return mqi_fail(MQSHM_INVALID, "this process has no command to start a supervisor by");
	if (mqi_byte_held(h->fd, MQI_SUPERVISOR_LOCK)) return MQSHM_OK;
	int error = claim_start(h) ? mqi_spawn(h->command) : 0;
	return error ? mqi_fail(MQSHM_SYSTEM, "starting %s: %s", h->command[0], strerror(error)) : MQSHM_EMPTY;
}

/* It stays as it is until the handle ends, for threads may be using it. */
int mqshm_supervisor_command(mqshm_t *h, const char *const *argv)
{
	if (!argv[0]) return mqi_fail(MQSHM_INVALID, "a command has a program");
	char **command = mqi_copy_words((char *const *)argv), **none = NULL;
	if (!command) return mqi_fail(MQSHM_SYSTEM, "out of memory");
	if (!__atomic_compare_exchange_n(&h->command, &none, command, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) free(command);
	return MQSHM_OK;
}

/* Rows that are somebody's, but for this process's own; with role, or any. */
static uint32_t others(struct mqshm *h, bool users_only)
{
	uint32_t rows = mqi_peers_rows(h), count = 0;
	for (uint32_t p = 1; p < rows; p++) {
		struct peer_shm *peer = mqi_peer(h, p);
		unsigned state = mqi_peer_state(mqi_load_acq(&peer->word));
		if (p != h->peer && state != PEER_FREE && (!users_only || mqi_load_rlx(&peer->role) == MQSHM_USER)) count++;
	}
	return count;
}

int mqshm_users(mqshm_t *h, uint32_t *count)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	*count = others(h, true);
	mqi_leave(h);
	return MQSHM_OK;
}

/* Who attaches counts itself first, and then looks for the lock: either it finds it free, or this finds it counted. */
int mqshm_resign(mqshm_t *h, int whatever)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	uint64_t life = mqi_load_acq(&h->hdr->life);
	uint32_t users = others(h, true);
	mqi_leave(h);
	if (users && !whatever) return mqi_fail(MQSHM_EXISTS, "%u processes use the broker", users);
	h->supervises = false;
	mqi_store_rel(&h->hdr->supervisor, 0ull);
	mqi_byte_unlock(h->fd, MQI_SUPERVISOR_LOCK);
	mqi_fence_sc();
	if (whatever || mqi_load_acq(&h->hdr->life) == life || mqshm_supervise(h) != MQSHM_OK) return MQSHM_OK;
	return mqi_fail(MQSHM_EXISTS, "a process attached just now");
}

static bool holds_nothing(struct mqshm *h)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++)
		if (mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) == SUB_OPEN) return false;
	return true;
}

/* Who attaches makes its row LIVE, then counts itself in `life`. Counted before this reads it: its row is seen. Later:
 * the swap fails, or it finds the end and leaves. Only who is attached makes a subscription. */
int mqshm_end(mqshm_t *h)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	uint64_t life = mqi_load_acq(&h->hdr->life);
	bool over = life & MQI_ENDED;
	if (!over && others(h, false) == 0 && holds_nothing(h)) over = mqi_cas64(&h->hdr->life, life, life | MQI_ENDED);
	mqi_leave(h);
	return over ? MQSHM_OK : mqi_fail(MQSHM_EXISTS, "somebody uses the broker, or it has groups");
}

/* A name is taken away only under this lock, and only while it leads here: so nobody takes away the name of the broker
 * that comes after. Whoever dies with the lock loses it. */
int mqshm_bury(int fd, const char *path)
{
	int error = mqi_byte_lock(fd, MQI_BURY_LOCK);
	if (error == EAGAIN) return mqi_fail(MQSHM_EXISTS, "another process is removing the broker");
	if (!error) {
		error = mqi_unlink_same(fd, path);
		mqi_byte_unlock(fd, MQI_BURY_LOCK);
	}
	return error ? mqi_fail(MQSHM_SYSTEM, "removing %s: %s", path, strerror(error)) : MQSHM_OK;
}
