/* Tests of core/flight. */
#include "flight.h"
#include "suites.h"

#define MAX (4u << 20)
#define LATE (FLIGHT_LATE_US + 1)

/* A window full of data that is acknowledged so much later. */
static void round_of(struct flight *f, uint64_t *seq, uint64_t *now_us, uint64_t took_us)
{
    uint64_t bytes = f->window;

    flight_sent(f, ++*seq, *now_us);
    flight_sent(f, ++*seq, *now_us + 1);
    *now_us += took_us;
    flight_acked(f, *seq, bytes, MAX, *now_us);
}

START_TEST(it_doubles_with_each_round_in_time_up_to_the_other_limits)
{
    struct flight f;
    uint64_t seq = 0, now_us = 0;

    flight_init(&f);
    for (uint64_t want = FLIGHT_FIRST_BYTES; want < MAX; want *= 2) {
        ck_assert_uint_eq(f.window, want);
        round_of(&f, &seq, &now_us, 2000);
    }
    round_of(&f, &seq, &now_us, 2000);
    ck_assert_uint_eq(f.window, MAX);
}
END_TEST

START_TEST(a_late_round_halves_it_down_to_what_it_began_with)
{
    struct flight f;
    uint64_t seq = 0, now_us = 0;

    flight_init(&f);
    while (f.window < MAX)
        round_of(&f, &seq, &now_us, 2000);
    for (uint64_t want = MAX / 2; want > FLIGHT_FIRST_BYTES; want /= 2) {
        round_of(&f, &seq, &now_us, LATE);
        ck_assert_uint_eq(f.window, want);
    }
    round_of(&f, &seq, &now_us, LATE);
    round_of(&f, &seq, &now_us, LATE);
    ck_assert_uint_eq(f.window, FLIGHT_FIRST_BYTES);
}
END_TEST

START_TEST(a_pause_is_one_late_answer_however_many_packets_it_held_up)
{
    struct flight f;
    uint64_t seq = 0, now_us = 0;

    flight_init(&f);
    while (f.window < MAX)
        round_of(&f, &seq, &now_us, 2000);
    for (int i = 0; i < 50; i++)
        flight_sent(&f, ++seq, now_us += 10000);
    for (uint64_t q = seq - 50; q <= seq; q++)
        flight_acked(&f, q, 1000, MAX, now_us);
    ck_assert_uint_eq(f.window, MAX / 2);
    round_of(&f, &seq, &now_us, 2000);
    ck_assert_uint_eq(f.window, MAX);
}
END_TEST

Suite *suite_flight(void)
{
    Suite *s = suite_create("flight");
    TCase *t = tcase_create("flight");

    tcase_add_test(t, it_doubles_with_each_round_in_time_up_to_the_other_limits);
    tcase_add_test(t, a_late_round_halves_it_down_to_what_it_began_with);
    tcase_add_test(t, a_pause_is_one_late_answer_however_many_packets_it_held_up);
    suite_add_tcase(s, t);
    return s;
}
