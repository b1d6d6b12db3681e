/* Waiting: spin a little, yield a little, then sleep. Spinning wins where the other side is on another core and soon
 * done (0.3 us instead of 60 for a round trip); yielding wins where both share a core; sleeping is for the rest, and is
 * cut into naps, so that signals, deaths and what is due are noticed. shm/event.h has the protocol.
 */
#include <errno.h>
#include <sched.h>

#include "flow/due.h"
#include "flow/reap.h"
#include "flow/receive.h"
#include "flow/supervise.h"
#include "flow/topic.h"
#include "os/futex.h"
#include "shm/block.h"
#include "shm/event.h"
#include "shm/slab.h"

#define SPIN_NS 2000            /* without giving the processor away */
#define SOON 8                  /* times longer where the last waits were short */
#define MORE 4                  /* messages where one was: a stream, not one and its answer */
#define MORE_EACH 2             /* the same for each pause after that */
#define AHEAD_PAUSES 10         /* for which the publisher may get ahead: 8 us */
#define SWITCHED_NS 1000        /* a yield that took this long let somebody else run */
#define HOGGED_NS 150000        /* and this long: perhaps somebody who does not give it back */
#define PAUSE_MIN_NS 1000000
#define PAUSE_MAX_NS 1000000000
#define SLICE_NS 100000000ll
#define TICK_SLOTS 1024

struct waiting {
	struct mqshm *h;
	struct mqshm_sub *const *subs;
	uint32_t n;
	uint64_t size; /* for memory */
	uint32_t many; /* messages that many_there asks for */
};
typedef bool (*looker)(const struct waiting *w);

/* The handle is entered for a look only; MQSHM_FORKED shows at the next operation. */
static bool look(const struct waiting *w, looker ready)
{
	if (mqi_enter(w->h) != MQSHM_OK) return true;
	bool yes = ready(w);
	mqi_leave(w->h);
	return yes;
}

static bool message_there(const struct waiting *w)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (mqi_may_receive(w->subs[i])) return true;
	return false;
}

static bool many_there(const struct waiting *w)
{
	for (uint32_t i = 0; i < w->n; i++)
		if (mqi_backlog(w->subs[i], w->many)) return true;
	return false;
}

static bool are_there(const struct waiting *w, uint32_t many)
{
	struct waiting more = *w;
	more.many = many;
	return look(&more, many_there);
}

/* A receiver that is as fast as its publisher meets it at the ring's end. Where nothing more comes meanwhile this is no
 * stream, and one whose other side shares its core has nothing to gain. */
static void let_publisher_ahead(const struct waiting *w, struct mqi_spin *mind)
{
	if (mind->yield_first || !mqi_slip_due(&mind->slip)) return;
	unsigned pauses = 0;
	do mqi_pause_a_little();
	while (are_there(w, MORE + pauses * MORE_EACH) && ++pauses < AHEAD_PAUSES);
	mqi_slip_tried(&mind->slip, pauses > 0);
}

/* A long yield that brought one message only was a stranger's slice: for a while, twice as long each time, do without. */
static void judge_yield(const struct waiting *w, struct mqi_spin *mind, uint64_t began, uint64_t took)
{
	mind->yield_first = took > SWITCHED_NS;
	if (took <= HOGGED_NS || are_there(w, MORE)) return; /* what the yield was long for was used by the other side */
	mind->pause_ns = mind->pause_ns ? mind->pause_ns * 2 : PAUSE_MIN_NS;
	if (mind->pause_ns > PAUSE_MAX_NS) mind->pause_ns = PAUSE_MAX_NS;
	mind->no_yield_until = began + took + mind->pause_ns;
}

static bool spin(const struct waiting *w, looker ready, struct mqi_spin *mind, uint64_t budget)
{
	uint64_t start = mqi_mono_ns(), now = start;
	bool close = ready == message_there; /* to the publisher: it comes while this pauses once */
	if (mind->soon) budget *= SOON;
	while (now - start < budget) {
		bool may_yield = now >= mind->no_yield_until;
		if (!may_yield && now - start > SPIN_NS) break;
		if (may_yield && (mind->yield_first || now - start > SPIN_NS)) {
			sched_yield();
			uint64_t back = mqi_mono_ns();
			judge_yield(w, mind, now, back - now);
			now = back;
		} else {
			mqi_pause_a_little();
			now = mqi_mono_ns();
		}
		if (look(w, ready)) {
			mind->soon = true;
			if (may_yield) mind->pause_ns = 0;
			if (close) let_publisher_ahead(w, mind);
			return true;
		}
		close = false;
	}
	mind->soon = false;
	return false;
}

