# shellcheck shell=bash
# perturb.sh: the perturbations of section 5.1 of the paper, for the daemon of one host, $victim. Each
# goes on until it is killed. Of lib.sh: pid.
# shellcheck disable=SC2154

# Whoever ends this continues the daemon.
sleep_half_a_second() {
    while sleep 4.5; do
        kill -STOP "${pid[$victim]}"
        sleep 0.5
        kill -CONT "${pid[$victim]}"
    done
}

# One nft for all the time: it takes longer to start than the rule is to stand.
drop_ten_milliseconds() {
    while sleep 0.99; do
        say "add rule inet deaf in iifname eth0 counter name dropped drop"
        sleep 0.01
        say "flush chain inet deaf in"
    done | in_host "$victim" nft -i >/dev/null
}

deaf_table() {
    in_host "$victim" nft -f - <<-END
	table inet deaf {
	counter dropped { }
	chain in { type filter hook input priority 0; }
	}
	END
}
