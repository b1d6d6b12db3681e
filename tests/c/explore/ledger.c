#include "records.h"

#include <stdio.h>

#include "flow/topic.h"
#include "memory.h"
#include "one_mapping.h"
#include "shm/block.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"

struct world world;
struct ledger ledger;
static struct world world_frozen;
static struct ledger frozen;

/* ---- setting up ---- */

static void must(int rc, const char *what)
{
	if (rc != MQSHM_OK) fail("%s: %d, %s", what, rc, mqshm_reason());
}

static void make_group(uint32_t i, const struct group *g)
{
	char name[8];
	const char *pattern = TOPIC;
	uint32_t size = 1;
	mqshm_sub_options o = {
		.name = name, .name_size = (uint32_t)snprintf(name, sizeof name, "g%u", i), .patterns = &pattern, .pattern_sizes = &size,
		.pattern_count = 1, .capacity = g->capacity, .ack = g->ack, .overflow = g->overflow, .ack_timeout_ms = g->ack_ms,
	};
	mqshm_sub_t *s;
	must(mqshm_sub_create(world.handle[SURVIVOR], &o, &s), "a group");
	world.sub[SURVIVOR][i] = s;
	world.capacity[i] = g->capacity;
	world.lease_ms = g->ack_ms;
	world.overflow = g->overflow;
	if (!g->cells) return;
	/* A ring as small as the slab comes round within a few messages. Nobody else has looked at it yet. */
	s->shm->cells = g->cells;
	s->mask = g->cells - 1;
	s->ring_shift = (uint32_t)__builtin_ctz(g->cells);
}

void world_begin(unsigned actors, const struct group *groups, uint32_t count, unsigned rules)
{
	mqshm_config config = {.default_buffer_size = 16, .enable_trie_pattern = 1, .enable_metrics = 1};
	memset(&world, 0, sizeof world);
	world.rules = rules;
	world.groups = count;
	world.expected = (uint32_t)((1ull << count) - 1);
	world.fd = memory_begin(&config);
	if (world.fd < 0) fail("a segment: %s", mqshm_reason());
	must(mqt_attach(world.fd, SURVIVOR, &world.handle[SURVIVOR]), "attaching");
	for (unsigned i = 0; i < actors; i++) must(mqt_attach(world.fd, i, &world.handle[i]), "attaching");
	for (uint32_t i = 0; i < count; i++) make_group(i, &groups[i]);
	must(mqshm_topic_open(world.handle[SURVIVOR], TOPIC, 1, &world.topic[SURVIVOR]), "a topic");
}

void world_open(unsigned actors)
{
	char name[8];
	for (unsigned a = 0; a < actors; a++) {
		for (uint32_t i = 0; i < world.groups; i++)
			must(mqshm_sub_open(world.handle[a], name, (uint32_t)snprintf(name, sizeof name, "g%u", i), &world.sub[a][i]), "opening");
		must(mqshm_topic_open(world.handle[a], TOPIC, 1, &world.topic[a]), "a topic");
		must(mqi_topic_current(world.handle[a], world.topic[a]), "matching");
	}
}

void world_once(uint64_t window_ms)
{
	mqshm_config config;
	must(mqshm_config_get(world.handle[SURVIVOR], &config), "the configuration");
	config.dedup_window_ms = window_ms;
	must(mqshm_config_set(world.handle[SURVIVOR], &config), "the configuration");
	for (unsigned i = 0; i <= ACTORS; i++)
		if (world.handle[i]) mqi_config_look(world.handle[i]);
}

void world_limit(uint64_t more_pages)
{
	mqshm_config config;
	uint64_t used;
	must(mqshm_memory_used(world.handle[SURVIVOR], &used), "memory");
	must(mqshm_config_get(world.handle[SURVIVOR], &config), "the configuration");
	config.max_memory_usage = used + more_pages * MQI_PAGE;
	must(mqshm_config_set(world.handle[SURVIVOR], &config), "the configuration");
}

