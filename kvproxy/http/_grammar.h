/* The parts of the grammar of heads that _scan.c and _http2.c share: the C twin of grammar.py.

   Grammar: RFC 9110 sections 5.1, 5.5, 5.6.2; RFC 9112 sections 2.1, 3, 4. */

#ifndef KVPROXY_GRAMMAR_H
#define KVPROXY_GRAMMAR_H

#include <stdint.h>
#include <string.h>

enum { /* the same numbers as in flags.py */
    KEEP_ALIVE = 1, HEAD = 2, IDEMPOTENT = 4, CHUNKED = 8, FORWARDED = 16, UPGRADE = 32, EXPECT = 64,
    PLAIN_PATH = 128, ABSOLUTE = 256, OPTIONS_STAR = 512, HTTP10 = 1024, HTTP2 = 2048, SPLIT = 65536
};

struct text { const uint8_t *bytes; size_t length; };

/* What a header line means to a proxy. */
enum kind {
    ORDINARY, HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, UPGRADE_TO, EXPECTATION, DATE,
    IDEMPOTENCY_KEY, TRAILER, HOP_BY_HOP, PROXY_AUTHENTICATION, FORWARDED_BY, UNDERSCORED, COOKIE
};

enum { TOKEN = 1, REG_NAME = 2, IP_LITERAL = 4, PATH = 8, ALNUM = 15, SUB_DELIM = REG_NAME | PATH };

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

static inline uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

/* The first `length` bytes of `name`, in lower case and with `_` read as `-`, equal the constant: 1 when spelled
   with `-`, -1 when at least one `_` stands for a `-`, 0 when different. */
static inline int spells(const uint8_t *name, const uint8_t *constant, size_t length) {
    int spelling = 1;
    for (size_t i = 0; i < length; i++) {
        if (lower(name[i]) == constant[i]) continue;
        if (name[i] != '_' || constant[i] != '-') return 0;
        spelling = -1;
    }
    return spelling;
}

static inline int equals_folded(struct text value, struct text constant) {
    return value.length == constant.length && spells(value.bytes, constant.bytes, constant.length) == 1;
}

static inline int equals(struct text value, struct text constant) {
    return value.length == constant.length && !memcmp(value.bytes, constant.bytes, constant.length);
}

static const struct { struct text name; enum kind kind; } SPECIAL[] = { /* by length */
    {CONSTANT("te"), TE}, {CONSTANT("host"), HOST}, {CONSTANT("date"), DATE}, {CONSTANT("cookie"), COOKIE},
    {CONSTANT("expect"), EXPECTATION},
    {CONSTANT("upgrade"), UPGRADE_TO}, {CONSTANT("trailer"), TRAILER}, {CONSTANT("x-real-ip"), FORWARDED_BY},
    {CONSTANT("connection"), CONNECTION}, {CONSTANT("keep-alive"), HOP_BY_HOP},
    {CONSTANT("content-length"), CONTENT_LENGTH}, {CONSTANT("idempotency-key"), IDEMPOTENCY_KEY},
    {CONSTANT("proxy-connection"), HOP_BY_HOP}, {CONSTANT("transfer-encoding"), TRANSFER_ENCODING},
    {CONSTANT("x-idempotency-key"), IDEMPOTENCY_KEY}, {CONSTANT("proxy-authenticate"), PROXY_AUTHENTICATION},
    {CONSTANT("proxy-authorization"), PROXY_AUTHENTICATION}, {{NULL, SIZE_MAX}, ORDINARY},
};

/* An underscored name has no meaning to us but may have one to a server: it counts as what it imitates. */
static inline enum kind classify(struct text name) {
    const struct text prefix = CONSTANT("x-forwarded-");
    int spelling = name.length < prefix.length ? 0 : spells(name.bytes, prefix.bytes, prefix.length);
    if (spelling) return spelling > 0 ? FORWARDED_BY : UNDERSCORED;
    for (int i = 0; SPECIAL[i].name.length <= name.length; i++) {
        if (SPECIAL[i].name.length < name.length) continue;
        spelling = spells(name.bytes, SPECIAL[i].name.bytes, name.length);
        if (spelling < 0 && SPECIAL[i].kind != IDEMPOTENCY_KEY) return UNDERSCORED;
        if (spelling > 0) return SPECIAL[i].kind;
    }
    return ORDINARY;
}

/* Offset of the first byte from `position` on that cannot be in a field value: a control other than tab. */
static inline uint32_t value_end(const uint8_t *data, uint32_t position, uint32_t limit) {
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

/* A Content-Length of 1 to 18 digits, else -1. */
static inline int64_t read_length(struct text value) {
    int64_t length = 0;
    if (!value.length || value.length > 18) return -1;
    for (size_t i = 0; i < value.length; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9') return -1;
        length = length * 10 + (value.bytes[i] - '0');
    }
    return length;
}

/* A registered name (maybe empty) or an address in brackets, and maybe a port of at most five digits. */
static inline int is_host(struct text host) {
    size_t i = 0;
    if (host.length && host.bytes[0] == '[') {
        for (i = 1; i < host.length && CLASS[host.bytes[i]] & IP_LITERAL; i++);
        if (i == 1 || i == host.length || host.bytes[i] != ']') return 0;
        i++;
    } else {
        while (i < host.length && CLASS[host.bytes[i]] & REG_NAME) i++;
    }
    if (i < host.length && (host.bytes[i] != ':' || host.length - i > 6)) return 0;
    while (++i < host.length)
        if (host.bytes[i] < '0' || host.bytes[i] > '9') return 0;
    return 1;
}

/* Nothing in an origin-form target has two meanings: see PLAIN_PATH in flags.py. */
static inline int is_plain(struct text target) {
    const uint8_t *p = target.bytes, *end = p + target.length;
    if (p == end || *p != '/') return 0;
    for (; p < end && CLASS[*p] & PATH; p++) {
        if (*p != '/' || end - p < 2 || p[1] != '.') continue;
        const uint8_t *q = p + 2; /* a segment that starts with a dot */
        if (q < end && *q == '.') q++;
        if (q == end || *q == '/' || *q == '?' || *q == ';') return 0;
    }
    if (p == end || *p != '?' || p + 1 == end) return p == end;
    while (++p < end) if (*p == '#' || *p >= 0x80) return 0;
    return 1;
}

#endif
