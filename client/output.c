/* output: the text printer (libsmartcols) and the JSON printer (jansson) of qsmctl. */
#include "output.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <libsmartcols.h>

struct table {
    const char *name;
    const struct column *columns;
    size_t count;
    struct libscols_table *text;
    json_t *list;
};

/* One of the two printers. */
struct printer {
    int (*begin)(struct table *t);
    int (*row)(struct table *t, const struct value *values);
    int (*print)(struct output *o);
    void (*end)(struct table *t);
};

struct output {
    const struct printer *printer;
    bool compact;
    struct table tables[TABLES_MAX];
    size_t count;
};

/* ---- text */

static int text_begin(struct table *t)
{
    t->text = scols_new_table();
    if (!t->text)
        return -ENOMEM;
    for (size_t i = 0; i < t->count; i++) {
        const struct column *c = &t->columns[i];
        int flags = c->kind == VALUE_NUMBER ? SCOLS_FL_RIGHT : 0;
        if (c->kind == VALUE_MEMBERS)
            flags = SCOLS_FL_TRUNC;
        if (c->title && !scols_table_new_column(t->text, c->title, 0, flags))
            return -ENOMEM;
    }
    return 0;
}

static int members_text(const struct value *v, char **ret_text)
{
    size_t bytes = 1;

    for (size_t i = 0; i < v->member_count; i++)
        bytes += strlen(v->members[i].host) + 1;
    char *text = malloc(bytes), *p = text;
    if (!text)
        return -ENOMEM;
    *p = '\0';
    for (size_t i = 0; i < v->member_count; i++) {
        if (i > 0)
            *p++ = ',';
        p = stpcpy(p, v->members[i].host);
    }
    *ret_text = text;
    return 0;
}

/* The cell's text, allocated. */
static int cell_text(const struct column *c, const struct value *v, char **ret_text)
{
    int n = 0;

    if (v->none)
        *ret_text = strdup("");
    else if (c->kind == VALUE_NUMBER)
        n = asprintf(ret_text, "%llu", (unsigned long long)v->number);
    else if (c->kind == VALUE_BOOL)
        *ret_text = strdup(v->number ? "yes" : "");
    else if (c->kind == VALUE_MEMBERS)
        return members_text(v, ret_text);
    else
        *ret_text = strdup(v->text ? v->text : "");
    return n < 0 || !*ret_text ? -ENOMEM : 0;
}

static int text_row(struct table *t, const struct value *values)
{
    struct libscols_line *line = scols_table_new_line(t->text, NULL);
    size_t n = 0;

    if (!line)
        return -ENOMEM;
    for (size_t i = 0; i < t->count; i++) {
        char *text = NULL;
        if (!t->columns[i].title)
            continue;
        int error = cell_text(&t->columns[i], &values[i], &text);
        if (error < 0)
            return error;
        if (scols_line_refer_data(line, n++, text) < 0) {
            free(text);
            return -ENOMEM;
        }
    }
    return 0;
}

static int print_table(const struct table *t)
{
    /* A table without rows prints its heading all the same: the user asked for a list. */
    if (scols_table_is_empty(t->text)) {
        const char *gap = "";
        for (size_t i = 0; i < t->count; i++) {
            if (!t->columns[i].title)
                continue;
            printf("%s%s", gap, t->columns[i].title);
            gap = " ";
        }
        printf("\n");
        return 0;
    }
    return scols_print_table(t->text) < 0 ? -EIO : 0;
}

static int text_print(struct output *o)
{
    int error = 0;

    for (size_t i = 0; i < o->count && error == 0; i++) {
        if (i > 0)
            printf("\n");
        error = print_table(&o->tables[i]);
    }
    return error;
}

static void text_end(struct table *t)
{
    scols_unref_table(t->text);
}

static const struct printer text_printer = {text_begin, text_row, text_print, text_end};

/* ---- JSON */

static int json_begin(struct table *t)
{
    t->list = json_array();
    return t->list ? 0 : -ENOMEM;
}

static json_t *members_json(const struct value *v)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < v->member_count; i++) {
        const struct qsm_member *m = &v->members[i];
        json_t *one = json_pack("{s:I, s:s}", "node", (json_int_t)m->node, "host", m->host);
        if (json_array_append_new(list, one) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *buckets_json(const struct value *v)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < v->bucket_count; i++) {
        const struct qsm_bucket *b = &v->buckets[i];
        json_t *one =
            json_pack("{s:I, s:I}", "up_to", (json_int_t)b->up_to, "count", (json_int_t)b->count);
        if (json_array_append_new(list, one) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *value_json(const struct column *c, const struct value *v)
{
    if (v->none || (c->kind == VALUE_TEXT && !v->text))
        return json_null();
    if (c->kind == VALUE_NUMBER)
        return json_integer((json_int_t)v->number);
    if (c->kind == VALUE_BOOL)
        return json_boolean(v->number != 0);
    if (c->kind == VALUE_MEMBERS)
        return members_json(v);
    if (c->kind == VALUE_BUCKETS)
        return buckets_json(v);
    return json_string(v->text);
}

static int json_row(struct table *t, const struct value *values)
{
    json_t *row = json_object();

    for (size_t i = 0; row && i < t->count; i++) {
        json_t *value = value_json(&t->columns[i], &values[i]);
        if (json_object_set_new(row, t->columns[i].key, value) < 0) {
            json_decref(row);
            return -ENOMEM;
        }
    }
    return row && json_array_append_new(t->list, row) == 0 ? 0 : -ENOMEM;
}

static int json_print(struct output *o)
{
    size_t flags = o->compact ? JSON_COMPACT : JSON_INDENT(2);
    json_t *top = json_object();
    int error = top ? 0 : -ENOMEM;

    for (size_t i = 0; i < o->count && error == 0; i++)
        error = json_object_set(top, o->tables[i].name, o->tables[i].list) < 0 ? -ENOMEM : 0;
    if (error == 0) {
        error = json_dumpf(top, stdout, flags) < 0 ? -EIO : 0;
        printf("\n");
    }
    json_decref(top);
    return error;
}

static void json_end(struct table *t)
{
    json_decref(t->list);
}

static const struct printer json_printer = {json_begin, json_row, json_print, json_end};

/* ---- both */

static void output_free(struct output *o)
{
    for (size_t i = 0; i < o->count; i++)
        o->printer->end(&o->tables[i]);
    free(o);
}

struct output *output_new(bool json, bool compact, const char *name, const struct column *columns,
                          size_t count)
{
    struct output *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->printer = json ? &json_printer : &text_printer;
    o->compact = compact;
    if (output_table(o, name, columns, count) < 0) {
        output_free(o);
        return NULL;
    }
    return o;
}

int output_table(struct output *o, const char *name, const struct column *columns, size_t count)
{
    assert(o->count < TABLES_MAX);
    struct table *t = &o->tables[o->count++];

    t->name = name;
    t->columns = columns;
    t->count = count;
    int error = o->printer->begin(t);
    if (error < 0) {
        o->printer->end(t);
        o->count--;
    }
    return error;
}

int output_row(struct output *o, const struct value *values)
{
    return o->printer->row(&o->tables[o->count - 1], values);
}

int output_print(struct output *o)
{
    int error = o->printer->print(o);

    output_free(o);
    if (fflush(stdout) != 0 || ferror(stdout))
        error = -EIO;
    return error;
}
