/* Everything that lives in a segment: each struct, each word, who writes it and who reads it. No functions but the
 * packing of words. docs/internals/memory-layout.md draws it.
 *
 *   segment   header | peers | subscriptions | topics | names | trie | unit table | counters | units ...
 *
 * A unit is 1 MiB of address space. Payload chunks and the regions of subscriptions are made of units. The segment is
 * sparse: address space is laid out once, memory comes by posix_fallocate as it is needed (struct area_shm), and is
 * never touched before. Offsets are bytes from the segment's start; a page is 4096 bytes, whatever the machine's.
 *
 * The one rule: one 64-bit word per slot is the truth. Whoever owns a slot owns it by one compare-and-swap on that
 * word; everything else can be helped forward by anybody, or rebuilt.
 */
#ifndef MQI_LAYOUT_H
#define MQI_LAYOUT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define MQI_MAGIC 0x316d687371716d00ull /* "\0mqqshm1", little end first: another byte order does not match */
#define MQI_LAYOUT_VERSION 1u

#define MQI_LINE 128 /* two cache lines: the neighbour is fetched along */
#define MQI_OWN_LINE __attribute__((aligned(MQI_LINE))) /* starts a group of fields with writers of its own */
#define MQI_PAGE 4096u
#define MQI_UNIT_SHIFT 20
#define MQI_UNIT (1ull << MQI_UNIT_SHIFT)

#define MQI_PEERS 512           /* rows; row 0 is nobody */
#define MQI_SUBS 4096           /* rows */
#define MQI_TOPICS (1u << 18)   /* rows; row 0 is no topic */
#define MQI_TOPIC_BUCKETS (1u << 16)
#define MQI_PRIORITIES 5        /* rings: 0 is priority 40 (served first), 4 is priority 0 */
#define MQI_MAX_CAPACITY (1u << 24) /* slots of one subscription, less one: an index has 24 bits */
#define MQI_GROUP 64            /* slots that share one free hint */
#define MQI_TROUBLES 6          /* kinds of what can go wrong in a process: enum mqshm_trouble */
#define MQI_DUE_SHIFT 9         /* 512 slots share one hint of times: a page of the column */
#define MQI_NAME_MAX 255        /* bytes of a group's name */
#define MQI_TOPIC_MAX 4096      /* bytes of a topic: 1024 characters */

/* ---- words -------------------------------------------------------------------------------------------------------
 * slot      state:4 | owner:12 | gen:40 | attempts:8      one delivery; changes by CAS (or by its owner, in NEW)
 * block     state:4 | holders:20 | gen:40                 one payload; holders is owner:12 unless LIVE, then a bit each
 * cell      cycle:40 | index:24                           cycle(t) = t/N + 1; 0 is "never used"; never reset
 * place     ring:4 | position:60                          where a slot was offered
 * lease     gen:24 | ms:40                                ignored if the tag is not the slot's gen
 * peer      state:8 | incarnation:56
 * sub       state:4 | owner:12 | gen:48
 * topic     owner:12 | gen:20                             gen rises with every claim; all ones: linked
 * ids       turns:62 | void:1 | current:1                 of the tables of message ids (shm/ids.h)
 * watch     peer:12 | ms:52                               who sleeps until when, to fire what is due then
 * room      offset:25 | size:10, in 8 bytes               where a topic's long name is, in the area of names
 * area      state:4 | owner:12 | committed:22 | target:22 | gen:4       pages; owner and the rest differ by state:
 *           ACTIVE, GROWING: granted:1 | changes:11, and gen goes on with the changes: growth is anybody's to finish
 *           CLAIMED, RETIRING: owner, and in target and gen 26 bits of its incarnation. TAIL: target is the distance
 *           in units from the first of the chunk
 * A word of 0 is FREE: fresh memory needs no initialising.
 */
