#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "scenes.h"
#include "shm/event.h"
#include "shm/reach.h"

#define UNITS 64
#define CAPACITY 128
#define TOPIC "t"

struct ledger *ledger;
void (*say_where)(void);
static bool is_victim;

/* ---- what does not hold ------------------------------------------------------------------------------------------ */

void broken(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	if (is_victim) {
		vsnprintf(ledger->reason, sizeof ledger->reason, format, values);
		_exit(2);
	}
	printf("\nBROKEN  ");
	vprintf(format, values);
	printf("\n  last failure: %s\n  ", mqshm_reason());
	say_where();
	fflush(stdout);
	va_end(values);
	_exit(1);
}

static void on_signal(int number)
{
	if (number == SIGALRM) broken("the survivors hang");
	broken("a survivor got signal %d (%s)", number, strsignal(number));
}

void support_begin(void)
{
	ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ledger == MAP_FAILED) broken("no memory for the ledger");
	const int fatal[] = {SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) signal(fatal[i], on_signal);
}

void watch(unsigned seconds) { alarm(seconds); }

uint64_t now_ns(void) { return mqi_mono_ns(); }

/* ---- the stage --------------------------------------------------------------------------------------------------- */

mqshm_sub_options group_options(const char *name, const char *const *pattern, const uint32_t *size)
{
	return (mqshm_sub_options){
		.name = name, .name_size = name ? (uint32_t)strlen(name) : 0,
		.patterns = pattern, .pattern_sizes = size, .pattern_count = 1,
		.capacity = CAPACITY, .ack = MQSHM_ACK_REQUIRED, .overflow = MQSHM_BLOCK,
		.ack_timeout_ms = 10000, .backoff_min_ms = 1, .backoff_max_ms = 4,
	};
}

static unsigned groups_of(const struct stage *st) { return st->scene->groups ? st->scene->groups : 1; }

static void make_groups(struct stage *st)
{
	const char *pattern = TOPIC;
	uint32_t size = 1;
	for (unsigned g = 0; g < groups_of(st); g++) {
		char name[16];
		snprintf(name, sizeof name, "g%u", g);
		mqshm_sub_options o = group_options(name, &pattern, &size);
		if (g == 0) {
			if (st->scene->capacity) o.capacity = st->scene->capacity;
			if (st->scene->ack) o.ack = st->scene->ack;
			if (st->scene->lease_ms) o.ack_timeout_ms = st->scene->lease_ms;
			o.overflow = st->scene->overflow;
			o.max_attempts = st->scene->max_attempts;
		}
		must(mqshm_sub_create(st->two, &o, &st->subs[g]) == MQSHM_OK, "group %u cannot be made", g);
	}
}

void stage_open(struct stage *st, const struct scene *scene)
{
	static const mqshm_config config = {.enable_trie_pattern = 1, .backoff_min_ms = 1};
	memset(st, 0, sizeof *st);
	st->scene = scene;
	st->fd = memfd_create("mqshm-test", MFD_CLOEXEC);
	must(st->fd >= 0, "memfd_create: %s", strerror(errno));
	must(mqshm_format(st->fd, UNITS, &config) == MQSHM_OK, "no segment");
	must(mqshm_attach(st->fd, "one", 0, &st->one) == MQSHM_OK, "one cannot attach");
	must(mqshm_attach(st->fd, "two", 0, &st->two) == MQSHM_OK, "two cannot attach");
	make_groups(st);
	must(mqshm_topic_open(st->one, TOPIC, 1, &st->topic) == MQSHM_OK, "one cannot open the topic");
}

void stage_close(struct stage *st)
{
	mqshm_abandon(st->one);
	mqshm_abandon(st->two);
	close(st->fd);
}

static void disarm(struct stage *st)
{
	if (!st->bells[1]) return;
	mqi_event_disarm(st->one, st->subs[0]->shm->space_waiters);
	mqi_event_disarm(st->two, st->subs[0]->shm->waiters);
}

void stage_fill(struct stage *st)
{
	memset(ledger, 0, sizeof *ledger);
	memset(st->bells, 0, sizeof st->bells);
	st->probes = st->holds = 0;
	if (st->scene->fill) st->scene->fill(st);
}

