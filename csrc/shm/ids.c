#include "shm/ids.h"

#include "os/siphash.h"
#include "shm/block.h"
#include "shm/config.h"
#include "shm/grace.h"
#include "shm/reach.h"

#define ENTRIES_AT (MQI_ID_BUCKETS * sizeof(uint32_t))
#define ENTRIES_MAX ((MQI_IDS_SIZE - ENTRIES_AT) / sizeof(struct id_shm))
#define AHEAD (64u << 10)
#define AGAIN_MS 10 /* after somebody was inside an operation, perhaps stopped there */

/* header ids */
#define CURRENT 1ull
#define VOID 2ull
#define NEXT 4ull
static unsigned current(uint64_t word) { return word & CURRENT; }
static unsigned other(uint64_t word) { return !current(word); }

/* block_shm ids, id_shm sibling: which entry of which table; 0 is none. */
static uint64_t reference(unsigned table, uint32_t at) { return (uint64_t)table << 32 | at; }

static struct area_shm *area_of(struct mqshm *h, unsigned table) { return &h->hdr->areas[AREA_IDS + table]; }

/* Entries are counted from 1 on. NULL where it is not memory. */
static struct id_shm *entry_of(struct mqshm *h, unsigned table, uint32_t at)
{
	if (table > 1 || at == 0 || at > ENTRIES_MAX) return NULL;
	return mqi_reach(h, area_of(h, table), ENTRIES_AT + (uint64_t)(at - 1) * sizeof(struct id_shm), sizeof(struct id_shm));
}

/* The entry that a block names; NULL where it was named in an earlier life of the block's, and is another's by now. */
static struct id_shm *entry_of_block(struct mqshm *h, uint64_t named, uint64_t block, uint64_t gen)
{
	struct id_shm *e = entry_of(h, (unsigned)(named >> 32), (uint32_t)named);
	return e && mqi_load_rlx(&e->block) == block && mqi_load_rlx(&e->gen) == gen ? e : NULL;
}

static uint32_t *bucket_of(struct mqshm *h, unsigned table, const struct mqi_id *id)
{
	return mqi_reach(h, area_of(h, table), id->key[0] % MQI_ID_BUCKETS * sizeof(uint32_t), sizeof(uint32_t));
}

void mqi_id_of(struct mqshm *h, uint32_t topic, const void *id, uint64_t size, struct mqi_id *out)
{
	mqi_siphash(h->hdr->secret, topic, id, size, out->key);
	out->at = 0;
}

/* Whether the message of an entry was published. One that is not decided yet becomes DOOMED if we are to `decide`. */
static bool published(struct mqshm *h, struct id_shm *e, uint64_t mine, uint64_t my_gen, bool decide)
{
	uint64_t block = mqi_load_rlx(&e->block), gen = mqi_load_rlx(&e->gen), w;
	if (block == mine && gen == my_gen) return mqi_load_acq(&e->state) != ID_WITHDRAWN; /* twice in one commit */
	/* Where a chunk went back to the system its blocks were free, so decided. */
	while (mqi_block_word_at(h, block, &w) && mqi_block_gen(w) == gen) {
		if (mqi_block_state(w) == BLOCK_DOOMED) return false;
		if (mqi_block_state(w) != BLOCK_NEW) break;
		if (!decide || mqi_block_doom(h, block, w)) return false;
	}
	return mqi_load_acq(&e->state) != ID_WITHDRAWN; /* said before the block went on, so seen after it */
}

struct search {
	const struct mqi_id *id;
	uint64_t block, gen;
	uint64_t now, window;
	bool decide;
};

