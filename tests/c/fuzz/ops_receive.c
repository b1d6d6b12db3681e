/* The way out, and the end. */
#include "dead.h"
#include "ops.h"

struct lease leases[LEASES_MOST];
unsigned lease_count;

/* ---- receive ---- */

struct receiving {
	mqshm_sub_t *view;
	uint32_t max, got;
	mqshm_delivery d[BATCH_MOST];
};
static int call_receive(void *with)
{
	struct receiving *r = with;
	int rc = mqshm_receive(r->view, r->d);
	r->got = rc == MQSHM_OK;
	return rc;
}
static int call_receive_batch(void *with)
{
	struct receiving *r = with;
	return mqshm_receive_batch(r->view, r->max, r->d, &r->got);
}

static bool may_take(const struct sub *s, unsigned peer) { return !s->o.prefetch || s->held[peer] < s->o.prefetch; }

static void receive(struct tape *t, unsigned peer, uint32_t max)
{
	struct sub *s = draw_view(t, peer);
	int rc;
	if (!s || lease_count + max > LEASES_MOST) return;
	struct receiving r = {.view = s->views[peer], .max = max};
	bool may = may_take(s, peer);
	if (config.dead_letter_size) {
		if (time_has_come_anywhere()) all_times();
		letters_begin(s);
	}
	if (!survives(peers[peer], draw_fuse(t, peer), max > 1 ? call_receive_batch : call_receive, &r, &rc)) {
		if (may) fire(s);
		if (max == 1) mark_next(s, false, 0);
		for (uint32_t i = 0; i < s->used; i++) s->entries[i].maybe |= max > 1 && s->entries[i].state <= AGAIN;
		may_be_claimed(s);
		if (config.dead_letter_size) letters_died();
		bury(t, peer, true);
		if (config.dead_letter_size) letters_end();
		return;
	}
	must(rc == MQSHM_OK || rc == MQSHM_EMPTY, "receive: %d, %s", rc, mqshm_reason());
	if (may) fire(s);
	for (uint32_t i = 0; i < r.got; i++) {
		must(may_take(s, peer), "%s hands out more than it may", s->name);
		struct entry *e = came_out(s, peer, &r.d[i]);
		note("%llu from %s by %u, attempt %u", (unsigned long long)r.d[i].seq, s->name, peer, r.d[i].attempt);
		leases[lease_count++] = (struct lease){.d = r.d[i], .s = s, .m = e->m, .peer = peer, .turn = e->turn, .life = s->life};
	}
	if (r.got < max) note("no more from %s by %u", s->name, peer);
	if (r.got < max && may_take(s, peer)) nothing_came(s);
	refused_on_the_way(s);
	if (config.dead_letter_size) letters_end();
}

void do_receive(struct tape *t, unsigned peer) { receive(t, peer, 1); }
void do_receive_batch(struct tape *t, unsigned peer) { receive(t, peer, 2 + draw(t, BATCH_MOST - 1)); }

void do_wait(struct tape *t, unsigned peer)
{
	struct sub *s = draw_view(t, peer);
	if (!s) return;
	int rc = mqshm_wait(peers[peer], &s->views[peer], 1, draw(t, 3) * 1000000ll);
	if (rc == MQSHM_OK || !may_take(s, peer)) return;
	must(rc == MQSHM_TIMEOUT || rc == MQSHM_INTERRUPTED, "wait: %d, %s", rc, mqshm_reason());
	for (uint32_t i = 0; i < s->used; i++)
		must(s->entries[i].state != WAITING || s->entries[i].loose, "%s: a wait does not see message %llu", s->name,
		     (unsigned long long)s->entries[i].m->seq);
}

/* ---- settle ---- */

struct settling {
	mqshm_delivery *d;
	unsigned how;
	uint32_t ms;
};
enum { ACK, NACK_NOW, NACK_LATER, NACK_BACKOFF, REJECT, EXTEND, HOLD, RELEASE, WAYS };
static int call_settle(void *with)
{
	struct settling *s = with;
	switch (s->how) {
	case ACK: return mqshm_ack(s->d);
	case NACK_NOW: return mqshm_nack(s->d, 0);
	case NACK_LATER: return mqshm_nack(s->d, s->ms);
	case NACK_BACKOFF: return mqshm_nack(s->d, UINT32_MAX);
	case REJECT: return mqshm_reject(s->d, "no", 2);
	case EXTEND: return mqshm_extend(s->d, s->ms);
	case HOLD: return mqshm_ack_hold(s->d);
	default: return mqshm_release(s->d);
	}
}

