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

static unsigned freed;

static void count_free(struct buf *b)
{
    ck_assert_ptr_eq(b->owner, &freed);
    freed++;
}

START_TEST(the_last_reference_frees_foreign_data_once)
{
    static uint8_t foreign[10];
    struct buf *b = buf_new(0);

    freed = 0;
    b->data = foreign;
    b->size = sizeof foreign;
    b->owner = &freed;
    b->free_data = count_free;
    ck_assert_ptr_eq(buf_ref(b), b);
    buf_unref(b);
    ck_assert_uint_eq(freed, 0);
    buf_unref(b);
    ck_assert_uint_eq(freed, 1);
}
END_TEST

Suite *suite_buf(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("buf");

    tcase_add_test(t, a_copy_is_the_bufs_own);
    tcase_add_test(t, an_empty_buf_is_fine);
    tcase_add_test(t, the_last_reference_frees_foreign_data_once);
    suite_add_tcase(s, t);
    return s;
}
