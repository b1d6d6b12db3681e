/* Numbers for people. Each is read without a lock: counters are exact as of when they were read, and what they are read
 * beside may have moved on meanwhile. */
#include "shm/reach.h"
#include "shm/slab.h"
#include "shm/topics.h"

#define SCAN_MOST (1u << 16) /* slots that are looked at one by one */

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

static void sum_counters(struct mqshm *h, uint32_t row, mqshm_sub_stats *out)
{
	uint32_t peers = mqi_peers_rows(h);
	for (uint32_t p = 1; p < peers; p++) {
		const struct sub_counters_shm *c = mqi_sub_counters(h, p, row);
		if (!c) continue;
		out->delivered += mqi_load_rlx(&c->delivered);
		out->settled += mqi_load_rlx(&c->settled);
		out->redelivered += mqi_load_rlx(&c->redelivered);
		out->nacked += mqi_load_rlx(&c->nacked);
		out->rejected += mqi_load_rlx(&c->rejected);
		out->expired += mqi_load_rlx(&c->expired);
		out->dropped += mqi_load_rlx(&c->dropped);
		out->published += mqi_load_rlx(&c->published);
	}
}

static void count_slots(struct mqshm_sub *s, uint32_t slots, mqshm_sub_stats *out)
{
	for (uint32_t i = 0; i < slots; i++) {
		switch (mqi_slot_state(mqi_load_rlx(&s->slots[i].word))) {
		case SLOT_OFFER:
		case SLOT_READY:
		case SLOT_AGAIN: {
			unsigned ring = mqi_place_ring(mqi_load_rlx(&s->slots[i].place));
			out->waiting++;
			if (ring < MQI_PRIORITIES) out->waiting_by_ring[ring]++;
			break;
		}
		case SLOT_LATER: out->later++; break;
		case SLOT_INFLIGHT:
		case SLOT_SETTLING:
		case SLOT_MOVING: out->in_flight++; break;
		default: break;
		}
	}
}

/* The rings' cursors lag a little; what is in flight is what came in and neither waits nor left. */
static void estimate(struct mqshm_sub *s, mqshm_sub_stats *out)
{
	for (unsigned i = 0; i < MQI_PRIORITIES; i++) {
		int64_t waiting = (int64_t)(mqi_load_rlx(&s->shm->tail[i]) - mqi_load_rlx(&s->shm->head[i]));
		out->waiting_by_ring[i] = waiting > 0 ? mqi_least((uint64_t)waiting, s->capacity) : 0;
		out->waiting += out->waiting_by_ring[i];
	}
	uint64_t gone = out->settled + out->rejected + out->expired + out->dropped + out->waiting;
	out->in_flight = out->published > gone ? out->published - gone : 0;
}

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
	sum_counters(h, row, out);
	uint32_t slots = (uint32_t)mqi_least(mqi_load_acq(&s->shm->slots_ready), s->capacity);
	if (slots <= SCAN_MOST) count_slots(s, slots, out);
	else estimate(s, out);
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
		memcpy(out->name, p->name, sizeof out->name);
		out->name[sizeof out->name - 1] = 0;
		if (out->state == PEER_FREE) rc = mqi_fail(MQSHM_NOT_FOUND, "peer %u is not in use", row);
		else out->alive = out->state != PEER_DEAD && !mqi_peer_gone(h, row, word);
	}
	mqi_leave(h);
	return rc;
}

/* Each process's sheet, as far as it was ever written to. */
static uint64_t published(struct mqshm *h)
{
	uint64_t sum = 0;
	uint32_t peers = mqi_peers_rows(h), topics = mqi_topic_top(h) + 1;
	for (uint32_t p = 1; p < peers; p++)
		for (uint32_t t = 1; t < topics; t++) {
			const struct topic_counters_shm *c = mqi_topic_counters(h, p, t);
			if (!c) break;
			sum += mqi_load_rlx(&c->published);
		}
	return sum;
}

int mqshm_stats_get(mqshm_t *h, mqshm_stats *out)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	mqi_config_look(h);
	*out = (mqshm_stats){
		.memory_used = mqi_memory_used(h),
		.memory_limit = h->memory_limit,
		.created_ns = mqi_load_rlx(&h->hdr->created_ns),
		.published = published(h),
		.topics = mqi_topic_live(h),
	};
	uint32_t rows = mqi_subs_rows(h), peers = mqi_peers_rows(h);
	for (uint32_t i = 0; i < rows; i++) out->subscriptions += mqi_sub_state(mqi_load_acq(&mqi_sub(h, i)->word)) == SUB_OPEN;
	for (uint32_t p = 1; p < peers; p++) out->peers += mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word)) == PEER_LIVE;
	mqi_leave(h);
	return MQSHM_OK;
}
