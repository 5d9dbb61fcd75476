/* udp: see udp.h. A class's datagrams never wait behind those of another in one kernel queue: the
 * paper's worst defect (5.3) was repairs that shared the tokens' class. */
#include "udp_internal.h"

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
#define ROUTE_UP 1u
#define MULTICAST_NET 0xe0000000u
#define MULTICAST_MASK 0xf0000000u

const struct udp_kind udp_kinds[UDP_SOCKETS] = {
    [UDP_CONTROL] = {NET_CONTROL, false, 4 << 20, .gro = false},
    [UDP_CONTROL_GROUP] = {NET_CONTROL, true, 4 << 20, .gro = false},
    [UDP_REPAIR] = {NET_REPAIR, false, 8 << 20, .gro = false},
    [UDP_REPAIR_GROUP] = {NET_REPAIR, true, 8 << 20, .gro = false},
    [UDP_DATA] = {NET_DATA, false, 0, .gro = false},
    [UDP_DATA_GROUP] = {NET_DATA, true, 32 << 20, .gro = true},
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
    if (u->mtu < WIRE_DATAGRAM_MIN + UDP_HEADERS_BYTES)
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
    else if (!udp_kinds[socket].group)
        return 0;
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int set_options(struct udp *u, enum udp_socket s)
{
    struct in_addr in = {htonl(u->address)};
    int fd = u->fd[s];
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
        {SOL_UDP, UDP_GRO, udp_kinds[s].gro, true}, /* older kernels do not know it */
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
    uint16_t port = (uint16_t)(u->config.port + udp_kinds[s].net);
    struct sockaddr_in name = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(udp_kinds[s].group ? INADDR_ANY : u->address),
    };

    u->fd[s] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (u->fd[s] < 0)
        return fail(-errno, error, bytes, "cannot make a socket: %s", strerror(errno));
    if (set_options(u, s) < 0 || set_filter(u->fd[s], s) < 0)
        return fail(-errno, error, bytes, "interface %s: cannot set up a socket: %s", u->interface,
                    strerror(errno));
    if (udp_kinds[s].rcvbuf > 0) {
        uint64_t granted = set_rcvbuf(u->fd[s], udp_kinds[s].rcvbuf);

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
    if (!u || !(u->buffers = malloc(UDP_LANDING_BYTES))) {
        free(u);
        return fail(-ENOMEM, error, error_bytes, "out of memory");
    }
    u->pool = buf_pool_new(UDP_TRAIN_BYTES);
    for (unsigned i = 0; i < UDP_TRAINS; i++)
        u->landing[i] = buf_pool_get(u->pool, UDP_TRAIN_BYTES);
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
        udp_forget(&u->out[net]);
    }
    for (unsigned i = 0; i < UDP_TRAINS; i++)
        buf_unref(u->landing[i]);
    buf_pool_free(u->pool);
    free(u->buffers);
    free(u);
}

void udp_trim(struct udp *u)
{
    buf_pool_trim(u->pool);
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

void udp_allow_fragments(struct udp *u, bool allow)
{
    int value = allow ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO;

    u->fragments = allow;
    for (enum net_class net = 0; net < NET_CLASSES; net++)
        setsockopt(u->fd[udp_sender(net)], IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof(value));
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
        udp_allow_fragments(u, true);
        log_warning("interface %s: its MTU fell from %" PRIu32 " to %" PRIu32
                    ": what is larger goes out in fragments, and may not reach this host at all, "
                    "until qsmd is restarted",
                    u->interface, before, mtu);
    } else if (before < u->mtu_at_start) {
        udp_allow_fragments(u, false);
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
        if (udp_kinds[s].group &&
            setsockopt(u->fd[s], IPPROTO_IP, option, &group, sizeof(group)) < 0 && error == 0)
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
    u->counters.landing_allocated = buf_pool_made(u->pool);
    return &u->counters;
}
