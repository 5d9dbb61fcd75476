/* qsmctl_show: the commands that show the node, and join and leave. */
#include "qsmctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "output.h"

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define POLL_MS 50

/* Nothing but the command's name may be left. */
static int no_arguments(struct ctl *ctl, int argc, char **argv)
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};

    if (getopt_long(argc, argv, "", none, NULL) != -1)
        return ctl_usage(ctl, "%s takes no options", argv[0]);
    if (optind < argc)
        return ctl_usage(ctl, "%s: unexpected", argv[optind]);
    return EXIT_OK;
}

/* ---- status */

static int show_status(struct ctl *ctl, const struct qsm_status *s)
{
    static const struct column columns[] = {{"name", "NAME", VALUE_TEXT},
                                            {"value", "VALUE", VALUE_TEXT}};
    struct output *o = output_new(ctl->json, false, "status", columns, LENGTH(columns));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"node_id", s->node_id}, {"epoch", s->epoch},     {"nodes", s->nodes},
                   {"groups", s->groups},   {"regions", s->regions}, {"clients", s->clients}};
    const struct qsm_fact texts[] = {
        {"host", s->host}, {"version", s->version}, {"linked", s->linked ? "yes" : "no"}};
    int error = o ? 0 : -ENOMEM;

    for (size_t i = 0; i < LENGTH(texts) && error == 0; i++)
        error = output_row(o, (struct value[]){{.text = texts[i].name}, {.text = texts[i].value}});
    for (size_t i = 0; i < LENGTH(numbers) && error == 0; i++) {
        char text[32];
        snprintf(text, sizeof(text), "%llu", (unsigned long long)numbers[i].value);
        error = output_row(o, (struct value[]){{.text = numbers[i].name}, {.text = text}});
    }
    for (size_t i = 0; i < s->fact_count && error == 0; i++)
        error = output_row(
            o, (struct value[]){{.text = s->facts[i].name}, {.text = s->facts[i].value}});
    return o ? ctl_print(ctl, o, error) : ctl_fail(ctl, NULL, error);
}

int command_status(struct ctl *ctl, int argc, char **argv)
{
    const struct qsm_status *status;
    int code = no_arguments(ctl, argc, argv);

    if (code == EXIT_OK)
        code = ctl_connect(ctl, NULL);
    if (code != EXIT_OK)
        return code;
    int error = qsm_status(ctl->qsm, ANSWER_MS, &status);
    if (error < 0)
        return ctl_fail(ctl, NULL, error);
    code = show_status(ctl, status);
    return code == EXIT_OK && status->node_id == 0 ? EXIT_NO_CMS : code;
}

/* ---- groups */

struct rows {
    struct output *output;
    int error;
    /* of --wait */
    uint64_t epoch;
    size_t members;
};

static void group_row(void *ctx, const struct qsm_group_info *g)
{
    struct rows *rows = ctx;
    struct value values[] = {{.text = g->name},
                             {.number = g->gid},
                             {.number = g->epoch},
                             {.number = g->member_count},
                             {.number = g->regions},
                             {.number = (uint64_t)g->recv},
                             {.number = (uint64_t)g->send},
                             {.number = (uint64_t)g->held},
                             {.number = g->sent},
                             {.number = g->stable},
                             {.members = g->members, .member_count = g->member_count}};

    if (rows->error == 0)
        rows->error = output_row(rows->output, values);
}

static int show_groups(struct ctl *ctl, const char *name)
{
    static const struct column columns[] = {
        {"name", "GROUP", VALUE_TEXT},        {"gid", "GID", VALUE_NUMBER},
        {"view", "VIEW", VALUE_NUMBER},       {"size", "SIZE", VALUE_NUMBER},
        {"regions", "REGIONS", VALUE_NUMBER}, {"recv", "RECV", VALUE_BOOL},
        {"send", "SEND", VALUE_BOOL},         {"held", "HELD", VALUE_BOOL},
        {"sent", "SENT", VALUE_NUMBER},       {"stable", "STABLE", VALUE_NUMBER},
        {"members", "MEMBERS", VALUE_MEMBERS}};
    struct rows rows = {.output = output_new(ctl->json, false, "groups", columns, LENGTH(columns))};

    if (!rows.output)
        return ctl_fail(ctl, NULL, -ENOMEM);
    int error = qsm_each_group(ctl->qsm, name, ctl_left_ms(ctl, ANSWER_MS), group_row, &rows);
    return ctl_print(ctl, rows.output, error < 0 ? error : rows.error);
}

static void group_size(void *ctx, const struct qsm_group_info *g)
{
    struct rows *rows = ctx;

    rows->epoch = g->epoch;
    rows->members = g->member_count;
}

