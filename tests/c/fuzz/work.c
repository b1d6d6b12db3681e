#include "work.h"

#include <stdio.h>
#include <string.h>

#define HANDLES 2u
#define HELD 16u
#define VIEWS 4u
#define BATCH 8u
#define TOPICS 6u

uint64_t work_results[WORK_RESULTS], work_attached;

static mqshm_t *handles[HANDLES], *h; /* h is who does the operation */
static unsigned who;
static struct {
	mqshm_sub_t *views[VIEWS];
	mqshm_topic_t *topics[TOPICS];
	mqshm_delivery held[HELD];
	mqshm_loan loan;
	unsigned count;
	bool lent;
} has[HANDLES], *mine;

static const char *const groups[] = {"group", "timed", "none", "ends", "deep", "wide3", "wide20", "new"};
static const char *const names[TOPICS] = {"a.b", "a.c", "w.x", "solo", "late.by.a.while", "a.name.that.is.longer.than.what.a.row.of.the.table.has.room.for"};
static unsigned char bytes[300000];
static volatile uint64_t sum; /* what was handed out was read */

static int saw(int rc)
{
	must(rc >= 0 && rc < (int)WORK_RESULTS, "a result that is none: %d", rc);
	note("%d %s", rc, rc ? mqshm_reason() : "");
	work_results[rc]++;
	return rc;
}

static void look_at(const void *at, uint64_t size)
{
	const unsigned char *byte = at;
	uint64_t s = 0;
	must(size <= 1ull << 32, "%llu bytes were handed out", (unsigned long long)size);
	for (uint64_t i = 0; i < size; i += 64) s += byte[i];
	if (size) s += byte[size - 1];
	sum += s;
}

static void look_at_delivery(const mqshm_delivery *d)
{
	look_at(d->data, d->size);
	look_at(d->id, d->id_size);
	look_at(d->headers, d->headers_size);
	look_at(d->key, d->key_size);
}

static mqshm_topic_t *draw_topic(struct tape *t)
{
	unsigned i = draw(t, TOPICS);
	if (!mine->topics[i]) saw(mqshm_topic_open(h, names[i], (uint32_t)strlen(names[i]), &mine->topics[i]));
	return mine->topics[i];
}

static mqshm_sub_t *draw_view(struct tape *t)
{
	mqshm_sub_t **view = &mine->views[draw(t, VIEWS)];
	if (!*view) {
		const char *name = groups[draw(t, 8)];
		if (saw(mqshm_sub_open(h, name, (uint32_t)strlen(name), view)) != MQSHM_OK) *view = NULL;
	}
	return *view;
}

static void draw_envelope(struct tape *t, mqshm_envelope *e)
{
	*e = (mqshm_envelope){.ring = draw(t, 6), .delay_ms = chance(t, 5) ? draw(t, 3000) : 0, .ack_ms = chance(t, 5) ? draw(t, 2000) : 0};
	if (chance(t, 3)) e->id = "identity", e->id_size = 8;
	if (chance(t, 3)) e->headers = bytes, e->headers_size = draw(t, 3000);
	if (chance(t, 3)) e->key = "key", e->key_size = 3;
	if (chance(t, 5)) e->expires_ns = world_now_ns() + draw(t, 2000) * 1000000ull;
}

static uint64_t draw_size(struct tape *t)
{
	static const uint32_t most[] = {1, 60, 72, 300, 5000, 100000, 300000};
	return draw(t, most[draw(t, 7)]);
}

/* ---- in ---- */

static void do_publish(struct tape *t)
{
	mqshm_topic_t *topic = draw_topic(t);
	mqshm_envelope e;
	uint64_t seq;
	draw_envelope(t, &e);
	if (!topic) return;
	uint64_t size = draw_size(t);
	int rc = saw(mqshm_publish(h, topic, bytes, size, chance(t, 2) ? &e : NULL, &seq));
	if (rc == MQSHM_FULL || rc == MQSHM_NO_MEMORY) saw(mqshm_wait_room(h, topic, size, draw(t, 2) * 1000));
}

