/*
 * A panic inside the library, which a bucket named "panic!" brings about in a library that is built for this test. It is
 * KEYLATCH_EPANIC: nothing is written or left held, what the caller gave is freed, and the manager goes on.
 */
#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include "keylatch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static keylatch_manager *locks;
static keylatch_queue *queue;
static keylatch_key bad, good;
static atomic_int freed;

static void unwanted(void *user_data, int32_t status, uint64_t grant)
{
    (void)user_data, (void)status, (void)grant;
    CHECK(0 && "called back");
}

static void on_free(void *user_data)
{
    CHECK(user_data == &locks);
    atomic_fetch_add(&freed, 1);
}

static void is_usable(void)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    uint64_t grant;
    CHECK(keylatch_last_status() == KEYLATCH_EPANIC && strstr(keylatch_last_error(), "as was asked for"));
    OK(keylatch_try(locks, &good, KEYLATCH_EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, grant));
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.holders == 0 && metrics.waiters == 0);
}

static void once(keylatch_owner *owner)
{
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_filter filter = KEYLATCH_FILTER_INIT;
    keylatch_batch_item items[2] = { { good, KEYLATCH_EXCLUSIVE, 0 }, { bad, KEYLATCH_EXCLUSIVE, 0 } };
    uint64_t grants[2] = { 77, 77 }, grant = 77, ticket = 77;
    int32_t number = 77, statuses[2] = { 77, 77 };
    size_t count = 77;
    keylatch_listing *listing = NULL;
    options.owner = owner;
    filter.key = &bad;
#define PANICS(call)                                                                                                   \
    do {                                                                                                               \
        CHECK_STATUS(KEYLATCH_EPANIC, call);                                                                           \
        is_usable();                                                                                                   \
    } while (0)
    PANICS(keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    PANICS(keylatch_try(locks, &bad, KEYLATCH_EXCLUSIVE, &options, &grant));
    PANICS(keylatch_acquire(locks, &bad, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    PANICS(keylatch_acquire(locks, &bad, KEYLATCH_EXCLUSIVE, 0, &options, &grant));
    int before = atomic_load(&freed);
    PANICS(keylatch_acquire_callback(locks, &bad, KEYLATCH_EXCLUSIVE, 0, &options, unwanted, &locks, on_free, &grant, &ticket));
    CHECK(atomic_load(&freed) > before);
    PANICS(keylatch_acquire_queue(locks, &bad, KEYLATCH_EXCLUSIVE, 0, &options, queue, 1, &grant, &ticket));
    PANICS(keylatch_acquire_batch(locks, items, 2, 0, &options, grants, statuses));
    PANICS(keylatch_is_current(locks, &bad, 1, &number));
    PANICS(keylatch_holders(locks, &filter, &listing));
    PANICS(keylatch_waiters(locks, &filter, &listing));
    filter.flags = KEYLATCH_FILTER_ALL;
    PANICS(keylatch_force_release(locks, &filter, &count, &listing));
    PANICS(keylatch_expire(locks, &filter, &count, &listing));
    PANICS(keylatch_blocking_chain(locks, &bad, NULL, &number, &listing));
    CHECK(grant == 77 && ticket == 77 && number == 77 && count == 77 && !listing);
    CHECK(grants[0] == 77 && grants[1] == 77 && statuses[0] == 77 && statuses[1] == 77);
}

static void *often(void *owner)
{
    for (int i = 0; i < 50; i++) {
        uint64_t grant;
        CHECK_STATUS(KEYLATCH_EPANIC, keylatch_acquire(locks, &bad, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
        OK(keylatch_acquire(locks, &good, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
        OK(keylatch_release(locks, grant));
    }
    return owner;
}

int main(void)
{
    keylatch_owner *owner;
    pthread_t threads[4];
    bad = keylatch_key_of("panic!", "o");
    good = keylatch_key_of("good", "o");
    OK(keylatch_manager_new(NULL, &locks));
    OK(keylatch_owner_new(locks, "me", 2, NULL, &owner));
    OK(keylatch_queue_new(locks, &queue));
    once(owner);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, often, NULL) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    once(owner);
    CHECK(atomic_load(&freed) == 2);
    /* No call counts as in progress: freeing would wait for it. */
    OK(keylatch_owner_free(owner));
    OK(keylatch_queue_free(queue));
    OK(keylatch_manager_free(locks));
    puts("13 functions panicked and went on");
    return 0;
}
