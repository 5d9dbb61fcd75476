/* Tests of core/group and core/peer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "group.h"
#include "name.h"
#include "peer.h"
#include "property.h"
#include "suites.h"

static struct context ctx;
static struct groups groups;

static void setup(void)
{
    groups_init(&groups, &ctx);
}

static void teardown(void)
{
    groups_done(&groups);
}

START_TEST(names_are_printable_utf8_without_spaces)
{
    static const char *const good[] = {"a", "metrics/cpu", "gr\xc3\xbc\xc3\x9f", "\xe6\x97\xa5",
                                       "\xf0\x9f\x90\x9f"};
    static const char *const bad[] = {"",
                                      "a b",
                                      "tab\t",
                                      "\x7f",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xed\xa0\x80",
                                      "\xc2\xa0",
                                      "\xe2\x80\xa8",
                                      "\xf5\x80\x80\x80",
                                      "\xe0\x80\x80"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_msg(name_valid(good[i]), "%zu", i);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!name_valid(bad[i]), "%zu", i);
    }
    char longest[NAME_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[NAME_BYTES_MAX] = '\0';
    ck_assert(name_valid(longest));
    longest[NAME_BYTES_MAX] = 'x';
    longest[NAME_BYTES_MAX + 1] = '\0';
    ck_assert(!name_valid(longest));
}
END_TEST

START_TEST(a_handle_is_stable_and_used_again_only_when_given_back)
{
    struct group *g[200];
    for (unsigned i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof name, "g%u", i);
        g[i] = groups_add(&groups, name);
        groups_set_gid(&groups, g[i], i + 1);
        ck_assert_int_eq(groups_take_handle(&groups, g[i]), 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_ptr_eq(groups_by_handle(&groups, g[i]->handle), g[i]);
        ck_assert_ptr_eq(groups_by_gid(&groups, i + 1), g[i]);
    }
    uint32_t freed = g[7]->handle;
    groups_drop_handle(&groups, g[7]);
    ck_assert_ptr_null(groups_by_handle(&groups, freed));
    ck_assert_ptr_eq(groups_by_name(&groups, "g7"), g[7]); /* the CMS still knows it */
    ck_assert_int_eq(groups_take_handle(&groups, g[7]), 0);
    ck_assert_ptr_eq(groups_by_handle(&groups, g[7]->handle), g[7]);
}
END_TEST

START_TEST(a_group_that_nobody_needs_is_forgotten)
{
    struct group *g = groups_add(&groups, "g");
    groups_take_handle(&groups, g);
    groups_drop_handle(&groups, g);
    ck_assert_ptr_null(groups_by_name(&groups, "g"));
}
END_TEST

START_TEST(members_are_those_of_all_its_regions_in_order)
{
    const uint32_t one[] = {2, 9}, two[] = {1, 5, 7}, gids[] = {4};
    struct view *v = view_new(1, 1, one, 2, gids, 1), *w = view_new(2, 1, two, 3, gids, 1);
    struct group *g = groups_add(&groups, "g");
    groups_set_gid(&groups, g, 4);
    group_add_place(g, v, 0);
    group_add_place(g, w, 0);
    group_refresh_members(g);
    const uint32_t all[] = {1, 2, 5, 7, 9};
    ck_assert_uint_eq(g->member_count, 5);
    ck_assert_mem_eq(g->members, all, sizeof all);
    ck_assert(group_has_member(g, 7) && !group_has_member(g, 3));
    group_remove_place(g, 1);
    ck_assert_uint_eq(g->member_count, 5); /* as of the last look */
    group_refresh_members(g);
    ck_assert_uint_eq(g->member_count, 3);
    ck_assert(g->members == w->members); /* the groups of one region share its list */
    group_remove_place(g, 2);
    view_unref(v);
    view_unref(w);
    ck_assert(group_has_member(g, 5));
    group_refresh_members(g);
    ck_assert_uint_eq(g->member_count, 0);
}
END_TEST

