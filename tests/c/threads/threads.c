/* The core under threads, for the sanitizers: each thread has a handle of its own over one mapping (one_mapping.h), so
 * it is a process as far as the core can tell, and a data race as far as ThreadSanitizer can.
 *
 *     threads [--deaths] [--seconds N]
 *
 * Two publish to two groups, three receive there; one publishes to two that overrun their leases; one publishes into a
 * group that drops its oldest; one subscribes, looks and goes again; one reaps. With --deaths, each but the last ends at
 * some access to shared memory, wherever that is, and another takes its place. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/handle.h"
#include "one_mapping.h"
#include "tally.h"

#define LEASE_MS 4u
#define LARGEST 3000u
#define LIVES_MOST (MQT_PROCESSES - 1)

struct life {
	mqshm_t *h;
	mqshm_sub_t *groups[TALLY_GROUPS];
	mqshm_topic_t *topic;
	unsigned number, role;
	uint64_t dice;
	uint32_t death_in; /* accesses; 0: lives on */
	jmp_buf end;
};
typedef void (*role)(struct life *l);

static _Thread_local struct life *self;
static pthread_mutex_t attaching = PTHREAD_MUTEX_INITIALIZER;
static int segment;
static bool stop, failed, deaths;
static struct life *lives[MQT_PROCESSES];
static unsigned life_count;
static uint32_t death_count;

static bool stopping(void) { return __atomic_load_n(&stop, __ATOMIC_RELAXED); }

static void failure(const char *what, int rc)
{
	printf("FAILED  %s: %d, %s\n", what, rc, mqshm_reason());
	__atomic_store_n(&failed, true, __ATOMIC_RELAXED);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
}

static uint32_t roll(struct life *l, uint32_t below)
{
	l->dice ^= l->dice << 13;
	l->dice ^= l->dice >> 7;
	l->dice ^= l->dice << 17;
	return (uint32_t)(l->dice >> 33) % below;
}

void mqi_hook(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)kind, (void)word, (void)file, (void)line;
	struct life *l = self;
	if (!l) return;
	if (roll(l, 2048) == 0) sched_yield();
	if (l->death_in && --l->death_in == 0) longjmp(l->end, 1);
}

void mqi_hook_after(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)kind, (void)word, (void)file, (void)line;
}

/* ---- publishing ---- */

static void publish(struct life *l, uint32_t size, const mqshm_envelope *e)
{
	unsigned char data[LARGEST];
	uint64_t seq;
	uint32_t message = tally_new(l->role);
	if (message == UINT32_MAX) {
		usleep(1000);
		return;
	}
	tally_fill(data, message, size);
	int rc = mqshm_publish(l->h, l->topic, data, size, e, &seq);
	while (rc == MQSHM_FULL && !stopping()) {
		mqshm_wait_room(l->h, l->topic, size, 2000000);
		rc = mqshm_publish(l->h, l->topic, data, size, e, &seq);
	}
	tally_published(message, rc == MQSHM_OK);
	if (rc != MQSHM_OK && rc != MQSHM_FULL) failure("publish", rc);
}

static void publish_any(struct life *l)
{
	mqshm_envelope e = {.ring = 2, .id = "some-id", .id_size = 7};
	while (!stopping()) {
		uint32_t kind = roll(l, 8);
		publish(l, kind < 4 ? 8 + roll(l, 60) : kind < 7 ? 100 + roll(l, 300) : roll(l, 2) ? LARGEST : 40, kind == 2 || kind == 7 ? &e : NULL);
	}
}

static void publish_small(struct life *l)
{
	while (!stopping()) {
		publish(l, 8 + roll(l, 150), NULL);
		if (roll(l, 4) == 0) usleep(200);
	}
}

/* ---- receiving ---- */

/* The lease may be taken from us while we look, and the memory have another message by then: so the look is only
 * believed where the lease is found to be ours after it. */
