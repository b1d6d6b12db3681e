/* Sleeping and waking on a 32-bit word in shared memory. */
#ifndef MQI_FUTEX_H
#define MQI_FUTEX_H

#include <stdint.h>

/* Sleeps while *word == seen, at most timeout_ns (negative: for ever). Returns 0 when woken or when the word had
 * changed, ETIMEDOUT or EINTR. May wake for no reason. */
int mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t timeout_ns);
int mqi_futex_wake(const uint32_t *word, int how_many); /* returns how many were woken */

#endif
