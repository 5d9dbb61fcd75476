/* Tests of daemon/session: what clients may get wrong in frames of messages, and in any. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "frame.h"
#include "session_rig.h"
#include "suites.h"

START_TEST(submits_that_do_not_add_up_are_named)
{
    static const struct {
        uint32_t count, group, bytes;
        size_t groups, lengths, payload;
        const char *error;
    } rows[] = {
        {1, 1, 4, 1, 1, 3, "Submit.bytes: do not add up to the length of the payloads"},
        {3, 1, 4, 1, 1, 4, "Submit.bytes: do not add up to the length of the payloads"},
        {0, 1, 4, 0, 0, 4, "Submit.bytes: do not add up to the length of the payloads"},
        {64, 1, 1u << 23, 1, 1, 0, "Submit.bytes: do not add up to the length of the payloads"},
        {65, 1, 0, 1, 1, 0, "Submit.count = 65: is above 64"},
        {UINT32_MAX, 1, 1, 1, 1, 4, "Submit.count = 4294967295: is above 64"},
        {1, 1, 4, 0, 1, 4,
         "Submit.group and Submit.bytes: have neither one entry nor one for each "
         "message"},
        {3, 1, 4, 3, 2, 8,
         "Submit.group and Submit.bytes: have neither one entry nor one for each "
         "message"},
        {3, 1, 4, 2, 3, 12,
         "Submit.group and Submit.bytes: have neither one entry nor one for each "
         "message"},
        {0, 1, 4, 1, 0, 0,
         "Submit.group and Submit.bytes: have neither one entry nor one for each "
         "message"},
        {1, 2, 4, 1, 1, 4, "Submit.group[0] = 2: is not open to send"},
        {2, 1, (16u << 20) + 1, 1, 2, 4, "Submit.bytes[0]: is above 16 MiB"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        rig_begin();
        struct client *c = client_in("g", SEND);
        uint32_t groups[3], lengths[3];
        for (int k = 0; k < 3; k++) {
            groups[k] = rows[i].group;
            lengths[k] = rows[i].bytes;
        }
        Qsm__Submit m = QSM__SUBMIT__INIT;
        m.count = rows[i].count;
        m.n_group = rows[i].groups;
        m.group = groups;
        m.n_bytes = rows[i].lengths;
        m.bytes = lengths;
        ck_assert_int_lt(say_messages(c, &m, rows[i].payload, 'x'), 0);
        rig_turn(NULL);
        char error[256];
        snprintf(error, sizeof(error), "frame 3: %s", rows[i].error);
        ck_assert_str_eq(error_of(c), error);
        rig_end(c, NULL);
    }
}
END_TEST

START_TEST(a_header_that_swells_is_refused)
{
    rig_begin();
    struct client *c = client_in("g", SEND);
    /* Empty NeedGrants: two bytes each on the wire, forty and a pointer in memory. */
    for (size_t i = 0; i < 65534; i += 2) {
        rig_frame[FRAME_HEAD_BYTES + i] = 4 << 3 | 2;
        rig_frame[FRAME_HEAD_BYTES + i + 1] = 0;
    }
    frame_write_head(rig_frame, 3, 65534, 0);
    ck_assert_int_eq(rig_say(c, rig_frame, FRAME_HEAD_BYTES + 65534), -EMSGSIZE);
    rig_turn(NULL);
    ck_assert_str_eq(error_of(c), "frame 3: Submit: takes more than 256 KiB unpacked");
    rig_end(c, NULL);
}
END_TEST

