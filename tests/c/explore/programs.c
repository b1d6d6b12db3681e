/* What is explored. Each program is a few actors with a handful of operations; small capacities, and rings that come
 * round within the program. What must be true afterwards is in ledger.c, for all alike. */
#include "programs.h"

#include "flow/due.h"
#include "flow/expire.h"
#include "flow/publish.h"
#include "kernel.h"
#include "ledger.h"
#include "memory.h"
#include "one_mapping.h"
#include "shm/area.h"
#include "shm/block.h"
#include "shm/reach.h"
#include "shm/trim.h"
#include "shm/units.h"

#define FAR 100000u /* ms */
#define VICTIM 20u  /* a process that is dead before the program begins. Its number is the first that who comes next can have */

static mqshm_delivery held[ACTORS];

static void hold(unsigned actor, uint32_t group)
{
	act_as(actor);
	if (take(group, &held[actor]) != MQSHM_OK) fail("nothing to hold");
	act_as(SURVIVOR);
}

static void prepared(unsigned actors, const struct group *groups, uint32_t count, unsigned rules, uint32_t age)
{
	world_begin(actors, groups, count, rules);
	world_open(actors); /* before: so that the actors' cursors are behind */
	world_age(age, SMALL);
}

/* ---- publishing and receiving ---- */

static void put_two_small(void) { put(0, SMALL), put(1, SMALL); }
static void put_small(void) { put(0, SMALL); }
static void put_large(void) { put(0, LARGE); }
static void put_small_and_large(void) { put(0, SMALL), put(1, LARGE); }
static void consume_at_once(void) { consume(0, 1, 1); }
static void consume_one(void) { consume(0, 1, 2); }
static void consume_two(void) { consume(0, 2, 3); }
static void consume_four(void) { consume(0, 4, 5); }
static void reap_then_put(void) { reap(), put(0, SMALL); }

static void small_ring(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_REJECT}, 1, 0, 5);
}
static void ring_of_four(void)
{
	prepared(4, &(struct group){.capacity = 4, .cells = 4, .overflow = MQSHM_REJECT}, 1, 0, 7);
}
static void full(void)
{
	prepared(2, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_REJECT}, 1, 0, 2);
	put(0, SMALL);
	put(1, LARGE);
}
static void one_slot(void)
{
	prepared(3, &(struct group){.capacity = 1, .cells = 2, .overflow = MQSHM_REJECT}, 1, 0, 3);
}

/* ---- several receivers ---- */

static void two_groups(void)
{
	prepared(3, (struct group[]){{.capacity = 3, .cells = 4}, {.capacity = 2, .cells = 2}}, 2, 0, 3);
}
static void consume_from_both(void) { consume(0, 2, 3), consume(1, 2, 3); }
static void consume_first(void) { consume(0, 1, 2); }

/* The last shares of a payload with 25 receivers, which stand in two words behind it. */
static void wide(void)
{
	struct group groups[25];
	for (unsigned i = 0; i < 25; i++) groups[i] = (struct group){.capacity = 2, .cells = 2};
	world_begin(3, groups, 25, 0);
	world_open(3);
	put(0, SMALL);
	for (uint32_t g = 0; g < 25; g++)
		if (g != 3 && g != 24) consume(g, 1, 1);
	hold(0, 3);
	hold(1, 24);
}
static void finish_mine(void)
{
	mqshm_delivery d = held[me()];
	finish(&d);
}
static void finish_mine_held(void)
{
	mqshm_delivery d = held[me()];
	finish_held(&d);
}
/* Fills a block that it should not get while others look at it. */
static void scribble(void)
{
	mqshm_loan loan;
	if (mqshm_loan_take(world.handle[me()], 40, 0, &loan) != MQSHM_OK) fail("a loan: %s", mqshm_reason());
	memset(loan.data, 0xee, loan.size);
	mqshm_loan_return(world.handle[me()], &loan);
}
static void reap_and_consume(void) { reap(), consume(0, 2, 2); }
static void reap_and_finish_mine(void) { reap(), finish_mine(), put(0, LARGE); }

/* A payload with two receivers, both in hand. */
static void two_hold(void)
{
	two_groups();
	put(0, LARGE);
	hold(0, 0);
	hold(1, 1);
}

/* ---- giving back, and leases that end ---- */

