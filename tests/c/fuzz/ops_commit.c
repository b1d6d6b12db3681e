/* Several messages and acks as one. */
#include "known.h"
#include "ops.h"
#include "room.h"

#define PARTS_MOST 4u
#define SETTLED_MOST 4u
#define PART_SIZE_MOST 20000u

static unsigned char payloads[PARTS_MOST][PART_SIZE_MOST + 8];

struct committing {
	mqshm_t *h;
	mqshm_part parts[PARTS_MOST];
	mqshm_delivery *settled[SETTLED_MOST];
	unsigned char keep[SETTLED_MOST];
	uint64_t seqs[PARTS_MOST];
	uint32_t n, m, failed;
};
static int call_commit(void *with)
{
	struct committing *c = with;
	return mqshm_commit(c->h, c->parts, c->n, c->settled, c->keep, c->m, c->seqs, &c->failed);
}

struct commit {
	struct committing call;
	struct want w[PARTS_MOST];
	struct lease *l[SETTLED_MOST];
	uint32_t refused;  /* the part that must be, at first sight; n: none */
	bool duplicate;    /* a part before that may be */
	bool twins;        /* one id twice */
	bool stale;        /* a delivery that is not leased any more */
	struct room room;
};

/* ---- what is to happen ---- */

static bool draw_parts(struct tape *t, unsigned peer, struct commit *c)
{
	c->call.n = draw(t, chance(t, 3) ? PARTS_MOST + 1 : 2); /* most subscriptions are full: many parts seldom go through */
	for (uint32_t i = 0; i < c->call.n; i++) {
		struct message *m = message_new();
		m->shares = 1;
		m->topic = draw(t, TOPICS);
		m->size = draw(t, chance(t, 8) ? PART_SIZE_MOST : 600);
		draw_envelope(t, m);
		message_write(payloads[i], m->id, m->size);
		c->w[i] = wanted(m);
		c->call.parts[i] = (mqshm_part){topic_of(peer, m->topic), payloads[i], m->size, &m->e};
		if (c->call.parts[i].topic) continue;
		for (uint32_t k = 0; k <= i; k++) message_drop(c->w[k].m);
		return false;
	}
	return true;
}

static bool is_leased(const struct lease *l)
{
	struct entry *e = entry_of_lease(l);
	return e && e->state == LEASED;
}

static void draw_settled(struct tape *t, unsigned peer, struct commit *c)
{
	uint32_t most = draw(t, SETTLED_MOST + 1), first = lease_count ? draw(t, lease_count) : 0;
	for (unsigned i = 0; i < lease_count && c->call.m < most; i++) {
		struct lease *l = &leases[(first + i) % lease_count];
		if (l->peer != peer || (!is_leased(l) && !chance(t, 16))) continue;
		c->stale |= !is_leased(l);
		c->l[c->call.m] = l;
		c->call.keep[c->call.m] = chance(t, 4);
		c->call.settled[c->call.m++] = &l->d;
	}
}

static void foresee(struct commit *c)
{
	uint32_t n = c->call.n;
	for (c->refused = 0; c->refused < n; c->refused++) {
		const struct message *m = c->w[c->refused].m;
		if (is_too_large(m)) break;
		c->duplicate |= known(m) != 0;
		if (known(m) == 1) break;
	}
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < i; k++) c->twins |= same_id(c->w[i].m, c->w[k].m);
	if (c->refused == n && !c->stale) c->room = room_for_all(c->w, n);
}

static bool must_fail(const struct commit *c) { return c->refused < c->call.n || c->room.fails == 1 || c->twins || c->stale; }

/* ---- what has happened ---- */

static void not_committed(struct commit *c, int rc)
{
	uint32_t n = c->call.n, failed = c->call.failed;
	bool seen = c->refused < n, reserved = !seen && !c->stale && c->room.fails != 1;
	must(failed <= n, "commit: message %u of %u failed", failed, n);
	switch (rc) {
	case MQSHM_TOO_LARGE:
		must(seen && failed == c->refused && is_too_large(c->w[failed].m), "commit: %s", mqshm_reason());
		break;
	case MQSHM_DUPLICATE:
		must(failed < n && (c->duplicate || (reserved && c->twins)), "commit: message %u was refused for its id", failed);
		if (c->twins) break;
		must(known(c->w[failed].m), "commit: message %u was refused for its id", failed);
		known_refused(c->w[failed].m);
		break;
	case MQSHM_FULL: must(!seen && !c->stale && c->room.fails, "commit: %s", mqshm_reason()); break;
	case MQSHM_LEASE_LOST: must(!seen && c->stale && failed == n, "commit: %s", mqshm_reason()); break;
	default: must(rc == MQSHM_NO_MEMORY && !seen && !c->stale && config.max_memory_usage, "commit: %d, %s", rc, mqshm_reason());
	}
}

