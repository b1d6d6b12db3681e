/* The per-message verbs as a table, for the front that calls them without cffi. */
#include "mqshm.h"

static const mqshm_front_api table = {
	.abi = MQSHM_ABI,
	.publish = mqshm_publish,
	.publish_batch = mqshm_publish_batch,
	.receive = mqshm_receive,
	.receive_batch = mqshm_receive_batch,
	.ack = mqshm_ack,
	.ack_batch = mqshm_ack_batch,
	.ack_hold = mqshm_ack_hold,
	.release = mqshm_release,
	.nack = mqshm_nack,
	.reject = mqshm_reject,
	.extend = mqshm_extend,
	.read = mqshm_delivery_read,
	.wait = mqshm_wait,
	.wait_room = mqshm_wait_room,
	.topic_open = mqshm_topic_open,
	.topic_name = mqshm_topic_name,
	.reason = mqshm_reason,
};

const mqshm_front_api *mqshm_front(void) { return &table; }
