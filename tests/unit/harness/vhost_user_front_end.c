/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/unit.h"

#include "tests/unit/harness/vhost_user_front_end.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/coroutine.h"
#include "block/sleep.h"
#include "common/endian.h"

#define WAIT_MS_MAX 60000
#define FLAGS 1u
#define MEMORY_BYTES (2 * FRONT_END_REGION_BYTES)
#define RING_SPACE UINT64_C(0x40000) /* a queue has that much of the first region */
#define HEADER (FRONT_END_GUEST + 0x90000)
#define STATUS_OFFSET 64
#define NO_STATUS 0xee

/* --- life --------------------------------------------------------------------------------------
 */

static void co_device(void *arg)
{
    struct front_end *front = arg;
    front->result = vhost_user_device_co_serve(&front->device, front->device_socket, &front->err);
    front->has_ended = true;
    shutdown(front->device_socket, SHUT_RDWR); /* as the tool closes it */
}

static void make_memory(struct front_end *front)
{
    front->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(front->memory_fd, MEMORY_BYTES), 0);
    front->memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, front->memory_fd, 0);
    assert_true(front->memory != MAP_FAILED);
    front->guest = (struct guest_memory){
        .region_count = 1,
        .regions = {{.address = FRONT_END_GUEST, .length = MEMORY_BYTES, .host = front->memory}},
    };
}

void front_end_co_init(struct front_end *front, struct fixture *fixture)
{
    const struct virtio_blk_options options = {
        .queue_count = FRONT_END_QUEUES,
        .queue_size = 128,
    };
    int sockets[2];
    memset(front, 0, sizeof(*front));
    front->fixture = fixture;
    fixture_co_open(fixture, "growing", true);
    assert_int_equal(block_backend_new(&front->backend, fixture->node, false, NULL), 0);
    assert_int_equal(vhost_user_device_init(&front->device, front->backend, fixture->loop, &options,
                                            &front->err),
                     0);
    make_memory(front);
    for (unsigned i = 0; i < FRONT_END_QUEUES; i++) {
        front->kick_fds[i] = eventfd(0, EFD_CLOEXEC); /* blocking: the device changes that */
        front->call_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        front->err_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets),
                     0);
    front->socket = sockets[0];
    front->device_socket = sockets[1];
    assert_int_equal(coroutine_start(fixture->loop, co_device, front), 0);
}

static void co_wait_for_end(struct front_end *front)
{
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic);
    while (!front->has_ended) {
        assert_true(clock_monotonic.now_ns(&clock_monotonic) - from <
                    WAIT_MS_MAX * UINT64_C(1000000));
        sleep_co_ns(20000);
    }
}

void front_end_co_fini(struct front_end *front)
{
    shutdown(front->socket, SHUT_WR);
    co_wait_for_end(front);
    assert_int_equal(front->device.memory.guest.region_count, 0);
    for (unsigned i = 0; i < VIRTIO_BLK_QUEUES_MAX; i++) {
        const struct vhost_user_ring *ring = &front->device.rings[i];
        assert_true(ring->kick_fd == -1 && ring->call_fd == -1 && ring->err_fd == -1);
        assert_false(ring->runs);
    }
    for (unsigned i = 0; i < FRONT_END_QUEUES; i++) {
        close(front->kick_fds[i]);
        close(front->call_fds[i]);
        close(front->err_fds[i]);
    }
    close(front->socket);
    close(front->device_socket);
    munmap(front->memory, MEMORY_BYTES);
    close(front->memory_fd);
    vhost_user_device_fini(&front->device);
    block_co_backend_free(front->backend);
}

/* --- messages ----------------------------------------------------------------------------------
 */

void front_end_send(struct front_end *front, uint32_t type, uint32_t flags, const void *payload,
                    uint32_t bytes, const int *fds, unsigned fd_count)
{
    const uint32_t header[] = {type, flags, bytes};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(int) * 16)];
    } control = {.bytes = {0}};
    struct iovec iov[] = {
        {.iov_base = (void *)header, .iov_len = sizeof(header)},
        {.iov_base = (void *)payload, .iov_len = bytes},
    };
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
    if (fd_count > 0) {
        assert_true(fd_count <= 16);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, sizeof(int) * fd_count);
    }
    /* A socket's buffer has room for all that a test says. */
    assert_int_equal(sendmsg(front->socket, &message, MSG_NOSIGNAL), sizeof(header) + bytes);
}

