/* Tests of flush: the coordinator's side of a view change. */
#include <check.h>
#include <stdlib.h>

#include "cms_world.h"
#include "flush.h"
#include "suites.h"

#define MS 1000u

/* Members a and b of x, a sends; c and d are members of y. */
struct four {
    struct world *w;
    struct world_peer *a, *b, *c, *d;
};

static struct four four_nodes(void)
{
    struct four f = {.w = world_new()};
    f.a = world_add(f.w);
    f.b = world_add(f.w);
    f.c = world_add(f.w);
    f.d = world_add(f.w);
    world_want(f.w, f.a, 1, "x", 3);
    world_want(f.w, f.b, 1, "x", 1);
    world_want(f.w, f.c, 1, "y", 1);
    world_want(f.w, f.d, 1, "y", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 1);
    return f;
}

START_TEST(a_join_flushes_the_regions_of_its_groups_and_nobody_else)
{
    struct four f = four_nodes();
    f.a->boundary = 17;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.a->prep_count, 1);
    ck_assert_uint_eq(f.b->prep_count, 1);
    /* d's own region changes: c and d are in scope, too */
    ck_assert_uint_eq(f.c->prep_count, 1);
    ck_assert_uint_eq(f.d->prep_count, 1);
    Qsm__Prep *prep = f.a->prep->prep;
    ck_assert_uint_eq(prep->n_region, 2);
    ck_assert_uint_eq(prep->n_dead, 0);
    Qsm__Cut *cut = f.c->cut->cut;
    ck_assert_uint_eq(cut->n_channel, 2); /* a's, into both */
    ck_assert_uint_eq(cut->channel[0]->sender, f.a->id);
    ck_assert_uint_eq(cut->channel[0]->seq, 17);
    ck_assert_uint_eq(cut->channel[0]->holder, f.a->id);
    ck_assert_uint_eq(f.a->install->install->n_region, 3);
    world_free(f.w);
}
END_TEST

START_TEST(regions_out_of_scope_keep_their_view_and_are_not_asked)
{
    struct four f = four_nodes();
    world_want(f.w, f.b, 2, "x", 0);
    world_run(f.w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.a->prep_count, 1);
    ck_assert_uint_eq(f.c->prep_count, 0);
    ck_assert_uint_eq(f.c->install->install->n_region, 1);
    ck_assert_uint_eq(f.c->install->install->region[0]->rid, world_region(f.a)->rid);
    ck_assert_uint_eq(world_region(f.a)->epoch, 2);
    ck_assert_ptr_null(world_region(f.c));
    world_free(f.w);
}
END_TEST

START_TEST(a_sender_outside_takes_part)
{
    struct four f = four_nodes();
    world_want(f.w, f.c, 2, "x", 2);
    world_run(f.w, 100 * MS);
    world_want(f.w, f.b, 2, "x", 0);
    world_run(f.w, 2000 * MS);
    ck_assert_uint_eq(f.c->prep_count, 1);
    ck_assert_uint_eq(f.d->prep_count, 0);
    world_free(f.w);
}
END_TEST

START_TEST(the_dead_are_in_the_log_before_their_prep_and_the_longest_prefix_is_the_cut)
{
    struct four f = four_nodes();
    uint32_t dead = f.a->id;
    world_want(f.w, f.c, 2, "x", 1);
    world_run(f.w, 2000 * MS);
    f.b->heard = 5;
    f.c->heard = 9;
    size_t before = f.w->log_count;
    world_cut(f.w, f.a);
    world_run(f.w, 300 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 3);
    ck_assert_uint_eq(f.w->log_count, before + 2); /* expel, install */
    Qsm__Prep *prep = f.b->prep->prep;
    ck_assert_uint_eq(prep->n_dead, 1);
    ck_assert_uint_eq(prep->dead[0], dead);
    Qsm__Cut *cut = f.b->cut->cut;
    ck_assert_uint_eq(cut->n_channel, 2); /* into both regions of x */
    for (size_t i = 0; i < cut->n_channel; i++) {
        ck_assert_uint_eq(cut->channel[i]->sender, dead);
        if (cut->channel[i]->rid == prep->region[0]) {
            ck_assert_uint_eq(cut->channel[i]->seq, 9);
            ck_assert_uint_eq(cut->channel[i]->holder, f.c->id);
        } else {
            ck_assert_uint_eq(cut->channel[i]->seq, 0);
            ck_assert_uint_eq(cut->channel[i]->holder, 0);
        }
    }
    ck_assert_uint_eq(f.b->install->install->n_gone, 1);
    ck_assert_uint_eq(f.b->install->install->gone[0], dead);
    world_free(f.w);
}
END_TEST

