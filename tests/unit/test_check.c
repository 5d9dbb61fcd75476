/* Tests of the trace checker: one small trace that keeps every promise, and for each promise
 * corruptions of it that are rejected under that promise's number. */
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "checker.h"
#include "suites.h"

/* Three nodes in one region, group 1 named a; node 2 and node 4 in another region too, group 2
 * named b. p3 dies, p4 joins in epoch 2. Times are left out: every line gets the same. */
static const char *const story[] = {
    "cms lead term=1",
    "p1 boot",
    "p2 boot",
    "p3 boot",
    "cms admit id=1 name=p1",
    "cms admit id=2 name=p2",
    "cms admit id=3 name=p3",
    "p1 node id=1",
    "p2 node id=2",
    "p3 node id=3",
    "p1 sub c=1 g=a",
    "p2 sub c=1 g=a",
    "cms epoch ep=1 prev=0 t=1 a=1",
    "cms gview ep=1 g=1 m=1,2,3",
    "cms rview ep=1 r=1 m=1,2",
    "cms rview ep=1 r=2 m=3",
    "p1 name g=1 name=a",
    "p2 name g=1 name=a",
    "p1 view g=1 ep=1 m=1,2,3",
    "p2 view g=1 ep=1 m=1,2,3",
    "p3 view g=1 ep=1 m=1,2,3",
    "p1 full name=held_packets value=3 max=4",
    /* message 1 of node 1, to both regions */
    "p1 accept c=1 k=1 g=a h=aa l=5 ask=1",
    "p1 accept c=1 k=2 g=a h=bb l=6 ask=0",
    "p1 pull c=1 k=1 g=a n=1",
    "p1 send g=1 n=1 ep=1 h=aa l=5",
    "p1 take s=1 r=1 v=1 q=1",
    "p1 pack r=1 v=1 q=1 g=1 n=1",
    "p1 take s=1 r=2 v=1 q=1",
    "p1 pack r=2 v=1 q=1 g=1 n=1",
    "p1 deliver g=1 s=1 n=1 ep=1 h=aa l=5",
    "p1 recv c=1 g=a s=1 n=1 h=aa",
    "p2 take s=1 r=1 v=1 q=1",
    "p2 next s=1 r=1 v=1 q=1",
    "p2 base g=1 s=1 n=0",
    "p2 deliver g=1 s=1 n=1 ep=1 h=aa l=5",
    "p2 recv c=1 g=a s=1 n=1 h=aa",
    "p3 take s=1 r=2 v=1 q=1",
    "p3 next s=1 r=2 v=1 q=1",
    "p3 base g=1 s=1 n=0",
    "p3 deliver g=1 s=1 n=1 ep=1 h=aa l=5",
    "p1 stable g=1 n=1",
    "p1 complete c=1 k=1 g=a st=stable",
    "p1 drop s=1 r=1 v=1 q=1 why=rel",
    "p2 drop s=1 r=1 v=1 q=1 why=rel",
    /* message 2, which node 3 does not live to see */
    "p1 pull c=1 k=2 g=a n=2",
    "p1 send g=1 n=2 ep=1 h=bb l=6",
    "p1 take s=1 r=1 v=1 q=2",
    "p1 pack r=1 v=1 q=2 g=1 n=2",
    "p1 take s=1 r=2 v=1 q=2",
    "p1 pack r=2 v=1 q=2 g=1 n=2",
    "p1 deliver g=1 s=1 n=2 ep=1 h=bb l=6",
    "p1 recv c=1 g=a s=1 n=2 h=bb",
    "p3 crash",
    "cms expel id=3 why=closed",
    "p2 take s=1 r=1 v=1 q=2",
    "p2 next s=1 r=1 v=1 q=2",
    "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6",
    "p2 recv c=1 g=a s=1 n=2 h=bb",
    /* epoch 2: 3 is gone, 4 and 5 join */
    "p4 boot",
    "p5 boot",
    "cms admit id=4 name=p4",
    "cms admit id=5 name=p5",
    "p4 node id=4",
    "p5 node id=5",
    "cms epoch ep=2 prev=1 t=1 a=1",
    "cms gview ep=2 g=1 m=1,2,4,5",
    "cms rview ep=2 r=1 m=1,2,4,5",
    "p1 view g=1 ep=2 m=1,2,4,5",
    "p1 stable g=1 n=2",
    "p1 drop s=1 r=1 v=1 q=2 why=install",
    "p2 view g=1 ep=2 m=1,2,4,5",
    "p4 view g=1 ep=2 m=1,2,4,5",
    "p5 view g=1 ep=2 m=1,2,4,5",
    "p1 accept c=1 k=3 g=a h=cc l=7 ask=1",
    "p1 pull c=1 k=3 g=a n=3",
    "p1 send g=1 n=3 ep=2 h=cc l=7",
    "p1 take s=1 r=1 v=2 q=1",
    "p1 pack r=1 v=2 q=1 g=1 n=3",
    "p1 deliver g=1 s=1 n=3 ep=2 h=cc l=7",
    "p1 recv c=1 g=a s=1 n=3 h=cc",
    "p2 take s=1 r=1 v=2 q=1",
    "p2 next s=1 r=1 v=2 q=1",
    "p2 deliver g=1 s=1 n=3 ep=2 h=cc l=7",
    "p2 recv c=1 g=a s=1 n=3 h=cc",
    "p4 take s=1 r=1 v=2 q=1",
    "p4 next s=1 r=1 v=2 q=1",
    "p4 base g=1 s=1 n=2",
    "p4 deliver g=1 s=1 n=3 ep=2 h=cc l=7",
    "p5 take s=1 r=1 v=2 q=1",
    "p5 next s=1 r=1 v=2 q=1",
    "p5 base g=1 s=1 n=2",
    "p5 deliver g=1 s=1 n=3 ep=2 h=cc l=7",
    "p5 drop s=1 r=1 v=2 q=1 why=cachers",
    "p1 stable g=1 n=3",
    "p1 complete c=1 k=3 g=a st=stable",
    "sim finish",
};
#define STORY_LINES (sizeof(story) / sizeof(story[0]))

