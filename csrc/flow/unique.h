/* Messages whose id is published once within the configuration's dedup_window, per topic: the steps of their way in that
 * others do not have. They are in a block also where they are small, for it is the block that decides (shm/ids.h). */
#ifndef MQI_UNIQUE_H
#define MQI_UNIQUE_H

#include "flow/publish.h"

/* Before anything is reserved for it: MQSHM_DUPLICATE where it is known. */
int mqi_unique_look(struct mqshm *h, struct mqi_message *m);
/* Just before the commit of all of the messages in NEW(me) of the block: their ids are ours, or MQSHM_DUPLICATE, with the
 * message in *which; MQSHM_CLOSED: begin anew. Then the block is to be given back, or redeemed. */
int mqi_unique_claim(struct mqshm *h, struct mqi_message *messages, uint32_t n, uint64_t block, uint64_t gen, uint32_t *which);

#endif
