/* What every operation needs of its handle: the lock, and a reason where it fails. */
#include "shm/handle.h"

#include <stdarg.h>
#include <stdio.h>

#define SPINS 100

static _Thread_local char reason[512];

int mqi_fail(int result, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	vsnprintf(reason, sizeof reason, format, values);
	va_end(values);
	return result;
}

const char *mqshm_reason(void)
{
	return reason;
}

uint32_t mqshm_abi(void)
{
	return MQSHM_ABI;
}

void mqi_back_off(unsigned spins)
{
	if (spins < SPINS) mqi_pause();
	else mqi_yield();
}

int mqi_lock(struct mqshm *h)
{
	uint32_t open = 0;
	for (unsigned spins = 0; !__atomic_compare_exchange_n(&h->lock, &open, 1u, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED); open = 0)
		mqi_back_off(spins++);
	if (__atomic_load_n(&h->bias, __ATOMIC_RELAXED)) {
		__atomic_store_n(&h->bias, NULL, __ATOMIC_RELEASE);
		h->may_bias = false;
		mqi_local_barrier();
		for (unsigned spins = 0; __atomic_load_n(&h->inside, __ATOMIC_ACQUIRE); spins++) mqi_back_off(spins);
	} else if (h->may_bias)
		__atomic_store_n(&h->bias, mqi_thread(), __ATOMIC_RELEASE); /* from its next operation on */
	h->locked = true;
	if (likely(!h->closed)) return MQSHM_OK;
	mqi_unlock(h);
	return MQSHM_CLOSED;
}
