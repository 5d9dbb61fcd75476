/* cms_mem: memory for the CMS. Running out of it ends the process: half a state is worse than none,
 * and the log has it all. */
#ifndef QSM_CMS_MEM_H
#define QSM_CMS_MEM_H

#include <stdlib.h>
#include <string.h>

/* Zeroed; count 0 gives a pointer that may be freed. */
static inline void *mem_new(size_t count, size_t size)
{
    void *p = calloc(count > 0 ? count : 1, size);
    if (p == NULL)
        abort();
    return p;
}

static inline void *mem_copy(const void *from, size_t count, size_t size)
{
    void *p = mem_new(count, size);
    if (count > 0)
        memcpy(p, from, count * size);
    return p;
}

/* Room for one more behind count elements; the room doubles at powers of two, so an array needs no
 * field for it. */
static inline void *mem_grow(void *list, size_t count, size_t size)
{
    if (list != NULL && (count & (count - 1)) != 0)
        return list;
    void *p = realloc(list, (count > 0 ? 2 * count : 1) * size);
    if (p == NULL)
        abort();
    return p;
}

static inline char *mem_string(const char *s)
{
    return mem_copy(s, strlen(s) + 1, 1);
}

#endif