/* What a busy client writes: hello, opens, messages, a need, a hold, questions, a close. */
static size_t recording(uint8_t *out, size_t *starts, size_t *ret_frames)
{
    Qsm__ClientHello h = QSM__CLIENT_HELLO__INIT;
    h.version = 1;
    Qsm__OpenGroup a = QSM__OPEN_GROUP__INIT, b = QSM__OPEN_GROUP__INIT, *groups[2] = {&a, &b};
    a.id = 1, a.name = (char *)"alpha", a.recv = a.send = true;
    b.id = 2, b.name = (char *)"beta", b.send = b.no_echo = true;
    Qsm__OpenGroups open = QSM__OPEN_GROUPS__INIT;
    open.request = 1, open.n_group = 2, open.group = groups;
    char *names[1] = {(char *)"held"};
    Qsm__Hold hold = QSM__HOLD__INIT;
    hold.request = 2, hold.n_join = 1, hold.join = names;
    Qsm__Ask ask = QSM__ASK__INIT;
    ask.request = 3, ask.question = QSM__QUESTION__GROUPS, ask.name = (char *)"alpha";
    Qsm__CloseGroup ca = QSM__CLOSE_GROUP__INIT, *closes[1] = {&ca};
    ca.id = 1, ca.recv = true;
    Qsm__CloseGroups close = QSM__CLOSE_GROUPS__INIT;
    close.request = 4, close.n_group = 1, close.group = closes;
    const struct {
        Qsm__ToDaemon__WhatCase what;
        void *message;
    } controls[] = {{QSM__TO_DAEMON__WHAT_HELLO, &h},
                    {QSM__TO_DAEMON__WHAT_OPEN, &open},
                    {QSM__TO_DAEMON__WHAT_HOLD, &hold},
                    {QSM__TO_DAEMON__WHAT_ASK, &ask},
                    {QSM__TO_DAEMON__WHAT_CLOSE, &close}};
    size_t at = 0, n = 0;
    for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
        Qsm__ToDaemon m = QSM__TO_DAEMON__INIT;
        m.what_case = controls[i].what;
        m.hello = controls[i].message;
        starts[n++] = at;
        at += rig_control(out + at, &m);
        if (i != 1)
            continue;
        uint32_t ids[3] = {1, 2, 1}, sizes[3] = {5, 0, 7};
        Qsm__NeedGrant need = QSM__NEED_GRANT__INIT, *needs[1] = {&need};
        need.id = 2, need.bytes = 300000;
        Qsm__Submit submit = QSM__SUBMIT__INIT;
        submit.count = 3;
        submit.n_group = submit.n_bytes = 3;
        submit.group = ids, submit.bytes = sizes;
        submit.n_need = 1, submit.need = needs;
        starts[n++] = at;
        size_t header = qsm__submit__pack(&submit, out + at + FRAME_HEAD_BYTES);
        frame_write_head(out + at, 3, header, 12);
        memcpy(out + at + FRAME_HEAD_BYTES + header, "hellomessage", 12);
        at += FRAME_HEAD_BYTES + header + 12;
    }
    *ret_frames = n;
    return at;
}

/* Plays bytes, cut at a place, to a new session that also hears from its node. */
static void play(const uint8_t *bytes, size_t count, size_t cut)
{
    rig_begin();
    int error;
    struct client *c = session_connect(rig_session, 1000, 1, rig_now, &error);
    uint8_t *exact = malloc(count > 0 ? count : 1);
    memcpy(exact, bytes, count);
    long n = session_receive(c, exact, cut, rig_now);
    if (n >= 0) {
        ck_assert_uint_le((size_t)n, cut);
        n = session_receive(c, exact + n, count - (size_t)n, rig_now);
    }
    free(exact);
    if (rig_handle("alpha") != UINT32_MAX) {
        core_event("alpha", GROUP_VIEW, 5);
        core_event("alpha", GROUP_SENDABLE, 5);
        core_delivers("alpha", 2, 1, "x", 1);
        core_pulls("alpha", 1);
        core_stable("alpha", 1, false);
    }
    rig_turn(NULL);
    ck_assert_int_eq(n < 0, heard(c, WHAT(ERROR), 0) != NULL);
    rig_end(c, NULL);
}

START_TEST(no_truncation_or_flipped_byte_of_a_client_does_harm)
{
    static uint8_t bytes[4096], flipped[4096];
    size_t starts[16], frames;
    size_t count = recording(bytes, starts, &frames);
    for (size_t cut = 0; cut <= count; cut++)
        play(bytes, cut, cut / 2);
    for (size_t at = 0; at < count; at++) {
        static const uint8_t flips[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff};
        for (size_t i = 0; i < sizeof(flips); i++) {
            memcpy(flipped, bytes, count);
            flipped[at] ^= flips[i];
            play(flipped, count, count);
        }
    }
}
END_TEST

Suite *suite_session_input(void)
{
    Suite *suite = suite_create("session_input");
    TCase *t = tcase_create("session_input");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, submits_that_do_not_add_up_are_named);
    tcase_add_test(t, a_header_that_swells_is_refused);
    tcase_add_test(t, no_truncation_or_flipped_byte_of_a_client_does_harm);
    suite_add_tcase(suite, t);
    return suite;
}