struct entry *entry_of_lease(const struct lease *l)
{
	for (uint32_t i = 0; i < l->s->used; i++) {
		struct entry *e = &l->s->entries[i];
		if (e->m == l->m && e->turn == l->turn && e->holder == l->peer) return e;
	}
	return NULL;
}

static uint32_t backoff(const struct sub *s, uint32_t attempt)
{
	uint64_t ms = s->o.backoff_min_ms;
	for (uint32_t i = 1; i < attempt && ms < s->o.backoff_max_ms; i++) ms *= 2;
	return (uint32_t)(ms < s->o.backoff_max_ms ? ms : s->o.backoff_max_ms);
}

static void nacked(struct sub *s, struct entry *e, uint32_t delay_ms)
{
	if (s->o.max_attempts && e->least >= s->o.max_attempts) leave(s, e); /* it was the last */
	else if (delay_ms) later(e, delay_ms);
	else again(e);
}

static void settled(struct lease *l, struct entry *e, const struct settling *c)
{
	switch (c->how) {
	case ACK:
	case REJECT:
	case RELEASE: leave(l->s, e); break;
	case NACK_NOW: nacked(l->s, e, 0); break;
	case NACK_LATER: nacked(l->s, e, c->ms); break;
	case NACK_BACKOFF: nacked(l->s, e, backoff(l->s, l->d.attempt)); break;
	case EXTEND:
		if (l->s->o.ack == MQSHM_ACK_TIMEOUT) e->due_ms = ms_in(c->ms);
		break;
	case HOLD: e->state = HELD; e->due_ms = 0; break;
	}
}

/* Of a subscription that is over, and whose place another has now, nothing is held any more. */
void unhold(const struct lease *l)
{
	struct sub *s = l->s;
	if (s->open && s->life == l->life && s->held[l->peer]) s->held[l->peer]--;
}

#define WAIT_MS 1000 /* what has no room among the dead letters waits at least so long for the next try */

static bool gives_up(const struct lease *l, const struct entry *e, unsigned how)
{
	bool last = l->s->o.max_attempts && e->least >= l->s->o.max_attempts;
	return how == REJECT || (last && how >= NACK_NOW && how <= NACK_BACKOFF);
}

static bool ends_hold(unsigned how) { return how != EXTEND && how != RELEASE; }

void do_settle(struct tape *t, unsigned peer)
{
	if (lease_count == 0) return;
	if (config.dead_letter_size && time_has_come_anywhere()) all_times();
	unsigned i = draw(t, lease_count);
	struct lease *l = &leases[i];
	struct settling c = {.d = &l->d, .how = draw(t, WAYS), .ms = 1 + draw(t, 2000)};
	struct entry *e = entry_of_lease(l);
	int rc;
	if (e && e->state == HELD && chance(t, 2)) c.how = RELEASE;
	if (!l->s->open && c.how >= NACK_NOW && c.how <= NACK_BACKOFF) c.how = ACK; /* where it goes then is over */
	bool holds = e && (c.how == RELEASE ? e->state == HELD : e->state == LEASED);
	bool counts = ends_hold(c.how) && mqi_slot_state(l->d.word) == SLOT_INFLIGHT;
	peer = l->peer;
	if (mqshm_delivery_held(&l->d) != (e && (e->state == LEASED || e->state == HELD))) fail("delivery_held is wrong of message %llu", (unsigned long long)l->d.seq);
	bool letter = holds && gives_up(l, e, c.how) && becomes_letter(e->m);
	if (letter && !l->s->open) { /* where it waits for room then is over */
		c.how = ACK;
		letter = false;
	}
	int fails = letter ? letter_begins(l->s, e, l->d.attempt, c.how == REJECT ? "no" : "max_attempts") : 0;
	e = entry_of_lease(l);
	if (!survives(peers[peer], draw_fuse(t, peer), call_settle, &c, &rc)) {
		note("%llu of %s by %u: way %u, %u ms: dies", (unsigned long long)l->d.seq, l->s->name, peer, c.how, c.ms);
		if (holds) {
			e->maybe = true;
			e->loose = (c.how >= NACK_NOW && c.how <= NACK_BACKOFF) || letter;
		}
		if (letter) letters_died();
		bury(t, peer, false);
		if (letter) letters_end();
		return;
	}
	if (c.how == NACK_LATER || c.how == NACK_BACKOFF)
		if (rc == MQSHM_NO_MEMORY && config.max_memory_usage) return;
	must(rc == (holds ? MQSHM_OK : MQSHM_LEASE_LOST), "settling message %llu by %u: %d, %s", (unsigned long long)l->d.seq, c.how, rc, mqshm_reason());
	note("%llu of %s by %u: way %u, %u ms: %d", (unsigned long long)l->d.seq, l->s->name, peer, c.how, c.ms, rc);
	if (counts) unhold(l);
	if (letter) {
		uint64_t ms = l->s->o.backoff_max_ms > WAIT_MS ? l->s->o.backoff_max_ms : WAIT_MS;
		e->maybe = fails != 1;
		later(e, ms); /* or it is gone */
		letters_end();
		must(fails || !entry_of_lease(l), "message %llu stays, although there was room for its dead letter", (unsigned long long)l->d.seq);
	} else if (holds) settled(l, e, &c);
	if (!entry_of_lease(l) && !chance(t, 3)) *l = leases[--lease_count]; /* else it is settled once more, some time */
}

