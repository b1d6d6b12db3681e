#include "flow/topic.h"

#include "shm/counters.h"
#include "shm/pattern.h"
#include "shm/reach.h"
#include "shm/topics.h"

#define TABLE_LEAST 64u

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

int mqi_topic_resolve(struct mqshm *h, struct mqshm_topic *t)
{
	uint32_t rows[MQI_SUBS], count;
	uint64_t version;
	t->version = MQI_NO_VERSION;
	t->count = 0;
	int rc = mqi_subs_match(h, t->name, t->size, rows, MQI_SUBS, &count, &version);
	if (rc != MQSHM_OK) return rc;
	if (count > t->room) {
		struct mqshm_sub **more = realloc(t->targets == &t->only ? NULL : t->targets, count * sizeof *more);
		if (!more) return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for the %u receivers of a topic", count);
		t->targets = more;
		t->room = count;
	}
	for (uint32_t i = 0; i < count; i++) {
		rc = mqi_view(h, rows[i], &t->targets[t->count]);
		if (rc == MQSHM_OK) t->count++;
		else if (rc == MQSHM_CLOSED) version = MQI_NO_VERSION; /* it was matched a moment ago: the next match will not */
		else return rc;
	}
	t->version = version;
	return MQSHM_OK;
}

/* ---- what this process has used ---- */

static struct mqshm_topic *known(struct mqshm *h, const char *name, uint32_t size, uint32_t hash)
{
	struct mqshm_topic *t = h->topic_room ? h->topics[hash & (h->topic_room - 1)] : NULL;
	while (t && (t->hash != hash || t->size != size || memcmp(t->name, name, size) != 0)) t = t->chain;
	return t;
}

static int make_room(struct mqshm *h)
{
	if (h->topic_count < h->topic_room) return MQSHM_OK;
	uint32_t room = h->topic_room ? h->topic_room * 2 : TABLE_LEAST;
	struct mqshm_topic **table = calloc(room, sizeof *table);
	if (!table) return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for %u topics", room);
	for (uint32_t i = 0; i < h->topic_room; i++)
		for (struct mqshm_topic *t = h->topics[i], *next; t; t = next) {
			next = t->chain;
			t->chain = table[t->hash & (room - 1)];
			table[t->hash & (room - 1)] = t;
		}
	free(h->topics);
	h->topics = table;
	h->topic_room = room;
	return MQSHM_OK;
}

static int add(struct mqshm *h, const char *name, uint32_t size, uint32_t hash, struct mqshm_topic **out)
{
	uint32_t id;
	int rc = mqi_topic_check(name, size);
	if (rc == MQSHM_OK) rc = make_room(h);
	if (rc == MQSHM_OK) rc = mqi_topic_intern(h, name, size, &id);
	if (rc != MQSHM_OK) return rc;
	struct mqshm_topic *t = calloc(1, sizeof *t + size);
	if (!t) return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for another topic");
	t->targets = &t->only;
	t->room = 1;
	t->id = id;
	t->hash = hash;
	t->size = size;
	memcpy(t->name, name, size);
	t->version = MQI_NO_VERSION;
	t->counters = mqi_count_topic(h, id);
	t->chain = h->topics[hash & (h->topic_room - 1)];
	h->topics[hash & (h->topic_room - 1)] = t;
	h->topic_count++;
	*out = t;
	return MQSHM_OK;
}

int mqi_topic_open(struct mqshm *h, const char *name, uint32_t size, struct mqshm_topic **out)
{
	uint32_t hash = mqi_topic_hash(name, size);
	*out = known(h, name, size, hash);
	return *out ? MQSHM_OK : add(h, name, size, hash, out);
}

int mqshm_topic_open(mqshm_t *h, const char *name, uint32_t size, mqshm_topic_t **out)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	int rc = mqi_topic_open(h, name, size, out);
	mqi_leave(h);
	return rc;
}

/* ---- what all have used ---- */

int mqshm_topic_name(mqshm_t *h, uint32_t topic, const char **name, uint32_t *size)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	int rc = mqi_topic_text(h, topic, name, size);
	mqi_leave(h);
	return rc;
}

int mqshm_topic_count(mqshm_t *h, uint32_t *count)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	*count = mqi_topic_live(h);
	mqi_leave(h);
	return MQSHM_OK;
}

int mqshm_topic_stats(mqshm_t *h, uint32_t topic, uint64_t *published, uint64_t *bytes)
{
	if (mqi_enter(h) != MQSHM_OK) return forked();
	uint32_t peers = mqi_peers_rows(h);
	*published = *bytes = 0;
	for (uint32_t p = 1; p < peers && topic < MQI_TOPICS; p++) {
		const struct topic_counters_shm *c = mqi_topic_counters(h, p, topic);
		if (!c) continue;
		*published += mqi_load_rlx(&c->published);
		*bytes += mqi_load_rlx(&c->bytes);
	}
	mqi_leave(h);
	return MQSHM_OK;
}
