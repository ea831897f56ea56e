/* Scan, validate and rewrite HTTP/1.1 heads: the C twin of scan_pure.py.

   What the functions take and give is written there; both give the same answer, byte for byte, for every input, and a
   fuzz test holds that. This file keeps no state and allocates nothing but what it returns.

   A head is walked once: each line becomes a `struct field` that points into the caller's bytes and says what the line
   means. Then the meaning is judged, lines are marked as cut, and the outgoing head is joined from the stretches
   between them. Grammar: RFC 9110 sections 5.1, 5.5, 5.6.2; RFC 9112 sections 2.1, 3, 4. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>

#include "_grammar.h"

enum { LENGTH = 1, CHUNKED_BODY, CLOSE, SWITCHING, INFORMATIONAL, NO_BODY };
enum { MAX_HEADERS = 256, MAX_EMPTY_LINES = 4, MAX_CONNECTION_OPTIONS = 64 };
enum { MAX_HEAD_BYTES = 1 << 24, MAX_RESPONSE_HEAD_BYTES = 256 * 1024 };
enum { WHOLE = 0, NOT_WHOLE = -1 }; /* verdicts on a head besides a status */

enum { /* sets of kinds */
    CUT_FROM_RESPONSE = 1 << CONNECTION | 1 << TE | 1 << UPGRADE_TO | 1 << HOP_BY_HOP | 1 << PROXY_AUTHENTICATION,
    FRAMING = 1 << CONTENT_LENGTH | 1 << TRANSFER_ENCODING,
    CUT_FROM_REQUEST = CUT_FROM_RESPONSE | 1 << HOST | 1 << TRAILER | 1 << FORWARDED_BY | 1 << UNDERSCORED,
    /* A Connection line cannot remove what frames the message or what the proxy itself looks at. */
    PROTECTED = FRAMING | 1 << HOST | 1 << EXPECTATION | 1 << DATE
};

struct field {
    uint32_t line, next;        /* offsets of the line and of the line behind it */
    uint32_t value, value_end;  /* without the white space around it */
    uint32_t name_length;
    uint8_t kind, cut;
};

struct head {
    const uint8_t *data;
    struct text method, target; /* only of a request */
    uint32_t start, end;        /* offsets of the first header line and behind the empty line */
    int count;
    struct field fields[MAX_HEADERS];
};

/* What the header lines of one head say together. */
struct facts {
    struct text host;
    int64_t length;                        /* Content-Length: 0 when there is none, -1 when bad or contradictory */
    int hosts, lengths, codings, options;  /* how many such lines, and how many Connection options */
    int close, keep_alive, upgrade;        /* Connection options that have a meaning of their own */
    int flags, odd_space, unknown_coding, unknown_expectation, websocket, trailers, dated;
};

/* The outgoing bytes: a stretch before each cut line, one behind the last, the request line, what is appended. */
struct output { int count; struct text pieces[MAX_HEADERS + 16]; };

#define CRLF CONSTANT("\r\n")
#define SWITCH CONSTANT("Connection: Upgrade\r\nUpgrade: websocket\r\n")

/* `data[position:limit]` starts with the constant, in which `0` stands for any digit: WHOLE, NOT_WHOLE or 400. */
static int match(const uint8_t *data, uint32_t position, uint32_t limit, struct text shape) {
    for (size_t i = 0; i < shape.length; i++, position++) {
        if (position == limit) return NOT_WHOLE;
        uint8_t c = data[position] >= '0' && data[position] <= '9' ? '0' : data[position];
        if (c != shape.bytes[i]) return 400;
    }
    return WHOLE;
}

