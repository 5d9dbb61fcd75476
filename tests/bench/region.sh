# shellcheck shell=bash
# region.sh: the sections `perturbed` and `large` of figures.sh: what the system tests of one region
# measure (tests/system/region_perturb.sh, region_large.sh), as rows.
# Of lib.sh, words.sh and figures.sh: root, rows, repeats.
# shellcheck disable=SC2154

perturbed_rate=2000   # messages a second: those of 0.5 s fit half of a window
perturbed_seconds=12  # of each of three streams
large_receivers=192
large_messages=40000

# What one of a system test's streams says after a word, " WORD N": of a stream that is complete and
# from which nobody was expelled.
region_number() { # stream word
    grep -q "^PASS region perturbed: $1, all is complete" "$rows.region" || return 0
    ! grep -q "^FAIL region perturbed: $1, nobody is expelled" "$rows.region" || return 0
    sed -n "s|^ *$1:.* $2 \([0-9.]*\) .*|\1|p" "$rows.region" | head -n 1
}

# Rows of the others while one is perturbed in this way.
perturbed_figures() { # stream words
    local rate p99
    rate=$(region_number "$1" "others") p99=$(region_number "$1" "us, p99")
    figure "the others' messages with one $2" % \
        "$(percent_of "${rate:--}" "$(region_number undisturbed others)")"
    figure "the others' p99 with one $2" us "${p99:--}"
    figure "that p99 against undisturbed ($2)" % \
        "$(percent_of "${p99:--}" "$(region_number undisturbed "us, p99")")"
}

measure_perturbed() {
    RECEIVERS=8 RATE=$perturbed_rate DURATION=$perturbed_seconds \
        "$root/tests/system/region_perturb.sh" >"$rows.region" 2>&1
    grep '^FAIL' "$rows.region"
    figure "messages 1 -> 8 (undisturbed; $perturbed_rate/s)" 1/s \
        "$(region_number undisturbed others)"
    figure "p99 (undisturbed)" us "$(region_number undisturbed "us, p99")"
    perturbed_figures asleep "asleep 0.5 s in 5 s"
    perturbed_figures deaf "deaf 10 ms in 1 s"
}

# The rate of one region made anew, or nothing.
large_once() {
    RECEIVERS=$large_receivers MERGED=1 COUNT=$large_messages \
        "$root/tests/system/region_large.sh" >"$rows.region" 2>&1
    grep '^FAIL' "$rows.region" >&2
    ! grep -q '^PASS.*complete, in order and stable' "$rows.region" ||
        sed -n 's|^ *\([0-9]*\) messages/s at the slowest.*|\1|p' "$rows.region"
}

measure_large() {
    local i rates=()
    for ((i = 1; i <= repeats; i++)); do
        late || rates+=("$(large_once)")
    done
    figure "messages 1 -> $large_receivers (merged; an application on each)" 1/s "${rates[@]}"
}
