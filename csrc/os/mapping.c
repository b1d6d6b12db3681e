#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fallocate with flags */
#endif
#include "os/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/atomic.h"

/* A signal makes fallocate start over; below this it is done before the next one comes, however often they come. */
#define LEAST_PIECE (256u << 10)

int mqi_map(int fd, uint64_t size, unsigned char **base)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) return errno;
	/* A core file would otherwise hold everybody's messages, and reading the holes would make them memory. */
	madvise(at, size, MADV_DONTDUMP);
	*base = at;
	return 0;
}

void mqi_unmap(unsigned char *base, uint64_t size)
{
	munmap(base, size);
}

int mqi_size(int fd, uint64_t *size)
{
	struct stat st;
	if (fstat(fd, &st)) return errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

int mqi_resize(int fd, uint64_t size)
{
	int r;
	do r = ftruncate(fd, (off_t)size);
	while (r && errno == EINTR);
	return r ? errno : 0;
}

int mqi_read(int fd, uint64_t offset, void *out, uint64_t size)
{
	unsigned char *to = out;
	while (size) {
		ssize_t got = pread(fd, to, size, (off_t)offset);
		if (got < 0 && errno == EINTR) continue;
		if (got < 0) return errno;
		if (got == 0) return ENODATA;
		to += got;
		offset += (uint64_t)got;
		size -= (uint64_t)got;
	}
	return 0;
}

/* fallocate itself, not posix_fallocate, which writes into the file where the file system cannot do it. tmpfs serves one
 * call at a time, and takes back what a failed call added and only that: repeating or racing it does no harm. */
int mqi_commit(int fd, uint64_t offset, uint64_t size)
{
	uint64_t piece = size;
	while (size) {
		if (piece > size) piece = size;
		MQI_HOOK(MQI_SYSCALL, 0);
		if (fallocate(fd, 0, (off_t)offset, (off_t)piece) == 0) {
			offset += piece;
			size -= piece;
		} else if (errno != EINTR) {
			return errno;
		} else if (piece > LEAST_PIECE) {
			piece /= 2;
		}
	}
	return 0;
}

int mqi_punch(int fd, uint64_t offset, uint64_t size)
{
	int r;
	MQI_HOOK(MQI_SYSCALL, 0);
	do r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
	while (r && errno == EINTR);
	return r ? errno : 0;
}

int mqi_unlink_same(int fd, const char *path)
{
	struct stat ours, found;
	if (fstat(fd, &ours) != 0) return errno;
	if (stat(path, &found) != 0) return errno == ENOENT ? 0 : errno;
	if (ours.st_dev != found.st_dev || ours.st_ino != found.st_ino) return 0;
	return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
}
