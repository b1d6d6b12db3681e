/* The whole broker at one look, for who asks each second. It reads what is counted, heads and tails of rings, and a
 * bounded number of slots; it writes nothing that traffic reads. */
#include <stdio.h>

#include "flow/look.h"
#include "shm/reach.h"
#include "shm/topics.h"

#define LOOK_MOST (1u << 15) /* slots that are looked at in one check, shared out among the subscriptions */

_Static_assert(offsetof(mqshm_sub_health, published) == offsetof(struct sub_counters_shm, published), "the same counters");
_Static_assert(offsetof(mqshm_sub_health, waiting) == sizeof(struct sub_counters_shm), "all of them");
_Static_assert(MQSHM_TROUBLES == MQI_TROUBLES, "the same troubles");

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

int mqshm_count_trouble(mqshm_t *h, uint32_t kind)
{
	if (kind >= MQI_TROUBLES) return mqi_fail(MQSHM_INVALID, "there is no trouble %u", kind);
	if (mqi_enter(h) != MQSHM_OK) return forked();
	MQI_COUNT(h->row->troubles[kind], 1);
	mqi_store_rlx(&h->row->trouble_s[kind], (uint32_t)(mqi_wall_ns() / 1000000000));
	mqi_leave(h);
	return MQSHM_OK;
}

int mqshm_sub_text(mqshm_t *h, uint32_t row, char *text, uint32_t room, uint32_t *size)
{
	const char *at;
	if (mqi_enter(h) != MQSHM_OK) return forked();
	int rc = MQSHM_OK;
	if (row >= mqi_subs_rows(h) || mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) != SUB_OPEN)
		rc = mqi_fail(MQSHM_NOT_FOUND, "there is no subscription %u", row);
	if (rc == MQSHM_OK) rc = mqi_subs_text(h, row, &at, size);
	if (rc == MQSHM_OK) memcpy(text, at, mqi_least(*size, room));
	mqi_leave(h);
	return rc;
}

/* ---- processes ---- */

struct alive {
	uint64_t bits[MQI_PEERS / 64];
};

static uint32_t living(const uint64_t *bits, const struct alive *alive)
{
	uint32_t count = 0;
	for (unsigned i = 0; i < MQI_PEERS / 64; i++) count += (uint32_t)__builtin_popcountll(mqi_load_rlx(&bits[i]) & alive->bits[i]);
	return count;
}

static void look_at_peers(struct mqshm *h, mqshm_health *out, struct alive *alive)
{
	uint32_t rows = mqi_peers_rows(h);
	for (uint32_t p = 1; p < rows; p++) {
		struct peer_shm *row = mqi_peer(h, p);
		uint64_t word = mqi_load_acq(&row->word);
		for (unsigned kind = 0; kind < MQI_TROUBLES; kind++) {
			uint32_t at = mqi_load_rlx(&row->trouble_s[kind]);
			out->troubles[kind] += mqi_load_rlx(&row->troubles[kind]);
			if (at <= out->trouble_s[kind]) continue;
			out->trouble_s[kind] = at;
			out->trouble_peer[kind] = p;
		}
		if (mqi_peer_state(word) != PEER_LIVE || mqi_peer_gone(h, p, word)) continue;
		alive->bits[p / 64] |= 1ull << p % 64;
		out->peers++;
	}
}

/* ---- the broker ---- */

static bool is_open(struct mqshm *h, uint32_t row)
{
	return mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) == SUB_OPEN;
}

/* Everybody sees it alike, and a use that goes up and down around one mark does not go in and out of it. */
static uint32_t high_water(struct mqshm *h, uint64_t used, uint64_t limit)
{
	uint32_t was = mqi_load_rlx(&h->hdr->memory_high) != 0;
	uint32_t is = limit != 0 && used / 100 >= limit / 10000 * (was ? MQSHM_MEMORY_CLEAR : MQSHM_MEMORY_HIGH);
	if (is != was) mqi_store_rlx(&h->hdr->memory_high, is);
	return is;
}