START_TEST(a_death_in_a_flush_starts_another_attempt)
{
    struct four f = four_nodes();
    f.b->no_vote = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->cut->cut->tag->attempt, 1);
    world_cut(f.w, f.b);
    world_run(f.w, 300 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.a->prep->prep->tag->attempt, 2);
    ck_assert_uint_eq(f.a->install->install->tag->attempt, 2);
    ck_assert_uint_eq(f.a->install->install->n_gone, 1);
    ck_assert_uint_eq(world_region(f.a)->n_member, 1);
    ck_assert(world_traced(f.w, "epoch ep=2 prev=1 t=1 a=2"));
    world_free(f.w);
}
END_TEST

START_TEST(a_join_during_a_flush_waits_for_the_next_epoch)
{
    struct four f = four_nodes();
    f.b->no_vote = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    world_want(f.w, f.c, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.c->answer_count, 1); /* not durable yet */
    f.b->no_vote = false;
    world_cut(f.w, f.b);
    world_link(f.w, f.b); /* is told again, and votes */
    world_run(f.w, 10 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.c->answer_count, 2);
    ck_assert_uint_eq(world_region(f.d)->n_group, 2);
    ck_assert_uint_eq(world_region(f.c)->n_group, 1);
    world_run(f.w, 5000 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 3);
    ck_assert_uint_eq(world_region(f.c)->n_group, 2);
    world_free(f.w);
}
END_TEST

START_TEST(planned_changes_wait_ten_times_what_the_flush_took)
{
    struct four f = four_nodes();
    f.b->no_vote = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 150 * MS); /* 100 ms of flush */
    f.b->no_vote = false;
    world_cut(f.w, f.b);
    world_link(f.w, f.b);
    world_run(f.w, 1 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_want(f.w, f.c, 2, "x", 1);
    world_run(f.w, 900 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_run(f.w, 200 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 3);
    world_free(f.w);
}
END_TEST

START_TEST(a_message_cut_off_twice_holds_planned_changes_up)
{
    struct four f = four_nodes();
    f.a->voided = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    f.a->voided = false;
    world_want(f.w, f.c, 2, "x", 1);
    world_run(f.w, 900 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_run(f.w, 200 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 3);
    world_free(f.w);
}
END_TEST

START_TEST(who_does_not_report_is_expelled)
{
    struct four f = four_nodes();
    uint32_t id = f.b->id;
    f.b->no_report = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 1900 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 1);
    world_run(f.w, 1000 * MS);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert(f.b->closed);
    ck_assert_uint_eq(f.a->install->install->n_gone, 1);
    ck_assert_uint_eq(f.a->install->install->gone[0], id);
    world_free(f.w);
}
END_TEST

START_TEST(half_a_report_counts_for_nothing_until_the_rest_comes_on_another_link)
{
    struct four f = four_nodes();
    f.a->boundary = 7;
    f.a->half = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->prep_count, 1);
    ck_assert_ptr_null(f.b->cut);
    f.a->half = false;
    f.a->boundary = 9;
    world_cut(f.w, f.a);
    world_link(f.w, f.a);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->prep_count, 2);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.b->cut->cut->channel[0]->seq, 9);
    world_free(f.w);
}
END_TEST

START_TEST(the_source_that_several_wait_for_is_expelled_before_them)
{
    struct four f = four_nodes();
    f.b->no_vote = f.c->no_vote = f.d->no_vote = true;
    f.b->stuck_of = f.c->stuck_of = f.d->stuck_of = f.a->id;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 2500 * MS);
    ck_assert(!f.a->closed);
    f.b->no_vote = f.c->no_vote = f.d->no_vote = false;
    world_run(f.w, 500 * MS);
    ck_assert(f.a->closed);
    ck_assert(!f.b->closed && !f.c->closed && !f.d->closed);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_free(f.w);
}
END_TEST

START_TEST(who_left_an_attempt_gets_another_before_anybody_is_blamed)
{
    struct four f = four_nodes();
    f.b->left = f.c->left = 1;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 1900 * MS);
    ck_assert_uint_eq(f.a->prep->prep->tag->attempt, 1);
    world_run(f.w, 300 * MS);
    ck_assert_uint_eq(f.a->install->install->tag->attempt, 2);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert_uint_eq(f.a->install->install->n_gone, 0);
    world_free(f.w);
}
END_TEST