__attribute__((no_sanitize("thread"), noinline)) static uint32_t read_leased(const mqshm_delivery *d)
{
	uint32_t message;
	unsigned char copy[LARGEST];
	if (d->size > sizeof copy) return UINT32_MAX;
	for (uint64_t i = 0; i < d->size; i++) copy[i] = d->data[i];
	message = tally_read(copy, d->size);
	return message;
}

static void receive_one(struct life *l, unsigned group, const mqshm_delivery *from)
{
	mqshm_delivery d = *from;
	uint32_t message = group == LEASED ? read_leased(&d) : tally_read(d.data, d.size);
	if (message == UINT32_MAX && !(group == LEASED && !mqshm_delivery_held(&d))) failure("a payload that nobody published", (int)group);
	if (message == UINT32_MAX) return;
	if (group == LEASED && roll(l, 8) == 0) {
		if (roll(l, 2) && mqshm_extend(&d, LEASE_MS) != MQSHM_OK) return;
		usleep(roll(l, 2 * LEASE_MS * 1000));
	}
	int rc;
	if (roll(l, 16) == 0 && d.attempt < 200) rc = mqshm_nack(&d, roll(l, 2));
	else {
		tally_ending(message, group);
		bool hold = roll(l, 8) == 0;
		rc = hold ? mqshm_ack_hold(&d) : mqshm_ack(&d);
		if (rc == MQSHM_OK) tally_ended(message, group);
		if (rc == MQSHM_OK && hold) {
			if (tally_read(d.data, d.size) != message) failure("a payload changed while it was held", (int)group);
			rc = mqshm_release(&d);
		}
	}
	if (rc != MQSHM_OK && !(rc == MQSHM_LEASE_LOST && group == LEASED)) failure("settling", rc);
}

static void receive(struct life *l, unsigned group)
{
	mqshm_delivery d[8];
	while (!stopping()) {
		uint32_t got = 0;
		int rc = mqshm_receive_batch(l->groups[group], 1 + roll(l, 8), d, &got);
		for (uint32_t i = 0; i < got; i++) receive_one(l, group, &d[i]);
		if (rc == MQSHM_EMPTY) rc = mqshm_wait(l->h, &l->groups[group], 1, 3000000);
		if (rc != MQSHM_OK && rc != MQSHM_TIMEOUT) failure("receive", rc);
	}
}
static void receive_work(struct life *l) { receive(l, WORK); }
static void receive_copy(struct life *l) { receive(l, COPY); }
static void receive_leased(struct life *l) { receive(l, LEASED); }
static void receive_dropping(struct life *l) { receive(l, DROPPING); }

/* Sees every message for a moment. */
static void visit(struct life *l)
{
	const char *pattern = "#";
	uint32_t size = 1;
	mqshm_sub_options o = {.patterns = &pattern, .pattern_sizes = &size, .pattern_count = 1, .capacity = 8, .overflow = MQSHM_DROP_OLDEST};
	while (!stopping()) {
		mqshm_sub_t *s;
		mqshm_delivery d;
		int rc = mqshm_sub_create(l->h, &o, &s);
		if (rc == MQSHM_NO_MEMORY) { /* earlier ones still wait until everybody was seen outside of an operation */
			usleep(1000);
			continue;
		}
		if (rc != MQSHM_OK) {
			failure("subscribe", rc);
			return;
		}
		for (unsigned i = 0; i < 20; i++) {
			if (mqshm_receive(s, &d) != MQSHM_OK) {
				mqshm_wait(l->h, &s, 1, 500000);
				continue;
			}
			if (tally_read(d.data, d.size) == UINT32_MAX) failure("a visitor's payload that nobody published", 0);
			mqshm_ack(&d);
		}
		mqshm_sub_close(s);
		usleep(1000);
	}
}

static void reap(struct life *l)
{
	for (unsigned round = 0; !stopping(); round++) {
		uint32_t dead;
		mqshm_fsck_report report;
		int rc = mqshm_reap(l->h, &dead);
		if (rc == MQSHM_OK) rc = mqshm_tick(l->h);
		if (rc == MQSHM_OK && round % 16 == 0) rc = mqshm_fsck(l->h, 0, &report);
		if (rc != MQSHM_OK) failure("upkeep", rc);
		usleep(1000);
	}
}

