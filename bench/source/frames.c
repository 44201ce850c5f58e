/* Prepares the packets: made once when the device appears, so that receiving is a copy. */
#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "source.h"

/* Servers are 10.0.0.0 and following, and 2001:db8:0:0::1 with the server's number in the third and fourth group. */
#define INTERNAL_V4 0x0a000000u

struct ends {
    uint32_t host;
    uint64_t external; /* random: address and port of the far end */
    uint8_t protocol;
    bool syn;
};

/* A well mixed number for each input: Fibonacci hashing with two rounds of xor and multiply. */
static uint64_t mixed(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 32)) * 0xd1342543de82ef95u;
    return x ^ (x >> 29);
}

static void swap_bytes(void *a, void *b, size_t n)
{
    uint8_t keep[16];
    memcpy(keep, a, n);
    memcpy(a, b, n);
    memcpy(b, keep, n);
}

static uint8_t *put_ethernet(const struct recipe *r, const struct ends *e, uint8_t *to)
{
    struct rte_ether_hdr *h = (struct rte_ether_hdr *)to;
    rte_be32_t host = rte_cpu_to_be_32(e->host);
    const uint16_t type = rte_cpu_to_be_16(r->ipv6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);

    /* Locally administered: 02:00 and the server's number, 02:ff:... for the router. */
    h->src_addr = (struct rte_ether_addr){ { 2, 0, 0, 0, 0, 0 } };
    memcpy(&h->src_addr.addr_bytes[2], &host, 4);
    h->dst_addr = (struct rte_ether_addr){ { 2, 0xff, 0, 0, 0, 1 } };
    if (r->outside)
        swap_bytes(&h->src_addr, &h->dst_addr, sizeof(h->src_addr));
    if (r->vlan == 0) {
        h->ether_type = type;
        return to + sizeof(*h);
    }
    struct rte_vlan_hdr *tag = (struct rte_vlan_hdr *)(h + 1);
    h->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_VLAN);
    tag->vlan_tci = rte_cpu_to_be_16(r->vlan);
    tag->eth_proto = type;
    return to + sizeof(*h) + sizeof(*tag);
}

/* Returns where the transport header begins; `far` gets the external address's last four bytes. */
static uint8_t *put_ip(const struct recipe *r, const struct ends *e, uint8_t *to, uint16_t payload, uint8_t **far)
{
    if (!r->ipv6) {
        struct rte_ipv4_hdr *h = (struct rte_ipv4_hdr *)to;
        h->version_ihl = RTE_IPV4_VHL_DEF;
        h->total_length = rte_cpu_to_be_16((uint16_t)(sizeof(*h) + payload));
        h->packet_id = (rte_be16_t)e->external;
        h->time_to_live = 64;
        h->next_proto_id = e->protocol;
        h->src_addr = rte_cpu_to_be_32(INTERNAL_V4 + e->host);
        /* 64.0.0.0/2: never a server's address. */
        h->dst_addr = rte_cpu_to_be_32(0x40000000u | (uint32_t)(e->external >> 34));
        if (r->outside)
            swap_bytes(&h->src_addr, &h->dst_addr, 4);
        h->hdr_checksum = rte_ipv4_cksum(h);
        *far = (uint8_t *)(r->outside ? &h->src_addr : &h->dst_addr);
        return to + sizeof(*h);
    }
    struct rte_ipv6_hdr *h = (struct rte_ipv6_hdr *)to;
    const rte_be32_t host = rte_cpu_to_be_32(e->host);
    h->vtc_flow = rte_cpu_to_be_32(6u << 28);
    h->payload_len = rte_cpu_to_be_16(payload);
    h->proto = e->protocol;
    h->hop_limits = 64;
    memcpy(h->src_addr, "\x20\x01\x0d\xb8", 4);
    memcpy(&h->src_addr[4], &host, 4);
    h->src_addr[15] = 1;
    /* 3fff::/20 is for documentation, as 2001:db8::/32 is (RFC 9637). */
    memcpy(h->dst_addr, "\x3f\xff", 2);
    memcpy(&h->dst_addr[4], &e->external, 4);
    memcpy(&h->dst_addr[12], &e->external, 4);
    if (r->outside)
        swap_bytes(h->src_addr, h->dst_addr, 16);
    *far = (r->outside ? h->src_addr : h->dst_addr) + 12;
    return to + sizeof(*h);
}

static void put_transport(const struct recipe *r, const struct ends *e, const void *ip, uint8_t *to, uint16_t payload)
{
    rte_be16_t ports[2] = { rte_cpu_to_be_16(443),
                            rte_cpu_to_be_16((uint16_t)(1024 + (e->external & 0x7fff))) };
    rte_be16_t sum;

    if (r->outside)
        swap_bytes(&ports[0], &ports[1], 2);
    memcpy(to, ports, sizeof(ports));
    if (e->protocol == IPPROTO_TCP) {
        struct rte_tcp_hdr *h = (struct rte_tcp_hdr *)to;
        h->data_off = sizeof(*h) / 4 << 4;
        h->tcp_flags = e->syn ? RTE_TCP_SYN_FLAG : RTE_TCP_ACK_FLAG;
        h->rx_win = rte_cpu_to_be_16(8192);
    } else {
        struct rte_udp_hdr *h = (struct rte_udp_hdr *)to;
        h->dgram_len = rte_cpu_to_be_16(payload);
    }
    sum = r->ipv6 ? rte_ipv6_udptcp_cksum(ip, to) : rte_ipv4_udptcp_cksum(ip, to);
    if (e->protocol == IPPROTO_TCP)
        ((struct rte_tcp_hdr *)to)->cksum = sum;
    else
        ((struct rte_udp_hdr *)to)->dgram_cksum = sum;
}

