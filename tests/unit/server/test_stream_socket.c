/* SPDX-License-Identifier: BSD-3-Clause */
/* stream_socket.c: small receives are looked at, answered, and then taken; see also
 * test_connection.c and tests/integration/test_async.c. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/loop.h"
#include "common/clock.h"
#include "server/stream.h"
#include "server/stream_socket.h"

struct scene {
    struct loop *loop;
    struct stream *stream;
    int ours, theirs;
};

static void not_ready(struct stream *stream, unsigned events)
{
    (void)stream, (void)events;
}

static struct loop_watch *watched; /* the last one */

static void note_watch(void *poller, struct loop_watch *watch)
{
    watched = watch;
    poller_ev.watch(poller, watch);
}

static void scene_open(struct scene *scene, const int *fds)
{
    static struct poller_ops poller;
    struct error err;
    poller = poller_ev;
    poller.watch = note_watch;
    assert_int_equal(loop_new(&scene->loop, 0, &poller, &clock_monotonic, &err), 0);
    scene->ours = fds[0];
    scene->theirs = fds[1];
    scene->stream = stream_socket_new(scene->ours, "the client");
    assert_non_null(scene->stream);
    scene->stream->ready = not_ready;
    scene->stream->ops->attach(scene->stream, scene->loop);
}

static void scene_open_unix(struct scene *scene)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    scene_open(scene, fds);
}

static void scene_close(struct scene *scene)
{
    if (scene->stream)
        scene->stream->ops->close(scene->stream);
    close(scene->theirs);
    while (loop_turn(scene->loop, false))
        ;
    loop_free(scene->loop);
}

static void send_text(const struct scene *scene, const char *text)
{
    assert_int_equal(send(scene->theirs, text, strlen(text), 0), strlen(text));
}

static void answer(const struct scene *scene)
{
    char text[] = "answer";
    const struct iovec iov = {.iov_base = text, .iov_len = 6};
    assert_int_equal(scene->stream->ops->writev(scene->stream, &iov, 1), 6);
}

static ssize_t receive(const struct scene *scene, char *to, size_t space)
{
    const struct iovec iov = {.iov_base = to, .iov_len = space};
    return scene->stream->ops->readv(scene->stream, &iov, 1);
}

static void expect_text(const struct scene *scene, const char *text)
{
    char bytes[1024];
    assert_int_equal(receive(scene, bytes, sizeof(bytes)), strlen(text));
    assert_memory_equal(bytes, text, strlen(text));
}

static void assert_left(const struct scene *scene, int count)
{
    int left = -1;
    assert_int_equal(ioctl(scene->ours, FIONREAD, &left), 0);
    assert_int_equal(left, count);
}

/* The first is taken: nobody knew that it would be small. */
static void begin_small(const struct scene *scene)
{
    send_text(scene, "first");
    expect_text(scene, "first");
    assert_left(scene, 0);
}

static void small_receives_leave_the_socket_when_the_answer_is_out(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    for (unsigned i = 0; i < 3; i++) {
        send_text(&scene, "request");
        expect_text(&scene, "request");
        assert_left(&scene, 7);
        answer(&scene);
        assert_left(&scene, 0);
    }
    scene_close(&scene);
}

static void without_an_answer_they_leave_it_before_the_loop_sleeps(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    send_text(&scene, "request");
    expect_text(&scene, "request");
    assert_left(&scene, 7);
    loop_turn(scene.loop, false);
    assert_left(&scene, 0);
    scene_close(&scene);
}

struct late_answer {
    struct loop_task task;
    struct scene *scene;
    unsigned rounds_left;
};

static void answer_late(struct loop_task *task)
{
    struct late_answer *late = container_of(task, struct late_answer, task);
    assert_left(late->scene, 7);
    if (--late->rounds_left > 0)
        loop_at_round_end(late->scene->loop, task);
    else
        answer(late->scene);
}