static void do_publish_batch(struct tape *t)
{
	mqshm_topic_t *topic = draw_topic(t);
	const void *data[BATCH];
	uint64_t sizes[BATCH], seqs[BATCH];
	uint32_t done;
	if (!topic) return;
	for (unsigned i = 0; i < BATCH; i++) data[i] = bytes, sizes[i] = draw_size(t);
	saw(mqshm_publish_batch(h, topic, BATCH, data, sizes, NULL, seqs, &done));
	must(done <= BATCH, "%u of %u", done, BATCH);
}

static void do_loan(struct tape *t)
{
	uint64_t seq;
	if (!mine->lent) {
		if (saw(mqshm_loan_take(h, draw_size(t), draw(t, 100), &mine->loan)) != MQSHM_OK) return;
		memcpy(mine->loan.data, bytes, mine->loan.size);
		mine->lent = true;
	} else if (chance(t, 2)) {
		saw(mqshm_loan_return(h, &mine->loan));
		mine->lent = false;
	} else {
		mqshm_topic_t *topic = draw_topic(t);
		if (topic && saw(mqshm_loan_publish(h, topic, &mine->loan, NULL, &seq)) == MQSHM_OK) mine->lent = false;
	}
}

static void do_commit(struct tape *t)
{
	mqshm_part parts[3];
	mqshm_delivery *settled[HELD];
	uint64_t seqs[3];
	uint32_t n = draw(t, 3), m = draw(t, mine->count + 1), failed;
	for (uint32_t i = 0; i < n; i++) {
		mqshm_topic_t *topic = draw_topic(t);
		if (!topic) return;
		parts[i] = (mqshm_part){topic, bytes, draw_size(t), NULL};
	}
	for (uint32_t i = 0; i < m; i++) settled[i] = &mine->held[mine->count - m + i];
	if (saw(mqshm_commit(h, parts, n, settled, NULL, m, seqs, &failed)) == MQSHM_OK) mine->count -= m;
}

/* ---- out ---- */

static void settle(struct tape *t, mqshm_delivery *d)
{
	uint64_t size = d->size < sizeof bytes ? d->size : sizeof bytes;
	uint32_t acked;
	switch (draw(t, 9)) {
	case 0: saw(mqshm_nack(d, chance(t, 2) ? UINT32_MAX : draw(t, 2) * 100)); break;
	case 1: saw(mqshm_reject(d, "no", 2)); break;
	case 2: saw(mqshm_extend(d, draw(t, 1000))); break;
	case 3:
		if (saw(mqshm_ack_hold(d)) != MQSHM_OK) break;
		look_at_delivery(d);
		saw(mqshm_release(d));
		break;
	case 4: saw(mqshm_delivery_read(d, d->data, bytes, size)); break;
	case 5: saw(mqshm_ack_batch(d, 1, &acked)); break;
	default: saw(mqshm_ack(d)); break;
	}
}

static void do_receive(struct tape *t)
{
	mqshm_sub_t *s = draw_view(t);
	mqshm_delivery d;
	if (!s || saw(mqshm_receive(s, &d)) != MQSHM_OK) return;
	look_at_delivery(&d);
	if (mine->count < HELD && chance(t, 2)) mine->held[mine->count++] = d;
	else settle(t, &d);
}

static void do_receive_batch(struct tape *t)
{
	mqshm_sub_t *s = draw_view(t);
	mqshm_delivery d[BATCH];
	uint32_t got, acked;
	if (!s || saw(mqshm_receive_batch(s, BATCH, d, &got)) != MQSHM_OK) return;
	must(got <= BATCH, "%u of %u", got, BATCH);
	for (uint32_t i = 0; i < got; i++) look_at_delivery(&d[i]);
	saw(mqshm_ack_batch(d, got, &acked));
}

static void do_receive_flat(struct tape *t)
{
	static union {
		mqshm_flat flat;
		unsigned char bytes[4096];
	} room;
	room.flat.sub = draw_view(t);
	room.flat.room = sizeof room - sizeof room.flat;
	if (!room.flat.sub) return;
	int rc = mqshm_receive_flat(&room.flat);
	if (rc > 0) saw(rc);
	else must(rc == 0 || (uint64_t)-(int64_t)rc <= room.flat.room, "a size that is none: %d", rc);
}