enum mqi_slot_state {
	SLOT_FREE = 0,
	SLOT_NEW = 1,       /* reserved by owner; its fields are not valid */
	SLOT_BOUND = 2,     /* reserved by owner; its reference to a payload is valid */
	SLOT_OFFER = 3,     /* owner is linking it, or has and left the word as it is: claimable */
	SLOT_READY = 4,     /* in its ring, claimable */
	SLOT_AGAIN = 5,     /* to be delivered again, claimable where it stands */
	SLOT_LATER = 6,     /* not before its due time (times column), then AGAIN */
	SLOT_INFLIGHT = 7,  /* leased to owner */
	SLOT_SETTLING = 8,  /* settled by owner along with a commit, whose block decides (flow/commit.h) */
	SLOT_FREEING = 11,  /* settled, owner gives the payload and the slot back */
	SLOT_EXPIRING = 12, /* its time is over: owner takes it out of the middle of a ring */
	SLOT_TOMB = 13,     /* taken out; freed by whoever passes its place, as what lies before it is done with */
};
enum mqi_block_state {
	BLOCK_FREE = 0,
	BLOCK_NEW = 1,    /* owner's, being filled */
	BLOCK_LIVE = 2,   /* committed; a bit per receiver */
	BLOCK_DOOMED = 3, /* NEW until somebody else decided that it will not be committed; owner gives it back */
};
enum mqi_peer_state { PEER_FREE = 0, PEER_JOINING = 1, PEER_LIVE = 2, PEER_DEAD = 3 };
enum mqi_sub_state { SUB_FREE = 0, SUB_CREATING = 1, SUB_OPEN = 2, SUB_CLOSING = 3 };
enum mqi_area_state { AREA_FREE = 0, AREA_CLAIMED = 1, AREA_ACTIVE = 2, AREA_GROWING = 3, AREA_RETIRING = 4, AREA_TAIL = 5 };

#define MQI_GEN40 ((1ull << 40) - 1)
#define MQI_NOBODY 0u
#define MQI_ATTEMPTS_MAX 255u

static inline uint64_t mqi_slot_word(unsigned state, unsigned owner, uint64_t gen, unsigned attempts)
{
	return (uint64_t)state << 60 | (uint64_t)owner << 48 | (gen & MQI_GEN40) << 8 | attempts;
}
static inline unsigned mqi_slot_state(uint64_t w) { return (unsigned)(w >> 60); }
static inline unsigned mqi_slot_owner(uint64_t w) { return (unsigned)(w >> 48) & 0xfff; }
static inline uint64_t mqi_slot_gen(uint64_t w) { return (w >> 8) & MQI_GEN40; }
static inline unsigned mqi_slot_attempts(uint64_t w) { return (unsigned)w & 0xff; }

static inline uint64_t mqi_block_word(unsigned state, unsigned holders, uint64_t gen)
{
	return (uint64_t)state << 60 | (uint64_t)holders << 40 | (gen & MQI_GEN40);
}
static inline unsigned mqi_block_state(uint64_t w) { return (unsigned)(w >> 60); }
static inline unsigned mqi_block_holders(uint64_t w) { return (unsigned)(w >> 40) & 0xfffff; }
static inline uint64_t mqi_block_gen(uint64_t w) { return w & MQI_GEN40; }

static inline uint64_t mqi_cell(uint64_t cycle, uint32_t index) { return cycle << 24 | index; }
static inline uint64_t mqi_cell_cycle(uint64_t v) { return v >> 24; }
static inline uint32_t mqi_cell_index(uint64_t v) { return (uint32_t)v & 0xffffff; }

static inline uint64_t mqi_place(unsigned ring, uint64_t position) { return (uint64_t)ring << 60 | position; }
#define MQI_NOWHERE ((1ull << 60) - 1) /* a position that no ring reaches */
static inline unsigned mqi_place_ring(uint64_t p) { return (unsigned)(p >> 60); }
static inline uint64_t mqi_place_position(uint64_t p) { return p & ((1ull << 60) - 1); }

static inline uint64_t mqi_lease(uint64_t gen, uint64_t ms) { return gen << 40 | (ms & MQI_GEN40); }
static inline uint64_t mqi_lease_tag(uint64_t l) { return l >> 40; }
static inline uint64_t mqi_lease_ms(uint64_t l) { return l & MQI_GEN40; }

