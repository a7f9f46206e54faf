#define _POSIX_C_SOURCE 200809L

#include "story.h"
#include "expected.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct story now;

uint64_t monotonic(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void nap(uint64_t nanoseconds)
{
    struct timespec time = { (time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000) };
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}

static struct named *look_up(enum thing thing, const char *name)
{
    for (struct named *found = now.names; found; found = found->next)
        if (found->thing == thing && strcmp(found->name, name) == 0)
            return found;
    return NULL;
}

struct named *named(enum thing thing, const char *name)
{
    static const char *const things[] = { "grant", "fence", "session" };
    struct named *found = look_up(thing, name);
    if (!found)
        fail("no %s is named %s", things[thing], name);
    return found;
}

void name_number(enum thing thing, const char *name, uint64_t number)
{
    struct named *found = look_up(thing, name);
    if (!found) {
        found = keep(sizeof *found);
        *found = (struct named){ .thing = thing, .name = name, .next = now.names };
        now.names = found;
    }
    found->number = number;
}

uint64_t figure(const char *name)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    succeed("metrics", keylatch_manager_metrics(now.locks, KEYLATCH_ALL_SHARDS, &metrics));
    const struct { const char *name; uint64_t figure; } all[] = {
        { "holders", metrics.holders },         { "waiters", metrics.waiters },     { "waits", metrics.waits },
        { "acquisitions", metrics.acquisitions }, { "releases", metrics.releases }, { "timeouts", metrics.timeouts },
        { "cancelled", metrics.cancelled },     { "refused", metrics.refused },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].figure;
    fail("%s is no figure", name);
}

struct waiting *begin_wait(const char *name)
{
    struct waiting *wait = keep(sizeof *wait);
    pthread_condattr_t steady;
    *wait = (struct waiting){ .name = name, .locks = now.locks, .next = now.waits };
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_mutex_init(&wait->mutex, NULL);
    pthread_cond_init(&wait->over, &steady);
    pthread_condattr_destroy(&steady);
    now.waits = wait;
    return wait;
}

struct waiting *wait_named(const char *name)
{
    for (struct waiting *wait = now.waits; wait; wait = wait->next)
        if (wait->name && strcmp(wait->name, name) == 0)
            return wait;
    fail("nothing waits as %s", name);
}

void end_wait(struct waiting *wait, int32_t status, uint64_t grant)
{
    struct report report = report_now(status);
    pthread_mutex_lock(&wait->mutex);
    wait->report = report;
    wait->grant = grant;
    wait->ended = true;
    pthread_cond_broadcast(&wait->over);
    pthread_mutex_unlock(&wait->mutex);
}

void *upgrades(void *argument)
{
    struct waiting *wait = argument;
    end_wait(wait, keylatch_upgrade(wait->locks, wait->grant, wait->timeout), wait->grant);
    return NULL;
}

/* Fetches results until this one has arrived; each goes to the request that it is of. */
static bool arrives_within(struct waiting *wait, uint64_t deadline)
{
    while (!wait->ended) {
        uint64_t time = monotonic();
        keylatch_completion result;
        int32_t status = keylatch_queue_next(now.queue, time < deadline ? deadline - time : 0, &result);
        if (status == KEYLATCH_ETIMEOUT || status == KEYLATCH_EWOULDBLOCK)
            return false;
        succeed("the queue", status);
        struct waiting *of = now.waits;
        while (of && !(of->in_queue && of->ticket == result.ticket && (uint64_t)(uintptr_t)of == result.token))
            of = of->next;
        if (!of)
            fail("a result arrived that no step waits for");
        end_wait(of, result.status, result.grant);
    }
    return true;
}

bool ends_within(struct waiting *wait, uint64_t nanoseconds)
{
    uint64_t deadline = monotonic() + nanoseconds;
    if (wait->in_queue)
        return arrives_within(wait, deadline);
    struct timespec until = { (time_t)(deadline / 1000000000), (long)(deadline % 1000000000) };
    pthread_mutex_lock(&wait->mutex);
    while (!wait->ended && pthread_cond_timedwait(&wait->over, &wait->mutex, &until) == 0)
        ;
    bool ended = wait->ended;
    pthread_mutex_unlock(&wait->mutex);
    return ended;
}
