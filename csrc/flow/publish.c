/* A message's way in: reserve, fill, commit, link, wake. Until the commit nobody sees anything of it and a death undoes
 * it; from the commit on it is delivered to all, if need be by whoever finds the publisher dead.
 *
 *   one receiver, small    the slot carries the payload; the cell's compare-and-swap is the commit
 *   otherwise              a block carries it and a slot per receiver refers to it; NEW to LIVE of the block is the commit
 */
#include "flow/publish.h"

#include "flow/dead.h"
#include "flow/due.h"
#include "flow/envelope.h"
#include "flow/limit.h"
#include "flow/reap.h"
#include "flow/supervise.h"
#include "flow/receive.h"
#include "flow/settle.h"
#include "flow/topic.h"
#include "flow/unique.h"
#include "os/copy.h"
#include "os/futex.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"
#include "shm/trim.h"

#define COPY_UNLOCKED (32u << 10) /* from this size on, other threads go on while the payload is copied */

const mqshm_envelope mqi_plain = {.ring = 2};

int mqi_prepare(struct mqshm *h, struct mqshm_topic *t, struct mqi_message *m)
{
	mqi_config_look(h);
	if (unlikely(m->envelope->ring >= MQI_PRIORITIES)) return mqi_fail(MQSHM_INVALID, "there is no priority ring %u", m->envelope->ring);
	if (unlikely(m->envelope->id_size > UINT16_MAX || m->envelope->key_size > UINT16_MAX))
		return mqi_fail(MQSHM_INVALID, "an id or key has at most 65535 bytes");
	if (unlikely((h->max_message_size && m->size > h->max_message_size) || m->size > UINT32_MAX))
		return mqi_fail(MQSHM_TOO_LARGE, "the payload has %llu bytes, max_message_size is %llu", (unsigned long long)m->size,
		                (unsigned long long)(h->max_message_size ? h->max_message_size : UINT32_MAX));
	m->ring = unlikely(h->one_priority) ? mqi_plain.ring : m->envelope->ring;
	m->published_ns = mqi_wall_coarse_ns();
	m->expires_ns = m->envelope->expires_ns;
	if (unlikely(m->expires_ns == UINT64_MAX)) m->expires_ns = 0; /* never, whatever the configuration says */
	else if (unlikely(h->message_ttl_ms) && !m->expires_ns) m->expires_ns = mqi_wall_ns() + h->message_ttl_ms * 1000000;
	m->flags = mqi_envelope_flags(m->envelope, m->expires_ns);
	m->envelope_size = m->flags ? mqi_envelope_size(m->envelope, m->flags) : 0;
	m->topic = t->id;
	m->unique = unlikely(m->envelope->unique) && h->dedup_window_ms && m->envelope->id_size;
	return unlikely(m->unique) ? mqi_unique_look(h, m) : MQSHM_OK;
}

void mqi_count_published(struct mqshm_topic *t, const struct mqi_message *m)
{
	MQI_COUNT(t->counters->published, 1);
	MQI_COUNT(t->counters->bytes, m->size);
}

/* A slot of the subscription, and memory for the cell and the time that it will need: after this nothing can fail.
 * MQSHM_CLOSED: the match is out of date. */
static int reserve(struct mqshm_sub *s, const struct mqi_message *m, struct mqi_claim *claim)
{
	mqi_touch(s);
	int rc = mqi_ring_prepare(s, m->ring);
	if (unlikely(rc != MQSHM_OK)) return rc;
	rc = mqi_slot_reserve(s, &claim->index, &claim->word);
	if (unlikely(rc == MQSHM_FULL) && mqi_due_make_room(s)) rc = mqi_slot_reserve(s, &claim->index, &claim->word);
	/* What was given back after the dead may be the memory of this subscription, or of the next: match again. */
	if (unlikely(rc == MQSHM_FULL) && mqi_reap_soon(s->h)) return MQSHM_CLOSED;
	if (unlikely(rc != MQSHM_OK)) return rc;
	claim->sub = s;
	if (unlikely(m->envelope->delay_ms || m->expires_ns)) rc = mqi_due_prepare(s);
	if (unlikely(mqi_load_acq(&s->shm->word) != s->word)) rc = MQSHM_CLOSED;
	if (unlikely(rc != MQSHM_OK)) mqi_slot_free(s, claim->index, claim->word);
	return rc;
}