/* Slots there are, and subscriptions. */
static void look_at_all(struct mqshm *h, mqshm_health *out, struct alive *alive, uint64_t *slots, uint32_t *subs)
{
	struct topic_counters_shm topics;
	mqi_config_look(h);
	mqi_look_topics(h, &topics);
	out->memory_used = mqi_memory_used(h);
	out->memory_limit = h->memory_limit;
	out->memory_high = high_water(h, out->memory_used, out->memory_limit);
	out->created_ns = mqi_load_rlx(&h->hdr->created_ns);
	out->published = topics.published;
	out->bytes = topics.bytes;
	out->topics = mqi_topic_live(h);
	look_at_peers(h, out, alive);
	out->publishers = living(h->hdr->memory_waiters, alive);
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t i = 0; i < rows; i++) {
		if (!is_open(h, i)) continue;
		*slots += mqi_load_acq(&mqi_sub(h, i)->slots_ready);
		++*subs;
	}
}

/* It had one, and whoever wants one is here. */
static bool is_unwatched(struct mqshm *h, const struct alive *alive)
{
	if (mqi_load_rlx(&h->hdr->started) == 0 || mqshm_supervised(h) != 0) return false;
	if (__atomic_load_n(&h->command, __ATOMIC_ACQUIRE)) return true;
	uint32_t rows = mqi_peers_rows(h);
	for (uint32_t p = 1; p < rows; p++)
		if (p != h->peer && alive->bits[p / 64] >> p % 64 & 1 && mqi_load_rlx(&mqi_peer(h, p)->role) == MQSHM_USER) return true;
	return false;
}

/* ---- a subscription ---- */

/* Slots to look at in one with so many: all of few, and its part of what is left. */
static uint32_t share(uint64_t its, uint64_t slots, uint32_t subs)
{
	uint64_t fair = LOOK_MOST / subs, part = slots ? its * LOOK_MOST / slots : 0;
	return slots <= LOOK_MOST ? UINT32_MAX : (uint32_t)(part > fair ? part : fair);
}

static int look_at_sub(struct mqshm *h, uint32_t row, const struct alive *alive, uint64_t slots, uint32_t subs, uint64_t *leases,
                       mqshm_sub_health *out)
{
	struct mqshm_sub s;
	struct sub_counters_shm sum;
	struct mqi_held held;
	int rc = mqi_view_look(h, row, &s);
	if (rc != MQSHM_OK) return rc;
	mqi_look_counters(h, row, &sum);
	mqi_look(&s, &sum, share(mqi_load_acq(&s.shm->slots_ready), slots, subs), leases, &held);
	memset(out, 0, sizeof *out);
	memcpy(out, &sum, sizeof sum); /* which come first, in the same order */
	out->waiting = held.waiting;
	out->in_flight = held.in_flight;
	out->later = held.later;
	out->used = held.used;
	memcpy(out->waiting_by_ring, held.waiting_by_ring, sizeof out->waiting_by_ring);
	memcpy(out->oldest_ns, held.oldest_ns, sizeof out->oldest_ns);
	out->capacity = s.capacity;
	out->created_ns = mqi_load_rlx(&s.shm->created_ns);
	out->word = s.word;
	out->row = row;
	out->private_owner = mqi_sub_owner(s.word);
	out->ack = s.ack;
	out->overflow = s.overflow;
	out->max_attempts = mqi_load_rlx(&s.shm->max_attempts);
	out->consumers = living(s.shm->members, alive);
	out->publishers = living(s.shm->space_waiters, alive);
	out->sampled = held.sampled;
	return MQSHM_OK;
}

int mqshm_health_get(mqshm_t *h, mqshm_health *out, mqshm_sub_health *subs, uint32_t room, uint64_t *leases)
{
	struct alive alive = {{0}};
	uint64_t slots = 0;
	uint32_t open = 0;
	memset(out, 0, sizeof *out);
	memset(leases, 0, MQI_PEERS * sizeof *leases);
	if (mqi_enter(h) != MQSHM_OK) return forked();
	look_at_all(h, out, &alive, &slots, &open);
	out->unwatched = is_unwatched(h, &alive);
	uint32_t rows = mqi_subs_rows(h);
	mqi_leave(h);
	for (uint32_t row = 0; row < rows && out->subscriptions < room; row++) {
		if (mqi_enter(h) != MQSHM_OK) return forked();
		int rc = is_open(h, row) ? look_at_sub(h, row, &alive, slots, open ? open : 1, leases, &subs[out->subscriptions]) : MQSHM_CLOSED;
		mqi_leave(h);
		out->subscriptions += rc == MQSHM_OK;
		if (rc == MQSHM_CORRUPT && out->damaged++ == 0) snprintf(out->damage, sizeof out->damage, "%s", mqshm_reason());
	}
	return MQSHM_OK;
}
