# shellcheck shell=bash
# lib.sh: what the experiments share: a region of hosts r1 to rN, an application on each, and
# senders s1, s2, all on this machine; one stream into it at a time, and all that is to be known of
# it.
#
#   experiment NAME "$@"         first, at the top of a script
#   region_make 24 1; daemons_begin; measure; daemons_end; cluster_remove
#
# What a stream is, is in these variables, which are also the first columns of the table:
#   nodes senders groups bytes asked setting value
# asked: messages a second, all senders together; 0: as fast as they are taken. setting, value: what
# the script varies. cms_lines and qsmd_lines are lines of configuration, $victim is a receiver that
# is not counted among the others, $beside a command that goes on during the stream.
#   DURATION=n  seconds of a stream (default 3)   REPEATS=n  default 1; the table has medians
#   NODES="…"   receivers                         LIMIT=n    seconds (300) after which none begins
# The table is RESULTS/NAME.csv (default docs/experiments), "-" what could not be measured, and the
# chart NAME.svg beside it.
# shellcheck disable=SC2034 # the scripts use them

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../system/lib.sh"
. "$here/../system/region.sh"

keys=nodes,senders,groups,bytes,asked,setting,value
columns=rate,mean_rate,sender_percent,receiver_percent,machine_percent,sender_us,receiver_us,pending
columns+=,pending_max,unreleased_kb,sender_kb,receiver_kb,store_kb,stable_ms,stable_p99_ms,round_ms
columns+=,round_p99_ms,rounds,hops,lost,repairs,duplicates,sender_turn_p99_ms,sender_turn_max_ms
columns+=,receiver_turn_p99_ms,receiver_turn_max_ms,latency_ms,latency_p99_ms,state_kb
columns+=,messages
warm_messages=400000 # times receivers: the length of an unlimited stream is guessed from so many
patience=60          # seconds that a stream may take longer than it should
duration=${DURATION:-3}
repeats=${REPEATS:-1}
limit=${LIMIT:-300}
results=${RESULTS:-$root/docs/experiments}

senders=()
cms_lines=()
# An application that falls behind on a full machine must not lose its subscription for it, and the
# queues of 8,192 groups can be granted at once.
qsmd_client="client { queue_bytes = 67108864 queue_age_ms = 10000 grant_bytes = 1073741824 }"
qsmd_lines=()
victim=
beside=
messages=
asked=0 groups=0 setting=- value=-
streams=0
told=0
declare -A got=()

# ---- a script

experiment() { # name argument…
    experiment=$1
    shift
    machine_enter "$@"
    system_enter "$@"
    if [[ $net == lo ]]; then
        say "$experiment: namespaces are forbidden here"
        exit 1
    fi
    [ -x "$flow" ] || { say "$flow is not built: use \`make experiments\`" && exit 2; }
    rows=$(mktemp "${TMPDIR:-/tmp}/qsm-rows.XXXXXX")
    trap 'rm -f "$rows"; system_exit' EXIT # what there is of the table stays
    mkdir -p "$results"
}

late() {
    ((SECONDS > limit)) || return
    ((told > 0)) || say "  $experiment: nothing more is begun after $limit s"
    told=1
}

# ---- hosts and daemons

# The merged wire: a train of segments crosses whole, for the bridge copies every frame to every
# host in the time of two processors.
region_make() { # receivers senders
    local i
    cluster_begin
    receivers=()
    senders=()
    for ((i = 1; i <= $1; i++)); do
        receivers+=("r$i")
    done
    for ((i = 1; i <= $2; i++)); do
        senders+=("s$i")
    done
    nodes=$1
    host_add "${senders[@]}" "${receivers[@]}"
    neighbours_known
    wire on
}

wire() { # on (merged)|off (segmented)
    local host
    for host in "${hosts[@]}"; do
        in_host "$host" ethtool -K eth0 tx-udp-segmentation "$1"
    done
}

daemons_begin() {
    rm -f "$work"/cms.db*
    cms_start "${cms_lines[@]}"
    qsmd_start_all "$qsmd_client" "${qsmd_lines[@]}"
}

# Well or not: that is for the tests to judge.
daemons_end() {
    daemons_end_well >/dev/null
}

# ---- looking at them

stats_of() { # when host…
    local when=$1 host
    shift
    for host in "$@"; do
        ctl "$host" --json stats >"$work/$host.$when"
    done
}

# How many microseconds daemons have computed so far.
cpu_of() { # host…
    local host pids=()
    for host in "$@"; do
        pids+=("${pid[$host]}")
    done
    echo $(($(cpu_ms "${pids[@]}") * 1000))
}

resident() { # pid
    sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"
}

