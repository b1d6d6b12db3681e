#include "words.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

#define WORDS_MOST 32768u

static struct word {
	const void *at;
	unsigned readers, writers; /* a bit per actor, and SURVIVOR's */
	unsigned worth;            /* what this search goes by */
} words[WORDS_MOST];
static uint32_t count;
static bool grew;

static struct word *word_of(const void *at)
{
	uint32_t i = (uint32_t)((uintptr_t)at >> 2) * 2654435761u % WORDS_MOST;
	while (words[i].at && words[i].at != at) i = (i + 1) % WORDS_MOST;
	if (!words[i].at) {
		if (++count > WORDS_MOST / 2) {
			fprintf(stderr, "explore: too many words\n");
			abort();
		}
		words[i].at = at;
	}
	return &words[i];
}

static bool several(unsigned bits) { return (bits & (bits - 1)) != 0; }

static unsigned worth(const struct word *w)
{
	unsigned actors = (1u << SURVIVOR) - 1, all = w->readers | w->writers;
	if (!(w->writers & actors)) return 0;
	return (several(all & actors) ? PREEMPTABLE : 0) | (several(all) ? MORTAL : 0);
}

unsigned words_use(const void *at, unsigned user, bool writes)
{
	struct word *w = word_of(at);
	unsigned was = worth(w);
	w->readers |= 1u << user;
	if (writes) w->writers |= 1u << user;
	if (worth(w) != was) grew = true;
	return w->worth;
}

bool words_grew(void) { return grew; }

void words_begin(void)
{
	grew = false;
	for (uint32_t i = 0; i < WORDS_MOST; i++)
		if (words[i].at) words[i].worth = worth(&words[i]);
}

void words_forget(void)
{
	memset(words, 0, sizeof words);
	count = 0;
}
