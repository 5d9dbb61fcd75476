#!/bin/bash
# datagrams.sh: every prefix of recorded datagrams, and each of them with each byte changed, are sent
# to the hosts: they count them and go on.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/stream.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL datagrams: namespaces are forbidden here"
    exit 1
fi

bad=$BUILD/tests/system/baddatagrams
lines=40000

bad_count() { # host
    ctl "$1" stats | awk '$1 ~ /^datagrams_|^packets_dropped_unknown|^packets_duplicate|^packets_held/ {
        sum += $2 } END { print sum }'
}

stream_works() { # test
    local name
    stream_receive_all -n "$lines" -W 60
    stream_send --wait -W 60
    check "$1: the sender knows that all is stable" stream_wait pub || cat "$work/pub.out"
    for name in "${receivers[@]}"; do
        check "$1: $name ends when it has all" stream_wait "$name" || cat "$work/$name.end"
        check "$1: $name has every line in order" rest_is_exact "$name"
    done
}

# Numbers go on from the stream before.
rest_is_exact() { # host
    cmp <(cut -d ' ' -f 2- "$work/$1.got") "$work/sent"
}

stream_begin
# The regions stay as they are, so that what was recorded goes to them.
for name in "${receivers[@]}"; do
    ctl "$name" join stream
done
"$bad" record "$work/datagrams" 6 >"$work/record.out" &
host_pid[record]=$!
sleep 0.5
stream_works "datagrams, recorded"
wait "${host_pid[record]}"
unset "host_pid[record]"
cat "$work/record.out"

total() { # name of a function that takes a host
    local name sum=0
    for name in "${receivers[@]}"; do
        sum=$((sum + $("$1" "$name")))
    done
    say "$sum"
}

delivered() { # host
    counter "$1" messages_delivered
}

# What is sent to a region's address reaches two hosts.
before=$(total bad_count)
delivered=$(total delivered)
sent=$("$bad" cut "$work/datagrams")
sleep 1
after=$(total bad_count)
say "$sent prefixes sent, $((after - before)) counted as bad; the firewall drops some"
check "datagrams: prefixes are counted" test $((after - before)) -gt "$sent"
check "datagrams: prefixes deliver nothing" test "$(total delivered)" -eq "$delivered"
stream_works "datagrams, after the prefixes"

# What is changed may look like a datagram that somebody could have sent: with nothing sealed yet,
# all that is promised is that the hosts live.
sent=$("$bad" flip "$work/datagrams")
say "$sent changed datagrams sent"
sleep 1
for name in "${hosts[@]}"; do
    check "datagrams: $name lives, after the changed ones" admitted "$name"
done
cluster_end datagrams
((failures == 0))