/* From an entry on, which was read with acquire: each was added by one who had acquired the one before it. */
static int search_from(struct mqshm *h, unsigned table, uint32_t at, const struct search *s)
{
	for (uint32_t steps = 0; at; steps++) {
		struct id_shm *e = steps < ENTRIES_MAX ? entry_of(h, table, at) : NULL;
		if (!e) return mqi_fail(MQSHM_CORRUPT, "the table of message ids leads to entry %u, which is none", at);
		bool same = mqi_load_rlx(&e->key[0]) == s->id->key[0] && mqi_load_rlx(&e->key[1]) == s->id->key[1];
		if (same && published(h, e, s->block, s->gen, s->decide) && mqi_load_rlx(&e->ms) + s->window > s->now)
			return mqi_fail(MQSHM_DUPLICATE, "a message of this id was published on the topic %.3f s ago",
			                (double)(s->now - mqi_load_rlx(&e->ms)) / 1000);
		at = mqi_load_rlx(&e->next);
	}
	return MQSHM_OK;
}

static int search_all(struct mqshm *h, unsigned table, const struct search *s)
{
	uint32_t *bucket = bucket_of(h, table, s->id);
	return bucket ? search_from(h, table, mqi_load_acq(bucket), s) : MQSHM_OK;
}

int mqi_id_look(struct mqshm *h, const struct mqi_id *id, uint64_t window_ms)
{
	const struct search s = {.id = id, .now = mqi_boot_ms(), .window = window_ms};
	uint64_t word = mqi_ids_word(h);
	int rc = search_all(h, current(word), &s);
	if (rc == MQSHM_OK && !(word & VOID)) rc = search_all(h, other(word), &s);
	return rc;
}

/* A death after this loses one entry, until the table is cleared. */
static int take_entry(struct mqshm *h, unsigned table, uint32_t *at)
{
	uint64_t *used = &h->hdr->ids_used[table];
	for (;;) {
		uint64_t seen = mqi_load_acq(used), need = ENTRIES_AT + (seen + 1) * sizeof(struct id_shm);
		if (seen >= ENTRIES_MAX)
			return mqi_fail(MQSHM_NO_MEMORY, "%llu messages with an id were published within dedup_window: it holds no more",
			                (unsigned long long)ENTRIES_MAX);
		if (mqi_area_ready(area_of(h, table)) < need) {
			int rc = mqi_area_grow(h, area_of(h, table), need, AHEAD);
			if (rc != MQSHM_OK) return rc;
		}
		if (!mqi_cas64(used, seen, seen + 1)) continue;
		*at = (uint32_t)seen + 1;
		return MQSHM_OK;
	}
}

int mqi_id_add(struct mqshm *h, struct mqi_id *id, uint64_t word, uint64_t block, uint64_t gen)
{
	unsigned table = current(word);
	int rc = take_entry(h, table, &id->at);
	if (rc != MQSHM_OK) return rc;
	struct id_shm *e = entry_of(h, table, id->at);
	uint32_t *bucket = bucket_of(h, table, id);
	if (!e || !bucket) return mqi_fail(MQSHM_CORRUPT, "the table of message ids is smaller than it was");
	struct block_shm *b = mqi_block(h, block);
	uint64_t sibling = mqi_load_rlx(&b->ids);
	if (!entry_of_block(h, sibling, block, gen)) sibling = 0; /* it may be this very entry, before the table was cleared */
	mqi_store_rlx(&e->key[0], id->key[0]);
	mqi_store_rlx(&e->key[1], id->key[1]);
	mqi_store_rlx(&e->block, block);
	mqi_store_rlx(&e->gen, gen);
	mqi_store_rlx(&e->ms, mqi_boot_ms());
	mqi_store_rlx(&e->sibling, sibling);
	mqi_store_rel(&b->ids, reference(table, id->at)); /* before anybody can find the entry: who repairs withdraws it */
	for (uint32_t head;;) {
		mqi_store_rlx(&e->next, head = mqi_load_acq(bucket));
		if (mqi_cas32(bucket, head, id->at)) break;
	}
	mqi_fence_after_rmw(); /* pairs with who turns the tables, or adds to the other one: one of us sees the other */
	return MQSHM_OK;
}

int mqi_id_claim(struct mqshm *h, const struct mqi_id *id, uint64_t word, uint64_t block, uint64_t gen, uint64_t window_ms)
{
	const struct search s = {id, block, gen, mqi_boot_ms(), window_ms, true};
	struct id_shm *e = entry_of(h, current(word), id->at);
	if (!e) return mqi_fail(MQSHM_CORRUPT, "the table of message ids is smaller than it was");
	int rc = search_from(h, current(word), mqi_load_rlx(&e->next), &s);
	if (rc == MQSHM_OK && !(word & VOID)) rc = search_all(h, other(word), &s);
	return rc;
}

