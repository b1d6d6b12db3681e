#include "shm/peers.h"

#include <errno.h>

#include "shm/area.h"
#include "shm/reach.h"
#include "shm/subs.h"

#define ROWS_AHEAD (16 * sizeof(struct peer_shm))

static int64_t lock_byte(unsigned p) { return MQI_LOCK_BASE + (int64_t)p; }

static void raise_top(struct mqshm *h, uint64_t top)
{
	for (uint64_t was = mqi_load_acq(&h->hdr->peers_top); was < top; was = mqi_load_acq(&h->hdr->peers_top))
		if (mqi_cas64(&h->hdr->peers_top, was, top)) return;
}

static void clear_bit(uint64_t *bits, unsigned p)
{
	uint64_t bit = 1ull << p % 64;
	if (mqi_load_rlx(&bits[p / 64]) & bit) mqi_and64(&bits[p / 64], ~bit);
}

/* An earlier life may have died asleep. Its bits are cleared here, by their new owner, and by nobody else. */
static void clear_waiter_bits(struct mqshm *h, unsigned p)
{
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t i = 0; i < rows; i++) {
		clear_bit(mqi_sub(h, i)->waiters, p);
		clear_bit(mqi_sub(h, i)->space_waiters, p);
	}
	clear_bit(h->hdr->memory_waiters, p);
}

/* Before JOINING, under the lock byte alone: so whoever finds a dead joiner knows whom to ask the kernel for. */
static void write_row(struct mqshm *h, struct peer_shm *row, const char *program, uint32_t role)
{
	size_t length = strnlen(program, sizeof row->name - 1);
	mqi_store_rlx(&row->pid, h->identity.pid);
	mqi_store_rlx(&row->start_ticks, h->identity.start_ticks);
	mqi_store_rlx(&row->pid_ns, h->identity.pid_ns);
	mqi_store_rlx(&row->attached_ns, mqi_wall_ns());
	mqi_store_rlx(&row->busy, 0);
	mqi_store_rlx(&row->loans, 0);
	mqi_store_rlx(&row->role, (uint16_t)role);
	mqi_store_rlx(&row->expedited, mqi_global_barrier_register());
	for (size_t i = 0; i < sizeof row->name; i++) mqi_store_rlx(&row->name[i], i < length ? program[i] : 0);
}

/* Takes row p, whose lock byte is ours. A row that is not FREE is not touched, nor its lock: it may be another handle of
 * this process that holds it. */
static bool take_row(struct mqshm *h, unsigned p, const char *program, uint32_t role)
{
	struct peer_shm *row = mqi_peer(h, p);
	uint64_t was = mqi_load_acq(&row->word);
	if (mqi_peer_state(was) != PEER_FREE) return false;
	uint64_t inc = mqi_peer_inc(mqi_peer_inc(was) + 1);
	write_row(h, row, program, role);
	/* Release, to LIVE and after it: the identity is there for whoever reads one of these words. */
	if (!mqi_cas64(&row->word, was, mqi_peer_word(PEER_JOINING, inc))) return false;
	clear_waiter_bits(h, p);
	/* Not by who swept the row: a second sweeper that is late would clear what is marked here. */
	for (unsigned i = 0; i < MQI_SUBS / 64; i++) mqi_store_rlx(&row->touched[i], 0ull);
	mqi_store_rlx(&row->commit_block, 0ull);
	mqi_cas64(&row->word, mqi_peer_word(PEER_JOINING, inc), mqi_peer_word(PEER_LIVE, inc));
	h->peer = p;
	h->inc = inc;
	h->row = row;
	return true;
}

int mqi_peer_join(struct mqshm *h, const char *program, uint32_t role)
{
	mqi_identity_self(&h->identity);
	for (unsigned p = 1; p < MQI_PEERS; p++) {
		int rc = mqi_area_grow(h, &h->hdr->areas[AREA_PEERS], (p + 1) * sizeof(struct peer_shm), ROWS_AHEAD);
		if (rc != MQSHM_OK) return rc;
		if (mqi_peer_state(mqi_load_acq(&mqi_peer(h, p)->word)) != PEER_FREE) continue;
		int error = mqi_byte_lock(h->fd, lock_byte(p));
		if (error == EAGAIN) continue;
		if (error) return mqi_fail(MQSHM_SYSTEM, "locking a byte of the segment's file: %s", strerror(error));
		raise_top(h, p + 1);
		if (take_row(h, p, program, role)) return MQSHM_OK;
		mqi_byte_unlock(h->fd, lock_byte(p));
	}
	return mqi_fail(MQSHM_TOO_MANY, "all %u rows for attached processes are taken", MQI_PEERS - 1);
}

/* The lock goes first: once the row is FREE another handle of this process may take both. Until then the process is not
 * taken for dead, for it is there. */
void mqi_peer_leave(struct mqshm *h)
{
	mqi_byte_unlock(h->fd, lock_byte(h->peer));
	mqi_cas64(&h->row->word, mqi_peer_word(PEER_LIVE, h->inc), mqi_peer_word(PEER_FREE, h->inc));
	h->peer = 0;
	h->row = NULL;
}

bool mqi_peer_gone(struct mqshm *h, unsigned p, uint64_t word)
{
	unsigned state = mqi_peer_state(word);
	if (p == h->peer || (state != PEER_LIVE && state != PEER_JOINING)) return false;
	if (mqi_byte_held(h->fd, lock_byte(p))) return false;
	/* The lock alone is not proof: closing any descriptor of the file drops it. Should the row have a new life by now,
	 * the fields are the new one's, and the CAS from `word` that is to follow fails. */
	struct peer_shm *row = mqi_peer(h, p);
	struct mqi_identity who = { mqi_load_rlx(&row->pid), mqi_load_rlx(&row->start_ticks), mqi_load_rlx(&row->pid_ns) };
	/* In another pid namespace there is no second opinion: a container that ends takes all its processes along, and
	 * nobody would be left there to tell. */
	return who.pid_ns != h->identity.pid_ns || !mqi_identity_alive(&who);
}

unsigned mqi_peer_next_dead(struct mqshm *h, unsigned p, uint64_t *word)
{
	unsigned rows = mqi_peers_rows(h);
	for (p++; p < rows; p++) {
		uint64_t *at = &mqi_peer(h, p)->word, w = mqi_load_acq(at);
		if (mqi_peer_state(w) == PEER_DEAD) {
			*word = w;
			return p;
		}
		uint64_t dead = mqi_peer_word(PEER_DEAD, mqi_peer_inc(w));
		if (mqi_peer_gone(h, p, w) && mqi_cas64(at, w, dead)) {
			*word = dead;
			return p;
		}
	}
	return 0;
}

void mqi_peer_release(struct mqshm *h, unsigned p, uint64_t word)
{
	mqi_cas64(&mqi_peer(h, p)->word, word, mqi_peer_word(PEER_FREE, mqi_peer_inc(word)));
}
