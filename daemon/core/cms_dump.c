/* cms_dump: the replicated state as JSON, the same text for the same state. */
#include <stdarg.h>
#include <stdio.h>

#include "cms_core.h"
#include "cms_mem.h"

struct text {
    char *bytes;
    size_t count, room;
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *format, ...)
{
    for (;;) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(t->bytes + t->count, t->room - t->count, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < t->room - t->count) {
            t->count += (size_t)n;
            return;
        }
        t->room = 2 * t->room + (size_t)n + 1;
        t->bytes = realloc(t->bytes, t->room);
        if (t->bytes == NULL)
            abort();
    }
}

static void put_string(struct text *t, const char *s)
{
    put(t, "\"");
    for (; *s != '\0'; s++) {
        unsigned char byte = (unsigned char)*s;
        if (byte == '"' || byte == '\\')
            put(t, "\\%c", byte);
        else if (byte < 0x20)
            put(t, "\\u%04x", byte);
        else
            put(t, "%c", byte);
    }
    put(t, "\"");
}

static void put_ids(struct text *t, const uint32_t *list, uint32_t count)
{
    put(t, "[");
    for (uint32_t i = 0; i < count; i++)
        put(t, i == 0 ? "%u" : ",%u", list[i]);
    put(t, "]");
}

static void put_node(struct text *t, const struct cms_node *n)
{
    put(t, "{\"id\":%u,\"name\":", n->id);
    put_string(t, n->name);
    put(t, ",\"address\":\"%u.%u.%u.%u\"", n->address >> 24, n->address >> 16 & 255,
        n->address >> 8 & 255, n->address & 255);
    put(t, ",\"datagram_bytes\":%u,\"rcvbuf_bytes\":%llu,\"incarnation\":%llu", n->datagram_bytes,
        (unsigned long long)n->rcvbuf_bytes, (unsigned long long)n->incarnation);
    put(t, ",\"announced\":%s,\"expelled\":%s,\"groups\":[", n->announced ? "true" : "false",
        n->expelled ? "true" : "false");
    for (uint32_t i = 0; i < n->row_count; i++) {
        const struct cms_row *row = &n->rows[i];
        put(t, "%s{\"gid\":%u,\"desired\":%u,\"installed\":%u}", i == 0 ? "" : ",", row->group->gid,
            row->want, row->have);
    }
    put(t, "]}");
}

static void put_region(struct text *t, const struct region *r)
{
    put(t, "{\"rid\":%u,\"epoch\":%llu,\"address\":\"%u.%u.%u.%u\"", r->rid,
        (unsigned long long)r->epoch, r->address >> 24, r->address >> 16 & 255,
        r->address >> 8 & 255, r->address & 255);
    put(t, ",\"datagram_bytes\":%u,\"rcvbuf_bytes\":%llu,\"ring_size\":%u,\"cache_replicas\":%u",
        r->datagram_bytes, (unsigned long long)r->rcvbuf_bytes, r->ring_size, r->cache_replicas);
    put(t, ",\"ack_ranges\":%u,\"groups\":", r->ack_ranges);
    put_ids(t, r->groups, r->group_count);
    put(t, ",\"members\":");
    put_ids(t, r->members, r->member_count);
    put(t, "}");
}

char *cms_dump(const struct cms *c)
{
    const struct cms_state *s = &c->state;
    struct text t = {.bytes = mem_new(4096, 1), .room = 4096};
    put(&t, "{\"index\":%llu,\"term\":%llu,\"epoch\":%llu", (unsigned long long)s->index,
        (unsigned long long)s->term, (unsigned long long)s->epoch);
    put(&t, ",\"install_term\":%llu,\"install_attempt\":%u,\"next_gid\":%u,\"next_rid\":%u",
        (unsigned long long)s->install_term, s->install_attempt, s->next_gid, s->regions.next_rid);
    put(&t, ",\"nodes\":[");
    for (const struct cms_node *n = s->nodes; n != NULL; n = n->hh.next) {
        put(&t, n == s->nodes ? "\n" : ",\n");
        put_node(&t, n);
    }
    put(&t, "],\"groups\":[");
    for (const struct cms_group *g = s->by_gid; g != NULL; g = g->by_gid.next) {
        put(&t, "%s{\"gid\":%u,\"epoch\":%llu,\"name\":", g == s->by_gid ? "\n" : ",\n", g->gid,
            (unsigned long long)g->epoch);
        put_string(&t, g->name);
        put(&t, "}");
    }
    put(&t, "],\"regions\":[");
    for (uint32_t i = 0; i < s->regions.count; i++) {
        put(&t, i == 0 ? "\n" : ",\n");
        put_region(&t, &s->regions.list[i]);
    }
    put(&t, "]}\n");
    return t.bytes;
}