void mqi_ids_withdraw(struct mqshm *h, uint64_t block, uint64_t gen)
{
	uint64_t at = mqi_load_acq(&mqi_block(h, block)->ids);
	struct id_shm *e;
	for (uint32_t steps = 0; steps < ENTRIES_MAX && (e = entry_of_block(h, at, block, gen)); steps++) {
		mqi_store_rel(&e->state, ID_WITHDRAWN);
		at = mqi_load_rlx(&e->sibling);
	}
}

/* ---- turning ------------------------------------------------------------------------------------------------------ */

/* false, and another try later: somebody is inside an operation, perhaps stopped there. */
static bool all_idle(struct mqshm *h, uint64_t now)
{
	bool idle = mqi_all_idle(h);
	if (!idle) h->ids_again_ms = now + AGAIN_MS;
	return idle;
}

/* Under the control lock, so that nobody changes the window: the caller's may be of before it became longer. */
static void turn(struct mqshm *h)
{
	struct header_shm *hdr = h->hdr;
	mqshm_config config;
	uint64_t version, word = mqi_ids_word(h), began = mqi_load_rlx(&hdr->ids_began_ms), now = mqi_boot_ms();
	if (!mqi_config_load(hdr, &config, &version)) return;
	if (began == MQI_NEVER_MS) mqi_store_rlx(&hdr->ids_began_ms, now); /* one died when it had turned */
	if (!(word & VOID)) {
		if (began == MQI_NEVER_MS || now < began + config.dedup_window_ms) return;
		if (!all_idle(h, now)) return; /* who added to it is decided: what is void nobody dooms any more */
		word = (word + NEXT) | VOID;
		mqi_store_rel(&hdr->ids, word);
	}
	if (!all_idle(h, now)) return; /* nobody looks there any more */
	mqi_area_clear(h, area_of(h, other(word)));
	mqi_store_rlx(&hdr->ids_used[other(word)], 0);
	/* What is added before the turn is not younger than the table's end, whoever sleeps in between. */
	mqi_store_rlx(&hdr->ids_began_ms, MQI_NEVER_MS);
	mqi_store_rel(&hdr->ids, (word + NEXT) ^ (VOID | CURRENT));
	mqi_store_rel(&hdr->ids_began_ms, mqi_boot_ms());
}

void mqi_ids_turn(struct mqshm *h, uint64_t window_ms)
{
	uint64_t began = mqi_load_rlx(&h->hdr->ids_began_ms), now = mqi_boot_ms();
	if (now < h->ids_again_ms || mqi_load_rlx(&h->hdr->ids_used[0]) + mqi_load_rlx(&h->hdr->ids_used[1]) == 0) return;
	if (began != MQI_NEVER_MS && now < began + window_ms && !(mqi_ids_word(h) & VOID)) return;
	h->ids_again_ms = now + AGAIN_MS;
	if (!mqi_control_try(h)) return;
	turn(h);
	mqi_control_unlock(h);
}

const char *mqi_ids_fault(struct mqshm *h)
{
	for (unsigned table = 0; table < 2; table++) {
		uint64_t used = mqi_load_acq(&h->hdr->ids_used[table]);
		if (used > ENTRIES_MAX) return "more entries are in use than a table has";
		for (uint32_t at = 1; at <= used; at++) {
			struct id_shm *e = entry_of(h, table, at);
			if (!e) break; /* given back meanwhile */
			if (mqi_load_rlx(&e->next) > mqi_load_acq(&h->hdr->ids_used[table])) return "a chain leads to an entry that was never taken";
			uint64_t sibling = mqi_load_rlx(&e->sibling);
			if (sibling && (sibling < reference(table, 1) || sibling >= reference(table, at))) return "an entry names one that was not added before it";
		}
	}
	return NULL;
}
