/* Runs a few actors, each a fiber with a peer of its own, one shared access at a time, and tries the orders in which they
 * can go and the points at which they can die.
 *
 * An execution is a list of choices. Most are "go on": choosing another actor where the running one could go on is a
 * preemption, and costs one deviation, as does a death. What must be chosen anyway (who goes first, who goes next when
 * one is done or waits) is free. All executions with at most so many deviations are run, depth first, by running
 * again from the beginning with the last choice that has an alternative changed. */
#ifndef MQT_SCHEDULER_H
#define MQT_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#define ACTORS 4u
#define SURVIVOR ACTORS /* who sets up before and checks after: never preempted, never dies */
#define SECOND_LIFE 8u /* actor i is process i, and SECOND_LIFE + i where it attaches once more */

struct program {
	const char *name;
	unsigned actors;
	unsigned mortal; /* bit per actor that may die */
	unsigned deaths; /* at most so many in one execution */
	void (*setup)(void);
	void (*run[ACTORS])(void);
	void (*check)(void);  /* afterwards, as SURVIVOR */
	void (*always)(const void *word); /* after every change of a shared word; looks with plain loads */
};

/* For programs. */
unsigned me(void);
void act_as(unsigned actor); /* while setting up */
uint32_t now(void); /* accesses of this execution so far */
bool has_died(unsigned actor);
void pause_here(void);                                  /* lets another one go, if there is one */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* For what stands in for the kernel. wait_until: true when ready; false where all wait, and this one's time is over. */
bool wait_until(bool (*ready)(void *with), void *with, bool may_time_out);
void yield_here(void);
void something_happened(void); /* that is no access, and that anybody's next step may depend on */

/* For who explores. */
enum search { DEPTH_FIRST, AT_RANDOM, REPLAY };
void search_set_up(void); /* before setting up */
void search_begin(const struct program *p, enum search how, unsigned deviations);
void search_follow(const char *schedule); /* REPLAY: what search_schedule said */
bool search_run(void);                    /* one execution; false: it failed */
bool search_next(void);                   /* DEPTH_FIRST: whether there is another one */
const char *search_schedule(void);        /* of the last execution */
const char *search_failure(void);
uint32_t search_steps(void);
bool search_pruned(void); /* the last execution was given up: another one is equivalent */

#endif
