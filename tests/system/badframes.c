/* badframes: malformed input on the socket of qsmd, for the system tests.
 *   badframes tap LISTEN SOCKET FILE   passes one connection on and records what its client says
 *   badframes damage SOCKET FILE…      says every prefix of a recording, and the recording with
 * each byte changed; the daemon must take it or hang up badframes say SOCKET               says
 * what is wrong in known ways, and checks the answers */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 5000
#define RECORDING_MAX (1u << 20)

static int fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    return address;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        fail(path);
    return fd;
}

/* The daemon may hang up at any time. */
static void say(int fd, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        bytes += n;
        count -= (size_t)n;
    }
}

/* Everything until the daemon hangs up, at most room bytes of it; -1: it does not. */
static ssize_t hear(int fd, uint8_t *bytes, size_t room)
{
    size_t count = 0;

    for (;;) {
        struct pollfd in = {.fd = fd, .events = POLLIN};
        uint8_t rest[4096];
        if (poll(&in, 1, ANSWER_MS) <= 0)
            return -1;
        ssize_t n = recv(fd, rest, sizeof(rest), 0);
        if (n <= 0)
            return (ssize_t)count;
        size_t take = (size_t)n < room - count ? (size_t)n : room - count;
        memcpy(bytes + count, rest, take);
        count += take;
    }
}

/* ---- tap */

static bool pass(int from, int to, FILE *copy)
{
    uint8_t bytes[65536];
    ssize_t n = recv(from, bytes, sizeof(bytes), 0);

    if (n <= 0)
        return false;
    if (copy)
        fwrite(bytes, 1, (size_t)n, copy);
    say(to, bytes, (size_t)n);
    return true;
}

static int tap(char **argv)
{
    struct sockaddr_un address = address_of(argv[0]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *copy = fopen(argv[2], "w");

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0 || !copy)
        fail("tap");
    int client = accept(listener, NULL, NULL), daemon = connect_to(argv[1]);
    if (client < 0)
        fail("accept");
    for (bool open = true; open;) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = daemon, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            fail("poll");
        if (fds[0].revents)
            open = pass(client, daemon, copy);
        if (open && fds[1].revents)
            open = pass(daemon, client, NULL);
    }
    unlink(argv[0]);
    return fclose(copy) == 0 ? 0 : 1;
}

/* ---- damage */

static size_t load(const char *path, uint8_t *bytes)
{
    FILE *f = fopen(path, "r");
    size_t count = f ? fread(bytes, 1, RECORDING_MAX, f) : 0;

    if (!f || count == 0)
        fail(path);
    fclose(f);
    return count;
}

/* The client goes in the middle of a frame: at once, or once it has seen the daemon's answers. */
static void say_prefix(const char *path, const uint8_t *bytes, size_t count)
{
    uint8_t answer[4096];
    int fd = connect_to(path);

    say(fd, bytes, count);
    if (count % 2) {
        shutdown(fd, SHUT_WR);
        (void)hear(fd, answer, sizeof(answer));
    }
    close(fd);
}

static int damage(const char *path, const char *file)
{
    static uint8_t bytes[RECORDING_MAX];
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    uint8_t answer[4096];
    size_t count = load(file, bytes);

    for (size_t i = 0; i <= count; i++)
        say_prefix(path, bytes, i);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof(flips); k++) {
            int fd = connect_to(path);
            bytes[i] ^= flips[k];
            say(fd, bytes, count);
            bytes[i] ^= flips[k];
            shutdown(fd, SHUT_WR);
            if (hear(fd, answer, sizeof(answer)) < 0) {
                printf("FAIL byte %zu of %s changed: the daemon does not hang up\n", i, file);
                return 1;
            }
            close(fd);
        }
    }
    printf("%s: %zu prefixes, %zu changed bytes\n", file, count + 1, count * sizeof(flips));
    return 0;
}

/* ---- say */

#define HELLO "\x08\0\0\0\x01\x01\0\0\x0a\x02\x08\x01"

struct wrong {
    const char *claim;
    const char *bytes;
    size_t count;
    const char *answer; /* in the daemon's last words */
};

#define SAYS(claim, bytes, answer)                                                                 \
    {                                                                                              \
        claim, bytes, sizeof(bytes) - 1, answer                                                    \
    }

static const struct wrong wrongs[] = {
    SAYS("another version is named", "\x04\0\0\0\x09\x01\0\0", "frame 1: head of the frame"),
    SAYS("a length that is too long is named", "\xff\xff\xff\xff\x01\x01\0\0",
         "frame 1: head of the frame"),
    SAYS("a length that is too short is named", "\x03\0\0\0\x01\x01\0\0",
         "frame 1: head of the frame"),
    SAYS("a header that is longer than its frame is named", "\x05\0\0\0\x01\x03\x09\0x",
         "frame 1: head of the frame"),
    SAYS("an unknown kind is named", HELLO "\x04\0\0\0\x01\x4d\0\0", "frame 2: kind 77"),
    SAYS("a request before the greeting is refused", "\x06\0\0\0\x01\x01\0\0\x2a\0",
         "came before a ClientHello"),
    SAYS("a control message that does not parse is named", HELLO "\x06\0\0\0\x01\x01\0\0\x0a\x7f",
         "frame 2: ToDaemon"),
    SAYS("messages for a group that is not open are refused",
         HELLO "\x0d\0\0\0\x01\x03\x08\0\x08\x01\x12\x01\x05\x1a\x01\x01x",
         "frame 2: Submit.group"),
    SAYS("lengths that are not the payload's are named",
         HELLO "\x0d\0\0\0\x01\x03\x08\0\x08\x01\x12\x01\x05\x1a\x01\x02x",
         "frame 2: Submit.bytes"),
    SAYS("more than 64 messages in a frame are refused",
         HELLO "\x0c\0\0\0\x01\x03\x08\0\x08\x41\x12\x01\x05\x1a\x01\0", "frame 2: Submit.count"),
};

static int say_wrongs(const char *path)
{
    int bad = 0;

    for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
        const struct wrong *w = &wrongs[i];
        uint8_t answer[4096];
        int fd = connect_to(path);
        say(fd, (const uint8_t *)w->bytes, w->count);
        ssize_t n = hear(fd, answer, sizeof(answer));
        close(fd);
        bool good = n > 0 && memmem(answer, (size_t)n, w->answer, strlen(w->answer)) != NULL;
        printf("%s frames: %s\n", good ? "PASS" : "FAIL", w->claim);
        if (!good && n < 0)
            printf("the daemon does not hang up\n");
        bad += !good;
    }
    return bad > 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "tap") == 0)
        return tap(argv + 2);
    if (argc == 3 && strcmp(argv[1], "say") == 0)
        return say_wrongs(argv[2]);
    if (argc < 4 || strcmp(argv[1], "damage") != 0) {
        fprintf(stderr, "usage: badframes tap LISTEN SOCKET FILE | damage SOCKET FILE… | "
                        "say SOCKET\n");
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (damage(argv[2], argv[i]) != 0)
            return 1;
    }
    return 0;
}
