/* norm: NORM in the benchmark beside the peers: a stream whose receivers acknowledge watermarks, so
 * that the sender keeps what nobody acknowledged, and no congestion control. Its header is C++.
 *   norm send|recv -a OWN-ADDRESS -i ID …   (run.h) */
#include "run.h"
#include <cstdlib>
#include <cstring>
#include <normApi.h>
#include <poll.h>

namespace
{

const char group[] = "239.192.78.3";
const UINT16 port = 7803;
const char interface[] = "eth0";
const double rate_bits = 4e9;
const unsigned stream_messages = 1500; /* in the sender's buffer */
const UINT16 segment_bytes = 1400;
const UINT16 block_segments = 64;
const double round_trip_s = 0.001;
const UINT32 socket_bytes = 8u << 20;
const unsigned read_bytes = 65536;

/* The sender's stream, in bytes. */
struct stream {
    NormInstanceHandle norm;
    NormSessionHandle session;
    NormObjectHandle object;
    struct pollfd events;
    uint64_t written, acknowledged, marked; /* bytes */
    uint64_t room;
    bool waits; /* for the acknowledgement of a watermark */
};

void watermark(struct stream *s, NormFlushMode mode)
{
    NormStreamFlush(s->object, false, mode);
    NormSetWatermark(s->session, s->object, mode == NORM_FLUSH_ACTIVE);
    s->waits = true;
    s->marked = s->written;
}

void on_event(struct stream *s, const NormEvent *event)
{
    if (event->type != NORM_TX_WATERMARK_COMPLETED)
        return;
    if (NormGetAckingStatus(s->session, NORM_NODE_ANY) == NORM_ACK_SUCCESS) {
        s->acknowledged = s->marked;
        s->waits = false;
    } else {
        /* Asks those again that did not answer. */
        NormResetWatermark(s->session);
    }
}

void look(struct stream *s, int timeout_ms)
{
    NormEvent event;

    if (poll(&s->events, 1, timeout_ms) <= 0)
        return;
    while (NormGetNextEvent(s->norm, &event, false))
        on_event(s, &event);
}

/* Everything of a message; waits for room. */
void write_message(struct stream *s, const char *message, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        if (s->written - s->acknowledged + bytes <= s->room) {
            unsigned n = NormStreamWrite(s->object, message + done, (unsigned)(bytes - done));
            done += n;
            s->written += n;
        }
        if (!s->waits && s->written - s->acknowledged >= s->room / 4)
            watermark(s, NORM_FLUSH_NONE);
        if (done < bytes)
            look(s, 100);
    }
}

void send_all(struct run *r, NormInstanceHandle norm, NormSessionHandle session)
{
    struct stream s = {};
    char *message = (char *)calloc(1, r->bytes);
    UINT32 room = (UINT32)(stream_messages * r->bytes);

    NormSetFlowControl(session, 0.0);
    NormSetCongestionControl(session, false, true);
    NormSetTxSocketBuffer(session, socket_bytes / 2);
    NormSetTxRate(session, rate_bits);
    NormSetBackoffFactor(session, 0);
    for (unsigned i = 1; i <= r->receivers; i++)
        NormAddAckingNode(session, i + 1);
    if (!message || !NormStartSender(session, 1, 2 * room, segment_bytes, block_segments, 0))
        run_fail("send", "NormStartSender");
    s.norm = norm;
    s.session = session;
    s.object = NormStreamOpen(session, room);
    s.events.fd = NormGetDescriptor(norm);
    s.events.events = POLLIN;
    s.room = room;
    while (run_next(r, message)) {
        write_message(&s, message, r->bytes);
        if (r->rate > 0)
            NormStreamFlush(s.object, false, NORM_FLUSH_PASSIVE);
        if (r->rate > 0)
            look(&s, 0);
    }
    while (s.acknowledged < s.written) {
        if (!s.waits)
            watermark(&s, NORM_FLUSH_ACTIVE);
        look(&s, 100);
    }
    run_sent(r);
    for (;;)
        look(&s, -1);
}

/* Takes all that the stream has; true after the last message. */
bool take(struct run *r, NormObjectHandle object, char *data, size_t *have)
{
    for (;;) {
        unsigned n = read_bytes - (unsigned)*have;
        size_t at = 0;
        if (!NormStreamRead(object, data + *have, &n))
            run_fail("recv", "the stream is broken");
        if (n == 0)
            return false;
        *have += n;
        for (; *have - at >= r->bytes; at += r->bytes) {
            if (run_take(r, data + at, r->bytes))
                return true;
        }
        *have -= at;
        memmove(data, data + at, *have);
    }
}

void receive(struct run *r, NormInstanceHandle norm, NormSessionHandle session)
{
    NormEvent event;
    char *data = (char *)malloc(read_bytes);
    size_t have = 0;
    bool over = false;

    if (!data || !NormStartReceiver(session, (UINT32)(4 * stream_messages * r->bytes)))
        run_fail("recv", "NormStartReceiver");
    NormSetRxSocketBuffer(session, socket_bytes);
    NormSetRxCacheLimit(session, 8192);
    run_ready();
    while (!over && NormGetNextEvent(norm, &event, true)) {
        if (event.type == NORM_RX_OBJECT_UPDATED)
            over = take(r, event.object, data, &have);
    }
    /* The sender hears from its thread that all came. */
    poll(NULL, 0, 700);
}

} // namespace

int main(int argc, char **argv)
{
    struct run r;

    run_begin(&r, argc, argv);
    bool sends = strcmp(r.role, "send") == 0;
    NormInstanceHandle norm = NormCreateInstance();
    NormSessionHandle session = NormCreateSession(norm, group, port, sends ? 1 : r.id + 1);
    NormSetMulticastInterface(session, interface);
    NormSetRxPortReuse(session, true, NULL, NULL, 0);
    NormSetGrttEstimate(session, round_trip_s);
    NormSetGroupSize(session, r.receivers < 10 ? 10 : r.receivers);
    if (sends)
        send_all(&r, norm, session);
    else
        receive(&r, norm, session);
    return 0;
}
