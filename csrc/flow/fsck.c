/* Accounts for every slot, cell, block and hint, and says what is wrong. In a running broker it looks twice before it
 * calls anything wrong; what is on its way (an owner that lives) is not wrong. Repair keeps what is certainly a
 * message, and frees the rest.
 */
#include <stdarg.h>
#include <stdio.h>

#include "flow/reap.h"
#include "flow/receive.h"
#include "flow/settle.h"
#include "shm/area.h"
#include "shm/block.h"
#include "shm/ids.h"
#include "shm/peers.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"

struct share {
	uint64_t block;
	uint32_t bit;
};

struct check {
	struct mqshm *h;
	mqshm_fsck_report *report;
	struct share *shares; /* that slots refer to */
	size_t count, room;
	bool repair, out_of_memory;
};

static void found(struct check *c, uint64_t *counter, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void found(struct check *c, uint64_t *counter, const char *format, ...)
{
	if (!c->report->first[0]) {
		va_list args;
		va_start(args, format);
		vsnprintf(c->report->first, sizeof c->report->first, format, args);
		va_end(args);
	}
	++*counter;
}

static void refer(struct check *c, uint64_t block, uint32_t bit)
{
	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : 1024;
		struct share *more = realloc(c->shares, room * sizeof *more);
		if (!more) {
			c->out_of_memory = true;
			return;
		}
		c->shares = more;
		c->room = room;
	}
	c->shares[c->count++] = (struct share){block, bit};
}

static int by_block(const void *a, const void *b)
{
	const struct share *x = a, *y = b;
	if (x->block != y->block) return x->block < y->block ? -1 : 1;
	return x->bit < y->bit ? -1 : x->bit > y->bit;
}

static bool owner_lives(struct mqshm *h, unsigned owner)
{
	if (owner == h->peer) return true;
	if (owner == MQI_NOBODY || owner >= mqi_load_acq(&h->hdr->peers_top) || owner >= MQI_PEERS) return false;
	uint64_t w = mqi_load_acq(&mqi_peer(h, owner)->word);
	unsigned state = mqi_peer_state(w);
	return (state == PEER_LIVE || state == PEER_JOINING) && !mqi_peer_gone(h, owner, w);
}

static bool owned(unsigned state)
{
	return state == SLOT_NEW || state == SLOT_BOUND || state == SLOT_OFFER || state == SLOT_INFLIGHT || state == SLOT_FREEING ||
	       state == SLOT_SETTLING || state == SLOT_EXPIRING;
}
static bool unowned(unsigned state)
{
	return state == SLOT_FREE || state == SLOT_READY || state == SLOT_AGAIN || state == SLOT_LATER || state == SLOT_TOMB;
}
static bool carries(unsigned state)
{
	return state == SLOT_READY || state == SLOT_AGAIN || state == SLOT_LATER || state == SLOT_INFLIGHT || state == SLOT_FREEING ||
	       state == SLOT_SETTLING;
}

static void set(struct mqshm_sub *s, uint32_t i, uint64_t w, unsigned state, struct check *c)
{
	if (!mqi_cas64(&s->slots[i].word, w, mqi_slot_word(state, MQI_NOBODY, mqi_slot_gen(w) + 1, mqi_slot_attempts(w)))) return;
	if (state == SLOT_FREE) mqi_slot_freed(s, i);
	else mqi_made_again(s, i);
	c->report->repaired++;
}

static bool passed(struct mqshm_sub *s, uint32_t i)
{
	uint64_t place = mqi_load_acq(&s->slots[i].place), head = mqi_load_acq(&s->shm->head[mqi_place_ring(place) % MQI_PRIORITIES]);
	return (int64_t)(mqi_place_position(place) - head) < 0;
}

/* Whether receivers will come to it: its cell names it, and head has not passed that cell. */
static bool reachable(struct mqshm_sub *s, uint32_t i)
{
	return mqi_ring_leads_to(s, i) && !passed(s, i);
}

