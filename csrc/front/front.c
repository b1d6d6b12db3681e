/* mqshm._front: publish, receive and settle on CPython where they succeed at once, without the crossing of cffi that
 * costs more than the work. Decides nothing: it turns Python's arguments into calls of the functions in mqshm_front_api,
 * and their results into objects. All else goes to methods of the subclasses that mqshm/_fast.py makes of these types:
 * Front, one per attached broker; Receiver, one per subscription; Message, one per delivery. The interpreter's lock guards
 * every field here, and is held in all calls but the one that waits.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <structmember.h>

#include "os/copy.h"
#include "mqshm.h"
#include "os/clock.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What _failed gets besides a mqshm_result; but not RAISED, after which a Python exception is set. */
enum { ALREADY_SETTLED = -1, FRONT_CLOSED = -2, RAISED = -3, UNREADABLE = -4, NOT_A_MESSAGE = -5 };
enum {
	TOPIC_BITS = 15,          /* log2 of a front's cache of topics; what of it is not used is no memory */
	UNLOCKED = 256 << 10,     /* payloads from this size on are copied without the interpreter's lock */
	EAGER = 4 << 10,          /* payloads up to this are copied at receive, */
	EAGER_SETTLED = 16 << 10, /* and up to this where receiving settles: cheaper than to hold and release */
	POOL = 512,               /* dead messages kept for the next: two large batches */
	CHUNK = 64,               /* deliveries on the stack */
	LOWEST_RING = 4,          /* of priority 0; ring 0 is of 40 */
	SLICE_NS = 100000000,     /* how long another thread's close may go unnoticed */
};

static const mqshm_front_api *api;
static unsigned epoch; /* forks of this process; what was leased under an older one is the parent's */

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

static PyTypeObject *front_type, *message_type;
static Message *pool;
static unsigned pool_size;

/* Takes over `args`. The name is interned: type caches go by its address, and would fill with ever new ones. */
static PyObject *call(void *o, const char *method, PyObject *args)
{
	PyObject *name = PyUnicode_InternFromString(method), *function = name ? PyObject_GetAttr(o, name) : NULL;
	PyObject *result = function && args ? PyObject_Call(function, args, NULL) : NULL;
	Py_XDECREF(name);
	Py_XDECREF(function);
	Py_XDECREF(args);
	return result;
}

/* None also where Python could repair what failed: try again. Raises otherwise. */
static PyObject *none(void *o, int result)
{
	if (likely(result == MQSHM_OK)) return Py_NewRef(Py_None);
	return result == RAISED ? NULL : call(o, "_failed", Py_BuildValue("(i)", result));
}

static PyObject *slow_publish(Front *f, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
	Py_ssize_t all = n + (kwnames ? PyTuple_Size(kwnames) : 0), i = 0;
	PyErr_Clear(); /* of an argument that was not plain: there are better words for it */
	PyObject *values = PyTuple_New(all);
	while (values && i < all && !PyTuple_SetItem(values, i, Py_NewRef(args[i]))) i++;
	return call(f, "_slow", values ? Py_BuildValue("(NO)", values, kwnames ? kwnames : Py_None) : NULL);
}

