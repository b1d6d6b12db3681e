/* What must come out: a broker of few words beside the real one. It knows every message, each delivery of it, whose
 * turn is next, and where a death in the middle of an operation leaves more than one possibility. */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include "world.h"

#define SUBS_MOST 32u
#define TOPICS 6u
#define CAPACITY_MOST 200u
#define ENTRIES_MOST (2 * CAPACITY_MOST + 4) /* and what may have come in beyond: the dead letters of another subscription */
#define LOANS_MOST 6u

struct message {
	struct message *next;     /* of those that are free */
	uint64_t id;              /* content follows from it */
	uint64_t text;            /* and from this its id, headers and key */
	uint64_t seq;             /* 0: its publish did not return, and nobody has seen it yet */
	uint64_t size, expires_ns;
	uint32_t ring;            /* the one that it is in */
	uint32_t topic, shares;   /* deliveries that are not over */
	mqshm_envelope e;
	bool block;               /* not in its slot */
	uint64_t published_ns;
	unsigned char letter[320]; /* of a dead letter: what its headers say behind those of the message */
	uint32_t letter_size;     /* 0: it is none */
	uint32_t bundle;          /* the block that it has with others; 0: none */
};

enum standing { WAITING, AGAIN, LATER, LEASED, HELD };

struct entry {
	struct message *m;
	enum standing state;
	unsigned holder;          /* LEASED, HELD */
	uint32_t turn;            /* which lease it is */
	uint32_t order;           /* WAITING: in its ring */
	uint32_t least, most;     /* deliveries so far: a death may leave open whether it was one more */
	uint64_t due_ms;          /* LATER, or the end of LEASED, or of what waits; 0: none */
	bool loose;               /* a death left open where it stands */
	bool maybe;               /* and whether it is there */
};

struct sub {
	bool open, private;
	bool sure;                /* no death left a hint unset; a tick makes sure */
	unsigned owner;           /* of a private one */
	uint32_t row, life;       /* life: of this place in `subs` */
	char name[8];
	unsigned patterns[2], pattern_count;
	mqshm_sub_options o;
	struct entry entries[ENTRIES_MOST];
	uint32_t used;
	uint32_t graves;          /* for the publish at hand: slots that tombs hold, */
	uint32_t taken;           /* that it takes itself, */
	bool doubts;              /* and whether what it drops is uncertain */
	mqshm_sub_t *views[PEERS_MOST];
	uint32_t held[PEERS_MOST]; /* as prefetch counts */
};

extern struct sub subs[SUBS_MOST];
extern uint32_t blocks_live;       /* payloads with a block, loans included */
extern mqshm_config config;
extern mqshm_t *peers[PEERS_MOST]; /* NULL: not attached */

extern const char *const topic_names[TOPICS];
extern const char *const pattern_names[];
extern const unsigned pattern_names_count;

void model_reset(void);
struct message *message_new(void);
void message_drop(struct message *m);  /* one share less */
/* Messages of one commit: their block is there until the last of them is over. */
uint32_t bundle_new(void);
void bundle_take(uint32_t bundle, struct message *m);
void message_write(unsigned char *to, uint64_t id, uint64_t size);
const unsigned char *text_of(uint64_t text, unsigned which); /* id, headers or key of a message, by number 0 to 2 */
uint64_t envelope_bytes(const struct message *m);
bool expired(const struct message *m);
uint64_t ms_in(uint64_t ms); /* when so many have passed */
uint64_t over_ms(const struct message *m); /* when what waits from now on is over; 0: never */

bool matches(const struct sub *s, uint32_t topic);
/* Receivers of a topic, ascending rows. */
unsigned receivers(uint32_t topic, struct sub *out[SUBS_MOST]);
struct entry *enter(struct sub *s, struct message *m); /* WAITING, last */
void leave(struct sub *s, struct entry *e);
struct entry *entry_at(struct sub *s, uint64_t seq);
void sub_end(struct sub *s); /* deleted: what waits is over; leases stay until they are settled */

void again(struct entry *e);
void later(struct entry *e, uint64_t ms); /* but what is over then is over at once */
void fire(struct sub *s);    /* what is due; may leave doubts: look_at_doubts */
bool time_has_come(const struct sub *s); /* for anything */
bool time_has_come_anywhere(void);
bool times_in_doubt(const struct sub *s); /* of what is due */
/* Slots that tombs hold, and nobody frees who looks for room. `fired`: once what is due is fired. */
uint32_t tombs(const struct sub *s, mqshm_t *h, bool fired);
uint32_t tomb_words(const struct sub *s, mqshm_t *h); /* and those that could be freed */
/* A message came out of s to `peer`: is it right that it was this one? Leases it. */
struct entry *came_out(struct sub *s, unsigned peer, const mqshm_delivery *d);
/* None came: is that right? */
void nothing_came(struct sub *s);
/* After what came, or did not: those that would be refused may have been, on the way. */
void refused_on_the_way(struct sub *s);
/* The next to go, of rings `highest` to the last, to make room (`lowest`), or for an interrupted claim: those of which one may be it. */
unsigned mark_next(struct sub *s, bool lowest, unsigned highest);
/* Whether something is there that would go, and something of which it is not certain. */
bool any_certain(const struct sub *s, unsigned highest);
bool any_doubtful(const struct sub *s, unsigned highest);
/* A death in the middle of a claim: each that is `maybe` is gone, or was delivered once more and given back. */
void may_be_claimed(struct sub *s);
/* Looks what waits, and settles every `maybe`. `h` lives. */
void reconcile(struct sub *s, mqshm_t *h);
void look_at_doubts(struct sub *s);
void all_times(void); /* whatever is due anywhere is fired, by peer 0 */
/* Compares stats and fsck with the model. */
void account(mqshm_t *h);

#endif
