/* qsmctl_sub: prints the messages of groups. Output is gathered while the library calls back and
 * written once per batch, so that it is at once there and cheap. */
#include "qsmctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <jansson.h>

#define RETRY_MS 200
#define BUFFER_BYTES (256u << 10)

/* What FORMAT consists of. */
struct part {
    char what;        /* 'g', 's', 'i', 'v', 'p', 'x'; 0: text */
    const char *text; /* inside sub.text */
    size_t bytes;
};

struct sub {
    struct ctl *ctl;
    struct part *parts;
    size_t part_count;
    char *text; /* all text of FORMAT, without its escapes */
    size_t text_bytes;
    uint64_t count_max; /* 0: no limit */
    uint64_t count;
    bool rejoin;
    unsigned latest; /* QSM_LATEST or 0 */
    bool ended;      /* a subscription ended for good */
    int error;       /* of standard output, or out of memory */
    char *bytes;     /* to be written */
    size_t used, size;
    struct qsm_group **groups;
};

/* ---- output */

static void flush(struct sub *s)
{
    size_t done = 0;

    while (done < s->used && s->error == 0) {
        ssize_t n = write(STDOUT_FILENO, s->bytes + done, s->used - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            s->error = -errno;
        else if (ctl_stopped())
            break;
    }
    s->used = 0;
}

static char *room(struct sub *s, size_t bytes)
{
    if (s->size - s->used < bytes && s->used > 0)
        flush(s);
    if (s->size < bytes) {
        char *larger = realloc(s->bytes, bytes);
        if (!larger) {
            s->error = -ENOMEM;
            return NULL;
        }
        s->bytes = larger;
        s->size = bytes;
    }
    return s->bytes + s->used;
}

static void put(struct sub *s, const void *data, size_t bytes)
{
    char *to = room(s, bytes);

    if (!to || bytes == 0)
        return;
    memcpy(to, data, bytes);
    s->used += bytes;
}

static void put_number(struct sub *s, uint64_t n)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    put(s, digits + i, sizeof(digits) - i);
}

static void put_hex(struct sub *s, const uint8_t *data, size_t bytes)
{
    static const char digits[] = "0123456789abcdef";
    char *to = room(s, 2 * bytes);

    if (!to)
        return;
    for (size_t i = 0; i < bytes; i++) {
        to[2 * i] = digits[data[i] >> 4];
        to[2 * i + 1] = digits[data[i] & 15];
    }
    s->used += 2 * bytes;
}

static void put_format(struct sub *s, const struct qsm_message *m)
{
    for (size_t i = 0; i < s->part_count; i++) {
        const struct part *part = &s->parts[i];
        switch (part->what) {
        case 'g':
            put(s, qsm_group_name(m->group), strlen(qsm_group_name(m->group)));
            break;
        case 's':
            put(s, m->host, strlen(m->host));
            break;
        case 'i':
            put_number(s, m->number);
            break;
        case 'v':
            put_number(s, m->epoch);
            break;
        case 'p':
            put(s, m->data, m->bytes);
            break;
        case 'x':
            put_hex(s, m->data, m->bytes);
            break;
        default:
            put(s, part->text, part->bytes);
        }
    }
}

static void put_json(struct sub *s, const struct qsm_message *m)
{
    json_t *text = json_stringn(m->bytes ? m->data : "", m->bytes); /* NULL: not UTF-8 */
    json_t *o = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:o?, s:n}", "group", qsm_group_name(m->group), "host",
        m->host, "sender", (json_int_t)m->sender, "number", (json_int_t)m->number, "view",
        (json_int_t)m->epoch, "bytes", (json_int_t)m->bytes, "payload", text, "hex");
    if (o && !text) {
        char *hex = malloc(2 * m->bytes + 1);
        for (size_t i = 0; hex && i < m->bytes; i++)
            snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)m->data)[i]);
        json_object_set_new(o, "hex", hex ? json_string(hex) : json_null());
        free(hex);
    }
    char *line = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (line) {
        put(s, line, strlen(line));
        put(s, "\n", 1);
    } else {
        s->error = -ENOMEM;
    }
    free(line);
    json_decref(o);
}

/* ---- FORMAT */

/* Appends one character to the text at the end. */
static void add_text(struct sub *s, char c)
{
    struct part *last = s->part_count ? &s->parts[s->part_count - 1] : NULL;

    if (!last || last->what) {
        last = &s->parts[s->part_count++];
        last->text = s->text + s->text_bytes;
    }
    s->text[s->text_bytes++] = c;
    last->bytes++;
}

/* Every part is at least one character of FORMAT. */
static int parse_format(struct sub *s, const char *format)
{
    size_t bytes = strlen(format);

    s->parts = calloc(bytes + 1, sizeof(*s->parts));
    s->text = malloc(bytes + 1);
    if (!s->parts || !s->text)
        return ctl_fail(s->ctl, NULL, -ENOMEM);
    for (const char *p = format; *p; p++) {
        if (*p != '%' && *p != '\\') {
            add_text(s, *p);
            continue;
        }
        char c = p[1];
        if (*p == '%' && c && strchr("gsivpx", c)) {
            s->parts[s->part_count++].what = c;
        } else if (*p == c) {
            add_text(s, c);
        } else if (*p == '\\' && (c == 'n' || c == 't')) {
            add_text(s, c == 'n' ? '\n' : '\t');
        } else {
            return ctl_usage(s->ctl,
                             "-F: %c%c is not known: %%g %%s %%i %%v %%p %%x %%%% \\n \\t \\\\", *p,
                             c ? c : ' ');
        }
        p++;
    }
    return EXIT_OK;
}

