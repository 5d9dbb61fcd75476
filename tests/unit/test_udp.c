/* Tests of the datagram sockets, with several daemons on addresses of lo. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "suites.h"
#include "udp.h"

#define HOSTS 3
#define HOST(i) (0x7f000b01u + (uint32_t)(i)) /* 127.0.11.1 and on */
#define NOBODY 0x7f000bf0u
#define REGION_A 0xefc04d01u
#define REGION_B 0xefc04d02u

/* What a host received: texts, with a space behind each. */
struct inbox {
    char text[NET_CLASSES][512];
};

static struct udp *host[HOSTS];
static char error[256];

/* Above the ports that the kernel hands out, apart for tests that run side by side. */
static uint16_t port(void)
{
    return (uint16_t)(61000 + getpid() % 1000 * 4);
}

static int open_host(unsigned i, double fault_drop, struct udp **ret)
{
    struct udp_config config = {
        .interface = "", .address = HOST(i), .port = port(), .ttl = 1, .seed = 7};

    config.fault_drop = fault_drop;
    return udp_open(ret, &config, error, sizeof(error));
}

static void set_up(void)
{
    for (unsigned i = 0; i < HOSTS; i++)
        ck_assert_msg(open_host(i, 0, &host[i]) == 0, "%s", error);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < HOSTS; i++) {
        udp_close(host[i]);
        host[i] = NULL;
    }
}

static void send_text(struct udp *from, enum net_class net, uint32_t to, const char *head,
                      const char *body)
{
    struct datagram d = {.net = net, .address = to, .multicast = to >> 28 == 14};

    d.head_bytes = (uint32_t)strlen(head);
    memcpy(d.head, head, strlen(head));
    if (body) {
        d.body_ref = buf_copy(body, strlen(body));
        d.body = d.body_ref->data;
        d.body_bytes = d.body_ref->size;
    }
    udp_put(from, &d);
}

static void on_datagram(void *ctx, enum net_class net, const uint8_t *data, size_t bytes,
                        struct buf *landing)
{
    struct inbox *inbox = ctx;
    char *text = inbox->text[net];
    size_t used = strlen(text);

    (void)landing;
    ck_assert_uint_lt(used + bytes + 2, sizeof(inbox->text[net]));
    memcpy(text + used, data, bytes);
    strcpy(text + used + bytes, " ");
}

static unsigned receive_all(struct udp *u, struct inbox *inbox)
{
    struct pollfd sockets[UDP_SOCKETS];
    unsigned count = 0;
    bool more;

    memset(inbox, 0, sizeof(*inbox));
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++)
        sockets[s] = (struct pollfd){udp_descriptor(u, s), POLLIN, 0};
    poll(sockets, UDP_SOCKETS, 0); /* lo delivers before sendmmsg returns */
    for (enum udp_socket s = 0; s < UDP_SOCKETS; s++) {
        do {
            count += udp_receive(u, s, on_datagram, inbox, &more);
        } while (more);
    }
    return count;
}

START_TEST(a_unicast_datagram_reaches_the_host_it_is_for_and_no_other)
{
    struct inbox inbox;

    for (unsigned i = 0; i < HOSTS; i++)
        ck_assert_int_eq(udp_listen(host[i], REGION_A), 0);
    send_text(host[0], NET_CONTROL, HOST(1), "token", NULL);
    send_text(host[0], NET_REPAIR, HOST(2), "rep", "air");
    send_text(host[0], NET_CONTROL, NOBODY, "lost", NULL);
    send_text(host[0], NET_REPAIR, NOBODY, "lost", NULL);
    send_text(host[0], NET_DATA, NOBODY, "lost", NULL);
    udp_flush(host[0]);
    ck_assert_uint_eq(receive_all(host[0], &inbox), 0);
    ck_assert_uint_eq(receive_all(host[1], &inbox), 1);
    ck_assert_str_eq(inbox.text[NET_CONTROL], "token ");
    ck_assert_uint_eq(receive_all(host[2], &inbox), 1);
    ck_assert_str_eq(inbox.text[NET_REPAIR], "repair ");
}
END_TEST

