#include "flow/commit.h"

#include "flow/due.h"
#include "flow/envelope.h"
#include "flow/limit.h"
#include "flow/publish.h"
#include "flow/settle.h"
#include "flow/topic.h"
#include "flow/unique.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/peers.h"
#include "shm/reach.h"
#include "shm/slab.h"
#include "shm/subs.h"

/* One commit on its way. */
struct commit {
	struct mqshm *h;
	const mqshm_part *parts;
	struct mqi_message *messages;
	uint64_t *offsets;         /* of their payloads in the block's data */
	uint32_t n;
	mqshm_delivery *const *settled;
	const unsigned char *keep;
	uint32_t m;
	uint64_t *counter;
	struct mqi_claim *claims;
	uint32_t *of;              /* which message a claim is for */
	uint32_t room, count;      /* of claims */
	uint32_t without;          /* deliveries that are dropped, as new ones: their subscriptions are the last of claims */
	uint64_t bytes;            /* payloads and envelopes */
	uint64_t block, gen;
	uint32_t failed;
	bool unique;               /* at least one of the messages is */
};

static int no_memory(void) { return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for the transaction"); }

static uint64_t aligned(uint64_t bytes) { return (bytes + 7) & ~7ull; }

static int prepare(struct commit *c)
{
	for (uint32_t i = 0; i < c->n; i++) {
		const mqshm_part *p = &c->parts[i];
		c->messages[i] = (struct mqi_message){.data = p->data, .size = p->size, .envelope = p->envelope ? p->envelope : &mqi_plain};
		int rc = mqi_prepare(c->h, p->topic, &c->messages[i]);
		c->failed = i;
		if (rc != MQSHM_OK) return rc;
		c->unique |= c->messages[i].unique;
		c->offsets[i] = c->bytes;
		c->bytes += aligned(c->messages[i].size + c->messages[i].envelope_size);
	}
	return c->bytes <= UINT32_MAX ? MQSHM_OK : mqi_fail(MQSHM_TOO_LARGE, "a transaction of %llu bytes is over 4 GiB", (unsigned long long)c->bytes);
}

/* Receivers of all messages under the subscriptions of now. */
static int match(struct commit *c, uint32_t *receivers)
{
	*receivers = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		int rc = mqi_topic_current(c->h, c->parts[i].topic);
		if (rc != MQSHM_OK) return rc;
		*receivers += c->parts[i].topic->count;
	}
	if (*receivers <= c->room) return MQSHM_OK;
	struct mqi_claim *claims = realloc(c->claims, *receivers * sizeof *claims);
	if (claims) c->claims = claims;
	uint32_t *of = realloc(c->of, *receivers * sizeof *of);
	if (of) c->of = of;
	if (!claims || !of) return no_memory();
	c->room = *receivers;
	return MQSHM_OK;
}

static void fill(struct commit *c)
{
	unsigned char *data = mqi_block_data(mqi_block(c->h, c->block));
	for (uint32_t i = 0; i < c->n; i++) {
		const struct mqi_message *m = &c->messages[i];
		if (m->size) memcpy(data + c->offsets[i], m->data, m->size);
		if (m->flags) mqi_envelope_write(data + c->offsets[i] + m->size, m->envelope, m->flags, m->expires_ns);
	}
}

static void give_back(struct commit *c)
{
	for (uint32_t i = 0; i < c->count; i++) mqi_slot_free(c->claims[i].sub, c->claims[i].index, c->claims[i].word);
	c->count = 0;
	if (c->block) mqi_block_return(c->h, c->block, c->gen);
	c->block = 0;
}

/* Where a subscription is full, whether that may change by waiting. */
static bool worth_waiting(const struct commit *c, const struct mqshm_sub *s)
{
	uint32_t mine = 0;
	for (uint32_t i = 0; i < c->count; i++) mine += c->claims[i].sub == s;
	return s->overflow != MQSHM_REJECT && mine < s->capacity;
}

/* A slot for every delivery, or none. Where something would be dropped for it comes last: nothing is dropped in vain. */
static int reserve(struct commit *c)
{
	int rc = MQSHM_OK;
	c->without = 0;
	for (unsigned last = 0; rc == MQSHM_OK && last < 2; last++)
		for (uint32_t i = 0; rc == MQSHM_OK && i < c->n; i++) {
			const struct mqshm_topic *t = c->parts[i].topic;
			for (uint32_t k = 0; rc == MQSHM_OK && k < t->count; k++) {
				if (mqi_drops_what_waits(t->targets[k]) != last) continue;
				rc = mqi_reserve(t->targets[k], &c->messages[i], &c->claims[c->count]);
				if (rc == MQSHM_OK) c->of[c->count++] = i;
				else if (rc == MQSHM_EMPTY) {
					c->claims[c->room - ++c->without].sub = t->targets[k];
					rc = MQSHM_OK;
				} else if (rc != MQSHM_FULL || worth_waiting(c, t->targets[k])) c->failed = i;
			}
		}
	return rc;
}

