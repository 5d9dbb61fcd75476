#!/bin/bash
# kills.sh: daemons killed with -9 at random moments and in the middle of view changes, now and then
# one that stands still for a while, while clients on every host send, short and long messages, to
# groups that make several regions, and some is lost everywhere. The checker that reads the
# simulator's traces finds every promise kept in those of all the daemons, of every life, and that all
# came to an end once the killing stopped.
#   ROUNDS=n    clusters, each with a seed of its own (default 10)
#   KILLS=n     of qsmd in each (default 24); qsm-cmsd is killed as well, now and then
#   CHANGES=n   how many kills must have struck in a view change, all together (default 50)
#   SEED=n      of the first cluster: which hosts, which moments (default: the time); it is printed
#   RATE=n LOSS=n   messages a second of each client (default 60), percent lost (default 2)
#   KEEP=1      keeps the traces of a round that failed
set -u
. "$(dirname "$0")/lib.sh"
export SEED=${SEED:-$(date +%s)}
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL kills: namespaces are forbidden here"
    exit 1
fi

rounds=${ROUNDS:-10}
kills=${KILLS:-24}
changes=${CHANGES:-50}
rate=${RATE:-$((sanitized ? 20 : 60))}
loss=${LOSS:-2}
calm=60 # seconds in which all must converge
flow=$BUILD/tests/bench/flow
TRACE=1
members=(n1 n2 n3 n4 n5 n6 n7 n8)
declare -A dead=()
ring_size=0
struck=0 cms_struck=0 paused=0 in_changes=0 all_struck=0 all_cms_struck=0

# ---- the cluster

# Three regions: those of `left` alone, of `right` alone and of both.
groups_of() { # host
    case $1 in
    n1 | n2 | n3) say all left ;;
    n4 | n5) say all left right ;;
    *) say all right ;;
    esac
}

client_start() { # host number
    # shellcheck disable=SC2046 # a list of groups
    QSM_SOCKET=$work/$1.sock "$flow" live $((SEED + $2)) "$rate" 1400 \
        $(groups_of "$1") >"$work/$1.live" 2>&1 &
    host_pid[$1]=$!
}

begin() {
    local name i=0
    cluster_begin
    host_add "${members[@]}"
    dead=()
    for name in "${members[@]}"; do
        loss_on "$name" "$loss"
    done
    # Every other cluster has rings of rings.
    ring_size=$((SEED % 2 ? 25 : 2))
    cms_start "ring_size = $ring_size"
    qsmd_start_all
    for name in "${members[@]}"; do
        i=$((i + 1))
        client_start "$name" $i
    done
    ctl n1 groups all --wait "${#members[@]}" -W 20 >/dev/null || say "not all have joined"
}

# ---- faults

nap() { # milliseconds, at most
    sleep "$(printf '0.%03d' $((RANDOM % $1)))"
}

alive() {
    local name
    for name in "${members[@]}"; do
        [[ -n ${dead[$name]:-} ]] || say "$name"
    done
}

