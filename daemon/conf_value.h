/* conf_value: what the text of a configuration key may mean: numbers, names, addresses and so on,
 * read, checked and printed. conf has the tables of keys that use these. */
#ifndef QSM_CONF_VALUE_H
#define QSM_CONF_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum conf_section { CONF_TOP, CONF_CLIENT, CONF_DEBUG, CONF_SECTIONS };

struct conf_key;

/* What a key's text means: parse puts it into the field, or returns what is wrong with it, a
 * literal; print writes it as parse takes it. */
struct conf_kind {
    const char *(*parse)(const struct conf_key *key, const char *text, void *field);
    void (*print)(FILE *out, const void *field);
    void (*done)(void *field); /* NULL: nothing to free */
    bool list;
    double unit; /* of min and max, for the complaint */
};

struct conf_key {
    enum conf_section section;
    const char *name;
    const struct conf_kind *kind;
    size_t offset;
    const char *normal; /* default */
    uint64_t min, max;  /* of numbers; of strings the length */
};

extern const struct conf_kind conf_kind_u32, conf_kind_u64, conf_kind_milli, conf_kind_share,
    conf_kind_bool, conf_kind_word, conf_kind_path, conf_kind_journal, conf_kind_address,
    conf_kind_endpoint, conf_kind_servers, conf_kind_network, conf_kind_level;

/* The complaint of a number that is one; it deserves to be told the range. */
extern const char conf_out_of_range[];

#define CONF_JOURNAL_PREFIX "sqlite:"

#endif