static inline int topic_of(Front *f, PyObject *name, mqshm_topic_t **out)
{
	size_t at = (uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u >> (64 - TOPIC_BITS); /* Fibonacci hashing: Knuth, volume 3 */
	*out = f->topics[at].topic;
	if (likely(f->topics[at].name == name)) return MQSHM_OK;
	at ^= 1; /* its other place: with one, half of 10,000 topics would push each other out */
	*out = f->topics[at].topic;
	if (likely(f->topics[at].name == name)) return MQSHM_OK;
	if (f->topics[at].name && !f->topics[at ^ 1].name) at ^= 1;
	Py_ssize_t size;
	const char *bytes = PyUnicode_AsUTF8AndSize(name, &size);
	int result = bytes && size <= UINT32_MAX ? api->topic_open(f->handle, bytes, (uint32_t)size, out) : MQSHM_INVALID;
	if (result != MQSHM_OK) return result;
	Py_XDECREF(f->topics[at].name); /* an exact str: nothing runs when it dies */
	f->topics[at].name = Py_NewRef(name);
	f->topics[at].topic = *out;
	return MQSHM_OK;
}

/* Bytes, UTF-8 of a str, or, where there is a `buffer` to be released, what has one. */
static inline bool payload(PyObject *o, const void **data, uint64_t *size, Py_buffer *buffer)
{
	Py_ssize_t n = 0;
	if (likely(PyBytes_CheckExact(o))) PyBytes_AsStringAndSize(o, (char **)(uintptr_t)data, &n);
	else if (PyUnicode_CheckExact(o)) *data = PyUnicode_AsUTF8AndSize(o, &n);
	else if (buffer && PyObject_GetBuffer(o, buffer, PyBUF_SIMPLE) == 0) {
		*data = buffer->buf ? buffer->buf : "";
		n = buffer->len;
	} else *data = NULL;
	*size = (uint64_t)n;
	return *data;
}

static bool only_priority(PyObject *kwnames, PyObject *value, mqshm_envelope *e)
{
	if (PyTuple_Size(kwnames) != 1 || PyUnicode_CompareWithASCIIString(PyTuple_GetItem(kwnames, 0), "priority")) return false;
	long priority = PyLong_AsLong(value); /* -1 where it is not a number */
	*e = (mqshm_envelope){ .ring = (uint32_t)(LOWEST_RING - priority / 10) };
	return priority >= 0 && priority <= 10 * LOWEST_RING && priority % 10 == 0;
}

/* Closed, and nobody looks at the segment any more: Python may let go of it. Runs wherever the last view dies. */
static void rest(Front *f)
{
	if (likely(!f->closed) || f->waiting || f->views) return;
	PyObject *type, *value, *trace, *nothing;
	PyErr_Fetch(&type, &value, &trace);
	if (!(nothing = call(f, "_rest", PyTuple_New(0)))) PyErr_WriteUnraisable((PyObject *)f);
	Py_XDECREF(nothing);
	PyErr_Restore(type, value, trace);
}

static PyObject *front_publish(Front *f, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
	mqshm_envelope e;
	bool plain = likely(n == 2) && PyUnicode_CheckExact(args[0]) && !f->closed;
	if (likely(plain && (!kwnames || only_priority(kwnames, args[2], &e)))) {
		mqshm_topic_t *topic;
		uint64_t size, seq;
		const void *data;
		Py_buffer buffer = { .obj = NULL };
		int result = likely(payload(args[1], &data, &size, &buffer)) ? topic_of(f, args[0], &topic) : MQSHM_INVALID;
		PyThreadState *others = unlikely(result == MQSHM_OK && size >= UNLOCKED) ? (f->waiting++, PyEval_SaveThread()) : NULL;
		if (likely(result == MQSHM_OK)) result = api->publish(f->handle, topic, data, size, kwnames ? &e : NULL, &seq);
		if (unlikely(others)) PyEval_RestoreThread(others), f->waiting--, rest(f);
		if (unlikely(buffer.obj)) PyBuffer_Release(&buffer);
		if (likely(result == MQSHM_OK)) return PyLong_FromUnsignedLongLong(seq);
	}
	return slow_publish(f, args, n, kwnames);
}

/* Sequence numbers of one process rise. */
static PyObject *sequence_of(const uint64_t *seqs, uint32_t n)
{
	if (n > 1 && seqs[n - 1] - seqs[0] == n - 1) return PyObject_CallFunction((PyObject *)&PyRange_Type, "KK", seqs[0], seqs[0] + n);
	PyObject *list = PyList_New(n);
	for (uint32_t i = 0; list && i < n; i++) {
		PyObject *seq = PyLong_FromUnsignedLongLong(seqs[i]);
		if (!seq || PyList_SetItem(list, i, seq)) Py_CLEAR(list);
	}
	return list;
}

/* (topic, items): the numbers of the first of them, which are in; None where nothing is. */
static PyObject *front_publish_batch(Front *f, PyObject *const *args, Py_ssize_t n)
{
	bool plain = n == 2 && !f->closed && PyUnicode_CheckExact(args[0]) && PyTuple_CheckExact(args[1]);
	size_t count = plain ? (size_t)PyTuple_Size(args[1]) : 0, i = 0;
	const void **data = PyMem_Malloc(count * (sizeof *data + 2 * sizeof(uint64_t)));
	if (!data) return PyErr_NoMemory();
	uint64_t *sizes = (uint64_t *)(data + count), *seqs = sizes + count;
	mqshm_topic_t *topic;
	uint32_t done = 0;
	while (i < count && payload(PyTuple_GetItem(args[1], (Py_ssize_t)i), &data[i], &sizes[i], NULL)) i++;
	if (count && i == count && i < UINT32_MAX && topic_of(f, args[0], &topic) == MQSHM_OK)
		api->publish_batch(f->handle, topic, (uint32_t)i, data, sizes, NULL, seqs, &done);
	PyErr_Clear(); /* of an item that was not plain */
	PyObject *in = done ? sequence_of(seqs, done) : Py_NewRef(Py_None);
	PyMem_Free(data);
	return in;
}

static PyObject *front_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
	unsigned long long handle;
	if (!PyArg_ParseTuple(args, "K", &handle)) return NULL;
	Front *f = (Front *)PyType_GenericAlloc(type, 0);
	if (!f || !(f->topics = PyMem_Calloc((size_t)1 << TOPIC_BITS, sizeof *f->topics))) return Py_XDECREF((PyObject *)f), PyErr_NoMemory();
	f->handle = (mqshm_t *)(uintptr_t)handle;
	return (PyObject *)f;
}

