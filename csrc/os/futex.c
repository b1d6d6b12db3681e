#include "os/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/atomic.h"

/* Not FUTEX_PRIVATE: the waker is another process, and the kernel must know the word by its page, not its address. */

int mqi_futex_wait(const uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / 1000000000), .tv_nsec = (long)(timeout_ns % 1000000000) };
	MQI_HOOK(MQI_SYSCALL, word);
	if (syscall(SYS_futex, word, FUTEX_WAIT, seen, timeout_ns < 0 ? NULL : &timeout, NULL, 0) == 0) return 0;
	return errno == ETIMEDOUT || errno == EINTR ? errno : 0;
}

int mqi_futex_wake(const uint32_t *word, int how_many)
{
	MQI_HOOK(MQI_SYSCALL, word);
	return (int)syscall(SYS_futex, word, FUTEX_WAKE, how_many, NULL, NULL, 0);
}
