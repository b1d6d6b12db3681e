#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/handle.h"
#include "one_mapping.h"
#include "scheduler.h"
#include "shm/peers.h"
#include "shm/subs.h"

#define PAGES_MOST 4096u
#define REACH 2047u /* bytes behind an announced word that its owner also fills: a small payload */
#define ARENA_SIZE (8u << 20)
#define START_NS (1000ull * 1000000000u)

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *was, size_t size);
void __wrap_free(void *was);
int __real_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size);

/* ---- the segment: pages are saved just before their first change ---- */

static struct saved {
	uint64_t page; /* plus one; 0: free */
	bool dirty;
	unsigned char content[MQI_PAGE];
} *saved;
static uint32_t dirty[PAGES_MOST], dirty_count, saved_count;
static bool frozen;

static struct saved *find(uint64_t page, uint32_t *at)
{
	for (*at = (uint32_t)(page * 2654435761u) % PAGES_MOST;; *at = (*at + 1) % PAGES_MOST)
		if (saved[*at].page == page + 1 || !saved[*at].page) return &saved[*at];
}

static void touch_page(uint64_t page)
{
	uint32_t at;
	struct saved *s = find(page, &at);
	if (!s->page) {
		if (++saved_count > PAGES_MOST / 2) {
			fprintf(stderr, "explore: an execution changes too many pages\n");
			abort();
		}
		s->page = page + 1;
		memcpy(s->content, mqt_base() + page * MQI_PAGE, MQI_PAGE);
	}
	if (!s->dirty) {
		s->dirty = true;
		dirty[dirty_count++] = at;
	}
}

void memory_touch(const void *word)
{
	uint64_t at = (uint64_t)((const unsigned char *)word - mqt_base());
	if (!frozen || !word || at >= mqt_span()) return;
	touch_page(at / MQI_PAGE);
	if ((at + REACH) / MQI_PAGE != at / MQI_PAGE && at + REACH < mqt_span()) touch_page((at + REACH) / MQI_PAGE);
}

/* Memory is there as soon as it is touched, so only the giving back has an effect: zeros. */
int __wrap_fallocate(int fd, int mode, off_t offset, off_t size)
{
	(void)fd;
	if (!(mode & FALLOC_FL_PUNCH_HOLE)) return 0;
	static const unsigned char zeros[MQI_PAGE];
	for (uint64_t page = (uint64_t)offset / MQI_PAGE; page < (uint64_t)(offset + size) / MQI_PAGE; page++) {
		unsigned char *at = mqt_base() + page * MQI_PAGE;
		if (memcmp(at, zeros, MQI_PAGE) == 0) continue;
		if (frozen) touch_page(page);
		memset(at, 0, MQI_PAGE);
	}
	return 0;
}

/* ---- private memory: everything the core allocates, from one arena ---- */

static _Alignas(64) unsigned char arena[ARENA_SIZE];
static unsigned char *arena_copy;
static size_t arena_used, arena_frozen;

void *__wrap_malloc(size_t size)
{
	size_t room = (size + 64 + 63) & ~(size_t)63;
	if (room > ARENA_SIZE - arena_used) return NULL;
	unsigned char *block = arena + arena_used;
	arena_used += room;
	memcpy(block, &size, sizeof size);
	return block + 64;
}

void *__wrap_calloc(size_t n, size_t size)
{
	void *block = __wrap_malloc(n * size);
	return block ? memset(block, 0, n * size) : NULL;
}

void *__wrap_realloc(void *was, size_t size)
{
	size_t had = 0;
	if (was) memcpy(&had, (unsigned char *)was - 64, sizeof had);
	void *block = __wrap_malloc(size);
	return block && was ? memcpy(block, was, had < size ? had : size) : block;
}

void __wrap_free(void *was) { (void)was; }

/* ---- both ---- */

int memory_begin(const mqshm_config *config)
{
	static struct saved pages[PAGES_MOST];
	saved = pages;
	for (uint32_t i = 0; i < PAGES_MOST; i++) pages[i].page = 0, pages[i].dirty = false;
	dirty_count = saved_count = 0;
	frozen = false;
	arena_used = 0;
	return mqt_segment(config);
}

static uint64_t clock_ns = START_NS, clock_frozen;

void memory_freeze(void)
{
	static unsigned char copy[ARENA_SIZE];
	arena_copy = copy;
	arena_frozen = arena_used;
	memcpy(copy, arena, arena_used);
	clock_frozen = clock_ns;
	frozen = true;
}

void memory_restore(void)
{
	for (uint32_t i = 0; i < dirty_count; i++) {
		struct saved *s = &saved[dirty[i]];
		memcpy(mqt_base() + (s->page - 1) * MQI_PAGE, s->content, MQI_PAGE);
		s->dirty = false;
	}
	dirty_count = 0;
	memcpy(arena, arena_copy, arena_frozen);
	arena_used = arena_frozen;
	clock_ns = clock_frozen;
}

/* ---- time ---- */

int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
	(void)id;
	*out = (struct timespec){.tv_sec = (time_t)(clock_ns / 1000000000u), .tv_nsec = (long)(clock_ns % 1000000000u)};
	return 0;
}

