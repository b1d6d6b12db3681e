#include "flow/due.h"

#include "flow/commit.h"
#include "flow/dead.h"
#include "flow/expire.h"
#include "flow/receive.h"
#include "flow/settle.h"
#include "shm/event.h"
#include "shm/reach.h"
#include "shm/ring.h"
#include "shm/slab.h"

#define FIRED_MOST 1024u /* slots at once: a receiver that finds more goes on with its own work in between */
#define PUT_OFF_MS 5u    /* a time that came before its owner was ready for it */
#define NOT_YET_MS 500u  /* or before the message was first in its ring */

int mqi_due_prepare(struct mqshm_sub *s)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	if (ready > s->capacity) return mqi_fail(MQSHM_CORRUPT, "subscription %u has %u slots of %u", s->row, ready, s->capacity);
	if (likely(s->times_ready >= ready)) return MQSHM_OK;
	int rc = mqi_area_grow(s->h, &s->shm->areas[SUB_TIMES], ready * sizeof(uint64_t), 0);
	if (rc == MQSHM_OK) s->times_ready = ready;
	return rc;
}

/* ---- hints ---- */

/* 0 is none: any time is earlier. */
static void lower(uint64_t *hint, uint64_t ms)
{
	for (uint64_t now = mqi_load_acq(hint); now == 0 || now > ms; now = mqi_load_acq(hint))
		if (mqi_cas64(hint, now, ms)) return;
}

/* Whoever sleeps until a later time is rung. It is told by who takes its word down to `ms`: who comes with a later time
 * then has nothing to tell, also where the watcher is gone. */
static void lower_next(struct mqshm_sub *s, uint64_t ms)
{
	uint64_t *watch = &s->h->hdr->watch;
	lower(&s->shm->next_due, ms);
	mqi_fence_after_rmw(); /* pairs with the watcher's: it sees the time, or we see until when it sleeps */
	for (uint64_t w = mqi_load_acq(watch); unlikely(ms < mqi_watch_ms(w)); w = mqi_load_acq(watch))
		if (mqi_cas64(watch, w, mqi_watch(mqi_watch_peer(w), ms))) {
			if (mqi_watch_peer(w) < mqi_peers_rows(s->h)) mqi_event_ring_peer(s->h, mqi_watch_peer(w));
			return;
		}
}

static void lower_both(struct mqshm_sub *s, uint32_t index, uint64_t ms)
{
	lower(&s->due_hints[index >> MQI_DUE_SHIFT], ms);
	lower_next(s, ms);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a == 0 || (b != 0 && b < a) ? b : a; }

/* ---- one slot's time ---- */

/* Slots whose times are memory. */
static uint32_t timed_slots(struct mqshm_sub *s)
{
	uint64_t ready = mqi_least(mqi_load_acq(&s->shm->slots_ready), s->capacity);
	return (uint32_t)mqi_least(ready, mqi_area_ready(&s->shm->areas[SUB_TIMES]) / sizeof(uint64_t));
}

/* Who comes late, after its lease has ended, must not write over the time of the next: whoever that is changes the time
 * after the word, so where the word is still ours and the time then has not changed, it is ours as well. */
bool mqi_due_set(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t gen, uint64_t ms)
{
	uint64_t was;
	if (ms > MQI_GEN40) ms = MQI_GEN40;
	do {
		was = mqi_load_acq(&s->times[index]);
		if (mqi_load_acq(&s->slots[index].word) != word) return false;
	} while (!mqi_cas64(&s->times[index], was, mqi_lease(gen, ms)));
	mqi_fence_after_rmw(); /* pairs with the second scan: it sees the time, or we see the raised hint */
	lower_both(s, index, ms);
	return true;
}

uint64_t mqi_due_or_over(struct mqshm_sub *s, uint64_t due_ms, uint64_t expires_ns)
{
	uint64_t over = expires_ns ? mqi_boot_ms_at(expires_ns) : due_ms;
	return over < due_ms && !(s->h->dead_expired && over <= mqi_boot_ms()) ? over : due_ms;
}

