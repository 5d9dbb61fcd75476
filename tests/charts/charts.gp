# charts.gp: draws docs/scaling/*.csv as docs/scaling/*.svg. `shown` is the crowd whose course is
# drawn.
set datafile separator comma
set style line 1 lc rgb "#1f5fa8" lw 2 pt 7 ps 0.7            # rings of rings
set style line 2 lc rgb "#c8501e" lw 2 pt 5 ps 0.7 dt (8, 4)  # the linear design
set style line 3 lc rgb "#1f5fa8" lw 2 pt 6 ps 0.7 dt (2, 3)
set style line 4 lc rgb "#c8501e" lw 2 pt 4 ps 0.7 dt (2, 3)
set style line 8 lc rgb "#707070" lw 1 dt (3, 3)              # bounds
set grid lc rgb "#dddddd" lt 1
set border 3
set tics nomirror
set tmargin 2.5
dir = "docs/scaling/"

# ---- what aggregation costs as the region grows

set terminal svg size 1200,520 dynamic font "sans-serif,13" background "white"
set output dir . "scale.svg"
scale(design) = "< awk -F, '$1 == \"" . design . "\"' " . dir . "scale.csv"
row25(column) = real(system("awk -F, '$1 == \"rings\" && $2 == 25 {print $" . column . "}' " . dir . "scale.csv"))
set bmargin 10
set multiplot layout 1,3
set logscale x
set xtics (8, 25, 60, 192, 400, 1000)
set xlabel "nodes in the region" offset 0,0.5
set xrange [7:1200]
set key outside bottom center horizontal maxcols 1 reverse Left samplen 3 spacing 1.15

set logscale y
set yrange [0.5:400]
set title "Token round trip"
set ylabel "ms, summed over the levels of rings"
trip = row25(4)
array bound_x[2] = [192, 1000]
plot scale("linear") using 2:($4/1000) with linespoints ls 2 title "one serial token (linear design)", \
     scale("rings") using 2:($4/1000) with linespoints ls 1 title "rings of at most 25", \
     bound_x using (bound_x[$1]):(($1+1) * trip / 1000) with points lc rgb "#707070" pt 11 ps 1.2 title "bounds: 2 and 3 times that at 25"

set title "Time until a message is stable"
set ylabel "ms, mean"
set yrange [0.5:400]
plot scale("linear") using 2:($6/1000) with linespoints ls 2 title "one serial token", \
     scale("rings") using 2:($6/1000) with linespoints ls 1 title "rings of at most 25"

unset logscale y
set title "Unacknowledged bytes at the sender"
set ylabel "KB, mean and 99th percentile"
set yrange [0:400]
set ytics 0,50
bytes = row25(8)
plot 262.144 with lines ls 8 title "the window", \
     scale("linear") using 2:($9/1000) with linespoints ls 4 title "one serial token, p99", \
     scale("linear") using 2:($8/1000) with linespoints ls 2 title "one serial token", \
     scale("rings") using 2:($9/1000) with linespoints ls 3 title "rings of at most 25, p99", \
     scale("rings") using 2:($8/1000) with linespoints ls 1 title "rings of at most 25", \
     bound_x using (bound_x[$1]):(($1+1) * bytes / 1000) with points lc rgb "#707070" pt 11 ps 1.2 title "bounds of the mean"
unset multiplot

# ---- what one receiver's trouble costs the others: of all victims the worst

set terminal svg size 1200,820 dynamic font "sans-serif,13" background "white"
set output dir . "perturb.svg"
worst(design, what, column) = "< awk -F, '$1 == \"" . design . "\" && $3 == \"" . what . \
    "\" { if (!($2 in w)) order[++n] = $2; if (!($2 in w) || $" . column . " > w[$2]) w[$2] = $" . column . \
    " } END { for (i = 1; i <= n; i++) print order[i] \",\" w[order[i]] }' " . dir . "perturb.csv"
