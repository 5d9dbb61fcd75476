#!/bin/bash
# holders.sh: with repairs by the sender forbidden by the debug key, what single receivers lose is
# still made good, by the others.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/stream.sh"
system_enter "$@"

lines=${LINES_SENT:-100000}

begin() {
    cluster_begin
    host_add h1 h2 h3 h4 h5
    # Only one receiver of each region loses anything: what h3 and h5 have, h2 and h4 can get.
    if [[ $net == bridge ]]; then
        loss_on h2 "$loss"
        loss_on h4 "$loss"
    fi
    cms_start
    qsmd_start_all 'debug { no_sender_repair = true }'
    ctl h4 join other
    ctl h5 join other
    stream_file "$work/sent"
}

nothing_from_the_sender() {
    local name sum=0
    for name in "${receivers[@]}"; do
        sum=$((sum + $(counter "$name" repairs_from_sender)))
    done
    ((sum == 0))
}

lost_and_repaired() {
    local repaired
    repaired=$(($(counter "$1" repairs_from_cachers) + $(counter "$1" repairs_from_holders)))
    say "$1 lost $(counter "$1" packets_lost) packets, got $repaired repairs"
    ((repaired > 0))
}

begin
stream_receive_all -n "$lines" -W 120
stream_send --wait -W 120
check "holders: the sender knows that all is stable" stream_wait pub || cat "$work/pub.out"
for name in "${receivers[@]}"; do
    check "holders: $name ends when it has all" stream_wait "$name" || cat "$work/$name.end"
    check "holders: $name has every line in order" got_all "$name"
done
if [[ $net == bridge ]]; then
    check "holders: h2 got repairs" lost_and_repaired h2
    check "holders: h4 got repairs" lost_and_repaired h4
fi
check "holders: none came from the sender" nothing_from_the_sender
cluster_end holders
((failures == 0))
