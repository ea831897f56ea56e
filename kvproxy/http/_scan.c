/* Scan, validate and rewrite HTTP/1.1 heads: the C twin of scan_pure.py.

   What the functions take and give is written there, and both give the same answer, byte for byte, for every
   input; a fuzz test holds that. This file keeps no state, allocates nothing but what it returns, and touches
   no socket except in send().

   A head is walked once: each line becomes a `struct field` that points into the caller's bytes and says what
   the line means. Then the meaning is judged, lines are marked as cut, and the outgoing head is joined from the
   stretches between cut lines. Grammar: RFC 9110 sections 5.1, 5.5, 5.6.2; RFC 9112 sections 2.1, 3, 4. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum { /* the same numbers as in flags.py */
    KEEP_ALIVE = 1, HEAD = 2, IDEMPOTENT = 4, CHUNKED = 8, FORWARDED = 16, UPGRADE = 32, EXPECT = 64,
    PLAIN_PATH = 128, ABSOLUTE = 256, OPTIONS_STAR = 512, HTTP10 = 1024, SPLIT = 65536
};
enum { LENGTH = 1, CHUNKED_BODY, CLOSE, SWITCHING, INFORMATIONAL, NO_BODY };
enum {
    MAX_HEADERS = 256, MAX_HEAD_BYTES = 1 << 24, MAX_RESPONSE_HEAD_BYTES = 256 * 1024, MAX_EMPTY_LINES = 4,
    MAX_CONNECTION_OPTIONS = 64
};

/* Outcomes of the walk that are no status. */
enum { WHOLE = 0, NOT_WHOLE = -1 };

/* What a header line means to a proxy. */
enum kind {
    ORDINARY, HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, UPGRADE_TO, EXPECTATION, DATE,
    IDEMPOTENCY_KEY, TRAILER, HOP_BY_HOP, FORWARDED_BY, UNDERSCORED
};

struct field {
    uint32_t line, next;        /* offsets of the line and of the line behind it */
    uint32_t value, value_end;  /* without the white space around it */
    uint32_t name_length;
    uint8_t kind, cut;
};

struct head {
    const uint8_t *data;
    uint32_t end;               /* offset behind the empty line */
    int count;
    struct field fields[MAX_HEADERS];
};

struct text {
    const uint8_t *bytes;
    size_t length;
};

/* What the Connection lines of a head say. */
struct connection {
    int count, close, keep_alive, upgrade;
};

/* The outgoing bytes, as stretches to be joined: at most one before each cut line and one behind the last, the
   request line, and what is appended. */
struct output {
    struct text pieces[MAX_HEADERS + 16];
    int count;
};

enum { TOKEN = 1, REG_NAME = 2, IP_LITERAL = 4, PATH = 8 };
enum { ALNUM = TOKEN | REG_NAME | IP_LITERAL | PATH, SUB_DELIM = REG_NAME | PATH };

static const uint8_t CLASS[256] = {
    ['0' ... '9'] = ALNUM, ['A' ... 'Z'] = ALNUM, ['a' ... 'z'] = ALNUM,
    ['-'] = ALNUM, ['.'] = ALNUM, ['_'] = ALNUM, ['~'] = ALNUM,
    ['!'] = TOKEN | SUB_DELIM, ['$'] = TOKEN | SUB_DELIM, ['&'] = TOKEN | SUB_DELIM,
    ['\''] = TOKEN | SUB_DELIM, ['*'] = TOKEN | SUB_DELIM, ['+'] = TOKEN | SUB_DELIM,
    ['('] = SUB_DELIM, [')'] = SUB_DELIM, [','] = SUB_DELIM, [';'] = SUB_DELIM, ['='] = SUB_DELIM,
    ['%'] = TOKEN | REG_NAME | IP_LITERAL, [':'] = PATH | IP_LITERAL, ['@'] = PATH, ['/'] = PATH,
    ['#'] = TOKEN, ['^'] = TOKEN, ['`'] = TOKEN, ['|'] = TOKEN,
};

