#include "shm/block.h"

#include "shm/area.h"
#include "shm/event.h"
#include "shm/ids.h"

/* Strides: 64-byte steps to 512, then about a quarter more each, in an odd number of lines, so that blocks of a class do
 * not share cache sets. From LARGE to CHUNKED, blocks that are much used go round through all chunks of their class, and
 * these are grown to ROUND bytes: a block that comes back at once still lies, written, in a core's own cache, and the other
 * core fetches it from there up to four times more slowly than from the cache that they share, where a long round has put it. */
#define SMALL_STRIDES 8
#define CHUNKED (512u << 10) /* above, a chunk is one block */
#define LARGE (4u << 10)
#define ROUND (4u << 20)
#define ROUND_MS 20          /* who takes longer for a round is not in a hurry */
#define ROUND_SHARE 4        /* the limit of memory is to be so many times what is in use and would be added */
#define AHEAD 1216 /* bytes of the next block that are asked for ahead: all of one for 1 KiB */

/* The class of blocks that hold `bytes`, and its stride; MQI_CLASSES where there is none. */
static inline unsigned class_of(uint64_t bytes, uint64_t *stride)
{
	if (bytes <= SMALL_STRIDES * 64) {
		unsigned class = bytes ? (unsigned)((bytes - 1) / 64) : 0;
		*stride = (class + 1) * 64;
		return class;
	}
	unsigned class = SMALL_STRIDES;
	for (uint64_t lines = SMALL_STRIDES;; class++) {
		lines += lines / 4 + 1;
		*stride = (lines | 1) * 64;
		if (*stride >= bytes || class == MQI_CLASSES) break;
	}
	return *stride > UINT32_MAX ? MQI_CLASSES : class;
}

uint64_t mqi_block_room(uint64_t bytes)
{
	uint64_t stride;
	return class_of(bytes + sizeof(struct block_shm), &stride) < MQI_CLASSES ? stride - sizeof(struct block_shm) : 0;
}

/* The blocks of a chunk are dealt to at most 64 runs, one bit of free_runs each. */
static inline uint32_t runs_of(const struct mqi_chunk *c) { return c->blocks < 64 ? c->blocks : 64; }
static inline uint32_t run_start(const struct mqi_chunk *c, uint32_t run) { return (uint32_t)((uint64_t)run * c->blocks / runs_of(c)); }
static inline uint32_t run_of(const struct mqi_chunk *c, uint32_t block)
{
	uint32_t runs = runs_of(c), run = (uint32_t)((uint64_t)block * runs / c->blocks);
	while (run + 1 < runs && run_start(c, run + 1) <= block) run++;
	while (run > 0 && run_start(c, run) > block) run--;
	return run;
}

/* Written before ACTIVE, and stays. */
bool mqi_chunk_is_sound(const struct mqshm *h, uint64_t unit, struct mqi_chunk *c)
{
	const struct unit_shm *u = mqi_unit(h, unit);
	uint64_t stride = mqi_load_rlx(&u->stride), blocks = mqi_load_rlx(&u->blocks), units = mqi_load_rlx(&u->units);
	c->stride = (uint32_t)stride;
	c->blocks = (uint32_t)blocks;
	if (mqi_load_rlx(&u->kind) != UNIT_BLOCKS || stride < 64 || stride % 64) return false;
	return stride <= CHUNKED ? units == 1 && blocks >= 1 && stride * blocks <= MQI_UNIT
	                         : blocks == 1 && stride <= units << MQI_UNIT_SHIFT && units <= h->units - unit;
}

/* A region's unit may just become something else while it is looked at, but as a region's its word says that none of it
 * is memory. */
bool mqi_is_chunk(const struct mqshm *h, uint64_t unit, struct mqi_chunk *c)
{
	uint64_t w = mqi_load_acq(&mqi_unit(h, unit)->word);
	unsigned state = mqi_area_state(w);
	c->committed = (uint64_t)mqi_area_committed(w) * MQI_PAGE;
	return (state == AREA_ACTIVE || state == AREA_GROWING) && mqi_chunk_is_sound(h, unit, c);
}

static uint64_t known_units(struct mqshm *h)
{
	uint64_t top = mqi_load_acq(&h->hdr->units_top);
	return top < h->units ? top : h->units;
}

static inline uint64_t unit_offset(struct mqshm *h, uint64_t unit) { return h->units_offset + (unit << MQI_UNIT_SHIFT); }

