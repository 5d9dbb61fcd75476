/* Tests of proto/frame: how messages are cut on a stream. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "ipc.pb-c.h"
#include "suites.h"

/* A data frame with a header of 3 bytes and a payload of 5. */
static size_t example(uint8_t out[64])
{
    frame_write_head(out, 3, 3, 5);
    memcpy(out + FRAME_HEAD_BYTES, "hdrhello", 8);
    return FRAME_HEAD_BYTES + 8;
}

START_TEST(a_frame_reads_as_it_was_written)
{
    uint8_t bytes[64];
    size_t size = example(bytes);
    struct frame f;
    ck_assert_int_eq(frame_parse(bytes, size, &f), (long)size);
    ck_assert_uint_eq(f.kind, 3);
    ck_assert_uint_eq(f.header_bytes, 3);
    ck_assert_mem_eq(f.header, "hdr", 3);
    ck_assert_uint_eq(f.payload_bytes, 5);
    ck_assert_mem_eq(f.payload, "hello", 5);
}
END_TEST

START_TEST(the_length_does_not_count_itself_and_is_little_endian)
{
    uint8_t bytes[64];
    example(bytes);
    ck_assert_mem_eq(bytes, "\x0c\0\0\0\x01\x03\x03\0", 8);
}
END_TEST

START_TEST(a_control_frame_has_no_header)
{
    uint8_t bytes[16];
    frame_write_head(bytes, 1, 0, 2);
    bytes[8] = 'o';
    bytes[9] = 'k';
    struct frame f;
    ck_assert_int_eq(frame_parse(bytes, 10, &f), 10);
    ck_assert_ptr_null(f.header);
    ck_assert_mem_eq(f.payload, "ok", 2);
}
END_TEST

START_TEST(a_truncated_frame_says_how_much_it_wants)
{
    uint8_t bytes[64];
    size_t size = example(bytes);
    for (size_t n = 0; n < size; n++) {
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, bytes, n);
        struct frame f;
        ck_assert_int_eq(frame_parse(exact, n, &f), 0);
        ck_assert_uint_eq(frame_wants(exact, n), n < FRAME_HEAD_BYTES ? FRAME_HEAD_BYTES : size);
        free(exact);
    }
    ck_assert_uint_eq(frame_wants(bytes, size), size + 1);
}
END_TEST

START_TEST(impossible_lengths_are_refused)
{
    struct frame f;
    uint8_t bytes[8] = {3, 0, 0, 0, FRAME_VERSION, 1, 0, 0};
    ck_assert_int_eq(frame_parse(bytes, 8, &f), -EPROTO); /* below the head's rest */
    frame_write_head(bytes, 3, 9, 0);
    bytes[0] = 12;
    ck_assert_int_eq(frame_parse(bytes, 8, &f), -EPROTO); /* header longer than the body */
    frame_write_head(bytes, 1, 0, FRAME_CONTROL_MAX);
    ck_assert_int_eq(frame_parse(bytes, 8, &f), 0);
    frame_write_head(bytes, 1, 0, FRAME_CONTROL_MAX + 1);
    ck_assert_int_eq(frame_parse(bytes, 8, &f), -EPROTO);
    frame_write_head(bytes, 3, 1, FRAME_BODY_MAX - 1);
    ck_assert_int_eq(frame_parse(bytes, 8, &f), 0);
    memset(bytes, 0xff, 4);
    ck_assert_int_eq(frame_parse(bytes, 8, &f), -EPROTO);
    ck_assert_uint_eq(frame_wants(bytes, 8), 9);
}
END_TEST