void world_age(uint32_t count, uint32_t size)
{
	unsigned char data[4096] = {0};
	uint64_t seq;
	for (uint32_t i = 0; i < count; i++) {
		mqshm_delivery d;
		must(mqshm_publish(world.handle[SURVIVOR], world.topic[SURVIVOR], data, size, NULL, &seq), "aging");
		for (uint32_t g = 0; g < world.groups; g++) {
			must(mqshm_receive(world.sub[SURVIVOR][g], &d), "aging");
			must(mqshm_ack(&d), "aging");
		}
	}
}

void world_freeze(void)
{
	frozen = ledger;
	world_frozen = world;
	memory_freeze();
}

void ledger_restore(void)
{
	memcpy(ledger.messages, frozen.messages, frozen.message_count * sizeof *frozen.messages);
	memcpy(ledger.takes, frozen.takes, frozen.take_count * sizeof *frozen.takes);
	ledger.message_count = frozen.message_count;
	ledger.take_count = frozen.take_count;
	ledger.nothing_count = frozen.nothing_count;
	ledger.commit_count = 0;
	world = world_frozen;
}
void ledger_clear(void) { memset(&ledger, 0, sizeof ledger); }

/* ---- verbs ---- */

const char *label(uint32_t message)
{
	static char text[2][32];
	static unsigned which;
	which ^= 1;
	snprintf(text[which], sizeof text[which], "%c%u", 'a' + ledger.messages[message].producer, ledger.messages[message].number);
	return text[which];
}

static void fill(unsigned char *data, unsigned producer, unsigned number, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) data[i] = (unsigned char)(producer * 31 + number * 7 + i * i);
	data[0] = (unsigned char)producer;
	data[1] = (unsigned char)number;
}

static struct message *trying(unsigned char *data, unsigned number, uint32_t size)
{
	if (ledger.message_count == MESSAGES_MOST) fail("explore: too many messages");
	struct message *m = &ledger.messages[ledger.message_count++];
	*m = (struct message){.producer = me(), .number = number, .size = size, .invoked = now(), .returned = FOREVER, .state = TRYING};
	fill(data, me(), number, size);
	return m;
}

