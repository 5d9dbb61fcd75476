#!/bin/bash
# page.sh: prints docs/experiments.md: beside what the paper reports, figure by figure, what the
# tables of the experiments have; whether that agrees is judged from the figures, why it is so is
# said here.
# shellcheck disable=SC2016 # awk expands what is in single quotes
set -u
. "$(dirname "$0")/table.sh"

# ---- words for figures

# first … last of the rows that fit, and how many times it has grown; or the only one.
course() { # experiment condition expression unit
    local a b
    a=$(first "$1" "$2" "$3") b=$(last "$1" "$2" "$3")
    if alone "$1" "$2"; then
        echo "$a$4"
    else
        echo "$a to $b$4 ($(times "$b" "$a") ×)"
    fi
}

# How many times an expression is at the last row what it is at the first, "-" if that is the same.
growth() { # experiment condition expression
    if alone "$1" "$2"; then
        echo -
    else
        times "$(last "$@")" "$(first "$@")"
    fi
}

# agrees, better or worse: by a ratio that is better below one bound, and worse above another.
judge() { # ratio better-up-to agrees-up-to
    awk -v r="$1" -v b="$2" -v a="$3" 'BEGIN {
        print r == "-" ? "-" : r <= b ? "better" : r <= a ? "agrees" : "worse"
    }'
}

line() { # figure here judgement
    local words
    words=$(grep "^$1," "$paper" | cut -d , -f 7- | tr '\n' ' ')
    echo "| $1 | $words| $2 | $3 |"
}

ends_of() { # experiment condition column
    if alone "$1" "$2"; then
        first "$1" "$2" "$3"
    else
        echo "$(first "$1" "$2" "$3") and $(last "$1" "$2" "$3")"
    fi
}

heading() {
    echo '| figure | the paper | here | so here is |'
    echo '| --- | --- | --- | --- |'
}

chart() { # experiment words
    [ ! -e "$results/$1.svg" ] || printf '![%s](%s/%s.svg)\n\n' "$2" "${results##*/}" "$1"
}

# ---- the parts

one='@asked == 0 && @senders == 1'
rings='@asked > 0 && @setting == "rings"'
linear='@asked > 0 && @setting == "linear"'

nodes_lines() {
    local sizes paced largest
    largest="@nodes == \"$(last nodes "$linear" @nodes)\""
    sizes="$(ends_of nodes "$one" @nodes) receivers"
    paced=$(first nodes "$rings" @asked)
    line 11 "$sizes: $(course nodes "$one" @rate " messages/s"); times receivers \
$(course nodes "$one" '@rate * @nodes' "/s"); a receiver's qsmd computes \
$(course nodes "$one" @receiver_us " µs") for a message" \
        "$(judge "$(times 1 "$(growth nodes "$one" '@rate * @nodes')")" 1.05 1.5), times receivers"
    line 16 "at $paced/s: pending $(course nodes "$rings" @pending ""); memory \
$(course nodes "$rings" @sender_kb " KB")" "$(judge "$(growth nodes "$rings" @sender_kb)" 2 3)"
    line 17 "at $paced/s: time to acknowledge $(course nodes "$rings" @stable_ms " ms"), a round \
$(course nodes "$rings" @round_ms " ms"); with one token for all, as in the paper, at \
$(last nodes "$linear" @nodes): $(last nodes "$linear" @stable_ms) ms, \
a round $(last nodes "$linear" @round_ms) ms" \
        "$(judge "$(times "$(last nodes "$rings && $largest" @stable_ms)" \
            "$(last nodes "$linear" @stable_ms)")" 0.9 1.1) than one token"
}