static inline uint64_t mqi_watch(unsigned peer, uint64_t ms) { return (uint64_t)peer << 52 | ms; }
#define MQI_WATCH_MS ((1ull << 52) - 1) /* as a time: never */
static inline unsigned mqi_watch_peer(uint64_t w) { return (unsigned)(w >> 52); }
static inline uint64_t mqi_watch_ms(uint64_t w) { return w & MQI_WATCH_MS; }

static inline uint64_t mqi_peer_word(unsigned state, uint64_t inc) { return (uint64_t)state << 56 | inc; }
static inline unsigned mqi_peer_state(uint64_t w) { return (unsigned)(w >> 56); }
static inline uint64_t mqi_peer_inc(uint64_t w) { return w & ((1ull << 56) - 1); }

static inline uint64_t mqi_sub_word(unsigned state, unsigned owner, uint64_t gen)
{
	return (uint64_t)state << 60 | (uint64_t)owner << 48 | (gen & ((1ull << 48) - 1));
}
static inline unsigned mqi_sub_state(uint64_t w) { return (unsigned)(w >> 60); }
static inline unsigned mqi_sub_owner(uint64_t w) { return (unsigned)(w >> 48) & 0xfff; }
static inline uint64_t mqi_sub_gen(uint64_t w) { return w & ((1ull << 48) - 1); }

static inline uint32_t mqi_topic_word(unsigned owner, uint32_t gen) { return owner << 20 | (gen & 0xfffff); }
static inline unsigned mqi_topic_owner(uint32_t w) { return w >> 20; }
static inline uint32_t mqi_topic_gen(uint32_t w) { return w & 0xfffff; }

static inline uint64_t mqi_room(uint64_t offset, uint64_t size) { return (offset & 0x1ffffff) << 10 | (size & 0x3ff); }
static inline uint64_t mqi_room_offset(uint64_t r) { return r >> 10 & 0x1ffffff; }
static inline uint64_t mqi_room_size(uint64_t r) { return r & 0x3ff; }

static inline uint64_t mqi_area_word(unsigned state, unsigned owner, uint32_t committed, uint32_t target, unsigned gen)
{
	return (uint64_t)state << 60 | (uint64_t)owner << 48 | (uint64_t)(committed & 0x3fffff) << 26 |
	       (uint64_t)(target & 0x3fffff) << 4 | (gen & 0xf);
}
static inline unsigned mqi_area_state(uint64_t w) { return (unsigned)(w >> 60); }
static inline unsigned mqi_area_owner(uint64_t w) { return (unsigned)(w >> 48) & 0xfff; }
static inline uint32_t mqi_area_committed(uint64_t w) { return (uint32_t)(w >> 26) & 0x3fffff; }
static inline uint32_t mqi_area_target(uint64_t w) { return (uint32_t)(w >> 4) & 0x3fffff; }
static inline unsigned mqi_area_gen(uint64_t w) { return (unsigned)w & 0xf; }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* A stretch of address space of which the first `committed` pages are memory. shm/area.h grows it. What all areas
 * have committed, and what those in GROWING have been granted, never exceeds the limit. */
struct area_shm {
	uint64_t word;   /* any process, by CAS */
	uint64_t offset; /* written before the area can be found */
	uint64_t size;   /* bytes of address space */
};

enum mqi_unit_kind { UNIT_NONE = 0, UNIT_BLOCKS = 1, UNIT_REGION = 2 };

/* What a unit is used for. `word` is an area word: for UNIT_BLOCKS it counts the chunk's pages (chunk of `units`
 * units, the first of them stands for all, the rest are AREA_TAIL); a subscription's region counts its own. */
struct unit_shm {
	uint64_t word;
	uint64_t free_runs;    /* hint: run r (of 64 in the unit's blocks) may have a free block */
	uint32_t kind;         /* written by the claimer before ACTIVE */
	uint32_t units;
	uint32_t stride;       /* UNIT_BLOCKS: bytes per block */
	uint32_t blocks;       /* UNIT_BLOCKS: number of blocks; UNIT_REGION: the subscription's row */
	uint64_t gen;          /* outlives the chunk: no block that began here had a higher one (shm/trim.h) */
};

/* ---- peers ------------------------------------------------------------------------------------------------------- */

/* One attached process. Its number is the row's index, and stays taken until a sweep has found no word that names it.
 * Alive is who holds the record lock on byte MQI_LOCK_BASE + row of the segment's file. */
