/* What the supervisor does for all, between its sleeps: times, hints that somebody who was stopped left unset, memory in
 * which nothing is. Times are fired by whoever receives as well; the watcher sleeps until the earliest:
 *
 *   watcher                                  who sets a time
 *   seen = my bell                           the time, the hint, the subscription's next_due: lowered
 *   header.watch = me, until T               -- fence --
 *   -- fence --                              header.watch is later than it? take it down to it, ring that bell
 *   look at every next_due again
 *   sleep while bell == seen, until T
 *
 * Either the watcher sees the time or who sets it sees that the watcher sleeps for too long. A second watcher writes
 * over the first one's word, and is rung in its place; one that is stopped, or died, is rung once for each time that is
 * earlier than all before. So nobody is kept from anything, and naps (MQI_NAP_NS) bound how late what was not rung is.
 */
#include "flow/dead.h"
#include "flow/due.h"
#include "os/futex.h"
#include "shm/event.h"
#include "shm/ids.h"
#include "shm/reach.h"
#include "shm/slab.h"
#include "shm/trim.h"

#define TRIM_MS 500u        /* a chunk in which nothing was used for so long goes back */
#define RENEWED_A_NAP 2048u /* slots whose hints are looked after */
#define NEVER MQI_WATCH_MS

typedef uint64_t rows_set[MQI_SUBS / 64]; /* subscriptions that cannot be looked at: others go on */

static bool has(const rows_set rows, uint32_t row) { return rows[row / 64] >> row % 64 & 1; }

static bool is_open(struct mqshm *h, uint32_t row) { return mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) == SUB_OPEN; }

static uint64_t earliest(struct mqshm *h, const rows_set broken)
{
	uint64_t first = NEVER;
	for (uint32_t row = 0, rows = mqi_subs_rows(h); row < rows; row++) {
		uint64_t due = mqi_load_acq(&mqi_sub(h, row)->next_due);
		if (due && due < first && is_open(h, row) && !has(broken, row)) first = due;
	}
	return first;
}

static bool fire(struct mqshm *h, rows_set broken)
{
	bool fired = false;
	uint64_t now = mqi_boot_ms();
	mqi_config_look(h);
	for (uint32_t row = 0, rows = mqi_subs_rows(h); row < rows; row++) {
		struct mqshm_sub *s;
		uint64_t due = mqi_load_acq(&mqi_sub(h, row)->next_due);
		if (due == 0 || due > now || !is_open(h, row) || has(broken, row)) continue;
		int rc = mqi_view(h, row, &s);
		if (rc == MQSHM_OK) rc = mqi_due_fire(s, now);
		if (rc == MQSHM_OK) fired = true;
		else if (rc != MQSHM_CLOSED) broken[row / 64] |= 1ull << row % 64;
	}
	return fired;
}

/* Hints that a stopped or dead process left too high, tombs that it left behind: a few slots at a time, all in turn. */
static void renew(struct mqshm *h)
{
	uint32_t rows = mqi_subs_rows(h), left = RENEWED_A_NAP;
	for (uint32_t tried = 0; tried < rows && left > 0; tried++, h->ticked++) {
		struct mqshm_sub *s;
		uint32_t row = h->ticked % rows;
		if (!is_open(h, row) || mqi_view(h, row, &s) != MQSHM_OK) continue;
		uint32_t from = s->ticked;
		mqi_due_renew(s, from, left);
		mqi_give_up_worn(s, from, left);
		s->ticked = mqi_hints_renew(s, from, left);
		if (s->ticked) return; /* the rest of it next time */
		left -= (uint32_t)mqi_least(left, mqi_load_acq(&s->shm->slots_ready) - (uint64_t)from);
	}
}

static void upkeep(struct mqshm *h)
{
	uint64_t now = mqi_boot_ms();
	if (now - h->kept_ms < MQI_NAP_NS / 1000000) return;
	h->kept_ms = now;
	renew(h);
	mqi_subs_sweep(h);
	if (now - h->trimmed_ms < TRIM_MS) return;
	h->trimmed_ms = now;
	mqi_ids_turn(h, h->dedup_window_ms);
	mqi_trim_idle(h);
}

/* Says until when this process sleeps, as nobody set an earlier time before. */
static uint64_t say(struct mqshm *h, const rows_set broken)
{
	for (uint64_t until = earliest(h, broken), first;; until = first) {
		mqi_store_rel(&h->hdr->watch, mqi_watch(h->peer, until));
		mqi_fence_sc(); /* pairs with who sets a time (flow/due.c) */
		first = earliest(h, broken);
		if (first >= until) return until;
	}
}

/* Awake. true: it was rung because of a time; what else may have rung at once shows at the next look of its caller. */
static bool unsay(struct mqshm *h, uint64_t until)
{
	uint64_t *watch = &h->hdr->watch, said = mqi_watch(h->peer, until);
	bool rung = false;
	for (uint64_t w = mqi_load_acq(watch); w && mqi_watch_peer(w) == h->peer; w = mqi_load_acq(watch)) {
		rung = w != said;
		if (mqi_cas64(watch, w, 0)) break;
	}
	return rung;
}

static int64_t ns_until(uint64_t boot_ms)
{
	uint64_t now = mqi_boot_ns();
	if (boot_ms > (now + MQI_NAP_NS) / 1000000u) return MQI_NAP_NS;
	return boot_ms * 1000000u > now ? (int64_t)(boot_ms * 1000000u - now) : 0;
}

/* A nap of at most so long, unless something was due. MQSHM_OK: the bell was rung, and not for a time. */
static int watch(struct mqshm *h, rows_set broken, int64_t left)
{
	if (mqi_enter(h) != MQSHM_OK) return MQSHM_FORKED;
	uint32_t bell = mqi_load_acq(&h->row->bell);
	uint64_t life = mqi_load_acq(&h->hdr->life), until = 0;
	bool due = fire(h, broken), rung = bell != h->heard;
	h->heard = bell;
	if (due) upkeep(h);
	bool sleeps = !due && !rung && left > 0;
	if (sleeps) until = say(h, broken);
	mqi_leave(h);
	if (rung) return MQSHM_OK;
	if (left <= 0) return MQSHM_TIMEOUT;
	if (!sleeps) return MQSHM_EMPTY;
	int64_t ns = ns_until(until);
	if (ns > 0) mqi_futex_wait(&h->row->bell, bell, ns < left ? ns : left);
	if (mqi_enter(h) != MQSHM_OK) return MQSHM_FORKED;
	uint32_t rings = mqi_load_acq(&h->row->bell);
	if (unsay(h, until) && mqi_load_acq(&h->hdr->life) == life) h->heard = rings;
	upkeep(h);
	mqi_leave(h);
	return MQSHM_EMPTY;
}

int mqshm_watch(mqshm_t *h, int64_t timeout_ns)
{
	rows_set broken = {0};
	uint64_t start = mqi_mono_ns();
	uint32_t rung = __atomic_load_n(&h->rung, __ATOMIC_ACQUIRE);
	int rc = MQSHM_EMPTY;
	while (rc == MQSHM_EMPTY) {
		rc = watch(h, broken, timeout_ns - (int64_t)(mqi_mono_ns() - start));
		if (rc != MQSHM_FORKED && __atomic_load_n(&h->rung, __ATOMIC_ACQUIRE) != rung) rc = MQSHM_OK;
	}
	return rc == MQSHM_FORKED ? mqi_fail(rc, "the broker was opened by the parent process") : rc;
}