void front_end_send_number(struct front_end *front, uint32_t type, uint64_t number, int fd)
{
    front_end_send(front, type, FLAGS, &number, sizeof(number), &fd, fd >= 0);
}

void front_end_send_state(struct front_end *front, uint32_t type, uint32_t index, uint32_t value)
{
    const uint32_t words[] = {index, value};
    front_end_send(front, type, FLAGS, words, sizeof(words), NULL, 0);
}

void front_end_send_memory(struct front_end *front)
{
    const uint64_t table[] = {
        2,
        FRONT_END_GUEST,
        FRONT_END_REGION_BYTES,
        FRONT_END_USER_FIRST,
        0,
        FRONT_END_MIDDLE,
        FRONT_END_REGION_BYTES,
        FRONT_END_USER_SECOND,
        FRONT_END_REGION_BYTES,
    };
    const int fds[] = {front->memory_fd, front->memory_fd};
    front_end_send(front, VHOST_USER_SET_MEM_TABLE, FLAGS, table, sizeof(table), fds, 2);
}

static void co_receive_bytes(struct front_end *front, void *bytes, size_t length)
{
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic);
    size_t done = 0;
    while (done < length) {
        ssize_t got = recv(front->socket, (uint8_t *)bytes + done, length - done, 0);
        assert_true(got > 0 || (got < 0 && errno == EAGAIN));
        done += got > 0 ? (size_t)got : 0;
        assert_true(clock_monotonic.now_ns(&clock_monotonic) - from <
                    WAIT_MS_MAX * UINT64_C(1000000));
        if (got < 0)
            sleep_co_ns(20000);
    }
}

void front_end_co_receive(struct front_end *front, uint32_t type, void *payload, uint32_t bytes)
{
    uint32_t header[3];
    co_receive_bytes(front, header, sizeof(header));
    assert_int_equal(header[0], type);
    assert_int_equal(header[1], 5); /* the version, and that it is a reply */
    assert_int_equal(header[2], bytes);
    co_receive_bytes(front, payload, bytes);
}

uint64_t front_end_co_ask(struct front_end *front, uint32_t type)
{
    uint64_t number;
    front_end_send(front, type, FLAGS, NULL, 0, NULL, 0);
    front_end_co_receive(front, type, &number, sizeof(number));
    return number;
}

bool front_end_co_acknowledged(struct front_end *front, uint32_t type)
{
    uint64_t number;
    front_end_co_receive(front, type, &number, sizeof(number));
    return number == 0;
}

const char *front_end_co_refusal(struct front_end *front)
{
    co_wait_for_end(front);
    assert_true(front->result < 0);
    return front->err.message;
}

/* --- rings -------------------------------------------------------------------------------------
 */

static uint64_t user_address(uint64_t guest)
{
    return guest < FRONT_END_MIDDLE ? FRONT_END_USER_FIRST + (guest - FRONT_END_GUEST)
                                    : FRONT_END_USER_SECOND + (guest - FRONT_END_MIDDLE);
}

void front_end_send_ring(struct front_end *front, unsigned queue, uint32_t base)
{
    const struct virtio_ring_place *place = &front->rings[queue].place;
    const uint64_t addresses[] = {queue, user_address(place->desc), user_address(place->used),
                                  user_address(place->avail), 0};
    front_end_send_state(front, VHOST_USER_SET_VRING_NUM, queue, FRONT_END_RING);
    front_end_send_state(front, VHOST_USER_SET_VRING_BASE, queue, base);
    front_end_send(front, VHOST_USER_SET_VRING_ADDR, FLAGS, addresses, sizeof(addresses), NULL, 0);
    front_end_send_number(front, VHOST_USER_SET_VRING_KICK, queue, front->kick_fds[queue]);
    front_end_send_number(front, VHOST_USER_SET_VRING_CALL, queue, front->call_fds[queue]);
    front_end_send_number(front, VHOST_USER_SET_VRING_ERR, queue, front->err_fds[queue]);
    front_end_send_state(front, VHOST_USER_SET_VRING_ENABLE, queue, 1);
}

