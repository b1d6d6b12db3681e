/* How a segment is damaged: what is where in it, and what is done to it there. */
#ifndef FUZZ_DAMAGE_H
#define FUZZ_DAMAGE_H

#include "tape.h"
#include "world.h"

/* A stretch of the segment whose words are of one kind. */
struct stretch {
	const char *what;
	uint64_t at, size;
};
#define STRETCHES_MOST 512u

struct extent {
	uint64_t at, size;
	unsigned char *bytes;
};
#define EXTENTS_MOST 1024u

/* A segment as it was left by processes that are gone: what of it is memory, and what is where. */
struct image {
	uint64_t span;
	unsigned extents, stretches;
	struct extent extent[EXTENTS_MOST];
	struct stretch stretch[STRETCHES_MOST];
};

/* Builds a broker with all that a segment can hold, in the state in which its processes died. */
void image_make(struct image *image, uint64_t seed);
/* A file that holds an image, as whoever damages it sees it. */
struct victim {
	const struct image *image;
	int fd;
	unsigned char *map;
};
struct victim image_restore(const struct image *image);

/* One piece of damage, drawn; `at_rest`: nobody else has the file mapped, so it may be cut. false: it was, and there is
 * no more to be done to it. */
bool damage(struct tape *t, const struct victim *v, bool at_rest);

#endif
