#include "rans.h"

#include <string.h>

#define PROBABILITY_BITS 16
#define TOTAL (UINT32_C(1) << PROBABILITY_BITS)
#define LOWER_BOUND (UINT64_C(1) << 31)
/* A state of LIMIT_SHIFT + log2(frequency) bits or more gives a word away before it takes a symbol. */
#define LIMIT_SHIFT 47
#define DIGIT_BITS 4
/* A difference of two 32-bit numbers, doubled, has at most 34 bits. */
#define MOST_DIGITS 9
/* Escape entry of frequency 1, count and digits: 16 + 4 + 36 bits, below eight bytes with rounding. */
#define BYTES_PER_SYMBOL 8
#define STATE_BYTES 8

/* Preparing a table pays for planes of some size, and its room on the stack ends at some length. */
#define PREPARED_ENTRIES 512
#define PREPARED_PLANE 64
#define SLOT_BITS 10
#define SLOT_SHIFT (PROBABILITY_BITS - SLOT_BITS)

typedef struct table {
    const uint16_t *lower;
    uint32_t entries;
    int32_t offset;
} table;

static int open_table(const ek_rans_tables *tables, size_t channel, table *out)
{
    uint32_t begin = tables->start[channel], end = tables->start[channel + 1], i;
    if (end > tables->lower_count || begin > end || end - begin < 2 || end - begin > TOTAL)
        return 0;
    out->lower = tables->lower + begin;
    out->entries = end - begin;
    out->offset = tables->offset[channel];
    if (out->lower[0] != 0)
        return 0;
    for (i = 1; i < out->entries; i++)
        if (out->lower[i] <= out->lower[i - 1])
            return 0;
    return 1;
}

static uint32_t upper_end(const table *t, uint32_t entry)
{
    return entry + 1 < t->entries ? t->lower[entry + 1] : TOTAL;
}

static int is_prepared(const table *t, size_t plane)
{
    return t->entries <= PREPARED_ENTRIES && plane >= PREPARED_PLANE && plane >= t->entries;
}

static int bad_sizes(const ek_rans_tables *tables, size_t channels, size_t plane)
{
    if (!tables || (channels && (!tables->lower || !tables->start || !tables->offset)))
        return 1;
    return channels > tables->channels ||
           (plane && channels > SIZE_MAX / sizeof(int32_t) / plane);
}

int ek_rans_version(void) { return EK_RANS_VERSION; }

size_t ek_rans_bound(size_t symbols)
{
    if (symbols > (SIZE_MAX - STATE_BYTES) / BYTES_PER_SYMBOL)
        return SIZE_MAX;
    return symbols * BYTES_PER_SYMBOL + STATE_BYTES;
}

/* ---- encoder: from the last symbol to the first, words from the end of the buffer down ---- */

typedef struct writer {
    uint64_t state;
    uint8_t *begin;
    uint8_t *next;
} writer;

static int put_word(writer *w, uint32_t word)
{
    if (w->next - w->begin < 4)
        return 0;
    w->next -= 4;
    w->next[0] = (uint8_t)word;
    w->next[1] = (uint8_t)(word >> 8);
    w->next[2] = (uint8_t)(word >> 16);
    w->next[3] = (uint8_t)(word >> 24);
    return 1;
}

static int make_room(writer *w, uint32_t frequency)
{
    if (w->state >= (uint64_t)frequency << LIMIT_SHIFT) {
        if (!put_word(w, (uint32_t)w->state))
            return 0;
        w->state >>= 32;
    }
    return 1;
}

static int put_digit(writer *w, uint32_t digit)
{
    if (!make_room(w, TOTAL >> DIGIT_BITS))
        return 0;
    w->state = w->state << DIGIT_BITS | digit;
    return 1;
}

/* The digits after an escape entry: how many, then lowest first; written in reverse as all is. */
static int put_escaped(writer *w, int64_t value, uint32_t escape)
{
    uint64_t raw = value < 0 ? (uint64_t)(-value) * 2 - 1 : (uint64_t)(value - escape) * 2;
    uint32_t count = 0, i;
    while (raw >> (DIGIT_BITS * count))
        count++;
    for (i = count; i-- > 0;)
        if (!put_digit(w, (uint32_t)(raw >> (DIGIT_BITS * i)) & 15))
            return 0;
    return put_digit(w, count);
}

/* Division by a frequency as a multiplication (Alverson 1991), exact for states below 2^63:
   with 2^(s-1) < f <= 2^s and m = ceil(2^(63+s) / f), floor(x / f) = floor(x m / 2^(63+s)).
   A step is then state + quotient * (65536 - f) + bias. f = 1 has no such m below 2^64; m = 2^64 - 1
   gives x - 1 for it, which the bias makes good. */
