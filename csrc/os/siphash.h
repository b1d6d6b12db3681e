/* SipHash-2-4 with 128 bits of result: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, and the 128-bit
 * variant of its authors' reference. Who does not know the key cannot choose inputs that collide.
 */
#ifndef MQI_SIPHASH_H
#define MQI_SIPHASH_H

#include <stdint.h>
#include <string.h>

struct mqi_sip {
	uint64_t a, b, c, d;
};

static inline uint64_t mqi_sip_turn(uint64_t x, unsigned by) { return x << by | x >> (64 - by); }

static inline void mqi_sip_rounds(struct mqi_sip *s, unsigned n)
{
	while (n--) {
		s->a += s->b;
		s->c += s->d;
		s->b = mqi_sip_turn(s->b, 13) ^ s->a;
		s->d = mqi_sip_turn(s->d, 16) ^ s->c;
		s->a = mqi_sip_turn(s->a, 32) + s->d;
		s->c += s->b;
		s->b = mqi_sip_turn(s->b, 17) ^ s->c;
		s->d = mqi_sip_turn(s->d, 21) ^ s->a;
		s->c = mqi_sip_turn(s->c, 32);
	}
}

static inline void mqi_sip_word(struct mqi_sip *s, uint64_t word)
{
	s->d ^= word;
	mqi_sip_rounds(s, 2);
	s->a ^= word;
}

/* Of `first`, then the `size` bytes at `data`. Words are taken in this machine's order of bytes: no other reads them. */
static inline void mqi_siphash(const uint64_t key[2], uint64_t first, const void *data, uint64_t size, uint64_t out[2])
{
	struct mqi_sip s = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull ^ 0xee, key[0] ^ 0x6c7967656e657261ull,
		            key[1] ^ 0x7465646279746573ull};
	const unsigned char *at = data;
	uint64_t word, left = size;
	mqi_sip_word(&s, first);
	for (; left >= 8; at += 8, left -= 8) {
		memcpy(&word, at, 8);
		mqi_sip_word(&s, word);
	}
	word = 0;
	if (left) memcpy(&word, at, left);
	mqi_sip_word(&s, word | (size + 8) << 56);
	s.c ^= 0xee;
	mqi_sip_rounds(&s, 4);
	out[0] = s.a ^ s.b ^ s.c ^ s.d;
	s.b ^= 0xdd;
	mqi_sip_rounds(&s, 4);
	out[1] = s.a ^ s.b ^ s.c ^ s.d;
}

#endif
