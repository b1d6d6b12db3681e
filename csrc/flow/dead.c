#include "flow/dead.h"

#include "flow/commit.h"
#include "flow/publish.h"
#include "flow/receive.h"
#include "flow/settle.h"
#include "flow/topic.h"
#include "shm/subs.h"
#include "shm/topics.h"

#define PREFIX "dead."
#define REPLAYS PREFIX "replays" /* stays: how often it was put back before */
#define WAIT_MS 1000 /* at least, before there is another try */
#define DROPS 64 /* older dead letters that may go for the memory of a new one */

/* ---- headers, as mqshm/headers.py has them ------------------------------------------------------------------------- */

struct headers {
	unsigned char *bytes;
	uint32_t size, room;
	bool full;
};

static void put(struct headers *to, const void *from, uint32_t size)
{
	if (size > to->room - to->size) {
		to->full = true;
		return;
	}
	memcpy(to->bytes + to->size, from, size);
	to->size += size;
}

static void put_key(struct headers *to, const char *key, unsigned char tag)
{
	uint16_t size = (uint16_t)strlen(key);
	put(to, &size, sizeof size);
	put(to, key, size);
	put(to, &tag, 1);
}

static void put_text(struct headers *to, const char *key, const void *text, uint32_t size)
{
	put_key(to, key, 's');
	put(to, &size, sizeof size);
	put(to, text, size);
}

static void put_int(struct headers *to, const char *key, uint32_t value)
{
	int64_t wide = value;
	unsigned char size = sizeof wide;
	put_key(to, key, 'i');
	put(to, &size, 1);
	put(to, &wide, sizeof wide);
}

static void put_time(struct headers *to, const char *key, uint64_t ns)
{
	double seconds = (double)ns / 1e9;
	put_key(to, key, 'f');
	put(to, &seconds, sizeof seconds);
}

/* Bytes of the entry at `at`; 0 where it is none. */
static uint64_t entry_size(const unsigned char *at, uint64_t left)
{
	uint16_t key;
	uint32_t size;
	if (left < 3) return 0;
	memcpy(&key, at, sizeof key);
	uint64_t head = sizeof key + (uint64_t)key + 1, value = 0;
	if (head > left) return 0;
	switch (at[head - 1]) {
	case 'N':
	case 'T':
	case 'F': break;
	case 'f': value = 8; break;
	case 'i':
		if (head == left) return 0;
		value = 1ull + at[head];
		break;
	case 's':
	case 'b':
		if (left - head < sizeof size) return 0;
		memcpy(&size, at + head, sizeof size);
		value = sizeof size + (uint64_t)size;
		break;
	default: return 0;
	}
	return value <= left - head ? head + value : 0;
}

/* The message's own; what an earlier death wrote is replaced. */
static void put_own(struct headers *to, const mqshm_delivery *d)
{
	uint64_t left = d->headers_size, size;
	for (const unsigned char *at = d->headers; left && (size = entry_size(at, left)) != 0; at += size, left -= size) {
		uint16_t key;
		memcpy(&key, at, sizeof key);
		bool ours = key >= strlen(PREFIX) && memcmp(at + 2, PREFIX, strlen(PREFIX)) == 0;
		bool kept = key == strlen(REPLAYS) && memcmp(at + 2, REPLAYS, key) == 0;
		if (!ours || kept) put(to, at, (uint32_t)size);
	}
}

static bool describe(struct headers *to, const mqshm_delivery *d, const char *reason, uint32_t reason_size)
{
	const char *topic = "", *group = "", *text;
	uint32_t topic_size = 0, group_size = 0, text_size;
	if (mqi_topic_text(d->sub->h, d->topic, &topic, &topic_size) != MQSHM_OK) {
		topic = ""; /* its row is damaged: the message goes on without its name */
		topic_size = 0;
	}
	if (mqi_subs_text(d->sub->h, d->sub->row, &text, &text_size) == MQSHM_OK) {
		const char *at = text;
		mqi_text_next(&at, text + text_size, &group, &group_size);
	}
	uint64_t room = (uint64_t)d->headers_size + topic_size + group_size + reason_size + 256;
	*to = (struct headers){.bytes = malloc(room), .room = (uint32_t)room};
	if (!to->bytes || room > UINT32_MAX) return false;
	put_own(to, d);
	put_text(to, PREFIX "reason", reason, reason_size);
	put_text(to, PREFIX "topic", topic, topic_size);
	put_text(to, PREFIX "group", group, group_size);
	put_int(to, PREFIX "attempts", d->attempt);
	put_time(to, PREFIX "first", d->published_ns);
	put_time(to, PREFIX "last", mqi_wall_ns());
	return !to->full;
}

