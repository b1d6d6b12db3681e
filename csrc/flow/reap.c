/* The table of crash windows, as code. docs/internals/crash-recovery.md names each window.
 *
 *   word names the dead   repair
 *   slot NEW              FREE
 *   slot BOUND            payload LIVE, that life, my bit: AGAIN (it was committed); else FREE
 *   slot OFFER            its cell leads to it: READY; else as NEW (inline) or BOUND (refers)
 *   slot INFLIGHT         AGAIN
 *   slot FREEING          taken over, the payload's share given back, FREE
 *   slot EXPIRING         taken over, the payload's share given back, TOMB; FREE once head has passed it
 *   slot SETTLING         its commit's block LIVE: as FREEING; else undone, and AGAIN
 *   block NEW             FREE
 *   area GROWING, topic   shm/area.c, shm/topics.c
 *
 * Slots first, then blocks: a BOUND slot of a payload still NEW is freed, never bound to the block's next life.
 */
#include "flow/reap.h"

#include "flow/commit.h"
#include "flow/expire.h"
#include "flow/publish.h"
#include "flow/settle.h"
#include "shm/area.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/peers.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"
#include "shm/topics.h"

#define LOOK_EVERY_MS 10

struct sweep {
	unsigned peer;
	uint64_t dead_word;
};

/* Read after the word that names the peer: the row is freed only when no word does, so a row that is still that death
 * means that the word is of that life. */
static bool still(struct mqshm *h, const struct sweep *d)
{
	return d->dead_word == 0 || mqi_load_acq(&mqi_peer(h, d->peer)->word) == d->dead_word;
}

static bool restate(struct mqshm_sub *s, uint32_t i, uint64_t w, unsigned state, unsigned later)
{
	return mqi_cas64(&s->slots[i].word, w, mqi_slot_word(state, MQI_NOBODY, mqi_slot_gen(w) + later, mqi_slot_attempts(w)));
}

static void again(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	if (restate(s, i, w, SLOT_AGAIN, 1)) mqi_made_again(s, i);
}

static void give_back(struct mqshm_sub *s, uint32_t i, uint64_t w) { mqi_slot_free(s, i, w); }

static void bound(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	struct slot_shm *slot = &s->slots[i];
	uint64_t block = mqi_load_acq(&slot->ref.block), gen = mqi_load_acq(&slot->ref.block_gen);
	if (!mqi_block_held(s->h, block, gen, mqi_load_acq(&slot->ref.bit))) {
		give_back(s, i, w);
		return;
	}
	again(s, i, w);
}

static void offered(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	if (mqi_ring_leads_to(s, i)) {
		if (restate(s, i, w, SLOT_READY, 0)) mqi_event_one(s->h, s->shm->waiters);
	} else if (mqi_info_flags(mqi_load_acq(&s->slots[i].info)) & F_REF) bound(s, i, w);
	else give_back(s, i, w);
}

static void freeing(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	uint64_t mine = mqi_slot_word(SLOT_FREEING, s->h->peer, mqi_slot_gen(w) + 1, mqi_slot_attempts(w));
	struct slot_shm *slot = &s->slots[i];
	mqi_touch(s); /* the word will name this peer, which may die as well */
	if (!mqi_cas64(&slot->word, w, mine)) return;
	if (mqi_info_flags(mqi_load_acq(&slot->info)) & F_REF)
		mqi_finish_freeing(s, i, mine, mqi_load_acq(&slot->ref.block), mqi_load_acq(&slot->ref.block_gen), mqi_load_acq(&slot->ref.bit));
	else mqi_slot_free(s, i, mine);
}

static void settling(struct mqshm_sub *s, uint32_t i, uint64_t w)
{
	enum mqi_verdict verdict = mqi_verdict(s, i, w);
	if (verdict == VERDICT_COMMITTED) freeing(s, i, w);
	else if (verdict == VERDICT_UNDONE) again(s, i, w);
}