static int tried(struct message *m, int rc)
{
	m->rc = rc;
	m->returned = now();
	m->state = rc == MQSHM_OK ? IN : REFUSED;
	if (rc == MQSHM_DUPLICATE && m->once) return rc;
	if (rc != MQSHM_OK && rc != MQSHM_FULL && !(rc == MQSHM_NO_MEMORY && world.rules & MEMORY_FULL))
		fail("publish by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	return rc;
}

int put_for(unsigned number, uint32_t size, uint64_t ms)
{
	unsigned char data[4096];
	uint64_t seq;
	struct message *m = trying(data, number, size);
	mqshm_envelope e = {.ring = 2, .expires_ns = (clock_ms() + ms) * 1000000};
	if (ms) m->over_ms = clock_ms() + ms;
	return tried(m, mqshm_publish(world.handle[me()], world.topic[me()], data, size, ms ? &e : NULL, &seq));
}

int put(unsigned number, uint32_t size) { return put_for(number, size, 0); }

static mqshm_envelope with_id(struct message *m)
{
	m->once = true;
	return (mqshm_envelope){.ring = 2, .unique = 1, .id = &m->number, .id_size = 1};
}

int put_once(unsigned number, uint32_t size)
{
	unsigned char data[4096];
	uint64_t seq;
	struct message *m = trying(data, number, size);
	mqshm_envelope e = with_id(m);
	return tried(m, mqshm_publish(world.handle[me()], world.topic[me()], data, size, &e, &seq));
}

void put_both(unsigned first, uint32_t size)
{
	unsigned char data[2][LARGE];
	struct message *m[2] = {trying(data[0], first, size), trying(data[1], first + 1, size)};
	uint64_t sizes[2] = {size, size}, seqs[2];
	uint32_t done;
	int rc = mqshm_publish_batch(world.handle[me()], world.topic[me()], 2, (const void *const[]){data[0], data[1]}, sizes, NULL, seqs, &done);
	for (uint32_t i = 0; i < 2; i++) tried(m[i], i < done ? MQSHM_OK : rc);
}

static uint32_t recognise(const mqshm_delivery *d, uint32_t group)
{
	unsigned char data[4096];
	if (d->size < SMALL || d->size > sizeof data) fail("group %u: a message of %llu bytes", group, (unsigned long long)d->size);
	for (uint32_t i = 0; i < ledger.message_count; i++) {
		const struct message *m = &ledger.messages[i];
		if (m->producer != d->data[0] || m->number != d->data[1] || m->size != d->size) continue;
		fill(data, m->producer, m->number, m->size);
		if (memcmp(data, d->data, d->size) == 0) return i;
	}
	fail("group %u: slot %u carries bytes that nobody published: %02x %02x", group, d->slot, d->data[0], d->data[1]);
}

/* What was given back for later does not come earlier. */
static void check_delay(const struct taken *t)
{
	for (uint32_t i = 0; i < ledger.take_count; i++) {
		const struct taken *o = &ledger.takes[i];
		if (o->group == t->group && o->message == t->message && o->fate == GIVEN && o->attempt + 1 == t->attempt && o->not_before_ms > clock_ms())
			fail("group %u: %s came %llu ms before its delay was over", t->group, label(t->message), (unsigned long long)(o->not_before_ms - clock_ms()));
	}
}

static struct taken *entry_of(const mqshm_delivery *d)
{
	for (uint32_t i = ledger.take_count; i-- > 0;) {
		struct taken *t = &ledger.takes[i];
		if (world.sub[t->consumer][t->group] == d->sub && t->slot == d->slot && (t->word == d->word || t->fate == ENDING)) return t;
	}
	fail("explore: a delivery that nobody took");
}

int take(uint32_t group, mqshm_delivery *d)
{
	uint32_t invoked = now();
	uint64_t begun_ms = clock_ms(), until_ms = begun_ms + world.lease_ms;
	memset(d, 0, sizeof *d);
	int rc = mqshm_receive(world.sub[me()][group], d);
	if (ledger.take_count == TAKES_MOST || ledger.nothing_count == TAKES_MOST) fail("explore: too many receives");
	if (rc == MQSHM_EMPTY) ledger.nothings[ledger.nothing_count++] = (struct nothing){group, invoked, now()};
	else if (rc == MQSHM_OK)
		ledger.takes[ledger.take_count++] = (struct taken){.group = group, .message = recognise(d, group), .slot = d->slot, .word = d->word,
		                                                   .invoked = invoked, .returned = now(), .settled = FOREVER,
		                                                   .over = FOREVER, .leased_until_ms = until_ms, .consumer = me(), .attempt = d->attempt, .fate = HELD};
	if (rc == MQSHM_OK) {
		const struct message *m = &ledger.messages[ledger.takes[ledger.take_count - 1].message];
		check_delay(&ledger.takes[ledger.take_count - 1]);
		if (m->over_ms && m->over_ms <= begun_ms) fail("group %u: %s was delivered after its time", group, label(ledger.takes[ledger.take_count - 1].message));
	} else if (rc != MQSHM_EMPTY && (rc != MQSHM_CLOSED || world.expected >> group & 1)) fail("receive by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	return rc;
}

static int settled(struct taken *t, int rc, enum fate fate)
{
	t->over = now();
	t->fate = rc == MQSHM_OK ? fate : LOST;
	if (rc != MQSHM_OK && rc != MQSHM_LEASE_LOST) fail("settling by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	if (rc != MQSHM_OK && !(world.rules & LEASES_END)) fail("%c lost its lease although leases do not end here", 'a' + me());
	if (rc != MQSHM_OK && fate == ENDED && clock_ms() < t->leased_until_ms) fail("%c lost its lease before its time", 'a' + me());
	return rc;
}

static struct taken *settle(const mqshm_delivery *d, enum fate fate)
{
	struct taken *t = entry_of(d);
	t->fate = fate;
	t->settled = now();
	return t;
}

/* What is leased stays as it is, whatever others do meanwhile. */
static void still_intact(const mqshm_delivery *d)
{
	const struct taken *t = entry_of(d);
	if (!(world.rules & LEASES_END) && recognise(d, t->group) != t->message)
		fail("group %u: the payload of %s was changed under its receiver", t->group, label(t->message));
}

int finish(mqshm_delivery *d)
{
	still_intact(d);
	struct taken *t = settle(d, ENDING);
	return settled(t, mqshm_ack(d), ENDED);
}

int finish_held(mqshm_delivery *d)
{
	uint32_t message = entry_of(d)->message, group = entry_of(d)->group;
	struct taken *t = settle(d, ENDING);
	int rc = settled(t, mqshm_ack_hold(d), ENDED);
	pause_here();
	if (rc == MQSHM_OK && recognise(d, group) != message) fail("group %u: the payload of %s was changed while it was held", group, label(message));
	return rc == MQSHM_OK ? mqshm_release(d) : rc;
}

static int commit_as(unsigned number, uint32_t size, mqshm_delivery *d, bool once)
{
	unsigned char data[4096];
	uint64_t seq;
	uint32_t failed;
	still_intact(d);
	struct message *m = trying(data, number, size);
	struct taken *t = settle(d, ENDING);
	ledger.commits[ledger.commit_count++] = (struct committed){(uint32_t)(m - ledger.messages), (uint32_t)(t - ledger.takes)};
	mqshm_envelope e = once ? with_id(m) : (mqshm_envelope){.ring = 2};
	mqshm_part part = {world.topic[me()], data, size, &e};
	int rc = mqshm_commit(world.handle[me()], &part, 1, &d, NULL, 1, &seq, &failed);
	m->rc = rc;
	m->returned = now();
	m->state = rc == MQSHM_OK ? IN : REFUSED;
	if (rc == MQSHM_OK || rc == MQSHM_LEASE_LOST) return settled(t, rc, ENDED);
	if (rc != MQSHM_FULL && !(once && rc == MQSHM_DUPLICATE)) fail("commit by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	t->fate = HELD;
	t->word = d->word;
	give_back(d, 0);
	return rc;
}

int commit(unsigned number, uint32_t size, mqshm_delivery *d) { return commit_as(number, size, d, false); }
int commit_once(unsigned number, uint32_t size, mqshm_delivery *d) { return commit_as(number, size, d, true); }

int give_back(mqshm_delivery *d, uint32_t delay_ms)
{
	struct taken *t = settle(d, GIVING);
	t->not_before_ms = clock_ms() + delay_ms;
	return settled(t, mqshm_nack(d, delay_ms), GIVEN);
}

int extend(mqshm_delivery *d, uint64_t ms)
{
	struct taken *t = entry_of(d);
	uint64_t until_ms = clock_ms() + ms;
	int rc = mqshm_extend(d, ms);
	t->word = d->word;
	if (rc == MQSHM_OK) t->leased_until_ms = until_ms;
	return rc;
}

void reap(void)
{
	uint32_t dead;
	int rc = mqshm_reap(world.handle[me()], &dead);
	if (rc != MQSHM_OK) fail("reap: %d, %s", rc, mqshm_reason());
}

void consume(uint32_t group, unsigned n, unsigned looks)
{
	mqshm_delivery d;
	for (unsigned got = 0; looks > 0 && got < n; looks--) {
		if (take(group, &d) == MQSHM_OK) {
			finish(&d);
			got++;
		} else if (looks > 1) pause_here();
	}
}
