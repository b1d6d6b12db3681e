/* Random operations, each done to the core and to the model. */
#ifndef FUZZ_OPS_H
#define FUZZ_OPS_H

#include "model.h"
#include "tape.h"

/* One broker from its making to its end: up to `most` operations, or until the tape is over. How many there were. */
uint64_t ops_run(struct tape *t, uint64_t most);

/* ---- between the files of operations ---- */

struct lease {
	mqshm_delivery d;
	struct sub *s;
	struct message *m;
	unsigned peer;
	uint32_t turn, life;
};
#define LEASES_MOST 1024u
#define BATCH_MOST 12u
extern struct lease leases[LEASES_MOST];
extern unsigned lease_count;

struct loan {
	mqshm_loan core;
	uint64_t id;
	unsigned peer;
};
extern struct loan loans[LOANS_MOST];
extern unsigned loan_count;

#define FUSE_MOST 400 /* accesses to shared memory */
/* An operation that may die: fuse 0 for one that does not. */
uint32_t draw_fuse(struct tape *t, unsigned peer);
/* `peer` has died in the middle of something, which the model has been told: others repair, then all is looked at.
 * `fired`: it may have begun to fire what is due. */
void bury(struct tape *t, unsigned peer, bool fired);
void tick(mqshm_t *h);
void look_at_all_doubts(void);
mqshm_topic_t *topic_of(unsigned peer, uint32_t topic);
struct sub *draw_view(struct tape *t, unsigned peer); /* an open subscription that the peer has a view of, or NULL */

void draw_envelope(struct tape *t, struct message *m);
bool is_too_large(const struct message *m);
struct entry *entry_of_lease(const struct lease *l); /* NULL: it is over */
void unhold(const struct lease *l); /* one less towards the prefetch */

void do_publish(struct tape *t, unsigned peer);
void do_publish_batch(struct tape *t, unsigned peer);
void do_loan(struct tape *t, unsigned peer);
void do_commit(struct tape *t, unsigned peer);
void do_receive(struct tape *t, unsigned peer);
void do_receive_batch(struct tape *t, unsigned peer);
void do_settle(struct tape *t, unsigned peer);
void do_ack_batch(struct tape *t, unsigned peer);
void do_find_held(struct tape *t, unsigned peer);
void do_wait(struct tape *t, unsigned peer);
void do_purge(struct tape *t, unsigned peer);

#endif
