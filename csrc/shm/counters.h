/* What people read: counters with one writer, a sheet of them per peer. */
#ifndef MQI_COUNTERS_H
#define MQI_COUNTERS_H

#include "shm/handle.h"

/* This peer's counters of a topic or a subscription. Where there is no memory for them, or metrics are off, a pair that
 * nobody reads: a broker at its limit must still let its messages out. Never NULL. */
struct topic_counters_shm *mqi_count_topic(struct mqshm *h, uint32_t topic);
struct sub_counters_shm *mqi_count_sub(struct mqshm *h, uint32_t row);
/* What all processes have counted of a row so far, in all its lives. */
void mqi_counted_sub(struct mqshm *h, uint32_t row, struct sub_counters_shm *sum);
/* Asks again for all that this process has in use: its row has changed, or whether anything is counted. */
void mqi_count_again(struct mqshm *h);

#endif