static void front_dealloc(Front *f)
{
	PyTypeObject *type = Py_TYPE((PyObject *)f);
	for (size_t i = 0; f->topics && i < 1u << TOPIC_BITS; i++) Py_XDECREF(f->topics[i].name);
	PyMem_Free(f->topics);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(f);
	Py_DECREF(type);
}

static int end(Message *m)
{
	enum end how = m->end;
	m->end = NOTHING;
	if (how == NOTHING || m->epoch != epoch || m->receiver->front->abandoned) return MQSHM_OK;
	if (how == RELEASE) return api->release(&m->d);
	if (how == NACK) return api->nack(&m->d, m->delay_ms);
	Py_ssize_t size;
	const char *reason = PyUnicode_AsUTF8AndSize(m->reason, &size); /* made before: cannot fail */
	return api->reject(&m->d, reason, (uint32_t)size);
}

static int may_settle(Message *m)
{
	if (unlikely(m->settled)) return ALREADY_SETTLED;
	if (unlikely(m->epoch != epoch)) return MQSHM_FORKED;
	return unlikely(m->receiver->front->closed) ? FRONT_CLOSED : MQSHM_OK;
}

/* A message that is acked with its payload neither copied nor looked at keeps it for as long as it lives. */
static inline int ack(Message *m)
{
	bool keep = m->views || (!m->data && !m->viewed);
	int result = may_settle(m);
	if (unlikely(result != MQSHM_OK)) return result;
	result = unlikely(keep) ? api->ack_hold(&m->d) : api->ack(&m->d);
	m->settled = true;
	m->end = unlikely(keep) && result == MQSHM_OK ? RELEASE : NOTHING;
	return result;
}

static PyObject *copy_of(const void *from, uint64_t size)
{
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (likely(bytes)) mqi_copy(PyBytes_AsString(bytes), from, size);
	return bytes;
}

/* Under MQSHM_ACK_TIMEOUT the memory is another's when the lease has ended. NULL: that, or an exception. */
static PyObject *bytes_of(const Receiver *r, const mqshm_delivery *d, const void *from, uint64_t size)
{
	if (likely(r->ack != MQSHM_ACK_TIMEOUT)) return size < MQI_COPY_LINES ? PyBytes_FromStringAndSize(from, (Py_ssize_t)size) : copy_of(from, size);
	PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
	if (bytes && api->read(d, from, PyBytes_AsString(bytes), size) != MQSHM_OK) Py_CLEAR(bytes);
	return bytes;
}

static int load(Message *m)
{
	if (m->data) return MQSHM_OK;
	if (m->receiver->front->abandoned) return FRONT_CLOSED;
	if (m->end == NOTHING) return UNREADABLE;
	bool kept = m->settled || m->epoch != epoch; /* FREEING; or as a forked child found it */
	m->data = kept ? PyBytes_FromStringAndSize((const char *)m->d.data, (Py_ssize_t)m->d.size)
	               : bytes_of(m->receiver, &m->d, m->d.data, m->d.size);
	if (!m->data) return PyErr_Occurred() ? RAISED : UNREADABLE;
	if (m->settled && !m->views) end(m);
	return MQSHM_OK;
}

