#include "shm/ring.h"

#include "shm/slab.h"

#define STEPS_MOST(s) ((s)->mask + 1 + MQI_PUBLISH_EVERY * MQI_PEERS) /* that head can lag */

/* A cell at or past head may lead to a waiting message and must not be filled again. Head lags behind what consumers
 * have done by a few steps each, so the walk is short; a longer one than that is not of our making. */
int mqi_ring_pass(struct mqshm_sub *s, unsigned ring, uint64_t t)
{
	uint64_t head = mqi_load_acq(&s->shm->head[ring]);
	if ((int64_t)(head - s->head_seen[ring]) < 0) head = s->head_seen[ring];
	for (uint64_t bound = STEPS_MOST(s); (int64_t)(t - head) > (int64_t)s->mask; head++) {
		uint64_t v = mqi_load_acq(&s->rings[ring][head & s->mask]);
		if (mqi_cell_cycle(v) != mqi_cycle(s, head)) {
			if (mqi_cell_cycle(v) > mqi_cycle(s, head)) continue; /* filled again: head was passed by others */
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: head %llu is at a cell that was not filled", s->row, (unsigned long long)head);
		}
		uint32_t index = mqi_cell_index(v);
		if (index >= s->capacity)
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: a ring leads to slot %u of %u", s->row, index, s->capacity);
		uint64_t w = mqi_load_acq(&s->slots[index].word);
		if (mqi_claimable(mqi_slot_state(w)) && mqi_load_acq(&s->slots[index].place) == mqi_place(ring, head)) {
			/* It waits. There are more cells than slots, so t is not the tail: others have moved on meanwhile. */
			if (mqi_cell_cycle(mqi_load_acq(&s->rings[ring][t & s->mask])) >= mqi_cycle(s, t)) return MQSHM_EMPTY;
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: its ring is full although a slot was free", s->row);
		}
		if (unlikely(mqi_ring_grave(mqi_slot_state(w)))) mqi_ring_bury(s, ring, head, index, w);
		if (bound-- == 0)
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: head %llu is far behind tail %llu", s->row, (unsigned long long)head, (unsigned long long)t);
	}
	s->head_seen[ring] = head;
	mqi_raise(&s->shm->head[ring], head);
	return MQSHM_OK;
}

void mqi_ring_bury(struct mqshm_sub *s, unsigned ring, uint64_t at, uint32_t index, uint64_t w)
{
	struct slot_shm *slot = &s->slots[index];
	if (mqi_load_acq(&slot->place) != mqi_place(ring, at)) return;
	if (mqi_slot_state(w) == SLOT_EXPIRING) {
		mqi_raise(&s->shm->head[ring], at + 1);
		mqi_fence_sc(); /* pairs with mqi_expire_finish: it sees this head, or we see its tomb */
		w = mqi_load_acq(&slot->word);
		if (mqi_load_acq(&slot->place) != mqi_place(ring, at)) return;
	}
	if (mqi_slot_state(w) == SLOT_TOMB) mqi_slot_free(s, index, w);
}

bool mqi_ring_tomb(struct mqshm_sub *s, uint32_t index, uint64_t w)
{
	uint64_t place = mqi_load_acq(&s->slots[index].place), head = mqi_load_acq(&s->shm->head[mqi_place_ring(place) % MQI_PRIORITIES]);
	return (int64_t)(head - mqi_place_position(place)) > 0 && mqi_slot_free(s, index, w);
}

void mqi_ring_sweep(struct mqshm_sub *s, unsigned ring)
{
	uint64_t h = mqi_load_acq(&s->shm->head[ring]);
	if ((int64_t)(s->head[ring] - h) > 0) h = s->head[ring];
	for (uint64_t bound = STEPS_MOST(s); bound > 0 && mqi_ring_is_memory(s, ring, h); bound--) {
		uint64_t v = mqi_load_acq(&s->rings[ring][h & s->mask]);
		if (mqi_cell_cycle(v) < mqi_cycle(s, h)) break;
		if (mqi_cell_cycle(v) > mqi_cycle(s, h)) { /* all before that lap's position is done with, and was passed by others */
			h = mqi_position_of(s, v, h) - s->mask;
			continue;
		}
		uint32_t index = mqi_cell_index(v);
		if (index >= s->capacity) break; /* receivers say so */
		uint64_t w = mqi_load_acq(&s->slots[index].word);
		if (mqi_claimable(mqi_slot_state(w)) && mqi_load_acq(&s->slots[index].place) == mqi_place(ring, h)) break;
		if (mqi_ring_grave(mqi_slot_state(w))) mqi_ring_bury(s, ring, h, index, w);
		h++;
	}
	s->head[ring] = h;
	mqi_raise(&s->shm->head[ring], h);
}

bool mqi_ring_leads_to(struct mqshm_sub *s, uint32_t i)
{
	uint64_t place = mqi_load_acq(&s->slots[i].place), at = mqi_place_position(place);
	unsigned ring = mqi_place_ring(place);
	if (ring >= MQI_PRIORITIES || !mqi_ring_is_memory(s, ring, at < s->mask ? at : s->mask)) return false;
	return mqi_load_acq(&s->rings[ring][at & s->mask]) == mqi_cell(mqi_cycle(s, at), i);
}