#define CONSTANT(literal) ((struct text){(const uint8_t *)(literal), sizeof(literal) - 1})

#define SWITCH CONSTANT("Connection: Upgrade\r\nUpgrade: websocket\r\n")

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

/* `name` in lower case equals the constant. */
static int equals(struct text name, struct text constant) {
    if (name.length != constant.length) return 0;
    for (size_t i = 0; i < name.length; i++)
        if (lower(name.bytes[i]) != constant.bytes[i]) return 0;
    return 1;
}

static int same_bytes(struct text value, struct text constant) {
    return value.length == constant.length && !memcmp(value.bytes, constant.bytes, constant.length);
}

/* The first `length` bytes of `name`, in lower case and with `_` read as `-`, equal the constant: 1 when spelled
   with `-`, -1 when at least one `_` stands for a `-`, 0 when different. */
static int spells(const uint8_t *name, const char *constant, size_t length) {
    int spelling = 1;
    for (size_t i = 0; i < length; i++) {
        if (lower(name[i]) == (uint8_t)constant[i]) continue;
        if (name[i] != '_' || constant[i] != '-') return 0;
        spelling = -1;
    }
    return spelling;
}

static enum kind classify(const uint8_t *name, size_t length) {
    int spelling = 0;
    enum kind kind = ORDINARY;
/* An underscored name has no meaning to us but may have one to a server: it counts as what it imitates. */
#define TRY(constant, meaning)                                                                     \
    if (!spelling && (spelling = spells(name, constant, sizeof(constant) - 1)) != 0) kind = meaning
    switch (length) {
    case 2: TRY("te", TE); break;
    case 4: TRY("host", HOST); TRY("date", DATE); break;
    case 6: TRY("expect", EXPECTATION); break;
    case 7: TRY("upgrade", UPGRADE_TO); TRY("trailer", TRAILER); break;
    case 9: TRY("x-real-ip", FORWARDED_BY); break;
    case 10: TRY("connection", CONNECTION); TRY("keep-alive", HOP_BY_HOP); break;
    case 14: TRY("content-length", CONTENT_LENGTH); break;
    case 15: TRY("idempotency-key", IDEMPOTENCY_KEY); break;
    case 16: TRY("proxy-connection", HOP_BY_HOP); break;
    case 17: TRY("transfer-encoding", TRANSFER_ENCODING); TRY("x-idempotency-key", IDEMPOTENCY_KEY); break;
    case 18: TRY("proxy-authenticate", HOP_BY_HOP); break;
    case 19: TRY("proxy-authorization", HOP_BY_HOP); break;
    }
    if (length >= 12) {
        TRY("x-forwarded-", FORWARDED_BY);
    }
#undef TRY
    if (spelling < 0) return kind == IDEMPOTENCY_KEY ? ORDINARY : UNDERSCORED;
    return kind;
}

