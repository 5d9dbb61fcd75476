/* Tests of region: from groups to regions. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"
#include "suites.h"

static const struct region_config config = {
    .multicast = 1000, .regions_max = 3, .ring_size = 25, .cache_replicas = 5, .ack_ranges = 3};

static const uint32_t ab[] = {1, 2}, a[] = {1}, b[] = {2}, c[] = {3};

static struct region_node node(uint32_t id, const uint32_t *groups, uint32_t count)
{
    return (struct region_node){.id = id,
                                .datagram_bytes = 1400 + id,
                                .rcvbuf_bytes = 100000 - id,
                                .groups = groups,
                                .group_count = count};
}

START_TEST(nodes_with_the_same_groups_form_a_region)
{
    struct regions none, r;
    regions_init(&none);
    struct region_node nodes[] = {node(5, ab, 2), node(6, a, 1), node(7, ab, 2), node(8, NULL, 0)};
    ck_assert_int_eq(regions_build(&none, nodes, 4, &config, &r), 0);
    ck_assert_uint_eq(r.count, 2);
    ck_assert_uint_eq(r.list[0].rid, 1);
    ck_assert_uint_eq(r.list[0].address, 1001);
    ck_assert_uint_eq(r.list[0].member_count, 2);
    ck_assert_uint_eq(r.list[0].members[0], 5);
    ck_assert_uint_eq(r.list[0].members[1], 7);
    ck_assert_uint_eq(r.list[0].group_count, 2);
    ck_assert_uint_eq(r.list[1].address, 1002);
    ck_assert_uint_eq(r.list[1].members[0], 6);
    regions_done(&r);
}
END_TEST

START_TEST(a_region_takes_the_least_datagram_and_receive_buffer_of_its_members)
{
    struct regions none, r;
    regions_init(&none);
    struct region_node nodes[] = {node(5, ab, 2), node(7, ab, 2)};
    ck_assert_int_eq(regions_build(&none, nodes, 2, &config, &r), 0);
    ck_assert_uint_eq(r.list[0].datagram_bytes, 1405);
    ck_assert_uint_eq(r.list[0].rcvbuf_bytes, 100000 - 7);
    ck_assert_uint_eq(r.list[0].ring_size, 25);
    ck_assert_uint_eq(r.list[0].cache_replicas, 5);
    ck_assert_uint_eq(r.list[0].ack_ranges, 3);
    regions_done(&r);
}
END_TEST

START_TEST(a_set_that_lives_keeps_rid_and_address_and_a_rid_is_never_used_again)
{
    struct regions none, first, second, third;
    regions_init(&none);
    struct region_node one[] = {node(5, a, 1), node(6, b, 1)};
    struct region_node two[] = {node(6, b, 1)};
    struct region_node three[] = {node(5, a, 1), node(6, b, 1), node(7, b, 1)};
    ck_assert_int_eq(regions_build(&none, one, 2, &config, &first), 0);
    ck_assert_int_eq(regions_build(&first, two, 1, &config, &second), 0);
    ck_assert_uint_eq(second.count, 1);
    ck_assert_uint_eq(second.list[0].rid, 2);
    ck_assert_uint_eq(second.list[0].address, 1002);
    ck_assert_int_eq(regions_build(&second, three, 3, &config, &third), 0);
    ck_assert_uint_eq(third.count, 2);
    ck_assert_uint_eq(third.list[0].rid, 2);
    ck_assert_uint_eq(third.list[0].member_count, 2);
    ck_assert_uint_eq(third.list[1].rid, 3);
    ck_assert_uint_eq(third.list[1].address, 1001); /* free again */
    regions_done(&first);
    regions_done(&second);
    regions_done(&third);
}
END_TEST

START_TEST(a_freed_address_is_taken_at_once_only_for_want_of_another)
{
    struct regions none, first, second;
    struct region_config two = config;
    regions_init(&none);
    struct region_node before[] = {node(5, a, 1), node(6, b, 1)};
    struct region_node after[] = {node(5, c, 1), node(6, b, 1)};
    ck_assert_int_eq(regions_build(&none, before, 2, &config, &first), 0);
    ck_assert_int_eq(regions_build(&first, after, 2, &config, &second), 0);
    ck_assert_uint_eq(second.list[1].address, 1003);
    regions_done(&second);
    two.regions_max = 2;
    ck_assert_int_eq(regions_build(&first, after, 2, &two, &second), 0);
    ck_assert_uint_eq(second.list[1].address, 1001);
    regions_done(&second);
    regions_done(&first);
}
END_TEST

