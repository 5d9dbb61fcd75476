# shellcheck shell=bash
# streams.sh: the sections `flow`, `token`, `join` and `sim` of figures.sh: messages per second and
# the daemons' CPU time for them, token round trips, joins, and how fast the simulator is.
# Of lib.sh, words.sh and figures.sh: hosts, work, host_pid, flow, bytes, repeats, seconds, joins,
# window.
# shellcheck disable=SC2154,SC2004

# ---- messages per second

measure_flow() { # receivers
    local receivers=$1 i rate count rates=() before=() cpu=()
    hosts_begin $((receivers + 1))
    rate=$(stream warm "$receivers" 20000)
    count=$((${rate:-10000} * seconds))
    for ((i = 1; i <= repeats; i++)); do
        ! late || break
        before=("$(cpu_us h1)" "$(cpu_us h2)")
        rate=$(stream "flow-$i" "$receivers" "$count")
        rates+=("${rate:--}")
        if [[ -z $rate ]]; then
            cpu[0]+=" -" cpu[1]+=" -"
            continue
        fi
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
    flow_log
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
        if [[ -z $lead ]] || late; then
            break
        fi
        read -r rounds sum _ <<<"$(ring_counters "$lead")"
        sleep "$window"
        read -r rounds2 sum2 last <<<"$(ring_counters "$lead")"
        if ((rounds2 <= rounds)); then
            means+=(-) per_second+=(-) lasts+=(-)
            continue
        fi
        means+=($(((sum2 - sum) / (rounds2 - rounds))))
        per_second+=("$(awk -v n=$((rounds2 - rounds)) -v s="$window" \
            'BEGIN { printf "%.1f", n / s }')")
        lasts+=("$last")
    done
    kill "${host_pid[send]}" 2>/dev/null
    wait "${host_pid[send]}" 2>/dev/null
    unset 'host_pid[send]'
    figure "token round trip at $count nodes (mean of $window s)" us "${means[@]}"
    figure "token round trip at $count nodes (the last one)" us "${lasts[@]}"
    figure "complete rounds at $count nodes (1000 messages/s)" 1/s "${per_second[@]}"
    flow_log
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
    flow_log
    hosts_end
}

# ---- the simulator

measure_sim() {
    local speed
    speed=$(timeout 80 "$BUILD/qsmsim" --seeds 100 --jobs "$(nproc)" |
        sed -n 's/.* virtual node-seconds in .*: \([0-9.]*\) per second/\1/p')
    figure "simulated node-seconds per second (100 seeds)" 1/s "${speed:--}"
}
