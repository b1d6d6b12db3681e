/* Time, as the kernel gives it. Wall time is what other processes and people see (published, expires); monotonic time
 * is for waiting. */
#ifndef MQI_CLOCK_H
#define MQI_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t mqi_clock_ns(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ns since 1970, in steps of a scheduler tick (1 to 4 ms): a third of the precise clock's cost. */
static inline uint64_t mqi_wall_coarse_ns(void) { return mqi_clock_ns(CLOCK_REALTIME_COARSE); }
static inline uint64_t mqi_wall_ns(void) { return mqi_clock_ns(CLOCK_REALTIME); }
static inline uint64_t mqi_mono_ns(void) { return mqi_clock_ns(CLOCK_MONOTONIC); }
/* Leases and delays: boot time goes on while the machine is suspended and is the same for all processes. */
static inline uint64_t mqi_boot_ns(void) { return mqi_clock_ns(CLOCK_BOOTTIME); }
static inline uint64_t mqi_boot_ms(void) { return mqi_boot_ns() / 1000000u; }
/* Not before so many have passed: a part of the present one has gone already. */
static inline uint64_t mqi_boot_ms_in(uint64_t ms) { return mqi_boot_ms() + 1 + ms; }
/* When the wall clock will say so, as far as it goes evenly: who waits for that looks at the wall clock again. */
static inline uint64_t mqi_boot_ms_at(uint64_t wall_ns)
{
	uint64_t now = mqi_wall_ns();
	return (mqi_boot_ns() + (wall_ns > now ? wall_ns - now : 0) + 999999u) / 1000000u;
}

#endif
