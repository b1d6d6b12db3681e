/* A traced process, taken to its n-th instruction: by single steps or, where that is known to lead there, by a breakpoint
 * and then by single steps. */
#ifndef MQT_WALK_H
#define MQT_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define WALK_LONGEST 2000000u /* instructions of one operation: more is a hang */

/* Where the processor was after 0, 1, 2 .. instructions of an operation that was stepped through once. */
struct walk_trace {
	uint64_t *pc;
	uint32_t *way; /* the instruction from which on single steps lead here the soonest: all stops at it and the steps counted */
	uint32_t *met; /* how often each had been met before */
	uint32_t size;
};

/* Breakpoints are there for this machine. Without them a walk of n instructions takes n steps. */
bool walk_can_jump(void);
void walk_step(pid_t pid);
/* `*over` is set in memory that the process shares once its operation is over. Returns how many steps it took; with a
 * trace, notes them there. */
uint64_t walk_steps(pid_t pid, uint64_t n, const uint32_t *over, struct walk_trace *note);
/* As walk_steps, by the trace of an earlier walk. False: it came by another way this time, and is over or has trapped. */
bool walk_jump(pid_t pid, uint64_t n, const uint32_t *over, const struct walk_trace *known, uint64_t *took);
void walk_forget(struct walk_trace *t);

#endif
