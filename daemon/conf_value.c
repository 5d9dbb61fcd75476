/* conf_value: see conf_value.h. Complaints are literals; conf adds file, line and key. */
#include "conf_value.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "conf.h"
#include "core/name.h"

#define MULTICAST_FIRST 0xe0000000u
#define MULTICAST_LAST 0xefffffffu

const char conf_out_of_range[] = "out of range";

static const char *parse_number(const struct conf_key *key, const char *text, uint64_t *ret)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return "not a whole number";
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end != '\0')
        return "not a whole number";
    if (errno == ERANGE || value < key->min || value > key->max)
        return conf_out_of_range;
    *ret = value;
    return NULL;
}

static const char *parse_u32(const struct conf_key *key, const char *text, void *field)
{
    uint64_t value = 0;
    const char *why = parse_number(key, text, &value);

    assert(key->max <= UINT32_MAX);
    if (why == NULL)
        *(uint32_t *)field = (uint32_t)value;
    return why;
}

static void print_u32(FILE *out, const void *field)
{
    fprintf(out, "%u", *(const uint32_t *)field);
}

static const char *parse_u64(const struct conf_key *key, const char *text, void *field)
{
    return parse_number(key, text, field);
}

static void print_u64(FILE *out, const void *field)
{
    fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
}

static const char *parse_real(const char *text, double min, double max, double *ret)
{
    char *end;

    /* No sign, no inf or nan, no hexadecimal. */
    if (text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
        return "not a number";
    double value = strtod(text, &end);
    if (*end != '\0')
        return "not a number";
    if (value < min || value > max)
        return conf_out_of_range;
    *ret = value;
    return NULL;
}

/* A rate, kept in thousandths. */
static const char *parse_milli(const struct conf_key *key, const char *text, void *field)
{
    double value;
    const char *why = parse_real(text, (double)key->min / 1000, (double)key->max / 1000, &value);

    if (why == NULL)
        *(uint32_t *)field = (uint32_t)(value * 1000 + 0.5);
    return why;
}

static void print_milli(FILE *out, const void *field)
{
    uint32_t milli = *(const uint32_t *)field;
    fprintf(out, "%u.%03u", milli / 1000, milli % 1000);
}

static const char *parse_share(const struct conf_key *key, const char *text, void *field)
{
    return parse_real(text, (double)key->min, (double)key->max, field);
}

static void print_share(FILE *out, const void *field)
{
    fprintf(out, "%.6f", *(const double *)field);
}

static const char *parse_bool(const struct conf_key *key, const char *text, void *field)
{
    (void)key;
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;

    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0)
        return "neither true nor false";
    *(bool *)field = yes;
    return NULL;
}

static void print_bool(FILE *out, const void *field)
{
    fputs(*(const bool *)field ? "true" : "false", out);
}

static void set_string(char **field, const char *text)
{
    char *copy = strdup(text);
    assert(copy != NULL);
    free(*field);
    *field = copy;
}

static void done_string(void *field)
{
    free(*(char **)field);
    *(char **)field = NULL;
}

