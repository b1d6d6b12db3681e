#include "tally.h"

#include <stdio.h>
#include <string.h>

#define MESSAGES_MOST (1u << 20)
#define PRODUCERS 256u

enum { UNUSED, TRYING, IN, REFUSED };

/* One thread writes each field of a message at a time; acknowledgements are counted by anybody. */
static struct {
	uint8_t state, group, producer;
	uint8_t ending[TALLY_GROUPS], ended[TALLY_GROUPS];
} messages[MESSAGES_MOST];
static uint32_t next;

uint32_t tally_count(void) { return __atomic_load_n(&next, __ATOMIC_RELAXED); }

uint32_t tally_new(unsigned producer)
{
	uint32_t message = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
	if (message >= MESSAGES_MOST) return UINT32_MAX;
	messages[message].producer = (uint8_t)producer;
	__atomic_store_n(&messages[message].state, TRYING, __ATOMIC_RELEASE);
	return message;
}

static unsigned char byte_at(uint32_t message, uint32_t i) { return (unsigned char)(message * 131 + i * 17 + (i >> 8)); }

void tally_fill(unsigned char *data, uint32_t message, uint32_t size)
{
	memcpy(data, &message, sizeof message);
	for (uint32_t i = sizeof message; i < size; i++) data[i] = byte_at(message, i);
}

uint32_t tally_read(const unsigned char *data, uint64_t size)
{
	uint32_t message;
	if (size < sizeof message) return UINT32_MAX;
	memcpy(&message, data, sizeof message);
	for (uint32_t i = sizeof message; i < size; i++)
		if (data[i] != byte_at(message, i)) return UINT32_MAX;
	if (message >= MESSAGES_MOST || __atomic_load_n(&messages[message].state, __ATOMIC_ACQUIRE) == UNUSED) return UINT32_MAX;
	return message;
}

void tally_published(uint32_t message, bool is_in) { __atomic_store_n(&messages[message].state, is_in ? IN : REFUSED, __ATOMIC_RELEASE); }
void tally_ending(uint32_t message, unsigned group) { __atomic_fetch_add(&messages[message].ending[group], 1, __ATOMIC_RELAXED); }
void tally_ended(uint32_t message, unsigned group) { __atomic_fetch_add(&messages[message].ended[group], 1, __ATOMIC_RELAXED); }

bool tally_in_order(uint32_t message, uint32_t *last_of)
{
	uint32_t *last = &last_of[messages[message].producer];
	bool fine = message >= *last;
	*last = message;
	return fine;
}

static bool wrong(uint32_t message, unsigned group, const char *what)
{
	static unsigned shown;
	if (shown++ < 20) printf("  message %u in group %u %s\n", message, group, what);
	return false;
}

static bool check(uint32_t i, unsigned group, bool calm, uint64_t *missing)
{
	unsigned ended = messages[i].ended[group], state = messages[i].state;
	if (ended > 1) return wrong(i, group, "was acknowledged twice");
	if (ended && state == REFUSED) return wrong(i, group, "was refused and delivered");
	if (ended || state != IN) return true;
	if (group == DROPPING) {
		++*missing;
		return true;
	}
	if (messages[i].ending[group] && !calm) return true; /* died while it said so */
	return wrong(i, group, "was published and is lost");
}

bool tally_check(bool calm, uint64_t dropped)
{
	bool fine = true;
	uint64_t missing = 0;
	for (uint32_t i = 0; i < MESSAGES_MOST && i < next; i++) {
		unsigned group = messages[i].producer % TALLY_GROUPS;
		fine &= check(i, group, calm, &missing);
		if (group == WORK) fine &= check(i, COPY, calm, &missing);
	}
	if (calm && missing != dropped) {
		printf("  %llu messages are missing, %llu were dropped\n", (unsigned long long)missing, (unsigned long long)dropped);
		fine = false;
	}
	return fine;
}
