/* Chunks of payloads in which nothing is used go back to the system.
 *
 *   0  everybody is seen outside of operations, and what was retired before is given back: who is stopped inside one
 *      would keep 4 from happening, and with each round there would be less memory for the others
 *   1  every block of the chunk is taken: NEW(me). A death up to here gives them back like any other
 *   2  the chunk ACTIVE to RETIRING, which names nobody: no block of it is found any more, and none is given back
 *   3  chunks_version is raised: who enters from here on forgets the chunks that it knew
 *   4  a grace period
 *   5  what generations its blocks have reached is noted, memory and units are given back
 *
 * From 2 on it is anybody's to finish, from the start or again. All of it under the control lock, which is only tried
 * for. A process that is stopped inside an operation from between 0 and 4 on keeps the memory of that one round.
 */
#ifndef MQI_TRIM_H
#define MQI_TRIM_H

#include "shm/handle.h"

/* All empty chunks, for who has no memory. Whether any was given back. Handle entered. */
bool mqi_trim_all(struct mqshm *h);
bool mqi_trim_locked(struct mqshm *h); /* the same, at once, for who has the control lock */
/* Those in which this process has seen no block used since it last called. */
void mqi_trim_idle(struct mqshm *h);

#endif
