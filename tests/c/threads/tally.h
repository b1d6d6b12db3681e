/* What became of each message, written by the threads that saw it and read when all have ended. */
#ifndef MQT_TALLY_H
#define MQT_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "mqshm.h"

#define TALLY_GROUPS 4u
enum { WORK, COPY, LEASED, DROPPING }; /* the groups; `load` goes to the first two */

/* A payload says which message it is, and the rest of it follows from that. */
uint32_t tally_new(unsigned producer);                         /* UINT32_MAX: no more numbers */
void tally_fill(unsigned char *data, uint32_t message, uint32_t size);
uint32_t tally_read(const unsigned char *data, uint64_t size); /* UINT32_MAX: nothing that anybody published */

void tally_published(uint32_t message, bool is_in);
void tally_ending(uint32_t message, unsigned group); /* about to be acknowledged: who dies in there may have done it */
void tally_ended(uint32_t message, unsigned group);
/* In order of arrival at the only consumer of a group: false where a message comes before one that its producer
 * published earlier. */
bool tally_in_order(uint32_t message, uint32_t *last_of);

/* Afterwards. calm: nobody died, so all is exactly once. Prints what is wrong. */
bool tally_check(bool calm, uint64_t dropped);
uint32_t tally_count(void);

#endif
