#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST_PID 100000u
#define UNITS 512

uint64_t world_seed, world_op;
const char *world_verb = "";
bool world_trace;
void (*world_access)(void);

static int segment = -1;
static uint64_t now_ns, spun; /* who spins until a time comes sees it come */
static unsigned joining;
static uint32_t lives; /* pids are not used twice */
static uint64_t pid_of[PEERS_MOST];
static bool gone[PEERS_MOST];
static struct header_shm *control_of;
static uint32_t burning;
static jmp_buf death;

void fail(const char *format, ...)
{
	va_list values;
	fflush(stdout);
	fprintf(stderr, "FAILED  seed %llu, operation %llu (%s): ", (unsigned long long)world_seed, (unsigned long long)world_op,
	        world_verb);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
#ifdef FUZZER
	fputc('\n', stderr);
#else
	fprintf(stderr, "\nagain:  %s --count 1 --seed %llu --trace\n", program_invocation_short_name, (unsigned long long)world_seed);
#endif
	abort();
}

/* Who dies while it allocates leaks: that is no fault of the core's. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

void world_note(const char *format, ...)
{
	va_list values;
	printf("%llu %s: ", (unsigned long long)world_op, world_verb);
	va_start(values, format);
	vprintf(format, values);
	va_end(values);
	putchar('\n');
}

/* ---- time ---- */

uint64_t world_now_ns(void) { return now_ns; }
uint64_t world_now_ms(void) { return now_ns / 1000000; }
void world_pass(uint64_t ns) { now_ns += ns; }

/* The core is compiled to call this: a wrap at linking would take the fuzzer's own clock away as well. */
int world_clock_gettime(clockid_t id, struct timespec *out);
int world_clock_gettime(clockid_t id, struct timespec *out)
{
	uint64_t at = id == CLOCK_MONOTONIC ? now_ns + (spun += 1000) : now_ns;
	out->tv_sec = (time_t)(at / 1000000000u);
	out->tv_nsec = (long)(at % 1000000000u);
	return 0;
}

/* Nobody would come to wake us. */
int __wrap_mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t ns);
int __wrap_mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t ns)
{
	(void)word, (void)seen, (void)ns;
	return EINTR;
}

/* ---- who lives ---- */

void __wrap_mqi_identity_self(struct mqi_identity *out);
void __wrap_mqi_identity_self(struct mqi_identity *out)
{
	*out = (struct mqi_identity){.pid = pid_of[joining], .start_ticks = 1, .pid_ns = 1};
}

/* The locks in the file do not tell peers of one process apart, so the core comes on to ask this. */
bool __wrap_mqi_identity_alive(const struct mqi_identity *who);
bool __wrap_mqi_identity_alive(const struct mqi_identity *who)
{
	for (unsigned i = 0; i < PEERS_MOST; i++)
		if (pid_of[i] == who->pid) return !gone[i];
	return false;
}

int peer_join(unsigned peer, mqshm_t **out)
{
	joining = peer;
	pid_of[peer] = FIRST_PID + lives++;
	gone[peer] = false;
	return mqshm_attach(segment, "fuzz", 0, out);
}

void peer_dies(unsigned peer, mqshm_t *h)
{
	gone[peer] = true;
	mqshm_abandon(h);
}

void world_adopt(int fd)
{
	segment = fd;
	now_ns = 1000000000000000ull; /* all as in the first broker: a seed says everything */
	spun = lives = joining = 0;
	memset(pid_of, 0, sizeof pid_of);
}

int world_open(const mqshm_config *config)
{
	world_adopt(memfd_create("mqshm-fuzz", MFD_CLOEXEC));
	must(segment >= 0, "no memory file: %s", strerror(errno));
	must(mqshm_format(segment, UNITS, config) == MQSHM_OK, "format: %s", mqshm_reason());
	return segment;
}

void world_close(void) { close(segment); }

/* ---- death ---- */

void mqi_hook(enum mqi_access kind, const void *word, const char *file, int line)
{
	(void)kind, (void)word, (void)file, (void)line;
	if (world_access) world_access();
	if (burning == 0 || --burning != 0) return;
	uint32_t holder;
	memcpy(&holder, &control_of->control, sizeof holder); /* a mutex begins with its holder's thread */
	if (holder) burning = 1;
	else longjmp(death, 1);
}

void mqi_hook_after(enum mqi_access kind, const void *word, const char *file, int line)
{
	mqi_hook(kind, word, file, line);
}

bool survives(mqshm_t *h, uint32_t fuse, int (*operation)(void *with), void *with, int *result)
{
	if (setjmp(death)) return false;
	control_of = h->hdr;
	burning = fuse;
	*result = operation(with);
	burning = 0;
	return true;
}
