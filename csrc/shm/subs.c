/* The table of subscriptions: adding, finding, matching. shm/close.c has how they end. */
#include "shm/subs.h"

#include "shm/pattern.h"
#include "shm/reach.h"
#include "shm/region.h"
#include "shm/trie.h"

#define TEXT_MOST (1u << 20) /* bytes of name and patterns of one subscription */
#define WALKS 4

/* ---- adding, under the control lock ---- */

static int check(const mqshm_sub_options *o)
{
	uint64_t text = 0;
	if (o->capacity == 0 || o->capacity >= MQI_MAX_CAPACITY)
		return mqi_fail(MQSHM_INVALID, "a subscription holds 1 to %u messages, not %u", MQI_MAX_CAPACITY - 1, o->capacity);
	if (o->ack > MQSHM_ACK_TIMEOUT) return mqi_fail(MQSHM_INVALID, "there is no ack policy %u", o->ack);
	if (o->overflow > MQSHM_DROP_LOWEST) return mqi_fail(MQSHM_INVALID, "there is no overflow policy %u", o->overflow);
	if (o->pattern_count == 0) return mqi_fail(MQSHM_INVALID, "a subscription needs at least one pattern");
	int rc = o->name ? mqi_group_check(o->name, o->name_size) : MQSHM_OK;
	for (uint32_t i = 0; i < o->pattern_count && rc == MQSHM_OK; i++) {
		rc = mqi_pattern_check(o->patterns[i], o->pattern_sizes[i]);
		text += o->pattern_sizes[i] + 1ull;
		if (rc == MQSHM_OK && text > TEXT_MOST)
			rc = mqi_fail(MQSHM_INVALID, "the patterns of one subscription may have %u bytes together", TEXT_MOST);
	}
	return rc;
}

/* Calls `each` for every pattern of a row. */
static int each_pattern(struct mqshm *h, uint32_t row, bool (*each)(const char *, uint32_t, void *), void *with)
{
	const char *at, *text;
	uint32_t size, length;
	int rc = mqi_subs_text(h, row, &at, &size);
	if (rc != MQSHM_OK) return rc;
	const char *end = at + size;
	mqi_text_next(&at, end, &text, &length); /* the name */
	while (mqi_text_next(&at, end, &text, &length) && length) /* no pattern is empty */
		if (!each(text, length, with)) break;
	return MQSHM_OK;
}

struct wanted {
	const char *pattern;
	uint32_t size;
	bool found;
};
static bool same_pattern(const char *pattern, uint32_t size, void *with)
{
	struct wanted *w = with;
	w->found = size == w->size && memcmp(pattern, w->pattern, size) == 0;
	return !w->found;
}

/* max_subscribers: so many may hold the same pattern. */
static int check_subscribers(struct mqshm *h, const mqshm_sub_options *o)
{
	uint64_t most = mqi_load_rlx(&h->hdr->config.max_subscribers);
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t i = 0; most && i < o->pattern_count; i++) {
		struct wanted w = {o->patterns[i], o->pattern_sizes[i], false};
		uint64_t holders = 0;
		for (uint32_t row = 0; row < rows; row++) {
			if (mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) != SUB_OPEN) continue;
			if (each_pattern(h, row, same_pattern, &w) == MQSHM_OK && w.found) holders++;
			w.found = false;
		}
		if (holders >= most)
			return mqi_fail(MQSHM_TOO_MANY, "'%.*s' has its %llu subscribers, max_subscribers allows no more", (int)w.size, w.pattern,
			                (unsigned long long)most);
	}
	return MQSHM_OK;
}

/* A free row, in CREATING; *word is its word. */
static int claim_row(struct mqshm *h, uint32_t *row, uint64_t *word)
{
	for (uint32_t i = 0; i < MQI_SUBS; i++) {
		int rc = mqi_area_grow(h, &h->hdr->areas[AREA_SUBS], (i + 1) * sizeof(struct sub_shm), 0);
		if (rc != MQSHM_OK) return rc;
		uint64_t seen = mqi_load_acq(&mqi_sub(h, i)->word);
		if (mqi_sub_state(seen) != SUB_FREE) continue;
		if (mqi_load_rlx(&h->hdr->subs_top) <= i) mqi_store_rel(&h->hdr->subs_top, i + 1ull);
		*row = i;
		*word = mqi_sub_word(SUB_CREATING, h->peer, mqi_sub_gen(seen) + 1);
		mqi_store_rel(&mqi_sub(h, i)->word, *word);
		return MQSHM_OK;
	}
	return mqi_fail(MQSHM_TOO_MANY, "the broker has its %u subscriptions, another one does not fit", MQI_SUBS);
}

/* Makes the row part of every match from the version's next even value on. While it is odd, matching looks at the rows
 * themselves, so the index may be in any state. */
