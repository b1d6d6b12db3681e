#ifndef MQI_PURGE_H
#define MQI_PURGE_H

#include "shm/handle.h"

/* Frees every message of the subscription that nobody holds. MQSHM_OK: every slot is FREE; MQSHM_FULL: some are leased
 * or just being published. The handle is entered. */
int mqi_purge_slots(struct mqshm *h, struct mqshm_sub *view, uint64_t *purged);

#endif
