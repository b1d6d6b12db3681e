/* Dies, or stops, at every machine instruction. The core is the one that is shipped: no hooks, -O3. A victim is single-
 * stepped n instructions into its operation (a system call counts as one), for every n until the operation is over;
 * then it is killed, and survivors repair and go on; or it stays stopped while survivors go on beside it, and is then
 * let go to finish what it was doing.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenes.h"

#define NEVER UINT64_MAX
#define TOO_SLOW 3
#define SHORT_STEP 7
#define SHORT_BUDGET 80000    /* steps for one line of the table: where that is too few, every so many-th instruction */
#define LONG_BUDGET 20000000
#define LONGEST 2000000 /* instructions of one operation: more is a hang */

/* What is stepped through by default; any scene can be named. */
static const char *const usual[] = {
	"publish-inline-warm", "publish-block-warm", "publish-fan3-warm", "publish-batch-warm", "publish-batch-fan3-warm",
	"publish-inline", "publish-drop-oldest", "receive-inline", "receive-block", "receive-fan3", "ack-inline", "ack-block",
	"ack-fan3", "ack-fan3-last", "nack-inline", "nack-block", "reap-leases",
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
	if (trial.way == STOP) {
		if (v->stage->scene->finish) v->stage->scene->finish(v);
		if (v->h) mqshm_detach(v->h);
	}
}

/* ---- outside ---- */

static bool stopped(int status, int number) { return WIFSTOPPED(status) && WSTOPSIG(status) == number; }

static void step(void)
{
	int status;
	must(ptrace(PTRACE_SINGLESTEP, trial.victim, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
	waitpid(trial.victim, &status, 0);
	must(stopped(status, SIGTRAP), "the victim does not step: status %x, %s", status, ledger->reason);
}

/* The victim, n instructions into its operation. False: it was over before. */
static bool stepped(struct stage *st, uint64_t n)
{
	int status;
	trial.victim = fork_victim(st, live);
	waitpid(trial.victim, &status, 0);
	must(stopped(status, SIGTRAP), "the victim does not begin: status %x, %s", status, ledger->reason);
	while (!mqi_load_acq(&ledger->began)) step();
	for (trial.instructions = 0; trial.instructions < n && !mqi_load_acq(&ledger->done); trial.instructions++) {
		must(trial.instructions < LONGEST, "the operation does not end");
		step();
	}
	return !mqi_load_acq(&ledger->done);
}

static void end_victim(int expected)
{
	int status;
	do waitpid(trial.victim, &status, 0);
	while (WIFSTOPPED(status) && ptrace(PTRACE_CONT, trial.victim, NULL, NULL) == 0);
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
	*inside = stepped(st, trial.at);
	watch(10);
	if (trial.way == KILL) {
		kill(trial.victim, SIGKILL);
	} else {
		beside = go_on(st);
		must(ptrace(PTRACE_CONT, trial.victim, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
	}
	end_victim(SIGKILL); /* also the end of one that has finished */
	if (trial.way == STOP) must(ledger->done, "the victim does not finish: %s", ledger->reason);
	check_result(st);
	uint64_t took = survive(st);
	expect_rest(st, 2);
	watch(0);
	return took > beside ? took : beside;
}

/* One stage for each death: so it is the same again when it is replayed. */
static bool try(const struct scene *scene, enum way way, uint64_t at)
{
	bool inside = false;
	uint64_t took = NEVER;
	trial.scene = scene;
	trial.way = way;
	trial.at = at;
	for (unsigned slow = 0; took >= PATIENCE_NS; slow++) {
		struct stage st;
		must(slow < TOO_SLOW, "the survivors took over %llu ms, %u times", PATIENCE_NS / 1000000, TOO_SLOW);
		stage_open(&st, scene);
		took = play(&st, &inside);
		stage_close(&st);
	}
	if (took > trial.slowest) trial.slowest = took;
	return inside;
}

static void run(const struct scene *scene, enum way way, bool thorough)
{
	uint64_t start = now_ns(), at = 0, trials = 0;
	trial.slowest = 0;
	try(scene, way, LONGEST);
	uint64_t all = trial.instructions, by = all * all / 2 / (thorough ? LONG_BUDGET : SHORT_BUDGET);
	if (by == 0) by = 1;
	if (!thorough && by < SHORT_STEP) by = SHORT_STEP;
	for (bool inside = true; inside; at += by, trials++) inside = try(scene, way, at);
	printf("%-28s %6s %12llu %6llu %8llu %8.1f %12.1f\n", scene->name, way_name[way], (unsigned long long)all,
	       (unsigned long long)by, (unsigned long long)trials, (double)(now_ns() - start) / 1e9, (double)trial.slowest / 1e6);
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
	if (at == NEVER) printf("%-28s %6s %12s %6s %8s %8s %12s\n", "scene", "way", "instructions", "every", "trials", "seconds", "slowest, ms");
	for (unsigned i = 0; i < (only ? 1 : sizeof usual / sizeof *usual); i++) {
		const struct scene *scene = only ? only : scene_named(usual[i]);
		for (enum way way = KILL; way <= STOP; way++) {
			if (!ways[way]) continue;
			if (at == NEVER) run(scene, way, thorough);
			else {
				try(scene, way, at);
				printf("%s holds after %llu instructions: ", scene->name, (unsigned long long)trial.instructions);
				say_trial();
			}
		}
	}
	return 0;
}