static PyObject *message_ack(Message *m, PyObject *Py_UNUSED(unused)) { return none(m, ack(m)); }

/* NACK and REJECT: at once, or after the last view. */
static PyObject *message_end(Message *m, PyObject *args)
{
	int how;
	unsigned delay_ms;
	PyObject *reason;
	if (!PyArg_ParseTuple(args, "iIU", &how, &delay_ms, &reason) || !PyUnicode_AsUTF8AndSize(reason, NULL)) return NULL;
	int result = may_settle(m);
	if (result != MQSHM_OK) return none(m, result);
	if (load(m) == RAISED) PyErr_Clear(); /* no memory for a copy to read later: settled all the same */
	m->settled = true;
	m->end = how == REJECT ? REJECT : NACK;
	m->delay_ms = delay_ms;
	m->reason = Py_NewRef(reason);
	return none(m, m->views ? MQSHM_OK : end(m));
}

/* Until _commit_end it counts as settled; whether its memory is looked at, or will be. */
static PyObject *message_commit_begin(Message *m, PyObject *Py_UNUSED(unused))
{
	bool keep = m->views || (!m->data && !m->viewed);
	int result = may_settle(m);
	if (result != MQSHM_OK) return none(m, result);
	m->settled = true;
	m->end = NOTHING;
	return PyBool_FromLong(keep);
}

static PyObject *message_commit_end(Message *m, PyObject *args)
{
	int committed, kept;
	if (!PyArg_ParseTuple(args, "pp", &committed, &kept)) return NULL;
	m->settled = committed;
	m->end = !committed ? NACK : kept ? RELEASE : NOTHING;
	if (committed && kept && m->viewed && !m->views) end(m); /* the last view ended meanwhile */
	return Py_NewRef(Py_None);
}

static PyObject *message_enter(PyObject *m, PyObject *Py_UNUSED(unused)) { return Py_NewRef(m); }

static PyObject *message_exit(Message *m, PyObject *const *args, Py_ssize_t n)
{
	if (m->settled || n == 0 || args[0] == Py_None) return m->settled ? Py_NewRef(Py_None) : message_ack(m, NULL);
	PyObject *nothing = call(m, "_raised", PyTuple_Pack(1, args[0]));
	if (nothing || !PyErr_ExceptionMatches(PyExc_Exception)) return nothing;
	return PyErr_Clear(), Py_NewRef(Py_None); /* the exception that is under way says more */
}

static PyObject *message_data(Message *m, void *Py_UNUSED(unused))
{
	int result = load(m);
	return likely(result == MQSHM_OK) ? Py_NewRef(m->data) : none(m, result);
}

static PyObject *message_delivery(Message *m, void *Py_UNUSED(unused)) { return PyLong_FromVoidPtr(&m->d); }

static int message_export(Message *m, Py_buffer *view, int flags)
{
	Front *f = m->receiver->front;
	/* A lease that ends by itself would end under the view. */
	int result = !m->data && m->receiver->ack == MQSHM_ACK_TIMEOUT ? load(m) : MQSHM_OK;
	view->obj = NULL;
	if (result == MQSHM_OK && m->data) return PyObject_GetBuffer(m->data, view, flags);
	if (result == MQSHM_OK) result = f->closed ? FRONT_CLOSED : m->end == NOTHING ? UNREADABLE : MQSHM_OK;
	if (result != MQSHM_OK) return none(m, result), -1;
	if (PyBuffer_FillInfo(view, (PyObject *)m, (void *)(uintptr_t)m->d.data, (Py_ssize_t)m->d.size, 1, flags)) return -1;
	m->viewed = true;
	m->views++;
	f->views++;
	return 0;
}

static void message_unexport(Message *m, Py_buffer *Py_UNUSED(view))
{
	Front *f = m->receiver->front;
	if (--m->views == 0 && m->settled) end(m);
	f->views--;
	rest(f);
}

