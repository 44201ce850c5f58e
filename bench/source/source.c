/* net_source: an Ethernet device that receives prepared traffic as fast as it is polled, and discards what is sent.
 *
 * The fair source for comparing forwarders on many flows: receiving copies a frame from an array that is read from
 * front to end, so that it costs the same whether 512 or a million packets are prepared, and whoever polls gets
 * buffers whose headers are in the cache, as from a NIC with direct cache access. Sending gives buffers back in bulk.
 *
 * With a rate, packets arrive by the clock and wait in a ring of RING places; with a gauge, how long each was on its way
 * from its arrival to its sending is counted.
 *
 * A queue has one poller (ethdev's rule); counters are written by it and read by anyone.
 */
#include <errno.h>
#include <stdio.h>

#include <ethdev_driver.h>
#include <ethdev_vdev.h>
#include <bus_vdev_driver.h>
#include <rte_cycles.h>
#include <rte_malloc.h>
#include <rte_mbuf_dyn.h>
#include <rte_memcpy.h>

#include "source.h"

#define QUEUES_MAX 64
/* Packets that wait at most, as in a NIC's receive ring. */
#define RING 1024
/* Fractional bits of times in paced queues. */
#define FRACTION 8

struct rx_queue {
    struct rte_mempool *pool;
    const struct load *load;
    uint32_t begin, end; /* its part of the array */
    uint32_t next;
    uint16_t round; /* times it came to the end */
    uint16_t port;
    bool idle, fresh;
    uint64_t packets, bytes, no_buffer;
    /* Paced queues: TSC ticks between packets, and when the next one arrives; with FRACTION bits. */
    uint64_t interval, arrival;
    uint64_t missed;
    int stamp; /* where in an mbuf its arrival is written, negative for nowhere */
} __rte_cache_aligned;

struct tx_queue {
    uint64_t packets, bytes;
    struct gauge *gauge;
    int stamp;
} __rte_cache_aligned;

struct source {
    struct recipe recipe;
    struct load load;
    struct rte_ether_addr mac;
    struct gauge *gauge;
    int stamp;
    struct rx_queue rx[QUEUES_MAX];
    struct tx_queue tx[QUEUES_MAX];
};

static inline uint16_t ones_complement_add(uint16_t a, uint16_t b)
{
    const uint32_t sum = (uint32_t)a + b;
    return (uint16_t)(sum + (sum >> 16));
}

/* Another external address in every round, in 64.0.0.0/2 as before: what one half gains the other loses, so that checksums
 * stay right. */
static inline void renumber(uint8_t *address, uint16_t round)
{
    uint16_t half[2];
    memcpy(half, address, sizeof(half));
    const uint16_t before = half[0];
    half[0] = rte_cpu_to_be_16(0x4000 | ((rte_be_to_cpu_16(before) + round) & 0x3fff));
    half[1] = ones_complement_add(half[1], ones_complement_add(before, (uint16_t)~half[0]));
    memcpy(address, half, sizeof(half));
}

/* How many of `n` packets have arrived by now; what the ring could not hold is lost. */
static uint16_t arrived(struct rx_queue *q, uint16_t n)
{
    const uint64_t now = rte_rdtsc() << FRACTION;
    if (q->arrival == 0)
        q->arrival = now;
    if (now < q->arrival)
        return 0;
    const uint64_t waiting = (now - q->arrival) / q->interval + 1;
    if (waiting > RING) {
        q->missed += waiting - RING;
        q->arrival += (waiting - RING) * q->interval;
    }
    return RTE_MIN((uint64_t)n, waiting);
}

static inline uint64_t *stamp_of(struct rte_mbuf *m, int stamp)
{
    return RTE_MBUF_DYNFIELD(m, stamp, uint64_t *);
}

