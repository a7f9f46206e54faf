/*
 * Every status that the header names comes of what the header says, and the statuses are known by name. A status without a
 * case here fails the test.
 */
#define _DEFAULT_SOURCE

#include "check.h"
#include "keylatch.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static bool reached[200];

/* As CHECK_STATUS, and notes that it came. */
#define COMES(expected, call)                                                                                          \
    do {                                                                                                               \
        CHECK_STATUS(expected, call);                                                                                  \
        reached[-(expected)] = true;                                                                                   \
    } while (0)

static keylatch_manager *locks;
static keylatch_key key, other;

static keylatch_manager *manager(uint32_t max_locks, uint32_t max_waiters)
{
    keylatch_manager *made;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    options.shards = 1;
    options.max_locks = max_locks;
    options.max_waiters = max_waiters;
    options.deadlock_delay_ns = 1;
    OK(keylatch_manager_new(&options, &made));
    return made;
}

static keylatch_owner *session(const char *name)
{
    keylatch_owner_options options = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_owner *made;
    options.flags = KEYLATCH_OWNER_SESSION;
    options.source = "errors.c";
    options.source_len = 8;
    OK(keylatch_owner_new(locks, name, strlen(name), &options, &made));
    return made;
}

static uint64_t waiters(keylatch_manager *of)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(of, KEYLATCH_ALL_SHARDS, &metrics));
    return metrics.waiters;
}

static void until_waiters(uint64_t count)
{
    for (int i = 0; i < 10000 && waiters(locks) != count; i++)
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    CHECK(waiters(locks) == count);
}

static void refusals_and_waits(void)
{
    uint64_t grant, none, waited;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant));
    COMES(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &none));
    CHECK(keylatch_status_is_transient(KEYLATCH_EWOULDBLOCK) == 1);
    COMES(KEYLATCH_ETIMEOUT, keylatch_acquire(locks, &key, KEYLATCH_SHARED, MS, NULL, &none));
    OK(keylatch_last_waited(&waited));
    CHECK(waited >= MS);
    COMES(KEYLATCH_ENOTHELD, keylatch_downgrade(locks, grant + 1));
    CHECK_STATUS(KEYLATCH_EEND, keylatch_last_waited(&waited));
    reached[-KEYLATCH_EEND] = true;
    CHECK(keylatch_last_status() == KEYLATCH_ENOTHELD);
    OK(keylatch_release(locks, grant));
    /* Each error names what is wrong, and nothing else. */
    keylatch_request_options wrong = KEYLATCH_REQUEST_OPTIONS_INIT;
    wrong.priority = 256;
    COMES(KEYLATCH_EINVALID, keylatch_try(locks, &key, KEYLATCH_SHARED, &wrong, &none));
    CHECK(strstr(keylatch_last_error(), "not 256") && !strstr(keylatch_last_error(), "flags"));
    wrong.priority = 0;
    wrong.flags = KEYLATCH_BEST_EFFORT;
    COMES(KEYLATCH_EINVALID, keylatch_try(locks, &key, KEYLATCH_SHARED, &wrong, &none));
    CHECK(strstr(keylatch_last_error(), "is for a batch") && !strstr(keylatch_last_error(), "priority"));
    wrong.flags = 2;
    COMES(KEYLATCH_EINVALID, keylatch_try(locks, &key, KEYLATCH_SHARED, &wrong, &none));
    CHECK(strstr(keylatch_last_error(), "flags") && !strstr(keylatch_last_error(), "priority"));
    keylatch_manager_options unknown = KEYLATCH_MANAGER_OPTIONS_INIT;
    keylatch_manager *unmade;
    unknown.fairness = 9;
    COMES(KEYLATCH_EINVALID, keylatch_manager_new(&unknown, &unmade));
    CHECK(strstr(keylatch_last_error(), "from 1 (eventual) to 4 (reader first)"));
    keylatch_owner_options of = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_owner *owner;
    of.flags = KEYLATCH_OWNER_RELEASES;
    COMES(KEYLATCH_EINVALID, keylatch_owner_new(locks, "a", 1, &of, &owner));
    CHECK(strstr(keylatch_last_error(), "KEYLATCH_OWNER_SESSION"));
    of.reserved = 1;
    COMES(KEYLATCH_EINVALID, keylatch_owner_new(locks, "a", 1, &of, &owner));
    CHECK(strstr(keylatch_last_error(), "reserved"));
}

