/* What the two halves of the extension _http2 share: _http2.c decodes header blocks, _http2_encode.c encodes heads. */

#ifndef KVPROXY_HTTP2_H
#define KVPROXY_HTTP2_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_hpack.h"

/* Kinds of fields that speak of a connection of HTTP/1.1 (RFC 9113, section 8.2.2). */
enum { OF_CONNECTION = 1 << CONNECTION | 1 << HOP_BY_HOP | 1 << TRANSFER_ENCODING | 1 << UPGRADE_TO };
enum { /* the same numbers as in frames.py */
    DATA = 0, HEADERS = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8, PRIORITISED = 32, FRAME_HEAD_BYTES = 9,
    FRAME_BYTES = 16384
};
enum { STACK_BYTES = 8192 }; /* of scratch memory that a call has without asking for it */

static inline PyObject *bytes_of(struct text text) {
    return PyBytes_FromStringAndSize((const char *)text.bytes, (Py_ssize_t)text.length);
}

/* Bytes that are still to be written, at most `length`, and then cut with `finish`. */
static inline PyObject *begin(size_t length, uint8_t **to) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (bytes) *to = (uint8_t *)PyBytes_AS_STRING(bytes);
    return bytes;
}

static inline int is_blank(uint8_t c) { return c == ' ' || c == '\t'; }

PyObject *encode_response(PyObject *module, PyObject *data);
PyObject *encode_answer(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count);
PyObject *encode_request(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count);
PyObject *encode_trailers(PyObject *module, PyObject *lines);

#endif
