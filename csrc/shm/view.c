/* Views. What a process keeps of a row is copied and checked once; from then on only `word` is compared, and every index
 * that is used is bounded by what the view says. */
#include "shm/counters.h"
#include "shm/reach.h"
#include "shm/region.h"

static int corrupt(uint32_t row, const char *what)
{
	return mqi_fail(MQSHM_CORRUPT, "the %s of subscription %u does not fit together", what, row);
}

static int closed(uint32_t row) { return mqi_fail(MQSHM_CLOSED, "subscription %u was deleted", row); }

/* Where an area begins, if all of it lies in the region and it holds at least `size` bytes. */
static unsigned char *area_base(struct mqshm *h, const struct sub_shm *s, unsigned i, uint64_t region, uint64_t region_size,
                                uint64_t size)
{
	uint64_t at = mqi_load_rlx(&s->areas[i].offset), have = mqi_load_rlx(&s->areas[i].size);
	if (have < size || at % MQI_PAGE || at < region || at - region > region_size || have > region_size - (at - region)) return NULL;
	return h->base + at;
}

/* A bitmap or column in the page, all of which is memory. */
static uint64_t *column(unsigned char *page, uint64_t ready, uint32_t at, uint64_t words)
{
	return at % 8 == 0 && at <= ready && words * 8 <= ready - at ? (uint64_t *)(page + at) : NULL;
}

static int fill_bounds(struct mqshm_sub *v, struct sub_shm *s)
{
	uint32_t cells = mqi_load_rlx(&s->cells);
	v->capacity = mqi_load_rlx(&s->capacity);
	v->groups = mqi_load_rlx(&s->groups);
	v->ack = mqi_load_rlx(&s->ack);
	v->overflow = mqi_load_rlx(&s->overflow);
	v->prefetch = mqi_load_rlx(&s->prefetch);
	if (v->capacity == 0 || v->capacity >= MQI_MAX_CAPACITY || v->groups != mqi_groups(v->capacity)) return MQSHM_CORRUPT;
	if (cells < v->capacity || cells < 2 || cells > MQI_MAX_CAPACITY || cells & (cells - 1)) return MQSHM_CORRUPT;
	if (v->ack > MQSHM_ACK_TIMEOUT || v->overflow > MQSHM_DROP_LOWEST) return MQSHM_CORRUPT;
	v->mask = cells - 1;
	v->ring_shift = (uint32_t)__builtin_ctz(cells);
	return MQSHM_OK;
}

static int fill_pointers(struct mqshm_sub *v, struct sub_shm *s)
{
	struct mqshm *h = v->h;
	uint64_t region = mqi_load_rlx(&s->region), size = (uint64_t)mqi_load_rlx(&s->region_units) << MQI_UNIT_SHIFT;
	uint64_t units_end = h->units_offset + (h->units << MQI_UNIT_SHIFT);
	if (region < h->units_offset || region > units_end || region % MQI_PAGE || size > units_end - region)
		return corrupt(v->row, "region");
	unsigned char *page = area_base(h, s, SUB_PAGE, region, size, 0);
	v->slots = (struct slot_shm *)area_base(h, s, SUB_SLOTS, region, size, (uint64_t)v->capacity * sizeof(struct slot_shm));
	v->times = (uint64_t *)area_base(h, s, SUB_TIMES, region, size, (uint64_t)v->capacity * sizeof(uint64_t));
	for (unsigned i = 0; i < MQI_PRIORITIES; i++) {
		v->rings[i] = (uint64_t *)area_base(h, s, SUB_RING + i, region, size, (v->mask + 1) * sizeof(uint64_t));
		if (!v->rings[i]) return corrupt(v->row, "rings");
	}
	if (!page || !v->slots || !v->times) return corrupt(v->row, "slots");
	uint64_t ready = mqi_least(mqi_area_ready(&s->areas[SUB_PAGE]), mqi_load_rlx(&s->areas[SUB_PAGE].size));
	uint64_t words = mqi_hint_words(v->groups);
	v->free_hints = column(page, ready, mqi_load_rlx(&s->free_offset), words);
	v->again_hints = column(page, ready, mqi_load_rlx(&s->again_offset), words * MQI_PRIORITIES);
	v->due_hints = column(page, ready, mqi_load_rlx(&s->due_offset), mqi_due_words(v->capacity));
	if (!v->free_hints || !v->again_hints || !v->due_hints) return corrupt(v->row, "hints");
	return MQSHM_OK;
}

