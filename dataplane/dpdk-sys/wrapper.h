/* What bindgen sees of DPDK. */
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_eth_ring.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

/* Static inline functions, compiled in shim.c. One call a burst: its cost is lost in the noise. */
uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **pkts, unsigned int n);
void shim_free_bulk(struct rte_mbuf **pkts, unsigned int n);
char *shim_append(struct rte_mbuf *m, uint16_t len);
int shim_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
unsigned int shim_ring_enqueue(struct rte_ring *r, struct rte_mbuf **pkts, unsigned int n);
unsigned int shim_ring_dequeue(struct rte_ring *r, struct rte_mbuf **pkts, unsigned int n);
int shim_errno(void);

/* Constants whose macros bindgen cannot evaluate. */
static const uint64_t SHIM_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SHIM_TX_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t SHIM_RSS_FLOWS = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
static const uint16_t SHIM_HEADROOM = RTE_PKTMBUF_HEADROOM;
