#include "shm/slab.h"

#include "shm/area.h"
#include "shm/ring.h"

/* A look at every word takes the lines of all slots away from those who use them. Who is going to wait does so at most
 * this often; in between, and while it waits, the hints have to do. */
#define LOOK_AGAIN_NS 1000000
#define FEW 16          /* of a group's 64 slots */
#define AHEAD_PAUSES 20 /* 16 us */

/* One group further than the memory that there is; the first who gets there also grows the column of times, where the
 * subscription keeps leases in it. */
static int grow(struct mqshm_sub *s)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	uint64_t bytes = ((uint64_t)ready + 1) * sizeof(struct slot_shm), ahead = bytes / 2;
	if (ahead > MQI_UNIT) ahead = MQI_UNIT;
	int rc = mqi_area_grow(s->h, &s->shm->areas[SUB_SLOTS], bytes + (MQI_GROUP - 1) * sizeof(struct slot_shm), ahead);
	if (rc == MQSHM_TOO_LARGE) rc = mqi_area_grow(s->h, &s->shm->areas[SUB_SLOTS], mqi_load_rlx(&s->shm->areas[SUB_SLOTS].size), 0);
	if (rc != MQSHM_OK) return rc;
	uint64_t now = mqi_area_ready(&s->shm->areas[SUB_SLOTS]) / sizeof(struct slot_shm);
	if (now > s->capacity) now = s->capacity;
	if (s->ack == MQSHM_ACK_TIMEOUT) {
		rc = mqi_area_grow(s->h, &s->shm->areas[SUB_TIMES], now * sizeof(uint64_t), 0);
		if (rc != MQSHM_OK) return rc;
	}
	for (uint32_t was = ready; was < now; was = mqi_load_acq(&s->shm->slots_ready))
		if (mqi_cas32(&s->shm->slots_ready, was, (uint32_t)now)) break;
	for (uint32_t g = ready / MQI_GROUP; g * MQI_GROUP < now; g++)
		mqi_or64(&s->free_hints[g / 64], 1ull << g % 64);
	return MQSHM_OK;
}

/* The next group with a hint, from where this process last was, so that slots are used again in the order in which
 * they were freed. */
static bool next_group(struct mqshm_sub *s)
{
	uint32_t words = (s->groups + 63) / 64;
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	if (ready > s->capacity) ready = s->capacity;
	for (uint32_t i = 0; i <= words; i++) {
		uint32_t word = (s->next_group / 64 + i) % words;
		uint64_t seen = mqi_load_rlx(&s->free_hints[word]);
		if (i == 0) seen &= ~0ull << s->next_group % 64;
		if (!seen) continue;
		uint32_t group = word * 64 + (uint32_t)__builtin_ctzll(seen);
		mqi_and64(&s->free_hints[word], ~(1ull << group % 64));
		if (group >= s->groups) continue;
		uint32_t from = group * MQI_GROUP, end = from + MQI_GROUP;
		if (end > ready) end = ready;
		s->next_group = group + 1 == s->groups ? 0 : group + 1;
		s->next_slot = from;
		s->end_slot = end > from ? end : from;
		return true;
	}
	return false;
}

static uint32_t memory_of(struct mqshm_sub *s)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	return ready < s->capacity ? ready : s->capacity;
}

/* The ring of a tomb, as a bit; 0: none is there. */
static unsigned tomb_of(struct mqshm_sub *s, uint32_t index)
{
	uint64_t w = mqi_load_acq(&s->slots[index].word);
	if (likely(mqi_slot_state(w) != SLOT_TOMB)) return 0;
	mqi_ring_tomb(s, index, w);
	return 1u << mqi_place_ring(mqi_load_acq(&s->slots[index].place)) % MQI_PRIORITIES;
}

static void sweep(struct mqshm_sub *s, unsigned rings)
{
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++)
		if (rings >> ring & 1) mqi_ring_sweep(s, ring);
}

/* How many messages receivers have passed, in all rings; each of them says so a few messages late. */
static uint64_t passed(const struct mqshm_sub *s)
{
	uint64_t all = 0;
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) all += mqi_load_rlx(&s->shm->head[ring]);
	return all;
}

