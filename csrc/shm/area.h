/* Areas: address space that becomes memory from its start on. Lock-free: a growth is asked for in the area's word, granted
 * there if the sum of all words is within the limit, made memory, and done. Each step is one CAS by anybody who needs the
 * area, so that a dead or stopped grower is finished by the next one. Before it is granted nobody has made memory for
 * it, so anybody may also undo it; after, it is undone only where the kernel has no memory. */
#ifndef MQI_AREA_H
#define MQI_AREA_H

#include "shm/handle.h"

/* Makes at least the first `bytes` of the area memory (rounded up to pages; `ahead` more where that is allowed).
 * MQSHM_OK, MQSHM_NO_MEMORY (limit or /dev/shm; reason set), MQSHM_TOO_LARGE (over the area's size), MQSHM_CLOSED (the
 * area is nobody's, or on its way back). */
int mqi_area_grow(struct mqshm *h, struct area_shm *a, uint64_t bytes, uint64_t ahead);
/* The same for the chunk that starts at unit u. */
int mqi_unit_grow(struct mqshm *h, uint64_t unit, uint64_t bytes, uint64_t ahead);
static inline uint64_t mqi_area_ready(const struct area_shm *a)
{
	return (uint64_t)mqi_area_committed(mqi_load_acq(&a->word)) * MQI_PAGE;
}
/* Finishes or undoes growth that was left, and gives back the units that the dead peer had CLAIMED or RETIRING. Used by
 * reap. */
void mqi_areas_repair(struct mqshm *h, unsigned dead);
static inline uint64_t mqi_owned_area_word(const struct mqshm *h, unsigned state, uint32_t committed)
{
	return mqi_area_word(state, h->peer, committed, (uint32_t)(h->inc >> 4), (unsigned)h->inc);
}
/* Of an area that nobody uses, and nobody comes to use: its memory goes back to the system. */
void mqi_area_clear(struct mqshm *h, struct area_shm *a);
/* Bytes of memory of the segment: the fixed part and every area, unit and region. */
uint64_t mqi_memory_used(struct mqshm *h);

/* Claims `count` neighbouring units: AREA_CLAIMED by this peer, kind and the other fields not yet set. Claimed units must
 * not become memory before they are published: a death gives them back as they are.
 * MQSHM_NO_MEMORY where address space is used up. */
int mqi_units_claim(struct mqshm *h, uint64_t count, uint64_t *first);
/* Claimed units become a chunk: fields and AREA_TAIL in the rest first, then the first ACTIVE, without memory yet. */
void mqi_units_publish(struct mqshm *h, uint64_t first, uint64_t count, uint32_t kind, uint32_t stride, uint32_t blocks);
/* Back to FREE; memory must have been given back (mqi_punch) by the caller, who owns them (CLAIMED or RETIRING). */
void mqi_units_free(struct mqshm *h, uint64_t first, uint64_t count);

static inline struct unit_shm *mqi_unit(const struct mqshm *h, uint64_t u)
{
	return (struct unit_shm *)(h->base + h->areas[AREA_UNITS]) + u;
}
static inline uint64_t *mqi_unit_hints(struct mqshm *h) { return (uint64_t *)(h->base + h->hints_offset); }

#endif
