#include "shm/region.h"

#include "os/mapping.h"
#include "shm/counters.h"
#include "shm/reach.h"

#define SLOTS_FIRST MQI_GROUP /* slots that are memory from the start */
#define CELLS_LEAST 64u

struct plan {
	uint32_t cells, groups, text, free, again, due; /* the last four: offsets in the page */
	uint64_t at[SUB_AREAS], size[SUB_AREAS], units;
};

static uint64_t to_page(uint64_t bytes) { return (bytes + MQI_PAGE - 1) & ~(uint64_t)(MQI_PAGE - 1); }

static uint32_t text_size(const mqshm_sub_options *o)
{
	uint32_t size = o->name_size + 1;
	for (uint32_t i = 0; i < o->pattern_count; i++) size += o->pattern_sizes[i] + 1;
	return size;
}

static void make_plan(const mqshm_sub_options *o, struct plan *p)
{
	p->cells = CELLS_LEAST;
	while (p->cells < o->capacity) p->cells *= 2;
	p->groups = mqi_groups(o->capacity);
	p->text = text_size(o);
	p->free = (p->text + 7) & ~7u;
	p->again = p->free + mqi_hint_words(p->groups) * 8;
	p->due = p->again + mqi_hint_words(p->groups) * MQI_PRIORITIES * 8;
	p->size[SUB_PAGE] = p->due + mqi_due_words(o->capacity) * 8;
	p->size[SUB_SLOTS] = (uint64_t)o->capacity * sizeof(struct slot_shm);
	p->size[SUB_TIMES] = (uint64_t)o->capacity * sizeof(uint64_t);
	for (unsigned i = SUB_RING; i < SUB_AREAS; i++) p->size[i] = (uint64_t)p->cells * sizeof(uint64_t);
	uint64_t at = 0;
	for (unsigned i = 0; i < SUB_AREAS; i++) {
		p->at[i] = at;
		at += to_page(p->size[i]);
	}
	p->units = (at + MQI_UNIT - 1) >> MQI_UNIT_SHIFT;
}

static void write_row(struct sub_shm *s, const mqshm_sub_options *o, const struct plan *p)
{
	mqi_store_rlx(&s->capacity, o->capacity);
	mqi_store_rlx(&s->cells, p->cells);
	mqi_store_rlx(&s->groups, p->groups);
	mqi_store_rlx(&s->ack, o->ack);
	mqi_store_rlx(&s->overflow, o->overflow);
	mqi_store_rlx(&s->max_attempts, o->max_attempts);
	mqi_store_rlx(&s->prefetch, o->prefetch);
	mqi_store_rlx(&s->ack_timeout_ms, o->ack_timeout_ms);
	mqi_store_rlx(&s->backoff_min_ms, o->backoff_min_ms);
	mqi_store_rlx(&s->backoff_max_ms, o->backoff_max_ms);
	mqi_store_rlx(&s->created_ns, mqi_wall_ns());
	mqi_store_rlx(&s->patterns, o->pattern_count);
	mqi_store_rlx(&s->text_offset, 0u);
	mqi_store_rlx(&s->text_size, p->text);
	mqi_store_rlx(&s->free_offset, p->free);
	mqi_store_rlx(&s->again_offset, p->again);
	mqi_store_rlx(&s->due_offset, p->due);
	mqi_store_rlx(&s->used, 0u);
	mqi_store_rlx(&s->next_due, 0ull);
	for (unsigned i = 0; i < MQI_PRIORITIES; i++) {
		mqi_store_rlx(&s->head[i], 0ull);
		mqi_store_rlx(&s->tail[i], 0ull);
		mqi_store_rlx(&s->again[i], 0ull);
	}
	for (unsigned i = 0; i < MQI_PEERS / 64; i++) {
		mqi_store_rlx(&s->waiters[i], 0ull);
		mqi_store_rlx(&s->members[i], 0ull);
		mqi_store_rlx(&s->space_waiters[i], 0ull);
	}
}

static void write_text(unsigned char *page, const mqshm_sub_options *o)
{
	if (o->name_size) memcpy(page, o->name, o->name_size);
	page[o->name_size] = 0;
	page += o->name_size + 1;
	for (uint32_t i = 0; i < o->pattern_count; i++) {
		memcpy(page, o->patterns[i], o->pattern_sizes[i]);
		page[o->pattern_sizes[i]] = 0;
		page += o->pattern_sizes[i] + 1;
	}
}

