#!/bin/sh
# install.sh: checks what `make install` puts into a directory, without touching this system: the
# files, that units and manual pages are well-formed, and that a program can be built against the
# installed library.
#   BUILD=dir tests/install.sh
set -u
cd "$(dirname "$0")/.." || exit 1
make=${MAKE:-make}
root=$(mktemp -d) || exit 1
trap 'rm -rf "$root"' EXIT
failed=0

report() { # result name
    if [ "$1" -eq 0 ]; then
        echo "PASS install $2"
    else
        echo "FAIL install $2"
        failed=1
    fi
}

env -u MAKEFLAGS -u MFLAGS "$make" -s BUILD="${BUILD:-build}" DESTDIR="$root" PREFIX=/usr install
report $? "make install succeeds"

missing=0
for file in usr/sbin/qsmd usr/sbin/qsm-cmsd usr/bin/qsmctl usr/include/qsmclient.h \
    usr/lib/libqsmclient.so usr/lib/libqsmclient.so.0 usr/lib/libqsmclient.a \
    usr/lib/pkgconfig/libqsmclient.pc etc/qsm/qsmd.conf etc/qsm/qsm-cmsd.conf \
    usr/lib/systemd/system/qsmd.service usr/lib/systemd/system/qsm-cmsd.service \
    usr/lib/sysusers.d/qsm.conf usr/lib/sysctl.d/60-qsm.conf usr/share/man/man1/qsmctl.1 \
    usr/share/man/man3/libqsmclient.3 usr/share/man/man5/qsmd.conf.5 \
    usr/share/man/man5/qsm-cmsd.conf.5 usr/share/man/man7/qsm.7 usr/share/man/man8/qsmd.8 \
    usr/share/man/man8/qsm-cmsd.8 usr/share/bash-completion/completions/qsmctl; do
    [ -e "$root/$file" ] || { echo "missing: $file"; missing=1; }
done
report $missing "every file is there"

grep -rn '@[a-z]*@' "$root/usr/lib/systemd" "$root/usr/lib/pkgconfig"
[ $? -eq 1 ]
report $? "no placeholder is left"

# The units of the system that ours name have to be seen too, and the manual pages can't be asked
# for: they are not installed here.
units=$root/usr/lib/systemd/system
cp /lib/systemd/system/*.target "$units" 2>/dev/null
rm -f "$units"/initrd*.target
verify() {
    out=$(systemd-analyze verify --root="$root" --man=no --recursive-errors=no "$@" 2>&1)
    status=$?
    [ -z "$out" ] || printf '%s\n' "$out"
    [ $status -eq 0 ] && [ -z "$out" ]
}
verify qsmd.service qsm-cmsd.service
report $? "systemd-analyze verify prints nothing"

out=$(systemd-sysusers --root="$root" --dry-run qsm.conf 2>&1)
printf '%s\n' "$out" | grep -q "'qsm'"
report $? "systemd-sysusers would make the user"

bad=0
for page in man/*.[0-9]; do
    mandoc -T lint -W warning "$page" || bad=1
done
report $bad "mandoc finds nothing to say about the manual pages"

cat >"$root/user.c" <<'END'
#include <qsmclient.h>
#include <stdio.h>
int main(void)
{
    (void)&qsm_connect;
    return puts("linked") < 0;
}
END
export PKG_CONFIG_LIBDIR="$root/usr/lib/pkgconfig:$(pkg-config --variable pc_path pkg-config)"
use() {
    # shellcheck disable=SC2046 # lists of words
    cc -std=c11 -Wall -Wextra -Werror $(PKG_CONFIG_SYSROOT_DIR="$root" pkg-config --cflags libqsmclient) \
        -o "$root/user" "$root/user.c" -L"$root/usr/lib" -lqsmclient &&
        [ "$(LD_LIBRARY_PATH="$root/usr/lib" "$root/user")" = linked ] &&
        pkg-config --modversion libqsmclient
}
use
report $? "a program builds against the installed library and runs"

nm -D --defined-only "$root/usr/lib/libqsmclient.so.0" | awk '$3 !~ /^(qsm_|QSM_|LIBQSM)/ { print; bad = 1 } END { exit bad }'
report $? "the library exports nothing but qsm_ names"
exit $failed
