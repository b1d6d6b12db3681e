#include "flow/unique.h"

int mqi_unique_look(struct mqshm *h, struct mqi_message *m)
{
	mqi_ids_turn(h, h->dedup_window_ms);
	mqi_id_of(h, m->topic, m->envelope->id, m->envelope->id_size, &m->id);
	return mqi_id_look(h, &m->id, h->dedup_window_ms);
}

/* All are added before the first is looked for: a rival that comes later sees every one of them. */
int mqi_unique_claim(struct mqshm *h, struct mqi_message *messages, uint32_t n, uint64_t block, uint64_t gen, uint32_t *which)
{
	uint64_t word = mqi_ids_word(h);
	int rc = MQSHM_OK;
	for (*which = 0; *which < n; ++*which) {
		if (messages[*which].unique) rc = mqi_id_add(h, &messages[*which].id, word, block, gen);
		if (rc != MQSHM_OK) return rc;
	}
	if (mqi_ids_word(h) != word) return MQSHM_CLOSED; /* others add to the other table by now, and do not see ours */
	for (*which = 0; *which < n; ++*which) {
		if (messages[*which].unique) rc = mqi_id_claim(h, &messages[*which].id, word, block, gen, h->dedup_window_ms);
		if (rc != MQSHM_OK) return rc;
	}
	return MQSHM_OK;
}
