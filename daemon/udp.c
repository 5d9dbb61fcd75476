/* udp: see udp.h. A class's datagrams never wait behind those of another in one kernel queue: the
 * paper's worst defect (5.3) was repairs that shared the tokens' class. */
#include "udp.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "log.h"
#define PROC_ROUTE "/proc/net/route"
#define BUFFER_BYTES 9216 /* one that is longer than any of ours is seen as such */
#define ROUTE_UP 1u
#define MULTICAST_NET 0xe0000000u
#define MULTICAST_MASK 0xf0000000u
#define HEADERS_BYTES 28 /* IP and UDP */

/* Where each socket belongs. */
static const struct {
    enum net_class net;
    bool group;
    int rcvbuf; /* bytes asked for */
} kinds[UDP_SOCKETS] = {
    [UDP_CONTROL] = {NET_CONTROL, false, 4 << 20},
    [UDP_CONTROL_GROUP] = {NET_CONTROL, true, 4 << 20},
    [UDP_REPAIR] = {NET_REPAIR, false, 8 << 20},
    [UDP_REPAIR_GROUP] = {NET_REPAIR, true, 8 << 20},
    [UDP_DATA] = {NET_DATA, false, 0},
    [UDP_DATA_GROUP] = {NET_DATA, true, 32 << 20},
};

static const enum udp_socket senders[NET_CLASSES] = {UDP_CONTROL, UDP_REPAIR, UDP_DATA};

/* A datagram that waits for its socket. */
struct slot {
    struct sockaddr_in to;
    uint32_t head_bytes, body_bytes;
    const uint8_t *body;
    struct buf *body_ref; /* ours; NULL: none */
    uint8_t head[WIRE_CONTROL_MAX];
};

/* What one sending socket still has to send: slots first .. count - 1. */
struct batch {
    unsigned first, count;
    bool blocked;
    struct slot slots[UDP_BATCH];
};

struct udp {
    int fd[UDP_SOCKETS];
    int lock; /* an abstract name that says that the address is taken */
    char interface[IF_NAMESIZE];
    int ifindex;
    bool loopback;
    uint32_t address, listening;
    uint32_t mtu, mtu_at_start;
    bool fragments; /* the kernel may make some */
    uint64_t rcvbuf;
    struct udp_config config; /* its strings are gone */
    uint64_t fault_below, random;
    struct udp_counters counters;
    struct batch out[NET_CLASSES];
    struct mmsghdr headers[UDP_BATCH];
    struct iovec iov[2 * UDP_BATCH];
    uint8_t *buffers; /* UDP_BATCH of BUFFER_BYTES */
};

static int fail(int error, char *text, size_t bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(int error, char *text, size_t bytes, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(text, bytes, format, args);
    va_end(args);
    return error;
}

/* ---- which interface, which address */

/* The interface of the default route of least metric or, when there is none, of that to
 * 224.0.0.0/4. */
static bool find_route(char ret_interface[IF_NAMESIZE])
{
    char line[256], name[IF_NAMESIZE];
    unsigned destination, gateway, flags, metric, mask;
    unsigned best = UINT32_MAX;
    bool found = false, found_default = false;
    FILE *f = fopen(PROC_ROUTE, "re");

    while (f && fgets(line, sizeof(line), f)) {
        bool is_default, is_multicast;

        if (sscanf(line, "%15s %x %x %x %*d %*d %u %x", name, &destination, &gateway, &flags,
                   &metric, &mask) != 6 ||
            !(flags & ROUTE_UP))
            continue;
        is_default = destination == 0 && mask == 0;
        is_multicast = ntohl(destination) == MULTICAST_NET && ntohl(mask) == MULTICAST_MASK;
        if (is_default ? found_default && metric >= best : !is_multicast || found_default)
            continue;
        strcpy(ret_interface, name);
        best = metric;
        found = true;
        found_default = is_default;
    }
    if (f)
        fclose(f);
    return found;
}

static uint32_t ipv4_of(const struct sockaddr *sa)
{
    return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr);
}

/* Whether the interface has the address; a loopback one has its whole network. */
static bool has_address(const struct ifaddrs *i, uint32_t address)
{
    uint32_t own = ipv4_of(i->ifa_addr);
    uint32_t mask = i->ifa_netmask ? ipv4_of(i->ifa_netmask) : UINT32_MAX;

    return own == address || (i->ifa_flags & IFF_LOOPBACK && (own & mask) == (address & mask));
}