static void print_quoted(FILE *out, const char *prefix, const char *text)
{
    fprintf(out, "\"%s", prefix);
    for (; *text != '\0'; text++) {
        /* "${" would be taken for a variable of the environment. */
        if (*text == '"' || *text == '\\' || *text == '$')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static const char *parse_string(const struct conf_key *key, const char *text, void *field)
{
    size_t length = strlen(text);

    if (length < key->min)
        return "must not be empty";
    if (length > key->max)
        return "too long";
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return "holds a control character";
    set_string(field, text);
    return NULL;
}

/* A name that appears in traces and lists: no spaces. */
static const char *parse_word(const struct conf_key *key, const char *text, void *field)
{
    const char *why = strchr(text, ' ') != NULL ? "holds a space" : parse_string(key, text, field);

    return why == NULL && text[0] != '\0' && !name_valid(text) ? "not printable UTF-8" : why;
}

static const char *parse_path(const struct conf_key *key, const char *text, void *field)
{
    if (text[0] != '\0' && text[0] != '/')
        return "not an absolute path";
    return parse_string(key, text, field);
}

static void print_string(FILE *out, const void *field)
{
    print_quoted(out, "", *(char *const *)field);
}

static const char *parse_journal(const struct conf_key *key, const char *text, void *field)
{
    if (strncmp(text, CONF_JOURNAL_PREFIX, strlen(CONF_JOURNAL_PREFIX)) != 0)
        return "not of the form \"sqlite:PATH\"";
    return parse_path(key, text + strlen(CONF_JOURNAL_PREFIX), field);
}

static void print_journal(FILE *out, const void *field)
{
    print_quoted(out, CONF_JOURNAL_PREFIX, *(char *const *)field);
}

static bool read_address(const char *text, uint32_t *ret)
{
    struct in_addr in;

    if (inet_pton(AF_INET, text, &in) != 1)
        return false;
    *ret = ntohl(in.s_addr);
    return true;
}

static void print_dotted(FILE *out, uint32_t address)
{
    fprintf(out, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
            address & 255);
}

static bool is_multicast(uint32_t address)
{
    return address >= MULTICAST_FIRST && address <= MULTICAST_LAST;
}

static const char *parse_address(const struct conf_key *key, const char *text, void *field)
{
    uint32_t address = 0;

    (void)key;
    if (text[0] != '\0' && !read_address(text, &address))
        return "not an IPv4 address";
    if (is_multicast(address))
        return "a multicast address can't be a host's";
    *(uint32_t *)field = address;
    return NULL;
}

static void print_address(FILE *out, const void *field)
{
    uint32_t address = *(const uint32_t *)field;

    fputc('"', out);
    if (address != 0)
        print_dotted(out, address);
    fputc('"', out);
}

/* "a.b.c.d:port"; the port may be left out. */
static const char *parse_endpoint(const struct conf_key *key, const char *text, void *field)
{
    struct conf_endpoint endpoint = {.port = 4813};
    const struct conf_key port_key = {.name = key->name, .min = 1, .max = 65535};
    uint64_t port;
    char host[16];
    size_t length = strcspn(text, ":");

    if (length >= sizeof(host))
        return "not an IPv4 address and a port";
    memcpy(host, text, length);
    host[length] = '\0';
    if (!read_address(host, &endpoint.address) || is_multicast(endpoint.address))
        return "not an IPv4 address and a port";
    if (text[length] == ':') {
        if (parse_number(&port_key, text + length + 1, &port) != NULL)
            return "not an IPv4 address and a port";
        endpoint.port = (uint16_t)port;
    }
    *(struct conf_endpoint *)field = endpoint;
    return NULL;
}

static void print_endpoint(FILE *out, const void *field)
{
    const struct conf_endpoint *endpoint = field;

    fputc('"', out);
    print_dotted(out, endpoint->address);
    fprintf(out, ":%u\"", endpoint->port);
}

static const char *parse_servers(const struct conf_key *key, const char *text, void *field)
{
    struct conf_servers *servers = field;

    if (servers->count == CONF_SERVERS_MAX)
        return "more than 8 servers";
    const char *why = parse_endpoint(key, text, &servers->server[servers->count]);
    if (why == NULL && servers->server[servers->count].address == 0)
        why = "0.0.0.0 is nobody's address";
    if (why == NULL)
        servers->count++;
    return why;
}

static void print_servers(FILE *out, const void *field)
{
    const struct conf_servers *servers = field;

    fputc('{', out);
    for (size_t i = 0; i < servers->count; i++) {
        if (i > 0)
            fputs(", ", out);
        print_endpoint(out, &servers->server[i]);
    }
    fputc('}', out);
}

static const char *parse_network(const struct conf_key *key, const char *text, void *field)
{
    const struct conf_key bits_key = {.name = key->name, .min = 8, .max = 32};
    struct conf_network network;
    uint64_t prefix;
    char host[16];
    size_t length = strcspn(text, "/");

    if (length >= sizeof(host) || text[length] != '/')
        return "not of the form \"239.192.77.0/24\"";
    memcpy(host, text, length);
    host[length] = '\0';
    if (!read_address(host, &network.address) ||
        parse_number(&bits_key, text + length + 1, &prefix) != NULL)
        return "not of the form \"239.192.77.0/24\"";
    network.prefix = (uint32_t)prefix;
    if (!is_multicast(network.address))
        return "not multicast addresses (224.0.0.0 to 239.255.255.255)";
    if (network.prefix < 32 && network.address << network.prefix != 0)
        return "has bits set behind its prefix";
    *(struct conf_network *)field = network;
    return NULL;
}

static void print_network(FILE *out, const void *field)
{
    const struct conf_network *network = field;

    fputc('"', out);
    print_dotted(out, network->address);
    fprintf(out, "/%u\"", network->prefix);
}

static const char *parse_level(const struct conf_key *key, const char *text, void *field)
{
    int level = log_level_find(text);

    (void)key;
    if (level < 0)
        return "none of error, warning, notice, info, debug";
    *(enum log_level *)field = (enum log_level)level;
    return NULL;
}

static void print_level(FILE *out, const void *field)
{
    fprintf(out, "\"%s\"", log_level_name(*(const enum log_level *)field));
}

const struct conf_kind conf_kind_u32 = {parse_u32, print_u32, NULL, false, 1};
const struct conf_kind conf_kind_u64 = {parse_u64, print_u64, NULL, false, 1};
const struct conf_kind conf_kind_milli = {parse_milli, print_milli, NULL, false, 0.001};
const struct conf_kind conf_kind_share = {parse_share, print_share, NULL, false, 1};
const struct conf_kind conf_kind_bool = {parse_bool, print_bool, NULL, false, 0};
const struct conf_kind conf_kind_word = {parse_word, print_string, done_string, false, 0};
const struct conf_kind conf_kind_path = {parse_path, print_string, done_string, false, 0};
const struct conf_kind conf_kind_journal = {parse_journal, print_journal, done_string, false, 0};
const struct conf_kind conf_kind_address = {parse_address, print_address, NULL, false, 0};
const struct conf_kind conf_kind_endpoint = {parse_endpoint, print_endpoint, NULL, false, 0};
const struct conf_kind conf_kind_servers = {parse_servers, print_servers, NULL, true, 0};
const struct conf_kind conf_kind_network = {parse_network, print_network, NULL, false, 0};
const struct conf_kind conf_kind_level = {parse_level, print_level, NULL, false, 0};
