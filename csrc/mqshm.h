/* mqshm's C API: a message broker for the processes of one machine, in one shared-memory segment.
 *
 * The lines between the two markers are also read by cffi, so they hold plain declarations only. Strings are bytes with
 * a length and need no terminator. Times are nanoseconds or milliseconds as their names say; `wall` is since 1970.
 * Functions return a mqshm_result; what went wrong, with its values, is then in mqshm_reason(). Nothing here sleeps but
 * the functions whose name says wait. A handle may be used from several threads.
 */
#ifndef MQSHM_H
#define MQSHM_H

#include <stddef.h>
#include <stdint.h>

/* cdef begin */
enum mqshm_result {
	MQSHM_OK = 0,
	MQSHM_EMPTY = 1,        /* no message waits */
	MQSHM_FULL = 2,         /* a subscription that matches has no free slot */
	MQSHM_NO_MEMORY = 3,    /* the broker's limit, or /dev/shm, has no room */
	MQSHM_TOO_LARGE = 4,    /* over max_message_size, or more than a slot can hold */
	MQSHM_LEASE_LOST = 5,   /* the delivery is not this caller's any more */
	MQSHM_CLOSED = 6,       /* the subscription was deleted */
	MQSHM_CORRUPT = 7,      /* the segment holds what no mqshm wrote */
	MQSHM_VERSION = 8,      /* another layout version, machine or file */
	MQSHM_TOO_MANY = 9,     /* peers, subscriptions or topics */
	MQSHM_INVALID = 10,     /* an argument */
	MQSHM_EXISTS = 11,
	MQSHM_NOT_FOUND = 12,
	MQSHM_FORKED = 13,      /* the handle, lease or loan belongs to the parent process */
	MQSHM_SYSTEM = 14,      /* a system call failed */
	MQSHM_TIMEOUT = 15,
	MQSHM_DUPLICATE = 17,   /* a message of this id was published within dedup_window */
	MQSHM_INTERRUPTED = 16  /* a signal came while waiting: look at it, then wait again */
};
enum mqshm_ack { MQSHM_ACK_NONE = 0, MQSHM_ACK_REQUIRED = 1, MQSHM_ACK_TIMEOUT = 2 };
enum mqshm_role {
	MQSHM_USER = 0,
	MQSHM_SUPERVISOR = 1,   /* started by a user, ends with the last of them */
	MQSHM_FOREGROUND = 2    /* a supervisor that somebody runs, and stops */
};
enum mqshm_overflow { MQSHM_BLOCK = 0, MQSHM_REJECT = 1, MQSHM_DROP_OLDEST = 2, MQSHM_DROP_NEW = 3, MQSHM_DROP_LOWEST = 4 };

/* What can go wrong in a process, as it is counted. */
enum mqshm_trouble {
	MQSHM_TROUBLE_FULL = 0,       /* a publish that found a subscription full */
	MQSHM_TROUBLE_MEMORY = 1,     /* no memory: the limit, or /dev/shm */
	MQSHM_TROUBLE_LEASE = 2,      /* a lease was over when its message was settled */
	MQSHM_TROUBLE_CORRUPT = 3,    /* the segment holds what no mqshm wrote */
	MQSHM_TROUBLE_OTHER = 4,      /* too many of something, a system call */
	MQSHM_TROUBLE_PANIC = 5,      /* a handler or an observer raised */
	MQSHM_TROUBLES = 6
};
/* The high-water mark, in percent of max_memory_usage: passed at the one, left below the other. */
enum mqshm_high_water { MQSHM_MEMORY_HIGH = 80, MQSHM_MEMORY_CLEAR = 70 };

typedef struct mqshm mqshm_t;               /* this process's view of one broker */
typedef struct mqshm_topic mqshm_topic_t;   /* a topic and who receives it, cached in this process; lives as long as the handle */
typedef struct mqshm_sub mqshm_sub_t;       /* this process's view of one subscription */

