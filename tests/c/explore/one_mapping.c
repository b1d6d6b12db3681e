#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "one_mapping.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/handle.h"

#define UNITS 64
#define FIRST_PID 1000u

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t size);
void __wrap_mqi_identity_self(struct mqi_identity *out);
bool __wrap_mqi_identity_alive(const struct mqi_identity *who);

static int segment = -1;
static unsigned char *base;
static uint64_t span;
static unsigned attaching;
static uint32_t dead[MQT_PROCESSES];

unsigned char *mqt_base(void) { return base; }
uint64_t mqt_span(void) { return span; }

/* Formatting maps the beginning of the file, attaching all of it: the largest mapping serves everybody. */
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fd < 0 || fd != segment) return __real_mmap(at, size, protection, flags, fd, offset);
	if (size <= span) return base;
	void *mapped = __real_mmap(at, size, protection, flags, fd, offset);
	if (mapped == MAP_FAILED) return mapped;
	if (base) __real_munmap(base, span);
	base = mapped;
	span = size;
	return base;
}

int __wrap_munmap(void *at, size_t size)
{
	return at == base ? 0 : __real_munmap(at, size);
}

void __wrap_mqi_identity_self(struct mqi_identity *out)
{
	*out = (struct mqi_identity){.pid = FIRST_PID + attaching, .start_ticks = 1, .pid_ns = 1};
}

/* The locks in the file do not tell peers of one process apart, so the core comes on to ask this. */
bool __wrap_mqi_identity_alive(const struct mqi_identity *who)
{
	uint64_t number = who->pid - FIRST_PID;
	return number < MQT_PROCESSES && !__atomic_load_n(&dead[number], __ATOMIC_ACQUIRE);
}

void mqt_die(unsigned number, bool is) { __atomic_store_n(&dead[number], is, __ATOMIC_RELEASE); }

int mqt_segment(const mqshm_config *config)
{
	if (segment >= 0) {
		__real_munmap(base, span);
		close(segment);
		base = NULL;
		span = 0;
	}
	for (unsigned i = 0; i < MQT_PROCESSES; i++) mqt_die(i, false);
	segment = memfd_create("mqshm-test", MFD_CLOEXEC);
	if (segment < 0 || mqshm_format(segment, UNITS, config) != MQSHM_OK) return -1;
	return segment;
}

int mqt_attach(int fd, unsigned number, mqshm_t **out)
{
	attaching = number;
	return mqshm_attach(fd, "test", 0, out);
}