void mqi_due_again(struct mqshm_sub *s, uint32_t i)
{
	uint64_t w = mqi_load_acq(&s->slots[i].word), expires = mqi_slot_state(w) == SLOT_AGAIN ? mqi_expiry(s, i, w) : 0;
	if (expires && i < timed_slots(s)) mqi_due_set(s, i, w, mqi_slot_gen(w), mqi_boot_ms_at(expires));
}

/* ---- firing ---- */

struct firing {
	uint64_t now_ms, wall_ns;
	uint32_t fired;
	unsigned tombs; /* a bit per ring */
};

/* The time that a slot should have; 0: none. */
static uint64_t time_for(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	uint64_t expires;
	switch (mqi_slot_state(w)) {
	case SLOT_INFLIGHT: return s->ack == MQSHM_ACK_TIMEOUT ? mqi_boot_ms_in(mqi_load_rlx(&s->shm->ack_timeout_ms)) : 0;
	case SLOT_LATER: return mqi_boot_ms(); /* better early than never */
	case SLOT_OFFER:
	case SLOT_READY:
	case SLOT_AGAIN: return (expires = mqi_expiry(s, i, w)) ? mqi_boot_ms_at(expires) : 0;
	default: return 0;
	}
}

/* `time` is not the slot's. It gets one where it should have one (whoever was to write it was stopped); else what an
 * earlier life left is removed once it has come, so that nobody looks again. `time` was read after w: where the word is
 * still w after that, it is no later life's. */
static uint64_t set_right(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t w, uint64_t now_ms)
{
	uint64_t ms = time_for(s, i, w);
	if (ms > MQI_GEN40) ms = MQI_GEN40;
	if (ms == 0 && (time == 0 || mqi_lease_ms(time) > now_ms)) return mqi_lease_ms(time);
	if (mqi_load_acq(&s->slots[i].word) != w) return 0;
	return mqi_cas64(&s->times[i], time, ms ? mqi_lease(mqi_slot_gen(w), ms) : 0) ? ms : 0;
}

static uint64_t put_off(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t ms)
{
	if (ms > MQI_GEN40) ms = MQI_GEN40;
	mqi_cas64(&s->times[i], time, mqi_lease(mqi_lease_tag(time), ms));
	return ms;
}

/* Whose it was, it is done with: who has the slot next comes with another one. */
static uint64_t done(struct mqshm_sub *s, uint32_t i, uint64_t time, struct firing *f)
{
	mqi_cas64(&s->times[i], time, 0);
	f->fired++;
	return 0;
}

static uint64_t made_again(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t w, struct firing *f)
{
	if (!mqi_cas64(&s->slots[i].word, w, mqi_slot_word(SLOT_AGAIN, MQI_NOBODY, mqi_slot_gen(w) + 1, mqi_slot_attempts(w))))
		return mqi_lease_ms(time); /* extended, perhaps: then the time is the lease's that is now */
	done(s, i, time, f);
	mqi_made_again(s, i);
	return 0;
}

/* What becomes a dead letter leaves by a commit, which frees its slot. So what is in a ring waits for what is before it. */
static uint64_t dead_letter(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t w, struct firing *f)
{
	mqshm_delivery d;
	if (mqi_claimable(mqi_slot_state(w))) {
		uint64_t place = mqi_load_acq(&s->slots[i].place);
		unsigned ring = mqi_place_ring(place) % MQI_PRIORITIES;
		mqi_ring_sweep(s, ring);
		if (place != mqi_place(ring, s->head[ring])) return put_off(s, i, time, f->now_ms + NOT_YET_MS);
	}
	int rc = mqi_claim(s, i, w, &d);
	if (rc == MQSHM_EMPTY) return mqi_lease_ms(time);
	done(s, i, time, f);
	enum mqi_death why = rc == MQI_REFUSED ? mqi_death_of(&d) : MQI_ALIVE;
	if (why != MQI_ALIVE) mqi_give_up(&d, why, NULL, 0);
	else if (rc != MQSHM_CORRUPT) mqi_settle_later(&d, 0); /* the wall clock was set back */
	return 0;
}

