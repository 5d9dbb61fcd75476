/* output: the text printer (libsmartcols) and the JSON printer (jansson) of qsmctl. */
#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <libsmartcols.h>

/* One of the two printers. */
struct printer {
    int (*begin)(struct output *o);
    int (*row)(struct output *o, const struct value *values);
    int (*print)(struct output *o);
    void (*end)(struct output *o);
};

struct output {
    const struct printer *printer;
    const char *name;
    const struct column *columns;
    size_t count;
    bool compact;
    struct libscols_table *table;
    json_t *list;
};

/* ---- text */

static int text_begin(struct output *o)
{
    o->table = scols_new_table();
    if (!o->table)
        return -ENOMEM;
    for (size_t i = 0; i < o->count; i++) {
        const struct column *c = &o->columns[i];
        int flags = c->kind == VALUE_NUMBER ? SCOLS_FL_RIGHT : 0;
        if (c->kind == VALUE_MEMBERS)
            flags = SCOLS_FL_TRUNC;
        if (c->title && !scols_table_new_column(o->table, c->title, 0, flags))
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

static int text_row(struct output *o, const struct value *values)
{
    struct libscols_line *line = scols_table_new_line(o->table, NULL);
    size_t n = 0;

    if (!line)
        return -ENOMEM;
    for (size_t i = 0; i < o->count; i++) {
        char *text = NULL;
        if (!o->columns[i].title)
            continue;
        int error = cell_text(&o->columns[i], &values[i], &text);
        if (error < 0)
            return error;
        if (scols_line_refer_data(line, n++, text) < 0) {
            free(text);
            return -ENOMEM;
        }
    }
    return 0;
}

static int text_print(struct output *o)
{
    /* A table without rows prints its heading all the same: the user asked for a list. */
    if (scols_table_is_empty(o->table)) {
        const char *gap = "";
        for (size_t i = 0; i < o->count; i++) {
            if (!o->columns[i].title)
                continue;
            printf("%s%s", gap, o->columns[i].title);
            gap = " ";
        }
        printf("\n");
        return 0;
    }
    return scols_print_table(o->table) < 0 ? -EIO : 0;
}

static void text_end(struct output *o)
{
    scols_unref_table(o->table);
}

static const struct printer text_printer = {text_begin, text_row, text_print, text_end};

/* ---- JSON */

static int json_begin(struct output *o)
{
    o->list = json_array();
    return o->list ? 0 : -ENOMEM;
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
    return json_string(v->text);
}

static int json_row(struct output *o, const struct value *values)
{
    json_t *row = json_object();

    for (size_t i = 0; row && i < o->count; i++) {
        json_t *value = value_json(&o->columns[i], &values[i]);
        if (json_object_set_new(row, o->columns[i].key, value) < 0) {
            json_decref(row);
            return -ENOMEM;
        }
    }
    return row && json_array_append_new(o->list, row) == 0 ? 0 : -ENOMEM;
}

static int json_print(struct output *o)
{
    size_t flags = o->compact ? JSON_COMPACT : JSON_INDENT(2);
    json_t *top = json_pack("{s:O}", o->name, o->list);

    if (!top)
        return -ENOMEM;
    int error = json_dumpf(top, stdout, flags) < 0 ? -EIO : 0;
    printf("\n");
    json_decref(top);
    return error;
}

static void json_end(struct output *o)
{
    json_decref(o->list);
}

static const struct printer json_printer = {json_begin, json_row, json_print, json_end};

/* ---- both */

struct output *output_new(bool json, bool compact, const char *name, const struct column *columns,
                          size_t count)
{
    struct output *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->printer = json ? &json_printer : &text_printer;
    o->name = name;
    o->columns = columns;
    o->count = count;
    o->compact = compact;
    if (o->printer->begin(o) < 0) {
        o->printer->end(o);
        free(o);
        return NULL;
    }
    return o;
}

int output_row(struct output *o, const struct value *values)
{
    return o->printer->row(o, values);
}

int output_print(struct output *o)
{
    int error = o->printer->print(o);

    o->printer->end(o);
    free(o);
    if (fflush(stdout) != 0 || ferror(stdout))
        error = -EIO;
    return error;
}
