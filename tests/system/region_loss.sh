#!/bin/bash
# region_loss.sh: 1 % of all datagrams lost at every one of 24 receivers, on each of the three ports.
# Repairs come from peers, little more is sent again than was lost, and soon.
#   RATE=n        messages a second (default 500: two processors are not saturated)
#   DURATION=n    seconds (default 30)
#   RECEIVERS=n   default 24
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/region.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL region loss: namespaces are forbidden here"
    exit 1
fi

rate=${RATE:-500}
count=$((rate * ${DURATION:-30}))

# Bytes of repairs that leave a host, on the wire.
count_repairs() { # host
    in_host "$1" nft -f - <<-END
	table inet sent {
	counter sent_4811 { }
	chain out { type filter hook output priority 0; oifname eth0 udp dport 4811 counter name sent_4811; }
	}
	END
}

nft_bytes() { # table counter host…
    local table=$1 name=$2 host
    shift 2
    for host in "$@"; do
        in_host "$host" nft list counter inet "$table" "$name"
    done | sed -n 's/.*bytes \([0-9]*\).*/\1/p' | awk '{ n += $1 } END { printf "%.0f\n", n }'
}

lost_packets() { # port
    local host
    for host in "${receivers[@]}"; do
        loss_counter "$host" "lost_$1"
    done | awk '{ n += $1 } END { printf "%.0f\n", n }'
}

region_begin "${RECEIVERS:-24}"
for name in "${receivers[@]}"; do
    loss_on "$name" 1
done
for name in "${hosts[@]}"; do
    count_repairs "$name"
done
stream_start loss "$count" "$rate"
check "region loss: $count messages complete, in order and stable at ${#receivers[@]} receivers" \
    stream_end loss

lost=$(lost_packets 4812)
lost_bytes=$(nft_bytes loss lost_4812 "${receivers[@]}")
sent_bytes=$(nft_bytes sent sent_4811 "${hosts[@]}")
cachers=$(sum_counter repairs_from_cachers "${receivers[@]}")
holders=$(sum_counter repairs_from_holders "${receivers[@]}")
from_sender=$(sum_counter repairs_from_sender "${receivers[@]}")
cost=$(ratio "$sent_bytes" "$lost_bytes")
peers=$(ratio $(((cachers + holders) * 100)) $((cachers + holders + from_sender)))
# Which messages were repaired an application can't know: they are no later than the latest, as many
# as were lost; those that only waited behind one left out.
late=$(all_but $((lost / 100 + 1)) heads "$work"/r*.loss.latency)
median=$(all_but $((lost / 2 + 1)) heads "$work"/r*.loss.latency)
say "  $rate messages/s, processors $(busy_percent) % busy; $lost data packets lost ($lost_bytes bytes)" \
    "of $(sum_counter packets_received "${receivers[@]}"), $(lost_packets 4811) repairs," \
    "$(lost_packets 4810) control datagrams"
say "  repairs sent: $(sum_counter repairs_sent "${hosts[@]}") ($sent_bytes bytes); arrived: from" \
    "cachers $cachers, other peers $holders, the sender $from_sender"
say "  latency of all messages: p50 $(percentile 50 "$work"/r*.loss.latency) us, p99" \
    "$(percentile 99 "$work"/r*.loss.latency) us; of the $lost latest that waited for no other:" \
    "p50 $median us, p99 $late us"
rounds=$(sum_counter rounds_complete "${receivers[@]}")
say "  $rounds complete rounds, mean round trip" \
    "$(($(sum_counter round_trip_us "${receivers[@]}") / (rounds > 0 ? rounds : 1))) us," \
    "$(sum_counter rounds_incomplete "${receivers[@]}") incomplete; hops tried again" \
    "$(sum_counter tokens_retried "${receivers[@]}") of $(sum_counter tokens_sent "${receivers[@]}")"
check "region loss: at most 1.3 repair bytes per lost byte ($cost)" less_than "$cost" 1.3
check "region loss: at least 95 % of repairs from peers ($peers %)" less_than 95 "$peers"
check "region loss: p99 of a repaired message under 20 ms ($late us at most)" less_than "$late" 20000
cluster_end "region loss"
((failures == 0))
