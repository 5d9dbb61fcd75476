#!/bin/bash
# trace.sh: real daemons write their trace; the checker that reads the simulator's finds every promise
# kept in it: with loss, joins and leaves, messages of two groups in one packet, a daemon killed and
# one started.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

host_names="h1 h2 h3 h4"

traced() { # file
    echo "debug { trace = \"$work/$1.trace\" }"
}

start() { # host
    qsmd_start "$1" "$(traced "$1")"
}

crash() { # host
    kill_hard "$1"
    trace_crashed "$1"
}

publish() { # host count group…
    local name=$1 count=$2 group
    shift 2
    for group in "$@"; do
        seq -f "$name %.0f" "$count" |
            "$BUILD/qsmctl" -s "$work/$name.sock" pub "$group" -l --wait -W 60 &
        host_pid[pub-$name-$group]=$!
    done
}

published() { # a job of publish
    local status
    wait "${host_pid[pub-$1]}"
    status=$?
    unset "host_pid[pub-$1]"
    return $status
}

packets_with_two_groups() {
    local count
    count=$(awk '$3 == "pack" { split($6, q, "="); key = $4 " " $5 " " $6
        if (key in group && group[key] != $7) both[key] = 1
        group[key] = $7 }
        END { n = 0; for (k in both) n++; print n }' "$work/h1.trace")
    say "$count packets of h1 carry messages of two groups"
    ((count > 0))
}

# What the checker holds against the caps (S12).
queues_are_told() {
    local gauge
    for gauge in store_bytes clients client_granted; do
        grep -q " full name=$gauge value=[1-9][0-9]* max=[1-9]" "$work/h1.trace" || return
    done
}

promises_are_kept() {
    "$BUILD/qsmcheck" "$work"/*.trace
}

cluster_begin
# shellcheck disable=SC2086
host_add $host_names
for name in h2 h3 h4; do
    loss_on "$name" 5
done
cms_start "$(traced cms)"
for name in h1 h2 h3; do
    start "$name"
done
for name in h1 h2 h3; do
    check "trace: $name is admitted" within 10 admitted "$name"
    ctl "$name" join red blue
done
publish h1 20000 red blue
publish h2 3000 red
sleep 0.3
start h4
check "trace: h4 is admitted" within 10 admitted h4
ctl h4 join red
for job in h1-red h1-blue h2-red; do
    check "trace: what $job sent is stable" published "$job"
done
publish h1 20000 red blue
sleep 0.3
crash h3
for job in h1-red h1-blue; do
    check "trace: what $job sent is stable without h3" published "$job"
done
ctl h2 leave blue
publish h4 1000 red
check "trace: what h4 sent is stable" published h4-red
check "trace: one datagram carries messages of two groups" packets_with_two_groups
check "trace: the daemons say how full their queues were" queues_are_told
check "trace: the daemons end well" daemons_end_well
check "trace: the checker finds every promise kept" promises_are_kept
cluster_remove
((failures == 0))