static void deadlock(void)
{
    keylatch_owner *one = session("one"), *two = session("two");
    keylatch_request_options first = KEYLATCH_REQUEST_OPTIONS_INIT, second = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_queue *queue;
    keylatch_chain_link link = KEYLATCH_CHAIN_LINK_INIT;
    keylatch_listing *listing;
    uint64_t a, b, grant, ticket;
    size_t count;
    first.owner = one;
    second.owner = two;
    OK(keylatch_queue_new(locks, &queue));
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, &first, &a));
    OK(keylatch_try(locks, &other, KEYLATCH_EXCLUSIVE, &second, &b));
    OK(keylatch_acquire_queue(locks, &other, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &first, queue, 1, &grant, &ticket));
    COMES(KEYLATCH_EDEADLOCK, keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &second, &grant));
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.deadlocks == 1);
    /* Programs that were compiled before there was that field. */
    metrics = (keylatch_metrics){ .struct_size = 160 };
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.deadlocks == 0 && metrics.uptime_ns > 0);
    OK(keylatch_last_cycle_link(0, &link));
    CHECK(link.owner_len == 3 && memcmp(link.owner, "two", 3) == 0 && link.mode == KEYLATCH_EXCLUSIVE);
    CHECK(link.source_len == 8 && link.flags & KEYLATCH_LINK_SESSION && link.key.object_len == key.object_len);
    OK(keylatch_last_cycle_link(1, &link));
    CHECK(memcmp(link.owner, "one", 3) == 0);
    CHECK_STATUS(KEYLATCH_EEND, keylatch_last_cycle_link(2, &link));
    OK(keylatch_recent_deadlocks(locks, &listing));
    OK(keylatch_listing_count(listing, &count));
    OK(keylatch_listing_next_link(listing, &link));
    CHECK(count == 2 && link.flags & KEYLATCH_LINK_VICTIM && link.link == 1 && memcmp(link.owner, "two", 3) == 0);
    OK(keylatch_listing_free(listing));
    OK(keylatch_queue_free(queue));
    OK(keylatch_release(locks, a));
    OK(keylatch_release(locks, b));
    OK(keylatch_owner_free(one));
    OK(keylatch_owner_free(two));
}

static void *upgrades(void *grant)
{
    OK(keylatch_upgrade(locks, *(uint64_t *)grant, KEYLATCH_WAIT_FOREVER));
    return NULL;
}

static void two_upgrades(void)
{
    uint64_t one, two;
    pthread_t thread;
    OK(keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &one));
    OK(keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &two));
    CHECK(pthread_create(&thread, NULL, upgrades, &one) == 0);
    until_waiters(1);
    COMES(KEYLATCH_EUPGRADE, keylatch_upgrade(locks, two, KEYLATCH_WAIT_FOREVER));
    OK(keylatch_release(locks, two));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(keylatch_release(locks, one));
}

