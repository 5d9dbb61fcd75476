#!/bin/bash
# replicas.sh: what keeping more copies costs (figures 22 and 23 of the paper): one group, one
# sender, each packet cached by more and more of the receivers. The cachers are of one partition, so
# all of a ring are the most: the last value is half the region in a ring of all, as in the paper.
#   NODES="48"    receivers
#   REPLICAS="1 2 5 12 24"    RATE=n  default 500
set -u
. "$(dirname "$0")/lib.sh"
experiment replicas "$@"

one_count() { # setting replicas ring_size
    setting=$1 value=$2
    cms_lines=("cache_replicas = $2" "ring_size = $3")
    daemons_begin
    for asked in "${RATE:-500}" 0; do
        late || measure
    done
    daemons_end
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-48}; do
        region_make "$count" 1
        for replicas in ${REPLICAS:-1 2 5 12 24}; do
            late || one_count rings "$replicas" 25
        done
        for replicas in 5 $((count / 2 > 64 ? 64 : count / 2)); do
            late || ((count <= 25)) || one_count linear "$replicas" "$count"
        done
        cluster_remove
    done
done
