/* Opening, closing and deleting subscriptions. Creating takes the control lock before it enters the handle: its holder
 * may be slow, and this process's other threads are to go on meanwhile. */
#include "shm/subs.h"
#include "shm/trim.h"

static int forked(void) { return mqi_fail(MQSHM_FORKED, "the broker was opened by the parent process"); }

static void member(struct mqshm_sub *s, bool on)
{
	uint64_t *word = &s->shm->members[s->h->peer / 64], bit = 1ull << s->h->peer % 64;
	if (on) mqi_or64(word, bit);
	else mqi_and64(word, ~bit);
}

static int open_row(struct mqshm *h, uint32_t row, mqshm_sub_t **out)
{
	int rc = mqi_view(h, row, out);
	if (rc != MQSHM_OK) return rc;
	if ((*out)->opened++ == 0) member(*out, true);
	return MQSHM_OK;
}

int mqshm_sub_create(mqshm_t *h, const mqshm_sub_options *o, mqshm_sub_t **out)
{
	uint32_t row;
	*out = NULL;
	if (h->forks != mqi_fork_count()) return forked();
	int rc = mqi_control_lock(h);
	if (rc != MQSHM_OK) return rc;
	if (mqi_enter(h) == MQSHM_OK) {
		mqi_subs_finish(h); /* what deleted ones held may be just what is needed */
		rc = mqi_subs_add(h, o, &row);
		if (rc == MQSHM_NO_MEMORY && mqi_trim_locked(h)) rc = mqi_subs_add(h, o, &row);
		if (rc == MQSHM_OK) rc = open_row(h, row, out);
		mqi_leave(h);
	} else rc = forked();
	mqi_control_unlock(h);
	return rc;
}

int mqshm_sub_open(mqshm_t *h, const char *name, uint32_t name_size, mqshm_sub_t **out)
{
	uint32_t row;
	*out = NULL;
	if (mqi_enter(h) != MQSHM_OK) return forked();
	int rc = mqi_subs_find(h, name, name_size, &row);
	if (rc == MQSHM_OK) rc = open_row(h, row, out);
	mqi_leave(h);
	return rc;
}

int mqshm_sub_options_get(mqshm_sub_t *s, mqshm_sub_options *out)
{
	struct sub_shm *row = s->shm;
	int rc = MQSHM_OK;
	if (mqi_enter(s->h) != MQSHM_OK) return forked();
	*out = (mqshm_sub_options){
		.pattern_count = mqi_load_rlx(&row->patterns),
		.capacity = s->capacity,
		.ack = s->ack,
		.overflow = s->overflow,
		.max_attempts = mqi_load_rlx(&row->max_attempts),
		.prefetch = s->prefetch,
		.ack_timeout_ms = mqi_load_rlx(&row->ack_timeout_ms),
		.backoff_min_ms = mqi_load_rlx(&row->backoff_min_ms),
		.backoff_max_ms = mqi_load_rlx(&row->backoff_max_ms),
	};
	if (mqi_load_acq(&row->word) != s->word) rc = mqi_fail(MQSHM_CLOSED, "the subscription was deleted");
	mqi_leave(s->h);
	return rc;
}

int mqshm_sub_delete(mqshm_t *h, const char *name, uint32_t name_size)
{
	uint32_t row;
	if (mqi_enter(h) != MQSHM_OK) return forked();
	int rc = mqi_subs_find(h, name, name_size, &row);
	if (rc == MQSHM_OK) rc = mqi_subs_remove(h, row, mqi_load_acq(&mqi_sub(h, row)->word));
	mqi_leave(h);
	return rc;
}

void mqshm_sub_close(mqshm_sub_t *s)
{
	struct mqshm *h = s->h;
	if (mqi_enter(h) != MQSHM_OK) return;
	if (s->opened && --s->opened == 0 && mqi_view_holds(s)) {
		member(s, false);
		if (mqi_sub_owner(s->word) != MQI_NOBODY) mqi_subs_remove(h, s->row, s->word);
	}
	mqi_leave(h);
}