/* The chunk in which a block begins at `offset`, which may be anything; the block is memory. */
static inline bool locate(struct mqshm *h, uint64_t offset, struct mqi_chunk *c)
{
	if (offset < h->units_offset + MQI_UNIT || offset >= h->span || offset % 64) return false;
	uint64_t unit = (offset - h->units_offset) >> MQI_UNIT_SHIFT;
	if (unit >= known_units(h) || !mqi_is_chunk(h, unit, c)) return false;
	uint64_t within = offset - unit_offset(h, unit);
	return within % c->stride == 0 && within + c->stride <= c->committed && within / c->stride < c->blocks;
}

/* Fresh memory goes on where the blocks of an earlier chunk ended. */
static uint64_t first_gen(struct mqshm *h, uint64_t offset)
{
	return mqi_load_acq(&mqi_unit(h, (offset - h->units_offset) >> MQI_UNIT_SHIFT)->gen);
}

bool mqi_block_take(struct mqshm *h, uint64_t offset, uint64_t *gen)
{
	struct block_shm *b = mqi_block(h, offset);
	uint64_t w = mqi_load_rlx(&b->word);
	if (mqi_block_state(w) != BLOCK_FREE) return false;
	*gen = ((likely(w) ? mqi_block_gen(w) : first_gen(h, offset)) + 1) & MQI_GEN40;
	return mqi_cas64(&b->word, w, mqi_block_word(BLOCK_NEW, h->peer, *gen));
}

static void hint(struct mqshm *h, uint64_t unit, uint32_t run)
{
	struct unit_shm *u = mqi_unit(h, unit);
	uint64_t *units = &mqi_unit_hints(h)[unit / 64];
	if (!(mqi_load_rlx(&u->free_runs) >> run & 1)) mqi_or64(&u->free_runs, 1ull << run);
	if (!(mqi_load_rlx(units) >> unit % 64 & 1)) mqi_or64(units, 1ull << unit % 64);
}

/* A run of this stride with a hint, in the chunk `unit`, goes on from where the cursor is there: it becomes the cursor. If not
 * only `onwards`, one before it will do. Clears the hint before the look. */
static bool take_run(struct mqshm *h, struct mqi_block_cursor *c, uint64_t unit, uint64_t stride, bool onwards)
{
	struct unit_shm *u = mqi_unit(h, unit);
	struct mqi_chunk k;
	if (!mqi_is_chunk(h, unit, &k) || k.stride != stride) return false;
	bool here = c->unit == unit;
	uint64_t ahead = !here ? ~0ull : c->end < k.blocks ? ~0ull << run_of(&k, c->end) : 0; /* go on where we were */
	for (uint64_t seen; (seen = mqi_load_rlx(&u->free_runs) & (onwards ? ahead : ~0ull)) != 0;) {
		uint32_t run = (uint32_t)__builtin_ctzll(seen & ahead ? seen & ahead : seen);
		if (run >= runs_of(&k)) return false;
		mqi_and64(&u->free_runs, ~(1ull << run));
		uint32_t next = run_start(&k, run), end = run + 1 < runs_of(&k) ? run_start(&k, run + 1) : k.blocks;
		if (end > k.committed / stride) end = (uint32_t)(k.committed / stride);
		if (next >= end) continue;
		c->unit = unit;
		c->next = next;
		c->end = end;
		c->round += (end - next) * stride;
		return true;
	}
	if (onwards && here) return false;
	uint64_t *units = &mqi_unit_hints(h)[unit / 64];
	mqi_and64(units, ~(1ull << unit % 64));
	if (mqi_load_acq(&u->free_runs)) mqi_or64(units, 1ull << unit % 64); /* a run was freed meanwhile */
	return false;
}

static bool take_run_from(struct mqshm *h, struct mqi_block_cursor *c, uint64_t first, uint64_t stride)
{
	uint64_t top = known_units(h), *hints = mqi_unit_hints(h), mask = ~0ull << first % 64;
	for (uint64_t word = first / 64; word * 64 < top; word++, mask = ~0ull)
		for (uint64_t seen = mqi_load_rlx(&hints[word]) & mask; seen; seen &= seen - 1) {
			uint64_t unit = word * 64 + (uint64_t)__builtin_ctzll(seen);
			if (unit > 0 && unit < top && take_run(h, c, unit, stride, false)) return true;
		}
	return false;
}

