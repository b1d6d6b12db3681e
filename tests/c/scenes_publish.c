/* Victims that publish. */
#include "scenes.h"

#define FIRST VICTIMS
#define SMALL 32
#define LARGE 1000

static int small(struct victim *v) { return victim_put(v, FIRST, SMALL, NULL); }
static int large(struct victim *v) { return victim_put(v, FIRST, LARGE, NULL); }
static int huge(struct victim *v) { return victim_put(v, FIRST, 3u << 20, NULL); }
static int delayed(struct victim *v) { return victim_put(v, FIRST, SMALL, &(mqshm_envelope){.ring = 2, .delay_ms = 3}); }

static int for_a_while(struct victim *v)
{
	return victim_put(v, FIRST, SMALL, &(mqshm_envelope){.ring = 2, .expires_ns = mqi_wall_ns() + 3600000000000ull});
}
static int large_for_a_while(struct victim *v)
{
	return victim_put(v, FIRST, LARGE, &(mqshm_envelope){.ring = 2, .expires_ns = mqi_wall_ns() + 3600000000000ull});
}

static int adorned(struct victim *v)
{
	mqshm_envelope e = {
		.ring = 0, .expires_ns = UINT64_MAX - 1, .id = "id-7", .id_size = 4, .headers = "{\"a\":1}", .headers_size = 7,
		.key = "k", .key_size = 1, .ack_ms = 5000,
	};
	return victim_put(v, FIRST, LARGE, &e);
}

static int batch_of(struct victim *v, const uint64_t sizes[4])
{
	static unsigned char bytes[4][LARGE];
	const void *data[4];
	uint64_t seqs[4];
	uint32_t done;
	for (unsigned i = 0; i < 4; i++) {
		payload_write(bytes[i], FIRST + i, sizes[i]);
		data[i] = bytes[i];
		ledger->tried[FIRST + i] = 1;
	}
	int rc = mqshm_publish_batch(v->h, v->topic, 4, data, sizes, NULL, seqs, &done);
	for (unsigned i = 0; i < done; i++) ledger->returned[FIRST + i] = 1;
	return rc;
}
static int batch(struct victim *v) { return batch_of(v, (uint64_t[4]){SMALL, SMALL, SMALL, SMALL}); }
static int batch_mixed(struct victim *v) { return batch_of(v, (uint64_t[4]){SMALL, LARGE, SMALL, LARGE}); }

static int loan(struct victim *v)
{
	uint64_t seq;
	ledger->tried[FIRST] = 1;
	int rc = mqshm_loan_take(v->h, LARGE, 64, &v->loan);
	if (rc != MQSHM_OK) return rc;
	payload_write(v->loan.data, FIRST, LARGE);
	rc = mqshm_loan_publish(v->h, v->topic, &v->loan, NULL, &seq);
	if (rc == MQSHM_OK) ledger->returned[FIRST] = 1;
	return rc;
}

static int loan_return(struct victim *v)
{
	int rc = mqshm_loan_take(v->h, LARGE, 64, &v->loan);
	return rc == MQSHM_OK ? mqshm_loan_return(v->h, &v->loan) : rc;
}

void owed_published(struct stage *st)
{
	unsigned groups = st->scene->groups ? st->scene->groups : 1;
	for (unsigned id = VICTIMS; id < FILLED; id++) {
		if (!ledger->tried[id]) continue;
		ledger->together[id] = 1;
		for (unsigned g = 0; g < groups; g++) {
			ledger->least[g][id] = ledger->returned[id];
			ledger->most[g][id] = 1;
		}
	}
}

/* A victim that has published before: memory, views and topics are there, and its own cursors. */
static void warm_small(struct victim *v) { must(victim_put(v, FILLED - 1, SMALL, NULL) == MQSHM_OK, "no warm-up: %s", mqshm_reason()); }
static void warm_large(struct victim *v) { must(victim_put(v, FILLED - 1, LARGE, NULL) == MQSHM_OK, "no warm-up: %s", mqshm_reason()); }

/* ---- where group 0 is full: it holds two ---- */

static void two_wait(struct stage *st)
{
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, SMALL, NULL);
	consume(st, 1, st->scene->groups);
}
static void two_large_wait(struct stage *st)
{
	put(st, FILLED, LARGE, NULL);
	put(st, FILLED + 1, LARGE, NULL);
}

