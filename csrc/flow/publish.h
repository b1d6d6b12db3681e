/* The steps of a message's way in, for who takes them one by one. The handle is entered. */
#ifndef MQI_PUBLISH_H
#define MQI_PUBLISH_H

#include "shm/handle.h"
#include "shm/ids.h"

#define MQI_SEQ_BLOCK 256
#define MQI_RESOLVE_ROUNDS 64

extern const mqshm_envelope mqi_plain; /* the envelope of a message that has none */

/* A message on its way in. */
struct mqi_message {
	const void *data;
	uint64_t size, expires_ns, published_ns, seq;
	const mqshm_envelope *envelope;
	uint64_t envelope_size;
	uint32_t topic;
	unsigned flags, ring;
	bool unique; /* flow/unique.h */
	struct mqi_id id;
};

/* A slot that this publisher holds for one receiver. */
struct mqi_claim {
	struct mqshm_sub *sub;
	uint64_t word;
	uint32_t index;
};

/* Checks payload and envelope against the configuration, and works out all but the sequence number. */
int mqi_prepare(struct mqshm *h, struct mqshm_topic *t, struct mqi_message *m);
/* A slot of the subscription, and memory for the cell and the time that it will need: after this nothing can fail. Where
 * it is full its policy decides; MQSHM_EMPTY: goes without. MQSHM_CLOSED: the match is out of date. */
int mqi_reserve(struct mqshm_sub *s, const struct mqi_message *m, struct mqi_claim *claim);
/* The oldest message of the lowest priority makes room, if that is not above ring `highest`'s. MQSHM_FULL where there is none,
 * or all is in flight. */
int mqi_drop_one(struct mqshm_sub *s, unsigned highest);
static inline bool mqi_drops_what_waits(const struct mqshm_sub *s) { return s->overflow == MQSHM_DROP_OLDEST || s->overflow == MQSHM_DROP_LOWEST; }
/* The subscription goes without a message: as if it had come in and been dropped; but drop_new never lets it in. */
void mqi_count_without(struct mqshm_sub *s);
/* After the commit (with a block), or as the commit (inline): into its ring, or aside until its time. */
int mqi_deliver(struct mqi_claim *claim, const struct mqi_message *m);
void mqi_count_published(struct mqshm_topic *t, const struct mqi_message *m);

static inline uint64_t mqi_next_seq(struct mqshm *h)
{
	if (unlikely(h->next_seq == h->end_seq)) {
		h->next_seq = mqi_add64(&h->hdr->next_seq, MQI_SEQ_BLOCK);
		h->end_seq = h->next_seq + MQI_SEQ_BLOCK;
	}
	return h->next_seq++;
}

/* Marks the subscription as one whose words may name this peer: before the first claim in it. */
static inline void mqi_touch(struct mqshm_sub *s)
{
	if (likely(s->touched)) return;
	mqi_or64(&s->h->row->touched[s->row / 64], 1ull << s->row % 64);
	s->touched = true;
}

#endif
