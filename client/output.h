/* output: what qsmctl shows, as text for people or as JSON for programs. A command describes its
 * columns once and adds rows; the printer does the rest. JSON always has the same shape for a
 * command: one object, with a list of objects under the table's name. */
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
};

struct output;

/* A table called name in JSON. compact: one line of JSON, flushed, for output that repeats. The
 * columns are not copied. NULL: out of memory. */
struct output *output_new(bool json, bool compact, const char *name, const struct column *columns,
                          size_t count);
/* Adds a row: one value per column. 0 or -ENOMEM. */
int output_row(struct output *o, const struct value *values);
/* Prints and frees. 0, -ENOMEM, or -EIO when standard output failed. */
int output_print(struct output *o);

#endif
