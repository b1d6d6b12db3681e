#ifndef MQI_PUBLISH_H
#define MQI_PUBLISH_H

#include "flow/handle.h"

/* A slot that this publisher holds for one receiver. */
struct mqi_claim {
	struct mqshm_sub *sub;
	uint64_t word;
	uint32_t index;
};

/* Marks the subscription as one whose words may name this peer: before the first claim in it. */
static inline void mqi_touch(struct mqshm_sub *s)
{
	if (likely(s->touched)) return;
	mqi_or64(&s->h->row->touched[s->row / 64], 1ull << s->row % 64);
	s->touched = true;
}

#endif
