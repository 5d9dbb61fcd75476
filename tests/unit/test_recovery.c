/* Tests of core/recovery: the queue of repairs. Who repairs what is in the scenarios. */
#include "recovery.h"
#include "suites.h"

struct rig {
    struct context ctx;
    struct recovery recovery;
};

static void rig_init(struct rig *r)
{
    static const struct node_config config = {.cluster = "test", .name = "host"};
    static const struct upcalls none;

    context_init(&r->ctx, &config, &none, 0);
    recovery_init(&r->recovery, &r->ctx, NULL, NULL, NULL);
}

static void rig_done(struct rig *r)
{
    recovery_done(&r->recovery);
    context_done(&r->ctx);
}

static uint32_t fill(struct rig *r, uint32_t address, bool multicast)
{
    static const struct channel_id channel = {1, 1, 1};
    uint32_t taken = 0;

    while (taken <= REPAIR_QUEUE_MAX &&
           recovery_queue(&r->recovery, &channel, taken + 1, address, multicast))
        taken++;
    return taken;
}

START_TEST(one_requester_does_not_fill_the_queue)
{
    struct rig r;

    rig_init(&r);
    ck_assert_uint_eq(fill(&r, 7, false), REPAIR_QUEUE_ONE_MAX);
    ck_assert_uint_eq(fill(&r, 8, false), REPAIR_QUEUE_ONE_MAX);
    ck_assert_uint_eq(r.ctx.stats.repairs_over_budget, 2);
    ck_assert_uint_eq(fill(&r, 9, true), REPAIR_QUEUE_MAX - 2 * REPAIR_QUEUE_ONE_MAX);
    ck_assert_uint_eq(fill(&r, 10, false), 0);
    ck_assert_uint_eq(r.ctx.stats.repair_queue, REPAIR_QUEUE_MAX);
    rig_done(&r);
}
END_TEST

START_TEST(nobody_without_an_address_gets_repairs)
{
    struct rig r;

    rig_init(&r);
    ck_assert_uint_eq(fill(&r, 0, false), 0);
    ck_assert_uint_eq(r.ctx.stats.repair_queue, 0);
    rig_done(&r);
}
END_TEST

Suite *suite_recovery(void)
{
    Suite *s = suite_create("recovery");
    TCase *t = tcase_create("recovery");

    tcase_add_test(t, one_requester_does_not_fill_the_queue);
    tcase_add_test(t, nobody_without_an_address_gets_repairs);
    suite_add_tcase(s, t);
    return s;
}
