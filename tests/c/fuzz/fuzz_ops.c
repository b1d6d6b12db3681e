/* fuzz_ops [--count N] [--seed N] [--trace]: random operations against a model. With libFuzzer linked in, its inputs instead. */
#include <stdio.h>
#include <stdlib.h>

#include "ops.h"

#define OPS_PER_BROKER 5000u

#ifdef FUZZER
#define OPS_PER_INPUT 3000u
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct tape t = tape_of_bytes(bytes, size);
	ops_run(&t, OPS_PER_INPUT);
	return 0;
}
#else
int main(int argc, char **argv)
{
	uint64_t count = 1000000, seed = (uint64_t)time(NULL), done = 0;
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--trace") == 0) world_trace = true;
		else if (more && strcmp(argv[i], "--count") == 0) count = strtoull(argv[++i], NULL, 0);
		else if (more && strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[++i], NULL, 0);
		else return fprintf(stderr, "usage: fuzz_ops [--count N] [--seed N] [--trace]\n"), 2;
	}
	/* Each broker has a seed of its own: to see a failure again, give its seed. */
	for (world_seed = seed; done < count; world_seed++) {
		struct tape t = tape_of_seed(world_seed);
		done += ops_run(&t, OPS_PER_BROKER);
	}
	printf("fuzz_ops: %llu operations in %llu brokers from seed %llu: as the model says\n", (unsigned long long)done,
	       (unsigned long long)(world_seed - seed), (unsigned long long)seed);
	return 0;
}
#endif
