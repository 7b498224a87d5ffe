/* SPDX-License-Identifier: BSD-3-Clause */
/* run_variables.c: what a command of --run finds in its environment. */
#include "tests/unit/unit.h"

#include <string.h>

#include "server/run_variables.h"

static char *const no_environment[] = {NULL};

/* "name=value" is there, once. */
static void expect(char *const *variables, const char *wanted)
{
    size_t name_bytes = strcspn(wanted, "=") + 1;
    const char *found = NULL;
    for (; *variables; variables++) {
        if (strncmp(*variables, wanted, name_bytes) != 0)
            continue;
        assert_null(found);
        found = *variables;
    }
    assert_non_null(found);
    assert_string_equal(found, wanted);
}

static void a_unix_socket_is_a_uri_with_everything_odd_encoded(void **state)
{
    (void)state;
    char **variables =
        run_variables_new(no_environment, "/tmp/a b/s&t", "ignored", 5, "x/\xc3\xa4?");
    expect(variables, "uri=nbd+unix:///x/%C3%A4%3F?socket=/tmp/a%20b/s%26t");
    expect(variables, "nbd=nbd:unix:/tmp/a b/s&t:exportname=x/\xc3\xa4?");
    expect(variables, "unixsocket=/tmp/a b/s&t");
    expect(variables, "port=");
    expect(variables, "exportname=x/\xc3\xa4?");
    run_variables_free(variables);
    variables = run_variables_new(no_environment, "/s", "ignored", 5, "");
    expect(variables, "uri=nbd+unix:///?socket=/s");
    expect(variables, "nbd=nbd:unix:/s");
    run_variables_free(variables);
    run_variables_free(NULL);
}

static void tcp_is_an_address_that_a_client_can_reach(void **state)
{
    (void)state;
    static const char *const hosts[][2] = {
        {"0.0.0.0", "localhost:10810"},
        {"::", "localhost:10810"},
        {"::1", "[::1]:10810"},
        {"192.0.2.1", "192.0.2.1:10810"},
        {"disk.example", "disk.example:10810"},
    };
    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        char **variables = run_variables_new(no_environment, NULL, hosts[i][0], 10810, "");
        assert_string_equal(strstr(variables[0], "//") + 2 + strlen(hosts[i][1]), "/");
        assert_memory_equal(variables[0] + strlen("uri=nbd://"), hosts[i][1], strlen(hosts[i][1]));
        assert_string_equal(variables[1] + strlen("nbd=nbd:"), hosts[i][1]);
        expect(variables, "unixsocket=");
        expect(variables, "port=10810");
        run_variables_free(variables);
    }
}

static void the_rest_of_the_environment_stays(void **state)
{
    (void)state;
    char *const before[] = {
        (char *)"PATH=/bin", (char *)"uri=old",    (char *)"urist=stays", (char *)"port=old",
        (char *)"nbd=",      (char *)"exportname", (char *)"unixsocket=", NULL};
    char **variables = run_variables_new(before, "/s", "", 0, "name");
    size_t count = 0;
    while (variables[count])
        count++;
    assert_int_equal(count, 8);
    expect(variables, "PATH=/bin");
    expect(variables, "urist=stays");
    expect(variables, "uri=nbd+unix:///name?socket=/s");
    expect(variables, "port=");
    run_variables_free(variables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_socket_is_a_uri_with_everything_odd_encoded),
        cmocka_unit_test(tcp_is_an_address_that_a_client_can_reach),
        cmocka_unit_test(the_rest_of_the_environment_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