/* The first entry that fits what is set: an interface's name, an address, or both. */
static const struct ifaddrs *find_interface(const struct ifaddrs *all, const char *name,
                                            uint32_t address)
{
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP))
            continue;
        if (name[0] && strcmp(i->ifa_name, name) != 0)
            continue;
        if (address == 0 || has_address(i, address))
            return i;
    }
    return NULL;
}

static int choose_interface(struct udp *u, char *error, size_t bytes)
{
    char name[IF_NAMESIZE] = "";
    const struct ifaddrs *chosen;
    struct ifaddrs *all;
    struct in_addr in = {htonl(u->config.address)};

    if (strlen(u->config.interface) >= IF_NAMESIZE)
        return fail(-ENODEV, error, bytes, "interface %s: its name is too long",
                    u->config.interface);
    strcpy(name, u->config.interface);
    if (!name[0] && u->config.address == 0 && !find_route(name))
        return fail(-ENODEV, error, bytes,
                    "there is no default route and none to 224.0.0.0/4: set `interface` or "
                    "`address`");
    if (getifaddrs(&all) < 0)
        return fail(-errno, error, bytes, "cannot list the interfaces: %s", strerror(errno));
    chosen = find_interface(all, name, u->config.address);
    if (chosen) {
        snprintf(u->interface, sizeof(u->interface), "%s", chosen->ifa_name);
        u->loopback = chosen->ifa_flags & IFF_LOOPBACK;
        u->address = u->config.address ? u->config.address : ipv4_of(chosen->ifa_addr);
    }
    freeifaddrs(all);
    if (chosen)
        return 0;
    if (u->config.address == 0)
        return fail(-ENODEV, error, bytes, "interface %s: it is not up or has no IPv4 address",
                    name);
    if (name[0])
        return fail(-EADDRNOTAVAIL, error, bytes, "address %s: interface %s does not have it",
                    inet_ntoa(in), name);
    return fail(-EADDRNOTAVAIL, error, bytes, "address %s: no interface that is up has it",
                inet_ntoa(in));
}

static int read_interface(struct udp *u, char *error, size_t bytes)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return fail(-errno, error, bytes, "cannot make a socket: %s", strerror(errno));
    strcpy(request.ifr_name, u->interface);
    rc = ioctl(fd, SIOCGIFMTU, &request);
    u->mtu = u->mtu_at_start = (uint32_t)request.ifr_mtu;
    if (rc == 0)
        rc = ioctl(fd, SIOCGIFINDEX, &request);
    u->ifindex = request.ifr_ifindex;
    close(fd);
    if (rc < 0)
        return fail(-errno, error, bytes, "interface %s: %s", u->interface, strerror(errno));
    if (u->mtu < WIRE_DATAGRAM_MIN + HEADERS_BYTES)
        return fail(-EINVAL, error, bytes, "interface %s: an MTU of %" PRIu32 " is too small",
                    u->interface, u->mtu);
    return 0;
}

/* ---- the sockets */

/* All our sockets bind with SO_REUSEADDR, as those bound to ANY must share the port with the
 * unicast ones; so it takes something else to notice that two daemons were given the same address.
 */
static int lock_address(struct udp *u, char *error, size_t bytes)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct in_addr in = {htonl(u->address)};
    int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "qsmd/%s:%u", inet_ntoa(in),
                     u->config.port);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);

    u->lock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (u->lock >= 0 && bind(u->lock, (struct sockaddr *)&name, length) == 0)
        return 0;
    if (errno == EADDRINUSE)
        return fail(-EADDRINUSE, error, bytes, "another qsmd has address %s and port %u",
                    inet_ntoa(in), u->config.port);
    return fail(-errno, error, bytes, "cannot claim address %s: %s", inet_ntoa(in),
                strerror(errno));
}

/* A multicast socket is bound to ANY and would get unicast datagrams to any address of the host on
 * which nobody listens: the kernel is told to drop those. The data sender gets none at all. */
static int set_filter(int fd, enum udp_socket socket)
{
    struct sock_filter only_multicast[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 16), /* destination */
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MULTICAST_MASK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MULTICAST_NET, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {sizeof(only_multicast) / sizeof(only_multicast[0]),
                                 only_multicast};

    if (socket == UDP_DATA)
        program = (struct sock_fprog){1, nothing};
    else if (!kinds[socket].group)
        return 0;
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int set_options(struct udp *u, int fd)
{
    struct in_addr in = {htonl(u->address)};
    struct ip_mreqn via = {.imr_address = in, .imr_ifindex = u->ifindex};
    const struct {
        int level, name, value;
        bool may_fail;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1, false},
        {IPPROTO_IP, IP_MULTICAST_ALL, 0, false},
        {IPPROTO_IP, IP_MULTICAST_TTL, u->config.ttl, false},
        {IPPROTO_IP, IP_MULTICAST_LOOP, u->loopback, false},
        {IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, false},
        {SOL_UDP, UDP_GRO, 0, true}, /* older kernels do not know it */
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int)) < 0 &&
            !options[i].may_fail)
            return -1;
    }
    return setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof(via));
}

