/* rules: rules of the view change that seldom decide anything: a story for each mutant (`#ifdef
 * MUTANT_name` in daemon/core) that random seeds do not show, or show only as a detour. */
#include <stdlib.h>
#include "story.h"
#include "suites.h"

START_TEST(a_vote_goes_by_the_cut_of_its_own_attempt)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    story_join(st, 3, 0);
    story_run(st, 40 * SIM_MS);
    /* Host 2 reports late, and then host 0 cannot be told the cut; the others vote. */
    host_pause(story_host(st, 2), st->sim->now_us + 50 * SIM_MS);
    story_run(st, 30 * SIM_MS);
    story_expect(st, "p0 prep * a=1");
    simlink_silence(st->sim, story_host(st, 0)->link, 1100 * SIM_MS);
    story_run(st, 1050 * SIM_MS);
    story_expect(st, "p1 vote * a=1");
    story_expect(st, "p0 leave * a=1");
    /* Host 0 goes on in the old view. What it sends is part of the next attempt's cut. */
    story_drop(st, (struct rule){STORY_ANY, 1, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 1, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 1, WIRE_TOKEN, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    st->sim->cms.disk_us = 20 * SIM_MS;
    story_run(st, 60 * SIM_MS);
    story_expect(st, "p0 vote * a=2");
    host_pause(story_host(st, 0), st->sim->now_us + 50 * SIM_MS); /* installs last */
    story_run(st, SIM_S);
    story_rewind(st);
    story_expect(st, "p1 prep * a=2");
    story_expect(st, "p1 deliver g=* n=1 *");
    story_expect(st, "p1 vote * a=2");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_report_counts_for_its_own_attempt)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    st->sim->link_delay_us = 5 * SIM_MS;
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_TOKEN, 0, STORY_EVER});
    story_skip(st);
    story_join(st, 3, 0);
    story_run(st, 55 * SIM_MS);
    story_send(st, 0, 0, 100);
    story_run(st, 10 * SIM_MS);
    story_expect(st, "p1 deliver g=* n=1 *");
    story_expect(st, "p1 prep * a=1");
    /* The report of host 1, in which host 0 lives, is on its way when host 0 dies. */
    simlink_silence(st->sim, story_host(st, 1)->link, 500 * SIM_MS);
    host_crash(story_host(st, 0), false);
    story_run(st, 400 * SIM_MS);
    story_expect(st, "p2 prep * a=2");
    story_run(st, 400 * SIM_MS);
    story_expect(st, "p1 prep * a=2");
    story_expect(st, "p2 deliver g=* n=1 *");
    story_expect(st, "p2 vote * a=2");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(who_voted_waits_for_the_install_without_the_cms)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    st->sim->link_delay_us = 5 * SIM_MS;
    st->sim->cms.disk_us = 20 * SIM_MS;
    story_skip(st);
    story_join(st, 3, 0);
    story_until(st, "p0 vote *");
    story_run(st, 10 * SIM_MS); /* the CMS has the vote, host 0 has no INSTALL yet */
    simlink_silence(st->sim, story_host(st, 0)->link, 1200 * SIM_MS);
    story_send(st, 0, 0, 100);
    story_run(st, 2 * SIM_S);
    story_expect(st, "p1 view *");
    story_expect(st, "p0 view *");
    story_expect(st, "p0 deliver g=* n=1 ep=2 *");
    story_settle(st);
    story_end(st);
}
END_TEST

/* Host 0 sends to two regions: host 1, and host 2, which hears nothing of it. The CMS takes host 0
 * for dead; host 2 has fetched its message from host 1 and voted when the CMS dies, too. */
