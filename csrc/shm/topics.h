/* Topic names, interned: a number per name, the same for all processes, for as long as the segment lives. Lock-free. */
#ifndef MQI_TOPICS_H
#define MQI_TOPICS_H

#include "shm/handle.h"

/* Finds or adds. MQSHM_OK, MQSHM_TOO_MANY (max_topics, or the table), MQSHM_NO_MEMORY, MQSHM_CORRUPT. */
int mqi_topic_intern(struct mqshm *h, const char *name, uint32_t size, uint32_t *id);
int mqi_topic_find(struct mqshm *h, const char *name, uint32_t size, uint32_t *id); /* MQSHM_NOT_FOUND */
/* The name of a number read from shared memory, checked against every bound; MQSHM_NOT_FOUND, MQSHM_CORRUPT. */
int mqi_topic_text(struct mqshm *h, uint32_t id, const char **name, uint32_t *size);
uint32_t mqi_topic_live(struct mqshm *h); /* number of topics */
uint32_t mqi_topic_top(struct mqshm *h);  /* the highest number in use; those below are, but for a few */
/* Rows of a dead peer that were not linked: given back. Used by reap, and by a peer for itself when it leaves. */
void mqi_topics_repair(struct mqshm *h, unsigned dead);

uint32_t mqi_topic_hash(const char *name, uint32_t size);

#endif