START_TEST(a_multicast_datagram_reaches_who_listens_to_its_region)
{
    struct inbox inbox;

    udp_listen(host[0], REGION_A);
    udp_listen(host[1], REGION_A);
    udp_listen(host[2], REGION_B);
    for (enum net_class net = 0; net < NET_CLASSES; net++)
        send_text(host[2], net, REGION_A, "all", "a");
    udp_flush(host[2]);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(receive_all(host[i], &inbox), NET_CLASSES);
        for (enum net_class net = 0; net < NET_CLASSES; net++)
            ck_assert_str_eq(inbox.text[net], "alla ");
    }
    ck_assert_uint_eq(receive_all(host[2], &inbox), 0);
}
END_TEST

START_TEST(a_move_to_another_region_only_changes_memberships)
{
    struct inbox inbox;

    udp_listen(host[0], REGION_A);
    send_text(host[1], NET_DATA, REGION_A, "1", NULL);
    udp_flush(host[1]);
    ck_assert_int_eq(udp_listen(host[0], REGION_B), 0);
    ck_assert_uint_eq(udp_listening(host[0]), REGION_B);
    send_text(host[1], NET_DATA, REGION_A, "2", NULL);
    send_text(host[1], NET_DATA, REGION_B, "3", NULL);
    udp_flush(host[1]);
    ck_assert_int_eq(udp_listen(host[0], 0), 0);
    send_text(host[1], NET_DATA, REGION_B, "4", NULL);
    udp_flush(host[1]);
    receive_all(host[0], &inbox);
    ck_assert_str_eq(inbox.text[NET_DATA], "1 3 ");
}
END_TEST

START_TEST(an_address_that_is_no_region_is_refused_and_the_old_one_stays)
{
    ck_assert_int_eq(udp_listen(host[0], REGION_A), 0);
    ck_assert_int_lt(udp_listen(host[0], HOST(1)), 0);
    ck_assert_uint_eq(udp_listening(host[0]), REGION_A);
}
END_TEST

START_TEST(many_datagrams_keep_their_order_and_give_their_bodies_back)
{
    struct buf *body = buf_copy("body", 4);
    struct datagram d = {.net = NET_DATA, .multicast = true, .address = REGION_A};
    struct inbox inbox;

    udp_listen(host[0], REGION_A);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_eq(udp_room(host[1]), NET_DATA);
        d.head[0] = (uint8_t)('0' + i % 10);
        d.head_bytes = 1;
        d.body_ref = i % 2 ? buf_ref(body) : NULL;
        d.body = body->data;
        d.body_bytes = i % 2 ? 1 : 0;
        udp_put(host[1], &d);
    }
    udp_flush(host[1]);
    ck_assert_uint_eq(body->refs, 1);
    buf_unref(body);
    /* One call of udp_receive is one batch; the texts of all do not fit one inbox. */
    for (unsigned got = 0; got < 200;) {
        unsigned n;
        bool more;

        memset(&inbox, 0, sizeof(inbox));
        n = udp_receive(host[0], UDP_DATA_GROUP, on_datagram, &inbox, &more);
        ck_assert_uint_gt(n, 0);
        ck_assert_int_eq(inbox.text[NET_DATA][0], (char)('0' + got % 10));
        got += n;
    }
    ck_assert_uint_eq(udp_counters(host[1])->out_data, 200);
    ck_assert_uint_eq(udp_counters(host[0])->in_data, 200);
    ck_assert_uint_le(udp_counters(host[1])->send_calls, 5);
}
END_TEST

struct numbers {
    unsigned count;
    size_t last_bytes;
};

static void on_number(void *ctx, enum net_class net, const uint8_t *data, size_t bytes,
                      struct buf *landing)
{
    struct numbers *n = ctx;
    uint32_t number;

    (void)landing;
    ck_assert_int_eq(net, NET_DATA);
    ck_assert_uint_ge(bytes, sizeof(number));
    memcpy(&number, data, sizeof(number));
    ck_assert_uint_eq(number, n->count);
    n->count++;
    n->last_bytes = bytes;
}