/* One nap. 0, ETIMEDOUT or EINTR. Bits are set each round: a waker takes them. */
static int nap(const struct waiting *w, looker ready, uint64_t *const *events, uint32_t n, int64_t ns)
{
	struct mqshm *h = w->h;
	uint32_t seen = mqi_load_acq(&h->row->bell);
	for (uint32_t i = 0; i < n; i++) mqi_event_arm(h, events[i]);
	int rc = 0;
	if (!look(w, ready)) rc = mqi_futex_wait(&h->row->bell, seen, ns < MQI_NAP_NS ? ns : MQI_NAP_NS);
	return rc;
}

/* Threads of one process share its bits: only the last sleeper clears them. */
static void sleepers(struct mqshm *h, uint64_t *const *events, uint32_t n, int by)
{
	if (mqi_enter(h) != MQSHM_OK) return;
	h->sleepers += (uint32_t)by;
	if (h->sleepers == 0)
		for (uint32_t i = 0; i < n; i++) mqi_event_disarm(h, events[i]);
	mqi_leave(h);
}

/* What a process that has nothing to do can do for all: deaths, times, and hints that a stopped process left unset. */
static void upkeep(const struct waiting *w)
{
	if (mqi_enter(w->h) != MQSHM_OK) return;
	mqi_config_look(w->h);
	mqi_reap_soon(w->h);
	for (uint32_t i = 0; i < w->n; i++) {
		struct mqshm_sub *s = w->subs[i];
		if (mqi_load_acq(&s->shm->word) != s->word) continue;
		mqi_due_renew(s, s->ticked, TICK_SLOTS);
		mqi_due_fire(s, mqi_boot_ms());
		s->ticked = mqi_hints_renew(s, s->ticked, TICK_SLOTS);
	}
	mqi_leave(w->h);
	mqi_supervisor_look(w->h);
}

static int sleep_until(const struct waiting *w, looker ready, uint64_t *const *events, uint32_t n, int64_t timeout_ns)
{
	uint64_t start = mqi_mono_ns();
	int64_t left = timeout_ns < 0 || timeout_ns > SLICE_NS ? SLICE_NS : timeout_ns;
	int64_t end = left;
	int result = MQSHM_TIMEOUT;
	uint32_t rung = __atomic_load_n(&w->h->rung, __ATOMIC_ACQUIRE);
	sleepers(w->h, events, n, 1);
	for (; left > 0; left = end - (int64_t)(mqi_mono_ns() - start)) {
		int rc = nap(w, ready, events, n, left);
		if (rc == ETIMEDOUT) upkeep(w);
		if (look(w, ready)) result = MQSHM_OK;
		else if (rc == EINTR || __atomic_load_n(&w->h->rung, __ATOMIC_ACQUIRE) != rung) result = MQSHM_INTERRUPTED;
		else continue;
		break;
	}
	sleepers(w->h, events, n, -1);
	if (result != MQSHM_OK && look(w, ready)) result = MQSHM_OK; /* who took my bit counts on me */
	return result;
}

static int wait_messages(mqshm_t *h, mqshm_sub_t *const *subs, uint32_t n, int64_t timeout_ns, bool quietly)
{
	struct waiting w = {.h = h, .subs = subs, .n = n};
	uint64_t *few[16], **events = n <= 16 ? few : malloc(n * sizeof *events);
	if (n == 0 || !events) return mqi_fail(MQSHM_INVALID, "nothing to wait for");
	int rc = MQSHM_OK;
	uint64_t budget = timeout_ns >= 0 && (uint64_t)timeout_ns < h->spin_ns ? (uint64_t)timeout_ns : h->spin_ns;
	struct mqi_spin *mind = &subs[0]->spin;
	bool asleep = quietly || budget == 0 || mind->idle; /* who waits long is called slice after slice */
	if (look(&w, message_there)) {
		if (!asleep) let_publisher_ahead(&w, mind);
	} else if (asleep || !spin(&w, message_there, mind, budget)) {
		for (uint32_t i = 0; i < n; i++) events[i] = subs[i]->shm->waiters;
		rc = sleep_until(&w, message_there, events, n, timeout_ns);
		mind->idle = rc == MQSHM_TIMEOUT && (timeout_ns < 0 || timeout_ns >= SLICE_NS);
		for (uint32_t i = 0; rc == MQSHM_OK && i < n; i++) __atomic_store_n(&subs[i]->woken, true, __ATOMIC_RELAXED);
	}
	if (events != few) free(events);
	return rc;
}

