# shellcheck shell=bash
# words.sh: what the sections of figures.sh share: figures and their rows, hosts, and streams. Of
# lib.sh and figures.sh: hosts, work, pid, host_pid, rows, flow, bytes, limit.
# shellcheck disable=SC2154

# ---- words

# Of the values that are numbers: median,least,greatest,how many.
median() { # value…
    printf '%s\n' "$@" | grep -E '^[0-9.]+$' | sort -n | awk '
        { v[NR] = $1 }
        END {
            if (NR == 0) { print "-,-,-,0"; exit }
            m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
            print (m > 1000 ? sprintf("%.0f", m) : m) "," v[1] "," v[NR] "," NR
        }'
}

# A row: the median of the values, the least and the greatest of them.
figure() { # what unit value…
    local what=$1 unit=$2
    shift 2
    say "$what,$unit,$(median "$@"),,,,,,,," | tee -a "$rows" | show
}

# The least of some numbers, or nothing.
least() { # number…
    printf '%s\n' "$@" | grep -E '^[0-9.]+$' | sort -n | head -n 1
}

greatest() { # number…
    printf '%s\n' "$@" | grep -E '^[0-9.]+$' | sort -n | tail -n 1
}

percent_of() { # number number
    awk -v a="$1" -v b="$2" \
        'BEGIN { if (a > 0 && b > 0) printf "%.1f\n", 100 * a / b; else print "-" }'
}

show() {
    awk -F, '{ printf "%-58s %12s  %-6s %12s %12s %3s\n", $1, $3, $2, $4, $5, $6 }'
}

load() {
    cut -d ' ' -f 1-3 /proc/loadavg
}

# How much of the processors others use: ours are not running yet.
busy_percent() {
    local a b
    a=$(head -n 1 /proc/stat)
    sleep 1
    b=$(head -n 1 /proc/stat)
    printf '%s\n%s\n' "$a" "$b" | awk '
        { all = 0; for (i = 2; i <= 9; i++) all += $i; idle = $5 + $6 }
        NR == 1 { all0 = all; idle0 = idle }
        END { printf "%.0f\n", all == all0 ? 0 : 100 * (1 - (idle - idle0) / (all - all0)) }'
}

late() {
    ((SECONDS > limit))
}

# CPU time of a daemon, in microseconds.
cpu_us() { # host
    awk -v hz="$(getconf CLK_TCK)" '{ printf "%.0f\n", ($14 + $15) * 1000000 / hz }' \
        "/proc/${pid[$1]}/stat"
}

# ---- hosts

# h1, h2 … on the merged wire.
hosts_make() { # count
    local i
    cluster_begin
    for ((i = 1; i <= $1; i++)); do
        host_add "h$i"
        in_host "h$i" ethtool -K eth0 tx-udp-segmentation on 2>/dev/null
    done
}

hosts_begin() { # count [line of qsmd's configuration…]
    local name
    hosts_make "$1"
    shift
    cms_start
    for name in "${hosts[@]}"; do
        qsmd_start "$name" "$@"
    done
    for name in "${hosts[@]}"; do
        within 20 admitted "$name" || say "$name was not admitted"
    done
}

# Ends the daemons, well or not: that is for the tests to judge.
hosts_end() {
    daemons_end_well >/dev/null
    cluster_remove
}

run_on() { # host command…
    local name=$1
    shift
    QSM_SOCKET=$work/$name.sock "$@"
}

# ---- streams

declare -A subscribers_before=()

# From here on subscriptions are counted.
subscribers_note() { # host…
    local name
    for name in "$@"; do
        subscribers_before[$name]=$(counter "$name" subscriptions_begun)
    done
}

subscribers_here() { # count host
    (($(counter "$2" subscriptions_begun) - subscribers_before[$2] >= $1))
}

subscribers_wait() { # count host…
    local count=$1 name
    shift
    for name in "$@"; do
        within 30 subscribers_here "$count" "$name" || return
    done
}

# Sends from h1 to h2 … and prints the rate of the slowest receiver, or nothing. GROUP:N is as for
# flow.
stream() { # group receivers messages [rate]
    local group=$1 receivers=$2 count=$3 rate=${4:-0} i p pids=() names=() good=1 groups=1
    [[ $group != *:* ]] || groups=${group#*:}
    for ((i = 2; i <= receivers + 1; i++)); do
        names+=("h$i")
    done
    subscribers_note "${names[@]}"
    for i in "${names[@]}"; do
        run_on "$i" metered "recv.$i" timeout 60 "$flow" recv "$group" "$count" \
            >"$work/flow.$i" 2>>"$work/flow.log" &
        pids+=($!)
    done
    subscribers_wait "$groups" "${names[@]}" || good=0
    ((good == 0)) ||
        run_on h1 metered send.h1 timeout 60 "$flow" send "$group" "$count" "$bytes" "$rate" \
            2>>"$work/flow.log" || good=0
    for p in "${pids[@]}"; do
        ((good == 1)) || kill "$p" 2>/dev/null
        wait "$p" || good=0
    done
    ((good == 0)) || sort -n "$work"/flow.h* | head -n 1 | cut -d ' ' -f 1
}

# What went wrong in streams.
flow_log() {
    [[ ! -s $work/flow.log ]] || sort "$work/flow.log" | uniq -c | sort -n -r | head -n 10
}