static void message_dealloc(Message *m)
{
	PyTypeObject *type = Py_TYPE((PyObject *)m);
	Receiver *r = m->receiver;
	end(m); /* of a lease: nobody else could ever settle it */
	Py_XDECREF(m->data);
	Py_XDECREF(m->id);
	Py_XDECREF(m->headers);
	Py_XDECREF(m->key);
	Py_XDECREF(m->reason);
	if (likely(pool_size < POOL)) {
		m->receiver = (Receiver *)pool;
		pool = m;
		pool_size++;
	} else
		PyObject_Free(m);
	Py_DECREF(r);
	Py_DECREF(type);
}

/* Memory for the next message, still in the pool: a receive that finds nothing leaves it there. */
static inline Message *pool_top(void)
{
	if (unlikely(!pool) && (pool = PyObject_Calloc(1, sizeof *pool))) pool_size = 1;
	return likely(pool) ? pool : (Message *)PyErr_NoMemory();
}

static PyObject *decoded(const void *from, uint32_t size)
{
	return PyUnicode_DecodeUTF8(from, size, "surrogateescape"); /* whatever another language wrote */
}

static PyObject *string_of(const Receiver *r, const mqshm_delivery *d, const void *from, uint32_t size)
{
	if (likely(r->ack != MQSHM_ACK_TIMEOUT)) return decoded(from, size);
	PyObject *bytes = bytes_of(r, d, from, size), *string = bytes ? decoded(PyBytes_AsString(bytes), size) : NULL;
	Py_XDECREF(bytes);
	return string;
}

/* The message of a delivery, which may lie in the pool's top already. One that cannot be handed out is given back. */
static int hand_out(Receiver *r, mqshm_delivery *d, Message **out, bool ack_later)
{
	Message *m = *out = pool_top();
	if (unlikely(!m)) return api->nack(d, 0), RAISED;
	if (d != &m->d) m->d = *d;
	d = &m->d;
	pool = (Message *)m->receiver;
	pool_size--;
	bool eager = d->size <= (r->ack == MQSHM_ACK_NONE ? EAGER_SETTLED : EAGER);
	PyObject_Init((PyObject *)m, likely(eager) ? r->eager : r->lazy);
	m->receiver = (Receiver *)Py_NewRef((PyObject *)r);
	m->data = m->id = m->headers = m->key = m->reason = NULL;
	m->epoch = epoch;
	m->delay_ms = m->views = 0;
	m->end = NACK;
	m->settled = m->viewed = false;
	m->unasked = r->ack == MQSHM_ACK_NONE;
	int result = MQSHM_OK;
	if ((likely(eager) && !(m->data = bytes_of(r, d, d->data, d->size))) ||
	    (d->id_size && !(m->id = string_of(r, d, d->id, d->id_size))) || (d->key_size && !(m->key = string_of(r, d, d->key, d->key_size))) ||
	    (d->headers_size && !(m->headers = bytes_of(r, d, d->headers, d->headers_size))))
		result = PyErr_Occurred() ? RAISED : MQSHM_LEASE_LOST;
	else if (ack_later && m->data) m->settled = true, m->end = NOTHING;
	else if (r->ack == MQSHM_ACK_NONE) result = ack(m);
	if (likely(result == MQSHM_OK)) return MQSHM_OK;
	if (result != RAISED) m->end = NOTHING; /* it went to another before it was copied */
	Py_CLEAR(*out);
	return result == MQSHM_LEASE_LOST ? MQSHM_EMPTY : result;
}

/* The last argument, `timeout`, by position or name: seconds or None to ns; negative is for ever, 0 not at all. */
static bool timeout_of(PyObject *const *args, Py_ssize_t n, PyObject *kwnames, int64_t *ns)
{
	Py_ssize_t named = kwnames ? PyTuple_Size(kwnames) : 0;
	*ns = -1;
	if (n + named > 1 || (named && PyUnicode_CompareWithASCIIString(PyTuple_GetItem(kwnames, 0), "timeout")))
		return PyErr_SetString(PyExc_TypeError, "takes one argument, timeout"), false;
	if (n + named == 0 || args[0] == Py_None) return true;
	double seconds = PyFloat_AsDouble(args[0]);
	*ns = seconds <= 0 ? 0 : seconds < 1e9 ? (int64_t)(seconds * 1e9) + 1 : (int64_t)1e18;
	if (seconds != seconds) PyErr_SetString(PyExc_ValueError, "timeout is not a number");
	return !PyErr_Occurred();
}

