/* A broker with all that a segment can hold, and its processes dead in the middle of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "damage.h"
#include "shm/area.h"
#include "shm/block.h"
#include "shm/reach.h"
#include "shm/subs.h"

#define PEERS 3u
#define WIDE 24u /* more than a payload's word has bits for */
#define MESSAGES 120u

static mqshm_t *peers[PEERS];
static unsigned char payload[200000];

static mqshm_sub_t *subscribe(mqshm_t *h, const char *name, const char *pattern, uint32_t capacity, uint32_t ack, uint32_t overflow)
{
	mqshm_sub_t *s = NULL;
	uint32_t size = (uint32_t)strlen(pattern);
	mqshm_sub_options o = {.name = name, .name_size = name ? (uint32_t)strlen(name) : 0, .patterns = &pattern, .pattern_sizes = &size,
		.pattern_count = 1, .capacity = capacity, .ack = ack, .overflow = overflow, .max_attempts = 3, .ack_timeout_ms = 500,
		.backoff_min_ms = 1, .backoff_max_ms = 100};
	must(mqshm_sub_create(h, &o, &s) == MQSHM_OK, "subscribe: %s", mqshm_reason());
	return s;
}

static mqshm_topic_t *topic(mqshm_t *h, const char *name)
{
	mqshm_topic_t *t = NULL;
	must(mqshm_topic_open(h, name, (uint32_t)strlen(name), &t) == MQSHM_OK, "topic: %s", mqshm_reason());
	return t;
}

static const char *const names[] = {"a.b", "a.c", "w.x", "solo", "late.by.a.while", "a.name.that.is.longer.than.what.a.row.of.the.table.has.room.for"};
#define NAMES (sizeof names / sizeof *names)

static void publish(struct tape *t)
{
	static const uint32_t sizes[] = {16, 16, 60, 72, 300, 3000, 70000, 200000};
	mqshm_t *h = peers[draw(t, PEERS)];
	mqshm_envelope e = {.ring = draw(t, MQI_PRIORITIES), .delay_ms = chance(t, 6) ? 1 + draw(t, 4000) : 0};
	if (chance(t, 3)) e.id = "identity", e.id_size = 8;
	if (chance(t, 4)) e.headers = payload, e.headers_size = draw(t, 300);
	if (chance(t, 4)) e.key = "key", e.key_size = 3;
	if (chance(t, 5)) e.expires_ns = world_now_ns() + draw(t, 4000) * 1000000ull;
	if (chance(t, 5)) e.ack_ms = 1 + draw(t, 2000);
	uint64_t seq;
	mqshm_publish(h, topic(h, names[draw(t, NAMES)]), payload, draw(t, 1 + sizes[draw(t, 8)]), chance(t, 2) ? &e : NULL, &seq);
}

static void receive(struct tape *t, mqshm_sub_t *s)
{
	mqshm_delivery d;
	if (mqshm_receive(s, &d) != MQSHM_OK) return;
	switch (draw(t, 6)) {
	case 0: mqshm_ack(&d); break;
	case 1: mqshm_nack(&d, 0); break;
	case 2: mqshm_nack(&d, 1 + draw(t, 3000)); break;
	case 3: mqshm_ack_hold(&d); break;
	default: break; /* stays leased */
	}
}

static int call_publish(void *with)
{
	uint64_t seq;
	return mqshm_publish(with, topic(with, "w.x"), payload, 400, NULL, &seq);
}

/* ---- what is where ---- */

static void add(struct image *image, const char *what, uint64_t at, uint64_t size)
{
	if (size < 8) return;
	must(image->stretches < STRETCHES_MOST, "too many stretches");
	image->stretch[image->stretches++] = (struct stretch){what, at, size & ~7ull};
}

static void add_area(struct image *image, const char *what, const struct area_shm *a, uint64_t most)
{
	uint64_t size = mqi_area_ready(a);
	add(image, what, a->offset, size < most ? size : most);
}

