/* Tests of parts: messages of the CMS that are larger than a frame. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"
#include "suites.h"

#define KIND 2

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 251);
}

/* A message as its frames; the caller frees. */
static uint8_t *cut(size_t bytes)
{
    size_t all = parts_bytes(bytes);
    uint8_t *out = malloc(all);
    for (size_t i = 0; i < bytes; i++)
        out[all - bytes + i] = byte_at(i);
    parts_cut(out, KIND, bytes);
    return out;
}

/* Takes count bytes of frames; the result of the last one. */
static int take(struct parts *p, const uint8_t *bytes, size_t count, size_t *ret_bytes)
{
    int result = 0;
    for (size_t at = 0; at < count && result == 0;) {
        struct frame f;
        long size = frame_parse(bytes + at, count - at, &f);
        if (size == 0)
            break;
        ck_assert_int_gt(size, 0);
        ck_assert_int_le(size, FRAME_HEAD_BYTES + PARTS_PIECE_BYTES);
        at += (size_t)size;
        const uint8_t *message;
        result = parts_take(p, &f, &message, ret_bytes);
        ck_assert(result != 1 || at == count);
        size_t good = 0;
        while (result == 1 && good < *ret_bytes && message[good] == byte_at(good))
            good++;
        ck_assert(result != 1 || good == *ret_bytes);
    }
    return result;
}

START_TEST(a_message_of_any_size_comes_back_whole)
{
    static const size_t sizes[] = {0,
                                   1,
                                   PARTS_PIECE_BYTES - 1,
                                   PARTS_PIECE_BYTES,
                                   PARTS_PIECE_BYTES + 1,
                                   2 * PARTS_PIECE_BYTES,
                                   PARTS_MESSAGE_MAX};
    struct parts p = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *frames = cut(sizes[i]);
        size_t bytes = 0;
        ck_assert_int_eq(take(&p, frames, parts_bytes(sizes[i]), &bytes), 1);
        ck_assert_uint_eq(bytes, sizes[i]);
        parts_reset(&p);
        free(frames);
    }
}
END_TEST

START_TEST(one_frame_is_not_copied)
{
    struct parts p = {0};
    uint8_t *frames = cut(1000);
    size_t bytes;
    ck_assert_int_eq(take(&p, frames, parts_bytes(1000), &bytes), 1);
    ck_assert_ptr_null(p.bytes);
    free(frames);
}
END_TEST

START_TEST(a_message_cut_off_anywhere_is_not_there_and_the_next_one_is_after_a_reset)
{
    const size_t size = 3 * PARTS_PIECE_BYTES + 5;
    uint8_t *frames = cut(size), *next = cut(7);
    struct parts p = {0};
    for (size_t count = 0; count < parts_bytes(size); count += 100000) {
        size_t bytes = 0;
        ck_assert_int_eq(take(&p, frames, count, &bytes), 0);
        parts_reset(&p);
        ck_assert_int_eq(take(&p, next, parts_bytes(7), &bytes), 1);
        ck_assert_uint_eq(bytes, 7);
    }
    free(frames);
    free(next);
}
END_TEST

START_TEST(more_than_a_message_may_have_is_an_error_and_takes_no_more_memory)
{
    static uint8_t piece[PARTS_PIECE_BYTES];
    struct frame f = {.kind = PARTS_KIND, .payload = piece, .payload_bytes = sizeof piece};
    struct parts p = {0};
    const uint8_t *message;
    size_t bytes;
    for (size_t i = 0; i < PARTS_MESSAGE_MAX / PARTS_PIECE_BYTES; i++)
        ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), 0);
    f.payload_bytes = 1;
    ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), -EMSGSIZE);
    f.kind = KIND;
    ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), -EMSGSIZE);
    ck_assert_uint_eq(p.count, PARTS_MESSAGE_MAX);
    f.payload_bytes = 0;
    ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), 1);
    parts_reset(&p);
}
END_TEST

START_TEST(empty_pieces_and_frames_with_a_header_are_malformed)
{
    uint8_t byte = 0;
    struct frame f = {.kind = PARTS_KIND, .payload = &byte};
    struct parts p = {0};
    const uint8_t *message;
    size_t bytes;
    ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), -EPROTO);
    f = (struct frame){.kind = KIND, .header = &byte, .header_bytes = 1, .payload = &byte};
    ck_assert_int_eq(parts_take(&p, &f, &message, &bytes), -EPROTO);
}
END_TEST

Suite *suite_parts(void)
{
    Suite *suite = suite_create("parts");
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_message_of_any_size_comes_back_whole);
    tcase_add_test(tests, one_frame_is_not_copied);
    tcase_add_test(tests,
                   a_message_cut_off_anywhere_is_not_there_and_the_next_one_is_after_a_reset);
    tcase_add_test(tests, more_than_a_message_may_have_is_an_error_and_takes_no_more_memory);
    tcase_add_test(tests, empty_pieces_and_frames_with_a_header_are_malformed);
    suite_add_tcase(suite, tests);
    return suite;
}