/* MQSHM_EMPTY where the time is over, MQSHM_OK where it is worth another look. */
static int wait_for_message(Receiver *r, int64_t timeout_ns, uint64_t *deadline)
{
	Front *f = r->front;
	if (timeout_ns == 0) return MQSHM_EMPTY;
	uint64_t now = mqi_mono_ns();
	if (!*deadline) *deadline = timeout_ns < 0 ? UINT64_MAX : now + (uint64_t)timeout_ns;
	if (now >= *deadline) return MQSHM_EMPTY;
	int64_t slice = *deadline - now < SLICE_NS ? (int64_t)(*deadline - now) : SLICE_NS;
	int result;
	f->waiting++;
	Py_BEGIN_ALLOW_THREADS
	result = api->wait(f->handle, &r->sub, 1, slice);
	Py_END_ALLOW_THREADS
	f->waiting--;
	rest(f);
	if (PyErr_CheckSignals()) return RAISED;
	return result == MQSHM_TIMEOUT || result == MQSHM_INTERRUPTED ? MQSHM_OK : result;
}

static PyObject *receive(Receiver *r, int64_t timeout_ns)
{
	for (uint64_t deadline = 0;;) {
		Message *m = pool_top();
		int result = unlikely(!m) ? RAISED : unlikely(r->closed || r->front->closed) ? MQSHM_CLOSED : MQSHM_OK;
		if (likely(result == MQSHM_OK)) result = api->receive(r->sub, &m->d);
		if (likely(result == MQSHM_OK)) result = hand_out(r, &m->d, &m, false);
		if (likely(result == MQSHM_OK)) return (PyObject *)m;
		if (result == MQSHM_EMPTY) result = wait_for_message(r, timeout_ns, &deadline);
		PyObject *nothing = none(r, result == MQSHM_EMPTY ? MQSHM_OK : result);
		if (result == MQSHM_EMPTY || !nothing) return nothing;
		Py_DECREF(nothing);
	}
}

static PyObject *receiver_receive_nowait(Receiver *r, PyObject *Py_UNUSED(unused)) { return receive(r, 0); }

static PyObject *receiver_receive(Receiver *r, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
	int64_t timeout_ns;
	return timeout_of(args, n, kwnames, &timeout_ns) ? receive(r, timeout_ns) : NULL;
}

/* Up to `max` of what is there, without waiting; [] where nothing is. */
static PyObject *receiver_take(Receiver *r, PyObject *number)
{
	mqshm_delivery d[CHUNK];
	int result = MQSHM_OK;
	Py_ssize_t max = PyLong_AsSsize_t(number);
	PyObject *list = PyErr_Occurred() ? NULL : PyList_New(0);
	while (list && result == MQSHM_OK && max > 0) {
		uint32_t got = 0;
		if (r->closed || r->front->closed) result = MQSHM_CLOSED;
		if (result == MQSHM_OK) result = api->receive_batch(r->sub, max < CHUNK ? (uint32_t)max : CHUNK, d, &got);
		uint32_t later = 0; /* of d, from its start: to be acked at once, after all have been copied */
		for (uint32_t i = 0; i < got; i++) {
			Message *m;
			int handed = hand_out(r, &d[i], &m, r->ack == MQSHM_ACK_NONE);
			if (handed == MQSHM_OK && PyList_Append(list, (PyObject *)m)) handed = RAISED, m->end = NACK;
			if (unlikely(handed != MQSHM_OK)) result = handed;
			else if (m->settled && m->end == NOTHING) d[later++] = d[i];
			Py_XDECREF((PyObject *)m);
		}
		if (later) api->ack_batch(d, later, &later);
		max -= got;
	}
	if (result == MQSHM_OK || result == MQSHM_EMPTY) return list;
	if (PyList_Size(list)) return PyErr_Clear(), list; /* what ended it is met again by the next call */
	Py_DECREF(list);
	PyObject *repaired = none(r, result);
	Py_XDECREF(repaired);
	return repaired ? receiver_take(r, number) : NULL;
}