/* Asks for a receive buffer; returns the payload bytes granted: the kernel doubles what it is asked
 * for, to pay for its own bookkeeping. */
static uint64_t set_rcvbuf(int fd, int bytes)
{
    int granted = 0;
    socklen_t length = sizeof(granted);

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &length);
    return granted > 0 ? (uint64_t)granted / 2 : 0;
}

static int open_socket(struct udp *u, enum udp_socket s, char *error, size_t bytes)
{
    uint16_t port = (uint16_t)(u->config.port + kinds[s].net);
    struct sockaddr_in name = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(kinds[s].group ? INADDR_ANY : u->address),
    };

    u->fd[s] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (u->fd[s] < 0)
        return fail(-errno, error, bytes, "cannot make a socket: %s", strerror(errno));
    if (set_options(u, u->fd[s]) < 0 || set_filter(u->fd[s], s) < 0)
        return fail(-errno, error, bytes, "interface %s: cannot set up a socket: %s", u->interface,
                    strerror(errno));
    if (kinds[s].rcvbuf > 0) {
        uint64_t granted = set_rcvbuf(u->fd[s], kinds[s].rcvbuf);

        if (s == UDP_DATA_GROUP)
            u->rcvbuf = granted;
    }
    if (bind(u->fd[s], (struct sockaddr *)&name, sizeof(name)) < 0)
        return fail(-errno, error, bytes, "cannot bind UDP %s:%u: %s", inet_ntoa(name.sin_addr),
                    port, strerror(errno));
    return 0;
}

static int open_all(struct udp *u, char *error, size_t bytes)
{
    int rc = choose_interface(u, error, bytes);

    if (rc == 0)
        rc = read_interface(u, error, bytes);
    if (rc == 0)
        rc = lock_address(u, error, bytes);
    for (enum udp_socket s = 0; rc == 0 && s < UDP_SOCKETS; s++)
        rc = open_socket(u, s, error, bytes);
    return rc;
}

int udp_open(struct udp **ret, const struct udp_config *config, char *error, size_t error_bytes)
{
    struct udp *u = calloc(1, sizeof(*u));
    int rc;

    *ret = NULL;
    if (!u || !(u->buffers = malloc((size_t)UDP_BATCH * BUFFER_BYTES))) {
        free(u);
        return fail(-ENOMEM, error, error_bytes, "out of memory");
    }
    u->config = *config;
    u->lock = -1;
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++)
        u->fd[s] = -1;
    u->random = config->seed | 1;
    u->fault_below = (uint64_t)(config->fault_drop * 4294967296.0);
    rc = open_all(u, error, error_bytes);
    u->config.interface = NULL;
    if (rc < 0) {
        udp_close(u);
        return rc;
    }
    *ret = u;
    return 0;
}

void udp_close(struct udp *u)
{
    if (!u)
        return;
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++) {
        if (u->fd[s] >= 0)
            close(u->fd[s]);
    }
    if (u->lock >= 0)
        close(u->lock);
    for (unsigned net = 0; net < NET_CLASSES; net++) {
        for (unsigned i = u->out[net].first; i < u->out[net].count; i++)
            buf_unref(u->out[net].slots[i].body_ref);
    }
    free(u->buffers);
    free(u);
}

uint32_t udp_address(const struct udp *u)
{
    return u->address;
}

const char *udp_interface(const struct udp *u)
{
    return u->interface;
}

uint32_t udp_mtu(const struct udp *u)
{
    return u->mtu;
}

static void allow_fragments(struct udp *u, bool allow)
{
    int value = allow ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO;

    u->fragments = allow;
    for (enum net_class net = 0; net < NET_CLASSES; net++)
        setsockopt(u->fd[senders[net]], IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof(value));
}