/* Offset of the first byte from `position` on that cannot be in a field value: a control other than tab. */
static uint32_t value_end(const uint8_t *data, uint32_t position, uint32_t limit) {
    const uint64_t ones = 0x0101010101010101u, highs = ones * 0x80;
    for (;;) {
        for (uint64_t word; limit - position >= 8; position += 8) { /* eight bytes at a time */
            memcpy(&word, data + position, 8);
            uint64_t del = word ^ (ones * 0x7f);
            if ((((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & highs) break;
        }
        uint32_t stop = limit - position > 8 ? position + 8 : limit;
        for (; position < stop; position++) {
            uint8_t c = data[position];
            if ((c < 0x20 && c != '\t') || c == 0x7f) return position;
        }
        if (position == limit) return limit;
    }
}

/* Read header lines from `position` up to the empty line. WHOLE, NOT_WHOLE, 400 or 431 (too many). */
static int walk(struct head *head, uint32_t position, uint32_t limit, int max_headers) {
    const uint8_t *data = head->data;
    for (head->count = 0;; head->count++) {
        if (position == limit) return NOT_WHOLE;
        if (data[position] == '\r') {
            if (position + 1 == limit) return NOT_WHOLE;
            if (data[position + 1] != '\n') return 400;
            head->end = position + 2;
            return WHOLE;
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
        if (position == limit) return NOT_WHOLE;
        if (data[position] != '\r') return 400;
        if (position + 1 == limit) return NOT_WHOLE;
        if (data[position + 1] != '\n') return 400;
        field->value_end = position;
        while (field->value_end > field->value &&
               (data[field->value_end - 1] == ' ' || data[field->value_end - 1] == '\t'))
            field->value_end--;
        field->next = position += 2;
        field->kind = classify(data + field->line, field->name_length);
        field->cut = 0;
    }
}

static struct text name_of(const struct head *head, const struct field *field) {
    return (struct text){head->data + field->line, field->name_length};
}

static struct text value_of(const struct head *head, const struct field *field) {
    return (struct text){head->data + field->value, field->value_end - field->value};
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
    struct text element;
    while (next_element(&list, &element))
        if (equals(element, constant)) return 1;
    return 0;
}

/* A Connection line cannot remove what frames the message or what the proxy itself looks at. */
static int is_protected(int kind) {
    return kind == HOST || kind == CONTENT_LENGTH || kind == TRANSFER_ENCODING || kind == EXPECTATION || kind == DATE;
}

/* Read one Connection line; the lines that it names are cut (RFC 9110, section 7.6.1). */
static void read_connection(struct head *head, const struct field *line, struct connection *connection) {
    struct text list = value_of(head, line), option;
    while (next_element(&list, &option)) {
        if (++connection->count > MAX_CONNECTION_OPTIONS) return;
        if (equals(option, CONSTANT("close"))) connection->close = 1;
        else if (equals(option, CONSTANT("keep-alive"))) connection->keep_alive = 1;
        else if (equals(option, CONSTANT("upgrade"))) connection->upgrade = 1;
        else for (struct field *field = head->fields; field < head->fields + head->count; field++) {
            if (field->name_length != option.length || is_protected(field->kind)) continue;
            struct text name = name_of(head, field);
            size_t i = 0;
            while (i < option.length && lower(name.bytes[i]) == lower(option.bytes[i])) i++;
            if (i == option.length) field->cut = 1;
        }
    }
}

/* A Content-Length of 1 to 18 digits, else -1. */
static int64_t read_length(struct text value) {
    int64_t length = 0;
    if (!value.length || value.length > 18) return -1;
    for (size_t i = 0; i < value.length; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9') return -1;
        length = length * 10 + (value.bytes[i] - '0');
    }
    return length;
}

/* A registered name (maybe empty) or an address in brackets, and maybe a port of at most five digits. */
static int is_host(struct text host) {
    size_t i = 0;
    if (host.length && host.bytes[0] == '[') {
        for (i = 1; i < host.length && CLASS[host.bytes[i]] & IP_LITERAL; i++);
        if (i == 1 || i == host.length || host.bytes[i] != ']') return 0;
        i++;
    } else {
        while (i < host.length && CLASS[host.bytes[i]] & REG_NAME) i++;
    }
    if (i == host.length) return 1;
    if (host.bytes[i] != ':' || host.length - i > 6) return 0;
    while (++i < host.length)
        if (host.bytes[i] < '0' || host.bytes[i] > '9') return 0;
    return 1;
}

/* Nothing in an origin-form target has two meanings: see PLAIN_PATH in flags.py. */
static int is_plain(struct text target) {
    const uint8_t *p = target.bytes, *end = p + target.length;
    if (p == end || *p != '/') return 0;
    for (; p < end && CLASS[*p] & PATH; p++) {
        if (*p != '/' || end - p < 2 || p[1] != '.') continue;
        const uint8_t *q = p + 2; /* a segment that starts with a dot */
        if (q < end && *q == '.') q++;
        if (q == end || *q == '/' || *q == '?' || *q == ';') return 0;
    }
    if (p == end) return 1;
    return *p == '?' && end - p > 1 && !memchr(p, '#', (size_t)(end - p));
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

/* A tuple of `count` new references, which it takes over even when it fails. */
static PyObject *pack(PyObject *const *items, int count) {
    int complete = 1;
    for (int i = 0; i < count; i++) complete &= items[i] != NULL;
    PyObject *tuple = complete ? PyTuple_New(count) : NULL;
    for (int i = 0; i < count; i++) {
        if (tuple) PyTuple_SET_ITEM(tuple, i, items[i]);
        else Py_XDECREF(items[i]);
    }
    return tuple;
}

static PyObject *to_bytes(struct text text) {
    return PyBytes_FromStringAndSize((const char *)text.bytes, (Py_ssize_t)text.length);
}

/* `data[position:limit]` against a constant in which `0` stands for any digit: WHOLE, NOT_WHOLE or -2. */
enum { DIFFERENT = -2 };
static int match_shape(const uint8_t *data, uint32_t position, uint32_t limit, struct text shape) {
    for (size_t i = 0; i < shape.length; i++, position++) {
        if (position == limit) return NOT_WHOLE;
        uint8_t c = data[position] >= '0' && data[position] <= '9' ? '0' : data[position];
        if (c != shape.bytes[i]) return DIFFERENT;
    }
    return WHOLE;
}

/* The request line and the header lines: WHOLE, NOT_WHOLE or a status. `*fields` is where header lines start. */
static int read_request(struct head *head, uint32_t limit, int max_headers, struct text *method, struct text *target,
                        uint32_t *fields) {
    const uint8_t *data = head->data;
    uint32_t position = 0, start;
    for (int i = 0; i < MAX_EMPTY_LINES && position < limit && data[position] == '\r'; i++, position += 2) {
        if (position + 1 == limit) return NOT_WHOLE;
        if (data[position + 1] != '\n') return 400;
    }
    for (start = position; position < limit && CLASS[data[position]] & TOKEN; position++);
    if (position == limit) return NOT_WHOLE;
    if (position == start || data[position] != ' ') return 400;
    *method = (struct text){data + start, position - start};
    for (start = ++position; position < limit && data[position] > ' ' && data[position] != 0x7f; position++);
    if (position == limit) return NOT_WHOLE;
    if (position == start || data[position] != ' ') return 400;
    *target = (struct text){data + start, position - start};
    position++;
    int shape = match_shape(data, position, limit, CONSTANT("HTTP/0.0\r\n"));
    if (shape != WHOLE) return shape == DIFFERENT ? 400 : NOT_WHOLE;
    if (data[position + 5] != '1' || data[position + 7] > '1') return 505;
    *fields = position + 10;
    return walk(head, *fields, limit, max_headers);
}

static PyObject *scan_request(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count) {
    (void)module;
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "scan_request(data: bytes, max_bytes: int, max_headers: int)");
        return NULL;
    }
    long max_bytes = PyLong_AsLong(arguments[1]), max_headers = PyLong_AsLong(arguments[2]);
    if ((max_bytes == -1 || max_headers == -1) && PyErr_Occurred()) return NULL;
    if (max_bytes < 1 || max_bytes > MAX_HEAD_BYTES || max_headers < 1 || max_headers > MAX_HEADERS) {
        PyErr_SetString(PyExc_ValueError, "max_bytes or max_headers out of range");
        return NULL;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]);
    struct head head;
    head.data = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    struct text method, target, host = {head.data, 0};
    uint32_t fields;
    int verdict = read_request(&head, (uint32_t)(size < max_bytes ? size : max_bytes), (int)max_headers, &method,
                               &target, &fields);
    if (verdict == NOT_WHOLE) {
        if (size < max_bytes) Py_RETURN_NONE;
        verdict = 431;
    }
#define REFUSE_IF(condition, status)                                                               \
    if (condition) return PyLong_FromLong(status)
    REFUSE_IF(verdict != WHOLE, verdict);
    REFUSE_IF(same_bytes(method, CONSTANT("CONNECT")), 405);

    int http11 = head.data[fields - 3] == '1', get = same_bytes(method, CONSTANT("GET"));
    int flags = http11 ? 0 : HTTP10, hosts = 0, lengths = 0, codings = 0, known_coding = 1, known_expectation = 1;
    int trailers = 0, websocket = 0;
    int64_t length = 0;
    struct connection connection = {0, 0, 0, 0};
    for (struct field *field = head.fields; field < head.fields + head.count; field++) {
        if (field->kind == ORDINARY) continue;
        struct text value = value_of(&head, field);
        switch (field->kind) {
        case HOST:
            host = value;
            REFUSE_IF(++hosts > 1 || !is_host(value), 400);
            field->cut = 1;
            break;
        case CONTENT_LENGTH:
            length = read_length(value);
            REFUSE_IF(++lengths > 1 || length < 0, 400);
            break;
        case TRANSFER_ENCODING:
            REFUSE_IF(++codings > 1, 400);
            known_coding = equals(value, CONSTANT("chunked"));
            break;
        case EXPECTATION: /* an HTTP/1.0 client cannot wait for 100: RFC 9110, section 10.1.1 */
            known_expectation &= equals(value, CONSTANT("100-continue"));
            flags |= http11 ? EXPECT : 0;
            field->cut = !http11;
            break;
        case CONNECTION:
            field->cut = 1;
            read_connection(&head, field, &connection);
            break;
        case TE:
            field->cut = 1;
            trailers |= has_element(value, CONSTANT("trailers"));
            break;
        case UPGRADE_TO:
            field->cut = 1;
            websocket |= has_element(value, CONSTANT("websocket"));
            break;
        case FORWARDED_BY:
            field->cut = 1;
            flags |= FORWARDED;
            break;
        case IDEMPOTENCY_KEY: flags |= IDEMPOTENT; break;
        case DATE: break;
        default: field->cut = 1; /* TRAILER, HOP_BY_HOP, UNDERSCORED */
        }
    }
    REFUSE_IF(!hosts && http11, 400);
    int slash = 0; /* an absolute-form target without a path gets one */
    if (target.bytes[0] != '/') {
        size_t scheme = target.length > 7 && equals((struct text){target.bytes, 7}, CONSTANT("http://")) ? 7
                      : target.length > 8 && equals((struct text){target.bytes, 8}, CONSTANT("https://")) ? 8 : 0;
        if (scheme) { /* its authority stands for Host: RFC 9112, section 3.2.2 */
            size_t end = scheme;
            while (end < target.length && !memchr("/?#", target.bytes[end], 3)) end++;
            host = (struct text){target.bytes + scheme, end - scheme};
            REFUSE_IF(!host.length || !is_host(host), 400);
            target = (struct text){target.bytes + end, target.length - end};
            slash = !target.length || target.bytes[0] != '/';
            flags |= ABSOLUTE;
        } else {
            REFUSE_IF(!same_bytes(target, CONSTANT("*")) || !same_bytes(method, CONSTANT("OPTIONS")), 400);
            flags |= OPTIONS_STAR;
        }
    }
    REFUSE_IF(codings && (lengths || !http11), 400);
    REFUSE_IF(connection.count > MAX_CONNECTION_OPTIONS, 400);
    REFUSE_IF(!known_coding, 501);
    REFUSE_IF(!known_expectation, 417);

    if (codings) flags |= CHUNKED;
    if (http11 && !connection.close) flags |= KEEP_ALIVE;
    if (same_bytes(method, CONSTANT("HEAD"))) flags |= HEAD | IDEMPOTENT;
    if (get || same_bytes(method, CONSTANT("OPTIONS")) || same_bytes(method, CONSTANT("TRACE"))) flags |= IDEMPOTENT;
    if (get && http11 && websocket && connection.upgrade && !length && !codings) flags |= UPGRADE;

    PyObject *target_bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)target.length + slash);
    if (!target_bytes) return NULL;
    char *to = PyBytes_AS_STRING(target_bytes);
    to[0] = '/';
    memcpy(to + slash, target.bytes, target.length);
    target = (struct text){(const uint8_t *)to, target.length + (size_t)slash};
    if (is_plain(target)) flags |= PLAIN_PATH;

    struct output output;
    output.count = 0;
    if (http11 && !(flags & ABSOLUTE)) {
        append_kept(&output, &head, (uint32_t)(method.bytes - head.data), head.end - 2);
    } else {
        append(&output, (struct text){method.bytes, method.length + 1});
        append(&output, target);
        append(&output, CONSTANT(" HTTP/1.1\r\n"));
        append_kept(&output, &head, fields, head.end - 2);
    }
    if (trailers) append(&output, CONSTANT("Te: trailers\r\n"));
    if (flags & UPGRADE) append(&output, SWITCH);
    PyObject *items[] = {join(&output), to_bytes(host), target_bytes, PyLong_FromLong(flags),
                         PyLong_FromLongLong(length), PyLong_FromLong((long)head.end)};
    return pack(items, 6);
#undef REFUSE_IF
}

