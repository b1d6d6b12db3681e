/* Times: when a lease ends (INFLIGHT under MQSHM_ACK_TIMEOUT) or a delayed delivery begins (LATER). No lists: a column of
 * times per slot, the earliest per 4096 slots and per subscription as hints. A hint is never later than the truth:
 * lowered before and after a time begins to count, raised only from the value seen before a scan.
 */
#ifndef MQI_DUE_H
#define MQI_DUE_H

#include "flow/handle.h"

#define MQI_DUE_SHIFT 12 /* slots per hint */

/* Memory for the times of all slots that there are. Before any commit that needs it. */
int mqi_due_prepare(struct mqshm_sub *s);
/* Slot's time, valid for generation `gen`; the caller then makes gen the slot's, and calls mqi_due_lower again. false:
 * the slot's word is not `word` any more, and its time is somebody else's. */
bool mqi_due_set(struct mqshm_sub *s, uint32_t index, uint64_t word, uint64_t gen, uint64_t ms);
void mqi_due_lower(struct mqshm_sub *s, uint32_t index, uint64_t ms);
/* Fires what is due: leases that ended and delays that are over become AGAIN. */
int mqi_due_fire(struct mqshm_sub *s, uint64_t now_ms);
/* Lowers the hints for up to n slots from `from` on: one who was stopped, or died, between raising and looking again may
 * have left them too high. */
void mqi_due_renew(struct mqshm_sub *s, uint32_t from, uint32_t n);
static inline bool mqi_due_pending(struct mqshm_sub *s) { return mqi_load_acq(&s->shm->next_due) != 0; }

#endif
