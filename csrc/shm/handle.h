/* What a process keeps of a broker: where things are, who it is, and its private cursors. Nothing here is shared with
 * other processes; all of it can be forgotten at any instruction. */
#ifndef MQI_HANDLE_H
#define MQI_HANDLE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "mqshm.h"
#include "os/atomic.h"
#include "os/clock.h"
#include "os/process.h"
#include "shm/slip.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define MQI_CLASSES 96
#define MQI_NO_VERSION UINT64_MAX /* what subs_version never is */

/* What waiting has taught: see flow/wait.c. */
struct mqi_spin {
	uint64_t no_yield_until, pause_ns;
	bool yield_first, soon;
	bool idle; /* the last wait slept for a whole slice and nothing came */
	struct mqi_slip slip; /* waits that were over at once */
};

/* Where the next free block of a size class is looked for. */
struct mqi_block_cursor {
	uint64_t unit; /* first unit of the chunk; 0 is none (unit 0 is never a chunk) */
	uint32_t next, end;
	/* of large blocks, see shm/block.c */
	uint64_t round, round_ms; /* bytes gone through since, and when, the round began */
	bool long_enough;         /* the chunks suffice for a round as long as it is to be */
};

/* Small, and what a publish reads of it close together: with thousands of topics in use each cache line more is a miss. */
struct mqshm_topic {
	uint64_t version;          /* subs_version that `targets` was made under, or MQI_NO_VERSION */
	struct mqshm_sub **targets; /* views, ascending rows */
	struct mqshm_sub *only;    /* targets leads here until there have been two */
	struct topic_counters_shm *counters;
	uint32_t count, room;
	uint32_t id, hash;
	struct mqshm_topic *chain;
	uint32_t size;
	char name[];
};

/* A subscription as this process sees it. Pointers are into the mapping and checked when the view is made. */
struct mqshm_sub {
	struct mqshm *h;
	struct mqshm_sub *older;            /* next in the handle's old_views */
	struct sub_shm *shm;
	uint64_t word;                      /* OPEN, owner, gen: what shm->word must still be */
	struct slot_shm *slots;
	uint64_t *times;                    /* a lease or due time per slot; memory only once `times_ready` says so */
	uint64_t *rings[MQI_PRIORITIES];
	uint64_t *free_hints, *again_hints, *due_hints;
	struct sub_counters_shm *counters;
	uint64_t mask;                      /* cells - 1 */
	uint32_t ring_shift;                /* log2(cells) */
	uint32_t capacity, groups, row;
	uint32_t ack, overflow, prefetch;
	/* private cursors, under the handle's lock */
	uint64_t head[MQI_PRIORITIES], tail[MQI_PRIORITIES];
	uint64_t head_seen[MQI_PRIORITIES]; /* shared head when the ring was last found to have room */
	uint64_t ring_ready[MQI_PRIORITIES]; /* positions whose cells are known to be memory */
	uint32_t times_ready;               /* slots whose times are known to be memory */
	uint32_t slots_ready;               /* slots known to be memory */
	uint32_t next_slot, end_slot;       /* the group that this process allocates from */
	uint32_t next_group;                /* where the next one is looked for */
	uint32_t opened;                    /* times it was handed out */
	uint32_t held;                      /* deliveries leased and not settled, for prefetch */
	uint32_t used;                      /* priorities known to be in use */
	bool touched;                       /* the peer row's bit is set */
	bool woken;                         /* slept, and has not received since */
	uint64_t looked_ns;                 /* when this process last found every slot taken by a look at all words */
	struct mqi_slip slip;               /* groups begun while receivers were freeing them */
	uint64_t published_then;            /* counters->published when the last one was begun */
	bool to_look;                       /* at every word, however lately that was: somebody wants to know, not to wait */
	uint32_t ticked;                    /* slot up to which hints were last renewed */
	struct mqi_spin spin;
};