START_TEST(datagrams_of_one_size_to_one_address_travel_as_trains)
{
    static uint8_t payload[996];
    struct buf *body = buf_copy(payload, sizeof(payload));
    struct datagram d = {.net = NET_DATA, .multicast = true, .address = REGION_A};
    struct numbers got = {0};
    bool more = true;

    udp_listen(host[0], REGION_A);
    for (uint32_t i = 0; i < 200; i++) {
        memcpy(d.head, &i, sizeof(i));
        d.head_bytes = sizeof(i);
        d.body_ref = buf_ref(body);
        d.body = body->data;
        d.body_bytes = i < 199 ? sizeof(payload) : 100; /* a shorter one ends a train */
        udp_put(host[1], &d);
    }
    udp_flush(host[1]);
    ck_assert_uint_eq(body->refs, 1);
    while (more)
        udp_receive(host[0], UDP_DATA_GROUP, on_number, &got, &more);
    ck_assert_uint_eq(got.count, 200);
    ck_assert_uint_eq(got.last_bytes, 104);
    ck_assert_uint_eq(udp_counters(host[1])->out_data, 200);
    ck_assert_uint_eq(udp_counters(host[0])->in_data, 200);
    ck_assert_uint_eq(udp_counters(host[1])->send_calls, 1);
    ck_assert_uint_eq(udp_counters(host[1])->out_trains, 4); /* of 64 KB at most */
    ck_assert_uint_eq(udp_counters(host[0])->recv_calls, 1);
    buf_unref(body);
}
END_TEST

START_TEST(an_address_belongs_to_one_daemon)
{
    struct udp *second;

    ck_assert_int_eq(open_host(0, 0, &second), -EADDRINUSE);
    ck_assert_ptr_null(second);
    ck_assert_msg(strstr(error, "127.0.11.1") != NULL, "%s", error);
}
END_TEST

START_TEST(an_address_decides_on_the_interface)
{
    struct udp_config config = {.interface = "", .address = 0xc6336401u, .port = port(), .ttl = 1};
    struct udp *u;

    ck_assert_str_eq(udp_interface(host[0]), "lo");
    ck_assert_uint_eq(udp_address(host[0]), HOST(0));
    ck_assert_uint_gt(udp_rcvbuf(host[0]), 100000);
    ck_assert_int_eq(udp_open(&u, &config, error, sizeof(error)), -EADDRNOTAVAIL);
    ck_assert_msg(strstr(error, "198.51.100.1") != NULL, "%s", error);
    config.interface = "nosuch0";
    config.address = 0;
    ck_assert_int_eq(udp_open(&u, &config, error, sizeof(error)), -ENODEV);
    ck_assert_msg(strstr(error, "nosuch0") != NULL, "%s", error);
}
END_TEST

START_TEST(injected_faults_drop_about_their_share)
{
    struct inbox inbox;
    struct udp *lossy;
    unsigned dropped;

    udp_close(host[0]);
    host[0] = NULL;
    ck_assert_int_eq(open_host(0, 0.3, &lossy), 0);
    host[0] = lossy;
    for (unsigned i = 0; i < 2000; i++) {
        send_text(host[1], NET_CONTROL, HOST(0), "", NULL);
        if (i % 100 != 99)
            continue;
        udp_flush(host[1]);
        receive_all(lossy, &inbox);
    }
    ck_assert_uint_eq(udp_counters(lossy)->in_control, 2000);
    dropped = (unsigned)udp_counters(lossy)->drop_fault;
    ck_assert_msg(dropped > 450 && dropped < 750, "%u of 2000 dropped", dropped);
}
END_TEST

Suite *suite_udp(void)
{
    Suite *s = suite_create("udp");
    TCase *t = tcase_create("udp");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, a_unicast_datagram_reaches_the_host_it_is_for_and_no_other);
    tcase_add_test(t, a_multicast_datagram_reaches_who_listens_to_its_region);
    tcase_add_test(t, a_move_to_another_region_only_changes_memberships);
    tcase_add_test(t, an_address_that_is_no_region_is_refused_and_the_old_one_stays);
    tcase_add_test(t, many_datagrams_keep_their_order_and_give_their_bodies_back);
    tcase_add_test(t, datagrams_of_one_size_to_one_address_travel_as_trains);
    tcase_add_test(t, an_address_belongs_to_one_daemon);
    tcase_add_test(t, an_address_decides_on_the_interface);
    tcase_add_test(t, injected_faults_drop_about_their_share);
    suite_add_tcase(s, t);
    return s;
}
