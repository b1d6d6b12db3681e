#include "model.h"

#include <stdio.h>

#include "flow/expire.h"
#include "shm/ring.h"
#include "shm/subs.h"

struct sub subs[SUBS_MOST];
uint32_t blocks_live;
mqshm_config config;
mqshm_t *peers[PEERS_MOST];

const char *const topic_names[TOPICS] = {"a", "a.b", "a.c", "b.c.d", "x", "a.very.long.name.that.does.not.fit.where.the.short.ones.are.kept"};
const char *const pattern_names[] = {"#", "a", "a.*", "a.#", "*.c.*", "x", "#.d", "b.#.d", "*", "a.b"};
const unsigned pattern_names_count = sizeof pattern_names / sizeof *pattern_names;

static struct message pool[SUBS_MOST * CAPACITY_MOST + ENTRIES_MOST + LOANS_MOST + 8], *unused;
static uint64_t ids;
#define BUNDLES (1u << 14)
static uint32_t bundles[BUNDLES]; /* messages of each that are left */
static uint32_t orders, turns;

/* ---- messages ---- */

void model_reset(void)
{
	memset(subs, 0, sizeof subs);
	blocks_live = orders = turns = 0;
	ids = 0;
	memset(bundles, 0, sizeof bundles);
	unused = NULL;
	for (size_t i = 0; i < sizeof pool / sizeof *pool; i++) {
		pool[i] = (struct message){.next = unused};
		unused = &pool[i];
	}
}

struct message *message_new(void)
{
	struct message *m = unused;
	must(m, "the model has no more messages");
	unused = m->next;
	*m = (struct message){.id = ++ids, .published_ns = world_now_ns()};
	m->text = m->id;
	return m;
}

void message_drop(struct message *m)
{
	if (m->shares && --m->shares) return;
	blocks_live -= m->block || (m->bundle && --bundles[m->bundle] == 0);
	m->next = unused;
	unused = m;
}

uint32_t bundle_new(void)
{
	for (uint32_t i = 1; i < BUNDLES; i++)
		if (bundles[i] == 0) {
			blocks_live++;
			return i;
		}
	fail("the model has no more bundles");
}

void bundle_take(uint32_t bundle, struct message *m)
{
	m->bundle = bundle;
	bundles[bundle]++;
}

static uint64_t word_of(uint64_t id, uint64_t i)
{
	uint64_t x = (id + i) * 0x9e3779b97f4a7c15ull;
	return x ^ x >> 29;
}

void message_write(unsigned char *to, uint64_t id, uint64_t size)
{
	for (uint64_t i = 0; i * 8 < size; i++) {
		uint64_t word = word_of(id, i);
		memcpy(to + i * 8, &word, size - i * 8 < 8 ? size - i * 8 : 8);
	}
}

static bool reads(const unsigned char *data, uint64_t id, uint64_t size)
{
	uint64_t i = 0, word, found;
	for (; i * 8 + 8 <= size; i++) { /* by words: most of the fuzzers' time is spent here */
		memcpy(&found, data + i * 8, 8);
		if (found != word_of(id, i)) return false;
	}
	word = word_of(id, i);
	return size % 8 == 0 || memcmp(data + i * 8, &word, size % 8) == 0;
}

const unsigned char *text_of(uint64_t text, unsigned which)
{
	static unsigned char texts[3][4096 + 64];
	static bool made;
	if (!made)
		for (unsigned i = 0; i < 3; i++) message_write(texts[i], i + 1, sizeof texts[i]);
	made = true;
	return texts[which] + text % 64;
}

uint64_t envelope_bytes(const struct message *m)
{
	uint64_t bytes = 0;
	if (m->expires_ns) bytes += 8;
	if (m->e.ack_ms) bytes += 4;
	if (m->e.id_size) bytes += 2 + m->e.id_size;
	if (m->e.headers_size) bytes += 4 + m->e.headers_size;
	if (m->e.key_size) bytes += 2 + m->e.key_size;
	return bytes;
}

bool expired(const struct message *m) { return m->expires_ns && m->expires_ns <= world_now_ns(); }

static uint64_t up_to_ms(uint64_t ns) { return (ns + 999999) / 1000000; }

uint64_t ms_in(uint64_t ms) { return world_now_ms() + 1 + ms; }

