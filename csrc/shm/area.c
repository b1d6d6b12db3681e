#include "shm/area.h"

#include <errno.h>

#include "os/mapping.h"
#include "shm/reach.h"
#include "shm/units.h"

#define PAGES_MAX 0x3fffffu /* of one area: 16 GiB less a page */
#define GRANTED 0x800u      /* in the owner's place of a word in GROWING */
#define CHANGES 0x7ffu

/* Each attempt that is not the last one failed because another process got further. */
#define ATTEMPTS 10000
#define DECISIONS 16 /* before the word is looked at anew */

/* An area, whatever kind of struct its word is in. */
struct stretch {
	uint64_t *word;
	uint64_t offset, size;
};

static inline bool is_granted(uint64_t w) { return mqi_area_owner(w) & GRANTED; }

/* The word after w. The count of changes goes on, so that who slept over a few of them fails its CAS. */
static uint64_t next_word(uint64_t w, unsigned state, bool granted, uint32_t committed, uint32_t target)
{
	unsigned changes = ((mqi_area_owner(w) & CHANGES) << 4 | mqi_area_gen(w)) + 1;
	return mqi_area_word(state, (changes >> 4 & CHANGES) | (granted ? GRANTED : 0), committed, target, changes & 0xf);
}
static uint64_t active_word(uint64_t w, uint32_t committed) { return next_word(w, AREA_ACTIVE, false, committed, 0); }

/* ---- all areas, in an order that is the same for every process --------------------------------------------------- */

struct walk {
	uint64_t at, sheets, units, rows; /* how many there are of each */
};

/* Bounds that were raised before an area was claimed are seen by whoever looks after the claim. */
static struct walk walk_begin(struct mqshm *h)
{
	uint64_t peers = mqi_least(mqi_load_acq(&h->hdr->peers_top), MQI_PEERS);
	return (struct walk){ .sheets = 2 * peers, .units = mqi_units_known(h), .rows = mqi_subs_rows(h) };
}

static struct stretch stretch_of_area(struct area_shm *a)
{
	return (struct stretch){ &a->word, mqi_load_rlx(&a->offset), mqi_load_rlx(&a->size) };
}

static struct stretch stretch_of_unit(struct mqshm *h, uint64_t u)
{
	struct unit_shm *unit = mqi_unit(h, u);
	return (struct stretch){ &unit->word, h->units_offset + (u << MQI_UNIT_SHIFT),
		                 (uint64_t)mqi_load_rlx(&unit->units) << MQI_UNIT_SHIFT };
}

static bool walk_next(struct mqshm *h, struct walk *w, struct stretch *out)
{
	uint64_t i = w->at++;
	if (i < HEADER_AREAS) {
		*out = stretch_of_area(&h->hdr->areas[i]);
		return true;
	}
	i -= HEADER_AREAS;
	if (i < w->sheets) {
		*out = stretch_of_area(&h->hdr->sheets[i / 2][i % 2]);
		return true;
	}
	i -= w->sheets;
	if (i < w->units) {
		*out = stretch_of_unit(h, i);
		return true;
	}
	i -= w->units;
	if (i < w->rows * SUB_AREAS) {
		*out = stretch_of_area(&mqi_sub(h, (uint32_t)(i / SUB_AREAS))->areas[i % SUB_AREAS]);
		return true;
	}
	return false;
}

/* ---- what all areas hold ----------------------------------------------------------------------------------------- */

struct tally {
	uint64_t held;        /* pages that are memory, or may be at any time */
	uint64_t asked;       /* pages that are asked for and not granted */
	unsigned claims;      /* areas that ask */
	uint64_t *first_word; /* of them, the first in the walk's order */
	uint64_t first;
};

static struct tally take_tally(struct mqshm *h)
{
	struct tally t = { .held = h->fixed_size / MQI_PAGE };
	struct stretch s;
	/* Between one's own claim, or the sight of another's, and the look at all the rest. Pairs with itself: of two that
	 * claim, the one who claimed later sees the other's claim, and so does anybody who decides for it. */
	mqi_fence_sc();
	for (struct walk walk = walk_begin(h); walk_next(h, &walk, &s);) {
		uint64_t w = mqi_load_acq(s.word);
		switch (mqi_area_state(w)) {
		case AREA_ACTIVE:
		case AREA_RETIRING:
			t.held += mqi_area_committed(w);
			break;
		case AREA_GROWING:
			if (is_granted(w)) {
				t.held += mqi_area_target(w);
				break;
			}
			if (t.claims++ == 0) {
				t.first_word = s.word;
				t.first = w;
			}
			t.held += mqi_area_committed(w);
			t.asked += (uint64_t)mqi_area_target(w) - mqi_area_committed(w);
			break;
		default: /* FREE, CLAIMED, TAIL have no memory of their own */
			break;
		}
	}
	return t;
}

