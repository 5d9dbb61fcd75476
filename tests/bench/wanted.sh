# shellcheck shell=bash
# wanted.sh: at the end of figures.sh, what is wanted of the figures beside what this run has
# measured, and whether that holds: "yes" when all of its runs have a value, "no (2 of 3 runs)" when
# one of ours has failed, "-" when something was not measured in this run. Nothing fails for it.
# Of the other files: rows, chosen, repeats, short, and what the sections call their rows.
# shellcheck disable=SC2154

# Those that repair what is lost.
wanted_peers=(corosync cyclone zmq norm nats redis)

# Of the rows of sections: how many values there are, of how many runs, and the worst of a column,
# 3 median, 4 least, 5 greatest; "-" when all have failed, nothing when none was tried.
rows_worst() { # ">="|"<="|"<"|">" column what…
    local op=$1 column=$2
    shift 2
    awk -F, -v op="$op" -v c="$column" '
        NR == FNR { asked[$0] = 1; next }
        $1 in asked && !seen[$1]++ {
            n += $6
            tried += $15
            if ($c ~ /^[0-9.]+$/ && (v == "" || (op ~ /</ ? $c + 0 > v + 0 : $c + 0 < v + 0)))
                v = $c
        }
        END { print n + 0, tried + 0, (v == "" && tried > 0 ? "-" : v) }' \
        <(printf '%s\n' "$@") "$rows"
}

# A column of a system's row among the peers: 3 median, 6 values, 15 runs.
peer_value() { # column system wire receivers bytes loss rate [p50|p99]
    awk -F, -v c="$1" -v row="$2,$3,$4,$5,$6,$7" -v which="${8:-}" '
        $7 "," $8 "," $9 "," $10 "," $11 "," $12 == row && (which == "" || $1 ~ ": " which "$") {
            print $c
            exit
        }' "$rows"
}

# What keeps so many values of so many runs from a "yes".
lacks() { # values runs "WANTED runs"
    if ((${1:-0} < ${2:-0})); then
        say "no ($1 of $2 ${3#* })"
    elif ((${1:-0} == 0)); then
        say -
    elif (($1 < ${3% *})); then
        say "- ($1 of $3)"
    fi
}

peer_lacks() { # system wire receivers bytes loss rate [p50|p99]
    lacks "$(peer_value 6 "$@")" "$(peer_value 15 "$@")" "$repeats runs"
}

# When sections are chosen, what they do not measure is not asked for.
wanted_line() { # what measured wanted holds
    [[ -n $2 || ${chosen:-0} == 0 ]] || return 0
    awk -v what="$1" -v v="${2:--}" -v wanted="$3" -v holds="$4" "$short"'
        BEGIN { printf "%-54s %14s  %-26s %s\n", what, short(v), wanted, holds }'
    say "wanted: $1,,${2:--},,,,,,,,,,,$3: $4," >>"$rows"
}

# Whether a number is at least, at most, less or more than another; what it lacks is in the words of
# lacks, or nothing.
wanted() { # what measured ">="|"<="|"<"|">" number unit lacks
    local holds
    holds=$(awk -v v="${2:--}" -v op="$3" -v w="${4:--}" 'BEGIN {
        if (v !~ /^[0-9.]+$/ || w !~ /^[0-9.]+$/) { print "-"; exit }
        print (op == ">=" && v + 0 >= w + 0 || op == "<=" && v + 0 <= w + 0 ||
            op == "<" && v + 0 < w + 0 || op == ">" && v + 0 > w + 0) ? "yes" : "no"
    }')
    [[ $6 != no* && $holds == no ]] || holds=${6:-$holds}
    wanted_line "$1" "$2" "$3 ${4:--}${5:+ $5}" "$holds"
}

