#ifndef MQT_KERNEL_H
#define MQT_KERNEL_H

void kernel_reset(void);
unsigned kernel_slept_through(void); /* sleeps of this execution that only their timeout ended */

#endif