void udp_look_at_mtu(struct udp *u)
{
    struct ifreq request = {0};
    uint32_t mtu, before = u->mtu;

    strcpy(request.ifr_name, u->interface);
    if (ioctl(u->fd[UDP_CONTROL], SIOCGIFMTU, &request) < 0)
        return;
    mtu = (uint32_t)request.ifr_mtu;
    if (mtu == before)
        return;
    u->mtu = mtu;
    if (mtu < u->mtu_at_start) {
        allow_fragments(u, true);
        log_warning("interface %s: its MTU fell from %" PRIu32 " to %" PRIu32
                    ": what is larger goes out in fragments, and may not reach this host at all, "
                    "until qsmd is restarted",
                    u->interface, before, mtu);
    } else if (before < u->mtu_at_start) {
        allow_fragments(u, false);
        log_notice("interface %s: its MTU is %" PRIu32 " again", u->interface, mtu);
    }
}

uint64_t udp_rcvbuf(const struct udp *u)
{
    return u->rcvbuf;
}

int udp_descriptor(const struct udp *u, enum udp_socket socket)
{
    return u->fd[socket];
}

/* ---- membership */

static int change_membership(struct udp *u, int option, uint32_t address)
{
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(address), .imr_ifindex = u->ifindex};
    int error = 0;

    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++) {
        if (kinds[s].group && setsockopt(u->fd[s], IPPROTO_IP, option, &group, sizeof(group)) < 0 &&
            error == 0)
            error = -errno;
    }
    return error;
}

int udp_listen(struct udp *u, uint32_t address)
{
    int rc = 0;

    if (address == u->listening)
        return 0;
    if (address != 0)
        rc = change_membership(u, IP_ADD_MEMBERSHIP, address);
    if (rc < 0) {
        change_membership(u, IP_DROP_MEMBERSHIP, address);
        return rc;
    }
    if (u->listening != 0)
        change_membership(u, IP_DROP_MEMBERSHIP, u->listening);
    u->listening = address;
    return 0;
}

uint32_t udp_listening(const struct udp *u)
{
    return u->listening;
}

/* ---- receiving */

/* xorshift64*: good enough to lose datagrams. */
static bool faulty(struct udp *u)
{
    if (u->fault_below == 0)
        return false;
    u->random ^= u->random >> 12;
    u->random ^= u->random << 25;
    u->random ^= u->random >> 27;
    return (u->random * 0x2545f4914f6cdd1du) >> 32 < u->fault_below;
}

unsigned udp_receive(struct udp *u, enum udp_socket socket,
                     void (*each)(void *ctx, enum net_class net, const uint8_t *data, size_t bytes),
                     void *ctx)
{
    enum net_class net = kinds[socket].net;
    uint64_t *const in[NET_CLASSES] = {&u->counters.in_control, &u->counters.in_repair,
                                       &u->counters.in_data};
    int n;

    memset(u->headers, 0, sizeof(u->headers));
    for (unsigned i = 0; i < UDP_BATCH; i++) {
        u->iov[i] = (struct iovec){u->buffers + (size_t)i * BUFFER_BYTES, BUFFER_BYTES};
        u->headers[i].msg_hdr.msg_iov = &u->iov[i];
        u->headers[i].msg_hdr.msg_iovlen = 1;
    }
    u->counters.recv_calls++;
    n = recvmmsg(u->fd[socket], u->headers, UDP_BATCH, MSG_DONTWAIT, NULL);
    if (n < 0) {
        u->counters.recv_errors += errno != EAGAIN && errno != EINTR;
        return 0;
    }
    *in[net] += (unsigned)n;
    for (int i = 0; i < n; i++) {
        if (u->headers[i].msg_len > WIRE_DATAGRAM_MAX)
            u->counters.drop_long++;
        else if (faulty(u))
            u->counters.drop_fault++;
        else
            each(ctx, net, u->iov[i].iov_base, u->headers[i].msg_len);
    }
    return (unsigned)n;
}

/* ---- sending */

static void prepare(struct udp *u, struct batch *b)
{
    for (unsigned i = b->first; i < b->count; i++) {
        struct slot *slot = &b->slots[i];
        struct iovec *iov = &u->iov[2 * i];

        iov[0] = (struct iovec){slot->head, slot->head_bytes};
        /* sendmmsg only reads what is there. */
        iov[1] = (struct iovec){(void *)(uintptr_t)slot->body, slot->body_bytes};
        u->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &slot->to,
            .msg_namelen = sizeof(slot->to),
            .msg_iov = iov,
            .msg_iovlen = slot->body_bytes ? 2 : 1,
        };
    }
}

static void release(struct batch *b, unsigned count)
{
    for (unsigned i = b->first; i < b->first + count; i++)
        buf_unref(b->slots[i].body_ref);
    b->first += count;
    if (b->first == b->count)
        b->first = b->count = 0;
}

