# shellcheck shell=bash
# stopped.sh: the section `stopped` of figures.sh: of three applications that receive a stream at
# full speed, one on h2 and two on h3, the last one stops reading. What the two others get in the
# seconds before and after, and how soon the daemon ends the one that stopped, by its policy.
# Of lib.sh, words.sh and figures.sh: work, host_pid, flow, bytes, repeats.
# shellcheck disable=SC2154,SC2004

stopped_seconds=3 # before and after
# Of a client: who reads, but waits for a processor for a while, must not be ended, too.
stopped_queue="client { queue_bytes = 134217728 queue_messages = 4194304 }"

now_us() {
    say "${EPOCHREALTIME/[.,]/}"
}

# Starts what receives and notes when how much has come.
watch_start() { # key host group
    QSM_SOCKET=$work/$2.sock "$flow" watch "$3" >"$work/watch.$1" 2>"$work/watch.$1.error" &
    host_pid[$1]=$!
}

# Messages a second between two moments.
watched_rate() { # key from_us to_us
    awk -v a="$2" -v b="$3" '
        $1 >= a && $1 <= b { if (!n++) { t = $1; m = $2 } t2 = $1; m2 = $2 }
        END { if (t2 > t) printf "%.0f\n", (m2 - m) * 1e6 / (t2 - t); else print "-" }' \
        "$work/watch.$1"
}

slow_at() { # host count
    (($(counter "$1" subscriptions_slow) >= $2))
}

# What of the rate before the others have after; "-" when one of them was ended, too.
stopped_kept() { # stop_us
    local name before after values=()
    for name in other2 other3; do
        if [[ -s $work/watch.$name.error ]]; then
            say "  stopped: $name: $(head -n 1 "$work/watch.$name.error")" >&2
            say -
            return
        fi
        before=$(watched_rate "$name" $(($1 - stopped_seconds * 1000000)) "$1")
        after=$(watched_rate "$name" "$1" $(($1 + stopped_seconds * 1000000)))
        values+=("$(percent_of "$after" "$before")")
    done
    least "${values[@]}"
}

# Adds to kept, rates, ended_ms, told.
stopped_once() { # group
    local name stop_us slow bad=0 ended=-
    slow=$(($(counter h3 subscriptions_slow) + 1))
    subscribers_note h2 h3
    watch_start other2 h2 "$1"
    watch_start other3 h3 "$1"
    watch_start stops h3 "$1"
    if ! subscribers_wait 1 h2 || ! subscribers_wait 2 h3; then
        say "  stopped: not all have subscribed"
        bad=1
    fi
    QSM_SOCKET=$work/h1.sock "$flow" send "$1" 1000000000 "$bytes" 2>/dev/null &
    host_pid[send]=$!
    sleep $((stopped_seconds + 1))
    kill -STOP "${host_pid[stops]}"
    stop_us=$(now_us)
    if within $((stopped_seconds + 5)) slow_at h3 "$slow"; then
        ended=$((($(now_us) - stop_us) / 1000))
    fi
    while (($(now_us) < stop_us + stopped_seconds * 1000000)); do
        sleep 0.1
    done
    if ((bad == 0)); then
        kept+=("$(stopped_kept "$stop_us")")
    else
        kept+=(-)
    fi
    rates+=("$(watched_rate other2 $((stop_us - stopped_seconds * 1000000)) "$stop_us")")
    kill -CONT "${host_pid[stops]}"
    within 5 gone "${host_pid[stops]}" && told+=("$(head -n 1 "$work/watch.stops.error")")
    # It was this one that was ended, and not the other one of that host.
    if [[ $bad == 1 || ! -s $work/watch.stops.error || -s $work/watch.other3.error ]]; then
        ended=-
    fi
    ended_ms+=("$ended")
    for name in send other2 other3 stops; do
        kill -KILL "${host_pid[$name]}" 2>/dev/null
        wait "${host_pid[$name]}" 2>/dev/null
        unset "host_pid[$name]"
    done
}

measure_stopped() {
    local i kept=() rates=() ended_ms=() told=()
    hosts_begin 3 "$stopped_queue"
    # Twice as often as others: what a stream does from one second to the next differs.
    for ((i = 1; i <= 2 * repeats; i++)); do
        ! late || break
        stopped_once "stopped-$i"
    done
    figure "messages 1 -> 3 applications on 2 hosts" 1/s "${rates[@]}"
    figure "the others' messages once one has stopped reading" % "${kept[@]}"
    figure "until it is ended by its policy" ms "${ended_ms[@]}"
    say "  the one that stopped: ${told[0]:-was told nothing}"
    hosts_end
}
