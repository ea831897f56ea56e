/* HPACK, the header compression of HTTP/2 (RFC 7541): the C twin of hpack.py.

   The fields of a block point into the block, the static table, entries of the dynamic table, or a scratch buffer with
   what the Huffman code hid; entries that a block drops from the table are kept until `hpack_free_dropped`. */

#ifndef KVPROXY_HPACK_H
#define KVPROXY_HPACK_H

#include "_grammar.h"

enum { PROTOCOL_ERROR = 1, COMPRESSION_ERROR = 9, ENHANCE_YOUR_CALM = 11 }; /* the same numbers as in frames.py */
enum { TABLE_BYTES = 4096, FIELD_OVERHEAD = 32, TABLE_FIELDS = TABLE_BYTES / FIELD_OVERHEAD, MAX_FIELDS = 256 };
enum { AUTHORITY_INDEX = 1, METHOD_INDEX = 2, PATH_INDEX = 4, SCHEME_INDEX = 6, STATUS_INDEX = 8, ORDINARY_INDEX = 15 };

struct entry { struct entry *next; struct text name, value; uint8_t bytes[]; };

struct field { struct text name, value; enum kind kind; };

/* The dynamic table of one direction of a connection. */
struct table {
    unsigned long changes;               /* grows with every change */
    uint32_t size, capacity;             /* as RFC 7541 (4.1) counts them */
    int newest, count;                   /* a ring: the newest entry and how many there are */
    struct entry *dropped;               /* by the block being decoded */
    struct entry *entries[TABLE_FIELDS];
};

/* What is known of a block while it is decoded. */
struct block {
    const uint8_t *bytes;
    size_t position, length;
    uint8_t *scratch;                    /* where the next decoded string goes */
    uint64_t counted;
    int count;                           /* of fields; those beyond MAX_FIELDS are not kept */
    struct field fields[MAX_FIELDS];
};

/* To be called once, before anything else. */
void hpack_build(void);

/* Read all fields: 0, 431 or the code of a connection error. */
int hpack_read(struct table *table, struct block *block, long max_bytes, long max_headers);

/* Drop the oldest entries until `room` bytes fit, and free what was dropped. */
void hpack_evict(struct table *table, uint32_t room);
void hpack_free_dropped(struct table *table);

/* Write a field whose name is that of the static table's entries from `index` up to `last`, or any field. */
uint8_t *hpack_put_known(uint8_t *to, int index, int last, struct text value, uint8_t first);
uint8_t *hpack_put_field(uint8_t *to, const struct field *field);

static inline uint8_t *put(uint8_t *to, struct text text) {
    memcpy(to, text.bytes, text.length);
    return to + text.length;
}

#endif
