#!/bin/bash
# faults.sh: the stream of the demo with faults that strike in the middle of it: a receiver's daemon
# killed and started again, the sender's daemon killed, the CMS stopped, killed and started again.
#   LINES_SENT=n   default 1,000,000
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/stream.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL faults: namespaces are forbidden here"
    exit 1
fi

# Waits for the middle of the stream at a receiver, and asserts that it is still there afterwards.
strike() { # test host command…
    local name=$1 host=$2 struck_at done_at
    shift 2
    within 120 received_at_least "$host" $((lines * 3 / 10)) || say "$name: the stream does not come"
    struck_at=$(received "$host")
    "$@"
    done_at=$(received "$host")
    check "$name: it struck between 30 % and 70 % of the stream ($struck_at to $done_at)" \
        eval "in_the_middle $struck_at && in_the_middle $done_at"
}

# For the log of a failed test.
look() { # host…
    local host
    say "== cms"
    tail -n 20 "$work/cms.log"
    for host in "$@"; do
        say "== $host printed $(received "$host")"
        cat "$work/$host.end"
        ctl "$host" status
        ctl "$host" groups
        ctl "$host" regions
        ctl "$host" stats | awk '$2 > 0'
        cat "$work/$host.log"
    done
}

finish_streams() { # test host…
    local name=$1 host
    shift
    check "$name: the sender knows that all is stable" stream_wait pub || cat "$work/pub.out"
    for host in "$@"; do
        check "$name: $host ends when it has all" stream_wait "$host" || look "$host"
        check "$name: $host has every line in order" got_all "$host"
    done
}

# ---- a receiver

# A prefix from 1, then a run from the point where it joined again.
prefix_and_run() { # host
    local file=$work/$1.got break
    break=$(awk '{ if ($1 != last + 1) { print NR; exit } last = $1 }' "$file")
    if [[ -z $break ]]; then
        say "there is no break"
        return 1
    fi
    head -n $((break - 1)) "$file" >"$file.1"
    tail -n "+$break" "$file" >"$file.2"
    say "prefix of $((break - 1)), then from $(head -n 1 "$file.2" | cut -d ' ' -f 1)"
    run_is_exact "$file.1" 1 && run_is_exact "$file.2" "$(head -n 1 "$file.2" | cut -d ' ' -f 1)"
}

reached_the_end() { # host
    (($(received "$1") == lines))
}

restart_h3() {
    kill_hard h3
    qsmd_start h3
}

a_receiver_dies_and_comes_back() {
    local name="receiver killed" node
    stream_begin
    stream_receive h2 -n "$lines" -W 300
    stream_receive h4 -n "$lines" -W 300
    stream_receive h5 -n "$lines" -W 300
    stream_receive h3 --rejoin -W 300
    ctl h1 groups stream --wait 4 -W 20 >/dev/null
    node=$(fact h3 node_id)
    stream_send_slowly 10
    strike "$name" h3 restart_h3
    finish_streams "$name" h2 h4 h5
    check "$name: h3 gets the last message, too" within 20 reached_the_end h3
    check "$name: its client ends cleanly" stream_stop h3
    check "$name: its client saw one typed end" \
        test "$(grep -c 'stream: end: disconnected' "$work/h3.end")" -eq 1
    check "$name: the end told the last number" grep -q 'last of h1 (node [0-9]*): [0-9]' "$work/h3.end"
    check "$name: an exact prefix, then an exact run" prefix_and_run h3
    check "$name: h3 is a new node" test "$(fact h3 node_id)" -gt "$node"
    cluster_end "$name"
}

# ---- the sender

views_have_gone_on() {
    ctl h2 groups stream | awk '$1 == "stream" { exit !($3 > 0) }'
}

settled() {
    local before after host
    before=$(for host in "${receivers[@]}"; do received "$host"; done)
    sleep 1
    after=$(for host in "${receivers[@]}"; do received "$host"; done)
    [[ $before == "$after" && $(sort -u <<<"$after" | wc -l) -eq 1 ]]
}

survivors_agree() { # test least
    local name=$1 host counts
    check "$name: all survivors come to the same count" within 20 settled || look "${receivers[@]}"
    for host in "${receivers[@]}"; do
        check "$name: $host's client ends cleanly" stream_stop "$host" || cat "$work/$host.end"
        check "$name: $host has an exact prefix" run_is_exact "$work/$host.got" 1
    done
    counts=$(for host in "${receivers[@]}"; do wc -l <"$work/$host.got"; done | sort -u)
    check "$name: the prefixes are the same, in both regions ($(tr '\n' ' ' <<<"$counts"))" \
        test "$(wc -l <<<"$counts")" -eq 1
    check "$name: nothing is lost that a survivor had ($2)" test "$(head -n 1 <<<"$counts")" -ge "$2"
    stream_wait pub
    check "$name: the publisher is told that its daemon is gone" test $? -eq 3
}

