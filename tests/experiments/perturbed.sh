#!/bin/bash
# perturbed.sh: what one receiver's trouble costs the others (figures 24 to 31 of the paper): it
# sleeps 0.5 s in every 5 s, or hears nothing for 10 ms in every second. One group, one sender at a
# rate of which 0.5 s fit half the window, and as fast as messages are taken, on the segmented wire.
# Rates and latencies are of the others, losses of all.
#   NODES="8 24 48 96"    receivers
#   RATE=n       default 500
#   DURATION=n   default 10
#   LIMIT=n      default 400
set -u
DURATION=${DURATION:-10} LIMIT=${LIMIT:-400}
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../system/perturb.sh"
experiment perturbed "$@"
unlimited=0

# An unlimited stream is perturbed for as long as it would go on undisturbed.
perturb() {
    case $setting in
    undisturbed) beside= ;;
    sleep) beside=sleep_half_a_second ;;
    loss) beside=drop_ten_milliseconds ;;
    esac
    messages=
    [[ $asked -gt 0 || $setting == undisturbed ]] || messages=$unlimited
    measure
    [[ $setting != undisturbed ]] || unlimited=$((${got[rate]:-0} * duration))
}

one_size() { # receivers
    region_make "$1" 1
    wire off
    victim=r2
    deaf_table
    daemons_begin
    for asked in "${RATE:-500}" 0; do
        for setting in undisturbed "sleep" loss; do
            late || perturb
        done
    done
    daemons_end
    cluster_remove
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-8 24 48 96}; do
        late || one_size "$count"
    done
done