/* What there is much of is named as often as what there is little of: it is the kinds that count. */
static void look(struct image *image, mqshm_t *h)
{
	struct header_shm *hdr = h->hdr;
	struct mqi_chunk c;
	for (unsigned i = 0; i < 4; i++) {
		add(image, "header", 0, offsetof(struct header_shm, areas));
		add(image, "areas", offsetof(struct header_shm, areas), sizeof hdr->areas);
		add(image, "counters' areas", offsetof(struct header_shm, sheets), 8 * sizeof hdr->sheets[0]);
		add(image, "hints in the header", offsetof(struct header_shm, subs_version), offsetof(struct header_shm, memory_waiters) - offsetof(struct header_shm, subs_version));
		add(image, "waiters and control lock", offsetof(struct header_shm, memory_waiters), offsetof(struct header_shm, config) - offsetof(struct header_shm, memory_waiters));
		add(image, "configuration", offsetof(struct header_shm, config), offsetof(struct config_shm, dead_letter_topic));
		add(image, "buckets", h->buckets_offset, MQI_TOPIC_BUCKETS * 4);
		add(image, "unit hints", h->hints_offset, 64);
		add(image, "peers", h->peers_offset, (PEERS + 2) * sizeof(struct peer_shm));
		add(image, "topics", h->areas[AREA_TOPICS], (NAMES + 2) * sizeof(struct topic_shm));
		add_area(image, "names", &hdr->areas[AREA_NAMES], 256);
		add(image, "index", h->areas[AREA_TRIE], (uint64_t)hdr->trie_end * 8);
		add(image, "index's nodes", h->areas[AREA_TRIE] + hdr->trie_slots * 4ull, (uint64_t)hdr->trie_end * 8 - hdr->trie_slots * 4ull);
		add(image, "units", h->areas[AREA_UNITS], (hdr->units_top + 1) * sizeof(struct unit_shm));
	}
	uint32_t rows = mqi_subs_rows(h);
	for (uint32_t row = 0; row < rows; row++) {
		struct sub_shm *s = mqi_sub(h, row);
		if (row >= 6 && row != rows - 1) continue;
		for (unsigned i = 0; i < 3; i++) {
			add(image, "subscription", h->subs_offset + row * sizeof *s, sizeof *s);
			add_area(image, "slots", &s->areas[SUB_SLOTS], 64 * sizeof(struct slot_shm));
		}
		add_area(image, "text and hints", &s->areas[SUB_PAGE], 256);
		add_area(image, "times", &s->areas[SUB_TIMES], 512);
		for (unsigned r = 0; r < MQI_PRIORITIES; r++) add_area(image, "ring", &s->areas[SUB_RING + r], 512);
	}
	for (uint64_t u = 1; u < hdr->units_top; u++) {
		if (!mqi_is_chunk(h, u, &c) || c.committed == 0) continue;
		uint64_t at = h->units_offset + (u << MQI_UNIT_SHIFT), stride = c.stride;
		for (unsigned i = 0; i < 4 && (i + 1) * stride <= c.committed; i++) add(image, "payload", at + i * stride, stride < 256 ? stride : 256);
	}
}

/* Pages with something in them: the others are as good as holes. */
static void copy_file(struct image *image, int fd)
{
	static const unsigned char zeros[MQI_PAGE];
	unsigned char page[MQI_PAGE];
	struct stat st;
	must(fstat(fd, &st) == 0, "%s", strerror(errno));
	image->span = (uint64_t)st.st_size;
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; at += MQI_PAGE) {
		must(pread(fd, page, MQI_PAGE, at) == MQI_PAGE, "%s", strerror(errno));
		if (memcmp(page, zeros, MQI_PAGE) == 0) continue;
		struct extent *e = &image->extent[image->extents ? image->extents - 1 : 0];
		if (!image->extents || e->at + e->size != (uint64_t)at) e = &image->extent[image->extents++];
		must(image->extents < EXTENTS_MOST, "too many extents");
		unsigned char *more = realloc(e->bytes, e->size + MQI_PAGE);
		must(more, "out of memory");
		memcpy(more + e->size, page, MQI_PAGE);
		*e = (struct extent){e->size ? e->at : (uint64_t)at, e->size + MQI_PAGE, more};
	}
}

