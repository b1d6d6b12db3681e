/* One message out or in with a single call and plain values, for bindings to which every pointer they pass and every field
 * they read back is dear. */
#include <string.h>

#include "flow/handle.h"

int64_t mqshm_publish_flat(mqshm_t *h, mqshm_topic_t *t, const void *data, uint64_t size)
{
	uint64_t seq;
	int rc = mqshm_publish(h, t, data, size, NULL, &seq);
	return rc == MQSHM_OK ? (int64_t)seq : -rc;
}

int64_t mqshm_receive_flat(mqshm_sub_t *s, void *out, uint64_t room)
{
	mqshm_delivery *d = out;
	int rc = mqshm_receive(s, d);
	if (rc != MQSHM_OK) return -rc;
	if (d->size > room - sizeof *d || d->id_size || d->key_size || d->headers_size) return 0;
	if (s->ack == MQSHM_ACK_TIMEOUT) rc = mqshm_delivery_read(d, d->data, d + 1, d->size);
	else memcpy(d + 1, d->data, d->size);
	/* Not before it was copied: until then the memory is this receiver's, and a death delivers the message again. */
	if (s->ack == MQSHM_ACK_NONE) rc = mqshm_ack(d);
	if (rc == MQSHM_LEASE_LOST) return -MQSHM_EMPTY; /* it went to another while it was copied */
	return rc == MQSHM_OK ? (int64_t)(sizeof *d + d->size) : -rc;
}
