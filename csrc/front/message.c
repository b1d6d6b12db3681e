/* The Message: one per delivery, and the lease that it is. */
#include "front.h"
#include "os/copy.h"

enum {
	EAGER = 4 << 10,          /* payloads up to this are copied at receive, */
	EAGER_SETTLED = 16 << 10, /* and up to this where receiving settles: cheaper than to hold and release */
	POOL = 512,               /* dead messages kept for the next: two large batches */
};

Message *mqf_pool;
unsigned mqf_pool_size;

static int end(Message *m)
{
	enum end how = m->end;
	m->end = NOTHING;
	if (how == NOTHING || m->epoch != mqf_epoch || m->receiver->front->abandoned) return MQSHM_OK;
	if (how == RELEASE) return mqf_api->release(&m->d);
	if (how == NACK) return mqf_api->nack(&m->d, m->delay_ms);
	Py_ssize_t size;
	const char *reason = PyUnicode_AsUTF8AndSize(m->reason, &size); /* made before: cannot fail */
	return mqf_api->reject(&m->d, reason, (uint32_t)size);
}

static int may_settle(Message *m)
{
	if (unlikely(m->settled)) return ALREADY_SETTLED;
	if (unlikely(m->epoch != mqf_epoch)) return MQSHM_FORKED;
	return unlikely(m->receiver->front->closed) ? FRONT_CLOSED : MQSHM_OK;
}

/* A message that is acked with its payload neither copied nor looked at keeps it for as long as it lives. */
int mqf_ack(Message *m)
{
	bool keep = m->views || (!m->data && !m->viewed);
	int result = may_settle(m);
	if (unlikely(result != MQSHM_OK)) return result;
	result = unlikely(keep) ? mqf_api->ack_hold(&m->d) : mqf_api->ack(&m->d);
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
	if (bytes && mqf_api->read(d, from, PyBytes_AsString(bytes), size) != MQSHM_OK) Py_CLEAR(bytes);
	return bytes;
}

static int load(Message *m)
{
	if (m->data) return MQSHM_OK;
	if (m->receiver->front->abandoned) return FRONT_CLOSED;
	if (m->end == NOTHING) return UNREADABLE;
	bool kept = m->settled || m->epoch != mqf_epoch; /* FREEING; or as a forked child found it */
	m->data = kept ? PyBytes_FromStringAndSize((const char *)m->d.data, (Py_ssize_t)m->d.size)
	               : bytes_of(m->receiver, &m->d, m->d.data, m->d.size);
	if (!m->data) return PyErr_Occurred() ? RAISED : UNREADABLE;
	if (m->settled && !m->views) end(m);
	return MQSHM_OK;
}

static PyObject *message_ack(Message *m, PyObject *Py_UNUSED(unused)) { return mqf_none(m, mqf_ack(m)); }

/* NACK and REJECT: at once, or after the last view. */
static PyObject *message_end(Message *m, PyObject *args)
{
	int how;
	unsigned delay_ms;
	PyObject *reason;
	if (!PyArg_ParseTuple(args, "iIU", &how, &delay_ms, &reason) || !PyUnicode_AsUTF8AndSize(reason, NULL)) return NULL;
	int result = may_settle(m);
	if (result != MQSHM_OK) return mqf_none(m, result);
	if (load(m) == RAISED) PyErr_Clear(); /* no memory for a copy to read later: settled all the same */
	m->settled = true;
	m->end = how == REJECT ? REJECT : NACK;
	m->delay_ms = delay_ms;
	m->reason = Py_NewRef(reason);
	return mqf_none(m, m->views ? MQSHM_OK : end(m));
}

/* Until _commit_end it counts as settled; whether its memory is looked at, or will be. */
static PyObject *message_commit_begin(Message *m, PyObject *Py_UNUSED(unused))
{
	bool keep = m->views || (!m->data && !m->viewed);
	int result = may_settle(m);
	if (result != MQSHM_OK) return mqf_none(m, result);
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
	PyObject *nothing = mqf_call(m, "_raised", PyTuple_Pack(1, args[0]));
	if (nothing || !PyErr_ExceptionMatches(PyExc_Exception)) return nothing;
	return PyErr_Clear(), Py_NewRef(Py_None); /* the exception that is under way says more */
}

static PyObject *message_data(Message *m, void *Py_UNUSED(unused))
{
	int result = load(m);
	return likely(result == MQSHM_OK) ? Py_NewRef(m->data) : mqf_none(m, result);
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
	if (result != MQSHM_OK) return mqf_none(m, result), -1;
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
	mqf_rest(f);
}

void mqf_message_dealloc(Message *m)
{
	PyTypeObject *type = Py_TYPE((PyObject *)m);
	Receiver *r = m->receiver;
	end(m); /* of a lease: nobody else could ever settle it */
	Py_XDECREF(m->data);
	Py_XDECREF(m->id);
	Py_XDECREF(m->headers);
	Py_XDECREF(m->key);
	Py_XDECREF(m->reason);
	if (likely(mqf_pool_size < POOL)) {
		m->receiver = (Receiver *)mqf_pool;
		mqf_pool = m;
		mqf_pool_size++;
	} else
		PyObject_Free(m);
	Py_DECREF(r);
	Py_DECREF(type);
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

int mqf_hand_out(Receiver *r, mqshm_delivery *d, Message **out, bool ack_later)
{
	Message *m = *out = mqf_pool_top();
	if (unlikely(!m)) return mqf_api->nack(d, 0), RAISED;
	if (d != &m->d) m->d = *d;
	d = &m->d;
	mqf_pool = (Message *)m->receiver;
	mqf_pool_size--;
	bool eager = d->size <= (r->ack == MQSHM_ACK_NONE ? EAGER_SETTLED : EAGER);
	PyObject_Init((PyObject *)m, likely(eager) ? r->eager : r->lazy);
	m->receiver = (Receiver *)Py_NewRef((PyObject *)r);
	m->data = m->id = m->headers = m->key = m->reason = NULL;
	m->epoch = mqf_epoch;
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
	else if (r->ack == MQSHM_ACK_NONE) result = mqf_ack(m);
	if (likely(result == MQSHM_OK)) return MQSHM_OK;
	if (result != RAISED) m->end = NOTHING; /* it went to another before it was copied */
	Py_CLEAR(*out);
	return result == MQSHM_LEASE_LOST ? MQSHM_EMPTY : result;
}

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
PyType_Slot mqf_message_slots[] = {
	{ Py_tp_dealloc, mqf_message_dealloc }, { Py_tp_methods, message_methods }, { Py_tp_members, message_members },
	{ Py_tp_getset, message_getters }, { Py_bf_getbuffer, message_export }, { Py_bf_releasebuffer, message_unexport }, { 0 }
};

