/* What the header promises, through the header alone: behaviour, errors, bad input, threads, fork. */
#define _POSIX_C_SOURCE 200809L

#include "keylatch.h"
#include "fresh.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static void nap(long milliseconds)
{
    struct timespec time = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

static uint64_t waiters(keylatch_manager *locks)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    return metrics.waiters;
}

static uint64_t holders(keylatch_manager *locks)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    return metrics.holders;
}

static void until_waiters(keylatch_manager *locks, uint64_t count)
{
    for (int i = 0; i < 10000 && waiters(locks) != count; i++)
        nap(1);
    CHECK(waiters(locks) == count);
}

static void test_exclusion_and_failures(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key cat = keylatch_key_of("photos", "cat.jpg"), first = keylatch_key_of_version("photos", "cat.jpg", "v1");
    keylatch_request_options indexer = KEYLATCH_REQUEST_OPTIONS_INIT;
    indexer.owner_name = "indexer";
    indexer.owner_name_len = 7;
    uint64_t grant = 0, other = 77, waited = 0;
    OK(keylatch_acquire(locks, &cat, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &indexer, &grant));
    CHECK(grant != 0);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &cat, KEYLATCH_SHARED, NULL, &other));
    CHECK(other == 77);
    CHECK(keylatch_last_status() == KEYLATCH_EWOULDBLOCK && strstr(keylatch_last_error(), "indexer"));
    CHECK(strstr(keylatch_last_error(), "\"photos\"/\"cat.jpg\"") != NULL);
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    keylatch_chain_link link = KEYLATCH_CHAIN_LINK_INIT;
    size_t more = 9;
    OK(keylatch_last_holder(0, &holder, &more));
    CHECK(holder.owner_len == 7 && memcmp(holder.owner, "indexer", 7) == 0 && more == 0);
    CHECK(holder.mode == KEYLATCH_EXCLUSIVE && holder.key.object_len == 7 && holder.key.version == NULL);
    uint64_t fence = 0;
    OK(keylatch_fence(locks, grant, &fence));
    CHECK(holder.grant == grant && holder.fence == fence && fence != 0);
    CHECK(holder.lease_ns == 0 && (holder.flags & KEYLATCH_HOLDER_LEASE) == 0);
    CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_renew(locks, grant, KEYLATCH_NEVER));
    indexer.ttl_ns = KEYLATCH_NEVER;
    CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_try(locks, &first, KEYLATCH_SHARED, &indexer, &other));
    OK(keylatch_renew(locks, grant, 3600 * 1000 * MS));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &cat, KEYLATCH_SHARED, NULL, &other));
    OK(keylatch_last_holder(0, &holder, NULL));
    CHECK((holder.flags & KEYLATCH_HOLDER_LEASE) != 0 && holder.lease_ns > 0 && holder.lease_ns <= 3600 * 1000 * MS);
    CHECK_STATUS(KEYLATCH_EEND, keylatch_last_holder(1, &holder, NULL));
    CHECK_STATUS(KEYLATCH_EEND, keylatch_last_cycle_link(0, &link));
    CHECK(keylatch_last_status() == KEYLATCH_EWOULDBLOCK);
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire(locks, &cat, KEYLATCH_SHARED, 5 * MS, NULL, &other));
    OK(keylatch_last_waited(&waited));
    CHECK(waited >= 5 * MS);
    keylatch_key failed;
    OK(keylatch_last_key(&failed));
    CHECK(failed.bucket_len == 6 && memcmp(failed.bucket, "photos", 6) == 0);
    OK(keylatch_try(locks, &first, KEYLATCH_EXCLUSIVE, NULL, &other));
    char buffer[64];
    OK(keylatch_grant_key(locks, other, buffer, sizeof buffer, &failed));
    CHECK(failed.version_len == 2 && memcmp(failed.version, "v1", 2) == 0);
    CHECK_STATUS(KEYLATCH_EBUFFER, keylatch_grant_key(locks, other, buffer, 14, &failed));
    OK(keylatch_release(locks, other));
    OK(keylatch_release(locks, grant));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, grant));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, 0));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, UINT64_MAX));
    keylatch_last_error_clear();
    CHECK(keylatch_last_status() == KEYLATCH_OK && keylatch_last_error()[0] == 0);
    OK(keylatch_manager_free(locks));
}