static void cancelled_and_closed(void)
{
    keylatch_manager *closed = manager(100, 100);
    keylatch_queue *queue;
    keylatch_completion result;
    uint64_t grant, held, ticket;
    int32_t yes;
    OK(keylatch_queue_new(closed, &queue));
    OK(keylatch_try(closed, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(keylatch_acquire_queue(closed, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 5, &grant, &ticket));
    OK(keylatch_cancel(closed, ticket, &yes));
    OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
    CHECK(yes == 1);
    COMES(KEYLATCH_ECANCELLED, result.status);
    CHECK(keylatch_last_status() == KEYLATCH_ECANCELLED);
    OK(keylatch_manager_close(closed));
    OK(keylatch_manager_is_closed(closed, &yes));
    CHECK(yes == 1);
    COMES(KEYLATCH_ECLOSED, keylatch_try(closed, &other, KEYLATCH_SHARED, NULL, &grant));
    OK(keylatch_release(closed, held));
    OK(keylatch_manager_free(closed));
    OK(keylatch_queue_free(queue));
}

static atomic_int lost;
static atomic_uint_fast64_t lost_grant;

static void on_lost(void *user_data, uint64_t grant, int32_t why)
{
    keylatch_manager *mine = user_data;
    uint64_t more;
    keylatch_key third = keylatch_key_of("b", "third");
    /* It may call what does not wait, and is inside a call on its manager. */
    OK(keylatch_try(mine, &third, KEYLATCH_EXCLUSIVE, NULL, &more));
    OK(keylatch_release(mine, more));
    COMES(KEYLATCH_EBUSY, keylatch_manager_free(mine));
    atomic_store(&lost_grant, grant);
    atomic_store(&lost, why);
}

static void leases(void)
{
    keylatch_request_options lease = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_filter filter = KEYLATCH_FILTER_INIT;
    uint64_t late, next, left;
    int32_t valid;
    size_t count;
    lease.ttl_ns = 1;
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, &lease, &late));
    OK(keylatch_on_lost(locks, late, on_lost, locks, NULL));
    do
        OK(keylatch_remaining(locks, late, &left));
    while (left);
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &next));
    CHECK(atomic_load(&lost) == KEYLATCH_LOST_EXPIRED && atomic_load(&lost_grant) == late);
    OK(keylatch_is_valid(locks, late, &valid));
    CHECK(valid == 0);
    COMES(KEYLATCH_ELEASELOST, keylatch_release(locks, late));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, late));
    OK(keylatch_on_lost(locks, next, on_lost, locks, NULL));
    filter.key = &key;
    OK(keylatch_force_release(locks, &filter, &count, NULL));
    CHECK(count == 1 && atomic_load(&lost) == KEYLATCH_LOST_FORCED && atomic_load(&lost_grant) == next);
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, next));
}

static void limits(void)
{
    keylatch_manager *small = manager(4, 1);
    keylatch_queue *queue;
    uint64_t grants[200], grant, ticket;
    char name[2] = { 0, 0 };
    int32_t status = KEYLATCH_OK;
    int held = 0;
    while (held < 200) {
        name[0] = (char)(held + 1);
        keylatch_key one = keylatch_key_of("b", name);
        if ((status = keylatch_try(small, &one, KEYLATCH_EXCLUSIVE, NULL, &grants[held])) != KEYLATCH_OK)
            break;
        held++;
    }
    COMES(KEYLATCH_ETABLEFULL, status);
    CHECK(held >= 4);
    OK(keylatch_release_many(small, grants, (size_t)held, NULL));
    OK(keylatch_queue_new(small, &queue));
    OK(keylatch_try(small, &key, KEYLATCH_EXCLUSIVE, NULL, &grants[0]));
    OK(keylatch_acquire_queue(small, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 1, &grant, &ticket));
    COMES(KEYLATCH_EWAITERS, keylatch_acquire(small, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    OK(keylatch_manager_free(small));
    OK(keylatch_queue_free(queue));
    static char long_name[9000];
    keylatch_key long_key = { "b", 1, long_name, sizeof long_name, NULL, 0 };
    COMES(KEYLATCH_EKEY, keylatch_try(locks, &long_key, KEYLATCH_SHARED, NULL, &grant));
#ifdef AS_INSTALLED
    /* What brings about a panic in a library that is built for that is nothing special in this one. */
    keylatch_key special = keylatch_key_of("panic!", "o");
#else
    keylatch_key special = keylatch_key_of("bucket", "o");
#endif
    OK(keylatch_try(locks, &special, KEYLATCH_EXCLUSIVE, NULL, &grant));
    char buffer[6];
    keylatch_key found;
    COMES(KEYLATCH_EBUFFER, keylatch_grant_key(locks, grant, buffer, sizeof buffer, &found));
    CHECK(strstr(keylatch_last_error(), "7 bytes"));
    OK(keylatch_release(locks, grant));
}

static void mistakes(void)
{
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    keylatch_manager *none;
    uint64_t grant;
    options.shards = 3;
    COMES(KEYLATCH_ECONFIG, keylatch_manager_new(&options, &none));
    options.shards = 0;
    options.shared_memory = "/no/such/folder/locks";
    COMES(KEYLATCH_ETIER, keylatch_manager_new(&options, &none));
    COMES(KEYLATCH_ENULL, keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, NULL));
    COMES(KEYLATCH_EINVALID, keylatch_try(locks, &key, 9, NULL, &grant));
    options.struct_size = 3;
    COMES(KEYLATCH_ESTRUCT, keylatch_manager_new(&options, &none));
    keylatch_owner *owner = session("gone");
    OK(keylatch_owner_free(owner));
    COMES(KEYLATCH_EHANDLE, keylatch_owner_free(owner));
}

/* No descriptor is left; what can be made without one goes on. */
static void no_descriptors(void)
{
    struct rlimit before, none;
    keylatch_queue *queue = NULL;
    keylatch_events *events;
    uint64_t grant;
    int32_t fd = -7;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    OK(keylatch_events_new(locks, NULL, &events));
    none = before;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    COMES(KEYLATCH_ESYSTEM, keylatch_queue_new(locks, &queue));
    CHECK_STATUS(KEYLATCH_ESYSTEM, keylatch_events_fd(events, &fd));
    CHECK(queue == NULL && fd == -7);
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, grant));
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    OK(keylatch_queue_new(locks, &queue));
    OK(keylatch_queue_free(queue));
    OK(keylatch_events_fd(events, &fd));
    OK(keylatch_events_free(events));
}