int mqi_deliver(struct mqi_claim *claim, const struct mqi_message *m)
{
	struct mqshm_sub *s = claim->sub;
	if (likely(!(mqi_load_rlx(&s->shm->used) >> m->ring & 1))) mqi_or32(&s->shm->used, 1u << m->ring);
	if (unlikely(m->envelope->delay_ms)) {
		uint64_t gen = mqi_slot_gen(claim->word) + 1, due = mqi_due_or_over(s, mqi_boot_ms_in(m->envelope->delay_ms), m->expires_ns);
		mqi_store_rlx(&s->slots[claim->index].place, mqi_place(m->ring, MQI_NOWHERE));
		if (!mqi_due_set(s, claim->index, claim->word, gen, due) ||
		    !mqi_cas64(&s->slots[claim->index].word, claim->word, mqi_slot_word(SLOT_LATER, MQI_NOBODY, gen, 0)))
			return mqi_fail(MQSHM_CORRUPT, "slot %u of subscription %u was taken from its owner", claim->index, s->row);
	} else {
		if (unlikely(m->expires_ns) && !mqi_due_set(s, claim->index, claim->word, mqi_slot_gen(claim->word), mqi_boot_ms_at(m->expires_ns)))
			return mqi_fail(MQSHM_CORRUPT, "slot %u of subscription %u was taken from its owner", claim->index, s->row);
		int rc = mqi_ring_link(s, m->ring, claim->index, claim->word);
		if (unlikely(rc != MQSHM_OK)) return rc;
	}
	MQI_COUNT(s->counters->published, 1);
	return MQSHM_OK;
}

int mqi_drop_one(struct mqshm_sub *s, unsigned highest)
{
	mqshm_delivery victim;
	int rc = mqi_claim_lowest(s, highest, &victim);
	if (rc == MQI_REFUSED) {
		bool expired = mqi_death_of(&victim) == MQI_EXPIRED;
		return mqi_settle(&victim, expired ? &s->counters->expired : &s->counters->dropped);
	}
	if (rc == MQSHM_EMPTY) return mqi_fail(MQSHM_FULL, "all %u slots of subscription %u are in flight", s->capacity, s->row);
	if (rc != MQSHM_OK) return rc;
	mqi_settle(&victim, &s->counters->dropped);
	return MQSHM_OK;
}

void mqi_count_without(struct mqshm_sub *s)
{
	MQI_COUNT(s->counters->dropped, 1);
	if (s->overflow != MQSHM_DROP_NEW) MQI_COUNT(s->counters->published, 1);
}

int mqi_reserve(struct mqshm_sub *s, const struct mqi_message *m, struct mqi_claim *claim)
{
	int rc = reserve(s, m, claim);
	if (likely(rc != MQSHM_FULL)) return rc;
	if (s->overflow == MQSHM_DROP_NEW) return MQSHM_EMPTY; /* counted once the message is in: it may still be refused */
	/* A slot that was freed may be taken by another publisher before we look: as often as there are slots is enough. */
	unsigned highest = s->overflow == MQSHM_DROP_LOWEST ? m->ring : 0;
	for (uint32_t i = 0; mqi_drops_what_waits(s) && rc == MQSHM_FULL && i < s->capacity; i++) {
		int dropped = mqi_drop_one(s, highest);
		if (dropped != MQSHM_OK && dropped != MQSHM_FULL) return dropped;
		rc = reserve(s, m, claim); /* also where nothing was there to drop: what had expired has gone on the way */
		if (dropped == MQSHM_FULL) break;
	}
	return rc == MQSHM_FULL && s->overflow == MQSHM_DROP_LOWEST ? MQSHM_EMPTY : rc; /* the lowest is the new one */
}