static void test_bad_input(void)
{
    keylatch_manager *locks = fresh(), *other = fresh(), *unmade = NULL;
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t grant, ticket;
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_manager_new(NULL, NULL));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_try(NULL, &key, KEYLATCH_SHARED, NULL, &grant));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_try(locks, NULL, KEYLATCH_SHARED, NULL, &grant));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, NULL));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &key, 0, NULL, &grant));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &key, 3, NULL, &grant));
    keylatch_key bad = key;
    bad.object_len = SIZE_MAX;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    bad = key;
    bad.bucket = NULL;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    bad = key;
    bad.version_len = 1;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    static char long_text[9000];
    bad = key;
    bad.object = long_text;
    bad.object_len = sizeof long_text;
    CHECK_STATUS(KEYLATCH_EKEY, keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    bad.object_len = 4096; /* all NUL */
    OK(keylatch_try(locks, &bad, KEYLATCH_SHARED, NULL, &grant));
    OK(keylatch_release(locks, grant));

    struct { keylatch_request_options known; uint64_t unknown; } newer = { KEYLATCH_REQUEST_OPTIONS_INIT, 0 };
    newer.known.struct_size = sizeof newer;
    OK(keylatch_try(locks, &key, KEYLATCH_SHARED, &newer.known, &grant));
    CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(other, grant));
    OK(keylatch_release(locks, grant));
    newer.unknown = 1;
    CHECK_STATUS(KEYLATCH_ESTRUCT, keylatch_try(locks, &key, KEYLATCH_SHARED, &newer.known, &grant));
    keylatch_request_options options = { .struct_size = 8 };
    CHECK_STATUS(KEYLATCH_ESTRUCT, keylatch_try(locks, &key, KEYLATCH_SHARED, &options, &grant));
    options.struct_size = SIZE_MAX;
    CHECK_STATUS(KEYLATCH_ESTRUCT, keylatch_try(locks, &key, KEYLATCH_SHARED, &options, &grant));
    options.struct_size = sizeof options;
    options.flags = 0x80;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &key, KEYLATCH_SHARED, &options, &grant));
    options.flags = 0;
    options.priority = 256;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try(locks, &key, KEYLATCH_SHARED, &options, &grant));
    keylatch_manager_options wrong = KEYLATCH_MANAGER_OPTIONS_INIT;
    wrong.shards = 1000;
    CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_manager_new(&wrong, &unmade));
    CHECK(unmade == NULL && strstr(keylatch_last_error(), "1024"));
    wrong.shards = 0;
    wrong.fairness = 99;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_manager_new(&wrong, &unmade));

    keylatch_owner *owner;
    OK(keylatch_owner_new(other, "x", 1, NULL, &owner));
    options.priority = 0;
    options.owner = owner;
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_try(locks, &key, KEYLATCH_SHARED, &options, &grant));
    OK(keylatch_owner_free(owner));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_owner_free(owner));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_try(other, &key, KEYLATCH_SHARED, &options, &grant));
    OK(keylatch_owner_free(NULL));
    keylatch_queue *queue;
    OK(keylatch_queue_new(other, &queue));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_acquire_queue(locks, &key, KEYLATCH_SHARED, 0, NULL, queue, 1, &grant, &ticket));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_manager_close((keylatch_manager *)queue));
    OK(keylatch_manager_free(other));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_try(other, &key, KEYLATCH_SHARED, NULL, &grant));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_manager_free(other));
    OK(keylatch_queue_free(queue));
    size_t size = 0;
    OK(keylatch_struct_size(KEYLATCH_STRUCT_METRICS, &size));
    CHECK(size == sizeof(keylatch_metrics));
    OK(keylatch_struct_size(KEYLATCH_STRUCT_HOLDER, &size));
    CHECK(size == sizeof(keylatch_holder));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_struct_size(0, &size));
    CHECK(strcmp(keylatch_version(), KEYLATCH_VERSION) == 0 && keylatch_abi_version() == KEYLATCH_ABI_VERSION);
    OK(keylatch_manager_free(locks));
}

struct seen {
    atomic_int called, freed;
    atomic_int status;
    _Atomic uint64_t grant;
    keylatch_manager *locks;
};

