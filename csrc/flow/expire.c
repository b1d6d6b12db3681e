#include "flow/expire.h"

#include "flow/publish.h"
#include "flow/receive.h"
#include "shm/block.h"
#include "shm/ring.h"
#include "shm/slab.h"

uint64_t mqi_expiry(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	mqshm_delivery d;
	if (likely(!(mqi_info_flags(mqi_load_rlx(&s->slots[i].info)) & F_EXPIRES)) || !mqi_delivery_fill(s, i, &d)) return 0;
	mqi_fence_acq();
	return mqi_load_rlx(&s->slots[i].word) == w ? d.expires_ns : 0;
}

/* What becomes of an expired message that this peer owns, in EXPIRING or FREEING. May be done again, by who takes over. */
static void dispose(struct mqshm_sub *s, uint32_t i)
{
	struct slot_shm *slot = &s->slots[i];
	if (mqi_info_flags(mqi_load_rlx(&slot->info)) & F_REF)
		mqi_block_release(s->h, mqi_load_rlx(&slot->ref.block), mqi_load_rlx(&slot->ref.block_gen), mqi_load_rlx(&slot->ref.bit));
}

static uint64_t own(struct mqshm_sub *s, unsigned state, uint64_t w)
{
	mqi_touch(s);
	return mqi_slot_word(state, s->h->peer, mqi_slot_gen(w) + 1, mqi_slot_attempts(w));
}

static void bury(struct mqshm_sub *s, uint32_t i, uint64_t mine)
{
	uint64_t tomb = mqi_slot_word(SLOT_TOMB, MQI_NOBODY, mqi_slot_gen(mine), mqi_slot_attempts(mine));
	dispose(s, i);
	if (!mqi_cas64(&s->slots[i].word, mine, tomb)) return; /* a reaper took us for dead */
	MQI_COUNT(s->counters->expired, 1);
	mqi_fence_after_rmw(); /* pairs with mqi_ring_bury: who passes it meanwhile sees the tomb, or we see the head */
	mqi_ring_tomb(s, i, tomb);
}

bool mqi_expire(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	unsigned state = mqi_slot_state(w);
	bool aside = state == SLOT_AGAIN || state == SLOT_LATER;
	uint64_t mine = own(s, aside ? SLOT_FREEING : SLOT_EXPIRING, w);
	if (!mqi_cas64(&s->slots[i].word, w, mine)) return false;
	if (aside) {
		MQI_COUNT(s->counters->expired, 1);
		dispose(s, i);
		mqi_slot_free(s, i, mine);
	} else bury(s, i, mine);
	return true;
}

void mqi_expire_take_over(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	unsigned ring = mqi_place_ring(mqi_load_acq(&s->slots[i].place)) % MQI_PRIORITIES;
	uint64_t mine = own(s, SLOT_EXPIRING, w);
	if (!mqi_cas64(&s->slots[i].word, w, mine)) return;
	bury(s, i, mine);
	mqi_ring_sweep(s, ring);
}
