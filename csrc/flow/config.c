/* Reading and changing the configuration. */
#include "shm/config.h"

#include "shm/counters.h"
#include "shm/subs.h"

static bool take_dead_letters(struct mqshm *h, const mqshm_config *now)
{
	if (!now->dead_letter_size) h->dead_size = 0;
	if (!now->dead_letter_size || (h->dead_size == now->dead_letter_size && memcmp(h->dead_name, now->dead_letter_topic, h->dead_size) == 0))
		return true;
	if (!h->dead_name && !(h->dead_name = malloc(MQI_TOPIC_MAX))) return false;
	memcpy(h->dead_name, now->dead_letter_topic, now->dead_letter_size);
	h->dead_size = (uint32_t)now->dead_letter_size;
	h->dead = NULL;
	return true;
}

void mqi_config_refresh(struct mqshm *h)
{
	mqshm_config now;
	uint64_t version;
	if (!mqi_config_load(h->hdr, &now, &version)) return; /* it changes all the time: the next operation looks again */
	if (!take_dead_letters(h, &now)) return;
	h->max_message_size = now.max_message_size;
	h->message_ttl_ms = now.message_ttl_ms;
	h->dedup_window_ms = now.dedup_window_ms;
	h->memory_limit = now.max_memory_usage;
	h->spin_ns = now.spin_ns;
	h->overflow = now.overflow;
	h->one_priority = !now.enable_priority_queue;
	h->dead_expired = now.dead_letter_expired != 0;
	h->config_seen = version;
	if (h->uncounted == !now.enable_metrics) return;
	h->uncounted = !now.enable_metrics;
	mqi_count_again(h);
}

/* Under the control lock nobody changes it. */
static int load_locked(struct mqshm *h, mqshm_config *out)
{
	uint64_t version;
	int rc = mqi_control_lock(h);
	if (rc != MQSHM_OK) return rc;
	if (!mqi_config_load(h->hdr, out, &version)) rc = mqi_fail(MQSHM_CORRUPT, "the configuration changes under its lock");
	mqi_control_unlock(h);
	return rc;
}

int mqshm_config_get(mqshm_t *h, mqshm_config *out)
{
	uint64_t version;
	if (h->forks != mqi_fork_count()) return MQSHM_FORKED;
	return mqi_config_load(h->hdr, out, &version) ? MQSHM_OK : load_locked(h, out);
}

/* Every operation of every process looks at the version. */
static int set(mqshm_t *h, const mqshm_config *was, const mqshm_config *config)
{
	mqshm_config now;
	uint64_t version;
	if (h->forks != mqi_fork_count()) return MQSHM_FORKED;
	int rc = mqi_config_check(config);
	if (rc == MQSHM_OK) rc = mqi_control_lock(h);
	if (rc != MQSHM_OK) return rc;
	if (was && !mqi_config_load(h->hdr, &now, &version))
		rc = mqi_fail(MQSHM_CORRUPT, "the configuration changes under its lock");
	else if (was && memcmp(was, &now, sizeof now) != 0)
		rc = mqi_fail(MQSHM_EXISTS, "another process has changed the configuration meanwhile");
	else mqi_config_store(h->hdr, config);
	mqi_control_unlock(h);
	return rc;
}

int mqshm_config_set(mqshm_t *h, const mqshm_config *config) { return set(h, NULL, config); }
int mqshm_config_swap(mqshm_t *h, const mqshm_config *was, const mqshm_config *config) { return set(h, was, config); }