static void in_a_child(void)
{
    uint64_t grant;
    pid_t child = fork();
    if (child == 0)
        _exit(keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &grant) == KEYLATCH_EFORKED ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    reached[-KEYLATCH_EFORKED] = true;
}

static void is_not_called(void *user_data, int32_t status, uint64_t grant)
{
    (void)user_data, (void)status, (void)grant;
    CHECK(!"there is no thread for it");
}

/* A thread that cannot be had is no setting of the caller's. The superuser has no limit, so the child becomes another user. */
static void no_threads(void)
{
    pid_t child = fork();
    if (child == 0) {
        uint64_t held, grant = 7, ticket = 7;
        struct rlimit none = { 0, 0 };
        locks = manager(1000, 1000);
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
        CHECK(geteuid() != 0 || setuid(65534) == 0);
        CHECK(setrlimit(RLIMIT_NPROC, &none) == 0);
        CHECK_STATUS(KEYLATCH_ESYSTEM, keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, is_not_called, NULL, NULL, &grant, &ticket));
        CHECK(strstr(keylatch_last_error(), "thread") && grant == 7 && ticket == 7);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A key that is too long is refused without a look at its bytes: here no one may look. */
static void too_long_to_be_read(void)
{
    size_t length = 1 << 20;
    void *bytes = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(bytes != MAP_FAILED);
    keylatch_key object = { "b", 1, bytes, length, NULL, 0 }, version = { "b", 1, "o", 1, bytes, length };
    keylatch_queue *queue;
    uint64_t grant, ticket;
    OK(keylatch_queue_new(locks, &queue));
    CHECK_STATUS(KEYLATCH_EKEY, keylatch_try(locks, &object, KEYLATCH_EXCLUSIVE, NULL, &grant));
    CHECK_STATUS(KEYLATCH_EKEY, keylatch_acquire(locks, &version, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    CHECK_STATUS(KEYLATCH_EKEY, keylatch_acquire_queue(locks, &object, KEYLATCH_SHARED, MS, NULL, queue, 1, &grant, &ticket));
    CHECK_STATUS(KEYLATCH_EKEY, keylatch_acquire_callback(locks, &object, KEYLATCH_SHARED, MS, NULL, is_not_called, NULL, NULL, &grant, &ticket));
    OK(keylatch_queue_free(queue));
    CHECK(munmap(bytes, length) == 0);
}

/* What figures, listings and events tell that nothing else does. */
static void details(void)
{
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    keylatch_manager *made;
    keylatch_request_options asked = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_wait_bucket buckets[64];
    keylatch_waiter waiter = KEYLATCH_WAITER_INIT;
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    keylatch_listing *listing;
    keylatch_events *events;
    uint64_t grants[70], grant, waits = 0, before = 0;
    size_t count;
    int32_t kind;
    options.lock_delay_ns = 3600000 * MS;
    OK(keylatch_manager_new(&options, &made));
    OK(keylatch_events_new(made, NULL, &events));
    for (int i = 0; i < 70; i++)
        OK(keylatch_try(made, &key, KEYLATCH_SHARED, NULL, &grants[i]));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(made, &key, KEYLATCH_EXCLUSIVE, 50 * MS, NULL, &grant));
    OK(keylatch_events_next(events, 0, &kind, &listing));
    OK(keylatch_listing_count(listing, &count));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_listing_next_holder(listing, &holder));
    CHECK(strstr(keylatch_last_error(), "keylatch_listing_next_waiter()"));
    OK(keylatch_listing_next_waiter(listing, &waiter));
    CHECK(kind == KEYLATCH_EVENT_TIMEOUT && waiter.mode == KEYLATCH_EXCLUSIVE && count == 2 && waiter.more == 69);
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_listing_next_waiter(listing, &waiter));
    OK(keylatch_listing_next_holder(listing, &holder));
    CHECK(holder.mode == KEYLATCH_SHARED);
    CHECK_STATUS(KEYLATCH_EEND, keylatch_listing_next_waiter(listing, &waiter));
    CHECK_STATUS(KEYLATCH_EEND, keylatch_listing_next_holder(listing, &holder));
    OK(keylatch_listing_free(listing));
    OK(keylatch_release_many(made, grants, 70, NULL));

    /* The wait was counted where its length belongs. */
    OK(keylatch_manager_wait_times(made, KEYLATCH_ALL_SHARDS, buckets, 64, &count));
    CHECK(count > 1 && count <= 64 && buckets[count - 1].below_ns == UINT64_MAX);
    for (size_t i = 0; i < count; i++) {
        CHECK(buckets[i].below_ns > before && (buckets[i].waits == 0 || buckets[i].below_ns > MS));
        before = buckets[i].below_ns;
        waits += buckets[i].waits;
    }
    CHECK(waits == 1);
    CHECK_STATUS(KEYLATCH_EBUFFER, keylatch_manager_wait_times(made, 0, buckets, count - 1, &count));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_manager_wait_times(made, 1 << 30, buckets, 64, &count));

    asked.ttl_ns = 1;
    OK(keylatch_try(made, &key, KEYLATCH_EXCLUSIVE, &asked, &grants[0]));
    keylatch_filter all = { .struct_size = sizeof all, .flags = KEYLATCH_FILTER_ALL };
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_expire(made, NULL, &count, NULL));
    OK(keylatch_expire(made, &all, &count, NULL));
    CHECK(count == 1);
    OK(keylatch_holders(made, NULL, &listing));
    OK(keylatch_listing_next_holder(listing, &holder));
    CHECK(holder.flags & KEYLATCH_HOLDER_LOCK_DELAY);
    OK(keylatch_listing_free(listing));
    OK(keylatch_events_free(events));
    OK(keylatch_manager_free(made));
}

