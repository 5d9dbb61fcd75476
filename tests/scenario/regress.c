/* regress: mistakes that seeds of the simulator found, as stories. */
#include "story.h"
#include "suites.h"

/* Host 0 sends to group 0, hosts 1 and 2 are its members; host 2 is in group 1, too, so there are
 * two regions of one host each. */
static struct story *two_regions(void)
{
    struct story *st = story_new(3, 4);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_join(st, 2, 1);
    story_settle(st);
    return st;
}

START_TEST(a_sender_whose_ack_was_lost_is_told_again)
{
    struct story *st = two_regions();
    story_drop(st, (struct rule){STORY_ANY, 0, WIRE_ACK, 0, 6});
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p0 stable g=* n=1");
    story_end(st);
}
END_TEST

START_TEST(a_view_change_waits_for_what_a_lone_member_sent_to_other_regions)
{
    struct story *st = story_new(3, 4);
    story_join(st, 0, 0);
    story_join(st, 0, 2);
    story_sender(st, 0, 0);
    story_join(st, 1, 0);
    story_join(st, 2, 0);
    story_settle(st);
    /* Host 0 moves to another region while its message is on its way to hosts 1 and 2. */
    story_drop(st, (struct rule){0, 1, WIRE_DATA, 0, STORY_EVER});
    story_drop(st, (struct rule){STORY_ANY, 1, WIRE_REPAIR, 0, 20});
    story_send(st, 0, 0, 100);
    story_join(st, 0, 1);
    story_run(st, 20 * SIM_MS);
    story_send(st, 0, 0, 100);
    story_settle(st);
    story_expect(st, "p1 deliver g=* s=%u n=1 *", story_id(st, 0));
    story_expect(st, "p0 stable g=* n=1");
    story_end(st);
}
END_TEST

START_TEST(what_a_view_change_proves_is_released_in_regions_out_of_its_scope)
{
    struct story *st = two_regions();
    story_drop(st, (struct rule){2, 0, WIRE_ACK, 0, STORY_EVER});
    story_send(st, 0, 0, 100);
    story_run(st, 100 * SIM_MS);
    story_join(st, 2, 2); /* the region of host 2 alone changes */
    story_run(st, SIM_S);
    story_expect(st, "p0 vote *");
    story_expect(st, "p0 stable g=* n=1");
    story_drop_nothing(st);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_left_before_its_first_view_is_left)
{
    struct story *st = two_regions();
    story_join(st, 0, 3);
    story_leave(st, 0, 3);
    story_settle(st);
    story_end(st);
}
END_TEST

START_TEST(a_group_left_before_its_first_view_is_left_at_the_cms_too)
{
    struct story *st = two_regions();
    story_skip(st);
    story_join(st, 0, 3);
    story_run(st, 10 * SIM_MS); /* the CMS was told, and has not begun a view change yet */
    story_leave(st, 0, 3);
    story_settle(st);
    story_run(st, SIM_S);
    story_never(st, "cms epoch *");
    story_end(st);
}
END_TEST

Suite *suite_regress(void)
{
    Suite *s = suite_create("regress");
    TCase *t = tcase_create("regress");

    tcase_add_test(t, a_sender_whose_ack_was_lost_is_told_again);
    tcase_add_test(t, a_view_change_waits_for_what_a_lone_member_sent_to_other_regions);
    tcase_add_test(t, what_a_view_change_proves_is_released_in_regions_out_of_its_scope);
    tcase_add_test(t, a_group_left_before_its_first_view_is_left);
    tcase_add_test(t, a_group_left_before_its_first_view_is_left_at_the_cms_too);
    suite_add_tcase(s, t);
    return s;
}