/* Wall clock, limits: 0 is no limit. All may change at run time; readers see all of a change or none. */
typedef struct {
	uint64_t max_topics, max_subscribers, default_buffer_size, message_ttl_ms, max_message_size, max_memory_usage;
	uint64_t overflow, default_ack_timeout_ms, max_attempts, backoff_min_ms, backoff_max_ms, transaction_timeout_ms;
	uint64_t dedup_window_ms, health_check_interval_ms, enable_metrics, enable_priority_queue, enable_trie_pattern;
	uint64_t spin_ns;               /* how long a wait may spin before it sleeps; 0 never spins */
	uint64_t dead_letter_expired;   /* whether what expires becomes a dead letter too */
	uint64_t dead_letter_size;      /* bytes of dead_letter_topic; 0 is off */
	unsigned char dead_letter_topic[4096];
} mqshm_config;

typedef struct {
	const char *name;               /* of the group; NULL: private to this process */
	uint32_t name_size;
	const char *const *patterns;
	const uint32_t *pattern_sizes;
	uint32_t pattern_count;
	uint32_t capacity;              /* messages waiting, in flight and reserved; 1 to 2^24 - 1 */
	uint32_t ack, overflow, max_attempts, prefetch;
	uint64_t ack_timeout_ms, backoff_min_ms, backoff_max_ms;
} mqshm_sub_options;

/* What goes with a payload. All zero: priority 0's ring is chosen by `ring`, nothing else. */
typedef struct {
	uint32_t ring;                  /* 0 is priority 40, served first; 4 is priority 0 */
	uint32_t delay_ms;
	uint32_t ack_ms;                /* 0: the subscription's */
	uint32_t id_size, headers_size, key_size;
	uint32_t unique;                /* whether the id is published once within dedup_window: else MQSHM_DUPLICATE */
	uint64_t expires_ns;            /* wall; 0: by the configuration's message_ttl; UINT64_MAX: never */
	const void *id, *headers, *key;
} mqshm_envelope;

/* One message on its way to one receiver. The pointers are into the segment: valid until the delivery is settled, or,
 * under MQSHM_ACK_TIMEOUT, until the lease ends: read with mqshm_delivery_read there. */
typedef struct {
	mqshm_sub_t *sub;
	uint64_t word;                  /* the slot's word while leased */
	uint64_t seq, published_ns, expires_ns;
	const unsigned char *data;
	uint64_t size;
	const unsigned char *id, *headers, *key;
	uint32_t id_size, headers_size, key_size;
	uint32_t slot, topic, ack_ms, ring, attempt;
	uint32_t bit;                   /* with block and block_gen: which share of which payload; block 0: in the slot */
	uint64_t block, block_gen;
} mqshm_delivery;

/* Room for a delivery with its payload, to be read as bytes. */
typedef struct {
	mqshm_sub_t *sub;               /* by the caller: where to receive, */
	uint64_t room;                  /* and how much `data` takes */
	mqshm_delivery head;
	unsigned char size;             /* of the payload, where that is under 256 */
	unsigned char data[];
} mqshm_flat;

/* A payload lent to a writer, to be published in place. */
typedef struct {
	unsigned char *data;
	uint64_t size;
	uint64_t block, gen;
	uint64_t room;
} mqshm_loan;

typedef struct {
	uint64_t delivered, settled, redelivered, nacked, rejected, expired, dropped, published;
	uint64_t capacity, waiting, in_flight, later, created_ns;
	uint64_t waiting_by_ring[5];
	uint32_t row, private_owner, ack, overflow, consumers, patterns, text_size;
	char text[1024];                /* name, then patterns, each ended by NUL; cut where longer */
} mqshm_sub_stats;

typedef struct {
	uint64_t memory_used, memory_limit, created_ns, published, topics, subscriptions, peers;
} mqshm_stats;

