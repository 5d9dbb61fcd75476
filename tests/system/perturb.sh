# shellcheck shell=bash
# perturb.sh: the perturbations of section 5.1 of the paper, for the daemon of one host, $victim.
# Each goes on, in the background, until it is killed (TERM): who has waited for it then finds the
# daemon and the host as they were. Of lib.sh: pid.
# shellcheck disable=SC2154

# A signal ends it at once, where it would wait for a command to end.
pause() { # seconds
    sleep "$1" &
    wait $!
}

sleep_half_a_second() {
    trap 'kill -CONT "${pid[$victim]}"; kill $(jobs -p) 2>/dev/null' EXIT
    trap exit TERM
    while pause 4.5; do
        kill -STOP "${pid[$victim]}"
        pause 0.5
        kill -CONT "${pid[$victim]}"
    done
}

# One nft for all the time: it takes longer to start than the rule is to stand. It quits after
# all that it was told before.
drop_ten_milliseconds() {
    coproc rules { in_host "$victim" nft -i >/dev/null; }
    trap drop_no_more EXIT
    trap exit TERM
    while pause 0.99; do
        say "add rule inet deaf in iifname eth0 counter name dropped drop" >&"${rules[1]}"
        sleep 0.01
        say "flush chain inet deaf in" >&"${rules[1]}"
    done
}

drop_no_more() {
    say quit >&"${rules[1]}"
    wait "$rules_PID"
    in_host "$victim" nft flush chain inet deaf in
    # shellcheck disable=SC2046 # a list of words
    kill $(jobs -p) 2>/dev/null
}

deaf_table() {
    in_host "$victim" nft -f - <<-END
	table inet deaf {
	counter dropped { }
	chain in { type filter hook input priority 0; }
	}
	END
}