typedef struct divider {
    uint64_t multiplier;
    uint32_t shift;
    uint32_t frequency;
    uint32_t bias;
} divider;

static divider make_divider(uint32_t lower, uint32_t frequency)
{
    divider d;
    uint64_t high, rest;
    uint32_t bits = 0;
    d.frequency = frequency;
    if (frequency == 1) {
        d.multiplier = UINT64_MAX;
        d.shift = 0;
        d.bias = lower + TOTAL - 1;
        return d;
    }
    while ((UINT32_C(1) << bits) < frequency)
        bits++;
    high = (UINT64_C(1) << (31 + bits)) / frequency;
    rest = (UINT64_C(1) << (31 + bits)) % frequency;
    d.multiplier = (high << 32) + ((rest << 32) + frequency - 1) / frequency;
    d.shift = bits - 1;
    d.bias = lower;
    return d;
}

static uint64_t high_product(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__) && !defined(EK_NO_INT128)
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)a * b >> 64);
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    return a1 * b1 + (middle >> 32) + ((a0 * b1 + (uint32_t)middle) >> 32);
#endif
}

static int encode_plane_prepared(writer *w, const table *t, const int32_t *symbols, size_t plane)
{
    divider dividers[PREPARED_ENTRIES];
    uint32_t escape = t->entries - 1, i;
    writer local = *w; /* stays in registers */
    for (i = 0; i < t->entries; i++)
        dividers[i] = make_divider(t->lower[i], upper_end(t, i) - t->lower[i]);
    while (plane-- > 0) {
        int64_t value = (int64_t)symbols[plane] - t->offset;
        const divider *d = &dividers[escape];
        if (value >= 0 && value < (int64_t)escape)
            d = &dividers[value];
        else if (!put_escaped(&local, value, escape))
            return 0;
        if (!make_room(&local, d->frequency))
            return 0;
        local.state += d->bias +
            (high_product(local.state, d->multiplier) >> d->shift) * (TOTAL - d->frequency);
    }
    *w = local;
    return 1;
}

static int encode_plane(writer *w, const table *t, const int32_t *symbols, size_t plane)
{
    uint32_t escape = t->entries - 1;
    while (plane-- > 0) {
        int64_t value = (int64_t)symbols[plane] - t->offset;
        uint32_t entry = escape, frequency;
        if (value >= 0 && value < (int64_t)escape)
            entry = (uint32_t)value;
        else if (!put_escaped(w, value, escape))
            return 0;
        frequency = upper_end(t, entry) - t->lower[entry];
        if (!make_room(w, frequency))
            return 0;
        w->state = (w->state / frequency << PROBABILITY_BITS) + w->state % frequency +
                   t->lower[entry];
    }
    return 1;
}

int ek_rans_encode(const ek_rans_tables *tables, const int32_t *symbols, size_t channels,
                   size_t plane, uint8_t *out, size_t capacity, size_t *written)
{
    writer w;
    size_t channel;
    if (!out || !written || bad_sizes(tables, channels, plane) || (!symbols && channels && plane))
        return EK_BAD_ARGUMENT;
    *written = 0;
    w.state = LOWER_BOUND;
    w.begin = out;
    w.next = out + capacity;
    for (channel = channels; channel-- > 0;) {
        const int32_t *from = plane ? symbols + channel * plane : symbols;
        table t;
        if (!open_table(tables, channel, &t))
            return EK_BAD_TABLE;
        if (is_prepared(&t, plane) ? !encode_plane_prepared(&w, &t, from, plane)
                                   : !encode_plane(&w, &t, from, plane))
            return EK_NO_ROOM;
    }
    if (!put_word(&w, (uint32_t)(w.state >> 32)) || !put_word(&w, (uint32_t)w.state))
        return EK_NO_ROOM;
    *written = (size_t)(out + capacity - w.next);
    memmove(out, w.next, *written);
    return EK_OK;
}

/* ---- decoder: a word is taken when the next step needs it, so that no symbol waits for one ---- */

typedef struct reader {
    uint64_t state;
    const uint8_t *next;
    const uint8_t *end;
} reader;

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int refill(reader *r)
{
    if (r->state < LOWER_BOUND) {
        if (r->end - r->next < 4)
            return 0;
        r->state = r->state << 32 | word_at(r->next);
        r->next += 4;
    }
    return 1;
}

static void advance(reader *r, uint32_t lower, uint32_t frequency)
{
    uint32_t place = (uint32_t)r->state & (TOTAL - 1);
    r->state = frequency * (r->state >> PROBABILITY_BITS) + place - lower;
}

static int take_digit(reader *r, uint32_t *digit)
{
    if (!refill(r))
        return EK_CUT;
    *digit = (uint32_t)r->state & 15;
    r->state >>= DIGIT_BITS;
    return EK_OK;
}

