#!/bin/bash
# demo.sh: what QSM does, on one machine: five hosts, a file of a million lines sent from one to the
# other four, 5 % of all datagrams lost at each of them, and every line arrives, in order, once.
#   FILE=path  sends the lines of that file
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/stream.sh"
stream_check
system_enter "$@"

# Smoke run without namespaces: no rules of a firewall, and less to send.
if [[ $net == lo ]]; then
    say "Namespaces are forbidden here: a smaller run with daemons on 127.0.77.x instead."
    lines=${LINES_SENT:-100000}
fi

progress() {
    local name line all
    while sleep 1; do
        line="" all=1
        for name in "${receivers[@]}"; do
            line+=$(printf ' %s %3d%%' "$name" $(($(received "$name") * 100 / lines)))
            [[ -n ${host_pid[$name]:-} ]] && kill -0 "${host_pid[$name]}" 2>/dev/null && all=0
        done
        if [[ -t 1 ]]; then
            printf '\r %3d s: %s ' $((SECONDS - began)) "$line"
        else
            printf ' %3d s: %s\n' $((SECONDS - began)) "$line"
        fi
        ((all == 0)) || break
    done
    [[ ! -t 1 ]] || printf '\n'
}

# 5 % by chance is at least 4 % where enough arrived: at the data port of each receiver, at the others
# of all receivers together.
losses_are_real() {
    local name port arrived lost all all_lost
    for port in 4810 4811 4812; do
        all=0 all_lost=0
        for name in "${receivers[@]}"; do
            arrived=$(loss_counter "$name" "arrived_$port")
            lost=$(loss_counter "$name" "lost_$port")
            printf '  %s port %d: %d of %d datagrams dropped\n' "$name" "$port" "$lost" "$arrived"
            ((arrived < 10000 || lost * 100 >= arrived * 4)) || return 1
            all=$((all + arrived)) all_lost=$((all_lost + lost))
        done
        ((all < 5000 || all_lost * 100 >= all * 4)) || return 1
    done
}

repairs=0 repairs_peers=0 losses=0
table() {
    local name cachers holders sender rounds trips lost
    printf '\n%-6s %10s %8s   %-26s %s\n' '' '' '' 'repaired by' 'token, where led'
    printf '%-6s %10s %8s %8s %8s %8s %8s %8s\n' \
        host messages lost cachers others sender rounds 'us each'
    for name in "${receivers[@]}"; do
        cachers=$(counter "$name" repairs_from_cachers)
        holders=$(counter "$name" repairs_from_holders)
        sender=$(counter "$name" repairs_from_sender)
        rounds=$(counter "$name" rounds_complete)
        trips=$(counter "$name" round_trip_us)
        lost=$(counter "$name" packets_lost)
        losses=$((losses + lost))
        printf '%-6s %10d %8d %8d %8d %8d %8s %8s\n' "$name" \
            "$(counter "$name" messages_delivered)" "$lost" \
            "$cachers" "$holders" "$sender" \
            "$( ((rounds > 0)) && echo "$rounds" || echo -)" \
            "$( ((rounds > 0)) && echo $((trips / rounds)) || echo -)"
        repairs=$((repairs + cachers + holders + sender))
        repairs_peers=$((repairs_peers + cachers + holders))
    done
}

# A file of a few packets may have lost none, or one that only the sender still had.
peers_repair() {
    ((lines < 10000 && losses < 100)) || ((repairs > 0 && repairs_peers * 100 >= repairs * 80))
}

say "Five hosts, a CMS, two groups. $loss % of what arrives at h2 to h5 is dropped."
stream_begin
stream_receive_all -n "$lines" -W 300
ctl h4 groups
say
ctl h4 regions
regions=$(ctl h4 regions | grep -c 239.192)
say
say "h1 sends $lines lines, $(du -h "$work/sent" | cut -f 1), to the group stream:"
say "  qsmctl pub stream -l < file"
began=$SECONDS
start_ms=$(date +%s%3N)
stream_send --wait
progress
for name in "${receivers[@]}"; do
    check "$name received all and ended by itself" stream_wait "$name"
done
took_ms=$(($(date +%s%3N) - start_ms))
check "h1 knows that every host has every message" stream_wait pub
for name in "${receivers[@]}"; do
    check "$name has every line, byte for byte and in order, numbered 1 to $lines" got_all "$name"
done
check "there are at least two regions" test "$regions" -ge 2
table
if [[ $net == bridge ]]; then
    say
    check "the firewall dropped at least 4 % at every receiver" losses_are_real
fi
check "at least 80 % of the repairs came from peers" peers_repair
printf '\n5 hosts, %d regions, %d messages in %d.%03d s: %d a second. %d repairs, %d %% of them by peers.\n' \
    "$regions" "$lines" $((took_ms / 1000)) $((took_ms % 1000)) $((lines * 1000 / (took_ms + 1))) \
    "$repairs" $((repairs ? repairs_peers * 100 / repairs : 0))
cluster_end demo
((failures == 0))