struct acking {
	mqshm_delivery d[BATCH_MOST];
	uint32_t n, acked;
};
static int call_ack_batch(void *with)
{
	struct acking *a = with;
	return mqshm_ack_batch(a->d, a->n, &a->acked);
}

void do_ack_batch(struct tape *t, unsigned peer)
{
	struct acking a = {.n = 0};
	struct lease took[BATCH_MOST];
	uint32_t holding = 0;
	int rc;
	for (unsigned i = lease_count; i-- > 0 && a.n < BATCH_MOST;) {
		struct lease l = leases[i];
		if (l.peer != peer || chance(t, 2) || mqi_slot_state(l.d.word) != SLOT_INFLIGHT) continue;
		took[a.n] = l;
		a.d[a.n++] = l.d;
		leases[i] = leases[--lease_count];
	}
	bool alive = survives(peers[peer], draw_fuse(t, peer), call_ack_batch, &a, &rc);
	for (uint32_t i = 0; i < a.n; i++) {
		struct entry *e = entry_of_lease(&took[i]);
		struct sub *s = took[i].s;
		if (alive) unhold(&took[i]);
		if (!e || e->state != LEASED) continue;
		holding++;
		if (alive) leave(s, e);
		else e->maybe = true;
	}
	if (!alive) bury(t, peer, false);
	else must(rc == MQSHM_OK && a.acked == holding, "%u of %u were acked, not %u", a.acked, a.n, holding);
}

void do_find_held(struct tape *t, unsigned peer)
{
	mqshm_delivery d;
	if (lease_count == 0) return;
	struct lease *l = &leases[draw(t, lease_count)];
	struct entry *e = entry_of_lease(l);
	if (l->peer != peer || !e || e->state != LEASED || !l->s->open || !e->m->e.id_size) return;
	const char *topic = topic_names[e->m->topic];
	must(mqshm_find_held(peers[peer], topic, (uint32_t)strlen(topic), e->m->e.id, e->m->e.id_size, &d) == MQSHM_OK, "a lease is not found by its id: %s",
	     mqshm_reason());
	must(d.id_size == e->m->e.id_size && memcmp(d.id, e->m->e.id, d.id_size) == 0, "another id was found");
}

static int call_purge(void *with)
{
	uint64_t purged;
	return mqshm_purge(with, &purged);
}

void do_purge(struct tape *t, unsigned peer)
{
	struct sub *s = draw_view(t, peer);
	int rc;
	if (!s) return;
	if (!survives(peers[peer], draw_fuse(t, peer), call_purge, s->views[peer], &rc)) {
		for (uint32_t i = 0; i < s->used; i++) s->entries[i].maybe |= s->entries[i].state < LEASED;
		may_be_claimed(s);
		bury(t, peer, true);
		return;
	}
	must(rc == MQSHM_OK, "purge: %s", mqshm_reason());
	for (uint32_t i = s->used; i-- > 0;)
		if (s->entries[i].state < LEASED) leave(s, &s->entries[i]);
}
