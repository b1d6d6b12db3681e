/* Dies, or stops, at every machine instruction. The core is the one that is shipped: no hooks, -O3. A victim is taken n
 * instructions into its operation (a system call counts as one), for every n until the operation is over; then it is
 * killed, and survivors repair and go on; or it gets SIGSTOP, survivors go on beside it, and it is then continued and
 * finishes what it was doing.
 *
 * As in crash_points.c, each happens again in the same segment until it has cost no memory.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenes.h"
#include "walk.h"

#define NEVER UINT64_MAX
#define TOO_SLOW 3
#define SHORT_TRIALS 40      /* for a line of the table */
#define SLOW_BUDGET 20000000 /* steps for a line where all of them are single: then every so many-th instruction */

/* What is stepped through by default; any scene can be named. */
static const char *const usual[] = {
	"publish-inline-warm", "publish-block-warm", "publish-fan3-warm", "publish-batch-warm", "publish-batch-fan3-warm",
	"publish-inline", "publish-drop-oldest", "receive-inline", "receive-block", "receive-fan3", "ack-inline", "ack-block",
	"ack-fan3", "ack-fan3-last", "nack-inline", "nack-block", "nack-fan3", "receive-lease-ends", "reap-leases",
	"reap-leases-fan3", "expire-small", "expire-fan3", "expire-middle", "expire-repaired", "receive-past-tombs",
	"publish-once", "publish-once-turn", "publish-delayed", "receive-due", "tick-due", "tick-lease", "watch", "commit-publish",
	"commit-publish-fan3", "commit-settle", "commit-both", "commit-kept", "loan-return", "dead-rejected", "dead-worn-out",
};

enum way { KILL, STOP };
static const char *const way_name[] = {"kill", "stop"};

static struct {
	const struct scene *scene;
	enum way way;
	uint64_t at;
	pid_t victim;
	uint64_t instructions; /* that the victim came to */
	uint64_t slowest;
	bool astray, on_foot;  /* it came by another way than before; so now it makes no jumps */
	struct walk_trace first, later; /* of the scene: in a fresh segment, and when it has happened there before */
} trial;

static void say_trial(void)
{
	printf("steps --only %s --%s --at %llu\n", trial.scene->name, way_name[trial.way], (unsigned long long)trial.at);
	if (trial.victim) kill(trial.victim, SIGKILL);
}

/* ---- in the victim ---- */

static void live(struct victim *v)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) broken("ptrace: %s", strerror(errno));
	raise(SIGTRAP); /* stands still until the stepper comes */
	mqi_store_rel(&ledger->began, 1u);
	victim_act(v);
	if (mqi_load_acq(&ledger->traced)) raise(SIGTRAP); /* past where it was to be caught */
	if (trial.way == STOP) {
		if (v->stage->scene->finish) v->stage->scene->finish(v);
		if (v->h) mqshm_detach(v->h);
	}
}

/* ---- outside ---- */

/* The victim, n instructions into its operation. False: it was over before, or has to be played again, on foot. */
static bool caught(struct stage *st, uint64_t n)
{
	struct walk_trace *known = st->round ? &trial.later : &trial.first;
	int status;
	ledger->traced = 1;
	trial.victim = fork_victim(st, live);
	waitpid(trial.victim, &status, 0);
	must(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "the victim does not begin: status %x, %s", status, ledger->reason);
	while (!mqi_load_acq(&ledger->began)) walk_step(trial.victim);
	bool noting = n == NEVER && walk_can_jump();
	if (!known->size || noting || trial.on_foot) trial.instructions = walk_steps(trial.victim, n, &ledger->done, noting ? known : NULL);
	else if (!walk_jump(trial.victim, n, &ledger->done, known, &trial.instructions)) trial.astray = true;
	return !trial.astray && !mqi_load_acq(&ledger->done);
}

/* From here on it is a process like any other, and stopped as any other would be. */
static void stop_victim(void)
{
	int status;
	mqi_store_rel(&ledger->traced, 0u);
	must(ptrace(PTRACE_DETACH, trial.victim, NULL, (void *)SIGSTOP) == 0, "ptrace: %s", strerror(errno));
	waitpid(trial.victim, &status, WUNTRACED);
	must(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "the victim does not stop: status %x, %s", status, ledger->reason);
}

static void end_victim(int expected)
{
	int status;
	waitpid(trial.victim, &status, 0);
	must(WIFSIGNALED(status) && WTERMSIG(status) == expected, "the victim ended with status %x: %s", status, ledger->reason);
	trial.victim = 0;
}

static void check_result(const struct stage *st)
{
	/* Survivors made room meanwhile, or took what there was. */
	bool moot = ledger->beside && (ledger->result == MQSHM_EMPTY || (st->scene->full && ledger->result == MQSHM_OK));
	must(!ledger->done || moot || ledger->result == st->scene->result, "the operation says %d: %s", ledger->result, ledger->reason);
}

/* Returns how long the survivors took; *inside: the victim had not come through. */
static uint64_t play(struct stage *st, bool *inside)
{
	uint64_t beside = 0;
	stage_fill(st);
	watch(120);
	*inside |= caught(st, trial.at);
	watch(10);
	if (trial.way == KILL || trial.astray) {
		kill(trial.victim, SIGKILL);
	} else {
		stop_victim();
		beside = go_on(st);
		kill(trial.victim, SIGCONT);
	}
	end_victim(SIGKILL); /* also the end of one that has finished */
	if (trial.astray) return 0;
	if (trial.way == STOP) must(ledger->done, "the victim does not finish: %s", ledger->reason);
	check_result(st);
	uint64_t took = survive(st);
	expect_rest(st, 2);
	watch(0);
	return took > beside ? took : beside;
}