set bmargin 6
set multiplot layout 2,2
set key maxcols 3
set xtics (8, 25, 60, 120, 192)
set xrange [7:220]
set ytics auto
set title "Throughput that the others lose"
set ylabel "%"
set yrange [-0.2:4]
plot 2 with lines ls 8 title "bound", \
     worst("linear", "sleep", 9) using 1:2 with linespoints ls 2 title "one serial token, sleep", \
     worst("linear", "loss", 9) using 1:2 with linespoints ls 4 title "one serial token, loss", \
     worst("rings", "sleep", 9) using 1:2 with linespoints ls 1 title "rings, sleep", \
     worst("rings", "loss", 9) using 1:2 with linespoints ls 3 title "rings, loss"
set title "Their 99th percentile of latency, by that with nobody perturbed"
set ylabel "times"
set yrange [0:4]
plot 2 with lines ls 8 title "bound", \
     worst("linear", "sleep", 12) using 1:2 with linespoints ls 2 title "one serial token, sleep", \
     worst("linear", "loss", 12) using 1:2 with linespoints ls 4 title "one serial token, loss", \
     worst("rings", "sleep", 12) using 1:2 with linespoints ls 1 title "rings, sleep", \
     worst("rings", "loss", 12) using 1:2 with linespoints ls 3 title "rings, loss"
set title "Unacknowledged bytes at the sender, at most"
set ylabel "KB"
set yrange [0:400]
plot 262.144 with lines ls 8 title "the window", \
     worst("linear", "sleep", 15) using 1:($2/1000) with linespoints ls 2 title "one serial token, sleep", \
     worst("linear", "loss", 15) using 1:($2/1000) with linespoints ls 4 title "one serial token, loss", \
     worst("rings", "sleep", 15) using 1:($2/1000) with linespoints ls 1 title "rings, sleep", \
     worst("rings", "loss", 15) using 1:($2/1000) with linespoints ls 3 title "rings, loss"
set title "Time until a message is stable"
set ylabel "ms, mean"
set yrange [0:400]
plot worst("linear", "sleep", 14) using 1:($2/1000) with linespoints ls 2 title "one serial token, sleep", \
     worst("linear", "loss", 14) using 1:($2/1000) with linespoints ls 4 title "one serial token, loss", \
     worst("rings", "sleep", 14) using 1:($2/1000) with linespoints ls 1 title "rings, sleep", \
     worst("rings", "loss", 14) using 1:($2/1000) with linespoints ls 3 title "rings, loss"
unset multiplot

# ---- streams faster than the window allows while one receiver sleeps, as they went

set terminal svg size 1200,820 dynamic font "sans-serif,13" background "white"
set output dir . "above.svg"
course(nodes, rate, wire) = "< awk -F, '$1 == " . nodes . " && $2 == " . rate . " && $3 == " . wire . "' " . dir . "course.csv"
unset logscale x
set xrange [0:20]
set xtics 0,1
set yrange [0:*]
set xlabel "time, s" offset 0,0.7
set ylabel "1,000 messages/s"
set key maxcols 2
set style fill solid 0.25 noborder
set boxwidth 0.1
set bmargin 4
set multiplot layout 3,1
set title sprintf("%d nodes, a stream of 2,048 messages/s", shown)
top = 4.5
set yrange [0:top]
plot course(shown, 2048, 125) using ($4+0.05):($6 == 1 ? top : NaN) with boxes lc rgb "#999999" title "a receiver sleeps in these 100 ms or a part of them", \
     course(shown, 2048, 125) using ($4+0.05):($5/1000) with lines ls 1 title "messages that come to each of the others"
set title sprintf("%d nodes, a sender that fills a wire of 4 MB/s", shown)
plot course(shown, 0, 4) using ($4+0.05):($6 == 1 ? top : NaN) with boxes lc rgb "#999999" notitle, \
     course(shown, 0, 4) using ($4+0.05):($5/1000) with lines ls 1 notitle
set title "8 nodes, a sender that takes all the window allows"
top = 110
set yrange [0:top]
plot course(8, 0, 125) using ($4+0.05):($6 == 1 ? top : NaN) with boxes lc rgb "#999999" notitle, \
     course(8, 0, 125) using ($4+0.05):($5/1000) with lines ls 1 notitle
unset multiplot
