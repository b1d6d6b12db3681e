/* Interning: find the name in its bucket, or claim a row, fill it, and push it on the bucket by one compare-and-swap,
 * which is the commit. A death before it leaves a row that names the dead, and a repairer gives it back; a death after
 * it leaves a row that is linked but does not say so, and anybody who comes by says it.
 */
#include "shm/topics.h"

#include "shm/pattern.h"
#include "shm/reach.h"

#define ROWS_AHEAD (64 * sizeof(struct topic_shm))
#define NAMES_AHEAD MQI_PAGE
#define ROOM_UNIT 8

uint32_t mqi_topic_hash(const char *name, uint32_t size) { return mqi_text_hash(name, size, 0); }

static struct topic_shm *row_at(struct mqshm *h, uint32_t id)
{
	return mqi_reach(h, &h->hdr->areas[AREA_TOPICS], (uint64_t)id * sizeof(struct topic_shm), sizeof(struct topic_shm));
}

static uint32_t rows_ready(struct mqshm *h)
{
	return (uint32_t)mqi_least(mqi_area_ready(&h->hdr->areas[AREA_TOPICS]) / sizeof(struct topic_shm), MQI_TOPICS);
}

static uint32_t *bucket_of(struct mqshm *h, uint32_t hash)
{
	return (uint32_t *)(h->base + h->buckets_offset) + hash % MQI_TOPIC_BUCKETS;
}

static int corrupt(uint32_t id)
{
	return mqi_fail(MQSHM_CORRUPT, "the table of topics leads to row %u, which holds no topic", id);
}

/* Of a row that is linked, or this peer's own. */
static const char *name_of(struct mqshm *h, const struct topic_shm *t, uint32_t size)
{
	if (size <= MQI_TOPIC_INLINE) return (const char *)t->text;
	uint64_t room = mqi_load_rlx(&t->room);
	if (size > MQI_TOPIC_MAX || size > mqi_room_size(room) * ROOM_UNIT) return NULL;
	return mqi_reach(h, &h->hdr->areas[AREA_NAMES], mqi_room_offset(room) * ROOM_UNIT, size);
}

static void say_linked(struct topic_shm *t)
{
	uint32_t word = mqi_load_acq(&t->owner);
	if (word != MQI_TOPIC_LINKED) mqi_cas32(&t->owner, word, MQI_TOPIC_LINKED);
}

/* Along a bucket's chain from row `id`, which was read with acquire: that pairs with the compare-and-swap that pushed
 * it, and each row was pushed by one who had acquired the row before it, so all the chain's fields are there to read. */
static int walk(struct mqshm *h, uint32_t id, const char *name, uint32_t size, uint32_t hash, uint32_t *found)
{
	for (uint32_t steps = 0; id; steps++) {
		struct topic_shm *t = id < MQI_TOPICS && steps < MQI_TOPICS ? row_at(h, id) : NULL;
		if (!t) return corrupt(id);
		if (mqi_load_rlx(&t->hash) == hash && mqi_load_rlx(&t->size) == size) {
			const char *text = name_of(h, t, size);
			if (!text) return corrupt(id);
			if (memcmp(text, name, size) == 0) {
				say_linked(t);
				*found = id;
				return MQSHM_OK;
			}
		}
		id = mqi_load_rlx(&t->next);
	}
	return MQSHM_NOT_FOUND;
}

int mqi_topic_find(struct mqshm *h, const char *name, uint32_t size, uint32_t *id)
{
	uint32_t hash = mqi_topic_hash(name, size), *bucket = bucket_of(h, hash);
	int rc = walk(h, mqi_load_acq(bucket), name, size, hash, id);
	return rc == MQSHM_NOT_FOUND ? mqi_fail(rc, "there is no topic '%.*s'", (int)size, name) : rc;
}

/* max_topics is held exactly, without a count: only so many rows may be used. */
static uint32_t rows_allowed(struct mqshm *h)
{
	uint64_t most = mqi_load_rlx(&h->hdr->config.max_topics);
	return (uint32_t)(most ? mqi_least(most, MQI_TOPICS - 1) : MQI_TOPICS - 1);
}

/* Whether a free row will do for a name: rooms are for ever, so one that is too small is for a shorter name. */
static bool fits(const struct topic_shm *t, uint32_t size)
{
	uint64_t room = mqi_load_rlx(&t->room);
	return size <= MQI_TOPIC_INLINE || room == 0 || mqi_room_size(room) * ROOM_UNIT >= size;
}

