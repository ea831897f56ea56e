/* Header blocks of HTTP/2 to and from HTTP/1.1 heads: the C twin of blocks_pure.py and hpack.py.

   What the functions take and give is written there; both give the same answer, byte for byte, for every input, and a
   fuzz test holds that.

   A decoder keeps the dynamic table of one direction of a connection, and nothing else. */

#include "_http2.h"

#include <stddef.h>
#include <structmember.h>

enum { MAX_BLOCK_BYTES = 1 << 24 };

typedef struct {
    PyObject_HEAD
    struct table table;
} Decoder;

/* A header line of HTTP/1.1, with the name as Go spells it. */
static uint8_t *put_line(uint8_t *to, const struct field *field) {
    int first = 1;
    for (size_t i = 0; i < field->name.length; i++) {
        uint8_t c = field->name.bytes[i];
        *to++ = first && c >= 'a' && c <= 'z' ? c & 0xdf : c;
        first = c == '-';
    }
    return put(put(put(to, CONSTANT(": ")), field->value), CONSTANT("\r\n"));
}

static PyObject *finish(PyObject *bytes, const uint8_t *end) {
    _PyBytes_Resize(&bytes, (const char *)end - PyBytes_AS_STRING(bytes));
    return bytes;
}

static int spelled_by(struct text text, uint8_t class) {
    for (size_t i = 0; i < text.length; i++) if (!(CLASS[text.bytes[i]] & class)) return 0;
    return text.length != 0;
}

/* Neither name nor value has a byte that it must not have, and the field is not one that speaks of a connection
   (RFC 9113, sections 8.2.1 and 8.2.2). Sets the kind. */
static int is_good(struct field *field) {
    struct text name = field->name, value = field->value;
    if (!spelled_by(name, TOKEN)) return 0;
    for (size_t i = 0; i < name.length; i++) if (name.bytes[i] >= 'A' && name.bytes[i] <= 'Z') return 0;
    if (value.length) {
        if (is_blank(value.bytes[0]) || is_blank(value.bytes[value.length - 1])) return 0;
        if (value_end(value.bytes, 0, (uint32_t)value.length) != value.length) return 0;
    }
    field->kind = classify(name);
    return !(OF_CONNECTION >> field->kind & 1);
}

static int is_target(struct text path) {
    for (size_t i = 0; i < path.length; i++) if (path.bytes[i] <= ' ' || path.bytes[i] == 0x7f) return 0;
    return path.length != 0;
}

struct request {
    struct text method, scheme, authority, path, protocol; /* with bytes NULL where there is none */
    struct text host;
    int64_t length;
    size_t cookie_bytes;
    int cookies, flags, trailers, unknown_expectation;
};

static struct text *pseudo_field(struct request *request, struct text name) {
    return equals(name, CONSTANT(":method")) ? &request->method : equals(name, CONSTANT(":path")) ? &request->path
         : equals(name, CONSTANT(":scheme")) ? &request->scheme
         : equals(name, CONSTANT(":authority")) ? &request->authority
         : equals(name, CONSTANT(":protocol")) ? &request->protocol : NULL;
}

/* Gather what the fields say: 0 or PROTOCOL_ERROR. */
static int gather(struct block *block, struct request *request) {
    int ordinary = 0;
    for (struct field *field = block->fields; field < block->fields + block->count; field++) {
        if (field->name.length && field->name.bytes[0] == ':') {
            struct text *place = pseudo_field(request, field->name);
            if (!place || place->bytes || ordinary) return PROTOCOL_ERROR;
            *place = field->value;
            continue;
        }
        ordinary = 1;
        if (!is_good(field)) return PROTOCOL_ERROR;
        switch (field->kind) {
        case COOKIE: request->cookies++, request->cookie_bytes += field->value.length + 2; break;
        case HOST:
            if (request->host.bytes) return PROTOCOL_ERROR;
            request->host = field->value;
            break;
        case CONTENT_LENGTH:
            if (request->length >= 0 || (request->length = read_length(field->value)) < 0) return PROTOCOL_ERROR;
            break;
        case TE:
            if (!equals(field->value, CONSTANT("trailers"))) return PROTOCOL_ERROR;
            request->trailers = 1;
            break;
        case EXPECTATION:
            request->flags |= EXPECT;
            request->unknown_expectation |= !equals_folded(field->value, CONSTANT("100-continue"));
            break;
        case FORWARDED_BY: request->flags |= FORWARDED; break;
        case IDEMPOTENCY_KEY: request->flags |= IDEMPOTENT; break;
        default: break;
        }
    }
    return 0;
}

