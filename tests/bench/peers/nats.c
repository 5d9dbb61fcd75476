/* nats: core NATS in the benchmark beside the peers. The server drops who is too slow, so the
 * sender keeps within the closed window. nats send|recv -a SERVER -p PROGRESS …   (run.h) */
#include "run.h"
#include <nats/nats.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PORT 4222
#define POST_EVERY 16u /* messages */
#define FLUSH_MS 10000

static sem_t over;

static void check(natsStatus status, const char *what)
{
    if (status != NATS_OK)
        run_fail(what, natsStatus_GetText(status));
}

/* In a thread of the library. */
static void on_message(natsConnection *nats, natsSubscription *subscription, natsMsg *message,
                       void *ctx)
{
    struct run *r = ctx;
    bool before = r->last;

    (void)nats;
    (void)subscription;
    if (run_take(r, natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message)) && !before)
        sem_post(&over);
    if (r->count % POST_EVERY == 0)
        run_post(r, r->expected);
    natsMsg_Destroy(message);
}

static void receive(struct run *r, natsConnection *nats)
{
    natsSubscription *subscription;

    sem_init(&over, 0, 0);
    check(natsConnection_Subscribe(&subscription, nats, r->name, on_message, r), "subscribe");
    check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits");
    check(natsConnection_FlushTimeout(nats, FLUSH_MS), "subscribe");
    run_ready();
    while (sem_wait(&over) < 0)
        ;
}

static void send_all(struct run *r, natsConnection *nats)
{
    char *message = calloc(1, r->bytes);

    if (!message)
        run_fail("send", "no memory");
    while (run_next(r, message)) {
        check(natsConnection_Publish(nats, r->name, message, (int)r->bytes), "publish");
        run_room(r, 1);
    }
    check(natsConnection_FlushTimeout(nats, FLUSH_MS), "flush");
    run_stay(r);
}

int main(int argc, char **argv)
{
    struct run r;
    char url[64];
    natsOptions *options;
    natsConnection *nats;

    run_begin(&r, argc, argv);
    snprintf(url, sizeof(url), "nats://%s:%d", r.address, PORT);
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, url), "options");
    if (r.rate > 0)
        check(natsOptions_SetSendAsap(options, true), "options");
    check(natsConnection_Connect(&nats, options), "connect");
    if (r.role[0] == 's')
        send_all(&r, nats);
    else
        receive(&r, nats);
    /* Its threads end with us. */
    _exit(0);
}