static void count_without(const struct commit *c)
{
	for (uint32_t i = 1; i <= c->without; i++) mqi_count_without(c->claims[c->room - i].sub);
}

static int reserve_all(struct commit *c)
{
	uint32_t receivers;
	c->failed = c->n;
	int rc = match(c, &receivers);
	if (rc != MQSHM_OK) return rc;
	if (receivers + c->m == 0 && !c->unique) return MQSHM_OK;
	uint64_t wide = mqi_wide_words(receivers + 1) * sizeof(uint64_t);
	rc = mqi_block_reserve(c->h, c->bytes + 8 + wide, &c->block, &c->gen);
	if (rc != MQSHM_OK) {
		c->block = 0;
		if (c->n) c->failed = 0; /* memory comes to all alike */
		return rc;
	}
	fill(c);
	rc = reserve(c);
	if (rc != MQSHM_OK) give_back(c);
	return rc;
}

static void describe(struct commit *c)
{
	struct block_shm *b = mqi_block(c->h, c->block);
	uint32_t wide = mqi_wide_words(c->count + (c->m > 0));
	mqi_store_rlx(&b->seq, 0);
	mqi_store_rlx(&b->published_ns, mqi_wall_coarse_ns());
	mqi_store_rlx(&b->info, mqi_info(0, wide ? F_WIDE : 0u, (uint32_t)c->bytes));
	mqi_store_rlx(&b->envelope, 0);
	mqi_store_rlx(&b->wide, wide);
}

static void bind(struct commit *c)
{
	for (uint32_t i = 0; i < c->count; i++) {
		struct mqi_claim *claim = &c->claims[i];
		const struct mqi_message *m = &c->messages[c->of[i]];
		struct slot_shm *slot = &claim->sub->slots[claim->index];
		mqi_store_rlx(&slot->seq, m->seq);
		mqi_store_rlx(&slot->published_ns, m->published_ns);
		mqi_store_rlx(&slot->info, mqi_info(m->topic, F_REF | F_PART | m->flags, (uint32_t)m->size));
		mqi_store_rlx(&slot->ref.block, c->block);
		mqi_store_rlx(&slot->ref.block_gen, c->gen);
		mqi_store_rlx(&slot->ref.bit, i);
		mqi_store_rlx(&slot->ref.part, (uint32_t)(c->offsets[c->of[i]] / 8));
		mqi_store_rlx(&slot->place, mqi_place(m->ring, MQI_NOWHERE)); /* its priority, should it never be linked */
		claim->word = mqi_slot_word(SLOT_BOUND, c->h->peer, mqi_slot_gen(claim->word), 0);
		mqi_store_rel(&slot->word, claim->word);
	}
}

/* ---- what is settled along ---------------------------------------------------------------------------------------- */

static uint64_t next(uint64_t word, unsigned state, unsigned owner)
{
	return mqi_slot_word(state, owner, mqi_slot_gen(word) + 1, mqi_slot_attempts(word));
}

/* Every change has a generation of its own: a SETTLING word that is seen twice was of the same commit in between. */
static bool restate(mqshm_delivery *d, unsigned state)
{
	uint64_t word = next(d->word, state, d->sub->h->peer);
	if (!mqi_cas64(&d->sub->slots[d->slot].word, d->word, word)) return false;
	d->word = word;
	return true;
}

static bool is_leased(const mqshm_delivery *d) { return mqi_slot_state(d->word) == SLOT_INFLIGHT && mqi_view_holds(d->sub); }

static bool begin_settling(struct commit *c, uint32_t *begun)
{
	struct peer_shm *row = c->h->row;
	if (c->m == 0) return true;
	mqi_store_rlx(&row->commit_gen, c->gen);
	mqi_store_rlx(&row->commit_bit, c->count);
	mqi_store_rlx(&row->commit_block, c->block); /* all three before the first SETTLING, by its compare-and-swap */
	for (*begun = 0; *begun < c->m; ++*begun) {
		mqshm_delivery *d = c->settled[*begun];
		if (!is_leased(d) || !restate(d, SLOT_SETTLING)) return false;
	}
	return true;
}

