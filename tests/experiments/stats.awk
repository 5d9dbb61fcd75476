# stats.awk: sums what `qsmctl --json stats` printed, as `sign` says: files from before with -1,
# those from after with 1. Prints the columns of the experiments' tables that come of it, times in
# ms.

function value(line) {
    sub(/.*: /, "", line)
    gsub(/[",]/, "", line)
    return line
}

function out(column, v) { printf "%s %.5g\n", column, v }

# The least of the classes' upper bounds that all but so large a part of the values are at most.
function above(name, part,    want, sum, i) {
    want = part * bucket_total[name]
    for (i = 1; i <= bounds; i++) {
        sum += bucket[name, bound[i]]
        if (sum >= want)
            return bound[i]
    }
    return 0
}

function times(name, column) {
    if (count[name] <= 0)
        return
    if (column !~ /turn/)
        out(column "_ms", total[name] / count[name] / 1000)
    out(column "_p99_ms", above(name, 0.99) / 1000)
    if (column ~ /turn/)
        out(column "_max_ms", above(name, 1) / 1000)
}

/"name":/ { name = value($0); inside = 0 }
/"value":/ { counter[name] += sign * value($0); last[name] = value($0) }
/"buckets":/ { inside = 1 }
/"sum":/ { total[name] += sign * value($0) }
/"up_to":/ { up_to = value($0) + 0 }
/"count":/ && !inside { count[name] += sign * value($0) }
/"count":/ && inside {
    bucket[name, up_to] += sign * value($0)
    bucket_total[name] += sign * value($0)
    known[up_to] = 1
}

END {
    for (b in known)
        bound[++bounds] = b + 0
    for (i = 2; i <= bounds; i++)
        for (j = i; j > 1 && bound[j] < bound[j - 1]; j--) {
            t = bound[j]
            bound[j] = bound[j - 1]
            bound[j - 1] = t
        }
    times("send_to_stable_us", "stable")
    times("token_round_trip_us", "round")
    times("loop_turn_us", "loop_turn")
    out("rounds", counter["rounds_complete"])
    out("hops", counter["tokens_sent"])
    out("lost", counter["packets_lost"])
    out("repairs", counter["repairs_sent"])
    out("duplicates", counter["packets_duplicate"])
    out("state_kb", last["group_state_bytes"] / 1000)
}