static int publish_inline(struct mqshm_sub *s, struct mqshm_topic *t, struct mqi_message *m)
{
	struct mqi_claim claim;
	__builtin_prefetch(&s->rings[m->ring][s->tail[m->ring] & s->mask], 1);
	int rc = mqi_reserve(s, m, &claim);
	if (unlikely(rc != MQSHM_OK)) {
		if (rc != MQSHM_EMPTY) return rc;
		mqi_count_without(s);
		m->seq = mqi_next_seq(s->h);
		mqi_count_published(t, m);
		return MQSHM_OK;
	}
	struct slot_shm *slot = &s->slots[claim.index];
	m->seq = mqi_next_seq(s->h);
	mqi_store_rlx(&slot->seq, m->seq);
	mqi_store_rlx(&slot->published_ns, m->published_ns);
	mqi_store_rlx(&slot->info, mqi_info(m->topic, m->flags, (uint32_t)m->size));
	memcpy(slot->data, m->data, m->size);
	if (unlikely(m->flags)) mqi_envelope_write(slot->data + m->size, m->envelope, m->flags, m->expires_ns);
	rc = mqi_deliver(&claim, m);
	if (unlikely(rc != MQSHM_OK)) return rc;
	mqi_count_published(t, m);
	return MQSHM_OK;
}

static void give_back(struct mqi_claim *claims, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) mqi_slot_free(claims[i].sub, claims[i].index, claims[i].word);
}

static int claims_room(struct mqshm *h, uint32_t n)
{
	if (likely(n <= h->claim_room)) return MQSHM_OK;
	struct mqi_claim *more = realloc(h->claims, n * sizeof *more);
	if (!more) return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for %u receivers", n);
	h->claims = more;
	h->claim_room = n;
	return MQSHM_OK;
}

/* A slot with every receiver, or with none. Those that drop what waits come last: nothing is dropped in vain. Those
 * that drop the new one and go without are noted at the end of the claims, and counted when nothing can fail any more. */
static int reserve_all(struct mqshm *h, struct mqshm_topic *t, const struct mqi_message *m, uint32_t *n)
{
	int rc = claims_room(h, t->count);
	uint32_t without = 0;
	*n = 0;
	for (unsigned last = 0; rc == MQSHM_OK && last < 2; last++)
		for (uint32_t i = 0; rc == MQSHM_OK && i < t->count; i++) {
			struct mqshm_sub *s = t->targets[i];
			if (mqi_drops_what_waits(s) != last) continue;
			rc = mqi_reserve(s, m, &h->claims[*n]);
			if (rc == MQSHM_OK) ++*n;
			else if (rc == MQSHM_EMPTY) {
				h->claims[t->count - ++without].sub = s;
				rc = MQSHM_OK;
			}
		}
	if (rc != MQSHM_OK) give_back(h->claims, *n);
	else
		for (uint32_t i = 1; i <= without; i++) mqi_count_without(h->claims[t->count - i].sub);
	return rc;
}