/* ---- lives ---- */

/* A publisher's number modulo TALLY_GROUPS is the (first) group of its messages. */
static const struct {
	role run;
	const char *topic;
	bool mortal;
} roles[] = {
	[WORK] = {publish_any, "load", true},
	[COPY] = {receive_work, "load", true},
	[LEASED] = {publish_small, "lease", true},
	[DROPPING] = {publish_small, "drop", true},
	[TALLY_GROUPS + WORK] = {publish_any, "load", true},
	[5] = {receive_work, "load", true},
	[6] = {receive_copy, "load", true},
	[7] = {receive_leased, "lease", true},
	[8] = {receive_leased, "lease", true},
	[9] = {receive_dropping, "drop", true},
	[10] = {visit, "load", true},
	[11] = {reap, "load", false},
};
#define ROLES (sizeof roles / sizeof *roles)

static const char *const group_names[TALLY_GROUPS] = {"work", "copy", "leased", "dropping"};

static bool open_all(struct life *l, const char *topic)
{
	for (unsigned g = 0; g < TALLY_GROUPS; g++)
		if (mqshm_sub_open(l->h, group_names[g], (uint32_t)strlen(group_names[g]), &l->groups[g]) != MQSHM_OK) return false;
	return mqshm_topic_open(l->h, topic, (uint32_t)strlen(topic), &l->topic) == MQSHM_OK;
}

static struct life *begin(unsigned role_index)
{
	struct life *l = calloc(1, sizeof *l);
	if (!l) abort();
	pthread_mutex_lock(&attaching);
	l->number = life_count++;
	lives[l->number] = l;
	l->role = role_index;
	l->dice = 88172645463325252u + l->number * 1000003u;
	int rc = mqt_attach(segment, l->number, &l->h);
	pthread_mutex_unlock(&attaching);
	if (rc == MQSHM_OK && open_all(l, roles[role_index].topic)) return l;
	failure("attaching", rc);
	return NULL;
}

