/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * throttle_group.c: who goes, when, and in which order, on one loop whose sleep is a jump of its
 * clock. tests/stress/throttle.c has the threads.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>

#include "block/coroutine.h"
#include "block/loop.h"
#include "block/throttle_group.h"

/* --- a loop in simulated time ------------------------------------------------------------------
 */

static uint64_t now_ns;

static uint64_t read_clock(struct clock *clock)
{
    (void)clock;
    return now_ns;
}

static struct clock jumping_clock = {.now_ns = read_clock};

static int jumping_open(struct loop *loop, void **ret_poller, struct error *err)
{
    (void)loop, (void)err;
    *ret_poller = NULL;
    return 0;
}

static void jumping_close(void *poller)
{
    (void)poller;
}

static void jumping_watch(void *poller, struct loop_watch *watch)
{
    (void)poller, (void)watch;
}

static bool jumping_wait(void *poller, int64_t timeout_ns)
{
    (void)poller;
    if (timeout_ns < 0)
        fail_msg("the loop sleeps, and nothing will wake it");
    now_ns += (uint64_t)timeout_ns;
    return false;
}

static void jumping_wake(void *poller)
{
    (void)poller;
}

static const struct poller_ops jumping_poller = {
    .name = "jumping",
    .open = jumping_open,
    .close = jumping_close,
    .watch = jumping_watch,
    .wait = jumping_wait,
    .wake = jumping_wake,
};

/* --- a group, two members, requests ------------------------------------------------------------
 */

#define ORDER_MAX 4096

struct scene {
    struct loop *loop;
    struct throttle_groups groups;
    struct throttle_group *group;
    struct throttle_member a, b;
    char order[ORDER_MAX]; /* who went: 'a' and 'b' read, 'A' and 'B' write */
    unsigned gone, started;
    struct coroutine *waiter; /* for the last one that was started */
};

static void scene_init(struct scene *scene, const struct throttle_limits *limits)
{
    struct error err;
    *scene = (struct scene){.gone = 0};
    now_ns = 1000 * NS_PER_S;
    assert_int_equal(loop_new(&scene->loop, 0, &jumping_poller, &jumping_clock, &err), 0);
    throttle_groups_init(&scene->groups);
    assert_int_equal(throttle_group_new(&scene->group, &scene->groups, "g", limits, &err), 0);
    throttle_member_init(&scene->a, scene->group);
    throttle_member_init(&scene->b, scene->group);
}

static void scene_fini(struct scene *scene)
{
    assert_int_equal(scene->gone, scene->started);
    throttle_member_fini(&scene->a);
    throttle_member_fini(&scene->b);
    throttle_group_free(scene->group);
    throttle_groups_fini(&scene->groups);
    loop_free(scene->loop);
}

static void scene_run(struct scene *scene, void (*entry)(void *arg))
{
    assert_int_equal(loop_run_co(scene->loop, entry, scene), 0);
}

struct request {
    struct scene *scene;
    char who;
    uint64_t length;
};

static void request_entry(void *arg)
{
    struct request request = *(struct request *)arg;
    struct scene *scene = request.scene;
    free(arg);
    bool is_write = request.who < 'a';
    bool is_a = request.who == 'a' || request.who == 'A';
    throttle_member_co_pass(is_a ? &scene->a : &scene->b, is_write ? THROTTLE_WRITE : THROTTLE_READ,
                            request.length);
    assert_true(scene->gone < ORDER_MAX - 1);
    scene->order[scene->gone++] = request.who;
    if (scene->gone == scene->started && scene->waiter)
        coroutine_wake(scene->waiter);
}

/* One request for each letter. */
static void start(struct scene *scene, const char *whos, uint64_t length)
{
    for (; *whos; whos++) {
        struct request *request = malloc(sizeof(*request));
        assert_non_null(request);
        *request = (struct request){scene, *whos, length};
        scene->started++;
        assert_int_equal(coroutine_start(scene->loop, request_entry, request), 0);
    }
}

static void start_many(struct scene *scene, char who, unsigned count, uint64_t length)
{
    const char whos[] = {who, '\0'};
    for (unsigned i = 0; i < count; i++)
        start(scene, whos, length);
}

static void co_wait_all(struct scene *scene)
{
    if (scene->gone == scene->started)
        return;
    scene->waiter = coroutine_self();
    coroutine_yield();
    scene->waiter = NULL;
}

struct nap {
    struct loop_timer timer;
    struct coroutine *co;
};

static void nap_over(struct loop_timer *timer)
{
    coroutine_wake(container_of(timer, struct nap, timer)->co);
}

static void co_sleep_ms(struct scene *scene, uint64_t ms)
{
    struct nap nap = {.timer = {.expired = nap_over}, .co = coroutine_self()};
    link_init(&nap.timer.link);
    loop_timer_set(scene->loop, &nap.timer, now_ns + ms * NS_PER_MS);
    coroutine_yield();
}

static struct throttle_limits limits_of(enum throttle_rate rate, uint64_t average)
{
    struct throttle_limits limits;
    throttle_limits_init(&limits);
    limits.rates[rate].average = average;
    return limits;
}