#define MQI_LOCK_BASE (1ll << 61)
#define MQI_SUPERVISOR_LOCK MQI_LOCK_BASE               /* row 0's: who holds it is the supervisor */
#define MQI_BURY_LOCK (MQI_LOCK_BASE + MQI_PEERS)       /* who holds it takes the name from a segment that has ended */
#define MQI_ENDED (1ull << 63)
struct peer_shm {
	uint64_t word;        /* CAS: joiner FREE to JOINING to LIVE; a reaper LIVE to DEAD to FREE */
	uint64_t pid;         /* in its own pid namespace; with start_ticks and pid_ns who it is, for people and for a */
	uint64_t start_ticks; /* second opinion. Written in JOINING, before LIVE */
	uint64_t pid_ns;
	uint64_t attached_ns; /* wall */
	uint32_t busy;        /* operations under way in the process; memory is given back only when it was seen 0 */
	uint16_t role;        /* enum mqshm_role */
	uint16_t expedited;   /* whether a fast barrier reaches the process */
	/* What went wrong in the process, by enum mqshm_trouble. A later process on the row counts on; when it was tells
	 * whether it was this one. */
	uint64_t troubles[MQI_TROUBLES];
	uint32_t trouble_s[MQI_TROUBLES]; /* wall, of the last */
	uint32_t loans;       /* payloads that the process has on loan */

	MQI_OWN_LINE uint32_t bell;        /* futex: rung for a peer that waits; any process */

	MQI_OWN_LINE uint64_t touched[MQI_SUBS / 64]; /* subscriptions whose words may name it: set by it before its first claim there,
	                                    cleared in JOINING by the row's next life */
	char name[64];        /* of the program, for people */
	uint64_t commit_block; /* what the peer's slots in SETTLING are decided by: written by it before the first of them; */
	uint64_t commit_gen;   /* the row's next life begins with none */
	uint32_t commit_bit;
};

/* Counters of one row: a single writer, the row's process; a later process on the same row counts on. Readers sum over
 * rows. Never a limit, only what people read. */
struct sub_counters_shm {
	uint64_t delivered, settled, redelivered, nacked, rejected, expired, dropped, published;
};
struct topic_counters_shm {
	uint64_t published, bytes;
};

/* ---- subscriptions ------------------------------------------------------------------------------------------------ */

enum mqi_sub_area { SUB_PAGE = 0, SUB_SLOTS = 1, SUB_TIMES = 2, SUB_RING = 3, SUB_AREAS = SUB_RING + MQI_PRIORITIES };

struct sub_shm {
	/* Written in CREATING under the control lock, then read by all. */
	uint64_t word;           /* CAS; owner is the peer of a private subscription, NOBODY for a group */
	uint64_t region;         /* offset */
	uint32_t region_units;
	uint32_t capacity;       /* slots: messages waiting, in flight and reserved */
	uint32_t cells;          /* per ring: a power of two, at least capacity */
	uint32_t groups;         /* of MQI_GROUP slots */
	uint32_t ack;            /* enum mqshm_ack */
	uint32_t overflow;       /* enum mqshm_overflow */
	uint32_t max_attempts;   /* 0 is no limit */
	uint32_t prefetch;       /* 0 is no cap */
	uint64_t ack_timeout_ms;
	uint64_t backoff_min_ms, backoff_max_ms;
	uint64_t created_ns;
	uint32_t patterns;       /* in the page: a NUL-terminated string each, after the name */
	uint32_t text_offset;    /* in the page: name, then patterns */
	uint32_t text_size;
	uint32_t free_offset;    /* in the page: free hints, one bit per group of slots */
	uint32_t again_offset;   /* in the page: again hints, MQI_PRIORITIES bitmaps of one bit per group */
	uint32_t due_offset;     /* in the page: hints, no time of these 1 << MQI_DUE_SHIFT slots is earlier, ms; 0 is none */

	MQI_OWN_LINE struct area_shm areas[SUB_AREAS];
	struct sub_counters_shm before; /* what all peers' counters of the row stood at: written in CREATING */

	MQI_OWN_LINE uint64_t head[MQI_PRIORITIES]; /* consumers; at most the true head: every position before it is done with */

