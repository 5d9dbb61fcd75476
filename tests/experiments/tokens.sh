#!/bin/bash
# tokens.sh: what more tokens bring (figure 18 of the paper): one group, one sender, tokens at a
# fixed rate as in the paper, and on demand as ours go by themselves (tokens a second: 0). What may
# be in flight begins small and grows with each ACK that comes within 0.4 s: streams with more tokens
# than that have as many messages as it takes until that is all the window, and as many again; those
# with fewer go on for 10 s.
#   NODES="48"    receivers
#   TOKENS="1 2 3 5 10 20 50 0"    MESSAGES=n  default 16000
set -u
. "$(dirname "$0")/lib.sh"
experiment tokens "$@"

# What is asked for goes no sooner than what goes by itself.
one_rate() { # tokens a second
    setting=tokens
    value=$1
    qsmd_lines=("token_rate = 1.0")
    [[ $1 == 0 ]] || qsmd_lines=("token_rate = $1" "token_min_interval_us = $(awk -v r="$1" \
        'BEGIN { printf "%.0f", 1000000 / r }')")
    daemons_begin
    messages=$(awk -v r="$1" -v n="${MESSAGES:-16000}" \
        'BEGIN { print (r > 0 && r < 2.5 ? 1300 * r : n) }')
    measure
    daemons_end
}

for ((repeat = 1; repeat <= repeats; repeat++)); do
    for count in ${NODES:-48}; do
        region_make "$count" 1
        for rate in ${TOKENS:-1 2 3 5 10 20 50 0}; do
            late || one_rate "$rate"
        done
        cluster_remove
    done
done
