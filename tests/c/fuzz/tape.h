/* Where choices come from: a seed, or the bytes that a fuzzer made. */
#ifndef FUZZ_TAPE_H
#define FUZZ_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tape {
	uint64_t state;           /* of the seed's sequence; 0: bytes */
	const uint8_t *at, *end;
};

static inline uint64_t tape_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static inline struct tape tape_of_seed(uint64_t seed) { return (struct tape){.state = tape_mix(seed) | 1}; }
static inline struct tape tape_of_bytes(const uint8_t *bytes, size_t size)
{
	return (struct tape){.at = bytes, .end = bytes + size};
}

static inline bool tape_over(const struct tape *t) { return !t->state && t->at == t->end; }

static inline uint64_t tape_word(struct tape *t)
{
	if (t->state) {
		t->state += 2;
		return tape_mix(t->state);
	}
	uint64_t word = 0;
	for (unsigned i = 0; i < 2 && t->at < t->end; i++) word = word << 8 | *t->at++;
	return word;
}

/* 0 to n - 1. */
static inline uint32_t draw(struct tape *t, uint32_t n) { return (uint32_t)(tape_word(t) % n); }
static inline bool chance(struct tape *t, uint32_t one_in) { return draw(t, one_in) == 0; }

#endif