struct mqshm {
	unsigned char *base;
	struct header_shm *hdr;
	struct peer_shm *row;
	uint64_t peers_offset, subs_offset, units_offset, hints_offset, buckets_offset; /* checked copies of the header's */
	uint64_t areas[HEADER_AREAS], counters_offset, sheet_size, fixed_size;          /* and these */
	uint64_t span, units;
	unsigned peer;
	uint32_t lock;               /* between threads of this process; held for one operation, never while waiting */
	uint32_t inside;             /* the thread that has the bias is in an operation, without the lock */
	void *bias;                  /* thread that needs no lock; NULL: none */
	bool may_bias;               /* until a second thread comes */
	bool locked;                 /* whoever is in an operation came in by the lock */
	uint32_t outside;            /* threads that need the mapping, or the file, outside of an operation */
	bool closed;                 /* the mapping is gone, and nobody comes in any more */
	uint32_t forks;              /* mqi_fork_count() of the process that it belongs to */
	int fd;
	uint64_t inc;
	uint64_t next_seq, end_seq;  /* this process's block of sequence numbers */
	uint64_t looked_ns;          /* wall, coarse: when this process last looked for a supervisor; atomic, for it is read and
	                                written outside of operations too */
	struct mqi_identity identity;
	char program[64];
	uint32_t role;
	struct mqi_block_cursor cursors[MQI_CLASSES];
	uint32_t growing[MQI_CLASSES]; /* chunk of the class that this process added memory to last; 0 is none */
	uint64_t chunks_seen;        /* chunks_version that both are of */
	uint64_t *use_seen;          /* per unit, for shm/trim.c */
	uint64_t use_room, trim_failed_ms, ids_again_ms;
	struct mqi_claim *claims;    /* scratch of publish: a slot per receiver */
	uint32_t claim_room;
	struct mqshm_sub *views[MQI_SUBS];
	struct mqshm_sub *old_views; /* of rows that live again: kept until the handle ends */
	struct mqshm_topic **topics; /* hash table of what this process has used */
	uint32_t topic_room, topic_count;
	uint64_t max_message_size, message_ttl_ms, memory_limit, spin_ns, overflow, dedup_window_ms; /* of the configuration under config_seen */
	bool uncounted, one_priority; /* metrics, and the priority queue, are switched off */
	bool dead_expired;           /* what expires becomes a dead letter too */
	uint32_t dead_size;          /* of the dead-letter topic's name, dead_name; 0: there is none */
	char *dead_name;
	struct mqshm_topic *dead;    /* once it was used */
	uint64_t config_seen;
	uint32_t rung;               /* times that the process rang its own bell: its sleepers are to come back */
	uint32_t sleepers;           /* threads of this process that sleep, or are about to */
	struct mqi_spin spin;
	uint64_t reaped_ms;          /* when this process last looked for deaths */
	char **command;              /* by which it may start a supervisor; NULL: it may not */
	bool supervises;             /* it was elected */
	uint32_t heard;              /* supervisor: its bell, as of the last mqshm_watch, less what was rung for times */
	uint32_t ticked;             /* supervisor: row whose hints are to be renewed next */
	uint64_t trimmed_ms, kept_ms; /* supervisor: when it last looked for memory to give back, and at hints */
	struct topic_counters_shm uncounted_topic; /* where there is no memory for counters */
	struct sub_counters_shm uncounted_sub;
};

/* The handle's lock between the threads of this process, and with it the row's `busy`: while that is 0 no thread of the
 * process holds an offset that it read from shared memory, so memory that nothing refers to any more can be given back.
 *
 * A locked instruction drains the stores before it, and those of a message are on their way to another core; so the
 * lock is biased to the thread that uses the handle first. That thread says `inside`, then looks whether it still has
 * the bias; the first other thread takes the bias away, has the kernel put a barrier into every thread of the process,
 * and waits until it is not inside. From then on all threads use the lock. Of a handle that was closed nobody has the
 * bias, and nobody gets the lock: MQSHM_CLOSED. */
int mqi_lock(struct mqshm *h);
/* What is waited for is a thread of this process inside one short operation, or one that lost its processor there. */
void mqi_back_off(unsigned spins);
static inline void *mqi_thread(void) { return __builtin_thread_pointer(); }
static inline int mqi_enter(struct mqshm *h)
{
	if (unlikely(h->forks != mqi_fork_count())) return MQSHM_FORKED;
	if (likely(__atomic_load_n(&h->bias, __ATOMIC_RELAXED) == mqi_thread())) {
		__atomic_store_n(&h->inside, 1u, __ATOMIC_RELAXED);
		__atomic_signal_fence(__ATOMIC_SEQ_CST); /* mqi_local_barrier is the other half */
		if (likely(__atomic_load_n(&h->bias, __ATOMIC_ACQUIRE) == mqi_thread())) {
			mqi_store_rlx(&h->row->busy, 1u);
			return MQSHM_OK;
		}
		__atomic_store_n(&h->inside, 0u, __ATOMIC_RELEASE);
	}
	int rc = mqi_lock(h);
	if (likely(rc == MQSHM_OK)) mqi_store_rlx(&h->row->busy, 1u);
	return rc;
}
static inline void mqi_unlock(struct mqshm *h)
{
	h->locked = false;
	__atomic_store_n(&h->lock, 0u, __ATOMIC_RELEASE);
}
static inline void mqi_leave(struct mqshm *h)
{
	mqi_store_rel(&h->row->busy, 0u);
	if (unlikely(h->locked)) mqi_unlock(h);
	else __atomic_store_n(&h->inside, 0u, __ATOMIC_RELEASE);
}

/* The thread's last failure, for people. Returns `result`, so that a failing line reads: return mqi_fail(...). */
int mqi_fail(int result, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Counters are written by this process alone. */
#define MQI_COUNT(c, by) mqi_store_rlx(&(c), (c) + (by))

/* Reads the configuration again where it has changed (a load and a compare otherwise). */
void mqi_config_refresh(struct mqshm *h);
static inline void mqi_config_look(struct mqshm *h)
{
	if (unlikely(mqi_load_acq(&h->hdr->config_version) != h->config_seen)) mqi_config_refresh(h);
}

#endif
