#!/bin/bash
# draw.sh: the chart of an experiment, NAME.svg beside its table NAME.csv, with what the paper has
# in numbers (paper.csv): as it is, or as so many times what ours has at the least x.
#   draw.sh NAME
# shellcheck disable=SC2016 # gnuplot has $ too
set -u
. "$(dirname "$0")/table.sh"
experiment=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
panels=0
plots=()

# The end of a panel: its plot.
panel_end() {
    local sum='' plot
    for plot in "${plots[@]}"; do
        sum+="${sum:+, }$plot"
    done
    if [[ -n $sum ]]; then
        echo "plot $sum"
    else
        echo "set multiplot next"
    fi
    plots=()
}

panel() { # title [gnuplot command…]
    ((panels == 0)) || panel_end
    panels=$((panels + 1))
    echo "set title \"$1\""
    echo "unset logscale; set yrange [0:*]; set xrange [*:*]"
    shift
    printf '%s\n' "$@"
}

# A line through the rows that fit, and the first y of it for `reported`.
series() { # title style condition x y
    local file
    file=$work/$panels-${#plots[@]}
    rows_of "$experiment" "$3" "$4, $5" >"$file"
    [ -s "$file" ] || return
    plots+=("\"$file\" using 1:2 with linespoints ls $2 title \"$1\"")
}

# What the paper says of a column, for the panel whose last series it goes with; at the x that its
# `times` are relative to.
reported() { # column [condition x y]
    local file=$work/$panels-paper figure kind x value
    while IFS=, read -r figure _ _ kind x value _; do
        case $kind in
        line) plots+=("$value with lines ls 9 title \"the paper ($figure)\"") ;;
        point) echo "$x $value" >>"$file" ;;
        times) echo "$x $(rows_of "$experiment" "$2" "$3, $4" | head -n 1 |
            awk -v t="$value" '{ print $2 * t }')" >>"$file" ;;
        esac
    done < <(grep -E "^[0-9-]+,$experiment,$1,(line|point|times)," "$paper")
    [ ! -s "$file" ] || plots+=("\"$file\" using 1:2 with points ls 9 title \"the paper\"")
}

draw_nodes() {
    local one='@asked == 0 && @senders == 1' two='@asked == 0 && @senders == 2'
    local rings='@asked > 0 && @setting == "rings"' linear='@asked > 0 && @setting == "linear"'
    local x='set xlabel "receivers" offset 0,0.5; set xtics (2, 8, 24, 48, 96, 192)'
    panel "Messages per second (11)" "$x" "set logscale xy; set yrange [*:*]"
    series "1 sender" 1 "$one" @nodes @rate
    series "2 senders" 2 "$two" @nodes @rate
    reported rate "$one" @nodes @rate
    panel "Messages times receivers, 1,000 per second" "$x" "set logscale x"
    series "1 sender" 1 "$one" @nodes '@rate * @nodes / 1000'
    series "2 senders" 2 "$two" @nodes '@rate * @nodes / 1000'
    panel "A receiver's qsmd, µs per message" "$x" "set logscale x"
    series "1 sender" 1 "$one" @nodes @receiver_us
    series "2 senders" 2 "$two" @nodes @receiver_us
    panel "Messages pending at the sender (16)" "$x" "set logscale x"
    series "rings, at a rate" 1 "$rings" @nodes @pending
    series "one token, at a rate" 5 "$linear" @nodes @pending
    panel "Time to acknowledge, ms (17)" "$x" "set logscale x"
    series "rings, at a rate" 1 "$rings" @nodes @stable_ms
    series "one token, at a rate" 5 "$linear" @nodes @stable_ms
    reported stable_ms
    panel "A round of a token, ms (17)" "$x" "set logscale x"
    series "rings, at a rate" 1 "$rings" @nodes @round_ms
    series "one token, at a rate" 5 "$linear" @nodes @round_ms
}

draw_rate() {
    local large='@value == 1000 && @asked > 0' small='@value == 100 && @asked > 0' pair
    for pair in "Sender's qsmd, % of a processor (12)|sender_percent" \
        "A receiver's qsmd, % of a processor (12)|receiver_percent" \
        "Messages pending at the sender (32)|pending" "A round of a token, ms (32)|round_ms"  \
        "Memory of the sender, KB (33)|sender_kb" "Memory of a receiver, KB (33)|receiver_kb" \
        "Latency, ms, median (34)|latency_ms" \
        "Sender: turn of the loop, ms, p99 (35)|sender_turn_p99_ms" \
        "Receivers: turn of the loop, ms, p99 (35)|receiver_turn_p99_ms"; do
        panel "${pair%|*}" 'set xlabel "messages per second" offset 0,0.5; set xtics 0,4000'
        series "1,000 bytes" 1 "$large" @rate "@${pair#*|}"
        series "100 bytes" 2 "$small" @rate "@${pair#*|}"
        reported "${pair#*|}"
    done
}

