#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "world.h"

#define ROOM (32ull << 20)  /* that a round may make memory by fallocate; more is refused, as a full /dev/shm would */
#define STRAY (256ull << 20) /* and by touching what a damaged word says is memory */
#define GUARD (4ull << 30)  /* address space on both sides of a mapping in which nothing is; an info's size has 32 bits */

static uint64_t committed, at_begin;
static int file;

/* ---- what went wrong, in a handler ---- */

static void say(const char *what, const void *where)
{
	char line[256];
	int n = snprintf(line, sizeof line, "FAILED  seed %llu, operation %llu (%s): %s at %p\nagain:  fuzz_damage --count 1 --seed %llu --trace\n",
	                 (unsigned long long)world_seed, (unsigned long long)world_op, world_verb, what, where, (unsigned long long)world_seed);
	if (write(2, line, (size_t)n) < 0) _exit(3);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif

#ifndef SANITIZED
static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	say(strsignal(number), info->si_addr);
	signal(number, SIG_DFL);
	raise(number);
}
#else
static void on_report(void) { say("a sanitizer's finding", NULL); }
void __sanitizer_set_death_callback(void (*callback)(void));
#endif

static void on_time(int number)
{
	(void)number;
	say("no end", NULL);
	abort(); /* a core or a debugger says where */
}

void guard_install(void)
{
	signal(SIGPROF, on_time);
#ifdef SANITIZED
	__sanitizer_set_death_callback(on_report);
#else
	static char stack[65536];
	const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
	struct sigaction act = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
	act.sa_sigaction = on_fault;
	for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++) sigaction(faults[i], &act, NULL);
#endif
}

/* ---- a round ---- */

static uint64_t size_of(int fd)
{
	struct stat st;
	must(fstat(fd, &st) == 0, "%s", strerror(errno));
	return (uint64_t)st.st_blocks * 512;
}

void guard_begin(unsigned ms, int fd)
{
	struct itimerval end = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	setitimer(ITIMER_PROF, &end, NULL);
	committed = 0;
	file = fd;
	at_begin = size_of(fd);
}

void guard_end(void)
{
	uint64_t now = size_of(file);
	setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
	must(now < at_begin + committed + STRAY, "%llu bytes became memory, %llu were asked for", (unsigned long long)(now - at_begin),
	     (unsigned long long)committed);
}

/* ---- what the core asks the kernel for ---- */

int __real_mqi_commit(int fd, uint64_t offset, uint64_t size);
int __wrap_mqi_commit(int fd, uint64_t offset, uint64_t size);
int __wrap_mqi_commit(int fd, uint64_t offset, uint64_t size)
{
	if (size > ROOM - committed) return ENOSPC;
	committed += size;
	return __real_mqi_commit(fd, offset, size);
}

/* Whatever lies outside of the segment faults. */
int __wrap_mqi_map(int fd, uint64_t size, unsigned char **base);
int __wrap_mqi_map(int fd, uint64_t size, unsigned char **base)
{
	unsigned char *room = mmap(NULL, size + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED) return errno;
	void *at = mmap(room + GUARD, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (at == MAP_FAILED) return errno;
	*base = at;
	return 0;
}

void __wrap_mqi_unmap(unsigned char *base, uint64_t size);
void __wrap_mqi_unmap(unsigned char *base, uint64_t size) { munmap(base - GUARD, size + 2 * GUARD); }