/* A message is stable when its last unit is: in the region that is last to say so. */
START_TEST(a_message_is_stable_when_its_last_unit_is_in_all_regions)
{
    struct channel_out *some = (void *)&ctx; /* only compared with NULL */
    const uint32_t members[] = {1}, gids[] = {4};
    struct view *v = view_new(1, 1, members, 1, gids, 1), *w = view_new(2, 1, members, 1, gids, 1);
    struct group *g = groups_add(&groups, "g");
    group_add_place(g, v, 0);
    group_add_place(g, w, 0);
    g->places[0].channel = g->places[1].channel = some;
    for (int i = 0; i < 100; i++) { /* messages of three pieces */
        g->unit_sent += 3;
        group_sent(g, 0);
    }
    g->places[0].unit_stable = 300;
    ck_assert(!group_units_stable(g, group_least_stable(g)));
    g->places[1].unit_stable = 5;
    ck_assert(group_units_stable(g, group_least_stable(g)));
    ck_assert_uint_eq(g->stable, 1);
    g->places[1].unit_stable = 299;
    group_units_stable(g, group_least_stable(g));
    ck_assert_uint_eq(g->stable, 99);
    g->places[1].channel = NULL; /* nobody else is in that region */
    group_units_stable(g, group_least_stable(g));
    ck_assert_uint_eq(g->stable, 100);
    view_unref(v);
    view_unref(w);
}
END_TEST

/* Messages of one unit, of several, and units that were void between them: against a list of where
 * each ends. */
START_TEST(messages_of_any_number_of_units_are_stable_when_their_last_one_is)
{
    enum { MESSAGES = 2000 };
    static uint64_t last[MESSAGES + 1]; /* unit of each message */
    uint64_t random = property_seed("units");
    struct group *g = groups_add(&groups, "g");
    uint64_t sent = 0, stable = 0, unit = 0, proved = 0;
    while (stable < MESSAGES) {
        if (sent < MESSAGES && property_below(&random, 3) > 0) {
            unit += property_below(&random, 40) == 0 ? property_below(&random, 3) : 0;
            unit += property_below(&random, 8) > 0 ? 1 : 2 + property_below(&random, 50);
            last[++sent] = unit;
            uint64_t more = property_below(&random, 4) == 0 ? property_below(&random, 30) : 0;
            more = more < MESSAGES - sent ? more : MESSAGES - sent; /* one unit each */
            for (uint64_t i = 0; i < more; i++)
                last[++sent] = ++unit;
            g->unit_sent = unit;
            group_sent(g, (uint32_t)more);
        } else if (unit > proved) {
            proved = sent == MESSAGES ? unit : proved + 1 + property_below(&random, unit - proved);
            while (stable < sent && last[stable + 1] <= proved)
                stable++;
            group_units_stable(g, proved);
        }
        PROPERTY(g->sent == sent);
        PROPERTY(g->stable == stable);
    }
}
END_TEST

START_TEST(peers_are_found_by_id_until_removed)
{
    struct peers ps;
    peers_init(&ps);
    peers_add(&ps, 3, "three", 0x0a000003);
    peers_add(&ps, 3, "drei", 0x0a000004);
    ck_assert_str_eq(peers_find(&ps, 3)->name, "drei");
    ck_assert_uint_eq(peers_address(&ps, 3), 0x0a000004);
    ck_assert_uint_eq(peers_address(&ps, 4), 0);
    peers_remove(&ps, 3);
    ck_assert_ptr_null(peers_find(&ps, 3));
    peers_add(&ps, 5, "five", 1);
    peers_done(&ps);
    ck_assert_ptr_null(peers_find(&ps, 5));
}
END_TEST

Suite *suite_group(void)
{
    Suite *s = suite_create("group");
    TCase *t = tcase_create("group");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, names_are_printable_utf8_without_spaces);
    tcase_add_test(t, a_handle_is_stable_and_used_again_only_when_given_back);
    tcase_add_test(t, a_group_that_nobody_needs_is_forgotten);
    tcase_add_test(t, members_are_those_of_all_its_regions_in_order);
    tcase_add_test(t, a_message_is_stable_when_its_last_unit_is_in_all_regions);
    tcase_add_test(t, messages_of_any_number_of_units_are_stable_when_their_last_one_is);
    tcase_add_test(t, peers_are_found_by_id_until_removed);
    suite_add_tcase(s, t);
    return s;
}
