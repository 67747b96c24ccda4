/* Hostile input to rans.c, meant to run under the address and undefined-behaviour sanitizers:
   random tables, symbols and sizes; whole, cut, damaged and random streams; broken tables. Every
   buffer is a heap block of the exact size, so that one byte too far is found. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rans.h"

static uint64_t seed = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) * below >> 32);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Rising numbers from 0; bunched up, spread out, or all the room there is. */
static void draw_table(uint16_t *lower, uint32_t entries)
{
    uint32_t i, at = 0, step = draw(2) ? 1 : 65536 / entries;
    for (i = 0; i < entries; i++) {
        lower[i] = (uint16_t)at;
        at += 1 + draw(step);
    }
}

static int32_t draw_symbol(int32_t offset, uint32_t entries)
{
    static const int32_t far[] = {INT32_MIN, INT32_MAX, 0, -1, 1000, -100000};
    int64_t near = (int64_t)offset + draw(entries + 3) - 1;
    if (draw(20) == 0)
        return far[draw(6)];
    return near < INT32_MIN ? INT32_MIN : near > INT32_MAX ? INT32_MAX : (int32_t)near;
}

int main(int argc, char **argv)
{
    static const uint32_t lengths[] = {2, 3, 5, 60, 511, 512, 513, 5000, 65536};
    static const uint32_t planes[] = {0, 1, 7, 64, 65, 600};
    static const int32_t offsets[] = {0, -30, INT32_MIN, INT32_MAX - 2};
    long round, rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    for (round = 0; round < rounds; round++) {
        size_t channels = 1 + draw(3), plane = planes[draw(6)], count = channels * plane, i, c;
        size_t total = 0, written, decoded, size;
        uint32_t *start = malloc((channels + 1) * sizeof *start);
        int32_t *offset = malloc(channels * sizeof *offset);
        int32_t *symbols = malloc(count * sizeof *symbols), *back = malloc(count * sizeof *back);
        uint8_t *out, *stream;
        uint16_t *lower;
        ek_rans_tables tables;
        int status;
        for (c = 0; c < channels; c++) {
            start[c] = (uint32_t)total;
            total += lengths[draw(9)];
            offset[c] = offsets[draw(4)];
        }
        start[channels] = (uint32_t)total;
        lower = malloc(total * sizeof *lower);
        for (c = 0; c < channels; c++)
            draw_table(lower + start[c], start[c + 1] - start[c]);
        for (i = 0; i < count; i++)
            symbols[i] = draw_symbol(offset[i / plane], start[i / plane + 1] - start[i / plane]);
        tables.lower = lower;
        tables.lower_count = total;
        tables.start = start;
        tables.offset = offset;
        tables.channels = channels;

        size = ek_rans_bound(count);
        out = malloc(size);
        if (ek_rans_encode(&tables, symbols, channels, plane, out, size, &written) != EK_OK)
            fail("the bound is no bound");
        stream = malloc(written);
        memcpy(stream, out, written);
        if (written && ek_rans_encode(&tables, symbols, channels, plane, out, written - 1, &size) != EK_NO_ROOM)
            fail("a buffer too small was enough");
        if (ek_rans_decode(&tables, stream, written, channels, plane, back, &decoded) != EK_OK ||
            decoded != count || memcmp(back, symbols, count * sizeof *back))
            fail("symbols do not come back");

        size = draw((uint32_t)written);
        out = realloc(out, size ? size : 1);
        memcpy(out, stream, size);
        status = ek_rans_decode(&tables, out, size, channels, plane, back, &decoded);
        if ((status != EK_CUT && count) || memcmp(back, symbols, decoded * sizeof *back))
            fail("a cut stream has another prefix");

        for (i = 0; i < 8; i++) {
            stream[draw((uint32_t)written)] ^= (uint8_t)(1 + draw(255));
            status = ek_rans_decode(&tables, stream, written, channels, plane, back, &decoded);
            if (status > EK_DAMAGED || decoded > count)
                fail("a damaged stream has no answer");
        }
        for (i = 0; i < written; i++)
            stream[i] = (uint8_t)draw(256);
        ek_rans_decode(&tables, stream, written, channels, plane, back, &decoded);

        /* Tables of a stranger: any number anywhere. */
        for (i = 0; i < 4; i++) {
            lower[draw((uint32_t)total)] = (uint16_t)draw(65536);
            if (draw(2))
                start[draw((uint32_t)channels + 1)] = draw(2) ? draw(70000) : (uint32_t)seed;
            ek_rans_decode(&tables, stream, written, channels, plane, back, &decoded);
            ek_rans_encode(&tables, symbols, channels, plane, stream, written, &size);
        }
        free(start); free(offset); free(symbols); free(back); free(out); free(stream); free(lower);
    }
    puts("every answer was right");
    return 0;
}
