/* fuzz_damage [--count N] [--seed N] [--deadline MS] [--trace]: damaged segments, and all that the API can do to each.
 *
 * A round is a copy of a segment with traffic in it, damaged before anybody attaches, between operations, or (by a peer
 * that writes anywhere) at any access of an operation to shared memory. Demanded is that every call comes back, within
 * the time, with a result that mqshm.h defines, having touched nothing outside of the segment; and that what is handed
 * out can be read. What is true of a damaged segment is not asked. Round i has seed N + i. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "damage.h"
#include "guard.h"
#include "work.h"

#define IMAGES 4u
#define OPERATIONS 40u

static struct image images[IMAGES];

static enum { AT_REST, BETWEEN, WITHIN, WAYS } way;
static struct tape writer; /* what the hostile peer does */
static struct victim victim;
static uint32_t until;

static void write_anywhere(void)
{
	if (until == 0 || --until) return;
	damage(&writer, &victim, false);
	until = 1 + draw(&writer, 2000);
}

static void round_of(uint64_t seed, unsigned deadline)
{
	struct tape tape = tape_of_seed(seed), *t = &tape;
	victim = image_restore(&images[draw(t, IMAGES)]);
	way = draw(t, WAYS);
	world_seed = seed;
	world_op = 0;
	world_verb = "attach";
	world_adopt(victim.fd);
	if (way == AT_REST)
		for (unsigned n = chance(t, 10) ? 40 : 1 + draw(t, 4); n && damage(t, &victim, true);) n--;
	if (way == WITHIN) {
		writer = tape_of_seed(~seed);
		until = 1 + draw(&writer, 2000);
		world_access = write_anywhere;
	}
	guard_begin(deadline, victim.fd);
	if (work_attach(t))
		for (world_op = 1; world_op <= OPERATIONS; world_op++) {
			if (way == BETWEEN && chance(t, 4)) damage(t, &victim, false);
			work(t);
		}
	world_verb = "detach";
	work_detach(t);
	world_access = NULL;
	guard_end();
	munmap(victim.map, victim.image->span);
	world_close();
}

int main(int argc, char **argv)
{
	uint64_t count = 1000, seed = (uint64_t)time(NULL);
	unsigned deadline = 1000;
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--trace") == 0) world_trace = true;
		else if (more && strcmp(argv[i], "--count") == 0) count = strtoull(argv[++i], NULL, 0);
		else if (more && strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[++i], NULL, 0);
		else if (more && strcmp(argv[i], "--deadline") == 0) deadline = (unsigned)strtoul(argv[++i], NULL, 0);
		else return fprintf(stderr, "usage: fuzz_damage [--count N] [--seed N] [--deadline MS] [--trace]\n"), 2;
	}
	bool trace = world_trace;
	world_trace = false;
	for (unsigned i = 0; i < IMAGES; i++) image_make(&images[i], i);
	world_trace = trace;
	if (trace) setvbuf(stdout, NULL, _IOLBF, 0);
	guard_install();
	for (uint64_t i = 0; i < count; i++) round_of(seed + i, deadline);
	printf("fuzz_damage: %llu damaged segments from seed %llu, %llu of which could be attached; results", (unsigned long long)count,
	       (unsigned long long)seed, (unsigned long long)work_attached);
	for (unsigned i = 0; i < WORK_RESULTS; i++) printf(" %llu", (unsigned long long)work_results[i]);
	printf("\n");
	return 0;
}
