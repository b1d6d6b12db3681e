#include "ops.h"

#include <stdlib.h>

struct lease leases[LEASES_MOST];
unsigned lease_count;
struct loan loans[LOANS_MOST];
unsigned loan_count;

#define SIZE_MOST (1600u << 10)
#define BATCH_MOST 12u
static unsigned char payload[SIZE_MOST];

/* ---- publish ---- */

struct publishing {
	mqshm_t *h;
	mqshm_topic_t *topic;
	struct message *m;
	mqshm_loan *loan;
	uint64_t seq;
};

static int call_publish(void *with)
{
	struct publishing *p = with;
	if (p->loan) return mqshm_loan_publish(p->h, p->topic, p->loan, &p->m->e, &p->seq);
	return mqshm_publish(p->h, p->topic, payload, p->m->size, &p->m->e, &p->seq);
}

static uint64_t draw_size(struct tape *t)
{
	static const uint32_t most[] = {16, 74, 74, 74, 74, 200, 200, 600, 600, 5000, 5000, 20000};
	uint32_t kind = draw(t, 400);
	if (kind == 0) return draw(t, SIZE_MOST);
	if (kind < 8) return draw(t, 80000);
	return draw(t, most[kind % (sizeof most / sizeof *most)]);
}

static void draw_envelope(struct tape *t, struct message *m)
{
	m->e = (mqshm_envelope){.ring = chance(t, 3) ? draw(t, MQI_PRIORITIES) : 2};
	m->ring = config.enable_priority_queue ? m->e.ring : 2;
	uint32_t kind = draw(t, 64);
	if (kind < 6) m->e.delay_ms = 1 + draw(t, 3000);
	if (kind & 8) m->e.id_size = 1 + draw(t, chance(t, 8) ? 300 : 12);
	if (kind % 7 == 0) m->e.headers_size = 1 + draw(t, 2000);
	if (kind % 11 == 0) m->e.key_size = 1 + draw(t, 40);
	if (kind % 9 == 0) m->e.ack_ms = 1 + draw(t, 3000);
	if (kind % 10 == 0) m->e.expires_ns = chance(t, 4) ? UINT64_MAX : world_now_ns() + draw(t, 4000) * 1000000ull;
	m->e.id = m->e.id_size ? text_of(m->id, 0) : NULL;
	m->e.headers = m->e.headers_size ? text_of(m->id, 1) : NULL;
	m->e.key = m->e.key_size ? text_of(m->id, 2) : NULL;
	if (m->e.expires_ns != UINT64_MAX)
		m->expires_ns = m->e.expires_ns || !config.message_ttl_ms ? m->e.expires_ns : world_now_ns() + config.message_ttl_ms * 1000000;
}

static bool is_full(const struct sub *s) { return s->used >= s->o.capacity; }

/* Whether the publish must fail (1), must not (0), or may (-1: what could be dropped is not certain). */
static int fails_for_room(struct sub *const *to, unsigned n)
{
	int fails = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!is_full(to[i]) || to[i]->o.overflow == MQSHM_DROP_NEW) continue;
		if (to[i]->o.overflow != MQSHM_DROP_OLDEST) return 1;
		bool any = false;
		for (uint32_t k = 0; k < to[i]->used; k++) any |= to[i]->entries[k].state <= AGAIN;
		if (!any) return 1;
		for (uint32_t k = 0; k < to[i]->used && !fails; k++)
			if (to[i]->entries[k].loose || to[i]->entries[k].maybe || !to[i]->sure) fails = -1;
	}
	return fails;
}

/* A publish, done or not, may have dropped what it made room with. Whether that must be looked at. */
static bool may_have_dropped(struct sub *const *to, unsigned n)
{
	bool any = false;
	for (unsigned i = 0; i < n; i++)
		if (is_full(to[i]) && to[i]->o.overflow == MQSHM_DROP_OLDEST) any |= mark_next(to[i], true) > 0;
	return any;
}

static void settle_drops(struct sub *const *to, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (to[i]->o.overflow == MQSHM_DROP_OLDEST) reconcile(to[i], peers[0]);
}