/* As of an engine that had it in the page cache. */
static void nor_before_an_answer_of_the_next_round(void **state)
{
    (void)state;
    struct scene scene;
    struct late_answer late = {.task.run = answer_late, .scene = &scene, .rounds_left = 2};
    scene_open_unix(&scene);
    begin_small(&scene);
    send_text(&scene, "request");
    expect_text(&scene, "request");
    link_init(&late.task.link);
    loop_at_round_end(scene.loop, &late.task);
    loop_turn(scene.loop, false);
    assert_int_equal(late.rounds_left, 0);
    assert_left(&scene, 0);
    scene_close(&scene);
}

static void what_comes_meanwhile_is_received_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    send_text(&scene, "one");
    expect_text(&scene, "one");
    send_text(&scene, "two");
    answer(&scene);
    assert_left(&scene, 3);
    expect_text(&scene, "two");
    send_text(&scene, "three");
    expect_text(&scene, "three"); /* without an answer to the last */
    scene_close(&scene);
}

static void large_receives_are_taken_at_once(void **state)
{
    (void)state;
    char text[1000];
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    send_text(&scene, text);
    expect_text(&scene, text);
    assert_left(&scene, 0);
    send_text(&scene, "small");
    expect_text(&scene, "small"); /* after a large one nobody looks first */
    assert_left(&scene, 0);
    send_text(&scene, "small");
    expect_text(&scene, "small");
    assert_left(&scene, 5);
    scene_close(&scene);
}

/* More than there is room for is looked at in no part. */
static void a_small_buffer_is_filled_by_taking(void **state)
{
    (void)state;
    char bytes[4];
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    send_text(&scene, "request");
    assert_int_equal(receive(&scene, bytes, sizeof(bytes)), 4);
    assert_memory_equal(bytes, "requ", 4);
    assert_left(&scene, 3);
    expect_text(&scene, "est");
    scene_close(&scene);
}

static void an_end_and_an_empty_socket_are_told_as_ever(void **state)
{
    (void)state;
    char bytes[16];
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    assert_int_equal(receive(&scene, bytes, sizeof(bytes)), -EAGAIN);
    send_text(&scene, "last");
    expect_text(&scene, "last");
    assert_int_equal(receive(&scene, bytes, sizeof(bytes)), -EAGAIN);
    assert_int_equal(shutdown(scene.theirs, SHUT_WR), 0);
    assert_int_equal(receive(&scene, bytes, sizeof(bytes)), 0);
    scene_close(&scene);
}

/* Else he would see a reset, and lose what he was sent. */
static void a_stream_that_is_closed_leaves_no_bytes_behind(void **state)
{
    (void)state;
    char bytes[16];
    struct scene scene;
    scene_open_unix(&scene);
    begin_small(&scene);
    send_text(&scene, "disconnect");
    expect_text(&scene, "disconnect");
    assert_left(&scene, 10);
    scene.stream->ops->close(scene.stream);
    scene.stream = NULL;
    assert_int_equal(recv(scene.theirs, bytes, sizeof(bytes), 0), 0);
    scene_close(&scene);
}

static void scene_open_tcp(struct scene *scene)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fds[2];
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    fds[1] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fds[1], (struct sockaddr *)&address, sizeof(address)), 0);
    fds[0] = accept(listener, NULL, NULL);
    assert_true(fds[0] >= 0);
    close(listener);
    scene_open(scene, fds);
}

static void of_tcp_everything_is_taken_at_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_tcp(&scene);
    for (unsigned i = 0; i < 3; i++) {
        send_text(&scene, "request");
        expect_text(&scene, "request");
        assert_left(&scene, 0);
    }
    scene_close(&scene);
}

/* --- what the client has not read ---------------------------------------------------------------
 */

static struct loop_watch *watch_of(struct scene *scene)
{
    scene->stream->ops->want(scene->stream, LOOP_READABLE);
    return watched;
}