static uint16_t receive(void *queue, struct rte_mbuf **packets, uint16_t n)
{
    struct rx_queue *q = queue;
    uint64_t bytes = 0;

    if (q->idle)
        return 0;
    if (q->interval != 0) {
        n = arrived(q, n);
        if (n == 0)
            return 0;
    }
    if (rte_pktmbuf_alloc_bulk(q->pool, packets, n) != 0) {
        q->no_buffer += n;
        return 0;
    }
    for (uint16_t i = 0; i < n; i++) {
        struct rte_mbuf *m = packets[i];
        if (q->next == q->end) {
            q->next = q->begin;
            q->round++;
        }
        const struct entry *e = &q->load->entries[q->next++];
        uint8_t *to = rte_pktmbuf_mtod(m, uint8_t *);
        rte_memcpy(to, q->load->bytes + (size_t)e->at * FRAME_ALIGN, e->length);
        if (q->fresh)
            renumber(to + e->external, q->round);
        m->data_len = e->length;
        m->pkt_len = e->length;
        m->port = q->port;
        bytes += e->length;
        if (q->interval != 0) {
            if (q->stamp >= 0)
                *stamp_of(m, q->stamp) = q->arrival >> FRACTION;
            q->arrival += q->interval;
        }
    }
    q->packets += n;
    q->bytes += bytes;
    return n;
}

static uint16_t transmit(void *queue, struct rte_mbuf **packets, uint16_t n)
{
    struct tx_queue *q = queue;
    uint64_t bytes = 0;

    for (uint16_t i = 0; i < n; i++)
        bytes += packets[i]->pkt_len;
    if (q->gauge != NULL) {
        const uint64_t now = rte_rdtsc();
        for (uint16_t i = 0; i < n; i++)
            gauge_note(q->gauge, now - *stamp_of(packets[i], q->stamp));
    }
    rte_pktmbuf_free_bulk(packets, n);
    q->packets += n;
    q->bytes += bytes;
    return n;
}

static int configure(struct rte_eth_dev *dev __rte_unused)
{
    return 0;
}

static int start(struct rte_eth_dev *dev)
{
    dev->data->dev_link.link_status = RTE_ETH_LINK_UP;
    return 0;
}

static int stop(struct rte_eth_dev *dev)
{
    dev->data->dev_link.link_status = RTE_ETH_LINK_DOWN;
    return 0;
}

static int close_device(struct rte_eth_dev *dev)
{
    struct source *s = dev->data->dev_private;
    load_free(&s->load);
    gauge_close(s->gauge);
    s->gauge = NULL;
    dev->data->mac_addrs = NULL; /* part of dev_private */
    return 0;
}

static int infos(struct rte_eth_dev *dev __rte_unused, struct rte_eth_dev_info *info)
{
    info->max_mac_addrs = 1;
    info->max_rx_pktlen = FRAME_MAX;
    info->min_mtu = RTE_ETHER_MIN_MTU;
    info->max_mtu = RTE_ETHER_MTU;
    info->max_rx_queues = QUEUES_MAX;
    info->max_tx_queues = QUEUES_MAX;
    info->tx_offload_capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    return 0;
}

static int rx_setup(struct rte_eth_dev *dev, uint16_t index, uint16_t descriptors __rte_unused,
                    unsigned int node __rte_unused, const struct rte_eth_rxconf *conf __rte_unused,
                    struct rte_mempool *pool)
{
    struct source *s = dev->data->dev_private;
    struct rx_queue *q = &s->rx[index];
    const uint64_t count = s->load.count;

    if (rte_pktmbuf_data_room_size(pool) < RTE_PKTMBUF_HEADROOM + FRAME_MAX)
        return -EINVAL;
    *q = (struct rx_queue){
        .pool = pool,
        .load = &s->load,
        /* Both sides hold the same flows in the same order: a flow meets its answers on one queue. */
        .begin = (uint32_t)(count * index / dev->data->nb_rx_queues),
        .end = (uint32_t)(count * (index + 1u) / dev->data->nb_rx_queues),
        .port = dev->data->port_id,
        .idle = s->recipe.idle || (s->recipe.one_queue && index != 0),
        .stamp = s->stamp,
        .fresh = s->recipe.fresh,
    };
    q->next = q->begin;
    if (s->recipe.rate != 0)
        q->interval = (rte_get_tsc_hz() << FRACTION) * dev->data->nb_rx_queues / s->recipe.rate;
    dev->data->rx_queues[index] = q;
    return q->begin < q->end ? 0 : -EINVAL;
}

