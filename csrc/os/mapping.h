/* A file in memory: mapped once, sparse, given memory page by page. Errors are errno values; 0 is success. */
#ifndef MQI_MAPPING_H
#define MQI_MAPPING_H

#include <stdint.h>

int mqi_map(int fd, uint64_t size, unsigned char **base); /* shared, read and write, not dumped to core files */
void mqi_unmap(unsigned char *base, uint64_t size);
int mqi_size(int fd, uint64_t *size);
int mqi_resize(int fd, uint64_t size);
/* All of [offset, offset + size), without making memory of holes; ENODATA where the file ends before. */
int mqi_read(int fd, uint64_t offset, void *out, uint64_t size);
/* Memory for [offset, offset + size): ENOSPC when there is none, instead of a SIGBUS later. Repeats after signals. */
int mqi_commit(int fd, uint64_t offset, uint64_t size);
/* Gives the memory back; reads as zeros when committed again. */
int mqi_punch(int fd, uint64_t offset, uint64_t size);
/* Takes the name away where it leads to this file; 0 where it does not, too. */
int mqi_unlink_same(int fd, const char *path);

#endif
