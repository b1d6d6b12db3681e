/* Taking messages out of a subscription: by its rings, or where they stand (AGAIN). The handle is entered. */
#ifndef MQI_RECEIVE_H
#define MQI_RECEIVE_H

#include "shm/handle.h"

#define MQI_REFUSED 1000 /* leased, but not to be handed out: over its time, or over its attempts (flow/dead.h) */
#define MQI_LOOK_EVERY 64u

/* mqshm_receive. */
int mqi_receive(struct mqshm_sub *s, mqshm_delivery *out);
/* A consumer that always finds a message never sleeps: it looks for a supervisor once in so many messages. */
static inline bool mqi_look_now(struct mqshm_sub *s, uint32_t got)
{
	return unlikely(mqi_load_rlx(&s->counters->delivered) % MQI_LOOK_EVERY < got);
}
/* Leases a claimable slot: one compare-and-swap from `word`; MQSHM_OK or MQI_REFUSED. MQSHM_EMPTY: somebody was faster.
 * MQSHM_CORRUPT: what it carries makes no sense; the slot is given back and counted as dropped. */
int mqi_claim(struct mqshm_sub *s, uint32_t index, uint64_t word, mqshm_delivery *out);
/* The first message of one ring, or of those to be delivered again in it. */
int mqi_claim_ring(struct mqshm_sub *s, unsigned ring, mqshm_delivery *out);
int mqi_claim_again(struct mqshm_sub *s, unsigned ring, mqshm_delivery *out);
/* For those who drop: lowest priority first, down from ring 4 to `highest`. */
int mqi_claim_lowest(struct mqshm_sub *s, unsigned highest, mqshm_delivery *out);
/* Whether a receive may find something. Only looks. */
bool mqi_may_receive(struct mqshm_sub *s);
/* Whether about so many messages wait, at least two in one ring. Only looks, at one place of each ring that is in use. */
bool mqi_backlog(struct mqshm_sub *s, uint32_t many);
/* Fields of a slot that the caller holds, or copies and then checks. false: not what mqshm writes. */
bool mqi_delivery_fill(struct mqshm_sub *s, uint32_t index, mqshm_delivery *out);

#endif
