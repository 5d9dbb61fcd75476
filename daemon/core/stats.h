/* stats: the counters and histograms of a node, all named once here. */
#ifndef QSM_STATS_H
#define QSM_STATS_H

#include <stdint.h>
#include "histogram.h"
#include "mark.h"

/* X(name, what it counts) */
#define NODE_COUNTERS(X)                                                                           \
    X(messages_sent, "messages of local clients put into packets")                                 \
    X(messages_delivered, "messages delivered on this host")                                       \
    X(packets_sent, "data packets built")                                                          \
    X(packets_received, "data packets received for the first time, repairs included")              \
    X(packets_duplicate, "data packets received again")                                            \
    X(packets_lost, "packets that were missing when a later one arrived, each counted once")       \
    X(packets_held, "packets of a view not installed yet that were held")                          \
    X(packets_dropped_unknown, "packets of an unknown or closed channel")                          \
    X(packets_dropped_full, "packets dropped since a cap was reached")                             \
    X(datagrams_bad_length, "datagrams too short or too long")                                     \
    X(datagrams_bad_magic, "datagrams that are not ours")                                          \
    X(datagrams_bad_version, "datagrams of another version")                                       \
    X(datagrams_bad_cluster, "datagrams of another cluster")                                       \
    X(datagrams_bad_kind, "datagrams of an unknown kind, or on the wrong port")                    \
    X(datagrams_malformed, "datagrams whose contents do not parse")                                \
    X(datagrams_own, "own datagrams that came back")                                               \
    X(repairs_from_cachers, "packets repaired by a cacher")                                        \
    X(repairs_from_holders, "packets repaired by another member that held them")                   \
    X(repairs_from_sender, "packets repaired by their sender")                                     \
    X(repairs_from_flush, "packets and messages fetched in a view change")                         \
    X(repairs_sent, "repair packets sent")                                                         \
    X(repairs_over_budget, "repairs put off since a budget was used up")                           \
    X(tokens_received, "tokens received")                                                          \
    X(tokens_sent, "tokens passed on, tries not counted")                                          \
    X(tokens_retried, "token datagrams sent again")                                                \
    X(tokens_duplicate, "tokens seen before")                                                      \
    X(tokens_remade, "tokens made anew after a loss")                                              \
    X(rounds_complete, "complete rounds of rings that this node leads")                            \
    X(rounds_incomplete, "rounds that skipped a member")                                           \
    X(round_trip_us, "sum of the round trips of complete rounds")                                  \
    X(hops_skipped, "silent successors skipped")                                                   \
    X(acks_sent, "ACKs sent to senders, or to who collects them")                                  \
    X(acks_relayed, "ACKs of others that this node collected and sent on")                         \
    X(acks_received, "ACKs received")                                                              \
    X(ack_datagrams, "datagrams in which they came")                                               \
    X(beacons_sent, "beacons sent")                                                                \
    X(views_installed, "epochs installed")                                                         \
    X(flushes_joined, "view changes in which this node voted")                                     \
    X(flushes_left, "attempts that this node left for want of a CMS")                              \
    X(window_full, "times a feed was passed over since a window was full")                         \
    X(reassembly_over, "large messages begun over the cap, since their sender was first in line")  \
    X(bodies_allocated, "memory allocated for a packet's body, as none was spare")                 \
    X(bodies_freed_early, "bodies dropped since all their cachers hold them")

/* X(name, what it shows): values, not counts */
#define NODE_GAUGES(X)                                                                             \
    X(store_bytes, "bodies held, bytes")                                                           \
    X(store_bytes_max, "cap: pool_bytes, and a datagram of each sender")                           \
    X(reassembly_bytes, "incomplete messages, bytes")                                              \
    X(reassembly_bytes_max, "cap: reassembly_bytes, and a message of each sender")                 \
    X(held_packets, "packets held for a view to come")                                             \
    X(held_packets_max, "cap on them")                                                             \
    X(unreleased_bytes, "own packets that some region has not released, bytes")                    \
    X(repair_queue, "repairs waiting to be sent")                                                  \
    X(repair_queue_max, "cap on them")                                                             \
    X(relay_acks, "ACKs of others that wait to be sent on")                                        \
    X(relay_acks_max, "cap on them")                                                               \
    X(channels_in, "channels received")                                                            \
    X(channels_out, "channels sent into")                                                          \
    X(last_round_trip_us, "token round trip of the last complete round")

/* X(name, what takes so long): microseconds */
#define NODE_HISTOGRAMS(X)                                                                         \
    X(token_hop_us, "from a token that leaves to its acknowledgement, when the first try got one") \
    X(token_round_trip_us, "complete rounds of rings that this node leads, those of one left out") \
    X(send_to_stable_us, "from a message put into packets until it is stable; a sample")

struct node_stats {
#define X(name, text) uint64_t name;
    NODE_COUNTERS(X)
    NODE_GAUGES(X)
#undef X
#define X(name, text) struct histogram name;
    NODE_HISTOGRAMS(X)
#undef X
    uint64_t marks[MARKS_COUNT]; /* for tests: how often each rare branch was taken */
};

#endif