static uint16_t headers(const struct recipe *r, const struct ends *e)
{
    return (uint16_t)(sizeof(struct rte_ether_hdr) + (r->vlan != 0 ? sizeof(struct rte_vlan_hdr) : 0) +
                      (r->ipv6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr)) +
                      (e->protocol == IPPROTO_TCP ? sizeof(struct rte_tcp_hdr) : sizeof(struct rte_udp_hdr)));
}

static struct ends ends_of(const struct recipe *r, uint32_t i, uint32_t host)
{
    /* The number of the flow: of this packet alone, or one of the server's own. */
    const uint32_t flow = r->fresh ? i : (i / r->hosts) % r->flows;
    const uint64_t key = r->fresh ? (uint64_t)1 << 63 | flow : (uint64_t)host << 32 | flow;
    const bool udp = r->protocol == PROTOCOL_UDP || (r->protocol == PROTOCOL_MIXED && mixed(key + 1) % 4 == 0);
    return (struct ends){
        .host = host,
        .external = mixed(key),
        .protocol = udp ? IPPROTO_UDP : IPPROTO_TCP,
        .syn = r->protocol == PROTOCOL_SYN,
    };
}

static uint16_t length_of(const struct recipe *r, const struct ends *e, uint32_t i)
{
    uint16_t wire = r->frame;
    if (r->imix) {
        const uint64_t of_twelve = mixed(i) % 12;
        wire = of_twelve < 7 ? 64 : of_twelve < 11 ? 594 : 1518;
    }
    return RTE_MAX((uint16_t)(wire - FCS), headers(r, e));
}

static uint32_t units(uint16_t length)
{
    return (length + FRAME_ALIGN - 1u) / FRAME_ALIGN;
}

/* Every server as often as any other, in random order. */
static void shuffle(const struct recipe *r, uint32_t *hosts)
{
    for (uint32_t i = 0; i < r->packets; i++)
        hosts[i] = i % r->hosts;
    for (uint32_t i = r->packets - 1; i > 0; i--) {
        const uint32_t j = (uint32_t)(mixed(~(uint64_t)i) % (i + 1));
        const uint32_t keep = hosts[i];
        hosts[i] = hosts[j];
        hosts[j] = keep;
    }
}

static void put(const struct recipe *r, const struct ends *e, uint8_t *frame, struct entry *entry)
{
    uint8_t *ip = put_ethernet(r, e, frame), *far;
    const uint16_t ip_bytes = r->ipv6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
    const uint16_t room = (uint16_t)(entry->length - (ip - frame) - ip_bytes);
    /* A SYN brings no data: Ethernet pads it. */
    const uint16_t payload = e->syn ? sizeof(struct rte_tcp_hdr) : room;
    uint8_t *transport = put_ip(r, e, ip, payload, &far);
    put_transport(r, e, ip, transport, payload);
    entry->external = (uint16_t)(far - frame);
}

int load_make(const struct recipe *r, int numa_node, struct load *l)
{
    uint32_t *hosts = rte_malloc_socket(NULL, sizeof(*hosts) * r->packets, 0, numa_node);
    uint64_t at = 0;

    *l = (struct load){ .count = r->packets };
    l->entries = rte_zmalloc_socket(NULL, sizeof(*l->entries) * r->packets, RTE_CACHE_LINE_SIZE, numa_node);
    if (hosts == NULL || l->entries == NULL)
        goto full;
    shuffle(r, hosts);
    for (uint32_t i = 0; i < r->packets; i++) {
        const struct ends e = ends_of(r, i, hosts[i]);
        l->entries[i].at = (uint32_t)at;
        l->entries[i].length = length_of(r, &e, i);
        at += units(l->entries[i].length);
    }
    l->bytes = rte_zmalloc_socket(NULL, at * FRAME_ALIGN, RTE_CACHE_LINE_SIZE, numa_node);
    if (l->bytes == NULL)
        goto full;
    for (uint32_t i = 0; i < r->packets; i++) {
        const struct ends e = ends_of(r, i, hosts[i]);
        put(r, &e, l->bytes + (size_t)l->entries[i].at * FRAME_ALIGN, &l->entries[i]);
    }
    rte_free(hosts);
    return 0;
full:
    rte_free(hosts);
    load_free(l);
    return -ENOMEM;
}

void load_free(struct load *l)
{
    rte_free(l->entries);
    rte_free(l->bytes);
    *l = (struct load){ 0 };
}