static void do_settle(struct tape *t)
{
	if (!mine->count) return;
	mqshm_delivery *d = &mine->held[draw(t, mine->count)];
	settle(t, d);
	if (chance(t, 2)) *d = mine->held[--mine->count]; /* or once more, some time */
}

static void do_find_held(struct tape *t)
{
	mqshm_delivery d;
	const char *name = names[draw(t, TOPICS)];
	if (saw(mqshm_find_held(h, name, (uint32_t)strlen(name), "identity", 8, &d)) == MQSHM_OK) look_at_delivery(&d);
}

static void do_wait(struct tape *t)
{
	mqshm_sub_t *s = draw_view(t);
	if (s) saw(chance(t, 2) ? mqshm_wait(h, &s, 1, 1000) : mqshm_wait_quietly(h, &s, 1, 1000));
}

static void do_purge(struct tape *t)
{
	mqshm_sub_t *s = draw_view(t);
	uint64_t purged;
	if (s) saw(mqshm_purge(s, &purged));
}

/* ---- subscriptions and topics ---- */

static void do_subscribe(struct tape *t)
{
	static const char *const patterns[] = {"#", "a.*", "*.b.#", "w.x"};
	static const uint32_t sizes[] = {1, 3, 5, 3};
	mqshm_sub_t **view = &mine->views[draw(t, VIEWS)];
	const char *name = chance(t, 2) ? groups[draw(t, 8)] : NULL;
	mqshm_sub_options o = {.name = name, .name_size = name ? (uint32_t)strlen(name) : 0, .patterns = patterns, .pattern_sizes = sizes,
		.pattern_count = 1 + draw(t, 4), .capacity = 1 + draw(t, 300), .ack = draw(t, 3), .overflow = draw(t, 4), .ack_timeout_ms = 1 + draw(t, 500)};
	if (saw(mqshm_sub_create(h, &o, view)) != MQSHM_OK) *view = NULL;
}

static void do_close(struct tape *t)
{
	mqshm_sub_t **view = &mine->views[draw(t, VIEWS)];
	mqshm_sub_options o;
	if (!*view) return;
	saw(mqshm_sub_options_get(*view, &o));
	mqshm_sub_close(*view);
	*view = NULL;
}

static void do_delete(struct tape *t)
{
	const char *name = groups[draw(t, 8)];
	saw(mqshm_sub_delete(h, name, (uint32_t)strlen(name)));
}

static void do_topic(struct tape *t)
{
	char name[600];
	const char *text;
	uint32_t size, count;
	uint64_t published, sent;
	mqshm_topic_t *topic;
	snprintf(name, sizeof name, "t%u", draw(t, 100));
	if (chance(t, 3)) memset(name + strlen(name), 'o', draw(t, 500));
	saw(mqshm_topic_open(h, name, (uint32_t)strnlen(name, sizeof name - 1), &topic));
	if (saw(mqshm_topic_name(h, draw(t, 40), &text, &size)) == MQSHM_OK) look_at(text, size);
	saw(mqshm_topic_count(h, &count));
	saw(mqshm_topic_stats(h, draw(t, 40), &published, &sent));
}

/* ---- upkeep and inspection ---- */

static void do_stats(struct tape *t)
{
	mqshm_stats st;
	mqshm_sub_stats sub;
	mqshm_peer_stats peer;
	uint64_t used;
	(void)t;
	saw(mqshm_stats_get(h, &st));
	saw(mqshm_memory_used(h, &used));
	for (uint32_t i = 0; mqshm_sub_stats_get(h, i, &sub) != MQSHM_INVALID; i++) must(i < MQI_SUBS, "subscription %u", i);
	for (uint32_t i = 1; mqshm_peer_stats_get(h, i, &peer) != MQSHM_INVALID; i++) must(i < MQI_PEERS, "peer %u", i);
}