/* Binds the claimed slots to the filled block, commits, and links. MQSHM_CLOSED: a rival for its id has doomed the block. */
static int commit(struct mqshm *h, struct mqi_message *m, uint64_t offset, uint64_t gen, uint32_t n)
{
	struct block_shm *b = mqi_block(h, offset);
	struct mqi_claim *claims = h->claims;
	uint32_t which;
	int rc = unlikely(m->unique) ? mqi_unique_claim(h, m, 1, offset, gen, &which) : MQSHM_OK;
	if (unlikely(rc != MQSHM_OK)) {
		give_back(claims, n);
		return rc;
	}
	m->seq = mqi_next_seq(h);
	if (n == 0) return mqi_block_spend(h, offset, gen) ? MQSHM_OK : MQSHM_CLOSED;
	mqi_store_rlx(&b->seq, m->seq);
	for (uint32_t i = 0; i < n; i++) {
		struct slot_shm *slot = &claims[i].sub->slots[claims[i].index];
		mqi_store_rlx(&slot->info, mqi_info(m->topic, F_REF | (m->flags & F_EXPIRES), 0));
		mqi_store_rlx(&slot->ref.block, offset);
		mqi_store_rlx(&slot->ref.block_gen, gen);
		mqi_store_rlx(&slot->ref.bit, i);
		mqi_store_rlx(&slot->place, mqi_place(m->ring, MQI_NOWHERE)); /* its priority, should it never be linked */
		claims[i].word = mqi_slot_word(SLOT_BOUND, h->peer, mqi_slot_gen(claims[i].word), 0);
		mqi_store_rel(&slot->word, claims[i].word); /* who repairs reads the word, then the reference */
	}
	unsigned holders = mqi_block_holders_for(b, m->size + m->envelope_size, n, gen);
	if (unlikely(!mqi_cas64(&b->word, mqi_block_word(BLOCK_NEW, h->peer, gen), mqi_block_word(BLOCK_LIVE, holders, gen)))) {
		give_back(claims, n);
		return m->unique ? MQSHM_CLOSED : mqi_fail(MQSHM_CORRUPT, "a payload was taken from its publisher");
	}
	for (uint32_t i = 0; i < n; i++) {
		rc = mqi_deliver(&claims[i], m);
		if (unlikely(rc != MQSHM_OK)) return rc;
	}
	for (uint32_t i = 0; i < n; i++) mqi_event_one(h, claims[i].sub->shm->waiters);
	return MQSHM_OK;
}

static void describe(struct block_shm *b, const struct mqi_message *m, uint32_t receivers)
{
	uint32_t wide = mqi_wide_words(receivers);
	mqi_store_rlx(&b->published_ns, m->published_ns);
	mqi_store_rlx(&b->info, mqi_info(m->topic, m->flags | (wide ? F_WIDE : 0u), (uint32_t)m->size));
	mqi_store_rlx(&b->envelope, m->envelope_size);
	mqi_store_rlx(&b->wide, wide);
	if (m->flags) mqi_envelope_write(mqi_block_data(b) + m->size, m->envelope, m->flags, m->expires_ns);
}

static uint64_t room_for(const struct mqi_message *m, uint32_t receivers)
{
	return m->size + m->envelope_size + 8 + mqi_wide_words(receivers) * sizeof(uint64_t);
}

/* Copies with the handle open to other threads where that takes long; the block is ours meanwhile. The subscriptions
 * may have changed when the handle is entered again: the slots are reserved afterwards. */
static int fill(struct mqshm *h, uint64_t offset, const struct mqi_message *m)
{
	unsigned char *to = mqi_block_data(mqi_block(h, offset));
	if (m->size < COPY_UNLOCKED) {
		mqi_copy(to, m->data, m->size);
		return MQSHM_OK;
	}
	h->outside++;
	mqi_leave(h);
	mqi_copy(to, m->data, m->size);
	int rc = mqi_enter(h);
	if (likely(rc == MQSHM_OK)) h->outside--;
	return rc;
}

static int publish_block(struct mqshm *h, struct mqshm_topic *t, struct mqi_message *m)
{
	uint64_t offset, gen;
	uint32_t receivers = t->count, n;
	int rc = mqi_block_reserve(h, room_for(m, receivers), &offset, &gen);
	if (rc != MQSHM_OK) return rc;
	rc = fill(h, offset, m);
	if (unlikely(rc != MQSHM_OK)) return rc;
	rc = mqi_topic_current(h, t);
	if (rc == MQSHM_OK && t->count > receivers) rc = MQSHM_CLOSED; /* more than the block has room for: once more */
	if (rc == MQSHM_OK) rc = reserve_all(h, t, m, &n);
	if (rc == MQSHM_OK && (n > 0 || m->unique)) {
		describe(mqi_block(h, offset), m, n);
		rc = commit(h, m, offset, gen, n);
		if (rc == MQSHM_OK) mqi_count_published(t, m);
		if (likely(rc == MQSHM_OK || rc == MQSHM_CORRUPT)) return rc;
	}
	mqi_block_return(h, offset, gen);
	if (rc != MQSHM_OK) return rc;
	m->seq = mqi_next_seq(h);
	mqi_count_published(t, m);
	return MQSHM_OK;
}