/* The status line and the header lines: WHOLE, NOT_WHOLE or something else. `*fields` is where header lines start. */
static int read_response(struct head *head, uint32_t limit, uint32_t *fields) {
    const uint8_t *data = head->data;
    int shape = match_shape(data, 0, limit, CONSTANT("HTTP/0.0 000"));
    if (shape == DIFFERENT) return DIFFERENT;
    if ((limit > 5 && data[5] != '1') || (limit > 7 && data[7] > '1') || (limit > 9 && data[9] == '0')) return DIFFERENT;
    if (shape == NOT_WHOLE || limit == 12) return NOT_WHOLE;
    uint32_t position = data[12] == ' ' ? value_end(data, 12, limit) : 12; /* some servers leave out the space */
    shape = match_shape(data, position, limit, CONSTANT("\r\n"));
    if (shape != WHOLE) return shape;
    *fields = position + 2;
    return walk(head, *fields, limit, MAX_HEADERS);
}

static PyObject *scan_response(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count) {
    (void)module;
    if (argument_count != 3 || !PyBytes_CheckExact(arguments[0]) || !PyBytes_CheckExact(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "scan_response(data: bytes, request_flags: int, date: bytes)");
        return NULL;
    }
    long request_flags = PyLong_AsLong(arguments[1]);
    if (request_flags == -1 && PyErr_Occurred()) return NULL;
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[0]);
    struct head head;
    head.data = (const uint8_t *)PyBytes_AS_STRING(arguments[0]);
    uint32_t fields;
    int verdict = read_response(&head, size < MAX_RESPONSE_HEAD_BYTES ? (uint32_t)size : MAX_RESPONSE_HEAD_BYTES, &fields);
    if (verdict == NOT_WHOLE && size < MAX_RESPONSE_HEAD_BYTES) Py_RETURN_NONE;