uint64_t over_ms(const struct message *m)
{
	return m->expires_ns ? up_to_ms(m->expires_ns > world_now_ns() ? m->expires_ns : world_now_ns()) : 0;
}

/* ---- subscriptions ---- */

static bool match(const char *p, const char *t)
{
	size_t word = strcspn(p, "."), text = strcspn(t, ".");
	if (p[0] == '#' && word == 1) {
		if (!p[1]) return true;
		for (;; t += text + 1) { /* stands for none, one, two .. words */
			text = strcspn(t, ".");
			if (match(p + 2, t)) return true;
			if (!t[text]) return false;
		}
	}
	if (!(p[0] == '*' && word == 1) && (word != text || memcmp(p, t, word) != 0)) return false;
	if (!t[text]) return !p[word] || strcmp(p + word, ".#") == 0;
	return p[word] && match(p + word + 1, t + text + 1);
}

bool matches(const struct sub *s, uint32_t topic)
{
	for (unsigned i = 0; i < s->pattern_count; i++)
		if (match(pattern_names[s->patterns[i]], topic_names[topic])) return true;
	return false;
}

unsigned receivers(uint32_t topic, struct sub *out[SUBS_MOST])
{
	unsigned n = 0;
	for (unsigned i = 0; i < SUBS_MOST; i++)
		if (subs[i].open && matches(&subs[i], topic)) out[n++] = &subs[i];
	return n;
}

struct entry *enter(struct sub *s, struct message *m)
{
	must(s->used < ENTRIES_MOST, "the model has no more room in %s", s->name);
	s->entries[s->used] = (struct entry){.m = m, .state = WAITING, .order = ++orders, .due_ms = over_ms(m)};
	m->shares++;
	return &s->entries[s->used++];
}

void leave(struct sub *s, struct entry *e)
{
	message_drop(e->m);
	*e = s->entries[--s->used];
}

struct entry *entry_at(struct sub *s, uint64_t seq)
{
	for (uint32_t i = 0; i < s->used; i++)
		if (s->entries[i].m->seq == seq) return &s->entries[i];
	return NULL;
}

void sub_end(struct sub *s)
{
	s->open = false;
	for (uint32_t i = s->used; i-- > 0;)
		if (s->entries[i].state < LEASED) leave(s, &s->entries[i]);
}

/* ---- what must come ---- */

static bool claimable(const struct entry *e) { return e->state == WAITING || e->state == AGAIN; }
static bool surely_refused(const struct sub *s, const struct entry *e)
{
	return expired(e->m) || (s->o.max_attempts && e->least >= s->o.max_attempts);
}
static bool maybe_refused(const struct sub *s, const struct entry *e)
{
	return expired(e->m) || (s->o.max_attempts && e->most >= s->o.max_attempts);
}
/* It is there, would be handed out, and stands where we think. */
static bool certain(const struct sub *s, const struct entry *e)
{
	return claimable(e) && !e->loose && !e->maybe && !maybe_refused(s, e) && (s->sure || e->state == WAITING);
}

static bool before(const struct entry *a, const struct entry *b)
{
	if (a->m->ring != b->m->ring) return a->m->ring < b->m->ring;
	if (a->state != b->state) return a->state == AGAIN;
	return a->state == WAITING && a->order < b->order;
}

void again(struct entry *e)
{
	e->state = AGAIN;
	e->due_ms = over_ms(e->m);
}

void later(struct entry *e, uint64_t ms)
{
	uint64_t over = over_ms(e->m);
	e->state = LATER;
	e->due_ms = ms_in(ms);
	if (over && over < e->due_ms) e->due_ms = over;
}

static bool is_due(const struct entry *e) { return e->state != HELD && e->due_ms && e->due_ms <= world_now_ms(); }

bool time_has_come(const struct sub *s)
{
	for (uint32_t i = 0; s->open && i < s->used; i++)
		if (is_due(&s->entries[i])) return true;
	return false;
}

bool time_has_come_anywhere(void)
{
	bool any = false;
	for (unsigned i = 0; i < SUBS_MOST; i++) any |= time_has_come(&subs[i]);
	return any;
}

/* Whether its time was lost, or is another, in a death. */
static bool in_doubt(const struct sub *s, const struct entry *e) { return e->loose || e->maybe || !s->sure; }

