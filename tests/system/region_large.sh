#!/bin/bash
# region_large.sh: 192 daemons, an application on each, one region: a stream of 1,000-byte messages is
# complete and in order at all, and stable; and how fast that goes here.
#   RECEIVERS=n   default 192
#   COUNT=n       messages (default 20000), as fast as they are taken
#   MERGED=1      the wire as the kernel makes it: a train of segments crosses whole
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/region.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL region large: namespaces are forbidden here"
    exit 1
fi

count=${COUNT:-20000}

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

region_begin "${RECEIVERS:-192}"
if [[ -n ${MERGED:-} ]]; then
    for name in "${hosts[@]}"; do
        in_host "$name" ethtool -K eth0 tx-udp-segmentation on
    done
fi
before=$(daemons_cpu "${receivers[@]}")
before_sender=$(daemons_cpu sender)
stream_start large "$count" 0
check "region large: $count messages complete, in order and stable at ${#receivers[@]} receivers" \
    stream_end large
after=$(daemons_cpu "${receivers[@]}")
after_sender=$(daemons_cpu sender)
rate=$(slowest large "${receivers[@]}")
say "  $rate messages/s at the slowest; processors: $(shares)"
say "  CPU per message: sender's qsmd $(awk -v a="$before_sender" -v b="$after_sender" -v n="$count" \
    'BEGIN { printf "%.1f", (b - a) * 1000 / n }') us, a receiver's qsmd $(awk -v a="$before" -v b="$after" \
    -v n="$count" -v r="${#receivers[@]}" 'BEGIN { printf "%.2f", (b - a) * 1000 / n / r }') us"
say "  packets lost and repaired: $(sum_counter packets_lost "${receivers[@]}"); slowest member as told:" \
    "$(ctl sender regions | awk 'NR > 1 { print $NF; exit }'); window_full $(counter sender window_full)"
cluster_end "region large"
((failures == 0))
