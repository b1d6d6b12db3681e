/* The life of a handle: attach, fork, detach. */
#include "shm/handle.h"

#include <stdio.h>

#include "flow/reap.h"
#include "flow/supervise.h"
#include "shm/area.h"
#include "shm/config.h"
#include "shm/counters.h"
#include "shm/peers.h"
#include "shm/segment.h"
#include "shm/subs.h"

int mqshm_format(int fd, uint64_t units, const mqshm_config *config)
{
	if (!config) return mqi_fail(MQSHM_INVALID, "a segment needs a configuration");
	return mqi_segment_format(fd, units, config);
}

/* A row for this process. From a spare row it sweeps the dead, then takes a row that this has freed. */
static int take_row(struct mqshm *h)
{
	int rc = mqi_peer_join(h, h->program, h->role);
	if (rc != MQSHM_OK || h->peer < MQI_SPARE_PEERS) return rc;
	uint32_t dead;
	rc = mqi_enter(h);
	if (rc == MQSHM_OK) {
		rc = mqi_reap(h, &dead);
		mqi_leave(h);
	}
	mqi_peer_leave(h);
	if (rc == MQSHM_OK) rc = mqi_peer_join(h, h->program, h->role);
	if (rc != MQSHM_OK || h->peer < MQI_SPARE_PEERS) return rc;
	mqi_peer_leave(h);
	return mqi_fail(MQSHM_TOO_MANY, "%u processes are attached, as many as there can be", MQI_SPARE_PEERS - 1);
}

/* Counted after the row is LIVE: so either who would end the broker sees the row, or its CAS fails, or this sees the end. */
static int join(struct mqshm *h)
{
	int rc = take_row(h);
	if (rc != MQSHM_OK) return rc;
	if (mqi_add64(&h->hdr->life, 1) & MQI_ENDED) {
		mqi_peer_leave(h);
		return mqi_fail(MQSHM_NOT_FOUND, "the broker has ended with its last user");
	}
	mqi_supervisor_ring(h);
	return MQSHM_OK;
}

static void free_handle(struct mqshm *h)
{
	for (uint32_t i = 0; i < MQI_SUBS; i++) free(h->views[i]);
	for (struct mqshm_sub *s = h->old_views, *older; s; s = older) {
		older = s->older;
		free(s);
	}
	for (uint32_t i = 0; i < h->topic_room; i++)
		for (struct mqshm_topic *t = h->topics[i], *chain; t; t = chain) {
			chain = t->chain;
			if (t->targets != &t->only) free(t->targets);
			free(t);
		}
	free(h->topics);
	free(h->claims);
	free(h->use_seen);
	free(h->dead_name);
	free(h->command);
	free(h);
}

int mqshm_attach(int fd, const char *program, uint32_t role, mqshm_t **out)
{
	*out = NULL;
	struct mqshm *h = calloc(1, sizeof *h);
	if (!h) return mqi_fail(MQSHM_SYSTEM, "out of memory");
	mqi_fork_watch();
	h->fd = fd;
	h->role = role;
	h->forks = mqi_fork_count();
	h->may_bias = mqi_local_barrier_register();
	if (program) snprintf(h->program, sizeof h->program, "%s", program);
	int rc = mqi_segment_open(h);
	if (rc != MQSHM_OK) {
		free_handle(h);
		return rc;
	}
	mqi_config_refresh(h);
	rc = join(h);
	if (rc != MQSHM_OK) {
		mqshm_abandon(h);
		return rc;
	}
	*out = h;
	return MQSHM_OK;
}

void mqshm_abandon(mqshm_t *h)
{
	if (!h) return;
	if (!h->closed) mqi_segment_close(h);
	free_handle(h);
}

/* The row is given back only when nothing names it any more; otherwise it stays until the process ends, and is swept then. */
static void leave_segment(struct mqshm *h)
{
	mqi_store_rlx(&h->row->busy, 1u);
	mqi_subs_of_peer(h, h->peer);
	int rc = mqi_sweep_row(h, h->peer, 0);
	if (rc == MQSHM_OK) mqi_subs_sweep(h);
	mqi_store_rel(&h->row->busy, 0u);
	if (rc != MQSHM_OK) return;
	mqi_peer_leave(h);
	mqi_supervisor_ring(h);
}

/* false: another thread has closed it. */
static bool lock_alone(struct mqshm *h)
{
	for (unsigned spins = 0; mqi_lock(h) == MQSHM_OK; mqi_back_off(spins++)) {
		if (h->outside == 0) return true;
		mqi_unlock(h);
	}
	return false;
}

/* Always by the lock: that takes the bias away, so nobody is inside, and who comes later comes by the lock too. In a forked
 * child nothing in the segment is its own, and the lock may be that of a thread that is not there. */
void mqshm_close(mqshm_t *h)
{
	bool parents = h->forks != mqi_fork_count();
	if (h->closed || (!parents && !lock_alone(h))) return;
	if (!parents) leave_segment(h);
	mqi_segment_close(h);
	h->closed = true;
	if (parents) return;
	h->may_bias = false;
	__atomic_store_n(&h->bias, NULL, __ATOMIC_RELAXED); /* a handle that was never used before gave it to this thread */
	mqi_unlock(h);
}

void mqshm_detach(mqshm_t *h)
{
	if (!h) return;
	mqshm_close(h);
	mqshm_abandon(h);
}

/* What a view holds for the parent: its leases, its place among the free slots, its counters. Where things are, and how
 * far the memory goes, is as true for the child. */
static void disown_view(struct mqshm_sub *s)
{
	if (mqi_sub_owner(s->word) != MQI_NOBODY) s->word = 0; /* no row's word is: every use finds it closed */
	s->counters = &s->h->uncounted_sub;
	s->next_slot = s->end_slot = 0;
	s->held = 0;
	s->touched = s->woken = false;
}

static void disown(struct mqshm *h)
{
	h->peer = 0;
	h->row = NULL;
	h->supervises = false;
	h->next_seq = h->end_seq = 0;
	h->outside = 0;
	memset(h->cursors, 0, sizeof h->cursors);
	memset(h->growing, 0, sizeof h->growing);
	for (uint32_t i = 0; i < MQI_SUBS; i++)
		if (h->views[i]) disown_view(h->views[i]);
	for (struct mqshm_sub *s = h->old_views; s; s = s->older) disown_view(s);
	for (uint32_t i = 0; i < h->topic_room; i++)
		for (struct mqshm_topic *t = h->topics[i]; t; t = t->chain) {
			t->version = MQI_NO_VERSION;
			t->counters = &h->uncounted_topic;
		}
}

int mqshm_after_fork(mqshm_t *h)
{
	uint32_t parents = h->forks;
	if (parents == mqi_fork_count()) return MQSHM_OK;
	if (h->lock || h->inside) return mqi_fail(MQSHM_FORKED, "another thread was using the handle when the process forked");
	disown(h);
	h->bias = NULL;
	h->may_bias = mqi_local_barrier_register();
	h->forks = mqi_fork_count();
	int rc = join(h);
	if (rc != MQSHM_OK) {
		h->forks = parents;
		return rc;
	}
	mqi_count_again(h);
	return MQSHM_OK;
}

int mqshm_memory_used(mqshm_t *h, uint64_t *bytes)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return rc;
	*bytes = mqi_memory_used(h);
	mqi_leave(h);
	return MQSHM_OK;
}
