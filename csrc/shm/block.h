/* Blocks: payloads with a life of their own, in chunks of equal blocks. Free to NEW(owner) by one compare-and-swap,
 * NEW to LIVE with a bit per receiver when its message is committed; a receiver that is done clears its bit, and the
 * last one frees the block by the same compare-and-swap. To clear a bit twice does no harm, so who repairs may repeat.
 *
 * More than 20 receivers (F_WIDE): behind payload and envelope stand `wide` words {gen:40 | bits:24}, one bit per
 * receiver; the words are dealt to the 20 bits of the block's own word, which falls when the last of its words is 0.
 */
#ifndef MQI_BLOCK_H
#define MQI_BLOCK_H

#include "shm/handle.h"

#define MQI_HOLDERS 20u
#define MQI_WIDE_BITS 24u

static inline struct block_shm *mqi_block(struct mqshm *h, uint64_t offset) { return (struct block_shm *)(h->base + offset); }
static inline unsigned char *mqi_block_data(struct block_shm *b) { return (unsigned char *)(b + 1); }

/* A block with room for `bytes` behind its header: NEW(me). MQSHM_NO_MEMORY only after a look at every word. */
int mqi_block_reserve(struct mqshm *h, uint64_t bytes, uint64_t *offset, uint64_t *gen);
/* One certain block, in a chunk: FREE to NEW(me). */
bool mqi_block_take(struct mqshm *h, uint64_t offset, uint64_t *gen);
/* What a unit says of its chunk, read once and checked: the blocks lie in the chunk, the chunk in the segment. */
struct mqi_chunk {
	uint64_t committed; /* bytes of memory */
	uint32_t stride, blocks;
};
/* Whether a chunk of blocks begins at the unit that can be looked at. */
bool mqi_is_chunk(const struct mqshm *h, uint64_t unit, struct mqi_chunk *c);
bool mqi_chunk_is_sound(const struct mqshm *h, uint64_t unit, struct mqi_chunk *c); /* whatever its word says; not committed */
/* Blocks that are memory. */
static inline uint64_t mqi_chunk_blocks(const struct mqi_chunk *c)
{
	uint64_t fit = c->committed / c->stride;
	return fit < c->blocks ? fit : c->blocks;
}
/* NEW(me), or DOOMED, to FREE: never committed. */
void mqi_block_return(struct mqshm *h, uint64_t offset, uint64_t gen);
/* NEW(me) to FREE: a commit that nobody receives. false: DOOMED. */
bool mqi_block_spend(struct mqshm *h, uint64_t offset, uint64_t gen);
/* A block that stays ours, but is not to be committed as it is: NEW(me) in another gen, of which no rival knows that could
 * still doom it. */
void mqi_block_redeem(struct mqshm *h, uint64_t offset, uint64_t *gen);
/* Another's NEW, by `word`, to DOOMED: false where it has changed. */
bool mqi_block_doom(struct mqshm *h, uint64_t offset, uint64_t word);
/* The word of what was a block; false where none begins there any more. */
bool mqi_block_word_at(struct mqshm *h, uint64_t offset, uint64_t *word);
/* What was NEW or DOOMED of one that is gone, by `word`. */
void mqi_block_undo(struct mqshm *h, uint64_t offset, uint64_t word);
/* Bytes that a block of `bytes` really has behind its header. */
uint64_t mqi_block_room(uint64_t bytes);

/* What a block says of itself, read once: who reads it again may find that it was changed behind the check. */
struct mqi_payload {
	uint64_t info, envelope;
	uint32_t words; /* of holders, where it is F_WIDE */
};
/* Whether `offset`, read from shared memory, is a block's and all of what it says of itself lies in memory. */
bool mqi_block_look(struct mqshm *h, uint64_t offset, struct mqi_payload *p);
bool mqi_block_valid(struct mqshm *h, uint64_t offset);

/* Words needed for n receivers; 0 where the block's own word suffices. */
static inline uint32_t mqi_wide_words(uint32_t receivers)
{
	return receivers <= MQI_HOLDERS ? 0 : (receivers + MQI_WIDE_BITS - 1) / MQI_WIDE_BITS;
}
/* In NEW: the holders' bits for n receivers; fills the wide words, behind `bytes` of payload and envelope. */
unsigned mqi_block_holders_for(struct block_shm *b, uint64_t bytes, uint32_t receivers, uint64_t gen);
/* Holder bits that a valid block has, set or not. */
uint32_t mqi_block_wide_bits(struct mqshm *h, uint64_t offset);
/* LIVE, of this life, and the receiver's bit is set. */
bool mqi_block_held(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit);
bool mqi_block_look_held(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit, struct mqi_payload *p);
/* Clears a receiver's bit, once or again. */
void mqi_block_release(struct mqshm *h, uint64_t offset, uint64_t gen, uint32_t bit);

/* Hints for free blocks that have none: who took the hint died before it took a block. Used by reap. */
void mqi_blocks_renew(struct mqshm *h);
/* Every block of every chunk: for reaping and inspection. Stops when `each` says false. */
void mqi_blocks_each(struct mqshm *h, bool (*each)(struct mqshm *h, uint64_t offset, void *with), void *with);

#endif
