# shellcheck shell=bash
# words.sh: what the sections of figures.sh share: figures and their rows, hosts, and streams. Of
# lib.sh and figures.sh: hosts, work, pid, host_pid, rows, flow, bytes, limit.
# shellcheck disable=SC2154

# ---- words

# Of the values that are numbers: median,least,greatest,how many. Unrounded: they are compared.
median() { # value…
    printf '%s\n' "$@" | grep -E '^[0-9.]+$' | sort -n | awk -v CONVFMT=%.10g '
        { v[NR] = $1 }
        END {
            if (NR == 0) { print "-,-,-,0"; exit }
            m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
            print m "," v[1] "," v[NR] "," NR
        }'
}

# A row: the median of the values, the least and the greatest of them, how many there are, and of
# how many runs: what has failed is a value that is no number, what was not run is none.
figure() { # what unit value…
    local what=$1 unit=$2
    shift 2
    say "$what,$unit,$(median "$@"),,,,,,,,,$#" | tee -a "$rows" | show
}

# The least of some values; "-" when one of them is no number.
least() { # value…
    printf '%s\n' "$@" | awk '
        !/^[0-9.]+$/ { failed = 1 }
        NR == 1 || $1 + 0 < v + 0 { v = $1 }
        END { print failed ? "-" : v }'
}

percent_of() { # number number
    awk -v a="$1" -v b="$2" \
        'BEGIN { if (a > 0 && b > 0) printf "%.6f\n", 100 * a / b; else print "-" }'
}

# Of awk: a number with fewer digits, to be looked at.
# shellcheck disable=SC2016 # of awk
short='function short(v) {
    if (v ~ /^[0-9]+\.[0-9][0-9][0-9][0-9][0-9]/)
        return sprintf(v < 1 ? "%.4f" : v < 10 ? "%.2f" : "%.1f", v)
    return v ~ /^[0-9.]+$/ && v > 1000 ? sprintf("%.0f", v) : v
}
'

show() {
    awk -F, "$short"'{
        printf "%-58s %12s  %-6s %12s %12s %3s\n", $1, short($3), $2, short($4), short($5),
            ($6 < $15 ? $6 "/" $15 : $6)
    }'
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
    ((good == 0)) || sort -n "${names[@]/#/$work/flow.}" | head -n 1 | cut -d ' ' -f 1
}

# What went wrong in streams.
flow_log() {
    [[ ! -s $work/flow.log ]] || sort "$work/flow.log" | uniq -c | sort -n -r | head -n 10
}