# Lines: messages sent, unreleased bytes, messages stable, resident memory of a sender; bodies held
# and resident memory of a receiver. Until killed. Seldom: a daemon of many groups computes for
# milliseconds to tell its counters, and that is to be no part of a message's cost.
sampler() { # receiver
    while sleep 0.5; do
        {
            ctl s1 stats | grep -E '^(messages_sent|unreleased_bytes|completions_stable) '
            resident "${pid[s1]}"
            ctl "$1" stats | grep '^store_bytes '
            resident "${pid[$1]}"
        } | sed 's/.* //' | tr '\n' ' '
        echo
    done >"$work/samples" 2>/dev/null
}

# What was seen while the second half of a sender's messages went out; the most memory.
sampled() { # messages of a sender, sent before
    awk -v count="$1" -v first="$2" '
        NF == 6 {
            kb = $4 > kb ? $4 : kb
            receiver = $6 > receiver ? $6 : receiver
        }
        NF == 6 && $1 - first > count / 2 && $1 - first < count {
            n++
            waits = $1 - $3
            pending += waits
            most = waits > most ? waits : most
            unreleased += $2
            store += $5
        }
        END {
            if (n > 0) {
                print "pending", pending / n
                print "pending_max", most
                print "unreleased_kb", unreleased / n / 1000
                print "store_kb", store / n / 1000
            }
            if (kb > 0) { print "sender_kb", kb; print "receiver_kb", receiver }
        }' "$work/samples"
}

# Of what the daemons count, the difference of before and after.
counted() { # column-prefix host…
    local who=$1
    shift
    awk -f "$here/stats.awk" sign=-1 "${@/%/.before}" sign=1 "${@/%/.after}" |
        sed "s/^\(loop_turn\)/${who}_turn/"
}

others() {
    local host
    for host in "${receivers[@]}"; do
        [[ $host == "$victim" ]] || say "$host"
    done
}

# ---- a stream

of_groups() { # name
    say "$1$( ((groups == 0)) || say ":$groups")"
}

receivers_start() { # group messages
    local host
    for host in "${receivers[@]}"; do
        QSM_SOCKET=$work/$host.sock timeout $((duration + patience)) "$flow" recv "$(of_groups "$1")" "$2" \
            "$work/$host.$1.latency" >"$work/$host.$1.rate" 2>"$work/$host.$1.error" &
        host_pid[$host]=$!
    done
}

