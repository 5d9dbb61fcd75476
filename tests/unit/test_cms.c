/* Tests of cms: admission, requests, epochs, the log. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cms_world.h"
#include "suites.h"

#define MS 1000u

START_TEST(a_node_id_is_the_index_of_its_admission)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w), *b = world_add(w);
    ck_assert_uint_eq(a->id, 2); /* entry 1 is lead */
    ck_assert_uint_eq(b->id, 3);
    ck_assert_uint_eq(a->term, 1);
    ck_assert(world_traced(w, "lead term=1"));
    ck_assert(world_traced(w, "admit id=2 name=host1"));
    world_free(w);
}
END_TEST

START_TEST(a_repeated_hello_admits_once)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    uint32_t id = a->id;
    world_cut(w, a);
    a->id = 0; /* the Welcome was lost */
    world_link(w, a);
    world_settle(w);
    ck_assert_uint_eq(a->id, id);
    ck_assert_uint_eq(w->log_count, 2);
    world_free(w);
}
END_TEST

START_TEST(two_hellos_on_their_way_into_the_log_admit_once)
{
    struct world *w = world_new();
    w->journal_stuck = true;
    struct world_peer *a = world_add(w);
    uint64_t first = a->link;
    world_link(w, a);
    cms_link_down(w->cms, first, w->now_us);
    w->journal_stuck = false;
    world_settle(w);
    ck_assert_uint_eq(a->id, 2);
    world_run(w, 1000 * MS);
    ck_assert(!world_traced(w, "expel id=2 why=closed"));
    world_free(w);
}
END_TEST

static void hello(struct world *w, struct world_peer *p, const char *cluster, uint32_t wire_min,
                  uint32_t wire_max, uint64_t epoch)
{
    char copy[32];
    snprintf(copy, sizeof copy, "%s", cluster);
    p->link = ++w->next_link;
    cms_link_up(w->cms, p->link, w->now_us);
    Qsm__Hello message = QSM__HELLO__INIT;
    message.cluster = copy;
    message.name = p->name;
    message.address = p->address;
    message.datagram_bytes = 1472;
    message.wire_min = wire_min;
    message.wire_max = wire_max;
    message.node_id = p->id;
    message.epoch = epoch;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_HELLO;
    m.hello = &message;
    world_say(w, p, &m);
    world_settle(w);
}

START_TEST(nodes_of_other_clusters_and_versions_are_refused)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    a->id = 0;
    hello(w, a, "other", 1, 1, 0);
    ck_assert(a->closed);
    ck_assert_ptr_nonnull(strstr(a->refused->refused->reason, "cluster"));
    a->closed = false;
    char name = a->name[0];
    a->name[0] = '\xff';
    hello(w, a, "test", 1, 1, 0);
    ck_assert(a->closed);
    ck_assert_ptr_nonnull(strstr(a->refused->refused->reason, "UTF-8"));
    a->name[0] = name;
    a->closed = false;
    hello(w, a, "test", 2, 3, 0);
    ck_assert(a->closed);
    ck_assert_ptr_nonnull(strstr(a->refused->refused->reason, "wire version"));
    world_free(w);
}
END_TEST

START_TEST(a_node_with_an_epoch_above_the_log_is_not_served)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    hello(w, a, "test", 1, 1, 7);
    ck_assert(a->closed);
    ck_assert_ptr_nonnull(strstr(a->refused->refused->reason, "epoch"));
    world_free(w);
}
END_TEST

START_TEST(joins_within_a_batch_are_one_epoch)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w), *b = world_add(w);
    world_want(w, a, 1, "x y", 1);
    world_settle(w);
    ck_assert_uint_eq(a->answer->answer->request, 1); /* durable, before the view */
    ck_assert_uint_eq(cms_epoch(w->cms), 0);
    world_run(w, 20 * MS);
    world_want(w, b, 1, "x y", 1);
    world_run(w, 40 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    const Qsm__Region *r = world_region(a);
    ck_assert_ptr_nonnull(r);
    ck_assert_uint_eq(r->n_member, 2);
    ck_assert_uint_eq(r->n_group, 2);
    ck_assert_uint_eq(r->address, 0xefc04d01);
    ck_assert_uint_eq(r->epoch, 1);
    ck_assert_uint_eq(r->rcvbuf_bytes, 4000000 + a->address);
    ck_assert_uint_eq(a->install->install->n_peer, 2);
    ck_assert_uint_eq(a->install->install->n_group, 2);
    ck_assert_str_eq(a->install->install->group[0]->name, "x");
    ck_assert_uint_eq(a->prep_count, 0); /* nobody could have sent */
    ck_assert(world_traced(w, "epoch ep=1 prev=0 t=1 a=1"));
    ck_assert(world_traced(w, "gview ep=1 g=1 m=2,3"));
    ck_assert(world_traced(w, "rview ep=1 r=1 m=2,3"));
    world_free(w);
}
END_TEST

