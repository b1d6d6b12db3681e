/* Topics as a process uses them: the number, and who receives it, looked up once per change of any subscription. */
#ifndef MQI_TOPIC_H
#define MQI_TOPIC_H

#include "shm/handle.h"

/* The topic of this name, known here or made. The handle is entered. */
int mqi_topic_open(struct mqshm *h, const char *name, uint32_t size, struct mqshm_topic **out);
/* Matches again. The handle is entered. */
int mqi_topic_resolve(struct mqshm *h, struct mqshm_topic *t);
static inline int mqi_topic_current(struct mqshm *h, struct mqshm_topic *t)
{
	if (likely(mqi_load_acq(&h->hdr->subs_version) == t->version)) return MQSHM_OK;
	return mqi_topic_resolve(h, t);
}

#endif