static int same_folded(struct text a, struct text b) {
    if (a.length != b.length) return 0;
    for (size_t i = 0; i < a.length; i++) if (lower(a.bytes[i]) != lower(b.bytes[i])) return 0;
    return 1;
}

/* Judge what a request asks for: 0, PROTOCOL_ERROR or a status (RFC 9113, section 8.3.1; RFC 8441, section 4). */
static int judge(struct request *request, int ended) {
    if (!request->authority.bytes) request->authority = request->host;
    if (!spelled_by(request->method, TOKEN) || !request->authority.length || !is_host(request->authority) ||
        (request->host.bytes && !same_folded(request->host, request->authority)))
        return PROTOCOL_ERROR;
    int connect = equals(request->method, CONSTANT("CONNECT")), extended = request->protocol.bytes != NULL;
    if (connect && !extended) return 405;
    if ((!equals(request->scheme, CONSTANT("http")) && !equals(request->scheme, CONSTANT("https"))) ||
        !is_target(request->path))
        return PROTOCOL_ERROR;
    if (equals(request->path, CONSTANT("*")) && equals(request->method, CONSTANT("OPTIONS")))
        request->flags |= OPTIONS_STAR;
    else if (request->path.bytes[0] != '/') return PROTOCOL_ERROR;
    if ((ended && request->length > 0) || (extended && (!connect || request->length >= 0))) return PROTOCOL_ERROR;
    if (extended && !equals(request->protocol, CONSTANT("websocket"))) return 501;
    if (extended) request->method = CONSTANT("GET"), request->flags |= UPGRADE;
    return request->unknown_expectation ? 417 : 0;
}

/* Kinds of fields that servers are not sent as they are. */
enum { CUT = 1 << HOST | 1 << TE | 1 << TRAILER | 1 << PROXY_AUTHENTICATION | 1 << FORWARDED_BY | 1 << UNDERSCORED };

