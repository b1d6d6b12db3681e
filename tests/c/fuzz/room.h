/* What a publish, or a commit of several, finds in the subscriptions that it is for, and what becomes of them. */
#ifndef FUZZ_ROOM_H
#define FUZZ_ROOM_H

#include "model.h"

struct want {
	struct message *m;
	unsigned n;                  /* receivers */
	struct sub *to[SUBS_MOST];
	signed char in[SUBS_MOST];   /* 1: it enters, 0: it goes without, -1: one of both */
};

struct room {
	bool came;    /* something was due, which is fired on the way, or not: all of it is, afterwards */
	bool dropped; /* perhaps something was */
	int fails;    /* it must (1), it must not (0), it may (-1: what could be dropped is not certain) */
};

struct want wanted(struct message *m); /* by whom */
bool drops_what_waits(const struct sub *s);
/* Before it: a full subscription looks first for what is due in it. Marks what may be dropped. */
struct room look_for_room(struct want *w);
/* The same with nothing due, for several that enter together. */
struct room room_for_all(struct want *w, unsigned count);
/* The message enters the model where it did the broker; m's own share is the caller's. */
void entered(const struct want *w);
/* Done or not, it may have dropped what it made room with: a look. */
void settle_drops(const struct want *w);

#endif