bool times_in_doubt(const struct sub *s)
{
	for (uint32_t i = 0; s->open && i < s->used; i++)
		if (is_due(&s->entries[i]) && in_doubt(s, &s->entries[i])) return true;
	return false;
}

void fire(struct sub *s)
{
	for (uint32_t i = s->used; s->open && i-- > 0;) { /* of one that was deleted, a lease lasts until it is settled */
		struct entry *e = &s->entries[i];
		if (!is_due(e)) {
			e->maybe |= e->due_ms && e->state < LEASED && expired(e->m); /* within this millisecond: who finds it for another time ends it */
			continue;
		}
		if (e->state == LEASED || !expired(e->m)) again(e);
		else if (in_doubt(s, e)) e->maybe = true;
		else leave(s, e);
	}
}

/* The first message that waits in a ring holds the slots of the tombs behind it; `fired`: of those that are over as well. */
uint32_t tombs(const struct sub *s, mqshm_t *h, bool fired)
{
	struct mqshm_sub *v;
	uint64_t first[MQI_PRIORITIES];
	uint32_t count = 0;
	memset(first, 0xff, sizeof first);
	must(mqi_view(h, s->row, &v) == MQSHM_OK, "view of %s: %s", s->name, mqshm_reason());
	for (unsigned round = 0; round < 2; round++)
		for (uint32_t i = 0; i < v->shm->slots_ready && i < v->capacity; i++) {
			uint64_t w = v->slots[i].word, at = mqi_place_position(v->slots[i].place);
			unsigned ring = mqi_place_ring(v->slots[i].place) % MQI_PRIORITIES;
			bool waits = mqi_claimable(mqi_slot_state(w)), grave = mqi_slot_state(w) == SLOT_TOMB;
			uint64_t expires = waits && fired ? mqi_expiry(v, i, w) : 0;
			if (expires && up_to_ms(expires) <= world_now_ms()) waits = !(grave = true);
			if (round == 0 && waits && at < first[ring]) first[ring] = at;
			if (round == 1) count += grave && at > first[ring];
		}
	return count;
}

static bool same_text(const unsigned char *found, uint32_t found_size, uint64_t text, unsigned which, uint32_t size)
{
	return found_size == size && (size == 0 || memcmp(found, text_of(text, which), size) == 0);
}

static bool same_headers(const mqshm_delivery *d, const struct message *m)
{
	if (!m->letter_size) return same_text(d->headers, d->headers_size, m->text, 1, m->e.headers_size);
	if (d->headers_size < m->letter_size || d->headers_size - m->letter_size > m->e.headers_size) return false;
	uint32_t own = d->headers_size - m->letter_size; /* as many as make sense: ours seldom do */
	return memcmp(d->headers, text_of(m->text, 1), own) == 0 && memcmp(d->headers + own, m->letter, m->letter_size) == 0;
}

/* By its number; by its content where the publish that made it did not return. */
static struct entry *entry_of(struct sub *s, const mqshm_delivery *d, uint64_t readable)
{
	struct entry *e = entry_at(s, d->seq);
	for (uint32_t i = 0; !e && i < s->used; i++) {
		struct message *m = s->entries[i].m;
		if (m->seq == 0 && m->size == d->size && (!m->letter_size || same_headers(d, m)) && reads(d->data, m->id, readable)) e = &s->entries[i];
	}
	if (!e) return NULL;
	struct message *m = e->m;
	m->seq = d->seq;
	must(d->size == m->size && reads(d->data, m->id, readable), "message %llu in %s is torn", (unsigned long long)d->seq, s->name);
	must(d->ring == m->ring && d->expires_ns == m->expires_ns && d->ack_ms == m->e.ack_ms &&
	         same_text(d->id, d->id_size, m->text, 0, m->e.id_size) && same_headers(d, m) &&
	         same_text(d->key, d->key_size, m->text, 2, m->e.key_size),
	     "message %llu in %s has another envelope", (unsigned long long)d->seq, s->name);
	return e;
}

static void topic_is_right(const struct sub *s, mqshm_t *h, const mqshm_delivery *d, const struct message *m)
{
	const char *name;
	uint32_t size;
	must(mqshm_topic_name(h, d->topic, &name, &size) == MQSHM_OK && size == strlen(topic_names[m->topic]) &&
	         memcmp(name, topic_names[m->topic], size) == 0,
	     "message %llu in %s has another topic", (unsigned long long)d->seq, s->name);
}