uint64_t mqi_memory_used(struct mqshm *h)
{
	return take_tally(h).held * MQI_PAGE;
}

static bool withdraw(uint64_t *word, uint64_t w)
{
	return mqi_cas64(word, w, active_word(w, mqi_area_committed(w)));
}

static void withdraw_all_but(struct mqshm *h, const uint64_t *kept)
{
	struct stretch s;
	for (struct walk walk = walk_begin(h); walk_next(h, &walk, &s);) {
		uint64_t w = mqi_load_acq(s.word);
		if (s.word != kept && mqi_area_state(w) == AREA_GROWING && !is_granted(w)) withdraw(s.word, w);
	}
}

/* Decides the claim w of *mine: true where it was refused. Otherwise the word has changed: look at it again.
 *
 * A claim is granted when all that is held and asked for, it included, is within the limit. Where it is not, claims that
 * are not granted yet are in each other's way: the first of them in the walk's order is decided alone, by everybody, and
 * the others are withdrawn and come again. So one of them always gets further. */
static bool refused(struct mqshm *h, uint64_t *mine, uint64_t claim, uint64_t limit)
{
	uint64_t *word = mine, w = claim;
	for (unsigned attempt = 0; attempt < DECISIONS; attempt++) {
		struct tally t = take_tally(h);
		if (mqi_load_acq(word) != w) return false;
		if (t.held + t.asked <= limit) {
			mqi_cas64(word, w, next_word(w, AREA_GROWING, true, mqi_area_committed(w), mqi_area_target(w)));
			return false;
		}
		if (t.claims > 0 && t.first_word != word) {
			withdraw(word, w);
			word = t.first_word;
			w = t.first;
		} else if (t.claims > 1) {
			withdraw_all_but(h, word);
		} else {
			return withdraw(word, w) && word == mine;
		}
	}
	return false;
}

/* ---- growth ------------------------------------------------------------------------------------------------------ */

static bool sane(struct mqshm *h, const struct stretch *s)
{
	return s->offset % MQI_PAGE == 0 && s->offset <= h->span && s->size <= h->span - s->offset;
}

/* Makes the pages of a granted growth memory. The kernel may be asked for the same pages by several at once. After an
 * undo for want of memory, one that was stopped here may still make them memory: then they are, uncounted, until the
 * area grows there again. */
static int finish(struct mqshm *h, const struct stretch *s, uint64_t w)
{
	uint64_t from = (uint64_t)mqi_area_committed(w) * MQI_PAGE, to = (uint64_t)mqi_area_target(w) * MQI_PAGE;
	if (to <= from || to > ((s->size + MQI_PAGE - 1) & ~(uint64_t)(MQI_PAGE - 1)) || !sane(h, s))
		return mqi_fail(MQSHM_CORRUPT, "an area of %llu bytes is said to grow from %llu to %llu", (unsigned long long)s->size,
		                (unsigned long long)from, (unsigned long long)to);
	int error = mqi_commit(h->fd, s->offset + from, to - from);
	mqi_cas64(s->word, w, active_word(w, error ? mqi_area_committed(w) : mqi_area_target(w)));
	if (!error) return MQSHM_OK;
	if (error == ENOSPC || error == ENOMEM)
		return mqi_fail(MQSHM_NO_MEMORY, "/dev/shm has no room for %llu bytes more", (unsigned long long)(to - from));
	return mqi_fail(MQSHM_SYSTEM, "fallocate of %llu bytes: %s", (unsigned long long)(to - from), strerror(error));
}

static uint32_t pages(uint64_t bytes)
{
	return (uint32_t)(bytes / MQI_PAGE + (bytes % MQI_PAGE != 0));
}