/* The messages have one block. */
static void begin(struct commit *c)
{
	if (c->call.n == 0) return;
	uint32_t bundle = bundle_new();
	for (uint32_t i = 0; i < c->call.n; i++) bundle_take(bundle, c->w[i].m);
}

static void committed(struct commit *c)
{
	must(!must_fail(c), "a commit went through: message %u must be refused, room %d, twins %d, stale %d", c->refused, c->room.fails,
	     c->twins, c->stale);
	begin(c);
	for (uint32_t i = 0; i < c->call.n; i++) {
		c->w[i].m->seq = c->call.seqs[i];
		known_published(c->w[i].m);
		entered(&c->w[i]);
	}
	for (uint32_t i = 0; i < c->call.m; i++) {
		struct lease *l = c->l[i];
		struct entry *e = entry_of_lease(l);
		unhold(l);
		e->due_ms = 0;
		if (c->call.keep[i]) e->state = HELD;
		else leave(l->s, e);
	}
}

struct asked {
	struct sub *s;
	struct message *m;
	uint32_t turn; /* of a lease; 0: of a part */
};

static struct entry *find(const struct asked *a)
{
	for (uint32_t i = 0; i < a->s->used; i++) {
		struct entry *e = &a->s->entries[i];
		if (e->m == a->m && (a->turn == 0 || e->turn == a->turn)) return e;
	}
	return NULL;
}

/* All of it or nothing. Of what was to be settled that would be gone, and of the messages that would be there. */
static void died_committing(struct tape *t, unsigned peer, struct commit *c)
{
	struct asked asked[PARTS_MOST * SUBS_MOST + SETTLED_MOST];
	unsigned count = 0, done = 0, judged = 0;
	bool fails = must_fail(c);
	for (uint32_t i = 0; i < c->call.n; i++)
		for (unsigned k = 0; k < c->w[i].n; k++) may_be_claimed(c->w[i].to[k]);
	if (!fails) begin(c);
	for (uint32_t i = 0; i < c->call.n && !fails; i++) {
		entered(&c->w[i]);
		for (unsigned k = 0; k < c->w[i].n; k++) {
			struct asked a = {c->w[i].to[k], c->w[i].m, 0};
			struct entry *e = c->w[i].in[k] ? find(&a) : NULL;
			if (!e) continue;
			if (!e->maybe && !expired(a.m)) asked[count++] = a;
			e->loose = e->maybe = true;
			e->state = AGAIN;
		}
	}
	for (uint32_t i = 0; i < c->call.m && !fails; i++) {
		struct entry *e = entry_of_lease(c->l[i]);
		e->maybe = true;
		if (!expired(e->m)) asked[count++] = (struct asked){c->l[i]->s, e->m, e->turn};
	}
	bury(t, peer, false);
	for (unsigned i = 0; i < count; i++) {
		if (!asked[i].s->open) continue;
		judged++;
		done += asked[i].turn ? !find(&asked[i]) : find(&asked[i]) != NULL;
	}
	must(done == 0 || done == judged, "of a commit whose process died %u parts of %u were done", done, judged);
	note("%u of %u done", done, judged);
	for (uint32_t i = 0; i < c->call.n && !fails; i++) {
		if (judged == 0) known_perhaps(c->w[i].m);
		else if (done) known_published(c->w[i].m);
	}
}

/* There is more in a commit for a death to come in between than in anything else. */
static uint32_t draw_commit_fuse(struct tape *t, unsigned peer)
{
	return peer && chance(t, 6) ? 1 + draw(t, 1 + draw(t, FUSE_MOST)) : draw_fuse(t, peer);
}

void do_commit(struct tape *t, unsigned peer)
{
	struct commit c = {.call.h = peers[peer]};
	int rc;
	if (time_has_come_anywhere()) all_times();
	if (!draw_parts(t, peer, &c)) return;
	draw_settled(t, peer, &c);
	foresee(&c);
	note("%u messages, %u acks", c.call.n, c.call.m);
	if (survives(c.call.h, draw_commit_fuse(t, peer), call_commit, &c.call, &rc)) {
		note("%d", rc);
		if (rc == MQSHM_OK) committed(&c);
		else not_committed(&c, rc);
		for (uint32_t i = 0; i < c.call.n; i++) {
			if (c.room.dropped) settle_drops(&c.w[i]);
			for (unsigned k = 0; k < c.w[i].n; k++)
				must(c.w[i].to[k]->used <= c.w[i].to[k]->o.capacity, "%s holds more than %u", c.w[i].to[k]->name, c.w[i].to[k]->o.capacity);
		}
	} else died_committing(t, peer, &c);
	for (uint32_t i = 0; i < c.call.n; i++) message_drop(c.w[i].m);
}