/* Until the installed view of the group has that many members. */
static int wait_for_members(struct ctl *ctl, const char *name, uint64_t members)
{
    for (;;) {
        struct rows rows = {0};
        int left = ctl_left_ms(ctl, ANSWER_MS);
        int error = qsm_each_group(ctl->qsm, name, left, group_size, &rows);
        /* A group that nobody has opened yet is refused. */
        if (error < 0 && error != -ENOENT)
            return ctl_fail(ctl, name, error);
        if (error == 0 && rows.epoch && rows.members == members)
            return EXIT_OK;
        if (ctl_late(ctl))
            return ctl_fail(ctl, name, -ETIMEDOUT);
        left = ctl_left_ms(ctl, POLL_MS);
        error = qsm_wait(ctl->qsm, left < POLL_MS ? left : POLL_MS);
        if (error < 0)
            return ctl_fail(ctl, name, error);
    }
}

int command_groups(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"wait", required_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    uint64_t members = 0;
    int option;

    while ((option = getopt_long(argc, argv, "W:", options, NULL)) != -1) {
        if (option == '?')
            return ctl_usage(ctl, "wrong option");
        if (option == 'W' && !ctl_parse_deadline(ctl, optarg))
            return EXIT_USAGE;
        if (option == 'w' && !ctl_parse_count(optarg, UINT32_MAX, &members))
            return ctl_usage(ctl, "--wait %s: not a number of members", optarg);
    }
    if (argc - optind > 1)
        return ctl_usage(ctl, "%s: one group or all", argv[optind + 1]);
    const char *name = optind < argc ? argv[optind] : NULL;
    if (members && !name)
        return ctl_usage(ctl, "--wait needs a group");
    int code = ctl_connect(ctl, NULL);
    if (code == EXIT_OK && members)
        code = wait_for_members(ctl, name, members);
    return code == EXIT_OK ? show_groups(ctl, name) : code;
}

/* ---- regions */

static void region_row(void *ctx, const struct qsm_region_info *r)
{
    struct rows *rows = ctx;
    struct value values[] = {
        {.number = r->rid},          {.number = r->epoch},
        {.text = r->address},        {.number = r->member_count},
        {.number = r->groups},       {.number = (uint64_t)r->ours},
        {.number = r->sent},         {.number = r->stable},
        {.number = r->released},     {.number = r->inflight_bytes},
        {.number = r->window_bytes}, {.number = r->rate},
        {.text = r->slowest},        {.members = r->members, .member_count = r->member_count}};

    if (rows->error == 0)
        rows->error = output_row(rows->output, values);
}

int command_regions(struct ctl *ctl, int argc, char **argv)
{
    static const struct column columns[] = {
        {"rid", "REGION", VALUE_NUMBER},          {"view", "VIEW", VALUE_NUMBER},
        {"address", "ADDRESS", VALUE_TEXT},       {"size", "SIZE", VALUE_NUMBER},
        {"groups", "GROUPS", VALUE_NUMBER},       {"ours", "OURS", VALUE_BOOL},
        {"sent", "SENT", VALUE_NUMBER},           {"stable", "STABLE", VALUE_NUMBER},
        {"released", "RELEASED", VALUE_NUMBER},   {"inflight_bytes", "INFLIGHT", VALUE_NUMBER},
        {"window_bytes", "WINDOW", VALUE_NUMBER}, {"rate", "RATE", VALUE_NUMBER},
        {"slowest", "SLOWEST", VALUE_TEXT},       {"members", "MEMBERS", VALUE_MEMBERS}};
    struct rows rows = {0};
    int code = no_arguments(ctl, argc, argv);

    if (code == EXIT_OK)
        code = ctl_connect(ctl, NULL);
    if (code != EXIT_OK)
        return code;
    rows.output = output_new(ctl->json, false, "regions", columns, LENGTH(columns));
    if (!rows.output)
        return ctl_fail(ctl, NULL, -ENOMEM);
    int error = qsm_each_region(ctl->qsm, ANSWER_MS, region_row, &rows);
    return ctl_print(ctl, rows.output, error < 0 ? error : rows.error);
}

/* ---- join, leave */

static int hold(struct ctl *ctl, int argc, char **argv,
                int (*change)(struct qsm *q, const char *const *names, size_t count,
                              int timeout_ms))
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "W:", none, NULL)) != -1) {
        if (option != 'W')
            return ctl_usage(ctl, "wrong option");
        if (!ctl_parse_deadline(ctl, optarg))
            return EXIT_USAGE;
    }
    if (optind == argc)
        return ctl_usage(ctl, "no group");
    int code = ctl_connect(ctl, NULL);
    if (code != EXIT_OK)
        return code;
    int error = change(ctl->qsm, (const char *const *)argv + optind, (size_t)(argc - optind),
                       ctl_left_ms(ctl, ANSWER_MS));
    return error < 0 ? ctl_fail(ctl, NULL, error) : EXIT_OK;
}

int command_join(struct ctl *ctl, int argc, char **argv)
{
    return hold(ctl, argc, argv, qsm_hold);
}

int command_leave(struct ctl *ctl, int argc, char **argv)
{
    return hold(ctl, argc, argv, qsm_release);
}
