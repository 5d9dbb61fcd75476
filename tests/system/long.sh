#!/bin/bash
# long.sh: the system tests that take minutes, or measure: not for every change.
#   BUILD=dir tests/system/long.sh [kills|loss|perturb|large…]
set -u
here=$(cd "$(dirname "$0")" && pwd)
[[ $# -gt 0 ]] || set -- kills loss perturb large
status=0
for name in "$@"; do
    script=$here/$name.sh
    [[ -x $script ]] || script=$here/region_$name.sh
    echo "== $name"
    "$script" || status=1
done
exit $status
