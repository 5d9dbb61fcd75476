/* log: one line per transition, to the journal when standard error is connected to it, else to
 * standard error. For the shell only; the core traces instead. One thread. */
#ifndef QSM_LOG_H
#define QSM_LOG_H

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

/* What goes out from now on: level and all that are more serious. Before the first call: info. */
void log_set_level(enum log_level level);

/* A line without newline or prefix; a longer one than 1,000 bytes is cut. errno stays. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The words of the configuration. NULL: no such level; -1: no such word. */
const char *log_level_name(enum log_level level);
int log_level_find(const char *name);

#endif