static int over_limit(struct mqshm *h, uint64_t more, uint64_t limit)
{
	return mqi_fail(MQSHM_NO_MEMORY, "%llu bytes more, with %llu in use, would be over max_memory_usage, %llu",
	                (unsigned long long)more, (unsigned long long)mqi_memory_used(h), (unsigned long long)limit);
}

static int grow(struct mqshm *h, const struct stretch *s, uint64_t bytes, uint64_t ahead)
{
	uint64_t most = s->size < (uint64_t)PAGES_MAX * MQI_PAGE ? s->size : (uint64_t)PAGES_MAX * MQI_PAGE;
	if (!sane(h, s)) return mqi_fail(MQSHM_CORRUPT, "an area lies outside of the segment");
	if (bytes > most)
		return mqi_fail(MQSHM_TOO_LARGE, "%llu bytes are more than the %llu there is address space for",
		                (unsigned long long)bytes, (unsigned long long)most);
	uint32_t need = pages(bytes), want = pages(ahead < most - bytes ? bytes + ahead : most);
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		uint64_t w = mqi_load_acq(s->word);
		unsigned state = mqi_area_state(w);
		uint32_t committed = mqi_area_committed(w), target = mqi_area_target(w);
		/* Read here and not from the handle: one word, and whoever decides must go by the newest. */
		uint64_t limit = mqi_load_rlx(&h->hdr->config.max_memory_usage);
		if (state != AREA_ACTIVE && state != AREA_GROWING)
			return mqi_fail(MQSHM_CLOSED, "the memory to grow belongs to nobody");
		if (committed >= need) return MQSHM_OK;
		if (state == AREA_ACTIVE) {
			mqi_cas64(s->word, w, next_word(w, AREA_GROWING, limit == 0, committed, want));
			continue;
		}
		int rc = MQSHM_OK;
		if (is_granted(w)) {
			rc = finish(h, s, w);
			if (rc != MQSHM_OK && rc != MQSHM_NO_MEMORY) return rc;
		} else if (limit == 0) {
			mqi_cas64(s->word, w, next_word(w, AREA_GROWING, true, committed, target));
		} else if (refused(h, s->word, w, limit / MQI_PAGE)) {
			rc = over_limit(h, (uint64_t)(target - committed) * MQI_PAGE, limit);
		}
		if (rc == MQSHM_NO_MEMORY && target <= need) return rc;
		if (rc == MQSHM_NO_MEMORY) want = need; /* there may be room for what cannot wait */
	}
	return mqi_fail(MQSHM_NO_MEMORY, "others grow the same memory, and came first %d times", ATTEMPTS);
}

int mqi_area_grow(struct mqshm *h, struct area_shm *a, uint64_t bytes, uint64_t ahead)
{
	struct stretch s = stretch_of_area(a);
	return grow(h, &s, bytes, ahead);
}

int mqi_unit_grow(struct mqshm *h, uint64_t unit, uint64_t bytes, uint64_t ahead)
{
	struct stretch s = stretch_of_unit(h, unit);
	return grow(h, &s, bytes, ahead);
}

void mqi_area_clear(struct mqshm *h, struct area_shm *a)
{
	struct stretch s = stretch_of_area(a);
	if (!sane(h, &s)) return;
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		uint64_t w = mqi_load_acq(s.word);
		if (mqi_area_state(w) == AREA_GROWING) { /* left by one that died */
			if (!is_granted(w)) withdraw(s.word, w);
			else if (finish(h, &s, w) != MQSHM_OK) return;
		} else {
			uint64_t bytes = (uint64_t)mqi_area_committed(w) * MQI_PAGE;
			if (mqi_area_state(w) != AREA_ACTIVE || bytes == 0 || bytes > s.size) return;
			mqi_punch(h->fd, s.offset, bytes); /* before the word: what is no memory any more reads as nothing */
			if (mqi_cas64(s.word, w, active_word(w, 0))) return;
		}
	}
}

/* Growth names nobody, so all that is under way is finished, whoever began it. */
void mqi_areas_repair(struct mqshm *h, unsigned dead)
{
	struct stretch s;
	for (struct walk walk = walk_begin(h); walk_next(h, &walk, &s);) {
		uint64_t w = mqi_load_acq(s.word);
		if (mqi_area_state(w) != AREA_GROWING) continue;
		if (is_granted(w)) finish(h, &s, w);
		else withdraw(s.word, w);
	}
	mqi_units_repair(h, dead);
}