the_sender_dies() {
    local name="sender killed"
    stream_begin
    stream_receive_all -W 300
    stream_send --wait
    strike "$name" h2 kill_hard h1
    survivors_agree "$name" $((lines * 3 / 10))
    cluster_end "$name"
}

only_h2_hears() {
    local host
    for host in h3 h4 h5; do
        block "$host" h1
    done
    sleep 0.1
    kill_hard h1
    ahead=$(received h2)
    behind=$(received h4)
}

the_sender_dies_when_only_one_hears_it() {
    local name="sender killed, heard by one" ahead=0 behind=0
    local lines=$((4 * lines)) # it sends as fast as it can while the walls go up
    stream_begin
    stream_receive_all -W 300
    stream_send --wait
    strike "$name" h2 only_h2_hears
    say "at its death h2 had printed $ahead, h4 $behind"
    survivors_agree "$name" "$ahead"
    cluster_end "$name"
}

# ---- the CMS

nodes() {
    local host
    for host in "${hosts[@]}"; do
        say "$host $(fact "$host" node_id) $(fact "$host" epoch)"
    done
}

nodes_are_as_before() { # test nodes
    check "$1: epoch and node ids are as before" test "$(nodes)" = "$2" || diff <(echo "$2") <(nodes)
}

stop_cms_for_10_seconds() {
    local from=$SECONDS
    before=$(nodes)
    kill -STOP "${pid[cms]}"
    while ((SECONDS - from < 10)); do
        sleep 0.5
        ((at_stop)) || at_stop=$(received h5)
        at_end=$(received h5)
    done
    kill -CONT "${pid[cms]}"
}

kill_cms() {
    before=$(nodes)
    kill_hard cms
    sleep 1
    at_stop=$(received h5)
    sleep 1
    at_end=$(received h5)
    cms_start
}

the_cms_is_away() { # test seconds-of-stream command
    local name=$1 before=- at_stop=0 at_end=0 host
    stream_begin
    stream_receive_all -W 300
    stream_send_slowly "$2"
    strike "$name" h5 "$3"
    check "$name: data flowed meanwhile ($at_stop to $at_end)" test "$at_end" -gt "$at_stop"
    check "$name: the sender knows that all is stable" stream_wait pub || cat "$work/pub.out"
    for host in "${receivers[@]}"; do
        check "$name: $host has every line in order" within 10 got_all "$host"
    done
    sleep 3
    nodes_are_as_before "$name" "$before"
    for host in "${receivers[@]}"; do
        check "$name: $host's client ends cleanly" stream_stop "$host" || cat "$work/$host.end"
    done
    check "$name: a join works again" ctl h2 join after
    cluster_end "$name"
}

# The daemons have tried for long before there is a CMS, and it wakes when they have just given it up.
the_cms_wakes_when_it_is_given_up() {
    local name="CMS given up" host before
    cluster_begin
    host_add h1 h2 h3
    for host in "${hosts[@]}"; do
        qsmd_start "$host"
    done
    sleep 2
    cms_start
    for host in "${hosts[@]}"; do
        check "$name: $host is admitted" within 10 admitted "$host"
        ctl "$host" join stream
    done
    before=$(nodes)
    kill -STOP "${pid[cms]}"
    for host in "${hosts[@]}"; do
        check "$name: $host gives the CMS up" within 10 grep -q 'it does not answer' "$work/$host.log"
    done
    kill -CONT "${pid[cms]}"
    sleep 6 # who is not back by then is expelled
    nodes_are_as_before "$name" "$before"
    check "$name: a join works again" ctl h2 join after
    cluster_end "$name"
}

tests=${*:-receiver sender one_hears cms_stopped cms_killed cms_given_up}
for test in $tests; do
    case $test in
    receiver) a_receiver_dies_and_comes_back ;;
    sender) the_sender_dies ;;
    one_hears) the_sender_dies_when_only_one_hears_it ;;
    cms_stopped) the_cms_is_away "CMS stopped for 10 s" 27 stop_cms_for_10_seconds ;;
    cms_killed) the_cms_is_away "CMS killed" 8 kill_cms ;;
    cms_given_up) the_cms_wakes_when_it_is_given_up ;;
    *) say "FAIL no such test: $test" ;;
    esac
done
((failures == 0))
