/* output: what qsmctl shows, as text for people or as JSON for programs. A command describes its
 * columns once and adds rows; the printer does the rest. JSON always has the same shape for a
 * command: one object, with a list of objects under each table's name. */
#ifndef QSM_OUTPUT_H
#define QSM_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "qsmclient.h"

enum value_kind {
    VALUE_TEXT,    /* value.text; NULL: null in JSON, empty in text */
    VALUE_NUMBER,  /* value.number */
    VALUE_BOOL,    /* value.number: yes and empty in text */
    VALUE_MEMBERS, /* value.members: hosts in text, a list of {node, host} in JSON */
    VALUE_BUCKETS, /* value.buckets: nothing in text, a list of {up_to, count} in JSON */
};

struct column {
    const char *key;   /* in JSON */
    const char *title; /* in text; NULL: not shown there */
    enum value_kind kind;
};

struct value {
    const char *text;
    uint64_t number;
    bool none; /* null, an empty cell */
    const struct qsm_member *members;
    size_t member_count;
    const struct qsm_bucket *buckets;
    size_t bucket_count;
};

#define TABLES_MAX 2

struct output;

/* A table called name in JSON. compact: one line of JSON, flushed, for output that repeats. The
 * columns are not copied. NULL: out of memory. */
struct output *output_new(bool json, bool compact, const char *name, const struct column *columns,
                          size_t count);
/* Begins another table, of TABLES_MAX at most: below an empty line in text, of the same object in
 * JSON. 0 or -ENOMEM. */
int output_table(struct output *o, const char *name, const struct column *columns, size_t count);
/* Adds a row to the last table: one value per column. 0 or -ENOMEM. */
int output_row(struct output *o, const struct value *values);
/* Prints and frees. 0, -ENOMEM, or -EIO when standard output failed. */
int output_print(struct output *o);

#endif
