#!/bin/bash
# figures.sh: how fast it is here, as a table: rates, token round trips, joins, memory, simulator;
# and at the end what is wanted of it, and whether that holds (wanted.sh).
# Hosts are network namespaces on one bridge, the wire as the kernel makes it ("merged": no loss,
# and a train of segments crosses whole). The bridge copies in the sender's time. Nothing fails for
# being slow; what could not be measured is "-". Other work on the machine shows in every figure,
# least in the CPU times.
#   BUILD=dir OUT=file.csv tests/bench/figures.sh [section…]
# REPEATS=n is for all of them. The sections, in the order in which they run by themselves:
#   idle       quiet daemons, without a group and with 10,000 (groups.sh)
#   flow       messages per second, 1 -> 2 and 1 -> 8 (streams.sh)
#   calls      system calls, CPU time and instructions for a message (calls.sh)
#   token      token round trips at 5 and 64 nodes (streams.sh)
#   join       how long a join takes (streams.sh)
#   sim        the simulator's speed (streams.sh)
#   groups     messages per second over 1 to 8,192 groups, and their memory (groups.sh)
#   stopped    an application that stops reading, and the others (stopped.sh)
#   perturbed  one of 8 hosts asleep or deaf for a while, and the others (region.sh)
#   large      one region of 192 daemons (region.sh)
#   peers      beside what the kernel can do at all and other systems (peers.sh)
set -u
here=$(dirname "$0")
. "$here/../system/lib.sh"
. "$here/words.sh"
for part in streams calls groups stopped region peers wanted; do
    # shellcheck source=/dev/null
    . "$here/$part.sh"
done
[[ ${OUT:-/} == /* ]] || export OUT=$PWD/$OUT
machine_enter "$@"
system_enter "$@"
if [[ $net == lo ]]; then
    say "figures: namespaces are forbidden here"
    exit 1
fi

# shellcheck disable=SC2034 # of the sections
{
    repeats=${REPEATS:-3}
    seconds=3 # that a stream is meant to last
    window=4  # seconds between two looks at a ring's counters
    joins=50
    bytes=1000
    limit=900 # seconds after which nothing more is begun, but the peers
}
# shellcheck disable=SC2034 # of wanted.sh
chosen=$#
sections=("$@")
[[ $# -gt 0 ]] ||
    sections=(idle flow calls token join sim groups stopped perturbed large peers)
flow=$BUILD/tests/bench/flow
[ -x "$flow" ] || { echo "$flow is not built: use \`make bench\`" >&2; exit 2; }
rows=$(mktemp "${TMPDIR:-/tmp}/qsm-figures.XXXXXX")
figures_exit() {
    local status=$?
    rm -f "$rows" "$rows".*
    return $status
}
trap 'figures_exit; system_exit' EXIT

busy=$(busy_percent)
say "$("$BUILD/qsmd" --version | head -n 1), $(nproc) processors, load average $(load); others" \
    "use $busy %"
[[ $sanitized == 0 ]] || say "a build with sanitizers: these are no figures of speed"
[[ ${sections[*]} == peers ]] ||
    printf '%-58s %12s  %-6s %12s %12s %3s\n' figure median unit min max n
for section in "${sections[@]}"; do
    began=$SECONDS
    case $section in
    flow)
        measure_flow 2
        measure_flow 8
        ;;
    token)
        late || measure_token 5
        late || measure_token 64
        ;;
    idle | peers) "measure_$section" ;;
    calls | join | sim | groups | stopped | perturbed | large) late || "measure_$section" ;;
    *) say "no such section: $section" ;;
    esac
    say "  $section: $((SECONDS - began)) s"
done
wanted_table
say "load average at the end $(load); $SECONDS s"
if [[ -n ${OUT:-} ]]; then
    {
        say "figure,unit,median,min,max,n,system,wire,receivers,bytes,loss_percent,rate," \
            "percent,words,runs" | tr -d ' '
        cat "$rows"
        say "processors in use by others before,%,$busy,$busy,$busy,1,,,,,,,,,1"
        load | awk '{ print "load average at the end,," $1 "," $1 "," $1 ",1,,,,,,,,,1" }'
    } >"$OUT"
fi