typedef struct {
	uint32_t row, state, role;
	uint64_t pid, start_ticks, pid_ns, attached_ns;
	uint32_t alive, loans;
	char name[64];
} mqshm_peer_stats;

/* A look at one subscription. `waiting` and what is beside it are counted, or where `sampled` is set, estimated. */
typedef struct {
	uint64_t delivered, settled, redelivered, nacked, rejected, expired, dropped, published;
	uint64_t waiting, in_flight, later, used, capacity, created_ns;
	uint64_t waiting_by_ring[5];
	uint64_t oldest_ns[5];          /* wall, by ring: when the message that waits longest was published; 0: none waits */
	uint64_t word;                  /* changes when the row is used again */
	uint32_t row, private_owner, ack, overflow, max_attempts;
	uint32_t consumers;             /* processes that have it open */
	uint32_t publishers;            /* processes that wait for a free slot */
	uint32_t sampled;
} mqshm_sub_health;

typedef struct {
	uint64_t memory_used, memory_limit;
	uint64_t created_ns, published, bytes;
	uint64_t troubles[6];           /* by enum mqshm_trouble, of all processes so far */
	uint64_t trouble_s[6];          /* wall seconds of the last of each; 0: never */
	uint32_t trouble_peer[6];       /* in whose row it was counted */
	uint32_t topics, subscriptions, peers, publishers /* that wait for memory */;
	uint32_t unwatched;             /* it had a supervisor and has none, while somebody but this process uses it, or this one
	                                   is to start one */
	uint32_t memory_high;           /* past the high-water mark, and not back below yet */
	uint32_t damaged;               /* subscriptions that make no sense */
	char damage[256];               /* what is wrong with the first of them, for people */
} mqshm_health;

/* What fsck found. All but the first line should be 0 in a broker at rest. */
typedef struct {
	uint64_t slots, slots_used, blocks, blocks_used, cells, units_used, peers_live;
	uint64_t bad_words;             /* a state, owner, index or reference that no mqshm writes */
	uint64_t dead_owned;            /* slots and blocks that name a process that is gone */
	uint64_t lost_blocks;           /* live payloads that no delivery refers to */
	uint64_t lost_slots;            /* claimable in a ring, but no cell leads there */
	uint64_t unhinted;              /* to be delivered again, but no hint leads there */
	uint64_t stale_tombs;
	uint64_t repaired;
	char first[256];                /* the first finding, for people */
} mqshm_fsck_report;

const char *mqshm_reason(void);     /* of this thread's last failure */
uint32_t mqshm_abi(void);

/* Segment. `fd` is open for reading and writing, and stays open, and its only descriptor in this process, until
 * mqshm_detach: closing any descriptor of the file would drop the lock that says that the process lives. */
int mqshm_format(int fd, uint64_t units, const mqshm_config *config);
int mqshm_attach(int fd, const char *program, uint32_t role, mqshm_t **out);
void mqshm_detach(mqshm_t *h);      /* gives back all it holds: leases are redelivered, private subscriptions end */
/* The same, but for the handle itself: threads that use it meanwhile are waited for, those that come later get MQSHM_CLOSED
 * from mqshm_publish_flat, mqshm_receive_flat and mqshm_ack_flat. All else must not be called any more but mqshm_detach. */
void mqshm_close(mqshm_t *h);
void mqshm_abandon(mqshm_t *h);     /* forgets the mapping as a death would; for tests and for forked children */
int mqshm_after_fork(mqshm_t *h);   /* in the child: takes a number of its own. Private subscriptions are the parent's */

int mqshm_config_get(mqshm_t *h, mqshm_config *out);
int mqshm_config_set(mqshm_t *h, const mqshm_config *config);
/* The same, where it still is `was`; MQSHM_EXISTS where another process has changed it since. */
int mqshm_config_swap(mqshm_t *h, const mqshm_config *was, const mqshm_config *config);