/* What is done to the story before it is read. */
struct corruption {
    const char *promise;
    const char *line;  /* this line of the story ... */
    const char *into;  /* ... is this instead; NULL: is left out */
    const char *after; /* and moves behind this line; NULL: stays where it is */
};

static void read_line(struct checker *c, uint64_t number, const char *text)
{
    char line[200] = "100 ";
    checker_line(c, NULL, number, strncat(line, text, sizeof(line) - 5));
}

static struct checker *read_story(const struct corruption *bad)
{
    struct checker_config config = {.replicas = 2, .ring_size = 25};
    struct checker *c = checker_new(&config);
    for (size_t i = 0; i < STORY_LINES; i++) {
        bool meant = bad && strcmp(story[i], bad->line) == 0;
        const char *text = meant ? (bad->after ? NULL : bad->into) : story[i];
        if (text)
            read_line(c, i + 1, text);
        if (bad && bad->after && strcmp(story[i], bad->after) == 0)
            read_line(c, i + 1, bad->into ? bad->into : bad->line);
    }
    return c;
}

START_TEST(a_trace_that_keeps_all_promises_passes)
{
    struct checker *c = read_story(NULL);
    if (checker_failures(c))
        ck_abort_msg("%s", checker_failure(c, 0));
    ck_assert(checker_finished(c));
    ck_assert_uint_eq(checker_counts(c)->delivers, 9);
    checker_free(c);
}
END_TEST

