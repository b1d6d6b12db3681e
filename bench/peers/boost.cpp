// Boost.Interprocess' message_queue, in C++: what a shared-memory queue with priorities does without Python.
//
//   boost stream SIZE COUNT       one producer, one consumer, every message checked, in order
//   boost priority LEVELS COUNT   the same with 64-byte messages at so many priorities in turn, in order within each
//   boost pingpong COUNT CORE CORE [poll]
//
// Prints JSON. Each end is a process of its own.
#include <boost/interprocess/ipc/message_queue.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <csignal>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

using boost::interprocess::create_only;
using boost::interprocess::message_queue;

namespace {

constexpr std::size_t head = 8;
constexpr std::size_t whole = 64;

std::uint64_t now_ns()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return std::uint64_t(t.tv_sec) * 1000000000u + std::uint64_t(t.tv_nsec);
}

void stay_on(int core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set);
}

[[noreturn]] void fail(const char *why)
{
	std::fprintf(stderr, "%s\n", why);
	std::_Exit(1);
}

// Up to 64 bytes every byte says the number; larger ones only begin with it.
void fill(std::vector<char> &data, std::uint64_t number)
{
	for (std::size_t at = 0; at < std::min(data.size(), whole); at += head) std::memcpy(&data[at], &number, head);
}

// A queue without a name: the name is taken away at once, so that nothing stays behind, whatever happens; forks inherit it.
struct Queue {
	explicit Queue(const char *end, std::size_t messages, std::size_t size)
	    : name("bench-boost-" + std::to_string(getpid()) + end), queue(create_only, name.c_str(), messages, size)
	{
		message_queue::remove(name.c_str());
	}
	std::string name;
	message_queue queue;
};

template <typename Work> pid_t start(Work work)
{
	std::fflush(stdout);
	pid_t pid = fork();
	if (pid < 0) fail("fork failed");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work();
		std::_Exit(0);
	}
	return pid;
}

bool ended_well(pid_t pid)
{
	int status = 0;
	return waitpid(pid, &status, 0) == pid && status == 0;
}

int stream(std::size_t size, std::uint64_t count, unsigned levels)
{
	Queue q("", size <= 1024 ? 4096 : size <= 65536 ? 64 : 8, size);
	auto *times = static_cast<std::uint64_t *>(
	    mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (times == MAP_FAILED) fail("no memory");
	pid_t producer = start([&] {
		std::vector<char> data(size);
		times[0] = now_ns();
		for (std::uint64_t i = 0; i < count; i++) {
			fill(data, i);
			q.queue.send(data.data(), size, unsigned(i % levels));
		}
	});
	pid_t consumer = start([&] {
		std::vector<char> got(size), want(size);
		std::vector<std::uint64_t> next(levels);
		for (unsigned level = 0; level < levels; level++) next[level] = level;
		for (std::uint64_t i = 0; i < count; i++) {
			message_queue::size_type received = 0;
			unsigned priority = 0;
			q.queue.receive(got.data(), size, received, priority);
			if (priority >= levels) fail("a message of no priority");
			fill(want, next[priority]);
			next[priority] += levels;
			if (received != size || std::memcmp(got.data(), want.data(), std::min(size, size <= whole ? whole : head)))
				fail("a message is damaged or out of order");
		}
		times[1] = now_ns();
	});
	bool sent = ended_well(producer), received = sent && ended_well(consumer);
	if (!received) return 1;
	double seconds = double(times[1] - times[0]) / 1e9;
	std::printf("{\"rate\": %.1f, \"seconds\": %.6f}\n", double(count) / seconds, seconds);
	return 0;
}

void take(message_queue &queue, std::vector<char> &data, bool poll)
{
	message_queue::size_type received = 0;
	unsigned priority = 0;
	if (!poll) return queue.receive(data.data(), data.size(), received, priority);
	while (!queue.try_receive(data.data(), data.size(), received, priority)) {}
}

int pingpong(std::uint64_t count, int asker, int answerer, bool poll)
{
	Queue there("-there", 16, whole), back("-back", 16, whole);
	pid_t child = start([&] {
		stay_on(answerer);
		std::vector<char> data(whole);
		for (std::uint64_t i = 0; i < count; i++) {
			take(there.queue, data, poll);
			back.queue.send(data.data(), whole, 0);
		}
	});
	stay_on(asker);
	std::vector<std::uint64_t> laps(count);
	std::vector<char> data(whole);
	std::uint64_t begin = now_ns();
	for (std::uint64_t i = 0; i < count; i++) {
		std::uint64_t before = now_ns();
		fill(data, i);
		there.queue.send(data.data(), whole, 0);
		take(back.queue, data, poll);
		if (std::memcmp(data.data(), &i, head)) fail("the answer is not what was sent");
		laps[i] = now_ns() - before;
	}
	double seconds = double(now_ns() - begin) / 1e9;
	if (!ended_well(child)) return 1;
	std::sort(laps.begin(), laps.end());
	std::printf("{\"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, \"seconds\": %.6f}\n",
	            static_cast<unsigned long long>(laps[count / 2]), static_cast<unsigned long long>(laps[count * 99 / 100]),
	            static_cast<unsigned long long>(laps[count * 999 / 1000]), seconds);
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	std::string what = argc > 3 ? argv[1] : "";
	try {
		if (what == "stream") return stream(std::stoul(argv[2]), std::stoul(argv[3]), 1);
		if (what == "priority") return stream(whole, std::stoul(argv[3]), unsigned(std::stoul(argv[2])));
		if (what == "pingpong" && argc > 4)
			return pingpong(std::stoul(argv[2]), std::stoi(argv[3]), std::stoi(argv[4]), argc > 5);
	} catch (const std::exception &error) {
		fail(error.what());
	}
	std::fprintf(stderr, "usage: boost stream SIZE COUNT | priority LEVELS COUNT | pingpong COUNT CORE CORE [poll]\n");
	return 2;
}
