/* Messages whose time is over. Who waits in a ring is taken out where it stands, and leaves a tomb (shm/ring.h); who
 * stands aside is freed at once. What is leased does not expire. The handle is entered.
 *
 *   READY, OFFER (linked)   EXPIRING(me, gen + 1), its share of the payload given back, TOMB; FREE once head has passed it
 *   AGAIN, LATER            FREEING(me, gen + 1), its share given back, FREE
 */
#ifndef MQI_EXPIRE_H
#define MQI_EXPIRE_H

#include "shm/handle.h"

/* When the message in slot i is over, wall ns; 0: never, or the slot's word is not `word` any more. */
uint64_t mqi_expiry(struct mqshm_sub *s, uint32_t i, uint64_t word);
/* By the slot's word, which says that it waits; false: somebody was faster. Of an OFFER the caller knows that it is
 * linked. A tomb may be at the head of its ring: mqi_ring_sweep, once for all that were made. */
bool mqi_expire(struct mqshm_sub *s, uint32_t i, uint64_t word);
/* EXPIRING of a peer that is gone goes on. */
void mqi_expire_take_over(struct mqshm_sub *s, uint32_t i, uint64_t word);

#endif
