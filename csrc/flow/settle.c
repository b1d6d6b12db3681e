#include "flow/settle.h"

#include "flow/dead.h"
#include "flow/due.h"
#include "flow/receive.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/slab.h"
#include "shm/subs.h"
#include "shm/topics.h"

static int lost(const mqshm_delivery *d)
{
	return mqi_fail(MQSHM_LEASE_LOST, "message %llu is not leased to this consumer any more", (unsigned long long)d->seq);
}

static uint64_t restate(uint64_t word, unsigned state, unsigned owner, unsigned later)
{
	return mqi_slot_word(state, owner, mqi_slot_gen(word) + later, mqi_slot_attempts(word));
}

void mqi_made_again(struct mqshm_sub *s, uint32_t index)
{
	if (unlikely(mqi_info_flags(mqi_load_rlx(&s->slots[index].info)) & F_EXPIRES)) mqi_due_again(s, index);
	mqi_again_hint(s, mqi_place_ring(mqi_load_rlx(&s->slots[index].place)) % MQI_PRIORITIES, index);
	mqi_event_one(s->h, s->shm->waiters);
}

void mqi_finish_freeing(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t block, uint64_t gen, uint32_t bit)
{
	mqi_block_release(s->h, block, gen, bit);
	mqi_slot_free(s, index, word);
}

int mqi_settle(mqshm_delivery *d, uint64_t *counter)
{
	struct mqshm_sub *s = d->sub;
	if (likely(d->block == 0)) {
		if (unlikely(!mqi_slot_free(s, d->slot, d->word))) return lost(d);
	} else {
		uint64_t freeing = restate(d->word, SLOT_FREEING, s->h->peer, 0);
		if (unlikely(!mqi_cas64(&s->slots[d->slot].word, d->word, freeing))) return lost(d);
		mqi_finish_freeing(s, d->slot, freeing, d->block, d->block_gen, d->bit);
	}
	MQI_COUNT(*counter, 1);
	return MQSHM_OK;
}

/* What is held after its ack (FREEING) is not to be settled once more, and what is leased is not to be released. */
static inline bool stands(const mqshm_delivery *d, unsigned state)
{
	return mqi_slot_state(d->word) == state && mqi_view_holds(d->sub);
}

static int enter(const mqshm_delivery *d, unsigned state)
{
	if (unlikely(!d->sub)) return mqi_fail(MQSHM_INVALID, "the delivery is empty");
	int rc = mqi_enter(d->sub->h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "message %llu is leased to the parent process", (unsigned long long)d->seq);
	if (likely(stands(d, state))) return MQSHM_OK;
	mqi_leave(d->sub->h); /* a lease keeps its slot: what is gone was not leased any more */
	return lost(d);
}

static int end(mqshm_delivery *d, uint64_t *counter)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (unlikely(rc != MQSHM_OK)) return rc;
	rc = mqi_settle(d, counter);
	mqi_unhold(d);
	mqi_leave(d->sub->h);
	return rc;
}

int mqshm_ack(mqshm_delivery *d) { return end(d, &d->sub->counters->settled); }

int mqshm_ack_batch(mqshm_delivery *d, uint32_t n, uint32_t *acked)
{
	*acked = 0;
	if (n == 0) return MQSHM_OK;
	struct mqshm *h = d->sub->h;
	int rc = mqi_enter(h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the messages are leased to the parent process");
	for (uint32_t i = 0; i < n; i++) {
		if (unlikely(!stands(&d[i], SLOT_INFLIGHT))) continue;
		*acked += mqi_settle(&d[i], &d[i].sub->counters->settled) == MQSHM_OK;
		mqi_unhold(&d[i]);
	}
	mqi_leave(h);
	return MQSHM_OK;
}

int mqshm_reject(mqshm_delivery *d, const char *reason, uint32_t reason_size)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (unlikely(rc != MQSHM_OK)) return rc;
	mqi_unhold(d);
	rc = mqi_give_up(d, MQI_REJECTED, reason, reason_size);
	mqi_leave(d->sub->h);
	return rc;
}

/* Doubling from the subscription's shortest wait to its longest. */
static uint64_t backoff_ms(const struct mqshm_sub *s, unsigned attempt)
{
	uint64_t ms = s->shm->backoff_min_ms, most = s->shm->backoff_max_ms;
	for (unsigned i = 1; i < attempt && ms < most; i++) ms *= 2;
	return ms < most ? ms : most;
}

static uint64_t given_back(const mqshm_delivery *d, unsigned state)
{
	return mqi_slot_word(state, MQI_NOBODY, mqi_slot_gen(d->word) + 1, d->attempt & MQI_ATTEMPTS_MAX);
}

/* Back to where it stands: claimable at once, or at its time, with as many attempts as the delivery says (a claim that found
 * it worn out was none). The time is written first and belongs to the generation that the compare-and-swap makes. */
int mqi_settle_later(mqshm_delivery *d, uint64_t ms)
{
	struct mqshm_sub *s = d->sub;
	if (ms == 0) {
		if (!mqi_cas64(&s->slots[d->slot].word, d->word, given_back(d, SLOT_AGAIN))) return lost(d);
		mqi_made_again(s, d->slot);
		return MQSHM_OK;
	}
	int rc = mqi_due_prepare(s);
	if (rc != MQSHM_OK) return rc;
	uint64_t due = mqi_due_or_over(s, mqi_boot_ms_in(ms), d->expires_ns), later = given_back(d, SLOT_LATER);
	if (!mqi_due_set(s, d->slot, d->word, mqi_slot_gen(later), due) || !mqi_cas64(&s->slots[d->slot].word, d->word, later)) return lost(d);
	return MQSHM_OK;
}

