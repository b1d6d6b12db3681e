/* explore [--short | --long] [--seconds N] [--program NAME] [--replay SCHEDULE] [--list]
 *
 * Each program is explored with 0, 1, ... deviations, all executions of each. Where that takes longer than half of a
 * program's share of the time, the rest goes to executions drawn at random within the bound; the report says so. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger.h"
#include "memory.h"
#include "programs.h"
#include "words.h"

#define SHORT_S 50
#define LONG_S 840
#define NS 1000000000ull

struct tally {
	uint64_t executions, runs, sampled;
	uint32_t steps;
};

static void set_up(const struct program *p)
{
	ledger_clear();
	search_set_up();
	p->setup();
	world_freeze();
}

static bool run(struct tally *t)
{
	ledger_restore();
	bool fine = search_run();
	t->runs++;
	if (search_pruned()) return fine;
	t->executions++;
	if (search_steps() > t->steps) t->steps = search_steps();
	return fine;
}

static void report_failure(void)
{
	printf("FAILED  %s\n        explore --replay '%s'\n", search_failure(), search_schedule());
	fflush(stdout);
}

/* All executions with at most so many deviations. 1: done, 0: no time, -1: one failed. */
static int exhaust(const struct program *p, unsigned deviations, uint64_t until, struct tally *t)
{
	do {
		search_begin(p, DEPTH_FIRST, deviations);
		do {
			if (!run(t)) return -1;
			if (t->runs % 64 == 0 && real_ns() > until) return 0;
		} while (search_next());
	} while (words_grew()); /* words that turned out to be shared: more points to choose at */
	return 1;
}

static bool sample(const struct program *p, unsigned deviations, uint64_t until, struct tally *t)
{
	search_begin(p, AT_RANDOM, deviations);
	while (real_ns() < until) {
		for (unsigned i = 0; i < 64; i++, t->sampled += !search_pruned())
			if (!run(t)) return false;
	}
	return true;
}

static bool explore(const struct program *p, unsigned bound, uint64_t budget_ns)
{
	struct tally t = {0};
	uint64_t start = real_ns();
	unsigned done = 0;
	bool fine = true;
	set_up(p);
	for (unsigned deviations = 0; fine && deviations <= bound; deviations++) {
		int rc = exhaust(p, deviations, start + budget_ns / 2, &t);
		if (rc < 0) fine = false;
		else if (rc > 0) done = deviations + 1;
		else {
			fine = sample(p, bound, start + budget_ns, &t);
			break;
		}
	}
	printf("%-26s %9llu executions, longest %5u accesses, %4.1f s: ", p->name, (unsigned long long)t.executions, t.steps,
	       (double)(real_ns() - start) / 1e9);
	if (!fine) report_failure();
	else if (done > bound) printf("all with at most %u deviations\n", bound);
	else printf("all with at most %d, %llu at random with %u\n", (int)done - 1, (unsigned long long)t.sampled, bound);
	fflush(stdout);
	return fine;
}

static const struct program *named(const char *name, size_t size)
{
	for (unsigned i = 0; i < program_count; i++)
		if (strlen(programs[i].name) == size && memcmp(programs[i].name, name, size) == 0) return &programs[i];
	fprintf(stderr, "explore: there is no program %.*s\n", (int)size, name);
	exit(2);
}

static int replay(const char *schedule)
{
	struct tally t = {0};
	const struct program *p = named(schedule, strcspn(schedule, ":"));
	set_up(p);
	search_begin(p, REPLAY, 0);
	search_follow(schedule);
	if (run(&t)) {
		printf("it holds\n");
		return 0;
	}
	report_failure();
	return 1;
}

/* The core itself crashed: what led there is worth more than the core file. */
static void on_crash(int number)
{
	static char text[4096];
	int size = snprintf(text, sizeof text, "\nFAILED  signal %d\n        explore --replay '%s'\n", number, search_schedule());
	if (write(STDOUT_FILENO, text, (size_t)size) < 0) _exit(3);
	_exit(1);
}

int main(int argc, char **argv)
{
	unsigned bound = 2;
	uint64_t seconds = SHORT_S;
	const struct program *only = NULL;
	bool fine = true;
	static unsigned char stack[65536];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
	sigaltstack(&alternative, NULL);
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGABRT, &action, NULL);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--short") == 0) continue;
		if (strcmp(argv[i], "--long") == 0) bound = 3, seconds = LONG_S;
		else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--program") == 0 && i + 1 < argc) only = named(argv[i + 1], strlen(argv[i + 1])), i++;
		else if (strcmp(argv[i], "--replay") == 0 && i + 1 < argc) return replay(argv[i + 1]);
		else if (strcmp(argv[i], "--list") == 0) {
			for (unsigned k = 0; k < program_count; k++) printf("%s\n", programs[k].name);
			return 0;
		} else {
			fprintf(stderr, "explore [--short | --long] [--seconds N] [--program NAME] [--replay SCHEDULE] [--list]\n");
			return 2;
		}
	}
	/* Each gets its share of the time that is left: what one does not need is for those after it. */
	uint64_t end = real_ns() + seconds * NS;
	for (unsigned i = 0; i < program_count; i++) {
		uint64_t left = end > real_ns() ? end - real_ns() : 0;
		if (!only) fine &= explore(&programs[i], bound, left / (program_count - i));
		else if (only == &programs[i]) fine = explore(only, bound, left);
	}
	return fine ? 0 : 1;
}