/* Read header lines from `head->start` up to the empty line: WHOLE, NOT_WHOLE, 400 or 431 (too many). */
static int walk(struct head *head, uint32_t limit, int max_headers) {
    const uint8_t *data = head->data;
    uint32_t position = head->start;
    for (head->count = 0;; head->count++) {
        if (position == limit) return NOT_WHOLE;
        if (data[position] == '\r') {
            head->end = position + 2;
            return match(data, position, limit, CRLF);
        }
        if (head->count == max_headers) return 431;
        struct field *field = &head->fields[head->count];
        field->line = position;
        while (position < limit && CLASS[data[position]] & TOKEN) position++;
        if (position == limit) return NOT_WHOLE;
        field->name_length = position - field->line;
        if (data[position] != ':' || !field->name_length) return 400;
        do position++; while (position < limit && (data[position] == ' ' || data[position] == '\t'));
        field->value = position;
        position = value_end(data, position, limit);
        int verdict = match(data, position, limit, CRLF);
        if (verdict != WHOLE) return verdict;
        field->value_end = position;
        while (field->value_end > field->value &&
               (data[field->value_end - 1] == ' ' || data[field->value_end - 1] == '\t'))
            field->value_end--;
        field->next = position += 2;
        field->kind = classify((struct text){data + field->line, field->name_length});
        field->cut = 0;
    }
}

/* Next element of a comma list (RFC 9110, 5.6.1), empty ones left out: 0 at the end, else it is in `element`. */
static int next_element(struct text *list, struct text *element) {
    const uint8_t *p = list->bytes, *end = p + list->length;
    while (p < end && (*p == ',' || *p == ' ' || *p == '\t')) p++;
    element->bytes = p;
    while (p < end && *p != ',') p++;
    *list = (struct text){p, (size_t)(end - p)};
    while (p > element->bytes && (p[-1] == ' ' || p[-1] == '\t')) p--;
    element->length = (size_t)(p - element->bytes);
    return element->length != 0;
}

static int has_element(struct text list, struct text constant) {
    for (struct text element; next_element(&list, &element);)
        if (equals_folded(element, constant)) return 1;
    return 0;
}

/* Read one Connection line; the lines that it names are cut (RFC 9110, section 7.6.1). */
static void read_connection(struct head *head, struct text list, struct facts *facts) {
    struct text option;
    while (next_element(&list, &option)) {
        if (++facts->options > MAX_CONNECTION_OPTIONS) return;
        if (equals_folded(option, CONSTANT("close"))) facts->close = 1;
        else if (equals_folded(option, CONSTANT("keep-alive"))) facts->keep_alive = 1;
        else if (equals_folded(option, CONSTANT("upgrade"))) facts->upgrade = 1;
        else for (struct field *field = head->fields; field < head->fields + head->count; field++) {
            if (field->name_length != option.length || PROTECTED >> field->kind & 1) continue;
            const uint8_t *name = head->data + field->line;
            size_t i = 0;
            while (i < option.length && lower(name[i]) == lower(option.bytes[i])) i++;
            if (i == option.length) field->cut = 1;
        }
    }
}

/* Gather what the lines say and cut those whose kind is in the set `cut`. What is wrong is only noted here. */
static void read_fields(struct head *head, unsigned cut, struct facts *facts) {
    for (struct field *field = head->fields; field < head->fields + head->count; field++) {
        struct text value = {head->data + field->value, field->value_end - field->value};
        field->cut |= cut >> field->kind & 1;
        if (FRAMING >> field->kind & 1) /* not all parsers take a tab for white space here */
            facts->odd_space |= memchr(head->data + field->line, '\t', field->next - field->line) != NULL;
        switch (field->kind) {
        case HOST: facts->host = value, facts->hosts++; break;
        case CONNECTION: read_connection(head, value, facts); break;
        case CONTENT_LENGTH:
            facts->length = facts->lengths && read_length(value) != facts->length ? -1 : read_length(value);
            field->cut |= facts->lengths++ > 0; /* equal ones collapse to the first, where more are allowed */
            break;
        case TRANSFER_ENCODING:
            facts->codings++, facts->unknown_coding |= !equals_folded(value, CONSTANT("chunked"));
            break;
        case EXPECTATION:
            facts->flags |= EXPECT, facts->unknown_expectation |= !equals_folded(value, CONSTANT("100-continue"));
            break;
        case TE: facts->trailers |= has_element(value, CONSTANT("trailers")); break;
        case UPGRADE_TO: facts->websocket |= has_element(value, CONSTANT("websocket")); break;
        case FORWARDED_BY: facts->flags |= FORWARDED; break;
        case IDEMPOTENCY_KEY: facts->flags |= IDEMPOTENT; break;
        case DATE: facts->dated = 1; break;
        }
    }
}

