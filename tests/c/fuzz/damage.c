#include "damage.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- a word or a few ---- */

static uint64_t get(int fd, uint64_t at)
{
	uint64_t word = 0;
	must(pread(fd, &word, sizeof word, (off_t)at) >= 0, "read at %llu: %s", (unsigned long long)at, strerror(errno));
	return word;
}
static void put(int fd, uint64_t at, uint64_t word)
{
	must(pwrite(fd, &word, sizeof word, (off_t)at) == sizeof word, "write at %llu: %s", (unsigned long long)at, strerror(errno));
}

/* The control lock's links are the C library's while somebody holds it; they are damaged only at rest. */
static bool is_lock(uint64_t at)
{
	uint64_t lock = offsetof(struct header_shm, control);
	return at + 8 > lock && at < lock + sizeof(pthread_mutex_t);
}

/* A word of the stretch; mostly one that says something. */
static uint64_t draw_word(struct tape *t, const struct stretch *s, int fd)
{
	uint64_t at = 0;
	for (unsigned i = 0; i < 8; i++) {
		at = s->at + (tape_word(t) % (s->size / 8)) * 8;
		if (get(fd, at)) break;
	}
	return at;
}

static uint64_t draw_value(struct tape *t, const struct stretch *s, int fd, uint64_t was)
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
	case 9: return get(fd, draw_word(t, s, fd));
	default: return was ^ 1ull << draw(t, 64);
	}
}

/* ---- larger ---- */

static void zero_page(struct tape *t, const struct stretch *s, int fd)
{
	static const unsigned char zeros[MQI_PAGE];
	uint64_t page = (s->at + tape_word(t) % s->size) / MQI_PAGE;
	if (page == 0) return; /* no more than a file of another kind */
	must(pwrite(fd, zeros, MQI_PAGE, (off_t)(page * MQI_PAGE)) == MQI_PAGE, "write: %s", strerror(errno));
}

/* Two stretches change places, as far as the shorter one goes. */
static void swap(const struct stretch *a, const struct stretch *b, int fd)
{
	unsigned char one[MQI_PAGE], other[MQI_PAGE];
	uint64_t size = a->size < b->size ? a->size : b->size;
	if (size > MQI_PAGE) size = MQI_PAGE;
	must(pread(fd, one, size, (off_t)a->at) == (ssize_t)size && pread(fd, other, size, (off_t)b->at) == (ssize_t)size, "read: %s", strerror(errno));
	must(pwrite(fd, other, size, (off_t)a->at) == (ssize_t)size && pwrite(fd, one, size, (off_t)b->at) == (ssize_t)size, "write: %s",
	     strerror(errno));
}

bool damage(struct tape *t, const struct image *image, int fd, bool at_rest)
{
	const struct stretch *s = &image->stretch[draw(t, image->stretches)];
	unsigned kind = draw(t, at_rest ? 200 : 100);
	if (kind == 199) {
		must(ftruncate(fd, (off_t)(tape_word(t) % image->span)) == 0, "truncate: %s", strerror(errno));
	} else if (kind == 198) {
		put(fd, offsetof(struct header_shm, version), tape_word(t));
	} else if (at_rest && kind >= 190) {
		zero_page(t, s, fd);
	} else if (at_rest && kind >= 184) {
		swap(s, &image->stretch[draw(t, image->stretches)], fd);
	} else {
		uint64_t at = draw_word(t, s, fd), value = draw_value(t, s, fd, get(fd, at));
		if (!at_rest && is_lock(at)) return true;
		note("%s, byte %llu of it (%llu): %016llx, not %016llx", s->what, (unsigned long long)(at - s->at), (unsigned long long)at,
		     (unsigned long long)value, (unsigned long long)get(fd, at));
		put(fd, at, value);
	}
	return kind != 199;
}
