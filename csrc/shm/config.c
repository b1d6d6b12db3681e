#include "shm/config.h"

#define LOOKS 1000

/* The numbers come first in both structs, in the same order. */
#define NUMBERS (offsetof(mqshm_config, dead_letter_topic) / sizeof(uint64_t))
#define TOPIC_WORDS (MQI_TOPIC_MAX / sizeof(uint64_t))
_Static_assert(offsetof(struct config_shm, dead_letter_size) == offsetof(mqshm_config, dead_letter_size), "same numbers");
_Static_assert(sizeof(((mqshm_config *)0)->dead_letter_topic) == MQI_TOPIC_MAX, "same topic");
_Static_assert(offsetof(struct config_shm, dead_letter_topic) % sizeof(uint64_t) == 0, "copied by words");

int mqi_config_check(const mqshm_config *config)
{
	if (config->dead_letter_size > MQI_TOPIC_MAX)
		return mqi_fail(MQSHM_INVALID, "a dead-letter topic of %llu bytes; at most %u fit",
		                (unsigned long long)config->dead_letter_size, MQI_TOPIC_MAX);
	if (config->overflow > MQSHM_DROP_LOWEST)
		return mqi_fail(MQSHM_INVALID, "overflow %llu is no policy", (unsigned long long)config->overflow);
	return MQSHM_OK;
}

static void copy_words(uint64_t *to, const uint64_t *from, size_t words)
{
	for (size_t i = 0; i < words; i++) mqi_store_rlx(&to[i], mqi_load_rlx(&from[i]));
}

static void copy_within(struct config_shm *to, const struct config_shm *from)
{
	copy_words((uint64_t *)to, (const uint64_t *)from, sizeof *to / sizeof(uint64_t));
}

/* Makes config_next hold, then config the same. Each fence pairs with those of mqi_config_load: a reader that sees a
 * word of the new copy sees that the version has moved away from the one under which the copy was whole. */
static void adopt(struct header_shm *hdr, uint64_t odd)
{
	mqi_store_rel(&hdr->config_version, odd);
	mqi_fence_sc();
	copy_within(&hdr->config, &hdr->config_next);
	mqi_store_rel(&hdr->config_version, odd + 1);
	mqi_fence_sc();
}

void mqi_config_store(struct header_shm *hdr, const mqshm_config *config)
{
	uint64_t version = mqi_load_acq(&hdr->config_version);
	if (version & 1) adopt(hdr, version++); /* a setter died in the middle */
	uint64_t numbers[NUMBERS], topic[TOPIC_WORDS];
	memcpy(numbers, config, sizeof numbers);
	memcpy(topic, config->dead_letter_topic, sizeof topic);
	copy_words((uint64_t *)&hdr->config_next, numbers, NUMBERS);
	copy_words((uint64_t *)hdr->config_next.dead_letter_topic, topic, TOPIC_WORDS);
	adopt(hdr, version + 1);
}

bool mqi_config_load(struct header_shm *hdr, mqshm_config *out, uint64_t *version)
{
	uint64_t numbers[NUMBERS], topic[TOPIC_WORDS];
	for (unsigned look = 0; look < LOOKS; look++) {
		uint64_t before = mqi_load_acq(&hdr->config_version);
		const struct config_shm *from = before & 1 ? &hdr->config_next : &hdr->config;
		copy_words(numbers, (const uint64_t *)from, NUMBERS);
		copy_words(topic, (const uint64_t *)from->dead_letter_topic, TOPIC_WORDS);
		mqi_fence_sc();
		if (mqi_load_rlx(&hdr->config_version) != before) continue;
		memcpy(out, numbers, sizeof numbers);
		memcpy(out->dead_letter_topic, topic, sizeof topic);
		if (out->dead_letter_size > MQI_TOPIC_MAX) out->dead_letter_size = 0;
		*version = before;
		return true;
	}
	return false;
}