/* The whole page, and the first slots with their times where leases are timed. */
static int first_memory(struct mqshm *h, struct sub_shm *s, const mqshm_sub_options *o, const struct plan *p)
{
	uint32_t first = o->capacity < SLOTS_FIRST ? o->capacity : SLOTS_FIRST;
	int rc = mqi_area_grow(h, &s->areas[SUB_PAGE], p->size[SUB_PAGE], 0);
	if (rc == MQSHM_OK) rc = mqi_area_grow(h, &s->areas[SUB_SLOTS], first * sizeof(struct slot_shm), 0);
	if (rc != MQSHM_OK) return rc;
	uint32_t slots = (uint32_t)mqi_least(mqi_area_ready(&s->areas[SUB_SLOTS]) / sizeof(struct slot_shm), o->capacity);
	if (o->ack == MQSHM_ACK_TIMEOUT) rc = mqi_area_grow(h, &s->areas[SUB_TIMES], slots * sizeof(uint64_t), 0);
	if (rc != MQSHM_OK) return rc;
	unsigned char *page = mqi_reach(h, &s->areas[SUB_PAGE], 0, p->size[SUB_PAGE]);
	if (!page) return mqi_fail(MQSHM_CORRUPT, "the region of a new subscription lies outside of the segment");
	write_text(page, o);
	uint64_t *hints = (uint64_t *)(page + p->free);
	for (uint32_t g = 0; g < mqi_groups(slots); g++) mqi_or64(&hints[g / 64], 1ull << g % 64);
	mqi_store_rel(&s->slots_ready, slots); /* last: until then nobody has used any slot */
	return MQSHM_OK;
}

/* Counters are their processes' own and go on from one life of a row to the next. */
static void note_counters(struct mqshm *h, uint32_t row)
{
	struct sub_counters_shm sum;
	mqi_counted_sub(h, row, &sum);
	uint64_t *to = (uint64_t *)&mqi_sub(h, row)->before, *from = (uint64_t *)&sum;
	for (unsigned i = 0; i < sizeof sum / sizeof *from; i++) mqi_store_rlx(&to[i], from[i]);
}

int mqi_region_make(struct mqshm *h, uint32_t row, const mqshm_sub_options *o)
{
	struct sub_shm *s = mqi_sub(h, row);
	struct plan p;
	uint64_t first;
	make_plan(o, &p);
	note_counters(h, row);
	int rc = mqi_units_claim(h, p.units, &first);
	if (rc != MQSHM_OK) return rc;
	uint64_t region = h->units_offset + (first << MQI_UNIT_SHIFT);
	write_row(s, o, &p);
	mqi_store_rlx(&s->region_units, (uint32_t)p.units);
	mqi_store_rel(&s->region, region); /* before the units become ours: a death leads from the row to them */
	mqi_units_publish(h, first, p.units, UNIT_REGION, 0, row);
	for (unsigned i = 0; i < SUB_AREAS; i++) {
		mqi_store_rlx(&s->areas[i].offset, region + p.at[i]);
		mqi_store_rlx(&s->areas[i].size, p.size[i]);
		mqi_store_rel(&s->areas[i].word, mqi_area_word(AREA_ACTIVE, MQI_NOBODY, 0, 0, 0));
	}
	return first_memory(h, s, o, &p);
}

/* Not by a plain store: somebody may be growing it. What he may have made memory counts until it is given back. */
void mqi_region_retire(struct mqshm *h, uint32_t row)
{
	for (unsigned i = 0; i < SUB_AREAS; i++) {
		uint64_t *word = &mqi_sub(h, row)->areas[i].word, w;
		uint32_t pages;
		do {
			w = mqi_load_acq(word);
			if (mqi_area_state(w) != AREA_ACTIVE && mqi_area_state(w) != AREA_GROWING) break;
			pages = mqi_area_committed(w);
			if (mqi_area_state(w) == AREA_GROWING && mqi_area_target(w) > pages) pages = mqi_area_target(w);
		} while (!mqi_cas64(word, w, mqi_area_word(AREA_RETIRING, MQI_NOBODY, pages, 0, 0)));
	}
}

/* The row's units; 0 where they are not, or no longer, this row's: a unit says itself whose it is, so what a row still
 * says after its units have gone to others does no harm. */
static uint64_t own_units(struct mqshm *h, uint32_t row, uint64_t *count)
{
	struct sub_shm *s = mqi_sub(h, row);
	uint64_t region = mqi_load_acq(&s->region);
	if (region < h->units_offset || (region - h->units_offset) % MQI_UNIT) return 0;
	uint64_t first = (region - h->units_offset) >> MQI_UNIT_SHIFT;
	if (first >= h->units || (first + 1) * sizeof(struct unit_shm) > mqi_area_ready(&h->hdr->areas[AREA_UNITS])) return 0;
	struct unit_shm *u = mqi_unit(h, first);
	*count = mqi_load_rlx(&s->region_units);
	if (mqi_area_state(mqi_load_acq(&u->word)) != AREA_ACTIVE || mqi_load_rlx(&u->kind) != UNIT_REGION) return 0;
	if (mqi_load_rlx(&u->blocks) != row || mqi_load_rlx(&u->units) != *count || *count > h->units - first) return 0;
	return first;
}

void mqi_region_free(struct mqshm *h, uint32_t row)
{
	struct sub_shm *s = mqi_sub(h, row);
	uint64_t count, first = own_units(h, row, &count);
	if (first) {
		mqi_punch(h->fd, h->units_offset + (first << MQI_UNIT_SHIFT), count << MQI_UNIT_SHIFT);
		mqi_store_rel(&mqi_unit(h, first)->word, mqi_owned_area_word(h, AREA_RETIRING, 0));
		mqi_units_free(h, first, count);
	}
	for (unsigned i = 0; i < SUB_AREAS; i++) mqi_store_rel(&s->areas[i].word, 0ull);
	mqi_store_rel(&s->region, 0ull);
}