static void one_waits(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2}, 1, 0, 1);
	put(0, SMALL);
}
static void take_and_give_back(void)
{
	mqshm_delivery d;
	if (take(0, &d) == MQSHM_OK) give_back(&d, 0);
}
static void two_again(void)
{
	prepared(3, &(struct group){.capacity = 3, .cells = 4}, 1, 0, 1);
	for (unsigned i = 0; i < 3; i++) put(i, i == 1 ? LARGE : SMALL);
	for (unsigned i = 0; i < 3; i++) hold(i, 0);
	for (unsigned i = 0; i < 2; i++) {
		act_as(i);
		give_back(&held[i], 0);
		act_as(SURVIVOR);
	}
}
static void give_mine_back(void)
{
	mqshm_delivery d = held[me()];
	give_back(&d, 0);
}

static void leased_with_room_for(uint32_t capacity)
{
	world_begin(3, &(struct group){.capacity = capacity, .cells = capacity, .ack = MQSHM_ACK_TIMEOUT, .ack_ms = 10}, 1, LEASES_END);
	world_open(3);
	world_age(1, SMALL);
	put(0, SMALL);
	put(1, LARGE);
	hold(0, 0);
}
static void leased(void) { leased_with_room_for(2); }
/* Their times are of leases that were settled. */
static void used_slots(void)
{
	world_begin(3, &(struct group){.capacity = 2, .cells = 2, .ack = MQSHM_ACK_TIMEOUT, .ack_ms = 10}, 1, LEASES_END);
	world_open(3);
	world_age(2, SMALL);
	clock_advance(6);
	put(0, SMALL);
}
static void few_ms_pass(void)
{
	clock_advance(5);
	mqshm_tick(world.handle[me()]);
}
static void take_and_finish(void)
{
	mqshm_delivery d;
	if (take(0, &d) == MQSHM_OK) finish(&d);
}
static void time_passes(void)
{
	clock_advance(11);
	mqshm_tick(world.handle[me()]);
}
static void time_passes_and_ticks_go_on(void)
{
	time_passes();
	pause_here();
	mqshm_tick(world.handle[me()]);
}
static void extend_and_finish(void)
{
	mqshm_delivery d = held[me()];
	if (extend(&d, FAR) == MQSHM_OK) {
		clock_advance(20);
		mqshm_tick(world.handle[me()]);
		if (!mqshm_delivery_held(&d)) fail("an extended lease has ended");
	}
	finish(&d);
}
static void take_and_give_back_for_later(void)
{
	mqshm_delivery d;
	for (unsigned looks = 0; looks < 3; looks++)
		if (take(0, &d) == MQSHM_OK) give_back(&d, 5);
		else pause_here();
}
static void give_back_for_later(void)
{
	mqshm_delivery d = held[me()];
	give_back(&d, 5);
}

/* ---- as one ---- */

static void two_to_commit(void)
{
	prepared(3, &(struct group){.capacity = 4, .cells = 4}, 1, 0, 1);
	put(0, SMALL);
	put(1, LARGE);
	hold(0, 0);
	hold(1, 0);
}
static void commit_mine(void)
{
	mqshm_delivery d = held[me()];
	commit(0, me() ? SMALL : LARGE, &d);
}
static void commit_twice(void)
{
	mqshm_delivery d;
	commit_mine();
	for (unsigned looks = 0; looks < 2; looks++)
		if (take(0, &d) == MQSHM_OK) {
			commit(1, LARGE, &d);
			return;
		}
}
static void reap_and_commit_mine(void) { reap(), commit_mine(), reap(); }

static void leased_to_commit(void)
{
	leased_with_room_for(4);
}

/* ---- ids that are published once ---- */

#define WINDOW 10u /* ms */
static void remembering(uint64_t window_ms)
{
	prepared(3, (struct group[]){{.capacity = 6, .cells = 8}, {.capacity = 6, .cells = 8}}, 2, 0, 1);
	world_once(window_ms);
	put_once(7, SMALL); /* memory for the table */
	put_once(8, SMALL); /* which turns: it was the first ever */
}
static void ids(void) { remembering(FAR); }
static void ids_to_commit(void)
{
	ids();
	put(1, LARGE);
	for (unsigned i = 0; i < 2; i++) hold(i, 0);
	act_as(SURVIVOR);
}
static void ids_to_turn(void)
{
	remembering(WINDOW);
	clock_advance(WINDOW + 1);
}
static void put_small_once(void) { put_once(0, SMALL); }
static void put_large_once(void) { put_once(0, LARGE); }
static void reap_and_put_once(void) { reap(), put_once(0, SMALL), reap(); }
static void commit_mine_once(void)
{
	mqshm_delivery d = held[me()];
	commit_once(0, SMALL, &d);
}

/* ---- messages that are over ---- */

