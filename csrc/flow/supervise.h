/* The supervisor seen from its users: each looks now and then whether there is one, off the path of a message, and may
 * start one. None needs it. */
#ifndef MQI_SUPERVISE_H
#define MQI_SUPERVISE_H

#include "shm/handle.h"

#define MQI_LOOK_NS 200000000ull

/* Looks unless this process did so lately; starts one where there is none and this process may. Not to be called with
 * the handle entered. */
void mqi_supervisor_look(struct mqshm *h);
/* The same where the caller knows the (coarse) time already. */
static inline void mqi_supervisor_look_at(struct mqshm *h, uint64_t wall_ns)
{
	if (unlikely(wall_ns - __atomic_load_n(&h->looked_ns, __ATOMIC_RELAXED) >= MQI_LOOK_NS)) mqi_supervisor_look(h);
}
/* The supervisor has something to look at: somebody came or left. */
void mqi_supervisor_ring(struct mqshm *h);

#endif
