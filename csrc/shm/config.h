/* The configuration in the segment: all of a change is seen, or none, whoever dies while it is made. */
#ifndef MQI_CONFIG_H
#define MQI_CONFIG_H

#include "shm/handle.h"

/* MQSHM_INVALID where no segment can hold it. */
int mqi_config_check(const mqshm_config *config);
/* Under the control lock, or before the segment has its name. */
void mqi_config_store(struct header_shm *hdr, const mqshm_config *config);
/* One whole configuration and its version; false where it changed again at each of many looks. */
bool mqi_config_load(struct header_shm *hdr, mqshm_config *out, uint64_t *version);

#endif
