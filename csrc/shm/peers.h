/* Peers: the attached processes, and which of them the kernel says are gone. */
#ifndef MQI_PEERS_H
#define MQI_PEERS_H

#include "shm/handle.h"

/* The rows from here on are for who finds all others taken, if only by the dead: it sweeps, and moves to another. */
#define MQI_SPARE_PEERS (MQI_PEERS - 8)

/* Takes the first free row for this process: its lock byte first, then the row. Sets h->peer, h->inc, h->row and
 * h->identity. Threads of one process must not do this at once for one file: they would share the locks. */
int mqi_peer_join(struct mqshm *h, const char *program, uint32_t role);
/* Gives the row back. The caller has swept it: no word names it. */
void mqi_peer_leave(struct mqshm *h);
/* Whether the process of row p, as it was when *word was read, is gone. Never true of a stopped one. */
bool mqi_peer_gone(struct mqshm *h, unsigned p, uint64_t word);
/* Next row after p that is DEAD, or LIVE (or JOINING) and gone, which is then made DEAD by CAS; 0 when there is none.
 * *word is the row's DEAD word: a reaper stops when the row changes from it. */
unsigned mqi_peer_next_dead(struct mqshm *h, unsigned p, uint64_t *word);
/* DEAD to FREE, after a full sweep. */
void mqi_peer_release(struct mqshm *h, unsigned p, uint64_t word);

static inline struct peer_shm *mqi_peer(struct mqshm *h, unsigned p)
{
	return (struct peer_shm *)(h->base + h->peers_offset) + p;
}

#endif