START_TEST(a_cms_that_was_asleep_in_a_flush_begins_it_again)
{
    struct four f = four_nodes();
    f.b->left = 1;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    f.w->now_us += 1500 * MS;
    world_run(f.w, 10 * MS);
    ck_assert_uint_eq(f.a->install->install->tag->attempt, 2);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_free(f.w);
}
END_TEST

/* Who gave it up meanwhile has as long to come back as after a takeover, and the flush waits. */
START_TEST(a_cms_that_was_asleep_in_a_flush_waits_for_who_gave_it_up)
{
    struct four f = four_nodes();
    f.b->no_report = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->prep_count, 1);
    f.w->now_us += 4000 * MS;
    f.w->ping_us = f.w->now_us + 100 * MS;
    world_cut(f.w, f.b);
    cms_expire(f.w->cms, f.w->now_us);
    world_run(f.w, 4500 * MS);
    ck_assert_uint_eq(f.a->prep_count, 1);
    f.b->no_report = false;
    world_link(f.w, f.b);
    world_run(f.w, 200 * MS);
    ck_assert_uint_eq(f.a->prep_count, 2);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert(!f.b->closed);
    ck_assert_ptr_nonnull(world_region(f.b));
    world_free(f.w);
}
END_TEST

/* It seems to have waited for links for so long that it would begin without them. */
START_TEST(a_cms_that_was_asleep_before_a_flush_waits_for_who_gave_it_up)
{
    struct four f = four_nodes();
    world_cut(f.w, f.b);
    world_cut(f.w, f.c);
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 50 * MS);
    f.w->now_us += 7000 * MS;
    f.w->ping_us = f.w->now_us + 100 * MS;
    world_link(f.w, f.b);
    world_run(f.w, 4500 * MS);
    ck_assert_uint_eq(f.a->prep_count, 0);
    world_link(f.w, f.c);
    world_run(f.w, 200 * MS);
    ck_assert_uint_eq(f.a->prep_count, 1);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    ck_assert(world_region(f.b) != NULL && world_region(f.c) != NULL);
    world_free(f.w);
}
END_TEST

START_TEST(votes_of_another_attempt_do_not_count)
{
    struct four f = four_nodes();
    f.a->no_vote = f.b->no_vote = true;
    world_want(f.w, f.b, 2, "x", 0);
    world_run(f.w, 100 * MS);
    Qsm__Tag tag = *f.a->cut->cut->tag;
    tag.attempt++;
    Qsm__Done done = QSM__DONE__INIT;
    done.tag = &tag;
    Qsm__NodeToCms m = QSM__NODE_TO_CMS__INIT;
    m.what_case = QSM__NODE_TO_CMS__WHAT_DONE;
    m.done = &done;
    world_say(f.w, f.a, &m);
    world_say(f.w, f.b, &m);
    world_settle(f.w);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 1);
    world_free(f.w);
}
END_TEST

START_TEST(a_new_leader_voids_the_attempt_and_begins_again)
{
    struct four f = four_nodes();
    f.a->no_vote = true;
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 100 * MS);
    ck_assert_ptr_nonnull(f.b->cut);
    world_restart(f.w, false);
    f.a->no_vote = false;
    for (int i = 0; i < 3; i++)
        world_link(f.w, &f.w->peers[i]);
    world_run(f.w, 1000 * MS);
    ck_assert_uint_eq(f.a->term, cms_term(f.w->cms));
    ck_assert_uint_eq(cms_epoch(f.w->cms), 1); /* d is awaited: nobody's sending stops meanwhile */
    ck_assert_uint_eq(f.a->prep->prep->tag->term, 1);
    world_link(f.w, f.d);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->prep->prep->tag->term, cms_term(f.w->cms));
    ck_assert_uint_eq(f.a->prep->prep->tag->attempt, 1);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    world_free(f.w);
}
END_TEST

START_TEST(what_the_log_has_is_installed_though_the_leader_died_before_it_said_so)
{
    struct four f = four_nodes();
    world_want(f.w, f.d, 2, "x", 1);
    world_run(f.w, 40 * MS);
    f.w->journal_stuck = true;
    world_run(f.w, 100 * MS);
    uint64_t index;
    const uint8_t *entry;
    size_t size;
    ck_assert(cms_append_pull(f.w->cms, &index, &entry, &size)); /* the install: durable, unsaid */
    f.w->log = realloc(f.w->log, (f.w->log_count + 1) * sizeof *f.w->log);
    f.w->log[f.w->log_count].bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        f.w->log[f.w->log_count].bytes[i] = entry[i];
    f.w->log[f.w->log_count++].size = size;
    world_restart(f.w, false);
    ck_assert_uint_eq(cms_epoch(f.w->cms), 2);
    for (int i = 0; i < 4; i++)
        world_link(f.w, &f.w->peers[i]);
    world_run(f.w, 100 * MS);
    ck_assert_uint_eq(f.a->epoch, 2);
    ck_assert(f.a->install->install->full);
    ck_assert_uint_eq(f.a->install->install->tag->term, 1);
    ck_assert_uint_eq(f.a->install->install->tag->attempt, 1);
    world_free(f.w);
}
END_TEST