static void on_result(void *user_data, int32_t status, uint64_t grant)
{
    struct seen *seen = user_data;
    atomic_store(&seen->status, status);
    atomic_store(&seen->grant, grant);
    if (grant) { /* re-enters, and releases on another thread than acquired */
        keylatch_key other = keylatch_key_of("b", "other");
        uint64_t more;
        OK(keylatch_try(seen->locks, &other, KEYLATCH_EXCLUSIVE, NULL, &more));
        OK(keylatch_release(seen->locks, more));
        OK(keylatch_release(seen->locks, grant));
    }
    atomic_fetch_add(&seen->called, 1);
}

static void on_free(void *user_data)
{
    atomic_fetch_add(&((struct seen *)user_data)->freed, 1);
}

static void test_callbacks(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key key = keylatch_key_of("b", "o");
    struct seen a = { .locks = locks }, b = { .locks = locks }, c = { .locks = locks }, d = { .locks = locks };
    uint64_t held, grant, ticket;
    int32_t cancelled;
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, on_result, &a, on_free, &held, &ticket));
    CHECK(held != 0 && ticket == 0 && a.called == 0 && a.freed == 1);
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, on_result, &b, on_free, &grant, &ticket));
    CHECK(grant == 0 && ticket != 0 && b.freed == 0);
    uint64_t second;
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, on_result, &c, on_free, &grant, &second));
    OK(keylatch_cancel(locks, second, &cancelled));
    CHECK(cancelled == 1);
    OK(keylatch_cancel(locks, second, &cancelled));
    CHECK(cancelled == 0);
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_acquire_callback(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, NULL, &d, on_free, &grant, &ticket));
    CHECK(d.freed == 1 && d.called == 0);
    OK(keylatch_release(locks, held));
    struct seen e = { .locks = locks };
    uint64_t again;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &again));
    OK(keylatch_acquire_callback(locks, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, on_result, &e, on_free, &grant, &ticket));
    OK(keylatch_manager_free(locks)); /* waits for the callbacks */
    CHECK(b.called == 1 && b.freed == 1 && b.status == KEYLATCH_OK);
    CHECK(c.called == 1 && c.freed == 1 && c.status == KEYLATCH_ECANCELLED);
    CHECK(e.called == 1 && e.freed == 1 && e.status == KEYLATCH_ECLOSED);
}

static void test_queue(void)
{
    keylatch_manager *locks = fresh();
    keylatch_queue *queue;
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t held, grant, ticket;
    int32_t fd;
    keylatch_completion results[4];
    size_t count;
    OK(keylatch_queue_new(locks, &queue));
    OK(keylatch_queue_fd(queue, &fd));
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &held));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_queue_next(queue, 0, results));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_queue_next(queue, 2 * MS, results));
    OK(keylatch_acquire_queue(locks, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 42, &grant, &ticket));
    OK(keylatch_acquire_queue(locks, &key, KEYLATCH_SHARED, 3 * MS, NULL, queue, 43, &grant, &grant));
    /* Keys are labels only where they are asked for. */
    char *text;
    OK(keylatch_manager_openmetrics(locks, &text));
    CHECK(!strstr(text, "keylatch_hot_key"));
    keylatch_text_free(text);
    OK(keylatch_manager_openmetrics_with_keys(locks, &text));
    CHECK(strstr(text, "keylatch_hot_key_waiters{bucket=\"b\",object=\"o\"") && strstr(text, "# EOF\n"));
    keylatch_text_free(text);
    struct pollfd asked = { fd, POLLIN, 0 };
    CHECK(poll(&asked, 1, 10000) == 1);
    OK(keylatch_queue_next(queue, 0, results));
    CHECK(results[0].token == 43 && results[0].status == KEYLATCH_ETIMEOUT && results[0].grant == 0);
    OK(keylatch_release(locks, held));
    OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, results));
    CHECK(results[0].token == 42 && results[0].ticket == ticket && results[0].status == KEYLATCH_OK);
    OK(keylatch_queue_drain(queue, results + 1, 3, &count));
    CHECK(count == 0);
    OK(keylatch_release(locks, results[0].grant));
    /* What is granted and not fetched is released with the queue. */
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &held));
    OK(keylatch_acquire_queue(locks, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 1, &grant, &ticket));
    OK(keylatch_release(locks, held));
    OK(keylatch_queue_free(queue));
    CHECK(holders(locks) == 0 && waiters(locks) == 0);
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_queue_next(queue, 0, results));
    OK(keylatch_manager_free(locks));
}

