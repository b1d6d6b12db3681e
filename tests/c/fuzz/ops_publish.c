/* The way in. */
#include "known.h"
#include "ops.h"
#include "room.h"

struct loan loans[LOANS_MOST];
unsigned loan_count;

#define SIZE_MOST (1600u << 10)
static unsigned char payload[SIZE_MOST];

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

void draw_envelope(struct tape *t, struct message *m)
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
	if (chance(t, 4)) draw_unique(t, m);
	m->e.id = m->e.id_size ? text_of(m->text, 0) : NULL;
	m->e.headers = m->e.headers_size ? text_of(m->text, 1) : NULL;
	m->e.key = m->e.key_size ? text_of(m->text, 2) : NULL;
	if (m->e.expires_ns != UINT64_MAX)
		m->expires_ns = m->e.expires_ns || !config.message_ttl_ms ? m->e.expires_ns : world_now_ns() + config.message_ttl_ms * 1000000;
}

bool is_too_large(const struct message *m) { return config.max_message_size && m->size > config.max_message_size; }

static void begin(struct message *m, unsigned n)
{
	m->shares = 1;
	m->block = n > 1 || is_unique(m) || (n == 1 && m->size + envelope_bytes(m) > MQI_INLINE);
	blocks_live += m->block;
}

/* All of its receivers or none: what the survivors find decides. Those that die with it are not asked. */
static void died_publishing(struct tape *t, unsigned peer, const struct want *w, struct room room)
{
	struct message *m = w->m;
	bool fails = room.fails == 1 || known(m) == 1 || is_too_large(m);
	unsigned there = 0, asked = 0;
	struct sub *entered_in[SUBS_MOST];
	for (unsigned i = 0; i < w->n; i++) may_be_claimed(w->to[i]);
	if (!fails) entered(w);
	for (unsigned i = 0; i < w->n && !fails; i++) {
		struct entry *e = w->in[i] ? entry_at(w->to[i], 0) : NULL;
		if (!e) continue;
		must(e->m == m, "the model is wrong");
		e->loose = e->maybe = true;
		e->state = AGAIN;
		if (w->in[i] > 0) entered_in[asked++] = w->to[i];
	}
	bury(t, peer, room.came);
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
	if (!fails && (asked == 0 || expired(m))) known_perhaps(m);
	else if (there) known_published(m);
	message_drop(m);
}

static void not_published(const struct want *w, int rc, struct room room)
{
	struct message *m = w->m;
	note("%llu bytes to %u, ring %u, delay %u: %d", (unsigned long long)m->size, w->n, m->ring, m->e.delay_ms, rc);
	if (is_too_large(m)) must(rc == MQSHM_TOO_LARGE, "a payload over the limit: %d", rc);
	else if (rc == MQSHM_DUPLICATE) {
		must(known(m), "an id was refused that was not published within %llu ms", (unsigned long long)config.dedup_window_ms);
		known_refused(m);
	} else {
		must(known(m) != 1, "an id that was published is not refused: %d, %s", rc, mqshm_reason());
		must((rc == MQSHM_FULL && room.fails) || (rc == MQSHM_NO_MEMORY && config.max_memory_usage), "publish: %d, %s", rc,
		     mqshm_reason());
	}
	if (room.dropped) settle_drops(w);
	message_drop(m);
}

static void published(const struct want *w, int rc, uint64_t seq, struct room room)
{
	struct message *m = w->m;
	if (room.came) tick(peers[0]);
	if (rc != MQSHM_OK) {
		not_published(w, rc, room);
		if (room.came) look_at_all_doubts();
		return;
	}
	note("%llu, %llu bytes to %u, ring %u, delay %u", (unsigned long long)seq, (unsigned long long)m->size, w->n, m->ring, m->e.delay_ms);
	must(room.fails != 1, "a publish went through although there was no room");
	must(!is_too_large(m), "a payload over the limit went through");
	must(known(m) != 1, "an id was published twice within %llu ms", (unsigned long long)config.dedup_window_ms);
	known_published(m);
	m->seq = seq;
	entered(w);
	if (room.dropped) settle_drops(w);
	if (room.came) look_at_all_doubts();
	for (unsigned i = 0; i < w->n; i++)
		must(w->to[i]->used <= w->to[i]->o.capacity, "%s holds %u of %u", w->to[i]->name, w->to[i]->used, w->to[i]->o.capacity);
	message_drop(m);
}

/* After a publish that failed. Whatever it says, the next try says whether it was true. */
static void wait_room(struct tape *t, struct publishing *p)
{
	int rc = mqshm_wait_room(p->h, p->topic, p->m->size, chance(t, 2) ? 0 : draw(t, 3) * 1000000);
	must(rc == MQSHM_OK || rc == MQSHM_FULL || rc == MQSHM_NO_MEMORY || rc == MQSHM_TIMEOUT || rc == MQSHM_INTERRUPTED, "wait for room: %d, %s",
	     rc, mqshm_reason());
	must(rc != MQSHM_NO_MEMORY || config.max_memory_usage, "wait for room: %s", mqshm_reason());
}

void do_publish(struct tape *t, unsigned peer)
{
	struct message *m = message_new();
	m->topic = draw(t, TOPICS);
	m->size = draw_size(t);
	draw_envelope(t, m);
	struct publishing p = {.h = peers[peer], .topic = topic_of(peer, m->topic), .m = m};
	struct want w = wanted(m);
	int rc;
	begin(m, w.n);
	if (!p.topic) {
		message_drop(m);
		return;
	}
	struct room room = look_for_room(&w);
	message_write(payload, m->id, m->size);
	if (!survives(p.h, draw_fuse(t, peer), call_publish, &p, &rc)) {
		died_publishing(t, peer, &w, room);
		return;
	}
	if ((rc == MQSHM_FULL || rc == MQSHM_NO_MEMORY) && chance(t, 4)) wait_room(t, &p);
	published(&w, rc, p.seq, room);
}

