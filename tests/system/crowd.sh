#!/bin/bash
# crowd.sh: 64 daemons started within a second on one bridge share one epoch and one view within 10
# seconds, and a message of each reaches all.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL crowd: namespaces are forbidden here"
    exit 1
fi

count=${HOSTS:-64}
limit=${LIMIT:-10}

all_run() {
    [[ $(for name in "${hosts[@]}"; do cat "/proc/${pid[$name]}/comm"; done | grep -c '^qsmd$') -eq $count ]]
}

# All wait at a pipe that nobody has opened to write, and go when somebody does.
start_all() {
    local name from
    mkfifo "$work/go"
    for name in "${hosts[@]}"; do
        qsmd_configure "$name"
        nsenter --net="$work/ns/$name" sh -c '
            exec 3<"$1"
            exec 3<&- "$2" -c "$3"
        ' sh "$work/go" "$BUILD/qsmd" "$work/$name.conf" 2>>"$work/$name.log" &
        pid[$name]=$!
    done
    sleep 1
    from=$(date +%s%3N)
    began=$from
    : >"$work/go"
    within 10 all_run
    took_ms=$(($(date +%s%3N) - from))
}

subscribe() { # host
    within 20 test -S "$work/$1.sock" || return
    exec "$BUILD/qsmctl" -s "$work/$1.sock" sub all -n "$count" -W 120 -F '%s %i %p\n'
}

# Every host sees the same epoch and all the members.
one_view() {
    local name epochs
    epochs=$(for name in "${hosts[@]}"; do
        ctl "$name" groups all | awk '$1 == "all" { print $3, $4 }'
    done | sort | uniq -c)
    [[ $epochs =~ ^\ *$count\ [0-9]+\ $count$ ]] || {
        say "times, epoch, members: $epochs"
        return 1
    }
}

hear_each_other() {
    local name want
    want=$(for name in "${hosts[@]}"; do say "$name 1 hello from $name"; done | sort)
    for name in "${hosts[@]}"; do
        wait "${host_pid[$name]}" || {
            say "$name: sub ended with $?: $(cat "$work/$name.end")"
            return 1
        }
        unset "host_pid[$name]"
        [[ $(sort "$work/$name.got") == "$want" ]] || {
            say "$name got:"
            diff <(sort "$work/$name.got") <(say "$want") | head
            return 1
        }
    done
}

cluster_begin
for ((i = 1; i <= count; i++)); do
    host_add "n$i"
done
cms_start
took_ms=0
began=0
start_all
check "$count daemons are started within 1 s ($took_ms ms)" test "$took_ms" -le 1000
for name in "${hosts[@]}"; do
    subscribe "$name" >"$work/$name.got" 2>"$work/$name.end" &
    host_pid[$name]=$!
done
check "they share one view" within 60 ctl n1 groups all --wait "$count" -W 60 >"$work/wait.out"
took_ms=$(($(date +%s%3N) - began))
check "within $limit s ($took_ms ms)" test "$took_ms" -le $((limit * 1000))
check "all see the same epoch" within 5 one_view
for name in "${hosts[@]}"; do
    ctl "$name" pub all "hello from $name" || say "$name: pub ended with $?"
done
check "a message of each reaches all" hear_each_other
cluster_end crowd
((failures == 0))