START_TEST(what_was_fetched_for_a_void_attempt_is_not_delivered_again)
{
    struct story *st = story_new(3, 2);
    struct host *sender = story_host(st, 0);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_join(st, 2, 1);
    story_settle(st);
    st->sim->link_delay_us = 5 * SIM_MS;
    story_drop(st, (struct rule){0, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){0, 2, WIRE_BEACON, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_run(st, SIM_MS);
    sender->exiled_until_us = st->sim->now_us + 3 * SIM_S;
    simlink_cut(st->sim, sender->link);
    story_until(st, "p2 vote *");
    cmshost_crash(st->sim, 0);
    story_host(st, 1)->exiled_until_us = st->sim->now_us + 2 * SIM_S;
    cmshost_start(st->sim);
    story_until(st, "p2 thaw *");
    story_drop_nothing(st);
    story_until(st, "p2 next s=%u * q=1", story_id(st, 0));
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(what_an_expelled_sender_goes_on_to_send_is_taken_by_nobody)
{
    struct story *st = story_new(3, 1);
    struct host *sender = story_host(st, 0);
    story_sender(st, 0, 0);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_settle(st);
    st->sim->cms.disk_us = 50 * SIM_MS;
    sender->exiled_until_us = st->sim->now_us + SIM_S;
    simlink_cut(st->sim, sender->link);
    story_until(st, "p1 vote *");
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_TOKEN, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_until(st, "p1 view *");
    story_drop_nothing(st);
    story_settle(st);
    story_rewind(st);
    story_expect(st, "p0 send g=* n=1 ep=1 *");
    story_never(st, "p1 deliver *");
    story_end(st);
}
END_TEST

START_TEST(a_joiner_fetches_a_dead_senders_messages_from_where_the_view_begins)
{
    struct story *st = story_new(3, 2);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 1);
    story_settle(st);
    for (int i = 0; i < 3; i++)
        story_send(st, 0, 0, 100);
    story_settle(st);
    story_join(st, 2, 0);
    story_settle(st);
    story_drop(st, (struct rule){0, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){0, 2, WIRE_BEACON, 0, STORY_EVER});
    story_skip(st);
    story_send(st, 0, 0, 100);
    story_run(st, SIM_MS);
    host_crash(story_host(st, 0), false);
    story_until(st, "p2 vote *");
    story_drop_nothing(st);
    story_settle(st);
    story_rewind(st);
    story_expect(st, "p2 base g=* n=3");
    story_expect(st, "p2 deliver g=* n=4 *");
    story_never(st, "cms expel id=%u *", story_id(st, 2));
    story_end(st);
}
END_TEST

START_TEST(an_attempt_of_a_dead_leader_that_nobody_repeats_holds_up_nobody)
{
    struct sim_config c = sim_config_default();
    c.hosts = 4;
    c.groups = 1;
    c.cms.batch_us = 500 * SIM_MS;
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < 3; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_skip(st);
    host_pause(story_host(st, 2), st->sim->now_us + SIM_S); /* it has no vote */
    story_join(st, 3, 0);
    story_until(st, "p0 prep *");
    cmshost_crash(st->sim, 0);
    story_run(st, 10 * SIM_MS);
    story_leave(st, 3, 0); /* before it was ever in: nothing is left to change */
    cmshost_start(st->sim);
    story_run(st, SIM_S);
    story_never(st, "p0 prep *");
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_is_no_longer_sent_to_once_all_that_was_sent_is_stable)
{
    struct story *st = story_new(4, 1);
    struct host *sender = story_host(st, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 2, WIRE_TOKEN, 0, STORY_EVER});
    story_skip(st);
    story_send(st, 0, 0, 100);
    story_run(st, SIM_MS);
    node_close(sender->node, sender->groups[0].handle, NODE_SEND, st->sim->now_us);
    sender->groups[0].mode = 0;
    host_wake(sender, st->sim->now_us);
    story_run(st, 300 * SIM_MS); /* the CMS takes it for a sender still */
    story_join(st, 3, 0);
    story_until(st, "p2 deliver g=* n=1 ep=1 *");
    story_until(st, "p2 view g=* ep=2 *");
    story_run(st, SIM_S);
    story_expect(st, "cms epoch ep=3 *");
    story_end(st);
}
END_TEST

/* Hosts 0 and 1 send to two regions, hosts 2 and 3. Each region hears another one first. */
START_TEST(large_messages_to_several_regions_do_not_wait_for_each_other)
{
    struct sim_config c = sim_config_default();
    c.hosts = 4;
    c.node.window_bytes = 64 << 10;
    c.node.reassembly_bytes = 420 << 10;
    struct story *st = story_with(&c);
    for (uint32_t i = 0; i < 2; i++) {
        story_sender(st, i, 0);
        story_join(st, 2 + i, 0);
    }
    story_join(st, 3, 1);
    story_settle(st);
    story_drop(st, (struct rule){0, 3, WIRE_DATA, 1, 1});
    story_drop(st, (struct rule){1, 2, WIRE_DATA, 1, 1});
    story_send(st, 0, 0, 300000);
    story_send(st, 1, 0, 300000);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=1");
    story_end(st);
}
END_TEST

START_TEST(nobody_is_told_what_is_not_durable_yet)
{
    struct story *st = story_new(3, 1);
    story_join(st, 0, 0);
    story_settle(st);
    story_skip(st);
    host_crash(story_host(st, 2), false);
    story_run(st, SIM_S);
    st->sim->cms.disk_us = 500 * SIM_MS;
    host_boot(story_host(st, 2));
    story_join(st, 1, 0);
    story_run(st, 400 * SIM_MS);
    story_never(st, "p2 node *");
    story_never(st, "p1 prep *");
    cmshost_crash(st->sim, 0);
    st->sim->cms.disk_us = 2 * SIM_MS;
    cmshost_start(st->sim);
    story_settle(st);
    story_expect(st, "p2 node *");
    story_end(st);
}
END_TEST

START_TEST(a_cms_that_lost_the_end_of_its_log_does_not_serve)
{
    struct story *st = story_new(3, 1);
    for (uint32_t i = 0; i < 2; i++)
        story_join(st, i, 0);
    story_settle(st);
    story_join(st, 2, 0);
    story_until(st, "cms epoch ep=2 *");
    story_settle(st);
    cmshost_crash(st->sim, 0);
    struct cms_host *cms = &st->sim->cms;
    free(cms->log[--cms->log_count].bytes); /* the install of epoch 2 */
    story_skip(st);
    cmshost_start(st->sim);
    story_run(st, 2 * SIM_S);
    story_expect(st, "cms lead *");
    story_never(st, "cms epoch *");
    story_end(st);
}
END_TEST

/* Hosts 1 and 2 hear host 0, host 1 the most; host 3 heard nothing when host 0 died. */
START_TEST(who_lacks_something_is_told_who_has_it)
{
    struct story *st = story_new(4, 1);
    for (uint32_t i = 1; i < 4; i++)
        story_join(st, i, 0);
    story_sender(st, 0, 0);
    story_settle(st);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_drop(st, (struct rule){STORY_ANY, STORY_ANY, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, STORY_ANY, WIRE_TOKEN, 0, STORY_EVER});
    for (uint64_t seq = 2; seq < 4; seq++)
        story_drop(st, (struct rule){0, 3, WIRE_DATA, seq, 1});
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 3, 1});
    for (int i = 0; i < 2; i++)
        story_send(st, 0, 0, 1300);
    story_run(st, SIM_MS);
    host_crash(story_host(st, 0), false);
    story_skip(st);
    story_until(st, "cms expel *");
    host_pause(story_host(st, 2), st->sim->now_us + 20 * SIM_MS); /* its report comes last */
    story_run(st, 100 * SIM_MS);
    story_expect(st, "p1 deliver g=* n=3 *");
    story_expect(st, "p1 vote *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

/* Hosts 0 and 1 are members of group 0, hosts 3 and 4 of group 1, to which host 2 sends; host 4
 * hears nothing of its message. Host 5 joins group 0, and host 1 is slow to vote. */
static struct story *slow_change_of_another_group(uint64_t pause_us)
{
    struct story *st = story_new(6, 2);
    story_sender(st, 2, 1);
    for (uint32_t i = 0; i < 2; i++) {
        story_join(st, i, 0);
        story_join(st, 3 + i, 1);
    }
    story_settle(st);
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_BEACON, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 4, WIRE_TOKEN, 0, STORY_EVER});
    story_skip(st);
    host_pause(story_host(st, 1), st->sim->now_us + pause_us);
    story_join(st, 5, 0);
    story_until(st, "p0 prep *");
    story_send(st, 2, 1, 100);
    story_run(st, SIM_MS);
    return st;
}

