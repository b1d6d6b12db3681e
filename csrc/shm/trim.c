#include "shm/trim.h"

#include "os/mapping.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/grace.h"
#include "shm/subs.h"
#include "shm/units.h"

#define AGAIN_MS 10 /* after somebody was inside an operation, perhaps stopped there */

static uint64_t block_at(const struct mqshm *h, uint64_t unit, const struct mqi_chunk *c, uint64_t i)
{
	return h->units_offset + (unit << MQI_UNIT_SHIFT) + i * c->stride;
}

/* Whether all blocks are FREE. *use is a sum that changes with every use of one. */
static bool unused(struct mqshm *h, uint64_t unit, const struct mqi_chunk *c, uint64_t *use)
{
	uint64_t blocks = mqi_chunk_blocks(c);
	*use = blocks;
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t w = mqi_load_rlx(&mqi_block(h, block_at(h, unit, c, i))->word);
		if (mqi_block_state(w) != BLOCK_FREE) return false;
		*use += mqi_block_gen(w);
	}
	return blocks > 0;
}

/* Steps 1 and 2. */
static bool retire(struct mqshm *h, uint64_t unit)
{
	struct unit_shm *u = mqi_unit(h, unit);
	uint64_t word = mqi_load_acq(&u->word), taken = 0, gen;
	struct mqi_chunk c = {.committed = (uint64_t)mqi_area_committed(word) * MQI_PAGE};
	if (mqi_area_state(word) != AREA_ACTIVE || !mqi_chunk_is_sound(h, unit, &c)) return false;
	uint64_t blocks = mqi_chunk_blocks(&c);
	while (taken < blocks && mqi_block_take(h, block_at(h, unit, &c, taken), &gen)) taken++;
	if (taken == blocks && mqi_cas64(&u->word, word, mqi_area_word(AREA_RETIRING, MQI_NOBODY, mqi_area_committed(word), 0, 0))) return true;
	for (uint64_t i = 0; i < taken; i++) {
		uint64_t at = block_at(h, unit, &c, i);
		mqi_block_return(h, at, mqi_block_gen(mqi_load_rlx(&mqi_block(h, at)->word)));
	}
	return false;
}

/* Chunks in RETIRING; those of a subscription's region name who gives them back. */
static bool is_retired(struct mqshm *h, uint64_t unit, struct mqi_chunk *c)
{
	uint64_t w = mqi_load_acq(&mqi_unit(h, unit)->word);
	c->committed = (uint64_t)mqi_area_committed(w) * MQI_PAGE;
	return mqi_area_state(w) == AREA_RETIRING && mqi_area_owner(w) == MQI_NOBODY && mqi_chunk_is_sound(h, unit, c);
}

/* Step 5. A reference to a block may be older than the chunk's end, and is told by its generation from all that come. */
static void give_back(struct mqshm *h, uint64_t unit, const struct mqi_chunk *c)
{
	struct unit_shm *u = mqi_unit(h, unit);
	uint64_t blocks = mqi_chunk_blocks(c), gen = mqi_load_rlx(&u->gen);
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t seen = mqi_block_gen(mqi_load_rlx(&mqi_block(h, block_at(h, unit, c, i))->word));
		if (seen > gen) gen = seen;
	}
	mqi_store_rel(&u->gen, gen);
	uint64_t count = mqi_units_of(h, unit);
	mqi_punch(h->fd, h->units_offset + (unit << MQI_UNIT_SHIFT), count << MQI_UNIT_SHIFT);
	mqi_units_free(h, unit, count);
}

/* Steps 3 to 5 for all that are in RETIRING. The control lock is held. */
static bool finish(struct mqshm *h)
{
	uint64_t known = mqi_units_known(h);
	struct mqi_chunk c;
	mqi_add64(&h->hdr->chunks_version, 1);
	bool idle = mqi_all_idle(h);
	h->trim_failed_ms = idle ? 0 : mqi_boot_ms();
	if (!idle) return false;
	for (uint64_t unit = 1; unit < known; unit++)
		if (is_retired(h, unit, &c)) give_back(h, unit, &c);
	if (mqi_event_waited_for(h->hdr->memory_waiters)) mqi_event_ring(h, h->hdr->memory_waiters);
	return true;
}

static bool any_retired(struct mqshm *h)
{
	struct mqi_chunk c;
	for (uint64_t unit = 1, known = mqi_units_known(h); unit < known; unit++)
		if (is_retired(h, unit, &c)) return true;
	return false;
}

/* Step 0, and whatever was left in between. `wanted`: there is something to retire. */
static bool may_retire(struct mqshm *h, bool wanted)
{
	if (any_retired(h)) return finish(h);
	if (!wanted) return false;
	bool idle = mqi_all_idle(h);
	if (!idle) h->trim_failed_ms = mqi_boot_ms();
	return idle;
}

bool mqi_trim_locked(struct mqshm *h)
{
	uint64_t known = mqi_units_known(h), use;
	struct mqi_chunk c;
	bool wanted = false, any = any_retired(h);
	for (uint64_t unit = 1; unit < known && !wanted; unit++) wanted = mqi_is_chunk(h, unit, &c) && unused(h, unit, &c, &use);
	if (!may_retire(h, wanted)) return false;
	for (uint64_t unit = 1; unit < known; unit++)
		if (mqi_is_chunk(h, unit, &c) && unused(h, unit, &c, &use)) any |= retire(h, unit);
	return any && finish(h);
}

bool mqi_trim_all(struct mqshm *h)
{
	if ((h->trim_failed_ms && mqi_boot_ms() < h->trim_failed_ms + AGAIN_MS) || !mqi_control_try(h)) return false;
	bool done = mqi_trim_locked(h);
	mqi_control_unlock(h);
	return done;
}

/* What was seen is kept per unit; a chunk that was not there then has not been idle since. */
static bool remember(struct mqshm *h, uint64_t known)
{
	if (known <= h->use_room) return true;
	uint64_t *more = realloc(h->use_seen, known * sizeof *more);
	if (!more) return false;
	memset(more + h->use_room, 0, (known - h->use_room) * sizeof *more);
	h->use_seen = more;
	h->use_room = known;
	return true;
}

void mqi_trim_idle(struct mqshm *h)
{
	uint64_t known = mqi_units_known(h), use;
	struct mqi_chunk c;
	bool wanted = false, any = false;
	if (!remember(h, known) || !mqi_control_try(h)) return;
	for (uint64_t unit = 1; unit < known; unit++) {
		if (!mqi_is_chunk(h, unit, &c) || !unused(h, unit, &c, &use)) h->use_seen[unit] = 0;
		else if (h->use_seen[unit] != use) h->use_seen[unit] = use;
		else wanted = true;
	}
	if (may_retire(h, wanted))
		for (uint64_t unit = 1; unit < known; unit++)
			if (mqi_is_chunk(h, unit, &c) && unused(h, unit, &c, &use) && h->use_seen[unit] == use) any |= retire(h, unit);
	if (any) finish(h);
	mqi_control_unlock(h);
}
