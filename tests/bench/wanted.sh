# shellcheck shell=bash
# wanted.sh: at the end of figures.sh, what is wanted of the figures beside what this run has
# measured, and whether that holds. "-": not measured in this run. Nothing fails for it.
# Of the other files: rows, chosen, and what the sections call their rows.
# shellcheck disable=SC2154

ratio_of() { # number number
    awk -v a="$1" -v b="$2" 'BEGIN { if (a > 0 && b > 0) printf "%.2f\n", a / b }'
}

# Those that repair what is lost.
wanted_peers=(corosync cyclone zmq norm nats redis)

# A column of a section's row: 3 median, 4 least, 5 greatest.
row_value() { # column what
    awk -F, -v c="$1" -v what="$2" '$1 == what { print $c; exit }' "$rows"
}

# A column of a system's row among the peers: 3 median, 13 percent.
peer_value() { # column system wire receivers bytes loss rate [p50|p99]
    awk -F, -v c="$1" -v row="$2,$3,$4,$5,$6,$7" -v which="${8:-}" '
        $7 "," $8 "," $9 "," $10 "," $11 "," $12 == row && (which == "" || $1 ~ ": " which "$") {
            print $c
            exit
        }' "$rows"
}

# When sections are chosen, what they do not measure is not asked for.
wanted_line() { # what measured wanted holds
    [[ -n $2 || ${chosen:-0} == 0 ]] || return 0
    printf '%-54s %14s  %-26s %s\n' "$1" "${2:--}" "$3" "$4"
    say "wanted: $1,,${2:--},,,,,,,,,,,$3: $4" >>"$rows"
}

# Whether a number is at least, at most, less or more than another.
wanted() { # what measured ">="|"<="|"<"|">" number unit
    wanted_line "$1" "$2" "$3 ${4:--}${5:+ $5}" "$(awk -v v="${2:--}" -v op="$3" -v w="$4" 'BEGIN {
        if (v !~ /^[0-9.]+$/ || w !~ /^[0-9.]+$/) { print "-"; exit }
        print (op == ">=" && v + 0 >= w + 0 || op == "<=" && v + 0 <= w + 0 ||
            op == "<" && v + 0 < w + 0 || op == ">" && v + 0 > w + 0) ? "yes" : "no"
    }')"
}

# The fastest of the peers, with its name in front.
best_peer() { # wire receivers
    local system value
    for system in "${wanted_peers[@]}"; do
        value=$(peer_value 3 "$system" "$1" "$2" 1000 0 0)
        [[ $value != [0-9]* ]] || say "$system $value"
    done | sort -k 2 -n -r | head -n 1
}

wanted_peer_rows() {
    local wire count best p
    for count in 2 8 32; do
        wanted "merged 1 -> $count: of the raw limit" \
            "$(peer_value 13 qsm merged "$count" 1000 0 0)" '>=' 50 %
    done
    for count in 2 8; do
        wanted "nic 1 -> $count: of the raw limit" \
            "$(peer_value 13 qsm nic "$count" 1000 0 0)" '>=' 60 %
    done
    for wire in nic segmented; do
        for count in 2 8; do
            best=$(best_peer "$wire" "$count")
            wanted "$wire 1 -> $count: ahead of every peer" \
                "$(peer_value 3 qsm "$wire" "$count" 1000 0 0)" '>' "${best#* }" \
                "1/s${best:+ (${best% *})}"
        done
    done
    wanted "merged 1 -> 2; 64 bytes" "$(peer_value 3 qsm merged 2 64 0 0)" '>=' 6500000 1/s
    wanted "1 % lost at one of 8: of none lost" "$(peer_value 13 qsm segmented 8 1000 1 0)" \
        '>=' 80 %
    p=1.5
    for best in p50 p99; do
        wanted "one message at 1000/s: $best against the raw limit's" \
            "$(ratio_of "$(peer_value 3 qsm merged 2 1000 0 1000 $best)" \
                "$(peer_value 3 raw-unix merged 2 1000 0 1000 $best)")" '<=' $p times
        p=3
    done
}

wanted_group_rows() {
    local n values=() speed
    local -A bound=([half]=95 [full]=90)
    for speed in half full; do
        values=()
        for n in "${groups_counts[@]}"; do
            values+=("$(row_value 3 "$n groups against 1 ($speed speed)")")
        done
        wanted "many groups against 1; $speed speed (least of all)" "$(least "${values[@]}")" \
            '>=' "${bound[$speed]}" %
    done
    n=${groups_counts[-1]}
    wanted "memory of a group's state ($n groups)" \
        "$(row_value 5 "memory of a group's state in a qsmd ($n groups)")" '<' 1024 B
    values=()
    for n in 1 "${groups_counts[@]}" "$idle_groups"; do
        values+=("$(row_value 5 "resident memory of a qsmd ($n groups)")")
    done
    values+=("$(row_value 5 "resident memory of a qsmd (after all of them)")")
    wanted "resident memory of a qsmd; any number of groups" "$(greatest "${values[@]}")" \
        '<' 65536 kB
    n=$idle_groups
    wanted "idle; $n groups: tokens in $idle_quiet s" \
        "$(row_value 5 "tokens that a qsmd sends in $idle_quiet s ($n groups)")" '<=' 0 ""
    wanted "idle; $n groups: CPU" "$(row_value 5 "CPU of a qsmd ($n groups)")" '<' 0.1 %
}

wanted_table() {
    local words host
    printf '\n%-54s %14s  %-26s %s\n' "wanted" measured wanted holds
    wanted_peer_rows
    wanted "merged 1 -> $large_receivers" \
        "$(row_value 3 "messages 1 -> $large_receivers (merged; an application on each)")" \
        '>=' 10000 1/s
    for host in "the sending host" "a receiving host"; do
        wanted "system calls per message ($host)" \
            "$(row_value 3 "system calls per message 1 -> 2 ($host)")" '<=' 0.1 ""
    done
    wanted_group_rows
    for words in "asleep 0.5 s in 5 s" "deaf 10 ms in 1 s"; do
        wanted "one of 8 $words: the others' rate" \
            "$(row_value 3 "the others' messages with one $words")" '>=' 98 %
        wanted "one of 8 $words: the others' p99" \
            "$(row_value 3 "that p99 against undisturbed ($words)")" '<=' 200 %
    done
    wanted "one application stopped: the others' rate" \
        "$(row_value 3 "the others' messages once one has stopped reading")" '>=' 95 %
    wanted "one application stopped: ended by its policy" \
        "$(row_value 3 "until it is ended by its policy")" '<=' 5000 ms
    wanted_line "token round trip: 192 nodes against 25" "" "<= 2 times: \`make charts\`" -
}