/* ---- callbacks */

static void on_message(void *ctx, const struct qsm_message *m)
{
    struct sub *s = ctx;

    if (s->error || (s->count_max && s->count == s->count_max))
        return;
    s->count++;
    if (s->ctl->json)
        put_json(s, m);
    else
        put_format(s, m);
}

static const char *why_text(enum qsm_end why)
{
    static const char *const texts[] = {
        [QSM_END_LEFT] = "left",         [QSM_END_SLOW] = "slow",
        [QSM_END_EXPELLED] = "expelled", [QSM_END_GAP] = "gap",
        [QSM_END_SHUTDOWN] = "shutdown", [QSM_END_DISCONNECTED] = "disconnected"};

    return texts[why];
}

static void on_end(void *ctx, struct qsm_group *g, const struct qsm_end_event *e)
{
    struct sub *s = ctx;

    flush(s); /* what was delivered stands in front of the end */
    fprintf(stderr, "qsmctl: %s: end: %s%s\n", qsm_group_name(g), why_text(e->why),
            e->rejoined ? ", joined again" : "");
    for (size_t i = 0; i < e->count; i++)
        fprintf(stderr, "qsmctl: %s: last of %s (node %u): %llu\n", qsm_group_name(g),
                e->positions[i].host, e->positions[i].sender,
                (unsigned long long)e->positions[i].number);
    bool again = e->rejoined || e->why == QSM_END_SHUTDOWN || e->why == QSM_END_DISCONNECTED;
    if (!s->rejoin || !again)
        s->ended = true;
}

static void on_dropped(void *ctx, struct qsm_group *g, uint64_t messages)
{
    struct sub *s = ctx;

    flush(s); /* what came before stands in front of it */
    fprintf(stderr, "qsmctl: %s: dropped %llu messages\n", qsm_group_name(g),
            (unsigned long long)messages);
}

/* ---- the command */

static bool complete(const struct sub *s)
{
    return s->count_max && s->count == s->count_max;
}

/* After the daemon went away: connects and joins again, for as long as it takes. */
static int rejoin(struct sub *s)
{
    struct ctl *ctl = s->ctl;

    for (;;) {
        int left = ctl_left_ms(ctl, ANSWER_MS);
        int error = qsm_reconnect(ctl->qsm, left < ANSWER_MS ? left : ANSWER_MS);
        if (error == 0 || ctl_stopped())
            return 0;
        if (ctl_late(ctl))
            return -ETIMEDOUT;
        struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

static int run(struct sub *s)
{
    struct ctl *ctl = s->ctl;

    while (!ctl_stopped() && !complete(s)) {
        int error = qsm_wait(ctl->qsm, ctl_left_ms(ctl, -1));
        flush(s);
        if (s->error)
            return ctl_fail(ctl, "standard output", s->error);
        if (s->ended)
            return EXIT_ERROR;
        if (error == -ENOTCONN && s->rejoin)
            error = rejoin(s);
        if (error < 0)
            return ctl_fail(ctl, NULL, error);
        if (ctl_late(ctl) && !complete(s))
            return EXIT_TIMEOUT;
    }
    return EXIT_OK;
}

static int parse_options(struct sub *s, int argc, char **argv, const char **ret_format)
{
    static const struct option options[] = {{"rejoin", no_argument, NULL, 'r'},
                                            {"policy", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "n:W:F:", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            if (!ctl_parse_count(optarg, UINT64_MAX, &s->count_max))
                return ctl_usage(s->ctl, "-n %s: not a number of messages", optarg);
            break;
        case 'W':
            if (!ctl_parse_deadline(s->ctl, optarg))
                return EXIT_USAGE;
            break;
        case 'F':
            *ret_format = optarg;
            break;
        case 'r':
            s->rejoin = true;
            break;
        case 'p':
            if (strcmp(optarg, "end") != 0 && strcmp(optarg, "latest") != 0)
                return ctl_usage(s->ctl, "--policy %s: neither end nor latest", optarg);
            s->latest = strcmp(optarg, "latest") == 0 ? QSM_LATEST : 0;
            break;
        default:
            return ctl_usage(s->ctl, "wrong option");
        }
    }
    return optind < argc ? EXIT_OK : ctl_usage(s->ctl, "no group");
}

int command_sub(struct ctl *ctl, int argc, char **argv)
{
    struct sub s = {.ctl = ctl};
    struct qsm_callbacks callbacks = {
        .ctx = &s, .message = on_message, .end = on_end, .dropped = on_dropped};
    const char *format = "%p\\n";
    int code = parse_options(&s, argc, argv, &format);

    if (code == EXIT_OK)
        code = parse_format(&s, format);
    if (code == EXIT_OK)
        code = ctl_connect(ctl, &callbacks);
    if (code == EXIT_OK) {
        size_t count = (size_t)(argc - optind);
        s.groups = calloc(count, sizeof(struct qsm_group *));
        s.bytes = malloc(BUFFER_BYTES);
        s.size = s.bytes ? BUFFER_BYTES : 0;
        ctl_catch_signals(ctl);
        int error = !s.groups || !s.bytes
                        ? -ENOMEM
                        : qsm_open(ctl->qsm, (const char *const *)argv + optind, count,
                                   QSM_RECV | s.latest, ctl_left_ms(ctl, ANSWER_MS), s.groups);
        flush(&s);
        code = error < 0 ? ctl_fail(ctl, count == 1 ? argv[optind] : NULL, error) : run(&s);
    }
    free(s.groups);
    free(s.bytes);
    free(s.parts);
    free(s.text);
    return code;
}
