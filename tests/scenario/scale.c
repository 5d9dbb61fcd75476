/* scale: at the limits: 1,000 nodes and 100,000 groups, told to a node that comes then. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cms.h"
#include "cms.pb-c.h"
#include "cms_log.h"
#include "cms_state.h"
#include "frame.h"
#include "node.h"
#include "suites.h"

enum {
    FORMER = CMS_NODES_MAX - 1, /* nodes that are there before */
    REGIONS = 250,
    EACH = CMS_GROUPS_MAX / REGIONS, /* groups of each region but the last */
};

/* A CMS whose log was replayed, and a node that links up to it. */
struct scale {
    struct cms *cms;
    struct node *node;
    uint64_t index, now_us;
    uint64_t link;
    size_t bytes; /* that the node was told */
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void replay(struct scale *s, uint8_t *entry, size_t bytes)
{
    ck_assert_int_eq(cms_replay(s->cms, ++s->index, entry, bytes), 0);
    ck_assert_uint_le(bytes, 1 << 20);
    free(entry);
}

static void replay_admit(struct scale *s, uint32_t address)
{
    char name[32];
    size_t bytes;
    Qsm__LogAdmit m = QSM__LOG_ADMIT__INIT;
    snprintf(name, sizeof name, "host%u.example.net", address);
    m.name = name;
    m.address = address;
    m.datagram_bytes = 1472;
    m.rcvbuf_bytes = 1 << 20;
    m.incarnation = address;
    m.wire_min = m.wire_max = 1;
    uint8_t *entry = log_admit(&m, &bytes);
    replay(s, entry, bytes);
}

/* The node wants groups first..first + count - 1. */
static void replay_changes(struct scale *s, uint32_t node, uint32_t first, uint32_t count,
                           uint32_t mode)
{
    static Qsm__LogChange list[8192], *changes[8192];
    static char names[8192][24];
    for (uint32_t done = 0; done < count;) {
        uint32_t n = 0;
        for (; n < 8192 && done < count; n++, done++) {
            qsm__log_change__init(&list[n]);
            snprintf(names[n], sizeof names[n], "some/group/%06u", first + done);
            list[n].name = names[n];
            list[n].mode = mode;
            changes[n] = &list[n];
        }
        size_t bytes;
        uint8_t *entry = log_changes(node, changes, n, &bytes);
        replay(s, entry, bytes);
    }
}

static struct cms *make_cms(const struct scale *s)
{
    struct cms_config config = {.cluster = "test",
                                .multicast = 0xefc04d00,
                                .regions_max = 256,
                                .ring_size = 25,
                                .cache_replicas = 5,
                                .batch_us = 50000,
                                .silence_us = 1500000,
                                .resume_us = 150000,
                                .progress_us = 2000000};
    struct cms_upcalls none = {0};
    return cms_new(&config, &none, s->now_us);
}

/* Each group lies in the region of its four nodes and in that of the first node, which has all. */
static struct scale large(void)
{
    struct scale s = {.now_us = 1000000};
    struct region_config regions = {
        .multicast = 0xefc04d00, .regions_max = 256, .ring_size = 25, .cache_replicas = 5};
    size_t bytes;
    double begin = now_ms();
    s.cms = make_cms(&s);
    uint8_t *lead = log_lead(&regions, &bytes);
    replay(&s, lead, bytes);
    for (uint32_t i = 1; i <= FORMER; i++)
        replay_admit(&s, 0x0a000000 + i);
    replay_changes(&s, 2, 0, CMS_GROUPS_MAX, CMS_RECV);
    for (uint32_t i = 1; i < FORMER; i++)
        replay_changes(&s, 2 + i, i % REGIONS * EACH, EACH, CMS_RECV | CMS_SEND);
    double between = now_ms();
    uint8_t *install = log_install(1, 1, 1, &bytes);
    replay(&s, install, bytes);
    printf("scale: replay of %u nodes and %u groups %.0f ms, of their epoch %.0f ms\n", FORMER,
           CMS_GROUPS_MAX, between - begin, now_ms() - between);
    return s;
}

/* ---- the node */

static void deliver(void *ctx, const struct delivery *d)
{
    (void)ctx;
    (void)d;
}

static char refusal[256]; /* the last one */

static void group(void *ctx, const struct group_event *e)
{
    (void)ctx;
    if (e->kind == GROUP_REFUSED)
        snprintf(refusal, sizeof refusal, "%s", e->reason);
}

static void stable(void *ctx, uint32_t group_handle, uint64_t number, bool lost)
{
    (void)ctx;
    (void)group_handle;
    (void)number;
    (void)lost;
}

static bool pull(void *ctx, uint32_t group_handle, uint64_t number, uint32_t room,
                 struct message *ret)
{
    (void)ctx;
    (void)group_handle;
    (void)number;
    (void)room;
    (void)ret;
    return false;
}

static struct node *make_node(const struct scale *s)
{
    struct node_config config = {.cluster = "test",
                                 .name = "new",
                                 .address = 0x0a00ffff,
                                 .datagram_bytes = 1472,
                                 .rcvbuf_bytes = 1 << 20,
                                 .window_bytes = 1 << 20,
                                 .pool_bytes = 1 << 20,
                                 .reassembly_bytes = 1 << 20,
                                 .token_rate_mhz = 1000,
                                 .token_min_interval_us = 1000,
                                 .seed = 1};
    struct upcalls up = {.pull = pull, .deliver = deliver, .group = group, .stable = stable};
    return node_new(&config, &up, s->now_us);
}

static void link_up(struct scale *s)
{
    s->link++;
    cms_link_up(s->cms, s->link, s->now_us);
    node_link_up(s->node, s->now_us);
}

static void link_down(struct scale *s)
{
    cms_link_down(s->cms, s->link, s->now_us);
    node_link_down(s->node, s->now_us);
}

static void make_durable(struct scale *s)
{
    const uint8_t *entry;
    size_t bytes;
    uint64_t index = 0;
    while (cms_append_pull(s->cms, &index, &entry, &bytes))
        ck_assert_uint_le(bytes, 1 << 20);
    if (index > 0)
        cms_appended(s->cms, index, s->now_us);
}

/* Moves bytes in both directions, at most so many to the node; false: there were none. */
static bool move(struct scale *s, size_t most)
{
    static uint8_t bytes[65536];
    size_t n, up = 0, down = 0;
    while ((n = node_link_pull(s->node, bytes, sizeof bytes, s->now_us)) > 0) {
        ck_assert_int_eq(cms_link_receive(s->cms, s->link, bytes, n, s->now_us), 0);
        up += n;
    }
    make_durable(s);
    while (down < most) {
        size_t room = most - down < sizeof bytes ? most - down : sizeof bytes;
        if ((n = cms_link_pull(s->cms, s->link, bytes, room)) == 0)
            break;
        ck_assert_int_eq(node_link_receive(s->node, bytes, n, s->now_us), 0);
        down += n;
    }
    s->bytes += down;
    return up + down > 0;
}

static void settle(struct scale *s)
{
    while (move(s, SIZE_MAX))
        continue;
}

static void count_group(void *ctx, const struct node_group_info *g)
{
    size_t *counts = ctx;
    counts[0] += strncmp(g->name, "some/group/", 11) == 0 && g->epoch == 1;
    counts[1] += g->member_count;
    counts[2] += g->region_count;
}

static void count_region(void *ctx, const struct node_region_info *r)
{
    size_t *counts = ctx;
    counts[0]++;
    counts[1] += r->member_count;
    counts[2] += r->group_count;
}

static void expect_all(struct scale *s)
{
    size_t groups[3] = {0}, regions[3] = {0};
    node_each_group(s->node, count_group, groups);
    ck_assert_uint_eq(groups[0], CMS_GROUPS_MAX);
    ck_assert_uint_eq(groups[1], CMS_GROUPS_MAX + EACH * (FORMER - 1));
    ck_assert_uint_eq(groups[2], 2 * CMS_GROUPS_MAX);
    node_each_region(s->node, count_region, regions);
    ck_assert_uint_eq(regions[0], REGIONS + 1);
    ck_assert_uint_eq(regions[1], FORMER);
    ck_assert_uint_eq(regions[2], 2 * CMS_GROUPS_MAX);
    for (uint32_t id = 2; id < 2 + FORMER; id++)
        ck_assert_ptr_nonnull(node_find_peer(s->node, id));
}

static void lead(struct scale *s)
{
    cms_lead(s->cms, s->now_us);
    make_durable(s);
    s->node = make_node(s);
}

static void end(struct scale *s)
{
    node_free(s->node);
    cms_free(s->cms);
}

START_TEST(a_node_that_comes_to_a_full_cluster_is_told_everything)
{
    struct scale s = large();
    lead(&s);
    double begin = now_ms();
    link_up(&s);
    settle(&s);
    printf("scale: admission with a full install of %zu bytes %.0f ms\n", s.bytes,
           now_ms() - begin);
    ck_assert_uint_eq(node_epoch(s.node), 1);
    ck_assert_uint_gt(s.bytes, FRAME_CONTROL_MAX / 2);
    expect_all(&s);
    end(&s);
}
END_TEST

START_TEST(a_link_that_breaks_in_the_middle_of_an_install_leaves_nothing_of_it)
{
    struct scale s = large();
    lead(&s);
    for (size_t most = 1; most < 3000000; most = 4 * most + 100000) {
        size_t groups[3] = {0};
        link_up(&s);
        move(&s, most);
        node_each_group(s.node, count_group, groups);
        ck_assert_uint_eq(node_epoch(s.node), 0);
        ck_assert_uint_eq(groups[0], 0);
        link_down(&s);
    }
    link_up(&s);
    s.bytes = 0;
    settle(&s);
    ck_assert_uint_gt(s.bytes, 3000000);
    ck_assert_uint_eq(node_epoch(s.node), 1);
    expect_all(&s);
    end(&s);
}
END_TEST

/* What the CMS says to a Hello of another node. */
static Qsm__CmsToNode *say_hello(struct scale *s)
{
    char cluster[] = "test", name[] = "another";
    uint8_t bytes[4096];
    Qsm__Hello hello = QSM__HELLO__INIT;
    hello.cluster = cluster;
    hello.name = name;
    hello.address = 0x0a00fffe;
    hello.datagram_bytes = 1472;
    hello.wire_min = hello.wire_max = 1;
    hello.incarnation = 1;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_HELLO;
    m.hello = &hello;
    size_t size = qsm__node_to_cms__get_packed_size(&m);
    frame_write_head(bytes, 1, 0, size);
    qsm__node_to_cms__pack(&m, bytes + FRAME_HEAD_BYTES);
    cms_link_up(s->cms, ++s->link, s->now_us);
    ck_assert_int_eq(cms_link_receive(s->cms, s->link, bytes, FRAME_HEAD_BYTES + size, s->now_us),
                     0);
    make_durable(s);
    struct frame f;
    size = cms_link_pull(s->cms, s->link, bytes, sizeof bytes);
    ck_assert_int_eq(frame_parse(bytes, size, &f), (long)size);
    return qsm__cms_to_node__unpack(NULL, f.payload_bytes, f.payload);
}

START_TEST(one_node_more_and_one_group_more_are_refused_by_the_name_of_the_limit)
{
    struct scale s = large();
    uint32_t handle;
    lead(&s);
    link_up(&s);
    settle(&s);
    ck_assert_int_eq(node_open(s.node, "some/group/000007", NODE_RECV, s.now_us, &handle), 0);
    settle(&s);
    ck_assert_str_eq(refusal, "");
    ck_assert_int_eq(node_open(s.node, "one/more", NODE_RECV, s.now_us, &handle), 0);
    settle(&s);
    ck_assert_ptr_nonnull(strstr(refusal, "groups_max (100000)"));
    Qsm__CmsToNode *answer = say_hello(&s);
    ck_assert_int_eq(answer->what_case, QSM__CMS_TO_NODE__WHAT_REFUSED);
    ck_assert_ptr_nonnull(strstr(answer->refused->reason, "nodes_max (1000)"));
    qsm__cms_to_node__free_unpacked(answer, NULL);
    end(&s);
}
END_TEST

static void count_known(void *ctx, const struct node_group_info *g)
{
    size_t *count = ctx;
    (void)g;
    ++*count;
}

START_TEST(a_group_that_was_open_for_no_epoch_is_forgotten)
{
    struct scale s = {.now_us = 1000000};
    size_t known = 0;
    uint32_t handle[2];
    s.cms = make_cms(&s);
    lead(&s);
    link_up(&s);
    settle(&s);
    ck_assert_int_eq(node_open(s.node, "a", NODE_RECV, s.now_us, &handle[0]), 0);
    ck_assert_int_eq(node_open(s.node, "b", NODE_SEND, s.now_us, &handle[1]), 0);
    settle(&s);
    node_close(s.node, handle[0], NODE_RECV, s.now_us);
    node_close(s.node, handle[1], NODE_SEND, s.now_us);
    settle(&s);
    node_expire(s.node, s.now_us);
    settle(&s);
    node_each_group(s.node, count_known, &known);
    ck_assert_uint_eq(known, 0);
    end(&s);
}
END_TEST

Suite *suite_scale(void)
{
    Suite *suite = suite_create("scale");
    TCase *tests = tcase_create("scale");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_node_that_comes_to_a_full_cluster_is_told_everything);
    tcase_add_test(tests, a_link_that_breaks_in_the_middle_of_an_install_leaves_nothing_of_it);
    tcase_add_test(tests, a_group_that_was_open_for_no_epoch_is_forgotten);
    tcase_add_test(tests, one_node_more_and_one_group_more_are_refused_by_the_name_of_the_limit);
    suite_add_tcase(suite, tests);
    return suite;
}
