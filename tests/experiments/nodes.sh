#!/bin/bash
# nodes.sh: what more receivers cost (figures 11, 16 and 17 of the paper): one group, one sender and
# two, as fast as they are taken, and one sender at a rate that all sizes keep, with rings of at
# most 25 and with one token that visits all, as the paper's does.
#   NODES="2 8 24 48 96 192"    RATE=n  default 500
set -u
. "$(dirname "$0")/lib.sh"
experiment nodes "$@"

one_size() { # receivers
    local most
    region_make "$1" 2
    for most in 25 "$1"; do
        ((most == 25 || most > 25)) || continue
        setting=rings
        ((most == 25)) || setting=linear
        cms_lines=("ring_size = $most")
        daemons_begin
        asked=${RATE:-500}
        senders=(s1)
        measure
        if ((most == 25)); then
            asked=0
            measure
            senders=(s1 s2)
            measure
        fi
        daemons_end
    done
    cluster_remove
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-2 8 24 48 96 192}; do
        late || one_size "$count"
    done
done