START_TEST(too_many_regions_are_an_error)
{
    struct regions none, r;
    struct region_config two = config;
    two.regions_max = 2;
    regions_init(&none);
    struct region_node nodes[] = {node(5, a, 1), node(6, b, 1), node(7, c, 1)};
    ck_assert_int_eq(regions_build(&none, nodes, 3, &two, &r), -ENOSPC);
    ck_assert_uint_eq(r.count, 0);
    regions_done(&r);
}
END_TEST

START_TEST(all_move_when_the_end_fits_even_if_no_single_step_does)
{
    /* 1 and 1 -> 3 and 3, and 2 -> 2, with two addresses */
    const uint64_t have[] = {1, 1, 2}, want[] = {3, 3, 2};
    bool take[3];
    region_fit(have, want, 3, 2, take);
    ck_assert(take[0] && take[1] && take[2]);
}
END_TEST

START_TEST(who_would_need_an_address_too_many_stays_where_it_is)
{
    const uint64_t have[] = {1, 1, 2, 2}, want[] = {3, 1, 4, 1};
    bool take[4];
    region_fit(have, want, 4, 2, take);
    /* 4th can go to 1, then 3rd alone is 2 and can become 4: {1}, {4}; the 1st needs a third */
    ck_assert(!take[0]);
    ck_assert(take[1] && take[2] && take[3]);
}
END_TEST

START_TEST(random_nodes_are_in_exactly_the_region_of_their_groups)
{
    struct regions old, next;
    struct region_config many = {.multicast = 1, .regions_max = 64};
    regions_init(&old);
    srand(7);
    for (int round = 0; round < 200; round++) {
        uint32_t groups[20][6];
        struct region_node nodes[20];
        uint32_t count = 0;
        for (uint32_t i = 0; i < 20; i++) {
            if (rand() % 5 == 0)
                continue;
            nodes[count] = node(i + 1, groups[count], 0);
            for (uint32_t g = 1; g <= 6; g++) {
                if (rand() % 3 == 0)
                    groups[count][nodes[count].group_count++] = g;
            }
            count++;
        }
        ck_assert_int_eq(regions_build(&old, nodes, count, &many, &next), 0);
        uint32_t members = 0, with_groups = 0;
        for (uint32_t i = 0; i < next.count; i++) {
            struct region *r = &next.list[i];
            members += r->member_count;
            const struct region *was = regions_find(&old, r->rid);
            ck_assert(was == NULL ? r->rid >= old.next_rid : was->address == r->address);
            for (uint32_t k = 0; k < i; k++)
                ck_assert_uint_ne(next.list[k].address, r->address);
            for (uint32_t n = 0; n < count; n++) {
                bool member = false;
                for (uint32_t k = 0; k < r->member_count; k++)
                    member |= r->members[k] == nodes[n].id;
                bool same = r->group_count == nodes[n].group_count &&
                            memcmp(r->groups, nodes[n].groups, 4 * r->group_count) == 0;
                ck_assert_int_eq(member, same);
            }
        }
        for (uint32_t n = 0; n < count; n++)
            with_groups += nodes[n].group_count > 0;
        ck_assert_uint_eq(members, with_groups);
        regions_done(&old);
        old = next;
    }
    regions_done(&old);
}
END_TEST

Suite *suite_region(void)
{
    Suite *suite = suite_create("region");
    TCase *tests = tcase_create("region");
    tcase_add_test(tests, nodes_with_the_same_groups_form_a_region);
    tcase_add_test(tests, a_region_takes_the_least_datagram_and_receive_buffer_of_its_members);
    tcase_add_test(tests, a_set_that_lives_keeps_rid_and_address_and_a_rid_is_never_used_again);
    tcase_add_test(tests, a_freed_address_is_taken_at_once_only_for_want_of_another);
    tcase_add_test(tests, too_many_regions_are_an_error);
    tcase_add_test(tests, all_move_when_the_end_fits_even_if_no_single_step_does);
    tcase_add_test(tests, who_would_need_an_address_too_many_stays_where_it_is);
    tcase_add_test(tests, random_nodes_are_in_exactly_the_region_of_their_groups);
    suite_add_tcase(suite, tests);
    return suite;
}