/* A chunk of this stride with address space to grow into, whoever began it: its process may be gone. 0: none. */
static uint64_t unfinished_chunk(struct mqshm *h, uint64_t stride)
{
	uint64_t top = known_units(h);
	struct mqi_chunk k;
	for (uint64_t unit = 1; unit < top; unit++)
		if (mqi_is_chunk(h, unit, &k) && k.stride == stride && mqi_chunk_blocks(&k) < k.blocks) return unit;
	return 0;
}

/* More memory, with `ahead` bytes for blocks after the next one, for the chunk that this process grew last in this class, for
 * another's, or for a new chunk. */
static int grow(struct mqshm *h, struct mqi_block_cursor *c, unsigned class, uint64_t stride, uint64_t ahead)
{
	uint64_t unit = h->growing[class];
	struct mqi_chunk k;
	if (!unit || !mqi_is_chunk(h, unit, &k) || k.stride != stride || mqi_chunk_blocks(&k) >= k.blocks) {
		unit = unfinished_chunk(h, stride);
		if (!unit) {
			uint64_t units = stride <= CHUNKED ? 1 : (stride + MQI_UNIT - 1) >> MQI_UNIT_SHIFT;
			int rc = mqi_units_claim(h, units, &unit);
			if (rc != MQSHM_OK) return rc;
			mqi_units_publish(h, unit, units, UNIT_BLOCKS, (uint32_t)stride, stride <= CHUNKED ? (uint32_t)(MQI_UNIT / stride) : 1);
		}
		h->growing[class] = (uint32_t)unit;
	}
	/* Retired, or grown, meanwhile. */
	if (!mqi_is_chunk(h, unit, &k) || k.stride != stride || mqi_chunk_blocks(&k) >= k.blocks) return MQSHM_OK;
	uint64_t had = mqi_chunk_blocks(&k);
	if (stride < LARGE) ahead = k.committed < 16384 ? 16384 : k.committed;
	if ((had + 1) * stride + ahead > k.blocks * stride) ahead = (k.blocks - had - 1) * stride;
	int rc = mqi_unit_grow(h, unit, (had + 1) * stride, ahead);
	if (rc == MQSHM_CLOSED) h->growing[class] = 0; /* it is on its way back to the system: another one */
	if (rc != MQSHM_OK) return rc == MQSHM_CLOSED ? MQSHM_OK : rc;
	if (!mqi_is_chunk(h, unit, &k) || k.stride != stride || had >= k.blocks) return MQSHM_OK;
	uint64_t have = mqi_chunk_blocks(&k);
	for (uint32_t run = run_of(&k, (uint32_t)had); run < runs_of(&k) && run_start(&k, run) < have; run++) hint(h, unit, run);
	if (c->unit != unit) {
		c->unit = unit;
		c->next = c->end = 0;
	}
	return MQSHM_OK;
}

/* Bytes of memory in chunks of this stride, as soon as they are ROUND. */
static uint64_t in_class(struct mqshm *h, uint64_t stride)
{
	uint64_t top = known_units(h), bytes = 0;
	struct mqi_chunk k;
	for (uint64_t unit = 1; unit < top && bytes < ROUND; unit++)
		if (mqi_is_chunk(h, unit, &k) && k.stride == stride) bytes += mqi_chunk_blocks(&k) * stride;
	return bytes;
}

/* A round of a large class begins, and is to be longer from now on if the last was short and memory is plenty. */
static void begin_round(struct mqshm *h, struct mqi_block_cursor *c, unsigned class, uint64_t stride)
{
	uint64_t now = mqi_boot_ms(), took = now - c->round_ms;
	c->next = c->end = 0;
	c->round = 0;
	c->round_ms = now;
	if (c->long_enough || took > ROUND_MS) return;
	uint64_t have = in_class(h, stride), limit = mqi_load_rlx(&h->hdr->config.max_memory_usage);
	c->long_enough = have >= ROUND || (limit && (mqi_memory_used(h) + have) * ROUND_SHARE > limit);
	if (!c->long_enough && grow(h, c, class, stride, have) != MQSHM_OK) c->long_enough = true;
}

static bool find_run(struct mqshm *h, struct mqi_block_cursor *c, unsigned class, uint64_t stride)
{
	bool rounds = stride >= LARGE && stride <= CHUNKED;
	if (c->unit && !(rounds && c->round >= ROUND)) {
		if (take_run(h, c, c->unit, stride, rounds)) return true;
		if (rounds && take_run_from(h, c, c->unit + 1, stride)) return true;
	}
	if (c->unit && rounds) begin_round(h, c, class, stride);
	return take_run_from(h, c, 1, stride);
}

