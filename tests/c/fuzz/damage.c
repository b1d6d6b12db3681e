#include "damage.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- a word or a few ---- */

static uint64_t get(const struct victim *v, uint64_t at)
{
	uint64_t word;
	memcpy(&word, v->map + at, sizeof word);
	return word;
}

/* The control lock's links are the C library's while somebody holds it; they are damaged only at rest. */
static bool is_lock(uint64_t at)
{
	uint64_t lock = offsetof(struct header_shm, control);
	return at + 8 > lock && at < lock + sizeof(pthread_mutex_t);
}

/* A word of the stretch; mostly one that says something. */
static uint64_t draw_word(struct tape *t, const struct stretch *s, const struct victim *v)
{
	uint64_t at = 0;
	for (unsigned i = 0; i < 8; i++) {
		at = s->at + (tape_word(t) % (s->size / 8)) * 8;
		if (get(v, at)) break;
	}
	return at;
}

static uint64_t draw_value(struct tape *t, const struct stretch *s, const struct victim *v, uint64_t was)
{
	unsigned half = 32 * draw(t, 2);
	switch (draw(t, 12)) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return tape_word(t);
	case 3: return 1ull << draw(t, 64);
	case 4: return was + draw(t, 32) - 16;
	case 5: return (was & ~(0xffffffffull << half)) | (tape_word(t) & 0xffffffff) << half;
	case 6: return (was & ~(0xffffffffull << half)) | (uint64_t)(draw(t, 300)) << half;
	case 7: return was + (1ull << draw(t, 64));
	case 8: /* another word of its kind */
	case 9: return get(v, draw_word(t, s, v));
	default: return was ^ 1ull << draw(t, 64);
	}
}

/* ---- larger ---- */

static void zero_page(struct tape *t, const struct stretch *s, const struct victim *v)
{
	uint64_t page = (s->at + tape_word(t) % s->size) / MQI_PAGE;
	if (page) memset(v->map + page * MQI_PAGE, 0, MQI_PAGE); /* without the first it is no more than a file of another kind */
}

/* Two stretches change places, as far as the shorter one goes. */
static void swap(const struct stretch *a, const struct stretch *b, const struct victim *v)
{
	unsigned char one[MQI_PAGE];
	uint64_t size = a->size < b->size ? a->size : b->size;
	if (size > MQI_PAGE) size = MQI_PAGE;
	memcpy(one, v->map + a->at, size);
	memmove(v->map + a->at, v->map + b->at, size);
	memcpy(v->map + b->at, one, size);
}

bool damage(struct tape *t, const struct victim *v, bool at_rest)
{
	const struct image *image = v->image;
	const struct stretch *s = &image->stretch[draw(t, image->stretches)];
	unsigned kind = draw(t, at_rest ? 200 : 100);
	if (kind == 199) {
		must(ftruncate(v->fd, (off_t)(tape_word(t) % image->span)) == 0, "truncate: %s", strerror(errno));
		return false;
	}
	if (at_rest && kind >= 190) {
		zero_page(t, s, v);
	} else if (at_rest && kind >= 184) {
		swap(s, &image->stretch[draw(t, image->stretches)], v);
	} else {
		uint64_t at = draw_word(t, s, v), value = draw_value(t, s, v, get(v, at));
		if (kind == 183) {
			at = offsetof(struct header_shm, version); /* and the size of the header */
			value = tape_word(t);
		}
		if (!at_rest && is_lock(at)) return true;
		note("%s, byte %llu of it (%llu): %016llx, not %016llx", s->what, (unsigned long long)(at - s->at), (unsigned long long)at,
		     (unsigned long long)value, (unsigned long long)get(v, at));
		memcpy(v->map + at, &value, sizeof value);
	}
	return true;
}