/* In the order of their ends, and then nothing else. */
static void two_for_a_while(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_REJECT}, 1, EXPIRES, 3);
	put_for(0, SMALL, 10);
	put_for(1, LARGE, 10);
}
/* One that is over first stands between two that are not. */
static void middle_for_a_while(void)
{
	prepared(3, &(struct group){.capacity = 3, .cells = 4, .overflow = MQSHM_REJECT}, 1, EXPIRES, 6);
	put(0, SMALL);
	put_for(1, LARGE, 10);
	put(2, SMALL);
}
/* As many cells as slots: what may be put depends on what the tomb keeps. */
static void middle_of_a_small_ring(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_REJECT}, 1, EXPIRES, 3);
	put(0, SMALL);
	put_for(1, LARGE, 10);
}
static void again_for_a_while(void)
{
	world_begin(3, &(struct group){.capacity = 2, .cells = 2, .ack = MQSHM_ACK_TIMEOUT, .ack_ms = FAR}, 1, EXPIRES | LEASES_END);
	world_open(3);
	put_for(0, SMALL, 10);
	put_for(1, LARGE, 10);
	hold(0, 0);
	hold(1, 0);
	act_as(1);
	give_back(&held[1], 0);
	act_as(SURVIVOR);
}
static void fire(void)
{
	struct mqshm_sub *s = world.sub[me()][0];
	mqi_enter(world.handle[me()]);
	mqi_due_fire(s, mqi_boot_ms());
	mqi_leave(world.handle[me()]);
}
static void one_held_one_due(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2}, 1, 0, 1);
	for (unsigned i = 0; i < 2; i++) put(i, SMALL), hold(i, 0);
	act_as(1);
	give_back(&held[1], 2);
	act_as(SURVIVOR);
}
static void time_passes_and_fires(void) { clock_advance(11), fire(); }
static void put_two(void) { put(3, SMALL), put(4, SMALL); }
static void put_for_a_while_and_one(void) { put_for(5, SMALL, 5), put(6, LARGE); }
static void take_and_give_back_twice(void)
{
	mqshm_delivery d;
	for (unsigned i = 0; i < 2; i++)
		if (take(0, &d) == MQSHM_OK) give_back(&d, i * 3);
}
/* It is over before it would come again. */
static void give_mine_back_for_long(void)
{
	mqshm_delivery d = held[me()];
	give_back(&d, 50);
}

/* Nobody receives: what is over has gone, and its memory back, once the time was fired. */
static void check_room(void)
{
	bool died = false;
	for (unsigned i = 0; i < ACTORS; i++) died |= has_died(i);
	clock_advance(20);
	if (died) {
		reap();
		mqshm_tick(world.handle[SURVIVOR]);
	} else fire();
	struct mqshm_sub *s = world.sub[SURVIVOR][0];
	for (uint32_t i = 0; i < s->shm->slots_ready; i++) {
		uint64_t w = s->slots[i].word, over = mqi_slot_state(w) == SLOT_FREE || mqi_slot_state(w) == SLOT_TOMB ? 0 : mqi_expiry(s, i, w);
		if (over && over <= mqi_wall_ns()) fail("slot %u keeps a message that is over", i);
		if (mqi_slot_state(w) == SLOT_TOMB && world.capacity[0] == 2) fail("slot %u is a tomb although nothing waits before it", i);
	}
	ledger_check();
}

/* One died while it took out the first message, the payload's share given back, or not. */
static void expirer_is_dead(void)
{
	mqshm_t *victim;
	mqshm_sub_t *s;
	two_for_a_while();
	int rc = mqt_attach(world.fd, VICTIM, &victim);
	if (rc == MQSHM_OK) rc = mqshm_sub_open(victim, "g0", 2, &s);
	if (rc != MQSHM_OK) fail("a victim: %s", mqshm_reason());
	uint32_t first = 0;
	while (mqi_slot_state(s->slots[first].word) != SLOT_OFFER) first++;
	mqi_touch(s);
	mqi_store_rlx(&s->slots[first].word, mqi_slot_word(SLOT_EXPIRING, victim->peer, mqi_slot_gen(s->slots[first].word) + 1, 0));
	mqt_die(VICTIM, true);
}
static void reap_and_fire(void) { reap(), clock_advance(11), fire(); }

/* ---- watching ---- */

