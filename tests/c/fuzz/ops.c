#include "ops.h"

#include <stdio.h>

#include "dead.h"
#include "known.h"

#define LOOK_AGAIN_NS 1100000 /* a publisher may take it on trust for a millisecond that all slots are taken */

static mqshm_topic_t *topics[PEERS_MOST][TOPICS];
static uint32_t names;

/* What a broker is like. */
static enum { CALM, CROWDED, DEADLY, MOODS } mood;

/* ---- peers ---- */

mqshm_topic_t *topic_of(unsigned peer, uint32_t topic)
{
	mqshm_topic_t **t = &topics[peer][topic];
	if (!*t && mqshm_topic_open(peers[peer], topic_names[topic], (uint32_t)strlen(topic_names[topic]), t) != MQSHM_OK) {
		must(config.max_memory_usage, "topic: %s", mqshm_reason());
		*t = NULL;
	}
	return *t;
}

/* Peer 0 never dies: somebody must be left to look. */
uint32_t draw_fuse(struct tape *t, unsigned peer)
{
	return peer && chance(t, mood == DEADLY ? 8 : 40) ? 1 + draw(t, 1 + draw(t, FUSE_MOST)) : 0;
}

/* What it had goes back, whether it leaves or is found dead. */
static void forget_peer(unsigned peer)
{
	for (unsigned i = 0; i < SUBS_MOST; i++) {
		struct sub *s = &subs[i];
		for (uint32_t k = s->used; k-- > 0;) {
			struct entry *e = &s->entries[k];
			if (e->state < LEASED || e->holder != peer) continue;
			if (e->state == HELD || !s->open) leave(s, e);
			else again(e);
		}
		s->views[peer] = NULL;
		s->held[peer] = 0;
		if (s->open && s->private && s->owner == peer) sub_end(s);
	}
	for (unsigned i = lease_count; i-- > 0;)
		if (leases[i].peer == peer) leases[i] = leases[--lease_count];
	for (unsigned i = loan_count; i-- > 0;)
		if (loans[i].peer == peer) {
			loans[i] = loans[--loan_count];
			blocks_live--;
		}
	memset(topics[peer], 0, sizeof topics[peer]);
	peers[peer] = NULL;
}

static int call_reap(void *with)
{
	uint32_t dead;
	return mqshm_reap(with, &dead);
}

void tick(mqshm_t *h)
{
	must(mqshm_tick(h) == MQSHM_OK, "tick: %s", mqshm_reason());
	note("ticked");
	for (unsigned i = 0; i < SUBS_MOST; i++) {
		struct sub *s = &subs[i];
		fire(s);
		s->sure = true;
		if (s->open) must(tomb_words(s, h) == tombs(s, h, false), "%s has tombs that hold nothing", s->name);
	}
}

void look_at_all_doubts(void)
{
	for (unsigned i = 0; i < SUBS_MOST; i++) look_at_doubts(&subs[i]);
}

void all_times(void)
{
	tick(peers[0]);
	look_at_all_doubts();
}

void bury(struct tape *t, unsigned peer, bool fired)
{
	int rc;
	note("peer %u dies", peer);
	peer_dies(peer, peers[peer]);
	forget_peer(peer);
	for (unsigned p = 1; p < PEERS_MOST; p++) { /* who repairs may die of it */
		if (!peers[p] || !chance(t, 8)) continue;
		if (!survives(peers[p], 1 + draw(t, FUSE_MOST), call_reap, peers[p], &rc)) {
			note("peer %u dies of repairing", p);
			peer_dies(p, peers[p]);
			forget_peer(p);
		}
	}
	rc = call_reap(peers[0]);
	must(rc == MQSHM_OK, "reap: %s", mqshm_reason());
	for (unsigned i = 0; i < SUBS_MOST; i++) subs[i].sure = false;
	if (fired || chance(t, 2)) tick(peers[0]);
	for (unsigned i = 0; i < SUBS_MOST; i++)
		if (subs[i].open) reconcile(&subs[i], peers[0]);
}