/* drop_new, or drop_lowest and this is, at the limit of memory. */
static int dropped_new(struct mqshm *h, struct mqshm_topic *t, struct mqi_message *m)
{
	for (uint32_t i = 0; i < t->count; i++) mqi_count_without(t->targets[i]);
	m->seq = mqi_next_seq(h);
	mqi_count_published(t, m);
	return MQSHM_OK;
}

/* One message, with the handle entered. Does not wake inline receivers: the caller does, once for a batch. */
static int publish_one(struct mqshm *h, struct mqshm_topic *t, struct mqi_message *m)
{
	__builtin_prefetch(t->counters, 1); /* written last: the next message's first swap would wait for the line */
	int rc = mqi_prepare(h, t, m);
	struct mqi_limit limit = {.ring = m->ring};
	for (unsigned round = 0; rc == MQSHM_OK && round < MQI_RESOLVE_ROUNDS; round++) {
		rc = mqi_topic_current(h, t);
		if (unlikely(rc != MQSHM_OK)) return rc;
		if (unlikely(m->unique)) rc = publish_block(h, t, m);
		else if (t->count == 1 && m->size + m->envelope_size <= MQI_INLINE) rc = publish_inline(t->targets[0], t, m);
		else if (t->count == 0) {
			m->seq = mqi_next_seq(h);
			mqi_count_published(t, m);
		} else rc = publish_block(h, t, m);
		if (unlikely(rc == MQSHM_NO_MEMORY)) {
			rc = mqi_at_the_limit(h, t, &limit);
			if (rc == MQSHM_EMPTY) return dropped_new(h, t, m);
			if (rc == MQSHM_OK) rc = MQSHM_CLOSED;
		}
		if (likely(rc != MQSHM_CLOSED)) return rc;
		t->version = MQI_NO_VERSION; /* a subscription closed between the match and now, or there is room now */
		rc = MQSHM_OK;
	}
	return rc == MQSHM_OK ? mqi_fail(MQSHM_CLOSED, "the subscriptions of %.*s change faster than they can be matched", (int)t->size, t->name) : rc;
}

static void wake(struct mqshm *h, struct mqshm_topic *t)
{
	for (uint32_t i = 0; i < t->count; i++) mqi_event_one(h, t->targets[i]->shm->waiters);
}

/* What mqi_prepare works out is not zeroed before: that cost 3 % of a message. */
static inline void say(struct mqi_message *m, const void *data, uint64_t size, const mqshm_envelope *e)
{
	m->data = data;
	m->size = size;
	m->envelope = e ? e : &mqi_plain;
}

