#include "scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "kernel.h"
#include "memory.h"
#include "one_mapping.h"
#include "os/atomic.h"
#include "words.h"

#define STACK_SIZE (256u << 10)
#define STEPS_MOST 40000u  /* of one actor: more is an endless loop */
#define CHOICES_MOST 8192u
#define SITES_MOST 64u

#define GO_ON '.'
#define DIE '!'
static char go_to(unsigned actor) { return (char)('a' + actor); }

enum actor_state { READY, WAITING, DONE, DEAD };
static struct actor {
	enum actor_state state;
	ucontext_t context;
	bool (*ready)(void *with);
	void *with;
	bool may_time_out, timed_out;
	uint32_t steps;
	uint32_t yielded_at; /* `switches` when it last yielded */
	const void *pending; /* while preempted: what it was about to access */
	bool preempted, pending_writes, met; /* met: another one has accessed that meanwhile, and one of the two writes */
	const void *sites[SITES_MOST]; /* loads since it last stored or was switched to */
	int lines[SITES_MOST], looks[SITES_MOST];
	unsigned site_count;
} actors[ACTORS];

static _Alignas(64) unsigned char stacks[ACTORS][STACK_SIZE];
static const struct program *program;
static enum search search;
static unsigned bound, spent, deaths, current = SURVIVOR;
static uint32_t step, before, switches; /* before: accesses while setting up */
static bool running, checking, pruned;
static ucontext_t outside;
static jmp_buf check_ended;
static char failure[1024];

unsigned me(void) { return current; }
void act_as(unsigned actor) { current = actor; }
uint32_t now(void) { return before + step; }
bool has_died(unsigned actor) { return actor < ACTORS && actors[actor].state == DEAD; }
const char *search_failure(void) { return failure; }
uint32_t search_steps(void) { return step; }
bool search_pruned(void) { return pruned; }

/* ---- choices ---- */

static struct choice {
	uint32_t step;
	unsigned char taken, count;
	char codes[ACTORS + 2];
} path[CHOICES_MOST];
static unsigned path_length, path_depth;

struct decision {
	uint32_t step;
	char code;
};
static struct decision made[CHOICES_MOST], wanted[CHOICES_MOST];
static unsigned made_count, wanted_count, wanted_at;
static uint32_t choices_seen, choices_last = 1, planned[8];
static uint64_t dice = 88172645463325252u;

static uint32_t roll(uint32_t below)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return (uint32_t)(dice >> 33) % below;
}

static char choose_along_path(const char *codes, unsigned count)
{
	struct choice *c = &path[path_depth++];
	if (path_depth <= path_length) {
		if (c->step != step || c->count != count || memcmp(c->codes, codes, count) != 0) fail("explore: the execution is not the same again");
		return c->codes[c->taken];
	}
	path_length = path_depth;
	*c = (struct choice){.step = step, .count = (unsigned char)count};
	memcpy(c->codes, codes, count);
	return codes[0];
}

static char choose_at_random(const char *codes, unsigned count)
{
	if (codes[0] != GO_ON) return codes[roll(count)];
	uint32_t point = choices_seen++;
	for (unsigned i = 0; i < bound; i++)
		if (planned[i] == point) return codes[1 + roll(count - 1)];
	return GO_ON;
}

static char choose_as_wanted(const char *codes, unsigned count)
{
	if (wanted_at == wanted_count || wanted[wanted_at].step != step) return codes[0];
	char code = wanted[wanted_at].code;
	if (!memchr(codes, code, count)) return codes[0];
	wanted_at++;
	return code;
}

static char choose(const char *codes, unsigned count)
{
	char code = codes[0];
	if (count > 1 && path_depth + 1 < CHOICES_MOST)
		code = search == DEPTH_FIRST ? choose_along_path(codes, count)
		       : search == AT_RANDOM ? choose_at_random(codes, count)
		                             : choose_as_wanted(codes, count);
	if (code != codes[0] && made_count < CHOICES_MOST) made[made_count++] = (struct decision){step, code};
	return code;
}

/* ---- going from one to the other ---- */

static bool can_go(unsigned i)
{
	struct actor *a = &actors[i];
	return a->state == READY || (a->state == WAITING && (a->timed_out || a->ready(a->with)));
}

static unsigned others(char *codes, unsigned count)
{
	for (unsigned n = 1; n <= program->actors; n++) {
		unsigned i = (current + n) % program->actors;
		if (i != current && can_go(i)) codes[count++] = go_to(i);
	}
	return count;
}

static void enter_actor(unsigned next)
{
	unsigned was = current;
	switches++;
	current = next;
	actors[next].site_count = 0;
	if (search == REPLAY) printf("---- %c\n", go_to(next));
	if (actors[was].state == READY || actors[was].state == WAITING) swapcontext(&actors[was].context, &actors[next].context);
	else setcontext(&actors[next].context);
}

