/* The module: what its types share, and the types. */
#include "front.h"

const mqshm_front_api *mqf_api;
unsigned mqf_epoch;
PyTypeObject *mqf_front_type, *mqf_message_type;

/* The name is interned: type caches go by its address, and would fill with ever new ones. */
PyObject *mqf_call(void *o, const char *method, PyObject *args)
{
	PyObject *name = PyUnicode_InternFromString(method), *function = name ? PyObject_GetAttr(o, name) : NULL;
	PyObject *result = function && args ? PyObject_Call(function, args, NULL) : NULL;
	Py_XDECREF(name);
	Py_XDECREF(function);
	Py_XDECREF(args);
	return result;
}

PyObject *mqf_none(void *o, int result)
{
	if (likely(result == MQSHM_OK)) return Py_NewRef(Py_None);
	return result == RAISED ? NULL : mqf_call(o, "_failed", Py_BuildValue("(i)", result));
}

void mqf_rest(Front *f)
{
	if (likely(!f->closed) || f->waiting || f->views) return;
	PyObject *type, *value, *trace, *nothing;
	PyErr_Fetch(&type, &value, &trace);
	if (!(nothing = mqf_call(f, "_rest", PyTuple_New(0)))) PyErr_WriteUnraisable((PyObject *)f);
	Py_XDECREF(nothing);
	PyErr_Restore(type, value, trace);
}

/* The table's address, from cffi's binding, and how often this process was forked. */
static PyObject *front_bind(PyObject *Py_UNUSED(module), PyObject *args)
{
	unsigned long long address;
	if (!PyArg_ParseTuple(args, "KI", &address, &mqf_epoch)) return NULL;
	mqf_api = (const mqshm_front_api *)(uintptr_t)address;
	return mqf_api->abi == MQSHM_ABI ? Py_NewRef(Py_None) : PyErr_Format(PyExc_ImportError, "mqshm._front and mqshm._core are of different versions: install mqshm again");
}

/* The class of the messages that a subclass of Message stands for. Itself it would be tracked by the collector, as all
 * classes made in Python; a traverse of its own is what keeps a type from inheriting that. */
static int traverse_nothing(PyObject *Py_UNUSED(m), visitproc Py_UNUSED(visit), void *Py_UNUSED(arg)) { return 0; }
static PyObject *front_untracked(PyObject *Py_UNUSED(module), PyObject *subclass)
{
	PyType_Slot slots[] = { { Py_tp_dealloc, mqf_message_dealloc }, { Py_tp_traverse, traverse_nothing }, { 0 } };
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
	mqf_front_type = add_type(m, "mqshm._front.Front", sizeof(Front), 0, mqf_front_slots);
	mqf_message_type = add_type(m, "mqshm._front.Message", sizeof(Message), Py_TPFLAGS_DISALLOW_INSTANTIATION, mqf_message_slots);
	if (!add_type(m, "mqshm._front.Receiver", sizeof(Receiver), Py_TPFLAGS_HAVE_GC, mqf_receiver_slots) || !mqf_front_type || !mqf_message_type) Py_CLEAR(m);
	return m;
}