static int tx_setup(struct rte_eth_dev *dev, uint16_t index, uint16_t descriptors __rte_unused,
                    unsigned int node __rte_unused, const struct rte_eth_txconf *conf __rte_unused)
{
    struct source *s = dev->data->dev_private;
    s->tx[index] = (struct tx_queue){ .gauge = s->gauge, .stamp = s->stamp };
    dev->data->tx_queues[index] = &s->tx[index];
    return 0;
}

static int stats(struct rte_eth_dev *dev, struct rte_eth_stats *to)
{
    const struct source *s = dev->data->dev_private;
    for (unsigned int i = 0; i < QUEUES_MAX; i++) {
        to->imissed += s->rx[i].missed;
        to->ipackets += s->rx[i].packets;
        to->ibytes += s->rx[i].bytes;
        to->rx_nombuf += s->rx[i].no_buffer;
        to->opackets += s->tx[i].packets;
        to->obytes += s->tx[i].bytes;
    }
    return 0;
}

static int link_as_it_is(struct rte_eth_dev *dev __rte_unused, int wait __rte_unused)
{
    return 0;
}

static int agreed(struct rte_eth_dev *dev __rte_unused)
{
    return 0;
}

static const struct eth_dev_ops operations = {
    .dev_configure = configure,
    .dev_start = start,
    .dev_stop = stop,
    .dev_close = close_device,
    .dev_infos_get = infos,
    .rx_queue_setup = rx_setup,
    .tx_queue_setup = tx_setup,
    .stats_get = stats,
    .link_update = link_as_it_is,
    .promiscuous_enable = agreed,
    .promiscuous_disable = agreed,
    .allmulticast_enable = agreed,
    .allmulticast_disable = agreed,
};

static int probe(struct rte_vdev_device *vdev)
{
    struct recipe recipe;
    int code = recipe_parse(rte_vdev_device_args(vdev), &recipe);
    if (code != 0)
        return code;
    struct rte_eth_dev *dev = rte_eth_vdev_allocate(vdev, sizeof(struct source));
    if (dev == NULL)
        return -ENOMEM;
    struct source *s = dev->data->dev_private;
    s->recipe = recipe;
    s->mac = (struct rte_ether_addr){ { 2, 0xfe, 0, 0, 0, (uint8_t)dev->data->port_id } };
    s->stamp = -1;
    if (recipe.gauge[0] != '\0') {
        s->gauge = gauge_open(recipe.gauge);
        if (s->gauge == NULL || rte_mbuf_dyn_rx_timestamp_register(&s->stamp, NULL) != 0) {
            rte_eth_dev_release_port(dev);
            return -EIO;
        }
    }
    code = load_make(&s->recipe, vdev->device.numa_node, &s->load);
    if (code != 0) {
        fprintf(stderr, "net_source: no memory for %u packets\n", recipe.packets);
        rte_eth_dev_release_port(dev);
        return code;
    }
    dev->data->mac_addrs = &s->mac;
    dev->data->dev_link = (struct rte_eth_link){
        .link_speed = RTE_ETH_SPEED_NUM_100G,
        .link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
        .link_autoneg = RTE_ETH_LINK_FIXED,
        .link_status = RTE_ETH_LINK_DOWN,
    };
    dev->dev_ops = &operations;
    dev->rx_pkt_burst = receive;
    dev->tx_pkt_burst = transmit;
    rte_eth_dev_probing_finish(dev);
    return 0;
}

static int forget(struct rte_vdev_device *vdev)
{
    struct rte_eth_dev *dev = rte_eth_dev_allocated(rte_vdev_device_name(vdev));
    if (dev == NULL)
        return 0; /* closed already */
    close_device(dev);
    return rte_eth_dev_release_port(dev);
}

static struct rte_vdev_driver driver = { .probe = probe, .remove = forget };

RTE_PMD_REGISTER_VDEV(net_source, driver);
RTE_PMD_REGISTER_PARAM_STRING(net_source, "side=inside|outside idle=0|1 fresh=0|1 ipv6=0|1 protocol=tcp|udp|mixed|syn "
                                          "hosts=N flows=N packets=N vlan=TAG frame=BYTES|imix rate=PPS gauge=FILE "
                                          "one_queue=0|1");
