/* One message out or in with a single call and few arguments, for bindings to which a call costs more than what it does.
 * These may come when the handle has been closed: they look at nothing but the handle before they have entered. */
#include "flow/receive.h"
#include "flow/settle.h"
#include "flow/supervise.h"

static int closed(void) { return mqi_fail(MQSHM_CLOSED, "it was closed"); }

int64_t mqshm_publish_flat(mqshm_t *h, mqshm_topic_t *t, const void *data, uint64_t size)
{
	uint64_t seq;
	if (unlikely(!h)) return -closed();
	int rc = mqshm_publish(h, t, data, size, NULL, &seq);
	return likely(rc == MQSHM_OK) ? (int64_t)seq : -rc;
}

/* Settled not before it was copied: until then a death delivers it again. */
static int copy(struct mqshm_sub *s, mqshm_flat *out)
{
	mqshm_delivery *d = &out->head;
	int rc = MQSHM_OK;
	if (d->size > out->room || d->id_size || d->key_size || d->headers_size) return MQSHM_TOO_LARGE;
	memcpy(out->data, d->data, d->size);
	out->size = (unsigned char)d->size;
	if (s->ack == MQSHM_ACK_NONE) rc = mqi_settle(d, &s->counters->settled);
	else if (s->ack == MQSHM_ACK_TIMEOUT) {
		mqi_fence_acq();
		if (mqi_load_rlx(&s->slots[d->slot].word) != d->word) rc = MQSHM_LEASE_LOST;
	}
	if (s->ack == MQSHM_ACK_NONE || rc != MQSHM_OK) mqi_unhold(d);
	if (unlikely(rc != MQSHM_OK)) return rc == MQSHM_LEASE_LOST ? MQSHM_EMPTY : rc; /* it went to another meanwhile */
	return likely(d->size == out->size) ? MQSHM_OK : -(int)d->size;
}

int mqshm_receive_flat(mqshm_flat *out)
{
	struct mqshm_sub *s = mqi_load_rlx(&out->sub);
	if (unlikely(!s)) return closed();
	int rc = mqi_enter(s->h);
	if (unlikely(rc != MQSHM_OK)) return mqi_fail(rc, "the subscription was opened by the parent process");
	rc = mqi_receive(s, &out->head);
	bool to_look = rc == MQSHM_OK && mqi_look_now(s, 1);
	if (likely(rc == MQSHM_OK)) rc = copy(s, out);
	mqi_leave(s->h);
	if (unlikely(to_look)) mqi_supervisor_look(s->h);
	return rc;
}

int mqshm_ack_flat(const void *bytes)
{
	mqshm_delivery d;
	memcpy(&d, bytes, sizeof d);
	return mqshm_ack(&d);
}
