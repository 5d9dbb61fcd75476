#!/bin/bash
# figures.sh: how fast it is here, as a table: rates, token round trips, joins, memory, simulator.
# Hosts are network namespaces on one bridge, the wire as the kernel makes it ("merged": no loss, and
# a train of segments crosses whole). The bridge copies in the sender's time. Nothing fails for being
# slow; what could not be measured is "-". Other work on the machine shows in every figure, least in
# the CPU times.
#   BUILD=dir OUT=file.csv tests/bench/figures.sh [idle|flow|calls|token|join|sim|peers…]
# REPEATS=n is for all of them; what else chooses among the peers is in peers.sh.
set -u
. "$(dirname "$0")/../system/lib.sh"
. "$(dirname "$0")/peers.sh"
[[ ${OUT:-/} == /* ]] || export OUT=$PWD/$OUT
machine_enter "$@"
system_enter "$@"
if [[ $net == lo ]]; then
    say "figures: namespaces are forbidden here"
    exit 1
fi

repeats=${REPEATS:-3}
seconds=3      # that a stream is meant to last
window=4       # seconds between two looks at a ring's counters
joins=50
bytes=1000
limit=210      # seconds after which nothing more is begun, but the peers
sections=("$@")
[[ $# -gt 0 ]] || sections=(idle flow calls token join sim peers)
flow=$BUILD/tests/bench/flow
[ -x "$flow" ] || { echo "$flow is not built: use \`make bench\`" >&2; exit 2; }
rows=$(mktemp "${TMPDIR:-/tmp}/qsm-figures.XXXXXX")
figures_exit() {
    local status=$?
    rm -f "$rows" "$rows".*
    return $status
}
trap 'figures_exit; system_exit' EXIT

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

hosts_begin() { # count
    local name
    hosts_make "$1"
    cms_start
    for name in "${hosts[@]}"; do
        qsmd_start "$name"
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

# ---- counting, by perf or else strace

meter=none
events=raw_syscalls:sys_enter,task-clock,instructions:u,instructions:k,cycles:u,cycles:k

meter_find() {
    if perf stat -e raw_syscalls:sys_enter true >"$work/meter.try" 2>&1 &&
        grep -q '[0-9] *raw_syscalls:sys_enter' "$work/meter.try"; then
        meter=perf
    elif strace -c -f -o "$work/meter.try" true 2>/dev/null; then
        meter=strace
        say "calls: perf cannot count system calls here; strace can, but slows what it counts, so" \
            "that more messages go in one call"
    else
        say "calls: neither perf nor strace can count system calls here"
    fi
}

# Runs a command and counts it.
metered() { # name command…
    local file=$work/meter.$1
    shift
    case $meter in
    perf) perf stat -x , -e "$events" -o "$file" "$@" ;;
    strace) strace -c -f -o "$file" "$@" ;;
    none) "$@" ;;
    esac
}

# Counts a daemon until meters_end.
meter_daemon() { # host
    local file=$work/meter.qsmd.$1
    case $meter in
    perf) perf stat -x , -e "$events" -o "$file" -p "${pid[$1]}" & ;;
    strace) strace -c -f -o "$file" -p "${pid[$1]}" 2>/dev/null & ;;
    esac
    host_pid[meter-$1]=$!
}

meters_end() { # host…
    local name
    for name in "$@"; do
        kill -INT "${host_pid[meter-$name]}"
        wait "${host_pid[meter-$name]}"
        unset "host_pid[meter-$name]"
    done
}

# What was counted, per message, of one or more names: nothing when it can't be.
metered_value() { # event messages name…
    local event=$1 count=$2
    shift 2
    if [[ $meter == perf ]]; then
        awk -F , -v e="$event" -v n="$count" -v files=$# '
            $3 == e && $1 ~ /^[0-9.]+$/ { sum += $1; seen++ }
            END { if (seen == files) printf "%.8f\n", sum / n }' "${@/#/$work/meter.}"
    elif [[ $event == raw_syscalls:sys_enter ]]; then
        awk -v n="$count" '$NF == "total" { sum += $4 } END { printf "%.4f\n", sum / n }' \
            "${@/#/$work/meter.}"
    fi
}

# ---- messages per second
# Sends from h1 to h2 … and prints the rate of the slowest receiver, or nothing.
stream() { # group receivers messages
    local group=$1 receivers=$2 count=$3 i p pids=() good=1
    for ((i = 2; i <= receivers + 1; i++)); do
        run_on "h$i" metered "recv.h$i" timeout 60 "$flow" recv "$group" "$count" \
            >"$work/flow.h$i" 2>>"$work/flow.log" &
pids+=($!)
    done
    ctl h1 groups "$group" --wait "$receivers" -W 20 >/dev/null || good=0
    ((good == 0)) ||
        run_on h1 metered send.h1 timeout 60 "$flow" send "$group" "$count" "$bytes" \
            2>>"$work/flow.log" || good=0
    for p in "${pids[@]}"; do
        ((good == 1)) || kill "$p" 2>/dev/null
        wait "$p" || good=0
    done
    ((good == 0)) || sort -n "$work"/flow.h* | head -n 1 | cut -d ' ' -f 1
}

measure_flow() { # receivers
    local receivers=$1 i rate count rates=() before=() cpu=()
    hosts_begin $((receivers + 1))
    rate=$(stream warm "$receivers" 20000)
    count=$((${rate:-10000} * seconds))
    rm -f "$work"/flow.h*
    for ((i = 1; i <= repeats; i++)); do
        ! late || break
        before=("$(cpu_us h1)" "$(cpu_us h2)")
        rate=$(stream "flow-$i" "$receivers" "$count")
        rates+=("${rate:--}")
        [[ -n $rate ]] || continue
        cpu[0]+=" $(awk -v a="${before[0]}" -v b="$(cpu_us h1)" -v n="$count" \
            'BEGIN { printf "%.2f", (b - a) / n }')"
        cpu[1]+=" $(awk -v a="${before[1]}" -v b="$(cpu_us h2)" -v n="$count" \
            'BEGIN { printf "%.2f", (b - a) / n }')"
    done
    figure "messages 1 -> $receivers ($bytes bytes; slowest receiver)" 1/s "${rates[@]}"
    # shellcheck disable=SC2086 # lists of values
    {
        figure "CPU of the sender's qsmd per message 1 -> $receivers" us ${cpu[0]:-}
        figure "CPU of a receiver's qsmd per message 1 -> $receivers" us ${cpu[1]:-}
    }
    [[ ! -s $work/flow.log ]] || cat "$work/flow.log"
    hosts_end
}

# ---- what a message costs

# Names of the meters and the words for them.
costs=(
    "send.h1|the sender's application"
    "qsmd.h1|the sender's qsmd"
    "qsmd.h2|a receiver's qsmd"
    "recv.h2|a receiver's application"
    "send.h1 qsmd.h1|the sending host"
    "qsmd.h2 recv.h2|a receiving host"
)

# A row for each of them.
costs_of() { # event unit scale words
    local i j k values line
    for ((i = 0; i < ${#costs[@]}; i++)); do
        values=()
        for ((j = 1; j <= repeats; j++)); do
            line=$work/cost.$j.$1.$i
            [[ ! -s $line ]] || values+=("$(awk -v k="$3" '{ printf "%.4f", $1 * k }' "$line")")
        done
        figure "$4 per message 1 -> 2 (${costs[$i]#*|})" "$2" "${values[@]:--}"
    done
}

measure_calls() {
    local rate count i j event counted=()
    hosts_begin 3
    meter_find
    if [[ $meter == none ]]; then
        hosts_end
        return
    fi
    rate=$(meter=none stream warm 2 20000)
    count=$((${rate:-10000} * seconds))
    for ((j = 1; j <= repeats; j++)); do
        ! late || break
        meter_daemon h1
        meter_daemon h2
        sleep 0.3 # until they are attached
        rate=$(stream "calls-$j" 2 "$count")
        meters_end h1 h2
        [[ -n $rate ]] || continue
        counted+=("$rate")
        for event in ${events//,/ }; do
            for ((i = 0; i < ${#costs[@]}; i++)); do
                # shellcheck disable=SC2086 # a list of names
                metered_value "$event" "$count" ${costs[$i]%|*} >"$work/cost.$j.$event.$i"
            done
        done
    done
    figure "messages 1 -> 2 while it is counted" 1/s "${counted[@]:--}"
    costs_of raw_syscalls:sys_enter 1 1 "system calls"
    if [[ $meter == perf ]]; then
        costs_of task-clock us 1000 "CPU time"
        if grep -q ',instructions:u,' "$work/meter.send.h1" &&
            ! grep -q '<not.*,instructions:u,' "$work/meter.send.h1"; then
            costs_of instructions:u 1 1 "instructions"
            costs_of instructions:k 1 1 "instructions in the kernel"
            costs_of cycles:u 1 1 "cycles"
            costs_of cycles:k 1 1 "cycles in the kernel"
        else
            say "calls: no instructions and cycles: perf says that this machine does not count them"
        fi
    fi
    [[ ! -s $work/flow.log ]] || cat "$work/flow.log"
    hosts_end
}

# ---- token round trips
# rounds, sum of their round trips, the last one's
ring_counters() { # host
    ctl "$1" stats | awk '
        $1 == "rounds_complete" { rounds = $2 }
        $1 == "round_trip_us" { sum = $2 }
        $1 == "last_round_trip_us" { last = $2 }
        END { print rounds + 0, sum + 0, last + 0 }'
}

# The leader of the ring of all: who closed the most rounds.
leader() {
    local name best='' most=0 rounds
    for name in "${hosts[@]}"; do
        read -r rounds _ <<<"$(ring_counters "$name")"
        ((rounds <= most)) || { most=$rounds best=$name; }
    done
    say "$best"
}

measure_token() { # hosts
    local count=$1 name lead i rounds sum rounds2 sum2 last means=() lasts=() per_second=()
    hosts_begin "$count"
    for name in "${hosts[@]}"; do
        ctl "$name" join ring -W 60 &
        host_pid[$name]=$!
    done
    for name in "${hosts[@]}"; do
        wait "${host_pid[$name]}"
        unset "host_pid[$name]"
    done
    ctl h1 groups ring --wait "$count" -W 30 >/dev/null || say "not all $count have joined"
    run_on h1 "$flow" send ring 0 "$bytes" 1000 2>>"$work/flow.log" &
    host_pid[send]=$!
    sleep 3
    lead=$(leader)
    for ((i = 1; i <= repeats; i++)); do
        [[ -n $lead ]] && ! late || break
        read -r rounds sum _ <<<"$(ring_counters "$lead")"
        sleep "$window"
        read -r rounds2 sum2 last <<<"$(ring_counters "$lead")"
        ((rounds2 > rounds)) || continue
        means+=($(((sum2 - sum) / (rounds2 - rounds))))
        per_second+=("$(awk -v n=$((rounds2 - rounds)) -v s="$window" 'BEGIN { printf "%.1f", n / s }')")
        lasts+=("$last")
    done
    kill "${host_pid[send]}" 2>/dev/null
    wait "${host_pid[send]}" 2>/dev/null
    unset 'host_pid[send]'
    figure "token round trip at $count nodes (mean of $window s)" us "${means[@]}"
    figure "token round trip at $count nodes (the last one)" us "${lasts[@]}"
    figure "complete rounds at $count nodes (1000 messages/s)" 1/s "${per_second[@]}"
    [[ ! -s $work/flow.log ]] || cat "$work/flow.log"
    hosts_end
}

# ---- joins

measure_join() {
    local name median p99
    hosts_begin 5
    for name in h1 h2 h3 h4; do
        ctl "$name" join steady
    done
    ctl h1 groups steady --wait 4 -W 20 >/dev/null
    run_on h1 "$flow" send steady 0 "$bytes" 1000 2>>"$work/flow.log" &
    host_pid[send]=$!
    sleep 1
    run_on h5 timeout 60 "$flow" join steady "$joins" >"$work/joins" 2>>"$work/flow.log"
    kill "${host_pid[send]}" 2>/dev/null
    wait "${host_pid[send]}" 2>/dev/null
    unset 'host_pid[send]'
    mapfile -t times < <(sort -n "$work/joins")
    median=- p99=-
    if ((${#times[@]} > 0)); then
        median=$(awk -v t="${times[$((${#times[@]} / 2))]}" 'BEGIN { printf "%.1f", t / 1000 }')
        # The least value that 99 of 100 do not exceed.
        p99=$(awk -v t="${times[$(((${#times[@]} * 99 + 99) / 100 - 1))]}" \
            'BEGIN { printf "%.1f", t / 1000 }')
    fi
    figure "join to view: median of ${#times[@]} (5th member; 1000 messages/s)" ms "$median"
    figure "join to view: p99 of ${#times[@]}" ms "$p99"
    [[ ! -s $work/flow.log ]] || cat "$work/flow.log"
    hosts_end
}

# ---- the rest

measure_idle() {
    local name sizes=()
    hosts_begin 3
    sleep 1
    for name in "${hosts[@]}"; do
        sizes+=("$(awk '$1 == "VmRSS:" { print $2 }' "/proc/${pid[$name]}/status")")
    done
    figure "resident memory of an idle qsmd (3 hosts)" kB "${sizes[@]}"
    hosts_end
}

measure_sim() {
    local speed
    speed=$(timeout 80 "$BUILD/qsmsim" --seeds 100 --jobs "$(nproc)" |
        sed -n 's/.* virtual node-seconds in .*: \([0-9.]*\) per second/\1/p')
    figure "simulated node-seconds per second (100 seeds)" 1/s "${speed:--}"
}

# ---- all of it

busy=$(busy_percent)
say "$("$BUILD/qsmd" --version | head -n 1), $(nproc) processors, load average $(load); others use $busy %"
[[ $sanitized == 0 ]] || say "a build with sanitizers: these are no figures of speed"
[[ ${sections[*]} == peers ]] ||
    printf '%-58s %12s  %-6s %12s %12s %3s\n' figure median unit min max n
for section in "${sections[@]}"; do
    case $section in
    idle) measure_idle ;;
    flow)
        measure_flow 2
        measure_flow 8
        ;;
    calls) late || measure_calls ;;
    token)
        late || measure_token 5
        late || measure_token 64
        ;;
    join) late || measure_join ;;
    sim) late || measure_sim ;;
    peers) measure_peers ;;
    *) say "no such section: $section" ;;
    esac
done
say "load average at the end $(load); $SECONDS s"
if [[ -n ${OUT:-} ]]; then
    {
        say "figure,unit,median,min,max,n,system,wire,receivers,bytes,loss_percent,rate,percent,words"
        cat "$rows"
        say "processors in use by others before,%,$busy,$busy,$busy,1,,,,,,,,"
        load | awk '{ print "load average at the end,," $1 "," $1 "," $1 ",1,,,,,,,," }'
    } >"$OUT"
fi
