/* What the core finds around it while it is fuzzed: a segment in memory of this process, a clock that moves only when it
 * is told to, and death at any access to shared memory. Several peers live in this one process, one handle each. */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/handle.h"

#define PEERS_MOST 4u

/* Prints what failed and how to see it again, and aborts: libFuzzer keeps the input. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define must(condition, ...) \
	do {                     \
		if (!(condition)) fail(__VA_ARGS__); \
	} while (0)
extern uint64_t world_seed, world_op; /* for fail */
extern const char *world_verb;
/* --trace: what happened, a line each. */
extern bool world_trace;
#define note(...) \
	do {          \
		if (world_trace) world_note(__VA_ARGS__); \
	} while (0)
void world_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t world_now_ns(void);
uint64_t world_now_ms(void); /* what leases and delays count */
void world_pass(uint64_t ns);

int world_open(const mqshm_config *config); /* the file; world_close closes it */
void world_adopt(int fd);                   /* a file that is a segment already, perhaps a bad one; closed likewise */
void world_close(void);

int peer_join(unsigned peer, mqshm_t **out);
/* Forgets the handle as a death would; from here on the peer counts as gone. */
void peer_dies(unsigned peer, mqshm_t *h);

/* Called at every access to shared memory, where set. */
extern void (*world_access)(void);

/* Runs the operation; false: it died at its `fuse`-th access to shared memory (0 does not burn). Never dies with the
 * control lock in hand: the kernel gives that on after the death of a process, which this is not. */
bool survives(mqshm_t *h, uint32_t fuse, int (*operation)(void *with), void *with, int *result);

#endif
