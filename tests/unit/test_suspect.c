/* Tests of suspect: who is faulty, and who is not. */
#include <check.h>
#include <stdlib.h>

#include "cms_world.h"
#include "suites.h"

#define MS 1000u

/* n members of x, who answer probes with `alive` (-1, 0, 1). */
static struct world *members(int n, int probes)
{
    struct world *w = world_new();
    for (int i = 0; i < n; i++) {
        struct world_peer *p = world_add(w);
        p->probes = probes;
        world_want(w, p, 1, "x", 1);
    }
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    return w;
}

static bool is_member(const struct world *w, uint32_t id)
{
    const Qsm__Region *r = world_region(&w->peers[0]);
    for (size_t i = 0; r != NULL && i < r->n_member; i++) {
        if (r->member[i] == id)
            return true;
    }
    return false;
}

static uint32_t probes_asked(const struct world *w)
{
    uint32_t count = 0;
    for (int i = 0; i < w->peer_count; i++)
        count += w->peers[i].probe_count;
    return count;
}

START_TEST(a_dead_process_is_out_within_300_ms)
{
    struct world *w = members(5, 1);
    world_cut(w, &w->peers[3]);
    world_run(w, 140 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_run(w, 20 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert(!is_member(w, w->peers[3].id));
    world_free(w);
}
END_TEST

START_TEST(a_link_that_is_back_in_time_means_nothing)
{
    struct world *w = members(5, 1);
    world_cut(w, &w->peers[3]);
    world_run(w, 100 * MS);
    world_link(w, &w->peers[3]);
    world_run(w, 3000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    ck_assert_uint_eq(w->peers[3].install_count, 1);
    world_free(w);
}
END_TEST

START_TEST(a_silent_host_is_out_within_2500_ms_and_two_members_were_asked)
{
    struct world *w = members(5, -1);
    w->peers[3].silent = true;
    world_run(w, 1400 * MS);
    ck_assert_uint_eq(probes_asked(w), 0);
    world_run(w, 1100 * MS);
    ck_assert_uint_eq(probes_asked(w), 2);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert(!is_member(w, w->peers[3].id));
    world_free(w);
}
END_TEST

START_TEST(members_that_do_not_answer_a_probe_are_as_good_as_a_no)
{
    struct world *w = members(5, 0);
    w->peers[3].silent = true;
    world_run(w, 2500 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    world_free(w);
}
END_TEST

START_TEST(a_pause_of_a_second_is_forgiven)
{
    struct world *w = members(5, -1);
    w->peers[3].silent = true;
    world_run(w, 1000 * MS);
    w->peers[3].silent = false;
    world_run(w, 3000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_free(w);
}
END_TEST

START_TEST(one_member_that_hears_it_saves_it_for_at_most_10_s)
{
    struct world *w = members(5, -1);
    for (int i = 0; i < 5; i++)
        w->peers[i].probes = i == 4 ? 1 : -1;
    w->peers[3].silent = true;
    world_run(w, 9000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_run(w, 2500 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    world_free(w);
}
END_TEST

START_TEST(whose_network_loses_most_nodes_at_once_judges_nobody_for_a_while)
{
    struct world *w = members(5, 1);
    for (int i = 1; i < 4; i++)
        world_cut(w, &w->peers[i]);
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    for (int i = 1; i < 3; i++)
        world_link(w, &w->peers[i]);
    world_run(w, 1500 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2); /* one did not come back */
    ck_assert(is_member(w, w->peers[1].id));
    ck_assert(!is_member(w, w->peers[3].id));
    world_free(w);
}
END_TEST

START_TEST(a_cms_that_was_asleep_blames_nobody)
{
    struct world *w = members(5, -1);
    w->now_us += 5000 * MS;
    w->ping_us = w->now_us + 100 * MS;
    cms_expire(w->cms, w->now_us);
    world_run(w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_run(w, 3000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_free(w);
}
END_TEST

START_TEST(nodes_get_5_s_to_find_a_new_leader)
{
    struct world *w = members(4, 1);
    world_restart(w, true);
    world_link(w, &w->peers[0]);
    world_link(w, &w->peers[1]);
    world_run(w, 4900 * MS);
    world_link(w, &w->peers[2]);
    world_run(w, 50 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_run(w, 200 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert(is_member(w, w->peers[2].id));
    ck_assert(!is_member(w, w->peers[3].id));
    world_free(w);
}
END_TEST

/* They gave it up meanwhile, and their links' ends are read before and after it finds that out. */
START_TEST(nodes_get_5_s_to_come_back_to_a_cms_that_was_asleep_for_long)
{
    struct world *w = members(5, 1);
    w->now_us += 1700 * MS;
    w->ping_us = w->now_us + 100 * MS;
    world_cut(w, &w->peers[1]);
    cms_expire(w->cms, w->now_us);
    world_run(w, 900 * MS);
    world_cut(w, &w->peers[2]);
    world_cut(w, &w->peers[3]);
    world_run(w, 4000 * MS);
    world_link(w, &w->peers[1]);
    world_link(w, &w->peers[2]);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_run(w, 200 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert(is_member(w, w->peers[1].id));
    ck_assert(is_member(w, w->peers[2].id));
    ck_assert(!is_member(w, w->peers[3].id));
    world_cut(w, &w->peers[4]); /* who goes later than that is dead */
    world_run(w, 200 * MS);
    ck_assert(!is_member(w, w->peers[4].id));
    world_free(w);
}
END_TEST

static void accuse(struct world *w, struct world_peer *by, uint32_t id)
{
    char reason[] = "no acknowledgement";
    Qsm__Suspect suspect = QSM__SUSPECT__INIT;
    suspect.node = id;
    suspect.reason = reason;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_SUSPECT;
    m.suspect = &suspect;
    world_say(w, by, &m);
    world_settle(w);
}

START_TEST(one_accuser_is_not_enough)
{
    struct world *w = members(6, -1);
    for (int i = 0; i < 5; i++) {
        accuse(w, &w->peers[0], w->peers[3].id);
        world_run(w, 1200 * MS);
    }
    ck_assert_uint_gt(probes_asked(w), 0);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_free(w);
}
END_TEST

START_TEST(who_two_neighbours_and_the_probe_can_not_reach_is_expelled_but_not_many)
{
    struct world *w = members(8, -1);
    for (int victim = 3; victim < 6; victim++) {
        accuse(w, &w->peers[0], w->peers[victim].id);
        accuse(w, &w->peers[1], w->peers[victim].id);
    }
    for (int i = 0; i < 4; i++) {
        world_run(w, 1200 * MS);
        for (int victim = 3; victim < 6; victim++)
            accuse(w, &w->peers[0], w->peers[victim].id);
    }
    int closed = 0;
    for (int i = 0; i < 8; i++)
        closed += w->peers[i].closed;
    ck_assert_int_eq(closed, 1); /* 20 % of 8 */
    world_free(w);
}
END_TEST

START_TEST(an_accused_that_others_reach_stays)
{
    struct world *w = members(6, 1);
    for (int i = 0; i < 5; i++) {
        accuse(w, &w->peers[0], w->peers[3].id);
        accuse(w, &w->peers[1], w->peers[3].id);
        world_run(w, 1200 * MS);
    }
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_free(w);
}
END_TEST

START_TEST(who_sleeps_again_and_again_is_not_taken_for_unreachable)
{
    struct world *w = members(8, -1);
    struct world_peer *p = &w->peers[3];
    for (int i = 0; i < 4; i++) {
        p->silent = true;
        world_run(w, 100 * MS);
        accuse(w, &w->peers[0], p->id);
        accuse(w, &w->peers[1], p->id);
        world_run(w, 400 * MS);
        p->silent = false;
        world_run(w, 4500 * MS);
    }
    ck_assert_uint_gt(probes_asked(w), 0);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    world_free(w);
}
END_TEST

/* It wakes up when the members have just given it up, and speaks before they do. */
START_TEST(who_wakes_at_the_end_of_a_probe_is_probed_once_more)
{
    struct world *w = members(8, -1);
    struct world_peer *p = &w->peers[3];
    p->silent = true;
    world_run(w, 100 * MS);
    accuse(w, &w->peers[0], p->id);
    accuse(w, &w->peers[1], p->id);
    world_run(w, 390 * MS);
    p->silent = false;
    for (int i = 0; i < 8; i++)
        w->peers[i].probes = 1;
    world_run(w, 2000 * MS);
    ck_assert_uint_eq(cms_epoch(w->cms), 1);
    ck_assert_uint_eq(probes_asked(w), 4);
    world_free(w);
}
END_TEST

START_TEST(who_says_bye_is_gone_at_once_and_may_come_again)
{
    struct world *w = members(3, 1);
    struct world_peer *p = &w->peers[1];
    Qsm__Bye bye = QSM__BYE__INIT;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_BYE;
    m.bye = &bye;
    world_say(w, p, &m);
    world_run(w, MS);
    ck_assert(p->closed);
    ck_assert_ptr_null(p->expelled);
    ck_assert_uint_eq(cms_epoch(w->cms), 2);
    ck_assert(!is_member(w, p->id));
    world_free(w);
}
END_TEST

Suite *suite_suspect(void)
{
    Suite *suite = suite_create("suspect");
    TCase *tests = tcase_create("suspect");
    tcase_add_test(tests, a_dead_process_is_out_within_300_ms);
    tcase_add_test(tests, a_link_that_is_back_in_time_means_nothing);
    tcase_add_test(tests, a_silent_host_is_out_within_2500_ms_and_two_members_were_asked);
    tcase_add_test(tests, members_that_do_not_answer_a_probe_are_as_good_as_a_no);
    tcase_add_test(tests, a_pause_of_a_second_is_forgiven);
    tcase_add_test(tests, one_member_that_hears_it_saves_it_for_at_most_10_s);
    tcase_add_test(tests, whose_network_loses_most_nodes_at_once_judges_nobody_for_a_while);
    tcase_add_test(tests, a_cms_that_was_asleep_blames_nobody);
    tcase_add_test(tests, nodes_get_5_s_to_find_a_new_leader);
    tcase_add_test(tests, nodes_get_5_s_to_come_back_to_a_cms_that_was_asleep_for_long);
    tcase_add_test(tests, one_accuser_is_not_enough);
    tcase_add_test(tests, who_two_neighbours_and_the_probe_can_not_reach_is_expelled_but_not_many);
    tcase_add_test(tests, an_accused_that_others_reach_stays);
    tcase_add_test(tests, who_sleeps_again_and_again_is_not_taken_for_unreachable);
    tcase_add_test(tests, who_wakes_at_the_end_of_a_probe_is_probed_once_more);
    tcase_add_test(tests, who_says_bye_is_gone_at_once_and_may_come_again);
    suite_add_tcase(suite, tests);
    return suite;
}