uint64_t clock_ms(void) { return clock_ns / 1000000u; }

void clock_advance(uint64_t ms)
{
	clock_ns += ms * 1000000u;
	something_happened();
}

uint64_t real_ns(void)
{
	struct timespec t;
	__real_clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- names ---- */

static char name[96];

static bool name_in_sub(uint64_t at, uint32_t row)
{
	const struct header_shm *hdr = (const struct header_shm *)mqt_base();
	const struct sub_shm *s = (const struct sub_shm *)(mqt_base() + hdr->areas[AREA_SUBS].offset) + row;
	for (unsigned i = 0; i < SUB_AREAS; i++) {
		uint64_t within = at - s->areas[i].offset;
		if (at < s->areas[i].offset || within >= s->areas[i].size || !s->areas[i].size) continue;
		static const char *const fields[] = {"word", "place", "seq", "published_ns", "info", "data", "data+8", "data+16"};
		if (i == SUB_PAGE)
			snprintf(name, sizeof name, "sub%u.%s[%u]", row,
			         within >= s->due_offset ? "due_hint" : within >= s->again_offset ? "again_hint" : "free_hint",
			         (unsigned)(within - (within >= s->due_offset ? s->due_offset : within >= s->again_offset ? s->again_offset : s->free_offset)) / 8);
		else if (i == SUB_SLOTS) {
			uint64_t field = within % sizeof(struct slot_shm) / 8;
			snprintf(name, sizeof name, "sub%u.slot%u.%s", row, (unsigned)(within / sizeof(struct slot_shm)), field < 8 ? fields[field] : "data+");
		} else if (i == SUB_TIMES) snprintf(name, sizeof name, "sub%u.time%u", row, (unsigned)within / 8);
		else snprintf(name, sizeof name, "sub%u.ring%u.cell%u", row, i - SUB_RING, (unsigned)within / 8);
		return true;
	}
	return false;
}

static void name_sub_row(uint32_t row, uint64_t field)
{
	static const struct {
		uint64_t at;
		const char *name;
	} fields[] = {{offsetof(struct sub_shm, next_due), "next_due"}, {offsetof(struct sub_shm, used), "used"},
	              {offsetof(struct sub_shm, again), "again"}, {offsetof(struct sub_shm, space_waiters), "space_waiters"},
	              {offsetof(struct sub_shm, members), "members"}, {offsetof(struct sub_shm, waiters), "waiters"},
	              {offsetof(struct sub_shm, slots_ready), "slots_ready"}, {offsetof(struct sub_shm, tail), "tail"},
	              {offsetof(struct sub_shm, head), "head"}, {offsetof(struct sub_shm, areas), "areas"},
	              {8, "fields"}, {0, "word"}};
	unsigned i = 0;
	while (fields[i].at > field) i++;
	snprintf(name, sizeof name, "sub%u.%s+%u", row, fields[i].name, (unsigned)(field - fields[i].at));
}

const char *memory_name(const void *word)
{
	const struct header_shm *hdr = (const struct header_shm *)mqt_base();
	uint64_t at = (uint64_t)((const unsigned char *)word - mqt_base()), peers = hdr->areas[AREA_PEERS].offset, subs = hdr->areas[AREA_SUBS].offset;
	if (!word) return "-";
	if (at >= mqt_span()) return "private";
	if (at >= peers && at - peers < hdr->areas[AREA_PEERS].size) {
		uint64_t field = (at - peers) % sizeof(struct peer_shm);
		const char *what = field == 0 ? "word" : field == offsetof(struct peer_shm, busy) ? "busy" :
		                   field == offsetof(struct peer_shm, bell) ? "bell" : field >= offsetof(struct peer_shm, touched) ? "touched" : "identity";
		snprintf(name, sizeof name, "peer%u.%s", (unsigned)((at - peers) / sizeof(struct peer_shm)), what);
		return name;
	}
	if (at >= subs && at - subs < hdr->areas[AREA_SUBS].size) {
		name_sub_row((uint32_t)((at - subs) / sizeof(struct sub_shm)), (at - subs) % sizeof(struct sub_shm));
		return name;
	}
	for (uint32_t row = 0; row < hdr->subs_top; row++)
		if (name_in_sub(at, row)) return name;
	if (at >= hdr->units_offset) snprintf(name, sizeof name, "unit%u+0x%x", (unsigned)((at - hdr->units_offset) >> MQI_UNIT_SHIFT),
	                                      (unsigned)((at - hdr->units_offset) & (MQI_UNIT - 1)));
	else if (at >= hdr->counters_offset) snprintf(name, sizeof name, "counters+0x%llx", (unsigned long long)(at - hdr->counters_offset));
	else if (at == offsetof(struct header_shm, subs_version)) return "header.subs_version";
	else if (at == offsetof(struct header_shm, next_seq)) return "header.next_seq";
	else if (at == offsetof(struct header_shm, watch)) return "header.watch";
	else if (at == offsetof(struct header_shm, control)) return "header.control";
	else snprintf(name, sizeof name, "segment+0x%llx", (unsigned long long)at);
	return name;
}
