/* Victims that come, go, subscribe, configure and repair. */
#include "scenes.h"

#include "shm/block.h"
#include "shm/units.h"

#define SMALL 32
#define LARGE 1000
#define FRESH "fresh.topic"
#define LONG "a.topic.whose.name.is.too.long.for.the.row.of.the.table.and.lies.in.the.area.of.names"

/* ---- topics ---- */

static int intern(struct victim *v, const char *name)
{
	mqshm_topic_t *t;
	return mqshm_topic_open(v->h, name, (uint32_t)strlen(name), &t);
}
static int intern_short(struct victim *v) { return intern(v, FRESH); }
static int intern_long(struct victim *v) { return intern(v, LONG); }

/* The name has one number, whoever comes, and no number is lost. */
static void interned(struct stage *st, const char *name)
{
	mqshm_topic_t *mine, *theirs;
	const char *text;
	uint32_t size = (uint32_t)strlen(name), text_size, count;
	must(mqshm_topic_open(st->one, name, size, &mine) == MQSHM_OK, "the topic cannot be opened");
	must(mqshm_topic_open(st->two, name, size, &theirs) == MQSHM_OK, "the topic cannot be opened");
	must(mine->id == theirs->id, "the topic has two numbers");
	must(mqshm_topic_name(st->one, mine->id, &text, &text_size) == MQSHM_OK && text_size == size && memcmp(text, name, size) == 0,
	     "the topic's number has another name");
	must(mqshm_topic_count(st->one, &count) == MQSHM_OK && count == 2, "there are %u topics, not 2", count);
	must(mine->id <= 3, "the topic got number %u: those before it are lost", mine->id);
}
static void short_interned(struct stage *st) { interned(st, FRESH); }
static void long_interned(struct stage *st) { interned(st, LONG); }

/* ---- subscriptions ---- */

static int subscribe(mqshm_t *h, const char *name, mqshm_sub_t **out)
{
	const char *pattern = "t";
	uint32_t size = 1;
	mqshm_sub_options o = group_options(name, &pattern, &size);
	o.capacity = 16;
	return mqshm_sub_create(h, &o, out);
}
static int subscribe_group(struct victim *v)
{
	mqshm_sub_t *s;
	return subscribe(v->h, "late", &s);
}
static int subscribe_alone(struct victim *v) { return subscribe(v->h, NULL, &v->sub); }

/* A group outlives who made it. It must be there or not, and its name must be free to use afterwards. */
static void group_is_whole(struct stage *st)
{
	mqshm_sub_t *s;
	int rc = mqshm_sub_delete(st->one, "late", 4);
	must(rc == MQSHM_OK || (rc == MQSHM_NOT_FOUND && !ledger->done), "the group cannot be deleted: %d", rc);
	must(subscribe(st->one, "late", &s) == MQSHM_OK, "the group's name cannot be used again");
	must(mqshm_sub_delete(st->one, "late", 4) == MQSHM_OK, "the group's successor cannot be deleted");
}

static void late_group_waits(struct stage *st)
{
	mqshm_sub_t *s;
	must(subscribe(st->one, "late", &s) == MQSHM_OK, "no group");
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, LARGE, NULL);
}
static int delete_group(struct victim *v) { return mqshm_sub_delete(v->h, "late", 4); }
static void group_is_deleted(struct stage *st)
{
	int rc = mqshm_sub_delete(st->one, "late", 4);
	must(rc == MQSHM_NOT_FOUND || (rc == MQSHM_OK && !ledger->done), "the group is half deleted: %d", rc);
}

/* Two messages, which group 0 gets as well; one of them is leased. */
static void alone_with_messages(struct victim *v)
{
	must(subscribe_alone(v) == MQSHM_OK, "no subscription: %s", mqshm_reason());
	must(victim_put(v, VICTIMS, SMALL, NULL) == MQSHM_OK && victim_put(v, VICTIMS + 1, LARGE, NULL) == MQSHM_OK, "no messages");
}
static void alone_with_a_lease(struct victim *v)
{
	alone_with_messages(v);
	must(mqshm_receive(v->sub, &v->held[0]) == MQSHM_OK, "nothing to lease");
}
static int unsubscribe(struct victim *v)
{
	mqshm_sub_close(v->sub);
	return MQSHM_OK;
}

/* ---- processes ---- */

static int attach(struct victim *v) { return mqshm_attach(v->stage->fd, "victim", 0, &v->h); }
static int attach_and_open(struct victim *v)
{
	int rc = attach(v);
	if (rc == MQSHM_OK) rc = mqshm_topic_open(v->h, "t", 1, &v->topic);
	if (rc == MQSHM_OK) rc = mqshm_sub_open(v->h, "g0", 2, &v->sub);
	return rc;
}

static void three_wait(struct stage *st)
{
	put(st, FILLED, SMALL, NULL);
	put(st, FILLED + 1, LARGE, NULL);
	put(st, FILLED + 2, LARGE, NULL);
}

/* As much as a process can have in hand. */
static void hands_full(struct victim *v)
{
	for (unsigned i = 0; i < 3; i++) victim_take(v);
	must(mqshm_ack_hold(&v->held[2]) == MQSHM_OK, "no hold");
	must(mqshm_loan_take(v->h, LARGE, 0, &v->loan) == MQSHM_OK, "no loan");
	alone_with_messages(v);
}
static int detach(struct victim *v)
{
	mqshm_detach(v->h);
	return MQSHM_OK;
}