/* A waiting message, or one that is to wait again. */
static uint64_t perhaps_over(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t w, struct firing *f)
{
	unsigned state = mqi_slot_state(w);
	uint64_t expires = mqi_expiry(s, i, w);
	if (expires && expires <= f->wall_ns) {
		if (state == SLOT_OFFER && !mqi_ring_leads_to(s, i)) return put_off(s, i, time, f->now_ms + PUT_OFF_MS);
		if (s->h->dead_expired) return dead_letter(s, i, time, w, f);
		if (state != SLOT_AGAIN && state != SLOT_LATER) f->tombs |= 1u << mqi_place_ring(mqi_load_acq(&s->slots[i].place)) % MQI_PRIORITIES;
		return mqi_expire(s, i, w) ? done(s, i, time, f) : mqi_lease_ms(time);
	}
	if (state == SLOT_LATER) return made_again(s, i, time, w, f);
	if (expires) return put_off(s, i, time, mqi_boot_ms_at(expires)); /* the wall clock was set back */
	return set_right(s, i, time, w, f->now_ms);
}

/* A lease whose holder is inside a commit: the time is the lease's, a generation before, or the one to go back to. */
static uint64_t settling(struct mqshm_sub *s, uint32_t i, uint64_t time, uint64_t w, struct firing *f)
{
	uint64_t behind = time ? (mqi_slot_gen(w) + 1 - mqi_lease_tag(time)) & 0xffffff : MQI_GEN40;
	if (behind > 2) return set_right(s, i, time, w, f->now_ms);
	if (mqi_lease_ms(time) > f->now_ms) return mqi_lease_ms(time);
	return mqi_settling_over(s, i, w) ? done(s, i, time, f) : put_off(s, i, time, f->now_ms + PUT_OFF_MS);
}

/* One slot: fired, or the time at which it will be; 0 where it waits for none. */
static uint64_t look(struct mqshm_sub *s, uint32_t i, struct firing *f)
{
	uint64_t w = mqi_load_acq(&s->slots[i].word), time = mqi_load_acq(&s->times[i]);
	uint64_t ahead = time ? (mqi_lease_tag(time) - mqi_slot_gen(w)) & 0xffffff : MQI_GEN40, most = 0, least = 0;
	unsigned state = mqi_slot_state(w);
	if (state == SLOT_SETTLING && s->ack == MQSHM_ACK_TIMEOUT) return settling(s, i, time, w, f);
	bool timed = state == SLOT_INFLIGHT && s->ack == MQSHM_ACK_TIMEOUT;
	/* The owner may be about to begin the next life: to publish, to extend the lease, or to give it back for later. */
	if (state == SLOT_NEW || state == SLOT_BOUND || state == SLOT_INFLIGHT) most = 1;
	if (state == SLOT_INFLIGHT && !timed) least = 1;
	bool has_times = most || state == SLOT_LATER || state == SLOT_AGAIN || mqi_claimable(state);
	if (!has_times || ahead < least || ahead > most) return set_right(s, i, time, w, f->now_ms);
	if (mqi_lease_ms(time) > f->now_ms) return mqi_lease_ms(time);
	if (timed) return made_again(s, i, time, w, f);
	if (most) return put_off(s, i, time, f->now_ms + PUT_OFF_MS);
	return perhaps_over(s, i, time, w, f);
}

/* The slots of one hint: the earliest time that is still to come. */
static uint64_t fire_group(struct mqshm_sub *s, uint32_t from, uint32_t end, struct firing *f)
{
	uint64_t first = 0;
	for (uint32_t i = from; i < end; i++) {
		uint64_t time = mqi_load_rlx(&s->times[i]);
		if (time) first = earlier(first, mqi_lease_ms(time) > f->now_ms ? mqi_lease_ms(time) : look(s, i, f));
	}
	return first;
}

