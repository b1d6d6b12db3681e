/* The memory of one subscription: units of its own, in which its areas lie one after the other, each from a page on.
 *
 *   text, free hints, again hints, due hints | slots | times | ring 0 .. ring 4
 *
 * Made and given back under the control lock. */
#ifndef MQI_REGION_H
#define MQI_REGION_H

#include "shm/handle.h"

static inline uint32_t mqi_groups(uint32_t capacity) { return (capacity + MQI_GROUP - 1) / MQI_GROUP; }
static inline uint32_t mqi_hint_words(uint32_t groups) { return (groups + 63) / 64; }
static inline uint32_t mqi_due_words(uint32_t capacity) { return (capacity + (1u << MQI_DUE_SHIFT) - 1) >> MQI_DUE_SHIFT; }

/* Claims units for a row in CREATING, writes its fields and gives it its first memory. What a failure or a death leaves
 * is for mqi_region_free. */
int mqi_region_make(struct mqshm *h, uint32_t row, const mqshm_sub_options *o);

/* From now on none of its areas grows. What is memory stays so. */
void mqi_region_retire(struct mqshm *h, uint32_t row);
/* Retired before, slots_ready is 0, and no process that was inside an operation then still is: memory and units are given
 * back. May be repeated after a death at any point. */
void mqi_region_free(struct mqshm *h, uint32_t row);

#endif
