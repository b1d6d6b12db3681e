/* Copying payloads. A C library may copy what is larger than some KiB by the processor's string instruction, which is good
 * from and to a core's own cache, and slow (half the rate, on Zen 2 to 4) where the lines come from another core's: that is
 * what the payload of a message is. A loop of loads and stores is good at both.
 */
#ifndef MQI_COPY_H
#define MQI_COPY_H

#include <stdint.h>
#include <string.h>

#define MQI_COPY_LINES 4096u /* below, a C library does not think of it */

static inline void mqi_copy(void *to, const void *from, uint64_t size)
{
	typedef uint64_t lane __attribute__((vector_size(16), aligned(1), may_alias));
	unsigned char *d = to;
	const unsigned char *s = from;
	if (size >= MQI_COPY_LINES)
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
