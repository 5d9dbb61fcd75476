/* Tests of core/pull. */
#include "pull.h"
#include <stddef.h>
#include "suites.h"

START_TEST(feeds_take_turns_in_the_order_they_registered)
{
    struct feed a = {.ready = false}, b = a, c = a;
    struct sink s;

    sink_init(&s);
    ck_assert_ptr_null(sink_turn(&s));
    feed_ready(&s, &a);
    feed_ready(&s, &b);
    feed_ready(&s, &c);
    feed_ready(&s, &a);
    ck_assert_uint_eq(s.ready, 3);
    for (int round = 0; round < 2; round++) {
        ck_assert_ptr_eq(sink_turn(&s), &a);
        ck_assert_ptr_eq(sink_turn(&s), &b);
        ck_assert_ptr_eq(sink_turn(&s), &c);
    }
}
END_TEST

START_TEST(a_dry_feed_gets_no_turn_until_it_registers_again)
{
    struct feed a = {.ready = false}, b = a;
    struct sink s;

    sink_init(&s);
    feed_ready(&s, &a);
    feed_ready(&s, &b);
    feed_dry(&s, &a);
    feed_dry(&s, &a);
    ck_assert(!a.ready);
    ck_assert_uint_eq(s.ready, 1);
    ck_assert_ptr_eq(sink_turn(&s), &b);
    ck_assert_ptr_eq(sink_turn(&s), &b);
    feed_ready(&s, &a);
    ck_assert_ptr_eq(sink_turn(&s), &b);
    ck_assert_ptr_eq(sink_turn(&s), &a);
    feed_dry(&s, &a);
    feed_dry(&s, &b);
    ck_assert_ptr_null(sink_turn(&s));
    ck_assert_uint_eq(s.ready, 0);
}
END_TEST

Suite *suite_pull(void)
{
    Suite *s = suite_create("pull");
    TCase *t = tcase_create("pull");

    tcase_add_test(t, feeds_take_turns_in_the_order_they_registered);
    tcase_add_test(t, a_dry_feed_gets_no_turn_until_it_registers_again);
    suite_add_tcase(s, t);
    return s;
}