/* The running one cannot go on. Where everybody waits, time passes for one who allows it. */
static void leave_actor(void)
{
	char codes[ACTORS + 2];
	step++;
	unsigned count = others(codes, 0);
	if (count == 0 && can_go(current)) return;
	for (unsigned i = 0; count == 0 && i < program->actors; i++)
		if (actors[i].state == WAITING && actors[i].may_time_out) {
			actors[i].timed_out = true;
			if (i == current) return;
			codes[count++] = go_to(i);
		}
	if (count == 0) {
		for (unsigned i = 0; i < program->actors; i++)
			if (actors[i].state == WAITING) fail("all wait for each other");
		setcontext(&outside);
	}
	enter_actor((unsigned)(choose(codes, count) - 'a'));
}

void pause_here(void)
{
	char codes[ACTORS + 2];
	step++;
	unsigned count = running ? others(codes, 0) : 0;
	if (count) enter_actor((unsigned)(choose(codes, count) - 'a'));
}

/* A preempted actor goes on. Where nobody has met the access that it was about to make, it could as well have made it
 * first: the execution in which it did, and was preempted at its next choice instead, is another one of ours. */
static void preempt(unsigned next, const void *word, bool writes)
{
	struct actor *a = &actors[current];
	a->pending = word;
	a->pending_writes = writes;
	a->met = false;
	a->preempted = true;
	enter_actor(next);
	a->preempted = false;
	if (a->met || search == REPLAY) return;
	pruned = true;
	setcontext(&outside);
}

static void meet(const void *word, bool writes)
{
	for (unsigned i = 0; i < program->actors; i++) {
		struct actor *a = &actors[i];
		if (a->preempted && a->pending == word && (writes || a->pending_writes)) a->met = true;
	}
}

void something_happened(void)
{
	for (unsigned i = 0; i < ACTORS; i++) actors[i].met = true;
}

/* Free, but only once until something else has happened. */
void yield_here(void)
{
	if (!running || actors[current].yielded_at == switches + 1) return;
	char codes[ACTORS + 2] = {GO_ON};
	step++;
	char code = choose(codes, others(codes, 1));
	unsigned self = current;
	if (code != GO_ON) enter_actor((unsigned)(code - 'a'));
	actors[self].yielded_at = switches + 1;
}

bool wait_until(bool (*ready)(void *with), void *with, bool may_time_out)
{
	if (!running) return ready(with);
	struct actor *a = &actors[current];
	a->ready = ready;
	a->with = with;
	a->may_time_out = may_time_out;
	a->timed_out = false;
	while (!ready(with) && !a->timed_out) {
		a->state = WAITING;
		leave_actor();
		a->state = READY;
	}
	return !a->timed_out;
}

static void die(void)
{
	actors[current].state = DEAD;
	deaths++;
	mqt_die(current, true);
	mqt_die(SECOND_LIFE + current, true);
	something_happened();
	leave_actor();
}

void fail(const char *format, ...)
{
	if (!failure[0]) {
		va_list values;
		va_start(values, format);
		vsnprintf(failure, sizeof failure, format, values);
		va_end(values);
	}
	if (running) {
		setcontext(&outside);
	} else if (checking) {
		longjmp(check_ended, 1);
	}
	fprintf(stderr, "explore: %s: setting up: %s\n", program ? program->name : "", failure);
	exit(2);
}

/* ---- the core's accesses ---- */

/* A load that is made for the third time with nothing changed by this actor meanwhile: whoever would go first here could
 * as well have gone first there, but for how often a loop goes round. */
static bool looks_again(const void *word, int line)
{
	struct actor *a = &actors[current];
	for (unsigned i = 0; i < a->site_count; i++)
		if (a->sites[i] == word && a->lines[i] == line) return ++a->looks[i] > 2;
	if (a->site_count < SITES_MOST) {
		a->sites[a->site_count] = word;
		a->looks[a->site_count] = 1;
		a->lines[a->site_count++] = line;
	}
	return false;
}

static const char *kind_name(enum mqi_access kind)
{
	static const char *const names[] = {"load", "store", "cas", "fence", "syscall"};
	return names[kind];
}

static uint64_t value_of(const void *word)
{
	uint64_t value = 0;
	memcpy(&value, word, (uintptr_t)word % 8 ? 4 : 8);
	return value;
}

static void trace(enum mqi_access kind, const void *word, const char *file, int line)
{
	const char *base = strstr(file, "csrc/");
	printf("%6u %c %s:%d %s %s", step, current == SURVIVOR ? 's' : go_to(current), base ? base + 5 : file, line, kind_name(kind), memory_name(word));
	if (word) printf(" = %016llx", (unsigned long long)value_of(word));
	printf("\n");
}