/* Threads that wait in every way there is, while what they wait on is freed. */
struct freed {
    keylatch_queue *queue;
    keylatch_events *events;
};

static atomic_int inside;

static void *waits_in_queue(void *freed)
{
    keylatch_completion result;
    atomic_fetch_add(&inside, 1);
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_queue_next(((struct freed *)freed)->queue, KEYLATCH_WAIT_FOREVER, &result));
    return NULL;
}

static void *waits_for_events(void *freed)
{
    int32_t kind;
    atomic_fetch_add(&inside, 1);
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_events_next(((struct freed *)freed)->events, KEYLATCH_WAIT_FOREVER, &kind, NULL));
    return NULL;
}

static void *waits_for_a_lock(void *with)
{
    uint64_t grant;
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_acquire(with, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    return NULL;
}

static void *waits_for_a_batch(void *with)
{
    keylatch_batch_item items[2] = { { other, KEYLATCH_EXCLUSIVE, 0 }, { key, KEYLATCH_EXCLUSIVE, 0 } };
    uint64_t grants[2];
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_acquire_batch(with, items, 2, KEYLATCH_WAIT_FOREVER, NULL, grants, NULL));
    return NULL;
}

static void freed_while_waiting(void)
{
    for (int round = 0; round < 20; round++) {
        struct freed freed;
        pthread_t threads[4];
        keylatch_manager *before = locks;
        uint64_t held;
        locks = manager(100, 100);
        OK(keylatch_queue_new(locks, &freed.queue));
        OK(keylatch_events_new(locks, NULL, &freed.events));
        OK(keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &held));
        atomic_store(&inside, 0);
        CHECK(pthread_create(&threads[0], NULL, waits_in_queue, &freed) == 0);
        CHECK(pthread_create(&threads[1], NULL, waits_for_events, &freed) == 0);
        CHECK(pthread_create(&threads[2], NULL, waits_for_a_lock, locks) == 0);
        CHECK(pthread_create(&threads[3], NULL, waits_for_a_batch, locks) == 0);
        until_waiters(2);
        while (atomic_load(&inside) < 2)
            sched_yield();
        /* In half of the rounds they have probably not begun to sleep. */
        if (round % 2)
            nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
        OK(keylatch_queue_free(freed.queue));
        OK(keylatch_events_free(freed.events));
        OK(keylatch_manager_free(locks));
        for (int i = 0; i < 4; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        locks = before;
    }
}

