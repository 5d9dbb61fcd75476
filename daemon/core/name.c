/* name: see name.h. */
#include "name.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the UTF-8 character at s, 0: not one, or one that can't be printed. */
static size_t printable(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] > 0x20 && s[0] != 0x7f;
    size_t more = s[0] >= 0xf0 ? 3 : s[0] >= 0xe0 ? 2 : 1;
    uint32_t point = s[0] & (more == 3 ? 0x07u : more == 2 ? 0x0fu : 0x1fu);
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (s[i] & 0x3fu);
    }
    bool overlong = (more == 2 && point < 0x800) || (more == 3 && point < 0x10000);
    bool surrogate = point >= 0xd800 && point <= 0xdfff;
    bool control =
        point < 0xa0 || point > 0x10ffff || point == 0xfeff || (point & 0xfffe) == 0xfffe;
    bool space = point == 0xa0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200f) ||
                 (point >= 0x2028 && point <= 0x202f) || (point >= 0x205f && point <= 0x206f) ||
                 point == 0x3000;
    return overlong || surrogate || control || space ? 0 : more + 1;
}

bool name_valid(const char *name)
{
    size_t bytes = strlen(name), step = 1;

    for (size_t at = 0; at < bytes && step > 0; at += step)
        step = printable((const unsigned char *)name + at);
    return bytes > 0 && bytes <= NAME_BYTES_MAX && step > 0;
}