static void watch_until_quiet(void)
{
	int rc = MQSHM_OK;
	for (unsigned rounds = 0; rounds < 6 && rc == MQSHM_OK; rounds++) rc = mqshm_watch(world.handle[me()], 45000000);
	if (rc != MQSHM_OK && rc != MQSHM_TIMEOUT) fail("watching: %d, %s", rc, mqshm_reason());
}
/* A delay that was just fired, by who did so in time. */
static void fired_at_most_late(const void *word, uint64_t late_ms)
{
	const struct mqshm_sub *s = world.sub[SURVIVOR][0];
	for (uint32_t i = 0; i < s->capacity; i++) {
		uint64_t w = s->slots[i].word, time = s->times[i];
		if (word != &s->slots[i].word || mqi_slot_state(w) != SLOT_AGAIN || mqi_lease_tag(time) + 1 != mqi_slot_gen(w)) continue;
		if (mqi_lease_ms(time) + late_ms < clock_ms())
			fail("%c slept %llu ms past the time of slot %u", 'a' + me(), (unsigned long long)(clock_ms() - mqi_lease_ms(time)), i);
	}
}
static void fired_in_time(const void *word) { fired_at_most_late(word, 2); }
/* One of two watchers may not be rung, and sleeps for a nap. */
static void fired_within_a_nap(const void *word) { fired_at_most_late(word, 55); }
static void one_held(void)
{
	prepared(3, &(struct group){.capacity = 3, .cells = 4}, 1, 0, 1);
	put(0, SMALL);
	hold(2, 0);
}
static void two_held(void)
{
	prepared(3, &(struct group){.capacity = 3, .cells = 4}, 1, 0, 1);
	put(0, SMALL);
	put(1, LARGE);
	hold(1, 0);
	hold(2, 0);
}
static void give_mine_back_for_later(void)
{
	mqshm_delivery d = held[me()];
	give_back(&d, me() == 1 ? 9 : 5);
}

/* ---- dropping, purging, closing ---- */

static void full_and_dropping(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_DROP_OLDEST}, 1, DROPS, 1);
	put(0, SMALL);
	put(1, LARGE);
}
static void purge(void)
{
	uint64_t purged;
	if (mqshm_purge(world.sub[me()][0], &purged) != MQSHM_OK) fail("purge: %s", mqshm_reason());
}
static void purgeable(void)
{
	prepared(3, &(struct group){.capacity = 3, .cells = 4}, 1, DROPS, 2);
	put(0, SMALL);
	put(1, LARGE);
	hold(2, 0);
	act_as(2);
	give_back(&held[2], 0);
	act_as(SURVIVOR);
}

static void closing(void)
{
	prepared(3, (struct group[]){{.capacity = 3, .cells = 4}, {.capacity = 3, .cells = 4}}, 2, 0, 1);
	world.expected = 1;
}
static void delete_second(void)
{
	int rc = mqshm_sub_delete(world.handle[me()], "g1", 2);
	if (rc != MQSHM_OK) fail("deleting: %d, %s", rc, mqshm_reason());
}
static void consume_second(void)
{
	mqshm_delivery d;
	if (take(1, &d) == MQSHM_OK) finish(&d);
	consume(0, 1, 1);
}
/* Its memory goes back once nobody holds any of it: another one can have the row. */
static void check_closed(void)
{
	uint32_t row = world.sub[SURVIVOR][1]->row;
	mqshm_tick(world.handle[SURVIVOR]); /* what was on its way in when it closed is freed by whoever comes by */
	ledger_check();
	mqi_enter(world.handle[SURVIVOR]);
	mqi_subs_sweep(world.handle[SURVIVOR]);
	mqi_leave(world.handle[SURVIVOR]);
	const struct sub_shm *s = mqi_sub(world.handle[SURVIVOR], row);
	bool stuck = false; /* one that died inside a delivery of it, or still looks */
	for (unsigned i = 0; i < ACTORS; i++) stuck |= has_died(i);
	if (!stuck && mqi_sub_state(s->word) != SUB_FREE) fail("the deleted group's memory is not given back");
}

/* Nobody writes into units that are nobody's. */
static void in_memory_of_somebody(const void *word)
{
	const struct mqshm *h = world.handle[SURVIVOR];
	uint64_t at = (uint64_t)((const unsigned char *)word - h->base);
	if (at < h->units_offset || at >= h->span) return;
	if (mqi_area_state(mqi_unit(world.handle[SURVIVOR], (at - h->units_offset) >> MQI_UNIT_SHIFT)->word) == AREA_FREE)
		fail("%c writes into memory that was given back", 'a' + me());
}

/* ---- deaths ---- */

/* One that is dead already holds a message. */
static void one_is_dead(void)
{
	mqshm_t *victim;
	mqshm_sub_t *s;
	mqshm_delivery d;
	prepared(3, &(struct group){.capacity = 4, .cells = 4}, 1, 0, 1);
	put(0, SMALL);
	int rc = mqt_attach(world.fd, VICTIM, &victim);
	if (rc == MQSHM_OK) rc = mqshm_sub_open(victim, "g0", 2, &s);
	if (rc == MQSHM_OK) rc = mqshm_receive(s, &d);
	if (rc != MQSHM_OK) fail("a victim: %s", mqshm_reason());
	mqt_die(VICTIM, true);
}

