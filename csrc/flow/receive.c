/* A message's way out. The claim is one compare-and-swap on the slot's word: taken and owned in one step, so a receiver
 * that dies in any of the others has taken nothing, or is found as the owner of what it took.
 */
#include "flow/receive.h"

#include "flow/dead.h"
#include "flow/due.h"
#include "flow/envelope.h"
#include "flow/publish.h"
#include "flow/settle.h"
#include "flow/supervise.h"
#include "shm/block.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"

#define AHEAD 512 /* bytes of the next payload; the processor's own prefetching goes on from there */

bool mqi_delivery_fill(struct mqshm_sub *s, uint32_t index, mqshm_delivery *out)
{
	struct slot_shm *slot = &s->slots[index];
	uint64_t info = mqi_load_rlx(&slot->info), envelope;
	out->sub = s;
	out->slot = index;
	out->ring = mqi_place_ring(mqi_load_rlx(&slot->place));
	out->block = out->seq = 0;
	out->expires_ns = 0;
	out->ack_ms = out->id_size = out->headers_size = out->key_size = 0;
	if (likely(!(mqi_info_flags(info) & F_REF))) {
		out->seq = mqi_load_rlx(&slot->seq);
		out->published_ns = mqi_load_rlx(&slot->published_ns);
		out->data = slot->data;
		out->size = mqi_info_size(info);
		if (out->size > MQI_INLINE) return false;
		envelope = MQI_INLINE - out->size;
	} else {
		out->block = mqi_load_rlx(&slot->ref.block);
		out->block_gen = mqi_load_rlx(&slot->ref.block_gen);
		out->bit = mqi_load_rlx(&slot->ref.bit);
		struct mqi_payload p;
		if (!mqi_block_look_held(s->h, out->block, out->block_gen, out->bit, &p)) return false;
		struct block_shm *b = mqi_block(s->h, out->block);
		out->data = mqi_block_data(b);
		if (unlikely(mqi_info_flags(info) & F_PART)) {
			uint64_t bundle = mqi_info_size(p.info), part = (uint64_t)mqi_load_rlx(&slot->ref.part) * 8;
			out->seq = mqi_load_rlx(&slot->seq);
			out->published_ns = mqi_load_rlx(&slot->published_ns);
			out->size = mqi_info_size(info);
			if (part > bundle || out->size > bundle - part) return false;
			out->data += part;
			envelope = bundle - part - out->size;
		} else {
			info = p.info;
			out->seq = mqi_load_rlx(&b->seq);
			out->published_ns = mqi_load_rlx(&b->published_ns);
			out->size = mqi_info_size(info);
			envelope = p.envelope;
		}
	}
	out->topic = mqi_info_topic(info);
	unsigned flags = mqi_info_flags(info) & (F_EXPIRES | F_ACK_MS | F_ID | F_HEADERS | F_KEY);
	if (unlikely(flags) && !mqi_envelope_read(out->data + out->size, envelope, flags, out)) return false;
	return out->ring < MQI_PRIORITIES;
}

int mqi_claim(struct mqshm_sub *s, uint32_t index, uint64_t word, mqshm_delivery *out)
{
	unsigned attempt = mqi_slot_attempts(word) < MQI_ATTEMPTS_MAX ? mqi_slot_attempts(word) + 1 : MQI_ATTEMPTS_MAX;
	uint64_t leased = mqi_slot_word(SLOT_INFLIGHT, s->h->peer, mqi_slot_gen(word) + 1, attempt);
	mqi_touch(s);
	if (unlikely(!mqi_cas64(&s->slots[index].word, word, leased))) return MQSHM_EMPTY;
	out->word = leased;
	out->attempt = attempt;
	if (unlikely(!mqi_delivery_fill(s, index, out))) {
		/* Or the next message, half written: the lease of who is stopped here ends by itself (see begin_lease). */
		if (mqi_settle(out, &s->counters->dropped) != MQSHM_OK) return MQSHM_EMPTY;
		return mqi_fail(MQSHM_CORRUPT, "slot %u of subscription %u holds no message that mqshm wrote; it was dropped", index, s->row);
	}
	if (unlikely(mqi_death_of(out) != MQI_ALIVE)) return MQI_REFUSED;
	if (s->ack == MQSHM_ACK_TIMEOUT) {
		uint64_t ms = out->ack_ms ? out->ack_ms : s->shm->ack_timeout_ms;
		mqi_fence_acq(); /* what was read is this message's if the word still is this lease's */
		if (unlikely(!mqi_due_set(s, index, leased, mqi_slot_gen(leased), mqi_boot_ms_in(ms)))) return MQSHM_EMPTY;
	}
	return MQSHM_OK;
}