/* Topics */
int mqshm_topic_open(mqshm_t *h, const char *name, uint32_t size, mqshm_topic_t **out);
int mqshm_topic_name(mqshm_t *h, uint32_t topic, const char **name, uint32_t *size);
int mqshm_topic_count(mqshm_t *h, uint32_t *count); /* numbered from 1 on; a few numbers may not be in use: MQSHM_NOT_FOUND */
int mqshm_topic_stats(mqshm_t *h, uint32_t topic, uint64_t *published, uint64_t *bytes);

/* Publish. All receivers or none. Never waits: MQSHM_FULL and MQSHM_NO_MEMORY come with what to wait for. `e` NULL is
 * an envelope with ring 2 (priority 20) and nothing else. */
int mqshm_publish(mqshm_t *h, mqshm_topic_t *t, const void *data, uint64_t size, const mqshm_envelope *e, uint64_t *seq);
/* One after the other, up to the first that fails: *done are in, with sequence numbers in seqs. envelopes may be NULL. */
int mqshm_publish_batch(mqshm_t *h, mqshm_topic_t *t, uint32_t n, const void *const *data, const uint64_t *sizes,
                        const mqshm_envelope *const *envelopes, uint64_t *seqs, uint32_t *done);
/* After MQSHM_FULL or MQSHM_NO_MEMORY on this topic: until there may be room. May return early. At most ~100 ms.
 * With timeout 0: MQSHM_OK to try once more, by a look at every slot; MQSHM_FULL after that.
 * MQSHM_FULL or MQSHM_NO_MEMORY from here: what is full is configured to reject, so do not wait. */
int mqshm_wait_room(mqshm_t *h, mqshm_topic_t *t, uint64_t size, int64_t timeout_ns);
int mqshm_loan_take(mqshm_t *h, uint64_t size, uint64_t room, mqshm_loan *out);
int mqshm_loan_publish(mqshm_t *h, mqshm_topic_t *t, mqshm_loan *loan, const mqshm_envelope *e, uint64_t *seq);
int mqshm_loan_return(mqshm_t *h, mqshm_loan *loan);

/* All of it or nothing: publishes n messages, and settles m deliveries that this handle leased. Never waits: *failed is
 * the message to wait for room for, or n where that is of no use. keep (NULL: none) says which deliveries are still looked at: those are to be
 * given back by mqshm_release. MQSHM_LEASE_LOST: a delivery was not leased any more; the others still are. */
typedef struct {
	mqshm_topic_t *topic;
	const void *data;
	uint64_t size;
	const mqshm_envelope *envelope; /* NULL as in mqshm_publish */
} mqshm_part;
int mqshm_commit(mqshm_t *h, const mqshm_part *parts, uint32_t n, mqshm_delivery *const *settled, const unsigned char *keep,
                 uint32_t m, uint64_t *seqs, uint32_t *failed);

/* Subscriptions */
int mqshm_sub_create(mqshm_t *h, const mqshm_sub_options *o, mqshm_sub_t **out);
int mqshm_sub_open(mqshm_t *h, const char *name, uint32_t name_size, mqshm_sub_t **out);
int mqshm_sub_options_get(mqshm_sub_t *s, mqshm_sub_options *out); /* name and patterns are left empty: see mqshm_sub_stats */
int mqshm_sub_delete(mqshm_t *h, const char *name, uint32_t name_size);
void mqshm_sub_close(mqshm_sub_t *s); /* a private one ends; of a group this view ends. Its deliveries must be settled first */

/* Receive: leases the next message, highest priority first. Whatever the policy, the caller settles it; a death before
 * that delivers it again. */
int mqshm_receive(mqshm_sub_t *s, mqshm_delivery *out);
int mqshm_receive_batch(mqshm_sub_t *s, uint32_t max, mqshm_delivery *out, uint32_t *got);
/* For bindings to which each argument and each look into a struct is dear. NULL instead of a handle or a subscription is one
 * that was closed, perhaps just now, by another thread. Publish returns the sequence number, or the negative result. */
