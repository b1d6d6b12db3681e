/* Repair after processes that are gone. Every repair is a compare-and-swap from the exact word that named the dead, so
 * any number of reapers may work at once, and one that dies leaves nothing new to repair. The handle is entered. */
#ifndef MQI_REAP_H
#define MQI_REAP_H

#include "shm/handle.h"

/* Everything that names `peer` is given back or on. dead_word: the row's word when it was found dead; the sweep stops
 * (MQSHM_EMPTY) when the row is no longer that. 0: of oneself, on leaving. */
int mqi_sweep_row(struct mqshm *h, unsigned peer, uint64_t dead_word);
/* Looks for deaths unless this process did so in the last few milliseconds. true: something was repaired. */
bool mqi_reap_soon(struct mqshm *h);
int mqi_reap(struct mqshm *h, uint32_t *dead);

#endif