static void test_conversion_fences_leases(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t grant, fence, later, left;
    int32_t mode, yes;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant));
    OK(keylatch_fence(locks, grant, &fence));
    OK(keylatch_is_current(locks, &key, fence, &yes));
    CHECK(yes == 1);
    OK(keylatch_downgrade(locks, grant));
    OK(keylatch_grant_mode(locks, grant, &mode));
    CHECK(mode == KEYLATCH_SHARED);
    OK(keylatch_upgrade(locks, grant, 0));
    OK(keylatch_fence(locks, grant, &later));
    CHECK(later > fence);
    OK(keylatch_remaining(locks, grant, &left));
    CHECK(left == KEYLATCH_NEVER);
    OK(keylatch_renew(locks, grant, 10000 * MS));
    OK(keylatch_remaining(locks, grant, &left));
    CHECK(left > 0 && left <= 10000 * MS);
    OK(keylatch_is_valid(locks, grant, &yes));
    CHECK(yes == 1);
    OK(keylatch_renew(locks, grant, 1));
    uint64_t taken;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 10000 * MS, NULL, &taken));
    CHECK_STATUS(KEYLATCH_ELEASELOST, keylatch_release(locks, grant));
    OK(keylatch_is_valid(locks, grant, &yes));
    CHECK(yes == 0);
    OK(keylatch_is_current(locks, &key, later, &yes));
    CHECK(yes == 0);
    OK(keylatch_release(locks, taken));
    OK(keylatch_manager_free(locks));
}

static void test_batch(void)
{
    keylatch_manager *locks = fresh();
    keylatch_batch_item items[4] = {
        { keylatch_key_of("b", "y"), KEYLATCH_SHARED, 0 },
        { keylatch_key_of("b", "x"), KEYLATCH_EXCLUSIVE, 0 },
        { keylatch_key_of("b", "y"), KEYLATCH_EXCLUSIVE, 0 },
        { keylatch_key_of("b", "m"), KEYLATCH_EXCLUSIVE, 0 },
    };
    uint64_t grants[4], held;
    int32_t statuses[4];
    size_t released;
    OK(keylatch_acquire_batch(locks, items, 4, 0, NULL, grants, statuses));
    CHECK(grants[0] && grants[1] && !grants[2] && grants[3] && holders(locks) == 3);
    OK(keylatch_release_many(locks, grants, 4, &released));
    CHECK(released == 3 && holders(locks) == 0);
    OK(keylatch_acquire(locks, &items[3].key, KEYLATCH_EXCLUSIVE, 0, NULL, &held));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire_batch(locks, items, 4, 2 * MS, NULL, grants, NULL));
    keylatch_key failed;
    OK(keylatch_last_key(&failed));
    CHECK(failed.object_len == 1 && memcmp(failed.object, "m", 1) == 0 && holders(locks) == 1);
    keylatch_request_options effort = KEYLATCH_REQUEST_OPTIONS_INIT;
    effort.flags = KEYLATCH_BEST_EFFORT;
    OK(keylatch_acquire_batch(locks, items, 4, 0, &effort, grants, statuses));
    CHECK(grants[0] && grants[1] && !grants[2] && !grants[3] && statuses[3] < 0 && statuses[0] == 0);
    OK(keylatch_release_many(locks, grants, 4, NULL));
    OK(keylatch_acquire_batch(locks, NULL, 0, 0, NULL, NULL, NULL));
    OK(keylatch_release(locks, held));
    OK(keylatch_manager_free(locks));
}

static void *waits(void *argument)
{
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t grant;
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_acquire(argument, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    return NULL;
}

static void test_freed_while_waiting(void)
{
    for (int round = 0; round < 20; round++) {
        keylatch_manager *locks = fresh();
        keylatch_key key = keylatch_key_of("b", "o");
        uint64_t held;
        pthread_t threads[3];
        OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &held));
        for (int i = 0; i < 3; i++)
            CHECK(pthread_create(&threads[i], NULL, waits, locks) == 0);
        until_waiters(locks, 3);
        OK(keylatch_manager_free(locks));
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
    }
}

