/* Subscriptions: rows, regions and the index over their patterns. Added and removed under the control lock; matched
 * without it.
 *
 *   row    FREE -> CREATING(me) -> OPEN(owner or nobody) -> CLOSING -> FREE      gen rises at CREATING
 *
 * OPEN to CLOSING is one compare-and-swap by anybody. All else is done by the holder of the control lock, so a row in
 * CREATING that another holder finds was left by a death: it goes on as CLOSING. */
#ifndef MQI_SUBS_H
#define MQI_SUBS_H

#include "shm/handle.h"

/* The rows of all OPEN subscriptions that match the topic, in ascending order, each once, at most max; *version is what
 * subs_version was, or MQI_NO_VERSION where it changed meanwhile. Lock-free: walks the trie where it is at rest, looks
 * at every row's patterns where it is not. The handle is entered. */
int mqi_subs_match(struct mqshm *h, const char *topic, uint32_t size, uint32_t *rows, uint32_t max, uint32_t *count,
                   uint64_t *version);
int mqi_subs_add(struct mqshm *h, const mqshm_sub_options *o, uint32_t *row); /* control lock held, handle entered */
int mqi_subs_find(struct mqshm *h, const char *name, uint32_t size, uint32_t *row); /* a group; MQSHM_NOT_FOUND */

/* OPEN to CLOSING: publishers and receivers turn away, sleepers are woken. MQSHM_CLOSED where somebody else did it. */
int mqi_subs_close(struct mqshm *h, uint32_t row, uint64_t word);
/* Closes; then all its messages are freed, memory is given back and the row freed once nobody can be looking at it. What
 * cannot be finished yet (a lease is out, the control lock is taken) is finished by a later mqi_subs_sweep, by anybody.
 * Handle entered; so for the two below. */
int mqi_subs_remove(struct mqshm *h, uint32_t row, uint64_t word);
void mqi_subs_sweep(struct mqshm *h);
/* Private subscriptions of a dead or leaving peer are removed, and it is no member of any group any more. */
void mqi_subs_of_peer(struct mqshm *h, unsigned peer);

/* Under the control lock: a sweep (handle entered); undoing or completing what a dead holder was doing. */
void mqi_subs_finish(struct mqshm *h);
void mqi_subs_recover(struct mqshm *h);

/* Name and patterns of a row, each ended by NUL, checked against its page. */
int mqi_subs_text(struct mqshm *h, uint32_t row, const char **text, uint32_t *size);
/* The next of them; false behind the last. */
static inline bool mqi_text_next(const char **at, const char *end, const char **text, uint32_t *size)
{
	const char *nul = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
	if (!nul) return false;
	*text = *at;
	*size = (uint32_t)(nul - *at);
	*at = nul + 1;
	return true;
}

/* This process's view of a row, made at first use and checked against every bound; NULL with a reason where it cannot
 * be (MQSHM_CLOSED, MQSHM_CORRUPT). A view lives until the handle ends; a row's next life gets a new view. */
int mqi_view(struct mqshm *h, uint32_t row, struct mqshm_sub **out);
/* The same also of a row in CLOSING: for who empties it, or repairs after the dead in it. */
int mqi_view_closing(struct mqshm *h, uint32_t row, struct mqshm_sub **out);
/* A view for one look, in the caller's memory: until the handle is left, and without counters of its own. */
int mqi_view_look(struct mqshm *h, uint32_t row, struct mqshm_sub *out);
/* Whether the slots behind a view are still this subscription's: also while it is closing, for deliveries in hand. Asked
 * once per operation, which then may go on: the memory stays for as long as the operation lasts. */
static inline bool mqi_view_holds(const struct mqshm_sub *s)
{
	uint32_t ready = mqi_load_acq(&s->shm->slots_ready);
	uint64_t w = mqi_load_acq(&s->shm->word);
	return ready && mqi_sub_gen(w) == mqi_sub_gen(s->word) && mqi_sub_state(w) >= SUB_OPEN;
}

/* The control lock: robust; whoever gets it from a dead holder first completes or undoes what that one was doing. Taken
 * before the handle is entered, for the holder may be slow: MQSHM_TIMEOUT after some seconds. Who has entered tries. */
int mqi_control_lock(struct mqshm *h);
bool mqi_control_try(struct mqshm *h);
void mqi_control_unlock(struct mqshm *h);

static inline struct sub_shm *mqi_sub(struct mqshm *h, uint32_t row)
{
	return (struct sub_shm *)(h->base + h->subs_offset) + row;
}

#endif