/* A group goes while a message is pulled and not sent yet, and comes back under another id. */
static const char *const comeback[] = {
    "cms lead term=1",
    "p1 boot",
    "cms admit id=1 name=p1",
    "p1 node id=1",
    "cms epoch ep=1 prev=0 t=1 a=1",
    "cms gview ep=1 g=1 m=-",
    "p1 name g=1 name=a",
    "p1 accept c=1 k=1 g=a h=aa l=5 ask=1",
    "p1 accept c=1 k=2 g=a h=bb l=6 ask=1",
    "p1 pull c=1 k=1 g=a n=1",
    "p1 send g=1 n=1 ep=1 h=aa l=5",
    "p1 stable g=1 n=1",
    "p1 complete c=1 k=1 g=a st=stable",
    "p1 pull c=1 k=2 g=a n=2",
    "cms epoch ep=2 prev=1 t=1 a=1",
    "cms gview ep=2 g=7 m=-",
    "p1 name g=7 name=a",
    "p1 send g=7 n=2 ep=2 h=bb l=6",
    "p1 stable g=7 n=2",
    "p1 complete c=1 k=2 g=a st=stable",
};

START_TEST(a_message_pulled_before_its_group_went_is_sent_under_the_new_id)
{
    struct checker_config config = {.replicas = 2, .ring_size = 25};
    struct checker *c = checker_new(&config);
    for (size_t i = 0; i < sizeof(comeback) / sizeof(comeback[0]); i++)
        read_line(c, i + 1, comeback[i]);
    if (checker_failures(c))
        ck_abort_msg("%s", checker_failure(c, 0));
    checker_free(c);
}
END_TEST

static const struct corruption corruptions[] = {
    {"S1", "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6", "p2 deliver g=1 s=1 n=2 ep=1 h=bc l=6", NULL},
    {"S1", "p1 accept c=1 k=3 g=a h=cc l=7 ask=1", NULL, NULL},
    {"S1", "p1 send g=1 n=3 ep=2 h=cc l=7", "p1 send g=1 n=3 ep=2 h=cd l=7", NULL},
    {"S1", "p2 recv c=1 g=a s=1 n=3 h=cc", "p2 recv c=1 g=a s=1 n=3 h=cd", NULL},
    {"S2", "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6", "p2 deliver g=1 s=1 n=1 ep=1 h=aa l=5", NULL},
    {"S2", "p2 recv c=1 g=a s=1 n=3 h=cc", "p2 recv c=1 g=a s=1 n=2 h=bb", NULL},
    {"S3", "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6", NULL, NULL},
    {"S3", "p2 recv c=1 g=a s=1 n=2 h=bb", NULL, NULL},
    {"S3", "p2 recv c=1 g=a s=1 n=3 h=cc", NULL, NULL},
    {"S4", "p1 pull c=1 k=1 g=a n=1", "p1 pull c=1 k=2 g=a n=1", NULL},
    {"S5", "p2 view g=1 ep=2 m=1,2,4,5", NULL, "p2 deliver g=1 s=1 n=3 ep=2 h=cc l=7"},
    {"S5", "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6", NULL, "p2 view g=1 ep=2 m=1,2,4,5"},
    {"S6", "p2 view g=1 ep=2 m=1,2,4,5", "p2 view g=1 ep=2 m=1,2,4", NULL},
    {"S6", "p2 view g=1 ep=2 m=1,2,4,5", "p2 view g=1 ep=1 m=1,2,3", NULL},
    {"S6", "cms admit id=4 name=p4", NULL, NULL},
    {"S6", "cms epoch ep=2 prev=1 t=1 a=1", "cms epoch ep=2 prev=0 t=1 a=1", NULL},
    {"S7", "p2 deliver g=1 s=1 n=2 ep=1 h=bb l=6", NULL, NULL},
    {"S7", "p5 deliver g=1 s=1 n=3 ep=2 h=cc l=7", NULL, NULL},
    {"S8", "p1 stable g=1 n=2", NULL, "p3 crash"},
    {"S8", "p1 stable g=1 n=1", NULL, "p1 pack r=2 v=1 q=1 g=1 n=1"},
    {"S9", "p4 base g=1 s=1 n=2", "p4 base g=1 s=1 n=1", NULL},
    {"S10", "p2 drop s=1 r=1 v=1 q=1 why=rel", NULL, "p2 recv c=1 g=a s=1 n=1 h=aa"},
    {"S10", "p1 drop s=1 r=1 v=1 q=1 why=rel", NULL, "p1 recv c=1 g=a s=1 n=1 h=aa"},
    {"S10", "p5 drop s=1 r=1 v=2 q=1 why=cachers", "p1 drop s=1 r=1 v=2 q=1 why=cachers", NULL},
    {"S10", "p2 drop s=1 r=1 v=1 q=1 why=rel", "p2 drop s=1 r=1 v=1 q=1 why=cut", NULL},
    {"S10", "p1 drop s=1 r=1 v=1 q=2 why=install", NULL, "p3 crash"},
    {"S11", "p2 next s=1 r=1 v=1 q=2", "p2 next s=1 r=1 v=1 q=3", NULL},
    {"S11", "p2 take s=1 r=1 v=1 q=2", NULL, "p2 next s=1 r=1 v=1 q=2"},
    {"S12", "p1 full name=held_packets value=3 max=4", "p1 full name=held_packets value=5 max=4",
     NULL},
    {"S14", "p1 complete c=1 k=1 g=a st=stable", NULL, NULL},
    {"S14", "p1 complete c=1 k=3 g=a st=stable", "p1 complete c=1 k=1 g=a st=stable", NULL},
    {"S14", "p1 complete c=1 k=1 g=a st=stable", "p1 complete c=1 k=2 g=a st=stable", NULL},
    {"S14", "p1 complete c=1 k=1 g=a st=stable", NULL, "p1 recv c=1 g=a s=1 n=1 h=aa"},
    {"LIVE", "p1 stable g=1 n=3", NULL, NULL},
    {"TRACE", "p1 stable g=1 n=3", "p1 stable g=1 n=x", NULL},
    {"TRACE", "p1 stable g=1 n=3", "nonsense", NULL},
};

