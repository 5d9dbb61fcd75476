# shellcheck shell=bash
# peers.sh: this system beside what the kernel can do at all and beside its peers, one sender, on the
# same hosts and wires in the same run; the section `peers` of figures.sh.
#   SYSTEMS="qsm raw-unix zmq"   some of: qsm raw raw-gso raw-unix corosync cyclone zmq norm nats redis
#   WIRES="merged nic"           some of: merged segmented nic
#   ROWS="stream loss"           some of: stream small loss latency
#   RECEIVERS="2 8"              default 2 8 32; more than 8 on the merged wire only
#   REPEATS=n                    default 3: all systems once, then again
#   LENGTH=n                     milliseconds of sending (default 2000)
#   LIMIT=n                      seconds after which nothing more is begun (default 1200)
# The systems: raw is sendmmsg and recvmmsg, raw-gso UDP GSO and GRO, raw-unix that with a daemon that
# does nothing but a Unix socket to the application, at both ends: our limit. They, NATS and Redis
# have nothing that keeps a sender from outrunning its receivers, so they are told by shared memory how
# far those are. ZeroMQ is XPUB and SUB over TCP and blocks when full, Corosync is CPG over knet
# without encryption, Cyclone DDS is reliable, keeps all and writes batches, NORM is a stream with
# acknowledgements and no congestion control. Packages, to be installed with services denied:
#   corosync libcpg-dev cyclonedds-dev cyclonedds-tools libzmq3-dev libnorm-dev nats-server libnats-dev
#   redis-server libhiredis-dev
# The wires: merged is as the kernel makes it, where a train of segments crosses whole; segmented has
# one frame for a datagram or TCP segment; nic is segmented, and receivers merge what follows on
# (GRO), nearest to real hosts.
# The rows: stream is 1,000-byte messages to each of RECEIVERS on each wire, as fast as they are taken;
# small is 64 bytes, merged, 1 -> 2; loss is 1 % of all packets lost at one receiver of 8, segmented;
# latency is 1,000 messages a second, merged, 1 -> 2, from application to application. Every message
# must come once and in order, or the run has a word and no value. The rate is that of the slowest
# receiver from the first message to the last; a latency is that of the worst receiver.
# Of lib.sh and figures.sh: hosts, work, repeats, rows.
# shellcheck disable=SC2154

peers_all="qsm raw raw-gso raw-unix corosync cyclone zmq norm nats redis"
IFS=' ' read -r -a peers_systems <<<"${SYSTEMS:-$peers_all}"
IFS=' ' read -r -a peers_wires <<<"${WIRES:-merged segmented nic}"
IFS=' ' read -r -a peers_receivers <<<"${RECEIVERS:-2 8 32}"
IFS=' ' read -r -a peers_rows <<<"${ROWS:-stream small loss latency}"
peers_length=${LENGTH:-2000} # milliseconds
peers_limit=${LIMIT:-1200}   # seconds
peers_warm_length=200        # milliseconds, of daemons
peers_grace=6                # seconds that a run may take longer than it is sent
peers_programs=$BUILD/tests/bench/peers
declare -A peers_packages=(
    [corosync]="corosync libcpg-dev"
    [cyclone]="cyclonedds-dev cyclonedds-tools"
    [zmq]="libzmq3-dev"
    [norm]="libnorm-dev"
    [nats]="nats-server libnats-dev"
    [redis]="redis-server libhiredis-dev"
)
declare -A peers_daemon=([corosync]=corosync [nats]=nats-server [redis]=redis-server)

# Of Cyclone DDS.
export CYCLONEDDS_URI='<CycloneDDS><Domain id="any">
<General><Interfaces><NetworkInterface name="eth0" multicast="true"/></Interfaces>
<AllowMulticast>true</AllowMulticast></General>
<Internal><SocketReceiveBufferSize max="64MB"/><WriteBatch>true</WriteBatch></Internal>
</Domain></CycloneDDS>'

# ---- wires

