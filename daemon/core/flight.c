/* flight: see flight.h. */
#include "flight.h"

void flight_init(struct flight *f)
{
    *f = (struct flight){.window = FLIGHT_FIRST_BYTES};
}

void flight_sent(struct flight *f, uint64_t seq, uint64_t now_us)
{
    if (f->probe != 0)
        return;
    f->probe = seq;
    f->probe_us = now_us;
    f->acked_bytes = 0;
}

void flight_acked(struct flight *f, uint64_t seq, uint64_t bytes, uint64_t max, uint64_t now_us)
{
    f->acked_bytes += bytes;
    if (f->probe == 0 || seq < f->probe)
        return;
    if (now_us - f->probe_us > FLIGHT_LATE_US)
        f->window /= 2;
    else
        f->window += f->acked_bytes;
    f->probe = 0;
    f->window = f->window < max ? f->window : max;
    f->window = f->window > FLIGHT_FIRST_BYTES ? f->window : FLIGHT_FIRST_BYTES;
}
