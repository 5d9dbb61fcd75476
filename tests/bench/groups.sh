# shellcheck shell=bash
# groups.sh: the sections `groups` and `idle` of figures.sh: what many groups cost that three hosts
# have all joined. Groups are joined in one request on each host.
#   COUNTS="64 8192"    numbers of groups beside 1; default 64 1024 4096 8192
# Streams from h1 to applications on h2 and h3, which have opened all groups, go to one group after
# the other: as fast as they are taken ("full speed"), and at half the rate that one group takes.
# Each number of groups is compared with one group in the moment before, on the same daemons.
# Of lib.sh, words.sh and figures.sh: hosts, work, pid, host_pid, flow, bytes, repeats.
# shellcheck disable=SC2154,SC2004

IFS=' ' read -r -a groups_counts <<<"${COUNTS:-64 1024 4096 8192}"
groups_seconds=2      # of a stream
groups_quiet=5        # seconds
groups_states=4       # seconds that each group gets a message in
idle_groups=10000
idle_quiet=10         # seconds

# On all those hosts at the same time; fails when one of them could not.
groups_ask() { # join|leave name count host…
    local what=$1 count=$3 host names bad=0
    mapfile -t names < <(seq -f "$2.%.0f" 0 $((count - 1)))
    shift 3
    for host in "$@"; do
        ctl "$host" "$what" "${names[@]}" -W 60 &
        host_pid[ask-$host]=$!
    done
    for host in "$@"; do
        if ! wait "${host_pid[ask-$host]}"; then
            say "$host could not $what $count groups"
            bad=1
        fi
        unset "host_pid[ask-$host]"
    done
    return $bad
}

# ---- quiet daemons

# CPU time of all threads of a daemon, in nanoseconds.
ran_ns() { # host
    awk '{ n += $1 } END { printf "%.0f\n", n }' "/proc/${pid[$1]}/task"/*/schedstat
}

# Rows of daemons to which nothing is sent. The counters' turns are not in the CPU time. When the
# groups are not what they should be (1), what is measured has failed.
quiet_figures() { # seconds words 0|1
    local name tokens=() cpu=() sizes=() before=() sent=()
    sleep 2
    for name in "${hosts[@]}"; do
        sent+=("$(counter "$name" tokens_sent)")
    done
    sleep 0.5
    for name in "${hosts[@]}"; do
        before+=("$(ran_ns "$name")")
    done
    sleep "$1"
    for name in "${hosts[@]}"; do
        cpu+=("$(awk -v a="${before[0]}" -v b="$(ran_ns "$name")" -v s="$1" \
            'BEGIN { printf "%.6f", (b - a) / s / 1e7 }')")
        before=("${before[@]:1}")
    done
    for name in "${hosts[@]}"; do
        tokens+=($(($(counter "$name" tokens_sent) - sent[0])))
        sent=("${sent[@]:1}")
        sizes+=("$(resident "$name")")
    done
    # shellcheck disable=SC2206 # none has a space
    (($3 == 0)) || tokens=(${hosts[@]/*/-}) cpu=(${hosts[@]/*/-}) sizes=(${hosts[@]/*/-})
    figure "tokens that a qsmd sends in $1 s ($2)" 1 "${tokens[@]}"
    figure "CPU of a qsmd ($2)" % "${cpu[@]}"
    figure "resident memory of a qsmd ($2)" kB "${sizes[@]}"
}

resident() { # host
    awk '$1 == "VmRSS:" { print $2 }' "/proc/${pid[$1]}/status"
}

measure_idle() {
    local bad=0
    hosts_begin 3
    quiet_figures "$groups_quiet" "no groups" 0
    groups_ask join idle "$idle_groups" "${hosts[@]}" || bad=1
    quiet_figures "$idle_quiet" "$idle_groups groups" $bad
    hosts_end
}

# ---- streams over groups

# Ends a job that runs until it is killed; fails when it had ended before.
groups_stop() { # job
    local status
    kill "${host_pid[$1]}"
    wait "${host_pid[$1]}" 2>/dev/null
    status=$?
    unset "host_pid[$1]"
    ((status == 143))
}