int64_t mqshm_publish_flat(mqshm_t *h, mqshm_topic_t *t, const void *data, uint64_t size);
/* Copies delivery and payload, and under MQSHM_ACK_NONE settles. 0: all is there. Negative: minus the payload's size, where
 * `size` cannot say it. MQSHM_TOO_LARGE: leased, neither copied nor settled, as it has more than a payload or is over `room`. */
int mqshm_receive_flat(mqshm_flat *out);
int mqshm_ack_flat(const void *d);  /* bytes of a delivery */
/* Until a message may be there in one of them, a signal comes, or the time is over (negative: at most ~100 ms, then
 * MQSHM_TIMEOUT). Without the interpreter's lock. */
int mqshm_wait(mqshm_t *h, mqshm_sub_t *const *subs, uint32_t n, int64_t timeout_ns);
/* The same for an event loop: blocks until a message may be there, at most ~100 ms, without spinning. */
int mqshm_wait_quietly(mqshm_t *h, mqshm_sub_t *const *subs, uint32_t n, int64_t timeout_ns);
int mqshm_ring_bell(mqshm_t *h);    /* this process's waiting threads come back with MQSHM_INTERRUPTED */

int mqshm_ack(mqshm_delivery *d);
int mqshm_ack_batch(mqshm_delivery *d, uint32_t n, uint32_t *acked); /* those whose lease was lost are not counted */
int mqshm_nack(mqshm_delivery *d, uint32_t delay_ms); /* 0: again at once; UINT32_MAX: after the subscription's backoff */
int mqshm_reject(mqshm_delivery *d, const char *reason, uint32_t reason_size);
int mqshm_extend(mqshm_delivery *d, uint64_t ms);
int mqshm_delivery_held(const mqshm_delivery *d);
/* Copies `size` bytes at one of the delivery's pointers while it is leased: MQSHM_LEASE_LOST where it is not any more. */
int mqshm_delivery_read(const mqshm_delivery *d, const void *from, void *to, uint64_t size);
int mqshm_find_held(mqshm_t *h, const char *topic, uint32_t topic_size, const void *id, uint32_t id_size,
                    mqshm_delivery *out);
/* Settled, but the memory is still looked at: hold keeps slot and payload, release gives them back. */
int mqshm_ack_hold(mqshm_delivery *d);
int mqshm_release(mqshm_delivery *d);

/* The supervisor: one process that watches from the side, elected by the kernel. */
int mqshm_supervise(mqshm_t *h);    /* become it: MQSHM_EXISTS where there is one */
/* Stop being it. MQSHM_EXISTS: not yet, for there are users, unless `whatever`; or one came just now. */
int mqshm_resign(mqshm_t *h, int whatever);
/* Ends a broker that has no group and no peer but this one: nobody can attach any more (MQSHM_NOT_FOUND), and its name
 * is to be taken away. MQSHM_EXISTS: somebody, or something, is there. */
int mqshm_end(mqshm_t *h);
/* Removes `path` where it leads to the file of `fd`, a broker that has ended. MQSHM_EXISTS: another process is at it. */
int mqshm_bury(int fd, const char *path);
/* This process may start one, by this program (a path and its arguments, ended by NULL), whenever it
 * finds none. Once for a handle. */
int mqshm_supervisor_command(mqshm_t *h, const char *const *argv);
/* Looks now. MQSHM_OK: there is one. MQSHM_EMPTY: there is none yet, but one was started, by this process or another.
 * MQSHM_SYSTEM: it could not be started. */
int mqshm_supervisor_start(mqshm_t *h);
/* pid of the supervisor; 0: there is none; -1: there is one, in another pid namespace. */
int64_t mqshm_supervised(mqshm_t *h);
int mqshm_users(mqshm_t *h, uint32_t *count);
/* The supervisor's sleep. At the earliest time of any subscription (a lease, a delay or a message that ends), to the
 * millisecond, what is due is done, and memory and hints are looked after meanwhile. MQSHM_OK: somebody attached, or
 * mqshm_ring_bell was called, since the last call; MQSHM_TIMEOUT: the time is over. One watcher is enough; two do no harm. */
