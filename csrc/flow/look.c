#include "flow/look.h"

#include "flow/receive.h"
#include "shm/counters.h"
#include "shm/reach.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/topics.h"

#define WALK 4096     /* positions that a cursor may lag behind: every process publishes its own each few steps */
#define AGAIN_MOST 64 /* messages to be delivered again of which the age is looked at, among those of a group of slots */

void mqi_look_counters(struct mqshm *h, uint32_t row, struct sub_counters_shm *sum)
{
	const uint64_t *before = (const uint64_t *)&mqi_sub(h, row)->before;
	uint64_t *since = (uint64_t *)sum;
	mqi_counted_sub(h, row, sum);
	for (unsigned i = 0; i < sizeof *sum / sizeof *since; i++) since[i] -= mqi_least(since[i], mqi_load_rlx(&before[i]));
}

/* Each process's sheet, as far as it was ever written to. */
void mqi_look_topics(struct mqshm *h, struct topic_counters_shm *sum)
{
	uint64_t peers = mqi_peers_rows(h), rows = mqi_topic_top(h) + 1ull;
	memset(sum, 0, sizeof *sum);
	for (unsigned p = 1; p < peers; p++) {
		const struct area_shm *sheet = &h->hdr->sheets[p][SHEET_TOPICS];
		uint64_t n = mqi_least(rows, mqi_area_ready(sheet) / sizeof *sum);
		const struct topic_counters_shm *c = mqi_reach(h, sheet, 0, n * sizeof *c);
		for (uint64_t t = 1; c && t < n; t++) {
			sum->published += mqi_load_rlx(&c[t].published);
			sum->bytes += mqi_load_rlx(&c[t].bytes);
		}
	}
}

uint64_t mqi_look_published(struct mqshm_sub *s, uint32_t index, uint64_t w)
{
	mqshm_delivery d;
	if (!mqi_delivery_fill(s, index, &d)) return 0;
	return mqi_load_acq(&s->slots[index].word) == w ? d.published_ns : 0;
}

/* ---- slots ---- */

static void older(uint64_t *oldest, uint64_t ns)
{
	if (ns && (*oldest == 0 || ns < *oldest)) *oldest = ns;
}

/* A group of slots; what waits in the rings is only counted here, for the age of their first is found otherwise. */
static void count(struct mqshm_sub *s, uint32_t from, uint32_t to, uint64_t *owned, struct mqi_held *out)
{
	unsigned ages = 0;
	for (uint32_t i = from; i < to; i++) {
		uint64_t w = mqi_load_rlx(&s->slots[i].word);
		unsigned state = mqi_slot_state(w);
		if (state == SLOT_FREE) continue;
		out->used++;
		switch (state) {
		case SLOT_OFFER:
		case SLOT_READY:
		case SLOT_AGAIN: {
			unsigned ring = mqi_place_ring(mqi_load_rlx(&s->slots[i].place));
			out->waiting++;
			out->again += state == SLOT_AGAIN;
			if (ring >= MQI_PRIORITIES) break;
			out->waiting_by_ring[ring]++;
			if (state == SLOT_AGAIN && ages++ < AGAIN_MOST) older(&out->oldest_ns[ring], mqi_look_published(s, i, w));
			break;
		}
		case SLOT_LATER: out->later++; break;
		case SLOT_INFLIGHT:
		case SLOT_SETTLING:
			out->in_flight++;
			if (mqi_slot_owner(w) < MQI_PEERS) owned[mqi_slot_owner(w)]++;
			break;
		default: break;
		}
	}
}

/* ---- rings ---- */

struct span {
	uint64_t head, tail; /* as near to the truth as a short walk from the shared cursors comes */
	uint64_t oldest_ns;  /* of the message at head */
};

/* Past what receivers took and did not tell of yet, to the first that waits. Walks no further than `tail`. */
static void find_head(struct mqshm_sub *s, unsigned ring, struct span *out)
{
	for (unsigned steps = 0; steps < WALK && (int64_t)(out->tail - out->head) > 0; steps++, out->head++) {
		if (!mqi_ring_is_memory(s, ring, out->head & s->mask)) continue;
		uint64_t v = mqi_load_acq(&s->rings[ring][out->head & s->mask]), index = mqi_cell_index(v);
		if (mqi_cell_cycle(v) != mqi_cycle(s, out->head) || index >= s->capacity) continue;
		uint64_t w = mqi_load_acq(&s->slots[index].word);
		if (!mqi_claimable(mqi_slot_state(w)) || mqi_load_acq(&s->slots[index].place) != mqi_place(ring, out->head)) continue;
		if ((out->oldest_ns = mqi_look_published(s, (uint32_t)index, w))) return;
	}
}

