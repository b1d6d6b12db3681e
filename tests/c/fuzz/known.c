#include "known.h"

#define IDS 5u

static struct record {
	uint64_t ms;             /* when it was published for certain; 0: never */
	uint64_t first, last;    /* the earliest and the latest publish that perhaps was; 0: none */
} records[TOPICS][IDS];

void known_reset(void) { memset(records, 0, sizeof records); }

void draw_unique(struct tape *t, struct message *m)
{
	uint32_t which = draw(t, IDS);
	m->e.unique = 1;
	m->text = which;
	m->e.id_size = which ? which * 3 : 300;
}

bool is_unique(const struct message *m) { return m->e.unique && m->e.id_size && config.dedup_window_ms; }

bool same_id(const struct message *a, const struct message *b)
{
	return is_unique(a) && is_unique(b) && a->topic == b->topic && a->text == b->text;
}

static bool within(uint64_t ms) { return ms && ms + config.dedup_window_ms > world_now_ms(); }

static struct record *record_of(const struct message *m) { return &records[m->topic][m->text]; }

int known(const struct message *m)
{
	if (!is_unique(m)) return 0;
	const struct record *r = record_of(m);
	return within(r->ms) ? 1 : within(r->last) ? -1 : 0;
}

void known_published(const struct message *m)
{
	if (is_unique(m)) *record_of(m) = (struct record){.ms = world_now_ms()};
}

static void perhaps(struct record *r, uint64_t ms)
{
	if (!r->first || ms < r->first) r->first = ms;
	if (ms > r->last) r->last = ms;
}

void known_perhaps(const struct message *m)
{
	if (is_unique(m)) perhaps(record_of(m), world_now_ms());
}

void known_refused(const struct message *m)
{
	struct record *r = record_of(m);
	if (!within(r->ms) && r->first == r->last) *r = (struct record){.ms = r->last};
}

void known_window_ends(void)
{
	for (uint32_t topic = 0; topic < TOPICS; topic++)
		for (uint32_t i = 0; i < IDS; i++) {
			struct record *r = &records[topic][i];
			if (!r->ms || within(r->ms)) continue;
			perhaps(r, r->ms);
			r->ms = 0;
		}
}
