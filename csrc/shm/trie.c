#include "shm/trie.h"

#include "shm/pattern.h"
#include "shm/reach.h"

#define REF 8u               /* bytes that a reference counts */
#define SLOTS_LEAST 256u
#define AHEAD (4 * MQI_PAGE)
#define BRANCHES 1024u       /* nodes that a topic may have reached at once */
#define STEPS (1u << 18)     /* of one walk; more are dearer than looking at every row */
#define RESTS (1u << 31)     /* a branch that stands on a `#`, which may take the next word as well */

struct index {
	unsigned char *base;
	uint64_t ready;   /* bytes of memory */
	uint32_t slots, root;
};

static bool look(struct mqshm *h, struct index *x)
{
	struct area_shm *area = &h->hdr->areas[AREA_TRIE];
	x->slots = mqi_load_acq(&h->hdr->trie_slots);
	x->ready = mqi_area_ready(area);
	x->root = x->slots / (REF / sizeof(uint32_t));
	if (x->slots < SLOTS_LEAST || x->slots & (x->slots - 1)) return false;
	x->base = mqi_reach(h, area, 0, x->ready);
	return x->base && (uint64_t)x->slots * sizeof(uint32_t) + sizeof(struct trie_node_shm) <= x->ready;
}

static uint64_t padded(uint32_t size) { return ((uint64_t)size + REF - 1) & ~(uint64_t)(REF - 1); }

/* A record behind the table; NULL where none can be. */
static void *record(const struct index *x, uint32_t ref, uint64_t size)
{
	uint64_t at = (uint64_t)ref * REF;
	return ref >= x->root && size <= x->ready && at <= x->ready - size ? x->base + at : NULL;
}
static struct trie_node_shm *node_at(const struct index *x, uint32_t ref)
{
	return record(x, ref, sizeof(struct trie_node_shm));
}

/* Words are compared and written eight bytes at a time, since the writer may be at it. */
static uint64_t piece(const struct mqi_word *word, uint32_t at)
{
	uint64_t bytes = 0;
	memcpy(&bytes, word->text + at, word->size - at < REF ? word->size - at : REF);
	return bytes;
}
static uint64_t *letters(struct trie_node_shm *node) { return (uint64_t *)(node + 1); }

static bool is_word(const struct index *x, struct trie_node_shm *node, uint32_t ref, const struct mqi_word *word)
{
	if (mqi_load_rlx(&node->word_size) != word->size) return false;
	if (!record(x, ref, sizeof *node + padded(word->size))) return false;
	for (uint32_t i = 0; i < word->size; i += REF)
		if (mqi_load_rlx(&letters(node)[i / REF]) != piece(word, i)) return false;
	return true;
}

/* The child for a word, or 0; *slot is where the table leads to it, or would. false after a whole lap. */
static bool child(const struct index *x, uint32_t parent, const struct mqi_word *word, uint32_t hash, uint32_t *ref,
                  uint32_t *slot, uint32_t *steps)
{
	uint32_t *table = (uint32_t *)x->base;
	for (uint32_t i = 0; i < x->slots && *steps; i++, --*steps) {
		*slot = (hash + i) & (x->slots - 1);
		*ref = mqi_load_acq(&table[*slot]);
		if (*ref == 0) return true;
		struct trie_node_shm *node = node_at(x, *ref);
		if (!node) return false;
		if (mqi_load_rlx(&node->hash) == hash && mqi_load_rlx(&node->parent) == parent && is_word(x, node, *ref, word)) return true;
	}
	return false;
}

/* ---- reading ---- */

struct branches {
	uint32_t count;
	uint32_t refs[BRANCHES];
};

/* Reaches a node, and through `#`, which may stand for no word, what lies behind it. */
static bool reach(const struct index *x, struct branches *to, uint32_t ref, uint32_t *steps)
{
	while (ref & ~RESTS) {
		if (ref & RESTS) { /* only these can be reached in two ways */
			for (uint32_t i = 0; i < to->count; i++)
				if (to->refs[i] == ref) return true;
			if (*steps <= to->count) return false;
			*steps -= to->count;
		}
		struct trie_node_shm *node = node_at(x, ref & ~RESTS);
		if (!node || to->count == BRANCHES || !*steps) return false;
		--*steps;
		to->refs[to->count++] = ref;
		uint32_t rest = mqi_load_rlx(&node->rest);
		ref = rest ? rest | RESTS : 0;
	}
	return true;
}

