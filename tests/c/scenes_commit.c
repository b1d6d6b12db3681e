/* Victims that publish and settle several messages as one. */
#include "scenes.h"

#define FIRST VICTIMS
#define PARTS 3u
#define SMALL 32
#define LARGE 1000

static const uint64_t sizes[PARTS] = {SMALL, LARGE, 0};

static int commit(struct victim *v, uint32_t parts, uint32_t settled, const unsigned char *keep)
{
	static unsigned char bytes[PARTS][LARGE];
	static const mqshm_envelope adorned = {.ring = 1, .id = "id-7", .id_size = 4, .headers = "h", .headers_size = 1};
	mqshm_part part[PARTS] = {{0}};
	mqshm_delivery *of[8];
	uint64_t seqs[PARTS];
	uint32_t failed;
	for (uint32_t i = 0; i < parts; i++) {
		uint64_t size = sizes[i] ? sizes[i] : 8;
		payload_write(bytes[i], FIRST + i, size);
		part[i] = (mqshm_part){v->topic, bytes[i], size, i == 1 ? &adorned : NULL};
		ledger->tried[FIRST + i] = 1;
	}
	for (uint32_t i = 0; i < settled; i++) of[i] = &v->held[i];
	int rc = mqshm_commit(v->h, part, parts, of, keep, settled, seqs, &failed);
	for (uint32_t i = 0; keep && rc == MQSHM_OK && i < settled; i++)
		if (keep[i]) rc = mqshm_release(of[i]);
	return rc;
}
static int publish_three(struct victim *v) { return commit(v, 3, 0, NULL); }
static int settle_two(struct victim *v) { return commit(v, 0, 2, NULL); }
static int publish_and_settle(struct victim *v) { return commit(v, 2, 2, NULL); }
static int publish_and_settle_kept(struct victim *v) { return commit(v, 2, 2, (const unsigned char[]){1, 0}); }

static void two_wait(struct stage *st)
{
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, LARGE, NULL);
}
static void take_two(struct victim *v)
{
	victim_take(v);
	victim_take(v);
}
static void take_two_and_lose_one(struct victim *v)
{
	take_two(v);
	mqshm_delivery d = v->held[1];
	must(mqshm_ack(&d) == MQSHM_OK, "no ack");
	ledger->in_hand[FILLED + 1] = 0;
	ledger->least[0][FILLED + 1] = ledger->most[0][FILLED + 1] = 0;
}

static void owed_committed(struct stage *st)
{
	unsigned groups = st->scene->groups ? st->scene->groups : 1;
	for (unsigned g = 0; g < groups; g++)
		for (unsigned i = 0; i < PARTS; i++) {
			ledger->least[g][FIRST + i] = ledger->tried[FIRST + i] && ledger->done && ledger->result == MQSHM_OK;
			ledger->most[g][FIRST + i] = ledger->tried[FIRST + i] && (!ledger->done || ledger->result == MQSHM_OK);
		}
	for (unsigned id = FILLED; id < FILLED + 2; id++)
		if (ledger->in_hand[id]) ledger->least[0][id] = 0;
}

/* What was published is in all groups and what was settled does not come again, or the other way round. */
static void all_or_nothing(struct stage *st)
{
	unsigned groups = st->scene->groups ? st->scene->groups : 1, in = 0, out = 0, parts = 0, leases = 0;
	for (unsigned i = 0; i < PARTS; i++)
		for (unsigned g = 0; g < groups && ledger->tried[FIRST + i]; g++) {
			in += ledger->got[g][FIRST + i];
			parts++;
		}
	for (unsigned id = FILLED; id < FILLED + 2; id++)
		if (ledger->in_hand[id]) {
			out += ledger->got[0][id] == 0;
			leases++;
		}
	must(in == 0 || in == parts, "%u of %u deliveries of a transaction came", in, parts);
	must(out == 0 || out == leases, "%u of %u messages settled in a transaction came again", leases - out, leases);
	must(!parts || !leases || !in == !out, "a transaction's messages %s, and what it settled %s", in ? "came" : "did not come",
	     out ? "is gone" : "came again");
	if (ledger->done && ledger->result == MQSHM_OK) must(in == parts && out == leases, "a transaction that returned is not there");
}

/* ---- dead letters ---- */

