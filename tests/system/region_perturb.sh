#!/bin/bash
# region_perturb.sh: one of 24 receivers is perturbed as in section 5.1 of the paper: its daemon sleeps
# 0.5 s in every 5 s, or hears nothing for 10 ms in every second. The others hardly notice: they keep
# their throughput and at most twice their latency, and nobody is expelled.
#   RATE=n        messages a second (default 500: two processors are not saturated, and what is sent
#                 in 0.5 s fits half of the window)
#   DURATION=n    seconds of each of three streams (default 25)
#   RECEIVERS=n   default 24
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/region.sh"
. "$(dirname "$0")/perturb.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL region perturbed: namespaces are forbidden here"
    exit 1
fi

rate=${RATE:-500}
count=$((rate * ${DURATION:-25}))
victim=r4

# The receivers that nobody perturbs, and their files of latencies.
others() {
    local name
    for name in "${receivers[@]}"; do
        [[ $name == "$victim" ]] || say "$name"
    done
}

latencies() { # group
    local name
    for name in $(others); do
        say "$work/$name.$1.latency"
    done
}

# Ids and epoch: nobody came anew, no view was changed.
who_is_there() {
    local name
    for name in "${hosts[@]}"; do
        say "$name $(fact "$name" node_id)"
    done
}

measure() { # group
    # shellcheck disable=SC2046 # lists of words
    {
        rates[$1]=$(slowest "$1" $(others))
        p50[$1]=$(percentile 50 $(latencies "$1"))
        p99[$1]=$(percentile 99 $(latencies "$1"))
    }
    say "  $1: slowest of the others ${rates[$1]} messages/s, p50 ${p50[$1]} us, p99 ${p99[$1]} us;" \
        "processors $(busy_percent) % busy; the victim's p99 $(percentile 99 "$work/$victim.$1.latency") us"
}

undisturbed() {
    stream_start undisturbed "$count" "$rate"
    sleep 2
    window=$(ctl sender --json regions | tr ',{}' '\n\n\n' | sed -n 's/.*"window_bytes": *\([0-9]*\).*/\1/p' |
        head -n 1)
    check "region perturbed: what is sent in 0.5 s fits half of the window (of ${window:-0} bytes)" \
        test $((rate * bytes)) -le "${window:-0}"
    check "region perturbed: undisturbed, all is complete, in order and stable" stream_end undisturbed
    measure undisturbed
}

perturbed() { # group command
    local group=$1 before perturber
    before=$(who_is_there)
    stream_start "$group" "$count" "$rate"
    "$2" &
    perturber=$!
    host_pid[perturber]=$perturber
    check "region perturbed: $group, all is complete, in order and stable" stream_end "$group"
    kill "$perturber" 2>/dev/null
    wait "$perturber" 2>/dev/null
    unset 'host_pid[perturber]'
    measure "$group"
    check "region perturbed: $group, the others keep 98 % of their throughput" \
        less_than "$(awk -v r="${rates[undisturbed]}" 'BEGIN { print r * 0.98 - 1 }')" "${rates[$group]}"
    check "region perturbed: $group, their p99 at most doubles (${p99[undisturbed]} to ${p99[$group]} us)" \
        less_than "${p99[$group]}" $((p99[undisturbed] * 2 + 1))
    check "region perturbed: $group, nobody is expelled" test "$(who_is_there)" = "$before"
}

window=0
declare -A rates=() p50=() p99=()
region_begin "${RECEIVERS:-24}"
deaf_table
undisturbed
perturbed asleep sleep_half_a_second
perturbed deaf drop_ten_milliseconds
say "  dropped at $victim: $(in_host "$victim" nft list counter inet deaf dropped | sed -n 's/.*\(packets.*\)/\1/p')"
cluster_end "region perturbed"
((failures == 0))