struct wanted {
	uint64_t stride, offset, gen;
};
static bool take_any(struct mqshm *h, uint64_t offset, void *with)
{
	struct wanted *want = with;
	struct mqi_chunk k;
	if (!locate(h, offset, &k) || k.stride < want->stride || k.stride > 2 * want->stride) return true;
	if (!mqi_block_take(h, offset, &want->gen)) return true;
	want->offset = offset;
	return false;
}

/* The next block's lines, to be written: the commit drains the stores, and would wait for each line not asked for. */
static inline void expect(struct mqshm *h, uint64_t offset, uint64_t stride)
{
	for (uint64_t line = 0; line < stride && line < AHEAD; line += 64)
		if (offset + line < h->span) __builtin_prefetch(h->base + offset + line, 1);
}

/* Where blocks were, before chunks were given back. */
static void forget(struct mqshm *h, uint64_t version)
{
	memset(h->cursors, 0, sizeof h->cursors);
	memset(h->growing, 0, sizeof h->growing);
	h->chunks_seen = version;
}

int mqi_block_reserve(struct mqshm *h, uint64_t bytes, uint64_t *offset, uint64_t *gen)
{
	uint64_t version = mqi_load_acq(&h->hdr->chunks_version);
	if (unlikely(version != h->chunks_seen)) forget(h, version);
	uint64_t stride;
	unsigned class = class_of(bytes + sizeof(struct block_shm), &stride);
	if (class >= MQI_CLASSES)
		return mqi_fail(MQSHM_TOO_LARGE, "a message of %llu bytes is more than one block can hold", (unsigned long long)bytes);
	struct mqi_block_cursor *c = &h->cursors[class];
	for (unsigned round = 0; round < 4096; round++) {
		while (c->next < c->end) {
			*offset = unit_offset(h, c->unit) + c->next++ * stride;
			if (likely(mqi_block_take(h, *offset, gen))) {
				expect(h, *offset + stride, stride);
				return MQSHM_OK;
			}
		}
		if (find_run(h, c, class, stride)) continue;
		int rc = grow(h, c, class, stride, 0);
		if (rc == MQSHM_OK) continue;
		if (rc != MQSHM_NO_MEMORY) return rc;
		struct wanted want = {stride, 0, 0};
		mqi_blocks_each(h, take_any, &want);
		if (!want.offset) return rc;
		*offset = want.offset;
		*gen = want.gen;
		return MQSHM_OK;
	}
	return mqi_fail(MQSHM_NO_MEMORY, "no free block of %llu bytes was found", (unsigned long long)stride);
}

static void freed(struct mqshm *h, uint64_t offset)
{
	uint64_t unit = (offset - h->units_offset) >> MQI_UNIT_SHIFT;
	struct mqi_chunk k;
	mqi_fence_after_rmw(); /* pairs with the allocator that clears the hint, then looks at the words */
	if (likely(mqi_is_chunk(h, unit, &k))) {
		uint64_t block = (offset - unit_offset(h, unit)) / k.stride;
		if (likely(block < k.blocks)) hint(h, unit, run_of(&k, (uint32_t)block));
	}
	if (unlikely(mqi_event_waited_for(h->hdr->memory_waiters))) mqi_event_ring(h, h->hdr->memory_waiters);
}

/* NEW may become DOOMED at any time, and then stays so. */
static void give_back(struct mqshm *h, uint64_t offset, unsigned owner, uint64_t gen)
{
	uint64_t *word = &mqi_block(h, offset)->word, free = mqi_block_word(BLOCK_FREE, 0, gen);
	mqi_ids_withdraw(h, offset, gen);
	if (mqi_cas64(word, mqi_block_word(BLOCK_NEW, owner, gen), free) || mqi_cas64(word, mqi_block_word(BLOCK_DOOMED, owner, gen), free))
		freed(h, offset);
}

void mqi_block_return(struct mqshm *h, uint64_t offset, uint64_t gen) { give_back(h, offset, h->peer, gen); }

void mqi_block_undo(struct mqshm *h, uint64_t offset, uint64_t word)
{
	give_back(h, offset, mqi_block_holders(word), mqi_block_gen(word));
}