/* Sweeps, then comes as a new process, perhaps under the dead one's number, and is in the middle of something. */
static void reap_and_come_again(void)
{
	mqshm_t *mine = world.handle[me()];
	reap();
	if (mqt_attach(world.fd, SECOND_LIFE + me(), &world.handle[me()]) != MQSHM_OK) fail("attaching: %s", mqshm_reason());
	mqshm_topic_t *topic = world.topic[me()];
	if (mqshm_topic_open(world.handle[me()], TOPIC, 1, &world.topic[me()]) != MQSHM_OK) fail("a topic: %s", mqshm_reason());
	put(7, SMALL);
	put(8, LARGE);
	world.handle[me()] = mine;
	world.topic[me()] = topic;
}

/* The last one there is about to end the broker when somebody comes. */
static void one_is_left(void)
{
	world_begin(2, NULL, 0, 0);
	for (unsigned i = 0; i <= ACTORS; i++)
		if (i != 1 && world.handle[i]) {
			mqshm_detach(world.handle[i]);
			world.handle[i] = NULL;
		}
}
static void come(void)
{
	mqshm_t *h;
	int rc = mqt_attach(world.fd, SECOND_LIFE + me(), &h);
	if (rc != MQSHM_OK && rc != MQSHM_NOT_FOUND) fail("attaching: %d, %s", rc, mqshm_reason());
	if (rc == MQSHM_OK) world.handle[me()] = h;
}
static void end_it(void)
{
	int rc = mqshm_end(world.handle[me()]);
	if (rc != MQSHM_OK && rc != MQSHM_EXISTS) fail("ending: %d, %s", rc, mqshm_reason());
}
static void check_ended(void)
{
	bool ended = world.handle[1]->hdr->life & MQI_ENDED, came = world.handle[0];
	if (came && ended) fail("a came in, and the broker has ended");
	if (!came && !ended && !has_died(0) && !has_died(1)) fail("a was sent away from a broker that has not ended");
}

/* Of two receivers, one is full because of a publisher that died, and the other was that one's own: who publishes next
 * reaps in between, and must not go on with what it has given back. */
static void full_by_a_subscriber(void)
{
	const char *pattern = TOPIC;
	uint32_t size = 1;
	mqshm_sub_options o = {.patterns = &pattern, .pattern_sizes = &size, .pattern_count = 1, .capacity = 4};
	mqshm_sub_t *s;
	prepared(2, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_REJECT}, 1, 0, 1);
	if (mqshm_sub_create(world.handle[1], &o, &s) != MQSHM_OK) fail("subscribing: %s", mqshm_reason());
	act_as(0);
	put(7, LARGE);
	act_as(SURVIVOR);
}

/* It ends with its process, dead or not. */
static void check_without_private(void)
{
	if (!has_died(1)) mqshm_detach(world.handle[1]);
	world.handle[1] = NULL;
	ledger_check();
}

/* ---- memory ---- */

/* One page more than there is, for two who each want a first block. */
static void limited(void)
{
	prepared(2, &(struct group){.capacity = 4, .cells = 4}, 1, MEMORY_FULL, 1);
	world_limit(1);
}
static void within_limit(const void *word)
{
	(void)word;
	struct mqshm *h = world.handle[SURVIVOR];
	const struct header_shm *hdr = h->hdr;
	uint64_t pages = h->fixed_size / MQI_PAGE;
	const uint64_t *words[HEADER_AREAS + 2 * MQI_PEERS + 256];
	unsigned n = 0;
	for (unsigned i = 0; i < HEADER_AREAS; i++) words[n++] = &hdr->areas[i].word;
	for (unsigned i = 0; i < 2 * hdr->peers_top; i++) words[n++] = &hdr->sheets[i / 2][i % 2].word;
	for (uint64_t u = 0; u < hdr->units_top; u++) words[n++] = &mqi_unit(h, u)->word;
	for (uint32_t s = 0; s < hdr->subs_top; s++)
		for (unsigned i = 0; i < SUB_AREAS; i++) words[n++] = &mqi_sub(h, s)->areas[i].word;
	for (unsigned i = 0; i < n; i++) {
		unsigned state = mqi_area_state(*words[i]);
		bool granted = state == AREA_GROWING && mqi_area_owner(*words[i]) & 0x800;
		if (state == AREA_ACTIVE || state == AREA_GROWING || state == AREA_RETIRING)
			pages += granted ? mqi_area_target(*words[i]) : mqi_area_committed(*words[i]);
	}
	uint64_t limit = hdr->config.max_memory_usage;
	if (limit && pages * MQI_PAGE > limit)
		fail("%llu bytes of memory, over the limit of %llu", (unsigned long long)(pages * MQI_PAGE), (unsigned long long)limit);
}