/* Who follows the receivers from slot to slot, as they free them, takes each line out of their hands. It does where the
 * one group with a hint is theirs: until they begin the next. And it does where groups have only a few slots to give, as
 * the least urgent messages fill the subscription and the others pass between them: until they have passed a group's worth.
 * Either way they have enough to do. */
static void let_receivers_ahead(struct mqshm_sub *s)
{
	uint32_t used = mqi_load_rlx(&s->shm->used);
	bool mixed = (used & (used - 1)) && s->counters->published - s->published_then < FEW;
	s->published_then = s->counters->published;
	if (s->overflow != MQSHM_BLOCK || s->groups < MQI_MANY_GROUPS || memory_of(s) < s->capacity) return;
	if ((!mixed && mqi_slot_free_groups(s) != 1) || !mqi_slip_due(&s->slip)) return;
	uint64_t first = passed(s);
	unsigned pauses = 0;
	do mqi_pause_a_little();
	while (++pauses < AHEAD_PAUSES && (mixed ? passed(s) - first < MQI_GROUP : mqi_slot_free_groups(s) == 1));
	mqi_slip_tried(&s->slip, pauses < AHEAD_PAUSES);
}

int mqi_slot_reserve_slow(struct mqshm_sub *s, uint32_t *index, uint64_t *word)
{
	/* Each round clears a hint; others may set new ones, which is their progress, but not for ever ours to follow. */
	for (uint32_t round = 0; round < 2 * s->groups + 8; round++) {
		while (s->next_slot < s->end_slot) {
			uint32_t i = s->next_slot++;
			if (mqi_slot_take(s, i, word)) {
				*index = i;
				return MQSHM_OK;
			}
		}
		if (round == 0) let_receivers_ahead(s);
		if (next_group(s)) continue;
		if (mqi_load_acq(&s->shm->slots_ready) >= s->capacity) break;
		int rc = grow(s);
		if (rc != MQSHM_OK) return rc;
	}
	uint64_t now = mqi_mono_ns();
	bool looked = s->overflow == MQSHM_BLOCK && !s->to_look && now - s->looked_ns < LOOK_AGAIN_NS;
	for (unsigned looks = 0, tombs = !looked; tombs && looks < 2; looks++) {
		tombs = 0;
		for (uint32_t i = 0, ready = memory_of(s); i < ready; i++) {
			if (mqi_slot_take(s, i, word)) {
				*index = i;
				return MQSHM_OK;
			}
			tombs |= tomb_of(s, i);
		}
		sweep(s, tombs); /* whoever made them may have died before it did */
	}
	if (!looked) s->looked_ns = now;
	return mqi_fail(MQSHM_FULL, "all %u slots of subscription %u are taken", s->capacity, s->row);
}

uint32_t mqi_slot_free_groups(struct mqshm_sub *s)
{
	uint32_t groups = 0;
	for (uint32_t word = 0; word < (s->groups + 63) / 64; word++)
		groups += (uint32_t)__builtin_popcountll(mqi_load_rlx(&s->free_hints[word]));
	return groups + (memory_of(s) < s->capacity);
}

uint32_t mqi_hints_renew(struct mqshm_sub *s, uint32_t from, uint32_t n)
{
	uint32_t ready = memory_of(s), end = from < ready && ready - from > n ? from + n : ready;
	unsigned tombs = 0;
	for (uint32_t i = from; i < end; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		uint32_t group = i / MQI_GROUP;
		if (mqi_slot_state(w) == SLOT_AGAIN)
			mqi_again_hint(s, mqi_place_ring(mqi_load_acq(&s->slots[i].place)) % MQI_PRIORITIES, i);
		else if (mqi_slot_state(w) == SLOT_FREE && !(mqi_load_rlx(&s->free_hints[group / 64]) >> group % 64 & 1))
			mqi_or64(&s->free_hints[group / 64], 1ull << group % 64);
		else if (mqi_slot_state(w) == SLOT_TOMB) tombs |= tomb_of(s, i);
	}
	sweep(s, tombs);
	return end < ready ? end : 0;
}
