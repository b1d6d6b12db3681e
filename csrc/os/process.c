#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/process.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/atomic.h"

/* The first `room - 1` bytes of a small file, terminated. */
static bool read_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return false;
	ssize_t got = read(fd, text, room - 1);
	close(fd);
	if (got <= 0) return false;
	text[got] = 0;
	return true;
}

struct stat_line {
	char state;
	uint64_t threads, start_ticks;
};

/* /proc/PID/stat: the name (2) may hold spaces and parentheses, so fields are counted from the last ')'. */
static bool read_stat(const char *path, struct stat_line *out)
{
	char text[1024];
	if (!read_text(path, text, sizeof text)) return false;
	const char *at = strrchr(text, ')');
	if (!at || at[1] != ' ' || !at[2]) return false;
	at += 2;
	out->state = *at;
	for (int field = 3; field < 22; field++) {
		if (field == 20) out->threads = strtoull(at, NULL, 10);
		at = strchr(at, ' ');
		if (!at) return false;
		at++;
	}
	out->start_ticks = strtoull(at, NULL, 10);
	return true;
}

static uint64_t pid_namespace(void)
{
	struct stat st;
	return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void mqi_identity_self(struct mqi_identity *out)
{
	struct stat_line line = { 0 };
	read_stat("/proc/self/stat", &line);
	out->pid = (uint64_t)getpid();
	out->start_ticks = line.start_ticks;
	out->pid_ns = pid_namespace();
}

bool mqi_identity_alive(const struct mqi_identity *who)
{
	if (who->pid_ns == 0 || who->pid_ns != pid_namespace() || who->pid == 0 || who->pid > INT32_MAX) return true;
	char path[40];
	struct stat_line line;
	snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", who->pid);
	/* Unreadable is not dead: /proc may hide other users' processes. */
	if (!read_stat(path, &line)) return kill((pid_t)who->pid, 0) == 0 || errno != ESRCH;
	if (who->start_ticks != 0 && line.start_ticks != who->start_ticks) return false;
	/* A process whose first thread has ended looks like a zombie while its other threads go on. */
	return !((line.state == 'Z' || line.state == 'X') && line.threads <= 1);
}

void mqi_boot_id(uint64_t out[2])
{
	char text[64];
	unsigned digits = 0;
	out[0] = out[1] = 0;
	if (!read_text("/proc/sys/kernel/random/boot_id", text, sizeof text)) return;
	for (const char *at = text; *at && digits < 32; at++) {
		if (!isxdigit((unsigned char)*at)) continue;
		unsigned value = *at <= '9' ? (unsigned)(*at - '0') : (unsigned)(tolower((unsigned char)*at) - 'a') + 10;
		out[digits / 16] = out[digits / 16] << 4 | value;
		digits++;
	}
}

void mqi_yield(void)
{
	sched_yield();
}

uint64_t mqi_physical_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

static int record_lock(int fd, int command, short type, int64_t offset, struct flock *lock)
{
	*lock = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1 };
	MQI_HOOK(MQI_SYSCALL, 0);
	return fcntl(fd, command, lock) == 0 ? 0 : errno;
}

int mqi_byte_lock(int fd, int64_t offset)
{
	struct flock lock;
	int error = record_lock(fd, F_SETLK, F_WRLCK, offset, &lock);
	return error == EACCES ? EAGAIN : error;
}

void mqi_byte_unlock(int fd, int64_t offset)
{
	struct flock lock;
	record_lock(fd, F_SETLK, F_UNLCK, offset, &lock);
}

bool mqi_byte_held(int fd, int64_t offset)
{
	struct flock lock;
	/* Where the kernel cannot say, nobody is called dead. */
	return record_lock(fd, F_GETLK, F_WRLCK, offset, &lock) != 0 || lock.l_type != F_UNLCK;
}

int64_t mqi_byte_holder(int fd, int64_t offset)
{
	struct flock lock;
	if (record_lock(fd, F_GETLK, F_WRLCK, offset, &lock) != 0) return -1;
	if (lock.l_type == F_UNLCK) return 0;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

uint32_t mqi_forks;

static void count_fork(void)
{
	mqi_forks++; /* the child has one thread */
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

void mqi_fork_watch(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, watch_forks);
}

bool mqi_global_barrier_register(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool mqi_global_barrier(bool expedited)
{
	MQI_HOOK(MQI_SYSCALL, 0);
	return syscall(SYS_membarrier, expedited ? MEMBARRIER_CMD_GLOBAL_EXPEDITED : MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

bool mqi_local_barrier_register(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void mqi_local_barrier(void)
{
	MQI_HOOK(MQI_SYSCALL, NULL);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) mqi_global_barrier(false);
}
