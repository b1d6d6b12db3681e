#include "room.h"

struct want wanted(struct message *m)
{
	struct want w = {.m = m};
	w.n = receivers(m->topic, w.to);
	return w;
}

bool drops_what_waits(const struct sub *s) { return s->o.overflow == MQSHM_DROP_OLDEST || s->o.overflow == MQSHM_DROP_LOWEST; }
static bool is_full(const struct sub *s) { return s->used + s->graves + s->taken >= s->o.capacity; }

#define NO_ROOM 2

/* One message more. */
static int seat(struct sub *s, const struct message *m, struct room *room)
{
	if (!is_full(s)) {
		s->taken++;
		return 1;
	}
	if (s->o.overflow == MQSHM_DROP_NEW) return 0;
	if (!drops_what_waits(s)) return NO_ROOM;
	bool lowest = s->o.overflow == MQSHM_DROP_LOWEST;
	unsigned highest = lowest ? m->ring : 0;
	bool doubts = s->doubts || any_doubtful(s, highest);
	bool certain = any_certain(s, highest);
	unsigned marked = mark_next(s, true, highest);
	room->dropped |= marked > 0;
	s->doubts |= marked > 1;
	if (certain) return 1;
	return doubts ? -1 : lowest ? 0 : NO_ROOM;
}

/* As the core goes about it: those that drop what waits come last. */
static void seat_all(struct want *w, unsigned count, struct room *room)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < w[i].n; k++) {
			w[i].to[k]->taken = 0;
			w[i].to[k]->doubts = false;
		}
	for (unsigned last = 0; last < 2; last++)
		for (unsigned i = 0; i < count; i++)
			for (unsigned k = 0; k < w[i].n; k++) {
				struct sub *s = w[i].to[k];
				if (drops_what_waits(s) != last) continue;
				int in = seat(s, w[i].m, room);
				if (in == NO_ROOM) {
					room->fails = 1;
					return;
				}
				w[i].in[k] = (signed char)in;
				if (in != -1) continue;
				room->dropped = true; /* it is to be looked at, whatever was */
				if (s->o.overflow == MQSHM_DROP_OLDEST) room->fails = -1;
			}
}

struct room look_for_room(struct want *w)
{
	struct room room = {0};
	bool doubts = false;
	for (unsigned i = 0; i < w->n; i++) doubts |= times_in_doubt(w->to[i]);
	if (doubts) all_times();
	for (unsigned i = 0; i < w->n; i++) {
		struct sub *s = w->to[i];
		s->taken = 0;
		s->graves = tombs(s, peers[0], false);
		if (!time_has_come(s)) continue;
		room.came = true;
		if (!is_full(s)) continue;
		fire(s);
		s->graves = tombs(s, peers[0], true);
	}
	seat_all(w, 1, &room);
	return room;
}

/* At the limit of memory all is tried once more, and then what was dropped is free for whichever message comes first. */
static void seat_again(struct want *w, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < w[i].n; k++) {
			struct sub *s = w[i].to[k];
			bool lowest = s->o.overflow == MQSHM_DROP_LOWEST;
			if (!drops_what_waits(s)) continue;
			mark_next(s, true, lowest ? w[i].m->ring : 0);
			if (lowest) w[i].in[k] = -1;
		}
}

struct room room_for_all(struct want *w, unsigned count)
{
	struct room room = {0};
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < w[i].n; k++) w[i].to[k]->graves = tombs(w[i].to[k], peers[0], false);
	seat_all(w, count, &room);
	if (config.max_memory_usage && room.dropped && count > 1) seat_again(w, count);
	return room;
}

void entered(const struct want *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		if (!w->in[i]) continue;
		struct entry *e = enter(w->to[i], w->m);
		if (w->m->e.delay_ms) later(e, w->m->e.delay_ms);
		e->maybe = w->in[i] < 0;
	}
}

void settle_drops(const struct want *w)
{
	for (unsigned i = 0; i < w->n; i++)
		if (drops_what_waits(w->to[i])) reconcile(w->to[i], peers[0]);
}
