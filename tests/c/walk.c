#include "walk.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "support.h"

static bool trapped(pid_t pid)
{
	int status;
	waitpid(pid, &status, 0);
	must(WIFSTOPPED(status), "the victim ended on its way: status %x, %s", status, ledger->reason);
	return WSTOPSIG(status) == SIGTRAP;
}

void walk_step(pid_t pid)
{
	must(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
	must(trapped(pid), "the victim does not step: %s", ledger->reason);
}

#define STOP_COSTS 3 /* steps: to run to a breakpoint, and off it */

#ifdef __x86_64__

#define BREAKPOINT 0xccul /* one byte; the processor stands behind it when it traps */

bool walk_can_jump(void) { return true; }

static void *pc_register(void) { return (void *)offsetof(struct user_regs_struct, rip); }
static uint64_t pc_of(pid_t pid) { return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, pc_register(), NULL); }

/* To the next time that the instruction at `pc` is the next. */
static bool run_to(pid_t pid, uint64_t pc)
{
	errno = 0;
	long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
	must(errno == 0, "ptrace: %s", strerror(errno));
	must(ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)((text & ~0xfful) | BREAKPOINT)) == 0, "ptrace: %s", strerror(errno));
	must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
	bool there = trapped(pid) && pc_of(pid) == pc + 1;
	must(ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)text) == 0, "ptrace: %s", strerror(errno));
	return there && ptrace(PTRACE_POKEUSER, pid, pc_register(), (void *)pc) == 0;
}

#else

bool walk_can_jump(void) { return false; }
static uint64_t pc_of(pid_t pid) { return (void)pid, 0; }
static bool run_to(pid_t pid, uint64_t pc) { return (void)pid, (void)pc, false; }

#endif

static int by_place(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return x[0] != y[0] ? (x[0] > y[0]) - (x[0] < y[0]) : (x[1] > y[1]) - (x[1] < y[1]);
}

static void find_ways(struct walk_trace *t)
{
	uint64_t(*at)[2] = malloc(t->size * sizeof *at);
	t->way = calloc(t->size, sizeof *t->way);
	t->met = calloc(t->size, sizeof *t->met);
	must(at && t->way && t->met, "no memory for a trace");
	for (uint32_t i = 0; i < t->size; i++) at[i][0] = t->pc[i], at[i][1] = i;
	qsort(at, t->size, sizeof *at, by_place);
	for (uint32_t i = 1; i < t->size; i++)
		if (at[i][0] == at[i - 1][0]) t->met[at[i][1]] = t->met[at[i - 1][1]] + 1;
	for (uint32_t i = 1, best = 0; i < t->size; i++) {
		if ((int64_t)STOP_COSTS * t->met[i] - i <= (int64_t)STOP_COSTS * t->met[best] - best) best = i;
		t->way[i] = best;
	}
	free(at);
}

uint64_t walk_steps(pid_t pid, uint64_t n, const uint32_t *over, struct walk_trace *note)
{
	uint64_t i = 0;
	if (note) {
		walk_forget(note);
		must((note->pc = malloc(WALK_LONGEST * sizeof *note->pc)) != NULL, "no memory for a trace");
	}
	for (; i < n && !mqi_load_acq(over); i++) {
		must(i < WALK_LONGEST, "the operation does not end");
		if (note) note->pc[i] = pc_of(pid);
		walk_step(pid);
	}
	if (note) {
		note->size = (uint32_t)i;
		find_ways(note);
	}
	return i;
}

bool walk_jump(pid_t pid, uint64_t n, const uint32_t *over, const struct walk_trace *known, uint64_t *took)
{
	uint32_t last = n < known->size ? (uint32_t)n : known->size - 1, at = known->way[last];
	uint64_t pc = known->pc[at];
	uint32_t met = pc_of(pid) == pc;
	while (at && met <= known->met[at]) {
		if (pc_of(pid) == pc) walk_step(pid); /* away from where it stands: or not, in a string instruction */
		if (pc_of(pid) != pc && !run_to(pid, pc)) return false;
		met++;
	}
	*took = at + walk_steps(pid, n - at, over, NULL);
	return true;
}

void walk_forget(struct walk_trace *t)
{
	free(t->pc);
	free(t->way);
	free(t->met);
	memset(t, 0, sizeof *t);
}