/* The slot that a filled cell leads to, without any claim that it is still so; NULL where the cell is not filled. */
static inline struct slot_shm *peek(struct mqshm_sub *s, unsigned ring, uint64_t position)
{
	if (unlikely(position >= s->ring_ready[ring])) return NULL;
	uint64_t v = mqi_load_rlx(&s->rings[ring][position & s->mask]);
	return mqi_cell_cycle(v) == mqi_cycle(s, position) && mqi_cell_index(v) < s->capacity ? &s->slots[mqi_cell_index(v)] : NULL;
}

/* The lines of the next two messages come from the publisher's core while the caller is busy with this one. */
static inline void expect(struct mqshm_sub *s, unsigned ring, uint64_t next)
{
	struct slot_shm *slot = peek(s, ring, next + 1);
	if (slot) {
		__builtin_prefetch(slot, 1);
		__builtin_prefetch((char *)slot + 64, 0);
	}
	slot = peek(s, ring, next);
	if (!slot || !(mqi_info_flags(mqi_load_rlx(&slot->info)) & F_REF)) return;
	uint64_t block = mqi_load_rlx(&slot->ref.block);
	if (block >= s->h->span) return;
	__builtin_prefetch(s->h->base + block, 1);
	for (unsigned line = 64; line <= AHEAD; line += 64) __builtin_prefetch(s->h->base + block + line, 0);
}

int mqi_claim_ring(struct mqshm_sub *s, unsigned ring, mqshm_delivery *out)
{
	uint64_t h = s->head[ring];
	int rc = MQSHM_EMPTY;
	while (rc == MQSHM_EMPTY && mqi_ring_is_memory(s, ring, h)) {
		uint64_t v = mqi_load_acq(&s->rings[ring][h & s->mask]), have = mqi_cell_cycle(v), want = mqi_cycle(s, h);
		if (likely(have < want)) break; /* not filled yet */
		if (unlikely(have > want)) {    /* filled again a lap later: all before that lap's position is done with */
			uint64_t at = mqi_position_of(s, v, h) - s->mask, head = mqi_load_acq(&s->shm->head[ring]);
			h = (int64_t)(head - at) > 0 ? head : at;
			continue;
		}
		uint32_t index = mqi_cell_index(v);
		if (unlikely(index >= s->capacity))
			return mqi_fail(MQSHM_CORRUPT, "subscription %u: a ring leads to slot %u of %u", s->row, index, s->capacity);
		struct slot_shm *slot = &s->slots[index];
		__builtin_prefetch(slot, 1); /* to be written: else the claim would fetch the line a second time */
		__builtin_prefetch((char *)slot + 64, 0);
		uint64_t w = mqi_load_acq(&slot->word); /* the word first, then the place: see mqi_ring_link */
		if (likely(mqi_claimable(mqi_slot_state(w)) && mqi_load_acq(&slot->place) == mqi_place(ring, h))) {
			rc = mqi_claim(s, index, w, out);
			if (likely(rc == MQSHM_OK)) expect(s, ring, h + 1);
			if (rc != MQSHM_EMPTY) h++; /* else look again: another has it, or a reaper made OFFER READY */
		} else {
			if (unlikely(mqi_ring_grave(mqi_slot_state(w)))) mqi_ring_bury(s, ring, h, index, w);
			uint64_t head = mqi_load_acq(&s->shm->head[ring]); /* another receiver's: go where they are */
			h = (int64_t)(head - h) > 1 ? head : h + 1;
		}
	}
	if (h != s->head[ring]) {
		bool tell = rc == MQSHM_EMPTY || (h ^ s->head[ring]) / MQI_PUBLISH_EVERY;
		s->head[ring] = h;
		if (tell) mqi_raise(&s->shm->head[ring], h);
	}
	return rc;
}

