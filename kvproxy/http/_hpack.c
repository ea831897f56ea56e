/* HPACK, the header compression of HTTP/2: see _hpack.h and hpack.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_hpack.h"

enum { STATIC_FIELDS = 61, MAX_DECODED_BYTES = 1 << 20 };

static const struct { struct text name, value; } STATIC_TABLE[STATIC_FIELDS + 1] = { /* RFC 7541, appendix A */
#define FIELD(name, value) {CONSTANT(name), CONSTANT(value)}
    {{NULL, 0}, {NULL, 0}}, FIELD(":authority", ""), FIELD(":method", "GET"), FIELD(":method", "POST"),
    FIELD(":path", "/"), FIELD(":path", "/index.html"), FIELD(":scheme", "http"), FIELD(":scheme", "https"),
    FIELD(":status", "200"), FIELD(":status", "204"), FIELD(":status", "206"), FIELD(":status", "304"),
    FIELD(":status", "400"), FIELD(":status", "404"), FIELD(":status", "500"), FIELD("accept-charset", ""),
    FIELD("accept-encoding", "gzip, deflate"), FIELD("accept-language", ""), FIELD("accept-ranges", ""),
    FIELD("accept", ""), FIELD("access-control-allow-origin", ""), FIELD("age", ""), FIELD("allow", ""),
    FIELD("authorization", ""), FIELD("cache-control", ""), FIELD("content-disposition", ""),
    FIELD("content-encoding", ""), FIELD("content-language", ""), FIELD("content-length", ""),
    FIELD("content-location", ""), FIELD("content-range", ""), FIELD("content-type", ""), FIELD("cookie", ""),
    FIELD("date", ""), FIELD("etag", ""), FIELD("expect", ""), FIELD("expires", ""), FIELD("from", ""),
    FIELD("host", ""), FIELD("if-match", ""), FIELD("if-modified-since", ""), FIELD("if-none-match", ""),
    FIELD("if-range", ""), FIELD("if-unmodified-since", ""), FIELD("last-modified", ""), FIELD("link", ""),
    FIELD("location", ""), FIELD("max-forwards", ""), FIELD("proxy-authenticate", ""),
    FIELD("proxy-authorization", ""), FIELD("range", ""), FIELD("referer", ""), FIELD("refresh", ""),
    FIELD("retry-after", ""), FIELD("server", ""), FIELD("set-cookie", ""), FIELD("strict-transport-security", ""),
    FIELD("transfer-encoding", ""), FIELD("user-agent", ""), FIELD("vary", ""), FIELD("via", ""),
    FIELD("www-authenticate", ""),
};

static const uint8_t HUFFMAN_LENGTHS[257] = { /* RFC 7541, appendix B; the last is EOS */
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
};
enum { EOS = 256, NODES = 256, NO_SYMBOL = 0, SYMBOL = 1, BAD = 2 };

/* The code as a machine that eats four bits a step: no code is shorter, so at most one symbol ends in a step. */
static struct { uint8_t next, result, symbol; } HUFFMAN[NODES][16];
static uint8_t MAY_END[NODES]; /* less than eight one bits below the root: padding */

static void build_huffman(void) {
    static int16_t branches[NODES][2]; /* 0: none yet, > 0: a node, < 0: minus the symbol, minus one */
    int nodes = 1, length = 0;
    uint32_t code = 0;
    for (int bits = 5; bits <= 30; bits++) {
        for (int symbol = 0; symbol <= EOS; symbol++) {
            if (HUFFMAN_LENGTHS[symbol] != bits) continue;
            code <<= bits - length;
            length = bits;
            int node = 0;
            for (int shift = bits - 1; shift > 0; shift--) {
                int16_t *branch = &branches[node][code >> shift & 1];
                if (!*branch) *branch = (int16_t)nodes++;
                node = *branch;
            }
            branches[node][code++ & 1] = (int16_t)(-symbol - 1);
        }
    }
    for (int start = 0; start < NODES; start++) {
        for (int nibble = 0; nibble < 16; nibble++) {
            int node = start;
            HUFFMAN[start][nibble].result = NO_SYMBOL;
            for (int shift = 3; shift >= 0; shift--) {
                node = branches[node][nibble >> shift & 1];
                if (node > 0) continue;
                HUFFMAN[start][nibble].result |= node == -EOS - 1 ? BAD : SYMBOL;
                HUFFMAN[start][nibble].symbol = (uint8_t)(-node - 1);
                node = 0;
            }
            HUFFMAN[start][nibble].next = (uint8_t)node;
        }
    }
    for (int node = 0, ones = 0; ones < 8; ones++, node = branches[node][1]) MAY_END[node] = 1;
}

