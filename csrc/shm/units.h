/* Units: address space handed out by the MiB. Claimed in ascending neighbours, published by one CAS on the first. */
#ifndef MQI_UNITS_H
#define MQI_UNITS_H

#include "shm/reach.h"

/* Units that were ever claimed, and whose rows are memory. */
static inline uint64_t mqi_units_known(struct mqshm *h)
{
	uint64_t rows = mqi_area_ready(&h->hdr->areas[AREA_UNITS]) / sizeof(struct unit_shm);
	return mqi_least(mqi_least(rows, h->units), mqi_load_acq(&h->hdr->units_top));
}

/* How many the chunk that starts at `first` has: those that still follow it, where it is being given back. */
uint64_t mqi_units_of(struct mqshm *h, uint64_t first);

/* Units that name the dead peer are taken over, then given back. */
void mqi_units_repair(struct mqshm *h, unsigned dead);

#endif
