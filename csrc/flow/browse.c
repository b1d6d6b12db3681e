/* Looking without taking, and the tick. */
#include "flow/due.h"
#include "flow/reap.h"
#include "flow/receive.h"
#include "shm/ring.h"
#include "shm/ids.h"
#include "shm/slab.h"
#include "shm/subs.h"
#include "shm/trim.h"

/* Copies payload and envelope of one waiting message; they are as they were if the slot's word still is. */
static bool copy(struct mqshm_sub *s, uint32_t i, uint64_t w, mqshm_delivery *out, unsigned char *to, uint64_t room)
{
	if (!mqi_delivery_fill(s, i, out)) return false;
	uint64_t parts[4] = {out->size, out->id_size, out->headers_size, out->key_size};
	const unsigned char **at[4] = {&out->data, &out->id, &out->headers, &out->key};
	if (parts[1] + parts[2] + parts[3] > room) return false;
	if (parts[0] > room - parts[1] - parts[2] - parts[3]) parts[0] = room - parts[1] - parts[2] - parts[3]; /* cut */
	for (unsigned p = 0; p < 4; p++) {
		if (parts[p]) memcpy(to, *at[p], parts[p]);
		*at[p] = to;
		to += parts[p];
	}
	out->word = w;
	out->attempt = mqi_slot_attempts(w);
	mqi_fence_acq();
	return mqi_load_rlx(&s->slots[i].word) == w;
}

int mqshm_browse(mqshm_t *h, uint32_t row, uint32_t *cursor, mqshm_delivery *out, void *to, uint64_t room)
{
	struct mqshm_sub *s;
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	rc = row < MQI_SUBS ? mqi_view(h, row, &s) : mqi_fail(MQSHM_INVALID, "there is no subscription %u", row);
	if (rc == MQSHM_OK) {
		uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
		rc = MQSHM_EMPTY;
		for (; rc == MQSHM_EMPTY && *cursor < ready && *cursor < s->capacity; ++*cursor) {
			uint64_t w = mqi_load_acq(&s->slots[*cursor].word);
			unsigned state = mqi_slot_state(w);
			bool waits = state == SLOT_READY || state == SLOT_AGAIN || state == SLOT_LATER ||
			             (state == SLOT_OFFER && mqi_ring_leads_to(s, *cursor)); /* else it is only on its way in */
			if (waits && copy(s, *cursor, w, out, to, room)) rc = MQSHM_OK;
		}
	}
	mqi_leave(h);
	return rc;
}

int mqshm_tick(mqshm_t *h)
{
	int rc = mqi_enter(h);
	if (rc != MQSHM_OK) return mqi_fail(rc, "the broker was opened by the parent process");
	for (uint32_t row = 0, top = (uint32_t)mqi_load_acq(&h->hdr->subs_top); row < top && row < MQI_SUBS; row++) {
		struct mqshm_sub *s;
		if (mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) != SUB_OPEN || mqi_view(h, row, &s) != MQSHM_OK) continue;
		mqi_due_renew(s, 0, UINT32_MAX);
		mqi_due_fire_all(s, mqi_boot_ms());
		mqi_hints_renew(s, 0, UINT32_MAX);
	}
	mqi_subs_sweep(h);
	mqi_ids_turn(h, h->dedup_window_ms);
	mqi_trim_idle(h);
	mqi_leave(h);
	return MQSHM_OK;
}