static uint32_t count_up(uint32_t attempts) { return attempts < MQI_ATTEMPTS_MAX ? attempts + 1 : attempts; }

struct entry *came_out(struct sub *s, unsigned peer, const mqshm_delivery *d)
{
	struct entry *e = entry_of(s, d, d->size);
	must(e, "%s: message %llu was not published there, or is over", s->name, (unsigned long long)d->seq);
	topic_is_right(s, peers[peer], d, e->m);
	must(claimable(e), "%s: message %llu came although it stands as %d", s->name, (unsigned long long)d->seq, e->state);
	must(!surely_refused(s, e), "%s: message %llu came although its time or its attempts are over", s->name, (unsigned long long)d->seq);
	must(d->attempt >= count_up(e->least) && d->attempt <= count_up(e->most), "%s: attempt %u, not %u", s->name, d->attempt, e->least + 1);
	for (uint32_t i = 0; i < s->used && !e->loose; i++) {
		struct entry *f = &s->entries[i];
		must(!certain(s, f) || !before(f, e), "%s: message %llu came before %llu", s->name, (unsigned long long)d->seq,
		     (unsigned long long)f->m->seq);
	}
	e->state = LEASED;
	e->holder = peer;
	e->turn = ++turns;
	e->loose = e->maybe = false;
	e->least = e->most = d->attempt;
	e->due_ms = s->o.ack == MQSHM_ACK_TIMEOUT ? ms_in(d->ack_ms ? d->ack_ms : s->o.ack_timeout_ms) : 0;
	s->held[peer]++;
	return e;
}

void nothing_came(struct sub *s)
{
	for (uint32_t i = 0; i < s->used; i++) {
		struct entry *e = &s->entries[i];
		bool early = e->loose && e->m->e.delay_ms; /* it may wait for its time */
		bool due = claimable(e) && !e->maybe && !maybe_refused(s, e) && !early && (s->sure || (e->state == WAITING && !e->loose));
		must(!due, "%s: message %llu waits, and did not come", s->name, (unsigned long long)e->m->seq);
	}
}

void refused_on_the_way(struct sub *s)
{
	for (uint32_t i = 0; i < s->used; i++)
		if (claimable(&s->entries[i]) && maybe_refused(s, &s->entries[i])) s->entries[i].maybe = true;
	look_at_doubts(s);
}

bool any_certain(const struct sub *s, unsigned highest)
{
	bool any = false;
	for (uint32_t i = 0; i < s->used; i++) any |= s->entries[i].m->ring >= highest && certain(s, &s->entries[i]);
	return any;
}

bool any_doubtful(const struct sub *s, unsigned highest)
{
	bool any = s->graves > 0;
	for (uint32_t i = 0; i < s->used; i++) {
		const struct entry *e = &s->entries[i];
		any |= e->m->ring >= highest && claimable(e) && !e->maybe && !certain(s, e);
	}
	return any;
}

unsigned mark_next(struct sub *s, bool lowest, unsigned highest)
{
	struct entry *first = NULL;
	unsigned marked = 0;
	for (uint32_t i = 0; i < s->used; i++) {
		struct entry *e = &s->entries[i];
		if (!certain(s, e) || e->m->ring < highest) continue;
		bool earlier = !first || (lowest && e->m->ring != first->m->ring ? e->m->ring > first->m->ring : before(e, first));
		if (earlier) first = e;
	}
	for (uint32_t i = 0; i < s->used; i++) {
		struct entry *e = &s->entries[i];
		if (!claimable(e) || e->m->ring < highest) continue;
		bool peer_of_first = first && e->state == AGAIN && first->state == AGAIN && e->m->ring == first->m->ring;
		if (certain(s, e) && e != first && !peer_of_first) continue;
		e->maybe = true;
		marked++;
	}
	return marked;
}

void may_be_claimed(struct sub *s)
{
	for (uint32_t i = 0; i < s->used; i++) {
		struct entry *e = &s->entries[i];
		if (!e->maybe) continue;
		e->loose = true;
		e->most = count_up(e->most);
	}
}

