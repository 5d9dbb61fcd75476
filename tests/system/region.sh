# shellcheck shell=bash
# region.sh: one region of many hosts, for the tests of a stream into it: `sender` sends 1,000-byte
# messages at a rate, r1 … rN receive them, an application on each. All is one machine, so what a
# message carries of the clock compares with that of its receiver: latencies are from when a message
# was due to when the application of a receiver has it.

bytes=1000
flow=$BUILD/tests/bench/flow
receivers=()

region_begin() { # receivers [line of qsmd's configuration…]
    local i count=$1
    shift
    cluster_begin
    receivers=()
    for ((i = 1; i <= count; i++)); do
        receivers+=("r$i")
    done
    host_add sender "${receivers[@]}"
    neighbours_known
    cms_start "debug { trace = \"$work/cms.trace\" }"
    qsmd_start_all "$@"
}

# Starts what receives; the sender sends when all are members.
stream_start() { # group messages rate
    local name
    for name in "${receivers[@]}"; do
        QSM_SOCKET=$work/$name.sock "$flow" recv "$1" "$2" "$work/$name.$1.latency" \
            >"$work/$name.$1.rate" 2>"$work/$name.$1.error" &
        host_pid[$name]=$!
    done
    ctl sender groups "$1" --wait "${#receivers[@]}" -W 60 >/dev/null ||
        say "not all receivers have joined"
    before_cpu=$(head -n 1 /proc/stat)
    QSM_SOCKET=$work/sender.sock "$flow" send "$1" "$2" "$bytes" "$3" 2>"$work/sender.$1.error" &
    host_pid[stream]=$!
}

# Everything in order at every receiver, and stable: flow says so by its exit code.
stream_end() { # group
    local name good=0
    wait "${host_pid[stream]}" || good=1
    unset 'host_pid[stream]'
    for name in "${receivers[@]}"; do
        ((good == 0)) || kill "${host_pid[$name]}" 2>/dev/null
        wait "${host_pid[$name]}" || good=1
        unset "host_pid[$name]"
    done
    after_cpu=$(head -n 1 /proc/stat)
    ((good == 0)) || cat "$work"/*."$1".error | sort | uniq -c | sort -n -r | head -n 10
    return $good
}

# The CMS gave up nobody.
nobody_expelled() {
    ! grep ' expel ' "$work/cms.trace" | cut -d ' ' -f 2- | head -n 10 | grep .
}

# How busy the machine's processors were from the stream's start to its end, in percent.
busy_percent() {
    printf '%s\n%s\n' "$before_cpu" "$after_cpu" | awk '
        { all = 0; for (i = 2; i <= 9; i++) all += $i; idle = $5 + $6 }
        NR == 1 { all0 = all; idle0 = idle }
        END { printf "%.0f\n", 100 * (1 - (idle - idle0) / (all - all0)) }'
}

# The messages per second of the slowest of some receivers; "-" when one of them says nothing.
slowest() { # group host…
    local group=$1 name
    shift
    for name in "$@"; do
        cut -d ' ' -f 1 "$work/$name.$group.rate" | grep . || say -
    done | sort -n | head -n 1
}

# A latency that fewer than so many messages exceed, in microseconds. Of all messages, or of those
# that did not come on the heels of another.
all_but() { # count all|heads file…
    local count=$1 column=$(($(test "$2" = all; echo $?) + 2))
    shift 2
    sort -n -r -k 1,1 "$@" | awk -v k="$count" -v c="$column" '
        { n += $c }
        n >= k && !done { print $1; done = 1 }'
}

# The p-th percentile of files of latencies.
percentile() { # p file…
    local p=$1 total
    shift
    total=$(awk '{ n += $2 } END { printf "%.0f\n", n }' "$@")
    all_but "$(awk -v n="$total" -v p="$p" '
        BEGIN { k = n * (100 - p) / 100; printf "%.0f\n", (k < 1 ? 1 : k) }')" all "$@"
}

sum_counter() { # name host…
    local name=$1 host
    shift
    for host in "$@"; do
        counter "$host" "$name"
    done | awk '{ n += $1 } END { printf "%.0f\n", n }'
}

# CPU time of processes, in milliseconds.
cpu_ms() { # pid…
    local p
    for p in "$@"; do
        cat "/proc/$p/stat"
    done | awk -v hz="$(getconf CLK_TCK)" '{ n += $14 + $15 } END { printf "%.0f\n", n * 1000 / hz }'
}

less_than() { # number number
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

ratio() { # number number
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", (b > 0 ? a / b : 0) }'
}
