/* log: see log.h. */
#include "log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES 1000

static const struct {
    const char *name;
    int priority; /* syslog's, which the journal takes from the start of a line */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", 3},   [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_NOTICE] = {"notice", 5}, [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_DEBUG] = {"debug", 7},
};

enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

static enum log_level level_now = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    level_now = level;
}

const char *log_level_name(enum log_level level)
{
    return (unsigned)level < LEVELS ? levels[level].name : NULL;
}

int log_level_find(const char *name)
{
    for (int i = 0; i < LEVELS; i++)
        if (strcmp(levels[i].name, name) == 0)
            return i;
    return -1;
}

/* systemd names the device and inode of the stream that it made for our standard error; a shell
 * that redirects it elsewhere leaves the variable set, hence the comparison. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (stream == NULL || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
        return false;
    if (fstat(STDERR_FILENO, &st) < 0)
        return false;
    return st.st_dev == device && st.st_ino == inode;
}

static void put(enum log_level level, const char *format, va_list args)
{
    int saved_errno = errno;
    char line[LINE_BYTES];

    if (level > level_now)
        return;
    vsnprintf(line, sizeof(line), format, args);
    /* A line break inside would look like a line of its own. */
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';

    if (stderr_is_journal())
        fprintf(stderr, "<%d>%s\n", levels[level].priority, line);
    else
        fprintf(stderr, "%s: %s\n", levels[level].name, line);
    errno = saved_errno;
}

#define DEFINE(function, level)                                                                    \
    void function(const char *format, ...)                                                         \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        put(level, format, args);                                                                  \
        va_end(args);                                                                              \
    }

DEFINE(log_error, LOG_LEVEL_ERROR)
DEFINE(log_warning, LOG_LEVEL_WARNING)
DEFINE(log_notice, LOG_LEVEL_NOTICE)
DEFINE(log_info, LOG_LEVEL_INFO)
DEFINE(log_debug, LOG_LEVEL_DEBUG)
