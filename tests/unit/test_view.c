/* Tests of core/view. */
#include "view.h"
#include <stddef.h>
#include "property.h"
#include "suites.h"

/* A view of the nodes 10, 13, 16 … */
static struct view *make(uint32_t members, uint32_t ring_size, uint32_t replicas)
{
    uint32_t ids[VIEW_MEMBERS_MAX], groups[] = {7, 3};
    struct view *v;

    for (uint32_t i = 0; i < members; i++)
        ids[i] = 10 + 3 * i;
    v = view_new(5, 9, ids, members, groups, 2);
    v->ring_size = ring_size;
    v->replicas = replicas;
    return v;
}

START_TEST(a_view_keeps_copies_and_finds_ranks)
{
    struct view *v = make(4, 25, 5);

    ck_assert_uint_eq(v->rid, 5);
    ck_assert_uint_eq(v->epoch, 9);
    ck_assert_uint_eq(v->groups[0], 7);
    ck_assert_uint_eq(v->groups[1], 3);
    ck_assert_uint_eq(view_rank(v, 10), 0);
    ck_assert_uint_eq(view_rank(v, 19), 3);
    ck_assert_uint_eq(view_rank(v, 11), VIEW_NO_RANK);
    ck_assert_uint_eq(view_rank(v, 9), VIEW_NO_RANK);
    ck_assert_uint_eq(view_rank(v, 20), VIEW_NO_RANK);
    view_unref(view_ref(v));
    view_unref(v);
    view_unref(NULL);
}
END_TEST

START_TEST(partitions_are_of_even_size_and_cover_all)
{
    for (uint32_t n = 1; n <= 200; n++) {
        struct view *v = make(n, 25, 5);
        uint32_t partitions = view_partitions(v), next = 0, least = n, most = 0;

        PROPERTY(partitions == (n + 24) / 25);
        for (uint32_t p = 0; p < partitions; p++) {
            uint32_t count, first = view_partition_first(v, p, &count);

            PROPERTY(first == next);
            for (uint32_t i = 0; i < count; i++)
                PROPERTY(view_partition(v, first + i) == p);
            next += count;
            least = count < least ? count : least;
            most = count > most ? count : most;
        }
        PROPERTY(next == n);
        PROPERTY(most <= 25);
        PROPERTY(most - least <= 1);
        view_unref(v);
    }
}
END_TEST

/* Walks all rings of a view: each place of a level is on one ring, first places lead, and the
 * leaders are the places of the next level. */
static void check_rings(const struct view *v, uint32_t ring_size)
{
    uint32_t places = v->member_count, levels = view_levels(v);

    for (uint32_t level = 0; level < levels; level++) {
        for (uint32_t place = 0; place < places; place++) {
            uint32_t rank = view_ring_rank(v, level, place);
            struct view_ring at;

            PROPERTY(view_ring(v, level, rank, &at));
            PROPERTY(at.level == level && at.first + at.index == place && at.count <= ring_size);
            PROPERTY(view_ring_rank(v, level, at.first) <= rank);
            bool leads = at.index == 0;

            PROPERTY(view_ring(v, level + 1, rank, &at) == (leads && level + 1 < levels));
        }
        PROPERTY(view_ring_rank(v, level, 0) == 0);
        places = places / ring_size + (places % ring_size > 0);
        PROPERTY(level + 1 < levels ? places > 1 : places == 1);
    }
}

START_TEST(leaders_form_rings_again_up_to_one)
{
    static const uint32_t sizes[] = {2, 3, 4, 7, 25, 1024};

    for (uint32_t n = 1; n <= 1000; n += n < 60 ? 1 : 47) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct view *v = make(n, sizes[i], 5);

            check_rings(v, sizes[i]);
            view_unref(v);
        }
    }
}
END_TEST

START_TEST(a_packet_is_cached_in_its_partition_by_as_many_as_configured)
{
    uint64_t random = property_seed("view");

    for (int run = 0; run < 3000; run++) {
        struct view *v =
            make((uint32_t)property_below(&random, 60), /* none is a view, too */
                 2 + (uint32_t)property_below(&random, 30), (uint32_t)property_below(&random, 7));
        uint32_t sender = (uint32_t)property_below(&random, 70), ranks[8], count, listed = 0;
        uint64_t seq = property_next(&random);

        if (sender >= v->member_count)
            sender = VIEW_NO_RANK;
        count = view_cachers(v, sender, seq, ranks, 8);
        PROPERTY(count <= v->replicas);
        for (uint32_t rank = 0; rank < v->member_count; rank++) {
            bool found = false;

            for (uint32_t i = 0; i < count; i++)
                found |= ranks[i] == rank;
            listed += found;
            PROPERTY(view_caches(v, rank, sender, seq) == found);
            PROPERTY(!found || rank != sender);
            PROPERTY(!found || view_partition(v, rank) == seq % view_partitions(v));
        }
        PROPERTY(listed == count);
        PROPERTY(view_cachers(v, sender, seq, ranks, 1) == (count < 1 ? count : 1));
        view_unref(v);
    }
}
END_TEST

START_TEST(every_member_caches_its_even_share)
{
    struct view *v = make(60, 25, 5); /* 3 partitions of 20 */
    uint32_t load[60] = {0};

    for (uint64_t seq = 1; seq <= 3 * 20 * 100; seq++) {
        uint32_t ranks[5];

        PROPERTY(view_cachers(v, VIEW_NO_RANK, seq, ranks, 5) == 5);
        for (int i = 0; i < 5; i++)
            load[ranks[i]]++;
    }
    for (uint32_t rank = 0; rank < 60; rank++)
        PROPERTY(load[rank] == 500);
    view_unref(v);
}
END_TEST

START_TEST(a_lone_sender_has_no_cachers)
{
    struct view *v = make(1, 25, 5);
    uint32_t ranks[5];

    ck_assert_uint_eq(view_cachers(v, 0, 1, ranks, 5), 0);
    ck_assert(!view_caches(v, 0, 0, 1));
    ck_assert_uint_eq(view_cachers(v, VIEW_NO_RANK, 1, ranks, 5), 1);
    view_unref(v);
}
END_TEST

Suite *suite_view(void)
{
    Suite *s = suite_create("view");
    TCase *t = tcase_create("view");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_view_keeps_copies_and_finds_ranks);
    tcase_add_test(t, partitions_are_of_even_size_and_cover_all);
    tcase_add_test(t, leaders_form_rings_again_up_to_one);
    tcase_add_test(t, a_packet_is_cached_in_its_partition_by_as_many_as_configured);
    tcase_add_test(t, every_member_caches_its_even_share);
    tcase_add_test(t, a_lone_sender_has_no_cachers);
    suite_add_tcase(s, t);
    return s;
}
