/* What the traffic source is asked for, and the packets it has prepared. */
#ifndef CORDON_BENCH_SOURCE_H
#define CORDON_BENCH_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

/* Starts of frames in the array are multiples of this, so that its lines are read one after the other. */
#define FRAME_ALIGN 16
/* Longest frame, without FCS. */
#define FRAME_MAX 1514
/* Bytes of the FCS: sizes are named as on the wire, a frame in memory is shorter by it. */
#define FCS 4

enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_MIXED, PROTOCOL_SYN };

/* Traffic as device arguments describe it. */
struct recipe {
    bool outside;    /* packets come from the internet, else from servers */
    bool idle;       /* nothing is ever received */
    bool fresh;      /* every packet has an external address of its own, also in the next round */
    bool ipv6;
    bool imix;       /* 7 frames of 64, 4 of 594, 1 of 1,518 bytes */
    bool one_queue;  /* only the first queue ever receives */
    uint16_t vlan;   /* tag, 0 for none */
    uint16_t frame;  /* bytes on the wire; headers that need more get more */
    uint32_t hosts;  /* servers */
    uint32_t flows;  /* for each server */
    uint32_t packets; /* in the array */
    uint32_t rate;   /* packets a second, over all queues; 0: as many as are asked for */
    enum protocol protocol;
    char gauge[128]; /* file of the latency of what is sent; empty for none */
};

/* A frame of the array. */
struct entry {
    uint32_t at;       /* its start in units of FRAME_ALIGN */
    uint16_t length;   /* bytes */
    uint16_t external; /* offset of the external address's last four bytes */
};

/* The array: frames one behind the other in the order in which they are received. */
struct load {
    struct entry *entries;
    uint8_t *bytes;
    uint32_t count;
};

/* Latencies in TSC ticks, counted in bins: 32 of one tick, then 32 for each power of two. Shared with who reads it. */
#define GAUGE_STEPS 32
#define GAUGE_BINS 1184
struct gauge {
    uint64_t bins[GAUGE_BINS];
};

/* The file's counters, zero at first; NULL and a line on stderr when it cannot be had. */
struct gauge *gauge_open(const char *path);
void gauge_close(struct gauge *g);
void gauge_note(struct gauge *g, uint64_t ticks);

/* Reads "key=value,..." into `r`, which gets defaults first. Negative errno, and a line on stderr, for what is wrong. */
int recipe_parse(const char *arguments, struct recipe *r);

/* Prepares the packets. The two sides of a wire get the same flows, with source and destination exchanged. */
int load_make(const struct recipe *r, int numa_node, struct load *l);
void load_free(struct load *l);

#endif