/* The message enters the model where it did the broker; m's own share is the caller's. */
static unsigned entered(struct message *m, struct sub *const *to, unsigned n)
{
	unsigned in = 0;
	for (unsigned i = 0; i < n; i++) {
		if (is_full(to[i]) && to[i]->o.overflow == MQSHM_DROP_NEW) continue;
		struct entry *e = enter(to[i], m);
		if (m->e.delay_ms) {
			e->state = LATER;
			e->due_ms = world_now_ms() + m->e.delay_ms;
		}
		in++;
	}
	return in;
}

static void begin(struct message *m, unsigned n)
{
	m->shares = 1;
	m->block = n > 1 || (n == 1 && m->size + envelope_bytes(m) > MQI_INLINE);
	blocks_live += m->block;
}

/* All of its receivers or none: what the survivors find decides. Those that die with it are not asked. */
static void died_publishing(struct tape *t, unsigned peer, struct message *m, struct sub *const *to, unsigned n)
{
	bool fails = fails_for_room(to, n) == 1;
	may_have_dropped(to, n);
	for (unsigned i = 0; i < n; i++) may_be_claimed(to[i]);
	unsigned in = fails ? 0 : entered(m, to, n), there = 0, asked = 0;
	struct sub *entered_in[SUBS_MOST];
	for (unsigned i = 0; i < n; i++) {
		struct entry *e = entry_at(to[i], 0);
		if (!e || e->m != m) continue;
		e->loose = e->maybe = true;
		e->state = AGAIN;
		entered_in[asked++] = to[i];
	}
	must(asked == in, "the model is wrong");
	bury(t, peer, false);
	for (unsigned i = 0; i < asked; i++) {
		bool is = false;
		for (uint32_t k = 0; k < entered_in[i]->used; k++) is |= entered_in[i]->entries[k].m == m;
		there += is;
		if (!entered_in[i]->open) {
			entered_in[i--] = entered_in[--asked];
			there -= is;
		}
	}
	must(there == 0 || there == asked, "a message whose publisher died reached %u of %u subscriptions", there, asked);
	message_drop(m);
}

static void published(struct publishing *p, int rc, struct sub *const *to, unsigned n)
{
	struct message *m = p->m;
	int fails = fails_for_room(to, n);
	note("%llu, %llu bytes to %u, ring %u, delay %u: %d", (unsigned long long)p->seq, (unsigned long long)m->size, n, m->e.ring, m->e.delay_ms, rc);
	if (rc == MQSHM_OK) {
		must(fails != 1, "a publish went through although there was no room");
		bool dropped = may_have_dropped(to, n);
		m->seq = p->seq;
		entered(m, to, n);
		if (dropped) settle_drops(to, n);
		for (unsigned i = 0; i < n; i++) must(to[i]->used <= to[i]->o.capacity, "%s holds %u of %u", to[i]->name, to[i]->used, to[i]->o.capacity);
	} else {
		must((rc == MQSHM_FULL && fails) || (rc == MQSHM_NO_MEMORY && config.max_memory_usage), "publish: %d, %s", rc, mqshm_reason());
		if (may_have_dropped(to, n)) settle_drops(to, n);
	}
	message_drop(m);
}

void do_publish(struct tape *t, unsigned peer)
{
	struct sub *to[SUBS_MOST];
	struct message *m = message_new();
	m->topic = draw(t, TOPICS);
	m->size = draw_size(t);
	draw_envelope(t, m);
	struct publishing p = {.h = peers[peer], .topic = topic_of(peer, m->topic), .m = m};
	unsigned n = receivers(m->topic, to);
	int rc;
	begin(m, n);
	if (!p.topic) {
		message_drop(m);
		return;
	}
	message_write(payload, m->id, m->size);
	if (!survives(p.h, draw_fuse(t, peer), call_publish, &p, &rc)) {
		died_publishing(t, peer, m, to, n);
	} else if (config.max_message_size && m->size > config.max_message_size) {
		must(rc == MQSHM_TOO_LARGE, "a payload over the limit: %d", rc);
		message_drop(m);
	} else published(&p, rc, to, n);
}

