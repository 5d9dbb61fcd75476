#!/bin/bash
# tidy.sh: the rules of the tree that a compiler does not check: who includes whom, what the core
# may call, how long files and functions get, and that what a user can see is in a manual page.
#   BUILD=dir tests/tidy.sh
# dir holds a plain build (sanitizers put their own symbols everywhere).
set -u
shopt -s lastpipe # so that report's variable is ours
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
failed=0

# Takes what is wrong on standard input; nothing there: passed.
report() { # claim
    local found
    found=$(cat)
    if [ -z "$found" ]; then
        echo "PASS tidy $1"
    else
        printf '%s\n' "$found"
        echo "FAIL tidy $1"
        failed=1
    fi
}

# ---- layers

# Layer of each module of daemon/: includes point down. A part of a module (cms_state, journal_sqlite,
# session_out) is named after it and lies in its layer unless it is listed itself.
layers='
programs  main cmsd
shell     loop ipc session link udp journal trace
protocol  node context peer group send recv ring rings recovery relay member vote
protocol  cms flush suspect region
parts     view store wire_data wire_token pull pace timer range buf load flight name stats mark histogram sample upcalls frame parts cursor
beside    log conf conf_value clock options
'
# Allowed includes inside a layer, without those of a module by its own parts. Headers that are the
# interface of a layer (node.h, cms.h) are for all below them to see as well.
edges='
main: loop
loop: ipc session link udp trace
ipc: session
node: context peer group send recv rings recovery relay member vote
group: context
send: context group peer
recv: context group
ring: context group send recv recovery peer rings
rings: context group send recv recovery relay peer ring
relay: context peer
recovery: context group send recv peer
member: context group send recv rings recovery peer vote
vote: context group send recv recovery peer
peer: context node
cms: flush suspect region
flush: cms region
suspect: cms
context: node
region: cms
conf: conf_value log
conf_value: conf
wire_data: range cursor
wire_token: view wire_data range
view: buf
parts: frame
store: buf
upcalls: buf stats
stats: mark histogram
sample: histogram
'
# Where generated protobuf code is known.
generated='session link client qsmclient cms member vote flush suspect'