static void keep_dead_letters(struct stage *st)
{
	const char *pattern = "d";
	uint32_t size = 1;
	mqshm_config c;
	mqshm_sub_t *s;
	mqshm_sub_options o = group_options("dead", &pattern, &size);
	o.capacity = 16;
	o.overflow = MQSHM_DROP_OLDEST;
	must(mqshm_config_get(st->one, &c) == MQSHM_OK, "the configuration cannot be read");
	c.dead_letter_size = 1;
	c.dead_letter_topic[0] = 'd';
	must(mqshm_config_set(st->one, &c) == MQSHM_OK && mqshm_sub_create(st->one, &o, &s) == MQSHM_OK, "no group for dead letters");
}
static void one_is_to_die(struct stage *st)
{
	keep_dead_letters(st);
	put(st, FILLED, LARGE, &(mqshm_envelope){.ring = 1, .id = "i", .id_size = 1});
}
static void worn_is_to_die(struct stage *st)
{
	keep_dead_letters(st);
	put(st, FILLED, SMALL, NULL);
	mqshm_delivery d;
	must(mqshm_receive(st->subs[0], &d) == MQSHM_OK && mqshm_nack(&d, 0) == MQSHM_OK, "nothing to give back");
}
static void take_one(struct victim *v) { victim_take(v); }
static int reject(struct victim *v) { return mqshm_reject(&v->held[0], "why", 3); }
static int nack(struct victim *v) { return mqshm_nack(&v->held[0], 0); }

static void owed_once(struct stage *st)
{
	(void)st;
	ledger->least[0][FILLED] = 0;
}

/* It is where it was, or a dead letter. */
static void in_one_place(struct stage *st)
{
	mqshm_sub_t *s;
	mqshm_delivery d;
	unsigned letters = 0, back = ledger->got[0][FILLED];
	must(mqshm_sub_open(st->one, "dead", 4, &s) == MQSHM_OK, "the dead letters' group is gone");
	must(mqshm_tick(st->one) == MQSHM_OK, "no tick"); /* who repaired may have died before it set a hint */
	for (; mqshm_receive(s, &d) == MQSHM_OK; letters++) {
		must(payload_read(&d) == FILLED && d.headers_size > 0, "a dead letter is another one");
		must(mqshm_ack(&d) == MQSHM_OK, "a dead letter cannot be settled");
	}
	must(letters + back == 1, "a message is %u times a dead letter, and %u times where it was", letters, back);
	must(!ledger->done || letters == 1, "what was given up is no dead letter");
	mqshm_sub_close(s);
	must(mqshm_sub_delete(st->one, "dead", 4) == MQSHM_OK, "the dead letters' group cannot be deleted");
}

#define DIES .owed = owed_once, .after = in_one_place

#define COMMITS .owed = owed_committed, .after = all_or_nothing

const struct scene commit_scenes[] = {
	{.name = "commit-publish", .act = publish_three, COMMITS},
	{.name = "commit-publish-fan3", .groups = 3, .act = publish_three, COMMITS},
	{.name = "commit-publish-fan25", .groups = 25, .act = publish_three, COMMITS},
	{.name = "commit-settle", .fill = two_wait, .ready = take_two, .act = settle_two, COMMITS},
	{.name = "commit-both", .fill = two_wait, .ready = take_two, .act = publish_and_settle, COMMITS},
	{.name = "commit-both-fan3", .groups = 3, .fill = two_wait, .ready = take_two, .act = publish_and_settle, COMMITS},
	{.name = "commit-both-timed", .ack = MQSHM_ACK_TIMEOUT, .fill = two_wait, .ready = take_two, .act = publish_and_settle, COMMITS},
	{.name = "commit-kept", .fill = two_wait, .ready = take_two, .act = publish_and_settle_kept, COMMITS},
	{.name = "commit-lost", .fill = two_wait, .ready = take_two_and_lose_one, .act = publish_and_settle, .result = MQSHM_LEASE_LOST, COMMITS},
	{.name = "commit-lost-timed", .ack = MQSHM_ACK_TIMEOUT, .fill = two_wait, .ready = take_two_and_lose_one, .act = publish_and_settle,
	 .result = MQSHM_LEASE_LOST, COMMITS},
	{.name = "dead-rejected", .fill = one_is_to_die, .ready = take_one, .act = reject, DIES},
	{.name = "dead-worn-out", .max_attempts = 2, .fill = worn_is_to_die, .ready = take_one, .act = nack, DIES},
};
const unsigned commit_scenes_count = sizeof commit_scenes / sizeof *commit_scenes;