START_TEST(a_corruption_is_rejected_under_the_number_of_its_promise)
{
    const struct corruption *bad = &corruptions[_i];
    struct checker *c = read_story(bad);
    size_t length = strlen(bad->promise);
    bool found = false;
    for (size_t i = 0; i < checker_failures(c); i++) {
        const char *text = checker_failure(c, i);
        found = found || (strncmp(text, bad->promise, length) == 0 && text[length] == ':');
    }
    if (!found)
        ck_abort_msg("%s not found for `%s`; first: %s", bad->promise, bad->line,
                     checker_failures(c) ? checker_failure(c, 0) : "nothing");
    checker_free(c);
}
END_TEST

START_TEST(a_failure_names_the_file_and_the_line)
{
    struct checker_config config = {.replicas = 2, .ring_size = 25};
    struct checker *c = checker_new(&config);
    checker_line(c, "host1.trace", 7, "12 host1 full name=pool value=9 max=8");
    ck_assert_uint_eq(checker_failures(c), 1);
    ck_assert_str_eq(checker_failure(c, 0),
                     "S12: host1.trace:7: host1 full: pool holds 9, its cap is 8");
    checker_free(c);
}
END_TEST

/* awk's idea of a large number: it would be merged in as if it were the first line of all. */
START_TEST(a_time_that_is_no_number_is_rejected)
{
    struct checker_config config = {.replicas = 2, .ring_size = 25};
    struct checker *c = checker_new(&config);
    checker_line(c, NULL, 3, "2.29855e+09 test finish");
    ck_assert_uint_eq(checker_failures(c), 1);
    ck_assert(!checker_finished(c));
    checker_free(c);
}
END_TEST

Suite *suite_check(void)
{
    Suite *s = suite_create("check");
    TCase *t = tcase_create("traces");
    tcase_add_test(t, a_trace_that_keeps_all_promises_passes);
    tcase_add_test(t, a_message_pulled_before_its_group_went_is_sent_under_the_new_id);
    tcase_add_loop_test(t, a_corruption_is_rejected_under_the_number_of_its_promise, 0,
                        (int)(sizeof(corruptions) / sizeof(corruptions[0])));
    tcase_add_test(t, a_failure_names_the_file_and_the_line);
    tcase_add_test(t, a_time_that_is_no_number_is_rejected);
    suite_add_tcase(s, t);
    return s;
}
