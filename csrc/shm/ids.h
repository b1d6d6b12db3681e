/* Ids of messages that were published of late: which of several publishers of one id is the one.
 *
 * Two tables take turns, each for a dedup_window: ids are added to the current one and looked for in both. A table is a hash
 * table of chains that only grow; an entry says which block its message is in, and is decided as the message is:
 *
 *   block NEW         not yet. A rival does not wait for it: the block becomes DOOMED by one compare-and-swap, and can
 *                     never be committed; its publisher begins anew
 *   block DOOMED      never
 *   gone on           published, unless the entry is WITHDRAWN: who gives an uncommitted block back says so first
 *
 * Who wants to publish adds its entry, then looks at all older ones: of two, the later one sees the earlier one. A table may have become
 * the other one meanwhile; who finds it so after adding begins anew, so that who adds to the new one sees all of the old.
 *
 *   turn: 1  what the other table holds is older than the window
 *         2  a grace period: all of it is decided, also what a process was stopped with for longer than that
 *         3  its word says VOID, from when on nobody looks there; a grace period
 *         4  its memory goes back to the system, and it is the current one
 *
 * under the control lock, which is only tried for. A death between the steps leaves them to the next. While a process is
 * stopped inside an operation the current table grows instead.
 */
#ifndef MQI_IDS_H
#define MQI_IDS_H

#include "shm/handle.h"

struct mqi_id {
	uint64_t key[2];
	uint32_t at; /* its entry, once added */
};

/* The topic's number, and an id of its messages. */
void mqi_id_of(struct mqshm *h, uint32_t topic, const void *id, uint64_t size, struct mqi_id *out);
/* Which table is the current one: to be the same before and after adding. */
static inline uint64_t mqi_ids_word(struct mqshm *h) { return mqi_load_acq(&h->hdr->ids); }
/* MQSHM_DUPLICATE where it was published in the last `window_ms`. Changes nothing. */
int mqi_id_look(struct mqshm *h, const struct mqi_id *id, uint64_t window_ms);
/* In NEW(me) of the block: an entry in the table that is current by `word`. MQSHM_NO_MEMORY as for a block. */
int mqi_id_add(struct mqshm *h, struct mqi_id *id, uint64_t word, uint64_t block, uint64_t gen);
/* Dooms what is not decided yet of the older ones. MQSHM_DUPLICATE where one was published in the last `window_ms`. */
int mqi_id_claim(struct mqshm *h, const struct mqi_id *id, uint64_t word, uint64_t block, uint64_t gen, uint64_t window_ms);
/* All ids of a block that will never be committed, before it is given back. */
void mqi_ids_withdraw(struct mqshm *h, uint64_t block, uint64_t gen);
/* If a table's time is over. */
void mqi_ids_turn(struct mqshm *h, uint64_t window_ms);
/* What the tables say of themselves that cannot be; NULL: nothing. For fsck. */
const char *mqi_ids_fault(struct mqshm *h);

#endif
