/* Device arguments. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_common.h>
#include <rte_kvargs.h>

#include "source.h"

static int wrong(const char *key, const char *value)
{
    fprintf(stderr, "net_source: %s=%s is not understood\n", key, value);
    return -EINVAL;
}

static int number(const char *key, const char *value, uint32_t least, uint32_t most, uint32_t *to)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < least || n > most)
        return wrong(key, value);
    *to = (uint32_t)n;
    return 0;
}

static int flag(const char *key, const char *value, bool *to)
{
    uint32_t n = 0;
    int code = number(key, value, 0, 1, &n);
    *to = n != 0;
    return code;
}

static int protocol(const char *key, const char *value, enum protocol *to)
{
    static const char *const names[] = { "tcp", "udp", "mixed", "syn" };
    for (unsigned int i = 0; i < RTE_DIM(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            *to = (enum protocol)i;
            return 0;
        }
    }
    return wrong(key, value);
}

static int one(const char *key, const char *value, void *to)
{
    struct recipe *r = to;
    uint32_t n = 0;
    int code = 0;

    if (strcmp(key, "side") == 0) {
        r->outside = strcmp(value, "outside") == 0;
        return r->outside || strcmp(value, "inside") == 0 ? 0 : wrong(key, value);
    }
    if (strcmp(key, "idle") == 0)
        return flag(key, value, &r->idle);
    if (strcmp(key, "fresh") == 0)
        return flag(key, value, &r->fresh);
    if (strcmp(key, "one_queue") == 0)
        return flag(key, value, &r->one_queue);
    if (strcmp(key, "rate") == 0)
        return number(key, value, 0, UINT32_MAX, &r->rate);
    if (strcmp(key, "gauge") == 0) {
        n = (uint32_t)snprintf(r->gauge, sizeof(r->gauge), "%s", value);
        return n < sizeof(r->gauge) ? 0 : wrong(key, value);
    }
    if (strcmp(key, "ipv6") == 0)
        return flag(key, value, &r->ipv6);
    if (strcmp(key, "protocol") == 0)
        return protocol(key, value, &r->protocol);
    if (strcmp(key, "hosts") == 0)
        return number(key, value, 1, 1 << 22, &r->hosts);
    if (strcmp(key, "flows") == 0)
        return number(key, value, 1, 1 << 22, &r->flows);
    if (strcmp(key, "packets") == 0)
        return number(key, value, 64, 1 << 22, &r->packets);
    if (strcmp(key, "vlan") == 0) {
        code = number(key, value, 0, 4094, &n);
        r->vlan = (uint16_t)n;
        return code;
    }
    if (strcmp(value, "imix") == 0) { /* frame=imix */
        r->imix = true;
        return 0;
    }
    code = number(key, value, 64, FRAME_MAX + FCS, &n);
    r->frame = (uint16_t)n;
    return code;
}

int recipe_parse(const char *arguments, struct recipe *r)
{
    static const char *const keys[] = { "side",  "idle",    "fresh", "ipv6",  "protocol", "hosts",
                                        "flows", "packets", "vlan",  "frame", "rate",     "one_queue",
                                        "gauge", NULL };
    *r = (struct recipe){ .frame = 64, .hosts = 1, .flows = 1, .packets = 65536, .protocol = PROTOCOL_TCP };
    struct rte_kvargs *list = rte_kvargs_parse(arguments == NULL ? "" : arguments, keys);
    if (list == NULL) {
        fprintf(stderr, "net_source: arguments \"%s\" are not understood\n", arguments);
        return -EINVAL;
    }
    int code = rte_kvargs_process(list, NULL, one, r);
    rte_kvargs_free(list);
    return code < 0 ? -EINVAL : 0;
}
