/* Copying payloads. A C library may copy what is larger than some KiB by the processor's string instruction, which is good
 * from and to a core's own cache. Where the lines come from another core's, and that is what the payload of a message is, it
 * is slow on Zen 2 to 4 (half the rate of a loop of loads and stores), and on Intel's the best there is (a tenth more than
 * the loop from 64 KiB up).
 */
#ifndef MQI_COPY_H
#define MQI_COPY_H

#include <stdint.h>
#include <string.h>

#define MQI_COPY_LINES 4096u /* below, a C library does not think of it */

static inline int mqi_copy_by_string(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_is("intel");
#else
	return 0;
#endif
}

static inline void mqi_copy(void *to, const void *from, uint64_t size)
{
	typedef uint64_t lane __attribute__((vector_size(16), aligned(1), may_alias));
	unsigned char *d = to;
	const unsigned char *s = from;
	if (size >= MQI_COPY_LINES && !mqi_copy_by_string())
		for (; size >= 64; d += 64, s += 64, size -= 64) {
			lane a = ((const lane *)s)[0], b = ((const lane *)s)[1], c = ((const lane *)s)[2], e = ((const lane *)s)[3];
			((lane *)d)[0] = a;
			((lane *)d)[1] = b;
			((lane *)d)[2] = c;
			((lane *)d)[3] = e;
			__asm__ volatile("" ::: "memory"); /* else the compiler finds out what the loop is, and calls memcpy */
		}
	if (size) memcpy(d, s, size);
}

#endif