void do_publish_batch(struct tape *t, unsigned peer)
{
	uint32_t count = 1 + draw(t, BATCH_MOST), topic = draw(t, TOPICS), done;
	struct message *m[BATCH_MOST];
	const void *data[BATCH_MOST];
	const mqshm_envelope *e[BATCH_MOST];
	uint64_t sizes[BATCH_MOST], seqs[BATCH_MOST];
	struct sub *to[SUBS_MOST];
	unsigned char *at = payload;
	unsigned n = receivers(topic, to);
	mqshm_topic_t *opened = topic_of(peer, topic);
	for (unsigned i = 0; i < n; i++)
		if (to[i]->o.overflow == MQSHM_DROP_OLDEST && to[i]->used + count > to[i]->o.capacity) return; /* what goes then is looked at one by one */
	if (!opened) return;
	for (uint32_t i = 0; i < count; i++) {
		m[i] = message_new();
		m[i]->topic = topic;
		sizes[i] = m[i]->size = draw(t, 600);
		draw_envelope(t, m[i]);
		message_write(at, m[i]->id, m[i]->size);
		begin(m[i], n);
		data[i] = at;
		e[i] = &m[i]->e;
		at += (sizes[i] + 7) & ~7ull;
	}
	int rc = mqshm_publish_batch(peers[peer], opened, count, data, sizes, e, seqs, &done);
	must((rc == MQSHM_OK) == (done == count), "a batch of %u: %d after %u", count, rc, done);
	for (uint32_t i = 0; i < count; i++) {
		struct publishing p = {.h = peers[peer], .m = m[i], .seq = i < done ? seqs[i] : 0};
		bool large = config.max_message_size && m[i]->size > config.max_message_size;
		must(!large || i > done || (i == done && rc == MQSHM_TOO_LARGE), "a payload over the limit went through");
		if (i > done || large) message_drop(m[i]);
		else published(&p, i < done ? MQSHM_OK : rc, to, n);
	}
}

void do_loan(struct tape *t, unsigned peer)
{
	int rc;
	if (loan_count < LOANS_MOST && chance(t, 3)) {
		struct loan *l = &loans[loan_count];
		uint64_t size = 1 + draw_size(t);
		rc = mqshm_loan_take(peers[peer], size, chance(t, 4) ? 0 : 4000, &l->core);
		if (rc != MQSHM_OK) {
			must((rc == MQSHM_TOO_LARGE && config.max_message_size && size > config.max_message_size) ||
			         (rc == MQSHM_NO_MEMORY && config.max_memory_usage), "loan: %s", mqshm_reason());
			return;
		}
		l->id = message_new()->id;
		l->peer = peer;
		message_write(l->core.data, l->id, size);
		loan_count++;
		blocks_live++;
		return;
	}
	unsigned i = draw(t, LOANS_MOST);
	if (i >= loan_count || loans[i].peer != peer) return;
	if (chance(t, 4)) {
		must(mqshm_loan_return(peers[peer], &loans[i].core) == MQSHM_OK, "loan: %s", mqshm_reason());
		blocks_live--;
		loans[i] = loans[--loan_count];
		return;
	}
	struct sub *to[SUBS_MOST];
	struct message *m = message_new();
	m->topic = draw(t, TOPICS);
	m->size = loans[i].core.size;
	draw_envelope(t, m);
	m->id = loans[i].id;
	m->e.id = m->e.id_size ? text_of(m->id, 0) : NULL;
	m->e.headers = m->e.headers_size ? text_of(m->id, 1) : NULL;
	m->e.key = m->e.key_size ? text_of(m->id, 2) : NULL;
	struct publishing p = {.h = peers[peer], .topic = topic_of(peer, m->topic), .m = m, .loan = &loans[i].core};
	unsigned n = receivers(m->topic, to);
	m->shares = 1;
	if (!p.topic) {
		message_drop(m);
		return;
	}
	/* The block changes hands: it counts as the message's, or is given back. */
	if (!survives(p.h, draw_fuse(t, peer), call_publish, &p, &rc)) {
		loans[i] = loans[--loan_count];
		m->block = true;
		died_publishing(t, peer, m, to, n);
	} else if (rc == MQSHM_TOO_LARGE) {
		message_drop(m); /* the loan stays, with too little room for this envelope */
	} else {
		if (rc == MQSHM_OK) {
			loans[i] = loans[--loan_count];
			m->block = true;
		}
		published(&p, rc, to, n);
	}
}

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
	if (!survives(peers[peer], draw_fuse(t, peer), max > 1 ? call_receive_batch : call_receive, &r, &rc)) {
		if (may) fire(s);
		if (max == 1) mark_next(s, false);
		for (uint32_t i = 0; i < s->used; i++) s->entries[i].maybe |= max > 1 && s->entries[i].state <= AGAIN;
		may_be_claimed(s);
		bury(t, peer, true);
		return;
	}
	must(rc == MQSHM_OK || rc == MQSHM_EMPTY, "receive: %d, %s", rc, mqshm_reason());
	if (may) fire(s);
	for (uint32_t i = 0; i < r.got; i++) {
		must(may_take(s, peer), "%s hands out more than it may", s->name);
		struct entry *e = came_out(s, peer, &r.d[i]);
		note("%llu from %s by %u, attempt %u", (unsigned long long)r.d[i].seq, s->name, peer, r.d[i].attempt);
		leases[lease_count++] = (struct lease){.d = r.d[i], .s = s, .m = e->m, .peer = peer, .turn = e->turn};
	}
	if (r.got < max) note("no more from %s by %u", s->name, peer);
	if (r.got < max && may_take(s, peer)) nothing_came(s);
	refused_on_the_way(s);
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

