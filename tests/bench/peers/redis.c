/* redis: Redis in the benchmark beside the peers: PUBLISH, many before their replies are read. The
 * server takes what comes, so the sender keeps within the closed window.
 *   redis send|recv -a SERVER -p PROGRESS …   (run.h) */
#include "run.h"
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#define PORT 6379
#define BATCH 64u      /* messages sent before their replies are read */
#define POST_EVERY 16u /* messages */

static void check(const redisContext *redis, int result)
{
    if (result != REDIS_OK)
        run_fail("redis", redis->errstr);
}

static void drop_replies(redisContext *redis, unsigned *count)
{
    redisReply *reply;

    for (; *count > 0; (*count)--) {
        check(redis, redisGetReply(redis, (void **)&reply));
        if (reply->type == REDIS_REPLY_ERROR)
            run_fail("redis", reply->str);
        freeReplyObject(reply);
    }
}

static void send_all(struct run *r, redisContext *redis)
{
    char *message = calloc(1, r->bytes);
    unsigned waiting = 0, batch = r->rate > 0 ? 1 : BATCH;

    if (!message)
        run_fail("send", "no memory");
    while (run_next(r, message)) {
        check(redis, redisAppendCommand(redis, "PUBLISH %s %b", r->name, message, r->bytes));
        if (++waiting >= batch || run_full(r, 1))
            drop_replies(redis, &waiting);
        run_room(r, 1);
    }
    drop_replies(redis, &waiting);
    run_stay(r);
}

static void receive(struct run *r, redisContext *redis)
{
    redisReply *reply = redisCommand(redis, "SUBSCRIBE %s", r->name);
    bool over = false;

    if (!reply)
        run_fail("subscribe", redis->errstr);
    freeReplyObject(reply);
    run_ready();
    while (!over) {
        check(redis, redisGetReply(redis, (void **)&reply));
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3)
            over = run_take(r, reply->element[2]->str, reply->element[2]->len);
        freeReplyObject(reply);
        if (r->count % POST_EVERY == 0)
            run_post(r, r->expected);
    }
}

int main(int argc, char **argv)
{
    struct run r;

    run_begin(&r, argc, argv);
    redisContext *redis = redisConnect(r.address, PORT);
    if (!redis || redis->err)
        run_fail("connect", redis ? redis->errstr : "no memory");
    if (r.role[0] == 's')
        send_all(&r, redis);
    else
        receive(&r, redis);
    return 0;
}
