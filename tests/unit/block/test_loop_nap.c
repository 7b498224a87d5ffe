/* SPDX-License-Identifier: BSD-3-Clause */
/* loop_nap.c: whether to nap is tried, how long is learned. */
#include "tests/unit/unit.h"

#include "block/loop_nap.h"
#include "common/clock.h"

#define LIMIT_NS 50000

/* --- whether ------------------------------------------------------------------------------------
 */

struct client {
    struct loop_nap nap;
    uint64_t now_ns;
    uint64_t with, without; /* bytes that a window brings */
};

static struct client client_new(uint64_t with, uint64_t without)
{
    struct client client = {.now_ns = NS_PER_S, .with = with, .without = without};
    loop_nap_init(&client.nap);
    assert_false(loop_nap_is_on(&client.nap, client.now_ns)); /* the first window begins */
    return client;
}

static bool pass_window(struct client *client)
{
    bool is_on = loop_nap_is_on(&client->nap, client->now_ns);
    for (unsigned i = 1; i < 10; i++) {
        client->now_ns += LOOP_NAP_WINDOW_NS / 10;
        assert_int_equal(loop_nap_is_on(&client->nap, client->now_ns), is_on);
    }
    client->now_ns += LOOP_NAP_WINDOW_NS / 10;
    loop_nap_came(&client->nap, is_on ? client->with : client->without);
    return is_on;
}

static unsigned windows_on(struct client *client, unsigned windows)
{
    unsigned on = 0;
    for (unsigned i = 0; i < windows; i++)
        on += pass_window(client);
    return on;
}

static void what_brings_more_is_kept(void **state)
{
    (void)state;
    struct client client = client_new(1100, 1000);
    assert_in_range(windows_on(&client, 1000), 1000 - 8 - 9, 1000 - 8 - 5);
    client = client_new(900, 1000);
    assert_in_range(windows_on(&client, 1000), 8, 13);
}

static void naps_are_kept_where_they_make_no_difference(void **state)
{
    (void)state;
    struct client client = client_new(990, 1000);
    assert_true(windows_on(&client, 300) > 280);
}

static void who_changes_is_found_out_in_time(void **state)
{
    (void)state;
    struct client client = client_new(1100, 1000);
    assert_true(windows_on(&client, 100) > 85);
    client.with = 800;
    windows_on(&client, LOOP_NAP_INTERVAL + 10); /* it takes two trials */
    assert_true(windows_on(&client, 100) <= 1);  /* a trial */
}

/* The first trials come after 8 windows each. */
static void one_trial_that_was_disturbed_changes_nothing(void **state)
{
    (void)state;
    struct client client = client_new(1100, 1000);
    windows_on(&client, 8 + 1 + LOOP_NAP_INTERVAL);
    client.without = 5000;
    assert_false(pass_window(&client));
    client.without = 1000;
    assert_int_equal(windows_on(&client, 100), 99); /* the second trial */
}

static void a_window_in_which_the_loop_slept_says_nothing(void **state)
{
    (void)state;
    struct client client = client_new(2000, 1000);
    assert_int_equal(windows_on(&client, 8), 0);
    assert_true(loop_nap_is_on(&client.nap, client.now_ns)); /* the trial */
    loop_nap_came(&client.nap, 1 << 30);
    client.now_ns += 3 * LOOP_NAP_WINDOW_NS;
    assert_int_equal(windows_on(&client, 8), 0);
    assert_true(pass_window(&client)); /* the next one */
    assert_true(pass_window(&client));
}

/* --- how long -----------------------------------------------------------------------------------
 */

static void learn(struct loop_nap *nap, uint64_t asked_ns, uint64_t took_ns, size_t before,
                  size_t after)
{
    loop_nap_learn(nap, &(struct loop_nap_taken){.asked_ns = asked_ns,
                                                 .took_ns = took_ns,
                                                 .unread_before = before,
                                                 .unread_after = after});
}