senders_start() { # group messages
    local host
    for host in "${senders[@]}"; do
        QSM_SOCKET=$work/$host.sock timeout $((duration + patience)) "$flow" send \
            "$(of_groups "$1")" $(($2 / ${#senders[@]})) "$bytes" $((asked / ${#senders[@]})) \
            2>"$work/$host.$1.error" &
        host_pid[$host]=$!
    done
}

# Fails when something did not come whole, in order and in time.
stream_wait() { # group
    local host good=0
    for host in "${senders[@]}" "${receivers[@]}"; do
        ((good == 0)) || kill "${host_pid[$host]}" 2>/dev/null
        wait "${host_pid[$host]}" || good=1
        unset "host_pid[$host]"
    done
    ((good == 0)) || cat "$work"/*."$1".error | sort | uniq -c | sort -n -r | head -n 3
    return $good
}

# A stream of so many messages, and the command $beside meanwhile.
stream() { # messages
    local group first='' helper count=$(($1 / ${#senders[@]} * ${#senders[@]})) good=0
    ((groups == 0)) || first=.0
    streams=$((streams + 1))
    group=stream$streams
    rm -f "$work"/*.rate "$work"/*.latency "$work"/*.error
    receivers_start "$group" "$count"
    ctl s1 groups "$group$first" --wait "${#receivers[@]}" -W 60 >/dev/null ||
        say "not all receivers have joined"
    before=("$(cpu_of "${senders[@]}")" "$(cpu_of "${receivers[@]}")")
    before_cpu=$(head -n 1 /proc/stat)
    sampler "${receivers[0]}" &
    host_pid[sampler]=$!
    senders_start "$group" "$count"
    if [[ -n $beside ]]; then
        "$beside" &
        host_pid[beside]=$!
    fi
    stream_wait "$group" || good=1
    after_cpu=$(head -n 1 /proc/stat)
    after=("$(cpu_of "${senders[@]}")" "$(cpu_of "${receivers[@]}")")
    for helper in sampler beside; do
        [[ -n ${host_pid[$helper]:-} ]] || continue
        kill "${host_pid[$helper]}" 2>/dev/null
        wait "${host_pid[$helper]}" 2>/dev/null
        unset "host_pid[$helper]"
    done
    return $good
}

# What is computed of a stream's rate and the processors' time.
costs() { # messages
    say "${got[mean_rate]} $1 ${#senders[@]} ${#receivers[@]} $((after[0] - before[0]))" \
        "$((after[1] - before[1]))" | awk '{
            seconds = $2 / $1
            print "sender_percent", $5 / $3 / seconds / 10000
            print "receiver_percent", $6 / $4 / seconds / 10000
            print "sender_us", $5 / $2
            print "receiver_us", $6 / $4 / $2
        }'
}

# The rate of the slowest: of the whole stream (1), or of its second half (2), when windows have
# grown.
rate_of() { # 1|2 host…
    local which=$1 host
    shift
    for host in "$@"; do
        sed 's/^\([0-9]*\).* \([0-9]*\) messages.*/\1 \2/' "$work/$host.stream$streams.rate"
    done | cut -d ' ' -f "$which" | sort -n | head -n 1
}

latencies() {
    local files
    mapfile -t files < <(others | sed "s|.*|$work/&.stream$streams.latency|")
    ((asked > 0)) || return
    awk -v us="$(percentile 50 "${files[@]}")" 'BEGIN { print "latency_ms", us / 1000 }'
    awk -v us="$(percentile 99 "${files[@]}")" 'BEGIN { print "latency_p99_ms", us / 1000 }'
}

# A row of the table: a stream as the variables say, of $duration seconds, or so many $messages.
measure() {
    local count key v sent
    got=()
    count=${messages:-$((asked * duration))}
    if ((count == 0)); then
        groups=$((groups > 0)) beside="" stream $((warm_messages / (nodes + 8))) ||
            { row; return; }
        # shellcheck disable=SC2046 # a list of hosts
        count=$(($(rate_of 2 $(others)) * duration))
    fi
    stats_of before "${hosts[@]}"
    sent=$(counter s1 messages_sent)
    if stream "$count"; then
        stats_of after "${hosts[@]}"
        # shellcheck disable=SC2046 # a list of hosts
        got[mean_rate]=$(rate_of 1 $(others))
        # shellcheck disable=SC2046 # a list of hosts
        got[rate]=$(rate_of 2 $(others))
        got[messages]=$((count / ${#senders[@]} * ${#senders[@]}))
        got[machine_percent]=$(busy_percent)
        while read -r key v; do
            got[$key]=$v
        done < <(
            cd "$work" || exit
            costs "$count"
            sampled "$((count / ${#senders[@]}))" "$sent"
            counted sender "${senders[@]}" | grep -E '^(sender_turn|stable|state)'
            # shellcheck disable=SC2046 # a list of hosts
            counted receiver $(others) | grep -E '^(receiver_turn|round)'
            counted all "${hosts[@]}" | grep -E '^(hops|lost|repairs|duplicates)'
            latencies
        )
    fi
    row
}

# ---- the table

row() {
    local column line many=$((groups == 0 ? 1 : groups))
    line=$nodes,${#senders[@]},$many,$bytes,$asked,$setting,$value
    for column in ${columns//,/ }; do
        line+=,${got[$column]:--}
    done
    say "$line" >>"$rows"
    say "  $experiment: $nodes nodes, ${#senders[@]} senders, $many groups, asked $asked," \
        "$setting $value: ${got[rate]:--} messages/s, stable ${got[stable_ms]:--} ms," \
        "round ${got[round_ms]:--} ms, $SECONDS s"
    table >"$results/$experiment.csv"
}

# The median of each column of the rows with the same keys, in their first order.
table() {
    local count
    count=$(tr -cd , <<<"$keys" | wc -c)
    say "$keys,$columns,n"
    awk -F, -v OFS=, -v keys="$count" '
        {
            key = $1
            for (i = 2; i <= keys + 1; i++) key = key OFS $i
            if (!(key in count)) order[++n] = key
            count[key]++
            measured[key] += $(keys + 2) != "-"
            for (i = keys + 2; i <= NF; i++) v[key, count[key], i] = $i
            width = NF
        }
        function median(key, i,    m, j, k, t, s) {
            for (j = 1; j <= count[key]; j++)
                if (v[key, j, i] != "-") s[++m] = v[key, j, i] + 0
            for (j = 2; j <= m; j++)
                for (k = j; k > 1 && s[k] < s[k - 1]; k--) {
                    t = s[k]
                    s[k] = s[k - 1]
                    s[k - 1] = t
                }
            if (m == 0) return "-"
            t = m % 2 ? s[(m + 1) / 2] : (s[m / 2] + s[m / 2 + 1]) / 2
            return t >= 1000 ? sprintf("%.0f", t) : sprintf("%.4g", t)
        }
        END {
            for (j = 1; j <= n; j++) {
                line = order[j]
                for (i = keys + 2; i <= width; i++) line = line OFS median(order[j], i)
                print line OFS measured[order[j]] + 0
            }
        }' "$rows"
}