static void append(struct output *output, struct text piece) { output->pieces[output->count++] = piece; }

/* Append `data[start:end]` without the cut lines in it. */
static void append_kept(struct output *output, const struct head *head, uint32_t start, uint32_t end) {
    for (const struct field *field = head->fields; field < head->fields + head->count; field++) {
        if (!field->cut) continue;
        if (field->line > start) append(output, (struct text){head->data + start, field->line - start});
        start = field->next;
    }
    if (end > start) append(output, (struct text){head->data + start, end - start});
}

static PyObject *join(const struct output *output) {
    size_t length = 0;
    for (int i = 0; i < output->count; i++) length += output->pieces[i].length;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (!bytes) return NULL;
    char *to = PyBytes_AS_STRING(bytes);
    for (int i = 0; i < output->count; i++) {
        memcpy(to, output->pieces[i].bytes, output->pieces[i].length);
        to += output->pieces[i].length;
    }
    return bytes;
}

/* The request line and the header lines: WHOLE, NOT_WHOLE or a status. */
static int read_request(struct head *head, uint32_t limit, int max_headers) {
    const uint8_t *data = head->data;
    uint32_t position = 0, start;
    for (int i = 0; i < MAX_EMPTY_LINES && position < limit && data[position] == '\r'; i++, position += 2) {
        int verdict = match(data, position, limit, CRLF);
        if (verdict != WHOLE) return verdict;
    }
    for (start = position; position < limit && CLASS[data[position]] & TOKEN; position++);
    if (position == limit) return NOT_WHOLE;
    if (position == start || data[position] != ' ') return 400;
    head->method = (struct text){data + start, position - start};
    for (start = ++position; position < limit && data[position] > ' ' && data[position] != 0x7f; position++);
    if (position == limit) return NOT_WHOLE;
    if (position == start || data[position] != ' ') return 400;
    head->target = (struct text){data + start, position - start};
    position++;
    int verdict = match(data, position, limit, CONSTANT("HTTP/0.0\r\n"));
    if (verdict != WHOLE) return verdict;
    if (data[position + 5] != '1' || data[position + 7] > '1') return 505;
    head->start = position + 10;
    return walk(head, limit, max_headers);
}

/* Reduce `*target` to its origin-form, which an absent path leaves empty or with a query alone. The authority of an
   absolute-form stands for Host: RFC 9112, section 3.2.2. The flag of the form, or -1 when it is none. */
static int read_target(struct text method, struct text *target, struct text *host) {
    const uint8_t *bytes = target->bytes;
    if (bytes[0] == '/') return 0;
    if (equals(*target, CONSTANT("*")) && equals(method, CONSTANT("OPTIONS"))) return OPTIONS_STAR;
    size_t start = target->length > 7 && spells(bytes, CONSTANT("http://").bytes, 7) ? 7
                 : target->length > 8 && spells(bytes, CONSTANT("https://").bytes, 8) ? 8 : 0, end = start;
    while (end < target->length && bytes[end] != '/' && bytes[end] != '?') end++;
    *host = (struct text){bytes + start, end - start};
    *target = (struct text){bytes + end, target->length - end};
    return start && host->length && is_host(*host) ? ABSOLUTE : -1;
}