void mqi_commit_over(struct mqshm *h, unsigned peer, uint64_t row_word)
{
	struct peer_shm *row = mqi_peer(h, peer);
	uint64_t block = mqi_load_acq(&row->commit_block), gen = mqi_load_acq(&row->commit_gen);
	uint32_t bit = mqi_load_acq(&row->commit_bit);
	/* Else what was read is perhaps a later life's. */
	if (block && (row_word == 0 || mqi_load_acq(&row->word) == row_word)) mqi_block_release(h, block, gen, bit);
}

/* The leases go on as they were. */
static void undo_settling(struct commit *c, uint32_t begun)
{
	for (uint32_t i = 0; i < begun; i++) {
		mqshm_delivery *d = c->settled[i];
		uint64_t leased = next(d->word, SLOT_INFLIGHT, c->h->peer);
		uint64_t ms = d->sub->ack == MQSHM_ACK_TIMEOUT ? mqi_lease_ms(mqi_load_acq(&d->sub->times[d->slot])) : 0;
		if (ms) mqi_due_set(d->sub, d->slot, d->word, mqi_slot_gen(leased), ms);
		if (mqi_cas64(&d->sub->slots[d->slot].word, d->word, leased)) d->word = leased;
	}
	mqi_store_rel(&c->h->row->commit_block, 0);
}

static void finish_settling(struct commit *c)
{
	for (uint32_t i = 0; i < c->m; i++) {
		mqshm_delivery *d = c->settled[i];
		struct mqshm_sub *s = d->sub;
		bool keep = c->keep && c->keep[i];
		uint64_t *counter = c->counter ? c->counter : &s->counters->settled;
		MQI_COUNT(*counter, 1);
		if (d->block == 0 && !keep) mqi_slot_free(s, d->slot, d->word);
		else if (restate(d, SLOT_FREEING) && !keep) mqi_finish_freeing(s, d->slot, d->word, d->block, d->block_gen, d->bit);
	}
	mqi_commit_over(c->h, c->h->peer, 0); /* after the last SETTLING, and before the row forgets it */
	mqi_store_rel(&c->h->row->commit_block, 0);
}

enum mqi_verdict mqi_verdict(struct mqshm_sub *s, uint32_t index, uint64_t w)
{
	struct mqshm *h = s->h;
	struct peer_shm *row = mqi_peer(h, mqi_slot_owner(w));
	uint64_t block = mqi_load_acq(&row->commit_block), gen = mqi_load_acq(&row->commit_gen);
	uint32_t bit = mqi_load_acq(&row->commit_bit);
	if (mqi_load_acq(&s->slots[index].word) != w) return VERDICT_UNKNOWN;
	if (block && mqi_block_valid(h, block)) {
		uint64_t is = mqi_load_acq(&mqi_block(h, block)->word);
		if (is == mqi_block_word(BLOCK_NEW, mqi_slot_owner(w), gen)) mqi_block_doom(h, block, is);
		if (mqi_block_held(h, block, gen, bit)) return mqi_load_acq(&s->slots[index].word) == w ? VERDICT_COMMITTED : VERDICT_UNKNOWN;
	}
	return VERDICT_UNDONE;
}

bool mqi_settling_over(struct mqshm_sub *s, uint32_t index, uint64_t w)
{
	uint64_t again = mqi_slot_word(SLOT_AGAIN, MQI_NOBODY, mqi_slot_gen(w) + 1, mqi_slot_attempts(w));
	if (mqi_verdict(s, index, w) != VERDICT_UNDONE || !mqi_cas64(&s->slots[index].word, w, again)) return false;
	mqi_made_again(s, index);
	return true;
}

/* ---- all together ------------------------------------------------------------------------------------------------- */

static int lost(const struct commit *c, uint32_t which)
{
	return mqi_fail(MQSHM_LEASE_LOST, "message %llu is not leased to this consumer any more; nothing was committed",
	                (unsigned long long)(which < c->m ? c->settled[which]->seq : 0));
}

/* A look before anything is reserved, and perhaps dropped for it; what is lost later is found when it begins to be settled. */
static int look_at_leases(const struct commit *c)
{
	for (uint32_t i = 0; i < c->m; i++) {
		const mqshm_delivery *d = c->settled[i];
		if (unlikely(!is_leased(d) || mqi_load_acq(&d->sub->slots[d->slot].word) != d->word)) return lost(c, i);
	}
	return MQSHM_OK;
}