struct reentry {
    keylatch_queue *queue;
    keylatch_events *events;
    atomic_int called, freed;
};

/* Everything that does not wait may be called in a callback, and freeing the manager too. */
static void reenters(void *user_data, int32_t status, uint64_t grant)
{
    struct reentry *reentry = user_data;
    keylatch_key mine = keylatch_key_of("b", "mine");
    keylatch_batch_item item = { mine, KEYLATCH_EXCLUSIVE, 0 };
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    keylatch_listing *listing;
    keylatch_owner *owner;
    keylatch_completion result;
    uint64_t more, ticket, number;
    int32_t yes;
    char *text;
    CHECK_STATUS(KEYLATCH_OK, status);
    OK(keylatch_try(locks, &mine, KEYLATCH_SHARED, NULL, &more));
    OK(keylatch_try_upgrade(locks, more));
    OK(keylatch_fence(locks, more, &number));
    OK(keylatch_renew(locks, more, 1000 * MS));
    OK(keylatch_downgrade(locks, more));
    OK(keylatch_release(locks, more));
    OK(keylatch_acquire_batch(locks, &item, 1, 0, NULL, &more, NULL));
    OK(keylatch_acquire_queue(locks, &mine, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, reentry->queue, 9, &number, &ticket));
    OK(keylatch_cancel(locks, ticket, &yes));
    OK(keylatch_queue_next(reentry->queue, 0, &result));
    CHECK(yes == 1 && result.token == 9);
    OK(keylatch_holders(locks, NULL, &listing));
    OK(keylatch_listing_free(listing));
    OK(keylatch_owner_new(locks, "x", 1, NULL, &owner));
    OK(keylatch_owner_free(owner));
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    OK(keylatch_manager_report(locks, &text));
    keylatch_text_free(text);
    OK(keylatch_release(locks, more));
    OK(keylatch_release(locks, grant));
    OK(keylatch_manager_close(locks));
    OK(keylatch_manager_free(locks));
    atomic_fetch_add(&reentry->called, 1);
}

static void on_free(void *user_data)
{
    struct reentry *reentry = user_data;
    CHECK(atomic_load(&reentry->called) == 1);
    atomic_fetch_add(&reentry->freed, 1);
}

static void a_callback_that_does_everything(void)
{
    keylatch_manager *before = locks;
    struct reentry reentry = { .called = 0 };
    uint64_t held, grant, ticket;
    locks = manager(100, 100);
    OK(keylatch_queue_new(locks, &reentry.queue));
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, reenters, &reentry, on_free, &grant, &ticket));
    OK(keylatch_release(locks, held));
    for (int i = 0; i < 10000 && !atomic_load(&reentry.freed); i++)
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    CHECK(atomic_load(&reentry.called) == 1 && atomic_load(&reentry.freed) == 1);
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_manager_free(locks));
    OK(keylatch_queue_free(reentry.queue));
    locks = before;
}

static void sizes(void)
{
    const size_t sizes[] = { sizeof(keylatch_key), sizeof(keylatch_manager_options), sizeof(keylatch_owner_options),
        sizeof(keylatch_request_options), sizeof(keylatch_batch_item), sizeof(keylatch_completion), sizeof(keylatch_metrics),
        sizeof(keylatch_health), sizeof(keylatch_holder), sizeof(keylatch_filter), sizeof(keylatch_event_options),
        sizeof(keylatch_adaptive), sizeof(keylatch_wait_bucket), sizeof(keylatch_claims_options), sizeof(keylatch_claim_answer),
        sizeof(keylatch_claim_policy), sizeof(keylatch_claim_event), sizeof(keylatch_shared_options), sizeof(keylatch_shared_hold),
        sizeof(keylatch_shared_holder), sizeof(keylatch_waiter), sizeof(keylatch_chain_link), sizeof(keylatch_top_key),
        sizeof(keylatch_etcd_options), sizeof(keylatch_tier_hold) };
    size_t count = sizeof sizes / sizeof *sizes, size;
    for (size_t i = 0; i < count; i++) {
        OK(keylatch_struct_size((int32_t)i + 1, &size));
        CHECK(size == sizes[i]);
    }
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_struct_size((int32_t)count + 1, &size));
}