int mqshm_watch(mqshm_t *h, int64_t timeout_ns);

/* Upkeep and inspection */
int mqshm_reap(mqshm_t *h, uint32_t *dead);     /* repairs after every process that is gone */
int mqshm_tick(mqshm_t *h);                     /* fires what is due, renews hints */
int mqshm_stats_get(mqshm_t *h, mqshm_stats *out);
int mqshm_sub_stats_get(mqshm_t *h, uint32_t row, mqshm_sub_stats *out); /* MQSHM_NOT_FOUND: row unused; MQSHM_INVALID: past the last */
int mqshm_peer_stats_get(mqshm_t *h, uint32_t row, mqshm_peer_stats *out);
/* The whole broker at one look, cheap enough to be taken each second: subs has room for `room` rows, of which
 * out->subscriptions are filled; leases[row] counts the messages that the peer of that row holds, for 512 rows. Nothing
 * is written but memory_high where the mark is passed. The handle is entered for one subscription at a time. */
int mqshm_health_get(mqshm_t *h, mqshm_health *out, mqshm_sub_health *subs, uint32_t room, uint64_t *leases);
/* Name and patterns of a subscription, each ended by NUL; *size is what they need, which may be more than `room`. */
int mqshm_sub_text(mqshm_t *h, uint32_t row, char *text, uint32_t room, uint32_t *size);
int mqshm_count_trouble(mqshm_t *h, uint32_t kind);
int mqshm_browse(mqshm_t *h, uint32_t row, uint32_t *cursor, mqshm_delivery *out, void *copy, uint64_t copy_size);
int mqshm_purge(mqshm_sub_t *s, uint64_t *purged);
int mqshm_fsck(mqshm_t *h, int repair, mqshm_fsck_report *out);
int mqshm_memory_used(mqshm_t *h, uint64_t *bytes); /* as it is counted against the limit */

/* For the front of the four verbs: the same functions as a table. */
typedef struct {
	uint32_t abi;
	int (*publish)(mqshm_t *, mqshm_topic_t *, const void *, uint64_t, const mqshm_envelope *, uint64_t *);
	int (*publish_batch)(mqshm_t *, mqshm_topic_t *, uint32_t, const void *const *, const uint64_t *,
	                     const mqshm_envelope *const *, uint64_t *, uint32_t *);
	int (*receive)(mqshm_sub_t *, mqshm_delivery *);
	int (*receive_batch)(mqshm_sub_t *, uint32_t, mqshm_delivery *, uint32_t *);
	int (*ack)(mqshm_delivery *);
	int (*ack_batch)(mqshm_delivery *, uint32_t, uint32_t *);
	int (*ack_hold)(mqshm_delivery *);
	int (*release)(mqshm_delivery *);
	int (*nack)(mqshm_delivery *, uint32_t);
	int (*reject)(mqshm_delivery *, const char *, uint32_t);
	int (*extend)(mqshm_delivery *, uint64_t);
	int (*read)(const mqshm_delivery *, const void *, void *, uint64_t);
	int (*wait)(mqshm_t *, mqshm_sub_t *const *, uint32_t, int64_t);
	int (*wait_room)(mqshm_t *, mqshm_topic_t *, uint64_t, int64_t);
	int (*topic_open)(mqshm_t *, const char *, uint32_t, mqshm_topic_t **);
	int (*topic_name)(mqshm_t *, uint32_t, const char **, uint32_t *);
	const char *(*reason)(void);
} mqshm_front_api;
const mqshm_front_api *mqshm_front(void);
/* cdef end */

#define MQSHM_ABI 4u

#endif
