/* Tests of core/histogram and core/sample. */
#include <stdlib.h>
#include "histogram.h"
#include "sample.h"
#include "property.h"
#include "suites.h"

#define LONGEST histogram_up_to(HISTOGRAM_BUCKETS - 1)

static uint32_t the_bucket_of(uint64_t value)
{
    struct histogram h = {0};
    uint32_t bucket = 0;

    histogram_note(&h, value);
    while (h.buckets[bucket] == 0)
        bucket++;
    return bucket;
}

START_TEST(buckets_follow_each_other_without_a_gap)
{
    for (uint32_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        ck_assert_uint_lt(histogram_up_to(i), histogram_up_to(i + 1));
        ck_assert_uint_eq(the_bucket_of(histogram_up_to(i)), i);
        ck_assert_uint_eq(the_bucket_of(histogram_up_to(i) + 1), i + 1);
    }
    ck_assert_uint_eq(the_bucket_of(0), 0);
    ck_assert_uint_eq(LONGEST, (UINT64_C(1) << 27) - 1);
}
END_TEST

START_TEST(what_is_longer_than_all_buckets_is_in_the_last_and_the_max_is_true)
{
    struct histogram h = {0};

    histogram_note(&h, 5);
    histogram_note(&h, LONGEST + 1);
    histogram_note(&h, LONGEST * 50);
    ck_assert_uint_eq(h.buckets[HISTOGRAM_BUCKETS - 1], 2);
    ck_assert_uint_eq(h.max, LONGEST * 50);
    ck_assert_uint_eq(histogram_percentile(&h, 99), LONGEST * 50);
    ck_assert_uint_eq(histogram_percentile(&h, 30), 5);
}
END_TEST

START_TEST(of_nothing_every_percentile_is_0)
{
    struct histogram h = {0};

    ck_assert_uint_eq(histogram_percentile(&h, 1), 0);
    ck_assert_uint_eq(histogram_percentile(&h, 100), 0);
}
END_TEST

START_TEST(one_in_a_hundred_is_beyond_the_99th)
{
    struct histogram h = {0};

    for (int i = 0; i < 99; i++)
        histogram_note(&h, 100);
    histogram_note(&h, 7000);
    ck_assert_uint_eq(h.count, 100);
    ck_assert_uint_eq(h.sum, 16900);
    ck_assert_uint_eq(histogram_percentile(&h, 50), 111);
    ck_assert_uint_eq(histogram_percentile(&h, 99), 111);
    ck_assert_uint_eq(histogram_percentile(&h, 100), 7000);
}
END_TEST

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

START_TEST(a_percentile_is_no_less_than_the_true_one_and_at_most_a_quarter_more)
{
    uint64_t random = property_seed("histogram");

    for (int run = 0; run < 500; run++) {
        struct histogram h = {0};
        uint64_t values[200], sum = 0;
        size_t n = 1 + property_below(&random, 200);
        unsigned bits = 1 + (unsigned)property_below(&random, 27);

        for (size_t i = 0; i < n; i++) {
            values[i] =
                property_below(&random, UINT64_C(1) << bits) >> property_below(&random, bits);
            sum += values[i];
            histogram_note(&h, values[i]);
        }
        qsort(values, n, sizeof(values[0]), ascending);
        PROPERTY(h.count == n && h.sum == sum && h.max == values[n - 1]);
        for (unsigned percent = 1; percent <= 100; percent++) {
            uint64_t is = histogram_percentile(&h, percent);
            uint64_t want = values[(n * percent + 99) / 100 - 1];

            PROPERTY(is >= want && is <= want + want / 4);
        }
    }
}
END_TEST

START_TEST(one_sample_is_out_at_a_time_and_is_over_with_its_number)
{
    struct histogram h = {0};
    struct sample s = {0};
    int a, b; /* something to be of */

    sample_begin(&s, &a, 7, 100);
    sample_begin(&s, &a, 8, 110);
    sample_begin(&s, &b, 1, 110);
    sample_end(&s, &b, 9, 120, &h);
    sample_end(&s, &a, 6, 120, &h);
    ck_assert_uint_eq(h.count, 0);
    sample_end(&s, &a, 9, 150, &h);
    sample_end(&s, &a, 10, 170, &h);
    ck_assert_uint_eq(h.count, 1);
    ck_assert_uint_eq(h.max, 50);
    sample_begin(&s, &b, 2, 200);
    sample_forget(&s, &a);
    sample_end(&s, &b, 2, 207, &h);
    ck_assert_uint_eq(h.sum, 57);
}
END_TEST

START_TEST(a_sample_whose_end_is_never_known_gives_way)
{
    struct histogram h = {0};
    struct sample s = {0};
    int a, b;

    sample_begin(&s, &a, 1, 100);
    sample_forget(&s, &a);
    sample_begin(&s, &b, 4, 300);
    sample_end(&s, &a, 1, 310, &h);
    sample_end(&s, &b, 4, 320, &h);
    ck_assert_uint_eq(h.count, 1);
    ck_assert_uint_eq(h.max, 20);
}
END_TEST

Suite *suite_histogram(void)
{
    Suite *s = suite_create("histogram");
    TCase *t = tcase_create("histogram");

    tcase_add_test(t, buckets_follow_each_other_without_a_gap);
    tcase_add_test(t, what_is_longer_than_all_buckets_is_in_the_last_and_the_max_is_true);
    tcase_add_test(t, of_nothing_every_percentile_is_0);
    tcase_add_test(t, one_in_a_hundred_is_beyond_the_99th);
    tcase_add_test(t, a_percentile_is_no_less_than_the_true_one_and_at_most_a_quarter_more);
    tcase_add_test(t, one_sample_is_out_at_a_time_and_is_over_with_its_number);
    tcase_add_test(t, a_sample_whose_end_is_never_known_gives_way);
    suite_add_tcase(s, t);
    return s;
}