void image_make(struct image *image, uint64_t seed)
{
	struct tape tape = tape_of_seed(seed), *t = &tape;
	mqshm_config config = {.default_buffer_size = 64, .enable_trie_pattern = seed % 4 != 3, .enable_metrics = 1,
		.enable_priority_queue = 1, .max_memory_usage = seed % 2 ? 64u << 20 : 0, .dead_letter_size = 4};
	memcpy(config.dead_letter_topic, "dead", 4);
	mqshm_sub_t *subs[6], *view;
	memset(image, 0, sizeof *image);
	int fd = world_open(&config), rc;
	for (unsigned p = 0; p < PEERS; p++) must(peer_join(p, &peers[p]) == MQSHM_OK, "attach: %s", mqshm_reason());
	subs[0] = subscribe(peers[0], "group", "a.*", 64, MQSHM_ACK_REQUIRED, MQSHM_BLOCK);
	subs[1] = subscribe(peers[1], "timed", "#", 200, MQSHM_ACK_TIMEOUT, MQSHM_DROP_OLDEST);
	subs[2] = subscribe(peers[1], NULL, "a.#", 40, MQSHM_ACK_REQUIRED, MQSHM_DROP_NEW);
	subs[3] = subscribe(peers[2], "none", "solo", 65, MQSHM_ACK_NONE, MQSHM_REJECT);
	subs[4] = subscribe(peers[0], "ends", "late.#", 8, MQSHM_ACK_REQUIRED, MQSHM_DROP_OLDEST);
	subs[5] = subscribe(peers[0], "deep", "a.*.that.#", 300, MQSHM_ACK_TIMEOUT, MQSHM_DROP_NEW);
	for (unsigned i = 0; i < WIDE; i++) {
		char name[16];
		snprintf(name, sizeof name, "wide%u", i);
		view = subscribe(peers[i % PEERS], name, i % 3 ? "w.*" : "w.x", 4, i % 3, MQSHM_DROP_NEW);
		(void)view;
	}
	for (unsigned i = 0; i < MESSAGES; i++) {
		publish(t);
		if (chance(t, 2)) receive(t, subs[draw(t, 6)]);
		if (chance(t, 10)) world_pass(draw(t, 100) * 1000000ull);
	}
	mqshm_loan loan;
	mqshm_loan_take(peers[0], 100, 50, &loan);
	mqshm_loan_take(peers[1], 100000, 0, &loan);
	mqshm_sub_delete(peers[1], "ends", 4); /* with leases out: it is closing */
	survives(peers[2], 20 + draw(t, 400), call_publish, peers[2], &rc);
	look(image, peers[0]);
	for (unsigned p = 0; p < PEERS; p++) peer_dies(p, peers[p]);
	copy_file(image, fd);
	world_close();
}

struct victim image_restore(const struct image *image)
{
	struct victim v = {.image = image, .fd = memfd_create("mqshm-fuzz", MFD_CLOEXEC)};
	must(v.fd >= 0 && ftruncate(v.fd, (off_t)image->span) == 0, "no memory file: %s", strerror(errno));
	for (unsigned i = 0; i < image->extents; i++)
		must(pwrite(v.fd, image->extent[i].bytes, image->extent[i].size, (off_t)image->extent[i].at) == (ssize_t)image->extent[i].size,
		     "write: %s", strerror(errno));
	v.map = mmap(NULL, image->span, PROT_READ | PROT_WRITE, MAP_SHARED, v.fd, 0);
	must(v.map != MAP_FAILED, "mapping: %s", strerror(errno));
	return v;
}