peers_wire() { # merged|segmented|nic
    local name port=0 segments=off ports=off gro=off bad=0
    [[ $1 != merged ]] || segments=on ports=on
    [[ $1 != nic ]] || gro=on
    for name in "${hosts[@]}"; do
        port=$((port + 1))
        in_host "$name" ethtool -K eth0 tx-udp-segmentation $segments tso $segments gro $gro || bad=1
        ethtool -K "p$port" tx-udp-segmentation $ports tso $ports || bad=1
    done >/dev/null
    ((bad == 0)) || say "peers: the $1 wire cannot be made as it should be here"
}

peers_loss_on() { # host percent
    in_host "$1" nft -f - <<-END
	table inet side {
	chain in { type filter hook input priority 0; iifname eth0 numgen random mod 100 < $2 drop; }
	}
	END
}

peers_loss_off() { # host
    in_host "$1" nft delete table inet side
}

# ---- the systems' daemons. NAME_begin starts them on all hosts, and fails when they are not ready.

# Starts one.
peers_daemon_start() { # host command…
    local name=$1
    shift
    nsenter --net="$work/ns/$name" "$@" >>"$work/daemons.log" 2>&1 &
    pid["$name"]=$!
}

qsm_begin() {
    local name
    rm -f "$work"/cms.db*
    cms_start
    for name in "${hosts[@]}"; do
        qsmd_start "$name"
    done
    for name in "${hosts[@]}"; do
        within 20 admitted "$name" || return
    done
}

# A line for every key, as its parser wants.
corosync_configure() {
    local name
    printf '%s\n' 'totem {' 'version: 2' 'cluster_name: bench' 'transport: knet' 'ip_version: ipv4' \
        'token: 1500' 'token_coefficient: 0' 'crypto_cipher: none' 'crypto_hash: none' '}' \
        'system {' 'sched_rr: no' 'priority: 0' '}' \
        'logging {' 'to_stderr: yes' 'to_syslog: no' 'to_logfile: no' '}' 'nodelist {'
    for name in "${hosts[@]}"; do
        printf '%s\n' 'node {' "ring0_addr: ${address[$name]}" "nodeid: ${name#h}" "name: $name" '}'
    done
    say '}'
}

corosync_joined() {
    local count
    count=$(in_host h1 corosync-cmapctl 2>/dev/null | grep -c 'members.*status (str) = joined')
    ((count == ${#hosts[@]}))
}

# Each has its own /run.
corosync_begin() {
    local name
    corosync_configure >"$work/corosync.conf"
    for name in "${hosts[@]}"; do
        # shellcheck disable=SC2016 # of that shell
        peers_daemon_start "$name" unshare -m sh -c 'mount -t tmpfs run /run &&
            mount -t tmpfs lib /var/lib/corosync && exec corosync -f -c "$1"' - "$work/corosync.conf"
    done
    within $((10 + ${#hosts[@]} / 2)) corosync_joined
}

peers_answers() { # host port
    in_host "$1" bash -c ": <>'/dev/tcp/${address[$1]}/$2'" 2>/dev/null
}

nats_begin() {
    say "listen: \"${address[h1]}:4222\"
max_pending: 256MB
write_deadline: \"10s\"" >"$work/nats.conf"
    peers_daemon_start h1 nats-server -c "$work/nats.conf"
    within 10 peers_answers h1 4222
}

redis_begin() {
    peers_daemon_start h1 redis-server --bind "${address[h1]}" --port 6379 --dir "$work" --save '' \
        --appendonly no --protected-mode no --client-output-buffer-limit 'pubsub 0 0 0'
    within 10 peers_answers h1 6379
}

# Ends what runs; how, is for the tests to judge.
peers_end() {
    peers_kill "${pid[@]}"
    pid=()
}

peers_kill() { # pid…
    local p
    [[ $# -eq 0 ]] || kill -TERM "$@" 2>/dev/null
    for p in "$@"; do
        within 2 gone "$p" || kill -KILL "$p" 2>/dev/null
        wait "$p" 2>/dev/null
    done
}

# Starts a system's daemons, if it has any.
peers_begin() { # system
    ! declare -F "${1}_begin" >/dev/null || "${1}_begin" || {
        outcome="the daemons are not ready"
        [[ ! -s $work/daemons.log ]] || say "  $1: $(tail -n 1 "$work/daemons.log")"
        return 1
    }
}

# Daemons that have just started touch their memory for the first time: not in what is measured.
peers_warm() { # system receivers
    local peers_length=$peers_warm_length
    ! declare -F "${1}_begin" >/dev/null || peers_run "$1" "$2" 1000 0 0
}

# ---- one run

# What a system's program is told besides of a host.
peers_arguments() { # system host
    local multicast=(-a "${address[$2]}" -p "$work/side.progress")
    case $1 in
    qsm) arguments=(-u "$work/$2.sock") ;;
    raw) arguments=(-m plain "${multicast[@]}") ;;
    raw-gso) arguments=(-m trains "${multicast[@]}") ;;
    raw-unix) arguments=(-u "$work/$2.relay") ;;
    raw-relay) arguments=(-m trains -u "$work/$2.relay" "${multicast[@]}") ;;
    nats | redis) arguments=(-a "${address[h1]}" -p "$work/side.progress") ;;
    zmq) arguments=(-a "${address[h1]}") ;;
    *) arguments=(-a "${address[$2]}") ;;
    esac
}