static int take_escaped(reader *r, const table *t, int32_t *symbol)
{
    uint32_t count, digit = 1, i;
    uint64_t raw = 0;
    int64_t value;
    int status = take_digit(r, &count);
    if (status != EK_OK)
        return status;
    if (count > MOST_DIGITS)
        return EK_DAMAGED;
    for (i = 0; i < count; i++) {
        if ((status = take_digit(r, &digit)) != EK_OK)
            return status;
        raw |= (uint64_t)digit << (DIGIT_BITS * i);
    }
    if (digit == 0) /* an encoder writes no leading zero */
        return EK_DAMAGED;
    value = raw & 1 ? -(int64_t)(raw >> 1) - 1 : (int64_t)(raw >> 1) + (t->entries - 1);
    value += t->offset;
    if (value < INT32_MIN || value > INT32_MAX)
        return EK_DAMAGED;
    *symbol = (int32_t)value;
    return EK_OK;
}

static int finish_symbol(reader *r, const table *t, uint32_t entry, int32_t *symbol)
{
    int64_t value = (int64_t)entry + t->offset;
    if (entry + 1 == t->entries)
        return take_escaped(r, t, symbol);
    if (value > INT32_MAX)
        return EK_DAMAGED;
    *symbol = (int32_t)value;
    return EK_OK;
}

static int decode_plane_prepared(reader *r, const table *t, int32_t *symbols, size_t plane,
                                 size_t *decoded)
{
    uint32_t lower[PREPARED_ENTRIES + 1];
    uint16_t first[1 << SLOT_BITS]; /* the entry that holds the first place of each slot */
    uint32_t entry = 0, i;
    reader local = *r; /* stays in registers */
    size_t done = 0;
    int status = EK_OK;
    for (i = 0; i < t->entries; i++)
        lower[i] = t->lower[i];
    lower[t->entries] = TOTAL;
    for (i = 0; i < 1 << SLOT_BITS; i++) {
        while (lower[entry + 1] <= i << SLOT_SHIFT)
            entry++;
        first[i] = (uint16_t)entry;
    }
    for (; done < plane; done++) {
        uint32_t place;
        if (!refill(&local)) {
            status = EK_CUT;
            break;
        }
        place = (uint32_t)local.state & (TOTAL - 1);
        entry = first[place >> SLOT_SHIFT];
        while (lower[entry + 1] <= place)
            entry++;
        advance(&local, lower[entry], lower[entry + 1] - lower[entry]);
        if ((status = finish_symbol(&local, t, entry, symbols + done)) != EK_OK)
            break;
    }
    *decoded += done;
    *r = local;
    return status;
}

static uint32_t find_entry(const table *t, uint32_t place)
{
    uint32_t low = 0, high = t->entries; /* lower[low] <= place < lower[high] */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (t->lower[middle] <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int decode_plane(reader *r, const table *t, int32_t *symbols, size_t plane, size_t *decoded)
{
    size_t i;
    for (i = 0; i < plane; i++) {
        uint32_t entry;
        int status;
        if (!refill(r))
            return EK_CUT;
        entry = find_entry(t, (uint32_t)r->state & (TOTAL - 1));
        advance(r, t->lower[entry], upper_end(t, entry) - t->lower[entry]);
        if ((status = finish_symbol(r, t, entry, symbols + i)) != EK_OK)
            return status;
        ++*decoded;
    }
    return EK_OK;
}

int ek_rans_decode(const ek_rans_tables *tables, const uint8_t *stream, size_t size,
                   size_t channels, size_t plane, int32_t *symbols, size_t *decoded)
{
    reader r;
    size_t channel;
    if ((!stream && size) || !decoded || bad_sizes(tables, channels, plane) ||
        (!symbols && channels && plane))
        return EK_BAD_ARGUMENT;
    *decoded = 0;
    if (size < STATE_BYTES)
        return EK_CUT;
    r.state = (uint64_t)word_at(stream + 4) << 32 | word_at(stream);
    r.next = stream + STATE_BYTES;
    r.end = stream + size;
    if (r.state < LOWER_BOUND || r.state >> 63)
        return EK_DAMAGED;
    for (channel = 0; channel < channels && plane; channel++) {
        int32_t *to = symbols + channel * plane;
        table t;
        int status;
        if (!open_table(tables, channel, &t))
            return EK_BAD_TABLE;
        status = is_prepared(&t, plane) ? decode_plane_prepared(&r, &t, to, plane, decoded)
                                        : decode_plane(&r, &t, to, plane, decoded);
        if (status != EK_OK)
            return status;
    }
    return r.state == LOWER_BOUND && r.next == r.end ? EK_OK : EK_DAMAGED;
}
