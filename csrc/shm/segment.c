#include "shm/segment.h"

#include <errno.h>
#include <sys/random.h>

#include "os/mapping.h"
#include "shm/config.h"

#define NAMES_SIZE (256ull << 20)
#define TRIE_SIZE (64ull << 20)
#define TOPIC_SHEET (MQI_TOPICS * sizeof(struct topic_counters_shm))
#define SUB_SHEET (MQI_SUBS * sizeof(struct sub_counters_shm))

#define UNITS_MIN 64ull /* one word of hints */
#define UNITS_MAX 65536ull
#define UNITS_DEFAULT_MIN 4096ull

/* Rows of peers that are memory from the start: a broker at its limit can still be looked into. */
#define FIRST_PEERS 64

_Static_assert(TOPIC_SHEET % MQI_PAGE == 0 && SUB_SHEET % MQI_PAGE == 0, "sheets are whole pages");

/* Where everything is. It follows from the number of units alone, so it is not read from a segment but compared. */
struct plan {
	uint64_t buckets, hints, fixed;
	uint64_t area[HEADER_AREAS], area_size[HEADER_AREAS];
	uint64_t counters, units, span;
};

static uint64_t up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

static struct plan make_plan(uint64_t units)
{
	struct plan p;
	p.area_size[AREA_PEERS] = MQI_PEERS * sizeof(struct peer_shm);
	p.area_size[AREA_SUBS] = MQI_SUBS * sizeof(struct sub_shm);
	p.area_size[AREA_TOPICS] = (uint64_t)MQI_TOPICS * sizeof(struct topic_shm);
	p.area_size[AREA_NAMES] = NAMES_SIZE;
	p.area_size[AREA_TRIE] = TRIE_SIZE;
	p.area_size[AREA_UNITS] = units * sizeof(struct unit_shm);
	p.area_size[AREA_IDS] = p.area_size[AREA_IDS_TOO] = MQI_IDS_SIZE;
	p.buckets = up(sizeof(struct header_shm), MQI_PAGE);
	p.hints = p.buckets + MQI_TOPIC_BUCKETS * sizeof(uint32_t);
	p.fixed = up(p.hints + units / 8, MQI_PAGE);
	uint64_t at = p.fixed;
	for (unsigned i = 0; i < HEADER_AREAS; i++) {
		p.area[i] = at;
		at = up(at + p.area_size[i], MQI_PAGE);
	}
	p.counters = at;
	p.units = up(at + MQI_PEERS * (TOPIC_SHEET + SUB_SHEET), MQI_UNIT);
	p.span = p.units + (units << MQI_UNIT_SHIFT);
	return p;
}

/* Address space for twice the machine's memory: what is in holes costs nothing. */
static uint64_t default_units(void)
{
	uint64_t units = UNITS_DEFAULT_MIN;
	while (units < UNITS_MAX && units << MQI_UNIT_SHIFT < 2 * mqi_physical_memory()) units *= 2;
	return units;
}

static void set_area(struct area_shm *a, uint64_t offset, uint64_t size, uint64_t committed)
{
	a->offset = offset;
	a->size = size;
	a->word = mqi_area_word(AREA_ACTIVE, MQI_NOBODY, (uint32_t)(committed / MQI_PAGE), 0, 0);
}