static PyObject *scan_request(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "scan_request(data: bytes, max_bytes: int, max_headers: int)");
    long max_bytes = PyLong_AsLong(arguments[1]), max_headers = PyLong_AsLong(arguments[2]);
    if ((max_bytes == -1 || max_headers == -1) && PyErr_Occurred()) return NULL;
    if (max_bytes < 1 || max_bytes > MAX_HEAD_BYTES || max_headers < 1 || max_headers > MAX_HEADERS)
        return PyErr_Format(PyExc_ValueError, "max_bytes or max_headers out of range");
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]);
    struct head head;
    head.data = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    int verdict = read_request(&head, (uint32_t)(size < max_bytes ? size : max_bytes), (int)max_headers);
    if (verdict == NOT_WHOLE && size < max_bytes) Py_RETURN_NONE;
    if (verdict != WHOLE) return PyLong_FromLong(verdict == NOT_WHOLE ? 431 : verdict);

    int http11 = head.data[head.start - 3] == '1';
    struct facts facts = {.host = {head.data, 0}};
    /* An HTTP/1.0 client cannot wait for 100 (Continue): RFC 9110, section 10.1.1. */
    read_fields(&head, CUT_FROM_REQUEST | (unsigned)!http11 << EXPECTATION, &facts);
    int bad = facts.hosts > 1 || (http11 && !facts.hosts) || !is_host(facts.host) || facts.lengths > 1 ||
              facts.length < 0 || facts.codings > 1 || (facts.codings && (facts.lengths || !http11)) ||
              facts.odd_space || facts.options > MAX_CONNECTION_OPTIONS;
    struct text method = head.method, target = head.target;
    int form = read_target(method, &target, &facts.host);
    int flags = form | (http11 ? facts.flags : (facts.flags & ~EXPECT) | HTTP10);
    int status = equals(method, CONSTANT("CONNECT")) ? 405 : bad || form < 0 ? 400 : facts.unknown_coding ? 501
               : facts.unknown_expectation ? 417 : 0;
    if (status) return PyLong_FromLong(status);
    int get = equals(method, CONSTANT("GET"));
    if (get || equals(method, CONSTANT("OPTIONS")) || equals(method, CONSTANT("TRACE"))) flags |= IDEMPOTENT;
    if (equals(method, CONSTANT("HEAD"))) flags |= HEAD | IDEMPOTENT;
    flags |= (facts.codings ? CHUNKED : 0) | (http11 && !facts.close ? KEEP_ALIVE : 0);
    if (http11 && get && facts.websocket && facts.upgrade && !facts.length && !facts.codings) flags |= UPGRADE;

    struct output output;
    output.count = 0;
    if (!target.length || target.bytes[0] == '?') append(&output, CONSTANT("/"));
    append(&output, target);
    PyObject *target_bytes = join(&output);
    if (!target_bytes) return NULL;
    target = (struct text){(const uint8_t *)PyBytes_AS_STRING(target_bytes), (size_t)PyBytes_GET_SIZE(target_bytes)};
    if (is_plain(target)) flags |= PLAIN_PATH;
    output.count = 0;
    if (http11 && !(flags & ABSOLUTE)) {
        append_kept(&output, &head, (uint32_t)(method.bytes - head.data), head.end - 2);
    } else {
        append(&output, (struct text){method.bytes, method.length + 1});
        append(&output, target);
        append(&output, CONSTANT(" HTTP/1.1\r\n"));
        append_kept(&output, &head, head.start, head.end - 2);
    }
    if (facts.trailers) append(&output, CONSTANT("Te: trailers\r\n"));
    if (flags & UPGRADE) append(&output, SWITCH);
    return Py_BuildValue("Ny#NiLI", join(&output), facts.host.bytes, (Py_ssize_t)facts.host.length, target_bytes, flags,
                         (long long)facts.length, head.end);
}

/* The status line and the header lines: WHOLE, NOT_WHOLE or something else. */
static int read_response(struct head *head, uint32_t limit) {
    const uint8_t *data = head->data;
    int verdict = match(data, 0, limit, CONSTANT("HTTP/0.0 000"));
    if ((limit > 5 && data[5] != '1') || (limit > 7 && data[7] > '1') || (limit > 9 && data[9] == '0')) return 500;
    if (verdict != WHOLE || limit == 12) return verdict == WHOLE ? NOT_WHOLE : verdict;
    head->start = (data[12] == ' ' ? value_end(data, 12, limit) : 12) + 2; /* some servers leave out the space */
    verdict = match(data, head->start - 2, limit, CRLF);
    return verdict == WHOLE ? walk(head, limit, MAX_HEADERS) : verdict;
}

