/* The survivor repairs, drains and accounts. */
#include "records.h"

#include "memory.h"
#include "shm/slab.h"

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
			bool in_order = m->producer == other->producer && m->state == IN && other->state == IN && m->returned <= other->invoked;
			if (in_order && t->attempt == 1 && o->attempt == 1 && o->returned <= t->invoked)
				fail("group %u: %s came before %s", t->group, label(o->message), label(t->message));
		}
	}
}

static uint64_t gone(uint32_t group)
{
	mqshm_sub_stats stats;
	if (mqshm_sub_stats_get(world.handle[SURVIVOR], world.sub[SURVIVOR][group]->row, &stats) != MQSHM_OK) return 0;
	return (world.rules & DROPS ? stats.dropped : 0) + (world.rules & EXPIRES ? stats.expired : 0);
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
		uint64_t missing = 0, drops = gone(g);
		if (!(world.expected >> g & 1)) continue;
		for (uint32_t i = 0; i < ledger.message_count; i++) {
			bool delivered, first_delivered, over = is_over(g, i, &delivered);
			if (ledger.messages[i].state == IN && !over) {
				if (!(world.rules & DROPS) && !ledger.messages[i].over_ms) fail("group %u: %s was published and is lost", g, label(i));
				missing++;
			}
			if (ledger.messages[i].state != TRYING || world.rules & DROPS) continue;
			is_over(0, i, &first_delivered);
			if (world.expected & 1 && delivered != first_delivered)
				fail("%s went to group %u and not to group %u", label(i), delivered ? g : 0, delivered ? 0 : g);
		}
		if (missing != drops && !anybody_died())
			fail("group %u: %llu messages are missing, %llu were dropped or are over", g, (unsigned long long)missing, (unsigned long long)drops);
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

/* "Full": then at least so many messages as there are slots had been begun and were not yet ended. Where a publisher is
 * to wait, it is told so a little longer. */
static void check_refusals(void)
{
	for (uint32_t i = 0; i < ledger.message_count; i++) {
		const struct message *m = &ledger.messages[i];
		uint64_t room = m->rc == MQSHM_NO_MEMORY ? world.blocks : world.capacity[0];
		if (m->state != REFUSED || m->rc == MQSHM_LEASE_LOST || m->rc == MQSHM_DUPLICATE || world.groups != 1 || !room || anybody_died()) continue;
		if (m->rc == MQSHM_FULL && world.overflow == MQSHM_BLOCK) continue;
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
		if (most < room)
			fail("%s was refused with %d, although only %llu of %llu places were taken", label(i), m->rc, (unsigned long long)most, (unsigned long long)room);
	}
}

/* What was published came, and what was settled did not come again; or the other way round. */
static void check_commits(void)
{
	for (uint32_t i = 0; i < ledger.commit_count; i++) {
		const struct taken *t = &ledger.takes[ledger.commits[i].take];
		uint32_t message = ledger.commits[i].message;
		bool came, again = false;
		(void)is_over(t->group, message, &came);
		for (uint32_t k = 0; k < ledger.take_count; k++) {
			const struct taken *o = &ledger.takes[k];
			again |= o->group == t->group && o->message == t->message && o->attempt > t->attempt;
		}
		if (came && again) fail("%s was committed, and %s, which it settled, was delivered again", label(message), label(t->message));
		if (!came && !again && t->fate != GIVEN && t->fate != LOST) fail("%s was not committed, and %s is lost", label(message), label(t->message));
	}
}

/* Of messages with one id one is there; and where another was refused for it, or returned, one is. */
static void check_once(void)
{
	for (uint32_t i = 0; i < ledger.message_count; i++) {
		const struct message *m = &ledger.messages[i];
		uint32_t came = 0, first = 0;
		if (!m->once) continue;
		for (uint32_t k = 0; k < ledger.message_count; k++) {
			const struct message *o = &ledger.messages[k];
			bool delivered;
			if (!o->once || o->number != m->number) continue;
			(void)is_over(0, k, &delivered);
			if (delivered && came++) fail("%s and %s have one id, and both were delivered", label(first), label(k));
			if (delivered) first = k;
		}
		if (!came && m->rc == MQSHM_DUPLICATE && m->state == REFUSED) fail("%s was refused for its id, and no other with it was published", label(i));
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
	check_once();
	check_commits();
	if (!(world.rules & (LEASES_END | EXPIRES))) check_nothings();
	check_refusals();
}