START_TEST(a_change_during_a_view_change_waits_for_the_next)
{
    struct story *st = slow_change_of_another_group(200 * SIM_MS);
    st->sim->cms.disk_us = 300 * SIM_MS; /* an entry would be on its way when all have voted */
    story_join(st, 5, 1);
    story_until(st, "p0 view g=1 ep=2 *");
    story_until(st, "p4 prep * e=3 *");
    story_until(st, "p4 deliver g=2 * n=1 ep=1 *");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_death_during_a_view_change_is_part_of_it)
{
    struct story *st = slow_change_of_another_group(240 * SIM_MS);
    story_expect(st, "p3 deliver g=* n=1 *");
    st->sim->cms.disk_us = 100 * SIM_MS;
    host_crash(story_host(st, 2), false);
    story_until(st, "p1 vote * a=1"); /* while the expulsion is on its way into the log */
    story_never(st, "cms expel *");
    story_until(st, "cms expel *");
    story_run(st, SIM_S);
    story_drop_nothing(st);
    story_settle(st);
    story_expect(st, "p4 deliver g=2 * n=1 ep=1 *");
    story_expect(st, "p4 vote * a=2");
    story_end(st);
}
END_TEST

Suite *suite_rules(void)
{
    Suite *s = suite_create("rules");
    TCase *t = tcase_create("rules");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_vote_goes_by_the_cut_of_its_own_attempt);
    tcase_add_test(t, a_report_counts_for_its_own_attempt);
    tcase_add_test(t, who_voted_waits_for_the_install_without_the_cms);
    tcase_add_test(t, what_was_fetched_for_a_void_attempt_is_not_delivered_again);
    tcase_add_test(t, what_an_expelled_sender_goes_on_to_send_is_taken_by_nobody);
    tcase_add_test(t, a_joiner_fetches_a_dead_senders_messages_from_where_the_view_begins);
    tcase_add_test(t, an_attempt_of_a_dead_leader_that_nobody_repeats_holds_up_nobody);
    tcase_add_test(t, a_group_is_no_longer_sent_to_once_all_that_was_sent_is_stable);
    tcase_add_test(t, large_messages_to_several_regions_do_not_wait_for_each_other);
    tcase_add_test(t, nobody_is_told_what_is_not_durable_yet);
    tcase_add_test(t, a_cms_that_lost_the_end_of_its_log_does_not_serve);
    tcase_add_test(t, who_lacks_something_is_told_who_has_it);
    tcase_add_test(t, a_change_during_a_view_change_waits_for_the_next);
    tcase_add_test(t, a_death_during_a_view_change_is_part_of_it);
    suite_add_tcase(s, t);
    return s;
}