int mqshm_nack(mqshm_delivery *d, uint32_t delay_ms)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (unlikely(rc != MQSHM_OK)) return rc;
	struct mqshm_sub *s = d->sub;
	uint32_t most = mqi_load_rlx(&s->shm->max_attempts);
	if (most && d->attempt >= most) rc = mqi_give_up(d, MQI_WORN_OUT, NULL, 0);
	else rc = mqi_settle_later(d, delay_ms == UINT32_MAX ? backoff_ms(s, d->attempt) : delay_ms);
	if (rc == MQSHM_OK) MQI_COUNT(s->counters->nacked, 1);
	if (rc == MQSHM_OK || rc == MQSHM_LEASE_LOST) mqi_unhold(d);
	mqi_leave(s->h);
	return rc;
}

int mqshm_extend(mqshm_delivery *d, uint64_t ms)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (unlikely(rc != MQSHM_OK)) return rc;
	struct mqshm_sub *s = d->sub;
	uint64_t now = restate(d->word, SLOT_INFLIGHT, s->h->peer, 1);
	if (s->ack == MQSHM_ACK_TIMEOUT) {
		uint64_t due = mqi_boot_ms_in(ms);
		if (mqi_due_set(s, d->slot, d->word, mqi_slot_gen(now), due) && mqi_cas64(&s->slots[d->slot].word, d->word, now)) {
			d->word = now;
		} else rc = lost(d);
	} else if (mqi_load_acq(&s->slots[d->slot].word) != d->word) rc = lost(d); /* else it has no end to extend */
	mqi_leave(s->h);
	return rc;
}

int mqshm_delivery_held(const mqshm_delivery *d)
{
	return d->sub && mqi_load_acq(&d->sub->slots[d->slot].word) == d->word;
}

/* Within one operation: should the lease end meanwhile, what is read may be another message's, but is memory. */
int mqshm_delivery_read(const mqshm_delivery *d, const void *from, void *to, uint64_t size)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (rc != MQSHM_OK) return rc;
	uint64_t *word = &d->sub->slots[d->slot].word;
	if (mqi_load_acq(word) == d->word) memcpy(to, from, size);
	mqi_fence_acq();
	if (mqi_load_rlx(word) != d->word) rc = lost(d);
	mqi_leave(d->sub->h);
	return rc;
}

int mqshm_ack_hold(mqshm_delivery *d)
{
	int rc = enter(d, SLOT_INFLIGHT);
	if (unlikely(rc != MQSHM_OK)) return rc;
	uint64_t freeing = restate(d->word, SLOT_FREEING, d->sub->h->peer, 0);
	if (mqi_cas64(&d->sub->slots[d->slot].word, d->word, freeing)) {
		d->word = freeing;
		MQI_COUNT(d->sub->counters->settled, 1);
	} else rc = lost(d);
	mqi_unhold(d);
	mqi_leave(d->sub->h);
	return rc;
}

int mqshm_release(mqshm_delivery *d)
{
	int rc = enter(d, SLOT_FREEING);
	if (unlikely(rc != MQSHM_OK)) return rc;
	if (mqi_load_acq(&d->sub->slots[d->slot].word) != d->word) rc = lost(d);
	else if (d->block) mqi_finish_freeing(d->sub, d->slot, d->word, d->block, d->block_gen, d->bit);
	else mqi_slot_free(d->sub, d->slot, d->word);
	mqi_leave(d->sub->h);
	return rc;
}

static bool matches(struct mqshm *h, const mqshm_delivery *d, const char *topic, uint32_t topic_size, const void *id, uint32_t id_size)
{
	const char *name;
	uint32_t size;
	if (d->id_size != id_size || memcmp(d->id, id, id_size) != 0) return false;
	return mqi_topic_text(h, d->topic, &name, &size) == MQSHM_OK && size == topic_size && memcmp(name, topic, size) == 0;
}

static bool find_in(struct mqshm_sub *s, const char *topic, uint32_t topic_size, const void *id, uint32_t id_size, mqshm_delivery *out)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	for (uint32_t i = 0; i < ready && i < s->capacity; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		if (mqi_slot_state(w) != SLOT_INFLIGHT || mqi_slot_owner(w) != s->h->peer) continue;
		if (!mqi_delivery_fill(s, i, out) || !matches(s->h, out, topic, topic_size, id, id_size)) continue;
		out->word = w;
		out->attempt = mqi_slot_attempts(w);
		mqi_fence_acq();
		if (mqi_load_acq(&s->slots[i].word) == w) return true;
	}
	return false;
}

int mqshm_find_held(mqshm_t *h, const char *topic, uint32_t topic_size, const void *id, uint32_t id_size, mqshm_delivery *out)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the leases belong to the parent process");
	rc = MQSHM_LEASE_LOST;
	for (uint32_t row = 0; rc != MQSHM_OK && row < MQI_SUBS; row++) {
		struct mqshm_sub *s = h->views[row]; /* perhaps of a life that is over: its slots may be another subscription's by now */
		if (s && s->touched && mqi_view_holds(s) && find_in(s, topic, topic_size, id, id_size, out)) rc = MQSHM_OK;
	}
	if (rc != MQSHM_OK) mqi_fail(rc, "this process holds no message with id %.*s of topic %.*s", (int)id_size, (const char *)id, (int)topic_size, topic);
	mqi_leave(h);
	return rc;
}