static void do_attach(struct tape *t, unsigned peer)
{
	(void)t;
	int rc = peer_join(peer, &peers[peer]);
	if (rc != MQSHM_OK) {
		must(rc == MQSHM_NO_MEMORY && config.max_memory_usage, "attach: %s", mqshm_reason());
		peers[peer] = NULL;
	}
}

static void do_leave(struct tape *t, unsigned peer)
{
	if (peer == 0) return;
	if (chance(t, 2)) {
		bury(t, peer, false);
		return;
	}
	note("peer %u leaves", peer);
	mqshm_detach(peers[peer]);
	forget_peer(peer);
}

/* ---- subscriptions ---- */

struct sub *draw_view(struct tape *t, unsigned peer)
{
	unsigned first = draw(t, SUBS_MOST);
	for (unsigned i = 0; i < SUBS_MOST; i++) {
		struct sub *s = &subs[(first + i) % SUBS_MOST];
		if (s->open && s->views[peer]) return s;
	}
	return NULL;
}

static mqshm_sub_options draw_options(struct tape *t)
{
	static const uint32_t capacities[] = {1, 2, 3, 8, 63, 64, 65, 130, CAPACITY_MOST};
	return (mqshm_sub_options){
		.capacity = mood == CROWDED ? 130 : capacities[draw(t, sizeof capacities / sizeof *capacities)],
		.ack = draw(t, 3),
		.overflow = mood == CROWDED ? MQSHM_DROP_OLDEST + draw(t, 3) : draw(t, 5),
		.max_attempts = chance(t, 2) ? 0 : 1 + draw(t, 4),
		.prefetch = chance(t, 3) ? 1 + draw(t, 5) : 0,
		.ack_timeout_ms = 1 + draw(t, 2000),
		.backoff_min_ms = draw(t, 50),
		.backoff_max_ms = 50 + draw(t, 1000),
	};
}

static void do_subscribe(struct tape *t, unsigned peer)
{
	struct sub *s = NULL;
	const char *texts[2];
	uint32_t sizes[2];
	for (unsigned i = 0; i < SUBS_MOST && !s; i++)
		if (!subs[i].open && subs[i].used == 0) s = &subs[i];
	if (!s) return;
	*s = (struct sub){.sure = true, .private = chance(t, 3), .owner = peer, .pattern_count = 1 + draw(t, 2), .o = draw_options(t)};
	for (unsigned i = 0; i < s->pattern_count; i++) {
		s->patterns[i] = mood == CROWDED && chance(t, 2) ? 0 : draw(t, pattern_names_count);
		texts[i] = pattern_names[s->patterns[i]];
		sizes[i] = (uint32_t)strlen(texts[i]);
	}
	snprintf(s->name, sizeof s->name, "g%u", ++names % 100000);
	s->life = names;
	s->o.name = s->private ? NULL : s->name;
	s->o.name_size = s->private ? 0 : (uint32_t)strlen(s->name);
	s->o.patterns = texts;
	s->o.pattern_sizes = sizes;
	s->o.pattern_count = s->pattern_count;
	int rc = mqshm_sub_create(peers[peer], &s->o, &s->views[peer]);
	if (rc != MQSHM_OK) {
		must(rc == MQSHM_NO_MEMORY && config.max_memory_usage, "subscribe: %s", mqshm_reason());
		return;
	}
	s->row = s->views[peer]->row;
	s->open = true;
	note("peer %u makes %s in row %u: capacity %u, ack %u, overflow %u, attempts %u, prefetch %u", peer, s->private ? "a private one" : s->name,
	     s->row, s->o.capacity, s->o.ack, s->o.overflow, s->o.max_attempts, s->o.prefetch);
}