check_includes() {
    find daemon proto -name '*.[ch]' | sort | xargs grep -H '^#include "' |
        awk -v layers="$layers" -v edges="$edges" -v generated="$generated" '
    BEGIN {
        rank["programs"] = 4; rank["shell"] = 3; rank["beside"] = 2.5
        rank["protocol"] = 2; rank["parts"] = 1
        n = split(layers, line, "\n")
        for (i = 1; i <= n; i++) {
            m = split(line[i], word, " ")
            for (j = 2; j <= m; j++)
                layer[word[j]] = word[1]
        }
        n = split(edges, line, "\n")
        for (i = 1; i <= n; i++) {
            m = split(line[i], word, "[: ]+")
            for (j = 2; j <= m; j++)
                edge[word[1], word[j]] = 1
        }
        n = split(generated, word, " ")
        for (i = 1; i <= n; i++)
            knows[word[i]] = 1
    }
    function name_of(path) { sub(/.*\//, "", path); sub(/\.[ch]$/, "", path); return path }
    # The module that a file is a part of: itself when the table has it.
    function module_of(name) {
        while (!(name in layer) && name ~ /_/)
            sub(/_[^_]*$/, "", name)
        return name
    }
    {
        file = $0; sub(/:.*/, "", file)
        included = $0; sub(/[^"]*"/, "", included); sub(/".*/, "", included)
        from = module_of(name_of(file)); to = module_of(name_of(included))
        if (included ~ /\.pb-c\.h$/) {
            if (!(from in knows))
                print file ": generated code (" included ") is not for " from
            next
        }
        if (!(from in layer)) { print file ": module " from " is not in the table of layers"; next }
        if (!(to in layer)) { print file ": " included " is not in the table of layers"; next }
        if (from == to || rank[layer[from]] > rank[layer[to]] && \
            !(layer[to] == "beside" && rank[layer[from]] < 3))
            next
        if (layer[from] == layer[to] && ((from, to) in edge))
            next
        print file ": " layer[from] " may not include " included " (" layer[to] ")"
    }' | sort -u
}
check_includes | report "includes point down, or along the table"

others() { # pattern what allowed-modules-regex
    grep -nE "$1" -r daemon proto client --include='*.[ch]' |
        grep -vE "^[a-z/]*/($3)(_[a-z]+)?\.[ch]:"
}
others '#include <event' libevent 'loop|ipc|link|cmsd|journal_etcd' |
    report "libevent is in loop, ipc, link and cmsd only"
others '\b(SOCK_DGRAM|recvmmsg|sendmmsg|recvfrom|sendto)\b' datagrams udp |
    report "datagram sockets are in udp only"

grep -nE '#include "' client/*.[ch] 2>/dev/null |
    grep -vE '"(qsmclient[a-z_]*|output|qsmctl[a-z_]*|(proto/)?frame|(proto/)?ipc\.pb-c)\.h"' |
    report "client/ includes proto/ and nothing of daemon/"
grep -nE '#include "' client/qsmctl*.[ch] client/output*.[ch] 2>/dev/null |
    grep -vE '"(qsmclient|output|qsmctl[a-z_]*)\.h"' |
    report "qsmctl includes qsmclient.h only"
grep -nE '#include "' tests/sim/check*.[ch] 2>/dev/null | grep -vE '"check[a-z_]*\.h"' |
    report "the trace checker includes nothing of the core"
find . -path ./.git -prune -o -name 'util*.[ch]' -print | report "there is no util.c"

# ---- the core's symbols

core=$build/libcore.a
objects=$(ar t "$core" 2>/dev/null | grep -v '\.pb-c\.o$')
if [ -z "$objects" ]; then
    echo "no $core" | report "the core is built"
else
    # Columns of objdump -t: address, seven flags (O: an object), section, size, name. Constants with
    # pointers in them lie in .data.rel.ro.
    objdump -t "$core" | awk '
        /^[^ ]*\.o:/ { object = $1; next }
        object ~ /\.pb-c\.o:/ { next }
        substr($0, 18, 7) ~ /O/ && /\t/ {
            section = substr($0, 26); sub(/\t.*/, "", section)
            if (section !~ /^\.(rodata|data\.rel\.ro)/)
                print object, section, $NF
        }
        / \*COM\*/ { print object, $0 }' | report "the core has no writable globals"

    # Nothing but memory, strings and sorting may be called: no I/O, clock, randomness or threads.
    allowed='^(mem[a-z]+|str[a-z]+|malloc|calloc|realloc|reallocarray|free|aligned_alloc|qsort|bsearch
        |v?sn?printf|v?asprintf|abort|__[a-z]+di2|__assert_fail|__stack_chk_fail|__errno_location|__[a-z]+_chk|__ctype_[a-z_]+
        |_GLOBAL_OFFSET_TABLE_|protobuf_c_[a-z_]+|qsm__[a-z0-9_]+)$'
    allowed=$(printf '%s' "$allowed" | tr -d ' \n')
    nm --defined-only "$core" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u >"$build/core.defined"
    for object in $objects; do
        ar p "$core" "$object" >"$build/core.object"
        objdump -t "$build/core.object" | awk -v o="$object" '/\*UND\*/ { print $NF, o }'
    done | sort -u | grep -vwFf "$build/core.defined" | awk -v allowed="$allowed" '$1 !~ allowed' |
        report "the core calls nothing that does I/O"
    rm -f "$build/core.defined" "$build/core.object"
fi

# ---- size and form

sources=$(find daemon client proto tests -name '*.[ch]' | sort)
allow=tests/tidy.allow # lines: FILE [FUNCTION] — the reason
allowed() { grep -qE "^$1 — ." "$allow" 2>/dev/null; }

for file in $sources; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 700 ] || allowed "$file" || echo "$file: $lines lines"
done | report "no file is longer than 700 lines"

