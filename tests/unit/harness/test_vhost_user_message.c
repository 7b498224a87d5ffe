/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_user_message.c, vhost_user_memory.c: what a front-end may say, and what it may not. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/harness/vhost_user_memory.h"
#include "tests/harness/vhost_user_message.h"

#define FLAGS 1u

static struct vhost_user_message message;
static struct error err;

static void put32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof(value));
}

static void put64(uint8_t *to, uint64_t value)
{
    memcpy(to, &value, sizeof(value));
}

static int parse(uint32_t type, uint32_t flags, const void *payload, uint32_t bytes, unsigned fds)
{
    uint8_t header_bytes[VHOST_USER_HEADER_BYTES];
    struct vhost_user_header header;
    int rc;
    put32(header_bytes, type);
    put32(header_bytes + 4, flags);
    put32(header_bytes + 8, bytes);
    err.message[0] = '\0';
    memset(&message, 0xee, sizeof(message));
    rc = vhost_user_parse_header(&header, header_bytes, &err);
    if (rc == 0)
        rc = vhost_user_parse(&message, &header, payload, fds, &err);
    assert_true((rc < 0) == (err.message[0] != '\0'));
    return rc;
}

static void assert_refused(int rc, int code, const char *sentence)
{
    assert_int_equal(rc, code);
    assert_string_equal(err.message, sentence);
    assert_int_equal(message.type, 0xeeeeeeee); /* untouched */
}

/* --- headers -----------------------------------------------------------------------------------
 */

static void a_header_that_makes_no_sense_is_refused(void **state)
{
    uint8_t payload[8] = {0};
    (void)state;
    assert_refused(parse(VHOST_USER_SET_OWNER, 2, NULL, 0, 0), -EPROTO,
                   "message 3 has the version 2; only 1 is known");
    assert_refused(parse(VHOST_USER_SET_OWNER, 5, NULL, 0, 0), -EPROTO,
                   "message 3 has the flags 0x5; a request has 0x1 or 0x9");
    assert_refused(parse(6, FLAGS, payload, 8, 0), -ENOTSUP, "message 6 is not served");
    assert_refused(parse(UINT32_MAX, FLAGS, NULL, 0, 0), -ENOTSUP,
                   "message 4294967295 is not served");
    assert_refused(parse(VHOST_USER_SET_FEATURES, FLAGS, payload, UINT32_MAX, 0), -EPROTO,
                   "SET_FEATURES cannot have 4294967295 bytes");
}

static void each_message_has_its_size(void **state)
{
    static const struct {
        uint32_t type, bytes;
    } wrong[] = {
        {VHOST_USER_GET_FEATURES, 8},    {VHOST_USER_SET_FEATURES, 4},
        {VHOST_USER_SET_VRING_NUM, 12},  {VHOST_USER_SET_VRING_ADDR, 48},
        {VHOST_USER_SET_VRING_KICK, 0},  {VHOST_USER_SET_MEM_TABLE, 0},
        {VHOST_USER_SET_MEM_TABLE, 7},   {VHOST_USER_SET_MEM_TABLE, 16},
        {VHOST_USER_SET_MEM_TABLE, 296}, {VHOST_USER_GET_CONFIG, 12},
        {VHOST_USER_GET_CONFIG, 269},
    };
    static const uint8_t payload[512];
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char sentence[80];
        snprintf(sentence, sizeof(sentence), "%s cannot have %u bytes",
                 vhost_user_type_name(wrong[i].type), wrong[i].bytes);
        assert_refused(parse(wrong[i].type, FLAGS, payload, wrong[i].bytes, 0), -EPROTO, sentence);
    }
}

/* --- payloads ----------------------------------------------------------------------------------
 */

static void numbers_and_states_are_read(void **state)
{
    uint8_t payload[40] = {0};
    (void)state;
    put64(payload, UINT64_C(0x123456789abcdef0));
    assert_int_equal(parse(VHOST_USER_SET_FEATURES, FLAGS | 8, payload, 8, 0), 0);
    assert_true(message.features == UINT64_C(0x123456789abcdef0) && message.needs_reply);
    put32(payload, 3);
    put32(payload + 4, 256);
    assert_int_equal(parse(VHOST_USER_SET_VRING_NUM, FLAGS, payload, 8, 0), 0);
    assert_true(message.queue == 3 && message.value == 256 && !message.needs_reply);
    put32(payload, 1);
    put32(payload + 4, 0);
    put64(payload + 8, 0x1000);
    put64(payload + 16, 0x3000);
    put64(payload + 24, 0x2000);
    assert_int_equal(parse(VHOST_USER_SET_VRING_ADDR, FLAGS, payload, 40, 0), 0);
    assert_int_equal(message.queue, 1);
    assert_int_equal(message.vring.desc, 0x1000);
    assert_int_equal(message.vring.avail, 0x2000);
    assert_int_equal(message.vring.used, 0x3000);
    put32(payload + 4, 1);
    assert_refused(parse(VHOST_USER_SET_VRING_ADDR, FLAGS, payload, 40, 0), -ENOTSUP,
                   "SET_VRING_ADDR has the flags 0x1; no log of dirty pages is kept");
}