static void *one_life(void *with)
{
	struct life *l = with;
	if (setjmp(l->end) == 0) {
		self = l;
		roles[l->role].run(l);
		self = NULL;
		l->death_in = 0;
		return NULL;
	}
	self = NULL;
	mqt_die(l->number, true);
	__atomic_fetch_add(&death_count, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* A life is a thread, so that the kernel ends what the control lock's holder was doing. */
static void *one_role(void *with)
{
	unsigned index = (unsigned)(uintptr_t)with;
	while (!stopping()) {
		pthread_t thread;
		struct life *l = begin(index);
		if (!l) break;
		if (deaths && roles[index].mortal && l->number + ROLES < LIVES_MOST) l->death_in = 200 + roll(l, 30000);
		if (pthread_create(&thread, NULL, one_life, l) != 0) abort();
		pthread_join(thread, NULL);
	}
	return NULL;
}

/* ---- before and after ---- */

static mqshm_sub_t *make_group(mqshm_t *h, unsigned g)
{
	static const char *const patterns[TALLY_GROUPS] = {"load", "load", "lease", "drop"};
	uint32_t size = (uint32_t)strlen(patterns[g]);
	mqshm_sub_options o = {
		.name = group_names[g], .name_size = (uint32_t)strlen(group_names[g]), .patterns = &patterns[g], .pattern_sizes = &size, .pattern_count = 1,
		.capacity = g == DROPPING ? 8 : 128, .ack = g == LEASED ? MQSHM_ACK_TIMEOUT : MQSHM_ACK_REQUIRED, .ack_timeout_ms = LEASE_MS,
		.overflow = g == DROPPING ? MQSHM_DROP_OLDEST : MQSHM_BLOCK,
	};
	mqshm_sub_t *s = NULL;
	int rc = mqshm_sub_create(h, &o, &s);
	if (rc != MQSHM_OK) failure("a group", rc);
	return s;
}

static void drain(struct life *survivor)
{
	mqshm_delivery d;
	usleep(3 * LEASE_MS * 1000);
	for (unsigned round = 0; round < 2; round++) mqshm_tick(survivor->h);
	for (unsigned g = 0; g < TALLY_GROUPS; g++)
		while (mqshm_receive(survivor->groups[g], &d) == MQSHM_OK) {
			uint32_t message = tally_read(d.data, d.size);
			if (message == UINT32_MAX) failure("a payload that nobody published", (int)g);
			else {
				tally_ending(message, g);
				if (mqshm_ack(&d) == MQSHM_OK) tally_ended(message, g);
			}
		}
	for (unsigned round = 0; round < 3; round++) mqshm_tick(survivor->h); /* memory that nobody uses goes back */
}

static bool account(struct life *survivor)
{
	mqshm_fsck_report r;
	mqshm_sub_stats stats = {0};
	if (mqshm_fsck(survivor->h, 0, &r) != MQSHM_OK) return false;
	uint64_t wrong = r.bad_words + r.dead_owned + r.lost_blocks + r.lost_slots + r.unhinted;
	for (unsigned g = 0; g < TALLY_GROUPS && r.slots_used; g++)
		if (mqshm_sub_stats_get(survivor->h, survivor->groups[g]->row, &stats) == MQSHM_OK)
			printf("  %s: %llu wait, %llu in flight, %llu later\n", group_names[g], (unsigned long long)stats.waiting,
			       (unsigned long long)stats.in_flight, (unsigned long long)stats.later);
	if (wrong || r.slots_used || r.blocks_used)
		printf("FAILED  fsck: %s; %llu slots and %llu blocks are in use\n", r.first, (unsigned long long)r.slots_used, (unsigned long long)r.blocks_used);
	bool back = r.units_used <= TALLY_GROUPS; /* the visitors' and all payloads' are given back */
	if (!back) printf("FAILED  %llu MiB of address space are in use\n", (unsigned long long)r.units_used);
	mqshm_sub_stats_get(survivor->h, survivor->groups[DROPPING]->row, &stats);
	return tally_check(!deaths, stats.dropped) && back && !wrong && !r.slots_used && !r.blocks_used;
}

int main(int argc, char **argv)
{
	unsigned seconds = 3;
	mqshm_config config = {.default_buffer_size = 64, .enable_trie_pattern = 1, .enable_metrics = 1, .spin_ns = 2000};
	pthread_t threads[ROLES];
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--deaths") == 0) deaths = true;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = (unsigned)atoi(argv[++i]);
		else {
			fprintf(stderr, "threads [--deaths] [--seconds N]\n");
			return 2;
		}
	}
	segment = mqt_segment(&config);
	if (segment < 0) failure("a segment", 0);
	mqshm_t *h = NULL;
	int rc = mqt_attach(segment, LIVES_MOST, &h);
	if (rc != MQSHM_OK) failure("attaching", rc);
	struct life survivor = {.h = h};
	for (unsigned g = 0; g < TALLY_GROUPS && !failed; g++) survivor.groups[g] = make_group(h, g);
	for (uintptr_t i = 0; i < ROLES && !failed; i++)
		if (pthread_create(&threads[i], NULL, one_role, (void *)i) != 0) abort();
	sleep(seconds);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < ROLES; i++) pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < life_count; i++) mqt_die(i, true); /* who lives on holds nothing that the next message may not wait for */
	uint32_t dead;
	mqshm_reap(h, &dead);
	drain(&survivor);
	bool fine = account(&survivor) && !failed;
	for (unsigned i = 0; i < life_count; i++) {
		mqshm_abandon(lives[i]->h);
		free(lives[i]);
	}
	mqshm_detach(h);
	printf("%s  %u messages, %u lives, %u deaths\n", fine ? "fine" : "FAILED", tally_count(), life_count, death_count);
	return fine ? 0 : 1;
}
