/* udp_io: datagrams in and out. Those of one size and to one address that follow each other leave
 * as a train: one message that the kernel, or the network card, cuts (UDP_SEGMENT); and the kernel
 * may hand such a train over as it came (UDP_GRO). A class's datagrams never wait behind those of
 * another in one kernel queue: the paper's worst defect (5.3) was repairs that shared the tokens'
 * class. */
#include <assert.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include "log.h"
#include "udp_internal.h"

#define TRAIN_MAX 64           /* datagrams */
#define TRAIN_BYTES_MAX 65493u /* with more the kernel would cut it in software */

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

/* How long the datagrams of a train are, its last one perhaps less; 0: it is a single one. */
static size_t segment_bytes(struct msghdr *m)
{
    int bytes = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&bytes, CMSG_DATA(c), sizeof(bytes));
    }
    return bytes > 0 ? (size_t)bytes : 0;
}

struct receiving {
    struct udp *udp;
    enum net_class net;
    udp_each *each;
    void *ctx;
};

/* One message of the kernel: a datagram, or a train. Returns how many datagrams. */
static unsigned take(const struct receiving *r, const struct mmsghdr *m, size_t segment,
                     struct buf *landing)
{
    const uint8_t *at = m->msg_hdr.msg_iov->iov_base;
    size_t left = m->msg_len;
    unsigned count = 0;

    if (segment == 0 || segment > left)
        segment = left;
    do {
        size_t bytes = left < segment ? left : segment;

        count++;
        if (bytes > WIRE_DATAGRAM_MAX)
            r->udp->counters.drop_long++;
        else if (faulty(r->udp))
            r->udp->counters.drop_fault++;
        else
            r->each(r->ctx, r->net, at, bytes, landing);
        at += bytes;
        left -= bytes;
    } while (left > 0);
    return count;
}

static int receive_call(struct udp *u, enum udp_socket socket, unsigned messages)
{
    bool gro = udp_kinds[socket].gro;

    for (unsigned i = 0; i < messages; i++) {
        u->iov[i] = gro ? (struct iovec){u->landing[i]->data, UDP_TRAIN_BYTES}
                        : (struct iovec){u->buffers + i * UDP_SINGLE_BYTES, UDP_SINGLE_BYTES};
        u->headers[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &u->iov[i], .msg_iovlen = 1}};
        if (gro) {
            u->headers[i].msg_hdr.msg_control = u->control[i].bytes;
            u->headers[i].msg_hdr.msg_controllen = sizeof(u->control[i]);
        }
    }
    u->counters.recv_calls++;
    return recvmmsg(u->fd[socket], u->headers, messages, MSG_DONTWAIT, NULL);
}

unsigned udp_receive(struct udp *u, enum udp_socket socket, udp_each *each, void *ctx,
                     bool *ret_more)
{
    enum net_class net = udp_kinds[socket].net;
    uint64_t *const in[NET_CLASSES] = {&u->counters.in_control, &u->counters.in_repair,
                                       &u->counters.in_data};
    const struct receiving r = {u, net, each, ctx};
    bool gro = udp_kinds[socket].gro;
    unsigned messages = !gro ? UDP_BATCH : u->full_trains ? UDP_TRAINS_FULL : UDP_TRAINS;
    unsigned count = 0, full = 0;
    int n = receive_call(u, socket, messages);

    *ret_more = n == (int)messages;
    if (n < 0) {
        u->counters.recv_errors += errno != EAGAIN && errno != EINTR;
        return 0;
    }
    for (int i = 0; i < n; i++) {
        bool keep = gro && u->headers[i].msg_len >= UDP_TRAIN_KEPT;

        full += keep;
        count += take(&r, &u->headers[i], segment_bytes(&u->headers[i].msg_hdr),
                      keep ? u->landing[i] : NULL);
        if (keep && u->landing[i]->refs > 1) {
            buf_unref(u->landing[i]);
            u->landing[i] = buf_pool_get(u->pool, UDP_TRAIN_BYTES);
        }
    }
    if (gro)
        u->full_trains = full > 0;
    *in[net] += count;
    return count;
}

/* ---- sending */

static uint32_t bytes_of(const struct udp_slot *slot)
{
    return slot->head_bytes + slot->body_bytes;
}

/* How many of the slots from `first` on make a train: all of one size, but that the last may be
 * shorter, to one address. */
static unsigned train_length(const struct udp *u, const struct udp_batch *b, unsigned first)
{
    const struct udp_slot *head = &b->slots[first];
    uint32_t size = bytes_of(head), total = size;
    unsigned n = 1;

    if (b->no_trains || u->fragments || size == 0)
        return 1;
    while (first + n < b->count && n < TRAIN_MAX) {
        const struct udp_slot *slot = &b->slots[first + n];

        if (slot->address != head->address || bytes_of(slot) > size || bytes_of(slot) == 0 ||
            total + bytes_of(slot) > TRAIN_BYTES_MAX)
            break;
        total += bytes_of(slot);
        n++;
        if (bytes_of(slot) < size)
            break;
    }
    return n;
}