#define REFUSE_IF(condition)                                                                       \
    if (condition) return PyLong_FromLong(500)
    REFUSE_IF(verdict != WHOLE);

    int http11 = head.data[7] == '1';
    int status = (head.data[9] - '0') * 100 + (head.data[10] - '0') * 10 + (head.data[11] - '0');
    int bodiless = status < 200 || status == 204, codings = 0, dated = 0, websocket = 0;
    int64_t length = -1;
    struct connection connection = {0, 0, 0, 0};
    for (struct field *field = head.fields; field < head.fields + head.count; field++) {
        if (field->kind == ORDINARY) continue;
        struct text value = value_of(&head, field);
        switch (field->kind) {
        case CONTENT_LENGTH: {
            int64_t this_length = read_length(value);
            REFUSE_IF(this_length < 0 || (length >= 0 && this_length != length));
            field->cut = bodiless || length >= 0; /* equal ones collapse to the first */
            length = this_length;
            break;
        }
        case TRANSFER_ENCODING:
            REFUSE_IF(++codings > 1 || !http11 || !equals(value, CONSTANT("chunked")));
            field->cut = bodiless || request_flags & HTTP10;
            break;
        case CONNECTION:
            field->cut = 1;
            read_connection(&head, field, &connection);
            break;
        case UPGRADE_TO:
            field->cut = 1;
            websocket |= has_element(value, CONSTANT("websocket"));
            break;
        case TE: case HOP_BY_HOP: field->cut = 1; break;
        case DATE: dated = 1; break;
        }
    }
    REFUSE_IF((codings && length >= 0) || connection.count > MAX_CONNECTION_OPTIONS);

    int64_t available = size - (Py_ssize_t)head.end, remaining = 0;
    int reuse = !connection.close && (http11 || connection.keep_alive), kind;
    if (status == 101) {
        REFUSE_IF(!(request_flags & UPGRADE) || !http11 || !websocket);
        kind = SWITCHING;
        reuse = 0;
    } else if (status < 200) {
        kind = INFORMATIONAL;
    } else if (request_flags & HEAD || status == 204 || status == 304) {
        kind = NO_BODY; /* a server that announces a body here may send one: its connection is not used again */
        if (available || (status == 204 && (length > 0 || codings))) reuse = 0;
    } else if (codings) {
        kind = CHUNKED_BODY;
    } else if (length >= 0) {
        kind = LENGTH;
        remaining = length;
        if (available > length) reuse = 0;
    } else {
        kind = CLOSE;
        reuse = 0;
    }