int mqshm_wait(mqshm_t *h, mqshm_sub_t *const *subs, uint32_t n, int64_t timeout_ns)
{
	return wait_messages(h, subs, n, timeout_ns, false);
}

int mqshm_wait_quietly(mqshm_t *h, mqshm_sub_t *const *subs, uint32_t n, int64_t timeout_ns)
{
	return wait_messages(h, subs, n, timeout_ns, true);
}

int mqshm_ring_bell(mqshm_t *h)
{
	__atomic_fetch_add(&h->rung, 1u, __ATOMIC_ACQ_REL);
	mqi_event_ring_peer(h, h->peer);
	return MQSHM_OK;
}

/* Room for `least` groups of slots. A publisher that goes on with the first free slot meets a full subscription at once
 * again, and takes from the receivers' hands the lines of the slots that they free; so it waits for a little more, as
 * long as it does not sleep. */
static bool is_full(struct mqshm_sub *s, uint32_t least)
{
	return s->overflow != MQSHM_DROP_NEW && s->overflow != MQSHM_DROP_LOWEST && mqi_load_acq(&s->shm->word) == s->word && mqi_slot_free_groups(s) < least;
}

static bool memory_there(const struct waiting *w)
{
	uint64_t offset, gen;
	int rc = mqi_block_reserve(w->h, w->size, &offset, &gen);
	if (rc == MQSHM_OK) mqi_block_return(w->h, offset, gen);
	return rc != MQSHM_NO_MEMORY; /* what else is wrong, the next try says */
}

/* Of one receiver, or of memory: another one that is full is found, and waited for, by the next try. */
static bool room_there(const struct waiting *w) { return w->n ? !is_full(w->subs[0], 1) : memory_there(w); }
static bool much_room_there(const struct waiting *w)
{
	return w->n ? !is_full(w->subs[0], w->subs[0]->groups < MQI_MANY_GROUPS ? 1 : w->subs[0]->groups / MQI_MANY_GROUPS + 1) : memory_there(w);
}

static struct mqshm_sub *full_one(mqshm_t *h, const mqshm_topic_t *t)
{
	if (mqi_enter(h) != MQSHM_OK) return NULL;
	struct mqshm_sub *full = NULL;
	for (uint32_t i = 0; i < t->count && !full; i++)
		if (is_full(t->targets[i], 1)) full = t->targets[i];
	mqi_leave(h);
	return full;
}

int mqshm_wait_room(mqshm_t *h, mqshm_topic_t *t, uint64_t size, int64_t timeout_ns)
{
	if (h->forks != mqi_fork_count()) return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process");
	struct mqshm_sub *full = full_one(h, t);
	struct waiting w = {.h = h, .subs = &full, .n = full != NULL, .size = size};
	if (full && full->overflow != MQSHM_BLOCK)
		return mqi_fail(MQSHM_FULL, "all %u slots of subscription %u are taken", full->capacity, full->row);
	if (full && timeout_ns == 0) { /* not to wait, but to be sure: a publish that looks at every word, once */
		full->to_look = !full->to_look;
		return full->to_look ? MQSHM_OK : mqi_fail(MQSHM_FULL, "all %u slots of subscription %u are taken", full->capacity, full->row);
	}
	if (look(&w, room_there)) return MQSHM_OK;
	if (!full && h->overflow != MQSHM_BLOCK)
		return mqi_fail(MQSHM_NO_MEMORY, "max_memory_usage, or /dev/shm, has no room for %llu bytes", (unsigned long long)size);
	uint64_t *event = full ? full->shm->space_waiters : h->hdr->memory_waiters;
	uint64_t budget = timeout_ns >= 0 && (uint64_t)timeout_ns < h->spin_ns ? (uint64_t)timeout_ns : h->spin_ns;
	if (budget && spin(&w, much_room_there, full ? &full->spin : &h->spin, budget)) return MQSHM_OK;
	return sleep_until(&w, room_there, &event, 1, timeout_ns);
}
