/* mqshm._front: publish, receive and settle on CPython where they succeed at once, without the crossing of cffi that
 * costs more than the work. Decides nothing: it turns Python's arguments into calls of the functions in mqshm_front_api,
 * and their results into objects. All else goes to methods of the subclasses that mqshm/_fast.py makes of these types:
 * Front, one per attached broker; Receiver, one per subscription; Message, one per delivery. The interpreter's lock guards
 * every field here, and is held in all calls but the one that waits.
 */
#ifndef MQF_FRONT_H
#define MQF_FRONT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "mqshm.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What _failed gets besides a mqshm_result; but not RAISED, after which a Python exception is set. */
enum { ALREADY_SETTLED = -1, FRONT_CLOSED = -2, RAISED = -3, UNREADABLE = -4, NOT_A_MESSAGE = -5 };

typedef struct {
	PyObject_HEAD
	mqshm_t *handle;
	struct known_topic { PyObject *name; mqshm_topic_t *topic; } *topics; /* found by address of the name, which is referenced */
	unsigned waiting; /* calls that are in C without the interpreter's lock */
	unsigned views;   /* exports of the segment's memory */
	bool closed;      /* no more calls; those that wait give up */
	bool abandoned;   /* the handle is gone: nothing may touch it */
} Front;

typedef struct {
	PyObject_HEAD
	PyObject *args; /* keeps what it was made of */
	Front *front;
	PyTypeObject *eager, *lazy; /* classes of messages with and without a copy of their payload */
	mqshm_sub_t *sub;
	int ack;
	bool closed;
} Receiver;

/* What becomes of the delivery when the message ends, or the last view of one that is settled. */
enum end { NOTHING = 0, RELEASE = 1, NACK = 2, REJECT = 3 };

/* Not tracked by the collector: that would cost more than all the rest here. A message refers to strings and to its
 * receiver; only one that is kept on its own broker makes a cycle. Its views are exports of the message itself. */
typedef struct {
	PyObject_HEAD
	Receiver *receiver; /* in the pool: the next message of it */
	PyObject *data;   /* NULL: in the segment only */
	PyObject *id, *headers, *key, *reason;
	mqshm_delivery d;
	unsigned epoch, delay_ms, views;
	enum end end;
	bool settled, viewed, unasked; /* the last: settled by receiving, takes an ack all the same, once */
} Message;

extern const mqshm_front_api *mqf_api;
extern unsigned mqf_epoch; /* forks of this process; what was leased under an older one is the parent's */
extern PyTypeObject *mqf_front_type, *mqf_message_type;
extern PyType_Slot mqf_front_slots[], mqf_receiver_slots[], mqf_message_slots[];

#define FAST (METH_FASTCALL | METH_KEYWORDS)
#define CALL(f) ((PyCFunction)(void (*)(void))(f))

/* A method of a subclass. Takes over `args`. */
PyObject *mqf_call(void *o, const char *method, PyObject *args);
/* None also where Python could repair what failed: try again. Raises otherwise. */
PyObject *mqf_none(void *o, int result);
/* Closed, and nobody looks at the segment any more: Python may let go of it. Runs wherever the last view dies. */
void mqf_rest(Front *f);

extern Message *mqf_pool; /* dead messages, kept for the next */
extern unsigned mqf_pool_size;
/* Memory for the next message, still in the pool: a receive that finds nothing leaves it there. */
static inline Message *mqf_pool_top(void)
{
	if (unlikely(!mqf_pool) && (mqf_pool = PyObject_Calloc(1, sizeof *mqf_pool))) mqf_pool_size = 1;
	return likely(mqf_pool) ? mqf_pool : (Message *)PyErr_NoMemory();
}

/* The message of a delivery, which may lie in the pool's top already. One that cannot be handed out is given back. */
int mqf_hand_out(Receiver *r, mqshm_delivery *d, Message **out, bool ack_later);
int mqf_ack(Message *m);
void mqf_message_dealloc(Message *m);

#endif