static void descriptors_come_with_the_messages_that_have_some(void **state)
{
    uint8_t payload[8] = {0};
    (void)state;
    put64(payload, 2);
    assert_int_equal(parse(VHOST_USER_SET_VRING_KICK, FLAGS, payload, 8, 1), 0);
    assert_true(message.queue == 2 && message.has_fd);
    assert_refused(parse(VHOST_USER_SET_VRING_KICK, FLAGS, payload, 8, 0), -EPROTO,
                   "SET_VRING_KICK came with 0 descriptors, not 1");
    assert_refused(parse(VHOST_USER_SET_VRING_CALL, FLAGS, payload, 8, 2), -EPROTO,
                   "SET_VRING_CALL came with 2 descriptors, not 1");
    put64(payload, 0x102);
    assert_int_equal(parse(VHOST_USER_SET_VRING_ERR, FLAGS, payload, 8, 0), 0);
    assert_true(message.queue == 2 && !message.has_fd);
    assert_refused(parse(VHOST_USER_SET_VRING_ERR, FLAGS, payload, 8, 1), -EPROTO,
                   "SET_VRING_ERR came with 1 descriptors, not 0");
    assert_refused(parse(VHOST_USER_SET_OWNER, FLAGS, NULL, 0, 1), -EPROTO,
                   "SET_OWNER came with 1 descriptors, not 0");
    put64(payload, 0x202);
    assert_refused(parse(VHOST_USER_SET_VRING_KICK, FLAGS, payload, 8, 1), -EPROTO,
                   "SET_VRING_KICK has the number 0x202; bits beyond 8 are nothing");
}

static void the_configuration_stays_inside_of_its_space(void **state)
{
    uint8_t payload[VHOST_USER_PAYLOAD_MAX] = {0};
    (void)state;
    put32(payload, 32);
    put32(payload + 4, 1);
    payload[12] = 7;
    assert_int_equal(parse(VHOST_USER_SET_CONFIG, FLAGS, payload, 13, 0), 0);
    assert_true(message.config.offset == 32 && message.config.length == 1);
    assert_int_equal(message.config.bytes[0], 7);
    assert_refused(parse(VHOST_USER_SET_CONFIG, FLAGS, payload, 14, 0), -EPROTO,
                   "SET_CONFIG says 1 bytes and has 2");
    put32(payload, 256);
    assert_refused(parse(VHOST_USER_GET_CONFIG, FLAGS, payload, 13, 0), -EPROTO,
                   "GET_CONFIG of 1 bytes at 256; the space has 256");
    put32(payload, UINT32_MAX);
    assert_int_equal(parse(VHOST_USER_GET_CONFIG, FLAGS, payload, 13, 0), -EPROTO);
    put32(payload, 0);
    put32(payload + 8, 1);
    assert_refused(parse(VHOST_USER_SET_CONFIG, FLAGS, payload, 13, 0), -ENOTSUP,
                   "SET_CONFIG has the flags 0x1; there is no migration");
}

/* --- memory tables -----------------------------------------------------------------------------
 */

static uint8_t table[8 + 9 * 32];

static void put_region(unsigned index, uint64_t guest, uint64_t length, uint64_t user,
                       uint64_t offset)
{
    uint8_t *to = table + 8 + (size_t)index * 32;
    put64(to, guest);
    put64(to + 8, length);
    put64(to + 16, user);
    put64(to + 24, offset);
}

static int parse_table(uint32_t count, unsigned bytes, unsigned fds)
{
    put32(table, count);
    return parse(VHOST_USER_SET_MEM_TABLE, FLAGS, table, bytes, fds);
}

static void a_memory_table_has_a_descriptor_a_region(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 9; i++)
        put_region(i, i * 0x10000, 0x10000, 0x7f0000000000 + i * 0x10000, i * 0x1000);
    assert_int_equal(parse_table(8, 8 + 8 * 32, 8), 0);
    assert_int_equal(message.region_count, 8);
    assert_int_equal(message.regions[7].guest_address, 0x70000);
    assert_int_equal(message.regions[7].file_offset, 0x7000);
    assert_int_equal(parse_table(0, 8, 0), 0);
    assert_refused(parse_table(9, 8 + 8 * 32, 8), -EPROTO,
                   "a memory table of 9 regions; 8 are the most");
    assert_refused(parse_table(UINT32_MAX, 8 + 8 * 32, 8), -EPROTO,
                   "a memory table of 4294967295 regions; 8 are the most");
    assert_refused(parse_table(2, 8 + 32, 2), -EPROTO,
                   "a memory table of 2 regions cannot have 40 bytes");
    assert_refused(parse_table(2, 8 + 2 * 32, 1), -EPROTO,
                   "SET_MEM_TABLE came with 1 descriptors, not 2");
}

