#include "shm/event.h"

#include <limits.h>

#include "os/futex.h"
#include "shm/peers.h"

static int ring(struct mqshm *h, unsigned peer)
{
	struct peer_shm *row = mqi_peer(h, peer);
	mqi_add32(&row->bell, 1);
	return mqi_futex_wake(&row->bell, INT_MAX); /* its threads sort out between them who goes on */
}

void mqi_event_ring_peer(struct mqshm *h, unsigned peer) { ring(h, peer); }

/* Takes bits, from behind this peer's own on so that wakers spread, until a sleeper was woken. */
void mqi_event_ring(struct mqshm *h, uint64_t *bits)
{
	unsigned from = h->peer / 64;
	for (unsigned i = 0; i < MQI_PEERS / 64; i++) {
		unsigned word = (from + i) % (MQI_PEERS / 64);
		for (uint64_t seen = mqi_load_rlx(&bits[word]); seen;) {
			unsigned b = (unsigned)__builtin_ctzll(seen);
			unsigned peer = word * 64 + b;
			seen &= seen - 1;
			if (!(mqi_and64(&bits[word], ~(1ull << b)) >> b & 1)) continue; /* another waker has it */
			if (peer < mqi_load_acq(&h->hdr->peers_top) && ring(h, peer) > 0) return;
		}
	}
}

void mqi_event_wake_all(struct mqshm *h, uint64_t *bits)
{
	uint64_t top = mqi_load_acq(&h->hdr->peers_top);
	for (unsigned word = 0; word < MQI_PEERS / 64; word++)
		for (uint64_t seen = mqi_xchg64(&bits[word], 0); seen; seen &= seen - 1) {
			unsigned peer = word * 64 + (unsigned)__builtin_ctzll(seen);
			if (peer < top && peer < MQI_PEERS) ring(h, peer);
		}
}
