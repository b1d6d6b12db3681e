/* The Receiver: one per subscription. Waiting, receiving, settling in batches. */
#include "front.h"
#include "os/clock.h"

enum {
	CHUNK = 64,               /* deliveries on the stack */
	SLICE_NS = 100000000,     /* how long another thread's close may go unnoticed */
};

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
	result = mqf_api->wait(f->handle, &r->sub, 1, slice);
	Py_END_ALLOW_THREADS
	f->waiting--;
	mqf_rest(f);
	if (PyErr_CheckSignals()) return RAISED;
	return result == MQSHM_TIMEOUT || result == MQSHM_INTERRUPTED ? MQSHM_OK : result;
}

static PyObject *receive(Receiver *r, int64_t timeout_ns)
{
	for (uint64_t deadline = 0;;) {
		Message *m = mqf_pool_top();
		int result = unlikely(!m) ? RAISED : unlikely(r->closed || r->front->closed) ? MQSHM_CLOSED : MQSHM_OK;
		if (likely(result == MQSHM_OK)) result = mqf_api->receive(r->sub, &m->d);
		if (likely(result == MQSHM_OK)) result = mqf_hand_out(r, &m->d, &m, false);
		if (likely(result == MQSHM_OK)) return (PyObject *)m;
		if (result == MQSHM_EMPTY) result = wait_for_message(r, timeout_ns, &deadline);
		PyObject *nothing = mqf_none(r, result == MQSHM_EMPTY ? MQSHM_OK : result);
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
		if (result == MQSHM_OK) result = mqf_api->receive_batch(r->sub, max < CHUNK ? (uint32_t)max : CHUNK, d, &got);
		uint32_t later = 0; /* of d, from its start: to be acked at once, after all have been copied */
		for (uint32_t i = 0; i < got; i++) {
			Message *m;
			int handed = mqf_hand_out(r, &d[i], &m, r->ack == MQSHM_ACK_NONE);
			if (handed == MQSHM_OK && PyList_Append(list, (PyObject *)m)) handed = RAISED, m->end = NACK;
			if (unlikely(handed != MQSHM_OK)) result = handed;
			else if (m->settled && m->end == NOTHING) d[later++] = d[i];
			Py_XDECREF((PyObject *)m);
		}
		if (later) mqf_api->ack_batch(d, later, &later);
		max -= got;
	}
	if (result == MQSHM_OK || result == MQSHM_EMPTY) return list;
	if (PyList_Size(list)) return PyErr_Clear(), list; /* what ended it is met again by the next call */
	Py_DECREF(list);
	PyObject *repaired = mqf_none(r, result);
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
		int result = PyObject_TypeCheck((PyObject *)m, mqf_message_type) ? mqf_ack(m) : NOT_A_MESSAGE;
		acked += result == MQSHM_OK;
		if (unlikely(result != MQSHM_OK && result != MQSHM_LEASE_LOST && result != ALREADY_SETTLED)) {
			mqf_none(result == NOT_A_MESSAGE ? (PyObject *)r : (PyObject *)m, result);
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
	if (r && !PyArg_ParseTuple(args, "O!KiO!O!", mqf_front_type, &r->front, &sub, &r->ack, &PyType_Type, &r->eager, &PyType_Type, &r->lazy))
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

static PyMethodDef receiver_methods[] = {
	{ "receive", CALL(receiver_receive), FAST, NULL }, { "receive_nowait", CALL(receiver_receive_nowait), METH_NOARGS, NULL },
	{ "_take", CALL(receiver_take), METH_O, NULL }, { "ack_batch", CALL(receiver_ack_batch), METH_O, NULL }, { 0 }
};
static PyMemberDef receiver_members[] = { { "closed", T_BOOL, offsetof(Receiver, closed), 0, NULL }, { 0 } };
PyType_Slot mqf_receiver_slots[] = {
	{ Py_tp_new, receiver_new }, { Py_tp_dealloc, receiver_dealloc }, { Py_tp_traverse, receiver_traverse },
	{ Py_tp_methods, receiver_methods }, { Py_tp_members, receiver_members }, { 0 }
};