/* How many leases were still held. */
static PyObject *receiver_ack_batch(Receiver *r, PyObject *messages)
{
	Py_ssize_t acked = 0;
	PyObject *tuple = PySequence_Tuple(messages);
	for (Py_ssize_t i = 0; tuple && i < PyTuple_Size(tuple); i++) {
		Message *m = (Message *)PyTuple_GetItem(tuple, i);
		int result = PyObject_TypeCheck((PyObject *)m, message_type) ? ack(m) : NOT_A_MESSAGE;
		acked += result == MQSHM_OK;
		if (unlikely(result != MQSHM_OK && result != MQSHM_LEASE_LOST && result != ALREADY_SETTLED)) {
			none(result == NOT_A_MESSAGE ? (PyObject *)r : (PyObject *)m, result);
			Py_CLEAR(tuple);
		}
	}
	Py_XDECREF(tuple);
	return tuple ? PyLong_FromSsize_t(acked) : NULL;
}

static PyObject *receiver_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
	Receiver *r = (Receiver *)PyType_GenericAlloc(type, 0);
	unsigned long long sub = 0;
	if (r) r->args = Py_NewRef(args);
	if (r && !PyArg_ParseTuple(args, "O!KiO!O!", front_type, &r->front, &sub, &r->ack, &PyType_Type, &r->eager, &PyType_Type, &r->lazy))
		Py_CLEAR(r);
	if (r) r->sub = (mqshm_sub_t *)(uintptr_t)sub;
	return (PyObject *)r;
}

/* No clear: a cycle that goes through here also goes through the subclass's __dict__ or a broker's, and breaks there. */
static int receiver_traverse(Receiver *r, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE((PyObject *)r));
	Py_VISIT(r->args);
	return 0;
}

static void receiver_dealloc(Receiver *r)
{
	PyTypeObject *type = Py_TYPE((PyObject *)r);
	PyObject_GC_UnTrack(r);
	Py_XDECREF(r->args);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(r);
	Py_DECREF(type);
}

#define FAST (METH_FASTCALL | METH_KEYWORDS)
#define CALL(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef front_methods[] = {
	{ "publish", CALL(front_publish), FAST, NULL }, { "_publish_batch", CALL(front_publish_batch), METH_FASTCALL, NULL }, { 0 }
};
static PyMemberDef front_members[] = {
	{ "closed", T_BOOL, offsetof(Front, closed), 0, NULL }, { "_abandoned", T_BOOL, offsetof(Front, abandoned), 0, NULL },
	{ "_waiting", T_UINT, offsetof(Front, waiting), 0, NULL }, { "_views", T_UINT, offsetof(Front, views), READONLY, NULL }, { 0 }
};
static PyType_Slot front_slots[] = {
	{ Py_tp_new, front_new }, { Py_tp_dealloc, front_dealloc }, { Py_tp_methods, front_methods }, { Py_tp_members, front_members }, { 0 }
};
static PyMethodDef receiver_methods[] = {
	{ "receive", CALL(receiver_receive), FAST, NULL }, { "receive_nowait", CALL(receiver_receive_nowait), METH_NOARGS, NULL },
	{ "_take", CALL(receiver_take), METH_O, NULL }, { "ack_batch", CALL(receiver_ack_batch), METH_O, NULL }, { 0 }
};
static PyMemberDef receiver_members[] = { { "closed", T_BOOL, offsetof(Receiver, closed), 0, NULL }, { 0 } };
static PyType_Slot receiver_slots[] = {
	{ Py_tp_new, receiver_new }, { Py_tp_dealloc, receiver_dealloc }, { Py_tp_traverse, receiver_traverse },
	{ Py_tp_methods, receiver_methods }, { Py_tp_members, receiver_members }, { 0 }
};

