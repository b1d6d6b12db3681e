/* Several messages and settlements as one: all of it happens or nothing, whoever dies when.
 *
 * The messages share one block, a bundle, and each of their deliveries has a bit of it, as if it were one message with
 * many receivers: its NEW to LIVE commits them all. What is settled along with them goes
 *
 *   INFLIGHT(me) -> SETTLING(me)      before the commit; the peer's row says in which block it will be
 *   SETTLING(me) -> FREEING or FREE   after it; or back to INFLIGHT(me), where it was undone
 *
 * and a bit more of the block says "committed" for as long as one of them is SETTLING. Who finds a SETTLING slot decides
 * it by the block, whose NEW it first undoes: from then on its owner cannot commit.
 */
#ifndef MQI_COMMIT_H
#define MQI_COMMIT_H

#include "shm/handle.h"

/* As mqshm_commit; the handle is entered. `counter` counts what is settled; NULL: each subscription's own. */
int mqi_transact(struct mqshm *h, const mqshm_part *parts, uint32_t n, mqshm_delivery *const *settled, const unsigned char *keep,
                 uint32_t m, uint64_t *counter, uint64_t *seqs, uint32_t *failed);

/* What is to become of a slot in SETTLING(peer), of which `w` is the word. */
enum mqi_verdict { VERDICT_UNKNOWN, VERDICT_COMMITTED, VERDICT_UNDONE }; /* the first: the word has changed */
enum mqi_verdict mqi_verdict(struct mqshm_sub *s, uint32_t index, uint64_t w);
/* A lease whose holder was stopped inside a commit ends at its time all the same. false: not now, or it is committed. */
bool mqi_settling_over(struct mqshm_sub *s, uint32_t index, uint64_t w);
/* After all slots of a peer were decided: the bit that says "committed" falls. row_word is the dead peer's, 0 is one's own. */
void mqi_commit_over(struct mqshm *h, unsigned peer, uint64_t row_word);

#endif