/* The ordinary names of the static table as lists of names with one length. */
enum { MAX_NAME = 28 };
static uint8_t FIRST_BY_LENGTH[MAX_NAME], NEXT_BY_LENGTH[STATIC_FIELDS + 1];

static void build_names(void) {
    for (uint8_t i = STATIC_FIELDS; i >= ORDINARY_INDEX; i--) {
        uint8_t *first = &FIRST_BY_LENGTH[STATIC_TABLE[i].name.length];
        NEXT_BY_LENGTH[i] = *first;
        *first = i;
    }
}

void hpack_build(void) {
    if (MAY_END[0]) return;
    build_names();
    build_huffman();
}

/* ---- Decoding: what fails returns -1, and the block cannot be decoded (RFC 7541) ---- */

/* An integer whose first byte ends with `prefix` bits of it, below 2^28 + 2^8 (section 5.1). */
static int64_t read_integer(struct block *block, int prefix) {
    uint32_t limit = (1u << prefix) - 1, value = block->bytes[block->position++] & limit;
    if (value < limit) return value;
    for (int shift = 0; shift < 28 && block->position < block->length; shift += 7) {
        uint8_t byte = block->bytes[block->position++];
        value += (uint32_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
    return -1;
}

static int read_string(struct block *block, struct text *string) {
    if (block->position == block->length) return -1;
    int huffman = block->bytes[block->position] & 0x80;
    int64_t length = read_integer(block, 7);
    if (length < 0 || (uint64_t)length > block->length - block->position) return -1;
    const uint8_t *from = block->bytes + block->position, *end = from + length;
    block->position += (size_t)length;
    *string = (struct text){from, (size_t)length};
    if (!huffman) return 0;
    uint8_t *to = block->scratch, state = 0, result = 0;
    for (; from < end; from++) {
        for (int shift = 4; shift >= 0; shift -= 4) {
            uint8_t nibble = *from >> shift & 15;
            *to = HUFFMAN[state][nibble].symbol;
            to += HUFFMAN[state][nibble].result & SYMBOL;
            result |= HUFFMAN[state][nibble].result;
            state = HUFFMAN[state][nibble].next;
        }
        if (result & BAD) return -1;
    }
    *string = (struct text){block->scratch, (size_t)(to - block->scratch)};
    block->scratch = to;
    return MAY_END[state] ? 0 : -1;
}

static uint32_t counted(struct text name, struct text value) {
    return (uint32_t)(name.length + value.length + FIELD_OVERHEAD);
}

/* Drop the oldest entries until `room` bytes fit. */
void hpack_evict(struct table *table, uint32_t room) {
    while (table->count && table->size + room > table->capacity) {
        struct entry *oldest = table->entries[(table->newest + --table->count) % TABLE_FIELDS];
        table->size -= counted(oldest->name, oldest->value);
        oldest->next = table->dropped;
        table->dropped = oldest;
    }
}

void hpack_free_dropped(struct table *table) {
    for (struct entry *entry; (entry = table->dropped); PyMem_Free(entry)) table->dropped = entry->next;
}

/* Add a field to the dynamic table; one that is larger than the table empties it (section 4.4). */
static int insert(struct table *table, struct text name, struct text value) {
    uint32_t size = counted(name, value);
    table->changes++;
    hpack_evict(table, size);
    if (size > table->capacity) return 0;
    struct entry *entry = PyMem_Malloc(sizeof(struct entry) + name.length + value.length);
    if (!entry) return -1;
    memcpy(entry->bytes, name.bytes, name.length);
    memcpy(entry->bytes + name.length, value.bytes, value.length);
    entry->name = (struct text){entry->bytes, name.length};
    entry->value = (struct text){entry->bytes + name.length, value.length};
    table->newest = (table->newest + TABLE_FIELDS - 1) % TABLE_FIELDS;
    table->entries[table->newest] = entry;
    table->count++;
    table->size += size;
    return 0;
}

static int look_up(const struct table *table, int64_t index, struct text *name, struct text *value) {
    if (index <= 0 || index > STATIC_FIELDS + table->count) return -1;
    if (index <= STATIC_FIELDS) {
        *name = STATIC_TABLE[index].name, *value = STATIC_TABLE[index].value;
    } else {
        const struct entry *entry = table->entries[(table->newest + index - STATIC_FIELDS - 1) % TABLE_FIELDS];
        *name = entry->name, *value = entry->value;
    }
    return 0;
}

/* Read one field, 0, or a table size update, 1. */
static int read_field(struct table *table, struct block *block, struct text *name, struct text *value) {
    uint8_t first = block->bytes[block->position];
    if (first >= 0x80) return look_up(table, read_integer(block, 7), name, value);
    if ((first & 0xe0) == 0x20) {
        int64_t capacity = read_integer(block, 5);
        if (block->counted || capacity < 0 || capacity > TABLE_BYTES) return -1;
        table->capacity = (uint32_t)capacity;
        hpack_evict(table, 0);
        table->changes++;
        return 1;
    }
    int64_t index = read_integer(block, first >= 0x40 ? 6 : 4);
    if (index ? look_up(table, index, name, value) : read_string(block, name)) return -1;
    if (read_string(block, value)) return -1;
    return first >= 0x40 ? insert(table, *name, *value) : 0;
}

/* Read all fields: 0, 431 or the code of a connection error. */
int hpack_read(struct table *table, struct block *block, long max_bytes, long max_headers) {
    while (block->position < block->length) {
        struct text name, value;
        int result = read_field(table, block, &name, &value);
        if (result < 0) return COMPRESSION_ERROR;
        if (result) continue;
        block->counted += counted(name, value);
        if (block->counted > MAX_DECODED_BYTES) return ENHANCE_YOUR_CALM;
        if (block->count < MAX_FIELDS) block->fields[block->count] = (struct field){name, value, ORDINARY};
        block->count++;
    }
    return block->counted > (uint64_t)max_bytes || block->count > max_headers ? 431 : 0;
}

static uint8_t *put_integer(uint8_t *to, size_t value, int prefix, uint8_t first) {
    size_t limit = (1u << prefix) - 1;
    if (value < limit) {
        *to++ = (uint8_t)(first | value);
        return to;
    }
    *to++ = (uint8_t)(first | limit);
    for (value -= limit; value >= 0x80; value >>= 7) *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

static uint8_t *put_string(uint8_t *to, struct text string) {
    return put(put_integer(to, string.length, 7, 0), string);
}

/* A field whose name is that of the static table's entries from `index` up to `last`. */
uint8_t *hpack_put_known(uint8_t *to, int index, int last, struct text value, uint8_t first) {
    for (int i = index; i <= last; i++) {
        if (!value.length || !equals(value, STATIC_TABLE[i].value)) continue;
        *to++ = (uint8_t)(0x80 | i);
        return to;
    }
    return put_string(put_integer(to, (size_t)index, 4, first), value);
}

uint8_t *hpack_put_field(uint8_t *to, const struct field *field) {
    struct text name = field->name;
    const unsigned sensitive = equals_folded(name, CONSTANT("authorization")) ||
                               equals_folded(name, CONSTANT("set-cookie")) || field->kind == COOKIE;
    uint8_t first = sensitive ? 0x10 : 0; /* never to be indexed by anybody: RFC 7541, section 7.1.3 */
    for (int i = name.length < MAX_NAME ? FIRST_BY_LENGTH[name.length] : 0; i; i = NEXT_BY_LENGTH[i])
        if (equals_folded(name, STATIC_TABLE[i].name)) return hpack_put_known(to, i, i, field->value, first);
    *to++ = first;
    to = put_integer(to, name.length, 7, 0);
    for (size_t i = 0; i < name.length; i++) *to++ = lower(name.bytes[i]);
    return put_string(to, field->value);
}