	MQI_OWN_LINE uint64_t tail[MQI_PRIORITIES]; /* publishers; at most the true tail: every position before it is filled */

	MQI_OWN_LINE uint64_t waiters[MQI_PEERS / 64]; /* consumers that sleep, or are about to: each sets and clears its own bit */

	uint64_t members[MQI_PEERS / 64]; /* processes that have it open, for people: each sets its own bit; cleared by it or its reaper */

	MQI_OWN_LINE uint64_t space_waiters[MQI_PEERS / 64]; /* the same for publishers that wait for a free slot */

	MQI_OWN_LINE uint64_t again[MQI_PRIORITIES]; /* hint: bit b covers the b-th 64th of the groups */
	uint32_t used;                  /* bit per priority that a cell was ever filled for; sticky; publishers */
	uint32_t slots_ready;           /* slots that are memory; grows only. Here, as all read it and few write */
	uint64_t next_due;              /* hint: no time of this subscription is earlier, ms; 0 is none */
};

/* A delivery on its way to one subscription. In NEW its owner writes the fields with plain stores; from OFFER on they
 * stay as they are until the next NEW. A small payload with one receiver is here; any other is in a block. */
#define MQI_INLINE 72
struct slot_shm {
	uint64_t word;
	uint64_t place;        /* stored before OFFER */
	uint64_t seq;
	uint64_t published_ns; /* wall */
	uint64_t info;         /* topic:24 | flags:8 | size:32 */
	union {
		unsigned char data[MQI_INLINE]; /* payload, then envelope */
		struct {
			uint64_t block;     /* offset of the block */
			uint64_t block_gen; /* the block's gen when it was bound */
			uint32_t bit;       /* which holder */
			uint32_t part;      /* F_PART: where in the block's data the payload is, in 8 bytes */
		} ref;
	};
};

/* A payload with its own life: the receivers hold a bit each; who clears the last one frees it by the same CAS.
 * More than 20 receivers: F_WIDE, see shm/block.h. */
struct block_shm {
	uint64_t word;
	uint64_t seq;
	uint64_t published_ns;
	uint64_t info;       /* topic:24 | flags:8 | size:32 */
	uint64_t envelope;   /* bytes after the payload */
	uint64_t wide;       /* F_WIDE: number of holder words, which follow the envelope */
	uint64_t ids;        /* NEW: the last message id that was added for it (shm/ids.h); perhaps of an earlier life */
	uint64_t pad;        /* to 64; the payload follows */
};

/* info */
enum {
	F_REF = 1,      /* the slot refers to a block */
	F_EXPIRES = 2,  /* envelope: u64 wall ns */
	F_ACK_MS = 4,   /* envelope: u32 ack timeout of this message */
	F_ID = 8,       /* envelope: u16 length, bytes */
	F_HEADERS = 16, /* envelope: u32 length, bytes */
	F_KEY = 32,     /* envelope: u16 length, bytes */
	F_WIDE = 64,
	F_PART = 128,   /* a slot's: seq, published_ns, info are its own, the block is a bundle's (flow/commit.h) */
};
static inline uint64_t mqi_info(uint32_t topic, unsigned flags, uint32_t size)
{
	return (uint64_t)topic << 40 | (uint64_t)(flags & 0xff) << 32 | size;
}
static inline uint32_t mqi_info_topic(uint64_t i) { return (uint32_t)(i >> 40); }
static inline unsigned mqi_info_flags(uint64_t i) { return (unsigned)(i >> 32) & 0xff; }
static inline uint32_t mqi_info_size(uint64_t i) { return (uint32_t)i; }

/* ---- topics -------------------------------------------------------------------------------------------------------- */

/* Topic names are interned and never removed while the segment lives. A bucket holds the newest row; rows are linked
 * by `next`, and immutable once a bucket leads to them. Names are handed out from the end of their area; the word that
 * says so (header next_name) also says to which row the last one went, and whoever hands out the next first writes it
 * into that row: a death in between loses no room. A row keeps its room when it is given back. */