static void regions_neither_wrap_nor_overlap(void **state)
{
    (void)state;
    put_region(0, 0, 0x1000, 0x10000, 0);
    put_region(1, 0x800, 0x1000, 0x20000, 0);
    assert_refused(parse_table(2, 72, 2), -EPROTO, "regions of memory overlap, at 0x800");
    put_region(1, 0x1000, 0x1000, 0x10fff, 0);
    assert_refused(parse_table(2, 72, 2), -EPROTO, "regions of memory overlap, at 0x1000");
    put_region(1, 0x1000, 0, 0x20000, 0);
    assert_refused(parse_table(2, 72, 2), -EPROTO, "a region of memory has no length");
    put_region(1, UINT64_MAX - 0xfff, 0x1000, 0x20000, 0);
    assert_refused(parse_table(2, 72, 2), -EPROTO,
                   "a region of 0x1000 bytes goes beyond all addresses");
    put_region(1, 0x1000, 0x1000, UINT64_MAX - 5, 0);
    assert_int_equal(parse_table(2, 72, 2), -EPROTO);
    put_region(1, 0x1000, 0x1000, 0x20000, INT64_MAX);
    assert_int_equal(parse_table(2, 72, 2), -EPROTO);
    put_region(1, 0x1000, 0x1000, 0x20000, 0);
    assert_int_equal(parse_table(2, 72, 2), 0);
}

static int memory_file(off_t bytes)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, bytes) == 0);
    return fd;
}

static void memory_is_mapped_and_found_by_both_addresses(void **state)
{
    struct vhost_user_memory memory = {.guest.region_count = 0};
    int fds[2] = {memory_file(0x5000), memory_file(0x3000)};
    uint64_t left, guest;
    uint8_t *host;
    (void)state;
    assert_int_equal(pwrite(fds[0], "first", 5, 0x1200), 5);
    assert_int_equal(pwrite(fds[1], "second", 6, 0x2ffa), 6);
    put_region(0, 0x100000, 0x2000, 0x70000000, 0x1200); /* not at a page of its file */
    put_region(1, 0x102000, 0x3000, 0x50000000, 0);
    assert_int_equal(parse_table(2, 72, 2), 0);
    assert_int_equal(vhost_user_memory_map(&memory, &message, fds, &err), 0);
    host = guest_memory_at(&memory.guest, 0x100000, &left);
    assert_memory_equal(host, "first", 5);
    assert_int_equal(left, 0x2000);
    assert_memory_equal(guest_memory_range(&memory.guest, 0x104ffa, 6), "second", 6);
    assert_null(guest_memory_range(&memory.guest, 0x104ffa, 7));
    assert_null(guest_memory_at(&memory.guest, 0x105000, &left));
    assert_true(vhost_user_memory_guest_address(&memory, 0x70001fff, &guest));
    assert_int_equal(guest, 0x101fff);
    assert_true(vhost_user_memory_guest_address(&memory, 0x50000001, &guest));
    assert_int_equal(guest, 0x102001);
    assert_false(vhost_user_memory_guest_address(&memory, 0x70002000, &guest));
    assert_false(vhost_user_memory_guest_address(&memory, 0x4fffffff, &guest));
    vhost_user_memory_unmap(&memory);
    assert_null(guest_memory_at(&memory.guest, 0x100000, &left));
    close(fds[0]);
    close(fds[1]);
}

static void memory_that_its_file_does_not_have_is_refused(void **state)
{
    struct vhost_user_memory memory = {.guest.region_count = 0};
    int fds[2] = {memory_file(0x5000), memory_file(0x3000)};
    int pipes[2];
    (void)state;
    put_region(0, 0, 0x1000, 0x10000, 0);
    put_region(1, 0x100000, 0x2000, 0x70000000, 0x1001);
    assert_int_equal(parse_table(2, 72, 2), 0);
    assert_int_equal(vhost_user_memory_map(&memory, &message, fds, &err), -EINVAL);
    assert_string_equal(
        err.message, "the memory at 0x100000 ends at 0x3001 of its file, which has 0x3000 bytes");
    assert_int_equal(memory.guest.region_count, 0);
    assert_int_equal(pipe(pipes), 0);
    close(fds[0]);
    fds[0] = pipes[0];
    assert_int_equal(vhost_user_memory_map(&memory, &message, fds, &err), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_that_makes_no_sense_is_refused),
        cmocka_unit_test(each_message_has_its_size),
        cmocka_unit_test(numbers_and_states_are_read),
        cmocka_unit_test(descriptors_come_with_the_messages_that_have_some),
        cmocka_unit_test(the_configuration_stays_inside_of_its_space),
        cmocka_unit_test(a_memory_table_has_a_descriptor_a_region),
        cmocka_unit_test(regions_neither_wrap_nor_overlap),
        cmocka_unit_test(memory_is_mapped_and_found_by_both_addresses),
        cmocka_unit_test(memory_that_its_file_does_not_have_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