static PyObject *request_head(const struct block *block, struct request *request, int ended, PyObject **cut) {
    size_t bound = request->method.length + request->path.length + request->cookie_bytes + 160, cut_bound = 0;
    const struct field *fields = block->fields, *end = fields + block->count;
    for (const struct field *field = fields; field < end; field++) {
        size_t length = field->name.length + field->value.length + 4;
        *(CUT >> field->kind & 1 ? &cut_bound : &bound) += length;
    }
    uint8_t *to, *cut_to;
    if (!(*cut = begin(cut_bound, &cut_to))) return NULL;
    PyObject *head = begin(bound, &to);
    if (!head) return NULL;
    to = put(put(put(to, request->method), CONSTANT(" ")), request->path);
    to = put(to, CONSTANT(" HTTP/1.1\r\n"));
    int cookies = request->cookies;
    for (const struct field *field = fields; field < end; field++) {
        if (field->name.bytes[0] == ':') continue;
        if (field->kind == COOKIE) {
            if (cookies != request->cookies) continue;
            to = put(to, CONSTANT("Cookie: ")); /* crumbs are one field again: RFC 9113, section 8.2.3 */
            for (const struct field *crumb = field; cookies; crumb++)
                if (crumb->kind == COOKIE)
                    to = put(put(to, crumb->value), --cookies ? CONSTANT("; ") : CONSTANT("\r\n"));
        } else if (!(CUT >> field->kind & 1)) {
            to = put_line(to, field);
        } else if (field->kind != HOST && field->kind != TE) {
            cut_to = put_line(cut_to, field);
        }
    }
    struct text method = request->method;
    int with_body = equals(method, CONSTANT("POST")) || equals(method, CONSTANT("PUT")) ||
                    equals(method, CONSTANT("PATCH"));
    if (request->flags & CHUNKED) to = put(to, CONSTANT("Transfer-Encoding: chunked\r\n"));
    else if (ended && request->length < 0 && with_body) to = put(to, CONSTANT("Content-Length: 0\r\n"));
    if (request->trailers) to = put(to, CONSTANT("Te: trailers\r\n"));
    if (request->flags & UPGRADE) to = put(to, CONSTANT("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    *cut = finish(*cut, cut_to);
    return finish(head, to);
}

static PyObject *answer_request(struct block *block, int ended) {
    struct request request = {.length = -1};
    int verdict = gather(block, &request);
    if (!verdict) verdict = judge(&request, ended);
    if (verdict) return PyLong_FromLong(verdict);
    int flags = request.flags | KEEP_ALIVE | HTTP2;
    struct text method = request.method;
    if (equals(method, CONSTANT("HEAD"))) flags |= HEAD | IDEMPOTENT;
    if (equals(method, CONSTANT("GET")) || equals(method, CONSTANT("OPTIONS")) || equals(method, CONSTANT("TRACE")))
        flags |= IDEMPOTENT;
    if (is_plain(request.path)) flags |= PLAIN_PATH;
    if (!ended && request.length < 0 && !(flags & UPGRADE)) flags |= CHUNKED;
    request.flags = flags;
    PyObject *cut = NULL, *head = request_head(block, &request, ended, &cut);
    return Py_BuildValue("NNNiLN", head, bytes_of(request.authority), bytes_of(request.path), flags,
                         (long long)request.length, cut);
}

static PyObject *answer_response(struct block *block, int Py_UNUSED(ended)) {
    if (!block->count || !equals(block->fields[0].name, CONSTANT(":status"))) return PyLong_FromLong(PROTOCOL_ERROR);
    int64_t length = -1, status = read_length(block->fields[0].value);
    if (block->fields[0].value.length != 3 || status < 100 || status == 101) return PyLong_FromLong(PROTOCOL_ERROR);
    uint8_t *to;
    PyObject *lines = begin(block->counted, &to);
    if (!lines) return NULL;
    for (struct field *field = block->fields + 1; field < block->fields + block->count; field++) {
        int64_t found = 0;
        if (!is_good(field) || (field->kind == CONTENT_LENGTH && ((found = read_length(field->value)) < 0 ||
                                                                  (length >= 0 && found != length)))) {
            Py_DECREF(lines);
            return PyLong_FromLong(PROTOCOL_ERROR);
        }
        if (field->kind == CONTENT_LENGTH) {
            if (length >= 0) continue;
            length = found;
        }
        to = put_line(to, field);
    }
    return Py_BuildValue("iNL", (int)status, finish(lines, to), (long long)length);
}

/* Whether a good field may be in a trailer: see chunked.py. */
static int is_trailer(const struct field *field) {
    const unsigned allowed = 1 << ORDINARY | 1 << DATE | 1 << IDEMPOTENCY_KEY;
    const struct text content = CONSTANT("content-"), set_cookie = CONSTANT("set-cookie");
    struct text name = field->name;
    return allowed >> field->kind & 1 && !equals(name, CONSTANT("authorization")) &&
           (name.length < content.length || !spells(name.bytes, content.bytes, content.length)) &&
           (name.length != set_cookie.length || !spells(name.bytes, set_cookie.bytes, set_cookie.length));
}

static PyObject *answer_trailers(struct block *block, int Py_UNUSED(ended)) {
    uint8_t *to;
    PyObject *lines = begin(block->counted, &to);
    if (!lines) return NULL;
    for (struct field *field = block->fields; field < block->fields + block->count; field++) {
        if (!is_good(field)) {
            Py_DECREF(lines);
            return PyLong_FromLong(PROTOCOL_ERROR);
        }
        if (is_trailer(field)) to = put_line(to, field);
    }
    return finish(lines, to);
}

static PyObject *decode(Decoder *decoder, PyObject *const *arguments, Py_ssize_t argument_count, int with_ended,
                        PyObject *(*answer)(struct block *, int)) {
    if (argument_count != 3 + with_ended || !PyBytes_CheckExact(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "(block: bytes, max_bytes: int, max_headers: int)");
    long max_bytes = PyLong_AsLong(arguments[1]), max_headers = PyLong_AsLong(arguments[2]);
    if ((max_bytes == -1 || max_headers == -1) && PyErr_Occurred()) return NULL;
    int ended = with_ended ? PyObject_IsTrue(arguments[3]) : 0;
    if (ended < 0) return NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(arguments[0]);
    if (max_bytes < 1 || max_headers < 1 || max_headers > MAX_FIELDS || length > MAX_BLOCK_BYTES)
        return PyErr_Format(PyExc_ValueError, "block, max_bytes or max_headers out of range");
    /* The shortest code has five bits, so a string grows by 8/5 at most; one more byte is written but not kept. */
    size_t scratch = (size_t)length * 8 / 5 + 1;
    uint8_t stack[STACK_BYTES], *memory = scratch > sizeof stack ? PyMem_Malloc(scratch) : stack;
    if (!memory) return PyErr_NoMemory();
    struct block block;
    block.bytes = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    block.position = 0, block.length = (size_t)length, block.counted = 0, block.count = 0, block.scratch = memory;
    int verdict = hpack_read(&decoder->table, &block, max_bytes, max_headers);
    PyObject *result = verdict ? PyLong_FromLong(verdict) : answer(&block, ended);
    hpack_free_dropped(&decoder->table);
    if (memory != stack) PyMem_Free(memory);
    return result;
}

static uint32_t read_number(const uint8_t *bytes, int count) {
    uint32_t number = 0;
    while (count--) number = number << 8 | *bytes++;
    return number;
}

static PyObject *request_block(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "request_block(data: bytes, position: int, stream: int)");
    Py_ssize_t position = PyLong_AsSsize_t(arguments[1]), size = PyBytes_GET_SIZE(arguments[0]);
    long stream = PyLong_AsLong(arguments[2]);
    if ((position == -1 || stream == -1) && PyErr_Occurred()) return NULL;
    if (position < 0 || position > size) return PyErr_Format(PyExc_ValueError, "position out of range");
    if (size - position < FRAME_HEAD_BYTES) Py_RETURN_NONE;
    const uint8_t *frame = (const uint8_t *)PyBytes_AS_STRING(arguments[0]) + position;
    const int whole = END_STREAM | END_HEADERS, flags = frame[4] & (whole | PADDED | PRIORITISED);
    uint32_t length = read_number(frame, 3);
    if (frame[3] != HEADERS || flags != whole || (read_number(frame + 5, 4) & 0x7fffffff) != stream ||
        length > FRAME_BYTES || length > size - position - FRAME_HEAD_BYTES)
        Py_RETURN_NONE;
    return bytes_of((struct text){frame + FRAME_HEAD_BYTES, length});
}

static PyObject *decode_request(Decoder *decoder, PyObject *const *arguments, Py_ssize_t count) {
    return decode(decoder, arguments, count, 1, answer_request);
}

static PyObject *decode_response(Decoder *decoder, PyObject *const *arguments, Py_ssize_t count) {
    return decode(decoder, arguments, count, 0, answer_response);
}

static PyObject *decode_trailers(Decoder *decoder, PyObject *const *arguments, Py_ssize_t count) {
    return decode(decoder, arguments, count, 0, answer_trailers);
}

static int init_decoder(PyObject *self, PyObject *Py_UNUSED(arguments), PyObject *Py_UNUSED(keywords)) {
    ((Decoder *)self)->table.capacity = TABLE_BYTES;
    return 0;
}

static void free_decoder(PyObject *self) {
    Decoder *decoder = (Decoder *)self;
    PyTypeObject *type = Py_TYPE(self);
    decoder->table.capacity = 0;
    hpack_evict(&decoder->table, 0);
    hpack_free_dropped(&decoder->table);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef decoder_methods[] = {
    {"request", (PyCFunction)(void (*)(void))decode_request, METH_FASTCALL, "See blocks_pure.BlockDecoder.request."},
    {"response", (PyCFunction)(void (*)(void))decode_response, METH_FASTCALL, "See blocks_pure.BlockDecoder.response."},
    {"trailers", (PyCFunction)(void (*)(void))decode_trailers, METH_FASTCALL, "See blocks_pure.BlockDecoder.trailers."},
    {NULL, NULL, 0, NULL},
};
static PyMemberDef decoder_members[] = {
    {"changes", T_ULONG, offsetof(Decoder, table.changes), READONLY, "Grows with every change of the dynamic table."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Spec decoder_type = {
    .name = "kvproxy.http._http2.BlockDecoder", .basicsize = sizeof(Decoder), .flags = Py_TPFLAGS_DEFAULT,
    .slots = (PyType_Slot[]){
        {Py_tp_doc, "See blocks_pure.BlockDecoder."}, {Py_tp_init, init_decoder}, {Py_tp_dealloc, free_decoder},
        {Py_tp_methods, decoder_methods}, {Py_tp_members, decoder_members}, {0, NULL},
    },
};

static int fill_module(PyObject *module) {
    PyObject *type = PyType_FromSpec(&decoder_type);
    if (!type || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    hpack_build();
    return 0;
}

static PyMethodDef methods[] = {
    {"request_block", (PyCFunction)(void (*)(void))request_block, METH_FASTCALL, "See blocks_pure.request_block."},
    {"encode_response", encode_response, METH_O, "See blocks_pure.encode_response."},
    {"encode_answer", (PyCFunction)(void (*)(void))encode_answer, METH_FASTCALL, "See blocks_pure.encode_answer."},
    {"encode_request", (PyCFunction)(void (*)(void))encode_request, METH_FASTCALL, "See blocks_pure.encode_request."},
    {"encode_trailers", encode_trailers, METH_O, "See blocks_pure.encode_trailers."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_http2", .m_methods = methods,
    .m_slots = (PyModuleDef_Slot[]){{Py_mod_exec, fill_module}, {0, NULL}},
};

PyMODINIT_FUNC PyInit__http2(void) { return PyModuleDef_Init(&definition); }
