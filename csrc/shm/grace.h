/* A grace period: what nothing leads to any more may still be in the hands of who found it before. Every process is seen
 * outside of operations once; who enters one after that sees what was written before. */
#ifndef MQI_GRACE_H
#define MQI_GRACE_H

#include "shm/handle.h"

/* false: a peer, perhaps a stopped one, is inside an operation, or cannot be told of by a barrier. Nobody waits for it. */
bool mqi_all_idle(struct mqshm *h);

#endif
