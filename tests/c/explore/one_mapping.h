/* Many peers in one process, over one mapping of the segment.
 *
 * The linker sends the core's calls of mmap, munmap and the two questions about a process's identity here (see the
 * Makefile), so that the core itself is as it ships: every handle that is attached gets the same addresses, and is a
 * process of its own that can die, as far as the core can tell. */
#ifndef MQT_ONE_MAPPING_H
#define MQT_ONE_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

#include "mqshm.h"

#define MQT_PROCESSES 4096u

/* An empty segment in memory that has no name. Ends the one before. The descriptor, or -1. */
int mqt_segment(const mqshm_config *config);
unsigned char *mqt_base(void);
uint64_t mqt_span(void);

/* Attaches as process `number`, below MQT_PROCESSES. Not for several threads at once. */
int mqt_attach(int fd, unsigned number, mqshm_t **out);
void mqt_die(unsigned number, bool dead);

#endif