/* A row that this peer has claimed. */
struct claim {
	struct topic_shm *row;
	uint32_t id, word;
};

static int claim(struct mqshm *h, uint32_t from, uint32_t end, uint32_t size, struct claim *out)
{
	struct area_shm *area = &h->hdr->areas[AREA_TOPICS];
	for (uint32_t i = from; i < end; i++) {
		if (i >= rows_ready(h)) {
			int rc = mqi_area_grow(h, area, ((uint64_t)i + 1) * sizeof(struct topic_shm), ROWS_AHEAD);
			if (rc != MQSHM_OK) return rc;
		}
		struct topic_shm *t = row_at(h, i);
		if (!t) return corrupt(i);
		uint32_t seen = mqi_load_acq(&t->owner);
		if (mqi_topic_owner(seen) || !fits(t, size)) continue;
		*out = (struct claim){t, i, mqi_topic_word(h->peer, mqi_topic_gen(seen) + 1)};
		if (!mqi_cas32(&t->owner, seen, out->word)) continue;
		uint64_t hint = mqi_load_rlx(&h->hdr->next_topic);
		if (hint <= i) mqi_cas64(&h->hdr->next_topic, hint, (uint64_t)i + 1);
		return MQSHM_OK;
	}
	return MQSHM_TOO_MANY;
}

static int claim_any(struct mqshm *h, uint32_t size, struct claim *out)
{
	uint32_t end = rows_allowed(h) + 1;
	uint32_t hint = (uint32_t)mqi_least(mqi_load_rlx(&h->hdr->next_topic), end);
	if (hint == 0) hint = 1;
	int rc = claim(h, hint, end, size, out);
	if (rc == MQSHM_TOO_MANY) rc = claim(h, 1, hint, size, out); /* what was given back behind the hint */
	if (rc == MQSHM_TOO_MANY)
		return mqi_fail(rc, "the broker has its %u topics, %s", end - 1,
		                end < MQI_TOPICS ? "max_topics allows no more" : "another one does not fit");
	return rc;
}

static void give_back(struct mqshm *h, const struct claim *c)
{
	mqi_cas32(&c->row->owner, c->word, mqi_topic_word(MQI_NOBODY, mqi_topic_gen(c->word)));
	for (uint64_t hint = mqi_load_rlx(&h->hdr->next_topic); hint > c->id; hint = mqi_load_rlx(&h->hdr->next_topic))
		if (mqi_cas64(&h->hdr->next_topic, hint, c->id)) break;
}

/* header next_name */
#define NAMES_END(w) ((w) >> 36)
#define NAMES_ROW(w) ((uint32_t)((w) >> 16) & 0xfffff)
#define NAMES_SIZE(w) ((w) & 0xffff)

/* Gives this peer's row room for a long name. Who takes room says for which row in the same compare-and-swap; the row
 * is told by whoever comes first: the taker, or the next taker, should the first one die. */
static int take_room(struct mqshm *h, const struct claim *c, uint32_t size)
{
	uint64_t *end = &h->hdr->next_name, units = (size + ROOM_UNIT - 1) / ROOM_UNIT;
	for (;;) {
		uint64_t seen = mqi_load_acq(end);
		if (NAMES_SIZE(seen)) {
			struct topic_shm *last = NAMES_ROW(seen) < MQI_TOPICS ? row_at(h, NAMES_ROW(seen)) : NULL;
			if (!last || NAMES_END(seen) < NAMES_SIZE(seen)) return corrupt(NAMES_ROW(seen));
			uint64_t room = mqi_room(NAMES_END(seen) - NAMES_SIZE(seen), NAMES_SIZE(seen));
			if (mqi_load_acq(&last->room) == 0) mqi_cas64(&last->room, 0, room);
		}
		if (mqi_load_acq(&c->row->room)) return MQSHM_OK;
		uint64_t top = NAMES_END(seen) + units;
		int rc = mqi_area_grow(h, &h->hdr->areas[AREA_NAMES], top * ROOM_UNIT, NAMES_AHEAD);
		if (rc == MQSHM_TOO_LARGE) return mqi_fail(MQSHM_TOO_MANY, "there is no room for the names of more topics");
		if (rc != MQSHM_OK) return rc;
		mqi_cas64(end, seen, top << 36 | (uint64_t)c->id << 16 | units); /* won or lost, the next round tells the row */
	}
}

