/* Times: when a lease ends (INFLIGHT under MQSHM_ACK_TIMEOUT), a delayed delivery begins (LATER), or a message that waits
 * is over (READY, OFFER, AGAIN). No lists: a column with a time per slot, tagged with the generation that it is for; the
 * earliest of 512 of them, and of the subscription, as hints.
 *
 * The column is the truth: what is looked for in it are times that have come, and only their slots are looked at. A time
 * is written before its generation begins (AGAIN, which nobody owns: after), so one that has come may be of a life that
 * its owner is about to begin: it is put off a little. One that is nobody's is removed. A hint is never later than the
 * times that it stands for: lowered after each is written, raised only from the value seen before a scan, and followed
 * by a second scan.
 */
#ifndef MQI_DUE_H
#define MQI_DUE_H

#include "shm/handle.h"

/* Memory for the times of all slots that there are. Before any commit that needs it. */
int mqi_due_prepare(struct mqshm_sub *s);
/* Slot's time, valid for generation `gen`, which is word's, or which the caller then makes the slot's. false: the slot's
 * word is not `word` any more, and its time is somebody else's. */
bool mqi_due_set(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t gen, uint64_t ms);
/* The earlier of a delay's end and the message's: what is over is not kept for a delivery that would never be. But what
 * is over already and could not become a dead letter has its delay before the next try. */
uint64_t mqi_due_or_over(struct mqshm_sub *s, uint64_t due_ms, uint64_t expires_ns);
/* A slot has become AGAIN: its message's time, if it has one, begins once more. */
void mqi_due_again(struct mqshm_sub *s, uint32_t index);
/* Fires what is due, but not much at once: next_due stays at a time that has come where more is. Leases that ended and
 * delays that are over become AGAIN, messages that are over go. */
int mqi_due_fire(struct mqshm_sub *s, uint64_t now_ms);
int mqi_due_fire_all(struct mqshm_sub *s, uint64_t now_ms);
/* Whether firing made any room. */
bool mqi_due_make_room(struct mqshm_sub *s);
/* Lowers the hints for up to n slots from `from` on, and gives times to those that have none: what one left who was
 * stopped, or died, between raising and looking again, or between a word and its time. */
void mqi_due_renew(struct mqshm_sub *s, uint32_t from, uint32_t n);
static inline bool mqi_due_pending(struct mqshm_sub *s) { return mqi_load_acq(&s->shm->next_due) != 0; }

#endif
