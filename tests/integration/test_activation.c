/* SPDX-License-Identifier: BSD-3-Clause */
/* libnbd starts the server itself, and hands it the socket that it listens on. */
#include "tests/integration/fixture.h"

#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#define BLOCK_BYTES 65536

static struct nbd_handle *connect_to_own(const struct server *server, const char *option)
{
    const char *command = getenv("PLATTER");
    if (!command || !*command)
        command = getenv("PLATTER_BUILT");
    char *words[] = {(char *)command,       (char *)"-f",   (char *)"raw",
                     (char *)server->image, (char *)option, NULL};
    struct nbd_handle *nbd = nbd_create();
    assert_non_null(nbd);
    if (nbd_connect_systemd_socket_activation(nbd, words) < 0)
        fail_msg("%s", nbd_get_error());
    return nbd;
}

static void what_is_written_and_flushed_is_in_the_image(void **state)
{
    struct server *server = *state;
    static uint8_t data[BLOCK_BYTES], found[BLOCK_BYTES];
    fill_random(data, sizeof(data), 1);
    struct nbd_handle *nbd = connect_to_own(server, NULL);
    assert_int_equal(nbd_get_size(nbd), FIXTURE_IMAGE_BYTES);
    assert_int_equal(nbd_pwrite(nbd, data, sizeof(data), 12345, 0), 0);
    assert_int_equal(nbd_flush(nbd, 0), 0);
    image_read(server, found, sizeof(found), 12345);
    assert_memory_equal(found, data, sizeof(data));
    assert_int_equal(nbd_shutdown(nbd, 0), 0);
    nbd_close(nbd);
}

static void each_server_is_a_new_one_and_options_are_obeyed(void **state)
{
    struct server *server = *state;
    static uint8_t data[BLOCK_BYTES], found[BLOCK_BYTES];
    fill_random(data, sizeof(data), 2);
    image_write(server, data, sizeof(data), 0);
    for (int i = 0; i < 3; i++) {
        struct nbd_handle *nbd = connect_to_own(server, "-r");
        assert_int_equal(nbd_is_read_only(nbd), 1);
        assert_int_equal(nbd_pread(nbd, found, sizeof(found), 0, 0), 0);
        assert_memory_equal(found, data, sizeof(data));
        nbd_close(nbd); /* without a goodbye */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_and_flushed_is_in_the_image, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(each_server_is_a_new_one_and_options_are_obeyed,
                                        fixture_setup, fixture_teardown),
    };
    fixture_require_server();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
