/* Waiting and waking. Each peer has a bell, a futex word; whoever waits for something sets its bit in that thing's
 * bitmap of waiters and sleeps on its own bell, so that one sleep can wait for many things, and a peer that dies leaves
 * no count raised.
 *
 *   waiter                               waker
 *   seen = my bell                       make the thing happen (a compare-and-swap)
 *   set my bit          -- fence --      fence
 *   look at the thing                    a bit is set? take one: clear it, add 1 to that peer's bell, wake it
 *   sleep while bell == seen
 *
 * Either the waiter sees the thing, or the waker sees the bit: the fences forbid that both look too early. A waker
 * takes the bit, so that the next one wakes another peer; where no thread slept there (the peer is just about to look,
 * or is stopped, or dead) it takes the next bit too. Sleeps are bounded (MQI_NAP_NS), which covers a waker that dies
 * or is stopped between taking a bit and ringing. Who leaves without having looked after its last bit was taken, or
 * takes one thing of several, passes the wake-up on (mqi_event_one again).
 */
#ifndef MQI_EVENT_H
#define MQI_EVENT_H

#include "shm/handle.h"

#define MQI_NAP_NS 50000000ll

static inline bool mqi_event_waited_for(const uint64_t *bits)
{
	uint64_t any = 0;
	for (unsigned i = 0; i < MQI_PEERS / 64; i++) any |= mqi_load_rlx(&bits[i]);
	return any != 0;
}

/* My bit on. Full fence: what I load afterwards is loaded after it. */
static inline void mqi_event_arm(struct mqshm *h, uint64_t *bits)
{
	mqi_or64(&bits[h->peer / 64], 1ull << h->peer % 64);
	mqi_fence_after_rmw();
}
static inline void mqi_event_disarm_peer(unsigned peer, uint64_t *bits)
{
	uint64_t bit = 1ull << peer % 64;
	if (mqi_load_rlx(&bits[peer / 64]) & bit) mqi_and64(&bits[peer / 64], ~bit);
}
static inline void mqi_event_disarm(struct mqshm *h, uint64_t *bits) { mqi_event_disarm_peer(h->peer, bits); }

void mqi_event_ring(struct mqshm *h, uint64_t *bits); /* wakes one who sleeps */
void mqi_event_wake_all(struct mqshm *h, uint64_t *bits);
void mqi_event_ring_peer(struct mqshm *h, unsigned peer);

/* After a compare-and-swap that made the thing happen. No system call where nobody waits. */
static inline void mqi_event_one(struct mqshm *h, uint64_t *bits)
{
	mqi_fence_after_rmw();
	if (unlikely(mqi_event_waited_for(bits))) mqi_event_ring(h, bits);
}

#endif
