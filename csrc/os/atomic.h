/* The only door to shared memory's words.
 *
 * Every access to a word that another process may touch goes through one of these, so that one place says what the
 * machine must do and one place can watch it: with MQSHM_HOOKS defined (tests only), each access first calls
 * mqi_hook(), which may kill the process there, or hand the processor to another one.
 *
 * Orders are named, never implied: rlx (none), acq, rel, and sc for the places that need a store before a later load.
 * Compare-and-swap is acquire and release both on success; it does not fail spuriously.
 */
#ifndef MQI_ATOMIC_H
#define MQI_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef MQSHM_HOOKS
enum mqi_access { MQI_LOAD, MQI_STORE, MQI_CAS, MQI_FENCE, MQI_SYSCALL };
void mqi_hook(enum mqi_access kind, const void *word, const char *file, int line);
void mqi_hook_after(enum mqi_access kind, const void *word, const char *file, int line);
#define MQI_HOOK(kind, p) mqi_hook(kind, p, __FILE__, __LINE__)
#define MQI_HOOK_AFTER(kind, p) mqi_hook_after(kind, p, __FILE__, __LINE__)
#else
#define MQI_HOOK(kind, p) ((void)0)
#define MQI_HOOK_AFTER(kind, p) ((void)0)
#endif

#define mqi_load_rlx(p) (__extension__({ MQI_HOOK(MQI_LOAD, p); __atomic_load_n(p, __ATOMIC_RELAXED); }))
#define mqi_load_acq(p) (__extension__({ MQI_HOOK(MQI_LOAD, p); __atomic_load_n(p, __ATOMIC_ACQUIRE); }))
#define mqi_load_sc(p) (__extension__({ MQI_HOOK(MQI_LOAD, p); __atomic_load_n(p, __ATOMIC_SEQ_CST); }))

#define mqi_store_rlx(p, v)                          \
	do {                                             \
		MQI_HOOK(MQI_STORE, p);                      \
		__atomic_store_n(p, (v), __ATOMIC_RELAXED);  \
		MQI_HOOK_AFTER(MQI_STORE, p);                \
	} while (0)
#define mqi_store_rel(p, v)                          \
	do {                                             \
		MQI_HOOK(MQI_STORE, p);                      \
		__atomic_store_n(p, (v), __ATOMIC_RELEASE);  \
		MQI_HOOK_AFTER(MQI_STORE, p);                \
	} while (0)

/* Shared words are 64 or 32 bits wide; each width has its functions, so that the expected value needs no address. */
#define MQI_RMW(T, S)                                                                                      \
	static inline bool mqi_cas##S##_at(T *p, T old, T now, const char *file, int line)                     \
	{                                                                                                      \
		(void)file;                                                                                        \
		(void)line;                                                                                        \
		MQI_HOOK_AT(MQI_CAS, p, file, line);                                                               \
		bool won = __atomic_compare_exchange_n(p, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);   \
		if (won) MQI_HOOK_AFTER_AT(MQI_CAS, p, file, line);                                                \
		return won;                                                                                        \
	}                                                                                                      \
	static inline T mqi_xchg##S##_at(T *p, T now, const char *file, int line)                              \
	{                                                                                                      \
		(void)file;                                                                                        \
		(void)line;                                                                                        \
		MQI_HOOK_AT(MQI_CAS, p, file, line);                                                               \
		T was = __atomic_exchange_n(p, now, __ATOMIC_SEQ_CST);                                             \
		MQI_HOOK_AFTER_AT(MQI_CAS, p, file, line);                                                         \
		return was;                                                                                        \
	}                                                                                                      \
	static inline T mqi_add##S##_at(T *p, T by, const char *file, int line)                                \
	{                                                                                                      \
		(void)file;                                                                                        \
		(void)line;                                                                                        \
		MQI_HOOK_AT(MQI_CAS, p, file, line);                                                               \
		T was = __atomic_fetch_add(p, by, __ATOMIC_SEQ_CST);                                               \
		MQI_HOOK_AFTER_AT(MQI_CAS, p, file, line);                                                         \
		return was;                                                                                        \
	}                                                                                                      \
	static inline T mqi_or##S##_at(T *p, T bits, const char *file, int line)                               \
	{                                                                                                      \
		(void)file;                                                                                        \
		(void)line;                                                                                        \
		MQI_HOOK_AT(MQI_CAS, p, file, line);                                                               \
		T was = __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);                                              \
		MQI_HOOK_AFTER_AT(MQI_CAS, p, file, line);                                                         \
		return was;                                                                                        \
	}                                                                                                      \
	static inline T mqi_and##S##_at(T *p, T bits, const char *file, int line)                              \
	{                                                                                                      \
		(void)file;                                                                                        \
		(void)line;                                                                                        \
		MQI_HOOK_AT(MQI_CAS, p, file, line);                                                               \
		T was = __atomic_fetch_and(p, bits, __ATOMIC_SEQ_CST);                                             \
		MQI_HOOK_AFTER_AT(MQI_CAS, p, file, line);                                                         \
		return was;                                                                                        \
	}