static PyMethodDef message_methods[] = {
	{ "ack", CALL(message_ack), METH_NOARGS, NULL }, { "_end", CALL(message_end), METH_VARARGS, NULL },
	{ "_commit_begin", CALL(message_commit_begin), METH_NOARGS, NULL }, { "_commit_end", CALL(message_commit_end), METH_VARARGS, NULL },
	{ "__enter__", CALL(message_enter), METH_NOARGS, NULL }, { "__exit__", CALL(message_exit), METH_FASTCALL, NULL }, { 0 }
};
#define OF(type, name, field) { name, type, offsetof(Message, field), READONLY, NULL }
static PyMemberDef message_members[] = {
	OF(T_ULONGLONG, "seq", d.seq), OF(T_UINT, "attempt", d.attempt), OF(T_BOOL, "settled", settled), OF(T_OBJECT, "id", id),
	OF(T_OBJECT, "key", key), OF(T_OBJECT, "_headers", headers), OF(T_OBJECT, "_receiver", receiver), OF(T_UINT, "_ring", d.ring),
	OF(T_UINT, "_topic", d.topic), OF(T_ULONGLONG, "_published_ns", d.published_ns), OF(T_ULONGLONG, "_expires_ns", d.expires_ns),
	OF(T_UINT, "_epoch", epoch), OF(T_OBJECT_EX, "_copy", data), { "_unasked", T_BOOL, offsetof(Message, unasked), 0, NULL }, { 0 }
};
static PyGetSetDef message_getters[] = {
	{ "data", (getter)message_data, NULL, NULL, NULL }, { "_delivery", (getter)message_delivery, NULL, NULL, NULL }, { 0 }
};
static PyType_Slot message_slots[] = {
	{ Py_tp_dealloc, message_dealloc }, { Py_tp_methods, message_methods }, { Py_tp_members, message_members },
	{ Py_tp_getset, message_getters }, { Py_bf_getbuffer, message_export }, { Py_bf_releasebuffer, message_unexport }, { 0 }
};

/* The table's address, from cffi's binding, and how often this process was forked. */
static PyObject *front_bind(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long address;
	if (!PyArg_ParseTuple(args, "KI", &address, &epoch)) return NULL;
	api = (const mqshm_front_api *)(uintptr_t)address;
	return api->abi == MQSHM_ABI ? Py_NewRef(Py_None) : PyErr_Format(PyExc_ImportError, "mqshm._front and mqshm._core are of different versions: install mqshm again");
}

/* The class of the messages that a subclass of Message stands for. Itself it would be tracked by the collector, as all
 * classes made in Python; a traverse of its own is what keeps a type from inheriting that. */
static int traverse_nothing(PyObject *Py_UNUSED(m), visitproc Py_UNUSED(visit), void *Py_UNUSED(arg)) { return 0; }
static PyObject *front_untracked(PyObject *Py_UNUSED(module), PyObject *subclass)
{
	PyType_Slot slots[] = { { Py_tp_dealloc, message_dealloc }, { Py_tp_traverse, traverse_nothing }, { 0 } };
	PyType_Spec spec = { "mqshm.Delivery", sizeof(Message), 0, Py_TPFLAGS_DEFAULT, slots };
	PyObject *bases = PyTuple_Pack(1, subclass), *type = bases ? PyType_FromSpecWithBases(&spec, bases) : NULL;
	Py_XDECREF(bases);
	return type;
}

static PyMethodDef module_methods[] = { { "bind", front_bind, METH_VARARGS, NULL }, { "untracked", front_untracked, METH_O, NULL }, { 0 } };
static PyModuleDef module = { PyModuleDef_HEAD_INIT, "mqshm._front", NULL, -1, module_methods, NULL, NULL, NULL, NULL };

static PyTypeObject *add_type(PyObject *m, const char *name, size_t size, unsigned flags, PyType_Slot *slots)
{
	PyType_Spec spec = { name, (int)size, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | flags, slots };
	PyTypeObject *type = m ? (PyTypeObject *)PyType_FromSpec(&spec) : NULL;
	return type && PyModule_AddType(m, type) == 0 ? type : NULL;
}

PyMODINIT_FUNC PyInit__front(void)
{
	PyObject *m = PyModule_Create(&module);
	front_type = add_type(m, "mqshm._front.Front", sizeof(Front), 0, front_slots);
	message_type = add_type(m, "mqshm._front.Message", sizeof(Message), Py_TPFLAGS_DISALLOW_INSTANTIATION, message_slots);
	if (!add_type(m, "mqshm._front.Receiver", sizeof(Receiver), Py_TPFLAGS_HAVE_GC, receiver_slots) || !front_type || !message_type) Py_CLEAR(m);
	return m;
}
