/* Slabs: the slots of one subscription. A free slot is taken by one compare-and-swap on its word, so owned slots are the
 * subscription's capacity, exactly, whoever dies. Where to look is only a hint: a bit per group of 64 slots, set by who
 * frees a slot there, cleared by who takes the group as its own place to allocate from, before it looks.
 */
#ifndef MQI_SLAB_H
#define MQI_SLAB_H

#include "shm/handle.h"
#include "shm/event.h"

#define MQI_MANY_GROUPS 8 /* from this many groups of slots on, one free is not much */

/* Takes a free slot: NEW(me, gen + 1). MQSHM_FULL only after a look at every word (under MQSHM_BLOCK, where it means that
 * one waits, after one in the last millisecond); MQSHM_NO_MEMORY. */
int mqi_slot_reserve_slow(struct mqshm_sub *s, uint32_t *index, uint64_t *word);

/* Groups that have a hint, and one for memory to grow into: whether a reserve may succeed. */
uint32_t mqi_slot_free_groups(struct mqshm_sub *s);
/* Sets the hints of up to n slots from `from` on that should have one, and frees tombs that can go; where to go on next time. */
uint32_t mqi_hints_renew(struct mqshm_sub *s, uint32_t from, uint32_t n);

static inline bool mqi_slot_take(struct mqshm_sub *s, uint32_t index, uint64_t *word)
{
	uint64_t w = mqi_load_rlx(&s->slots[index].word);
	if (mqi_slot_state(w) != SLOT_FREE) return false;
	*word = mqi_slot_word(SLOT_NEW, s->h->peer, mqi_slot_gen(w) + 1, 0);
	return mqi_cas64(&s->slots[index].word, w, *word);
}

static inline int mqi_slot_reserve(struct mqshm_sub *s, uint32_t *index, uint64_t *word)
{
	while (likely(s->next_slot < s->end_slot)) {
		uint32_t i = s->next_slot++;
		const char *ahead = (const char *)&s->slots[i + 2 < s->capacity ? i + 2 : i];
		__builtin_prefetch(ahead, 1); /* the store buffer waits for no line that was asked for in time */
		__builtin_prefetch(ahead + 64, 1);
		if (likely(mqi_slot_take(s, i, word))) {
			*index = i;
			return MQSHM_OK;
		}
	}
	return mqi_slot_reserve_slow(s, index, word);
}

/* After a slot became FREE: leads allocators there, and wakes one who waits for room. */
static inline void mqi_slot_freed(struct mqshm_sub *s, uint32_t index)
{
	uint32_t group = index / MQI_GROUP;
	mqi_fence_after_rmw(); /* pairs with the allocator that clears the hint, then looks at the words */
	if (unlikely(!(mqi_load_rlx(&s->free_hints[group / 64]) >> group % 64 & 1)))
		mqi_or64(&s->free_hints[group / 64], 1ull << group % 64);
	if (unlikely(mqi_event_waited_for(s->shm->space_waiters))) mqi_event_ring(s->h, s->shm->space_waiters);
}

/* Owner's way back. Only the owner changes an owned word, so the CAS fails only where a reaper took us for dead. */
static inline bool mqi_slot_free(struct mqshm_sub *s, uint32_t index, uint64_t word)
{
	if (!mqi_cas64(&s->slots[index].word, word, mqi_slot_word(SLOT_FREE, MQI_NOBODY, mqi_slot_gen(word), 0))) return false;
	mqi_slot_freed(s, index);
	return true;
}

/* Where to look for slots in AGAIN, by priority: a bit per group, and one in the row per 64th of the groups. Setting:
 * the state first, then the lower hint, then the upper. Looking: clear the upper, then the lower, then look; whoever
 * finds anything sets both again. A process that stops in between strands a hint until the next tick. */
static inline uint32_t mqi_again_words(const struct mqshm_sub *s) { return (s->groups + 63) / 64; }
static inline uint32_t mqi_again_share(const struct mqshm_sub *s) { return (mqi_again_words(s) + 63) / 64; }
static inline void mqi_again_hint(struct mqshm_sub *s, unsigned ring, uint32_t index)
{
	uint32_t group = index / MQI_GROUP, word = group / 64;
	mqi_or64(&s->again_hints[ring * mqi_again_words(s) + word], 1ull << group % 64);
	mqi_or64(&s->shm->again[ring], 1ull << word / mqi_again_share(s));
}

#endif
