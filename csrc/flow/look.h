/* What a subscription holds, counted slot by slot where it is small and estimated where it is not. */
#ifndef MQI_LOOK_H
#define MQI_LOOK_H

#include "shm/handle.h"

struct mqi_held {
	uint64_t waiting, in_flight, later, used;
	uint64_t again; /* of those that wait: what was delivered before */
	uint64_t waiting_by_ring[MQI_PRIORITIES];
	uint64_t oldest_ns[MQI_PRIORITIES];
	bool sampled;
};

/* Sums up what the processes counted of a row, in its present life. */
void mqi_look_counters(struct mqshm *h, uint32_t row, struct sub_counters_shm *sum);
/* The same of all topics together. */
void mqi_look_topics(struct mqshm *h, struct topic_counters_shm *sum);
/* At most about `most` slots are looked at. Where there are more, what waits is taken from the rings, what else there is
 * from the counters `sum`, and what that is from the share of groups that are looked at. leases[owner] counts what is
 * leased to each peer, scaled up in the same way; NULL: nobody asks. */
void mqi_look(struct mqshm_sub *s, const struct sub_counters_shm *sum, uint32_t most, uint64_t *leases, struct mqi_held *out);
/* When the message of a slot was published, as long as its word is w; 0 otherwise. */
uint64_t mqi_look_published(struct mqshm_sub *s, uint32_t index, uint64_t w);

#endif