void front_end_co_start(struct front_end *front)
{
    uint64_t features = front_end_co_ask(front, VHOST_USER_GET_FEATURES);
    uint64_t protocol = front_end_co_ask(front, VHOST_USER_GET_PROTOCOL_FEATURES);
    front_end_send(front, VHOST_USER_SET_OWNER, FLAGS, NULL, 0, NULL, 0);
    front_end_send_number(front, VHOST_USER_SET_PROTOCOL_FEATURES, protocol, -1);
    front_end_send_number(front, VHOST_USER_SET_FEATURES, features, -1);
    front_end_send_memory(front);
    for (unsigned i = 0; i < FRONT_END_QUEUES; i++) {
        uint64_t address = FRONT_END_GUEST + i * RING_SPACE;
        memset(front_end_at(front, address), 0, RING_SPACE);
        virtio_driver_ring_init(&front->rings[i], &front->guest, address, FRONT_END_RING, features);
        front_end_send_ring(front, i, 0);
    }
}

uint32_t front_end_co_stop_ring(struct front_end *front, unsigned queue)
{
    uint32_t words[2];
    front_end_send_state(front, VHOST_USER_GET_VRING_BASE, queue, 0);
    front_end_co_receive(front, VHOST_USER_GET_VRING_BASE, words, sizeof(words));
    assert_int_equal(words[0], queue);
    return words[1];
}

/* --- requests ----------------------------------------------------------------------------------
 */

uint8_t *front_end_at(const struct front_end *front, uint64_t address)
{
    return guest_memory_range(&front->guest, address, 1);
}

static uint64_t header_address(unsigned queue, unsigned slot)
{
    return HEADER + queue * UINT64_C(0x1000) + slot * UINT64_C(0x100);
}

void front_end_submit(struct front_end *front, unsigned queue, uint32_t type, uint64_t sector,
                      uint64_t data, uint32_t bytes)
{
    uint64_t header = header_address(queue, front->sent[queue]++ % FRONT_END_SLOTS);
    uint8_t *status = front_end_at(front, header + STATUS_OFFSET);
    const struct virtio_buffer buffers[] = {
        {header, 16}, {data, bytes}, {header + STATUS_OFFSET, 1}};
    struct virtio_driver_ring *ring = &front->rings[queue];
    const uint64_t one = 1;
    unsigned readable = type == VIRTIO_BLK_T_OUT ? 2 : 1;
    store_le32(front_end_at(front, header), type);
    store_le64(front_end_at(front, header + 8), sector);
    *status = NO_STATUS;
    assert_true(virtio_driver_ring_add(ring, buffers, readable, 3 - readable, status));
    if (virtio_driver_ring_kick_due(ring))
        assert_int_equal(write(front->kick_fds[queue], &one, sizeof(one)), sizeof(one));
}

bool front_end_co_waits_for(int fd, unsigned wait_ms)
{
    uint64_t from = clock_monotonic.now_ns(&clock_monotonic), count;
    while (read(fd, &count, sizeof(count)) != sizeof(count)) {
        if (clock_monotonic.now_ns(&clock_monotonic) - from > wait_ms * UINT64_C(1000000))
            return false;
        sleep_co_ns(20000);
    }
    return true;
}

uint8_t front_end_co_take(struct front_end *front, unsigned queue, int call_fd)
{
    const uint8_t *status;
    uint32_t written;
    while (!(status = virtio_driver_ring_used(&front->rings[queue], &written))) {
        if (virtio_driver_ring_calls_on(&front->rings[queue]))
            continue;
        assert_true(front_end_co_waits_for(call_fd, WAIT_MS_MAX)); /* may be a call too many */
    }
    return *status;
}

uint8_t front_end_co_do(struct front_end *front, unsigned queue, uint32_t type, uint64_t sector,
                        uint64_t data, uint32_t bytes)
{
    front_end_submit(front, queue, type, sector, data, bytes);
    return front_end_co_take(front, queue, front->call_fds[queue]);
}
