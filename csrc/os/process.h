/* Who a process is, and whether it lives: the kernel's word, never a timeout's. */
#ifndef MQI_PROCESS_H
#define MQI_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct mqi_identity {
	uint64_t pid, start_ticks, pid_ns;
};

/* Of this process. start_ticks is field 22 of /proc/self/stat, pid_ns the inode of /proc/self/ns/pid (0 if unknown). */
void mqi_identity_self(struct mqi_identity *out);
/* Whether such a process is there and not a zombie. True where it cannot be told (another pid namespace, no /proc). */
bool mqi_identity_alive(const struct mqi_identity *who);
void mqi_boot_id(uint64_t out[2]); /* zeros where it is unknown */
void mqi_yield(void);              /* lets another thread have the processor */
uint64_t mqi_physical_memory(void); /* bytes */

/* A record lock (POSIX, F_SETLK: per process, not inherited, dropped by the kernel at exit) on one byte of the file.
 * lock: 0, or EAGAIN where another process holds it, or errno. held: whether another process holds it. */
int mqi_byte_lock(int fd, int64_t offset);
void mqi_byte_unlock(int fd, int64_t offset);
bool mqi_byte_held(int fd, int64_t offset);
int64_t mqi_byte_holder(int fd, int64_t offset); /* its pid; 0: no other process; -1: one whose pid is not known here */

/* Rises by one in each forked child, once mqi_fork_watch() was called (it registers with pthread_atfork, once). */
extern uint32_t mqi_forks;
void mqi_fork_watch(void);
static inline uint32_t mqi_fork_count(void) { return mqi_forks; }

/* After this returns, every process's accesses before it are done before any access that follows it in program order
 * elsewhere (membarrier, global). false where the kernel has none. `expedited`, which is microseconds instead of
 * milliseconds, reaches only processes that registered: once each, and again after a fork. */
bool mqi_global_barrier_register(void);
bool mqi_global_barrier(bool expedited);

/* The same among the threads of this process (membarrier, private expedited); it must have been registered, once per
 * process and again after a fork. */
bool mqi_local_barrier_register(void);
void mqi_local_barrier(void);

#endif