#define MQI_TOPIC_INLINE 40
struct topic_shm {
	uint32_t owner;  /* CAS free to the peer that fills it, then to MQI_TOPIC_LINKED by the CAS of anybody who sees it linked */
	uint32_t next;
	uint32_t hash;
	uint32_t size;   /* bytes of the name */
	uint64_t room;   /* CAS 0 to the room for a name longer than MQI_TOPIC_INLINE; then for ever */
	unsigned char text[MQI_TOPIC_INLINE];
};
#define MQI_TOPIC_LINKED 0xffffffffu

/* ---- trie ---------------------------------------------------------------------------------------------------------- */

/* Index from topic words to subscriptions, derived from the subscriptions' patterns and rebuilt from them. Written
 * under the control lock while `subs_version` is odd; readers check the version before and after (shm/trie.h).
 *
 *   table uint32_t[trie_slots] | root | nodes and entries, as they come | trie_end
 *
 * The table leads from (parent, word) to a node: open addressing, at most half full. References count 8 bytes from the
 * area's start; 0, which is the table's, is none. */
struct trie_node_shm {
	uint32_t parent;
	uint32_t hash;       /* of parent and word */
	uint32_t entry;      /* first entry whose pattern ends here */
	uint32_t any;        /* child for `*`: not in the table */
	uint32_t rest;       /* child for `#`: not in the table */
	uint32_t word_size;  /* bytes of the word, which follows, padded with zeros to 8 */
};
struct trie_entry_shm {
	uint32_t next;
	uint32_t sub;
	uint64_t gen;        /* of the subscription's word: a later life of the row is not meant */
};

/* ---- message ids of late ------------------------------------------------------------------------------------------- */

/* Two tables, each uint32_t[MQI_ID_BUCKETS], which count entries from 1 on, then entries as they come; see shm/ids.h. */
#define MQI_ID_BUCKETS (1u << 16)
#define MQI_IDS_SIZE (2ull << 30) /* bytes of address space for each */
#define MQI_NEVER_MS UINT64_MAX
enum mqi_id_state { ID_ADDED = 0, ID_WITHDRAWN = 1 };
struct id_shm {
	uint64_t key[2];   /* written by who adds it, before a chain leads to it; then only `state` changes */
	uint64_t block;
	uint64_t gen;
	uint64_t ms;       /* boot */
	uint64_t sibling;  /* another id of the same block: table:1 | entry:32 */
	uint32_t next;     /* in its chain, older; 0 is none */
	uint32_t state;    /* enum mqi_id_state */
	uint64_t pad;
};

/* ---- header -------------------------------------------------------------------------------------------------------- */

enum mqi_header_area { AREA_PEERS, AREA_SUBS, AREA_TOPICS, AREA_NAMES, AREA_TRIE, AREA_UNITS, AREA_IDS, AREA_IDS_TOO, HEADER_AREAS };

/* Changed under the control lock, read by all: the new one is written to `config_next`, `config_version` becomes odd,
 * from when on it holds, `config_next` is copied to `config`, `config_version` becomes even. A death in between leaves
 * an odd version, under which readers take `config_next`; the next change finishes it first (shm/config.h). */
struct config_shm {
	uint64_t max_topics, max_subscribers, default_buffer_size, message_ttl_ms, max_message_size, max_memory_usage;
	uint64_t overflow, default_ack_timeout_ms, max_attempts, backoff_min_ms, backoff_max_ms, transaction_timeout_ms;
	uint64_t dedup_window_ms, health_check_interval_ms, enable_metrics, enable_priority_queue, enable_trie_pattern;
	uint64_t spin_ns;
	uint64_t dead_letter_expired;
	uint64_t dead_letter_size;
	uint64_t pad[12];                 /* to 256 */
	unsigned char dead_letter_topic[MQI_TOPIC_MAX];
};

struct header_shm {
	/* Written before the segment has its name, then read by all. */
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t span;        /* bytes of the file */
	uint64_t units;       /* number of */
	uint64_t units_offset;
	uint64_t counters_offset; /* MQI_PEERS sheets: topic_counters_shm[MQI_TOPICS], then sub_counters_shm[MQI_SUBS] */
	uint64_t sheet_size;
	uint64_t created_ns;  /* wall */
	uint64_t boot_id[2];
	uint64_t buckets_offset; /* uint32_t[MQI_TOPIC_BUCKETS], in the fixed part */
	uint64_t unit_hints_offset; /* uint64_t[units/64], in the fixed part: unit may have a free block */
	uint64_t secret[2];   /* of this broker, for hashes of what users choose */
	uint64_t fixed_size;  /* bytes from the start that are memory always: header, buckets, hints */

