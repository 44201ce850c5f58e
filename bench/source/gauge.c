/* Latency of packets: counted by who sends them, read by another process while it goes on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_common.h>

#include "source.h"

#define STEP_BITS 5
_Static_assert(1 << STEP_BITS == GAUGE_STEPS, "bits of a step");

struct gauge *gauge_open(const char *path)
{
    struct gauge *g = MAP_FAILED;
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0 && ftruncate(file, sizeof(*g)) == 0)
        g = mmap(NULL, sizeof(*g), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (g == MAP_FAILED)
        fprintf(stderr, "net_source: gauge=%s: %s\n", path, strerror(errno));
    if (file >= 0)
        close(file);
    return g == MAP_FAILED ? NULL : g;
}

void gauge_close(struct gauge *g)
{
    if (g != NULL)
        munmap(g, sizeof(*g));
}

void gauge_note(struct gauge *g, uint64_t ticks)
{
    uint64_t bin = ticks;
    if (ticks >= GAUGE_STEPS) {
        const unsigned int power = 63u - (unsigned int)__builtin_clzll(ticks);
        bin = (uint64_t)(power - STEP_BITS + 1) * GAUGE_STEPS + ((ticks >> (power - STEP_BITS)) & (GAUGE_STEPS - 1));
    }
    g->bins[RTE_MIN(bin, (uint64_t)GAUGE_BINS - 1)]++;
}