/* Hints are cleared before the look, the upper first; where anything was found both are set again, as there may be
 * more. Bounded: each word of the lower hints once. */
int mqi_claim_again(struct mqshm_sub *s, unsigned ring, mqshm_delivery *out)
{
	uint32_t words = mqi_again_words(s), share = mqi_again_share(s);
	uint64_t *hints = s->again_hints + (uint64_t)ring * words;
	for (uint64_t upper = mqi_load_acq(&s->shm->again[ring]); upper; upper &= upper - 1) {
		unsigned part = (unsigned)__builtin_ctzll(upper);
		mqi_and64(&s->shm->again[ring], ~(1ull << part));
		for (uint32_t word = part * share; word < words && word < (part + 1) * share; word++)
			while (mqi_load_acq(&hints[word])) {
				uint64_t lower = mqi_xchg64(&hints[word], 0);
				for (; lower; lower &= lower - 1) {
					uint32_t first = (word * 64 + (uint32_t)__builtin_ctzll(lower)) * MQI_GROUP;
					uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
					for (uint32_t i = first; i < first + MQI_GROUP && i < s->capacity && i < ready; i++) {
						uint64_t w = mqi_load_acq(&s->slots[i].word);
						if (mqi_slot_state(w) != SLOT_AGAIN || mqi_place_ring(mqi_load_acq(&s->slots[i].place)) != ring) continue;
						int rc = mqi_claim(s, i, w, out);
						if (rc == MQSHM_EMPTY) continue;
						mqi_or64(&hints[word], lower);
						mqi_or64(&s->shm->again[ring], 1ull << part);
						return rc;
					}
				}
			}
	}
	return MQSHM_EMPTY;
}

/* A ring that no publisher has used yet has nothing. The cached copy spares the shared line. */
static inline bool ring_used(struct mqshm_sub *s, unsigned ring)
{
	if (s->used >> ring & 1) return true;
	s->used = mqi_load_acq(&s->shm->used);
	return s->used >> ring & 1;
}

static inline bool any_again(struct mqshm_sub *s)
{
	uint64_t any = 0;
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) any |= mqi_load_rlx(&s->shm->again[ring]);
	return any != 0;
}

int mqi_claim_lowest(struct mqshm_sub *s, unsigned highest, mqshm_delivery *out)
{
	for (unsigned ring = MQI_PRIORITIES; ring-- > highest;) {
		int rc = mqi_claim_again(s, ring, out);
		if (rc == MQSHM_EMPTY) rc = mqi_claim_ring(s, ring, out);
		if (rc != MQSHM_EMPTY) return rc;
	}
	return MQSHM_EMPTY;
}

static int look(struct mqshm_sub *s, mqshm_delivery *out)
{
	if (unlikely(mqi_load_acq(&s->shm->word) != s->word)) return mqi_fail(MQSHM_CLOSED, "the subscription was deleted");
	if (unlikely(s->prefetch && s->held >= s->prefetch)) return MQSHM_EMPTY;
	if (unlikely(mqi_due_pending(s))) {
		int rc = mqi_due_fire(s, mqi_boot_ms());
		if (rc != MQSHM_OK) return rc;
	}
	bool again = any_again(s);
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) {
		if (unlikely(again) && mqi_load_rlx(&s->shm->again[ring])) {
			int rc = mqi_claim_again(s, ring, out);
			if (rc != MQSHM_EMPTY) return rc;
		}
		if (!ring_used(s, ring)) continue;
		int rc = mqi_claim_ring(s, ring, out);
		if (rc != MQSHM_EMPTY) return rc;
	}
	return MQSHM_EMPTY;
}

