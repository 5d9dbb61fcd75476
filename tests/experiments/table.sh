# shellcheck shell=bash
# table.sh: reads the experiments' tables, for the charts and the page. In conditions and
# expressions, which are awk's, @NAME is a column.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
results=${RESULTS:-$root/docs/experiments} # a directory; the page is beside it
export paper=$root/tests/experiments/paper.csv

# An awk expression with the numbers of columns for their names; one that is not there is "-".
numbered() { # experiment expression
    local script i=0 column columns
    IFS=, read -r -a columns <"$results/$1.csv"
    for column in "${columns[@]}"; do
        i=$((i + 1))
        script+="s/@$column\\b/\$$i/g;"
    done
    sed "$script"'s/@[a-z0-9_]*/"-"/g' <<<"$2"
}

# The condition that a column of an expression has no value.
missing() { # expression
    echo "(0$(grep -o '@[a-z0-9_]*' <<<"$1" | sed 's/.*/ || & == "-"/' | tr -d '\n'))"
}

# What an expression is in each row that fits, rows without a value ("-") left out.
rows_of() { # experiment condition expression
    [ -e "$results/$1.csv" ] || return 0
    awk -F, "NR > 1 && $(numbered "$1" "($2) && !$(missing "$3")") {
            print $(numbered "$1" "$3")
        }" "$results/$1.csv"
}

# The same of each row whose stream came to its end, "-" where there is no value: one condition
# means the same rows, whatever is asked of them.
measured() { # experiment condition expression
    [ -e "$results/$1.csv" ] || return 0
    awk -F, "NR > 1 && $(numbered "$1" "($2) && @rate != \"-\"") {
            print ($(numbered "$1" "$(missing "$3") ? \"-\" : $3"))
        }" "$results/$1.csv"
}

# The value of the first or last such row, to three digits, or "-".
first() { # experiment condition expression
    local v
    v=$(measured "$@" | head -n 1)
    digits "$v"
}

last() { # experiment condition expression
    local v
    v=$(measured "$@" | tail -n 1)
    digits "$v"
}

# There are not two such rows to compare.
alone() { # experiment condition
    (($(measured "$1" "$2" 1 | wc -l) < 2))
}

digits() { # value
    awk -v v="${1:--}" 'BEGIN {
        if (v !~ /^[0-9.e+-]+$/ || v == "-") print v
        else if (v >= 100) printf "%.0f\n", v
        else if (v > 0 && v < 0.1) printf "%.2g\n", v
        else printf "%.3g\n", v
    }'
}

# a / b to three digits, or "-".
times() { # a b
    awk -v a="$1" -v b="$2" 'BEGIN {
        if (a == "-" || b == "-" || b == 0) print "-"; else printf "%.3g\n", a / b
    }'
}

# A Markdown table of the columns, for the rows that fit.
markdown() { # experiment condition "heading|column or expression"…
    local experiment=$1 condition=$2 heads='' rule='' cells='' pair
    shift 2
    [ -e "$results/$experiment.csv" ] || { echo "Not measured." && return; }
    for pair in "$@"; do
        heads+=" ${pair%%|*} |"
        rule+=" ---: |"
        cells+=" \" \" digits(${pair#*|}) \" |\""
    done
    printf '|%s\n|%s\n' "$heads" "$rule"
    awk -F, "function digits(v) {
            if (v !~ /^[0-9.e+-]+\$/ || v == \"-\") return v
            return sprintf(v >= 100 ? \"%.0f\" : \"%.3g\", v)
        }
        NR > 1 && ($(numbered "$experiment" "$condition")) {
            print \"|\" $(numbered "$experiment" "$cells")
        }" "$results/$experiment.csv"
}