START_TEST(another_version_is_told_apart)
{
    uint8_t bytes[64];
    size_t size = example(bytes);
    bytes[4] = FRAME_VERSION + 1;
    struct frame f;
    ck_assert_int_eq(frame_parse(bytes, size, &f), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(no_flipped_byte_reads_outside_of_what_arrived)
{
    for (size_t at = 0; at < FRAME_HEAD_BYTES; at++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t bytes[64];
            size_t size = example(bytes);
            bytes[at] = (uint8_t)value;
            uint8_t *exact = malloc(size);
            memcpy(exact, bytes, size);
            struct frame f;
            long n = frame_parse(exact, size, &f);
            ck_assert_int_le(n, (long)size);
            if (n > 0) {
                ck_assert(f.payload + f.payload_bytes == exact + n);
                ck_assert(!f.header || f.header + f.header_bytes == f.payload);
            }
            ck_assert_uint_gt(frame_wants(exact, size), size);
            free(exact);
        }
    }
}
END_TEST

static size_t pack_grant(uint8_t out[64], uint32_t id, uint64_t bytes)
{
    Qsm__Grant g = QSM__GRANT__INIT;
    Qsm__ToClient m = QSM__TO_CLIENT__INIT;
    g.id = id;
    g.bytes = bytes;
    m.what_case = QSM__TO_CLIENT__WHAT_GRANT;
    m.grant = &g;
    ck_assert_uint_le(qsm__to_client__get_packed_size(&m), FRAME_PAIR_BYTES);
    return qsm__to_client__pack(&m, out);
}

START_TEST(a_pair_is_what_protobuf_c_writes)
{
    static const uint64_t numbers[] = {0,     1,          127,         128,       16383,
                                       16384, UINT32_MAX, 1ull << 32u, INT64_MAX, UINT64_MAX};
    enum { COUNT = sizeof(numbers) / sizeof(numbers[0]) };
    for (int i = 0; i < COUNT * COUNT; i++) {
        struct frame_pair p = {5, (uint32_t)numbers[i / COUNT], numbers[i % COUNT]}, got;
        uint8_t packed[64], written[FRAME_PAIR_BYTES];
        size_t size = pack_grant(packed, p.id, p.value);
        ck_assert_uint_eq(frame_write_pair(written, &p), size);
        ck_assert_mem_eq(written, packed, size);
        ck_assert(frame_read_pair(packed, size, &got));
        ck_assert(got.field == p.field && got.id == p.id && got.value == p.value);
        for (size_t n = 0; n < size; n++)
            ck_assert(!frame_read_pair(packed, n, &got));
    }
}
END_TEST

/* What it takes protobuf-c takes as well, and as the same. */
START_TEST(a_damaged_pair_is_no_pair_or_another_one)
{
    uint8_t bytes[64];
    size_t size = pack_grant(bytes, 300, 70000);
    for (size_t i = 0; i < size * 256; i++) {
        uint8_t *exact = malloc(size);
        struct frame_pair got;
        memcpy(exact, bytes, size);
        exact[i / 256] = (uint8_t)i;
        if (frame_read_pair(exact, size, &got) && got.field == 5) {
            Qsm__ToClient *m = qsm__to_client__unpack(NULL, size, exact);
            ck_assert_ptr_nonnull(m);
            ck_assert_int_eq(m->what_case, QSM__TO_CLIENT__WHAT_GRANT);
            ck_assert_uint_eq(m->grant->id, got.id);
            ck_assert_uint_eq(m->grant->bytes, got.value);
            qsm__to_client__free_unpacked(m, NULL);
        }
        free(exact);
    }
}
END_TEST

Suite *suite_frame(void)
{
    Suite *s = suite_create("frame");
    TCase *t = tcase_create("frame");
    tcase_add_test(t, a_frame_reads_as_it_was_written);
    tcase_add_test(t, the_length_does_not_count_itself_and_is_little_endian);
    tcase_add_test(t, a_control_frame_has_no_header);
    tcase_add_test(t, a_truncated_frame_says_how_much_it_wants);
    tcase_add_test(t, impossible_lengths_are_refused);
    tcase_add_test(t, another_version_is_told_apart);
    tcase_add_test(t, no_flipped_byte_reads_outside_of_what_arrived);
    tcase_add_test(t, a_pair_is_what_protobuf_c_writes);
    tcase_add_test(t, a_damaged_pair_is_no_pair_or_another_one);
    suite_add_tcase(s, t);
    return s;
}
