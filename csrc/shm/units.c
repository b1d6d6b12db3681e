#include "shm/units.h"

#include "os/mapping.h"
#include "shm/peers.h"

/* The unit table grows by this much at least: 1024 units, 1 GiB of address space. */
#define TABLE_AHEAD (1024 * sizeof(struct unit_shm) - MQI_PAGE)

static void raise_top(struct mqshm *h, uint64_t top)
{
	for (uint64_t was = mqi_load_acq(&h->hdr->units_top); was < top; was = mqi_load_acq(&h->hdr->units_top))
		if (mqi_cas64(&h->hdr->units_top, was, top)) return;
}

/* Behind the run of FREE units that starts at u, at most `count` further. What was never claimed is FREE, and perhaps
 * not memory yet. */
static uint64_t free_until(struct mqshm *h, uint64_t u, uint64_t count)
{
	uint64_t known = mqi_units_known(h), end = u + count;
	while (u < end && (u >= known || mqi_area_state(mqi_load_acq(&mqi_unit(h, u)->word)) == AREA_FREE)) u++;
	return u;
}

/* The first run of `count` FREE units from u on; claimed, or h->units where there is none. */
static int claim_from(struct mqshm *h, uint64_t u, uint64_t count, uint64_t *first)
{
	while (u + count <= h->units) {
		uint64_t end = free_until(h, u, count);
		if (end < u + count) {
			u = end + 1;
			continue;
		}
		int rc = mqi_area_grow(h, &h->hdr->areas[AREA_UNITS], end * sizeof(struct unit_shm), TABLE_AHEAD);
		if (rc != MQSHM_OK) return rc;
		raise_top(h, end); /* before the claim: whoever looks for what a dead peer had looks below it */
		uint64_t taken = u;
		while (taken < end && mqi_cas64(&mqi_unit(h, taken)->word, 0, mqi_owned_area_word(h, AREA_CLAIMED, 0))) taken++;
		if (taken == end) {
			*first = u;
			return MQSHM_OK;
		}
		mqi_units_free(h, u, taken - u);
		u = taken + 1;
	}
	*first = h->units;
	return MQSHM_OK;
}

int mqi_units_claim(struct mqshm *h, uint64_t count, uint64_t *first)
{
	uint64_t from = mqi_load_rlx(&h->hdr->next_unit);
	if (count == 0 || count >= h->units)
		return mqi_fail(MQSHM_TOO_LARGE, "%llu MiB are more than the segment has address space for", (unsigned long long)count);
	if (from < 1 || from >= h->units) from = 1;
	int rc = claim_from(h, from, count, first);
	if (rc == MQSHM_OK && *first == h->units && from > 1) rc = claim_from(h, 1, count, first);
	if (rc != MQSHM_OK) return rc;
	if (*first == h->units)
		return mqi_fail(MQSHM_NO_MEMORY, "%llu neighbouring MiB of address space, of %llu, are not free",
		                (unsigned long long)count, (unsigned long long)h->units);
	mqi_store_rlx(&h->hdr->next_unit, *first + count);
	return MQSHM_OK;
}

/* The rest says how far away the first is, so that who repairs it can tell its own from a later chunk's. */
static uint64_t tail_word(uint64_t distance)
{
	return mqi_area_word(AREA_TAIL, MQI_NOBODY, 0, (uint32_t)distance, 0);
}

void mqi_units_publish(struct mqshm *h, uint64_t first, uint64_t count, uint32_t kind, uint32_t stride, uint32_t blocks)
{
	struct unit_shm *unit = mqi_unit(h, first);
	mqi_store_rlx(&unit->free_runs, 0);
	mqi_store_rlx(&unit->kind, kind);
	mqi_store_rlx(&unit->units, (uint32_t)count);
	mqi_store_rlx(&unit->stride, stride);
	mqi_store_rlx(&unit->blocks, blocks);
	for (uint64_t i = 1; i < count; i++) mqi_cas64(&mqi_unit(h, first + i)->word, mqi_owned_area_word(h, AREA_CLAIMED, 0), tail_word(i));
	/* Release: whoever sees ACTIVE sees the fields. */
	mqi_cas64(&unit->word, mqi_owned_area_word(h, AREA_CLAIMED, 0), mqi_area_word(AREA_ACTIVE, MQI_NOBODY, 0, 0, 0));
}

/* From the end, so that after a death the rest still follows the first without a gap; the first, which is owned, last:
 * until then nobody else can claim a chunk that starts there. */
void mqi_units_free(struct mqshm *h, uint64_t first, uint64_t count)
{
	for (uint64_t u = first + count; u-- > first;) {
		uint64_t *word = &mqi_unit(h, u)->word, w = mqi_load_acq(word);
		if (mqi_area_state(w) != AREA_FREE) mqi_cas64(word, w, 0);
	}
	if (count && first < mqi_load_rlx(&h->hdr->next_unit)) mqi_store_rlx(&h->hdr->next_unit, first);
}

/* Whether the owner in w, in CLAIMED or RETIRING, is the life of row `dead` that is being swept. */
static bool names(struct mqshm *h, uint64_t w, unsigned dead)
{
	unsigned state = mqi_area_state(w);
	if ((state != AREA_CLAIMED && state != AREA_RETIRING) || mqi_area_owner(w) != dead) return false;
	uint64_t row = mqi_load_acq(&mqi_peer(h, dead)->word);
	uint64_t lived = (uint64_t)mqi_area_target(w) << 4 | mqi_area_gen(w);
	return (dead == h->peer || mqi_peer_state(row) == PEER_DEAD) && lived == (mqi_peer_inc(row) & 0x3ffffff);
}

uint64_t mqi_units_of(struct mqshm *h, uint64_t first)
{
	uint64_t known = mqi_units_known(h), count = 1;
	while (first + count < known && mqi_load_acq(&mqi_unit(h, first + count)->word) == tail_word(count)) count++;
	return count;
}

void mqi_units_repair(struct mqshm *h, unsigned dead)
{
	uint64_t known = mqi_units_known(h);
	for (uint64_t u = 1; u < known; u++) {
		uint64_t *word = &mqi_unit(h, u)->word, w = mqi_load_acq(word);
		if (!names(h, w, dead)) continue;
		/* Ours first: a second repairer that comes late must not punch or free what is somebody else's by then. */
		if (!mqi_cas64(word, w, mqi_owned_area_word(h, mqi_area_state(w), mqi_area_committed(w)))) continue;
		uint64_t count = mqi_units_of(h, u);
		if (mqi_area_state(w) == AREA_RETIRING)
			mqi_punch(h->fd, h->units_offset + (u << MQI_UNIT_SHIFT), count << MQI_UNIT_SHIFT);
		mqi_units_free(h, u, count);
	}
}