static void half_of_what_is_unread_is_left_to_be_read(void **state)
{
    (void)state;
    struct loop_nap nap;
    loop_nap_init(&nap);
    uint64_t first_ns = loop_nap_ns(&nap, 65536, LIMIT_NS);
    assert_in_range(first_ns, 1, 5000); /* a short one, to learn */
    learn(&nap, first_ns, first_ns, 65536, 65536 - 1024 * (size_t)first_ns / 500);
    assert_in_range(loop_nap_ns(&nap, 65536, LIMIT_NS), 15500, 16500); /* 32 KiB, 500 ns each */
    assert_in_range(loop_nap_ns(&nap, 32768, LIMIT_NS), 7700, 8300);
    assert_int_equal(loop_nap_ns(&nap, 1 << 30, LIMIT_NS), LIMIT_NS);
    assert_int_equal(loop_nap_ns(&nap, 0, LIMIT_NS), 0);
}

static void naps_that_end_late_are_asked_for_shorter(void **state)
{
    (void)state;
    struct loop_nap nap;
    loop_nap_init(&nap);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t asked_ns = loop_nap_ns(&nap, 65536, LIMIT_NS);
        learn(&nap, asked_ns, asked_ns + 10000, 65536, 65536 - (asked_ns + 10000));
    }
    assert_in_range(nap.late_ns, 9900, 10000);
    uint64_t asked_ns = loop_nap_ns(&nap, 65536, LIMIT_NS); /* a byte a nanosecond */
    assert_in_range(asked_ns, 32768 - 10100, 32768 - 9900);
    assert_int_equal(loop_nap_ns(&nap, 20000, LIMIT_NS), 0); /* that one is not to be had */
}

static void a_pace_that_allows_no_nap_is_found_out_anew(void **state)
{
    (void)state;
    struct loop_nap nap;
    loop_nap_init(&nap);
    learn(&nap, 2000, 2000, 65536, 1); /* that was quick */
    unsigned refused = 0;
    while (loop_nap_ns(&nap, 65536, LIMIT_NS) == 0)
        assert_true(++refused < 100);
    assert_in_range(refused, 10, 50);
}

static void who_has_read_all_had_too_long(void **state)
{
    (void)state;
    struct loop_nap nap;
    loop_nap_init(&nap);
    learn(&nap, 16000, 16000, 65536, 32768);
    uint64_t before_ns = loop_nap_ns(&nap, 65536, LIMIT_NS);
    learn(&nap, 16000, 16000, 65536, 0);
    assert_in_range(loop_nap_ns(&nap, 65536, LIMIT_NS), before_ns / 2 - 100, before_ns / 2 + 100);
}

static void who_has_always_read_all_is_spared_for_now(void **state)
{
    (void)state;
    struct client client = client_new(2000, 1000);
    windows_on(&client, 8);
    for (unsigned trials = 0; trials < 3; trials++) {
        unsigned naps = 0;
        while (loop_nap_is_on(&client.nap, client.now_ns)) {
            learn(&client.nap, 2000, 2000, 65536, 0);
            assert_true(++naps < 20);
        }
        assert_true(naps > 2);
        assert_int_equal(windows_on(&client, 16 << trials), 0);
    }
    learn(&client.nap, 2000, 2000, 65536, 1); /* and if he has not */
    assert_true(windows_on(&client, 10) == 10);
}

static void a_lost_processor_teaches_nothing(void **state)
{
    (void)state;
    struct loop_nap nap;
    loop_nap_init(&nap);
    learn(&nap, 16000, 16000, 65536, 32768);
    struct loop_nap before = nap;
    learn(&nap, 16000, 5000000, 65536, 0);
    assert_memory_equal(&nap, &before, sizeof(nap));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_brings_more_is_kept),
        cmocka_unit_test(naps_are_kept_where_they_make_no_difference),
        cmocka_unit_test(who_changes_is_found_out_in_time),
        cmocka_unit_test(one_trial_that_was_disturbed_changes_nothing),
        cmocka_unit_test(a_window_in_which_the_loop_slept_says_nothing),
        cmocka_unit_test(half_of_what_is_unread_is_left_to_be_read),
        cmocka_unit_test(naps_that_end_late_are_asked_for_shorter),
        cmocka_unit_test(a_pace_that_allows_no_nap_is_found_out_anew),
        cmocka_unit_test(who_has_read_all_had_too_long),
        cmocka_unit_test(who_has_always_read_all_is_spared_for_now),
        cmocka_unit_test(a_lost_processor_teaches_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
