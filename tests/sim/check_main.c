/* qsmcheck: checks the traces of real daemons. Merges the files by time and reads them as one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "checker.h"

struct file {
    const char *path;
    FILE *stream;
    char *line;
    size_t room;
    uint64_t number, time;
};

static const char usage[] =
    "usage: qsmcheck [--replicas N] [--ring-size N] FILE...\n"
    "Merges trace files by time and checks the promises S1 to S12 and S14 on them.\n"
    "  --replicas N   cachers of a packet in that cluster (cache_replicas; default 5)\n"
    "  --ring-size N  largest partition of a region (ring_size; default 25)\n"
    "Prints each failure as `S7: FILE:LINE: ...` and a summary; exit code 0: none, 1: some,\n"
    "2: usage or a file that can't be read.\n";

/* The next line of a file, with its time; a file without one is closed. */
static void advance(struct file *f)
{
    ssize_t n = getline(&f->line, &f->room, f->stream);
    if (n < 0) {
        fclose(f->stream);
        f->stream = NULL;
        return;
    }
    if (n > 0 && f->line[n - 1] == '\n')
        f->line[n - 1] = '\0';
    f->number++;
    f->time = strtoull(f->line, NULL, 10);
}

static void merge(struct checker *c, struct file *files, size_t count)
{
    for (;;) {
        struct file *first = NULL;
        for (size_t i = 0; i < count; i++) {
            if (files[i].stream && (!first || files[i].time < first->time))
                first = &files[i];
        }
        if (!first)
            return;
        checker_line(c, first->path, first->number, first->line);
        advance(first);
    }
}

static int report(struct checker *c)
{
    size_t failures = checker_failures(c);
    const struct checker_counts *n = checker_counts(c);
    for (size_t i = 0; i < failures && i < CHECKER_FAILURES_MAX; i++)
        puts(checker_failure(c, i));
    printf("%llu lines, %llu sent, %llu delivered, %llu views, %llu completions%s: %zu failures\n",
           (unsigned long long)n->lines, (unsigned long long)n->sends,
           (unsigned long long)n->delivers, (unsigned long long)n->views,
           (unsigned long long)n->completions, checker_finished(c) ? ", finished" : "", failures);
    return failures ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct checker_config config = {.replicas = 5, .ring_size = 25};
    int first = 1;
    for (; first + 1 < argc; first += 2) {
        uint32_t *value = strcmp(argv[first], "--replicas") == 0    ? &config.replicas
                          : strcmp(argv[first], "--ring-size") == 0 ? &config.ring_size
                                                                    : NULL;
        if (!value)
            break;
        *value = (uint32_t)strtoul(argv[first + 1], NULL, 10);
    }
    if (argc > first && strcmp(argv[first], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc <= first || argv[first][0] == '-') {
        fputs(usage, stderr);
        return 2;
    }
    size_t count = (size_t)(argc - first);
    struct file *files = calloc(count, sizeof(*files));
    if (!files)
        return 2;
    for (size_t i = 0; i < count; i++) {
        files[i].path = argv[first + (int)i];
        files[i].stream = fopen(files[i].path, "r");
        if (!files[i].stream) {
            fprintf(stderr, "qsmcheck: %s: %s\n", files[i].path, strerror(errno));
            return 2;
        }
        advance(&files[i]);
    }
    struct checker *c = checker_new(&config);
    merge(c, files, count);
    int code = report(c);
    checker_free(c);
    for (size_t i = 0; i < count; i++)
        free(files[i].line);
    free(files);
    return code;
}
