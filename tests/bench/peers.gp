# peers.gp: the chart of peers.sh: a panel for each of the blocks of data, which are a title and lines
# of system, median, least and greatest; to file.
set datafile missing "-"
columns = blocks < 3 ? blocks : 3
lines = (blocks + 2) / 3
set terminal svg size 440*columns,340*lines dynamic font "sans-serif,12" background "white"
set output file
set style line 1 lc rgb "#1f5fa8"                     # ours
set style line 2 lc rgb "#b0b6bd"                     # the others
set style line 3 lc rgb "#404040" lw 1.2 pt 0         # from the least to the greatest
set style fill solid
set boxwidth 0.65
set border 3
set tics nomirror
set grid ytics lc rgb "#dddddd" lt 1
set logscale y
set format y "%.0s%c"
set xtics rotate by -40 scale 0
set xrange [-0.6:]
set bmargin 5
unset key
ours(name) = name[1:3] eq "qsm"
title(i) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | tr -d '\"'", data, i + 1))
set multiplot layout lines,columns
do for [i = 0:blocks - 1] {
    set title title(i)
    plot data index i using (ours(strcol(1)) ? NaN : $2):xtic(1) every ::1 with boxes ls 2, \
         data index i using (ours(strcol(1)) ? $2 : NaN):xtic(1) every ::1 with boxes ls 1, \
         data index i using 0:2:3:4 every ::1 with yerrorbars ls 3
}
unset multiplot