/* The oldest makes room, once: also for a message that never arrives, if its publisher dies between the two. */
static void owed_oldest_dropped(struct stage *st)
{
	owed_published(st);
	ledger->least[0][FILLED] = 0;
	ledger->most[0][FILLED] = !ledger->done || ledger->beside; /* then it was received, and there was room */
}

static void owed_new_dropped(struct stage *st)
{
	owed_published(st);
	ledger->together[FIRST] = 0;
	ledger->least[0][FIRST] = 0;
	ledger->most[0][FIRST] = ledger->beside;
}

/* Refused or, where others made room while it was stopped, published. */
static void owed_as_told(struct stage *st)
{
	owed_published(st);
	for (unsigned g = 0; g < GROUPS_MOST; g++) ledger->most[g][FIRST] = ledger->returned[FIRST];
}

/* ---- memory ---- */

/* All slots that are memory at first are taken: the next publisher must grow them, and the ring. */
static void all_slots_wait(struct stage *st)
{
	if (st->round == 0) st->slots = mqi_load_acq(&st->subs[0]->shm->slots_ready);
	for (unsigned i = 0; i < st->slots; i++) put(st, FILLED + i, SMALL, NULL);
}

/* The rings are memory, and the limit allows no more. */
static void no_memory_left(struct stage *st)
{
	mqshm_config c;
	uint64_t used;
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, 300, NULL);
	consume(st, 0, 1);
	must(mqshm_memory_used(st->one, &used) == MQSHM_OK && mqshm_config_get(st->one, &c) == MQSHM_OK, "no numbers");
	c.max_memory_usage = used + (96u << 10); /* for the victim's counters, and not for its payload */
	must(mqshm_config_set(st->one, &c) == MQSHM_OK, "the limit cannot be set");
}
static int refused(struct victim *v)
{
	return victim_put(v, FIRST, 200u << 10, NULL);
}

/* ---- ids that are published once ---- */

static void remember(struct stage *st, uint64_t ms)
{
	mqshm_config c;
	must(mqshm_config_get(st->one, &c) == MQSHM_OK, "no configuration");
	c.dedup_window_ms = ms;
	must(mqshm_config_set(st->one, &c) == MQSHM_OK, "the window cannot be set");
}
static void remember_for_long(struct stage *st) { remember(st, 3600000); }
static void remember_for_a_moment(struct stage *st) { remember(st, 1); }

/* Another one in each round: the segment remembers. */
static mqshm_envelope once(struct stage *st) { return (mqshm_envelope){.ring = 2, .unique = 1, .id = &st->round, .id_size = sizeof st->round}; }
static int small_once(struct victim *v)
{
	mqshm_envelope e = once(v->stage);
	return victim_put(v, FIRST, SMALL, &e);
}
static int loan_once(struct victim *v)
{
	uint64_t seq;
	mqshm_envelope e = once(v->stage);
	ledger->tried[FIRST] = 1;
	int rc = mqshm_loan_take(v->h, LARGE, 64, &v->loan);
	if (rc != MQSHM_OK) return rc;
	payload_write(v->loan.data, FIRST, LARGE);
	rc = mqshm_loan_publish(v->h, v->topic, &v->loan, &e, &seq);
	if (rc == MQSHM_OK) ledger->returned[FIRST] = 1;
	return rc;
}
/* Whether the id is known is whether the message came. */
static void known_if_it_came(struct stage *st)
{
	unsigned char data[SMALL] = {0};
	uint64_t seq;
	mqshm_delivery d;
	mqshm_envelope e = once(st);
	unsigned groups = st->scene->groups ? st->scene->groups : 1;
	int rc = mqshm_publish(st->one, st->topic, data, sizeof data, &e, &seq);
	must(rc == MQSHM_OK || rc == MQSHM_DUPLICATE, "an id cannot be published: %s", mqshm_reason());
	must((rc == MQSHM_DUPLICATE) == ledger->got[0][FIRST], "the id is %sknown, and its message came %u times", rc == MQSHM_OK ? "not " : "",
	     ledger->got[0][FIRST]);
	for (unsigned g = 0; rc == MQSHM_OK && g < groups; g++)
		must(mqshm_receive(st->subs[g], &d) == MQSHM_OK && mqshm_ack(&d) == MQSHM_OK, "group %u: what was published did not come", g);
}

/* ---- who waits is woken ---- */

static void two_sleeps(struct stage *st) { arm(st); }

