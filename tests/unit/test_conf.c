/* test_conf: the configuration as the daemons get it. Golden pairs of whole files are in
 * tests/conf. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "conf.h"
#include "suites.h"

static char path[64];

static void set_up(void)
{
    snprintf(path, sizeof(path), "/tmp/test_conf.%d", (int)getpid());
}

static void tear_down(void)
{
    unlink(path);
}

static void write_file(const char *text, size_t bytes)
{
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(text, 1, bytes, out), bytes);
    ck_assert_int_eq(fclose(out), 0);
}

/* What is wrong with text, behind the file's name; "" when nothing is. */
static void expect_qsmd_error(const char *text, const char *expected)
{
    struct qsmd_conf conf;
    char *error = NULL;

    write_file(text, strlen(text));
    ck_assert_int_eq(conf_load_qsmd(path, &conf, &error), -EINVAL);
    ck_assert_int_eq(strncmp(error, path, strlen(path)), 0);
    ck_assert_str_eq(error + strlen(path), expected);
    free(error);
}

START_TEST(without_a_file_every_key_has_its_default)
{
    struct qsmd_conf qsmd;
    struct cmsd_conf cmsd;
    char *error = NULL;

    ck_assert_int_eq(conf_load_qsmd(NULL, &qsmd, &error), 0);
    ck_assert_ptr_null(error);
    ck_assert_uint_eq(qsmd.port, 4810);
    ck_assert_uint_eq(qsmd.cms.count, 1);
    ck_assert_uint_eq(qsmd.cms.server[0].address, 0x7f000001);
    ck_assert_uint_eq(qsmd.cms.server[0].port, 4813);
    ck_assert_uint_eq(qsmd.token_rate_mhz, 1000);
    ck_assert_str_eq(qsmd.debug_trace, "");
    conf_done_qsmd(&qsmd);

    ck_assert_int_eq(conf_load_cmsd(NULL, &cmsd, &error), 0);
    ck_assert_str_eq(cmsd.journal, "/var/lib/qsm-cmsd/cms.db");
    ck_assert_uint_eq(cmsd.multicast.address, 0xefc04d00);
    ck_assert_uint_eq(cmsd.multicast.prefix, 24);
    conf_done_cmsd(&cmsd);
}
END_TEST