static bool advance(const struct index *x, const struct branches *from, struct branches *to, const struct mqi_word *word,
                    uint32_t *steps)
{
	uint32_t word_hash = mqi_text_hash(word->text, word->size, 0);
	to->count = 0;
	for (uint32_t i = 0; i < from->count; i++) {
		uint32_t ref = from->refs[i] & ~RESTS, next, slot;
		if (from->refs[i] & RESTS && !reach(x, to, from->refs[i], steps)) return false;
		if (!child(x, ref, word, word_hash ^ ref * 0x9e3779b1u, &next, &slot, steps)) return false;
		if (!reach(x, to, next, steps) || !reach(x, to, mqi_load_rlx(&node_at(x, ref)->any), steps)) return false;
	}
	return true;
}

static bool collect(struct mqshm *h, const struct index *x, uint32_t entry, uint32_t rows, uint64_t *bits, uint32_t *steps)
{
	while (entry) {
		struct trie_entry_shm *e = record(x, entry, sizeof *e);
		if (!e || !*steps) return false;
		--*steps;
		uint32_t row = mqi_load_rlx(&e->sub);
		if (row >= rows) return false;
		uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
		if (mqi_sub_state(word) == SUB_OPEN && mqi_sub_gen(word) == mqi_load_rlx(&e->gen)) bits[row / 64] |= 1ull << row % 64;
		entry = mqi_load_rlx(&e->next);
	}
	return true;
}

bool mqi_trie_match(struct mqshm *h, const char *topic, uint32_t size, uint64_t bits[MQI_SUBS / 64])
{
	struct branches here, there, *now = &here, *next = &there;
	struct index x;
	struct mqi_word word;
	uint32_t steps = STEPS, rows = mqi_subs_rows(h);
	if (!look(h, &x)) return false;
	now->count = 0;
	if (!reach(&x, now, x.root, &steps)) return false;
	for (const char *at = topic; now->count && mqi_word_next(&at, topic + size, &word);) {
		if (!advance(&x, now, next, &word, &steps)) return false;
		struct branches *was = now;
		now = next;
		next = was;
	}
	for (uint32_t i = 0; i < now->count; i++)
		if (!collect(h, &x, mqi_load_rlx(&node_at(&x, now->refs[i] & ~RESTS)->entry), rows, bits, &steps)) return false;
	return true;
}

/* ---- writing, under the control lock ---- */

/* Room at the end; 0 where there is none. */
static uint32_t append(struct mqshm *h, struct index *x, uint64_t size)
{
	uint32_t end = mqi_load_rlx(&h->hdr->trie_end);
	uint64_t need = (uint64_t)end * REF + padded((uint32_t)size);
	if (end < x->root || need > RESTS) return 0;
	if (need > x->ready) {
		if (mqi_area_grow(h, &h->hdr->areas[AREA_TRIE], need, AHEAD) != MQSHM_OK) return 0;
		if (!look(h, x) || need > x->ready) return 0;
	}
	mqi_store_rlx(&h->hdr->trie_end, (uint32_t)(need / REF));
	return end;
}

static uint32_t append_node(struct mqshm *h, struct index *x, uint32_t parent, const struct mqi_word *word, uint32_t hash)
{
	uint32_t ref = append(h, x, sizeof(struct trie_node_shm) + padded(word->size));
	if (!ref) return 0;
	struct trie_node_shm *node = node_at(x, ref);
	mqi_store_rlx(&node->parent, parent);
	mqi_store_rlx(&node->hash, hash);
	mqi_store_rlx(&node->entry, 0u);
	mqi_store_rlx(&node->any, 0u);
	mqi_store_rlx(&node->rest, 0u);
	mqi_store_rlx(&node->word_size, word->size);
	for (uint32_t i = 0; i < word->size; i += REF) mqi_store_rlx(&letters(node)[i / REF], piece(word, i));
	return ref;
}

/* The child for a pattern's word, made where there is none; 0 where there is no room. */
static uint32_t descend(struct mqshm *h, struct index *x, uint32_t parent, const struct mqi_word *word)
{
	uint32_t *steps = &(uint32_t){STEPS}, ref, slot;
	if (mqi_word_is(word, '*') || mqi_word_is(word, '#')) {
		bool rest = *word->text == '#';
		struct trie_node_shm *node = node_at(x, parent);
		ref = mqi_load_rlx(rest ? &node->rest : &node->any);
		if (ref) return node_at(x, ref) ? ref : 0;
		ref = append_node(h, x, parent, &(struct mqi_word){"", 0}, 0);
		node = node_at(x, parent);
		if (ref) mqi_store_rel(rest ? &node->rest : &node->any, ref);
		return ref;
	}
	uint32_t hash = mqi_text_hash(word->text, word->size, 0) ^ parent * 0x9e3779b1u;
	if (!child(x, parent, word, hash, &ref, &slot, steps)) return 0;
	if (ref) return ref;
	if (mqi_load_rlx(&h->hdr->trie_nodes) >= x->slots / 2) return 0;
	ref = append_node(h, x, parent, word, hash);
	if (!ref) return 0;
	mqi_store_rel(&((uint32_t *)x->base)[slot], ref);
	mqi_store_rlx(&h->hdr->trie_nodes, mqi_load_rlx(&h->hdr->trie_nodes) + 1);
	return ref;
}

