/* conf: see conf.h. libconfuse reads the syntax; what keys there are, what they mean and their
 * defaults is said once, in the two tables below, for loading, checking and dumping alike. Every
 * value reaches us as text, so that each complaint is ours and names file, line and key. */
#include "conf.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <confuse.h>
#include "conf_value.h"

#define KEYS_MAX 40
#define CONF_BYTES_MAX (256u << 10)

/* libconfuse takes the end of the file for the end of a section. So a setting of the top level is
 * put behind the text: where it is not understood, a section was left open. */
#define SENTINEL "end_of_file"
static const char sentinel_text[] = "\n" SENTINEL " = reached\n";

static const char *const section_names[CONF_SECTIONS] = {
    [CONF_CLIENT] = "client",
    [CONF_DEBUG] = "debug",
};

/* ---- the keys */

#define Q(field) offsetof(struct qsmd_conf, field)
#define C(field) offsetof(struct cmsd_conf, field)

enum { NAME_BYTES = 63, SOCKET_BYTES = 107, PATH_BYTES = 4000, DEVICE_BYTES = 15 };

static const struct conf_key qsmd_keys[] = {
    {CONF_TOP, "cluster", &conf_kind_word, Q(cluster), "qsm", 1, NAME_BYTES},
    {CONF_TOP, "cms", &conf_kind_servers, Q(cms), "127.0.0.1:4813", 0, 0},
    {CONF_TOP, "name", &conf_kind_word, Q(name), "", 0, NAME_BYTES},
    {CONF_TOP, "interface", &conf_kind_word, Q(interface), "", 0, DEVICE_BYTES},
    {CONF_TOP, "address", &conf_kind_address, Q(address), "", 0, 0},
    {CONF_TOP, "port", &conf_kind_u32, Q(port), "4810", 1, 65533},
    {CONF_TOP, "multicast", &conf_kind_network, Q(multicast), "239.192.77.0/24", 0, 0},
    {CONF_TOP, "ttl", &conf_kind_u32, Q(ttl), "1", 1, 255},
    {CONF_TOP, "socket", &conf_kind_path, Q(socket), "/run/qsm/qsmd.sock", 1, SOCKET_BYTES},
    {CONF_TOP, "log_level", &conf_kind_level, Q(log_level), "info", 0, 0},
    {CONF_TOP, "token_rate", &conf_kind_milli, Q(token_rate_mhz), "1.000", 10, 1000000},
    {CONF_TOP, "token_min_interval_us", &conf_kind_u32, Q(token_min_interval_us), "1000", 100,
     10000000},
    {CONF_TOP, "window_bytes", &conf_kind_u64, Q(window_bytes), "4194304", 1u << 16, 1u << 30},
    {CONF_TOP, "rate_max", &conf_kind_u64, Q(rate_max), "0", 0, UINT64_C(1) << 40},
    {CONF_TOP, "pool_bytes", &conf_kind_u64, Q(pool_bytes), "33554432", 1u << 20,
     UINT64_C(1) << 36},
    {CONF_TOP, "reassembly_bytes", &conf_kind_u64, Q(reassembly_bytes), "67108864", 1u << 24,
     UINT64_C(1) << 36},
    {CONF_CLIENT, "queue_bytes", &conf_kind_u64, Q(client_queue_bytes), "67108864", 1u << 16,
     UINT64_C(1) << 32},
    {CONF_CLIENT, "queue_messages", &conf_kind_u32, Q(client_queue_messages), "1048576", 16,
     1u << 24},
    {CONF_CLIENT, "queue_age_ms", &conf_kind_u32, Q(client_queue_age_ms), "2000", 10, 3600000},
    {CONF_CLIENT, "clients_max", &conf_kind_u32, Q(client_clients_max), "1024", 1, 65536},
    {CONF_CLIENT, "connections_per_uid", &conf_kind_u32, Q(client_connections_per_uid), "64", 1,
     65536},
    {CONF_CLIENT, "groups_per_client", &conf_kind_u32, Q(client_groups_per_client), "16384", 1,
     100000},
    {CONF_CLIENT, "grant_bytes", &conf_kind_u32, Q(client_grant_bytes), "268435456", 1u << 26,
     1u << 31}, /* a feed's numbers have 32 bits */
    {CONF_CLIENT, "grant_bytes_all", &conf_kind_u64, Q(client_grant_bytes_all), "1073741824",
     1u << 26, UINT64_C(1) << 40},
    {CONF_DEBUG, "fault_drop", &conf_kind_share, Q(debug_fault_drop), "0.000000", 0, 1},
    {CONF_DEBUG, "trace", &conf_kind_path, Q(debug_trace), "", 0, PATH_BYTES},
    {CONF_DEBUG, "no_sender_repair", &conf_kind_bool, Q(debug_no_sender_repair), "false", 0, 0},
};

