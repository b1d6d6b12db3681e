#include "ledger.h"

#include <stdio.h>

#include "flow/topic.h"
#include "memory.h"
#include "one_mapping.h"
#include "shm/block.h"
#include "shm/ring.h"
#include "shm/slab.h"
#include "shm/subs.h"

#define MESSAGES_MOST 160u
#define TAKES_MOST 512u
#define FOREVER UINT32_MAX

struct world world;
static struct world world_frozen;

enum publish_state { TRYING, IN, REFUSED };
struct message {
	unsigned producer, number;
	uint32_t size, invoked, returned;
	enum publish_state state;
	int rc;
};

enum fate { HELD, ENDING, GIVING, ENDED, GIVEN, LOST };
struct taken {
	uint32_t group, message, invoked, returned, settled, over; /* settling: when that was invoked, and had returned */
	unsigned consumer, attempt;
	enum fate fate;
	uint64_t word, leased_until_ms;
	uint32_t slot;
};
struct nothing {
	uint32_t group, invoked, returned;
};

static struct ledger {
	struct message messages[MESSAGES_MOST];
	struct taken takes[TAKES_MOST];
	struct nothing nothings[TAKES_MOST];
	uint32_t message_count, take_count, nothing_count;
} ledger, frozen;

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
	if (!g->cells) return;
	/* A ring as small as the slab comes round within a few messages. Nobody else has looked at it yet. */
	s->shm->cells = g->cells;
	s->mask = g->cells - 1;
	s->ring_shift = (uint32_t)__builtin_ctz(g->cells);
}

void world_begin(unsigned actors, const struct group *groups, uint32_t count, unsigned rules)
{
	mqshm_config config = {.default_buffer_size = 16, .enable_trie_pattern = 1};
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
	world = world_frozen;
}
void ledger_clear(void) { memset(&ledger, 0, sizeof ledger); }

/* ---- verbs ---- */

static const char *label(uint32_t message)
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
	if (rc != MQSHM_OK && rc != MQSHM_FULL && !(rc == MQSHM_NO_MEMORY && world.rules & MEMORY_FULL))
		fail("publish by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	return rc;
}