static void do_open(struct tape *t, unsigned peer)
{
	struct sub *s = &subs[draw(t, SUBS_MOST)];
	mqshm_sub_options o;
	if (!s->open || s->private || s->views[peer]) return;
	must(mqshm_sub_open(peers[peer], s->name, (uint32_t)strlen(s->name), &s->views[peer]) == MQSHM_OK, "open: %s", mqshm_reason());
	must(mqshm_sub_options_get(s->views[peer], &o) == MQSHM_OK && o.capacity == s->o.capacity && o.ack == s->o.ack &&
	         o.overflow == s->o.overflow && o.max_attempts == s->o.max_attempts && o.prefetch == s->o.prefetch,
	     "%s has other options", s->name);
}

static bool holds_any(const struct sub *s, unsigned peer)
{
	for (unsigned i = 0; i < lease_count; i++)
		if (leases[i].s == s && leases[i].peer == peer) return true;
	return false;
}

static int call_close(void *with)
{
	mqshm_sub_close(with);
	return MQSHM_OK;
}

/* A group's view is kept by the handle and may be opened again; a private subscription is over. */
static void do_close(struct tape *t, unsigned peer)
{
	struct sub *s = draw_view(t, peer);
	int rc;
	if (!s || holds_any(s, peer)) return;
	if (!survives(peers[peer], draw_fuse(t, peer), call_close, s->views[peer], &rc)) {
		bury(t, peer, false);
		return;
	}
	s->views[peer] = NULL;
	if (s->private) sub_end(s);
}

struct deleting {
	mqshm_t *h;
	const char *name;
};
static int call_delete(void *with)
{
	struct deleting *d = with;
	return mqshm_sub_delete(d->h, d->name, (uint32_t)strlen(d->name));
}

static uint64_t word_of_row(uint32_t row)
{
	return ((struct sub_shm *)(peers[0]->base + peers[0]->subs_offset))[row].word;
}

static void do_delete(struct tape *t, unsigned peer)
{
	struct sub *s = &subs[draw(t, SUBS_MOST)];
	mqshm_delivery d;
	int rc;
	if (!s->open || s->private) return;
	uint64_t word = word_of_row(s->row);
	struct deleting it = {peers[peer], s->name};
	if (!survives(peers[peer], draw_fuse(t, peer), call_delete, &it, &rc)) {
		if (word_of_row(s->row) != word) sub_end(s);
		bury(t, peer, false);
		return;
	}
	must(rc == MQSHM_OK, "delete: %s", mqshm_reason());
	sub_end(s);
	for (unsigned p = 0; p < PEERS_MOST; p++)
		if (peers[p] && s->views[p]) must(mqshm_receive(s->views[p], &d) == MQSHM_CLOSED, "a deleted group does not say so");
}

/* ---- topics ---- */

#define NAMES_MOST 64u
static uint32_t ids[NAMES_MOST]; /* of topics that were opened; 0: none yet */

struct naming {
	mqshm_t *h;
	char name[600];
	mqshm_topic_t *topic;
};
static int call_topic(void *with)
{
	struct naming *n = with;
	return mqshm_topic_open(n->h, n->name, (uint32_t)strlen(n->name), &n->topic);
}

/* A name has one number, whoever asks for it, and whoever died while he did. */
static void do_topic(struct tape *t, unsigned peer)
{
	uint32_t which = draw(t, NAMES_MOST), size, count;
	struct naming n = {.h = peers[peer]};
	const char *name;
	int rc;
	snprintf(n.name, sizeof n.name, "t%u", which);
	if (which % 3 == 0) memset(n.name + strlen(n.name), 'o', which * 8);
	if (!survives(n.h, draw_fuse(t, peer), call_topic, &n, &rc)) {
		bury(t, peer, false);
		return;
	}
	if (rc != MQSHM_OK) {
		must(rc == MQSHM_NO_MEMORY && config.max_memory_usage, "topic: %s", mqshm_reason());
		return;
	}
	must(!ids[which] || ids[which] == n.topic->id, "topic %s has number %u, and had %u", n.name, n.topic->id, ids[which]);
	ids[which] = n.topic->id;
	for (uint32_t i = 0; i < NAMES_MOST; i++) must(i == which || ids[i] != ids[which], "two topics have number %u", ids[i]);
	must(mqshm_topic_name(peers[0], ids[which], &name, &size) == MQSHM_OK && size == strlen(n.name) && memcmp(name, n.name, size) == 0,
	     "topic %u has another name", ids[which]);
	must(mqshm_topic_count(n.h, &count) == MQSHM_OK && count <= NAMES_MOST + TOPICS, "there are %u topics", count);
}

