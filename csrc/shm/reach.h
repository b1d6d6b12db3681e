/* From an offset that was read from shared memory to a pointer that may be used: checked against the memory that there
 * is and against the mapping, so that whatever the segment holds, nothing outside it is touched. */
#ifndef MQI_REACH_H
#define MQI_REACH_H

#include "shm/area.h"
#include "shm/peers.h"
#include "shm/subs.h"

/* The `size` bytes at `at` of an area; NULL where they are not memory. */
static inline void *mqi_reach(struct mqshm *h, const struct area_shm *a, uint64_t at, uint64_t size)
{
	uint64_t ready = mqi_area_ready(a), offset = mqi_load_rlx(&a->offset);
	if (unlikely(size > ready || at > ready - size)) return NULL;
	if (unlikely(offset > h->span || at + size > h->span - offset || offset % 8)) return NULL;
	return h->base + offset + at;
}

static inline uint64_t mqi_least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Rows that were ever taken, and are memory. */
static inline uint32_t mqi_subs_rows(struct mqshm *h)
{
	uint64_t rows = mqi_area_ready(&h->hdr->areas[AREA_SUBS]) / sizeof(struct sub_shm);
	return (uint32_t)mqi_least(mqi_least(rows, MQI_SUBS), mqi_load_acq(&h->hdr->subs_top));
}
static inline uint32_t mqi_peers_rows(struct mqshm *h)
{
	uint64_t rows = mqi_area_ready(&h->hdr->areas[AREA_PEERS]) / sizeof(struct peer_shm);
	return (uint32_t)mqi_least(mqi_least(rows, MQI_PEERS), mqi_load_acq(&h->hdr->peers_top));
}

/* A counter in the sheet of peer p; NULL where that peer has not counted anything there. */
enum mqi_sheet { SHEET_TOPICS = 0, SHEET_SUBS = 1 };
static inline struct topic_counters_shm *mqi_topic_counters(struct mqshm *h, unsigned p, uint32_t topic)
{
	return mqi_reach(h, &h->hdr->sheets[p][SHEET_TOPICS], (uint64_t)topic * sizeof(struct topic_counters_shm),
	                 sizeof(struct topic_counters_shm));
}
static inline struct sub_counters_shm *mqi_sub_counters(struct mqshm *h, unsigned p, uint32_t row)
{
	return mqi_reach(h, &h->hdr->sheets[p][SHEET_SUBS], (uint64_t)row * sizeof(struct sub_counters_shm),
	                 sizeof(struct sub_counters_shm));
}

#endif