static void open_row(struct mqshm *h, uint32_t row, uint64_t word, const mqshm_sub_options *o)
{
	unsigned owner = o->name ? MQI_NOBODY : h->peer;
	bool indexed = true;
	mqi_add64(&h->hdr->subs_version, 1);
	mqi_fence_sc(); /* pairs with the fence of mqi_subs_match: who saw any of what follows sees that it is odd */
	mqi_store_rel(&mqi_sub(h, row)->word, mqi_sub_word(SUB_OPEN, owner, mqi_sub_gen(word)));
	for (uint32_t i = 0; i < o->pattern_count && indexed; i++)
		indexed = mqi_trie_add(h, o->patterns[i], o->pattern_sizes[i], row, mqi_sub_gen(word));
	if (!indexed) mqi_trie_rebuild(h);
	mqi_add64(&h->hdr->subs_version, 1);
}

int mqi_subs_add(struct mqshm *h, const mqshm_sub_options *o, uint32_t *row)
{
	uint64_t word = 0;
	int rc = check(o);
	if (rc != MQSHM_OK) return rc;
	if (o->name && mqi_subs_find(h, o->name, o->name_size, row) == MQSHM_OK)
		return mqi_fail(MQSHM_EXISTS, "there is already a group '%.*s'", (int)o->name_size, o->name);
	rc = check_subscribers(h, o);
	if (rc == MQSHM_OK) rc = claim_row(h, row, &word);
	if (rc != MQSHM_OK) return rc;
	rc = mqi_region_make(h, *row, o);
	if (rc == MQSHM_OK) open_row(h, *row, word, o);
	else {
		mqi_subs_recover(h); /* as after a death at this point */
		mqi_subs_finish(h);
	}
	return rc;
}

/* ---- finding ---- */

int mqi_subs_find(struct mqshm *h, const char *name, uint32_t size, uint32_t *row)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t i = 0; i < rows; i++) {
		uint64_t word = mqi_load_acq(&mqi_sub(h, i)->word);
		const char *text;
		uint32_t text_size;
		if (mqi_sub_state(word) != SUB_OPEN || mqi_sub_owner(word) != MQI_NOBODY) continue;
		if (mqi_subs_text(h, i, &text, &text_size) != MQSHM_OK) continue;
		if (size >= text_size || memcmp(text, name, size) != 0 || text[size]) continue;
		if (mqi_load_acq(&mqi_sub(h, i)->word) != word) continue;
		*row = i;
		return MQSHM_OK;
	}
	return mqi_fail(MQSHM_NOT_FOUND, "there is no group '%.*s'", (int)size, name);
}

/* ---- matching ---- */

struct topic {
	const char *text;
	uint32_t size;
	bool matches;
};
static bool try_pattern(const char *pattern, uint32_t size, void *with)
{
	struct topic *t = with;
	t->matches = mqi_pattern_match(pattern, size, t->text, t->size);
	return !t->matches;
}

/* What is broken matches nothing: the rows that are not go on. */
static void match_rows(struct mqshm *h, const char *topic, uint32_t size, uint64_t *bits)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		struct topic t = {topic, size, false};
		uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
		if (mqi_sub_state(word) != SUB_OPEN || each_pattern(h, row, try_pattern, &t) != MQSHM_OK || !t.matches) continue;
		if (mqi_load_acq(&mqi_sub(h, row)->word) == word) bits[row / 64] |= 1ull << row % 64;
	}
}

int mqi_subs_match(struct mqshm *h, const char *topic, uint32_t size, uint32_t *rows, uint32_t max, uint32_t *count,
                   uint64_t *version)
{
	uint64_t bits[MQI_SUBS / 64];
	bool indexed = mqi_load_rlx(&h->hdr->config.enable_trie_pattern) != 0, valid = false;
	for (unsigned walk = 0; walk < WALKS && !valid; walk++) {
		memset(bits, 0, sizeof bits);
		*version = mqi_load_acq(&h->hdr->subs_version);
		bool rest = (*version & 1) == 0;
		bool walked = indexed && rest && mqi_trie_match(h, topic, size, bits);
		if (!walked) {
			memset(bits, 0, sizeof bits);
			match_rows(h, topic, size, bits);
		}
		mqi_fence_sc(); /* pairs with the writer's, after it made the version odd */
		bool same = mqi_load_rlx(&h->hdr->subs_version) == *version;
		if (!rest || !same) *version = MQI_NO_VERSION;
		valid = same || !walked; /* the rows say for themselves whether they are OPEN */
	}
	if (!valid) {
		memset(bits, 0, sizeof bits);
		match_rows(h, topic, size, bits);
	}
	*count = 0;
	for (uint32_t word = 0; word < MQI_SUBS / 64; word++)
		for (uint64_t left = bits[word]; left; left &= left - 1) {
			if (*count == max) return mqi_fail(MQSHM_TOO_MANY, "more than %u subscriptions match", max);
			rows[(*count)++] = word * 64 + (uint32_t)__builtin_ctzll(left);
		}
	return MQSHM_OK;
}