START_TEST(a_repeated_request_changes_nothing)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    world_want(w, a, 1, "x", 3);
    world_run(w, 100 * MS);
    char *before = cms_dump(w->cms);
    size_t entries = w->log_count;
    world_want(w, a, 1, "x", 3);
    world_run(w, 1000 * MS);
    char *after = cms_dump(w->cms);
    ck_assert_uint_eq(a->answer_count, 2);
    ck_assert_uint_eq(w->log_count, entries);
    ck_assert_str_eq(before, after);
    free(before);
    free(after);
    world_free(w);
}
END_TEST

START_TEST(a_new_sender_needs_no_flush)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w), *b = world_add(w);
    world_want(w, a, 1, "x", 1);
    world_run(w, 100 * MS);
    world_want(w, b, 1, "x", 2);
    world_run(w, 100 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert_uint_eq(a->prep_count + b->prep_count, 0);
    ck_assert_uint_eq(a->install->install->n_region, 0);
    ck_assert_uint_eq(a->install->install->n_sender, 1);
    ck_assert_uint_eq(a->install->install->sender[0]->node, b->id);
    ck_assert(a->install->install->sender[0]->on);
    world_free(w);
}
END_TEST

START_TEST(a_group_that_nobody_has_any_more_is_gone_and_its_gid_too)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w), *b = world_add(w);
    world_want(w, a, 1, "x", 1);
    world_run(w, 100 * MS);
    world_want(w, a, 2, "x", 0);
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(b->install->install->n_group_gone, 1);
    ck_assert_uint_eq(b->install->install->group_gone[0], 1);
    ck_assert_uint_eq(b->install->install->n_region_gone, 1);
    world_want(w, a, 3, "x", 1);
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(a->install->install->group[0]->gid, 2);
    ck_assert_uint_eq(world_region(a)->rid, 2);
    ck_assert_uint_eq(world_region(a)->address, 0xefc04d01);
    world_free(w);
}
END_TEST

START_TEST(bad_names_are_refused_by_name_and_the_rest_goes_on)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    char long_name[300];
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[256] = '\0';
    char request[1000];
    snprintf(request, sizeof request, "good \x7f %s tab\there gr\xc3\xbcn \xff\xfe", long_name);
    world_want(w, a, 1, request, 1);
    world_run(w, 100 * MS);
    Qsm__Answer *answer = a->answer->answer;
    ck_assert_uint_eq(answer->n_refused, 4);
    ck_assert_str_eq(answer->refused[0]->name, "\x7f");
    ck_assert_uint_eq(strlen(answer->refused[1]->name), 256);
    ck_assert_uint_eq(world_region(a)->n_group, 2);
    world_free(w);
}
END_TEST

START_TEST(a_join_without_a_free_address_is_refused_and_names_regions_max)
{
    struct world *w = world_new_sized(2);
    struct world_peer *a = world_add(w), *b = world_add(w), *c = world_add(w);
    world_want(w, a, 1, "x", 1);
    world_want(w, b, 1, "y", 1);
    world_settle(w);
    world_want(w, c, 1, "z", 1);
    world_settle(w);
    ck_assert_uint_eq(c->answer->answer->n_refused, 1);
    ck_assert_str_eq(c->answer->answer->refused[0]->name, "z");
    ck_assert_ptr_nonnull(strstr(c->answer->answer->refused[0]->reason, "regions_max is 2"));
    world_want(w, c, 2, "y", 1); /* a region that exists */
    world_settle(w);
    ck_assert_uint_eq(c->answer->answer->n_refused, 0);
    world_want(w, c, 3, "z", 2); /* sending needs none */
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(c->answer->answer->n_refused, 0);
    ck_assert_uint_eq(world_region(c)->n_member, 2);
    /* A leave that would make a third region waits until there is room. */
    world_want(w, b, 2, "w", 1);
    world_settle(w);
    ck_assert_uint_eq(b->answer->answer->n_refused, 1);
    world_free(w);
}
END_TEST

