/* Dead letters: a message that is given up goes to the dead-letter topic, by a commit that publishes it there and settles
 * it here, so it is in one place whoever dies when. The handle is entered. */
#ifndef MQI_DEAD_H
#define MQI_DEAD_H

#include "shm/handle.h"

/* Why a claimed message is not to be handed out; MQI_ALIVE: it is. */
enum mqi_death { MQI_ALIVE, MQI_REJECTED, MQI_WORN_OUT, MQI_EXPIRED };
static inline enum mqi_death mqi_death_of(const mqshm_delivery *d)
{
	if (unlikely(d->expires_ns) && d->expires_ns <= mqi_wall_ns()) return MQI_EXPIRED;
	uint32_t most = mqi_load_rlx(&d->sub->shm->max_attempts);
	return unlikely(most && d->attempt > most) ? MQI_WORN_OUT : MQI_ALIVE;
}

/* Ends a leased message: as a dead letter where that is configured (and it is not one already), otherwise for good.
 * Where neither memory nor the dead-letter topic's other receivers have room for it, it stays, to be delivered again
 * after its longest wait: it is never lost. `reason` NULL is that of its death. MQSHM_OK, MQSHM_LEASE_LOST;
 * MQSHM_NO_MEMORY: not even to wait, so it is to be had at once. */
int mqi_give_up(mqshm_delivery *d, enum mqi_death why, const char *reason, uint32_t reason_size);

/* Messages among n slots from `from` on that are to be delivered again, and have been too often: nobody need receive for
 * them to end. */
void mqi_give_up_worn(struct mqshm_sub *s, uint32_t from, uint32_t n);

#endif