static struct span look_at_ring(struct mqshm_sub *s, unsigned ring)
{
	struct span out = {s->head[ring], s->tail[ring], 0};
	for (unsigned steps = 0; steps < WALK && mqi_ring_is_memory(s, ring, out.tail & s->mask); steps++, out.tail++)
		if (mqi_cell_cycle(mqi_load_acq(&s->rings[ring][out.tail & s->mask])) < mqi_cycle(s, out.tail)) break;
	if ((int64_t)(out.tail - out.head) > (int64_t)s->mask) out.head = out.tail - s->mask - 1;
	find_head(s, ring, &out);
	return out;
}

/* ---- both ---- */

/* What neither waits in a ring nor has left. */
static uint64_t outside(const struct mqshm_sub *s, const struct sub_counters_shm *sum, uint64_t in_rings)
{
	uint64_t gone = sum->settled + sum->rejected + sum->expired + in_rings;
	if (s->overflow != MQSHM_DROP_NEW) gone += sum->dropped; /* else it never came in */
	return sum->published > gone ? sum->published - gone : 0;
}

/* `seen` is what one of `share` groups held. What is not in the rings is leased, or waits for its time, or is to be
 * delivered again, in the proportion that was seen; where nothing was, whoever is there has it. */
static void estimate(struct mqshm_sub *s, const struct sub_counters_shm *sum, uint64_t share, struct mqi_held *seen)
{
	uint64_t in_rings = 0, members = 0, rest, parts = seen->in_flight + seen->later + seen->again;
	for (unsigned i = 0; i < MQI_PRIORITIES; i++) in_rings += seen->waiting_by_ring[i];
	for (unsigned i = 0; i < MQI_PEERS / 64; i++) members |= mqi_load_rlx(&s->shm->members[i]);
	rest = s->h->uncounted ? parts * share : outside(s, sum, in_rings);
	rest = mqi_least(rest, s->capacity - mqi_least(in_rings, s->capacity));
	seen->later = parts ? rest * seen->later / parts : 0;
	seen->again = parts ? rest * seen->again / parts : members ? 0 : rest;
	seen->in_flight = rest - seen->later - seen->again;
	seen->waiting = in_rings + seen->again;
	seen->used = in_rings + rest;
	seen->sampled = true;
}

void mqi_look(struct mqshm_sub *s, const struct sub_counters_shm *sum, uint32_t most, uint64_t *leases, struct mqi_held *out)
{
	uint32_t slots = (uint32_t)mqi_least(mqi_load_acq(&s->shm->slots_ready), s->capacity);
	uint32_t groups = (slots + MQI_GROUP - 1) / MQI_GROUP, allowed = most / MQI_GROUP ? most / MQI_GROUP : 1;
	uint32_t share = slots <= most ? 1 : (groups + allowed - 1) / allowed;
	uint32_t used = mqi_load_acq(&s->shm->used);
	uint64_t owned[MQI_PEERS] = {0};
	memset(out, 0, sizeof *out);
	for (uint32_t group = 0; group < groups; group += share)
		count(s, group * MQI_GROUP, (uint32_t)mqi_least((group + 1) * MQI_GROUP, slots), owned, out);
	for (unsigned p = 0; leases && out->in_flight && p < MQI_PEERS; p++) leases[p] += owned[p] * share;
	if (share > 1) memset(out->waiting_by_ring, 0, sizeof out->waiting_by_ring);
	for (unsigned ring = 0; ring < MQI_PRIORITIES; ring++) {
		if (!(used >> ring & 1)) continue;
		struct span span = look_at_ring(s, ring);
		older(&out->oldest_ns[ring], span.oldest_ns);
		if (share > 1) out->waiting_by_ring[ring] = mqi_least(span.tail - span.head, s->capacity);
	}
	if (share > 1) estimate(s, sum, share, out);
}