static uint64_t earliest(struct mqshm_sub *s, uint32_t from, uint32_t end)
{
	uint64_t first = 0;
	for (uint32_t i = from; i < end; i++) {
		uint64_t time = mqi_load_acq(&s->times[i]);
		if (time) first = earlier(first, mqi_lease_ms(time));
	}
	return first;
}

/* Raised, then looked again: who set a time behind our back found the hint low enough, and left it so. */
static uint64_t fire_hint(struct mqshm_sub *s, uint32_t from, uint32_t ready, struct firing *f)
{
	uint64_t *hint = &s->due_hints[from >> MQI_DUE_SHIFT], was = mqi_load_acq(hint);
	uint32_t end = (uint32_t)mqi_least(ready, from + (1ull << MQI_DUE_SHIFT));
	if (was == 0 || was > f->now_ms) return was;
	if (mqi_cas64(hint, was, fire_group(s, from, end, f))) {
		mqi_fence_after_rmw(); /* pairs with mqi_due_set */
		uint64_t first = earliest(s, from, end);
		if (first) lower_both(s, from, first);
	}
	return mqi_load_acq(hint);
}

int mqi_due_fire(struct mqshm_sub *s, uint64_t now_ms)
{
	uint64_t seen = mqi_load_acq(&s->shm->next_due), next = 0;
	if (seen == 0 || seen > now_ms) return MQSHM_OK;
	if (mqi_load_acq(&s->shm->slots_ready) > s->capacity) return mqi_fail(MQSHM_CORRUPT, "subscription %u has more than %u slots", s->row, s->capacity);
	struct firing f = {.now_ms = now_ms, .wall_ns = mqi_wall_ns()};
	uint32_t ready = timed_slots(s), from = 0;
	for (; from < ready && f.fired < FIRED_MOST; from += 1u << MQI_DUE_SHIFT) next = earlier(next, fire_hint(s, from, ready, &f));
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++)
		if (f.tombs >> ring & 1) mqi_ring_sweep(s, ring);
	if (from < ready) return MQSHM_OK; /* more is due, as next_due still says */
	if (mqi_cas64(&s->shm->next_due, seen, next)) /* one lowered between its scan and here is in its hint: lower again */
		for (uint32_t i = 0; i << MQI_DUE_SHIFT < ready; i++) {
			uint64_t hint = mqi_load_acq(&s->due_hints[i]);
			if (hint != 0) lower_next(s, hint);
		}
	return MQSHM_OK;
}

int mqi_due_fire_all(struct mqshm_sub *s, uint64_t now_ms)
{
	int rc = MQSHM_OK;
	for (uint32_t rounds = s->capacity / FIRED_MOST + 2; rc == MQSHM_OK && rounds > 0; rounds--) {
		uint64_t next = mqi_load_acq(&s->shm->next_due);
		if (next == 0 || next > now_ms) break;
		rc = mqi_due_fire(s, now_ms);
	}
	return rc;
}

bool mqi_due_make_room(struct mqshm_sub *s)
{
	if (s->h->dead_expired) return false; /* a dead letter is published, and needs room itself */
	uint64_t now = mqi_boot_ms(), next = mqi_load_acq(&s->shm->next_due), expired = s->counters->expired;
	return next && next <= now && mqi_due_fire(s, now) == MQSHM_OK && s->counters->expired != expired;
}

void mqi_due_renew(struct mqshm_sub *s, uint32_t from, uint32_t n)
{
	struct firing f = {0}; /* at a time at which nothing is due */
	uint32_t end = timed_slots(s);
	for (uint32_t i = from; i < end && i - from < n; i++) {
		uint64_t ms = look(s, i, &f);
		if (ms) lower_both(s, i, ms);
	}
}
