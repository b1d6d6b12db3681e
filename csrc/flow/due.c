#include "flow/due.h"

#include "flow/commit.h"
#include "shm/area.h"
#include "shm/event.h"
#include "shm/slab.h"

int mqi_due_prepare(struct mqshm_sub *s)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	if (ready > s->capacity) return mqi_fail(MQSHM_CORRUPT, "subscription %u has %u slots of %u", s->row, ready, s->capacity);
	if (likely(s->times_ready >= ready)) return MQSHM_OK;
	int rc = mqi_area_grow(s->h, &s->shm->areas[SUB_TIMES], ready * sizeof(uint64_t), 0);
	if (rc == MQSHM_OK) s->times_ready = ready;
	return rc;
}

/* 0 is none: any time is earlier. */
static void lower(uint64_t *hint, uint64_t ms)
{
	for (uint64_t now = mqi_load_acq(hint); now == 0 || now > ms; now = mqi_load_acq(hint))
		if (mqi_cas64(hint, now, ms)) return;
}

void mqi_due_lower(struct mqshm_sub *s, uint32_t index, uint64_t ms)
{
	lower(&s->due_hints[index >> MQI_DUE_SHIFT], ms);
	lower(&s->shm->next_due, ms);
}

/* Who comes late, after its lease has ended, must not write over the time of the next: whoever that is changes the time
 * after the word, so where the word is still ours and the time then has not changed, it is ours as well. */
bool mqi_due_set(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t gen, uint64_t ms)
{
	uint64_t was;
	do {
		was = mqi_load_acq(&s->times[index]);
		if (mqi_load_acq(&s->slots[index].word) != word) return false;
	} while (!mqi_cas64(&s->times[index], was, mqi_lease(gen, ms)));
	mqi_due_lower(s, index, ms);
	return true;
}

/* A lease without a time: its holder was stopped between claim and deadline. It is to end like any other. `was` was read
 * after w: where the word is still w after that, it is no time of a later life's. */
static uint64_t begin_lease(struct mqshm_sub *s, uint32_t i, uint64_t was, uint64_t w)
{
	if (mqi_load_acq(&s->slots[i].word) != w) return 0;
	uint64_t ms = mqi_boot_ms() + mqi_load_rlx(&s->shm->ack_timeout_ms);
	return mqi_cas64(&s->times[i], was, mqi_lease(mqi_slot_gen(w), ms)) ? ms : 0;
}

/* One slot: fired, or the time at which it will be; 0 where it waits for none. */
static uint64_t look(struct mqshm_sub *s, uint32_t i, uint64_t now_ms)
{
	struct slot_shm *slot = &s->slots[i];
	uint64_t w = mqi_load_acq(&slot->word);
	unsigned state = mqi_slot_state(w);
	if (state == SLOT_SETTLING && s->ack == MQSHM_ACK_TIMEOUT) return mqi_settling_due(s, i, w, now_ms);
	if (state != SLOT_LATER && state != SLOT_INFLIGHT) return 0;
	bool timed = state == SLOT_INFLIGHT && s->ack == MQSHM_ACK_TIMEOUT;
	uint64_t time = mqi_load_acq(&s->times[i]), ahead = (mqi_lease_tag(time) - mqi_slot_gen(w)) & 0xffffff;
	/* A lease may have the next generation's: its holder is about to extend it, or to give it back for later. */
	if (ahead > timed) return timed ? begin_lease(s, i, time, w) : 0;
	if (mqi_lease_ms(time) > now_ms) return mqi_lease_ms(time);
	unsigned ring = mqi_place_ring(mqi_load_acq(&slot->place)) % MQI_PRIORITIES;
	if (mqi_cas64(&slot->word, w, mqi_slot_word(SLOT_AGAIN, MQI_NOBODY, mqi_slot_gen(w) + 1, mqi_slot_attempts(w)))) {
		mqi_again_hint(s, ring, i);
		mqi_event_one(s->h, s->shm->waiters);
	}
	return 0;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

/* The slots of one hint: the earliest time that is still to come. */
static uint64_t look_at_all(struct mqshm_sub *s, uint32_t from, uint32_t ready, uint64_t now_ms)
{
	uint64_t first = 0;
	for (uint32_t i = from; i < ready && i < from + (1u << MQI_DUE_SHIFT); i++) first = earlier(first, look(s, i, now_ms));
	return first;
}

int mqi_due_fire(struct mqshm_sub *s, uint64_t now_ms)
{
	uint64_t seen = mqi_load_acq(&s->shm->next_due), next = 0;
	if (seen == 0 || seen > now_ms) return MQSHM_OK;
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	uint64_t times = mqi_area_ready(&s->shm->areas[SUB_TIMES]) / sizeof(uint64_t);
	if (ready > s->capacity) return mqi_fail(MQSHM_CORRUPT, "subscription %u has %u slots of %u", s->row, ready, s->capacity);
	if (times < ready) ready = (uint32_t)times;
	for (uint32_t from = 0; from < ready; from += 1u << MQI_DUE_SHIFT) {
		uint64_t *hint = &s->due_hints[from >> MQI_DUE_SHIFT], was = mqi_load_acq(hint);
		if (was != 0 && was <= now_ms) {
			/* Raised, then looked again: who began a time behind our back found the hint low enough, and left it so. */
			if (mqi_cas64(hint, was, look_at_all(s, from, ready, now_ms))) {
				uint64_t first = look_at_all(s, from, ready, now_ms);
				if (first) mqi_due_lower(s, from, first);
			}
			was = mqi_load_acq(hint);
		}
		next = earlier(next, was);
	}
	if (mqi_cas64(&s->shm->next_due, seen, next)) /* one lowered between its scan and here is in its hint: lower again */
		for (uint32_t i = 0; i << MQI_DUE_SHIFT < ready; i++) {
			uint64_t hint = mqi_load_acq(&s->due_hints[i]);
			if (hint != 0) lower(&s->shm->next_due, hint);
		}
	return MQSHM_OK;
}

void mqi_due_renew(struct mqshm_sub *s, uint32_t from, uint32_t n)
{
	uint64_t times = mqi_area_ready(&s->shm->areas[SUB_TIMES]) / sizeof(uint64_t), end = mqi_load_acq(&s->shm->slots_ready);
	if (end > s->capacity) end = s->capacity;
	if (end > times) end = times;
	for (uint64_t i = from; i < end && i - from < n; i++) {
		uint64_t ms = look(s, (uint32_t)i, 0); /* at a time at which nothing is due */
		if (ms) mqi_due_lower(s, (uint32_t)i, ms);
	}
}
