/* The world that an execution begins in: a segment and the peers' private memory, both put back after each execution,
 * and a clock that stands still unless a program moves it. */
#ifndef MQT_MEMORY_H
#define MQT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "mqshm.h"

/* A new segment, and nothing allocated. */
int memory_begin(const mqshm_config *config);
/* What is now is what memory_restore returns to. From here on every store must be announced by memory_touch. */
void memory_freeze(void);
void memory_touch(const void *word);
void memory_restore(void);

uint64_t clock_ms(void);
void clock_advance(uint64_t ms);
uint64_t real_ns(void);

/* What a word of the segment is called in traces. Valid until the next call. */
const char *memory_name(const void *word);

#endif