/* ---- giving up ---------------------------------------------------------------------------------------------------- */

static struct mqshm_topic *dead_topic(struct mqshm *h)
{
	if (likely(h->dead_size == 0)) return NULL;
	if (!h->dead && mqi_topic_open(h, h->dead_name, h->dead_size, &h->dead) != MQSHM_OK) return NULL;
	return mqi_topic_current(h, h->dead) == MQSHM_OK && h->dead->count ? h->dead : NULL;
}

static bool drop_a_dead_letter(struct mqshm_topic *dead)
{
	for (uint32_t i = 0; i < dead->count; i++)
		if (mqi_drops_what_waits(dead->targets[i]) && mqi_drop_one(dead->targets[i], 0) == MQSHM_OK) return true;
	return false;
}

static int bury(struct mqshm *h, struct mqshm_topic *dead, mqshm_delivery *d, const struct headers *headers, uint64_t *counter)
{
	mqshm_envelope e = {.ring = d->ring, .expires_ns = UINT64_MAX, .id = d->id, .id_size = d->id_size, .key = d->key,
	                    .key_size = d->key_size, .headers = headers->bytes, .headers_size = headers->size};
	mqshm_part part = {dead, d->data, d->size, &e};
	uint64_t seq;
	uint32_t failed;
	int rc = MQSHM_NO_MEMORY;
	for (unsigned drops = 0; drops < DROPS && rc == MQSHM_NO_MEMORY; drops++) {
		rc = mqi_transact(h, &part, 1, &d, NULL, 1, counter, &seq, &failed);
		if (rc == MQSHM_NO_MEMORY && !drop_a_dead_letter(dead)) break;
	}
	return rc;
}

static const char *said(enum mqi_death why)
{
	return why == MQI_EXPIRED ? "expired" : why == MQI_WORN_OUT ? "max_attempts" : "rejected";
}

int mqi_give_up(mqshm_delivery *d, enum mqi_death why, const char *reason, uint32_t reason_size)
{
	struct mqshm *h = d->sub->h;
	uint64_t *counter = why == MQI_EXPIRED ? &d->sub->counters->expired : &d->sub->counters->rejected;
	mqi_config_look(h);
	struct mqshm_topic *dead = why == MQI_EXPIRED && !h->dead_expired ? NULL : dead_topic(h);
	if (likely(!dead) || d->topic == dead->id) return mqi_settle(d, counter);
	if (reason_size == 0) reason_size = (uint32_t)strlen(reason = said(why));
	/* The claim that found it so is no delivery; who gives up with its last attempt in hand has had it. */
	if (why == MQI_EXPIRED || (why == MQI_WORN_OUT && mqi_death_of(d) == MQI_WORN_OUT)) d->attempt--;
	struct headers headers;
	int rc = MQSHM_NO_MEMORY;
	if (describe(&headers, d, reason, reason_size)) rc = bury(h, dead, d, &headers, counter);
	free(headers.bytes);
	if (rc == MQSHM_OK || rc == MQSHM_LEASE_LOST) return rc;
	uint64_t wait = mqi_load_rlx(&d->sub->shm->backoff_max_ms);
	int later = mqi_settle_later(d, wait > WAIT_MS ? wait : WAIT_MS);
	if (later != MQSHM_NO_MEMORY) return later;
	mqi_settle_later(d, 0);
	return rc;
}

void mqi_give_up_worn(struct mqshm_sub *s, uint32_t from, uint32_t n)
{
	uint32_t most = mqi_load_rlx(&s->shm->max_attempts), ready = mqi_load_acq(&s->shm->slots_ready);
	for (uint32_t i = from; most && i < ready && i < s->capacity && i - from < n; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		mqshm_delivery d;
		if (likely(mqi_slot_state(w) != SLOT_AGAIN || mqi_slot_attempts(w) < most)) continue;
		int rc = mqi_claim(s, i, w, &d);
		if (rc == MQI_REFUSED) mqi_give_up(&d, mqi_death_of(&d), NULL, 0);
		else if (rc == MQSHM_OK) mqi_settle_later(&d, 0);
	}
}