bool mqi_trie_add(struct mqshm *h, const char *pattern, uint32_t size, uint32_t row, uint64_t gen)
{
	struct index x;
	struct mqi_word word;
	if (!look(h, &x)) return false;
	uint32_t ref = x.root;
	for (const char *at = pattern; mqi_word_next(&at, pattern + size, &word);) {
		ref = descend(h, &x, ref, &word);
		if (!ref) return false;
	}
	uint32_t entry = append(h, &x, sizeof(struct trie_entry_shm));
	if (!entry) return false;
	struct trie_entry_shm *e = record(&x, entry, sizeof *e);
	struct trie_node_shm *node = node_at(&x, ref);
	mqi_store_rlx(&e->sub, row);
	mqi_store_rlx(&e->gen, gen);
	mqi_store_rlx(&e->next, mqi_load_rlx(&node->entry));
	mqi_store_rel(&node->entry, entry);
	mqi_store_rlx(&h->hdr->trie_entries, mqi_load_rlx(&h->hdr->trie_entries) + 1);
	return true;
}

bool mqi_trie_forget(struct mqshm *h, uint32_t patterns)
{
	uint32_t dead = mqi_load_rlx(&h->hdr->trie_dead) + patterns;
	mqi_store_rlx(&h->hdr->trie_dead, dead);
	return dead > SLOTS_LEAST / 4 && dead > mqi_load_rlx(&h->hdr->trie_entries) / 2;
}

/* Calls `each` for every pattern of every OPEN row, until it says false. */
static bool all_patterns(struct mqshm *h, bool (*each)(struct mqshm *, const char *, uint32_t, uint32_t, uint64_t, void *),
                         void *with)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
		const char *at, *text;
		uint32_t size, length;
		if (mqi_sub_state(word) != SUB_OPEN || mqi_subs_text(h, row, &at, &size) != MQSHM_OK) continue;
		const char *end = at + size;
		mqi_text_next(&at, end, &text, &length); /* the name */
		while (mqi_text_next(&at, end, &text, &length) && length) /* no pattern is empty: a damaged row's text may be long */
			if (!each(h, text, length, row, mqi_sub_gen(word), with)) return false;
	}
	return true;
}

static bool count_words(struct mqshm *h, const char *pattern, uint32_t size, uint32_t row, uint64_t gen, void *with)
{
	struct mqi_word word;
	(void)h, (void)row, (void)gen;
	for (const char *at = pattern; mqi_word_next(&at, pattern + size, &word);) ++*(uint64_t *)with;
	return true;
}
static bool add_one(struct mqshm *h, const char *pattern, uint32_t size, uint32_t row, uint64_t gen, void *with)
{
	(void)with;
	return mqi_trie_add(h, pattern, size, row, gen);
}

void mqi_trie_rebuild(struct mqshm *h)
{
	struct area_shm *area = &h->hdr->areas[AREA_TRIE];
	uint64_t words = 0, slots = SLOTS_LEAST;
	mqi_store_rel(&h->hdr->trie_slots, 0u);
	all_patterns(h, count_words, &words);
	while (slots < 4 * words) slots *= 2; /* at least as much again fits before the next time */
	uint64_t table = slots * sizeof(uint32_t);
	if (mqi_area_grow(h, area, table + AHEAD, 0) != MQSHM_OK) return;
	uint32_t *at = mqi_reach(h, area, 0, table + AHEAD);
	if (!at) return;
	for (uint64_t i = 0; i < slots; i++) mqi_store_rlx(&at[i], 0u);
	mqi_store_rlx(&h->hdr->trie_nodes, 0u);
	mqi_store_rlx(&h->hdr->trie_entries, 0u);
	mqi_store_rlx(&h->hdr->trie_dead, 0u);
	mqi_store_rlx(&h->hdr->trie_end, (uint32_t)(table / REF));
	mqi_store_rel(&h->hdr->trie_slots, (uint32_t)slots);
	struct index x;
	bool built = look(h, &x) && append_node(h, &x, 0, &(struct mqi_word){"", 0}, 0) && all_patterns(h, add_one, NULL);
	if (!built) mqi_store_rel(&h->hdr->trie_slots, 0u);
}
