/* A broker to be broken: survivors that live in this process, victims that are forked and die, and a ledger that says
 * what must be true afterwards. crash_points.c and steps.c differ in how a victim dies; what is done and what is
 * checked is here and in scenes.h.
 */
#ifndef MQT_SUPPORT_H
#define MQT_SUPPORT_H

#include <sys/types.h>

#include "shm/handle.h"
#include "mqshm.h"

#define GROUPS_MOST 25u
#define ROUNDS 6           /* the same death in one segment; the last must not cost memory */
#define PATIENCE_NS 100000000ull /* survivors have published, received and settled by then */

/* Messages have numbers: those of the victim, those that waited before it came, and the survivors' after it. */
enum { VICTIMS = 1, FILLED = 32, PROBES = 768, MESSAGES = 1024 };

/* Shared with the victims, and outlives them. */
struct ledger {
	/* how far the victim came */
	uint32_t began, done;     /* its operation; done: it has returned, with result */
	int32_t result;
	uint32_t traced;          /* it is to stop by itself at the end of its operation */
	uint32_t beside;          /* survivors worked while it stood still */
	uint32_t settled;         /* an ack has returned, whatever came after it */
	uint64_t points;          /* hooks passed */
	const char *file;         /* of the last of them: the same address in every child of one program */
	int32_t line;
	char reason[512];
	/* the messages */
	uint8_t tried[MESSAGES], returned[MESSAGES];
	uint8_t in_hand[MESSAGES]; /* leased to the victim, by group 0 */
	uint8_t together[MESSAGES]; /* every group gets it, or none */
	uint8_t least[GROUPS_MOST][MESSAGES], most[GROUPS_MOST][MESSAGES]; /* how often it may be settled from here on */
	uint8_t got[GROUPS_MOST][MESSAGES];
};
extern struct ledger *ledger;

struct scene;

/* One broker. `one` publishes and `two` receives; both are peers of their own, in this process. */
struct stage {
	const struct scene *scene;
	int fd;
	mqshm_t *one, *two;
	mqshm_topic_t *topic;             /* of `one` */
	mqshm_sub_t *subs[GROUPS_MOST];   /* of `two` */
	mqshm_delivery held[4];           /* leased to `two` before the victim came */
	unsigned holds, probes;
	uint32_t bells[2];                /* of one and two, when they armed */
	unsigned round, slots;            /* slots that were memory in round 0, for who asks */
};

/* Who dies. */
struct victim {
	struct stage *stage;
	mqshm_t *h;
	mqshm_topic_t *topic;
	mqshm_sub_t *sub;
	mqshm_delivery held[8];
	unsigned holds;
	mqshm_loan loan;
};

/* Prints where the program is; set by the program. */
extern void (*say_where)(void);
/* What must hold does not: in the program itself it ends there, with exit code 1; a victim leaves word and ends. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define must(condition, ...)                      \
	do {                                          \
		if (!(condition)) broken(__VA_ARGS__);    \
	} while (0)

void support_begin(void);  /* once: the ledger, and signal handlers that say where a survivor crashed or hung */
void watch(unsigned seconds); /* from here on it has so long: 0 ends the watch */
uint64_t now_ns(void);

void stage_open(struct stage *st, const struct scene *scene);
void stage_close(struct stage *st);
void stage_fill(struct stage *st); /* begins a round: clears the ledger, then the scene's own messages */
mqshm_sub_options group_options(const char *name, const char *const *pattern, const uint32_t *size);

/* In the stage's own process. */
void put(struct stage *st, unsigned id, uint64_t size, const mqshm_envelope *e); /* everybody is to get it, once */
void hold(struct stage *st);       /* `two` leases the next message of group 0 */
void consume(struct stage *st, unsigned from, unsigned until); /* groups: everything there, by `two` */
void arm(struct stage *st);        /* both wait: for a message and for room of group 0 */
/* A process attaches, does as it is told, and dies without a word. */
void leave_dead(struct stage *st, void (*act)(struct victim *v));

/* In a victim. */
void victim_attach(struct victim *v);
void victim_open(struct victim *v);  /* the topic and group 0 */
int victim_put(struct victim *v, unsigned id, uint64_t size, const mqshm_envelope *e);
void victim_take(struct victim *v);  /* leases the next message of group 0 */
void victim_act(struct victim *v);   /* the scene's operation, written down */
void die(void) __attribute__((noreturn));
pid_t fork_victim(struct stage *st, void (*live)(struct victim *v));

/* Payloads say who they are. */
void payload_write(unsigned char *to, unsigned id, uint64_t size);
unsigned payload_read(const mqshm_delivery *d);

/* Survivors: repair, publish, receive and settle; the time that took. */
uint64_t survive(struct stage *st);
/* The same beside a process that is stopped, and not to be repaired. */
uint64_t go_on(struct stage *st);
/* Nothing is lost, doubled, torn, left over or owned by the dead. */
void expect_rest(struct stage *st, unsigned peers);
struct usage {
	uint64_t bytes, units;
};
struct usage usage(struct stage *st);

#endif
