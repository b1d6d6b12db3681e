/* Topics and patterns as text: what is one, and which matches which. Nothing here touches shared memory. */
#ifndef MQI_PATTERN_H
#define MQI_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#define MQI_TOPIC_CHARACTERS 1024

/* MQSHM_OK, or MQSHM_INVALID with a reason. A topic is words of UTF-8 separated by '.'; a pattern's words may also be
 * `*` (exactly one word) and `#` (zero or more). */
int mqi_topic_check(const char *text, uint32_t size);
int mqi_pattern_check(const char *text, uint32_t size);
int mqi_group_check(const char *text, uint32_t size);

/* Both must have passed the check, or come from where only such are written: any bytes are safe, and take at most
 * (words of the pattern) x (words of the topic) steps. */
bool mqi_pattern_match(const char *pattern, uint32_t pattern_size, const char *topic, uint32_t topic_size);

/* The next word of [*at, end); false after the last one. Text that ends in '.' ends in an empty word. */
struct mqi_word {
	const char *text;
	uint32_t size;
};
bool mqi_word_next(const char **at, const char *end, struct mqi_word *word);
static inline bool mqi_word_is(const struct mqi_word *w, char c) { return w->size == 1 && *w->text == c; }

uint32_t mqi_text_hash(const char *text, uint32_t size, uint32_t seed);

#endif