/* One more piece, or more of the last one when it lies behind that. Returns how many pieces. */
static size_t add_piece(struct iovec *iov, size_t n, const uint8_t *at, size_t bytes)
{
    if (n > 0 && (const uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == at) {
        iov[n - 1].iov_len += bytes;
        return n;
    }
    iov[n] = (struct iovec){(void *)(uintptr_t)at, bytes}; /* sendmmsg only reads what is there */
    return n + 1;
}

/* Pieces of the slots, head and body of each. Returns how many. */
static size_t fill_iov(struct iovec *iov, const struct udp_slot *slots, unsigned count)
{
    size_t n = 0;

    for (unsigned i = 0; i < count; i++) {
        n = add_piece(iov, n, slots[i].head, slots[i].head_bytes);
        if (slots[i].body_bytes > 0)
            n = add_piece(iov, n, slots[i].body, slots[i].body_bytes);
    }
    return n;
}

static void ask_to_cut(struct msghdr *m, struct udp_control *control, uint32_t segment)
{
    uint16_t bytes = (uint16_t)segment;

    m->msg_control = control->bytes;
    m->msg_controllen = CMSG_SPACE(sizeof(bytes));
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(bytes));
    memcpy(CMSG_DATA(c), &bytes, sizeof(bytes));
}

/* What waits, as messages for the kernel. Returns how many. */
static unsigned prepare(struct udp *u, const struct udp_batch *b, enum net_class net)
{
    unsigned n = 0;
    struct iovec *iov = u->iov;

    for (unsigned i = b->first; i < b->count; i += u->trains[n++]) {
        struct msghdr *m = &u->headers[n].msg_hdr;

        u->trains[n] = train_length(u, b, i);
        u->to[n] = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)(u->config.port + net)),
            .sin_addr.s_addr = htonl(b->slots[i].address),
        };
        *m =
            (struct msghdr){.msg_name = &u->to[n], .msg_namelen = sizeof(u->to[n]), .msg_iov = iov};
        m->msg_iovlen = fill_iov(iov, &b->slots[i], u->trains[n]);
        iov += m->msg_iovlen;
        if (u->trains[n] > 1)
            ask_to_cut(m, &u->control[n], bytes_of(&b->slots[i]));
    }
    return n;
}

static void release(struct udp_batch *b, unsigned count)
{
    for (unsigned i = b->first; i < b->first + count; i++)
        buf_unref(b->slots[i].body_ref);
    b->first += count;
    if (b->first == b->count) {
        b->first = b->count = 0;
        b->heads_bytes = 0;
    }
}

void udp_forget(struct udp_batch *b)
{
    release(b, b->count - b->first);
}

/* An error concerns the first message only. What can be mended is tried again; otherwise it is
 * lost: a firewall (EPERM) or a missing route is no different from the network's own losses. */
static void failed(struct udp *u, struct udp_batch *b, unsigned train)
{
    int error = errno;

    if (error == EINTR)
        return;
    if (error == EAGAIN) {
        u->counters.send_full++;
        b->blocked = true;
    } else if (error == EMSGSIZE && !u->fragments) {
        udp_look_at_mtu(u);
        udp_allow_fragments(u, true); /* of a route, then */
    } else if (train > 1 && (error == EINVAL || error == EIO || error == EOPNOTSUPP)) {
        udp_look_at_mtu(u); /* with one that is too small for its datagrams a train is not cut */
        b->no_trains = !u->fragments;
        if (b->no_trains)
            log_notice("interface %s: the kernel sends no trains of datagrams (%s)", u->interface,
                       strerror(error));
    } else {
        u->counters.send_too_big += error == EMSGSIZE ? train : 0;
        u->counters.send_errors += error != EMSGSIZE ? train : 0;
        release(b, train);
    }
}

/* Sends what the socket takes. */
static void send_batch(struct udp *u, enum net_class net)
{
    uint64_t *const out[NET_CLASSES] = {&u->counters.out_control, &u->counters.out_repair,
                                        &u->counters.out_data};
    struct udp_batch *b = &u->out[net];

    b->blocked = false;
    while (b->count > 0 && !b->blocked) {
        unsigned messages = prepare(u, b, net), datagrams = 0;
        int n = sendmmsg(u->fd[udp_sender(net)], u->headers, messages, 0);

        u->counters.send_calls++;
        if (n <= 0) {
            failed(u, b, u->trains[0]);
            continue;
        }
        for (int i = 0; i < n; i++) {
            datagrams += u->trains[i];
            u->counters.out_trains += u->trains[i] > 1;
        }
        *out[net] += datagrams;
        release(b, datagrams);
    }
}

int udp_room(const struct udp *u)
{
    int lowest = -1;

    for (unsigned net = 0; net < NET_CLASSES; net++) {
        if (u->out[net].blocked || u->out[net].count == UDP_OUT_MAX)
            break;
        lowest = (int)net;
    }
    return lowest;
}

bool udp_put(struct udp *u, struct datagram *d)
{
    struct udp_batch *b = &u->out[d->net];
    bool one_piece = d->head_room != NULL;
    uint8_t *head = one_piece ? d->head_room : b->heads + b->heads_bytes;

    assert(!b->blocked);
    assert(b->count < UDP_OUT_MAX);
    assert(d->head_bytes <= WIRE_CONTROL_MAX);
    memcpy(head, d->head, d->head_bytes);
    if (!one_piece)
        b->heads_bytes += d->head_bytes;
    b->slots[b->count] =
        (struct udp_slot){.address = d->address,
                          .head = head,
                          .head_bytes = d->head_bytes + (one_piece ? d->body_bytes : 0),
                          .body_bytes = one_piece ? 0 : d->body_bytes,
                          .body = d->body,
                          .body_ref = d->body_ref};
    u->counters.send_fragmented +=
        u->fragments && d->head_bytes + d->body_bytes + UDP_HEADERS_BYTES > u->mtu;
    if (++b->count < UDP_OUT_MAX)
        return false;
    send_batch(u, d->net);
    return true;
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
    static const enum udp_socket senders[NET_CLASSES] = {UDP_CONTROL, UDP_REPAIR, UDP_DATA};
    return senders[net];
}