draw_tokens() {
    local pair of
    for pair in "Messages per second|rate" "Messages pending at the sender|pending" \
        "Time to acknowledge, ms|stable_ms"; do
        panel "${pair%|*} (18)" 'set xlabel "tokens per second" offset 0,0.5' "set logscale x"
        of=@${pair#*|}
        series "at a fixed rate" 1 '@value > 0' @value "$of"
        series "on demand" 4 '@value == 0' 100 "$of"
        reported "${pair#*|}" '@value == 1' @value "$of"
    done
}

draw_ranges() {
    local pair of
    for pair in "Messages per second (20)|rate" "Messages pending at the sender (19)|pending" \
        "Bodies held by a receiver, KB (19)|store_kb"; do
        panel "${pair%|*}" 'set xlabel "ranges in an ACK" offset 0,0.5'
        of=@${pair#*|}
        series "nothing lost" 1 '@setting == "whole"' @value "$of"
        series "1 % lost at one receiver" 3 '@setting == "loss"' @value "$of"
        reported "${pair#*|}" '@setting == "whole"' @value "$of"
    done
}

draw_replicas() {
    local pair of
    for pair in "Bodies held by a receiver, KB (22)|store_kb" \
        "A round of a token, ms (22)|round_ms" "Messages per second (23)|rate"; do
        panel "${pair%|*}" 'set xlabel "receivers that cache a packet" offset 0,0.5'
        of=@${pair#*|}
        series "rings" 1 '@asked == 0 && @setting == "rings"' @value "$of"
        series "one token" 5 '@asked == 0 && @setting == "linear"' @value "$of"
        series "rings, at a rate" 2 '@asked > 0 && @setting == "rings"' @value "$of"
        reported "${pair#*|}" '@asked == 0 && @setting == "linear"' @value "$of"
    done
}

draw_perturbed() {
    local pair of
    for pair in "Messages per second, at a rate (24)|rate|asked > 0" \
        "Messages per second, unlimited (24)|rate|asked == 0" \
        "Packets lost, all receivers, unlimited (25)|lost|asked == 0" \
        "Messages pending, at a rate (27)|pending|asked > 0" \
        "Memory of a receiver, KB (26)|receiver_kb|asked > 0" \
        "A round of a token, ms, at a rate (28, 29)|round_ms|asked > 0" \
        "Latency of the others, ms, p99, at a rate|latency_p99_ms|asked > 0" \
        "Receivers: longest turn, ms (30)|receiver_turn_max_ms|asked > 0" \
        "Sender: longest turn, ms (31)|sender_turn_max_ms|asked > 0"; do
        panel "${pair%%|*}" 'set xlabel "receivers" offset 0,0.5' "set logscale x" \
            "set xtics (2, 8, 24, 48, 96, 192)"
        of=${pair#*|}
        series undisturbed 1 "@${of#*|} && @setting == \"undisturbed\"" @nodes "@${of%|*}"
        series sleep 3 "@${of#*|} && @setting == \"sleep\"" @nodes "@${of%|*}"
        series loss 4 "@${of#*|} && @setting == \"loss\"" @nodes "@${of%|*}"
        reported "${of%|*}"
    done
}

draw_groups() {
    local pair
    for pair in "Messages per second (39)|rate" "Messages pending at the sender (36)|pending" \
        "A round of a token, ms (36)|round_ms" "A round of a token, ms, p99 (41)|round_p99_ms" \
        "Memory of the sender, KB (37)|sender_kb" "Sender's qsmd, µs per message (38)|sender_us"; do
        panel "${pair%|*}" 'set xlabel "groups" offset 0,0.5' "set xtics 0,2048"
        [[ $pair != *rate && $pair != *sender_kb ]] || echo "set logscale y; set yrange [*:*]"
        series "as fast as they are taken" 1 '@asked == 0' @groups "@${pair#*|}"
        series "at a rate" 2 '@asked > 0' @groups "@${pair#*|}"
        reported "${pair#*|}"
    done
}

command -v gnuplot >/dev/null || { echo "$experiment: no chart: gnuplot is not here" && exit; }
{
    "draw_$experiment"
    panel_end
    echo "unset multiplot"
} >"$work/panels"
panels=$(grep -c '^set title' "$work/panels")
{
    echo "file = \"$results/$experiment.svg\"; columns = 3; rows = $(((panels + 2) / 3))"
    cat "$root/tests/experiments/charts.gp" "$work/panels"
} >"$work/chart"
# It warns of ranges with one value only.
gnuplot "$work/chart" 2> >(grep -v -i -E '^ *$|warning' >&2) &&
    echo "$experiment: $results/$experiment.svg"