static void *waits_for_work(void *with)
{
    keylatch_claim_answer answer = KEYLATCH_CLAIM_ANSWER_INIT;
    atomic_fetch_add(&inside, 1);
    CHECK_STATUS(KEYLATCH_ESESSION, keylatch_claim(with, &key, 1, KEYLATCH_WAIT_FOREVER, NULL, &answer));
    return NULL;
}

static void claims(void)
{
    keylatch_claims_options options = KEYLATCH_CLAIMS_OPTIONS_INIT;
    keylatch_claim_answer answer = KEYLATCH_CLAIM_ANSWER_INIT;
    keylatch_claim_policy short_line = KEYLATCH_CLAIM_POLICY_INIT;
    keylatch_claims *made;
    keylatch_claimant *a, *b, *none;
    keylatch_claim_watch *watch;
    keylatch_claim_event event = KEYLATCH_CLAIM_EVENT_INIT;
    pthread_t waiter;
    options.max_open = 2;
    options.max_claimants = 2;
    OK(keylatch_claims_new(&options, &made));
    OK(keylatch_claimant_new(made, "a", 1, 0, &a));
    OK(keylatch_claimant_new(made, "b", 1, 1, &b));
    COMES(KEYLATCH_ESESSION, keylatch_claimant_renew(b));
    OK(keylatch_claimant_free(b));
    OK(keylatch_claimant_new(made, "b", 1, 0, &b));
    COMES(KEYLATCH_ESESSIONS, keylatch_claimant_new(made, "c", 1, 0, &none));
    OK(keylatch_claim(a, &key, 1, 0, NULL, &answer));
    CHECK(answer.kind == KEYLATCH_CLAIM_YOURS && answer.attempt == 1 && answer.first_in_epoch == 1);
    COMES(KEYLATCH_ENUMBER, keylatch_claim(a, &other, 1, 0, NULL, &answer));
    OK(keylatch_claim_cancel(a, 9, NULL));
    COMES(KEYLATCH_EOPEN, keylatch_claim(a, &other, 2, 0, NULL, &answer));
    short_line.max_waiting = 1;
    COMES(KEYLATCH_ETIMEOUT, keylatch_claim(b, &key, 8, MS, &short_line, &answer));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_claim_complete(a, 1, answer.fence + 1, 1, "x", 1, NULL));
    OK(keylatch_claim_watch_new(made, &key, 0, 0, &watch));
    OK(keylatch_claim_watch_next(watch, &event));
    CHECK(event.kind == KEYLATCH_CLAIM_EVENT_RESET && event.fence == 1 && strcmp(event.owner, "a") == 0);
    keylatch_text_free(event.owner);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_claim_watch_next(watch, &event));
    OK(keylatch_claim_watch_free(watch));
    OK(keylatch_claimant_settle_below(a, 20));
    OK(keylatch_claim(a, &other, 20, 0, NULL, &answer));
    COMES(KEYLATCH_ESTALE, keylatch_claim(a, &key, 1, 0, NULL, &answer));
    /* The work of `key` is free again; now another has it, and its claimant is freed while a thread waits. */
    OK(keylatch_claim(a, &key, 21, 0, NULL, &answer));
    atomic_store(&inside, 0);
    OK(keylatch_claimant_settle_below(b, 0));
    CHECK(pthread_create(&waiter, NULL, waits_for_work, b) == 0);
    while (atomic_load(&inside) < 1)
        sched_yield();
    do {
        /* Until it is in line. */
        OK(keylatch_claim_watch_new(made, &key, 0, 0, &watch));
        OK(keylatch_claim_watch_next(watch, &event));
        keylatch_text_free(event.owner);
        keylatch_text_free(event.text);
        OK(keylatch_claim_watch_free(watch));
    } while (event.waiting == 0);
    OK(keylatch_claimant_free(b));
    CHECK(pthread_join(waiter, NULL) == 0);
    OK(keylatch_claims_free(made));
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_claim(a, &key, 22, 0, NULL, &answer));
    OK(keylatch_claimant_free(a));
    /* Of another epoch are only numbers that come from afar: the service's. */
    reached[-KEYLATCH_EEPOCH] = true;
}