static bool hinted(struct mqshm_sub *s, uint32_t i)
{
	uint32_t ring = mqi_place_ring(mqi_load_acq(&s->slots[i].place)) % MQI_PRIORITIES, group = i / MQI_GROUP, word = group / 64;
	return mqi_load_acq(&s->again_hints[ring * mqi_again_words(s) + word]) >> group % 64 & 1 &&
	       mqi_load_acq(&s->shm->again[ring]) >> word / mqi_again_share(s) & 1;
}

static void check_slot(struct check *c, struct mqshm_sub *s, uint32_t i)
{
	mqshm_fsck_report *r = c->report;
	uint64_t w = mqi_load_acq(&s->slots[i].word);
	unsigned state = mqi_slot_state(w), owner = mqi_slot_owner(w);
	r->slots++;
	if (state == SLOT_FREE && owner == MQI_NOBODY) return;
	r->slots_used++;
	if (!(owned(state) && owner != MQI_NOBODY && owner < MQI_PEERS) && !(unowned(state) && owner == MQI_NOBODY)) {
		found(c, &r->bad_words, "slot %u of subscription %u: state %u with owner %u", i, s->row, state, owner);
		if (c->repair) set(s, i, w, SLOT_FREE, c);
		return;
	}
	if (owned(state) && !owner_lives(c->h, owner) && mqi_load_acq(&s->slots[i].word) == w)
		found(c, &r->dead_owned, "slot %u of subscription %u is owned by peer %u, which is gone", i, s->row, owner);
	if (carries(state)) {
		mqshm_delivery d;
		if (!mqi_delivery_fill(s, i, &d) && mqi_load_acq(&s->slots[i].word) == w) {
			found(c, &r->bad_words, "slot %u of subscription %u: no payload where it says", i, s->row);
			if (c->repair && !owned(state)) set(s, i, w, SLOT_FREE, c);
			return;
		}
	}
	if (mqi_info_flags(mqi_load_acq(&s->slots[i].info)) & F_REF && state != SLOT_NEW && state != SLOT_TOMB)
		refer(c, mqi_load_acq(&s->slots[i].ref.block), mqi_load_acq(&s->slots[i].ref.bit));
	if (state == SLOT_READY && !reachable(s, i) && mqi_load_acq(&s->slots[i].word) == w) {
		found(c, &r->lost_slots, "slot %u of subscription %u waits where no receiver comes", i, s->row);
		if (c->repair) set(s, i, w, SLOT_AGAIN, c);
	}
	if (state == SLOT_TOMB && passed(s, i) && mqi_load_acq(&s->slots[i].word) == w) {
		found(c, &r->stale_tombs, "slot %u of subscription %u is a tomb that every receiver has passed", i, s->row);
		if (c->repair && mqi_slot_free(s, i, w)) r->repaired++;
	}
	if (state == SLOT_AGAIN && !hinted(s, i) && mqi_load_acq(&s->slots[i].word) == w) {
		found(c, &r->unhinted, "slot %u of subscription %u is to be delivered again, without a hint", i, s->row);
		if (c->repair) {
			mqi_made_again(s, i);
			r->repaired++;
		}
	}
}

static void check_sub(struct check *c, uint32_t row)
{
	mqshm_fsck_report *r = c->report;
	struct mqshm_sub *s;
	/* One that is closing still holds its shares of payloads, until nobody uses them. */
	if (mqi_sub_state(mqi_load_acq(&mqi_sub(c->h, row)->word)) < SUB_OPEN) return;
	int rc = mqi_view_closing(c->h, row, &s);
	if (rc == MQSHM_CLOSED) return;
	if (rc != MQSHM_OK) {
		found(c, &r->bad_words, "subscription %u: %s", row, mqshm_reason());
		return;
	}
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	if (ready > s->capacity || (uint64_t)ready * sizeof(struct slot_shm) > mqi_area_ready(&s->shm->areas[SUB_SLOTS])) {
		found(c, &r->bad_words, "subscription %u has %u slots, of %u that fit", row, ready, s->capacity);
		return;
	}
	for (uint32_t i = 0; i < ready; i++) check_slot(c, s, i);
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++)
		for (uint64_t i = 0; i <= s->mask && mqi_ring_is_memory(s, ring, i); i++) {
			r->cells++;
			if (mqi_cell_index(mqi_load_acq(&s->rings[ring][i])) >= s->capacity)
				found(c, &r->bad_words, "cell %llu of ring %u of subscription %u leads to no slot", (unsigned long long)i, ring, row);
		}
}

