/* Range coding (rANS) of integer symbols with one frequency table for each channel.

   The stream is the one that CompressAI writes: 64-bit state, lower bound 2^31, 16-bit
   probabilities, 32-bit little-endian words, the final state first. Symbols outside their table
   are an escape entry and 4-bit digits. Channels follow one another, so that a stream that was cut
   anywhere decodes to a correct prefix.

   C99, no dependency, no allocation, no global state: all functions may run in several threads.
   edgekit/split/rans.py computes the same bytes. */

#ifndef EDGEKIT_RANS_H
#define EDGEKIT_RANS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define EK_API __declspec(dllexport)
#else
#define EK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EK_RANS_VERSION 1

/* What the functions return. */
#define EK_OK 0           /* everything was coded; a decoded stream was whole and sound */
#define EK_CUT 1          /* the stream ended early: the symbols before its end are right */
#define EK_DAMAGED 2      /* no encoder writes this stream for these tables and sizes */
#define EK_BAD_TABLE 3    /* a table is no rising list of at least two entries from 0 */
#define EK_NO_ROOM 4      /* `capacity` is too small, see ek_rans_bound */
#define EK_BAD_ARGUMENT 5 /* a null pointer, or sizes whose product is not addressable */

typedef struct ek_rans_tables {
    /* Lower ends of all entries, table after table. A table starts with 0, rises, ends (not stored)
       at 65536; its last entry is the escape. */
    const uint16_t *lower;
    size_t lower_count;
    /* Of table c, the entries lower[start[c]] up to lower[start[c + 1]]: channels + 1 numbers. */
    const uint32_t *start;
    /* The symbol of the first entry of each table. */
    const int32_t *offset;
    size_t channels;
} ek_rans_tables;

EK_API int ek_rans_version(void);

/* Bytes that are always enough for so many symbols; SIZE_MAX where that cannot be addressed. */
EK_API size_t ek_rans_bound(size_t symbols);

/* Encode the first `channels` planes of `plane` symbols each into `out`. */
EK_API int ek_rans_encode(const ek_rans_tables *tables, const int32_t *symbols, size_t channels,
                          size_t plane, uint8_t *out, size_t capacity, size_t *written);

/* Decode what `size` bytes determine of `channels` planes; `decoded` counts the symbols written.
   After EK_DAMAGED they mean nothing. */
EK_API int ek_rans_decode(const ek_rans_tables *tables, const uint8_t *stream, size_t size,
                          size_t channels, size_t plane, int32_t *symbols, size_t *decoded);

#ifdef __cplusplus
}
#endif

#endif