static struct flush_waiter waits(uint32_t id, const uint32_t *of, uint32_t count)
{
    return (struct flush_waiter){.id = id, .of = of, .count = count};
}

START_TEST(blame_falls_on_the_fewest)
{
    const uint32_t one[] = {1}, two[] = {2}, many[] = {1, 2, 3, 4}, nine[] = {9};
    uint32_t blamed[16];
    struct flush_waiter silent[] = {waits(5, NULL, 0), waits(6, NULL, 0)};
    ck_assert_uint_eq(flush_blame(silent, 2, blamed, 16), 2);
    struct flush_waiter source[] = {waits(5, one, 1), waits(6, one, 1), waits(7, one, 1)};
    ck_assert_uint_eq(flush_blame(source, 3, blamed, 16), 1);
    ck_assert_uint_eq(blamed[0], 1);
    struct flush_waiter deaf[] = {waits(5, many, 4)};
    ck_assert_uint_eq(flush_blame(deaf, 1, blamed, 16), 1);
    ck_assert_uint_eq(blamed[0], 5);
    struct flush_waiter pair[] = {waits(5, two, 1)};
    ck_assert_uint_eq(flush_blame(pair, 1, blamed, 16), 1);
    ck_assert_uint_eq(blamed[0], 5);
    struct flush_waiter both[] = {waits(5, many, 4), waits(6, two, 1), waits(7, two, 1)};
    ck_assert_uint_eq(flush_blame(both, 3, blamed, 16), 2);
    ck_assert_uint_eq(blamed[0], 5);
    ck_assert_uint_eq(blamed[1], 2);
    struct flush_waiter chain[] = {waits(5, nine, 1), waits(9, NULL, 0)};
    ck_assert_uint_eq(flush_blame(chain, 2, blamed, 16), 1);
    ck_assert_uint_eq(blamed[0], 9);
}
END_TEST

Suite *suite_flush(void)
{
    Suite *suite = suite_create("flush");
    TCase *tests = tcase_create("flush");
    tcase_add_test(tests, a_join_flushes_the_regions_of_its_groups_and_nobody_else);
    tcase_add_test(tests, regions_out_of_scope_keep_their_view_and_are_not_asked);
    tcase_add_test(tests, a_sender_outside_takes_part);
    tcase_add_test(tests,
                   the_dead_are_in_the_log_before_their_prep_and_the_longest_prefix_is_the_cut);
    tcase_add_test(tests, a_death_in_a_flush_starts_another_attempt);
    tcase_add_test(tests, a_join_during_a_flush_waits_for_the_next_epoch);
    tcase_add_test(tests, planned_changes_wait_ten_times_what_the_flush_took);
    tcase_add_test(tests, a_message_cut_off_twice_holds_planned_changes_up);
    tcase_add_test(tests, who_does_not_report_is_expelled);
    tcase_add_test(tests, half_a_report_counts_for_nothing_until_the_rest_comes_on_another_link);
    tcase_add_test(tests, the_source_that_several_wait_for_is_expelled_before_them);
    tcase_add_test(tests, who_left_an_attempt_gets_another_before_anybody_is_blamed);
    tcase_add_test(tests, a_cms_that_was_asleep_in_a_flush_begins_it_again);
    tcase_add_test(tests, a_cms_that_was_asleep_in_a_flush_waits_for_who_gave_it_up);
    tcase_add_test(tests, a_cms_that_was_asleep_before_a_flush_waits_for_who_gave_it_up);
    tcase_add_test(tests, votes_of_another_attempt_do_not_count);
    tcase_add_test(tests, a_new_leader_voids_the_attempt_and_begins_again);
    tcase_add_test(tests, what_the_log_has_is_installed_though_the_leader_died_before_it_said_so);
    tcase_add_test(tests, blame_falls_on_the_fewest);
    suite_add_tcase(suite, tests);
    return suite;
}
