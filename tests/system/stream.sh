# shellcheck shell=bash
# stream.sh: the stream of the demo and of the fault tests: five hosts on the segmented wire with
# loss at every receiver, two groups that overlap, a file sent line by line from h1 to h2 … h5.
# `stream` is joined by h2 … h5, `other` by h4 and h5: two regions, and h1 sends into both.

receivers=(h2 h3 h4 h5)
lines=${LINES_SENT:-1000000}
loss=${LOSS:-5}

# Before anything starts: FILE, when it is named, has lines to send.
stream_check() {
    [[ -z ${FILE:-} ]] && return
    if [[ ! -f $FILE || ! -r $FILE ]]; then
        say "FILE=$FILE: not a file that can be read"
    elif [[ ! -s $FILE ]]; then
        say "FILE=$FILE: there is no line in it"
    else
        return
    fi
    exit 2
}

# The file, and how many lines it has: FILE or one made on the spot.
stream_file() {
    if [[ -n ${FILE:-} ]]; then
        # The last line needs no newline, but has one where it arrives.
        { cat "$FILE"; [[ -z $(tail -c 1 "$FILE" | tr '\n\0' '\0x' | tr -d '\0') ]] || echo; } >"$1"
    else
        awk -v n="$lines" 'BEGIN {
            for (i = 1; i <= n; i++)
                printf "line %d of %d, and some more that makes it a line of a usual length %x\n",
                    i, n, (i * 40503) % 65536
        }' >"$1"
    fi
    lines=$(wc -l <"$1")
}

stream_begin() { # [line of qsmd's configuration…]
    local name extra=()
    cluster_begin
    host_add h1 h2 h3 h4 h5
    [[ $net == bridge ]] || extra=("debug { fault_drop = $(awk -v p="$loss" 'BEGIN { print p / 100 }') }")
    for name in "${receivers[@]}"; do
        loss_on "$name" "$loss"
    done
    cms_start
    qsmd_start_all "$@" "${extra[@]}"
    ctl h4 join other
    ctl h5 join other
    stream_file "$work/sent"
}

# Receives on a host, into $work/HOST.got: the number of each message and its payload.
stream_receive() { # host [argument of sub…]
    local name=$1
    shift
    "$BUILD/qsmctl" -s "$work/$name.sock" sub stream -F '%i %p\n' "$@" \
        >"$work/$name.got" 2>"$work/$name.end" &
    host_pid[$name]=$!
}

stream_receive_all() { # [argument of sub…]
    local name
    for name in "${receivers[@]}"; do
        stream_receive "$name" "$@"
    done
    ctl h1 groups stream --wait 4 -W 20 >/dev/null
}

stream_send() {
    "$BUILD/qsmctl" -s "$work/h1.sock" pub stream -l "$@" <"$work/sent" >"$work/pub.out" 2>&1 &
    host_pid[pub]=$!
}

# Sends the file in pieces, so slowly that the stream lasts.
stream_send_slowly() { # seconds
    local piece=$((lines / ($1 * 20) + 1)) left=$(($1 * 20))
    # head leaves the file where its last line ends.
    while ((left-- > 0)); do
        head -n "$piece"
        sleep 0.05
    done <"$work/sent" | "$BUILD/qsmctl" -s "$work/h1.sock" pub stream -l --wait >"$work/pub.out" 2>&1 &
    host_pid[pub]=$!
}

# The number of the last message that a host's client printed.
received() { # host
    local end
    end=$(tail -c 400 "$work/$1.got" 2>/dev/null; echo .)
    end=${end%$'\n'*} # a line that is not complete yet, or the dot
    end=${end##*$'\n'}
    end=${end%% *}
    [[ $end =~ ^[0-9]+$ ]] || end=0
    say "$end"
}

received_at_least() { # host count
    (($(received "$1") >= $2))
}

# Waits for a client of stream_receive or stream_send; its exit code.
stream_wait() { # host or pub
    local status
    wait "${host_pid[$1]}"
    status=$?
    unset "host_pid[$1]"
    return $status
}

stream_stop() { # host
    kill -TERM "${host_pid[$1]}" 2>/dev/null
    stream_wait "$1"
}

# Numbers from $3 on without a gap, and the lines of the file that belong to them. $2 is a file of
# `number payload` lines.
run_is_exact() { # file first
    local count
    count=$(wc -l <"$1")
    cmp <(cut -d ' ' -f 1 "$1") <(seq "$2" $(($2 + count - 1))) &&
        cmp <(cut -d ' ' -f 2- "$1") <(tail -n "+$2" "$work/sent" | head -n "$count")
}

# All lines of the file, from 1 to the last, byte for byte.
got_all() { # host
    [[ $(wc -l <"$work/$1.got") -eq $lines ]] && run_is_exact "$work/$1.got" 1
}

# Between 30 % and 70 % of the stream.
in_the_middle() { # count
    (($1 >= lines * 3 / 10 && $1 <= lines * 7 / 10))
}
