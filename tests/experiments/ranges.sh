#!/bin/bash
# ranges.sh: what an ACK that tells ranges above a gap brings (figures 19 to 21 of the paper): one
# group, one sender as fast as messages are taken, on the segmented wire; nothing is lost, and then
# 1 % of all datagrams at one receiver.
#   NODES="48"    receivers
#   RANGES="0 1 2 4 8"
#   REPEATS=n     default 3
set -u
REPEATS=${REPEATS:-3}
. "$(dirname "$0")/lib.sh"
experiment ranges "$@"

one_count() { # ranges
    value=$1
    cms_lines=("ack_ranges = $1")
    daemons_begin
    setting=whole
    measure
    setting=loss
    loss_on r2 1
    measure
    in_host r2 nft delete table inet loss
    daemons_end
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-48}; do
        region_make "$count" 1
        wire off
        for ranges in ${RANGES:-0 1 2 4 8}; do
            late || one_count "$ranges"
        done
        cluster_remove
    done
done
