/* Victims that receive and settle. What they hold comes again when they die; what they have settled does not. */
#include <time.h>

#include "flow/expire.h"
#include "flow/publish.h"
#include "scenes.h"

#define SMALL 32
#define LARGE 1000

/* ---- what waits ---- */

static void small_waits(struct stage *st) { put(st, FILLED, SMALL, NULL); }
static void small_waits_and_all_sleep(struct stage *st)
{
	small_waits(st);
	arm(st);
}
static void large_waits(struct stage *st) { put(st, FILLED, LARGE, NULL); }
static void four_wait(struct stage *st)
{
	for (unsigned i = 0; i < 4; i++) put(st, FILLED + i, i % 2 ? LARGE : SMALL, NULL);
}

/* Every other group has settled it: the victim's share is the payload's last. */
static void last_share_waits(struct stage *st)
{
	put(st, FILLED, LARGE, NULL);
	consume(st, 1, st->scene->groups);
}

static void small_waits_again(struct stage *st)
{
	put(st, FILLED, SMALL, NULL);
	hold(st);
	must(mqshm_nack(&st->held[0], 0) == MQSHM_OK, "no nack");
}

static void some_wait_everywhere(struct stage *st)
{
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, LARGE, NULL);
	hold(st);
	hold(st);
	must(mqshm_nack(&st->held[0], 0) == MQSHM_OK && mqshm_nack(&st->held[1], 2) == MQSHM_OK, "no nack");
	put(st, FILLED + 2, LARGE, NULL);
	put(st, FILLED + 3, SMALL, &(mqshm_envelope){.ring = 2, .delay_ms = 2});
	put(st, FILLED + 4, SMALL, &(mqshm_envelope){.ring = 0});
}

