/* Between a damaged segment and this process: what it may cost, and what happens where it is too much. */
#ifndef FUZZ_GUARD_H
#define FUZZ_GUARD_H

#include <stdbool.h>
#include <stdint.h>

/* Faults, aborts and sanitizers' findings from here on say which round it was, and end the process. */
void guard_install(void);
/* A round begins: so much processor time and memory it may have. Over the time is a spin. */
void guard_begin(unsigned ms, int fd);
/* Fails where the file has become larger than what was asked for: something was touched that is not memory. */
void guard_end(void);

#endif
