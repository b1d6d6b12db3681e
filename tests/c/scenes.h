/* What a victim was doing when it died: each scene is a broker, what happened in it before, one operation, and what
 * is promised of the messages afterwards. */
#ifndef MQT_SCENES_H
#define MQT_SCENES_H

#include "support.h"

struct scene {
	const char *name;
	unsigned groups;           /* named g0, g1 .., each over the topic t. 0 is 1 */
	uint32_t capacity;         /* of group 0, as the next three; 0 is 128 */
	uint32_t overflow, ack;
	uint32_t max_attempts;
	uint32_t lease_ms;         /* 0 is longer than anybody waits; else others wait for its end beside who is stopped */
	bool full;                 /* there is no room for the survivors' messages until some were received */
	bool stranger;             /* the victim attaches in its operation, or not at all */
	int result;                /* of the operation */

	void (*fill)(struct stage *st);     /* messages that wait */
	void (*ready)(struct victim *v);    /* what the victim did before */
	int (*act)(struct victim *v);       /* the operation */
	void (*finish)(struct victim *v);   /* what it does next, where it was only stopped */
	void (*owed)(struct stage *st);     /* after repair: what is promised of the victim's messages and leases */
	void (*after)(struct stage *st);    /* what else must hold */
};

extern const struct scene publish_scenes[], receive_scenes[], commit_scenes[], control_scenes[];
extern const unsigned publish_scenes_count, receive_scenes_count, commit_scenes_count, control_scenes_count;

const struct scene *scene_at(unsigned i);       /* NULL past the last */
const struct scene *scene_named(const char *name);

/* Owed by most: what the victim published is everywhere or, if its publish did not return, nowhere; what it held and
 * has not settled comes again. */
void owed_published(struct stage *st);
void owed_settled(struct stage *st);

#endif