	MQI_OWN_LINE struct area_shm areas[HEADER_AREAS];
	struct area_shm sheets[MQI_PEERS][2];      /* the counters: per row, topics' and subscriptions' */

	MQI_OWN_LINE uint64_t subs_version; /* odd while a subscription is added or removed */
	uint64_t config_version;
	uint64_t chunks_version; /* raised before a chunk is given back: forget where blocks were */

	MQI_OWN_LINE uint64_t next_seq;     /* taken in blocks */

	MQI_OWN_LINE uint64_t next_topic;   /* hint: rows before it are taken */
	uint64_t next_name;    /* names' end, in 8 bytes:28 | row:20 | size, in 8 bytes:16; the last two are the last name's */
	uint64_t next_unit;    /* hint: units before it are claimed, or were */
	uint64_t units_top;    /* no unit at or above it was ever claimed */
	uint64_t peers_top;    /* no row at or above it was ever taken */
	uint64_t subs_top;
	uint64_t life;         /* ended:1 | attaches:63: whoever attaches adds one, after its row is LIVE, and leaves where it has
	                          ended; the last supervisor ends it by CAS. What nobody misses ends once, for all */
	uint64_t supervisor;   /* hint: row of the supervisor, rung when somebody attaches; written by it when elected */
	uint64_t started;      /* ms:48 | tries:16: CAS by who starts a supervisor; the elected one sets tries to 0 */

	MQI_OWN_LINE uint64_t memory_waiters[MQI_PEERS / 64]; /* publishers that wait for memory */
	uint32_t memory_high;  /* whether memory is past its high-water mark: set above it, cleared well below, by who looks */

	MQI_OWN_LINE uint64_t watch; /* the watcher before it sleeps; who sets an earlier time lowers it and rings; 0: nobody */

	MQI_OWN_LINE pthread_mutex_t control; /* robust: attach, create, delete, configure. Never on the path of a message */

	MQI_OWN_LINE uint64_t ids;
	uint64_t ids_began_ms; /* when the current table became it; MQI_NEVER_MS: just now. Under the control lock */
	uint64_t ids_used[2];  /* entries taken */

	MQI_OWN_LINE uint32_t trie_slots; /* of the table: a power of two; 0: no index, every row is looked at */
	uint32_t trie_end;     /* in 8 bytes */
	uint32_t trie_nodes, trie_entries;
	uint32_t trie_dead;    /* entries of rows that were closed since */

	MQI_OWN_LINE struct config_shm config;
	struct config_shm config_next;
};

_Static_assert(sizeof(struct area_shm) == 24, "area");
_Static_assert(sizeof(struct unit_shm) == 40, "unit");
_Static_assert(sizeof(struct peer_shm) == 896, "peer");
_Static_assert(offsetof(struct peer_shm, bell) == 128, "peer.bell");
_Static_assert(sizeof(struct sub_counters_shm) == 64, "sub counters");
_Static_assert(offsetof(struct sub_shm, areas) == 128, "sub.areas");
_Static_assert(offsetof(struct sub_shm, head) == 384, "sub.head");
_Static_assert(offsetof(struct sub_shm, tail) == 512, "sub.tail");
_Static_assert(offsetof(struct sub_shm, waiters) == 640, "sub.waiters");
_Static_assert(offsetof(struct sub_shm, space_waiters) == 768, "sub.space_waiters");
_Static_assert(offsetof(struct sub_shm, again) == 896, "sub.again");
_Static_assert(sizeof(struct sub_shm) == 1024, "sub");
_Static_assert(sizeof(struct slot_shm) == 112, "slot");
_Static_assert(sizeof(struct block_shm) == 64, "block");
_Static_assert(sizeof(struct topic_shm) == 64, "topic");
_Static_assert(sizeof(struct id_shm) == 64, "id");

#endif