/* From a filled block and reserved slots on. */
static int go(struct commit *c)
{
	struct mqshm *h = c->h;
	uint32_t begun = 0;
	uint32_t which = c->n;
	int rc = unlikely(c->unique) ? mqi_unique_claim(h, c->messages, c->n, c->block, c->gen, &which) : MQSHM_OK;
	if (unlikely(rc != MQSHM_OK)) {
		c->failed = which;
		give_back(c);
		return rc;
	}
	for (uint32_t i = 0; i < c->n; i++) c->messages[i].seq = mqi_next_seq(h);
	if (c->count + c->m == 0) { /* nobody receives anything, and nothing is settled */
		if (c->unique && !mqi_block_spend(h, c->block, c->gen)) rc = MQSHM_CLOSED;
		else if (c->unique) c->block = 0; /* gone, and its ids stay */
		if (rc == MQSHM_OK) count_without(c);
		give_back(c);
		return rc;
	}
	describe(c);
	bind(c);
	unsigned holders = mqi_block_holders_for(mqi_block(h, c->block), c->bytes, c->count + (c->m > 0), c->gen);
	uint64_t mine = mqi_block_word(BLOCK_NEW, h->peer, c->gen), live = mqi_block_word(BLOCK_LIVE, holders, c->gen);
	bool settling = begin_settling(c, &begun);
	if (!settling || !mqi_cas64(&mqi_block(h, c->block)->word, mine, live)) {
		undo_settling(c, begun);
		give_back(c);
		if (settling && c->unique) return MQSHM_CLOSED; /* perhaps a rival's doing; else the leases are found lost next time */
		return c->m ? lost(c, begun) : mqi_fail(MQSHM_CORRUPT, "a payload was taken from its publisher");
	}
	count_without(c);
	for (uint32_t i = 0; i < c->count && rc == MQSHM_OK; i++) rc = mqi_deliver(&c->claims[i], &c->messages[c->of[i]]);
	for (uint32_t i = 0; i < c->count; i++) mqi_event_one(h, c->claims[i].sub->shm->waiters);
	if (c->m) finish_settling(c);
	return rc;
}

static void end(struct commit *c)
{
	free(c->messages);
	free(c->offsets);
	free(c->claims);
	free(c->of);
}

int mqi_transact(struct mqshm *h, const mqshm_part *parts, uint32_t n, mqshm_delivery *const *settled, const unsigned char *keep,
                 uint32_t m, uint64_t *counter, uint64_t *seqs, uint32_t *failed)
{
	struct commit c = {.h = h, .parts = parts, .n = n, .settled = settled, .keep = keep, .m = m, .counter = counter, .failed = n};
	c.messages = malloc((n ? n : 1) * sizeof *c.messages);
	c.offsets = malloc((n ? n : 1) * sizeof *c.offsets);
	int rc = c.messages && c.offsets ? prepare(&c) : no_memory();
	if (rc == MQSHM_OK) {
		c.failed = n;
		rc = look_at_leases(&c);
	}
	struct mqi_limit limit = {.ring = MQI_PRIORITIES - 1};
	for (uint32_t i = 0; rc == MQSHM_OK && i < n; i++) limit.ring = (unsigned)mqi_least(limit.ring, c.messages[i].ring);
	for (unsigned round = 0; rc == MQSHM_OK; round++) {
		rc = reserve_all(&c);
		if (rc == MQSHM_OK) rc = go(&c);
		if (rc == MQSHM_NO_MEMORY && mqi_at_the_limit(h, n ? parts[0].topic : NULL, &limit) == MQSHM_OK) rc = MQSHM_CLOSED;
		if (rc != MQSHM_CLOSED || round == MQI_RESOLVE_ROUNDS) break;
		for (uint32_t i = 0; i < n; i++) parts[i].topic->version = MQI_NO_VERSION;
		rc = MQSHM_OK;
	}
	for (uint32_t i = 0; i < n && rc == MQSHM_OK; i++) {
		seqs[i] = c.messages[i].seq;
		mqi_count_published(parts[i].topic, &c.messages[i]);
	}
	*failed = rc == MQSHM_OK ? n : c.failed;
	end(&c);
	return rc;
}

int mqshm_commit(mqshm_t *h, const mqshm_part *parts, uint32_t n, mqshm_delivery *const *settled, const unsigned char *keep, uint32_t m,
                 uint64_t *seqs, uint32_t *failed)
{
	*failed = n;
	for (uint32_t i = 0; i < m; i++)
		if (!settled[i]->sub || settled[i]->sub->h != h)
			return mqi_fail(MQSHM_INVALID, "a message that is settled in a transaction was received by another broker object");
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	rc = mqi_transact(h, parts, n, settled, keep, m, NULL, seqs, failed);
	for (uint32_t i = 0; rc == MQSHM_OK && i < m; i++)
		mqi_unhold(settled[i]);
	mqi_leave(h);
	return rc;
}
