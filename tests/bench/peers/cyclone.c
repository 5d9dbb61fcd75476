/* cyclone: Cyclone DDS in the benchmark beside the peers: reliable, keeps all, writes batches.
 *   cyclone send|recv …   (run.h) */
#include "run.h"
#include <dds/dds.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cyclone_message.h"

#define SAMPLES 256u
#define SAMPLES_MAX 20000 /* that a reader keeps: a writer that is ahead waits */
#define BLOCK_S 20
#define MATCH_MS 15000
#define SETTLE_US 300000 /* for readers to know the writer that knows them */

static dds_entity_t check(dds_return_t result, const char *what)
{
    if (result < 0)
        run_fail(what, dds_strretcode(-result));
    return result;
}

static dds_qos_t *quality(bool sends)
{
    dds_qos_t *q = dds_create_qos();

    dds_qset_reliability(q, DDS_RELIABILITY_RELIABLE, DDS_SECS(BLOCK_S));
    dds_qset_history(q, DDS_HISTORY_KEEP_ALL, 0);
    dds_qset_durability(q, DDS_DURABILITY_VOLATILE);
    dds_qset_resource_limits(q, sends ? DDS_LENGTH_UNLIMITED : SAMPLES_MAX, DDS_LENGTH_UNLIMITED,
                             DDS_LENGTH_UNLIMITED);
    return q;
}

static void await_readers(dds_entity_t writer, unsigned count)
{
    dds_publication_matched_status_t matched;
    int64_t until = run_now_ns() + MATCH_MS * 1000000LL;

    do {
        usleep(20000);
        check(dds_get_publication_matched_status(writer, &matched), "matched");
        if (run_now_ns() > until)
            run_fail("send", "not all readers are there");
    } while (matched.current_count < count);
    usleep(SETTLE_US);
}

static void send_all(struct run *r, dds_entity_t participant, dds_entity_t topic)
{
    dds_entity_t writer =
        check(dds_create_writer(participant, topic, quality(true), NULL), "writer");
    qsm_bench_message m;

    memset(&m, 0, sizeof(m));
    m.data._buffer = calloc(1, r->bytes);
    m.data._length = m.data._maximum = (uint32_t)r->bytes;
    if (!m.data._buffer)
        run_fail("send", "no memory");
    await_readers(writer, r->receivers);
    while (run_next(r, m.data._buffer)) {
        check(dds_write(writer, &m), "dds_write");
        if (r->rate > 0 || r->last)
            dds_write_flush(writer);
    }
    run_stay(r);
}

/* Takes all there is; true after the last message. */
static bool take(struct run *r, dds_entity_t reader)
{
    void *samples[SAMPLES] = {NULL};
    dds_sample_info_t info[SAMPLES];
    bool over = false;
    int n;

    do {
        n = check(dds_take(reader, samples, info, SAMPLES, SAMPLES), "dds_take");
        for (int i = 0; i < n; i++) {
            const qsm_bench_message *m = samples[i];
            if (info[i].valid_data)
                over = run_take(r, m->data._buffer, m->data._length);
        }
        if (n > 0)
            check(dds_return_loan(reader, samples, n), "dds_return_loan");
    } while (n > 0 && !over);
    return over;
}

static void receive(struct run *r, dds_entity_t participant, dds_entity_t topic)
{
    dds_entity_t reader =
        check(dds_create_reader(participant, topic, quality(false), NULL), "reader");
    dds_entity_t set = check(dds_create_waitset(participant), "waitset");
    dds_attach_t woken;

    check(dds_set_status_mask(reader, DDS_DATA_AVAILABLE_STATUS), "mask");
    check(dds_waitset_attach(set, reader, 1), "attach");
    run_ready();
    do
        check(dds_waitset_wait(set, &woken, 1, DDS_INFINITY), "wait");
    while (!take(r, reader));
}

int main(int argc, char **argv)
{
    struct run r;

    run_begin(&r, argc, argv);
    bool sends = r.role[0] == 's';
    dds_entity_t participant =
        check(dds_create_participant(DDS_DOMAIN_DEFAULT, NULL, NULL), "participant");
    dds_qos_t *q = quality(true);
    dds_entity_t topic =
        check(dds_create_topic(participant, &qsm_bench_message_desc, r.name, q, NULL), "topic");
    if (sends)
        send_all(&r, participant, topic);
    else
        receive(&r, participant, topic);
    check(dds_delete(participant), "delete");
    return 0;
}