void reconcile(struct sub *s, mqshm_t *h)
{
	unsigned char copy[8192];
	bool seen[ENTRIES_MOST] = {false};
	uint32_t cursor = 0;
	mqshm_delivery d;
	int rc;
	while ((rc = mqshm_browse(h, s->row, &cursor, &d, copy, sizeof copy)) == MQSHM_OK) {
		uint64_t texts = (uint64_t)d.id_size + d.headers_size + d.key_size;
		struct entry *e = entry_of(s, &d, d.size < sizeof copy - texts ? d.size : sizeof copy - texts);
		must(e, "%s: message %llu waits, and was not published there, or is over", s->name, (unsigned long long)d.seq);
		must(e->state < LEASED, "%s: message %llu waits, and is leased", s->name, (unsigned long long)d.seq);
		must(d.attempt >= e->least && d.attempt <= e->most, "%s: message %llu was delivered %u times, not %u", s->name,
		     (unsigned long long)d.seq, d.attempt, e->least);
		must(!seen[e - s->entries], "%s: message %llu waits twice", s->name, (unsigned long long)d.seq);
		seen[e - s->entries] = true;
		e->least = e->most = d.attempt;
		e->maybe = false;
	}
	must(rc == MQSHM_EMPTY, "browse of %s: %s", s->name, mqshm_reason());
	for (uint32_t i = s->used; i-- > 0;) {
		struct entry *e = &s->entries[i];
		if (seen[i] || e->state >= LEASED) continue;
		must(e->maybe, "%s: message %llu is lost: it stood as %d, due at %llu ms, now is %llu", s->name, (unsigned long long)e->m->seq,
		     e->state, (unsigned long long)e->due_ms, (unsigned long long)world_now_ms());
		leave(s, e); /* what takes its place was looked at before */
	}
}

void look_at_doubts(struct sub *s)
{
	bool any = false;
	for (uint32_t i = 0; i < s->used; i++) any |= s->entries[i].maybe;
	if (any && s->open) reconcile(s, peers[0]);
}

/* ---- what there is ---- */

static void compare_stats(struct sub *s, mqshm_t *h)
{
	mqshm_sub_stats st;
	uint64_t standing = 0, leased = 0;
	must(mqshm_sub_stats_get(h, s->row, &st) == MQSHM_OK, "stats of %s: %s", s->name, mqshm_reason());
	for (uint32_t i = 0; i < s->used; i++) {
		standing += s->entries[i].state < LEASED;
		leased += s->entries[i].state == LEASED;
	}
	must(st.waiting + st.later == standing && st.in_flight == leased, "%s: stats say %llu waiting, %llu later, %llu leased; it is %llu and %llu",
	     s->name, (unsigned long long)st.waiting, (unsigned long long)st.later, (unsigned long long)st.in_flight,
	     (unsigned long long)standing, (unsigned long long)leased);
}

/* What was taken out of the middle of a ring keeps its slot until somebody comes by who passes it. */
uint32_t tomb_words(const struct sub *s, mqshm_t *h)
{
	struct mqshm_sub *v;
	uint32_t count = 0;
	must(mqi_view(h, s->row, &v) == MQSHM_OK, "view of %s: %s", s->name, mqshm_reason());
	for (uint32_t i = 0; i < v->shm->slots_ready && i < v->capacity; i++) count += mqi_slot_state(v->slots[i].word) == SLOT_TOMB;
	return count;
}

void account(mqshm_t *h)
{
	mqshm_fsck_report r;
	uint64_t used = 0;
	for (unsigned i = 0; i < SUBS_MOST; i++) {
		if (subs[i].open) used += tomb_words(&subs[i], h);
		used += subs[i].used; /* of one that was deleted, what is leased */
		if (subs[i].open) compare_stats(&subs[i], h);
	}
	must(mqshm_fsck(h, 0, &r) == MQSHM_OK, "fsck: %s", mqshm_reason());
	must(!(r.bad_words || r.dead_owned || r.lost_blocks || r.lost_slots || r.stale_tombs), "fsck: %s", r.first);
	must(r.slots_used == used, "fsck: %llu slots are used, not %llu", (unsigned long long)r.slots_used, (unsigned long long)used);
	must(r.blocks_used == blocks_live, "fsck: %llu payloads have a block, not %u", (unsigned long long)r.blocks_used, blocks_live);
	bool sure = true;
	for (unsigned i = 0; i < SUBS_MOST; i++) sure &= !subs[i].open || subs[i].sure;
	must(!sure || !r.unhinted, "fsck: %s", r.first);
}
