/* What the supervisor does for all, between its sleeps: times, hints that somebody who was stopped left unset, memory in
 * which nothing is. */
#include "flow/due.h"
#include "os/futex.h"
#include "shm/reach.h"
#include "shm/slab.h"
#include "shm/trim.h"

#define PASS_NS 50000000ll  /* a time that begins meanwhile is looked at after this at the latest */
#define TRIM_MS 500u         /* a chunk in which nothing was used for so long goes back */
#define PASS_SLOTS 4096u    /* whose hints are renewed in a pass */

static struct mqshm_sub *open_sub(struct mqshm *h, uint32_t row)
{
	struct mqshm_sub *s;
	if (mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) != SUB_OPEN) return NULL;
	return mqi_view(h, row, &s) == MQSHM_OK ? s : NULL;
}

static uint64_t fire(struct mqshm *h, uint32_t rows)
{
	uint64_t first = UINT64_MAX;
	for (uint32_t row = 0; row < rows; row++) {
		struct mqshm_sub *s = mqi_load_acq(&mqi_sub(h, row)->next_due) ? open_sub(h, row) : NULL;
		if (!s) continue;
		mqi_due_fire(s, mqi_boot_ms());
		uint64_t next = mqi_load_acq(&s->shm->next_due);
		if (next && next < first) first = next;
	}
	return first;
}

/* A share of the slots in each pass, from row to row. */
static void renew(struct mqshm *h, uint32_t rows)
{
	uint32_t left = PASS_SLOTS;
	for (uint32_t i = 0; i < rows && left; i++, h->ticked++) {
		if (h->ticked >= rows) h->ticked = 0;
		struct mqshm_sub *s = open_sub(h, h->ticked);
		uint32_t ready = s ? (uint32_t)mqi_least(mqi_load_acq(&s->shm->slots_ready), s->capacity) : 0;
		if (ready == 0) continue;
		uint32_t slots = left < ready ? left : ready;
		mqi_due_renew(s, s->ticked, slots);
		s->ticked = mqi_hints_renew(s, s->ticked, slots);
		left -= slots;
		if (s->ticked != 0) break; /* the rest of it next time */
	}
}

/* ns until the next that is known to be due; false: the handle is of the parent process. */
static bool pass(struct mqshm *h, int64_t *ns)
{
	if (mqi_enter(h) != MQSHM_OK) return false;
	uint32_t rows = mqi_subs_rows(h);
	renew(h, rows);
	uint64_t first = fire(h, rows), now = mqi_boot_ms();
	mqi_subs_sweep(h);
	if (now - h->trimmed_ms >= TRIM_MS) {
		h->trimmed_ms = now;
		mqi_trim_idle(h);
	}
	mqi_leave(h);
	*ns = PASS_NS;
	if (first <= now) *ns = 0;
	else if (first - now < PASS_NS / 1000000) *ns = (int64_t)(first - now) * 1000000;
	return true;
}

int mqshm_watch(mqshm_t *h, int64_t timeout_ns)
{
	uint64_t start = mqi_mono_ns();
	for (int64_t left = timeout_ns; ; left = timeout_ns - (int64_t)(mqi_mono_ns() - start)) {
		int64_t ns;
		if (!pass(h, &ns)) return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process");
		uint32_t bell = mqi_load_acq(&h->row->bell);
		if (bell != h->heard) {
			h->heard = bell;
			return MQSHM_OK;
		}
		if (left <= 0) return MQSHM_TIMEOUT;
		if (ns > 0) mqi_futex_wait(&h->row->bell, bell, ns < left ? ns : left);
	}
}