struct batch {
	mqshm_t *h;
	mqshm_topic_t *topic;
	uint32_t count;
	const void *const *data;
	const uint64_t *sizes;
	const mqshm_envelope *const *envelopes;
	uint64_t *seqs;
	uint32_t done;
};
static int call_publish_batch(void *with)
{
	struct batch *b = with;
	return mqshm_publish_batch(b->h, b->topic, b->count, b->data, b->sizes, b->envelopes, b->seqs, &b->done);
}

void do_publish_batch(struct tape *t, unsigned peer)
{
	uint32_t count = 1 + draw(t, BATCH_MOST), topic = draw(t, TOPICS);
	struct message *m[BATCH_MOST];
	const void *data[BATCH_MOST];
	const mqshm_envelope *e[BATCH_MOST];
	uint64_t sizes[BATCH_MOST], seqs[BATCH_MOST];
	struct want w = {.n = receivers(topic, w.to)};
	unsigned char *at = payload;
	mqshm_topic_t *opened = topic_of(peer, topic);
	bool came = false;
	if (!opened) return;
	for (unsigned i = 0; i < w.n; i++) came |= time_has_come(w.to[i]);
	if (came) all_times(); /* what happens then on the way is looked at one by one, as is what goes where it is full */
	for (unsigned i = 0; i < w.n; i++) {
		struct sub *s = w.to[i];
		bool drops = s->o.overflow == MQSHM_DROP_OLDEST || s->o.overflow == MQSHM_DROP_LOWEST;
		if (drops && s->used + tombs(s, peers[0], false) + count > s->o.capacity) return;
	}
	for (uint32_t i = 0; i < count; i++) {
		m[i] = message_new();
		m[i]->topic = topic;
		sizes[i] = m[i]->size = draw(t, 600);
		draw_envelope(t, m[i]);
		if (m[i]->expires_ns) m[i]->expires_ns = m[i]->e.expires_ns = m[i]->expires_ns + 2000000; /* not meanwhile */
		message_write(at, m[i]->id, m[i]->size);
		begin(m[i], w.n);
		data[i] = at;
		e[i] = &m[i]->e;
		at += (sizes[i] + 7) & ~7ull;
	}
	struct batch b = {peers[peer], opened, count, data, sizes, e, seqs, 0};
	int rc = MQSHM_OK;
	bool alive = survives(b.h, draw_fuse(t, peer), call_publish_batch, &b, &rc);
	must(!alive || (rc == MQSHM_OK) == (b.done == count), "a batch of %u: %d after %u", count, rc, b.done);
	for (uint32_t i = count; i-- > b.done + 1;) message_drop(m[i]);
	for (uint32_t i = 0; i < b.done; i++) {
		must(!is_too_large(m[i]), "a payload over the limit went through");
		w.m = m[i];
		published(&w, MQSHM_OK, seqs[i], room_for_all(&w, 1));
	}
	if (b.done == count) {
		if (!alive) bury(t, peer, false);
		return;
	}
	w.m = m[b.done];
	struct room room = room_for_all(&w, 1);
	if (!alive) died_publishing(t, peer, &w, room);
	else not_published(&w, rc, room);
}

struct lending {
	mqshm_t *h;
	uint64_t size, room;
	mqshm_loan *loan;
};
static int call_loan_take(void *with)
{
	struct lending *l = with;
	return mqshm_loan_take(l->h, l->size, l->room, l->loan);
}
static int call_loan_return(void *with)
{
	struct lending *l = with;
	return mqshm_loan_return(l->h, l->loan);
}

void do_loan(struct tape *t, unsigned peer)
{
	int rc;
	if (loan_count < LOANS_MOST && chance(t, 3)) {
		struct loan *l = &loans[loan_count];
		uint64_t size = 1 + draw_size(t);
		struct lending lending = {peers[peer], size, chance(t, 4) ? 0 : 4000, &l->core};
		if (!survives(peers[peer], draw_fuse(t, peer), call_loan_take, &lending, &rc)) {
			bury(t, peer, false);
			return;
		}
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
		struct lending lending = {.h = peers[peer], .loan = &loans[i].core};
		if (!survives(peers[peer], draw_fuse(t, peer), call_loan_return, &lending, &rc)) {
			bury(t, peer, false);
			return;
		}
		must(rc == MQSHM_OK, "loan: %s", mqshm_reason());
		blocks_live--;
		loans[i] = loans[--loan_count];
		return;
	}
	struct message *m = message_new();
	m->topic = draw(t, TOPICS);
	m->size = loans[i].core.size;
	draw_envelope(t, m);
	m->id = loans[i].id;
	struct publishing p = {.h = peers[peer], .topic = topic_of(peer, m->topic), .m = m, .loan = &loans[i].core};
	struct want w = wanted(m);
	m->shares = 1;
	if (!p.topic) {
		message_drop(m);
		return;
	}
	struct room room = look_for_room(&w);
	/* The block changes hands: it counts as the message's, or is given back. */
	if (!survives(p.h, draw_fuse(t, peer), call_publish, &p, &rc)) {
		loans[i] = loans[--loan_count];
		m->block = true;
		died_publishing(t, peer, &w, room);
	} else if (rc == MQSHM_TOO_LARGE) {
		message_drop(m); /* the loan stays, with too little room for this envelope */
		if (room.came) tick(peers[0]);
		if (room.dropped) settle_drops(&w);
		look_at_all_doubts();
	} else {
		if (rc == MQSHM_OK) {
			loans[i] = loans[--loan_count];
			m->block = true;
		}
		published(&w, rc, p.seq, room);
	}
}
