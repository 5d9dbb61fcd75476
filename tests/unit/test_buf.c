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
    struct buf_pool *p = buf_pool_new(100, 2);
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

START_TEST(a_pool_keeps_no_more_than_it_may_and_none_that_is_larger)
{
    struct buf_pool *p = buf_pool_new(100, 1);
    struct buf *b[3] = {buf_pool_get(p, 100), buf_pool_get(p, 1), buf_pool_get(p, 101)};

    ck_assert_uint_eq(b[2]->size, 101);
    ck_assert_uint_eq(buf_pool_made(p), 2);
    for (int i = 0; i < 3; i++)
        buf_unref(b[i]);
    b[0] = buf_pool_get(p, 1);
    b[1] = buf_pool_get(p, 1);
#ifndef __SANITIZE_ADDRESS__
    ck_assert_uint_eq(buf_pool_made(p), 3);
#endif
    buf_pool_free(p); /* they outlive it */
    memset(b[0]->data, 0, 100);
    buf_unref(b[0]);
    buf_unref(b[1]);
    buf_pool_free(NULL);
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
    tcase_add_test(t, a_pool_keeps_no_more_than_it_may_and_none_that_is_larger);
    suite_add_tcase(s, t);
    return s;
}