# Daemons of their own: each group has one sender and two subscribed applications. What groups cost
# is what is there more than before: their state while a little is sent, the rest once nothing is.
groups_quiet_figures() { # count
    local name values=() before=() bad=0
    hosts_begin 3
    for name in "${hosts[@]}"; do
        before+=("$(counter "$name" group_state_bytes)")
    done
    groups_ask join all "$1" h1 || bad=1
    subscribers_note h2 h3
    for name in h2 h3; do
        QSM_SOCKET=$work/$name.sock "$flow" watch "all:$1" >/dev/null 2>&1 &
        host_pid[watch-$name]=$!
    done
    if ! subscribers_wait "$1" h2 h3; then
        say "not all have subscribed to $1 groups"
        bad=1
    fi
    # A message a second to each group, of an application that is still there.
    QSM_SOCKET=$work/h1.sock "$flow" send "all:$1" 0 "$bytes" "$1" 2>>"$work/flow.log" &
    host_pid[send-h1]=$!
    sleep "$groups_states"
    for name in "${hosts[@]}"; do
        values+=("$((($(counter "$name" group_state_bytes) - before[0]) / $1))")
        before=("${before[@]:1}")
    done
    groups_stop send-h1 || bad=1
    quiet_figures "$groups_quiet" "$1 groups" $bad
    groups_stop watch-h2 || bad=1
    groups_stop watch-h3 || bad=1
    # shellcheck disable=SC2206 # none has a space
    ((bad == 0)) || values=(${hosts[@]/*/-})
    # Of a few the rest shows more.
    (($1 < 1000)) ||
        figure "memory of a group's state in a qsmd ($1 groups)" B "${values[@]}"
    flow_log
    hosts_end
}

# Leaves in at_full and at_half the rate of the slower receiver, or nothing.
groups_once() { # count
    local half=$((groups_rate / 2))
    at_full='' at_half=''
    if groups_ask join part "$1" "${hosts[@]}"; then
        at_full=$(stream "part:$1" 2 $((groups_rate * groups_seconds)))
        at_half=$(stream "part:$1" 2 $((half * groups_seconds)) "$half")
    fi
    groups_ask leave part "$1" "${hosts[@]}"
}

measure_groups() {
    local i n one_full one_half at_full at_half groups_rate sizes
    local -A full=() half=() of_full=() of_half=()
    hosts_begin 3
    groups_rate=$(stream warm:1 2 20000)
    groups_rate=$(stream warm:1 2 $((${groups_rate:-10000} * groups_seconds)))
    groups_rate=${groups_rate:-10000}
    for ((i = 1; i <= repeats; i++)); do
        for n in "${groups_counts[@]}"; do
            ! late || break 2
            groups_once 1
            one_full=$at_full one_half=$at_half
            full[1]+=" ${at_full:--}" half[1]+=" ${at_half:--}"
            groups_once "$n"
            full[$n]+=" ${at_full:--}" half[$n]+=" ${at_half:--}"
            of_full[$n]+=" $(percent_of "$at_full" "$one_full")"
            of_half[$n]+=" $(percent_of "$at_half" "$one_half")"
        done
    done
    # shellcheck disable=SC2086 # lists of values
    for n in 1 "${groups_counts[@]}"; do
        figure "messages 1 -> 2 ($n groups; full speed)" 1/s ${full[$n]:-}
        figure "messages 1 -> 2 ($n groups; half speed)" 1/s ${half[$n]:-}
        ((n > 1)) || continue
        figure "$n groups against 1 (full speed)" % ${of_full[$n]:-}
        figure "$n groups against 1 (half speed)" % ${of_half[$n]:-}
    done
    sizes=("$(resident h1)" "$(resident h2)" "$(resident h3)")
    [[ "${full[*]}${half[*]}" != *-* ]] || sizes=(- - -) # not after all of them
    figure "resident memory of a qsmd (after all of them)" kB "${sizes[@]}"
    flow_log
    hosts_end
    for n in 1 "${groups_counts[@]}"; do
        late || groups_quiet_figures "$n"
    done
}
