#!/bin/bash
# region_large.sh: 192 daemons, an application on each, one region: a stream of 1,000-byte messages is
# complete and in order at all, and stable; and how fast that goes here.
#   RECEIVERS=n   default 192
#   COUNT=n       messages (default 2000), as fast as they are taken, or
#   RATE=n        so many a second
#   MERGED=1      the wire as the kernel makes it: a train of segments crosses whole
# As root the machine's backlog is raised for this long (machine_enter).
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/region.sh"
machine_enter "$@"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL region large: namespaces are forbidden here"
    exit 1
fi

count=${COUNT:-2000}

daemons_cpu() { # host…
    local name pids=()
    for name in "$@"; do
        pids+=("${pid[$name]}")
    done
    cpu_ms "${pids[@]}"
}

# user, system, interrupts and idle of all processors, in ms.
shares() {
    printf '%s\n%s\n' "$before_cpu" "$after_cpu" | awk '
        NR == 1 { for (i = 2; i <= 9; i++) b[i] = $i }
        NR == 2 {
            for (i = 2; i <= 9; i++) { d[i] = $i - b[i]; all += d[i] }
            printf "user %.0f %%, system %.0f %%, interrupts %.0f %%, idle %.0f %%\n",
                100 * (d[2] + d[3]) / all, 100 * d[4] / all, 100 * (d[7] + d[8]) / all,
                100 * (d[5] + d[6]) / all
        }'
}

busy_ms() {
    printf '%s\n%s\n' "$before_cpu" "$after_cpu" | awk -v hz="$(getconf CLK_TCK)" '
        { busy = 0; for (i = 2; i <= 9; i++) if (i != 5 && i != 6) busy += $i }
        NR == 1 { busy0 = busy }
        END { printf "%.0f\n", (busy - busy0) * 1000 / hz }'
}

region_begin "${RECEIVERS:-192}"
if [[ -n ${MERGED:-} ]]; then
    for name in "${hosts[@]}"; do
        in_host "$name" ethtool -K eth0 tx-udp-segmentation on
    done
fi
dropped() { # by the kernel, for want of backlog
    local sum=0 column
    while read -r _ column _; do
        sum=$((sum + 16#$column))
    done </proc/net/softnet_stat
    say $sum
}

tokens=$(sum_counter tokens_sent "${receivers[@]}")
drops=$(dropped)
stream_start large "$count" "${RATE:-0}"
before=$(daemons_cpu "${receivers[@]}")
before_sender=$(daemons_cpu sender)
# What the sender is told of its slowest member while it goes.
sleep 2
slow=$(ctl sender --json regions | tr ',{' '\n\n' | grep -E '"(rate|slowest)"' | tr -d '"\n')
check "region large: $count messages complete, in order and stable at ${#receivers[@]} receivers" \
    stream_end large
after=$(daemons_cpu "${receivers[@]}")
after_sender=$(daemons_cpu sender)
per_message() { # milliseconds
    awk -v ms="$1" -v n="$count" 'BEGIN { printf "%.1f", ms * 1000 / n }'
}
say "  $(slowest large "${receivers[@]}") messages/s at the slowest; processors: $(shares)"
say "  a message takes $(per_message "$(busy_ms)") us of the processors, of it the sender's qsmd" \
    "$(per_message $((after_sender - before_sender))) us, the ${#receivers[@]} receivers'" \
    "$(per_message $((after - before))) us; the rest is applications and what the kernel does by itself"
say "  $(($(sum_counter tokens_sent "${receivers[@]}") - tokens)) hops of tokens in all rings meanwhile"
say "  backlog of ${QSM_BACKLOG:-the machine}: $(($(dropped) - drops)) dropped"
say "  packets lost: $(sum_counter packets_lost "${receivers[@]}"), repairs sent" \
    "$(sum_counter repairs_sent "${hosts[@]}"); what paced it: $slow, window_full" \
    "$(counter sender window_full)"
check "region large: nobody is expelled" nobody_expelled
cluster_end "region large"
((failures == 0))
