# shellcheck shell=bash
# lib.sh: hosts for the system tests and the demo. A host is a network namespace on a bridge, inside
# namespaces of our own: nothing of the machine is touched, and all that runs ends with the script.
# Where namespaces are forbidden ($net is "lo") hosts are the addresses 127.0.0.x.
#
#   system_enter "$@"            first, at the top of a script
#   cluster_begin; host_add h1; cms_start; qsmd_start h1; ctl h1 status; …; cluster_end
#
# After a failed check the directory of logs and sockets, $work, stays when KEEP is set ("always":
# after any). With TRACE set every daemon writes its trace there.

set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-build}
[[ $BUILD == /* ]] || BUILD=$root/$BUILD
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}

# With sanitizers everything takes several times as long: bounds in time are looser then.
sanitized=0
! grep -q __asan_init "$BUILD/qsmd" || sanitized=1
net=${QSM_SYSTEM_NET:-}
work=
failures=0
host_count=0
declare -A address=() pid=() host_pid=() link=()
hosts=()

# ---- namespaces

# Runs the script again inside namespaces where it may do as it likes.
system_enter() {
    [[ -n $net ]] && return
    local flags=(-m -n -p -f --mount-proc --kill-child)
    [[ $(id -u) -eq 0 ]] || flags+=(-U -r)
    if unshare "${flags[@]}" true 2>/dev/null; then
        export QSM_SYSTEM_NET=bridge
        exec unshare "${flags[@]}" bash "$0" "$@"
    fi
    net=lo
}

# The bridge floods: a multicast datagram to 192 hosts is 192 packets in one backlog, of which the
# kernel takes 1,000, and drops what is more of everything, links to the CMS included. Who measures has
# it take 50,000, and processes have the receive buffers that they ask for: as root, for the machine
# and as long as the script runs. Before system_enter.
machine_enter() { # argument of the script…
    local dir=/proc/sys/net/core backlog memory
    [[ -z $net && -z ${QSM_BACKLOG:-} && -w $dir/netdev_max_backlog ]] || return 0
    backlog=$(cat $dir/netdev_max_backlog) memory=$(cat $dir/rmem_max)
    if ((backlog < 50000)); then
        # shellcheck disable=SC2064 # as it is now
        trap "echo $backlog >$dir/netdev_max_backlog; echo $memory >$dir/rmem_max" EXIT
        echo 50000 >$dir/netdev_max_backlog
        ((memory >= 33554432)) || echo 33554432 >$dir/rmem_max
    fi
    QSM_BACKLOG=$((backlog < 50000 ? 50000 : backlog)) bash "$0" "$@" &
    # shellcheck disable=SC2064 # as it is now
    trap "machine_leave $!" INT TERM
    wait $!
    exit
}

# Ends the script: it is what unshare has started, which takes no SIGTERM itself. What does not end by
# itself ends with unshare.
machine_leave() { # pid
    kill "$1" 2>/dev/null
    pkill -TERM -P "$1"
    within 5 gone "$1" || kill -KILL "$1"
    exit 143
}

system_exit() {
    local status=$?
    trap - EXIT
    [[ -z $work ]] || cluster_abort
    exit "$status"
}
trap system_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- words

say() {
    printf '%s\n' "$*"
}

# The claim holds if the command succeeds.
check() { # claim command…
    local claim=$1
    shift
    if "$@"; then
        say "PASS $claim"
    else
        say "FAIL $claim"
        failures=$((failures + 1))
        return 1
    fi
}

# Tries a command until it succeeds.
within() { # seconds command…
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# ---- the cluster

cluster_begin() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/qsm-system.XXXXXX")
    mkdir "$work/ns"
    host_count=0
    address=() pid=() host_pid=() hosts=()
    [[ $net == bridge ]] || return 0
    ip link set lo up
    # There is no querier: the bridge must not guess who listens.
    ip link add br0 type bridge mcast_snooping 0 forward_delay 0
    ip address add 10.77.255.254/16 dev br0
    ip link set br0 up
    ip route add 224.0.0.0/4 dev br0
}

# The segmented wire: as a network does it, one datagram is one frame, and the receiver gets them one
# by one, so that a rule of the firewall drops one datagram at a time.
host_add() { # name…
    local name
    for name in "$@"; do
        host_count=$((host_count + 1))
        hosts+=("$name")
        if [[ $net == lo ]]; then
            address[$name]=127.0.77.$host_count
            continue
        fi
        address[$name]=10.77.$((host_count / 250)).$((host_count % 250 + 1))
        : >"$work/ns/$name"
        unshare --net="$work/ns/$name" true
        ip -batch - <<-END
	link add p$host_count type veth peer name eth0 netns $work/ns/$name
	link set p$host_count master br0 up
	END
        in_host "$name" ip -batch - <<-END
	link set lo up
	address add ${address[$name]}/16 dev eth0
	link set eth0 up
	route add 224.0.0.0/4 dev eth0
	END
        in_host "$name" ethtool -K eth0 tx-udp-segmentation off gro off
    done
}

# Every host knows every other's hardware address for good: what is learned shares one table of 1,024
# for the whole machine, and 33 hosts that all talk to each other overflow it.
neighbours_known() {
    local name other
    for name in "${hosts[@]}"; do
        link[$name]=$(in_host "$name" ip -o link show eth0 | sed -n 's|.*link/ether \([^ ]*\).*|\1|p')
    done
    for other in "${hosts[@]}"; do
        say "neighbour replace ${address[$other]} lladdr ${link[$other]} dev eth0 nud permanent"
    done >"$work/neighbours"
    for name in "${hosts[@]}"; do
        grep -v " ${address[$name]} " "$work/neighbours" | in_host "$name" ip -batch -
    done
}

in_host() { # host command…
    local ns=$work/ns/$1
    shift
    if [[ $net == lo ]]; then
        "$@"
    else
        nsenter --net="$ns" "$@"
    fi
}

# Every datagram that reaches the host is lost with this chance, on each of the three ports, and the
# rules count.
loss_on() { # host percent
    local port
    [[ $net == bridge ]] || return 0
    {
        echo "table inet loss {"
        for port in 4810 4811 4812; do
            echo "counter arrived_$port { }"
            echo "counter lost_$port { }"
        done
        echo "chain in { type filter hook input priority 0;"
        for port in 4810 4811 4812; do
            echo "iifname eth0 udp dport $port counter name arrived_$port"
            echo "iifname eth0 udp dport $port numgen random mod 100 < $2 counter name lost_$port drop"
        done
        echo "}"
        echo "}"
    } | in_host "$1" nft -f -
}

loss_counter() { # host name
    in_host "$1" nft list counter inet loss "$2" | sed -n 's/.*packets \([0-9]*\).*/\1/p'
}

# Nothing of one host reaches another any more.
block() { # at from
    in_host "$1" nft "add table inet block; add chain inet block in { type filter hook input priority 0; }; add rule inet block in ip saddr ${address[$2]} drop"
}

# ---- daemons

cms_address() {
    if [[ $net == lo ]]; then
        say "127.0.77.254:14813"
    else
        say "10.77.255.254:4813"
    fi
}

cms_start() { # [line of configuration…]
    local line
    {
        echo 'cluster = "test"'
        echo "listen = \"$(cms_address)\""
        echo "journal = \"sqlite:$work/cms.db\""
        for line in "$@"; do
            echo "$line"
        done
        [[ -z ${TRACE:-} ]] || echo "debug { trace = \"$work/cms.trace\" }"
    } >"$work/cms.conf"
    "$BUILD/qsm-cmsd" -c "$work/cms.conf" 2>>"$work/cms.log" &
    pid[cms]=$!
}

# What the journal says, as JSON.
cms_dump() {
    "$BUILD/qsm-cmsd" -c "$work/cms.conf" --dump-state
}

qsmd_configure() { # host [line of configuration…]
    local name=$1 line interface=eth0 port=4810
    shift
    if [[ $net == lo ]]; then
        interface=lo
        port=24810
    fi
    {
        echo 'cluster = "test"'
        echo "cms = {\"$(cms_address)\"}"
        echo "name = \"$name\""
        echo "interface = \"$interface\""
        echo "address = \"${address[$name]}\""
        echo "port = $port"
        echo "socket = \"$work/$name.sock\""
        for line in "$@"; do
            echo "$line"
        done
        [[ -z ${TRACE:-} ]] || echo "debug { trace = \"$work/$name.trace\" }"
    } >"$work/$name.conf"
}

qsmd_start() { # host [line of configuration…]
    local name=$1
    qsmd_configure "$@"
    if [[ $net == lo ]]; then
        "$BUILD/qsmd" -c "$work/$name.conf" 2>>"$work/$name.log" &
    else
        # nsenter becomes the daemon: the pid is its own.
        nsenter --net="$work/ns/$name" "$BUILD/qsmd" -c "$work/$name.conf" 2>>"$work/$name.log" &
    fi
    pid[$name]=$!
}

qsmd_start_all() { # [line of configuration…]
    local name
    for name in "${hosts[@]}"; do
        qsmd_start "$name" "$@"
    done
    for name in "${hosts[@]}"; do
        within 10 admitted "$name" || say "$name was not admitted"
    done
}

# Kills without a word, and does not expect it to end well.
kill_hard() { # host or cms
    kill -9 "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null
    unset "pid[$1]"
}

# Completes the trace of a killed daemon: its last line may be cut, and the crash came after what is
# told.
trace_crashed() { # host or cms
    local file=$work/$1.trace
    [[ ! -s $file ]] || [[ -z $(tail -c 1 "$file") ]] || sed -i '$ d' "$file"
    tail -n 1 "$file" | awk -v who="$1" '{ printf "%.0f %s crash\n", $1 + 1, who }' >>"$file"
}

ctl() { # host argument…
    local socket=$work/$1.sock
    shift
    "$BUILD/qsmctl" -s "$socket" "$@"
}

admitted() { # host
    ctl "$1" status >/dev/null 2>&1
}

fact() { # host name
    ctl "$1" status | awk -v name="$2" '$1 == name { print $2 }'
}

counter() { # host name
    ctl "$1" stats | awk -v name="$2" '$1 == name { print $2 }'
}

# ---- the end

gone() { # pid
    ! kill -0 "$1" 2>/dev/null
}

# Stops all daemons; each must end by itself, with exit code 0, and without a word of a sanitizer.
daemons_end_well() {
    local name status good=0
    for name in "${!pid[@]}"; do
        kill -TERM "${pid[$name]}" 2>/dev/null
    done
    for name in "${!pid[@]}"; do
        within 20 gone "${pid[$name]}" || kill -9 "${pid[$name]}"
        wait "${pid[$name]}"
        status=$?
        if ((status != 0)); then
            say "$name ended with $status:"
            tail -n 30 "$work/$name.log"
            good=1
        fi
    done
    pid=()
    if grep -l -E 'Sanitizer|runtime error|Assertion' "$work"/*.log; then
        grep -h -E -A 30 'Sanitizer|runtime error|Assertion' "$work"/*.log | head -n 60
        good=1
    fi
    return $good
}

cluster_remove() {
    local name
    if [[ $net == bridge ]]; then
        for name in "${hosts[@]}"; do
            umount -l "$work/ns/$name" 2>/dev/null
        done
        ip link delete br0 2>/dev/null
        for name in $(ip -o link | sed -n 's/^[0-9]*: \(p[0-9]*\)@.*/\1/p'); do
            ip link delete "$name" 2>/dev/null
        done
    fi
    if [[ ${KEEP:-} == always || (-n ${KEEP:-} && $failures -gt 0) ]]; then
        say "kept: $work"
    else
        rm -rf "$work"
    fi
    work=
}

# The claim that every test makes at its end.
cluster_end() { # name of the test
    check "$1: the daemons end well" daemons_end_well
    cluster_remove
}

cluster_abort() {
    local name
    for name in "${!pid[@]}"; do
        kill -9 "${pid[$name]}" 2>/dev/null
    done
    for name in "${!host_pid[@]}"; do
        kill -9 "${host_pid[$name]}" 2>/dev/null
    done
    wait 2>/dev/null
    cluster_remove
}
