/* How subscriptions end. OPEN to CLOSING is one compare-and-swap, and anybody's: from then on nothing comes in. The rest
 * takes the control lock, is done step by step by whoever comes by, and may be repeated from any point:
 *
 *   1  messages are freed, except what is leased or just being published
 *   2  areas to RETIRING: nothing grows any more
 *   3  a barrier in every process, then every other peer is seen outside of operations: who enters from here on sees
 *      CLOSING before it would claim a slot (its topics' matches are of an older version, its view has another word)
 *   4  every slot is FREE, again, and nobody waits: what the dead left was seen and has been repaired. slots_ready is set
 *      to 0: whoever looks at the slots of a row that is CLOSING, to repair or to settle, finds that there are none
 *   5  as 3: who began to look before is done
 *   6  memory and units are given back, the row is FREE
 *
 * A process that is stopped inside an operation keeps 3 and 5 from happening, and with it the memory, but nobody waits
 * for it.
 */
#include "flow/purge.h"
#include "shm/event.h"
#include "shm/grace.h"
#include "shm/reach.h"
#include "shm/region.h"
#include "shm/trie.h"

static unsigned state_of(struct mqshm *h, uint32_t row) { return mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)); }

int mqi_subs_close(struct mqshm *h, uint32_t row, uint64_t word)
{
	struct sub_shm *s = mqi_sub(h, row);
	if (mqi_sub_state(word) != SUB_OPEN || !mqi_cas64(&s->word, word, mqi_sub_word(SUB_CLOSING, MQI_NOBODY, mqi_sub_gen(word))))
		return mqi_fail(MQSHM_CLOSED, "subscription %u was deleted", row);
	/* By two: whether it is odd is the control lock's business. A death before this does no harm: whoever goes by an
	 * older match finds that the row's word has changed. */
	mqi_add64(&h->hdr->subs_version, 2);
	mqi_event_wake_all(h, s->waiters);
	mqi_event_wake_all(h, s->space_waiters);
	return MQSHM_OK;
}

/* true: every slot is FREE. A row whose creation was cut short has none that was ever used; one that got past step 4
 * before has none any more. */
static bool empty(struct mqshm *h, uint32_t row)
{
	struct mqshm_sub *view;
	uint64_t purged;
	if (mqi_load_acq(&mqi_sub(h, row)->slots_ready) == 0) return true;
	return mqi_view_closing(h, row, &view) == MQSHM_OK && mqi_purge_slots(h, view, &purged) == MQSHM_OK;
}

static bool waited_for(struct mqshm *h, uint32_t row)
{
	return mqi_event_waited_for(mqi_sub(h, row)->waiters) || mqi_event_waited_for(mqi_sub(h, row)->space_waiters);
}

static void rebuild(struct mqshm *h)
{
	if (!(mqi_load_acq(&h->hdr->subs_version) & 1)) mqi_add64(&h->hdr->subs_version, 1);
	mqi_fence_sc(); /* as when a row is added */
	mqi_trie_rebuild(h);
	mqi_add64(&h->hdr->subs_version, 1);
}

static bool retire(struct mqshm *h, uint32_t row)
{
	if (state_of(h, row) != SUB_CLOSING || !empty(h, row)) return false;
	mqi_region_retire(h, row);
	return true;
}

static bool forget_slots(struct mqshm *h, uint32_t row)
{
	if (!empty(h, row) || waited_for(h, row)) return false;
	mqi_store_rel(&mqi_sub(h, row)->slots_ready, 0u);
	return true;
}

static bool give_back(struct mqshm *h, uint32_t row)
{
	struct sub_shm *s = mqi_sub(h, row);
	uint32_t patterns = mqi_load_rlx(&s->patterns);
	mqi_region_free(h, row);
	mqi_store_rel(&s->word, mqi_sub_word(SUB_FREE, MQI_NOBODY, mqi_sub_gen(mqi_load_rlx(&s->word))));
	if (mqi_trie_forget(h, patterns)) rebuild(h);
	return true;
}

/* Takes those rows a step further that the step before let through; how many it let through. */
static uint32_t step(struct mqshm *h, uint64_t through[MQI_SUBS / 64], bool (*take)(struct mqshm *, uint32_t))
{
	uint32_t rows = mqi_subs_rows(h), count = 0;
	for (uint32_t row = 0; row < rows; row++) {
		uint64_t bit = 1ull << row % 64;
		if (!(through[row / 64] & bit)) continue;
		if (take(h, row)) count++;
		else through[row / 64] &= ~bit;
	}
	return count;
}

void mqi_subs_finish(struct mqshm *h)
{
	uint64_t through[MQI_SUBS / 64];
	memset(through, 0xff, sizeof through);
	if (step(h, through, retire) == 0 || !mqi_all_idle(h)) return;
	if (step(h, through, forget_slots) == 0 || !mqi_all_idle(h)) return;
	step(h, through, give_back);
}

/* Rows that a dead holder was creating are to end, the index and the version come to rest. The handle need not be
 * entered: nothing private is touched, and who would give memory back needs the lock that we hold. */
void mqi_subs_recover(struct mqshm *h)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
		if (mqi_sub_state(word) == SUB_CREATING)
			mqi_store_rel(&mqi_sub(h, row)->word, mqi_sub_word(SUB_CLOSING, MQI_NOBODY, mqi_sub_gen(word)));
	}
	if (mqi_load_acq(&h->hdr->subs_version) & 1) rebuild(h);
}

/* A row in CREATING is somebody's work under the lock, or a dead one's: then the lock comes with the news. */
static bool unfinished(struct mqshm *h)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		unsigned state = state_of(h, row);
		if (state == SUB_CLOSING || state == SUB_CREATING) return true;
	}
	return (mqi_load_acq(&h->hdr->subs_version) & 1) != 0;
}

void mqi_subs_sweep(struct mqshm *h)
{
	if (!unfinished(h) || !mqi_control_try(h)) return;
	mqi_subs_finish(h);
	mqi_control_unlock(h);
}

int mqi_subs_remove(struct mqshm *h, uint32_t row, uint64_t word)
{
	int rc = mqi_subs_close(h, row, word);
	if (rc == MQSHM_OK) mqi_subs_sweep(h);
	return rc;
}

void mqi_subs_of_peer(struct mqshm *h, unsigned peer)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		struct sub_shm *s = mqi_sub(h, row);
		uint64_t word = mqi_load_acq(&s->word), bit = 1ull << peer % 64;
		bool member = mqi_load_acq(&s->members[peer / 64]) & bit;
		if (!member && (mqi_sub_state(word) != SUB_OPEN || mqi_sub_owner(word) != peer)) continue;
		/* Read after what names it: so that was this death's, not a later life's. */
		if (peer != h->peer && mqi_peer_state(mqi_load_acq(&mqi_peer(h, peer)->word)) != PEER_DEAD) return;
		if (member) mqi_and64(&s->members[peer / 64], ~bit);
		if (mqi_sub_state(word) == SUB_OPEN && mqi_sub_owner(word) == peer) mqi_subs_close(h, row, word);
	}
	mqi_subs_sweep(h);
}
