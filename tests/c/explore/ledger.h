/* What the actors did, as they saw it, and what must then be true. The verbs below do one operation each and write down
 * when it began, when it returned and how; an actor that died inside one leaves that open. */
#ifndef MQT_LEDGER_H
#define MQT_LEDGER_H

#include "shm/handle.h"
#include "scheduler.h"

#define GROUPS_MOST 26u
#define SMALL 16u   /* payload that fits in a slot */
#define LARGE 120u  /* and one that needs a block */
#define TOPIC "t"

struct group {
	uint32_t capacity, cells; /* cells 0: as the core has it */
	uint32_t ack, overflow;
	uint64_t ack_ms;
};

/* What a program may do that changes what must be true. */
enum {
	DROPS = 1,       /* messages are dropped, and counted as that */
	LEASES_END = 2,  /* by time */
	MEMORY_FULL = 4, /* MQSHM_NO_MEMORY is an answer */
	EXPIRES = 8,     /* messages that were put for a while are over, and counted as that */
};

struct world {
	mqshm_t *handle[ACTORS + 1];
	mqshm_topic_t *topic[ACTORS + 1];
	mqshm_sub_t *sub[ACTORS + 1][GROUPS_MOST];
	uint32_t groups, expected; /* bit per group that must get every message */
	uint32_t capacity[GROUPS_MOST];
	unsigned rules;
	uint64_t lease_ms; /* under LEASES_END */
	uint32_t overflow; /* of the last group */
	uint32_t blocks; /* so many blocks can be in use; 0: not known */
	int fd;
};
extern struct world world;

/* Setting up. */
void world_begin(unsigned actors, const struct group *groups, uint32_t count, unsigned rules);
void world_limit(uint64_t more_pages); /* max_memory_usage: what is in use now, and so many pages */
void world_once(uint64_t window_ms);    /* ids are remembered */
void world_open(unsigned actors);      /* every actor opens topic and groups, and matches */
void world_age(uint32_t messages, uint32_t size);
void world_freeze(void);               /* what is so far is what each execution begins with */

void ledger_clear(void);
void ledger_restore(void);

/* Verbs, of the actor that runs. */
int put(unsigned number, uint32_t size);
int put_for(unsigned number, uint32_t size, uint64_t ms); /* it is over then */
int put_once(unsigned number, uint32_t size); /* the number is its id */
void put_both(unsigned first, uint32_t size); /* two messages in one call */
int take(uint32_t group, mqshm_delivery *d);
int finish(mqshm_delivery *d);
int finish_held(mqshm_delivery *d);
int give_back(mqshm_delivery *d, uint32_t delay_ms);
int extend(mqshm_delivery *d, uint64_t ms);
int commit(unsigned number, uint32_t size, mqshm_delivery *d); /* publishes and finishes as one */
int commit_once(unsigned number, uint32_t size, mqshm_delivery *d); /* the same, and the number is its id */
void reap(void);
/* Takes and finishes up to n, with at most so many looks. */
void consume(uint32_t group, unsigned n, unsigned looks);

/* The survivor repairs, drains and accounts. */
void ledger_check(void);

#endif