static void test_fork(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key key = keylatch_key_of("b", "o");
    uint64_t grant, other;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant));
    pid_t child = fork();
    if (child == 0) {
        keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &other));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_release(locks, grant));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_manager_free(locks));
        keylatch_manager *mine = fresh();
        OK(keylatch_try(mine, &key, KEYLATCH_EXCLUSIVE, NULL, &other));
        OK(keylatch_release(mine, other));
        OK(keylatch_manager_free(mine));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(keylatch_release(locks, grant));
    OK(keylatch_manager_free(locks));
}

/* Who chose no max_locks gets as many as there is address space for, with options as without. */
static void test_little_address_space(void)
{
    pid_t child = fork();
    if (child == 0) {
        keylatch_manager *locks;
        keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT, settings = KEYLATCH_MANAGER_OPTIONS_INIT;
        unsigned long pages;
        FILE *statm = fopen("/proc/self/statm", "r");
        CHECK(statm && fscanf(statm, "%lu", &pages) == 1 && fclose(statm) == 0);
        struct rlimit limit;
        CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
        rlim_t little = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (256 << 20);
        limit.rlim_cur = little < limit.rlim_max ? little : limit.rlim_max;
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        OK(keylatch_manager_new(NULL, &locks));
        OK(keylatch_manager_free(locks));
        options.fairness = KEYLATCH_FAIRNESS_FIFO;
        OK(keylatch_manager_new(&options, &locks));
        OK(keylatch_manager_settings(locks, &settings));
        CHECK(settings.max_locks >= 1024 && settings.max_locks < 8388608 && settings.fairness == KEYLATCH_FAIRNESS_FIFO);
        OK(keylatch_manager_free(locks));
        /* A caller that chose one learns it. */
        options.max_locks = 8388608;
        CHECK_STATUS(KEYLATCH_ECONFIG, keylatch_manager_new(&options, &locks));
        CHECK(strstr(keylatch_last_error(), "address space"));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

struct stress { keylatch_manager *locks; long *counters; unsigned seed; };

static void *hammers(void *argument)
{
    struct stress *stress = argument;
    for (int i = 0; i < 20000; i++) {
        int number = rand_r(&stress->seed) % 8;
        char name[2] = { (char)('a' + number), 0 };
        keylatch_key key = keylatch_key_of("b", name);
        int32_t mode = rand_r(&stress->seed) % 3 ? KEYLATCH_EXCLUSIVE : KEYLATCH_SHARED;
        uint64_t grant;
        int32_t status = keylatch_acquire(stress->locks, &key, mode, i % 7 ? KEYLATCH_WAIT_FOREVER : 20000, NULL, &grant);
        if (status == KEYLATCH_ETIMEOUT)
            continue;
        OK(status);
        if (mode == KEYLATCH_EXCLUSIVE)
            stress->counters[number]++;
        OK(keylatch_release(stress->locks, grant));
    }
    return NULL;
}

static void test_stress(void)
{
    keylatch_manager *locks = fresh();
    long counters[8] = { 0 };
    pthread_t threads[8];
    struct stress stress[8];
    for (int i = 0; i < 8; i++) {
        stress[i] = (struct stress){ locks, counters, (unsigned)i };
        CHECK(pthread_create(&threads[i], NULL, hammers, &stress[i]) == 0);
    }
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    CHECK(holders(locks) == 0 && waiters(locks) == 0);
    keylatch_health health = KEYLATCH_HEALTH_INIT;
    char *problems, *text;
    OK(keylatch_manager_health(locks, &health, &problems));
    keylatch_text_free(problems);
    OK(keylatch_manager_openmetrics(locks, &text));
    CHECK(strstr(text, "# EOF\n") && strstr(text, "keylatch_holders 0\n"));
    keylatch_text_free(text);
    OK(keylatch_manager_free(locks));
}

int main(void)
{
    test_exclusion_and_failures();
    test_bad_input();
    test_callbacks();
    test_queue();
    test_conversion_fences_leases();
    test_batch();
    test_freed_while_waiting();
    test_fork();
    test_little_address_space();
    test_stress();
    puts("10 passed, 0 failed");
    return 0;
}