rate_lines() {
    local large='@value == 1000 && @asked > 0' rates
    rates="$(ends_of rate "$large" @asked) messages/s"
    line 12 "$rates: sender $(course rate "$large" @sender_percent " %") of a processor, a \
receiver $(course rate "$large" @receiver_percent " %"); the rate grows \
$(growth rate "$large" @rate) ×" \
        "$(judge "$(growth rate "$large" @sender_us)" 1 1.5) for the sender"
    line 32 "pending $(course rate "$large" @pending "")" \
        "$(judge "$(times "$(growth rate "$large" @pending)" \
            "$(growth rate "$large" @rate)")" 0.9 1.5)"
    line 33 "sender $(course rate "$large" @sender_kb " KB"), receiver \
$(course rate "$large" @receiver_kb " KB")" "$(judge "$(growth rate "$large" @sender_kb)" 2 32)"
    line 34 "median $(course rate "$large" @latency_ms " ms")" \
        "$(judge "$(growth rate "$large" @latency_ms)" 1 2)"
    line 35 "99th percentile of a turn of the loop: sender \
$(course rate "$large" @sender_turn_p99_ms " ms"), receivers \
$(course rate "$large" @receiver_turn_p99_ms " ms")" \
        "$(judge "$(last rate "$large && @asked >= 8000" @sender_turn_p99_ms)" 45 90)"
}

tokens_lines() {
    local base='@value == 1' five='@value == 5' demand='@value == 0'
    line 18 "1, 5 tokens/s and on demand: $(first tokens "$base" @rate), \
$(first tokens "$five" @rate) and $(first tokens "$demand" @rate) messages/s; acknowledged after \
$(first tokens "$base" @stable_ms), $(first tokens "$five" @stable_ms) and \
$(first tokens "$demand" @stable_ms) ms; pending $(first tokens "$base" @pending), \
$(first tokens "$five" @pending) and $(first tokens "$demand" @pending)" \
        "$(judge "$(times "$(first tokens "$demand" @stable_ms)" \
            "$(first tokens "$base" @stable_ms)")" 0.9 1.1) on demand"
}

ranges_lines() {
    local whole='@setting == "whole"' loss='@setting == "loss"'
    line 19 "$(ends_of ranges "$whole" @value) ranges: pending \
$(course ranges "$whole" @pending ""); with loss $(course ranges "$loss" @pending "")" \
        "$(judge "$(growth ranges "$loss" @pending)" 0.6 1.1)"
    line 20 "$(course ranges "$whole" @rate " messages/s"); with loss \
$(course ranges "$loss" @rate "")" \
        "$(judge "$(times 1 "$(growth ranges "$whole" @rate)")" 1.05 1.3)"
    line 21 "bodies at a receiver $(course ranges "$whole" @store_kb " KB"); with loss \
$(course ranges "$loss" @store_kb "")" "$(judge "$(growth ranges "$whole" @store_kb)" 1.5 3)"
}

replicas_lines() {
    local all='@asked == 0 && @setting == "rings"' half='@asked == 0 && @setting == "linear"'
    line 22 "$(ends_of replicas "$all" @value) cachers: bodies at a receiver \
$(course replicas "$all" @store_kb " KB"), a round $(course replicas "$all" @round_ms " ms"); with \
one token and $(ends_of replicas "$half" @value): a round \
$(course replicas "$half" @round_ms " ms")" \
        "$(judge "$(growth replicas "$half" @round_ms)" 1.5 3.5)"
    line 23 "$(course replicas "$all" @rate " messages/s"); with one token \
$(course replicas "$half" @rate "")" "$(judge "$(times 1 "$(growth replicas "$all" @rate)")" 1.1 2)"
}

# Of one region: undisturbed, sleep, loss.
three() { # condition expression
    local what out=''
    for what in undisturbed sleep loss; do
        out+="${out:+, }$what $(last perturbed "$1 && @setting == \"$what\"" "$2")"
    done
    echo "$out"
}

against() { # condition what expression
    times "$(last perturbed "$1 && @setting == \"$2\"" "$3")" \
        "$(last perturbed "$1 && @setting == \"undisturbed\"" "$3")"
}

