#include "flow/limit.h"

#include "flow/reap.h"
#include "shm/reach.h"
#include "shm/trim.h"

#define FREELY 2          /* rounds in which nothing is dropped */
#define DROPS_MOST 65536u /* for one message */

static bool drop_from_targets(struct mqshm_topic *t)
{
	for (uint32_t i = 0; t && i < t->count; i++)
		if (mqi_drop_one(t->targets[i], 0) == MQSHM_OK) return true;
	return false;
}

static bool drop_from_any(struct mqshm *h, unsigned highest)
{
	for (uint32_t row = 0, rows = mqi_subs_rows(h); row < rows; row++) {
		struct mqshm_sub *s;
		if (mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word)) != SUB_OPEN || mqi_view(h, row, &s) != MQSHM_OK) continue;
		if (mqi_drop_one(s, highest) == MQSHM_OK) return true;
	}
	return false;
}

static bool drop_lowest(struct mqshm *h, unsigned highest)
{
	for (unsigned ring = MQI_PRIORITIES; ring-- > highest;)
		if (drop_from_any(h, ring)) return true;
	return false;
}

static bool drop(struct mqshm *h, struct mqshm_topic *t, const struct mqi_limit *limit)
{
	uint32_t dropped = 0;
	bool lowest = h->overflow == MQSHM_DROP_LOWEST;
	while (dropped < limit->drops && (lowest ? drop_lowest(h, limit->ring) : drop_from_targets(t) || drop_from_any(h, 0))) dropped++;
	return dropped > 0;
}

int mqi_at_the_limit(struct mqshm *h, struct mqshm_topic *t, struct mqi_limit *limit)
{
	if (limit->made++ < FREELY && (mqi_reap_soon(h) || mqi_trim_all(h))) return MQSHM_OK;
	if (h->overflow == MQSHM_DROP_NEW) return MQSHM_EMPTY;
	bool lowest = h->overflow == MQSHM_DROP_LOWEST;
	if ((h->overflow != MQSHM_DROP_OLDEST && !lowest) || limit->drops >= DROPS_MOST) return MQSHM_NO_MEMORY;
	limit->drops = limit->drops ? limit->drops * 2 : 1;
	if (!drop(h, t, limit)) return lowest ? MQSHM_EMPTY : MQSHM_NO_MEMORY;
	if (limit->drops > 1) mqi_trim_all(h); /* else what was dropped is most likely of the size that is wanted */
	return MQSHM_OK;
}
