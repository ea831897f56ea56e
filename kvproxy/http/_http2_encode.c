/* HTTP/1.1 heads to header blocks and frames of HTTP/2: a part of the C twin of blocks_pure.py. */

#include "_http2.h"

enum message { REQUEST, RESPONSE, TRAILERS };

/* The lines of a head from `at` to `end`, which is before the last line end. */
struct lines { const uint8_t *at, *end; };

/* The next line, or the last; there is always one. */
static struct text next_line(struct lines *lines) {
    const uint8_t *start = lines->at, *stop = start;
    for (; (stop = memchr(stop, '\r', (size_t)(lines->end - stop))); stop++) {
        if (stop + 1 == lines->end || stop[1] != '\n') continue;
        lines->at = stop + 2;
        return (struct text){start, (size_t)(stop - start)};
    }
    lines->at = NULL;
    return (struct text){start, (size_t)(lines->end - start)};
}

/* The lines of the head at the start of the data, and the offset behind it; 0 when there is none. */
static size_t find_lines(struct text data, struct lines *lines) {
    const uint8_t *bytes = data.bytes, *end = bytes + data.length;
    for (const uint8_t *at = bytes; end - at >= 4 && (at = memchr(at, '\r', (size_t)(end - at) - 3)); at++) {
        if (memcmp(at, "\r\n\r\n", 4)) continue;
        *lines = (struct lines){bytes, at};
        return (size_t)(at - bytes) + 4;
    }
    if (data.length < 2 || memcmp(end - 2, "\r\n", 2)) return 0;
    *lines = (struct lines){bytes, end - 2};
    return data.length;
}

/* Split a header line at its colon: 0 when there is none, or no name. */
static int split_line(struct text line, struct field *field) {
    const uint8_t *colon = memchr(line.bytes, ':', line.length), *end = line.bytes + line.length;
    if (!colon || colon == line.bytes) return 0;
    field->name = (struct text){line.bytes, (size_t)(colon - line.bytes)};
    do colon++; while (colon < end && is_blank(*colon));
    while (end > colon && is_blank(end[-1])) end--;
    field->value = (struct text){colon, (size_t)(end - colon)};
    field->kind = classify(field->name);
    return 1;
}

/* Encode lines up to their end: NULL when one is no header line. */
static uint8_t *put_fields(uint8_t *to, struct lines *lines, enum message message) {
    while (lines->at) {
        struct field field;
        if (!split_line(next_line(lines), &field)) return NULL;
        if (OF_CONNECTION >> field.kind & 1) continue;
        if (message == REQUEST && field.kind == HOST) continue;
        if (message == REQUEST && field.kind == TE && !equals_folded(field.value, CONSTANT("trailers"))) continue;
        if (message == RESPONSE && field.kind == TE) continue;
        to = hpack_put_field(to, &field);
    }
    return to;
}

/* A place for the encoded form of `length` bytes: on the stack of the caller, or NULL without memory. A line of a head
   loses its colon and line end, and gains at most as much again, or ten bytes when it is long. */
static uint8_t *encoding_place(uint8_t *stack, size_t length) {
    size_t bound = length * 2 + 64;
    uint8_t *place = bound > STACK_BYTES ? PyMem_Malloc(bound) : stack;
    return place ? place : (uint8_t *)PyErr_NoMemory();
}

/* The encoded bytes; a ValueError when `end` is NULL. */
static PyObject *encoded(uint8_t *place, const uint8_t *stack, const uint8_t *end) {
    PyObject *bytes = end ? bytes_of((struct text){place, (size_t)(end - place)})
                          : PyErr_Format(PyExc_ValueError, "not the head of a message");
    if (place != stack) PyMem_Free(place);
    return bytes;
}

