#include "flow/envelope.h"

uint64_t mqi_envelope_size(const mqshm_envelope *e, unsigned flags)
{
	uint64_t size = 0;
	if (flags & F_EXPIRES) size += 8;
	if (flags & F_ACK_MS) size += 4;
	if (flags & F_ID) size += 2ull + e->id_size;
	if (flags & F_HEADERS) size += 4ull + e->headers_size;
	if (flags & F_KEY) size += 2ull + e->key_size;
	return size;
}

static unsigned char *put(unsigned char *to, const void *from, uint64_t size)
{
	memcpy(to, from, size);
	return to + size;
}

void mqi_envelope_write(unsigned char *to, const mqshm_envelope *e, unsigned flags, uint64_t expires_ns)
{
	uint16_t id = (uint16_t)e->id_size, key = (uint16_t)e->key_size;
	if (flags & F_EXPIRES) to = put(to, &expires_ns, 8);
	if (flags & F_ACK_MS) to = put(to, &e->ack_ms, 4);
	if (flags & F_ID) to = put(put(to, &id, 2), e->id, id);
	if (flags & F_HEADERS) to = put(put(to, &e->headers_size, 4), e->headers, e->headers_size);
	if (flags & F_KEY) to = put(put(to, &key, 2), e->key, key);
}

static bool get(const unsigned char **from, uint64_t *room, void *to, uint64_t size)
{
	if (size > *room) return false;
	memcpy(to, *from, size);
	*from += size;
	*room -= size;
	return true;
}

static bool get_bytes(const unsigned char **from, uint64_t *room, const unsigned char **to, uint64_t size)
{
	if (size > *room) return false;
	*to = *from;
	*from += size;
	*room -= size;
	return true;
}

bool mqi_envelope_read(const unsigned char *from, uint64_t room, unsigned flags, mqshm_delivery *d)
{
	uint16_t id = 0, key = 0;
	if (flags & F_EXPIRES && !get(&from, &room, &d->expires_ns, 8)) return false;
	if (flags & F_ACK_MS && !get(&from, &room, &d->ack_ms, 4)) return false;
	if (flags & F_ID && !(get(&from, &room, &id, 2) && get_bytes(&from, &room, &d->id, id))) return false;
	if (flags & F_HEADERS && !(get(&from, &room, &d->headers_size, 4) && get_bytes(&from, &room, &d->headers, d->headers_size)))
		return false;
	if (flags & F_KEY && !(get(&from, &room, &key, 2) && get_bytes(&from, &room, &d->key, key))) return false;
	d->id_size = id;
	d->key_size = key;
	return true;
}