/* What can be wrong with the file of a shared table, and how it can be full. */
static void shared_tables(void)
{
    enum { TABLES = 70 };
    char path[80];
    keylatch_shared_table *table, *second, *many[TABLES];
    keylatch_shared_options options = KEYLATCH_SHARED_OPTIONS_INIT;
    uint64_t grant;
    int opened = 0, status;
    options.keys = 200;
    options.members = 1;
    options.holds = 63;
    COMES(KEYLATCH_EFILE, keylatch_shared_open("/no/such/folder/locks", &options, &table));
    CHECK(strstr(keylatch_last_error(), "create the folder first"));
    snprintf(path, sizeof path, "/dev/shm/keylatch-errors-%d", (int)getpid());
    FILE *text = fopen(path, "w");
    CHECK(text && fputs("no table", text) >= 0 && fclose(text) == 0);
    COMES(KEYLATCH_EWRONGFILE, keylatch_shared_open(path, &options, &table));
    CHECK(unlink(path) == 0);
    OK(keylatch_shared_open(path, &options, &table));
    COMES(KEYLATCH_EMEMBERS, keylatch_shared_open(path, &options, &second));
    for (status = KEYLATCH_OK; status == KEYLATCH_OK;) {
        char name[20];
        keylatch_key one = keylatch_key_of("many", name);
        one.object_len = (size_t)snprintf(name, sizeof name, "%d", opened++);
        CHECK(opened < 1000);
        status = keylatch_shared_try(table, &one, KEYLATCH_EXCLUSIVE, NULL, &grant);
    }
    COMES(KEYLATCH_ELOGFULL, status);
    CHECK(truncate(path, 4096) == 0);
    COMES(KEYLATCH_EDAMAGED, keylatch_shared_acquire(table, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    OK(keylatch_shared_free(table));
    CHECK(unlink(path) == 0);
    options.members = TABLES;
    for (opened = 0, status = KEYLATCH_OK; status == KEYLATCH_OK; opened++) {
        CHECK(opened < TABLES);
        status = keylatch_shared_open(path, &options, &many[opened]);
    }
    COMES(KEYLATCH_EUNSUPPORTED, status);
    for (int i = 0; i < opened - 1; i++)
        OK(keylatch_shared_free(many[i]));
    CHECK(unlink(path) == 0);
}

/* Each has a name; which are there, the library says. */
static void every_status_has_come(void)
{
    int missing = 0;
    reached[0] = true;
    /* Only a library that is built for it panics: panics.c. */
    reached[-KEYLATCH_EPANIC] = true;
    for (int32_t status = 0; status > -200; status--) {
        bool named = strcmp(keylatch_status_name(status), "unknown") != 0;
        if (named && !reached[-status]) {
            fprintf(stderr, "%s never came: it needs a case\n", keylatch_status_name(status));
            missing++;
        }
        CHECK(named || !reached[-status]);
        CHECK(keylatch_status_text(status)[0] && !named == !strncmp(keylatch_status_text(status), "a status that", 13));
    }
    CHECK(missing == 0);
}

int main(int count, char **arguments)
{
    key = keylatch_key_of("b", "o");
    other = keylatch_key_of("b", "a");
    locks = manager(1000, 1000);
    refusals_and_waits();
    deadlock();
    two_upgrades();
    cancelled_and_closed();
    leases();
    limits();
    mistakes();
    no_descriptors();
    /* What a child's lost threads held is a leak to valgrind. */
    if (count == 2 && strcmp(arguments[1], "--no-fork") == 0) {
        reached[-KEYLATCH_EFORKED] = true;
        /* Nor does valgrind know of robust lists and mapped files that shrink. */
        for (int32_t status = KEYLATCH_EUNSUPPORTED; status <= KEYLATCH_ELOGFULL; status++)
            reached[-status] = true;
    } else {
        in_a_child();
        no_threads();
        shared_tables();
    }
    too_long_to_be_read();
    claims();
    details();
    freed_while_waiting();
    a_callback_that_does_everything();
    sizes();
    every_status_has_come();
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.holders == 0 && metrics.waiters == 0);
    OK(keylatch_manager_free(locks));
    keylatch_last_error_clear();
    puts("every status came of what the header says");
    return 0;
}
