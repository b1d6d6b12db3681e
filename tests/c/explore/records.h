/* What ledger.c writes down and check.c judges. */
#ifndef MQT_RECORDS_H
#define MQT_RECORDS_H

#include "ledger.h"

#define MESSAGES_MOST 160u
#define TAKES_MOST 512u
#define FOREVER UINT32_MAX

enum publish_state { TRYING, IN, REFUSED };
struct message {
	unsigned producer, number;
	uint32_t size, invoked, returned;
	enum publish_state state;
	int rc;
	bool once; /* its number is its id, for all producers alike */
	uint64_t over_ms; /* from when on it is not delivered any more; 0: never */
};

enum fate { HELD, ENDING, GIVING, ENDED, GIVEN, LOST };
struct taken {
	uint32_t group, message, invoked, returned, settled, over; /* settling: when that was invoked, and had returned */
	unsigned consumer, attempt;
	enum fate fate;
	uint64_t word, leased_until_ms, not_before_ms; /* the last: given back, to be delivered again */
	uint32_t slot;
};
struct nothing {
	uint32_t group, invoked, returned;
};
/* A message that was published, and a delivery that was settled, as one. */
struct committed {
	uint32_t message, take;
};

struct ledger {
	struct message messages[MESSAGES_MOST];
	struct taken takes[TAKES_MOST];
	struct nothing nothings[TAKES_MOST];
	struct committed commits[TAKES_MOST];
	uint32_t message_count, take_count, nothing_count, commit_count;
};
extern struct ledger ledger;

const char *label(uint32_t message); /* valid for two more calls */

#endif