const struct scene publish_scenes[] = {
	{.name = "publish-inline", .act = small, .owed = owed_published, .fill = two_sleeps},
	{.name = "publish-block", .act = large, .owed = owed_published, .fill = two_sleeps},
	{.name = "publish-huge", .act = huge, .owed = owed_published},
	{.name = "publish-adorned", .act = adorned, .owed = owed_published},
	{.name = "publish-for-a-while", .act = for_a_while, .owed = owed_published},
	{.name = "publish-for-a-while-fan3", .groups = 3, .act = large_for_a_while, .owed = owed_published},
	{.name = "publish-fan3", .groups = 3, .act = small, .owed = owed_published, .fill = two_sleeps},
	{.name = "publish-fan25", .groups = 25, .act = small, .owed = owed_published},
	{.name = "publish-delayed", .act = delayed, .owed = owed_published},
	{.name = "publish-delayed-fan3", .groups = 3, .act = delayed, .owed = owed_published},
	{.name = "publish-drop-oldest", .capacity = 2, .overflow = MQSHM_DROP_OLDEST, .full = true, .fill = two_wait,
	 .act = small, .owed = owed_oldest_dropped},
	{.name = "publish-drop-oldest-block", .capacity = 2, .overflow = MQSHM_DROP_OLDEST, .full = true, .fill = two_large_wait,
	 .act = large, .owed = owed_oldest_dropped},
	{.name = "publish-drop-oldest-fan3", .groups = 3, .capacity = 2, .overflow = MQSHM_DROP_OLDEST, .full = true,
	 .fill = two_wait, .act = small, .owed = owed_oldest_dropped},
	{.name = "publish-drop-new", .capacity = 2, .overflow = MQSHM_DROP_NEW, .full = true, .fill = two_wait, .act = small,
	 .owed = owed_new_dropped},
	{.name = "publish-drop-new-fan3", .groups = 3, .capacity = 2, .overflow = MQSHM_DROP_NEW, .full = true,
	 .fill = two_wait, .act = small, .owed = owed_new_dropped},
	{.name = "publish-reject", .capacity = 2, .overflow = MQSHM_REJECT, .full = true, .fill = two_wait, .act = small,
	 .owed = owed_as_told, .result = MQSHM_FULL},
	{.name = "publish-reject-fan3", .groups = 3, .capacity = 2, .overflow = MQSHM_REJECT, .full = true, .fill = two_wait,
	 .act = small, .owed = owed_as_told, .result = MQSHM_FULL},
	{.name = "publish-batch", .act = batch, .owed = owed_published, .fill = two_sleeps},
	{.name = "publish-batch-mixed", .act = batch_mixed, .owed = owed_published},
	{.name = "publish-batch-fan3", .groups = 3, .act = batch, .owed = owed_published},
	{.name = "publish-inline-warm", .ready = warm_small, .act = small, .owed = owed_published},
	{.name = "publish-block-warm", .ready = warm_large, .act = large, .owed = owed_published},
	{.name = "publish-fan3-warm", .groups = 3, .ready = warm_small, .act = small, .owed = owed_published},
	{.name = "publish-batch-warm", .ready = warm_small, .act = batch, .owed = owed_published},
	{.name = "publish-batch-fan3-warm", .groups = 3, .ready = warm_small, .act = batch, .owed = owed_published},
	{.name = "publish-loan", .act = loan, .owed = owed_published},
	{.name = "publish-loan-fan3", .groups = 3, .act = loan, .owed = owed_published},
	{.name = "loan-return", .act = loan_return},
	{.name = "publish-once", .fill = remember_for_long, .act = small_once, .owed = owed_published, .after = known_if_it_came},
	{.name = "publish-once-fan3", .groups = 3, .fill = remember_for_long, .act = small_once, .owed = owed_published,
	 .after = known_if_it_came},
	{.name = "publish-once-loan", .fill = remember_for_long, .act = loan_once, .owed = owed_published, .after = known_if_it_came},
	{.name = "publish-once-turn", .fill = remember_for_a_moment, .act = small_once, .owed = owed_published},
	{.name = "grow-slots", .capacity = 1000, .fill = all_slots_wait, .act = small, .owed = owed_published},
	{.name = "grow-slots-times", .capacity = 1000, .ack = MQSHM_ACK_TIMEOUT, .fill = all_slots_wait, .act = small,
	 .owed = owed_published},
	{.name = "grow-refused", .fill = no_memory_left, .act = refused, .result = MQSHM_NO_MEMORY},
};
const unsigned publish_scenes_count = sizeof publish_scenes / sizeof *publish_scenes;