/* The same in one segment until it has cost no memory: first times may. */
static uint64_t play_out(const struct scene *scene, bool *inside)
{
	struct stage st;
	struct usage before, now = {0, 0};
	uint64_t slowest = 0;
	bool steady = false;
	stage_open(&st, scene);
	for (st.round = 0; !steady; st.round++) {
		before = now;
		uint64_t took = play(&st, inside);
		if (trial.astray) break;
		if (took > slowest) slowest = took;
		now = usage(&st);
		steady = st.round > 0 && now.bytes <= before.bytes && now.units <= before.units;
		must(steady || st.round < ROUNDS, "each time costs %llu bytes and %llu units of address space",
		     (unsigned long long)(now.bytes - before.bytes), (unsigned long long)(now.units - before.units));
	}
	stage_close(&st);
	return slowest;
}

/* A stage of its own for each: so it is the same again when it is replayed. */
static bool once(const struct scene *scene, enum way way, uint64_t at)
{
	bool inside = false;
	uint64_t took = NEVER;
	trial.scene = scene;
	trial.way = way;
	trial.at = at;
	trial.astray = false;
	for (unsigned slow = 0; took >= PATIENCE_NS && !trial.astray; slow++) {
		must(slow < TOO_SLOW, "the survivors took over %llu ms, %u times", PATIENCE_NS / 1000000, TOO_SLOW);
		inside = false;
		took = play_out(scene, &inside);
	}
	if (took > trial.slowest) trial.slowest = took;
	return inside;
}

/* The whole operation, on foot; from here on it is known how to get anywhere in it. */
static uint64_t learn(const struct scene *scene, enum way way)
{
	walk_forget(&trial.first);
	walk_forget(&trial.later);
	trial.on_foot = false;
	once(scene, way, NEVER);
	uint64_t later = trial.instructions;
	return trial.first.size > later ? trial.first.size : later;
}

/* Where it came by another way than before: that may be its way from now on, or this once. */
static bool try(const struct scene *scene, enum way way, uint64_t at)
{
	trial.on_foot = false;
	bool inside = once(scene, way, at);
	if (trial.astray) {
		learn(scene, way);
		inside = once(scene, way, at);
	}
	if (trial.astray) {
		trial.on_foot = true;
		inside = once(scene, way, at);
	}
	return inside;
}

static void run(const struct scene *scene, enum way way, bool thorough)
{
	uint64_t start = now_ns(), at = 0, trials = 0, on_foot = 0, by = 1;
	trial.slowest = 0;
	uint64_t all = learn(scene, way);
	if (!thorough) by = all / SHORT_TRIALS;
	else if (!walk_can_jump()) by = all * all / 2 / SLOW_BUDGET;
	if (by == 0) by = 1;
	for (bool inside = true; inside; at += by, trials++) {
		inside = try(scene, way, at);
		on_foot += trial.on_foot;
	}
	printf("%-28s %6s %12llu %6llu %8llu %8llu %8.1f %12.1f\n", scene->name, way_name[way], (unsigned long long)all,
	       (unsigned long long)by, (unsigned long long)trials, (unsigned long long)on_foot, (double)(now_ns() - start) / 1e9,
	       (double)trial.slowest / 1e6);
	fflush(stdout);
}

/* Whether this process may trace its children at all. */
static bool may_trace(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? 1 : 0);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int usage_error(const char *name)
{
	fprintf(stderr, "usage: %s [--short | --long] [--only SCENE] [--kill | --stop] [--at N]\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"short", 0, 0, 's'}, {"long", 0, 0, 'l'}, {"only", 1, 0, 'o'}, {"at", 1, 0, 'a'},
	                                        {"kill", 0, 0, 'k'},  {"stop", 0, 0, 'p'}, {0, 0, 0, 0}};
	const struct scene *only = NULL;
	uint64_t at = NEVER;
	bool thorough = false, ways[2] = {true, true};
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 's') thorough = false;
		else if (c == 'l') thorough = true;
		else if (c == 'a') at = strtoull(optarg, NULL, 0);
		else if (c == 'k') ways[STOP] = false;
		else if (c == 'p') ways[KILL] = false;
		else if (c != 'o' || !(only = scene_named(optarg))) return usage_error(argv[0]);
	}
	if (!may_trace()) {
		fprintf(stderr, "ptrace is not permitted here\n");
		return 77;
	}
	say_where = say_trial;
	support_begin();
	if (at == NEVER)
		printf("%-28s %6s %12s %6s %8s %8s %8s %12s\n", "scene", "way", "instructions", "every", "trials", "on foot", "seconds",
		       "slowest, ms");
	for (unsigned i = 0; i < (only ? 1 : sizeof usual / sizeof *usual); i++) {
		const struct scene *scene = only ? only : scene_named(usual[i]);
		for (enum way way = KILL; way <= STOP; way++) {
			if (!ways[way]) continue;
			if (at == NEVER) run(scene, way, thorough);
			else {
				learn(scene, way);
				try(scene, way, at);
				printf("%s holds after %llu instructions: ", scene->name, (unsigned long long)trial.instructions);
				say_trial();
			}
		}
	}
	return 0;
}
