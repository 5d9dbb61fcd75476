/* mark: the rare branches of the protocol, named. A node and the CMS count how often they took
 * each; the simulator sums them up, and a whole run of it has to have taken all: a branch that no
 * seed reaches is a branch that nobody has tested. */
#ifndef QSM_MARK_H
#define QSM_MARK_H

/* X(name, what happened) */
#define MARKS(X)                                                                                   \
    X(dead_fetched, "a dead sender's message fetched from another region")                         \
    X(cut_no_cacher, "what a cut names fetched from one that does not cache it")                   \
    X(third_attempt, "a view change in its third attempt or a later one")                          \
    X(attempt_void, "an attempt made void by a new leader of the CMS")                             \
    X(attempt_left, "an attempt that a node left for want of the CMS")                             \
    X(token_outlived, "a token that came when another had been made in its place")                 \
    X(successor_skipped, "a silent successor skipped")                                             \
    X(skipped_reached, "a skipped member reached by another one in the same round")                \
    X(taken_home, "a token taken home by another, since its leader did not answer one")            \
    X(third_level, "a round on the third level of rings")                                          \
    X(sought_elsewhere, "what a partition lacks asked of cachers in another")                      \
    X(served_on_arrival, "a packet that others had asked for, sent on when it came")               \
    X(helped_itself, "a member without tokens asks cachers itself")                                \
    X(cacher_lost, "a cacher dead of what others had dropped early")                               \
    X(fragments_void, "a large message cut off by a boundary, its fragments void")                 \
    X(sent_again, "a message sent whole after a boundary had cut it off")                          \
    X(smaller_pieces, "a message that waits and meets a smaller datagram size")                    \
    X(full_install, "a node that had missed epochs given the whole state")                         \
    X(rejoined, "an expelled node back as a new one")                                              \
    X(install_untold, "an epoch in the log whose leader died before it told this node")            \
    X(passed_packets, "a request for packets passed on to those who cache them")                   \
    X(passed_numbers, "a request for a dead sender's messages passed on likewise")                 \
    X(probe_saves, "a node that the CMS does not hear, saved by a probe")                          \
    X(stuck_expelled, "a view change stuck, and the smallest set expelled")                        \
    X(late_channel, "a channel named when a round was under way")                                  \
    X(token_train, "a token of several datagrams")                                                 \
    X(channels_rotated, "more channels than a token takes, in turns")                              \
    X(acks_combined, "ACKs of several regions in one datagram")                                    \
    X(ack_replaced, "an ACK that met another of its channel where they are collected")             \
    X(collector_left, "a sender that heard nothing from its collector and names none")             \
    X(window_past_gap, "packets above a gap that all have, in flight no more")                     \
    X(run_sent, "messages of one size sent as one record")

enum mark_id {
#define X(name, text) MARK_##name,
    MARKS(X)
#undef X
        MARKS_COUNT
};

#endif
