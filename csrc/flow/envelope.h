/* What goes with a payload besides its bytes: written behind the payload in the order of the flags, read with every
 * length checked against the room that there is. */
#ifndef MQI_ENVELOPE_H
#define MQI_ENVELOPE_H

#include "shm/handle.h"

static inline unsigned mqi_envelope_flags(const mqshm_envelope *e, uint64_t expires_ns)
{
	return (expires_ns ? F_EXPIRES : 0u) | (e->ack_ms ? F_ACK_MS : 0u) | (e->id_size ? F_ID : 0u) |
	       (e->headers_size ? F_HEADERS : 0u) | (e->key_size ? F_KEY : 0u);
}
uint64_t mqi_envelope_size(const mqshm_envelope *e, unsigned flags);
void mqi_envelope_write(unsigned char *to, const mqshm_envelope *e, unsigned flags, uint64_t expires_ns);
/* Sets the envelope's fields of d. false where it does not fit into `room` bytes: no mqshm wrote that. */
bool mqi_envelope_read(const unsigned char *from, uint64_t room, unsigned flags, mqshm_delivery *d);

#endif