# clang-format puts a function's braces into the first column, and nothing else's opening ones.
for file in $sources; do
    awk '/^[a-zA-Z_].*\(/ { begin = NR; name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
         /^}/ && begin && body && NR - begin + 1 > 70 { print FILENAME, name, NR - begin + 1 }
         /^{/ { body = 1 }
         /^}/ { body = 0; begin = 0 }' "$file"
done | while read -r file name lines; do
    allowed "$file $name" || echo "$file: $name has $lines lines"
done | report "no function is longer than 70 lines"

if [ -e "$allow" ]; then
    while read -r file rest; do
        [ -e "$file" ] || echo "$allow: no file $file: $rest"
    done < <(grep -v '^#' "$allow")
fi | report "what tidy.allow lists exists"

for file in $sources; do
    head -n 1 "$file" | grep -q '^/\* ' || echo "$file"
done | report "every file says first what it is"
# shellcheck disable=SC2086 # a list of words
grep -nE '^typedef struct|\b(TODO|FIXME|XXX)\b' $sources | report "no typedef of a struct, no TODO"

# ---- tests

for file in tests/unit/test_*.c; do
    suite=$(basename "$file" .c)
    grep -qw "X(${suite#test_})" tests/unit/suites.h || echo "$file: suites.h does not name it"
done | report "every unit test is run"

# ---- what a user sees

# The counters of the core and the session, and those of the shell, which bear their module's name.
counters() {
    sed -n 's/^ *X(\([a-z0-9_]*\), *".*/\1/p' daemon/core/stats.h daemon/session*.h
    for file in $(ls daemon/*.h | grep -v /session); do
        sed -n "s/^ *X(\([a-z0-9_]*\), *\".*/$(basename "$file" .h)_\1/p" "$file"
    done
}
for counter in $(counters); do
    grep -qE "^\.It Va $counter\$" man/qsm.7 2>/dev/null || echo "$counter"
done | report "every counter is in qsm(7)"

keys() { sed -n "/^static const struct conf_key $1/,/^};/s/^ *{CONF_[A-Z]*, \"\([a-z_]*\)\".*/\1/p" daemon/conf.c; }
for daemon in qsmd qsm-cmsd; do
    for key in $(keys "${daemon#qsm-}_keys"); do
        grep -qE "^\.It Cm $key( |\$)" "man/$daemon.conf.5" 2>/dev/null || echo "$daemon.conf.5: $key"
    done
done | report "every configuration key is in its manual page"

for option in $(sed -n 's/.*"\([a-z-]*\)"[^"]*_argument.*/\1/p' daemon/options.c 2>/dev/null); do
    for daemon in qsmd qsm-cmsd; do
        [ "$daemon $option" = "qsmd dump-state" ] || grep -qE -- "-$option\b" "man/$daemon.8" ||
            echo "$daemon.8: --$option"
    done
done | report "every option of the daemons is in their manual pages"

# A key that is parsed and then asked by nobody has no effect.
field_of() { sed -n "s/^ *{CONF_[A-Z]*, \"[a-z_]*\", [^,]*, [QC](\([a-z_]*\)).*/\1/p" daemon/conf.c | sort -u; }
others_of_conf=$(ls daemon/*.c | grep -v '/conf')
for field in $(field_of); do
    # shellcheck disable=SC2086 # a list of words
    grep -qE "(->|\.)$field\b" $others_of_conf || echo "$field"
done | report "every configuration key has an effect"

if [ -e client/qsmclient.map ]; then
    for function in $(sed -n 's/^ *\(qsm_[a-z_]*\);$/\1/p' client/qsmclient.map); do
        grep -qw "$function" client/qsmclient.h || echo "qsmclient.h: $function"
        grep -qw "$function" man/libqsmclient.3 2>/dev/null || echo "libqsmclient.3: $function"
    done
fi | report "every public function is declared and in libqsmclient(3)"

exit $failed
