/* Temporal slipping: two who are equally fast meet at the same lines again and again, and both wait for each of them. Who
 * is close behind then lets the other get ahead, and after that has many in a row (Giacomoni, Moseley, Vachharajani,
 * FastForward, PPoPP 2008; docs/design/0013). Here is when to try: where a try brought nothing, after twice as many
 * meetings the next time.
 */
#ifndef MQI_SLIP_H
#define MQI_SLIP_H

#include <stdbool.h>
#include <stdint.h>

#define MQI_SLIP_FIRST 8   /* meetings until the first try */
#define MQI_SLIP_MOST 1024 /* the same where no try ever brought anything */

struct mqi_slip {
	uint32_t met, enough; /* since the last try, and for the next; 0 where there was none */
};

static inline bool mqi_slip_due(struct mqi_slip *s)
{
	if (++s->met < (s->enough ? s->enough : MQI_SLIP_FIRST)) return false;
	s->met = 0;
	return true;
}

static inline void mqi_slip_tried(struct mqi_slip *s, bool ahead)
{
	if (ahead) s->enough = 1;
	else if (s->enough < MQI_SLIP_MOST) s->enough = s->enough ? s->enough * 2 : MQI_SLIP_FIRST * 2;
}

#endif
