/* Dies at every point of every operation. The core is compiled with MQSHM_HOOKS: a victim counts the stores,
 * compare-and-swaps, fences and system calls of its operation and kills itself at the k-th, before it or just after it.
 * Then survivors repair, publish, receive and settle, and everything must add up. With pairs, a reaper comes first and
 * dies at its own j-th point.
 *
 * Each death happens again in the same segment until one has cost no memory: what one leaks, the next leaks as well.
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenes.h"

#define NEVER UINT64_MAX
#define TOO_SLOW 3          /* times in a row that survivors may take too long on a busy machine */

/* How many of the deaths of a scene are followed by a reaper's, and by how many of them. */
struct effort {
	uint64_t whole;   /* operations of so many points: all of their deaths */
	uint64_t sample;  /* longer ones: so many */
	uint64_t reapers; /* at most, after each */
};
static const struct effort brief = {0, 6, 7}, usual = {60, 12, NEVER}, thorough = {1000, 300, NEVER};

/* ---- in a victim ---- */

static bool counting;
static uint64_t passed, fatal;

static void pass(enum mqi_access kind, const char *file, int line)
{
	if (!counting || kind == MQI_LOAD) return;
	ledger->points = ++passed;
	ledger->file = file;
	ledger->line = line;
	if (passed == fatal) die();
}

void mqi_hook(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)word;
	pass(kind, file, line);
}

/* Not the same as before the next one: plain stores and the control lock lie between. */
void mqi_hook_after(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)word;
	pass(kind, file, line);
}

static void count_from_here(uint64_t until)
{
	fatal = until;
	passed = 0;
	counting = true;
}

/* ---- one trial ---- */

static struct {
	const struct scene *scene;
	uint64_t at, reaper_at; /* NEVER: the reaper is not sent */
	uint64_t points, reaper_points; /* the longest that it came to */
	uint64_t slowest;
} trial;

static void say_trial(void)
{
	const char *file = ledger->file ? strstr(ledger->file, "csrc/") : NULL;
	printf("crash_points --only %s --at %llu", trial.scene->name, (unsigned long long)trial.at);
	if (trial.reaper_at != NEVER) printf(",%llu", (unsigned long long)trial.reaper_at);
	printf("    died at %s:%d\n", file ? file : "the start", ledger->line);
}

static void live(struct victim *v)
{
	count_from_here(trial.at);
	victim_act(v);
	counting = false;
}

static void reap_and_die(struct stage *st)
{
	struct victim v = {.stage = st};
	uint32_t dead;
	victim_attach(&v);
	ledger->points = 0;
	count_from_here(trial.reaper_at);
	mqshm_reap(v.h, &dead);
	die();
}

static void wait_death(pid_t pid)
{
	int status;
	waitpid(pid, &status, 0);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the victim ended with status %x by itself: %s", status, ledger->reason);
}

/* Returns how long the survivors took. */
static uint64_t play(struct stage *st)
{
	watch(10);
	stage_fill(st);
	wait_death(fork_victim(st, live));
	must(!ledger->done || ledger->result == st->scene->result, "the operation says %d: %s", ledger->result, ledger->reason);
	if (ledger->points > trial.points) trial.points = ledger->points;
	if (trial.reaper_at != NEVER) {
		pid_t pid = fork();
		if (pid == 0) reap_and_die(st);
		wait_death(pid);
		if (ledger->points > trial.reaper_points) trial.reaper_points = ledger->points;
	}
	uint64_t took = survive(st);
	if (took < PATIENCE_NS && took > trial.slowest) trial.slowest = took;
	expect_rest(st, 2);
	watch(0);
	return took;
}

/* The same death again and again in one segment, until it has cost no memory: first times may. */
static bool in_time(const struct scene *scene)
{
	struct stage st;
	struct usage before, now = {0, 0};
	bool fast = true, steady = false;
	stage_open(&st, scene);
	for (st.round = 0; !steady; st.round++) {
		before = now;
		fast &= play(&st) < PATIENCE_NS;
		now = usage(&st);
		steady = st.round > 0 && now.bytes <= before.bytes && now.units <= before.units;
		must(steady || st.round < ROUNDS, "each death costs %llu bytes and %llu units of address space",
		     (unsigned long long)(now.bytes - before.bytes), (unsigned long long)(now.units - before.units));
	}
	stage_close(&st);
	return fast;
}

