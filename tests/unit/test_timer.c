/* Tests of core/timer. */
#include "timer.h"
#include <limits.h>
#include <stddef.h>
#include "property.h"
#include "suites.h"

#define ALARMS 40

static struct timers timers;
static struct alarm {
    struct timer timer;
    uint64_t fired_us;
    unsigned place; /* the how-manieth that fired */
} alarms[ALARMS];
static unsigned fired;

static void on_fire(void *ctx, uint64_t now_us)
{
    struct alarm *a = ctx;

    PROPERTY(!timer_armed(&a->timer));
    a->fired_us = now_us;
    a->place = ++fired;
}

static void setup(void)
{
    timers_init(&timers);
    fired = 0;
    for (int i = 0; i < ALARMS; i++) {
        alarms[i] = (struct alarm){.place = 0};
        timer_init(&alarms[i].timer, on_fire, &alarms[i]);
    }
}

START_TEST(what_is_due_fires_earliest_first)
{
    timer_arm(&timers, &alarms[0].timer, 30);
    timer_arm(&timers, &alarms[1].timer, 10);
    timer_arm(&timers, &alarms[2].timer, 20);
    timer_arm(&timers, &alarms[3].timer, 31);
    ck_assert_uint_eq(timers_next(&timers), 10);
    ck_assert_uint_eq(timers_expire(&timers, 30, UINT_MAX), 3);
    ck_assert_uint_eq(alarms[1].place, 1);
    ck_assert_uint_eq(alarms[2].place, 2);
    ck_assert_uint_eq(alarms[0].place, 3);
    ck_assert_uint_eq(alarms[0].fired_us, 30);
    ck_assert_uint_eq(timers_next(&timers), 31);
}
END_TEST

START_TEST(of_equal_times_the_first_armed_fires_first)
{
    timer_arm(&timers, &alarms[2].timer, 10);
    timer_arm(&timers, &alarms[0].timer, 10);
    timer_arm(&timers, &alarms[1].timer, 10);
    timers_expire(&timers, 10, UINT_MAX);
    ck_assert_uint_eq(alarms[2].place, 1);
    ck_assert_uint_eq(alarms[0].place, 2);
    ck_assert_uint_eq(alarms[1].place, 3);
}
END_TEST

START_TEST(arming_again_moves_and_sooner_only_moves_forward)
{
    struct timer *t = &alarms[0].timer;

    timer_arm_sooner(&timers, t, 50);
    ck_assert_uint_eq(timers_next(&timers), 50);
    timer_arm_sooner(&timers, t, 60);
    ck_assert_uint_eq(timers_next(&timers), 50);
    timer_arm_sooner(&timers, t, 40);
    ck_assert_uint_eq(timers_next(&timers), 40);
    timer_arm(&timers, t, 90);
    ck_assert_uint_eq(timers_next(&timers), 90);
    timer_arm(&timers, t, TIMER_NEVER);
    ck_assert(!timer_armed(t));
    timer_cancel(&timers, t);
    ck_assert_uint_eq(timers_next(&timers), TIMER_NEVER);
    ck_assert_uint_eq(timers_expire(&timers, TIMER_NEVER - 1, UINT_MAX), 0);
}
END_TEST

static void on_fire_again(void *ctx, uint64_t now_us)
{
    struct alarm *a = ctx;

    a->place++;
    timer_arm(&timers, &a->timer, now_us > 5 ? now_us - 5 : 0);
}

START_TEST(a_timer_armed_for_the_past_by_one_that_fires_waits_for_the_next_call)
{
    timer_init(&alarms[0].timer, on_fire_again, &alarms[0]);
    timer_init(&alarms[1].timer, on_fire_again, &alarms[1]);
    timer_arm(&timers, &alarms[0].timer, 10);
    timer_arm(&timers, &alarms[1].timer, 11);
    ck_assert_uint_eq(timers_expire(&timers, 12, UINT_MAX), 2);
    ck_assert_uint_eq(alarms[0].place, 1);
    ck_assert_uint_eq(alarms[1].place, 1);
    ck_assert_uint_eq(timers_next(&timers), 7);
    ck_assert_uint_eq(timers_expire(&timers, 12, UINT_MAX), 2);
}
END_TEST

static void on_fire_cancel(void *ctx, uint64_t now_us)
{
    (void)now_us;
    timer_cancel(&timers, ctx);
}

START_TEST(a_timer_may_cancel_another_that_is_due)
{
    timer_init(&alarms[0].timer, on_fire_cancel, &alarms[1].timer);
    timer_arm(&timers, &alarms[0].timer, 10);
    timer_arm(&timers, &alarms[1].timer, 10);
    ck_assert_uint_eq(timers_expire(&timers, 10, UINT_MAX), 1);
    ck_assert_uint_eq(alarms[1].place, 0);
}
END_TEST

START_TEST(as_many_fire_in_a_call_as_were_asked_for)
{
    for (int i = 0; i < 3; i++)
        timer_arm(&timers, &alarms[i].timer, 10);
    ck_assert_uint_eq(timers_expire(&timers, 10, 2), 2);
    ck_assert_uint_eq(alarms[1].place, 2);
    ck_assert(timer_armed(&alarms[2].timer));
    ck_assert_uint_eq(timers_expire(&timers, 10, 2), 1);
}
END_TEST

START_TEST(random_arming_fires_each_alarm_at_its_time)
{
    uint64_t random = property_seed("timer");
    uint64_t at[ALARMS], now_us = 0;

    for (int i = 0; i < ALARMS; i++)
        at[i] = TIMER_NEVER;
    for (int round = 0; round < 5000; round++) {
        uint64_t i = property_below(&random, ALARMS), next = TIMER_NEVER;
        unsigned due = 0;

        at[i] =
            property_below(&random, 4) > 0 ? now_us + property_below(&random, 100) : TIMER_NEVER;
        timer_arm(&timers, &alarms[i].timer, at[i]);
        for (int j = 0; j < ALARMS; j++)
            next = at[j] < next ? at[j] : next;
        PROPERTY(timers_next(&timers) == next);
        now_us += property_below(&random, 10);
        for (int j = 0; j < ALARMS; j++)
            due += at[j] <= now_us;
        PROPERTY(timers_expire(&timers, now_us, UINT_MAX) == due);
        for (int j = 0; j < ALARMS; j++) {
            if (at[j] <= now_us)
                at[j] = TIMER_NEVER;
            PROPERTY(timer_armed(&alarms[j].timer) == (at[j] != TIMER_NEVER));
        }
    }
}
END_TEST

Suite *suite_timer(void)
{
    Suite *s = suite_create("timer");
    TCase *t = tcase_create("timer");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, what_is_due_fires_earliest_first);
    tcase_add_test(t, of_equal_times_the_first_armed_fires_first);
    tcase_add_test(t, arming_again_moves_and_sooner_only_moves_forward);
    tcase_add_test(t, a_timer_armed_for_the_past_by_one_that_fires_waits_for_the_next_call);
    tcase_add_test(t, a_timer_may_cancel_another_that_is_due);
    tcase_add_test(t, as_many_fire_in_a_call_as_were_asked_for);
    tcase_add_test(t, random_arming_fires_each_alarm_at_its_time);
    suite_add_tcase(s, t);
    return s;
}