int mqshm_publish(mqshm_t *h, mqshm_topic_t *t, const void *data, uint64_t size, const mqshm_envelope *e, uint64_t *seq)
{
	struct mqi_message m;
	say(&m, data, size, e);
	int rc = mqi_enter(h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the broker was opened by the parent process");
	rc = publish_one(h, t, &m);
	if (likely(rc == MQSHM_OK)) {
		wake(h, t);
		*seq = m.seq;
	}
	mqi_leave(h);
	mqi_supervisor_look_at(h, m.published_ns);
	return rc;
}

int mqshm_publish_batch(mqshm_t *h, mqshm_topic_t *t, uint32_t n, const void *const *data, const uint64_t *sizes,
                        const mqshm_envelope *const *envelopes, uint64_t *seqs, uint32_t *done)
{
	*done = 0;
	int rc = mqi_enter(h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the broker was opened by the parent process");
	uint64_t now = 0;
	for (; *done < n; ++*done) {
		const mqshm_envelope *e = envelopes ? envelopes[*done] : NULL;
		struct mqi_message m;
		say(&m, data[*done], sizes[*done], e);
		rc = publish_one(h, t, &m);
		if (unlikely(rc != MQSHM_OK)) break;
		seqs[*done] = m.seq;
		now = m.published_ns;
	}
	if (*done) wake(h, t);
	mqi_leave(h);
	mqi_supervisor_look_at(h, now);
	return rc;
}

int mqshm_loan_take(mqshm_t *h, uint64_t size, uint64_t room, mqshm_loan *out)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	mqi_config_look(h);
	if ((h->max_message_size && size > h->max_message_size) || size > UINT32_MAX)
		rc = mqi_fail(MQSHM_TOO_LARGE, "the loan has %llu bytes, max_message_size is %llu", (unsigned long long)size,
		              (unsigned long long)(h->max_message_size ? h->max_message_size : UINT32_MAX));
	if (rc == MQSHM_OK) rc = mqi_block_reserve(h, size + room, &out->block, &out->gen);
	for (struct mqi_limit limit = {0}; rc == MQSHM_NO_MEMORY && mqi_at_the_limit(h, NULL, &limit) == MQSHM_OK;)
		rc = mqi_block_reserve(h, size + room, &out->block, &out->gen);
	if (rc == MQSHM_OK) {
		out->data = mqi_block_data(mqi_block(h, out->block));
		out->size = size;
		out->room = mqi_block_room(size + room);
		MQI_COUNT(h->row->loans, 1);
	}
	mqi_leave(h);
	return rc;
}

static void loan_ended(struct mqshm *h)
{
	uint32_t loans = mqi_load_rlx(&h->row->loans); /* what was read from the segment may be anything */
	if (loans) mqi_store_rlx(&h->row->loans, loans - 1);
}

int mqshm_loan_return(mqshm_t *h, mqshm_loan *loan)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the loan belongs to the parent process");
	mqi_block_return(h, loan->block, loan->gen);
	loan_ended(h);
	mqi_leave(h);
	loan->data = NULL;
	return MQSHM_OK;
}

static int publish_loan(struct mqshm *h, struct mqshm_topic *t, mqshm_loan *loan, struct mqi_message *m)
{
	uint32_t n = 0;
	int rc = mqi_topic_current(h, t);
	if (rc != MQSHM_OK) return rc;
	if (room_for(m, t->count) > loan->room)
		return mqi_fail(MQSHM_TOO_LARGE, "the loan has no room for %u receivers and an envelope of %llu bytes", t->count,
		                (unsigned long long)m->envelope_size);
	rc = reserve_all(h, t, m, &n);
	if (rc != MQSHM_OK) return rc;
	if (n > 0 || m->unique) {
		describe(mqi_block(h, loan->block), m, n);
		rc = commit(h, m, loan->block, loan->gen, n);
		if (unlikely(rc != MQSHM_OK && rc != MQSHM_CORRUPT)) mqi_block_redeem(h, loan->block, &loan->gen);
	} else {
		mqi_block_return(h, loan->block, loan->gen);
		m->seq = mqi_next_seq(h);
	}
	if (rc == MQSHM_OK) mqi_count_published(t, m);
	return rc;
}

int mqshm_loan_publish(mqshm_t *h, mqshm_topic_t *t, mqshm_loan *loan, const mqshm_envelope *e, uint64_t *seq)
{
	struct mqi_message m = {.size = loan->size, .envelope = e ? e : &mqi_plain};
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the loan belongs to the parent process");
	rc = mqi_prepare(h, t, &m);
	struct mqi_limit limit = {.ring = m.ring};
	for (unsigned round = 0; rc == MQSHM_OK && round < MQI_RESOLVE_ROUNDS; round++) {
		rc = publish_loan(h, t, loan, &m);
		if (rc == MQSHM_NO_MEMORY && mqi_at_the_limit(h, t, &limit) == MQSHM_OK) rc = MQSHM_CLOSED;
		if (rc != MQSHM_CLOSED) break;
		t->version = MQI_NO_VERSION;
		rc = MQSHM_OK;
	}
	if (rc == MQSHM_OK) {
		*seq = m.seq;
		loan->data = NULL;
		loan_ended(h);
	}
	mqi_leave(h);
	return rc;
}
