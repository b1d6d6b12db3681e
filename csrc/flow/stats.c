/* Numbers for people. Each is read without a lock: counters are exact as of when they were read, and what they are read
 * beside may have moved on meanwhile. */
#include "flow/look.h"
#include "shm/reach.h"
#include "shm/topics.h"

#define SCAN_MOST (1u << 16) /* slots that are looked at one by one */

_Static_assert(offsetof(mqshm_sub_stats, published) == offsetof(struct sub_counters_shm, published), "the same counters");
_Static_assert(offsetof(mqshm_sub_stats, capacity) == sizeof(struct sub_counters_shm), "all of them");

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

static void copy_text(struct mqshm *h, uint32_t row, mqshm_sub_stats *out)
{
	const char *text;
	if (mqi_subs_text(h, row, &text, &out->text_size) != MQSHM_OK) {
		out->text_size = 0;
		return;
	}
	memcpy(out->text, text, mqi_least(out->text_size, sizeof out->text));
	out->text[sizeof out->text - 1] = 0;
}

static int sub_stats(struct mqshm *h, uint32_t row, mqshm_sub_stats *out)
{
	struct mqshm_sub *s;
	if (row >= mqi_subs_rows(h)) return mqi_fail(MQSHM_INVALID, "there is no subscription %u", row);
	uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
	if (mqi_sub_state(word) != SUB_OPEN) return mqi_fail(MQSHM_NOT_FOUND, "subscription %u is not in use", row);
	int rc = mqi_view(h, row, &s);
	if (rc == MQSHM_CLOSED) rc = MQSHM_NOT_FOUND;
	if (rc != MQSHM_OK) return rc;
	out->row = row;
	out->private_owner = mqi_sub_owner(word);
	out->ack = s->ack;
	out->overflow = s->overflow;
	out->capacity = s->capacity;
	out->created_ns = mqi_load_rlx(&s->shm->created_ns);
	out->patterns = mqi_load_rlx(&s->shm->patterns);
	for (unsigned i = 0; i < MQI_PEERS / 64; i++)
		out->consumers += (uint32_t)__builtin_popcountll(mqi_load_rlx(&s->shm->members[i]));
	struct sub_counters_shm sum;
	struct mqi_held held;
	mqi_look_counters(h, row, &sum);
	mqi_look(s, &sum, SCAN_MOST, NULL, &held);
	memcpy(out, &sum, sizeof sum); /* which come first, in the same order */
	memcpy(out->waiting_by_ring, held.waiting_by_ring, sizeof out->waiting_by_ring);
	out->waiting = held.waiting;
	out->in_flight = held.in_flight;
	out->later = held.later;
	copy_text(h, row, out);
	return MQSHM_OK;
}

int mqshm_sub_stats_get(mqshm_t *h, uint32_t row, mqshm_sub_stats *out)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	memset(out, 0, sizeof *out);
	int rc = sub_stats(h, row, out);
	mqi_leave(h);
	return rc;
}

int mqshm_peer_stats_get(mqshm_t *h, uint32_t row, mqshm_peer_stats *out)
{
	int rc = MQSHM_OK;
	if (mqi_enter(h) != MQSHM_OK) return forked();
	memset(out, 0, sizeof *out);
	if (row == 0 || row >= mqi_peers_rows(h)) {
		rc = mqi_fail(MQSHM_INVALID, "there is no peer %u", row);
	} else {
		struct peer_shm *p = mqi_peer(h, row);
		uint64_t word = mqi_load_acq(&p->word);
		out->row = row;
		out->state = mqi_peer_state(word);
		out->role = mqi_load_rlx(&p->role);
		out->pid = mqi_load_rlx(&p->pid);
		out->start_ticks = mqi_load_rlx(&p->start_ticks);
		out->pid_ns = mqi_load_rlx(&p->pid_ns);
		out->attached_ns = mqi_load_rlx(&p->attached_ns);
		out->loans = mqi_load_rlx(&p->loans);
		memcpy(out->name, p->name, sizeof out->name);
		out->name[sizeof out->name - 1] = 0;
		if (out->state == PEER_FREE) rc = mqi_fail(MQSHM_NOT_FOUND, "peer %u is not in use", row);
		else out->alive = out->state != PEER_DEAD && !mqi_peer_gone(h, row, word);
	}
	mqi_leave(h);
	return rc;
}

int mqshm_stats_get(mqshm_t *h, mqshm_stats *out)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	mqi_config_look(h);
	struct topic_counters_shm topics;
	mqi_look_topics(h, &topics);
	*out = (mqshm_stats){
		.memory_used = mqi_memory_used(h),
		.memory_limit = h->memory_limit,
		.created_ns = mqi_load_rlx(&h->hdr->created_ns),
		.published = topics.published,
		.topics = mqi_topic_live(h),
	};
	uint32_t rows = mqi_subs_rows(h), peers = mqi_peers_rows(h);
	for (uint32_t i = 0; i < rows; i++) out->subscriptions += mqi_sub_state(mqi_load_acq(&mqi_sub(h, i)->word)) == SUB_OPEN;
	for (uint32_t p = 1; p < peers; p++) out->peers += mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word)) == PEER_LIVE;
	mqi_leave(h);
	return MQSHM_OK;
}
