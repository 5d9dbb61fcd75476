# shellcheck shell=bash
# calls.sh: what a message costs, the section `calls` of figures.sh: system calls, CPU time,
# instructions. By perf, or else strace, which counts system calls only.
# Of lib.sh, words.sh and figures.sh: work, pid, host_pid, repeats, seconds.
# shellcheck disable=SC2154

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
        awk -v n="$count" -v files=$# '
            $NF == "total" { sum += $4; seen++ }
            END { if (seen == files) printf "%.8f\n", sum / n }' "${@/#/$work/meter.}"
    fi
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

# A row for each of them; counted: the runs.
costs_of() { # event unit scale words
    local i j values line
    for ((i = 0; i < ${#costs[@]}; i++)); do
        values=()
        for ((j = 1; j <= ${#counted[@]}; j++)); do
            line=$work/cost.$j.$1.$i
            if [[ -s $line ]]; then
                values+=("$(awk -v k="$3" '{ printf "%.8f", $1 * k }' "$line")")
            else
                values+=(-)
            fi
        done
        figure "$4 per message 1 -> 2 (${costs[$i]#*|})" "$2" "${values[@]}"
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
        rm -f "$work"/meter.*
        meter_daemon h1
        meter_daemon h2
        sleep 0.3 # until they are attached
        rate=$(stream "calls-$j" 2 "$count")
        meters_end h1 h2
        counted+=("${rate:--}")
        [[ -n $rate ]] || continue
        for event in ${events//,/ }; do
            for ((i = 0; i < ${#costs[@]}; i++)); do
                # shellcheck disable=SC2086 # a list of names
                metered_value "$event" "$count" ${costs[$i]%|*} >"$work/cost.$j.$event.$i"
            done
        done
    done
    figure "messages 1 -> 2 while it is counted" 1/s "${counted[@]}"
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
    flow_log
    hosts_end
}