static int init_control(pthread_mutex_t *control)
{
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	int error = pthread_mutex_init(control, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return error ? mqi_fail(MQSHM_SYSTEM, "a robust mutex between processes: %s", strerror(error)) : MQSHM_OK;
}

/* Plain stores: nobody else knows of the file before it has its magic. */
static int fill_header(struct header_shm *hdr, const struct plan *p, uint64_t units, uint64_t first_peers,
                       const mqshm_config *config)
{
	hdr->version = MQI_LAYOUT_VERSION;
	hdr->header_size = sizeof *hdr;
	hdr->span = p->span;
	hdr->units = units;
	hdr->units_offset = p->units;
	hdr->counters_offset = p->counters;
	hdr->sheet_size = TOPIC_SHEET + SUB_SHEET;
	hdr->created_ns = mqi_wall_ns();
	mqi_boot_id(hdr->boot_id);
	hdr->buckets_offset = p->buckets;
	hdr->unit_hints_offset = p->hints;
	hdr->fixed_size = p->fixed;
	for (unsigned i = 0; i < HEADER_AREAS; i++)
		set_area(&hdr->areas[i], p->area[i], p->area_size[i], i == AREA_PEERS ? first_peers : 0);
	for (unsigned i = 0; i < MQI_PEERS; i++) {
		uint64_t sheet = p->counters + i * hdr->sheet_size;
		set_area(&hdr->sheets[i][0], sheet, TOPIC_SHEET, 0);
		set_area(&hdr->sheets[i][1], sheet + TOPIC_SHEET, SUB_SHEET, 0);
	}
	if (getrandom(hdr->secret, sizeof hdr->secret, 0) != (ssize_t)sizeof hdr->secret)
		return mqi_fail(MQSHM_SYSTEM, "random bytes: %s", strerror(errno));
	hdr->next_seq = 1;
	hdr->next_topic = 1;
	hdr->next_unit = 1;
	mqi_config_store(hdr, config);
	int rc = init_control(&hdr->control);
	/* Release: pairs with the look at the magic in check. */
	if (rc == MQSHM_OK) mqi_store_rel(&hdr->magic, MQI_MAGIC);
	return rc;
}

int mqi_segment_format(int fd, uint64_t units, const mqshm_config *config)
{
	if (units == 0) units = default_units();
	if (units < UNITS_MIN || units > UNITS_MAX || units % UNITS_MIN)
		return mqi_fail(MQSHM_INVALID, "%llu units; a segment has %llu to %llu, in steps of %llu", (unsigned long long)units,
		                UNITS_MIN, UNITS_MAX, UNITS_MIN);
	int rc = mqi_config_check(config);
	if (rc != MQSHM_OK) return rc;
	struct plan p = make_plan(units);
	uint64_t first_peers = up(FIRST_PEERS * sizeof(struct peer_shm), MQI_PAGE), size;
	int error = mqi_size(fd, &size);
	if (!error && size) return mqi_fail(MQSHM_EXISTS, "the file is not empty: it has %llu bytes", (unsigned long long)size);
	if (!error) error = mqi_resize(fd, p.span);
	if (!error) error = mqi_commit(fd, 0, p.area[AREA_PEERS] + first_peers);
	if (error == ENOSPC || error == ENOMEM)
		return mqi_fail(MQSHM_NO_MEMORY, "/dev/shm has no room for an empty segment");
	unsigned char *base = NULL;
	if (!error) error = mqi_map(fd, p.fixed, &base);
	if (error) return mqi_fail(MQSHM_SYSTEM, "making a segment of %llu bytes: %s", (unsigned long long)p.span, strerror(error));
	rc = fill_header((struct header_shm *)base, &p, units, first_peers, config);
	mqi_unmap(base, p.fixed);
	return rc;
}

static int differs(const char *what, uint64_t found, uint64_t expected)
{
	return mqi_fail(MQSHM_CORRUPT, "the segment's header is damaged: %s is %llu, not %llu", what, (unsigned long long)found,
	                (unsigned long long)expected);
}

static int check_area(const char *what, const struct area_shm *a, uint64_t offset, uint64_t size)
{
	unsigned state = mqi_area_state(a->word);
	uint64_t pages = up(size, MQI_PAGE) / MQI_PAGE;
	if (a->offset != offset) return differs(what, a->offset, offset);
	if (a->size != size) return differs(what, a->size, size);
	if (state != AREA_ACTIVE && state != AREA_GROWING) return differs(what, a->word, 0);
	if (mqi_area_committed(a->word) > pages) return differs(what, mqi_area_committed(a->word), pages);
	return MQSHM_OK;
}

/* A copy of the header, read without touching a page that may not be there. */
static int check(const struct header_shm *hdr, uint64_t size, struct plan *plan)
{
	if (hdr->magic != MQI_MAGIC) return mqi_fail(MQSHM_VERSION, "the file is no mqshm segment of this kind of machine");
	if (hdr->version != MQI_LAYOUT_VERSION)
		return mqi_fail(MQSHM_VERSION, "the segment has layout version %u; this mqshm knows %u", hdr->version, MQI_LAYOUT_VERSION);
	if (hdr->header_size != sizeof *hdr)
		return mqi_fail(MQSHM_VERSION, "the segment's header has %u bytes; this mqshm's has %zu", hdr->header_size, sizeof *hdr);
	uint64_t boot[2];
	mqi_boot_id(boot);
	if ((boot[0] || boot[1]) && (hdr->boot_id[0] || hdr->boot_id[1]) && memcmp(boot, hdr->boot_id, sizeof boot))
		return mqi_fail(MQSHM_VERSION, "the segment was made on another machine, or before this one was last started");
	if (hdr->units < UNITS_MIN || hdr->units > UNITS_MAX || hdr->units % UNITS_MIN)
		return mqi_fail(MQSHM_CORRUPT, "the segment's header is damaged: it has %llu units", (unsigned long long)hdr->units);
	*plan = make_plan(hdr->units);
	if (hdr->span != plan->span) return differs("the span", hdr->span, plan->span);
	if (hdr->units_offset != plan->units) return differs("the units' offset", hdr->units_offset, plan->units);
	if (hdr->counters_offset != plan->counters) return differs("the counters' offset", hdr->counters_offset, plan->counters);
	if (hdr->sheet_size != TOPIC_SHEET + SUB_SHEET) return differs("a sheet's size", hdr->sheet_size, TOPIC_SHEET + SUB_SHEET);
	if (hdr->buckets_offset != plan->buckets) return differs("the buckets' offset", hdr->buckets_offset, plan->buckets);
	if (hdr->unit_hints_offset != plan->hints) return differs("the hints' offset", hdr->unit_hints_offset, plan->hints);
	if (hdr->fixed_size != plan->fixed) return differs("the fixed part", hdr->fixed_size, plan->fixed);
	for (unsigned i = 0; i < HEADER_AREAS; i++) {
		int rc = check_area("an area of the header", &hdr->areas[i], plan->area[i], plan->area_size[i]);
		if (rc != MQSHM_OK) return rc;
	}
	for (unsigned i = 0; i < MQI_PEERS; i++) {
		uint64_t sheet = plan->counters + i * (TOPIC_SHEET + SUB_SHEET);
		int rc = check_area("a sheet of counters", &hdr->sheets[i][0], sheet, TOPIC_SHEET);
		if (rc == MQSHM_OK) rc = check_area("a sheet of counters", &hdr->sheets[i][1], sheet + TOPIC_SHEET, SUB_SHEET);
		if (rc != MQSHM_OK) return rc;
	}
	if (hdr->units_top > hdr->units) return differs("the top of the units", hdr->units_top, hdr->units);
	if (hdr->peers_top > MQI_PEERS) return differs("the top of the peers", hdr->peers_top, MQI_PEERS);
	if (hdr->subs_top > MQI_SUBS) return differs("the top of the subscriptions", hdr->subs_top, MQI_SUBS);
	if (size < plan->span)
		return mqi_fail(MQSHM_CORRUPT, "the segment's file was cut: %llu bytes of %llu", (unsigned long long)size,
		                (unsigned long long)plan->span);
	return MQSHM_OK;
}

static int read_checked(int fd, struct header_shm *hdr, uint64_t size, struct plan *plan)
{
	uint64_t magic = 0;
	int error = mqi_read(fd, 0, &magic, sizeof magic);
	/* Pairs with the release of the magic: the rest is read after it. */
	mqi_fence_sc();
	if (!error) error = mqi_read(fd, 0, hdr, sizeof *hdr);
	if (error) return mqi_fail(MQSHM_SYSTEM, "reading the segment's header: %s", strerror(error));
	hdr->magic = magic;
	return check(hdr, size, plan);
}

int mqi_segment_open(struct mqshm *h)
{
	uint64_t size;
	struct plan plan;
	int error = mqi_size(h->fd, &size);
	if (error) return mqi_fail(MQSHM_SYSTEM, "the size of the segment's file: %s", strerror(error));
	if (size < sizeof(struct header_shm))
		return mqi_fail(MQSHM_VERSION, "the file has %llu bytes: too few for an mqshm segment", (unsigned long long)size);
	struct header_shm *copy = malloc(sizeof *copy);
	if (!copy) return mqi_fail(MQSHM_SYSTEM, "out of memory");
	int rc = read_checked(h->fd, copy, size, &plan);
	if (rc == MQSHM_OK) h->units = copy->units;
	free(copy);
	if (rc != MQSHM_OK) return rc;
	error = mqi_map(h->fd, plan.span, &h->base);
	if (error) return mqi_fail(MQSHM_SYSTEM, "mapping %llu bytes: %s", (unsigned long long)plan.span, strerror(error));
	h->hdr = (struct header_shm *)h->base;
	h->span = plan.span;
	h->fixed_size = plan.fixed;
	h->buckets_offset = plan.buckets;
	h->hints_offset = plan.hints;
	h->counters_offset = plan.counters;
	h->sheet_size = TOPIC_SHEET + SUB_SHEET;
	h->units_offset = plan.units;
	memcpy(h->areas, plan.area, sizeof h->areas);
	h->peers_offset = plan.area[AREA_PEERS];
	h->subs_offset = plan.area[AREA_SUBS];
	return MQSHM_OK;
}

void mqi_segment_close(struct mqshm *h)
{
	mqi_unmap(h->base, h->span);
}