void arm(struct stage *st)
{
	mqi_store_rlx(&st->two->row->bell, 1u); /* 0 says that nobody armed */
	st->bells[1] = 1;
	mqi_event_arm(st->two, st->subs[0]->shm->waiters);
	mqi_event_arm(st->one, st->subs[0]->shm->space_waiters);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static unsigned char stuffing(unsigned id) { return (unsigned char)(id * 31 + 7); }

void payload_write(unsigned char *to, unsigned id, uint64_t size)
{
	uint32_t head[2] = {id, (uint32_t)size};
	memcpy(to, head, sizeof head);
	memset(to + sizeof head, stuffing(id), size - sizeof head);
}

unsigned payload_read(const mqshm_delivery *d)
{
	uint32_t head[2];
	must(d->size >= sizeof head, "a message of %llu bytes", (unsigned long long)d->size);
	memcpy(head, d->data, sizeof head);
	must(head[0] < MESSAGES && head[1] == d->size, "a torn message: number %u, %u bytes of %llu", head[0], head[1],
	     (unsigned long long)d->size);
	for (uint64_t i = sizeof head; i < d->size; i++)
		must(d->data[i] == stuffing(head[0]), "message %u is torn at byte %llu", head[0], (unsigned long long)i);
	return head[0];
}

static int publish(mqshm_t *h, mqshm_topic_t *t, unsigned id, uint64_t size, const mqshm_envelope *e)
{
	static unsigned char bytes[4 << 20];
	uint64_t seq;
	payload_write(bytes, id, size);
	ledger->tried[id] = 1;
	int rc = mqshm_publish(h, t, bytes, size, e, &seq);
	if (rc == MQSHM_OK) ledger->returned[id] = 1;
	return rc;
}

void put(struct stage *st, unsigned id, uint64_t size, const mqshm_envelope *e)
{
	must(publish(st->one, st->topic, id, size, e) == MQSHM_OK, "message %u cannot be published", id);
	for (unsigned g = 0; g < groups_of(st); g++) ledger->least[g][id] = ledger->most[g][id] = 1;
}

void hold(struct stage *st)
{
	must(mqshm_receive(st->subs[0], &st->held[st->holds++]) == MQSHM_OK, "nothing to lease");
}

void consume(struct stage *st, unsigned from, unsigned until)
{
	for (unsigned g = from; g < until; g++)
		for (mqshm_delivery d; mqshm_receive(st->subs[g], &d) == MQSHM_OK;) {
			unsigned id = payload_read(&d);
			ledger->least[g][id] = ledger->most[g][id] = 0;
			must(mqshm_ack(&d) == MQSHM_OK, "message %u cannot be settled", id);
		}
}

/* ---- victims ----------------------------------------------------------------------------------------------------- */

void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;) pause();
}

void victim_attach(struct victim *v)
{
	must(mqshm_attach(v->stage->fd, "victim", 0, &v->h) == MQSHM_OK, "cannot attach: %s", mqshm_reason());
}

void victim_open(struct victim *v)
{
	must(mqshm_topic_open(v->h, TOPIC, 1, &v->topic) == MQSHM_OK, "cannot open the topic: %s", mqshm_reason());
	must(mqshm_sub_open(v->h, "g0", 2, &v->sub) == MQSHM_OK, "cannot open the group: %s", mqshm_reason());
}

int victim_put(struct victim *v, unsigned id, uint64_t size, const mqshm_envelope *e) { return publish(v->h, v->topic, id, size, e); }

void victim_take(struct victim *v)
{
	mqshm_delivery *d = &v->held[v->holds++];
	must(mqshm_receive(v->sub, d) == MQSHM_OK, "nothing to lease: %s", mqshm_reason());
	ledger->in_hand[payload_read(d)] = 1;
}

void victim_act(struct victim *v)
{
	ledger->result = v->stage->scene->act(v);
	mqi_store_rel(&ledger->done, 1u);
	if (ledger->result != v->stage->scene->result) snprintf(ledger->reason, sizeof ledger->reason, "%s", mqshm_reason());
}

pid_t fork_victim(struct stage *st, void (*live)(struct victim *v))
{
	pid_t pid = fork();
	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid) return pid;
	is_victim = true;
	struct victim v = {.stage = st};
	if (!st->scene->stranger) {
		victim_attach(&v);
		victim_open(&v);
	}
	if (st->scene->ready) st->scene->ready(&v);
	live(&v);
	die();
}

void leave_dead(struct stage *st, void (*act)(struct victim *v))
{
	int status;
	pid_t pid = fork();
	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		is_victim = true;
		struct victim v = {.stage = st};
		victim_attach(&v);
		victim_open(&v);
		act(&v);
		die();
	}
	waitpid(pid, &status, 0);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "who was to die ended itself: %s", ledger->reason);
	memset(ledger->in_hand, 0, sizeof ledger->in_hand);
}

/* ---- survivors --------------------------------------------------------------------------------------------------- */

static void probe(struct stage *st, uint64_t size)
{
	put(st, PROBES + st->probes++, size, NULL);
}

/* Counts what is settled: a lease that ended by time is nobody's harm, the message comes again. */
static void drain_group(struct stage *st, unsigned g)
{
	int rc;
	unsigned last = 0;
	for (mqshm_delivery d; (rc = mqshm_receive(st->subs[g], &d)) == MQSHM_OK;) {
		unsigned id = payload_read(&d);
		if (mqshm_ack(&d) != MQSHM_OK) continue;
		ledger->got[g][id]++;
		if (id < PROBES) continue;
		must(id > last, "group %u: message %u came after %u of the same publisher", g, id, last);
		last = id;
	}
	must(rc == MQSHM_EMPTY, "group %u: receive says %d", g, rc);
}

static void drain(struct stage *st)
{
	for (unsigned g = 0; g < groups_of(st); g++) drain_group(st, g);
}

static uint64_t left(struct stage *st)
{
	uint64_t count = 0;
	for (unsigned g = 0; g < groups_of(st); g++) {
		mqshm_sub_stats s;
		must(mqshm_sub_stats_get(st->two, st->subs[g]->row, &s) == MQSHM_OK, "group %u has no numbers", g);
		count += s.waiting + s.later;
	}
	return count;
}