#define SCENE_TEST(name, rate, average)                           \
    static void name(void **state)                                \
    {                                                             \
        struct scene scene;                                       \
        struct throttle_limits limits = limits_of(rate, average); \
        (void)state;                                              \
        scene_init(&scene, &limits);                              \
        scene_run(&scene, co_##name);                             \
        scene_fini(&scene);                                       \
    }

static void assert_order(const struct scene *scene, const char *order)
{
    assert_string_equal(scene->order, order);
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void co_a_group_without_limits_holds_nobody_up(void *arg)
{
    struct scene *scene = arg;
    uint64_t before_ns = now_ns;
    assert_false(throttle_group_limits(scene->group, THROTTLE_READ));
    assert_false(throttle_group_limits(scene->group, THROTTLE_WRITE));
    start(scene, "aAbBaAbB", UINT64_C(1) << 40);
    assert_int_equal(scene->gone, 8);
    assert_true(now_ns == before_ns);
}
SCENE_TEST(a_group_without_limits_holds_nobody_up, THROTTLE_BPS_TOTAL, 0)

static void co_requests_go_at_the_rate_of_the_group(void *arg)
{
    struct scene *scene = arg;
    uint64_t before_ns = now_ns;
    start_many(scene, 'a', 500, 1);
    start_many(scene, 'B', 500, 1);
    co_wait_all(scene);
    double passed_s = (double)(now_ns - before_ns) / 1e9;
    assert_true(passed_s > 9.8 && passed_s < 10); /* a tenth of a second's worth went at once */
}
SCENE_TEST(requests_go_at_the_rate_of_the_group, THROTTLE_IOPS_TOTAL, 100)

static void co_members_take_turns_whatever_they_have_waiting(void *arg)
{
    struct scene *scene = arg;
    start(scene, "aaaaaaaaaa", 1); /* the first two go at once: see the bucket's size */
    start(scene, "bbb", 1);
    co_wait_all(scene);
    assert_order(scene, "aaabababaaaaa");
}
SCENE_TEST(members_take_turns_whatever_they_have_waiting, THROTTLE_IOPS_TOTAL, 10)

static void co_reads_and_writes_take_turns_at_a_total(void *arg)
{
    struct scene *scene = arg;
    start(scene, "aaaaaaaa", 1);
    start(scene, "AAAA", 1);
    co_wait_all(scene);
    assert_order(scene, "aaaAaAaAaAaa");
}
SCENE_TEST(reads_and_writes_take_turns_at_a_total, THROTTLE_IOPS_TOTAL, 10)

static void co_writes_that_wait_do_not_hold_up_reads_without_a_limit(void *arg)
{
    struct scene *scene = arg;
    start(scene, "AAAAA", 1);
    assert_int_equal(scene->gone, 2);
    start(scene, "aabb", 1);
    assert_int_equal(scene->gone, 6);
    co_wait_all(scene);
    assert_order(scene, "AAaabbAAA");
}
SCENE_TEST(writes_that_wait_do_not_hold_up_reads_without_a_limit, THROTTLE_IOPS_WRITE, 10)

static void co_who_comes_later_does_not_overtake(void *arg)
{
    struct scene *scene = arg;
    start(scene, "aaaa", 1);
    assert_int_equal(scene->gone, 2);
    /* Time enough for one more, though no timer was looked at: it is not the newcomer's. */
    now_ns += 100 * NS_PER_MS;
    start(scene, "B", 1);
    co_wait_all(scene);
    assert_int_equal(scene->order[2], 'a');
}
SCENE_TEST(who_comes_later_does_not_overtake, THROTTLE_IOPS_TOTAL, 10)

/* A write far over the rim leads, with a timer far away; a read that may go sooner takes over. */
static void a_read_that_may_go_sooner_does_not_wait_for_a_write(void **state);
static void co_a_read_that_may_go_sooner_does_not_wait_for_a_write(void *arg)
{
    struct scene *scene = arg;
    uint64_t before_ns = now_ns;
    start(scene, "A", 1000000); /* write: 1000 s of it */
    start(scene, "A", 1);
    start(scene, "aaaaa", 1); /* reads: 10 a second */
    while (scene->gone < 6)
        co_sleep_ms(scene, 10);
    assert_order(scene, "Aaaaaa");
    assert_true(now_ns - before_ns < NS_PER_S);
    co_wait_all(scene);
    assert_true(now_ns - before_ns > 990 * NS_PER_S);
}

static void a_read_that_may_go_sooner_does_not_wait_for_a_write(void **state)
{
    struct scene scene;
    struct throttle_limits limits = limits_of(THROTTLE_BPS_WRITE, 1000);
    limits.rates[THROTTLE_IOPS_READ].average = 10;
    (void)state;
    scene_init(&scene, &limits);
    scene_run(&scene, co_a_read_that_may_go_sooner_does_not_wait_for_a_write);
    scene_fini(&scene);
}

static void co_an_exempt_member_goes_at_once_and_the_others_pay(void *arg)
{
    struct scene *scene = arg;
    uint64_t before_ns = now_ns;
    start(scene, "aaaaa", 1);
    start(scene, "bb", 1);
    start(scene, "AA", 1);
    assert_int_equal(scene->gone, 2);
    throttle_member_exempt_begin(&scene->a);
    throttle_member_exempt_begin(&scene->a);
    for (unsigned i = 0; i < 10; i++)
        coroutine_co_pause();
    assert_order(scene, "aaaaaAA");
    throttle_member_exempt_end(&scene->a);
    start(scene, "aA", 1); /* they nest */
    assert_int_equal(scene->gone, 9);
    throttle_member_exempt_end(&scene->a);
    assert_true(now_ns == before_ns);
    start(scene, "a", 1);
    assert_int_equal(scene->gone, 9);
    co_wait_all(scene);
    /* eleven and one went, or stand on the rim; 10 a second */
    assert_true(now_ns - before_ns >= NS_PER_S);
}
SCENE_TEST(an_exempt_member_goes_at_once_and_the_others_pay, THROTTLE_IOPS_TOTAL, 10)

/* The member with the timer is let go; the other's requests still come to their turn. */
static void co_the_lead_passes_on_when_its_holder_is_let_go(void *arg)
{
    struct scene *scene = arg;
    for (unsigned round = 0; round < 20; round++) {
        struct throttle_member *exempt = round % 2 ? &scene->a : &scene->b;
        start(scene, "abAB", 1);
        if (round % 4 < 2)
            co_sleep_ms(scene, 30);
        throttle_member_exempt_begin(exempt);
        throttle_member_exempt_end(exempt);
        co_wait_all(scene);
    }
    assert_int_equal(scene->gone, 80);
}
SCENE_TEST(the_lead_passes_on_when_its_holder_is_let_go, THROTTLE_IOPS_TOTAL, 10)

static void co_what_a_late_loop_missed_goes_together(void *arg)
{
    struct scene *scene = arg;
    start_many(scene, 'a', 100, 1);
    uint64_t before_ns = now_ns;
    while (scene->gone < 90) {
        unsigned before = scene->gone;
        now_ns += 80 * NS_PER_MS; /* the loop was busy elsewhere */
        co_sleep_ms(scene, 1);
        coroutine_co_pause();
        coroutine_co_pause();
        assert_true(scene->gone - before >= 8);
    }
    co_wait_all(scene);
    assert_true(now_ns - before_ns < 910 * NS_PER_MS); /* nothing was lost */
}
SCENE_TEST(what_a_late_loop_missed_goes_together, THROTTLE_IOPS_READ, 100)

static void groups_are_found_by_their_names(void **state)
{
    struct throttle_groups groups;
    struct throttle_group *one, *two;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_READ, 1);
    (void)state;
    throttle_groups_init(&groups);
    assert_int_equal(throttle_group_new(&one, &groups, "one", &limits, NULL), 0);
    assert_int_equal(throttle_group_new(&two, &groups, "two", &limits, NULL), 0);
    assert_ptr_equal(throttle_groups_find(&groups, "one"), one);
    assert_ptr_equal(throttle_groups_find(&groups, "two"), two);
    assert_null(throttle_groups_find(&groups, "three"));
    assert_string_equal(throttle_group_name(two), "two");
    assert_true(throttle_group_limits(one, THROTTLE_READ));
    assert_false(throttle_group_limits(one, THROTTLE_WRITE));
    throttle_group_free(one);
    assert_null(throttle_groups_find(&groups, "one"));
    throttle_group_free(two);
    throttle_group_free(NULL);
    throttle_groups_fini(&groups);
}

static void a_group_of_wrong_limits_is_not_made(void **state)
{
    struct throttle_groups groups;
    struct throttle_group *group = NULL;
    struct throttle_limits limits = limits_of(THROTTLE_IOPS_READ, 1);
    struct error err;
    (void)state;
    limits.rates[THROTTLE_IOPS_TOTAL].average = 1;
    throttle_groups_init(&groups);
    assert_int_equal(throttle_group_new(&group, &groups, "g", &limits, &err), -EINVAL);
    assert_null(group);
    assert_non_null(strstr(err.message, "iops-total and iops-read"));
    assert_null(throttle_groups_find(&groups, "g"));
    throttle_groups_fini(&groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_without_limits_holds_nobody_up),
        cmocka_unit_test(requests_go_at_the_rate_of_the_group),
        cmocka_unit_test(members_take_turns_whatever_they_have_waiting),
        cmocka_unit_test(reads_and_writes_take_turns_at_a_total),
        cmocka_unit_test(writes_that_wait_do_not_hold_up_reads_without_a_limit),
        cmocka_unit_test(who_comes_later_does_not_overtake),
        cmocka_unit_test(a_read_that_may_go_sooner_does_not_wait_for_a_write),
        cmocka_unit_test(an_exempt_member_goes_at_once_and_the_others_pay),
        cmocka_unit_test(the_lead_passes_on_when_its_holder_is_let_go),
        cmocka_unit_test(what_a_late_loop_missed_goes_together),
        cmocka_unit_test(groups_are_found_by_their_names),
        cmocka_unit_test(a_group_of_wrong_limits_is_not_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
