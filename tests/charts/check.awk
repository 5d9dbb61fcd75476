# check.awk: judges what qsmfigures printed: a line PASS or FAIL for each claim, exit code 1 when
# one fails. A size that was asked for and has no figures fails.
#   awk -f check.awk [-v scale="25 192"] [-v perturb="60"] [-v above="25"] FILE.csv...
BEGIN {
    FS = ","
    message = 1008 # bytes in flight for one of 1,000
}

FNR == 1 {
    split("", at)
    for (i = 1; i <= NF; i++)
        at[$i] = i
    next
}

# One file for each kind of column: who has levels is of scale, who has p99_ratio of perturb.
"levels" in at { note_scale() }
"p99_ratio" in at { note_perturb() }
"cv_between" in at { note_above() }

function value(name) { return $(at[name]) }
function greater(a, b) { return a > b ? a : b }

function say(good, text) {
    print (good ? "PASS " : "FAIL ") text
    failed += !good
}

# The same, when the claims before it have been judged.
function later(good, text) { kept_good[++kept_count] = good; kept_text[kept_count] = text }

function note_scale(    n) {
    n = value("nodes")
    if (value("design") != "rings")
        return
    trip[n] = value("round_trip_us") + 0
    mean[n] = value("unacked_mean_bytes") + 0
    most[n] = value("unacked_p99_bytes") + 0
    kept[n] = value("least_throughput") / value("rate")
}

function note_perturb(    k) {
    k = value("nodes") SUBSEP value("perturbation")
    if (value("design") != "rings")
        return
    victims[k]++
    cost[k] = greater(cost[k], value("cost_percent") + 0)
    ratio[k] = greater(ratio[k], value("p99_ratio") + 0)
    lost[k] += value("expelled")
    half[k] = value("rate") * 0.5 * message / (value("window_bytes") / 2)
}

function note_above(    n, stream, cv, fills) {
    n = value("nodes")
    streams[n]++
    stream = value("rate") > 0 ? value("rate") " messages/s" \
                               : "as fast as " value("wire_bytes_per_us") " MB/s of wire"
    cv = value("cv_between")
    later(cv <= 0.1 && value("throughput_between") >= 0.98 * value("throughput_without"),
          sprintf("%d nodes, %s: back to %d of %d messages/s after a sleep, coefficient of " \
                  "variation %.4f (at most 0.1)", n, stream, value("throughput_between"),
                  value("throughput_without"), cv))
    fills = value("unacked_max_bytes") / value("window_bytes")
    later(fills <= 1 && fills >= 0.9 && value("expelled") == 0,
          sprintf("%d nodes, %s: slowed by the window, of which %d %% was in flight", n, stream,
                  100 * fills))
}

function check_scale(n, limit) {
    say(trip[n] > 0 && trip[25] > 0 && trip[n] <= limit * trip[25],
        sprintf("%d nodes: token round trip %.2f x that at 25 (at most %d)", n,
                times(trip[n], trip[25]), limit))
    say(most[n] > 0 && most[25] > 0 && mean[n] <= limit * mean[25] && most[n] <= limit * most[25],
        sprintf("%d nodes: unacknowledged bytes %.2f x those at 25, p99 %.2f x (at most %d)", n,
                times(mean[n], mean[25]), times(most[n], most[25]), limit))
    say(kept[n] >= 0.98 && kept[25] >= 0.98,
        sprintf("%d nodes: the stream whose bytes these are keeps %.1f %% of its rate", n,
                100 * kept[n]))
}

function times(a, b) { return b > 0 ? a / b : 0 }

function check_perturb(n, what,    k) {
    k = n SUBSEP what
    say(victims[k] >= 3 && cost[k] <= 2 && ratio[k] > 0 && ratio[k] <= 2 && lost[k] == 0,
        sprintf("%d nodes, %s: costs the others %.2f %% of throughput (at most 2), p99 latency " \
                "%.2f x (at most 2), worst of %d victims", n, what, cost[k], ratio[k], victims[k]))
    say(half[k] <= 1 && half[k] >= 0.9,
        sprintf("%d nodes, %s: 0.5 s of the stream is %.1f %% of half the window", n, what,
                100 * half[k]))
}

END {
    count = split(scale, sizes, " ")
    for (i = 1; i <= count; i++) {
        if (sizes[i] == 192)
            check_scale(192, 2)
        if (sizes[i] == 1000)
            check_scale(1000, 3)
    }
    count = split(perturb, sizes, " ")
    for (i = 1; i <= count; i++) {
        check_perturb(sizes[i], "sleep")
        check_perturb(sizes[i], "loss")
    }
    for (i = 1; i <= kept_count; i++)
        say(kept_good[i], kept_text[i])
    count = split(above, sizes, " ")
    for (i = 1; i <= count; i++)
        say(streams[sizes[i]] >= 4, sizes[i] " nodes: streams above that rate were measured")
    exit failed > 0
}