#ifdef MQSHM_HOOKS
#define MQI_HOOK_AT(kind, p, file, line) mqi_hook(kind, p, file, line)
#define MQI_HOOK_AFTER_AT(kind, p, file, line) mqi_hook_after(kind, p, file, line)
#else
#define MQI_HOOK_AT(kind, p, file, line) ((void)0)
#define MQI_HOOK_AFTER_AT(kind, p, file, line) ((void)0)
#endif

MQI_RMW(uint64_t, 64)
MQI_RMW(uint32_t, 32)

#define mqi_cas64(p, old, now) mqi_cas64_at(p, old, now, __FILE__, __LINE__)
#define mqi_cas32(p, old, now) mqi_cas32_at(p, old, now, __FILE__, __LINE__)
#define mqi_xchg64(p, now) mqi_xchg64_at(p, now, __FILE__, __LINE__)
#define mqi_xchg32(p, now) mqi_xchg32_at(p, now, __FILE__, __LINE__)
#define mqi_add64(p, by) mqi_add64_at(p, by, __FILE__, __LINE__)
#define mqi_add32(p, by) mqi_add32_at(p, by, __FILE__, __LINE__)
#define mqi_or64(p, bits) mqi_or64_at(p, bits, __FILE__, __LINE__)
#define mqi_or32(p, bits) mqi_or32_at(p, bits, __FILE__, __LINE__)
#define mqi_and64(p, bits) mqi_and64_at(p, bits, __FILE__, __LINE__)
#define mqi_and32(p, bits) mqi_and32_at(p, bits, __FILE__, __LINE__)

/* A store before it is seen by all before a load after it is made: what sleeping and waking need (see shm/event.h). */
#define mqi_fence_sc()                              \
	do {                                            \
		MQI_HOOK(MQI_FENCE, 0);                     \
		__atomic_thread_fence(__ATOMIC_SEQ_CST);    \
	} while (0)

/* Loads before it, of whatever was copied, are made before loads after it: is what was copied still what it was? */
#define mqi_fence_acq()                          \
	do {                                         \
		MQI_HOOK(MQI_FENCE, 0);                  \
		__atomic_thread_fence(__ATOMIC_ACQUIRE); \
	} while (0)

/* As mqi_fence_sc where a compare-and-swap or an exchange stands just before: on x86 that was the fence. */
#if defined(__x86_64__) || defined(__i386__)
#define mqi_fence_after_rmw()                      \
	do {                                           \
		MQI_HOOK(MQI_FENCE, 0);                    \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);   \
	} while (0)
#else
#define mqi_fence_after_rmw() mqi_fence_sc()
#endif

static inline void mqi_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("isb" ::: "memory");
#else
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Between looks at a line that another core writes: it stays there meanwhile. */
static inline void mqi_pause_a_little(void)
{
	for (unsigned i = 0; i < 32; i++) mqi_pause();
}

#endif
