/* Tests of core/range. */
#include "range.h"
#include <stdlib.h>
#include "property.h"
#include "suites.h"

static void check_order(const struct ranges *r)
{
    for (size_t i = 0; i < r->count; i++) {
        PROPERTY(r->list[i].from <= r->list[i].to);
        if (i > 0)
            PROPERTY(r->list[i - 1].to + 1 < r->list[i].from);
    }
}

static void check_range(const struct ranges *r, size_t i, uint64_t from, uint64_t to)
{
    ck_assert_uint_lt(i, r->count);
    ck_assert_uint_eq(r->list[i].from, from);
    ck_assert_uint_eq(r->list[i].to, to);
}

START_TEST(ranges_that_touch_become_one)
{
    struct ranges r;

    ranges_init(&r);
    ranges_add(&r, 1, 3);
    ranges_add(&r, 7, 9);
    ck_assert_uint_eq(r.count, 2);
    ranges_add(&r, 4, 6);
    ck_assert_uint_eq(r.count, 1);
    check_range(&r, 0, 1, 9);
    ranges_done(&r);
}
END_TEST

START_TEST(removing_the_middle_splits_a_range)
{
    struct ranges r;

    ranges_init(&r);
    ranges_add(&r, 10, 20);
    ranges_remove(&r, 13, 15);
    ck_assert_uint_eq(r.count, 2);
    check_range(&r, 0, 10, 12);
    check_range(&r, 1, 16, 20);
    ck_assert(!ranges_contain(&r, 14));
    ck_assert(ranges_contain(&r, 16));
    ranges_done(&r);
}
END_TEST

START_TEST(the_ends_of_the_numbers_do_not_overflow)
{
    struct ranges r;

    ranges_init(&r);
    ranges_add(&r, UINT64_MAX - 1, UINT64_MAX);
    ranges_add(&r, 0, 0);
    ck_assert_uint_eq(r.count, 2);
    ranges_add(&r, 0, UINT64_MAX);
    ck_assert_uint_eq(r.count, 1);
    ranges_remove(&r, UINT64_MAX, UINT64_MAX);
    ranges_remove(&r, 0, 0);
    check_range(&r, 0, 1, UINT64_MAX - 1);
    ranges_remove(&r, 0, UINT64_MAX);
    ck_assert_uint_eq(r.count, 0);
    ranges_done(&r);
}
END_TEST

struct gaps {
    unsigned count, stop_after;
    uint64_t from[8], to[8];
};

static bool note_gap(void *ctx, uint64_t from, uint64_t to)
{
    struct gaps *g = ctx;

    g->from[g->count] = from;
    g->to[g->count] = to;
    return ++g->count < g->stop_after;
}

START_TEST(gaps_come_lowest_first_until_the_callback_stops)
{
    struct ranges r;
    struct gaps all = {.stop_after = 8}, one = {.stop_after = 1}, none = {.stop_after = 8};

    ranges_init(&r);
    ranges_add(&r, 5, 6);
    ranges_add(&r, 9, 9);
    ranges_gaps(&r, 1, 12, note_gap, &all);
    ck_assert_uint_eq(all.count, 3);
    ck_assert_uint_eq(all.from[0], 1);
    ck_assert_uint_eq(all.to[0], 4);
    ck_assert_uint_eq(all.from[1], 7);
    ck_assert_uint_eq(all.to[1], 8);
    ck_assert_uint_eq(all.from[2], 10);
    ck_assert_uint_eq(all.to[2], 12);
    ranges_gaps(&r, 1, 12, note_gap, &one);
    ck_assert_uint_eq(one.count, 1);
    ranges_gaps(&r, 5, 6, note_gap, &none);
    ck_assert_uint_eq(none.count, 0);
    ranges_done(&r);
}
END_TEST

#define MODEL 128

static bool clear_gap(void *ctx, uint64_t from, uint64_t to)
{
    bool *gap = ctx;

    for (uint64_t i = from; i <= to; i++)
        gap[i] = true;
    return true;
}

START_TEST(random_changes_match_a_plain_array)
{
    uint64_t random = property_seed("range");
    bool model[MODEL] = {false};
    struct ranges r;

    ranges_init(&r);
    for (int round = 0; round < 5000; round++) {
        uint64_t from = property_below(&random, MODEL);
        uint64_t to = from + property_below(&random, 12);
        bool add = property_below(&random, 2) == 0;
        bool gap[MODEL] = {false};

        if (to >= MODEL)
            to = MODEL - 1;
        if (add)
            ranges_add(&r, from, to);
        else
            ranges_remove(&r, from, to);
        for (uint64_t i = from; i <= to; i++)
            model[i] = add;
        check_order(&r);
        ranges_gaps(&r, 0, MODEL - 1, clear_gap, gap);
        for (uint64_t i = 0; i < MODEL; i++) {
            PROPERTY(ranges_contain(&r, i) == model[i]);
            PROPERTY(gap[i] == !model[i]);
        }
    }
    ranges_done(&r);
}
END_TEST

Suite *suite_range(void)
{
    Suite *s = suite_create("range");
    TCase *t = tcase_create("range");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, ranges_that_touch_become_one);
    tcase_add_test(t, removing_the_middle_splits_a_range);
    tcase_add_test(t, the_ends_of_the_numbers_do_not_overflow);
    tcase_add_test(t, gaps_come_lowest_first_until_the_callback_stops);
    tcase_add_test(t, random_changes_match_a_plain_array);
    suite_add_tcase(s, t);
    return s;
}
