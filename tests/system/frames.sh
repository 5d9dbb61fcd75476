#!/bin/bash
# frames.sh: clients that die in mid-frame and clients that send nonsense get an error that says what
# and where, and cost only themselves.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

bad=$BUILD/tests/system/badframes

# Records what a command of qsmctl says to the daemon.
record() { # name argument…
    local name=$1
    shift
    "$bad" tap "$work/tap.sock" "$work/h1.sock" "$work/$name.frames" &
    host_pid[tap]=$!
    within 5 test -S "$work/tap.sock"
    "$BUILD/qsmctl" -s "$work/tap.sock" "$@" >/dev/null 2>&1
    wait "${host_pid[tap]}"
    unset "host_pid[tap]"
}

# A sender that is killed while it sends: the receiver gets an exact prefix of what it said, in whole
# messages.
sender_dies() {
    local count
    ctl h2 groups lines --wait 1 -W 10 >/dev/null
    yes 'a line that is as long as lines are' | head -n 3000000 | awk '{ print NR, $0 }' |
        "$BUILD/qsmctl" -s "$work/h1.sock" pub lines -l 2>/dev/null &
    host_pid[pub]=$!
    within 20 eval '[[ $(wc -l <"$work/lines.got") -ge 50000 ]]'
    kill -9 "${host_pid[pub]}"
    wait "${host_pid[pub]}" 2>/dev/null
    unset "host_pid[pub]"
    ctl h1 pub lines last --wait -W 20
    within 20 eval '[[ $(tail -n 1 "$work/lines.got") == last ]]' || return
    count=$(($(wc -l <"$work/lines.got") - 1))
    say "$count lines before it died"
    ((count < 3000000)) || say "it was too fast"
    cmp <(head -n "$count" "$work/lines.got") \
        <(yes 'a line that is as long as lines are' | head -n "$count" | awk '{ print NR, $0 }')
}

cluster_begin
host_add h1 h2
cms_start
# The client that receives is in competition for the processors and must not be too slow here.
qsmd_start_all "client { queue_bytes = 268435456 queue_messages = 8000000 queue_age_ms = 60000 }"
"$BUILD/qsmctl" -s "$work/h2.sock" sub lines >"$work/lines.got" 2>"$work/lines.end" &
host_pid[sub]=$!
check "frames: a sender killed in mid-stream leaves whole messages, and its daemon goes on" sender_dies
kill -TERM "${host_pid[sub]}"
check "frames: the receiver's subscription never ended" wait "${host_pid[sub]}"
unset "host_pid[sub]"

record pub pub some-group a bb ''
record sub sub some-group -W 0.3
record join join x yy
record leave leave x yy
record ask groups
check "frames: every prefix and every changed byte" "$bad" damage "$work/h1.sock" "$work"/*.frames
"$bad" say "$work/h1.sock" || failures=$((failures + 1))
check "frames: the daemon still answers" admitted h1
check "frames: it counted them" test "$(counter h1 client_errors)" -gt 0
check "frames: nobody is left behind" within 5 eval '[[ $(fact h1 clients) == 1 ]]'
cluster_end frames
((failures == 0))
