/* Ends of a delivery. Each begins with a compare-and-swap from the leased word, so one that comes too late, or twice,
 * has no effect. The handle is entered. */
#ifndef MQI_SETTLE_H
#define MQI_SETTLE_H

#include "shm/handle.h"

/* INFLIGHT to FREE, through FREEING where there is a share of a payload to give back. */
int mqi_settle(mqshm_delivery *d, uint64_t *counter);
/* INFLIGHT to AGAIN, or to LATER for so long. MQSHM_LEASE_LOST, MQSHM_NO_MEMORY. */
int mqi_settle_later(mqshm_delivery *d, uint64_t ms);
/* FREEING(me), by d->word: the payload's share and the slot are given back. */
void mqi_finish_freeing(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t block, uint64_t gen, uint32_t bit);
/* One less towards the subscription's prefetch. */
static inline void mqi_unhold(mqshm_delivery *d)
{
	if (d->sub->held) d->sub->held--;
}
/* A claimable-where-it-stands slot: its message's time, hints and a wake-up. */
void mqi_made_again(struct mqshm_sub *s, uint32_t index);

#endif