START_TEST(a_leave_that_would_need_an_address_waits_for_one)
{
    struct world *w = world_new_sized(2);
    struct world_peer *a = world_add(w), *b = world_add(w), *c = world_add(w);
    world_want(w, a, 1, "x y", 1);
    world_want(w, b, 1, "x y", 1);
    world_want(w, c, 1, "z", 1);
    world_run(w, 1000 * MS);
    uint64_t epoch = cms_epoch(w->cms);
    world_want(w, b, 2, "y", 0);
    world_run(w, 2000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), epoch);
    world_want(w, c, 2, "z", 0);
    world_run(w, 2000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), epoch + 1);
    ck_assert_uint_eq(world_region(b)->n_group, 1);
    ck_assert_uint_eq(world_region(a)->n_group, 2);
    world_free(w);
}
END_TEST

START_TEST(a_resumed_node_gets_everything_it_missed)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w), *b = world_add(w);
    world_want(w, a, 1, "x", 1);
    world_run(w, 100 * MS);
    world_cut(w, b);
    world_want(w, a, 2, "y", 2);
    world_run(w, 100 * MS);
    ck_assert_uint_eq(b->epoch, 1);
    world_link(w, b);
    world_run(w, 200 * MS);
    ck_assert_uint_eq(b->epoch, 2);
    ck_assert_uint_eq(b->full_count, 1);
    ck_assert_uint_eq(b->install->install->n_group, 2);
    ck_assert_uint_eq(b->install->install->n_sender, 0); /* none of its own */
    ck_assert_uint_eq(b->install->install->n_peer, 2);
    world_cut(w, a);
    world_want(w, b, 1, "y", 2);
    world_run(w, 100 * MS);
    world_link(w, a);
    world_run(w, 200 * MS);
    ck_assert_uint_eq(a->epoch, 3);
    ck_assert_uint_eq(a->full_count, 1);
    ck_assert_uint_eq(a->install->install->n_sender, 1);
    ck_assert_uint_eq(a->install->install->sender[0]->node, a->id);
    world_free(w);
}
END_TEST

START_TEST(a_new_link_of_a_node_replaces_the_old_one)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    uint64_t old = a->link;
    world_link(w, a);
    uint64_t link;
    const char *close = NULL;
    bool closed = false;
    while (cms_link_next(w->cms, &link, &close))
        closed |= close != NULL && link == old;
    ck_assert(closed);
    cms_link_down(w->cms, old, w->now_us);
    world_run(w, 1000 * MS);
    ck_assert(!world_traced(w, "expel id=2 why=closed"));
    world_free(w);
}
END_TEST

START_TEST(an_expelled_node_waits_longer_each_time)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    const uint32_t waits[] = {0, 5000, 10000, 20000, 40000, 80000, 160000, 300000, 300000};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        world_cut(w, a);
        world_run(w, 200 * MS); /* not resumed: dead */
        for (int twice = 0; twice < 2; twice++) {
            world_link(w, a);
            world_settle(w);
            ck_assert(a->closed);
            ck_assert_uint_eq(a->expelled->expelled->wait_ms, waits[i]);
        }
        a->id = 0;
        a->epoch = 0;
        a->incarnation++;
        world_link(w, a);
        world_settle(w);
        ck_assert_uint_ne(a->id, 0);
    }
    world_free(w);
}
END_TEST

START_TEST(a_process_that_starts_anew_replaces_the_former_one)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    a->link = 0; /* the host was reset: no close was seen */
    a->id = 0;
    a->incarnation++;
    world_link(w, a);
    world_settle(w);
    ck_assert_uint_ne(a->id, 2);
    ck_assert(world_traced(w, "expel id=2 why=restarted"));
    world_free(w);
}
END_TEST

START_TEST(garbage_on_a_link_is_an_error)
{
    struct world *w = world_new();
    const uint8_t bad[] = {4, 0, 0, 0, 9, 1, 0, 0}, junk[] = {5, 0, 0, 0, 1, 1, 0, 0, 0xff};
    cms_link_up(w->cms, 100, w->now_us);
    ck_assert_int_eq(cms_link_receive(w->cms, 100, bad, sizeof bad, w->now_us), -EPROTO);
    cms_link_down(w->cms, 100, w->now_us);
    cms_link_up(w->cms, 101, w->now_us);
    ck_assert_int_eq(cms_link_receive(w->cms, 101, junk, sizeof junk, w->now_us), -EPROTO);
    cms_link_down(w->cms, 101, w->now_us);
    world_free(w);
}
END_TEST

