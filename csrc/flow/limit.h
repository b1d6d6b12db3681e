/* What a publish does where there is no memory, by the configuration's overflow. The handle is entered, nothing is in
 * hand. */
#ifndef MQI_LIMIT_H
#define MQI_LIMIT_H

#include "flow/publish.h"

/* Attempts of one message so far. */
struct mqi_limit {
	unsigned ring; /* of the message; 0 where it is not known: then all others may be lower */
	unsigned made, drops;
};

/* MQSHM_OK: there may be room now. MQSHM_EMPTY: the new message is dropped. MQSHM_NO_MEMORY: it is to wait, or is refused.
 * What the dead had in hand and chunks of other sizes come first; then, under drop_oldest, what waits longest for those who
 * would receive this one (t NULL: for anybody), twice as much each time; under drop_lowest, of all that waits anywhere the
 * oldest of the lowest priority, if that is not above the message's. */
int mqi_at_the_limit(struct mqshm *h, struct mqshm_topic *t, struct mqi_limit *limit);

#endif
