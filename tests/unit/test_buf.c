/* Tests of core/buf. */
#include "buf.h"
#include <string.h>
#include "suites.h"

START_TEST(a_copy_is_the_bufs_own)
{
    char text[] = "hello";
    struct buf *b = buf_copy(text, 5);

    text[0] = 'j';
    ck_assert_uint_eq(b->size, 5);
    ck_assert_uint_eq(b->refs, 1);
    ck_assert_mem_eq(b->data, "hello", 5);
    buf_unref(b);
}
END_TEST

START_TEST(an_empty_buf_is_fine)
{
    struct buf *b = buf_copy(NULL, 0);

    ck_assert_uint_eq(b->size, 0);
    buf_unref(b);
    buf_unref(NULL);
}
END_TEST

START_TEST(the_last_reference_counts)
{
    struct buf *b = buf_copy("x", 1);

    ck_assert_ptr_eq(buf_ref(b), b);
    buf_unref(b);
    ck_assert_uint_eq(b->refs, 1);
    buf_unref(b);
}
END_TEST

START_TEST(a_pool_makes_a_buf_only_when_none_is_spare)
{
    struct buf_pool *p = buf_pool_new(100);
    struct buf *b[3];

    for (unsigned round = 0; round < 10; round++) {
        for (int i = 0; i < 2; i++) {
            b[i] = buf_pool_get(p, round);
            ck_assert_uint_eq(b[i]->size, round);
            ck_assert_uint_eq(b[i]->refs, 1);
            memset(b[i]->data, (int)round, 100);
        }
        buf_unref(b[0]);
        buf_unref(b[1]);
    }
#ifndef __SANITIZE_ADDRESS__
    ck_assert_uint_eq(buf_pool_made(p), 2);
#endif
    buf_pool_free(p);
}
END_TEST

START_TEST(a_pool_makes_one_that_is_larger_anew)
{
    struct buf_pool *p = buf_pool_new(100);
    struct buf *b = buf_pool_get(p, 101);

    ck_assert_uint_eq(b->size, 101);
    ck_assert_uint_eq(buf_pool_made(p), 0);
    buf_unref(b);
    buf_pool_free(p);
}
END_TEST

START_TEST(bufs_outlive_their_pool)
{
    struct buf_pool *p = buf_pool_new(100);
    struct buf *b[2] = {buf_pool_get(p, 100), buf_pool_get(p, 1)};

    buf_pool_free(p);
    memset(b[0]->data, 0, 100);
    buf_unref(b[0]);
    buf_unref(b[1]);
    buf_pool_free(NULL);
}
END_TEST

/* So many out at once. */
static void take_at_once(struct buf_pool *p, int count)
{
    struct buf *b[8];

    for (int i = 0; i < count; i++)
        b[i] = buf_pool_get(p, 100);
    for (int i = 0; i < count; i++)
        buf_unref(b[i]);
}

START_TEST(a_pool_keeps_what_was_out_at_once_since_it_was_trimmed)
{
    struct buf_pool *p = buf_pool_new(100);
    struct buf *held;

    take_at_once(p, 8);
    ck_assert_uint_eq(buf_pool_made(p), 8);
    held = buf_pool_get(p, 100);
    buf_pool_trim(p); /* 8 were */
#ifndef __SANITIZE_ADDRESS__
    take_at_once(p, 7);
    ck_assert_uint_eq(buf_pool_made(p), 8);
    buf_pool_trim(p); /* and again */
    take_at_once(p, 3);
    buf_pool_trim(p); /* only 4 */
    take_at_once(p, 3);
    ck_assert_uint_eq(buf_pool_made(p), 8);
    take_at_once(p, 4);
    ck_assert_uint_eq(buf_pool_made(p), 9);
    buf_pool_trim(p);
    buf_pool_trim(p); /* one, which is still out */
    take_at_once(p, 1);
    ck_assert_uint_eq(buf_pool_made(p), 10);
#endif
    buf_unref(held);
    buf_pool_trim(p);
    buf_pool_trim(p);
    buf_pool_free(p);
}
END_TEST

Suite *suite_buf(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("buf");

    tcase_add_test(t, a_copy_is_the_bufs_own);
    tcase_add_test(t, an_empty_buf_is_fine);
    tcase_add_test(t, the_last_reference_counts);
    tcase_add_test(t, a_pool_makes_a_buf_only_when_none_is_spare);
    tcase_add_test(t, a_pool_makes_one_that_is_larger_anew);
    tcase_add_test(t, bufs_outlive_their_pool);
    tcase_add_test(t, a_pool_keeps_what_was_out_at_once_since_it_was_trimmed);
    suite_add_tcase(s, t);
    return s;
}
