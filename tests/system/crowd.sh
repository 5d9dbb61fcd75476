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
limit=${LIMIT:-$((sanitized ? 40 : 10))}

# All wait at a pipe that nobody has opened to write, and go when somebody does.
start_all() {
    local name
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
    began=$(date +%s%3N)
    : >"$work/go"
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
began=0
start_all
for name in "${hosts[@]}"; do
    within 20 test -S "$work/$name.sock"
    "$BUILD/qsmctl" -s "$work/$name.sock" sub all -n "$count" -W 120 -F '%s %i %p\n' \
        >"$work/$name.got" 2>"$work/$name.end" &
    host_pid[$name]=$!
done
check "$count daemons started at once share one view" \
    eval 'ctl n1 groups all --wait "$count" -W 60 >"$work/wait.out"'
took_ms=$(($(date +%s%3N) - began))
check "within $limit s ($took_ms ms)" test "$took_ms" -le $((limit * 1000))
check "all see the same epoch" within 5 one_view
# All at once: their opens to send are one view change.
for name in "${hosts[@]}"; do
    "$BUILD/qsmctl" -s "$work/$name.sock" pub all "hello from $name" &
    host_pid[pub-$name]=$!
done
for name in "${hosts[@]}"; do
    wait "${host_pid[pub-$name]}" || say "$name: pub ended with $?"
    unset "host_pid[pub-$name]"
done
check "a message of each reaches all" hear_each_other
cluster_end crowd
((failures == 0))