static void wait_until(uint64_t ms)
{
	while (mqi_boot_ms() <= ms) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static void expired_waits(struct stage *st)
{
	put(st, FILLED, LARGE, &(mqshm_envelope){.ring = 2, .expires_ns = 1});
	ledger->least[0][FILLED] = ledger->most[0][FILLED] = 0;
}

/* Its time ends before anybody looks. */
static void over_soon(struct stage *st, unsigned id, uint64_t size)
{
	put(st, id, size, &(mqshm_envelope){.ring = 2, .expires_ns = mqi_wall_ns() + 1000000});
	for (unsigned g = 0; g < GROUPS_MOST; g++) ledger->least[g][id] = ledger->most[g][id] = 0;
}
static void small_is_over(struct stage *st)
{
	over_soon(st, FILLED, SMALL);
	wait_until(mqi_boot_ms() + 3);
}
static void large_is_over(struct stage *st)
{
	over_soon(st, FILLED, LARGE);
	over_soon(st, FILLED + 1, LARGE);
	wait_until(mqi_boot_ms() + 3);
}
/* Between two that are not, and one that is over where it stands aside, unless it was over before it could be taken. */
static void middle_is_over(struct stage *st)
{
	over_soon(st, FILLED, LARGE);
	bool held = mqshm_receive(st->subs[0], &st->held[0]) == MQSHM_OK;
	put(st, FILLED + 1, SMALL, NULL);
	over_soon(st, FILLED + 2, SMALL);
	over_soon(st, FILLED + 3, LARGE);
	put(st, FILLED + 4, LARGE, NULL);
	must(!held || mqshm_nack(&st->held[0], 0) == MQSHM_OK, "no nack");
	wait_until(mqi_boot_ms() + 3);
}
/* Half taken out by one who died, and tombs behind a message that waits. */
static void expire_half(struct victim *v)
{
	struct slot_shm *slot = v->sub->slots;
	while (mqi_slot_state(mqi_load_acq(&slot->word)) != SLOT_OFFER || mqi_info_flags(slot->info) != (F_REF | F_EXPIRES)) slot++;
	mqi_touch(v->sub);
	mqi_store_rel(&slot->word, mqi_slot_word(SLOT_EXPIRING, v->h->peer, mqi_slot_gen(slot->word) + 1, 0));
}
static void first_dies_expiring(struct stage *st)
{
	middle_is_over(st);
	leave_dead(st, expire_half);
}
static void tombs_wait(struct stage *st)
{
	middle_is_over(st);
	must(mqshm_tick(st->two) == MQSHM_OK, "no tick");
}

/* max_attempts is 1: the next claim is the last of it. */
static void worn_waits(struct stage *st)
{
	small_waits_again(st);
	ledger->least[0][FILLED] = ledger->most[0][FILLED] = 0;
}

static void two_are_due(struct stage *st)
{
	for (unsigned i = 0; i < 2; i++) put(st, FILLED + i, i ? LARGE : SMALL, &(mqshm_envelope){.ring = 2, .delay_ms = 1});
	wait_until(mqi_boot_ms() + 2);
}

static void lease_has_ended(struct stage *st)
{
	put(st, FILLED, LARGE, &(mqshm_envelope){.ring = 2, .ack_ms = 1});
	hold(st);
	wait_until(mqi_boot_ms() + 2);
}
static void nothing_is_held(struct stage *st)
{
	must(mqshm_ack(&st->held[0]) == MQSHM_LEASE_LOST, "a lease that has ended can be settled");
}

/* ---- what is done ---- */

static int receive(struct victim *v) { return mqshm_receive(v->sub, &v->held[0]); }
/* What it got is its own: nobody else got it, and nobody has taken it back. */
static void settle_received(struct victim *v)
{
	if (ledger->result != MQSHM_OK) return;
	unsigned id = payload_read(&v->held[0]);
	must(mqshm_ack(&v->held[0]) == MQSHM_OK, "message %u was taken from one that was only stopped", id);
	ledger->in_hand[id] = 1;
}
/* While it was stopped its lease ended: others have settled the message, and its slot held theirs since. */
static void settle_or_lose(struct victim *v)
{
	if (ledger->result != MQSHM_OK) return;
	if (mqshm_delivery_held(&v->held[0])) settle_received(v);
	else must(mqshm_ack(&v->held[0]) == MQSHM_LEASE_LOST, "a lease that was lost can be settled");
}
static int receive_batch(struct victim *v)
{
	uint32_t got;
	return mqshm_receive_batch(v->sub, 4, v->held, &got);
}
/* The receive first: a view that is new is behind, and waits for nothing. */
static int wait_for_one(struct victim *v)
{
	int rc = receive(v);
	return rc == MQSHM_EMPTY ? mqshm_wait(v->h, &v->sub, 1, 2000000) : rc;
}

static void take_one(struct victim *v) { victim_take(v); }
static void take_four(struct victim *v)
{
	for (unsigned i = 0; i < 4; i++) victim_take(v);
}

static int ack(struct victim *v) { return mqshm_ack(&v->held[0]); }
static int ack_batch(struct victim *v)
{
	uint32_t acked;
	return mqshm_ack_batch(v->held, v->holds, &acked);
}
static int reject(struct victim *v) { return mqshm_reject(&v->held[0], "no", 2); }
static int ack_and_release(struct victim *v)
{
	int rc = mqshm_ack_hold(&v->held[0]);
	if (rc != MQSHM_OK) return rc;
	ledger->settled = 1;
	return mqshm_release(&v->held[0]);
}
static int nack(struct victim *v) { return mqshm_nack(&v->held[0], 0); }
static int nack_later(struct victim *v) { return mqshm_nack(&v->held[0], 2); }
static int extend(struct victim *v) { return mqshm_extend(&v->held[0], 20000); }
static int purge(struct victim *v)
{
	uint64_t purged;
	return mqshm_purge(v->sub, &purged);
}
static int tick(struct victim *v) { return mqshm_tick(v->h); }
/* What rang before its first look is told first. */
static int watch_once(struct victim *v)
{
	int rc = MQSHM_OK;
	for (unsigned i = 0; i < 3 && rc == MQSHM_OK; i++) rc = mqshm_watch(v->h, 3000000);
	return rc;
}
static int reap_and_receive(struct victim *v)
{
	uint32_t dead;
	int rc = mqshm_reap(v->h, &dead);
	return rc == MQSHM_OK ? receive(v) : rc;
}
/* Whoever was to fire it may have died first: the tick does. */
static void owed_nothing_over(struct stage *st)
{
	struct mqshm_sub *s = st->subs[0];
	must(mqshm_tick(st->one) == MQSHM_OK, "no tick");
	for (uint32_t i = 0; i < s->shm->slots_ready; i++) {
		uint64_t w = mqi_load_acq(&s->slots[i].word);
		must(mqi_slot_state(w) == SLOT_FREE || mqi_slot_state(w) == SLOT_TOMB || !mqi_expiry(s, i, w), "slot %u keeps a message that is over", i);
	}
}

void owed_settled(struct stage *st)
{
	(void)st;
	for (unsigned id = 0; id < MESSAGES; id++)
		if (ledger->in_hand[id]) {
			ledger->least[0][id] = 0;
			ledger->most[0][id] = !ledger->done && !ledger->settled;
		}
}

static void owed_purged(struct stage *st)
{
	(void)st;
	for (unsigned id = FILLED; id < PROBES; id++) {
		ledger->least[0][id] = 0;
		if (ledger->done) ledger->most[0][id] = 0;
	}
}

#define TIMED .ack = MQSHM_ACK_TIMEOUT
#define RECEIVES .finish = settle_received, .owed = owed_settled

const struct scene receive_scenes[] = {
	{.name = "receive-inline", .fill = small_waits, .act = receive, RECEIVES},
	{.name = "receive-block", .fill = large_waits, .act = receive, RECEIVES},
	{.name = "receive-fan3", .groups = 3, .fill = small_waits, .act = receive, RECEIVES},
	{.name = "receive-again", .fill = small_waits_again, .act = receive, RECEIVES},
	{.name = "receive-batch", .fill = four_wait, .act = receive_batch},
	{.name = "receive-timed", TIMED, .fill = large_waits, .act = receive, RECEIVES},
	{.name = "receive-lease-ends", TIMED, .capacity = 1, .lease_ms = 1, .full = true, .fill = large_waits, .act = receive,
	 .finish = settle_or_lose, .owed = owed_settled},
	{.name = "receive-due", .fill = two_are_due, .act = receive},
	{.name = "receive-expired", .fill = expired_waits, .act = receive, .result = MQSHM_EMPTY},
	{.name = "expire-small", .fill = small_is_over, .act = tick, .owed = owed_nothing_over},
	{.name = "expire-large", .fill = large_is_over, .act = tick, .owed = owed_nothing_over},
	{.name = "expire-fan3", .groups = 3, .fill = large_is_over, .act = tick, .owed = owed_nothing_over},
	{.name = "expire-fan25", .groups = 25, .fill = small_is_over, .act = tick, .owed = owed_nothing_over},
	{.name = "expire-middle", .fill = middle_is_over, .act = tick, .owed = owed_nothing_over},
	{.name = "expire-repaired", .fill = first_dies_expiring, .act = reap_and_receive, RECEIVES},
	{.name = "expire-on-receive", .fill = middle_is_over, .act = receive, RECEIVES},
	{.name = "receive-past-tombs", .fill = tombs_wait, .act = receive_batch},
	{.name = "watch", .fill = middle_is_over, .act = watch_once, .owed = owed_nothing_over, .result = MQSHM_TIMEOUT},
	{.name = "watch-idle", .act = watch_once, .result = MQSHM_TIMEOUT},
	{.name = "receive-worn", .max_attempts = 1, .fill = worn_waits, .act = receive, .result = MQSHM_EMPTY},
	{.name = "wait", .act = wait_for_one, .result = MQSHM_TIMEOUT},
	{.name = "ack-inline", .fill = small_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-wakes", .fill = small_waits_and_all_sleep, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-block", .fill = large_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-fan3", .groups = 3, .fill = small_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-fan3-last", .groups = 3, .fill = last_share_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-fan25", .groups = 25, .fill = small_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-fan25-last", .groups = 25, .fill = last_share_waits, .ready = take_one, .act = ack, .owed = owed_settled},
	{.name = "ack-batch", .fill = four_wait, .ready = take_four, .act = ack_batch, .owed = owed_settled},
	{.name = "hold-release-inline", .fill = small_waits, .ready = take_one, .act = ack_and_release, .owed = owed_settled},
	{.name = "hold-release-block", .fill = large_waits, .ready = take_one, .act = ack_and_release, .owed = owed_settled},
	{.name = "reject", .fill = large_waits, .ready = take_one, .act = reject, .owed = owed_settled},
	{.name = "nack-inline", .fill = small_waits, .ready = take_one, .act = nack},
	{.name = "nack-block", .fill = large_waits, .ready = take_one, .act = nack},
	{.name = "nack-fan3", .groups = 3, .fill = small_waits, .ready = take_one, .act = nack},
	{.name = "nack-later", .fill = large_waits, .ready = take_one, .act = nack_later},
	{.name = "nack-later-timed", TIMED, .fill = large_waits, .ready = take_one, .act = nack_later},
	{.name = "extend", TIMED, .fill = small_waits, .ready = take_one, .act = extend},
	{.name = "purge", .fill = some_wait_everywhere, .act = purge, .owed = owed_purged},
	{.name = "tick-due", .fill = two_are_due, .act = tick},
	{.name = "tick-lease", TIMED, .fill = lease_has_ended, .act = tick, .after = nothing_is_held},
	{.name = "tick-mixed", .fill = some_wait_everywhere, .act = tick},
};
const unsigned receive_scenes_count = sizeof receive_scenes / sizeof *receive_scenes;