bool mqi_block_spend(struct mqshm *h, uint64_t offset, uint64_t gen)
{
	if (!mqi_cas64(&mqi_block(h, offset)->word, mqi_block_word(BLOCK_NEW, h->peer, gen), mqi_block_word(BLOCK_FREE, 0, gen))) return false;
	freed(h, offset);
	return true;
}

void mqi_block_redeem(struct mqshm *h, uint64_t offset, uint64_t *gen)
{
	uint64_t *word = &mqi_block(h, offset)->word, again = mqi_block_word(BLOCK_NEW, h->peer, (*gen + 1) & MQI_GEN40);
	mqi_ids_withdraw(h, offset, *gen);
	if (mqi_cas64(word, mqi_block_word(BLOCK_NEW, h->peer, *gen), again) || mqi_cas64(word, mqi_block_word(BLOCK_DOOMED, h->peer, *gen), again))
		*gen = mqi_block_gen(again);
}

bool mqi_block_doom(struct mqshm *h, uint64_t offset, uint64_t word)
{
	return mqi_cas64(&mqi_block(h, offset)->word, word, mqi_block_word(BLOCK_DOOMED, mqi_block_holders(word), mqi_block_gen(word)));
}

bool mqi_block_word_at(struct mqshm *h, uint64_t offset, uint64_t *word)
{
	struct mqi_chunk k;
	if (!locate(h, offset, &k)) return false;
	*word = mqi_load_acq(&mqi_block(h, offset)->word);
	return true;
}

bool mqi_block_look(struct mqshm *h, uint64_t offset, struct mqi_payload *p)
{
	struct mqi_chunk k;
	if (!locate(h, offset, &k)) return false;
	struct block_shm *b = mqi_block(h, offset);
	p->info = mqi_load_rlx(&b->info);
	p->envelope = mqi_load_rlx(&b->envelope);
	uint64_t size = mqi_info_size(p->info), words = mqi_load_rlx(&b->wide);
	p->words = (uint32_t)words;
	return p->envelope <= k.stride && words <= MQI_SUBS &&
	       sizeof *b + ((size + p->envelope + 7) & ~7ull) + words * sizeof(uint64_t) <= k.stride;
}

bool mqi_block_valid(struct mqshm *h, uint64_t offset)
{
	struct mqi_payload p;
	return mqi_block_look(h, offset, &p);
}

/* Behind payload and envelope, which have so many bytes. */
static uint64_t *wide_words(struct block_shm *b, uint64_t bytes) { return (uint64_t *)(mqi_block_data(b) + ((bytes + 7) & ~7ull)); }
static uint64_t *wide_of(struct block_shm *b, const struct mqi_payload *p)
{
	return wide_words(b, mqi_info_size(p->info) + p->envelope);
}
static bool is_wide(const struct mqi_payload *p) { return mqi_info_flags(p->info) & F_WIDE; }

static inline uint64_t wide_word(uint64_t gen, uint32_t bits) { return gen << MQI_WIDE_BITS | bits; }

unsigned mqi_block_holders_for(struct block_shm *b, uint64_t bytes, uint32_t receivers, uint64_t gen)
{
	if (receivers <= MQI_HOLDERS) return (1u << receivers) - 1;
	uint32_t words = mqi_wide_words(receivers);
	uint64_t *wide = wide_words(b, bytes);
	for (uint32_t i = 0; i < words; i++) {
		uint32_t left = receivers - i * MQI_WIDE_BITS;
		mqi_store_rlx(&wide[i], wide_word(gen, left >= MQI_WIDE_BITS ? (1u << MQI_WIDE_BITS) - 1 : (1u << left) - 1));
	}
	return words >= MQI_HOLDERS ? (1u << MQI_HOLDERS) - 1 : (1u << words) - 1; /* word i belongs to holder i % 20 */
}

uint32_t mqi_block_wide_bits(struct mqshm *h, uint64_t offset)
{
	struct mqi_payload p;
	if (!mqi_block_look(h, offset, &p)) return 0;
	return is_wide(&p) ? p.words * MQI_WIDE_BITS : MQI_HOLDERS;
}

bool mqi_block_look_held(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit, struct mqi_payload *p)
{
	if (!mqi_block_look(h, offset, p)) return false;
	struct block_shm *b = mqi_block(h, offset);
	uint64_t w = mqi_load_acq(&b->word);
	if (mqi_block_state(w) != BLOCK_LIVE || mqi_block_gen(w) != gen) return false;
	if (!is_wide(p)) return bit < MQI_HOLDERS && mqi_block_holders(w) >> bit & 1;
	uint32_t word = bit / MQI_WIDE_BITS;
	if (word >= p->words) return false;
	uint64_t bits = mqi_load_acq(&wide_of(b, p)[word]);
	return bits >> MQI_WIDE_BITS == gen && bits >> bit % MQI_WIDE_BITS & 1;
}