/* What needs its time, or a tick to be found, gets it. */
static void drain_all(struct stage *st, uint64_t deadline)
{
	for (drain(st); left(st) && now_ns() < deadline; drain(st)) must(mqshm_tick(st->one) == MQSHM_OK, "the tick fails");
}

static unsigned count_live(struct stage *st)
{
	unsigned live = 0;
	for (unsigned p = 1; p < mqi_load_acq(&st->one->hdr->peers_top); p++) {
		unsigned state = mqi_peer_state(mqi_load_acq(&mqi_peer(st->one, p)->word));
		must(state == PEER_FREE || state == PEER_LIVE, "peer %u is left in state %u", p, state);
		live += state == PEER_LIVE;
	}
	return live;
}

uint64_t survive(struct stage *st)
{
	uint64_t start = now_ns();
	uint32_t dead;
	must(mqshm_reap(st->one, &dead) == MQSHM_OK, "reaping fails");
	if (st->bells[1]) must(mqi_load_acq(&st->two->row->bell) != st->bells[1], "who sleeps is not woken");
	if (st->scene->owed) st->scene->owed(st);
	if (!st->scene->full) probe(st, 16);
	drain_all(st, start + 10 * PATIENCE_NS);
	for (unsigned i = 0; i < 2; i++) {
		probe(st, i ? 300 : 16);
		drain_all(st, start + 10 * PATIENCE_NS);
	}
	disarm(st);
	return now_ns() - start;
}

uint64_t go_on(struct stage *st)
{
	uint64_t start = now_ns();
	uint32_t dead;
	must(mqshm_reap(st->one, &dead) == MQSHM_OK, "reaping fails");
	ledger->beside = 1;
	must(count_live(st) == 3, "a stopped process is taken for dead");
	if (!st->scene->full) probe(st, 16);
	drain(st);
	for (uint64_t end = start + 10 * PATIENCE_NS; st->scene->lease_ms && !ledger->got[0][FILLED]; drain(st))
		must(mqshm_tick(st->one) == MQSHM_OK && now_ns() < end, "the lease of a stopped process does not end");
	for (unsigned i = 0; i < 2; i++) {
		probe(st, i ? 300 : 16);
		drain(st);
	}
	for (unsigned g = 0; g < groups_of(st); g++)
		must(ledger->got[g][PROBES + st->probes - 1] == 1, "group %u does not get what is published beside a stopped process", g);
	return now_ns() - start;
}

static void check_messages(struct stage *st)
{
	unsigned groups = groups_of(st);
	for (unsigned id = 0; id < MESSAGES; id++) {
		unsigned sum = 0;
		for (unsigned g = 0; g < groups; g++) {
			unsigned got = ledger->got[g][id];
			sum += got;
			must(got >= ledger->least[g][id], "message %u is lost: group %u got it %u times, not %u", id, g, got, ledger->least[g][id]);
			must(got <= ledger->most[g][id], "message %u is doubled or invented: group %u got it %u times, not %u", id, g, got,
			     ledger->most[g][id]);
		}
		if (ledger->together[id]) must(sum == 0 || sum == groups, "message %u reached %u groups of %u", id, sum, groups);
	}
}

static void check_rows(struct stage *st, unsigned peers)
{
	mqshm_t *h = st->one;
	unsigned live = count_live(st), open = 0;
	must(live == peers, "%u peers are attached, not %u", live, peers);
	for (unsigned row = 0; row < mqi_load_acq(&h->hdr->subs_top); row++) {
		unsigned state = mqi_sub_state(mqi_load_acq(&mqi_sub(h, row)->word));
		must(state == SUB_FREE || state == SUB_OPEN, "subscription %u is left in state %u", row, state);
		open += state == SUB_OPEN;
	}
	must(open == groups_of(st), "%u subscriptions are open, not %u", open, groups_of(st));
	must((mqi_load_acq(&h->hdr->subs_version) & 1) == 0, "the index of subscriptions is left half changed");
}

void expect_rest(struct stage *st, unsigned peers)
{
	mqshm_fsck_report r;
	if (st->scene->after) st->scene->after(st);
	check_messages(st);
	must(mqshm_fsck(st->one, 0, &r) == MQSHM_OK, "fsck fails");
	must(!(r.bad_words | r.dead_owned | r.lost_blocks | r.lost_slots | r.unhinted | r.stale_tombs), "fsck: %s", r.first);
	must(r.slots_used == 0, "%llu slots are not free", (unsigned long long)r.slots_used);
	must(r.blocks_used == 0, "%llu payloads are not free", (unsigned long long)r.blocks_used);
	check_rows(st, peers);
}

struct usage usage(struct stage *st)
{
	struct usage u;
	mqshm_fsck_report r;
	must(mqshm_memory_used(st->one, &u.bytes) == MQSHM_OK && mqshm_fsck(st->one, 0, &r) == MQSHM_OK, "no numbers");
	u.units = r.units_used;
	return u;
}
