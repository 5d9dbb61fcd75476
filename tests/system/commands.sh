#!/bin/bash
# commands.sh: qsmctl as its man page has it: what goes in, what comes out, exit codes.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

ends() { # code command…
    local code=$1 status
    shift
    "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
    status=$?
    ((status == code)) && return
    say "exit code $status, expected $code"
    cat "$work/stderr"
    return 1
}

said() { # pattern: on standard error, by the command before
    grep -q -- "$1" "$work/stderr" || { cat "$work/stderr"; return 1; }
}

subscribed_more_than() { # count
    (($(counter h1 subscriptions_begun) > $1))
}

# What sub prints of what is sent from now on: it has joined when this returns.
hear() { # file argument…
    local file=$1 begun
    shift
    begun=$(counter h1 subscriptions_begun)
    "$BUILD/qsmctl" -s "$work/h1.sock" "$@" >"$file" 2>"$file.err" &
    host_pid[sub]=$!
    within 20 subscribed_more_than "$begun" || say "no subscription begins: $*"
}

heard() {
    local status
    within 60 gone "${host_pid[sub]}" || kill -9 "${host_pid[sub]}"
    wait "${host_pid[sub]}"
    status=$?
    unset "host_pid[sub]"
    return $status
}

holds() { # file text
    printf '%b' "$2" | cmp - "$1"
}

usage_errors() {
    check "commands: no command is wrong usage" ends 2 ctl h1
    check "commands: an unknown command is wrong usage" ends 2 ctl h1 frobnicate
    check "commands: pub without a group is wrong usage" ends 2 ctl h1 pub
    check "commands: -l and -f exclude each other" ends 2 ctl h1 pub g -l -f x
    check "commands: -n 0 is wrong usage" ends 2 ctl h1 sub g -n 0
    check "commands: -W soon is wrong usage" ends 2 ctl h1 sub g -W soon
    check "commands: -F %q is wrong usage" ends 2 ctl h1 sub g -F %q
    check "commands: --wait without a group is wrong usage" ends 2 ctl h1 groups --wait 3
    check "commands: a bad group name is an error" ends 1 ctl h1 sub 'a b'
    check "commands: a file that is not there is an error" ends 1 ctl h1 pub g -f "$work/none"
    check "commands: --help and --version work without a daemon" \
        eval 'ends 0 "$BUILD/qsmctl" --help && ends 0 "$BUILD/qsmctl" --version'
    check "commands: without a daemon the code is 3" ends 3 "$BUILD/qsmctl" -s "$work/none" status
    check "commands: QSM_SOCKET names the socket" ends 0 env QSM_SOCKET="$work/h1.sock" \
        "$BUILD/qsmctl" status
}

without_cms() {
    check "commands: status says that no CMS has admitted the host" within 5 ends 4 ctl h1 status
    check "commands: and the host's name all the same" test "$(fact h1 host)" = h1
    check "commands: so does join" ends 4 ctl h1 join g -W 0.5
    check "commands: and sub" ends 4 ctl h1 sub g -W 0.5
    check "commands: and says it in words" said 'no CMS has admitted this host'
}

in_and_out() {
    hear "$work/got" sub in -n 5
    printf 'one\n\n three \nlast' | ctl h1 pub in -l --wait
    ctl h1 pub in "by argument"
    check "commands: sub -n ends after so many" heard
    check "commands: -l takes lines, empty ones and a last one without newline" \
        holds "$work/got" 'one\n\n three \nlast\nby argument\n'

    hear "$work/got" sub in -n 2 -F '%g|%s|%p|%x|%%|\t|\\|\n'
    ctl h1 pub in 'A b' ''
    check "commands: sub -F" heard
    check "commands: FORMAT is kept to" \
        holds "$work/got" 'in|h1|A b|412062|%|\t|\\|\nin|h1|||%|\t|\\|\n'

    hear "$work/got" sub in -n 1 -F '%p'
    head -c 300000 /dev/urandom >"$work/file"
    ctl h1 pub in -f "$work/file"
    check "commands: a file is one message" heard
    check "commands: byte for byte" cmp "$work/file" "$work/got"

    hear "$work/got" sub in -n 1 -F '%p'
    head -c 16777216 /dev/zero >"$work/file"
    check "commands: 16 MiB pass" ends 0 ctl h1 pub in -f "$work/file" -W 60
    check "commands: 16 MiB arrive" heard
    check "commands: 16 MiB are whole" cmp "$work/file" "$work/got"
    echo >>"$work/file"
    check "commands: a byte more is an error" ends 1 ctl h1 pub in -f "$work/file"

    hear "$work/got" --json sub in -n 2
    printf '"x"\n\377\n' | ctl h1 pub in -l
    check "commands: --json sub" heard
    check "commands: a payload that is not UTF-8 is hexadecimal" \
        eval 'grep -q "\"payload\":\"\\\\\"x\\\\\"\",\"hex\":null" "$work/got" &&
            grep -q "\"payload\":null,\"hex\":\"ff\"" "$work/got"'
}

