/* Static inline functions of DPDK as symbols that Rust can call. */
#include "wrapper.h"

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n) { return rte_eth_rx_burst(port, queue, pkts, n); }
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n) { return rte_eth_tx_burst(port, queue, pkts, n); }
int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n) { return rte_pktmbuf_alloc_bulk(pool, pkts, n); }
void shim_free_bulk(struct rte_mbuf **pkts, unsigned int n) { rte_pktmbuf_free_bulk(pkts, n); }
char *shim_append(struct rte_mbuf *m, uint16_t len) { return rte_pktmbuf_append(m, len); }
int shim_chain(struct rte_mbuf *head, struct rte_mbuf *tail) { return rte_pktmbuf_chain(head, tail); }
unsigned int shim_ring_enqueue(struct rte_ring *r, struct rte_mbuf **pkts, unsigned int n) { return rte_ring_enqueue_burst(r, (void **)pkts, n, NULL); }
unsigned int shim_ring_dequeue(struct rte_ring *r, struct rte_mbuf **pkts, unsigned int n) { return rte_ring_dequeue_burst(r, (void **)pkts, n, NULL); }
int shim_errno(void) { return rte_errno; }
