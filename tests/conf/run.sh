#!/bin/sh
# run.sh: golden pairs of configurations. NAME.conf is accepted and dumped as NAME.out, and that
# dumped again is the same; NAME.bad is refused with the line NAME.err and changes nothing. The
# installed configurations, all commented out, name every key at its default.
#   BUILD=dir tests/conf/run.sh [--accept]    --accept writes what came out as what is expected
set -u
cd "$(dirname "$0")" || exit 1
build=$(cd ../.. && cd "${BUILD:-build}" && pwd) || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0

report() { # result name
    if [ "$1" -eq 0 ]; then
        echo "PASS conf $2"
    else
        echo "FAIL conf $2"
        failed=1
    fi
}

program_of() {
    case $1 in
    qsmd-*) echo "$build/qsmd" ;;
    *) echo "$build/qsm-cmsd" ;;
    esac
}

[ "${1:-}" = --accept ] && accept=1 || accept=0
expect() { # expected got
    [ $accept -eq 0 ] || cp "$2" "$1"
    diff -u "$1" "$2"
}

for conf in *.conf; do
    name=${conf%.conf}
    program=$(program_of "$name")
    (
        set -e
        "$program" -c "$conf" --check-config
        "$program" -c "$conf" --dump-config >"$tmp/out"
        expect "$name.out" "$tmp/out"
        "$program" -c "$tmp/out" --dump-config | diff -u "$tmp/out" -
    )
    report $? "$name is dumped as it was meant, and loads again"
done

for conf in *.bad; do
    name=${conf%.bad}
    program=$(program_of "$name")
    (
        ! "$program" -c "$conf" --check-config >"$tmp/stdout" 2>"$tmp/err" || exit 1
        [ ! -s "$tmp/stdout" ] || exit 1
        expect "$name.err" "$tmp/err"
    )
    report $? "$name is refused with file, line and key"
done

for program in qsmd qsm-cmsd; do
    file=../../config/$program.conf
    (
        set -e
        "$build/$program" -c "$file" --dump-config >"$tmp/commented"
        # Keys are the comments that start right behind the sign; text has a space there.
        sed -n 's/^#\([^ #]\)/\1/p; s/^#\(    [a-z]\)/\1/p' "$file" >"$tmp/uncommented.conf"
        "$build/$program" -c "$tmp/uncommented.conf" --dump-config >"$tmp/uncommented"
        diff -u "$tmp/commented" "$tmp/uncommented"
        sed -n 's/^ *\([a-z_]*\) = .*/\1/p' "$tmp/commented" >"$tmp/keys"
        sed -n 's/^ *\([a-z_]*\) = .*/\1/p' "$tmp/uncommented.conf" | diff -u "$tmp/keys" -
    )
    report $? "config/$program.conf shows every key at its default"
done
exit $failed