# A reader that sleeps: stopped, so that its socket fills.
latest() {
    local count=300000 total
    hear "$work/got" sub in --policy latest
    kill -STOP "${host_pid[sub]}"
    seq -f 'message number %.0f' $count | ctl h1 pub in -l --wait -W 60
    kill -CONT "${host_pid[sub]}"
    check "commands: --policy latest prints the last message" within 10 \
        eval 'tail -n 1 "$work/got" | grep -qx "message number '$count'"'
    check "commands: and says what was dropped" \
        grep -q '^qsmctl: in: dropped [1-9][0-9]* messages' "$work/got.err"
    total=$(awk -v n="$(wc -l <"$work/got")" '/dropped/ { n += $4 } END { print n }' "$work/got.err")
    check "commands: what was printed and what was dropped is all" test "$total" -eq $count
    check "commands: what was printed is in order" eval 'sort -c -n -k 3 "$work/got"'
    kill -INT "${host_pid[sub]}"
    check "commands: the subscription went on" heard
    check "commands: --policy stop is wrong usage" ends 2 ctl h1 sub in --policy stop
}

without_input() {
    "$@" <&-
}

without_output() {
    "$@" >&-
}

to_full_disk() {
    "$@" >/dev/full
}

closed_descriptors() {
    local begun
    check "commands: a closed standard input is an error" ends 1 without_input ctl h1 pub in -l -W 10
    check "commands: a closed standard output is one" ends 1 without_output ctl h1 status
    begun=$(counter h1 subscriptions_begun)
    "$BUILD/qsmctl" -s "$work/h1.sock" sub in -n 1 <&- >&- 2>"$work/got.err" &
    host_pid[sub]=$!
    within 20 subscribed_more_than "$begun"
    ctl h1 pub in nowhere
    check "commands: sub ends with an error where it can't print" eval '! heard'
    check "commands: and says why" grep -q 'standard output: Bad file descriptor' "$work/got.err"
    check "commands: a configuration dumped to a full disk is an error" \
        ends 1 to_full_disk "$BUILD/qsmd" -c "$work/h1.conf" --dump-config
}

time_and_ends() {
    check "commands: -W ends sub with 27" ends 27 ctl h1 sub quiet -W 0.3
    check "commands: -W ends groups --wait with 27" ends 27 ctl h1 groups quiet --wait 7 -W 0.3
    check "commands: pub to nobody is stable at once" ends 0 ctl h1 pub nobody x --wait -W 5
    hear "$work/got" sub in
    kill -INT "${host_pid[sub]}"
    check "commands: SIGINT ends sub with 0" heard
    check "commands: join and leave" eval 'ends 0 ctl h1 join held more && ends 0 ctl h1 leave more'
    check "commands: groups shows what is held" eval \
        'ctl h1 groups held | grep -q "^held .* yes .*h1$"'
    check "commands: JSON has lists" eval '[[ $("$BUILD/qsmctl" -s "$work/h1.sock" --json groups |
        tr -d " \n") == *"{\"groups\":[{"*"\"members\":[{\"node\":"*"\"host\":\"h1\"}]"* ]]'
    hear "$work/got" sub in
    kill -TERM "${pid[h1]}"
    check "commands: when the daemon stops, sub ends with 1" eval '! heard'
    check "commands: and names the type" grep -q 'in: end: shutdown' "$work/got.err"
    wait "${pid[h1]}"
    check "commands: the daemon stops well" test $? -eq 0
    unset "pid[h1]"
}