one_of() { # word…
    shift $((RANDOM % $#))
    say "$1"
}

strike() { # host
    kill_hard "$1"
    trace_crashed "$1"
    dead[$1]=1
    struck=$((struck + 1))
}

revive() { # host
    unset "dead[$1]"
    qsmd_start "$1"
}

strike_cms() {
    kill_hard cms
    trace_crashed cms
    cms_struck=$((cms_struck + 1))
    nap 400
    cms_start "ring_size = $ring_size"
}

# A host that stands still, sometimes for so long that it is expelled, and goes on.
pause() { # host
    local which=${pid[$1]}
    kill -STOP "$which"
    paused=$((paused + 1))
    {
        sleep "$((RANDOM % 5)).$((RANDOM % 10))"
        kill -CONT "$which" 2>/dev/null
    } &
    host_pid[pause-$1]=$!
}

# Makes a view change, and kills somebody as soon as a member was asked to take part in it.
strike_in_change() { # victim
    local watched other slow=
    # shellcheck disable=SC2046 # lists of hosts
    {
        watched=$(one_of $(alive | grep -vx "$1"))
        # In half of them somebody is slow to vote, or everything would be over in 3 ms.
        ((aimed++ % 2)) || slow=$(one_of $(alive | grep -vx -e "$1" -e "$watched"))
    }
    [[ -z $slow ]] || kill -STOP "${pid[$slow]}"
    exec 9< <(exec tail -n 0 -f --pid=$$ "$work/$watched.trace" | grep --line-buffered -m 1 ' prep ')
    other=$(one_of "${!dead[@]}" join)
    if [[ $other == join ]]; then
        timeout 2 "$BUILD/qsmctl" -s "$work/$watched.sock" join "extra-$RANDOM" >/dev/null 2>&1 &
    else
        revive "$other"
    fi
    read -r -t 2 -u 9 || true
    exec 9<&-
    ((RANDOM % 3)) || nap 20
    strike "$1"
    [[ -z $slow ]] || kill -CONT "${pid[$slow]}"
}

rage() {
    local victim
    while ((struck < kills)); do
        nap 600
        # shellcheck disable=SC2046
        victim=$(one_of $(alive))
        # shellcheck disable=SC2046
        ((RANDOM % 5)) || pause "$(one_of $(alive))"
        # Every third is aimed, whatever the dice say.
        case $((struck % 3 == 0 ? 9 : RANDOM % 10)) in
        0) strike_cms ;;
        1 | 2 | 3) strike "$victim" ;;
        4) strike "$victim"; strike_cms ;;
        *) strike_in_change "$victim" ;;
        esac
        if ((${#dead[@]} > 3 || (${#dead[@]} > 0 && RANDOM % 3 > 0))); then
            revive "$(one_of "${!dead[@]}")"
        fi
    done
}

# ---- the end

all_flushed() {
    ! grep -L '^flushed' "$work"/*.live | grep -q .
}

# All members of a group in one view, and the messages of all hosts stable.
converged() {
    local name
    for name in "${members[@]}"; do
        ctl "$name" groups | awk '
            BEGIN { want["all"] = 8; want["left"] = 5; want["right"] = 5 }
            $1 in want && $4 != want[$1] { bad = 1 }
            END { exit bad }' || return
    done
}

look() {
    local name
    tail -n 20 "$work/cms.log"
    for name in "${members[@]}"; do
        say "== $name: $(cat "$work/$name.live")"
        tail -n 5 "$work/$name.log"
        timeout 3 "$BUILD/qsmctl" -s "$work/$name.sock" groups
        timeout 3 "$BUILD/qsmctl" -s "$work/$name.sock" regions
    done
}

# Lets all come back and settle; from then on the checker holds them to it.
calm_down() {
    local name
    for name in "${!host_pid[@]}"; do
        [[ $name != pause-* ]] || wait "${host_pid[$name]}"
    done
    for name in "${!dead[@]}"; do
        revive "$name"
    done
    sleep 0.5
    for name in "${members[@]}"; do
        kill -USR1 "${host_pid[$name]}"
    done
    within "$calm" all_flushed && within "$calm" converged || {
        look
        return 1
    }
    sleep 1 # what a client gets is settled in its host, which nobody can ask
    cat "$work"/*.trace | awk '
        $1 > t { t = $1 }
        END { printf "%.0f test finish\n", t + 1 }' >"$work/end.trace"
}

# How many crashes struck while an epoch was made: from its first PREP to when it was in the log.
count_in_changes() {
    grep -h -E '^[0-9]+ [^ ]+ (prep|epoch|crash)( |$)' "$work"/*.trace | sort -n -k 1,1 | awk '
        { split("", v); for (i = 4; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] } }
        $3 == "prep" && !(v["e"] in from) { from[v["e"]] = $1 }
        $3 == "epoch" { to[v["ep"]] = $1 }
        $3 == "crash" { at[++n] = $1 }
        END {
            for (i = 1; i <= n; i++) {
                hit = 0
                for (e in from) if (e in to && from[e] <= at[i] && at[i] <= to[e]) hit = 1
                sum += hit
            }
            print sum + 0
        }'
}

stop_clients() {
    local name
    for name in "${members[@]}"; do
        kill -TERM "${host_pid[$name]}"
        wait "${host_pid[$name]}"
        unset "host_pid[$name]"
    done
}

round() { # number
    local name=$1 in_change
    RANDOM=$SEED
    struck=0 cms_struck=0 paused=0 aimed=0
    begin
    rage
    check "kills: all converge after $struck kills, $cms_struck of qsm-cmsd, $paused pauses (SEED=$SEED, rings of $ring_size)" calm_down
    in_change=$(count_in_changes)
    stop_clients
    check "kills: the daemons end well" daemons_end_well
    check "kills: the checker finds every promise kept, $in_change kills in a view change (SEED=$SEED, rings of $ring_size)" \
        "$BUILD/qsmcheck" --ring-size "$ring_size" "$work"/*.trace
    in_changes=$((in_changes + in_change))
    all_struck=$((all_struck + struck))
    all_cms_struck=$((all_cms_struck + cms_struck))
    say "$(cat "$work"/*.live | awk '/flushed/ { got += $2; sent += $4 }
        END { print got + 0 " messages received of " sent + 0 " sent" }')"
    say "expelled: $(awk '$3 == "expel" { n[$5]++ } END { for (w in n) printf "%d %s, ", n[w], w }' \
        "$work/cms.trace")attempts that needed another: $(
        grep -h -o ' prep .*' "$work"/*.trace | grep -v 'a=1$' | sort -u | wc -l)"
    cluster_remove
}

for ((i = 1; i <= rounds; i++)); do
    round $i
    SEED=$((SEED + 1))
done
check "kills: $all_struck of qsmd and $all_cms_struck of qsm-cmsd, $in_changes of them in a view change" \
    test "$in_changes" -ge "$changes"
((failures == 0))
