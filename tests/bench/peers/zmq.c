/* zmq: ZeroMQ over TCP in the benchmark beside the peers: a publisher that blocks when a
 * subscriber's queue is full, so that nothing is dropped. zmq send|recv -a PUBLISHER …   (run.h) */
#include "run.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#define PORT 7802
#define QUEUE 10000 /* messages */
#define WAIT_MS 15000

static void check(int result, const char *what)
{
    if (result < 0)
        run_fail(what, zmq_strerror(errno));
}

static void set(void *socket, int option, int value)
{
    check(zmq_setsockopt(socket, option, &value, sizeof(value)), "zmq_setsockopt");
}

/* One word of every subscriber. */
static void await_subscribers(void *socket, unsigned count)
{
    char word[64];

    set(socket, ZMQ_RCVTIMEO, WAIT_MS);
    for (unsigned i = 0; i < count; i++)
        check(zmq_recv(socket, word, sizeof(word), 0), "subscribers");
}

static void send_all(struct run *r, void *socket, const char *endpoint)
{
    char *message = calloc(1, r->bytes);

    if (!message)
        run_fail("send", "no memory");
    set(socket, ZMQ_XPUB_NODROP, 1);
    set(socket, ZMQ_XPUB_VERBOSE, 1);
    check(zmq_bind(socket, endpoint), "zmq_bind");
    await_subscribers(socket, r->receivers);
    while (run_next(r, message)) {
        int n;
        do
            n = zmq_send(socket, message, r->bytes, 0);
        while (n < 0 && (errno == EAGAIN || errno == EINTR));
        check(n, "zmq_send");
    }
    run_stay(r);
}

static void receive(struct run *r, void *socket, const char *endpoint)
{
    zmq_msg_t message;
    bool over = false;

    check(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0), "ZMQ_SUBSCRIBE");
    check(zmq_connect(socket, endpoint), "zmq_connect");
    run_ready();
    zmq_msg_init(&message);
    while (!over) {
        int n = zmq_msg_recv(&message, socket, 0);
        if (n < 0 && errno == EINTR)
            continue;
        check(n, "zmq_msg_recv");
        over = run_take(r, zmq_msg_data(&message), (size_t)n);
    }
    zmq_msg_close(&message);
}

int main(int argc, char **argv)
{
    struct run r;
    char endpoint[64];

    run_begin(&r, argc, argv);
    bool sends = r.role[0] == 's';
    void *socket = zmq_socket(zmq_ctx_new(), sends ? ZMQ_XPUB : ZMQ_SUB);
    if (!socket)
        run_fail("zmq_socket", zmq_strerror(errno));
    snprintf(endpoint, sizeof(endpoint), "tcp://%s:%d", r.address, PORT);
    set(socket, ZMQ_SNDHWM, QUEUE);
    set(socket, ZMQ_RCVHWM, QUEUE);
    if (sends)
        send_all(&r, socket, endpoint);
    else
        receive(&r, socket, endpoint);
    return 0;
}
