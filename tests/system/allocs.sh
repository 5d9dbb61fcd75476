#!/bin/bash
# allocs.sh: once a stream runs, nothing on the path of its messages is allocated: calls of malloc,
# calloc and realloc in the sending and in a receiving daemon while a million messages pass.
#   MESSAGES=1000000 BYTES=1000 ALLOWED=1000 tests/system/allocs.sh
# One application stops now and then, so that what waits for it grows and shrinks. What goes on
# meanwhile may take ALLOWED: pings of the CMS, requests for repairs when there is loss, more memory
# when more waits than of late.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

messages=${MESSAGES:-1000000} bytes=${BYTES:-1000} allowed=${ALLOWED:-1000}
flow=$BUILD/tests/bench/flow

# The daemon counts in a file.
qsmd_counted() { # host [line of configuration…]
    local name=$1
    qsmd_configure "$@"
    ALLOCS=$work/$name.allocs LD_PRELOAD=$BUILD/tests/system/preload/allocs.so \
        nsenter --net="$work/ns/$name" "$BUILD/qsmd" -c "$work/$name.conf" 2>>"$work/$name.log" &
    pid[$name]=$!
}

allocs() { # host
    local n
    n=$(od -An -tu8 "$work/$1.allocs")
    echo "${n// /}"
}

counter() { # host name
    ctl "$1" stats | awk -v name="$2" '$1 == name { print $2 }'
}

# The application of h2 does not read for some time.
pause() { # seconds
    kill -STOP "${host_pid[recv.h2]}"
    sleep "$1"
    kill -CONT "${host_pid[recv.h2]}"
}

# Until a million messages pass without allocations: now and then there are some, when more
# waits or is kept for repairs than of late. A look at the counters allocates, too: there is none
# while it is counted.
a_million_pass() {
    local name before after sent more seconds=2 end=$((SECONDS + 90)) i
    within 20 eval '(($(counter h1 messages_sent) > 200000))' || return
    while :; do
        before=() after=()
        sent=$(counter h1 messages_sent)
        for name in h1 h2; do before+=("$(allocs "$name")"); done
        for ((i = 0; i < seconds * 2; i++)); do # the stream is to run
            sleep 0.3
            pause 0.2
        done
        for name in h1 h2; do after+=("$(allocs "$name")"); done
        more=$(($(counter h1 messages_sent) - sent))
        say "$more messages of $bytes bytes: $((after[0] - before[0])) allocations in the sending" \
            "daemon, $((after[1] - before[1])) in a receiving one"
        # A machine that is busy with other things may take longer than we wait.
        ((more >= messages || seconds >= 16 && more >= messages / 10)) &&
            ((after[0] - before[0] <= allowed && after[1] - before[1] <= allowed)) && return
        ((SECONDS + seconds < end)) || return
        ((more >= messages)) || ((seconds < 16 && (seconds *= 2)))
    done
}

if ((sanitized)); then
    say "FAIL allocs: sanitizers bring their own malloc"
    exit 1
fi
cluster_begin
host_add h1 h2 h3
cms_start
for name in "${hosts[@]}"; do
    qsmd_counted "$name" "client { queue_bytes = 268435456 queue_messages = 8000000 queue_age_ms = 60000 }"
done
for name in "${hosts[@]}"; do
    within 10 admitted "$name" || say "$name was not admitted"
done
for name in h2 h3; do
    QSM_SOCKET=$work/$name.sock "$flow" recv stream 1000000000 >/dev/null &
    host_pid[recv.$name]=$!
done
ctl h1 groups stream --wait 2 -W 20 >/dev/null
QSM_SOCKET=$work/h1.sock "$flow" send stream 1000000000 "$bytes" &
host_pid[send]=$!
check "allocs: a stream allocates nothing once it runs" a_million_pass
for name in send recv.h2 recv.h3; do
    kill "${host_pid[$name]}"
    wait "${host_pid[$name]}" 2>/dev/null
    unset "host_pid[$name]"
done
cluster_end allocs