/* ---- the rest ---- */

static int call_tick(void *with) { return mqshm_tick(with); }

static void do_tick(struct tape *t, unsigned peer)
{
	int rc;
	if (survives(peers[peer], draw_fuse(t, peer), call_tick, peers[peer], &rc)) {
		tick(peers[peer]);
		look_at_all_doubts();
	} else bury(t, peer, true);
}

static void do_pass(struct tape *t, unsigned peer)
{
	(void)peer;
	uint64_t ns = (1 + (uint64_t)draw(t, 1 + draw(t, 3000))) * 1000000 + draw(t, 1000000);
	world_pass(ns);
	note("%llu ms, now %llu", (unsigned long long)ns / 1000000, (unsigned long long)world_now_ms());
}

/* Long enough that an id is met again, and so short that the tables turn. */
static uint64_t draw_window(struct tape *t)
{
	if (chance(t, 4)) return 0;
	return 1 + draw(t, chance(t, 4) ? 50 : 20000);
}

static void do_configure(struct tape *t, unsigned peer)
{
	mqshm_config now, read;
	must(mqshm_config_get(peers[peer], &now) == MQSHM_OK, "config: %s", mqshm_reason());
	must(memcmp(&now, &config, sizeof now) == 0, "the configuration is not what was set");
	now.message_ttl_ms = chance(t, 3) ? 1 + draw(t, 5000) : 0;
	now.enable_priority_queue = !chance(t, 4);
	now.max_message_size = chance(t, 3) ? 1 + draw(t, 10000) : 0;
	if (chance(t, 2)) now.dedup_window_ms = draw_window(t);
	if (chance(t, 3)) draw_dead_topic(t, &now);
	if (now.dedup_window_ms != config.dedup_window_ms) known_window_ends();
	must(mqshm_config_set(peers[peer], &now) == MQSHM_OK, "config: %s", mqshm_reason());
	must(mqshm_config_get(peers[0], &read) == MQSHM_OK && memcmp(&read, &now, sizeof now) == 0, "a peer has another configuration");
	config = now;
}

static void do_account(struct tape *t, unsigned peer)
{
	(void)t;
	uint64_t used;
	mqshm_stats st;
	unsigned open = 0, there = 0;
	look_at_all_doubts();
	account(peers[peer]);
	for (unsigned i = 0; i < SUBS_MOST; i++) open += subs[i].open;
	for (unsigned p = 0; p < PEERS_MOST; p++) there += peers[p] != NULL;
	must(mqshm_stats_get(peers[peer], &st) == MQSHM_OK && st.subscriptions == open && st.peers == there,
	     "stats say %llu subscriptions and %llu peers, not %u and %u", (unsigned long long)st.subscriptions, (unsigned long long)st.peers, open, there);
	must(mqshm_memory_used(peers[peer], &used) == MQSHM_OK, "memory: %s", mqshm_reason());
	must(!config.max_memory_usage || used <= config.max_memory_usage, "%llu bytes are used, %llu are allowed", (unsigned long long)used,
	     (unsigned long long)config.max_memory_usage);
}