static bool sweep_slots(struct mqshm_sub *s, const struct sweep *d)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	for (uint32_t i = 0; i < ready && i < s->capacity; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		if (likely(mqi_slot_owner(w) != d->peer)) continue;
		if (!still(s->h, d)) return false;
		switch (mqi_slot_state(w)) {
		case SLOT_NEW: give_back(s, i, w); break;
		case SLOT_BOUND: bound(s, i, w); break;
		case SLOT_OFFER: offered(s, i, w); break;
		case SLOT_INFLIGHT: again(s, i, w); break;
		case SLOT_FREEING: freeing(s, i, w); break;
		case SLOT_EXPIRING: mqi_expire_take_over(s, i, w); break;
		case SLOT_SETTLING: settling(s, i, w); break;
		default: break; /* a word that no mqshm writes: fsck's */
		}
	}
	return true;
}

static bool sweep_block(struct mqshm *h, uint64_t offset, void *with)
{
	const struct sweep *d = with;
	uint64_t w = mqi_load_acq(&mqi_block(h, offset)->word);
	if (likely(mqi_block_state(w) != BLOCK_NEW && mqi_block_state(w) != BLOCK_DOOMED)) return true;
	if (likely((mqi_block_holders(w) & 0xfff) != d->peer)) return true;
	if (!still(h, d)) return false;
	mqi_block_undo(h, offset, w);
	return true;
}

int mqi_sweep_row(struct mqshm *h, unsigned peer, uint64_t dead_word)
{
	struct sweep d = {peer, dead_word};
	struct peer_shm *row = mqi_peer(h, peer);
	uint64_t top = mqi_load_acq(&h->hdr->subs_top);
	for (uint32_t id = 0; id < top && id < MQI_SUBS; id++) {
		struct mqshm_sub *s;
		if (!(mqi_load_acq(&row->touched[id / 64]) >> id % 64 & 1)) continue;
		if (mqi_view_closing(h, id, &s) != MQSHM_OK) continue;
		mqi_event_disarm_peer(peer, s->shm->waiters);
		mqi_event_disarm_peer(peer, s->shm->space_waiters);
		if (!sweep_slots(s, &d)) return MQSHM_EMPTY;
	}
	mqi_commit_over(h, peer, dead_word);
	mqi_blocks_each(h, sweep_block, &d);
	if (!still(h, &d)) return MQSHM_EMPTY;
	mqi_areas_repair(h, peer);
	mqi_topics_repair(h, peer);
	return MQSHM_OK;
}

/* Whoever slept may have been rung by the dead a step too early, or not at all. */
static void wake_everybody(struct mqshm *h)
{
	uint64_t top = mqi_load_acq(&h->hdr->peers_top);
	for (unsigned p = 1; p < top && p < MQI_PEERS; p++)
		if (p != h->peer && mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word)) == PEER_LIVE) mqi_event_ring_peer(h, p);
}

int mqi_reap(struct mqshm *h, uint32_t *dead)
{
	uint64_t word;
	*dead = 0;
	h->reaped_ms = mqi_boot_ms();
	for (unsigned p = 0; (p = mqi_peer_next_dead(h, p, &word)) != 0;) {
		mqi_subs_of_peer(h, p);
		if (mqi_sweep_row(h, p, word) != MQSHM_OK) continue; /* another reaper was done with it first */
		mqi_peer_release(h, p, word);
		++*dead;
	}
	if (*dead == 0) return MQSHM_OK;
	mqi_blocks_renew(h);
	mqi_subs_sweep(h); /* what the dead had in hand of subscriptions that are closing is free now */
	wake_everybody(h);
	return MQSHM_OK;
}

bool mqi_reap_soon(struct mqshm *h)
{
	uint32_t dead = 0;
	if (mqi_boot_ms() < h->reaped_ms + LOOK_EVERY_MS) return false;
	mqi_reap(h, &dead);
	return dead > 0;
}

int mqshm_reap(mqshm_t *h, uint32_t *dead)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	rc = mqi_reap(h, dead);
	mqi_leave(h);
	return rc;
}