static struct entry *entry_of_lease(const struct lease *l)
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

static void nacked(struct entry *e, uint32_t delay_ms)
{
	e->state = delay_ms ? LATER : AGAIN;
	e->due_ms = delay_ms ? world_now_ms() + delay_ms : 0;
}

static void settled(struct lease *l, struct entry *e, const struct settling *c)
{
	switch (c->how) {
	case ACK:
	case REJECT:
	case RELEASE: leave(l->s, e); break;
	case NACK_NOW: nacked(e, 0); break;
	case NACK_LATER: nacked(e, c->ms); break;
	case NACK_BACKOFF: nacked(e, backoff(l->s, l->d.attempt)); break;
	case EXTEND:
		if (l->s->o.ack == MQSHM_ACK_TIMEOUT) e->due_ms = world_now_ms() + c->ms;
		break;
	case HOLD: e->state = HELD; e->due_ms = 0; break;
	}
}

static bool ends_hold(unsigned how) { return how != EXTEND && how != RELEASE; }

void do_settle(struct tape *t, unsigned peer)
{
	if (lease_count == 0) return;
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
	if (!survives(peers[peer], draw_fuse(t, peer), call_settle, &c, &rc)) {
		note("%llu of %s by %u: way %u, %u ms: dies", (unsigned long long)l->d.seq, l->s->name, peer, c.how, c.ms);
		if (holds) {
			e->maybe = true;
			e->loose = c.how >= NACK_NOW && c.how <= NACK_BACKOFF;
		}
		bury(t, peer, false);
		return;
	}
	if (c.how == NACK_LATER || c.how == NACK_BACKOFF)
		if (rc == MQSHM_NO_MEMORY && config.max_memory_usage) return;
	must(rc == (holds ? MQSHM_OK : MQSHM_LEASE_LOST), "settling message %llu by %u: %d, %s", (unsigned long long)l->d.seq, c.how, rc, mqshm_reason());
	note("%llu of %s by %u: way %u, %u ms: %d", (unsigned long long)l->d.seq, l->s->name, peer, c.how, c.ms, rc);
	if (counts && l->s->open && l->s->held[peer]) l->s->held[peer]--;
	if (holds) settled(l, e, &c);
	if (!entry_of_lease(l) && !chance(t, 3)) *l = leases[--lease_count]; /* else it is settled once more, some time */
}

void do_ack_batch(struct tape *t, unsigned peer)
{
	mqshm_delivery d[BATCH_MOST];
	uint32_t n = 0, acked, holding = 0;
	for (unsigned i = lease_count; i-- > 0 && n < BATCH_MOST;) {
		struct lease l = leases[i];
		if (l.peer != peer || !l.s->open || chance(t, 2)) continue;
		struct entry *e = entry_of_lease(&l);
		if (mqi_slot_state(l.d.word) != SLOT_INFLIGHT) continue;
		if (l.s->held[peer]) l.s->held[peer]--;
		d[n++] = l.d;
		if (e && e->state == LEASED) {
			leave(l.s, e);
			holding++;
		}
		leases[i] = leases[--lease_count];
	}
	must(mqshm_ack_batch(d, n, &acked) == MQSHM_OK && acked == holding, "%u of %u were acked, not %u", acked, n, holding);
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