static void try(const struct scene *scene, uint64_t at, uint64_t reaper_at)
{
	trial.scene = scene;
	trial.at = at;
	trial.reaper_at = reaper_at;
	trial.points = trial.reaper_points = 0;
	for (unsigned slow = 0; !in_time(scene); slow++)
		must(slow + 1 < TOO_SLOW, "the survivors took over %llu ms, %u times", PATIENCE_NS / 1000000, TOO_SLOW);
}

/* ---- all trials ---- */

struct tally {
	uint64_t points, pairs;
};

static uint64_t stride_for(uint64_t all, uint64_t most) { return all > most ? (all + most - 1) / most : 1; }

static struct tally run(const struct scene *scene, const struct effort *effort)
{
	struct tally t = {0, 0};
	try(scene, NEVER, NEVER);
	uint64_t points = trial.points;
	for (uint64_t at = 1; at <= points; at++, t.points++) try(scene, at, NEVER);
	for (uint64_t at = 1, step = points > effort->whole ? stride_for(points, effort->sample) : 1; at <= points; at += step) {
		try(scene, at, NEVER - 1); /* the reaper comes through: so many points it has */
		uint64_t reaper_points = trial.reaper_points, stride = stride_for(reaper_points, effort->reapers);
		for (uint64_t by = 1 + at % stride; by <= reaper_points; by += stride, t.pairs++) try(scene, at, by);
	}
	return t;
}

static int usage_error(const char *name)
{
	fprintf(stderr, "usage: %s [--short | --long] [--only SCENE [--at K[,J]]] [--list]\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"short", 0, 0, 's'}, {"long", 0, 0, 'l'}, {"only", 1, 0, 'o'},
	                                        {"at", 1, 0, 'a'},    {"list", 0, 0, 'i'}, {0, 0, 0, 0}};
	const struct scene *only = NULL, *s;
	const struct effort *effort = &usual;
	uint64_t at = 0, reaper_at = NEVER;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		char *comma;
		if (c == 's') effort = &brief;
		else if (c == 'l') effort = &thorough;
		else if (c == 'o') {
			if (!(only = scene_named(optarg))) return usage_error(argv[0]);
		} else if (c == 'a') {
			at = strtoull(optarg, &comma, 0);
			if (*comma == ',') reaper_at = strtoull(comma + 1, NULL, 0);
		} else if (c == 'i') {
			for (unsigned i = 0; (s = scene_at(i)) != NULL; i++) puts(s->name);
			return 0;
		} else return usage_error(argv[0]);
	}
	say_where = say_trial;
	support_begin();
	if (at) {
		if (!only) return usage_error(argv[0]);
		try(only, NEVER, NEVER);
		try(only, at, reaper_at);
		printf("%s holds at ", only->name);
		say_trial();
		return 0;
	}
	printf("%-28s %8s %8s %8s %12s\n", "scene", "points", "pairs", "seconds", "slowest, ms");
	struct tally sum = {0, 0};
	uint64_t begin = now_ns();
	for (unsigned i = 0; (s = scene_at(i)) != NULL; i++) {
		if (only && s != only) continue;
		uint64_t start = now_ns();
		trial.slowest = 0;
		struct tally t = run(s, effort);
		printf("%-28s %8llu %8llu %8.1f %12.1f\n", s->name, (unsigned long long)t.points, (unsigned long long)t.pairs,
		       (double)(now_ns() - start) / 1e9, (double)trial.slowest / 1e6);
		fflush(stdout);
		sum.points += t.points;
		sum.pairs += t.pairs;
	}
	printf("%-28s %8llu %8llu %8.1f\n", "all hold", (unsigned long long)sum.points, (unsigned long long)sum.pairs,
	       (double)(now_ns() - begin) / 1e9);
	return 0;
}
