#include "shm/counters.h"

#include "shm/area.h"
#include "shm/reach.h"

struct topic_counters_shm *mqi_count_topic(struct mqshm *h, uint32_t topic)
{
	if (h->uncounted) return &h->uncounted_topic;
	struct area_shm *sheet = &h->hdr->sheets[h->peer][SHEET_TOPICS];
	if (mqi_area_grow(h, sheet, ((uint64_t)topic + 1) * sizeof(struct topic_counters_shm), 0) != MQSHM_OK) return &h->uncounted_topic;
	struct topic_counters_shm *mine = mqi_topic_counters(h, h->peer, topic);
	return mine ? mine : &h->uncounted_topic;
}

struct sub_counters_shm *mqi_count_sub(struct mqshm *h, uint32_t row)
{
	if (h->uncounted) return &h->uncounted_sub;
	struct area_shm *sheet = &h->hdr->sheets[h->peer][SHEET_SUBS];
	if (mqi_area_grow(h, sheet, ((uint64_t)row + 1) * sizeof(struct sub_counters_shm), 0) != MQSHM_OK) return &h->uncounted_sub;
	struct sub_counters_shm *mine = mqi_sub_counters(h, h->peer, row);
	return mine ? mine : &h->uncounted_sub;
}

void mqi_count_again(struct mqshm *h)
{
	for (uint32_t i = 0; i < MQI_SUBS; i++)
		if (h->views[i] && h->views[i]->word) h->views[i]->counters = mqi_count_sub(h, i);
	for (uint32_t i = 0; i < h->topic_room; i++)
		for (struct mqshm_topic *t = h->topics[i]; t; t = t->chain) t->counters = mqi_count_topic(h, t->id);
}

/* By the fields' order, of which there is nothing but counters. */
void mqi_counted_sub(struct mqshm *h, uint32_t row, struct sub_counters_shm *sum)
{
	uint64_t *total = (uint64_t *)sum;
	uint32_t peers = mqi_peers_rows(h);
	memset(sum, 0, sizeof *sum);
	for (uint32_t p = 1; p < peers; p++) {
		const uint64_t *c = (const uint64_t *)mqi_sub_counters(h, p, row);
		for (unsigned i = 0; c && i < sizeof *sum / sizeof *total; i++) total[i] += mqi_load_rlx(&c[i]);
	}
}
