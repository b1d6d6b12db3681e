/* Messages that are given up and become dead letters. */
#include "dead.h"

#include "ops.h"

static struct letter {
	struct want w;
	bool must[SUBS_MOST];     /* be there, if the message is gone */
	struct sub *s;
	struct message *of;
	uint32_t turn;
} letters[ENTRIES_MOST];
static unsigned count;

static int dead_topic(void)
{
	for (uint32_t i = 0; config.dead_letter_size && i < TOPICS; i++)
		if (strlen(topic_names[i]) == config.dead_letter_size && memcmp(topic_names[i], config.dead_letter_topic, config.dead_letter_size) == 0)
			return (int)i;
	return -1;
}

void draw_dead_topic(struct tape *t, mqshm_config *c)
{
	const char *name = topic_names[draw(t, TOPICS)];
	memset(c->dead_letter_topic, 0, sizeof c->dead_letter_topic);
	/* What goes for a dead letter's memory is not foreseen. */
	c->dead_letter_size = c->max_memory_usage || chance(t, 3) ? 0 : strlen(name);
	memcpy(c->dead_letter_topic, name, c->dead_letter_size);
}

bool becomes_letter(const struct message *m)
{
	struct sub *to[SUBS_MOST];
	int dead = dead_topic();
	return dead >= 0 && m->topic != (uint32_t)dead && receivers((uint32_t)dead, to) > 0;
}

/* ---- what it says, as mqshm/headers.py has it ---- */

static unsigned char *put(unsigned char *to, const void *from, size_t size)
{
	memcpy(to, from, size);
	return to + size;
}

static unsigned char *put_key(unsigned char *to, const char *key, char tag)
{
	uint16_t size = (uint16_t)strlen(key);
	return put(put(put(to, &size, 2), key, size), &tag, 1);
}

static unsigned char *put_text(unsigned char *to, const char *key, const char *text)
{
	uint32_t size = (uint32_t)strlen(text);
	return put(put(put_key(to, key, 's'), &size, 4), text, size);
}

static unsigned char *put_time(unsigned char *to, const char *key, uint64_t ns)
{
	double seconds = (double)ns / 1e9;
	return put(put_key(to, key, 'f'), &seconds, 8);
}

static struct message *letter_of(const struct sub *s, const struct entry *e, uint32_t attempts, const char *reason)
{
	const struct message *of = e->m;
	struct message *m = message_new();
	int64_t many = attempts;
	m->id = of->id;
	m->text = of->text;
	m->size = of->size;
	m->ring = config.enable_priority_queue ? of->ring : 2;
	m->topic = (uint32_t)dead_topic();
	m->shares = 1;
	m->e = of->e;
	m->e.unique = m->e.ack_ms = m->e.delay_ms = 0;
	unsigned char *at = put_text(m->letter, "dead.reason", reason);
	at = put_text(at, "dead.topic", topic_names[of->topic]);
	at = put_text(at, "dead.group", s->private ? "" : s->name);
	at = put(put(put_key(at, "dead.attempts", 'i'), "\10", 1), &many, 8);
	at = put_time(at, "dead.first", of->published_ns);
	at = put_time(at, "dead.last", world_now_ns());
	m->letter_size = (uint32_t)(at - m->letter);
	return m;
}

/* ---- giving up ---- */

static void add(struct sub *s, struct entry *e, uint32_t attempts, const char *reason)
{
	struct letter *l = &letters[count++];
	*l = (struct letter){.w = wanted(letter_of(s, e, attempts, reason)), .s = s, .of = e->m, .turn = e->turn};
}

static void all_may_go(struct sub *s)
{
	for (uint32_t i = 0; drops_what_waits(s) && i < s->used && s->used + s->graves + count > s->o.capacity; i++) s->entries[i].maybe |= s->entries[i].state <= AGAIN;
}

/* What may be published, as far as it is seen from here. */
static int foresee(bool receive)
{
	int fails = 0;
	for (unsigned i = 0; i < count; i++) {
		struct want *w = &letters[i].w;
		struct room room = room_for_all(w, 1);
		if (receive) { /* one takes another's room, whichever is first, or has what a third leaves */
			for (unsigned k = 0; k < w->n; k++) all_may_go(w->to[k]);
			room.fails = -1;
		}
		if (is_too_large(w->m)) room.fails = 1;
		bundle_take(bundle_new(), w->m);
		for (unsigned k = 0; k < w->n; k++) {
			letters[i].must[k] = w->in[k] > 0 && !drops_what_waits(w->to[k]) && (count == 1 || w->to[k]->o.overflow != MQSHM_DROP_NEW);
		}
		fails = room.fails;
	}
	return fails;
}

static void enter_letters(void)
{
	for (unsigned i = 0; i < count; i++) {
		struct want *w = &letters[i].w;
		for (unsigned k = 0; k < w->n; k++) {
			struct entry *e = enter(w->to[k], w->m);
			e->loose = e->maybe = true;
			e->state = AGAIN;
		}
	}
}

int letter_begins(struct sub *s, struct entry *e, uint32_t attempts, const char *reason)
{
	count = 0;
	add(s, e, attempts, reason);
	int fails = foresee(false);
	uint32_t at = (uint32_t)(e - s->entries);
	if (fails != 1) enter_letters();
	s->entries[at].maybe |= fails != 1;
	return fails;
}

void letters_begin(struct sub *s)
{
	count = 0;
	for (uint32_t i = 0; i < s->used; i++) {
		struct entry *e = &s->entries[i];
		bool worn = s->o.max_attempts && e->least >= s->o.max_attempts && e->state <= AGAIN;
		if (!worn || expired(e->m) || !becomes_letter(e->m)) continue;
		add(s, e, e->least, "max_attempts");
		e->maybe = true;
	}
	foresee(true);
	enter_letters();
}

void letters_died(void)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < letters[i].w.n; k++) may_be_claimed(letters[i].w.to[k]);
}

static struct entry *find(struct sub *s, const struct message *m)
{
	for (uint32_t i = 0; i < s->used; i++)
		if (s->entries[i].m == m) return &s->entries[i];
	return NULL;
}

/* For another one's letter that came in, or was refused elsewhere after that. */
static bool may_be_dropped(const struct letter *l)
{
	bool receives = false;
	for (unsigned k = 0; k < l->w.n; k++) receives |= l->w.to[k] == l->s; /* they all go to the same */
	return receives && count > 1 && drops_what_waits(l->s);
}

/* The message is where it was, or a letter; never both, never neither. */
void letters_end(void)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < letters[i].w.n; k++) look_at_doubts(letters[i].w.to[k]);
	for (unsigned i = 0; i < count; i++) {
		struct letter *l = &letters[i];
		struct entry *e = find(l->s, l->of);
		if (l->s->open) look_at_doubts(l->s);
		bool gone = !(e = find(l->s, l->of)) || e->turn != l->turn;
		note("message %llu: %s", (unsigned long long)l->of->seq, gone ? "a dead letter" : "stays");
		for (unsigned k = 0; k < l->w.n && l->s->open; k++) {
			struct sub *to = l->w.to[k];
			bool there = find(to, l->w.m) != NULL;
			if (!to->open || !(gone ? l->must[k] && (there || !may_be_dropped(l)) : there)) continue;
			must(gone && there, "message %llu of %s is %s", (unsigned long long)l->of->seq, l->s->name,
			     gone ? "gone, and no dead letter" : "there, and a dead letter as well");
		}
		message_drop(l->w.m);
	}
	count = 0;
}
