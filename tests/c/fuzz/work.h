/* What a process does in a segment of which nothing is certain: any operation, whatever the one before said. */
#ifndef FUZZ_WORK_H
#define FUZZ_WORK_H

#include "tape.h"
#include "world.h"

#define WORK_RESULTS (MQSHM_INTERRUPTED + 1u)
extern uint64_t work_results[WORK_RESULTS]; /* how often each came */
extern uint64_t work_attached;

/* A handle, or two. false: the segment was refused. */
bool work_attach(struct tape *t);
void work(struct tape *t);
void work_detach(struct tape *t);

#endif