static void maybe_deviate(enum mqi_access kind, const void *word, int line)
{
	bool writes = kind != MQI_LOAD;
	unsigned use = word ? words_use(word, current, writes && kind != MQI_SYSCALL) : 0;
	if (search == REPLAY) use = PREEMPTABLE | MORTAL; /* the schedule says where */
	else if (writes) actors[current].site_count = 0;
	else if (looks_again(word, line)) return;
	if (spent >= bound && search != REPLAY) return;
	char codes[ACTORS + 3] = {GO_ON};
	unsigned count = 1;
	if (use & PREEMPTABLE) count = others(codes, count);
	bool mortal = program->mortal >> current & 1 && deaths < program->deaths;
	if (mortal && (kind == MQI_SYSCALL || (writes && use & MORTAL))) codes[count++] = DIE;
	char code = choose(codes, count);
	if (code == GO_ON) return;
	spent++;
	if (code == DIE) {
		if (search == REPLAY) printf("---- %c dies before %s\n", go_to(current), memory_name(word));
		die();
	} else preempt((unsigned)(code - 'a'), word, writes);
}

void mqi_hook(enum mqi_access kind, const void *word, const char *file, int line)
{
	if (kind == MQI_FENCE) return;
	if (!running && !checking) {
		before++;
		if (kind == MQI_STORE || kind == MQI_CAS) memory_touch(word);
		return;
	}
	step++;
	if (running) {
		if (++actors[current].steps > STEPS_MOST) fail("%c does not come to an end: at %s:%d", go_to(current), file, line);
		maybe_deviate(kind, word, line);
		if (word) meet(word, kind != MQI_LOAD);
	} else {
		if (step > 20 * STEPS_MOST) fail("the check does not come to an end: at %s:%d", file, line);
		if (word && bound < 2) words_use(word, SURVIVOR, false);
	}
	if (kind == MQI_STORE || kind == MQI_CAS) memory_touch(word);
	if (search == REPLAY && running) trace(kind, word, file, line);
}

void mqi_hook_after(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)kind;
	(void)file;
	(void)line;
	if (!running) return;
	if (search == REPLAY) printf("         %-30s -> %016llx\n", "", (unsigned long long)value_of(word));
	if (program->always) program->always(word);
}

/* ---- executions ---- */

static void actor_main(void)
{
	program->run[current]();
	actors[current].state = DONE;
	leave_actor();
}

static void prepare(void)
{
	memory_restore();
	kernel_reset();
	for (unsigned i = 0; i < program->actors; i++) {
		struct actor *a = &actors[i];
		memset(a, 0, offsetof(struct actor, context));
		a->steps = a->yielded_at = a->site_count = 0;
		a->preempted = false;
		mqt_die(i, false);
		mqt_die(SECOND_LIFE + i, false);
		getcontext(&a->context);
		a->context.uc_stack.ss_sp = stacks[i];
		a->context.uc_stack.ss_size = STACK_SIZE;
		a->context.uc_link = NULL;
		makecontext(&a->context, actor_main, 0);
	}
	step = switches = spent = deaths = 0;
	path_depth = made_count = wanted_at = 0;
	failure[0] = 0;
	pruned = false;
	for (unsigned i = 0; i < bound && search == AT_RANDOM; i++) planned[i] = roll(choices_last);
	choices_seen = 0;
}

static void start(void)
{
	char codes[ACTORS];
	for (unsigned i = 0; i < program->actors; i++) codes[i] = go_to(i);
	current = (unsigned)(choose(codes, program->actors) - 'a');
	if (search == REPLAY) printf("---- %c\n", go_to(current));
	setcontext(&actors[current].context);
}

bool search_run(void)
{
	prepare();
	volatile bool ran = false; /* getcontext returns twice */
	running = true;
	getcontext(&outside);
	if (!ran) {
		ran = true;
		start();
	}
	running = false;
	current = SURVIVOR;
	if (choices_seen) choices_last = choices_seen;
	if (failure[0]) return false;
	if (pruned) return true;
	checking = true;
	if (setjmp(check_ended) == 0) program->check();
	checking = false;
	return !failure[0];
}

bool search_next(void)
{
	while (path_length > 0 && path[path_length - 1].taken + 1u == path[path_length - 1].count) path_length--;
	if (path_length == 0) return false;
	path[path_length - 1].taken++;
	return true;
}

void search_set_up(void)
{
	step = before = 0;
	current = SURVIVOR;
}

void search_begin(const struct program *p, enum search how, unsigned deviations)
{
	if (p != program) {
		words_forget();
		dice = 88172645463325252u;
		choices_last = 1;
	}
	program = p;
	search = how;
	bound = deviations;
	path_length = 0;
	words_begin();
}

const char *search_schedule(void)
{
	static char text[CHOICES_MOST * 8];
	size_t at = (size_t)snprintf(text, sizeof text, "%s:", program->name);
	for (unsigned i = 0; i < made_count && at + 16 < sizeof text; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%u%c", i ? "," : "", made[i].step, made[i].code);
	return text;
}

void search_follow(const char *schedule)
{
	const char *at = strchr(schedule, ':');
	wanted_count = 0;
	while (at && at[1] && wanted_count < CHOICES_MOST) {
		char *end;
		wanted[wanted_count].step = (uint32_t)strtoul(at + 1, &end, 10);
		wanted[wanted_count++].code = *end;
		at = *end && end[1] == ',' ? end + 1 : NULL;
	}
}