START_TEST(a_damaged_log_is_refused)
{
    struct world *w = world_new();
    world_add(w);
    struct cms_upcalls up = {0};
    struct cms *c = cms_new(&w->config, &up, 0);
    ck_assert_int_eq(cms_replay(c, 2, w->log[1].bytes, w->log[1].size), -EPROTO); /* a gap */
    ck_assert_int_eq(cms_replay(c, 1, (const uint8_t *)"\xff\xff", 2), -EPROTO);
    ck_assert_int_eq(cms_replay(c, 1, NULL, 0), -EPROTO);
    cms_free(c);
    uint64_t index;
    size_t size;
    uint8_t *snapshot = cms_snapshot(w->cms, &index, &size);
    c = cms_new(&w->config, &up, 0);
    ck_assert_int_eq(cms_restore(c, index + 1, snapshot, size), -EPROTO);
    cms_free(c);
    for (size_t i = 0; i < size; i++) { /* whatever it says, it says it without a crash */
        snapshot[i] ^= 0x11;
        c = cms_new(&w->config, &up, 0);
        cms_restore(c, index, snapshot, size);
        cms_free(c);
        snapshot[i] ^= 0x11;
    }
    free(snapshot);
    world_free(w);
}
END_TEST

/* Much of everything that a CMS can see. */
static void story(struct world *w, unsigned seed)
{
    srand(seed);
    static const char *const names[] = {"a", "b", "c d", "a b", "d", "e"};
    for (int i = 0; i < 5; i++)
        world_add(w);
    for (int i = 0; i < 60; i++) {
        struct world_peer *p = &w->peers[rand() % w->peer_count];
        int what = rand() % 12;
        if (p->link == 0) {
            if (p->closed || p->expelled != NULL) {
                p->id = 0;
                p->epoch = 0;
                p->incarnation += 100;
            }
            world_link(w, p);
        } else if (what == 0 && w->peer_count < 12) {
            world_add(w);
        } else if (what == 1) {
            world_cut(w, p);
        } else {
            world_want(w, p, (uint64_t)i, names[rand() % 6], (unsigned)rand() % 4);
        }
        world_run(w, (uint64_t)(rand() % 400) * MS);
    }
    for (int i = 0; i < w->peer_count; i++) {
        struct world_peer *p = &w->peers[i];
        if (p->link == 0) {
            world_link(w, p);
            world_settle(w);
        }
    }
    world_run(w, 10000 * MS);
}

START_TEST(a_replay_ends_in_the_same_state_wherever_the_cms_died)
{
    struct world *w = world_new_sized((uint32_t)(3 + _i));
    story(w, (unsigned)_i);
    ck_assert_uint_gt(cms_epoch(w->cms), 10);
    char *live = cms_dump(w->cms);
    char *replayed = world_replay_dump(w, w->log_count, 0);
    ck_assert_str_eq(live, replayed);
    free(replayed);
    for (size_t at = 1; at <= w->log_count; at++) {
        char *whole = world_replay_dump(w, at, 0);
        char *halved = world_replay_dump(w, at, at);
        ck_assert_str_eq(whole, halved);
        free(whole);
        free(halved);
        replayed = world_replay_dump(w, w->log_count, at);
        ck_assert_str_eq(live, replayed);
        free(replayed);
    }
    free(live);
    world_free(w);
}
END_TEST

START_TEST(nodes_agree_with_the_log_after_a_restart_of_the_cms)
{
    struct world *w = world_new();
    story(w, 42u + (unsigned)_i);
    char *before = cms_dump(w->cms);
    world_restart(w, _i % 2 == 1);
    char *after = cms_dump(w->cms);
    ck_assert_str_eq(strstr(before, "\"epoch\""), strstr(after, "\"epoch\""));
    free(before);
    free(after);
    uint64_t epoch = cms_epoch(w->cms);
    for (int i = 0; i < w->peer_count; i++)
        world_link(w, &w->peers[i]);
    world_run(w, 8000 * MS);
    ck_assert_uint_eq(cms_term(w->cms), w->peers[0].term);
    uint32_t id = w->peers[0].id;
    world_want(w, &w->peers[0], 77, "after", 3);
    world_run(w, 6000 * MS);
    ck_assert_uint_gt(cms_epoch(w->cms), epoch);
    ck_assert_uint_eq(w->peers[0].id, id);
    ck_assert_uint_eq(w->peers[0].epoch, cms_epoch(w->cms));
    world_free(w);
}
END_TEST