static int next_message(struct mqshm_sub *s, mqshm_delivery *out)
{
	int rc;
	while (unlikely((rc = look(s, out)) == MQI_REFUSED)) {
		rc = mqi_give_up(out, mqi_death_of(out), NULL, 0);
		if (rc != MQSHM_OK && rc != MQSHM_LEASE_LOST) return MQSHM_EMPTY;
	}
	return rc;
}

static inline int receive_one(struct mqshm_sub *s, mqshm_delivery *out)
{
	int rc = next_message(s, out);
	if (rc != MQSHM_OK) return rc;
	MQI_COUNT(s->counters->delivered, 1);
	if (unlikely(out->attempt > 1)) MQI_COUNT(s->counters->redelivered, 1);
	s->held++;
	return MQSHM_OK;
}

bool mqi_may_receive(struct mqshm_sub *s)
{
	if (mqi_load_acq(&s->shm->word) != s->word) return true; /* to be told so */
	if (s->prefetch && s->held >= s->prefetch) return false;
	if (any_again(s)) return true;
	if (unlikely(mqi_due_pending(s)) && mqi_load_acq(&s->shm->next_due) <= mqi_boot_ms()) return true;
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) {
		uint64_t h = s->head[ring];
		if (!ring_used(s, ring) || !mqi_ring_is_memory(s, ring, h)) continue;
		if (mqi_cell_cycle(mqi_load_acq(&s->rings[ring][h & s->mask])) >= mqi_cycle(s, h)) return true;
	}
	return false;
}

bool mqi_backlog(struct mqshm_sub *s, uint32_t many)
{
	uint32_t share = s->used ? many / (uint32_t)__builtin_popcount(s->used) : many;
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) {
		uint64_t at = s->head[ring] + (share < 2 ? 2 : share) - 1;
		if (!ring_used(s, ring) || !mqi_ring_is_memory(s, ring, at)) continue;
		struct slot_shm *slot = peek(s, ring, at);
		if (slot && mqi_claimable(mqi_slot_state(mqi_load_acq(&slot->word))) && mqi_load_acq(&slot->place) == mqi_place(ring, at)) return true;
	}
	return false;
}

int mqi_receive(struct mqshm_sub *s, mqshm_delivery *out)
{
	int rc = receive_one(s, out);
	/* Who slept was woken for one message of perhaps several: the next sleeper is for the next. */
	if (unlikely(s->woken) && rc == MQSHM_OK) {
		s->woken = false;
		if (mqi_may_receive(s)) mqi_event_one(s->h, s->shm->waiters);
	}
	return rc;
}

int mqshm_receive(mqshm_sub_t *s, mqshm_delivery *out)
{
	struct mqshm *h = s->h;
	int rc = mqi_enter(h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the subscription was opened by the parent process");
	rc = mqi_receive(s, out);
	bool to_look = rc == MQSHM_OK && mqi_look_now(s, 1);
	mqi_leave(h);
	if (unlikely(to_look)) mqi_supervisor_look(h);
	return rc;
}

int mqshm_receive_batch(mqshm_sub_t *s, uint32_t max, mqshm_delivery *out, uint32_t *got)
{
	struct mqshm *h = s->h;
	*got = 0;
	int rc = mqi_enter(h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the subscription was opened by the parent process");
	while (*got < max && (rc = receive_one(s, &out[*got])) == MQSHM_OK) ++*got;
	if (unlikely(s->woken) && *got) {
		s->woken = false;
		if (mqi_may_receive(s)) mqi_event_one(h, s->shm->waiters);
	}
	bool to_look = mqi_look_now(s, *got);
	mqi_leave(h);
	if (unlikely(to_look)) mqi_supervisor_look(h);
	return *got ? MQSHM_OK : rc;
}