/* Sends what the socket takes. An error concerns the first datagram only, which is lost: a firewall
 * (EPERM) or a missing route is no different from the network's own losses. */
static void send_batch(struct udp *u, enum net_class net)
{
    uint64_t *const out[NET_CLASSES] = {&u->counters.out_control, &u->counters.out_repair,
                                        &u->counters.out_data};
    struct batch *b = &u->out[net];

    if (b->count == 0)
        return;
    prepare(u, b);
    b->blocked = false;
    while (b->count > 0 && !b->blocked) {
        int n = sendmmsg(u->fd[senders[net]], u->headers + b->first, b->count - b->first, 0);

        u->counters.send_calls++;
        if (n > 0) {
            *out[net] += (unsigned)n;
            release(b, (unsigned)n);
        } else if (errno == EAGAIN) {
            u->counters.send_full++;
            b->blocked = true;
        } else if (errno == EMSGSIZE && !u->fragments) {
            udp_look_at_mtu(u);
            allow_fragments(u, true); /* of a route, then */
        } else if (errno != EINTR) {
            u->counters.send_too_big += errno == EMSGSIZE;
            u->counters.send_errors += errno != EMSGSIZE;
            release(b, 1);
        }
    }
}

int udp_room(const struct udp *u)
{
    int lowest = -1;

    for (unsigned net = 0; net < NET_CLASSES; net++) {
        if (u->out[net].blocked || u->out[net].count == UDP_BATCH)
            break;
        lowest = (int)net;
    }
    return lowest;
}

void udp_put(struct udp *u, struct datagram *d)
{
    struct batch *b = &u->out[d->net];
    struct slot *slot = &b->slots[b->count];

    assert(!b->blocked);
    assert(b->count < UDP_BATCH);
    assert(d->head_bytes <= sizeof(slot->head));
    slot->to = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)(u->config.port + d->net)),
        .sin_addr.s_addr = htonl(d->address),
    };
    slot->head_bytes = d->head_bytes;
    slot->body_bytes = d->body_bytes;
    slot->body = d->body;
    slot->body_ref = d->body_ref;
    memcpy(slot->head, d->head, d->head_bytes);
    u->counters.send_fragmented +=
        u->fragments && d->head_bytes + d->body_bytes + HEADERS_BYTES > u->mtu;
    if (++b->count == UDP_BATCH)
        send_batch(u, d->net);
}

void udp_flush(struct udp *u)
{
    for (enum net_class net = 0; net < NET_CLASSES; net++)
        send_batch(u, net);
}

bool udp_blocked(const struct udp *u, enum net_class net)
{
    return u->out[net].blocked;
}

enum udp_socket udp_sender(enum net_class net)
{
    return senders[net];
}

/* ---- counters */

/* What a filter drops counts too; on a host that is alone with its address that is nothing. */
static void read_memory(struct udp *u, enum udp_socket socket, uint32_t *ret_info)
{
    socklen_t length = SK_MEMINFO_VARS * sizeof(ret_info[0]);

    memset(ret_info, 0, length);
    if (getsockopt(u->fd[socket], SOL_SOCKET, SO_MEMINFO, ret_info, &length) < 0)
        memset(ret_info, 0, SK_MEMINFO_VARS * sizeof(ret_info[0]));
}

static uint64_t kernel_drops(struct udp *u, enum udp_socket socket)
{
    uint32_t info[SK_MEMINFO_VARS];

    read_memory(u, socket, info);
    return info[SK_MEMINFO_DROPS];
}

uint32_t udp_backlog(struct udp *u, uint64_t *ret_drops)
{
    uint32_t info[SK_MEMINFO_VARS];

    read_memory(u, UDP_DATA_GROUP, info);
    *ret_drops = info[SK_MEMINFO_DROPS];
    return info[SK_MEMINFO_RCVBUF]
               ? (uint32_t)((uint64_t)info[SK_MEMINFO_RMEM_ALLOC] * 1000 / info[SK_MEMINFO_RCVBUF])
               : 0;
}

const struct udp_counters *udp_counters(struct udp *u)
{
    u->counters.drop_control = kernel_drops(u, UDP_CONTROL) + kernel_drops(u, UDP_CONTROL_GROUP);
    u->counters.drop_repair = kernel_drops(u, UDP_REPAIR) + kernel_drops(u, UDP_REPAIR_GROUP);
    u->counters.drop_data = kernel_drops(u, UDP_DATA_GROUP);
    return &u->counters;
}