static PyObject *scan_response(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0]) || !PyBytes_CheckExact(arguments[2]))
        return PyErr_Format(PyExc_TypeError, "scan_response(data: bytes, request_flags: int, date: bytes)");
    long request_flags = PyLong_AsLong(arguments[1]);
    if (request_flags == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]);
    struct head head;
    head.data = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    int verdict = read_response(&head, (uint32_t)(size < MAX_RESPONSE_HEAD_BYTES ? size : MAX_RESPONSE_HEAD_BYTES));
    if (verdict == NOT_WHOLE && size < MAX_RESPONSE_HEAD_BYTES) Py_RETURN_NONE;
    if (verdict != WHOLE) return PyLong_FromLong(500);

    int http11 = head.data[7] == '1';
    int status = (head.data[9] - '0') * 100 + (head.data[10] - '0') * 10 + (head.data[11] - '0');
    unsigned cut = CUT_FROM_RESPONSE;
    if (status < 200 || status == 204) cut |= FRAMING;
    if (request_flags & HTTP10) cut |= 1 << TRANSFER_ENCODING;
    struct facts facts = {0};
    read_fields(&head, cut, &facts);
    if (facts.odd_space || facts.length < 0 || facts.codings > 1 || facts.options > MAX_CONNECTION_OPTIONS ||
        (facts.codings && (facts.lengths || !http11 || facts.unknown_coding)) ||
        (status == 101 && (!(request_flags & UPGRADE) || !http11 || !facts.websocket)))
        return PyLong_FromLong(500);
    int kind = status == 101 ? SWITCHING : status < 200 ? INFORMATIONAL
             : request_flags & HEAD || status == 204 || status == 304 ? NO_BODY
             : facts.codings ? CHUNKED_BODY : facts.lengths ? LENGTH : CLOSE;
    int64_t available = size - (Py_ssize_t)head.end, remaining = kind == LENGTH ? facts.length : 0;
    int reuse = !facts.close && (http11 || facts.keep_alive) && kind != SWITCHING && kind != CLOSE;
    /* A server that sends or announces more than such an answer has is not asked again on this connection. */
    if ((kind == LENGTH || kind == NO_BODY) && available > remaining) reuse = 0;
    if (status == 204 && (facts.length || facts.codings)) reuse = 0;
    int keep = request_flags & KEEP_ALIVE && kind != CLOSE;
    struct text date = {(const uint8_t *)PyBytes_AS_STRING(arguments[2]), (size_t)PyBytes_GET_SIZE(arguments[2])};
    struct output output;
    output.count = 0;
    if (!http11) append(&output, CONSTANT("HTTP/1.1"));
    append_kept(&output, &head, http11 ? 0 : 8, head.end - 2);
    if (kind == SWITCHING) append(&output, SWITCH);
    if (status >= 200 && !facts.dated) append(&output, date);
    if (status >= 200 && !keep) append(&output, CONSTANT("Connection: close\r\n"));
    if (!(request_flags & SPLIT)) {
        int64_t body = kind == CLOSE ? available : available < remaining ? available : remaining;
        append(&output, (struct text){head.data + head.end - 2, 2 + (size_t)body});
        remaining -= kind == LENGTH ? body : 0;
        if (reuse && keep && !remaining && (kind == LENGTH || kind == NO_BODY)) return join(&output);
    }
    return Py_BuildValue("NiLIii", join(&output), kind, (long long)remaining, head.end, reuse, status);
}

static PyObject *send_bytes(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t argument_count) {
    if (argument_count != 2 || !PyBytes_CheckExact(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "send(fd: int, data: bytes)");
    long fd = PyLong_AsLong(arguments[0]);
    if (fd == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t length = PyBytes_GET_SIZE(arguments[1]), written;
    do written = send((int)fd, PyBytes_AS_STRING(arguments[1]), (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (written < 0 && errno == EINTR);
    if (written == length) Py_RETURN_NONE;
    if (written < 0) written = errno == EAGAIN || errno == EWOULDBLOCK ? 0 : length;
    return PyLong_FromSsize_t(written);
}

static PyMethodDef methods[] = {
    {"scan_request", (PyCFunction)(void (*)(void))scan_request, METH_FASTCALL, "See scan_pure.scan_request."},
    {"scan_response", (PyCFunction)(void (*)(void))scan_response, METH_FASTCALL, "See scan_pure.scan_response."},
    {"send", (PyCFunction)(void (*)(void))send_bytes, METH_FASTCALL, "See scan_pure.send."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_scan", .m_methods = methods, .m_slots = (PyModuleDef_Slot[]){{0, NULL}},
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&definition); }