# A row of the histograms: something was timed, and what it says of it is in order.
timed() { # host name
    ctl "$1" stats | awk -v name="$2" '$1 == name {
        good = NF == 6 && $2 > 0 && $3 <= $4 && $4 <= $5 && $5 <= $6 && $6 < 60000000
        if (!good)
            print
    }
    END { exit !good }'
}

# Each line of stats --watch is a whole; between the last two nothing was sent.
watched() { # file
    local last
    last=$(grep -c '^{"counters":\[.*\],"histograms":\[.*"buckets":\[.*\]}\]}$' "$1")
    ((last >= 3 && last == $(wc -l <"$1"))) || return
    tail -n 1 "$1" | grep -q '"name":"send_to_stable_us","count":[1-9][0-9]*,"sum":[0-9]*,"p50":null,'
}

times() {
    local name
    for name in h3 h4; do
        qsmd_start $name
        within 10 admitted $name
        ctl $name join timed
    done
    ctl h1 groups timed --wait 2 -W 20 >/dev/null
    for name in 1 2 3; do
        seq 1000 | ctl h1 pub timed -l --wait -W 20
    done
    for name in loop_turn_us send_to_deliver_us send_to_stable_us; do
        check "commands: stats has $name of a sender" timed h1 $name
    done
    check "commands: token_hop_us of a member" timed h3 token_hop_us
    check "commands: and token_round_trip_us of its leader" \
        eval 'timed h3 token_round_trip_us || timed h4 token_round_trip_us'
    check "commands: JSON has counters and histograms" eval '[[ $(ctl h1 --json stats |
        tr -d " \n") == "{\"counters\":[{\"name\":\"messages_sent\",\"value\":"*"],\"histograms\":[{"*"\"buckets\":[{\"up_to\":"*",\"count\":"*"}]}]}" ]]'
    timeout -s INT 2 "$BUILD/qsmctl" -s "$work/h1.sock" --json stats --watch 0.3 >"$work/watched"
    check "commands: --watch has the percentiles of what came since" watched "$work/watched"
}

cms_fact() { # pattern
    ctl h2 status | grep -q "^cms .*$1"
}

# Two clients of h2, and one more is refused. A connection that has just ended may be counted still,
# and have one of the two refused: that one comes again.
a_third_is_refused() {
    local i
    for i in 1 2; do
        [[ -z ${host_pid[sub$i]:-} ]] || ! kill -0 "${host_pid[sub$i]}" 2>/dev/null || continue
        "$BUILD/qsmctl" -s "$work/h2.sock" sub g 2>/dev/null &
        host_pid[sub$i]=$!
    done
    ends 3 ctl h2 status
}

# A host that has another cluster in its configuration by mistake.
refusal() {
    qsmd_start h2 'cluster = "elsewhere"' 'client { connections_per_uid = 2 }'
    check "commands: status says why the CMS refuses the host" \
        within 10 cms_fact 'refuses this host .*: the node belongs to another cluster'
    check "commands: so does the log" grep -q 'ended: the node belongs to another cluster' "$work/h2.log"
    check "commands: and that of the CMS" grep -q 'closed: the node belongs to another cluster' "$work/cms.log"
    check "commands: a connection too many is refused" within 10 a_third_is_refused
    check "commands: and the limit is named" said 'connections_per_uid'
    kill "${host_pid[sub1]}" "${host_pid[sub2]}"
    wait "${host_pid[sub1]}" "${host_pid[sub2]}"
    unset "host_pid[sub1]" "host_pid[sub2]"
}

cluster_begin
host_add h1 h2 h3 h4
qsmd_start h1 'client { queue_bytes = 16777216 }' # holds a message of 16 MiB, not what latest() sends
within 10 test -S "$work/h1.sock"
without_cms
cms_start
check "commands: the host is admitted when a CMS comes" within 10 admitted h1
usage_errors
in_and_out
latest
refusal
times
closed_descriptors
time_and_ends
cluster_end commands
((failures == 0))