static void do_browse(struct tape *t)
{
	static unsigned char copy[100000];
	uint64_t room = draw(t, sizeof copy);
	for (uint32_t row = 0; row < 40; row++) {
		uint32_t cursor = 0;
		mqshm_delivery d;
		int rc;
		while ((rc = mqshm_browse(h, row, &cursor, &d, copy, room)) == MQSHM_OK) {
			uint64_t texts = (uint64_t)d.id_size + d.headers_size + d.key_size;
			must(texts <= room, "more than there is room for");
			look_at(d.data, d.size < room - texts ? d.size : room - texts);
			look_at(d.id, d.id_size);
			look_at(d.headers, d.headers_size);
			look_at(d.key, d.key_size);
		}
		if (rc != MQSHM_EMPTY) saw(rc);
	}
}

static void do_fsck(struct tape *t)
{
	mqshm_fsck_report r;
	saw(mqshm_fsck(h, chance(t, 2), &r));
	must(memchr(r.first, 0, sizeof r.first), "the first finding has no end");
}

static void do_reap(struct tape *t)
{
	uint32_t dead;
	(void)t;
	saw(mqshm_reap(h, &dead));
}

static void do_tick(struct tape *t)
{
	(void)t;
	saw(mqshm_tick(h));
}

static void do_pass(struct tape *t) { world_pass(draw(t, 1000) * 1000000ull); }

static void do_configure(struct tape *t)
{
	mqshm_config c;
	if (saw(mqshm_config_get(h, &c)) != MQSHM_OK) return;
	c.message_ttl_ms = chance(t, 2) ? 0 : draw(t, 3000);
	c.max_memory_usage = chance(t, 2) ? 0 : 16u << 20;
	saw(mqshm_config_set(h, &c));
}

static void do_ring(struct tape *t)
{
	(void)t;
	saw(mqshm_ring_bell(h));
}

static const struct {
	const char *name;
	unsigned weight;
	void (*run)(struct tape *);
} verbs[] = {
	{"publish", 20, do_publish}, {"publish_batch", 4, do_publish_batch}, {"loan", 5, do_loan},       {"commit", 6, do_commit},
	{"receive", 20, do_receive}, {"receive_batch", 4, do_receive_batch}, {"flat", 3, do_receive_flat}, {"settle", 10, do_settle},
	{"find_held", 2, do_find_held}, {"wait", 3, do_wait},                {"purge", 2, do_purge},     {"subscribe", 4, do_subscribe},
	{"close", 2, do_close},      {"delete", 2, do_delete},               {"topic", 4, do_topic},     {"stats", 3, do_stats},
	{"browse", 3, do_browse},    {"fsck", 4, do_fsck},                   {"reap", 3, do_reap},       {"tick", 4, do_tick},
	{"time", 4, do_pass},        {"configure", 2, do_configure},         {"ring", 1, do_ring},
};

bool work_attach(struct tape *t)
{
	memset(has, 0, sizeof has);
	unsigned any = 0;
	for (unsigned i = 0; i < HANDLES; i++) {
		handles[i] = NULL;
		if ((i == 0 || chance(t, 2)) && saw(peer_join(i, &handles[i])) == MQSHM_OK) any++;
	}
	work_attached += any > 0;
	return any > 0;
}

void work(struct tape *t)
{
	unsigned sum_of = 0, i = 0;
	who = draw(t, HANDLES);
	if (!handles[who]) who = HANDLES - 1 - who;
	h = handles[who];
	mine = &has[who];
	for (unsigned k = 0; k < sizeof verbs / sizeof *verbs; k++) sum_of += verbs[k].weight;
	for (unsigned at = draw(t, sum_of); at >= verbs[i].weight; i++) at -= verbs[i].weight;
	world_verb = verbs[i].name;
	verbs[i].run(t);
}

void work_detach(struct tape *t)
{
	for (unsigned i = 0; i < HANDLES; i++) {
		if (!handles[i]) continue;
		if (chance(t, 4)) peer_dies(i, handles[i]);
		else mqshm_detach(handles[i]);
	}
}