static int fill(struct mqshm *h, const struct claim *c, const char *name, uint32_t size, uint32_t hash)
{
	struct topic_shm *t = c->row;
	if (size > MQI_TOPIC_INLINE) {
		int rc = take_room(h, c, size);
		if (rc != MQSHM_OK) return rc;
		if (!fits(t, size)) return MQSHM_EMPTY; /* the room was a dead one's, for a shorter name */
	}
	mqi_store_rlx(&t->hash, hash);
	mqi_store_rlx(&t->size, size);
	char *text = (char *)name_of(h, t, size);
	if (!text) return corrupt(c->id);
	memcpy(text, name, size);
	return MQSHM_OK;
}

int mqi_topic_intern(struct mqshm *h, const char *name, uint32_t size, uint32_t *id)
{
	uint32_t hash = mqi_topic_hash(name, size), *bucket = bucket_of(h, hash);
	struct claim mine;
	int rc = walk(h, mqi_load_acq(bucket), name, size, hash, id);
	if (rc != MQSHM_NOT_FOUND) return rc;
	do {
		rc = claim_any(h, size, &mine);
		if (rc != MQSHM_OK) return rc;
		rc = fill(h, &mine, name, size, hash);
		if (rc != MQSHM_OK) give_back(h, &mine);
	} while (rc == MQSHM_EMPTY);
	if (rc != MQSHM_OK) return rc;
	for (;;) {
		uint32_t head = mqi_load_acq(bucket);
		rc = walk(h, head, name, size, hash, id); /* somebody else may have been first */
		if (rc != MQSHM_NOT_FOUND) {
			give_back(h, &mine);
			return rc;
		}
		mqi_store_rlx(&mine.row->next, head);
		if (mqi_cas32(bucket, head, mine.id)) break;
	}
	mqi_cas32(&mine.row->owner, mine.word, MQI_TOPIC_LINKED);
	*id = mine.id;
	return MQSHM_OK;
}

int mqi_topic_text(struct mqshm *h, uint32_t id, const char **name, uint32_t *size)
{
	struct topic_shm *t = id && id < MQI_TOPICS ? row_at(h, id) : NULL;
	/* LINKED is only ever said by one who has acquired the row through its bucket: so does who reads it. */
	if (!t || mqi_load_acq(&t->owner) != MQI_TOPIC_LINKED) return mqi_fail(MQSHM_NOT_FOUND, "there is no topic with number %u", id);
	*size = mqi_load_rlx(&t->size);
	*name = name_of(h, t, *size);
	return *name ? MQSHM_OK : corrupt(id);
}

uint32_t mqi_topic_live(struct mqshm *h)
{
	uint32_t count = 0, ready = rows_ready(h);
	for (uint32_t i = 1; i < ready; i++) {
		struct topic_shm *t = row_at(h, i);
		count += t && mqi_load_rlx(&t->owner) == MQI_TOPIC_LINKED;
	}
	return count;
}

uint32_t mqi_topic_top(struct mqshm *h)
{
	for (uint32_t i = rows_ready(h); i-- > 1;) {
		struct topic_shm *t = row_at(h, i);
		if (t && mqi_load_rlx(&t->owner) == MQI_TOPIC_LINKED) return i;
	}
	return 0;
}

static bool is_linked(struct mqshm *h, const struct topic_shm *row, uint32_t id)
{
	uint32_t *bucket = bucket_of(h, mqi_load_rlx(&row->hash));
	uint32_t at = mqi_load_acq(bucket);
	for (uint32_t steps = 0; at && at != id && steps < MQI_TOPICS; steps++) {
		struct topic_shm *t = at < MQI_TOPICS ? row_at(h, at) : NULL;
		at = t ? mqi_load_rlx(&t->next) : 0;
	}
	return at == id;
}

/* A word that named the peer before its row was seen DEAD was left by that life, and by its gen cannot come back: the
 * compare-and-swap repairs what the dead left, or fails. */
void mqi_topics_repair(struct mqshm *h, unsigned dead)
{
	uint32_t ready = rows_ready(h);
	if (dead == MQI_NOBODY || dead >= mqi_peers_rows(h)) return;
	for (uint32_t i = 1; i < ready; i++) {
		struct topic_shm *t = row_at(h, i);
		if (!t) return;
		uint32_t word = mqi_load_acq(&t->owner);
		if (word == MQI_TOPIC_LINKED || mqi_topic_owner(word) != dead) continue;
		if (dead != h->peer && mqi_peer_state(mqi_load_acq(&mqi_peer(h, dead)->word)) != PEER_DEAD) return;
		if (is_linked(h, t, i)) mqi_cas32(&t->owner, word, MQI_TOPIC_LINKED);
		else give_back(h, &(struct claim){t, i, word});
	}
}
