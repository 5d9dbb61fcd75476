/* Tests of core/store. */
#include "store.h"
#include <signal.h>
#include <stdlib.h>
#include "property.h"
#include "suites.h"

static struct packet *put(struct store *s, uint64_t seq, size_t bytes)
{
    struct buf *body = buf_new(bytes);

    for (size_t i = 0; i < bytes; i++)
        body->data[i] = (uint8_t)seq;
    return store_put(s, seq, body, body->data, (uint16_t)bytes, 1);
}

START_TEST(packets_are_found_in_whatever_order_they_came)
{
    struct store s;

    store_init(&s);
    put(&s, 500, 10);
    put(&s, 1, 20);
    put(&s, 17, 30);
    ck_assert_uint_eq(s.top, 500);
    ck_assert_uint_eq(store_find(&s, 1)->bytes, 20);
    ck_assert_uint_eq(store_find(&s, 17)->seq, 17);
    ck_assert_uint_eq(store_find(&s, 500)->records, 1);
    ck_assert_ptr_null(store_find(&s, 0));
    ck_assert_ptr_null(store_find(&s, 2));
    ck_assert_ptr_null(store_find(&s, 501));
    ck_assert_ptr_null(store_find(&s, UINT64_MAX));
    ck_assert_uint_eq(s.body_bytes, 60);
    ck_assert_uint_eq(s.body_count, 3);
    store_done(&s);
}
END_TEST

START_TEST(an_entry_outlives_its_body_until_release)
{
    struct store s;
    struct packet *p;

    store_init(&s);
    p = put(&s, 1, 100);
    store_free_body(&s, p);
    store_free_body(&s, p);
    ck_assert_ptr_null(p->body);
    ck_assert_uint_eq(s.body_bytes, 0);
    ck_assert_uint_eq(s.body_count, 0);
    ck_assert_ptr_eq(store_find(&s, 1), p);
    store_release(&s, 1);
    ck_assert_ptr_null(store_find(&s, 1));
    store_done(&s);
}
END_TEST

START_TEST(a_slot_has_one_mark_that_covers_its_numbers)
{
    struct store s;
    struct packet *p;

    store_init(&s);
    p = put(&s, 1, 10);
    for (uint32_t slot = 0; slot < 100; slot++)
        store_mark(p, slot, 1000 + slot, 1000 + slot, slot);
    store_mark(p, 3, 1003, 1007, 1000);
    store_mark(p, 3, 1008, 1010, 1001);
    ck_assert_uint_eq(p->mark_count, 100);
    ck_assert_uint_eq(packet_marks(p)[3].slot, 3);
    ck_assert_uint_eq(packet_marks(p)[3].first, 1003);
    ck_assert_uint_eq(packet_marks(p)[3].last, 1010);
    ck_assert_uint_eq(packet_marks(p)[3].unit, 1001);
    ck_assert_uint_eq(packet_marks(p)[99].last, 1099);
    ck_assert_uint_eq(packet_marks(p)[99].unit, 99);
    store_done(&s);
}
END_TEST

START_TEST(release_may_go_above_everything_that_is_there)
{
    struct store s;

    store_init(&s);
    store_release(&s, 10);
    put(&s, 11, 1);
    put(&s, 5000, 1);
    store_release(&s, 3);
    ck_assert_uint_eq(s.base, 10);
    store_release(&s, 6000);
    ck_assert_uint_eq(s.base, 6000);
    ck_assert_uint_eq(s.top, 6000);
    ck_assert_uint_eq(s.body_bytes, 0);
    put(&s, 6001, 1);
    ck_assert_ptr_nonnull(store_find(&s, 6001));
    store_done(&s);
}
END_TEST

START_TEST(a_forgotten_packet_can_be_put_again)
{
    struct store s;

    store_init(&s);
    put(&s, 1, 1);
    store_mark(put(&s, 9, 5), 0, 1, 1, 0);
    store_forget(&s, 9);
    store_forget(&s, 9);
    ck_assert_ptr_null(store_find(&s, 9));
    ck_assert_uint_eq(s.top, 1);
    ck_assert_uint_eq(s.body_bytes, 1);
    ck_assert_uint_eq(put(&s, 9, 6)->mark_count, 0);
    store_forget(&s, 1);
    ck_assert_uint_eq(s.top, 9);
    store_done(&s);
}
END_TEST

