#include "shm/pattern.h"

#include <string.h>

#include "shm/handle.h"

/* The next character of well-formed UTF-8 (no surrogates, nothing overlong); 0 where it is not. Moves *at on. */
static uint32_t next_character(const unsigned char **at, const unsigned char *end)
{
	const unsigned char *p = *at;
	uint32_t c = *p++;
	unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 4;
	if (more == 4 || (size_t)(end - p) < more) return 0;
	if (more) c &= 0x3fu >> more;
	for (unsigned i = 0; i < more; i++, p++) {
		if ((*p & 0xc0) != 0x80) return 0;
		c = c << 6 | (*p & 0x3f);
	}
	if ((more == 2 && c < 0x800) || (more == 3 && c < 0x10000) || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
	*at = p;
	return c;
}

static int check_characters(const char *what, const char *text, uint32_t size, uint32_t most)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + size;
	uint32_t count = 0;
	if (size == 0) return mqi_fail(MQSHM_INVALID, "a %s needs at least one character", what);
	while (at < end) {
		uint32_t position = (uint32_t)(at - (const unsigned char *)text);
		bool nul = *at == 0;
		uint32_t c = next_character(&at, end);
		if (c == 0 && !nul) return mqi_fail(MQSHM_INVALID, "the %s is not UTF-8 at byte %u", what, position);
		if (c < 0x20 || (c >= 0x7f && c < 0xa0))
			return mqi_fail(MQSHM_INVALID, "the %s has the control character U+%04X at byte %u", what, c, position);
		if (++count > most) return mqi_fail(MQSHM_INVALID, "the %s has more than %u characters", what, most);
	}
	return MQSHM_OK;
}

static int check_words(const char *what, const char *text, uint32_t size, bool pattern)
{
	int rc = check_characters(what, text, size, MQI_TOPIC_CHARACTERS);
	if (rc != MQSHM_OK) return rc;
	const char *at = text, *end = text + size;
	struct mqi_word w;
	while (mqi_word_next(&at, end, &w)) {
		if (w.size == 0)
			return mqi_fail(MQSHM_INVALID, "the %s '%.*s' has an empty word: words are separated by single dots", what,
			                (int)size, text);
		if (pattern && (mqi_word_is(&w, '*') || mqi_word_is(&w, '#'))) continue;
		if (!memchr(w.text, '*', w.size) && !memchr(w.text, '#', w.size)) continue;
		if (pattern)
			return mqi_fail(MQSHM_INVALID, "the pattern '%.*s' has '*' or '#' within a word: each stands for whole words only",
			                (int)size, text);
		return mqi_fail(MQSHM_INVALID, "the topic '%.*s' has '*' or '#', which belong in patterns", (int)size, text);
	}
	return MQSHM_OK;
}

int mqi_topic_check(const char *text, uint32_t size) { return check_words("topic", text, size, false); }
int mqi_pattern_check(const char *text, uint32_t size) { return check_words("pattern", text, size, true); }

int mqi_group_check(const char *text, uint32_t size)
{
	if (size > MQI_NAME_MAX) return mqi_fail(MQSHM_INVALID, "the group's name has %u bytes, at most %u fit", size, MQI_NAME_MAX);
	return check_characters("group's name", text, size, MQI_NAME_MAX);
}

bool mqi_word_next(const char **at, const char *end, struct mqi_word *word)
{
	if (!*at) return false;
	const char *dot = memchr(*at, '.', (size_t)(end - *at));
	word->text = *at;
	word->size = (uint32_t)((dot ? dot : end) - *at);
	*at = dot ? dot + 1 : NULL;
	return true;
}

/* As for file names: only the last `#` seen can need to take one word more. */
bool mqi_pattern_match(const char *pattern, uint32_t pattern_size, const char *topic, uint32_t topic_size)
{
	const char *p = pattern, *p_end = pattern + pattern_size, *t = topic, *t_end = topic + topic_size;
	const char *p_again = NULL, *t_again = NULL;
	bool open = false;
	for (;;) {
		const char *p_next = p, *t_next = t;
		struct mqi_word pw, tw;
		bool some_p = mqi_word_next(&p_next, p_end, &pw), some_t = mqi_word_next(&t_next, t_end, &tw);
		if (some_p && mqi_word_is(&pw, '#')) {
			open = true;
			p_again = p_next;
			t_again = t;
			p = p_next;
		} else if (!some_p && !some_t) {
			return true;
		} else if (some_p && some_t &&
		           (mqi_word_is(&pw, '*') || (pw.size == tw.size && memcmp(pw.text, tw.text, pw.size) == 0))) {
			p = p_next;
			t = t_next;
		} else {
			if (!open || !mqi_word_next(&t_again, t_end, &tw)) return false;
			p = p_again;
			t = t_again;
		}
	}
}

uint32_t mqi_text_hash(const char *text, uint32_t size, uint32_t seed)
{
	uint64_t x = 0xcbf29ce484222325ull ^ seed;
	for (uint32_t i = 0; i < size; i++) x = (x ^ (unsigned char)text[i]) * 0x100000001b3ull;
	x ^= x >> 32;
	x *= 0x9e3779b97f4a7c15ull;
	return (uint32_t)(x >> 32);
}