/* Two blocks in all, for three messages of two publishers. */
#define HALF_PAGE 1700u
static void put_two_halves(void) { put(0, HALF_PAGE), put(1, HALF_PAGE); }
static void two_blocks(void)
{
	prepared(3, &(struct group){.capacity = 4, .cells = 4}, 1, MEMORY_FULL, 1);
	world_limit(1);
	world_age(3, HALF_PAGE);
	world.blocks = 2;
}

/* Payloads' memory on its way back, while somebody wants it. */
static void trim(void)
{
	mqi_enter(world.handle[me()]);
	mqi_trim_all(world.handle[me()]);
	mqi_leave(world.handle[me()]);
}
static void unused_chunk(void) { prepared(3, &(struct group){.capacity = 4, .cells = 4}, 1, 0, 0), world_age(1, LARGE); }
static void put_and_consume_large(void) { put(0, LARGE), consume(0, 1, 2), put(1, LARGE); }
static void trim_then_put(void) { trim(), put(0, LARGE); }
static void reap_and_trim(void) { reap(), trim(), consume(0, 1, 1); }
static void check_trimmed(void)
{
	ledger_check();
	for (unsigned i = 0; i < ACTORS; i++)
		if (has_died(i)) return; /* perhaps inside an operation, as far as anybody knows */
	clock_advance(FAR);
	trim();
	struct mqshm *h = world.handle[SURVIVOR];
	for (uint64_t u = 1; u < mqi_units_known(h); u++) {
		struct mqi_chunk c;
		if (mqi_is_chunk(h, u, &c) && c.committed) fail("unit %llu is kept although all its blocks are free", (unsigned long long)u);
		if (mqi_area_state(mqi_unit(h, u)->word) == AREA_RETIRING) fail("unit %llu stays on its way back", (unsigned long long)u);
	}
}

/* One died between giving back its share of a payload and its slot; who repairs that may find another payload there. */
static void shared_and_dead(void)
{
	mqshm_t *victim;
	mqshm_sub_t *s;
	mqshm_delivery d;
	prepared(3, &(struct group){.capacity = 4, .cells = 4}, 1, 0, 0);
	unsigned char data[LARGE] = {0};
	uint64_t seq;
	int rc = mqshm_publish(world.handle[SURVIVOR], world.topic[SURVIVOR], data, sizeof data, NULL, &seq);
	if (rc == MQSHM_OK) rc = mqt_attach(world.fd, VICTIM, &victim);
	if (rc == MQSHM_OK) rc = mqshm_sub_open(victim, "g0", 2, &s);
	if (rc == MQSHM_OK) rc = mqshm_receive(s, &d);
	if (rc == MQSHM_OK) rc = mqshm_ack_hold(&d);
	if (rc != MQSHM_OK) fail("a victim: %s", mqshm_reason());
	mqi_block_release(victim, d.block, d.block_gen, d.bit);
	mqt_die(VICTIM, true);
}

/* All slots that are memory are taken: both publishers must make more. */
static void more_slots(void)
{
	prepared(3, &(struct group){.capacity = 60}, 1, 0, 0);
	uint32_t ready = world.sub[SURVIVOR][0]->shm->slots_ready;
	for (uint32_t i = 0; i < ready; i++) put(i, SMALL);
}

/* ---- waiting ---- */

static void two_wait(void)
{
	prepared(3, &(struct group){.capacity = 2, .cells = 2, .overflow = MQSHM_BLOCK}, 1, 0, 1);
}
static void put_two_at_once(void) { put_both(0, SMALL); }
/* Whoever slept until the time was over although a message had come was not woken. */
static void wait_and_consume(void)
{
	mqshm_delivery d;
	for (unsigned rounds = 0; rounds < 4; rounds++) {
		if (take(0, &d) == MQSHM_OK) {
			finish(&d);
			return;
		}
		unsigned before = kernel_slept_through();
		mqshm_wait(world.handle[me()], &world.sub[me()][0], 1, -1);
		if (kernel_slept_through() == before) continue;
		if (take(0, &d) == MQSHM_OK) fail("%c slept while a message waited", 'a' + me());
		return;
	}
}

