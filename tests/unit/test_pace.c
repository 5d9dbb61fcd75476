/* Tests of core/pace. */
#include "pace.h"
#include "property.h"
#include "suites.h"

START_TEST(a_full_bucket_gives_its_burst_and_then_the_rate)
{
    struct pace p;

    pace_init(&p, 1000, 10, 0);
    for (int i = 0; i < 10; i++) {
        ck_assert(pace_ready(&p, 0));
        pace_spend(&p, 1, 0);
    }
    ck_assert(!pace_ready(&p, 0));
    ck_assert(pace_ready(&p, 1));
    pace_spend(&p, 1, 1);
    ck_assert(!pace_ready(&p, 1000));
    ck_assert_uint_eq(pace_next(&p, 500), 1001);
    ck_assert(pace_ready(&p, 1001));
}
END_TEST

START_TEST(no_rate_is_no_limit)
{
    struct pace p;

    pace_init(&p, 0, 0, 5);
    for (int i = 0; i < 100; i++) {
        ck_assert(pace_ready(&p, 5));
        ck_assert_uint_eq(pace_next(&p, 5), 5);
        pace_spend(&p, 1000000, 5);
    }
}
END_TEST

START_TEST(more_than_there_is_leaves_a_debt)
{
    struct pace p;

    pace_init(&p, 100, 10, 0);
    pace_spend(&p, 510, 0);
    ck_assert_uint_eq(pace_next(&p, 0), 5000001);
    ck_assert(!pace_ready(&p, 5000000));
    ck_assert(pace_ready(&p, 5000001));
}
END_TEST

START_TEST(a_long_pause_at_a_high_rate_fills_the_bucket_and_no_more)
{
    struct pace p;

    pace_init(&p, UINT64_MAX, 1000, 0);
    pace_spend(&p, 1000, 0);
    ck_assert(pace_ready(&p, UINT64_MAX - 1));
    pace_spend(&p, 1000, UINT64_MAX - 1);
    ck_assert(!pace_ready(&p, UINT64_MAX - 1));
    ck_assert(!pace_ready(&p, 0));
}
END_TEST

START_TEST(another_rate_keeps_what_is_saved_up_and_what_is_owed)
{
    struct pace p;

    pace_init(&p, 0, 0, 0);
    pace_set(&p, 1000, 10, 100);
    pace_spend(&p, 20, 100);
    pace_set(&p, 10, 10, 100);
    ck_assert_uint_eq(pace_next(&p, 100), 1000101);
    pace_set(&p, 10, 2, 5000000);
    pace_spend(&p, 2, 5000000);
    ck_assert(!pace_ready(&p, 5000000));
    pace_set(&p, 0, 0, 5000000);
    ck_assert(pace_ready(&p, 5000000));
}
END_TEST

START_TEST(over_any_time_no_more_leaves_than_rate_and_burst_and_one_amount)
{
    uint64_t random = property_seed("pace");

    for (int run = 0; run < 50; run++) {
        uint64_t rate = 1 + property_below(&random, 100000),
                 burst = 1 + property_below(&random, 500);
        uint64_t now_us = property_below(&random, 1000), start_us = now_us, taken = 0;
        struct pace p;

        pace_init(&p, rate, burst, now_us);
        for (int i = 0; i < 500; i++) {
            uint64_t amount = property_below(&random, burst + 1);

            now_us += property_below(&random, 5000);
            PROPERTY((pace_next(&p, now_us) <= now_us) == pace_ready(&p, now_us));
            if (!pace_ready(&p, now_us))
                continue;
            PROPERTY(taken * 1000000 <= burst * 1000000 + (now_us - start_us) * rate);
            pace_spend(&p, amount, now_us);
            taken += amount;
        }
    }
}
END_TEST

Suite *suite_pace(void)
{
    Suite *s = suite_create("pace");
    TCase *t = tcase_create("pace");

    tcase_add_test(t, a_full_bucket_gives_its_burst_and_then_the_rate);
    tcase_add_test(t, no_rate_is_no_limit);
    tcase_add_test(t, more_than_there_is_leaves_a_debt);
    tcase_add_test(t, a_long_pause_at_a_high_rate_fills_the_bucket_and_no_more);
    tcase_add_test(t, another_rate_keeps_what_is_saved_up_and_what_is_owed);
    tcase_add_test(t, over_any_time_no_more_leaves_than_rate_and_burst_and_one_amount);
    suite_add_tcase(s, t);
    return s;
}