static const struct conf_key cmsd_keys[] = {
    {CONF_TOP, "cluster", &conf_kind_word, C(cluster), "qsm", 1, NAME_BYTES},
    {CONF_TOP, "listen", &conf_kind_endpoint, C(listen), "0.0.0.0:4813", 0, 0},
    {CONF_TOP, "multicast", &conf_kind_network, C(multicast), "239.192.77.0/24", 0, 0},
    {CONF_TOP, "journal", &conf_kind_journal, C(journal),
     CONF_JOURNAL_PREFIX "/var/lib/qsm-cmsd/cms.db", 1, PATH_BYTES},
    {CONF_TOP, "regions_max", &conf_kind_u32, C(regions_max), "256", 1, 65536},
    {CONF_TOP, "ring_size", &conf_kind_u32, C(ring_size), "25", 2, 1024},
    {CONF_TOP, "cache_replicas", &conf_kind_u32, C(cache_replicas), "5", 1, 64},
    {CONF_TOP, "ack_ranges", &conf_kind_u32, C(ack_ranges), "0", 0, 8},
    {CONF_TOP, "batch_ms", &conf_kind_u32, C(batch_ms), "50", 1, 10000},
    {CONF_TOP, "silence_ms", &conf_kind_u32, C(silence_ms), "1500", 100, 600000},
    {CONF_TOP, "resume_ms", &conf_kind_u32, C(resume_ms), "150", 10, 60000},
    {CONF_TOP, "progress_ms", &conf_kind_u32, C(progress_ms), "2000", 100, 600000},
    {CONF_TOP, "log_level", &conf_kind_level, C(log_level), "info", 0, 0},
    {CONF_DEBUG, "trace", &conf_kind_path, C(debug_trace), "", 0, PATH_BYTES},
    {CONF_DEBUG, "crash_at", &conf_kind_word, C(debug_crash_at), "", 0, NAME_BYTES},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static_assert(COUNT(qsmd_keys) <= KEYS_MAX && COUNT(cmsd_keys) <= KEYS_MAX, "KEYS_MAX is too low");

/* ---- loading */

/* One load. libconfuse hands its callbacks no pointer of ours, hence the one static below. */
struct load {
    const struct conf_key *keys;
    size_t count;
    void *conf;
    const char *path;
    const char *text;   /* the file, comments blanked */
    int line[KEYS_MAX]; /* where each key was set, 0: nowhere */
    char *error;        /* the first one */
};

static struct load *loading;

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;

    if (loading->error != NULL)
        return;
    va_start(args, format);
    if (vasprintf(&loading->error, format, args) < 0)
        loading->error = NULL;
    va_end(args);
    assert(loading->error != NULL);
    /* What it quotes may span lines; a complaint is one. */
    for (char *c = loading->error; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

static void *field_of(void *conf, const struct conf_key *key)
{
    return (char *)conf + key->offset;
}

/* Names are unique in a table, sections or not. */
static size_t find_key(const char *name)
{
    for (size_t i = 0; i < loading->count; i++)
        if (strcmp(loading->keys[i].name, name) == 0)
            return i;
    return loading->count;
}

/* libconfuse's own complaints are about syntax and unknown keys; these it names in quotes. */
static void syntax_error(cfg_t *cfg, const char *format, va_list args)
{
    char text[512], *open, *close;

    vsnprintf(text, sizeof(text), format, args);
    open = strstr(text, "option '");
    close = open == NULL ? NULL : strchr(open + 8, '\'');
    if (close == NULL) {
        fail("%s:%d: syntax: %s", loading->path, cfg->line, text);
    } else if (strncmp(text, "no such option", 14) == 0) {
        *close = '\0';
        if (strcmp(open + 8, SENTINEL) == 0)
            fail("%s:%d: syntax: a closing brace is missing", loading->path, cfg->line - 1);
        fail("%s:%d: %s: no such key", loading->path, cfg->line, open + 8);
    } else {
        fail("%s:%d: %.*s: %s", loading->path, cfg->line, (int)(close - open - 8), open + 8, text);
    }
}

/* A value was read. libconfuse calls after every element of a list and at its end, with all there
 * are so far, so a list is parsed from its start each time. */
static int take_value(cfg_t *cfg, cfg_opt_t *opt)
{
    size_t index = find_key(cfg_opt_name(opt));
    const char *text = "", *why = NULL;

    assert(index < loading->count);
    const struct conf_key *key = &loading->keys[index];
    void *field = field_of(loading->conf, key);
    if (key->kind->list)
        ((struct conf_servers *)field)->count = 0;
    for (unsigned i = 0; i < cfg_opt_size(opt) && why == NULL; i++) {
        text = cfg_opt_getnstr(opt, i);
        why = key->kind->parse(key, text, field);
    }
    loading->line[index] = cfg->line;
    if (why == NULL)
        return 0;
    if (why == conf_out_of_range)
        fail("%s:%d: %s: %s is out of range (%.15g to %.15g)", loading->path, cfg->line, key->name,
             text, (double)key->min * key->kind->unit, (double)key->max * key->kind->unit);
    else
        fail("%s:%d: %s: \"%s\": %s", loading->path, cfg->line, key->name, text, why);
    return -1;
}

/* The keys of a section as libconfuse's options; returns where they end. */
static cfg_opt_t *add_options(cfg_opt_t *opts, enum conf_section section)
{
    for (size_t i = 0; i < loading->count; i++) {
        const struct conf_key *key = &loading->keys[i];
        if (key->section != section)
            continue;
        cfg_opt_t list = CFG_STR_LIST(key->name, NULL, CFGF_NONE);
        cfg_opt_t single = CFG_STR(key->name, NULL, CFGF_NODEFAULT);
        *opts = key->kind->list ? list : single;
        opts->validcb = take_value;
        opts++;
    }
    return opts;
}

static int line_of(const char *text, const char *at)
{
    int line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

/* Where key was set last, as far as one can tell without parsing. */
static int find_line(const char *name)
{
    const char *text = loading->text, *last = text;
    size_t length = strlen(name);

    for (const char *c = text; (c = strstr(c, name)) != NULL; c += length)
        if ((c == text || strchr(" \t\r\n}", c[-1]) != NULL) &&
            strchr(" \t\r\n=", c[length]) != NULL)
            last = c;
    return line_of(text, last);
}

/* An empty list is the one setting for which libconfuse calls nobody. */
static void take_empty_lists(cfg_t *cfg)
{
    for (size_t i = 0; i < loading->count; i++) {
        const struct conf_key *key = &loading->keys[i];
        if (!key->kind->list)
            continue;
        cfg_opt_t *opt = cfg_getopt(cfg, key->name);
        if ((opt->flags & CFGF_MODIFIED) == 0 || cfg_opt_size(opt) > 0)
            continue;
        ((struct conf_servers *)field_of(loading->conf, key))->count = 0;
        loading->line[i] = find_line(key->name);
    }
}

static int parse_stream(FILE *in)
{
    cfg_opt_t parts[CONF_SECTIONS][KEYS_MAX + CONF_SECTIONS + 2];
    cfg_opt_t *next = add_options(parts[CONF_TOP], CONF_TOP);
    const cfg_opt_t sentinel = CFG_STR(SENTINEL, NULL, CFGF_NODEFAULT), end = CFG_END();

    for (enum conf_section i = CONF_TOP + 1; i < CONF_SECTIONS; i++) {
        cfg_opt_t *last = add_options(parts[i], i);
        cfg_opt_t section = CFG_SEC(section_names[i], parts[i], CFGF_NONE);
        if (last != parts[i])
            *next++ = section;
        *last = end;
    }
    *next++ = sentinel;
    *next = end;

    cfg_t *cfg = cfg_init(parts[CONF_TOP], CFGF_NONE);
    assert(cfg != NULL);
    cfg_set_error_function(cfg, syntax_error);
    int result = cfg_parse_fp(cfg, in);
    if (result != CFG_SUCCESS)
        fail("%s: can't be parsed", loading->path);
    else
        take_empty_lists(cfg);
    cfg_free(cfg);
    return loading->error == NULL ? 0 : -EINVAL;
}

/* Where the comment or string that starts at text ends; NULL: nowhere before end. */
static char *skip_to(char *text, const char *end, const char *stop, bool escapes)
{
    size_t length = strlen(stop);

    for (; text + length <= end; text++) {
        if (escapes && *text == '\\')
            text++;
        else if (memcmp(text, stop, length) == 0)
            return text + length;
    }
    return NULL;
}

/* Overwrites comments with spaces: libconfuse miscounts their lines. False: failed. */
static bool blank_comments(char *text, char *end)
{
    bool in_word = false; /* a slash there starts no comment */

    for (char *c = text, *next; c < end; c = next) {
        bool slash = *c == '/' && !in_word && c + 1 < end;
        bool line = *c == '#' || (slash && c[1] == '/'), block = slash && c[1] == '*';
        if (line)
            next = (char *)memchr(c, '\n', (size_t)(end - c));
        else if (block)
            next = skip_to(c + 2, end, "*/", false);
        else if (*c == '"' || *c == '\'')
            next = skip_to(c + 1, end, *c == '"' ? "\"" : "'", true);
        else
            next = c + 1;
        if (next == NULL) {
            fail("%s:%d: syntax: a comment or string has no end", loading->path, line_of(text, c));
            return false;
        }
        for (char *b = c; (line || block) && b < next; b++)
            *b = *b == '\n' ? '\n' : ' ';
        in_word = strchr(" \t\r\n={}(),+\"'", next[-1]) == NULL;
    }
    return true;
}

/* The whole file at once: libconfuse's scanner ends the process when a read fails. */
static int parse_file(void)
{
    static char text[CONF_BYTES_MAX + sizeof(sentinel_text)];
    FILE *in = fopen(loading->path, "re");
    int error = in == NULL ? errno : 0;
    size_t bytes = 0;

    if (in != NULL) {
        bytes = fread(text, 1, CONF_BYTES_MAX, in);
        error = ferror(in) ? errno : bytes == CONF_BYTES_MAX ? EFBIG : 0;
        fclose(in);
    }
    if (error != 0) {
        fail("%s: %s", loading->path, strerror(error));
        return -error;
    }
    memcpy(text + bytes, sentinel_text, sizeof(sentinel_text) - 1);
    bytes += sizeof(sentinel_text) - 1;
    const char *nul = memchr(text, '\0', bytes);
    if (nul != NULL)
        fail("%s:%d: syntax: a NUL byte", loading->path, line_of(text, nul));
    if (nul != NULL || !blank_comments(text, text + bytes))
        return -EINVAL;
    text[bytes] = '\0';
    loading->text = text;
    in = fmemopen(text, bytes, "r");
    assert(in != NULL);
    int result = parse_stream(in);
    fclose(in);
    return result;
}

static void done(const struct conf_key *keys, size_t count, void *conf)
{
    for (size_t i = 0; i < count; i++)
        if (keys[i].kind->done != NULL)
            keys[i].kind->done(field_of(conf, &keys[i]));
}

/* What one key can't tell by itself; NULL: nothing is wrong. Of the keys at fault, the first that
 * the file sets is named. */
static const char *check_qsmd(const void *conf, const char *ret_keys[2])
{
    const struct qsmd_conf *c = conf;

    ret_keys[0] = ret_keys[1] = "cms";
    return c->cms.count > 0 ? NULL : "names no server";
}

static const char *check_cmsd(const void *conf, const char *ret_keys[2])
{
    const struct cmsd_conf *c = conf;

    ret_keys[0] = "regions_max";
    ret_keys[1] = "multicast";
    return c->regions_max <= UINT64_C(1) << (32 - c->multicast.prefix)
               ? NULL
               : "more regions (regions_max) than addresses (multicast)";
}

static int load(struct load *l, const char *(*check)(const void *conf, const char *ret_keys[2]),
                char **ret_error)
{
    const char *names[2], *why;
    int result = 0;

    loading = l;
    for (size_t i = 0; i < l->count; i++) {
        why =
            l->keys[i].kind->parse(&l->keys[i], l->keys[i].normal, field_of(l->conf, &l->keys[i]));
        assert(why == NULL);
    }
    if (l->path != NULL)
        result = parse_file();
    if (result == 0 && (why = check(l->conf, names)) != NULL) {
        const char *name = l->line[find_key(names[0])] > 0 ? names[0] : names[1];
        fail("%s:%d: %s: %s", l->path, l->line[find_key(name)], name, why);
        result = -EINVAL;
    }
    if (result < 0)
        done(l->keys, l->count, l->conf);
    *ret_error = l->error;
    loading = NULL;
    return result;
}

int conf_load_qsmd(const char *path, struct qsmd_conf *ret, char **ret_error)
{
    struct load l = {.keys = qsmd_keys, .count = COUNT(qsmd_keys), .conf = ret, .path = path};

    memset(ret, 0, sizeof(*ret));
    return load(&l, check_qsmd, ret_error);
}

int conf_load_cmsd(const char *path, struct cmsd_conf *ret, char **ret_error)
{
    struct load l = {.keys = cmsd_keys, .count = COUNT(cmsd_keys), .conf = ret, .path = path};

    memset(ret, 0, sizeof(*ret));
    return load(&l, check_cmsd, ret_error);
}

void conf_done_qsmd(struct qsmd_conf *conf)
{
    done(qsmd_keys, COUNT(qsmd_keys), conf);
}

void conf_done_cmsd(struct cmsd_conf *conf)
{
    done(cmsd_keys, COUNT(cmsd_keys), conf);
}

/* ---- dumping */

static void dump(FILE *out, const struct conf_key *keys, size_t count, const void *conf)
{
    enum conf_section section = CONF_TOP;

    for (size_t i = 0; i < count; i++) {
        if (keys[i].section != section) {
            if (section != CONF_TOP)
                fputs("}\n", out);
            section = keys[i].section;
            fprintf(out, "%s {\n", section_names[section]);
        }
        fprintf(out, "%s%s = ", section == CONF_TOP ? "" : "    ", keys[i].name);
        keys[i].kind->print(out, (const char *)conf + keys[i].offset);
        fputc('\n', out);
    }
    if (section != CONF_TOP)
        fputs("}\n", out);
}

void conf_dump_qsmd(FILE *out, const struct qsmd_conf *conf)
{
    dump(out, qsmd_keys, COUNT(qsmd_keys), conf);
}

void conf_dump_cmsd(FILE *out, const struct cmsd_conf *conf)
{
    dump(out, cmsd_keys, COUNT(cmsd_keys), conf);
}
