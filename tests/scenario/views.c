/* Scenarios: view changes: joins, deaths, a CMS that goes away and comes back. */
#include "story.h"
#include "suites.h"

START_TEST(a_message_is_delivered_in_the_view_in_which_it_was_sent)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    unsigned long long epoch = node_epoch(story_host(st, 0)->node);
    uint32_t s = story_id(st, 0);
    /* Host 2 hears nothing of it, until host 3 joins and the view change makes it ask. */
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_TOKEN, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_run(st, 5 * SIM_MS);
    story_join(st, 3, 0);
    story_run(st, SIM_S);
    story_expect(st, "p2 prep *");
    story_expect(st, "p2 deliver g=* s=%u n=1 ep=%llu *", s, epoch);
    story_expect(st, "p2 vote *");
    story_expect(st, "p2 view g=* ep=%llu *", epoch + 1);
    story_drop_nothing(st);
    story_settle(st);
    story_never(st, "p3 deliver g=* s=%u n=1 *", s);
    story_end(st);
}
END_TEST

/* Hosts 1 and 2 are one region, 3 and 4 another; host 0 sends to both and dies when only host 1 has
 * the message, or when nobody has it. */
static struct story *sender_dies(bool somebody_has_it)
{
    struct story *st = story_new(5, 2);
    for (uint32_t i = 1; i < 5; i++)
        story_join(st, i, 0);
    story_join(st, 3, 1);
    story_join(st, 4, 1);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    for (uint32_t to = somebody_has_it ? 2 : 1; to < 5; to++)
        story_drop(st, (struct rule){0, to, WIRE_DATA, 0, STORY_EVER});
    for (uint32_t to = 1; to < 5; to++)
        story_drop(st, (struct rule){0, to, WIRE_BEACON, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_run(st, SIM_MS);
    host_crash(story_host(st, 0), false);
    story_run(st, SIM_S);
    story_settle(st);
    return st;
}

START_TEST(a_dead_senders_message_that_one_has_reaches_all_in_all_regions)
{
    struct story *st = sender_dies(true);
    story_expect(st, "p1 deliver g=* n=1 *");
    story_expect(st, "p0 crash");
    story_expect(st, "cms expel *");
    size_t crash = st->at;
    for (uint32_t i = 2; i < 5; i++) {
        st->at = crash;
        story_expect(st, "p%u prep *", i);
        story_expect(st, "p%u deliver g=* n=1 *", i);
        story_expect(st, "p%u vote *", i);
    }
    story_expect(st, "cms epoch *");
    ck_assert_uint_ge(story_stats(st, 3)->repairs_from_flush, 1);
    story_end(st);
}
END_TEST

START_TEST(a_dead_senders_message_that_nobody_has_reaches_none)
{
    struct story *st = sender_dies(false);
    story_expect(st, "p0 crash");
    story_expect(st, "cms expel *");
    story_rewind(st);
    story_never(st, "p[1-4] deliver *");
    story_end(st);
}
END_TEST

/* Nodes that gave up a CMS that slept are on their way back to it when it wakes. */
START_TEST(a_cms_that_wakes_when_it_is_given_up_expels_nobody)
{
    enum { HOSTS = 8 };
    struct story *st = story_new(HOSTS, 1);
    for (uint32_t h = 0; h < HOSTS; h++)
        story_join(st, h, 0);
    story_settle(st);
    story_skip(st);
    cmshost_pause(st->sim, st->sim->now_us + 10 * SIM_S);
    uint32_t away = 0;
    for (int ms = 0; ms < 4000 && away < HOSTS / 2; ms++) {
        story_run(st, SIM_MS);
        away = 0;
        for (uint32_t h = 0; h < HOSTS; h++)
            away += !story_host(st, h)->link;
    }
    ck_assert_uint_eq(away, HOSTS / 2);
    cmshost_pause(st->sim, st->sim->now_us);
    story_run(st, 6 * SIM_S);
    story_never(st, "cms expel *");
    story_end(st);
}
END_TEST

START_TEST(a_cms_that_restarts_goes_on_with_the_same_epoch)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    uint64_t epoch = cms_epoch(st->sim->cms.cms), term = cms_term(st->sim->cms.cms);
    uint32_t id = story_id(st, 0);
    cmshost_crash(st->sim, 0);
    story_run(st, 500 * SIM_MS);
    story_send(st, 0, 0, 100);
    story_run(st, 5 * SIM_S);
    story_expect(st, "p2 deliver g=* s=%u n=1 *", id);
    story_expect(st, "p0 complete c=10 k=1 g=group0 st=stable");
    cmshost_start(st->sim);
    story_settle(st);
    story_run(st, 5 * SIM_S);
    ck_assert_uint_eq(cms_epoch(st->sim->cms.cms), epoch);
    ck_assert_uint_gt(cms_term(st->sim->cms.cms), term);
    ck_assert_uint_eq(story_id(st, 0), id);
    story_never(st, "cms admit *");
    story_never(st, "cms expel *");
    story_end(st);
}
END_TEST

START_TEST(a_dead_receiver_is_expelled_and_holds_nobody_up)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 0; i < 4; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    uint32_t dead = story_id(st, 3);
    uint64_t begun = st->sim->now_us;
    host_crash(story_host(st, 3), false);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p3 crash");
    story_expect(st, "cms expel id=%u *", dead);
    story_expect(st, "p0 view g=* ep=*");
    story_rewind(st);
    story_expect(st, "p0 complete c=10 k=1 g=group0 st=stable");
    ck_assert_uint_lt(st->sim->now_us - begun, 3 * SIM_S);
    story_end(st);
}
END_TEST

START_TEST(a_host_that_starts_again_is_a_new_node)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    uint32_t old = story_id(st, 2);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_skip(st);
    host_crash(story_host(st, 2), false);
    story_run(st, 20 * SIM_MS);
    host_boot(story_host(st, 2));
    story_join(st, 2, 0);
    story_settle(st);
    ck_assert_uint_gt(story_id(st, 2), old);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p2 view g=* ep=*");
    story_expect(st, "p2 base g=* s=%u n=1", story_id(st, 0));
    story_expect(st, "p2 deliver g=* s=%u n=2 *", story_id(st, 0));
    story_end(st);
}
END_TEST

START_TEST(who_leaves_gets_what_was_sent_before)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    for (int i = 0; i < 10; i++)
        story_send(st, 0, 0, 1000);
    story_run(st, SIM_MS);
    story_leave(st, 2, 0);
    story_settle(st);
    story_expect(st, "p2 left g=* ep=*");
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p1 deliver g=* n=11 *");
    story_rewind(st);
    story_never(st, "p2 deliver g=* n=11 *");
    story_end(st);
}
END_TEST

Suite *suite_views(void)
{
    Suite *s = suite_create("views");
    TCase *t = tcase_create("views");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_message_is_delivered_in_the_view_in_which_it_was_sent);
    tcase_add_test(t, a_dead_senders_message_that_one_has_reaches_all_in_all_regions);
    tcase_add_test(t, a_dead_senders_message_that_nobody_has_reaches_none);
    tcase_add_test(t, a_cms_that_wakes_when_it_is_given_up_expels_nobody);
    tcase_add_test(t, a_cms_that_restarts_goes_on_with_the_same_epoch);
    tcase_add_test(t, a_dead_receiver_is_expelled_and_holds_nobody_up);
    tcase_add_test(t, a_host_that_starts_again_is_a_new_node);
    tcase_add_test(t, who_leaves_gets_what_was_sent_before);
    suite_add_tcase(s, t);
    return s;
}