int put(unsigned number, uint32_t size)
{
	unsigned char data[4096];
	uint64_t seq;
	struct message *m = trying(data, number, size);
	return tried(m, mqshm_publish(world.handle[me()], world.topic[me()], data, size, NULL, &seq));
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
	uint64_t until_ms = clock_ms() + world.lease_ms;
	memset(d, 0, sizeof *d);
	int rc = mqshm_receive(world.sub[me()][group], d);
	if (ledger.take_count == TAKES_MOST || ledger.nothing_count == TAKES_MOST) fail("explore: too many receives");
	if (rc == MQSHM_EMPTY) ledger.nothings[ledger.nothing_count++] = (struct nothing){group, invoked, now()};
	else if (rc == MQSHM_OK)
		ledger.takes[ledger.take_count++] = (struct taken){.group = group, .message = recognise(d, group), .invoked = invoked, .returned = now(), .settled = FOREVER,
		                                                   .over = FOREVER, .consumer = me(), .attempt = d->attempt, .fate = HELD, .word = d->word, .slot = d->slot, .leased_until_ms = until_ms};
	else if (rc != MQSHM_CLOSED || world.expected >> group & 1) fail("receive by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	return rc;
}

static int settled(struct taken *t, int rc, enum fate fate)
{
	t->over = now();
	t->fate = rc == MQSHM_OK ? fate : LOST;
	if (rc != MQSHM_OK && rc != MQSHM_LEASE_LOST) fail("settling by %c: %d, %s", 'a' + me(), rc, mqshm_reason());
	if (rc != MQSHM_OK && !(world.rules & LEASES_END)) fail("%c lost its lease although leases do not end here", 'a' + me());
	if (rc != MQSHM_OK && clock_ms() < t->leased_until_ms) fail("%c lost its lease before its time", 'a' + me());
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
	if (!(world.rules & LEASES_END) && recognise(d, t->group) != t->message) fail("group %u: the payload of %s was changed under its receiver", t->group, label(t->message));
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

int give_back(mqshm_delivery *d, uint32_t delay_ms)
{
	struct taken *t = settle(d, GIVING);
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

/* ---- what must be true ---- */

static bool died_in(const struct taken *t) { return has_died(t->consumer) && t->fate != ENDED && t->fate != GIVEN && t->fate != LOST; }

static bool anybody_died(void)
{
	for (unsigned i = 0; i < ACTORS; i++)
		if (has_died(i)) return true;
	return false;
}

/* Of two deliveries of one message, the later needs a reason: the earlier one ended otherwise than by an ack. */
static void check_pair(const struct taken *first, const struct taken *second)
{
	const char *what = label(first->message);
	if (first->fate == ENDED) fail("group %u: %s was acknowledged and delivered again", first->group, what);
	if (first->fate == GIVEN && first->settled < second->returned) return;
	if (died_in(first) || world.rules & LEASES_END) return;
	fail("group %u: %s was delivered twice", first->group, what);
}

static bool taken_before(const struct taken *a, const struct taken *b)
{
	return a->attempt != b->attempt ? a->attempt < b->attempt : a->returned < b->returned;
}

static void check_takes(void)
{
	for (uint32_t i = 0; i < ledger.take_count; i++) {
		const struct taken *t = &ledger.takes[i];
		const struct message *m = &ledger.messages[t->message];
		if (m->state == REFUSED) fail("group %u: %s was refused and delivered", t->group, label(t->message));
		if (t->invoked > t->returned || t->returned < m->invoked) fail("group %u: %s was delivered before it was published", t->group, label(t->message));
		if (t->fate == HELD && !has_died(t->consumer)) fail("explore: %c did not settle %s", 'a' + t->consumer, label(t->message));
		for (uint32_t k = 0; k < ledger.take_count; k++) {
			const struct taken *o = &ledger.takes[k];
			if (k == i || o->group != t->group) continue;
			if (o->message == t->message) {
				if (o->attempt == t->attempt) fail("group %u: %s was delivered twice at once", t->group, label(t->message));
				if (taken_before(t, o)) check_pair(t, o);
				continue;
			}
			/* First deliveries of one producer's messages, as far as the receivers' calls tell their order. A message of
			 * which publish has not returned promises nothing. */
			const struct message *other = &ledger.messages[o->message];
			if (m->producer == other->producer && m->state == IN && other->state == IN && m->returned <= other->invoked && t->attempt == 1 && o->attempt == 1 &&
			    o->returned <= t->invoked)
				fail("group %u: %s came before %s", t->group, label(o->message), label(t->message));
		}
	}
}

static uint64_t dropped(uint32_t group)
{
	mqshm_sub_stats stats;
	return mqshm_sub_stats_get(world.handle[SURVIVOR], world.sub[SURVIVOR][group]->row, &stats) == MQSHM_OK ? stats.dropped : 0;
}

static bool is_over(uint32_t group, uint32_t message, bool *delivered)
{
	bool over = false;
	*delivered = false;
	for (uint32_t i = 0; i < ledger.take_count; i++) {
		const struct taken *t = &ledger.takes[i];
		if (t->group != group || t->message != message) continue;
		*delivered = true;
		over |= t->fate == ENDED || (t->fate == ENDING && died_in(t));
	}
	return over;
}

static void check_messages(void)
{
	for (uint32_t g = 0; g < world.groups; g++) {
		uint64_t missing = 0, drops = world.rules & DROPS ? dropped(g) : 0;
		if (!(world.expected >> g & 1)) continue;
		for (uint32_t i = 0; i < ledger.message_count; i++) {
			bool delivered, first_delivered, over = is_over(g, i, &delivered);
			if (ledger.messages[i].state == IN && !over) {
				if (!(world.rules & DROPS)) fail("group %u: %s was published and is lost", g, label(i));
				missing++;
			}
			if (ledger.messages[i].state != TRYING || world.rules & DROPS) continue;
			is_over(0, i, &first_delivered);
			if (world.expected & 1 && delivered != first_delivered)
				fail("%s went to group %u and not to group %u", label(i), delivered ? g : 0, delivered ? 0 : g);
		}
		if (missing != drops && !anybody_died()) fail("group %u: %llu messages are missing, %llu were dropped", g, (unsigned long long)missing, (unsigned long long)drops);
	}
}

/* A receive found nothing: then no message waited in a ring from before it began until after it had returned. */
static void check_nothings(void)
{
	for (uint32_t i = 0; i < ledger.nothing_count; i++) {
		const struct nothing *n = &ledger.nothings[i];
		for (uint32_t k = 0; k < ledger.message_count; k++) {
			uint32_t first = FOREVER;
			if (ledger.messages[k].state != IN || ledger.messages[k].returned > n->invoked || world.rules & DROPS) continue;
			if (!(world.expected >> n->group & 1)) continue;
			for (uint32_t j = 0; j < ledger.take_count; j++) {
				const struct taken *t = &ledger.takes[j];
				if (t->group == n->group && t->message == k && t->invoked < first) first = t->invoked;
			}
			/* One who died while taking it never wrote that down. */
			if (first >= n->returned && first != FOREVER && !anybody_died()) fail("group %u: a receive found nothing while %s waited", n->group, label(k));
		}
	}
}

/* "Full": then at least so many messages as there are slots had been begun and were not yet ended. */
static void check_refusals(void)
{
	for (uint32_t i = 0; i < ledger.message_count; i++) {
		const struct message *m = &ledger.messages[i];
		uint64_t room = m->rc == MQSHM_NO_MEMORY ? world.blocks : world.capacity[0];
		if (m->state != REFUSED || world.groups != 1 || !room || anybody_died()) continue;
		uint64_t most = 0;
		for (uint32_t k = 0; k < ledger.message_count; k++) {
			bool delivered;
			uint32_t ended = FOREVER;
			for (uint32_t j = 0; j < ledger.take_count; j++)
				if (ledger.takes[j].message == k && ledger.takes[j].fate == ENDED) ended = ledger.takes[j].over;
			(void)is_over(0, k, &delivered);
			if (k != i && ledger.messages[k].invoked < m->returned && ended >= m->invoked &&
			    !(ledger.messages[k].state == REFUSED && ledger.messages[k].returned < m->invoked)) most++;
		}
		if (most < room) fail("%s was refused with %d, although only %llu of %llu places were taken", label(i), m->rc, (unsigned long long)most, (unsigned long long)room);
	}
}

/* ---- the survivor ---- */

static void check_clean(const char *when, bool empty)
{
	mqshm_fsck_report r;
	if (mqshm_fsck(world.handle[SURVIVOR], 0, &r) != MQSHM_OK) fail("fsck: %s", mqshm_reason());
	if (r.bad_words || r.dead_owned || r.lost_blocks || r.lost_slots || r.unhinted || r.stale_tombs)
		fail("fsck %s: %s", when, r.first);
	if (empty && (r.slots_used || r.blocks_used))
		fail("%s %llu slots and %llu blocks are in use", when, (unsigned long long)r.slots_used, (unsigned long long)r.blocks_used);
}

/* Not a deleted group; but whoever was to delete it may have died first. */
static bool is_open(uint32_t group)
{
	const struct mqshm_sub *s = world.sub[SURVIVOR][group];
	return s->shm->word == s->word;
}

/* By an actor that is still there: what it does not see any more, where it has come to, is lost to it. */
static void drain(unsigned by)
{
	act_as(by);
	for (uint32_t g = 0; g < world.groups; g++) {
		mqshm_delivery d;
		while (is_open(g) && take(g, &d) == MQSHM_OK) finish(&d);
	}
}

/* Every FREE slot is where an allocator will look: in somebody's own place, or under a hint. */
static void check_free_hints(void)
{
	for (uint32_t g = 0; g < world.groups; g++) {
		const struct mqshm_sub *s = world.sub[SURVIVOR][g];
		for (uint32_t i = 0; is_open(g) && i < s->shm->slots_ready; i++) {
			bool found = s->free_hints[i / MQI_GROUP / 64] >> i / MQI_GROUP % 64 & 1;
			for (unsigned a = 0; a <= ACTORS && !found; a++)
				found = world.sub[a][g] && i >= world.sub[a][g]->next_slot && i < world.sub[a][g]->end_slot;
			if (!found && mqi_slot_state(s->slots[i].word) == SLOT_FREE) fail("group %u: slot %u is free and nobody will look there", g, i);
		}
	}
}

static unsigned last_alive(void)
{
	for (unsigned i = ACTORS; i-- > 0;)
		if (world.handle[i] && !has_died(i)) return i;
	return SURVIVOR;
}

static void check_still_works(void)
{
	uint32_t most = FOREVER;
	for (uint32_t g = 0; g < world.groups; g++)
		if (is_open(g) && world.capacity[g] < most) most = world.capacity[g];
	if (most > 8) most = 8;
	if (world.rules & MEMORY_FULL) most = 1;
	for (uint32_t i = 0; i < most; i++) {
		int rc = put(100 + i, i & 1 ? LARGE : SMALL);
		if (rc != MQSHM_OK) fail("afterwards message %u of %u is refused: %d, %s", i + 1, most, rc, mqshm_reason());
	}
	drain(SURVIVOR);
}

void ledger_check(void)
{
	bool died = anybody_died();
	if (died) {
		reap();
		for (unsigned i = 0; i < 2; i++) mqshm_tick(world.handle[SURVIVOR]);
	}
	check_clean("at rest", false);
	if (!died) check_free_hints();
	clock_advance(100000);
	drain(last_alive());
	act_as(SURVIVOR);
	check_clean("when all is drained,", true);
	check_still_works();
	check_clean("in the end", true);
	check_takes();
	check_messages();
	if (!(world.rules & LEASES_END)) check_nothings();
	check_refusals();
}
