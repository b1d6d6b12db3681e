/* The segment as a whole: laid out in an empty file, and checked before anybody believes a word of it. */
#ifndef MQI_SEGMENT_H
#define MQI_SEGMENT_H

#include "shm/handle.h"

/* Lays out an empty file. The magic is stored last, so half a segment is none. */
int mqi_segment_format(int fd, uint64_t units, const mqshm_config *config);
/* Checks the file of h->fd and maps it; sets base, hdr and the copies of its offsets. */
int mqi_segment_open(struct mqshm *h);
void mqi_segment_close(struct mqshm *h);

#endif