static void full_and_blocking(void)
{
	two_wait();
	put(0, SMALL);
	put(1, SMALL);
}
static void wait_and_put_within(unsigned naps)
{
	for (unsigned rounds = 0; put(rounds, SMALL) != MQSHM_OK; rounds++) {
		if (kernel_slept_through() > naps * 2) fail("%c sleeps on although there is room", 'a' + me());
		mqshm_wait_room(world.handle[me()], world.topic[me()], SMALL, -1);
	}
}
static void wait_and_put(void)
{
	wait_and_put_within(0);
	if (kernel_slept_through()) fail("%c slept while there was room", 'a' + me());
}
/* Slots that another publisher keeps for itself are found by the upkeep after a nap. */
static void wait_and_put_by_and_by(void) { wait_and_put_within(3); }

const struct program programs[] = {
	{"publish-publish-receive", 3, 0, 0, small_ring, {put_two_small, put_two_small, consume_four}, ledger_check, 0},
	{"publish-receive-receive", 3, 0, 0, small_ring, {put_two_small, consume_two, consume_two}, ledger_check, 0},
	{"two-by-two", 4, 0, 0, ring_of_four, {put_small_and_large, put_small, consume_two, consume_one}, ledger_check, 0},
	{"one-slot", 3, 0, 0, one_slot, {put_two_small, put_small, consume_two}, ledger_check, 0},
	{"room-in-time", 2, 0, 0, full, {put_small, consume_at_once}, ledger_check, 0},
	{"fan-out", 3, 0, 0, two_groups, {put_large, put_small, consume_from_both}, ledger_check, 0},
	{"last-shares", 3, 0, 0, two_hold, {finish_mine, finish_mine_held, put_large}, ledger_check, 0},
	{"last-shares-wide", 3, 3, 1, wide, {finish_mine, finish_mine, scribble}, ledger_check, 0},
	{"nack-and-receive", 3, 0, 0, one_waits, {take_and_give_back, consume_two, put_small}, ledger_check, 0},
	{"again-and-again", 3, 0, 0, two_again, {consume_one, consume_two, give_mine_back}, ledger_check, 0},
	{"lease-ends", 3, 1, 1, leased, {finish_mine, time_passes, reap_and_consume}, ledger_check, 0},
	{"lease-extended", 3, 0, 0, leased, {extend_and_finish, time_passes, consume_two}, ledger_check, 0},
	{"lease-on-a-used-slot", 3, 0, 0, used_slots, {take_and_finish, few_ms_pass, put_small}, ledger_check, 0},
	{"given-back-for-later", 3, 1, 1, leased, {give_back_for_later, time_passes, consume_two}, ledger_check, 0},
	{"commit-and-receive", 3, 0, 0, two_to_commit, {commit_twice, commit_mine, consume_two}, ledger_check, 0},
	{"commit-dying", 3, 3, 1, two_to_commit, {commit_mine, reap_and_commit_mine, reap_and_consume}, ledger_check, 0},
	{"commit-reapers-die", 3, 7, 2, two_to_commit, {commit_mine, reap_and_commit_mine, reap}, ledger_check, 0},
	{"commit-lease-ends", 3, 1, 1, leased_to_commit, {commit_mine, time_passes, reap_and_consume}, ledger_check, 0},
	{"once", 3, 0, 0, ids, {put_small_once, put_large_once, consume_two}, ledger_check, 0},
	{"three-once", 3, 0, 0, ids, {put_small_once, put_large_once, put_small_once}, ledger_check, 0},
	{"once-dying", 3, 3, 1, ids, {put_small_once, put_large_once, reap_and_put_once}, ledger_check, 0},
	{"once-both-die", 3, 3, 2, ids, {put_small_once, put_small_once, reap_and_put_once}, ledger_check, 0},
	{"once-committed", 3, 3, 1, ids_to_commit, {commit_mine_once, commit_mine_once, reap_and_put_once}, ledger_check, 0},
	{"once-at-the-turn", 3, 0, 0, ids_to_turn, {put_small_once, put_small_once, put_large_once}, ledger_check, 0},
	{"once-turner-dies", 3, 3, 1, ids_to_turn, {put_small_once, put_small_once, reap_and_put_once}, ledger_check, 0},
	{"two-give-back-for-later", 3, 1, 1, leased, {give_back_for_later, time_passes_and_ticks_go_on, take_and_give_back_for_later}, ledger_check, 0},
	{"set-beside-what-fires", 3, 0, 0, one_held_one_due, {give_back_for_later, time_passes_and_fires, consume_one}, ledger_check, 0},
	{"expire-and-receive", 3, 0, 0, two_for_a_while, {time_passes_and_fires, consume_two, put_small_and_large}, ledger_check, 0},
	{"expire-in-the-middle", 3, 0, 0, middle_for_a_while, {time_passes_and_fires, consume_two, put_two}, ledger_check, 0},
	{"expire-in-a-small-ring", 3, 0, 0, middle_of_a_small_ring, {time_passes_and_fires, consume_one, put_two}, ledger_check, 0},
	{"expire-twice-at-once", 3, 0, 0, two_for_a_while, {time_passes_and_fires, time_passes_and_fires, put_for_a_while_and_one}, check_room, 0},
	{"expire-what-is-given-back", 3, 0, 0, again_for_a_while, {give_mine_back_for_long, time_passes_and_fires, take_and_give_back_twice}, check_room, 0},
	{"expire-under-repair", 3, 0, 0, expirer_is_dead, {reap_and_fire, reap_and_consume, put_two}, check_room, 0},
	{"pass-under-repair", 3, 0, 0, expirer_is_dead, {reap, consume_two, put_two}, check_room, 0},
	{"expirer-dies", 3, 1, 1, middle_for_a_while, {time_passes_and_fires, reap_and_consume, put_two}, check_room, 0},
	{"expirers-die", 3, 7, 2, two_for_a_while, {time_passes_and_fires, reap_and_fire, put_for_a_while_and_one}, check_room, 0},
	{"watch-and-set", 3, 0, 0, two_held, {watch_until_quiet, give_mine_back_for_later, give_mine_back_for_later}, ledger_check, fired_in_time},
	{"watchers-and-set", 3, 1, 1, one_held, {watch_until_quiet, watch_until_quiet, give_mine_back_for_later}, ledger_check, fired_within_a_nap},
	{"drop-oldest", 3, 0, 0, full_and_dropping, {put_small, put_large, consume_two}, ledger_check, 0},
	{"drop-oldest-dying", 3, 1, 1, full_and_dropping, {put_large, reap_then_put, consume_two}, ledger_check, 0},
	{"purge-and-receive", 3, 0, 0, purgeable, {put_small, purge, consume_two}, ledger_check, 0},
	{"close-and-publish", 3, 0, 0, closing, {put_small_and_large, delete_second, consume_second}, check_closed, in_memory_of_somebody},
	{"close-dying", 3, 7, 1, closing, {put_small, delete_second, reap_and_consume}, check_closed, in_memory_of_somebody},
	{"publisher-dies", 3, 1, 1, small_ring, {put_two_small, reap_then_put, consume_two}, ledger_check, 0},
	{"fan-out-publisher-dies", 3, 1, 1, two_groups, {put_large, reap_then_put, consume_from_both}, ledger_check, 0},
	{"receiver-dies", 3, 1, 1, two_hold, {finish_mine, reap_and_finish_mine, consume_first}, ledger_check, 0},
	{"reapers-die", 3, 7, 2, two_hold, {finish_mine, reap_and_finish_mine, reap}, ledger_check, 0},
	{"dead-number-used-again", 2, 1, 1, one_is_dead, {reap_and_come_again, reap}, ledger_check, 0},
	{"come-and-end", 2, 3, 1, one_is_left, {come, end_it}, check_ended, 0},
	{"subscriber-dies-publishing", 2, 2, 1, full_by_a_subscriber, {put_large, put_large}, check_without_private, in_memory_of_somebody},
	{"growth-at-the-limit", 2, 1, 1, limited, {put_large, put_large}, ledger_check, within_limit},
	{"trim-and-publish", 3, 0, 0, unused_chunk, {put_and_consume_large, trim_then_put, reap_and_trim}, check_trimmed, in_memory_of_somebody},
	{"trim-dying", 3, 7, 1, unused_chunk, {put_large, trim_then_put, reap_and_trim}, check_trimmed, in_memory_of_somebody},
	{"trim-under-repair", 3, 0, 0, shared_and_dead, {trim_then_put, reap, consume_one}, check_trimmed, in_memory_of_somebody},
	{"last-blocks", 3, 0, 0, two_blocks, {put_two_halves, put_two_halves, consume_two}, ledger_check, 0},
	{"growth-of-slots", 3, 1, 1, more_slots, {put_small, put_large, consume_one}, ledger_check, 0},
	{"wait-for-messages", 3, 0, 0, two_wait, {wait_and_consume, wait_and_consume, put_two_small}, ledger_check, 0},
	{"wait-for-a-batch", 3, 0, 0, two_wait, {wait_and_consume, wait_and_consume, put_two_at_once}, ledger_check, 0},
	{"wait-for-room", 2, 0, 0, full_and_blocking, {wait_and_put, consume_two}, ledger_check, 0},
	{"two-wait-for-room", 3, 0, 0, full_and_blocking, {wait_and_put_by_and_by, wait_and_put_by_and_by, consume_two}, ledger_check, 0},
};
const unsigned program_count = sizeof programs / sizeof *programs;