/* All leased messages come again but the one that was settled. */
static void owed_leases(struct stage *st)
{
	owed_published(st);
	ledger->least[0][FILLED + 2] = ledger->most[0][FILLED + 2] = 0;
}

static void first_dies(struct stage *st)
{
	three_wait(st);
	leave_dead(st, hands_full);
}
static void leases(struct victim *v)
{
	for (unsigned i = 0; i < 3; i++) victim_take(v);
	must(mqshm_ack_hold(&v->held[2]) == MQSHM_OK, "no hold");
}
static void first_dies_with_leases(struct stage *st)
{
	three_wait(st);
	leave_dead(st, leases);
}
static int reap(struct victim *v)
{
	uint32_t dead;
	return mqshm_reap(v->h, &dead);
}
static int check_and_repair(struct victim *v)
{
	mqshm_fsck_report r;
	return mqshm_fsck(v->h, 1, &r);
}

/* ---- memory ---- */

static void chunk_is_unused(struct stage *st)
{
	put(st, FILLED, LARGE, NULL);
	consume(st, 0, 1);
}
static void ticked(struct victim *v) { must(mqshm_tick(v->h) == MQSHM_OK, "no tick"); }
static int tick(struct victim *v) { return mqshm_tick(v->h); }

/* Whoever ticks twice finds all payloads' memory unused, and gives it back. */
static void is_trimmed(struct stage *st)
{
	mqshm_t *h = st->one;
	for (unsigned i = 0; i < 2; i++) must(mqshm_tick(h) == MQSHM_OK, "no tick");
	for (uint64_t u = 1; u < mqi_units_known(h); u++) {
		struct mqi_chunk c;
		must(mqi_area_state(mqi_load_acq(&mqi_unit(h, u)->word)) != AREA_RETIRING, "unit %u stays on its way back", (unsigned)u);
		must(!mqi_is_chunk(h, u, &c) || c.committed == 0, "unit %u is kept although all its blocks are free", (unsigned)u);
	}
}

/* ---- configuration ---- */

static int configure(struct victim *v)
{
	mqshm_config c;
	int rc = mqshm_config_get(v->h, &c);
	c.max_message_size = 123456;
	c.message_ttl_ms = 654321;
	return rc == MQSHM_OK ? mqshm_config_set(v->h, &c) : rc;
}
/* Both numbers have changed, or none; the next change works. */
static void is_configured(struct stage *st)
{
	mqshm_config c;
	must(mqshm_config_get(st->one, &c) == MQSHM_OK, "the configuration cannot be read");
	bool old = c.max_message_size == 0 && c.message_ttl_ms == 0, new = c.max_message_size == 123456 && c.message_ttl_ms == 654321;
	must(new || (old && !ledger->done), "the configuration is half changed");
	c.max_message_size = c.message_ttl_ms = 0;
	must(mqshm_config_set(st->one, &c) == MQSHM_OK, "the configuration cannot be changed");
	must(mqshm_config_get(st->two, &c) == MQSHM_OK && c.max_message_size == 0, "the other survivor does not see the change");
}

const struct scene control_scenes[] = {
	{.name = "topic-short", .act = intern_short, .after = short_interned},
	{.name = "topic-long", .act = intern_long, .after = long_interned},
	{.name = "subscribe-group", .act = subscribe_group, .owed = group_is_whole},
	{.name = "subscribe-alone", .act = subscribe_alone},
	{.name = "delete-group", .fill = late_group_waits, .act = delete_group, .owed = group_is_deleted},
	{.name = "close-alone", .ready = alone_with_messages, .act = unsubscribe, .owed = owed_published},
	{.name = "close-leased", .ready = alone_with_a_lease, .act = unsubscribe, .owed = owed_published},
	{.name = "attach", .stranger = true, .act = attach},
	{.name = "attach-open", .stranger = true, .act = attach_and_open},
	{.name = "detach", .fill = three_wait, .ready = hands_full, .act = detach, .owed = owed_leases},
	{.name = "reap", .fill = first_dies, .act = reap, .owed = owed_leases},
	{.name = "reap-leases", .fill = first_dies_with_leases, .act = reap, .owed = owed_leases},
	{.name = "reap-leases-fan3", .groups = 3, .fill = first_dies_with_leases, .act = reap, .owed = owed_leases},
	{.name = "fsck-repair", .fill = first_dies, .act = check_and_repair, .owed = owed_leases},
	{.name = "trim", .fill = chunk_is_unused, .ready = ticked, .act = tick, .after = is_trimmed},
	{.name = "configure", .act = configure, .owed = is_configured},
};
const unsigned control_scenes_count = sizeof control_scenes / sizeof *control_scenes;

/* ---- all of them ---- */

const struct scene *scene_at(unsigned i)
{
	if (i < publish_scenes_count) return &publish_scenes[i];
	i -= publish_scenes_count;
	if (i < receive_scenes_count) return &receive_scenes[i];
	i -= receive_scenes_count;
	if (i < commit_scenes_count) return &commit_scenes[i];
	i -= commit_scenes_count;
	return i < control_scenes_count ? &control_scenes[i] : NULL;
}

const struct scene *scene_named(const char *name)
{
	const struct scene *s;
	for (unsigned i = 0; (s = scene_at(i)) != NULL && strcmp(s->name, name) != 0; i++) continue;
	return s;
}
