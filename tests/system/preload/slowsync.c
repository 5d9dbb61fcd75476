/* slowsync: a disk that takes its time: to be preloaded, by tests/system/journal.sh. To make a file
 * durable takes $SYNC_US microseconds more. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void take_time(void)
{
    const char *text = getenv("SYNC_US");
    long us = text ? atol(text) : 0;

    nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
}

int fsync(int fd)
{
    take_time();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    take_time();
    return (int)syscall(SYS_fdatasync, fd);
}