START_TEST(values_arrive_in_their_units)
{
    static const char text[] = "token_rate = 0.0625\nlog_level = debug\naddress = \"10.1.2.3\"\n"
                               "debug { fault_drop = 0.05 no_sender_repair = true }\n";
    struct qsmd_conf conf;
    char *error = NULL;

    write_file(text, strlen(text));
    ck_assert_int_eq(conf_load_qsmd(path, &conf, &error), 0);
    ck_assert_uint_eq(conf.token_rate_mhz, 63);
    ck_assert_int_eq(conf.log_level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(conf.address, 0x0a010203);
    ck_assert(conf.debug_fault_drop > 0.0499 && conf.debug_fault_drop < 0.0501);
    ck_assert(conf.debug_no_sender_repair);
    conf_done_qsmd(&conf);
}
END_TEST

START_TEST(an_error_names_line_and_key)
{
    expect_qsmd_error("port = 4810\n\nprot = 1\n", ":3: prot: no such key");
    expect_qsmd_error("client {\n queue_age_ms = 5 }", ":2: queue_age_ms: 5 is out of range (10 to "
                                                       "3600000)");
    expect_qsmd_error("cms = {\"10.0.0.1\",\n\"x\"}",
                      ":2: cms: \"x\": not an IPv4 address and a port");
    expect_qsmd_error("client {", ":1: syntax: a closing brace is missing");
    expect_qsmd_error("port = 5000 /* to the end", ":1: syntax: a comment or string has no end");
    expect_qsmd_error("# one\n// two /* \"\n/* three\n */ port = 0",
                      ":4: port: 0 is out of range (1 to 65533)");
    expect_qsmd_error("name = \"#'/*\\\"\" # \"\nsocket = /a//b ttl = 0",
                      ":2: ttl: 0 is out of range (1 to 255)");
}
END_TEST

START_TEST(a_ninth_server_is_refused)
{
    expect_qsmd_error("cms = {\"10.0.0.1\", \"10.0.0.2\", \"10.0.0.3\", \"10.0.0.4\", \"10.0.0.5\","
                      "\"10.0.0.6\", \"10.0.0.7\", \"10.0.0.8\", \"10.0.0.9\"}",
                      ":1: cms: \"10.0.0.9\": more than 8 servers");
}
END_TEST

START_TEST(a_file_that_is_not_there_says_so)
{
    struct cmsd_conf conf;
    char *error = NULL;

    ck_assert_int_eq(conf_load_cmsd("/nonexistent/x.conf", &conf, &error), -ENOENT);
    ck_assert_str_eq(error, "/nonexistent/x.conf: No such file or directory");
    free(error);
    ck_assert_int_eq(conf_load_cmsd("/tmp", &conf, &error), -EISDIR);
    free(error);
}
END_TEST

/* Cut and changed files load or are refused with one line; nothing leaks, nothing is read outside.
 */
START_TEST(no_changed_byte_does_more_than_an_error)
{
    static const char text[] = "cluster = \"a\\\"${HOME}\"\ncms = {\"10.0.0.1:1\", '10.0.0.2'}\n"
                               "client { queue_bytes = 65536 } # x\ndebug { trace = \"/t\" }\n";
    static const char put[] = {'\0', '"', '}', '{', '=', '\n', '\\', '9', (char)0xff};
    char bytes[sizeof(text)];
    struct qsmd_conf conf;

    for (size_t i = 0; i < sizeof(text); i++) {
        for (size_t j = 0; j <= sizeof(put); j++) {
            char *error = NULL;
            memcpy(bytes, text, sizeof(text));
            if (j < sizeof(put))
                bytes[i] = put[j];
            write_file(bytes, j < sizeof(put) ? sizeof(text) - 1 : i);
            if (conf_load_qsmd(path, &conf, &error) == 0) {
                ck_assert_ptr_null(error);
                conf_done_qsmd(&conf);
                continue;
            }
            ck_assert_ptr_nonnull(error);
            ck_assert_ptr_null(strchr(error, '\n'));
            free(error);
        }
    }
}
END_TEST

START_TEST(what_is_dumped_loads_to_the_same)
{
    static const char text[] = "cluster = 'a\"b\\\\c${X}'\nsocket = \"/tmp/a b\"\n"
                               "token_rate = 999.999\ndebug { fault_drop = 0.123456 }\n";
    char first[4096] = "", second[4096] = "", *error = NULL;

    write_file(text, strlen(text));
    for (int i = 0; i < 2; i++) {
        char *into = i == 0 ? first : second;
        struct qsmd_conf conf;
        FILE *out = fmemopen(into, sizeof(first), "w");
        ck_assert_int_eq(conf_load_qsmd(path, &conf, &error), 0);
        conf_dump_qsmd(out, &conf);
        fclose(out);
        conf_done_qsmd(&conf);
        write_file(into, strlen(into));
    }
    ck_assert_str_eq(first, second);
    ck_assert_ptr_nonnull(strstr(first, "token_rate = 999.999"));
}
END_TEST

Suite *suite_conf(void)
{
    Suite *s = suite_create("conf");
    TCase *t = tcase_create("conf");

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, without_a_file_every_key_has_its_default);
    tcase_add_test(t, values_arrive_in_their_units);
    tcase_add_test(t, an_error_names_line_and_key);
    tcase_add_test(t, a_ninth_server_is_refused);
    tcase_add_test(t, a_file_that_is_not_there_says_so);
    tcase_add_test(t, no_changed_byte_does_more_than_an_error);
    tcase_add_test(t, what_is_dumped_loads_to_the_same);
    suite_add_tcase(s, t);
    return s;
}
