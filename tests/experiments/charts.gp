# charts.gp: how the experiments' charts look. draw.sh sets file, rows and columns, and goes on with
# the panels.
set terminal svg size 420*columns,330*rows dynamic font "sans-serif,12" background "white"
set output file
set style line 1 lc rgb "#1f5fa8" lw 2 pt 7 ps 0.6            # ours
set style line 2 lc rgb "#1f5fa8" lw 2 pt 6 ps 0.6 dt (6, 4)  # ours, another way
set style line 3 lc rgb "#4a9d5b" lw 2 pt 5 ps 0.6
set style line 4 lc rgb "#8a5fb0" lw 2 pt 9 ps 0.6
set style line 5 lc rgb "#c8501e" lw 2 pt 4 ps 0.6 dt (8, 4)  # as in the paper, measured here
set style line 9 lc rgb "#707070" lw 1.5 pt 11 ps 1.1 dt (3, 3) # what the paper reports
set grid lc rgb "#dddddd" lt 1
set border 3
set tics nomirror
set tmargin 2.5
set bmargin 6.5
set key outside bottom center horizontal maxcols 2 reverse Left samplen 2 spacing 1.1 font ",10"
set format y "%.10g"
set multiplot layout rows,columns
