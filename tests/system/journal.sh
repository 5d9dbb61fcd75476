#!/bin/bash
# journal.sh: a qsm-cmsd that is killed at any step of its journal comes back with what was durable:
# with all daemons stopped, replaying the log again and again gives the same state, the next
# qsm-cmsd goes on from it, and node ids are never given twice.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

dump() {
    cms_dump 2>>"$work/cms.log"
}

# What only a new leadership changes is left out.
without_term() {
    sed -e 's/"index":[0-9]*,//' -e 's/"term":[0-9]*,//' -e 's/"ring_size":[0-9]*/"ring_size":0/g' \
        -e 's/"cache_replicas":[0-9]*/"cache_replicas":0/g' -e 's/"ack_ranges":[0-9]*/"ack_ranges":0/g'
}

number() { # key, from standard input
    sed -n "s/^{.*\"$1\":\([0-9]*\),.*/\1/p" | head -n 1
}

died() {
    gone "${pid[cms]}"
}

reap() {
    wait "${pid[cms]}" 2>/dev/null
    unset "pid[cms]"
}

# ---- with nodes: what somebody was told is in the log

joins_until_death() {
    local i=0
    joined=()
    while ((i++ < 200)) && ! died; do
        if ctl h1 join "$1-$i" -W 2 2>/dev/null; then
            joined+=("$1-$i")
        fi
    done
    died
}

told_is_kept() {
    local name state
    state=$(dump)
    say "${#joined[@]} joins were answered"
    for name in "${joined[@]}"; do
        grep -q "\"$name\"" <<<"$state" || {
            say "$name is lost"
            return 1
        }
    done
}

ids() {
    say "$(fact h1 node_id) $(fact h2 node_id)"
}

with_nodes() {
    local step before
    cms_start
    qsmd_start_all
    before=$(ids)
    kill_hard cms
    for step in before-begin after-insert before-commit after-commit; do
        cms_start "debug { crash_at = \"$step:6\" }"
        check "journal: it dies at $step, with nodes" joins_until_death "$step"
        reap
        check "journal: what was told is in the log, after $step" told_is_kept
        cms_start
        check "journal: joins work again, after $step" ctl h2 join "$step-1" -W 10
        check "journal: node ids are as before, after $step" test "$(ids)" = "$before"
        kill_hard cms
    done
}

# ---- without nodes: the same state again and again

linked() { # host
    [[ $(fact "$1" linked) == yes ]]
}

fill_to_a_snapshot() {
    cms_start 'debug { crash_at = "before-snapshot:1" }'
    # Without a link the changes would gather and become one entry.
    within 10 linked h1
    "$BUILD/tests/system/churn" "$work/h1.sock" 1000 2>"$work/churn.out" &
    host_pid[churn1]=$!
    within 60 died
}

same_after() { # step
    local before after
    before=$(dump)
    cms_start "debug { crash_at = \"$1:1\" }"
    within 10 died || {
        say "it lives"
        kill_hard cms
        return 1
    }
    reap
    after=$(dump)
    [[ -n $before && $after == "$(dump)" ]] || return 1
    case $1 in
    before-begin | after-insert | before-commit) [[ $after == "$before" ]] ;;
    *)
        # The leadership became durable, and nothing else.
        (($(number index <<<"$after") == $(number index <<<"$before") + 1)) &&
            [[ $(without_term <<<"$after") == "$(without_term <<<"$before")" ]]
        ;;
    esac
}

without_nodes() {
    local step name
    check "journal: it dies when the first snapshot is due" fill_to_a_snapshot ||
        kill -9 "${pid[cms]}"
    reap
    kill -9 "${host_pid[churn1]}" 2>/dev/null
    wait "${host_pid[churn1]}" 2>/dev/null
    unset "host_pid[churn1]"
    for name in h1 h2; do
        kill_hard "$name"
    done
    # In this order: each of the last but one finds the snapshot still due.
    for step in before-begin after-insert before-commit after-commit before-snapshot \
        insert-snapshot before-commit-snapshot after-snapshot; do
        check "journal: killed at $step it replays to the same state" same_after "$step"
    done
}

# Were the mark of the journal the first file opened, it would be standard error.
without_stderr() {
    "$BUILD/qsm-cmsd" -c "$work/cms.conf" 2>&- &
    pid[cms]=$!
    within 10 listens
    kill -TERM "${pid[cms]}"
    reap
    (($(stat -c %s "$work/cms.db-index") == 16))
}

listens() {
    ss -Hltn "src $(cms_address)" | grep -q .
}

# ---- a slow disk

# A change is asked for again and again.
joins_for() { # seconds
    local end=$((SECONDS + $1)) i=0
    while ((SECONDS < end)); do
        i=$((i + 1))
        ctl h1 join "slow-$i" -W 30 &
        host_pid[slow-$i]=$!
        sleep 0.3
    done
}

joins_end_well() {
    local name good=0
    for name in "${!host_pid[@]}"; do
        wait "${host_pid[$name]}" || good=1
        unset "host_pid[$name]"
    done
    return $good
}

# To note a view takes 0.1 s: the next change waits ten times as long as the one before took.
slow_disk() {
    local before after
    LD_PRELOAD=$BUILD/tests/system/preload/slowsync.so SYNC_US=100000 \
        ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 cms_start
    qsmd_start_all
    within 10 linked h1
    before=$(fact h1 epoch)
    joins_for 8
    after=$(fact h1 epoch)
    check "journal: view changes keep away from a slow disk ($((after - before)) in 8 s)" \
        test $((after - before)) -le 12
    check "journal: on a slow disk every join is answered" joins_end_well
}

cluster_begin
host_add h1 h2
slow_disk
cluster_end "journal, slow disk"

cluster_begin
host_add h1 h2
joined=()
with_nodes
without_nodes
check "journal: with standard error closed the log goes nowhere, not into the mark" without_stderr
check "journal: a state dumped to a full disk is an error" eval '! cms_dump 2>/dev/null >/dev/full'
cluster_end journal
((failures == 0))
