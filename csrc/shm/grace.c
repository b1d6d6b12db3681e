#include "shm/grace.h"

#include <sched.h>

#include "shm/reach.h"

#define LOOKS 200 /* at a peer that is inside an operation: they take microseconds */

/* Whether a peer was seen outside of any operation. One that is gone does nothing any more. */
static bool seen_idle(struct mqshm *h, unsigned p)
{
	struct peer_shm *peer = mqi_peer(h, p);
	for (unsigned look = 0; look < LOOKS; look++) {
		uint64_t word = mqi_load_acq(&peer->word);
		/* Acquire pairs with the release of mqi_leave: its accesses are over before ours. */
		if (mqi_peer_state(word) != PEER_LIVE || mqi_load_acq(&peer->busy) == 0) return true;
		if (look == LOOKS / 2 && mqi_peer_gone(h, p, word)) return true;
		sched_yield();
	}
	return false;
}

/* A peer that comes later than the fence joins by a compare-and-swap on its row, and sees
 * what was written before it. */
static bool is_alone(struct mqshm *h)
{
	mqi_fence_sc();
	uint32_t rows = mqi_peers_rows(h);
	for (uint32_t p = 1; p < rows; p++) {
		unsigned state = mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word));
		if (p != h->peer && (state == PEER_LIVE || state == PEER_JOINING)) return false;
	}
	return true;
}

static bool all_expedited(struct mqshm *h, uint32_t rows)
{
	for (uint32_t p = 1; p < rows; p++) {
		struct peer_shm *peer = mqi_peer(h, p);
		if (mqi_peer_state(mqi_load_acq(&peer->word)) != PEER_FREE && !mqi_load_rlx(&peer->expedited)) return false;
	}
	return true;
}

bool mqi_all_idle(struct mqshm *h)
{
	if (is_alone(h)) return true;
	uint32_t rows = mqi_peers_rows(h);
	if (!mqi_global_barrier(all_expedited(h, rows))) return false;
	for (uint32_t p = 1; p < rows; p++)
		if (p != h->peer && !seen_idle(h, p)) return false;
	return true;
}