# Starts a program; its number of a receiver is that of the host less one.
peers_start() { # system role host
    local arguments
    peers_arguments "$1" "$3"
    nsenter --net="$work/ns/$3" "$peers_programs/${1%%-*}" "$2" "${common[@]}" -i $((${3#h} - 1)) \
        "${arguments[@]}" >"$work/side.$2.$3" 2>>"$work/side.log" &
    host_pid[$2-$3]=$!
}

peers_ready() { # role count
    [[ $(grep -l '^ready' "$work/side.$1".* 2>/dev/null | wc -l) -eq $2 ]]
}

# The daemons that do nothing.
raw_relays() { # receivers
    local i
    peers_start raw-relay out h1
    for ((i = 2; i <= $1 + 1; i++)); do
        peers_start raw-relay in "h$i"
    done
    within 5 peers_ready out 1 && within 5 peers_ready in "$1"
}

# Starts everything; the word for what went wrong is in $outcome.
peers_launch() { # system receivers
    local i
    if [[ $1 == raw-unix ]] && ! raw_relays "$2"; then
        outcome="the daemons are not ready"
        return 1
    fi
    for ((i = 2; i <= $2 + 1; i++)); do
        peers_start "$1" recv "h$i"
    done
    if ! within 15 peers_ready recv "$2"; then
        outcome="not ready"
        return 1
    fi
    if [[ $1 == qsm ]] && ! ctl h1 groups "$group" --wait "$2" -W 20 >/dev/null; then
        outcome="not all have joined"
        return 1
    fi
    peers_start "$1" send h1
}

# Waits until all receivers have ended, one of the programs has failed, or it takes too long.
peers_wait() { # receivers
    local i ended timer left=$1 never
    mkfifo "$work/side.never"
    exec {never}<>"$work/side.never"
    read -r -t $((peers_length / 1000 + peers_grace)) -u "$never" &
    timer=$!
    local -A running=([$timer]=1)
    for i in "${!host_pid[@]}"; do
        running[${host_pid[$i]}]=$i
    done
    host_pid[timer]=$timer
    while ((left > 0)); do
        wait -n -p ended "${!running[@]}" 2>/dev/null
        i=$?
        if [[ $ended == "$timer" ]]; then
            outcome=unfinished
            break
        elif [[ ${running[$ended]} == recv-* && $i -eq 0 ]]; then
            left=$((left - 1))
        else
            outcome="${running[$ended]} ended with $i"
            break
        fi
        unset "running[$ended]"
    done
    peers_kill "$timer"
    exec {never}<&-
}

# What the receivers say, as a value or a word.
peers_reports() { # receivers rate
    cat "$work"/side.recv.* | awk -v n="$1" -v paced="$2" '
        $1 == "received" {
            seen++
            missing += $4
            disorder += $5
            unfinished += !$6
            rate = $3 > 0 ? ($2 - 1) * 1e9 / $3 : 0
            if (seen == 1 || rate < least) least = rate
            if ($7 > p50) p50 = $7
            if ($8 > p99) p99 = $8
        }
        END {
            if (missing > 0) print "lost " missing
            else if (disorder > 0) print "disorder"
            else if (seen < n || unfinished > 0) print "unfinished"
            else if (paced > 0) printf "%.3f %.3f\n", p50 / 1000, p99 / 1000
            else printf "%.0f\n", least
        }'
}

# Runs a row once: $outcome is its value (p50 and p99 at a rate), or a word for what went wrong.
peers_run() { # system receivers bytes loss rate
    local group
    runs=$((runs + 1))
    group=row$runs
    local common=(-c "$2" -b "$3" -r "$5" -t "$peers_length" -n "$group")
    outcome=
    rm -f "$work"/side.*
    [[ $4 == 0 ]] || peers_loss_on h2 "$4"
    if peers_launch "$1" "$2"; then
        peers_wait "$2"
    fi
    peers_kill "${host_pid[@]}"
    host_pid=()
    [[ $4 == 0 ]] || peers_loss_off h2
    if [[ $outcome == '' || $outcome == unfinished ]]; then
        outcome=$(peers_reports "$2" "$5")
    elif [[ -s $work/side.log ]]; then
        say "  $1: $(tail -n 1 "$work/side.log")"
    fi
}

# ---- all of them

# The rows for so many receivers: wire receivers bytes loss rate.
peers_rows_of() { # receivers
    local wire
    for wire in "${peers_wires[@]}"; do
        [[ $wire == merged || $1 -le 8 ]] || continue
        [[ " ${peers_rows[*]} " != *" stream "* ]] || say "$wire $1 1000 0 0"
        case $wire-$1 in
        merged-2)
            [[ " ${peers_rows[*]} " != *" small "* ]] || say "$wire $1 64 0 0"
            [[ " ${peers_rows[*]} " != *" latency "* ]] || say "$wire $1 1000 0 1000"
            ;;
        segmented-8)
            [[ " ${peers_rows[*]} " != *" loss "* ]] || say "$wire $1 1000 1 0"
            ;;
        esac
    done
}

peers_late() {
    ((SECONDS - peers_began > peers_limit))
}

# Leaves in peers_systems those that are here.
peers_find() {
    local system here=() lacks
    PATH=$PATH:/usr/sbin:/sbin
    for system in "${peers_systems[@]}"; do
        lacks=
        [[ " $peers_all " == *" $system "* ]] || lacks=1
        [[ -x $peers_programs/${system%%-*} ]] || lacks=1
        [[ -z ${peers_daemon[$system]:-} ]] || command -v "${peers_daemon[$system]}" >/dev/null ||
            lacks=1
        if [[ -z $lacks ]]; then
            here+=("$system")
        else
            say "peers: no $system here: ${peers_packages[$system]:-there is no such system}"
        fi
    done
    peers_systems=("${here[@]}")
}

# A system's rows, once each; a line of them, and they are added to the results.
peers_once() { # system repeat receivers
    local row wire receivers loss rate size shown=() up=0
    outcome=
    while read -r -u 9 row; do
        ! peers_late || break
        read -r wire receivers size loss rate <<<"$row"
        # What repairs nothing has nothing to show.
        [[ $1 != raw* || $loss == 0 ]] || continue
        if ((up == 0)); then
            up=-1
            ! peers_begin "$1" || up=1
            ((up < 0)) || peers_warm "$1" "$receivers"
        fi
        if ((up > 0)); then
            [[ $wire == "$wired" ]] || peers_wire "$wire"
            wired=$wire
            peers_run "$1" "$receivers" "$size" "$loss" "$rate"
            # What has failed begins anew.
            [[ $outcome == [0-9]* ]] || up=0
            ((up > 0)) || peers_end
        fi
        say "$row|$1|$outcome" >>"$results"
        shown+=("$outcome")
    done 9<<<"$(peers_rows_of "$3")"
    peers_end
    printf '  %4s s  1 -> %s, %s of %s, %-9s' $((SECONDS - peers_began)) "$3" "$2" "$repeats" "$1"
    printf ' %s;' "${shown[@]}"
    printf '\n'
}

# What the results of a system in a row are: the first or the second number of each.
peers_values() { # row system column
    awk -F '|' -v row="$1" -v name="$2" -v column="$3" '
        $1 == row && $2 == name && $3 ~ /^[0-9]/ { split($3, v, " "); print v[column] }' "$results"
}

# The words for what went wrong, with how often.
peers_words() { # row system
    awk -F '|' -v row="$1" -v name="$2" '$1 == row && $2 == name && $3 !~ /^[0-9]/ { print $3 }' \
        "$results" | sort | uniq -c | awk '
        { times = $1; sub(/^ *[0-9]+ /, ""); printf "%s%s (%d)", (NR > 1 ? "; " : ""), $0, times }'
}

peers_title() { # wire receivers bytes loss rate
    local title="$1 1 -> $2, $3 bytes"
    [[ $4 == 0 ]] || title+=", $4 % lost at one"
    [[ $5 == 0 ]] || title+=", $5/s"
    say "$title"
}

peers_median() { # row system column
    local values
    mapfile -t values < <(peers_values "$@")
    median "${values[@]:--}"
}

# A table of a row: of its rates, or of one of its latencies. Percents are of our limit, or with loss
# of the same system without it.
peers_table() { # row unit column words
    local title wire receivers size loss rate base system line percent words of="% of raw-unix"
    read -r wire receivers size loss rate <<<"$1"
    title="$(peers_title "$wire" "$receivers" "$size" "$loss" "$rate")${4:+: $4}"
    [[ $loss == 0 ]] || of="% of no loss"
    printf '\n%-55s %12s %12s %12s %3s  %s\n' "$title, $2" median min max n "$of"
    printf '\n\n"%s, %s"\n' "$title" "$2" >>"$chart"
    for system in "${peers_systems[@]}"; do
        grep -q -F "$1|$system|" "$results" || continue
        line=$(peers_median "$1" "$system" "$3")
        base=raw-unix
        [[ $loss == 0 ]] || base=$system
        base=$(peers_median "$wire $receivers $size 0 $rate" "$base" "$3")
        percent=$(awk -v a="${line%%,*}" -v b="${base%%,*}" \
            'BEGIN { if (a > 0 && b > 0) printf "%.1f", 100 * a / b }')
        words=$(peers_words "$1" "$system")
        # shellcheck disable=SC2086 # a list of numbers
        printf '  %-53s %12s %12s %12s %3s  %5s%s\n' "$system" ${line//,/ } "$percent" \
            "${words:+  $words}"
        say "$system ${line//,/ }" >>"$chart"
        say "$system: ${title//,/;},$2,$line,$system,${1// /,},$percent,${words//,/;},$(
            grep -c -F "$1|$system|" "$results")" >>"$rows"
    done
}

peers_tables() {
    local row
    while read -r -u 9 row; do
        if [[ $row == *" 0" ]]; then
            peers_table "$row" 1/s 1 ""
        else
            peers_table "$row" us 1 p50
            peers_table "$row" us 2 p99
        fi
    done 9< <(awk -F '|' '!seen[$1]++ { print $1 }' "$results" | sort -s -n -k 2,2)
}

# A chart beside the CSV.
peers_draw() {
    local file=${OUT:-} error
    [[ -n $file ]] || return 0
    file=${file%.csv}.svg
    if ! command -v gnuplot >/dev/null; then
        say "peers: no chart: gnuplot is not here"
        return
    fi
    if error=$(gnuplot -e "data='$chart'; file='$file'; blocks=$(grep -c '^"' "$chart")" \
        "$root/tests/bench/peers.gp" 2>&1); then
        say "peers: $file"
    else
        say "peers: no chart: $error"
    fi
}

measure_peers() {
    local results=$rows.results chart=$rows.chart
    local repeat count system runs=0 wired outcome peers_began=$SECONDS
    : >"$results"
    : >"$chart"
    peers_find
    say "peers: $repeats times $peers_length ms for each row; nothing new after $peers_limit s; the" \
        "machine takes a backlog of ${QSM_BACKLOG:-its own} packets. The bridge copies in the sender's" \
        "time, which hides what multicast spares."
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        for count in "${peers_receivers[@]}"; do
            ! peers_late || continue
            hosts_make $((count + 1))
            neighbours_known
            wired=
            for system in "${peers_systems[@]}"; do
                peers_late || peers_once "$system" "$repeat" "$count"
            done
            cluster_remove
        done
    done
    ! peers_late || say "peers: not all was measured in $peers_limit s"
    peers_tables
    peers_draw
}
