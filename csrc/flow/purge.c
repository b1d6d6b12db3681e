#include "flow/purge.h"

#include "flow/publish.h"
#include "flow/receive.h"
#include "flow/settle.h"
#include "shm/ring.h"
#include "shm/slab.h"

/* What stands aside is taken where it stands. */
static bool take_aside(struct mqshm_sub *s, uint32_t index, uint64_t word)
{
	mqshm_delivery d = {0};
	uint64_t freeing = mqi_slot_word(SLOT_FREEING, s->h->peer, mqi_slot_gen(word) + 1, mqi_slot_attempts(word));
	mqi_touch(s);
	if (!mqi_cas64(&s->slots[index].word, word, freeing)) return false;
	if (!mqi_delivery_fill(s, index, &d)) d.block = 0;
	if (d.block) mqi_finish_freeing(s, index, freeing, d.block, d.block_gen, d.bit);
	else mqi_slot_free(s, index, freeing);
	return true;
}

int mqi_purge_slots(struct mqshm *h, struct mqshm_sub *s, uint64_t *purged)
{
	mqshm_delivery d;
	int rc = MQSHM_OK;
	(void)h;
	*purged = 0;
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) {
		for (;;) {
			rc = mqi_claim_ring(s, ring, &d);
			if (rc == MQSHM_EMPTY) break;
			if (rc == MQSHM_OK || rc == MQI_REFUSED) rc = mqi_settle(&d, &s->counters->dropped);
			*purged += rc == MQSHM_OK;
			if (rc == MQSHM_CORRUPT) return rc;
		}
		mqi_ring_sweep(s, ring); /* so that tombs which somebody passed and then died are behind the shared head */
	}
	bool free = true;
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	for (uint32_t i = 0; i < ready && i < s->capacity; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		unsigned state = mqi_slot_state(w);
		if ((state == SLOT_AGAIN || state == SLOT_LATER) && take_aside(s, i, w)) {
			MQI_COUNT(s->counters->dropped, 1);
			++*purged;
		} else if (state != SLOT_FREE && !(state == SLOT_TOMB && mqi_ring_tomb(s, i, w))) free = false;
	}
	return free ? MQSHM_OK : MQSHM_FULL;
}

int mqshm_purge(mqshm_sub_t *s, uint64_t *purged)
{
	int rc = mqi_enter(s->h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the subscription was opened by the parent process");
	if (mqi_load_acq(&s->shm->word) != s->word) rc = mqi_fail(MQSHM_CLOSED, "the subscription was deleted");
	else if ((rc = mqi_purge_slots(s->h, s, purged)) == MQSHM_FULL) rc = MQSHM_OK; /* what is in flight stays */
	mqi_leave(s->h);
	return rc;
}
