#!/bin/sh
# page.sh: prints docs/scaling.md, from the figures in docs/scaling/ and the claims that check.awk
# judged (a file).
# shellcheck disable=SC2016 # awk expands what is in single quotes
set -eu
cd "$(dirname "$0")/../.."

# A Markdown table of some columns of a CSV file, for the rows that fit.
table() { # FILE CONDITION HEADINGS COLUMNS (an awk list)
    echo "$3" | awk '{ print; gsub(/[^|]+/, " ---: "); print }'
    awk -F, "NR > 1 && ($2) { print \"| \" $4 \" |\" }" "docs/scaling/$1"
}

cat <<'PAGE'
# Scaling

Made by `make charts`: do not edit. All is virtual time, in the simulator, with the code of the
daemon: a hop costs the same everywhere (100 to 120 µs and the receiver's turn), nothing is lost but
by the perturbation in question, one sender has 1,000-byte messages. The same commit gives the same
figures on every machine. The columns of the files in [scaling/](scaling/) carry units in their
names. "The linear design" is the paper's: one token that visits all members of the region, here
`ring_size` = all. Its token goes on demand like ours, and not once a second as in the paper, so
that only the rings differ.

## What aggregation costs as the region grows

![token round trip, time until stable and unacknowledged bytes, by nodes](scaling/scale.svg)

The sender has 8,000 messages a second, what the paper reached with 192 receivers. *Token round
trip* is the way of an aggregate: the mean round of a ring, summed over the levels of rings. *Time
until stable* is from accepting a message to the sender's knowing that all have it; it includes the
time until somebody asks for a token. *Unacknowledged bytes* are what the sender has in flight,
looked at each millisecond.

The paper's Figure 17 shows round trip and time to acknowledge, Figure 16 the messages that wait at
the sender: all grow linearly with the region. It proposes deeper hierarchies with tokens that
circulate independently, "but aggregation latency would grow logarithmically rather than linearly"
(5.1). Once a serial round takes longer than the window lasts, the linear design cannot keep the
rate.

PAGE
table scale.csv 1 \
    '| design | nodes | levels | round trip, ms | stable, ms | unacknowledged, KB | p99, KB | messages/s |' \
    '$1 " | " $2 " | " $3 " | " sprintf("%.2f", $4 / 1000) " | " sprintf("%.1f", $6 / 1000) " | " sprintf("%.0f", $8 / 1000) " | " sprintf("%.0f", $9 / 1000) " | " sprintf("%.0f", $11)'
cat <<'PAGE'

## What one receiver's trouble costs the others

![throughput lost, latency, unacknowledged bytes and time until stable, by nodes](scaling/perturb.svg)

The paper's perturbations (5.3), at random moments of their periods: *sleep*, one receiver stands
still for 0.5 s in every 5 s; *loss*, it drops all that comes for 10 ms in every 1 s. The stream is
such that what comes in 0.5 s fits half the window. Drawn is the worst of the victims: the last
member, a neighbour of the sender, a partition's leader, the region's leader. The others are all
receivers but the victim; latency is from accepting a message to its delivery there.

In the paper the others lose throughput (Figure 24), from 80 nodes on with *sleep* and beyond 160
with *loss*; the messages that wait for acknowledgement grow 6 to 8 times faster than undisturbed
(Figure 27); the round trip doubles (Figures 28 and 29). At this rate the serial token does no worse
here: what costs the others is a full window, and neither design fills it.

PAGE
table perturb.csv '$1 == "rings"' \
    '| nodes | perturbation | victim | messages/s without | with | cost, % | p99 without, µs | with | the longest | unacknowledged at most, KB |' \
    '$2 " | " $3 " | " $4 " | " $6 " | " $7 " | " $9 " | " $10 " | " $11 " | " $13 " | " sprintf("%.0f", $15 / 1000)'
cat <<'PAGE'

## Streams faster than the window allows while a receiver sleeps

![throughput in intervals of 100 ms, over 20 s, with four sleeps](scaling/above.svg)

The sender goes on until the window is full of what the sleeper has not acknowledged, then waits for
it, and goes on some milliseconds after it woke. A stream with a rate of its own has messages
waiting by then, which go at once: the peak at the end of a sleep. Who fills a wire, or the window,
has no such peak.

The paper's flow control oscillates where memory is short (Figure 21). Here the coefficient of
variation of the throughput in 100 ms, over all intervals in which nobody sleeps, stays below 0.1.
A peak would count, and could lift the figure of a stream with a rate of its own above that, if a sleep
ended so late in an interval that the peak fell into the next one: what had waited, and no
oscillation. The last column but one leaves that interval out.

PAGE
table above.csv 1 \
    '| nodes | stream | messages/s without | asleep | between | variation without | between | between, but the first 100 ms | of the window, at most |' \
    '$1 " | " ($2 > 0 ? $2 " messages/s" : $3 " MB/s of wire") " | " $4 " | " $6 " | " $7 " | " $8 " | " $9 " | " $10 " | " sprintf("%.1f %%", 100 * $11 / $12)'
cat <<'PAGE'

## What is checked

`make charts` fails when one of these does; `make test` keeps a part: the regions of 25 and 192
nodes, and the crowd of 60.

PAGE
sed 's/^/    /' "$1"
