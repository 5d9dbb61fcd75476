/* baddatagrams: malformed datagrams, for the system tests.
 *   baddatagrams record FILE SECONDS   records datagrams to the ports 4810 to 4812 that pass any
 *                                      interface here, some of each port and kind
 *   baddatagrams cut FILE              sends every proper prefix of each of them to where it went
 *   baddatagrams flip FILE             sends each of them with each byte changed
 * The last two print how many they sent. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT_FIRST 4810
#define PORTS 3
#define KINDS 16
#define KIND_AT 5  /* byte of a datagram that says its kind */
#define EACH_MAX 6 /* recorded of one port and kind */
#define BURST 32   /* sent before the receiver gets a moment */
#define DATAGRAM_MAX 9000

struct datagram {
    struct in_addr to;
    uint16_t port, bytes;
};

static int fail(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- record */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The payload of an IPv4 UDP datagram to one of our ports. */
static bool parse(const uint8_t *p, size_t count, struct datagram *ret, const uint8_t **ret_data)
{
    size_t head = count > 0 ? (size_t)(p[0] & 15) * 4 : 0;

    if (count < 20 || head < 20 || count < head + 8 || p[0] >> 4 != 4 || p[9] != 17)
        return false;
    const uint8_t *udp = p + head;
    ret->port = (uint16_t)(udp[2] << 8 | udp[3]);
    size_t length = (size_t)(udp[4] << 8 | udp[5]);
    if (ret->port < PORT_FIRST || ret->port >= PORT_FIRST + PORTS || length < 8 ||
        length > count - head)
        return false;
    ret->bytes = (uint16_t)(length - 8);
    memcpy(&ret->to, p + 16, sizeof(ret->to));
    *ret_data = udp + 8;
    return ret->bytes > KIND_AT;
}

static int record(const char *path, int seconds)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
    unsigned taken[PORTS][KINDS] = {{0}}, all = 0;
    FILE *file = fopen(path, "w");
    int64_t end = now_ms() + seconds * 1000;

    if (fd < 0 || !file)
        fail(path);
    while (now_ms() < end) {
        uint8_t packet[65536];
        const uint8_t *data;
        struct datagram d;
        struct pollfd in = {.fd = fd, .events = POLLIN};
        if (poll(&in, 1, 100) <= 0)
            continue;
        ssize_t n = recv(fd, packet, sizeof(packet), 0);
        if (n <= 0 || !parse(packet, (size_t)n, &d, &data))
            continue;
        unsigned *seen = &taken[d.port - PORT_FIRST][data[KIND_AT] % KINDS];
        if (*seen == EACH_MAX)
            continue;
        ++*seen;
        all++;
        fwrite(&d, sizeof(d), 1, file);
        fwrite(data, d.bytes, 1, file);
    }
    printf("%u datagrams recorded; of each port and kind:", all);
    for (unsigned i = 0; i < PORTS * KINDS; i++) {
        if (taken[i / KINDS][i % KINDS])
            printf(" %u/%u: %u", PORT_FIRST + i / KINDS, i % KINDS, taken[i / KINDS][i % KINDS]);
    }
    printf("\n");
    return fclose(file) == 0 ? 0 : 1;
}

/* ---- cut and flip */

struct target {
    int fd;
    struct sockaddr_in address;
    unsigned long sent;
};

static void send_it(struct target *t, const struct datagram *d, const uint8_t *data, size_t bytes)
{
    t->address.sin_addr = d->to;
    t->address.sin_port = htons(d->port);
    if (sendto(t->fd, data, bytes, 0, (struct sockaddr *)&t->address, sizeof(t->address)) < 0)
        fail("sendto");
    if (++t->sent % BURST == 0)
        poll(NULL, 0, 1);
}

static void cut(struct target *t, const struct datagram *d, uint8_t *data)
{
    for (size_t n = 0; n < d->bytes; n++)
        send_it(t, d, data, n);
}

static void flip(struct target *t, const struct datagram *d, uint8_t *data)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};

    for (size_t i = 0; i < d->bytes; i++) {
        for (size_t k = 0; k < sizeof(flips); k++) {
            data[i] ^= flips[k];
            send_it(t, d, data, d->bytes);
            data[i] ^= flips[k];
        }
    }
}

static int replay(const char *path,
                  void (*damage)(struct target *t, const struct datagram *d, uint8_t *data))
{
    struct target t = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                       .address.sin_family = AF_INET};
    FILE *file = fopen(path, "r");
    struct datagram d;
    uint8_t data[DATAGRAM_MAX];

    if (t.fd < 0 || !file)
        fail(path);
    while (fread(&d, sizeof(d), 1, file) == 1) {
        if (d.bytes > sizeof(data) || fread(data, d.bytes, 1, file) != 1)
            fail(path);
        damage(&t, &d, data);
    }
    fclose(file);
    printf("%lu\n", t.sent);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "record") == 0)
        return record(argv[2], atoi(argv[3]));
    if (argc == 3 && strcmp(argv[1], "cut") == 0)
        return replay(argv[2], cut);
    if (argc == 3 && strcmp(argv[1], "flip") == 0)
        return replay(argv[2], flip);
    fprintf(stderr, "usage: baddatagrams record FILE SECONDS | cut FILE | flip FILE\n");
    return 2;
}
