/* Rings: one per priority of a subscription, of cells {cycle, slot index}. A cell's cycle says which lap filled it, so
 * a cell is filled by one compare-and-swap and never emptied. Positions grow for ever; head and tail are hints that may
 * lag behind the truth, which is in the cells and in the slots: every process has cursors of its own, and publishes
 * them every eighth step.
 *
 * A ring has at least as many cells as its subscription has slots. A publisher that holds a slot therefore always finds
 * a cell, and linking cannot fail.
 */
#ifndef MQI_RING_H
#define MQI_RING_H

#include "shm/handle.h"
#include "shm/area.h"

#define MQI_PUBLISH_EVERY 8

static inline uint64_t mqi_cycle(const struct mqshm_sub *s, uint64_t position) { return (position >> s->ring_shift) + 1; }

/* Raises a shared cursor to `to`, never lowers it. */
static inline void mqi_raise(uint64_t *cursor, uint64_t to)
{
	for (uint64_t now = mqi_load_rlx(cursor); (int64_t)(to - now) > 0; now = mqi_load_rlx(cursor))
		if (mqi_cas64(cursor, now, to)) return;
}

/* Cells become memory as the first lap needs them. Readers ask whether a cell is memory before they look at it. */
static inline bool mqi_ring_is_memory(struct mqshm_sub *s, unsigned ring, uint64_t position)
{
	if (likely(position < s->ring_ready[ring])) return true;
	uint64_t cells = mqi_area_ready(&s->shm->areas[SUB_RING + ring]) / sizeof(uint64_t);
	s->ring_ready[ring] = cells > s->mask ? UINT64_MAX : cells;
	return position < s->ring_ready[ring];
}

/* Before a commit: memory for every cell that this publisher may have to fill. Between now and its linking, others may
 * link at most what fits in the slots, and each process may be one step ahead of what this one knows. */
static inline int mqi_ring_prepare(struct mqshm_sub *s, unsigned ring)
{
	if (likely(s->ring_ready[ring] == UINT64_MAX)) return MQSHM_OK;
	uint64_t need = s->tail[ring] + mqi_load_rlx(&s->shm->slots_ready) + MQI_PEERS + 1;
	if (mqi_ring_is_memory(s, ring, need)) return MQSHM_OK;
	if (need > s->mask) need = s->mask;
	if (!mqi_ring_is_memory(s, ring, need)) {
		int rc = mqi_area_grow(s->h, &s->shm->areas[SUB_RING + ring], (need + 1) * sizeof(uint64_t), need * 4);
		if (rc != MQSHM_OK) return rc;
		if (!mqi_ring_is_memory(s, ring, need)) return mqi_fail(MQSHM_CORRUPT, "ring %u of subscription %u does not grow", ring, s->row);
	}
	return MQSHM_OK;
}

static inline bool mqi_claimable(unsigned state) { return state == SLOT_OFFER || state == SLOT_READY; }

/* The position that a cell's content belongs to, given any position of that cell. */
static inline uint64_t mqi_position_of(const struct mqshm_sub *s, uint64_t cell, uint64_t position)
{
	return (mqi_cell_cycle(cell) - 1) << s->ring_shift | (position & s->mask);
}

/* Position `at`, before which all is done with, is about to be passed, and leads to a slot that was EXPIRING or TOMB. A
 * tomb keeps its slot until here: else a ring could have more positions than cells between its oldest message and its
 * tail. Who makes the tomb looks at the shared head afterwards, and who passes it half-made looks at it again. */
void mqi_ring_bury(struct mqshm_sub *s, unsigned ring, uint64_t at, uint32_t index, uint64_t word);
static inline bool mqi_ring_grave(unsigned state) { return state == SLOT_EXPIRING || state == SLOT_TOMB; }
/* A tomb, anywhere: freed if the shared head has passed it. */
bool mqi_ring_tomb(struct mqshm_sub *s, uint32_t index, uint64_t word);
/* Passes what is done with at the head of a ring, as a receiver would, without taking anything: for who makes tombs, as
 * there may be no receiver. */
void mqi_ring_sweep(struct mqshm_sub *s, unsigned ring);

/* Helps head on until position t's cell may be filled again: every cell that it passes leads nowhere any more. */
int mqi_ring_pass(struct mqshm_sub *s, unsigned ring, uint64_t t);

/* Whether the slot's place holds a cell that names it: it was linked there. */
bool mqi_ring_leads_to(struct mqshm_sub *s, uint32_t index);

/* Links slot `index`, which this peer owns as `word` (NEW or BOUND), at the end of a ring. The slot is not touched
 * again afterwards: its line is the receiver's by then. Receivers take OFFER for READY.
 * The tail cursor is never past the true tail, so the walk ends at the first cell of an older lap. */
static inline int mqi_ring_link(struct mqshm_sub *s, unsigned ring, uint32_t index, uint64_t word)
{
	struct slot_shm *slot = &s->slots[index];
	uint64_t t = s->tail[ring];
	for (unsigned steps = 1;; steps++) {
		if (unlikely(!mqi_ring_is_memory(s, ring, t)))
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: tail %llu is past its ring's memory", s->row, (unsigned long long)t);
		uint64_t *cell = &s->rings[ring][t & s->mask];
		uint64_t v = mqi_load_acq(cell);
		uint64_t have = mqi_cell_cycle(v), want = mqi_cycle(s, t);
		if (unlikely(have >= want)) { /* filled by another publisher, in this lap or a later one */
			t = mqi_position_of(s, v, t) + 1;
			uint64_t tail = steps % MQI_PUBLISH_EVERY ? t : mqi_load_acq(&s->shm->tail[ring]);
			if ((int64_t)(tail - t) > 0) t = tail;
			continue;
		}
		if (unlikely(have + 1 != want))
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: the cell of position %llu has cycle %llu", s->row, (unsigned long long)t,
			                (unsigned long long)have);
		if (unlikely((int64_t)(t - s->head_seen[ring]) > (int64_t)s->mask)) {
			int rc = mqi_ring_pass(s, ring, t);
			if (rc == MQSHM_EMPTY) continue; /* t was stale: the cell has changed */
			if (rc != MQSHM_OK) return rc;
		}
		mqi_store_rlx(&slot->place, mqi_place(ring, t)); /* before OFFER: receivers read the word, then the place */
		mqi_store_rel(&slot->word, mqi_slot_word(SLOT_OFFER, mqi_slot_owner(word), mqi_slot_gen(word), mqi_slot_attempts(word)));
		if (likely(mqi_cas64(cell, v, mqi_cell(want, index)))) break;
	}
	s->tail[ring] = t + 1;
	if ((t + 1) % MQI_PUBLISH_EVERY == 0) mqi_raise(&s->shm->tail[ring], t + 1);
	return MQSHM_OK;
}

#endif
