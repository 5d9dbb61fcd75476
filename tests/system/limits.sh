#!/bin/bash
# limits.sh: as many groups as there may be. A host that comes then is admitted and knows them all,
# one more group is refused by the name of the limit, and the log, snapshot included, comes back.
set -u
. "$(dirname "$0")/lib.sh"
system_enter "$@"

groups=100000
lot=10000
patience=$((sanitized ? 60 : 15))

rss() { # host or cms
    awk '/^VmRSS/ { print $2 " KB" }' "/proc/${pid[$1]}/status"
}

# CPU time that a process has used, in hundredths of a second.
cpu() { # host or cms
    awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"
}

now_ms() {
    say $(($(date +%s%N) / 1000000))
}

join_all() {
    seq -f 'limit/%06g' 1 "$groups" | xargs -n "$lot" "$BUILD/qsmctl" -s "$work/h1.sock" join -W 60
}

knows_all() { # host
    [[ $(ctl "$1" groups | grep -c '^limit/') == "$groups" ]]
}

refused() { # host
    ctl "$1" join one-too-many -W $patience 2>"$work/refused"
    (($? == 1)) && grep -q 'groups_max' "$work/refused" && return
    cat "$work/refused"
    return 1
}

took() { # what command…
    local what=$1 begin
    shift
    begin=$(now_ms)
    "$@" || return
    say "$what took $(($(now_ms) - begin)) ms"
}

cluster_begin
host_add h1 h2
cms_start
qsmd_start h1 "client { groups_per_client = 100000 }"
within $patience admitted h1
check "limits: a host joins $groups groups" took "joining them" join_all
qsmd_start h2
check "limits: a host that comes then is admitted" took "its admission" within $patience admitted h2
check "limits: it knows all of them" within $patience knows_all h2
check "limits: one more is refused by the name of the limit" took "the refusal" refused h2
check "limits: one of them can be joined" took "joining one" ctl h2 join "limit/$(printf %06d "$groups")" -W $patience
check "limits: and left" took "leaving it" ctl h2 leave "limit/$(printf %06d "$groups")" -W $patience
sleep 1
before=$(cpu h1)
sleep 2
say "RSS: h1 $(rss h1), h2 $(rss h2), cms $(rss cms); CPU of h1 in 2 idle s: $(($(cpu h1) - before))0 ms"
kill_hard cms
cms_start
check "limits: a CMS that comes back serves" took "its start and a join" within $patience ctl h2 join "limit/000001" -W 5 2>/dev/null
cluster_end limits
((failures == 0))
