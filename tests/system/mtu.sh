#!/bin/bash
# mtu.sh: the interface's MTU falls while a stream runs, and rises again: datagrams that are larger
# than it go out in fragments, nothing is lost, and the log says so once.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

mtu() { # host bytes
    in_host "$1" ip link set dev eth0 mtu "$2"
}

publish() { # count
    seq -f "%0100.0f" "$1" | ctl h1 pub g -l --wait -W 30
}

logged() { # times words
    [[ $(grep -c "$2" "$work/h1.log") == "$1" ]]
}

cluster_begin
host_add h1 h2
cms_start
qsmd_start_all
ctl h2 join g
"$BUILD/qsmctl" -s "$work/h2.sock" sub g >"$work/got" &
host_pid[sub]=$!
within 10 ctl h1 groups g --wait 1 -W 1 >/dev/null
publish 2000
check "mtu: nothing is sent in fragments" test "$(counter h1 udp_send_fragmented)" -eq 0
mtu h1 1300
check "mtu: what is sent after the MTU fell is stable" publish 20000
check "mtu: the datagrams went out in fragments" test "$(counter h1 udp_send_fragmented)" -gt 0
check "mtu: none was given up" test "$(counter h1 udp_send_too_big)" -eq 0
check "mtu: status shows it" test "$(fact h1 mtu)" -eq 1300
check "mtu: the log says so once, with the key" logged 1 'interface eth0: its MTU fell from 1500 to 1300'
mtu h1 1500
check "mtu: that it is back is seen, too" within 5 logged 1 'interface eth0: its MTU is 1500 again'
before=$(counter h1 udp_send_fragmented)
check "mtu: what is sent then is stable" publish 2000
check "mtu: and whole again" test "$(counter h1 udp_send_fragmented)" -eq "$before"
check "mtu: all has arrived, in order" within 10 cmp "$work/got" <(for n in 2000 20000 2000; do seq -f "%0100.0f" $n; done)
kill "${host_pid[sub]}"
wait "${host_pid[sub]}" 2>/dev/null
unset "host_pid[sub]"
cluster_end mtu
((failures == 0))