static void what_a_unix_client_has_not_read_is_known(void **state)
{
    (void)state;
    struct scene scene;
    char bytes[64];
    scene_open_unix(&scene);
    struct loop_watch *watch = watch_of(&scene);
    assert_int_equal(watch->unread(watch), 0);
    answer(&scene);
    size_t one = watch->unread(watch);
    assert_true(one >= 6);
    answer(&scene);
    assert_int_equal(watch->unread(watch), 2 * one);
    assert_int_equal(recv(scene.theirs, bytes, 6, 0), 6);
    assert_int_equal(watch->unread(watch), one);
    assert_int_equal(recv(scene.theirs, bytes, sizeof(bytes), 0), 6);
    assert_int_equal(watch->unread(watch), 0);
    scene_close(&scene);
}

static void of_tcp_it_is_not(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_tcp(&scene);
    assert_null(watch_of(&scene)->unread);
    scene_close(&scene);
}

static int send_buffer_bytes(const struct scene *scene)
{
    int bytes = 0;
    socklen_t size = sizeof(bytes);
    assert_int_equal(getsockopt(scene->ours, SOL_SOCKET, SO_SNDBUF, &bytes, &size), 0);
    return bytes;
}

/* 0: not to be read in a network namespace of one's own, on older kernels. */
static int send_buffer_bytes_max(void)
{
    int bytes = 0;
    FILE *file = fopen("/proc/sys/net/core/wmem_max", "r");
    if (file && fscanf(file, "%d", &bytes) != 1)
        bytes = 0;
    if (file)
        fclose(file);
    return bytes;
}

static void send_file(const struct scene *scene)
{
    char text[8], header[] = "header ";
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite("from file", 1, 9, file), 9);
    assert_int_equal(fflush(file), 0);
    const struct iovec iov = {.iov_base = header, .iov_len = 7};
    const struct stream_file sent = {.fd = fileno(file), .offset = 5, .length = 4};
    assert_int_equal(scene->stream->ops->write_file(scene->stream, &iov, 1, &sent), 11);
    assert_int_equal(recv(scene->theirs, text, 7, MSG_WAITALL), 7);
    assert_memory_equal(text, "header ", 7);
    assert_int_equal(recv(scene->theirs, text, 4, MSG_WAITALL), 4);
    assert_memory_equal(text, "file", 4);
    fclose(file);
}

static void a_unix_socket_has_more_room_once_files_are_sent(void **state)
{
    (void)state;
    struct scene scene;
    const int wanted = 2 << 20;
    int most = send_buffer_bytes_max();
    if (most == 0)
        skip();
    scene_open_unix(&scene);
    int before = send_buffer_bytes(&scene);
    send_file(&scene);
    int after = send_buffer_bytes(&scene);
    assert_int_equal(after, 2 * (most < wanted ? most : wanted)); /* socket(7): it is doubled */
    assert_true(most < wanted || before < after);
    send_file(&scene);
    assert_int_equal(send_buffer_bytes(&scene), after);
    scene_close(&scene);
}

static void of_tcp_the_kernel_sees_to_it(void **state)
{
    (void)state;
    struct scene scene;
    scene_open_tcp(&scene);
    int before = send_buffer_bytes(&scene);
    send_file(&scene);
    assert_int_equal(send_buffer_bytes(&scene), before);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_receives_leave_the_socket_when_the_answer_is_out),
        cmocka_unit_test(without_an_answer_they_leave_it_before_the_loop_sleeps),
        cmocka_unit_test(nor_before_an_answer_of_the_next_round),
        cmocka_unit_test(what_comes_meanwhile_is_received_once),
        cmocka_unit_test(large_receives_are_taken_at_once),
        cmocka_unit_test(a_small_buffer_is_filled_by_taking),
        cmocka_unit_test(an_end_and_an_empty_socket_are_told_as_ever),
        cmocka_unit_test(a_stream_that_is_closed_leaves_no_bytes_behind),
        cmocka_unit_test(of_tcp_everything_is_taken_at_once),
        cmocka_unit_test(what_a_unix_client_has_not_read_is_known),
        cmocka_unit_test(of_tcp_it_is_not),
        cmocka_unit_test(a_unix_socket_has_more_room_once_files_are_sent),
        cmocka_unit_test(of_tcp_the_kernel_sees_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
