/* The index over the patterns of all subscriptions: matching a topic takes steps by its words, not by the number of
 * subscriptions. It is derived from the rows and can be thrown away at any time.
 *
 * The writer holds the control lock and has made `subs_version` odd. Readers come without a lock: they read the version,
 * walk, and read the version again; what they saw in between counts only if it was even and is the same. So a walk may
 * meet anything: every reference is checked, and the steps are counted.
 */
#ifndef MQI_TRIE_H
#define MQI_TRIE_H

#include "shm/handle.h"

/* One pattern of an OPEN row. false: there is no room, or no index; then it is to be built anew. */
bool mqi_trie_add(struct mqshm *h, const char *pattern, uint32_t size, uint32_t row, uint64_t gen);
/* From the patterns of all OPEN rows. Where memory is short there is no index, and matching looks at every row. */
void mqi_trie_rebuild(struct mqshm *h);
/* Counts entries of a row that is OPEN no more; true when it is time to build anew. */
bool mqi_trie_forget(struct mqshm *h, uint32_t patterns);

/* Sets the bit of every OPEN row that has a pattern for the topic. false: the index is of no use (none there, changing,
 * broken, or too many branches for this topic) and every row is to be looked at. */
bool mqi_trie_match(struct mqshm *h, const char *topic, uint32_t size, uint64_t bits[MQI_SUBS / 64]);

#endif
