#!/bin/bash
# run.sh: all system tests, with the daemons of one build. Prints PASS and FAIL lines; exit code 0
# when all passed.
#   BUILD=dir tests/system/run.sh [TEST…]
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"
system_enter "$@"
if [[ $net == lo ]]; then
    say "FAIL system: namespaces are forbidden here"
    exit 1
fi

status=0
run() { # name command…
    local name=$1 began=$SECONDS
    shift
    ((${#wanted[@]} == 0)) || [[ " ${wanted[*]} " == *" $name "* ]] || return
    say "== $name"
    if ! "$@"; then
        status=1
        say "-- $name failed"
    fi
    say "-- $name took $((SECONDS - began)) s"
}

# The demo where namespaces are forbidden: this one, at least, is ours.
demo_on_lo() {
    ip link set lo up
    QSM_SYSTEM_NET=lo LINES_SENT=100000 "$here"/demo.sh
}

# The demo with a file of the user's: empty lines, bytes that are no text, no newline at its end.
demo_of_a_file() {
    local file result
    file=$(mktemp)
    printf 'one\n\n\0two\377\n\nlast' >"$file"
    FILE=$file "$here"/demo.sh
    result=$?
    rm "$file"
    check "demo: a file that is not there is named" \
        eval 'FILE=$file "$here"/demo.sh | grep -qx "FILE=$file: not a file that can be read"' || result=1
    return $result
}

wanted=("$@")
run commands "$here"/commands.sh
run frames "$here"/frames.sh
run datagrams "$here"/datagrams.sh
run journal "$here"/journal.sh
run limits "$here"/limits.sh
run trace "$here"/trace.sh
run mtu "$here"/mtu.sh
run holders "$here"/holders.sh
run lo demo_on_lo
run file demo_of_a_file
run crowd "$here"/crowd.sh
run demo "$here"/demo.sh
run faults "$here"/faults.sh
run kills env ROUNDS=1 KILLS=15 CHANGES=1 "$here"/kills.sh
exit $status
