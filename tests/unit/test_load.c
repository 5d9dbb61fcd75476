/* Tests of core/load. */
#include "load.h"
#include "suites.h"

#define MS UINT64_C(1000)

/* Takes packets of 1,000 bytes, so many each millisecond, for a while. */
static void take(struct load *l, uint64_t *now_us, unsigned per_ms, unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        for (unsigned k = 0; k < per_ms; k++)
            load_took(l, 1000, *now_us);
        *now_us += MS;
    }
}

START_TEST(who_keeps_up_sets_no_limit)
{
    struct load l = {0};
    uint64_t now_us = 5;

    take(&l, &now_us, 10, 1000);
    load_socket(&l, 0, 700);
    take(&l, &now_us, 10, 1000);
    ck_assert_uint_eq(load_limit(&l, now_us), 0);
}
END_TEST

START_TEST(who_drops_asks_for_a_little_less_than_it_took)
{
    struct load l = {0};
    uint64_t now_us = 5;

    take(&l, &now_us, 10, 1000); /* 10 MB/s */
    load_socket(&l, 1, 1000);
    take(&l, &now_us, 10, 100);
    ck_assert_uint_gt(load_limit(&l, now_us), 8000000);
    ck_assert_uint_lt(load_limit(&l, now_us), 10000000);
}
END_TEST

START_TEST(the_limit_falls_while_it_is_pressed_and_goes_when_it_is_not)
{
    struct load l = {0};
    uint64_t now_us = 5, before;

    take(&l, &now_us, 10, 1000);
    load_socket(&l, 1, 0);
    take(&l, &now_us, 10, 100);
    before = load_limit(&l, now_us);
    load_socket(&l, 2, 0);
    take(&l, &now_us, 10, 100);
    ck_assert_uint_lt(load_limit(&l, now_us), before);
    before = load_limit(&l, now_us);
    take(&l, &now_us, 10, 100);
    ck_assert_uint_gt(load_limit(&l, now_us), before);
    take(&l, &now_us, 10, 3000);
    ck_assert_uint_eq(load_limit(&l, now_us), 0);
}
END_TEST

START_TEST(a_sleep_is_not_taken_for_weakness)
{
    struct load l = {0};
    uint64_t now_us = 5;

    take(&l, &now_us, 10, 1000);
    now_us += 500 * MS;
    load_socket(&l, 1, 1000);
    take(&l, &now_us, 10, 100);
    ck_assert_uint_gt(load_limit(&l, now_us), 8000000);
}
END_TEST

START_TEST(the_limit_has_a_floor)
{
    struct load l = {0};
    uint64_t now_us = 5;

    for (uint64_t i = 0; i < 200; i++) {
        load_socket(&l, i + 1, 1000);
        now_us += 100 * MS;
        load_limit(&l, now_us);
    }
    ck_assert_uint_eq(load_limit(&l, now_us), LOAD_RATE_MIN);
}
END_TEST

Suite *suite_load(void)
{
    Suite *s = suite_create("load");
    TCase *t = tcase_create("load");

    tcase_add_test(t, who_keeps_up_sets_no_limit);
    tcase_add_test(t, who_drops_asks_for_a_little_less_than_it_took);
    tcase_add_test(t, the_limit_falls_while_it_is_pressed_and_goes_when_it_is_not);
    tcase_add_test(t, a_sleep_is_not_taken_for_weakness);
    tcase_add_test(t, the_limit_has_a_floor);
    suite_add_tcase(s, t);
    return s;
}