perturbed_lines() {
    local nodes paced full deaf
    nodes=$(last perturbed '@asked > 0 && @setting != "undisturbed"' @nodes)
    paced="@nodes == \"$nodes\" && @asked > 0" full="@nodes == \"$nodes\" && @asked == 0"
    deaf="$paced && @setting == \"loss\""
    line 24 "$nodes receivers, messages/s: at a rate \
$(three "$paced" @mean_rate); unlimited $(three "$full" @mean_rate)" \
        "$(judge "$(times 1 "$(against "$paced" "sleep" @mean_rate)")" 1.02 1.2) at the rate"
    line 25 "packets lost by all receivers, of the messages sent to each: \
$(three "$full" '@lost " of " @messages')" -
    line 26 "KB: $(three "$paced" @receiver_kb)" \
        "$(judge "$(against "$paced" "sleep" @receiver_kb)" 1.2 2)"
    line 27 "at the rate: $(three "$paced" @pending)" \
        "$(judge "$(against "$paced" "sleep" @pending)" 2 8)"
    line 28-29 "at the rate, ms: $(three "$paced" @round_ms)" \
        "$(judge "$(against "$paced" loss @round_ms)" 1.5 2.5)"
    line 30 "longest turn of a receiver's loop, at the rate, ms: \
$(three "$paced" @receiver_turn_max_ms)" \
        "$(judge "$(last perturbed "$deaf" @receiver_turn_max_ms)" 100 200)"
    line 31 "longest turn of the sender's loop, at the rate, ms: \
$(three "$paced" @sender_turn_max_ms)" \
        "$(judge "$(last perturbed "$deaf" @sender_turn_max_ms)" 650 1400)"
}

groups_lines() {
    local full='@asked == 0' paced='@asked > 0'
    line 36 "$(ends_of groups "$paced" @groups) groups, at $(first groups "$paced" @asked)/s: \
pending $(course groups "$paced" @pending ""), a round $(course groups "$paced" @round_ms " ms")" \
        "$(judge "$(growth groups "$paced" @pending)" 1.2 3)"
    line 37 "$(course groups "$paced" @sender_kb " KB"), of it for groups \
$(last groups "$paced" '@state_kb * 1000 / @groups') bytes each" \
        "$(judge "$(first groups "$paced && @groups == 8192" @sender_kb)" 100000 360000)"
    line 38 "the sender's qsmd, for a message: $(course groups "$full" @sender_us " µs"), at the \
rate $(course groups "$paced" @sender_us "")" \
        "$(judge "$(growth groups "$paced" @sender_us)" 1.1 3)"
    line 39 "$(course groups "$full" @rate " messages/s"); at the rate \
$(course groups "$paced" @rate "")" \
        "$(judge "$(times 1 "$(growth groups "$full" @rate)")" 1.11 1.5)"
    line 40 "not measured" -
    line 41 "99th percentile of a round: $(course groups "$paced" @round_p99_ms " ms")" \
        "$(judge "$(growth groups "$paced" @round_p99_ms)" 1.5 4)"
    line 42 "rounds in $(first groups "$paced" '@asked') messages/s: \
$(course groups "$paced" @rounds ""); their intervals are not measured" -
}

# ---- the page

cat <<PAGE
# The paper's evaluation, on real daemons