/* This process's own place: cursors where the shared ones are, allocation not where the others begin. */
static void fill_cursors(struct mqshm_sub *v)
{
	for (unsigned i = 0; i < MQI_PRIORITIES; i++) {
		v->head[i] = v->head_seen[i] = mqi_load_acq(&v->shm->head[i]);
		v->tail[i] = mqi_load_acq(&v->shm->tail[i]);
		v->ring_ready[i] = 0;
	}
	v->times_ready = v->slots_ready = 0;
	v->next_slot = v->end_slot = 0;
	v->next_group = v->h->peer % v->groups;
	v->held = v->used = v->ticked = 0;
	v->touched = v->woken = false;
	v->spin = (struct mqi_spin){0};
}

/* All but the counters. *v is zero. */
static int fill(struct mqshm *h, uint32_t row, uint64_t word, struct mqshm_sub *v)
{
	v->h = h;
	v->shm = mqi_sub(h, row);
	v->row = row;
	v->word = mqi_sub_word(SUB_OPEN, mqi_sub_owner(word), mqi_sub_gen(word));
	int rc = fill_bounds(v, v->shm);
	if (rc != MQSHM_OK) corrupt(row, "size");
	if (rc == MQSHM_OK) rc = fill_pointers(v, v->shm);
	mqi_fence_sc(); /* what was copied is of this life only if the life still is after the copying */
	if (rc == MQSHM_OK && !mqi_view_holds(v)) rc = closed(row);
	if (rc == MQSHM_OK) fill_cursors(v);
	return rc;
}

static int make(struct mqshm *h, uint32_t row, uint64_t word, struct mqshm_sub **out)
{
	struct mqshm_sub *v = calloc(1, sizeof *v);
	if (!v) return mqi_fail(MQSHM_NO_MEMORY, "this process has no memory for a view of subscription %u", row);
	int rc = fill(h, row, word, v);
	if (rc != MQSHM_OK) {
		free(v);
		return rc;
	}
	v->counters = mqi_count_sub(h, row);
	*out = v;
	return MQSHM_OK;
}

static int view(struct mqshm *h, uint32_t row, bool closing, struct mqshm_sub **out)
{
	*out = NULL;
	if (row >= mqi_subs_rows(h)) return mqi_fail(MQSHM_CLOSED, "there is no subscription %u", row);
	uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
	unsigned state = mqi_sub_state(word);
	if (state != SUB_OPEN && !(closing && state == SUB_CLOSING)) return closed(row);
	struct mqshm_sub *known = h->views[row];
	if (!known || mqi_sub_gen(known->word) != mqi_sub_gen(word)) {
		struct mqshm_sub *made = NULL;
		int rc = make(h, row, word, &made);
		if (rc != MQSHM_OK) return rc;
		if (known) {
			known->older = h->old_views;
			h->old_views = known;
		}
		h->views[row] = known = made;
	}
	*out = known;
	return MQSHM_OK;
}

int mqi_view_look(struct mqshm *h, uint32_t row, struct mqshm_sub *out)
{
	memset(out, 0, sizeof *out);
	if (row >= mqi_subs_rows(h)) return mqi_fail(MQSHM_CLOSED, "there is no subscription %u", row);
	uint64_t word = mqi_load_acq(&mqi_sub(h, row)->word);
	if (mqi_sub_state(word) != SUB_OPEN) return closed(row);
	out->counters = &h->uncounted_sub;
	return fill(h, row, word, out);
}

int mqi_view(struct mqshm *h, uint32_t row, struct mqshm_sub **out) { return view(h, row, false, out); }
int mqi_view_closing(struct mqshm *h, uint32_t row, struct mqshm_sub **out) { return view(h, row, true, out); }

int mqi_subs_text(struct mqshm *h, uint32_t row, const char **text, uint32_t *size)
{
	struct sub_shm *s = mqi_sub(h, row);
	const struct area_shm *page = &s->areas[SUB_PAGE];
	*size = mqi_load_rlx(&s->text_size);
	*text = mqi_reach(h, page, mqi_load_rlx(&s->text_offset), *size);
	if (!*text || *size == 0 || (*text)[*size - 1]) return corrupt(row, "text");
	return MQSHM_OK;
}
