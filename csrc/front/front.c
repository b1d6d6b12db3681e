/* The Front: one per attached broker. Publishing, and its topics by their names' addresses. */
#include "front.h"

enum {
	TOPIC_BITS = 15,          /* log2 of a front's cache of topics; what of it is not used is no memory */
	UNLOCKED = 256 << 10,     /* payloads from this size on are copied without the interpreter's lock */
	LOWEST_RING = 4,          /* of priority 0; ring 0 is of 40 */
};

static PyObject *slow_publish(Front *f, PyObject *const *args, Py_ssize_t n, PyObject *kwnames)
{
	Py_ssize_t all = n + (kwnames ? PyTuple_Size(kwnames) : 0), i = 0;
	PyErr_Clear(); /* of an argument that was not plain: there are better words for it */
	PyObject *values = PyTuple_New(all);
	while (values && i < all && !PyTuple_SetItem(values, i, Py_NewRef(args[i]))) i++;
	return mqf_call(f, "_slow", values ? Py_BuildValue("(NO)", values, kwnames ? kwnames : Py_None) : NULL);
}

static inline int topic_of(Front *f, PyObject *name, mqshm_topic_t **out)
{
	/* Names that were made together lie together, and so do their places here: a hash that scatters them costs a cache line
	 * for each (10,000 topics: 20 ns). The upper bits keep two arenas from falling on the same places. */
	uint64_t where = (uint64_t)(uintptr_t)name >> 4;
	size_t at = (where + (where >> TOPIC_BITS) * 0x9e37) & ((1u << TOPIC_BITS) - 1);
	*out = f->topics[at].topic;
	if (likely(f->topics[at].name == name)) return MQSHM_OK;
	at ^= 1; /* its other place: with one, half of 10,000 topics would push each other out */
	*out = f->topics[at].topic;
	if (likely(f->topics[at].name == name)) return MQSHM_OK;
	if (f->topics[at].name && !f->topics[at ^ 1].name) at ^= 1;
	Py_ssize_t size;
	const char *bytes = PyUnicode_AsUTF8AndSize(name, &size);
	int result = bytes && size <= UINT32_MAX ? mqf_api->topic_open(f->handle, bytes, (uint32_t)size, out) : MQSHM_INVALID;
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
		if (likely(result == MQSHM_OK)) result = mqf_api->publish(f->handle, topic, data, size, kwnames ? &e : NULL, &seq);
		if (unlikely(others)) PyEval_RestoreThread(others), f->waiting--, mqf_rest(f);
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
		mqf_api->publish_batch(f->handle, topic, (uint32_t)i, data, sizes, NULL, seqs, &done);
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

static PyMethodDef front_methods[] = {
	{ "publish", CALL(front_publish), FAST, NULL }, { "_publish_batch", CALL(front_publish_batch), METH_FASTCALL, NULL }, { 0 }
};
static PyMemberDef front_members[] = {
	{ "closed", T_BOOL, offsetof(Front, closed), 0, NULL }, { "_abandoned", T_BOOL, offsetof(Front, abandoned), 0, NULL },
	{ "_waiting", T_UINT, offsetof(Front, waiting), 0, NULL }, { "_views", T_UINT, offsetof(Front, views), READONLY, NULL }, { 0 }
};
PyType_Slot mqf_front_slots[] = {
	{ Py_tp_new, front_new }, { Py_tp_dealloc, front_dealloc }, { Py_tp_methods, front_methods }, { Py_tp_members, front_members }, { 0 }
};