Made by \`make experiments\`: do not edit. Each part is a script in tests/experiments/, its table
and its chart are in [${results##*/}/](${results##*/}/); the names of columns carry units. What
rings of rings do with equal hops and up to 1,000 nodes is simulated, in [scaling.md](scaling.md).

What differs from the paper's 200 machines: all hosts are network namespaces on one bridge of one
machine with $(nproc) processors, a \`qsmd\` and an application on each. A datagram to N hosts is N
copies in the time of these processors, and so is what N daemons and N applications do with it: at
full speed a figure says what the machine can do, and "messages × receivers" and the processor's
time per message and node are what compares. Where a figure is to show the protocol, the stream has
a rate that all sizes can keep. Messages have 1,000 bytes unless said otherwise. Rates are of the
slowest receiver in the second half of a stream, latencies from when a message was due to when the
application has it, other times the daemons' own histograms (\`qsmctl stats\`). The wire is the one
on which a train of datagrams crosses whole; with losses, one datagram at a time. Daemons run with
\`client { queue_bytes = 64 MB, queue_age_ms = 10 s, grant_bytes = 1 GB }\`: an application that is
without a processor for some time, as happens on a full machine, would otherwise be ended as slow,
and the queues of 8,192 groups could not all be granted at once. The column "n" says of how many
streams a row is the median. "-": not measured. In the charts grey is what the paper reports, as it
is or as so many times what we have at its starting point; dashed orange is one token that visits
all members, as the paper's does, measured here.

"better", "agrees" and "worse" are judged from the figures beside them: better is less growth, less
time or less memory than in the paper, in the last column of the row. A machine that is too full
shows in them like anything else.

## More nodes

PAGE
chart nodes "throughput, cost, pending messages, time to acknowledge and token round, by nodes"
heading
nodes_lines
cat <<'PAGE'

The paper's sender slows as its heap grows with what is pending; here nothing is collected, and
bodies lie in a pool, so that the memory does not follow what is pending. A ring has at most 25
members and the rings of leaders above go round by themselves, as the paper proposes; what a round
still grows by is the machine, where more daemons wait for the same processors. The time to
acknowledge at a rate is mostly the wait for a token: nobody asks for one before a quarter of the
window is full. Full speed falls with the receivers, for they share the processors, and a daemon
costs more for a message when fewer come at once.

PAGE
markdown nodes 1 'receivers|@nodes' 'senders|@senders' 'asked/s|@asked' 'tokens|@setting' \
    'messages/s|@rate' 'receiver, µs per message|@receiver_us' 'pending|@pending' \
    'acknowledged, ms|@stable_ms' 'round, ms|@round_ms' 'sender, KB|@sender_kb' \
    'processors busy, %|@machine_percent' 'n|@n'
cat <<'PAGE'

## Faster streams

PAGE
chart rate "processor use, pending messages, memory, latency and turns of the loop, by rate"
heading
rate_lines
cat <<'PAGE'

A sender's work for a message falls as the rate grows: what waits goes as one train of datagrams,
with one call. Tokens come on demand, so that faster streams are acknowledged sooner, and what is
pending is bounded by the window. A timer is late by one turn of the loop at most, which ends after
its quanta; the waits for a processor in a turn are part of it. How late, says `loop_lag_us` of
`qsmctl stats`, too.

PAGE
markdown rate 1 'asked/s|@asked' 'bytes|@value' 'messages/s|@rate' 'sender, %|@sender_percent' \
    'receiver, %|@receiver_percent' 'pending|@pending' 'sender, KB|@sender_kb' \
    'receiver, KB|@receiver_kb' 'latency, ms|@latency_ms' 'p99, ms|@latency_p99_ms' \
    'processors busy, %|@machine_percent' 'n|@n'
cat <<'PAGE'

## More tokens

PAGE
chart tokens "throughput, pending messages and time to acknowledge, by tokens a second"
heading
tokens_lines
cat <<'PAGE'

With tokens at a fixed rate a sender can have only a window in each round, whatever the machine
could do, and below 2.5 tokens a second, where every ACK takes more than 0.4 s, it keeps the window
at its least, 128 KB, as if the receivers could take no more. A token on demand comes when it is of
use, and costs nothing when it is not: there is no rate to choose.

PAGE
markdown tokens 1 'tokens/s (0: on demand)|@value' 'messages/s|@rate' \
    'pending|@pending' 'acknowledged, ms|@stable_ms' 'rounds|@rounds' 'hops|@hops' 'n|@n'
cat <<'PAGE'

## Ranges in acknowledgements

PAGE
chart ranges "throughput, pending messages and bodies held, by ranges in an acknowledgement"
heading
ranges_lines
cat <<'PAGE'

Ranges open the window of a sender before a gap is mended; its body is still kept until all have it.
Without loss there is no gap, and no range to tell. What receivers hold is bounded by the window, of
which each sender knows its share, so that what the sender no longer counts cannot pile up with
them: the paper's instability. The default is none.

PAGE
markdown ranges 1 'ranges|@value' 'wire|@setting' 'messages/s|@rate' 'pending|@pending' \
    'acknowledged, ms|@stable_ms' 'held by a receiver, KB|@store_kb' 'lost|@lost' \
    'repairs|@repairs' 'n|@n'
cat <<'PAGE'

## More cachers

PAGE
chart replicas "bodies held, token round and throughput, by receivers that cache a packet"
heading
replicas_lines
cat <<'PAGE'

The cachers of a packet are of one partition, 25 at most. Everybody keeps a packet until its cachers
are known to have it, and at the speed of this machine most are acknowledged by then: what more
cachers would hold is small beside what is in flight. Held bodies are neither walked nor collected,
so a full pool does not slow a token.

PAGE
markdown replicas 1 'cachers|@value' 'tokens|@setting' 'asked/s|@asked' 'messages/s|@rate' \
    'pending|@pending' 'round, ms|@round_ms' 'held by a receiver, KB|@store_kb' \
    'receiver, KB|@receiver_kb' 'n|@n'
cat <<'PAGE'

## One node in trouble

PAGE
chart perturbed "throughput, losses, pending messages, memory, rounds, latency and turns, by nodes"
heading
perturbed_lines
cat <<'PAGE'

*Sleep*: one receiver's daemon stands still for 0.5 s in every 5 s. *Loss*: it hears nothing for
10 ms in every second. At a rate of which 0.5 s fit the window the others notice neither. Faster
streams wait for who sleeps once the window is full, as they must, and lose no more than that.
The paper traced its doubled rounds to repairs that share the tokens' class: here they are a class
of their own, below tokens, on a socket of their own. Rates, of whole streams here, latencies, rounds
and turns are those of the others.

PAGE
markdown perturbed 1 'receivers|@nodes' 'asked/s|@asked' 'one receiver|@setting' \
    'messages/s|@mean_rate' 'others, p99, ms|@latency_p99_ms' 'pending|@pending' \
    'at most|@pending_max' 'round, ms|@round_ms' 'lost|@lost' 'repairs|@repairs' \
    'receiver, KB|@receiver_kb' 'n|@n'
cat <<'PAGE'

## More groups

PAGE
chart groups "throughput, pending messages, token rounds, memory and cost, by groups"
heading
groups_lines
full='@asked == 0'
cat <<PAGE

The groups share one region, so that tokens, rounds and what is pending know nothing of them. A
group costs its sender about a kilobyte, nothing runs for each of them, and memory that nobody
visits slows little: at a rate it is the memory that grows. At full speed each message is of another
group: it is looked up, granted and settled by itself, where those of one group go by the run. The
sender's daemon computes $(first groups "$full && @groups == 1" @sender_us) µs for a message of one
group, $(first groups "$full && @groups == 64" @sender_us) µs with 64 groups, and
$(first groups "$full && @groups == 8192" @sender_us) µs with 8,192, whose memory no cache holds.

PAGE
markdown groups 1 'groups|@groups' 'asked/s|@asked' 'messages/s|@rate' 'pending|@pending' \
    'round, ms|@round_ms' 'p99, ms|@round_p99_ms' 'sender, KB|@sender_kb' \
    'its groups, KB|@state_kb' 'sender, µs per message|@sender_us' 'n|@n'
cat <<'PAGE'

## What has no counterpart

Figures 13 to 15 and 38 are profiles of the managed runtime: there is none here, the processor's
time per message stands for 38. Figures 40 and 42 are distributions in time that the daemons do not
record. Alarm delays (30, 31, 35) are not recorded either; turns of the loop stand for them.
PAGE