#undef REFUSE_IF

    int keep = request_flags & KEEP_ALIVE && kind != CLOSE, final = kind != INFORMATIONAL && kind != SWITCHING;
    int64_t body = kind == CLOSE ? available : available < remaining ? available : remaining;
    struct text date = {(const uint8_t *)PyBytes_AS_STRING(arguments[2]), (size_t)PyBytes_GET_SIZE(arguments[2])};
    struct output output;
    output.count = 0;
    if (!http11) append(&output, CONSTANT("HTTP/1.1"));
    append_kept(&output, &head, http11 ? 0 : 8, head.end - 2);
    if (kind == SWITCHING) append(&output, SWITCH);
    if (final && !dated) append(&output, date);
    if (final && !keep) append(&output, CONSTANT("Connection: close\r\n"));
    if (!(request_flags & SPLIT)) {
        append(&output, (struct text){head.data + head.end - 2, 2 + (size_t)body});
        remaining -= kind == LENGTH ? body : 0;
    }
    PyObject *out = join(&output);
    if (!(request_flags & SPLIT) && reuse && keep && !remaining && (kind == LENGTH || kind == NO_BODY)) return out;
    PyObject *items[] = {out, PyLong_FromLong(kind), PyLong_FromLongLong(remaining), PyLong_FromLong((long)head.end),
                         PyLong_FromLong(reuse), PyLong_FromLong(status)};
    return pack(items, 6);
}

static PyObject *send_bytes(PyObject *module, PyObject *const *arguments, Py_ssize_t argument_count) {
    (void)module;
    if (argument_count != 2 || !PyBytes_CheckExact(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "send(fd: int, data: bytes)");
        return NULL;
    }
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
static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_scan", .m_doc = "The C twin of scan_pure.", .m_size = 0,
    .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&definition); }