static struct text text_of(PyObject *bytes) {
    return (struct text){(const uint8_t *)PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/* Encode the head of an answer: what is behind it in `place`, NULL when it is no head. */
static uint8_t *put_response(uint8_t *place, struct lines lines) {
    const struct text start = CONSTANT("HTTP/1.1 ");
    struct text line = next_line(&lines), status = {line.bytes + start.length, 3};
    if (line.length < start.length + 3 || memcmp(line.bytes, start.bytes, start.length)) return NULL;
    if (read_length(status) < 0) return NULL;
    return put_fields(hpack_put_known(place, STATUS_INDEX, ORDINARY_INDEX - 1, status, 0), &lines, RESPONSE);
}

PyObject *encode_response(PyObject *Py_UNUSED(module), PyObject *argument) {
    if (!PyBytes_CheckExact(argument)) return PyErr_Format(PyExc_TypeError, "encode_response(data: bytes)");
    struct lines lines;
    size_t end = find_lines(text_of(argument), &lines);
    uint8_t stack[STACK_BYTES], *place = encoding_place(stack, end);
    if (!place) return NULL;
    PyObject *block = encoded(place, stack, end ? put_response(place, lines) : NULL);
    return block ? Py_BuildValue("Nn", block, (Py_ssize_t)end) : NULL;
}

static uint8_t *put_frame_head(uint8_t *to, size_t length, uint8_t kind, uint8_t flags, uint32_t stream) {
    const uint8_t head[] = {
        (uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, kind, flags,
        (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream,
    };
    return put(to, (struct text){head, sizeof head});
}

PyObject *encode_answer(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "encode_answer(data: bytes, stream: int, room: int)");
    long stream = PyLong_AsLong(arguments[1]), room = PyLong_AsLong(arguments[2]);
    if ((stream == -1 || room == -1) && PyErr_Occurred()) return NULL;
    struct text data = text_of(arguments[0]);
    struct lines lines;
    size_t end = find_lines(data, &lines), body = data.length - end;
    if (end && (room < 0 || body > (size_t)room || body > FRAME_BYTES)) Py_RETURN_NONE;
    uint8_t stack[STACK_BYTES], *place = encoding_place(stack, end), *to;
    if (!place) return NULL;
    const uint8_t *block_end = end ? put_response(place, lines) : NULL;
    size_t length = (size_t)(block_end ? block_end - place : 0);
    if (!block_end || length > FRAME_BYTES) {
        PyObject *unused = encoded(place, stack, block_end);
        if (!unused) return NULL;
        Py_DECREF(unused);
        Py_RETURN_NONE;
    }
    PyObject *frames = begin(FRAME_HEAD_BYTES + length + (body ? FRAME_HEAD_BYTES + body : 0), &to);
    if (frames) {
        to = put_frame_head(to, length, HEADERS, body ? END_HEADERS : END_HEADERS | END_STREAM, (uint32_t)stream);
        to = put(to, (struct text){place, length});
        if (body) to = put_frame_head(to, body, DATA, END_STREAM, (uint32_t)stream);
        put(to, (struct text){data.bytes + end, body});
    }
    if (place != stack) PyMem_Free(place);
    return frames ? Py_BuildValue("Nn", frames, (Py_ssize_t)body) : NULL;
}

/* The value of the one Host line: without bytes when there is not exactly one. */
static struct text find_host(struct lines lines) {
    struct text host = {NULL, 0};
    while (lines.at) {
        struct field field;
        if (!split_line(next_line(&lines), &field) || field.kind != HOST) continue;
        if (host.bytes) return (struct text){NULL, 0};
        host = field.value;
    }
    return host;
}

PyObject *encode_request(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 2 || !PyBytes_CheckExact(arguments[0]) || !PyBytes_CheckExact(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "encode_request(data: bytes, scheme: bytes)");
    struct text scheme = text_of(arguments[1]), version = CONSTANT(" HTTP/1.1");
    struct lines lines;
    size_t end = find_lines(text_of(arguments[0]), &lines);
    uint8_t stack[STACK_BYTES], *place = encoding_place(stack, end + scheme.length), *to = NULL;
    if (!place) return NULL;
    if (end) {
        struct text line = next_line(&lines), host = find_host(lines);
        const uint8_t *last = line.bytes + line.length - version.length, *space = memchr(line.bytes, ' ', line.length);
        if (host.bytes && space && line.length >= version.length && space < last &&
            !memcmp(last, version.bytes, version.length) && !memchr(space + 1, ' ', (size_t)(last - space) - 1)) {
            struct text method = {line.bytes, (size_t)(space - line.bytes)};
            struct text path = {space + 1, (size_t)(last - space) - 1};
            to = hpack_put_known(place, METHOD_INDEX, PATH_INDEX - 1, method, 0);
            to = hpack_put_known(to, SCHEME_INDEX, STATUS_INDEX - 1, scheme, 0);
            to = hpack_put_known(to, AUTHORITY_INDEX, AUTHORITY_INDEX, host, 0);
            to = hpack_put_known(to, PATH_INDEX, SCHEME_INDEX - 1, path, 0);
            to = put_fields(to, &lines, REQUEST);
        }
    }
    return encoded(place, stack, to);
}

PyObject *encode_trailers(PyObject *Py_UNUSED(module), PyObject *argument) {
    if (!PyBytes_CheckExact(argument)) return PyErr_Format(PyExc_TypeError, "encode_trailers(lines: bytes)");
    struct lines lines;
    size_t end = find_lines(text_of(argument), &lines);
    uint8_t stack[STACK_BYTES], *place = encoding_place(stack, end);
    if (!place) return NULL;
    uint8_t *to = end ? put_fields(place, &lines, TRAILERS) : PyBytes_GET_SIZE(argument) ? NULL : place;
    return encoded(place, stack, to);
}