START_TEST(the_ring_grows_to_its_cap)
{
    struct store s;

    store_init(&s);
    store_release(&s, 12345);
    put(&s, 12345 + STORE_SPAN_MAX, 1);
    ck_assert_uint_eq(s.room, STORE_SPAN_MAX);
    put(&s, 12346, 1);
    ck_assert_ptr_nonnull(store_find(&s, 12345 + STORE_SPAN_MAX));
    store_release(&s, s.top);
    ck_assert_uint_eq(s.room, 0);
    store_done(&s);
}
END_TEST

START_TEST(a_packet_beyond_the_cap_is_our_own_bug)
{
    struct store s;

    store_init(&s);
    put(&s, STORE_SPAN_MAX + 1, 1);
}
END_TEST

#define MODEL 400

/* What should be there, by number: 0 nothing, 1 an entry, 2 with body. */
static void check_model(const struct store *s, const int *model, const uint32_t *sizes)
{
    uint64_t bytes = 0, count = 0, top = s->base;

    for (uint64_t seq = 1; seq < MODEL; seq++) {
        struct packet *p = store_find(s, seq);

        PROPERTY((p != NULL) == (model[seq] > 0));
        if (p == NULL)
            continue;
        top = seq;
        PROPERTY(p->seq == seq);
        PROPERTY((p->body != NULL) == (model[seq] == 2));
        if (p->body == NULL)
            continue;
        PROPERTY(p->bytes == sizes[seq]);
        PROPERTY(p->bytes == 0 || p->data[0] == (uint8_t)seq);
        bytes += sizes[seq];
        count++;
    }
    PROPERTY(s->top == top);
    PROPERTY(s->body_bytes == bytes);
    PROPERTY(s->body_count == count);
}

/* One random change; returns false when the numbers of the model are used up. */
static bool change(struct store *s, int *model, uint32_t *sizes, uint64_t *random)
{
    uint64_t seq = s->base + 1 + property_below(random, 40);

    if (seq >= MODEL)
        return false;
    switch (property_below(random, 8)) {
    case 0:
        store_release(s, s->base + property_below(random, 4));
        for (uint64_t i = 0; i <= s->base; i++)
            model[i] = 0;
        break;
    case 1:
        store_forget(s, seq);
        model[seq] = 0;
        break;
    case 2:
        if (model[seq] > 0) {
            store_free_body(s, store_find(s, seq));
            model[seq] = 1;
        }
        break;
    default:
        if (model[seq] == 0) {
            sizes[seq] = (uint32_t)property_below(random, 50);
            store_mark(put(s, seq, sizes[seq]), 1, 1, 1, 1);
            model[seq] = 2;
        }
    }
    return true;
}

START_TEST(random_changes_match_a_plain_array)
{
    uint64_t random = property_seed("store");

    for (int run = 0; run < 20; run++) {
        int model[MODEL] = {0};
        uint32_t sizes[MODEL] = {0};
        struct store s;

        store_init(&s);
        while (change(&s, model, sizes, &random))
            check_model(&s, model, sizes);
        store_done(&s);
    }
}
END_TEST

Suite *suite_store(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("store");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, packets_are_found_in_whatever_order_they_came);
    tcase_add_test(t, an_entry_outlives_its_body_until_release);
    tcase_add_test(t, a_slot_has_one_mark_that_covers_its_numbers);
    tcase_add_test(t, release_may_go_above_everything_that_is_there);
    tcase_add_test(t, a_forgotten_packet_can_be_put_again);
    tcase_add_test(t, the_ring_grows_to_its_cap);
    if (getenv("CK_FORK") == NULL) /* else it would end the runner */
        tcase_add_test_raise_signal(t, a_packet_beyond_the_cap_is_our_own_bug, SIGABRT);
    tcase_add_test(t, random_changes_match_a_plain_array);
    suite_add_tcase(s, t);
    return s;
}