START_TEST(nothing_is_acted_upon_before_it_is_durable)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    w->journal_stuck = true;
    world_want(w, a, 1, "x", 1);
    world_run(w, 1000 * MS);
    ck_assert_ptr_null(a->answer);
    ck_assert_uint_eq(cms_epoch(w->cms), 0);
    w->journal_stuck = false;
    world_settle(w);
    ck_assert_ptr_nonnull(a->answer);
    w->journal_stuck = true;
    world_run(w, 100 * MS);
    ck_assert_ptr_null(a->install);
    w->journal_stuck = false;
    world_run(w, MS);
    ck_assert_uint_eq(a->epoch, 1);
    world_free(w);
}
END_TEST

START_TEST(a_large_request_is_cut_into_entries_and_answered_once)
{
    struct world *w = world_new();
    struct world_peer *a = world_add(w);
    enum { COUNT = 20000 };
    Qsm__Change *list = calloc(COUNT, sizeof *list);
    Qsm__Change **pointers = calloc(COUNT, sizeof *pointers);
    char(*names)[64] = calloc(COUNT, sizeof *names);
    Qsm__Changes changes = QSM__CHANGES__INIT;
    changes.request = 9;
    changes.change = pointers;
    changes.n_change = COUNT;
    for (int i = 0; i < COUNT; i++) {
        qsm__change__init(&list[i]);
        snprintf(names[i], sizeof names[i], "a/rather/long/name/of/a/group/%d", i);
        list[i].name = names[i];
        list[i].recv = true;
        pointers[i] = &list[i];
    }
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_CHANGES;
    m.changes = &changes;
    world_say(w, a, &m);
    world_run(w, 100 * MS);
    ck_assert_uint_eq(a->answer_count, 1);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    ck_assert_uint_eq(world_region(a)->n_group, COUNT);
    for (size_t i = 0; i < w->log_count; i++)
        ck_assert_uint_lt(w->log[i].size, 1 << 20);
    ck_assert_uint_gt(w->log_count, 4);
    free(list);
    free(pointers);
    free(names);
    world_free(w);
}
END_TEST

Suite *suite_cms(void)
{
    Suite *suite = suite_create("cms");
    TCase *tests = tcase_create("cms");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_node_id_is_the_index_of_its_admission);
    tcase_add_test(tests, a_repeated_hello_admits_once);
    tcase_add_test(tests, two_hellos_on_their_way_into_the_log_admit_once);
    tcase_add_test(tests, nodes_of_other_clusters_and_versions_are_refused);
    tcase_add_test(tests, a_node_with_an_epoch_above_the_log_is_not_served);
    tcase_add_test(tests, joins_within_a_batch_are_one_epoch);
    tcase_add_test(tests, a_repeated_request_changes_nothing);
    tcase_add_test(tests, a_new_sender_needs_no_flush);
    tcase_add_test(tests, a_group_that_nobody_has_any_more_is_gone_and_its_gid_too);
    tcase_add_test(tests, bad_names_are_refused_by_name_and_the_rest_goes_on);
    tcase_add_test(tests, a_join_without_a_free_address_is_refused_and_names_regions_max);
    tcase_add_test(tests, a_leave_that_would_need_an_address_waits_for_one);
    tcase_add_test(tests, a_resumed_node_gets_everything_it_missed);
    tcase_add_test(tests, a_new_link_of_a_node_replaces_the_old_one);
    tcase_add_test(tests, an_expelled_node_waits_longer_each_time);
    tcase_add_test(tests, a_process_that_starts_anew_replaces_the_former_one);
    tcase_add_test(tests, garbage_on_a_link_is_an_error);
    tcase_add_test(tests, a_damaged_log_is_refused);
    tcase_add_loop_test(tests, a_replay_ends_in_the_same_state_wherever_the_cms_died, 0, 6);
    tcase_add_loop_test(tests, nodes_agree_with_the_log_after_a_restart_of_the_cms, 0, 4);
    tcase_add_test(tests, nothing_is_acted_upon_before_it_is_durable);
    tcase_add_test(tests, a_large_request_is_cut_into_entries_and_answered_once);
    suite_add_tcase(suite, tests);
    return suite;
}