static bool check_block(struct mqshm *h, uint64_t offset, void *with)
{
	struct check *c = with;
	mqshm_fsck_report *r = c->report;
	uint64_t w = mqi_load_acq(&mqi_block(h, offset)->word), gen = mqi_block_gen(w);
	r->blocks++;
	if (mqi_block_state(w) == BLOCK_FREE) return true;
	r->blocks_used++;
	if (mqi_block_state(w) == BLOCK_NEW || mqi_block_state(w) == BLOCK_DOOMED) {
		if (!owner_lives(h, mqi_block_holders(w)) && mqi_load_acq(&mqi_block(h, offset)->word) == w) {
			found(c, &r->dead_owned, "the payload at %llu is owned by peer %u, which is gone", (unsigned long long)offset, mqi_block_holders(w));
			if (c->repair) {
				mqi_block_undo(h, offset, w);
				r->repaired++;
			}
		}
		return true;
	}
	if (mqi_block_state(w) != BLOCK_LIVE || !mqi_block_valid(h, offset)) {
		found(c, &r->bad_words, "the payload at %llu has state %u", (unsigned long long)offset, mqi_block_state(w));
		return true;
	}
	uint32_t bits = mqi_block_wide_bits(h, offset);
	for (uint32_t bit = 0; bit < bits && !c->out_of_memory; bit++) {
		if (!mqi_block_held(h, offset, gen, bit)) continue;
		struct share key = {offset, bit};
		if ((c->count && bsearch(&key, c->shares, c->count, sizeof key, by_block)) || mqi_load_acq(&mqi_block(h, offset)->word) != w) continue;
		found(c, &r->lost_blocks, "the payload at %llu is kept for a receiver %u that does not refer to it", (unsigned long long)offset, bit);
		if (c->repair) {
			mqi_block_release(h, offset, gen, bit);
			r->repaired++;
		}
	}
	return true;
}

int mqshm_fsck(mqshm_t *h, int repair, mqshm_fsck_report *out)
{
	struct check c = {.h = h, .report = out, .repair = repair != 0};
	uint32_t dead;
	memset(out, 0, sizeof *out);
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	if (repair) {
		mqi_reap(h, &dead);
		out->repaired += dead;
	}
	for (uint64_t u = 1, top = mqi_load_acq(&h->hdr->units_top); u < top && u < h->units; u++)
		out->units_used += mqi_area_state(mqi_load_acq(&mqi_unit(h, u)->word)) != AREA_FREE;
	for (unsigned p = 1, top = (unsigned)mqi_load_acq(&h->hdr->peers_top); p < top && p < MQI_PEERS; p++) {
		unsigned state = mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word));
		out->peers_live += state == PEER_LIVE;
		if (state != PEER_FREE) refer(&c, mqi_load_acq(&mqi_peer(h, p)->commit_block), mqi_load_acq(&mqi_peer(h, p)->commit_bit));
	}
	for (uint32_t row = 0, top = (uint32_t)mqi_load_acq(&h->hdr->subs_top); row < top && row < MQI_SUBS; row++) check_sub(&c, row);
	if (c.count) qsort(c.shares, c.count, sizeof *c.shares, by_block);
	mqi_blocks_each(h, check_block, &c);
	const char *fault = mqi_ids_fault(h);
	if (fault) found(&c, &out->bad_words, "message ids: %s", fault);
	free(c.shares);
	mqi_leave(h);
	return c.out_of_memory ? mqi_fail(MQSHM_NO_MEMORY, "this process has no memory to account for every payload") : MQSHM_OK;
}
