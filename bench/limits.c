/* What the machine allows, whatever the code above it: one limit per run of this program, as JSON on stdout.
 *
 *   limits NAME COUNT [CORE CORE]     line: cache line to and fro; wake: futex with nobody asleep; futex: futex round trip;
 *                                     memcpy BYTES: into memory that is not in a cache
 *
 * Built with -DLIMITS_EXTENSION it is a Python module instead, with a function that does nothing.
 */
#define _GNU_SOURCE
#ifdef LIMITS_EXTENSION
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *nothing(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
	(void)self, (void)args, (void)count;
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"nothing", (PyCFunction)(void (*)(void))nothing, METH_FASTCALL, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "limits_extension", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_limits_extension(void)
{
	return PyModule_Create(&module);
}
#else
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct shared {
	_Alignas(128) uint32_t there; /* the number of the last question */
	_Alignas(128) uint32_t back;  /* and of the last answer */
};

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void stay_on(int core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof set, &set)) perror("sched_setaffinity"), exit(1);
}

static void wait_spinning(uint32_t *word, uint32_t want)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != want)
		;
}

static void wait_sleeping(uint32_t *word, uint32_t want)
{
	uint32_t seen;
	while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)) != want)
		syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void tell(uint32_t *word, uint32_t value, int wake)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	if (wake) syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Two processes, a core each (or one for both); every lap is timed. */
static void round_trips(uint32_t count, int asker, int answerer, int sleeping)
{
	struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *laps = malloc(count * sizeof *laps);
	if (s == MAP_FAILED || !laps) perror("memory"), exit(1);
	void (*wait_for)(uint32_t *, uint32_t) = sleeping ? wait_sleeping : wait_spinning;
	pid_t child = fork();
	if (child < 0) perror("fork"), exit(1);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		stay_on(answerer);
		for (uint32_t i = 1; i <= count; i++) {
			wait_for(&s->there, i);
			tell(&s->back, i, sleeping);
		}
		_exit(0);
	}
	stay_on(asker);
	uint64_t start = now_ns();
	for (uint32_t i = 1; i <= count; i++) {
		uint64_t before = now_ns();
		tell(&s->there, i, sleeping);
		wait_for(&s->back, i);
		laps[i - 1] = now_ns() - before;
	}
	double seconds = (double)(now_ns() - start) / 1e9;
	waitpid(child, NULL, 0);
	qsort(laps, count, sizeof *laps, by_size);
	printf("{\"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"seconds\": %.6f}\n", (unsigned long long)laps[count / 2],
	       (unsigned long long)laps[(uint64_t)count * 99 / 100], (unsigned long long)laps[(uint64_t)count * 999 / 1000], seconds);
}

static void wake_nobody(uint32_t count)
{
	uint32_t word = 0;
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < count; i++) tell(&word, i, 1);
	double seconds = (double)(now_ns() - start) / 1e9;
	printf("{\"p50_ns\": %.1f, \"seconds\": %.6f}\n", seconds * 1e9 / count, seconds);
}

/* From one hot block into 64 MiB of shared memory, round and round: what a publish of that size cannot go below. */
static void copies(uint32_t count, size_t size)
{
	size_t room = 64u << 20;
	if (!size || size > room) fprintf(stderr, "limits: memcpy of 1 to %zu bytes\n", room), exit(2);
	char *from = malloc(size);
	char *to = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!from || to == MAP_FAILED) perror("memory"), exit(1);
	memset(from, 1, size);
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < count; i++) {
		memcpy(to + i % (room / size) * size, from, size);
		__asm__ volatile("" ::: "memory"); /* the compiler may not drop a copy that nobody reads */
	}
	double seconds = (double)(now_ns() - start) / 1e9;
	printf("{\"p50_ns\": %.1f, \"seconds\": %.6f}\n", seconds * 1e9 / count, seconds);
}

int main(int argc, char **argv)
{
	long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
	int first = argc > 3 ? atoi(argv[3]) : 0, second = argc > 4 ? atoi(argv[4]) : 1;
	if (count < 1 || count > INT_MAX) return fprintf(stderr, "usage: limits line|futex|wake|memcpy COUNT [CORE CORE | BYTES]\n"), 2;
	if (!strcmp(argv[1], "line")) round_trips((uint32_t)count, first, second, 0);
	else if (!strcmp(argv[1], "futex")) round_trips((uint32_t)count, first, second, 1);
	else if (!strcmp(argv[1], "wake")) wake_nobody((uint32_t)count);
	else if (!strcmp(argv[1], "memcpy")) copies((uint32_t)count, (size_t)first);
	else return fprintf(stderr, "limits: no such limit: %s\n", argv[1]), 2;
	return 0;
}
#endif
