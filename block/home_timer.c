/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/home_timer.h"

#include "block/coroutine.h"
#include "block/env.h"

#define NO_STACK_PAUSE_NS NS_PER_S

/* The mutex is held. */
static void tell_home(struct home_timer *timer)
{
    if (timer->is_posted)
        return;
    timer->is_posted = true;
    loop_post(timer->home, &timer->job);
}

static void told(struct loop_job *job)
{
    struct home_timer *timer = container_of(job, struct home_timer, job);
    pthread_mutex_lock(&timer->mutex);
    timer->is_posted = false;
    if (timer->is_set && !timer->is_running)
        loop_timer_set(timer->home, &timer->timer, timer->due_ns);
    else
        loop_timer_clear(&timer->timer);
    co_queue_wake_all(&timer->waiters);
    pthread_mutex_unlock(&timer->mutex);
}

static void run_co(void *arg)
{
    struct home_timer *timer = arg;
    timer->co_expired(timer);
    pthread_mutex_lock(&timer->mutex);
    timer->is_running = false;
    if (timer->is_set) /* again, meanwhile */
        tell_home(timer);
    co_queue_wake_all(&timer->waiters);
    pthread_mutex_unlock(&timer->mutex);
}

static void expired(struct loop_timer *loop_timer)
{
    struct home_timer *timer = container_of(loop_timer, struct home_timer, timer);
    pthread_mutex_lock(&timer->mutex);
    bool is_due = timer->is_set;
    timer->is_set = false;
    timer->is_running = is_due;
    pthread_mutex_unlock(&timer->mutex);
    if (!is_due || coroutine_start(timer->home, run_co, timer) == 0)
        return;
    pthread_mutex_lock(&timer->mutex);
    timer->is_running = false;
    timer->is_set = !timer->is_over;
    timer->due_ns = loop_now_ns(timer->home) + NO_STACK_PAUSE_NS;
    tell_home(timer);
    pthread_mutex_unlock(&timer->mutex);
}

void home_timer_init(struct home_timer *timer, struct block_env *env,
                     void (*co_expired)(struct home_timer *timer))
{
    *timer = (struct home_timer){
        .home = env->locals[0].loop,
        .co_expired = co_expired,
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .job = {.run = told},
        .timer = {.expired = expired},
    };
    co_queue_init(&timer->waiters);
    link_init(&timer->timer.link);
}

void home_timer_co_fini(struct home_timer *timer)
{
    pthread_mutex_lock(&timer->mutex);
    timer->is_set = false;
    timer->is_over = true;
    tell_home(timer); /* it takes the loop's own timer off */
    while (timer->is_posted || timer->is_running)
        co_queue_wait(&timer->waiters, &timer->mutex);
    pthread_mutex_unlock(&timer->mutex);
    pthread_mutex_destroy(&timer->mutex);
}

void home_timer_set(struct home_timer *timer, uint64_t due_ns)
{
    pthread_mutex_lock(&timer->mutex);
    if (!timer->is_over) {
        timer->is_set = true;
        timer->due_ns = due_ns;
        tell_home(timer);
    }
    pthread_mutex_unlock(&timer->mutex);
}