# The same of the worst of some rows.
wanted_rows() { # what ">="|"<="|"<"|">" number unit "VALUES runs" column row…
    local what=$1 op=$2 number=$3 unit=$4 values=$5 column=$6 n tried worst
    shift 6
    read -r n tried worst < <(rows_worst "$op" "$column" "$@")
    wanted "$what" "$worst" "$op" "$number" "$unit" \
        "$(lacks "$n" "$tried" "$((${values% *} * $#)) ${values#* }")"
}

# The same of a peers' row in parts of another.
wanted_ratio() { # what ">="|"<="|"<"|">" number unit scale row base
    local value base lacks
    # shellcheck disable=SC2086 # rows are lists of words
    {
        value=$(peer_value 3 $6)
        base=$(peer_value 3 $7)
        lacks=$(peer_lacks $6)
        if [[ -z $lacks ]]; then
            lacks=$(peer_lacks $7)
            [[ -z $lacks || $7 == qsm* ]] || lacks="- (not all of ${7%% *})"
        fi
    }
    [[ -z $value ]] || value=$(awk -v a="$value" -v b="$base" -v k="$5" \
        'BEGIN { if (a > 0 && b > 0) printf "%.6f\n", k * a / b; else print "-" }')
    wanted "$1" "$value" "$2" "$3" "$4" "$lacks"
}

# The fastest of the peers, with its name in front.
best_peer() { # wire receivers
    local system value
    for system in "${wanted_peers[@]}"; do
        value=$(peer_value 3 "$system" "$1" "$2" 1000 0 0)
        [[ $value != [0-9]* ]] || say "$system $value"
    done | sort -k 2 -n -r | head -n 1
}

# What keeps us from being ahead of all.
ahead_lacks() { # wire receivers
    local system lacks without=
    lacks=$(peer_lacks qsm "$1" "$2" 1000 0 0)
    for system in "${wanted_peers[@]}"; do
        [[ -z $(peer_lacks "$system" "$1" "$2" 1000 0 0) ]] || without+=" $system"
    done
    [[ -n $lacks || -z $without ]] || lacks="- (not all of$without)"
    say "$lacks"
}

wanted_peer_rows() {
    local wire count best p row
    for row in "merged 2 50" "merged 8 50" "merged 32 50" "nic 2 60" "nic 8 60"; do
        read -r wire count p <<<"$row"
        wanted_ratio "$wire 1 -> $count: of the raw limit" '>=' "$p" % 100 \
            "qsm $wire $count 1000 0 0" "raw-unix $wire $count 1000 0 0"
    done
    for wire in nic segmented; do
        for count in 2 8; do
            best=$(best_peer "$wire" "$count")
            wanted "$wire 1 -> $count: ahead of every peer" \
                "$(peer_value 3 qsm "$wire" "$count" 1000 0 0)" '>' "${best#* }" \
                "1/s${best:+ (${best% *})}" "$(ahead_lacks "$wire" "$count")"
        done
    done
    wanted "merged 1 -> 2; 64 bytes" "$(peer_value 3 qsm merged 2 64 0 0)" '>=' 6500000 1/s \
        "$(peer_lacks qsm merged 2 64 0 0)"
    wanted_ratio "1 % lost at one of 8: of none lost" '>=' 80 % 100 "qsm segmented 8 1000 1 0" \
        "qsm segmented 8 1000 0 0"
    p=1.5
    for best in p50 p99; do
        wanted_ratio "one message at 1000/s: $best against the raw limit's" '<=' $p times 1 \
            "qsm merged 2 1000 0 1000 $best" "raw-unix merged 2 1000 0 1000 $best"
        p=3
    done
}

wanted_group_rows() {
    local n names speed
    local -A bound=([half]=95 [full]=90)
    for speed in half full; do
        names=("${groups_counts[@]/%/ groups against 1 ($speed speed)}")
        wanted_rows "many groups against 1; $speed speed (least of all)" \
            '>=' "${bound[$speed]}" % "$repeats runs" 3 "${names[@]}"
    done
    # Of each of three hosts a value.
    n=${groups_counts[-1]}
    wanted_rows "memory of a group's state ($n groups)" '<' 1024 B "3 hosts" 5 \
        "memory of a group's state in a qsmd ($n groups)"
    names=("1 groups" "${groups_counts[@]/%/ groups}" "$idle_groups groups" "after all of them")
    names=("${names[@]/#/resident memory of a qsmd (}")
    wanted_rows "resident memory of a qsmd; any number of groups" '<' 65536 kB "3 values" 5 \
        "${names[@]/%/)}"
    n=$idle_groups
    wanted_rows "idle; $n groups: tokens in $idle_quiet s" '<=' 0 "" "3 hosts" 5 \
        "tokens that a qsmd sends in $idle_quiet s ($n groups)"
    wanted_rows "idle; $n groups: CPU" '<' 0.1 % "3 hosts" 5 "CPU of a qsmd ($n groups)"
}

wanted_table() {
    local words host
    printf '\n%-54s %14s  %-26s %s\n' "wanted" measured wanted holds
    wanted_peer_rows
    wanted_rows "merged 1 -> $large_receivers" '>=' 10000 1/s "$repeats runs" 3 \
        "messages 1 -> $large_receivers (merged; an application on each)"
    for host in "the sending host" "a receiving host"; do
        wanted_rows "system calls per message ($host)" '<=' 0.1 "" "$repeats runs" 3 \
            "system calls per message 1 -> 2 ($host)"
    done
    wanted_group_rows
    for words in "asleep 0.5 s in 5 s" "deaf 10 ms in 1 s"; do
        wanted_rows "one of 8 $words: the others' rate" '>=' 98 % "1 runs" 3 \
            "the others' messages with one $words"
        wanted_rows "one of 8 $words: the others' p99" '<=' 200 % "1 runs" 3 \
            "that p99 against undisturbed ($words)"
    done
    wanted_rows "one application stopped: the others' rate" '>=' 95 % "$((2 * repeats)) runs" 3 \
        "the others' messages once one has stopped reading"
    wanted_rows "one application stopped: ended by its policy" '<=' 5000 ms \
        "$((2 * repeats)) runs" 3 "until it is ended by its policy"
    wanted_line "token round trip: 192 nodes against 25" "" "<= 2 times: \`make charts\`" -
}