bool mqi_block_held(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit)
{
	struct mqi_payload p;
	return mqi_block_look_held(h, offset, gen, bit, &p);
}

static void clear_holder(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t holder)
{
	struct block_shm *b = mqi_block(h, offset);
	for (;;) {
		uint64_t w = mqi_load_acq(&b->word);
		if (mqi_block_state(w) != BLOCK_LIVE || mqi_block_gen(w) != gen || !(mqi_block_holders(w) >> holder & 1)) return;
		unsigned left = mqi_block_holders(w) & ~(1u << holder);
		if (!mqi_cas64(&b->word, w, mqi_block_word(left ? BLOCK_LIVE : BLOCK_FREE, left, gen))) continue;
		if (!left) freed(h, offset);
		return;
	}
}

void mqi_block_release(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit)
{
	struct mqi_payload p;
	if (!mqi_block_look(h, offset, &p)) return;
	struct block_shm *b = mqi_block(h, offset);
	uint64_t w = mqi_load_acq(&b->word);
	if (mqi_block_state(w) != BLOCK_LIVE || mqi_block_gen(w) != gen) return; /* its life is over: done before */
	if (likely(!is_wide(&p))) {
		if (bit < MQI_HOLDERS) clear_holder(h, offset, gen, bit);
		return;
	}
	uint64_t words = p.words, word = bit / MQI_WIDE_BITS;
	if (word >= words) return;
	uint64_t *wide = wide_of(b, &p);
	for (uint64_t v; (v = mqi_load_acq(&wide[word])) >> MQI_WIDE_BITS == gen && v >> bit % MQI_WIDE_BITS & 1;)
		if (mqi_cas64(&wide[word], v, v & ~(1ull << bit % MQI_WIDE_BITS))) break;
	/* Bits only fall, so once all words of a holder are seen empty they stay so; of those who clear the last ones, at
	 * least one sees that. Who repeats a release after a death comes past here again. */
	for (uint64_t i = word % MQI_HOLDERS; i < words; i += MQI_HOLDERS)
		if (mqi_load_sc(&wide[i]) != wide_word(gen, 0)) return;
	clear_holder(h, offset, gen, (uint32_t)(word % MQI_HOLDERS));
}

static bool any_free(struct mqshm *h, uint64_t unit, uint64_t stride, uint64_t from, uint64_t end)
{
	for (uint64_t i = from; i < end; i++)
		if (mqi_block_state(mqi_load_rlx(&mqi_block(h, unit_offset(h, unit) + i * stride)->word)) == BLOCK_FREE) return true;
	return false;
}

void mqi_blocks_renew(struct mqshm *h)
{
	uint64_t top = known_units(h);
	for (uint64_t unit = 1; unit < top; unit++) {
		struct unit_shm *u = mqi_unit(h, unit);
		struct mqi_chunk k;
		if (!mqi_is_chunk(h, unit, &k)) continue;
		uint64_t seen = mqi_load_rlx(&u->free_runs);
		if (seen) hint(h, unit, (uint32_t)__builtin_ctzll(seen)); /* the unit's as well */
		uint64_t have = mqi_chunk_blocks(&k);
		for (uint32_t run = 0; run < runs_of(&k) && run_start(&k, run) < have; run++) {
			uint64_t end = run + 1 < runs_of(&k) && run_start(&k, run + 1) < have ? run_start(&k, run + 1) : have;
			if (!(seen >> run & 1) && any_free(h, unit, k.stride, run_start(&k, run), end)) hint(h, unit, run);
		}
	}
}

void mqi_blocks_each(struct mqshm *h, bool (*each)(struct mqshm *h, uint64_t offset, void *with), void *with)
{
	uint64_t top = known_units(h);
	struct mqi_chunk k;
	for (uint64_t unit = 1; unit < top; unit++) {
		if (!mqi_is_chunk(h, unit, &k)) continue;
		for (uint64_t i = 0, blocks = mqi_chunk_blocks(&k); i < blocks; i++)
			if (!each(h, unit_offset(h, unit) + i * k.stride, with)) return;
	}
}
