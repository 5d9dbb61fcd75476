/* name: what a group or a host may be called. */
#ifndef QSM_NAME_H
#define QSM_NAME_H

#include <stdbool.h>

#define NAME_BYTES_MAX 255

/* Whether name is 1 to NAME_BYTES_MAX bytes of printable UTF-8 without spaces. */
bool name_valid(const char *name);

#endif