/* The broker is emptied: whatever happened in it, nothing may be left. */
static void end(struct tape *t)
{
	for (unsigned p = 1; p < PEERS_MOST; p++)
		if (peers[p]) do_leave(t, p);
	all_times();
	do_account(t, 0);
	for (unsigned i = 0; i < lease_count; i++) mqshm_release(&leases[i].d);
	for (unsigned i = 0; i < lease_count; i++) mqshm_ack(&leases[i].d);
	for (unsigned i = 0; i < loan_count; i++) mqshm_loan_return(peers[0], &loans[i].core);
	for (unsigned i = 0; i < SUBS_MOST; i++) {
		if (!subs[i].open) continue;
		if (subs[i].private) mqshm_sub_close(subs[i].views[0]);
		else must(mqshm_sub_delete(peers[0], subs[i].name, (uint32_t)strlen(subs[i].name)) == MQSHM_OK, "delete: %s", mqshm_reason());
	}
	must(mqshm_tick(peers[0]) == MQSHM_OK, "tick: %s", mqshm_reason());
	mqshm_fsck_report r;
	must(mqshm_fsck(peers[0], 0, &r) == MQSHM_OK && !r.first[0], "fsck at the end: %s", r.first);
	must(r.slots_used == 0 && r.blocks_used == 0, "%llu slots and %llu payloads are left", (unsigned long long)r.slots_used,
	     (unsigned long long)r.blocks_used);
	struct header_shm *hdr = peers[0]->hdr;
	for (uint64_t i = 0; i < hdr->subs_top; i++)
		must(mqi_sub_state(((struct sub_shm *)(peers[0]->base + peers[0]->subs_offset))[i].word) == SUB_FREE, "row %llu is not free",
		     (unsigned long long)i);
	mqshm_detach(peers[0]);
}

static const struct verb {
	const char *name;
	unsigned weight;
	void (*run)(struct tape *t, unsigned peer);
} verbs[] = {
	{"publish", 300, do_publish},         {"publish batch", 40, do_publish_batch}, {"loan", 60, do_loan},
	{"receive", 250, do_receive},         {"receive batch", 40, do_receive_batch}, {"settle", 300, do_settle},
	{"ack batch", 30, do_ack_batch},      {"find held", 10, do_find_held},         {"wait", 20, do_wait},
	{"commit", 60, do_commit},            {"purge", 3, do_purge},               {"subscribe", 8, do_subscribe},          {"open", 16, do_open},
	{"close", 4, do_close},               {"delete", 3, do_delete},                {"leave", 4, do_leave},
	{"tick", 20, do_tick},                {"time", 60, do_pass},                   {"configure", 4, do_configure},
	{"account", 10, do_account},          {"topic", 6, do_topic},
};

static unsigned weight_of(const struct verb *v)
{
	if (mood != CROWDED) return v->weight;
	if (v->run == do_subscribe) return 80; /* soon there are as many as there can be */
	return v->run == do_close || v->run == do_delete || v->run == do_leave ? 1 : v->weight;
}

static const struct verb *draw_verb(struct tape *t)
{
	unsigned sum = 0, i = 0;
	for (unsigned k = 0; k < sizeof verbs / sizeof *verbs; k++) sum += weight_of(&verbs[k]);
	for (unsigned at = draw(t, sum); at >= weight_of(&verbs[i]); i++) at -= weight_of(&verbs[i]);
	return &verbs[i];
}

uint64_t ops_run(struct tape *t, uint64_t most)
{
	uint64_t done = 0;
	model_reset();
	lease_count = loan_count = 0;
	names = 0;
	memset(ids, 0, sizeof ids);
	mood = draw(t, MOODS);
	memset(topics, 0, sizeof topics);
	memset(peers, 0, sizeof peers);
	known_reset();
	config = (mqshm_config){.dedup_window_ms = draw_window(t), .default_buffer_size = 64, .enable_trie_pattern = !chance(t, 4), .enable_metrics = 1, .enable_priority_queue = 1, .spin_ns = 1000 * draw(t, 3)};
	if (chance(t, 4)) config.max_memory_usage = (2ull + draw(t, 4)) << 20;
	draw_dead_topic(t, &config);
	world_open(&config);
	do_attach(t, 0);
	must(peers[0], "the first peer does not fit");
	for (; done < most && !tape_over(t); done++) {
		unsigned peer = draw(t, PEERS_MOST);
		const struct verb *verb = draw_verb(t);
		world_op = done;
		world_verb = verb->name;
		world_pass(LOOK_AGAIN_NS);
		if (peers[peer]) verb->run(t, peer);
		else do_attach(t, peer);
	}
	world_verb = "end";
	end(t);
	world_close();
	return done;
}
