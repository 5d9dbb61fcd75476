# peers.gp: the chart of peers.sh: a panel for each of the blocks of data, which are a title and lines
# of system, median, least and greatest; to file.
set datafile missing "-"
columns = blocks < 3 ? blocks : 3
lines = (blocks + 2) / 3
set terminal svg size 440*columns,340*lines dynamic font "sans-serif,12" background "white"
set output file
set style line 1 lc rgb "#1f5fa8"              # ours
set style line 2 lc rgb "#d4d9de"              # the kernel's
set style line 3 lc rgb "#99a3ad"              # the peers
set style line 4 lc rgb "#404040" lw 1.5       # from the least to the greatest
set style fill solid
set boxwidth 0.65
set border 3
set tics nomirror
set grid ytics lc rgb "#dddddd" lt 1
set logscale y
set format y "%.0s%c"
set xtics rotate by -40 scale 0
set offsets 0.6, 0.6, 0, 0
set bmargin 5
unset key
style(name) = name eq "qsm" ? 1 : name[1:3] eq "raw" ? 2 : 3
bar(i, name, value) = style(name) == i ? value : NaN
title(i) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | tr -d '\"'", data, i + 1))
set multiplot layout lines,columns
do for [i = 0:blocks - 1] {
    undefine STATS_*
    set yrange [*:*]
    stats data index i every ::1 using 2 nooutput
    if (exists("STATS_records") && STATS_records > 0) {
        set title title(i)
        set yrange [10 ** floor(log10(STATS_min) - 0.3):*]
        plot for [s = 1:3] data index i using (bar(s, strcol(1), $2)):xtic(1) every ::1 with boxes ls s, \
             data index i using 0:3:(0):($4 - $3) every ::1 with vectors nohead ls 4
    } else {
        set multiplot next
    }
}
unset multiplot
