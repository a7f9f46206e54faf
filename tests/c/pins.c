/* Keys that stay in the table, through the header alone. */
#define _POSIX_C_SOURCE 200809L

#include "fresh.h"

#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXCLUSIVE KEYLATCH_EXCLUSIVE
#define SHARED KEYLATCH_SHARED

static keylatch_pinned_key *pin(keylatch_manager *locks, const char *object)
{
    keylatch_pinned_key *pinned;
    keylatch_key key = keylatch_key_of("inodes", object);
    OK(keylatch_pin(locks, &key, &pinned));
    return pinned;
}

static void pin_and_key_are_one_lock(void)
{
    keylatch_manager *locks = fresh();
    keylatch_key key = keylatch_key_of("inodes", "1");
    keylatch_pinned_key *pinned = pin(locks, "1"), *again = pin(locks, "1");
    uint64_t first, second, third;
    int32_t mode;
    for (int round = 0; round < 3; round++) {
        OK(keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &first));
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, SHARED, NULL, &second));
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try_pinned(again, SHARED, NULL, &second));
        CHECK_STATUS(KEYLATCH_ETIMEOUT, keylatch_acquire_pinned(again, SHARED, 1, NULL, &second));
        OK(keylatch_release(locks, first));
        CHECK_STATUS(KEYLATCH_ENOTHELD, keylatch_release(locks, first));
        OK(keylatch_acquire_pinned(pinned, SHARED, KEYLATCH_WAIT_FOREVER, NULL, &first));
        OK(keylatch_acquire_pinned(again, SHARED, KEYLATCH_WAIT_DEFAULT, NULL, &second));
        OK(keylatch_try(locks, &key, SHARED, NULL, &third));
        OK(keylatch_grant_mode(locks, second, &mode));
        CHECK(mode == SHARED);
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &third));
        OK(keylatch_release(locks, first));
        OK(keylatch_release(locks, second));
        OK(keylatch_release(locks, third));
    }
    OK(keylatch_unpin(again));
    OK(keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &first));
    /* What is held stays held. */
    OK(keylatch_unpin(pinned));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_try_pinned(pinned, SHARED, NULL, &second));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_unpin(pinned));
    OK(keylatch_unpin(NULL));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, SHARED, NULL, &second));
    OK(keylatch_release(locks, first));
    OK(keylatch_manager_free(locks));
}

static void requests_with_options(void)
{
    keylatch_manager *locks = fresh();
    keylatch_pinned_key *pinned = pin(locks, "1");
    keylatch_owner *label, *session;
    keylatch_owner_options sessions = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    uint64_t grant, other, left;
    sessions.flags = KEYLATCH_OWNER_SESSION;
    OK(keylatch_owner_new(locks, "indexer", 7, NULL, &label));
    OK(keylatch_owner_new(locks, "transaction", 11, &sessions, &session));
    options.owner = label;
    OK(keylatch_try_pinned(pinned, EXCLUSIVE, &options, &grant));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &other));
    CHECK(strstr(keylatch_last_error(), "indexer") != NULL);
    OK(keylatch_release(locks, grant));

    options.owner = session;
    OK(keylatch_acquire_pinned(pinned, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, &grant));
    CHECK_STATUS(KEYLATCH_EDEADLOCK, keylatch_acquire_pinned(pinned, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, &options, &other));
    OK(keylatch_release(locks, grant));

    options.ttl_ns = UINT64_C(3600000000000);
    OK(keylatch_try_pinned(pinned, SHARED, &options, &grant));
    OK(keylatch_remaining(locks, grant, &left));
    CHECK(left > 0 && left <= options.ttl_ns);
    OK(keylatch_release(locks, grant));
    options.priority = 256;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try_pinned(pinned, SHARED, &options, &grant));
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_try_pinned(pinned, 0, NULL, &grant));
    OK(keylatch_owner_free(label));
    OK(keylatch_owner_free(session));
    OK(keylatch_unpin(pinned));
    OK(keylatch_manager_free(locks));
}

static void pins_take_places(void)
{
    keylatch_manager *locks;
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    keylatch_pinned_key *pinned[4], *fifth;
    keylatch_key key = keylatch_key_of("inodes", "another");
    uint64_t grant;
    options.max_locks = 4;
    OK(keylatch_manager_new(&options, &locks));
    for (int i = 0; i < 4; i++) {
        char name[2] = { (char)('0' + i), 0 };
        pinned[i] = pin(locks, name);
    }
    CHECK_STATUS(KEYLATCH_ETABLEFULL, keylatch_pin(locks, &key, &fifth));
    CHECK_STATUS(KEYLATCH_ETABLEFULL, keylatch_try(locks, &key, EXCLUSIVE, NULL, &grant));
    OK(keylatch_try_pinned(pinned[2], EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, grant));
    OK(keylatch_unpin(pinned[0]));
    OK(keylatch_try(locks, &key, EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, grant));
    for (int i = 1; i < 4; i++)
        OK(keylatch_unpin(pinned[i]));
    OK(keylatch_manager_free(locks));
}

struct called {
    sem_t is;
    int32_t status;
    uint64_t grant;
    int freed;
};

static void on_result(void *user_data, int32_t status, uint64_t grant)
{
    struct called *called = user_data;
    called->status = status;
    called->grant = grant;
}

static void on_free(void *user_data)
{
    struct called *called = user_data;
    called->freed++;
    sem_post(&called->is);
}

static void results_that_come_later(void)
{
    keylatch_manager *locks = fresh();
    keylatch_pinned_key *pinned = pin(locks, "1");
    keylatch_queue *queue;
    keylatch_completion completion;
    struct called called = { .status = 1 };
    uint64_t held, grant, ticket, more;
    sem_init(&called.is, 0, 0);
    OK(keylatch_queue_new(locks, &queue));

    OK(keylatch_acquire_pinned_callback(pinned, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, on_result, &called, on_free, &held, &ticket));
    CHECK(held != 0 && ticket == 0 && called.freed == 1);
    sem_wait(&called.is);
    OK(keylatch_acquire_pinned_callback(pinned, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, on_result, &called, on_free, &grant, &ticket));
    CHECK(grant == 0 && ticket != 0);
    OK(keylatch_acquire_pinned_queue(pinned, SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 77, &grant, &more));
    CHECK(grant == 0 && more != 0);
    OK(keylatch_release(locks, held));
    sem_wait(&called.is);
    CHECK(called.status == KEYLATCH_OK && called.grant != 0 && called.freed == 2);
    OK(keylatch_release(locks, called.grant));
    OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &completion));
    CHECK(completion.status == KEYLATCH_OK && completion.token == 77 && completion.ticket == more);
    OK(keylatch_release(locks, completion.grant));
    OK(keylatch_acquire_pinned_queue(pinned, SHARED, KEYLATCH_WAIT_FOREVER, NULL, queue, 78, &grant, &more));
    CHECK(grant != 0 && more == 0);
    OK(keylatch_release(locks, grant));

    keylatch_manager *others = fresh();
    keylatch_queue *foreign;
    OK(keylatch_queue_new(others, &foreign));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_acquire_pinned_queue(pinned, SHARED, 0, NULL, foreign, 1, &grant, &ticket));
    OK(keylatch_queue_free(foreign));
    OK(keylatch_manager_free(others));
    OK(keylatch_queue_free(queue));
    OK(keylatch_unpin(pinned));
    OK(keylatch_manager_free(locks));
    sem_destroy(&called.is);
}

static void pins_outlive_their_manager_harmlessly(void)
{
    keylatch_manager *locks = fresh(), *next = NULL;
    keylatch_pinned_key *pinned = pin(locks, "1"), *closed;
    uint64_t grant;
    OK(keylatch_manager_close(locks));
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &grant));
    CHECK_STATUS(KEYLATCH_ECLOSED, keylatch_pin(locks, &(keylatch_key){ "b", 1, "o", 1, NULL, 0 }, &closed));
    OK(keylatch_manager_free(locks));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_acquire_pinned(pinned, EXCLUSIVE, 0, NULL, &grant));
    CHECK(strstr(keylatch_last_error(), "keylatch_unpin") != NULL);
    /* Another manager gets the handle sooner or later. */
    for (int i = 0; i < 100000 && next != locks; i++) {
        if (next != NULL)
            OK(keylatch_manager_free(next));
        next = fresh();
    }
    CHECK(next == locks);
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &grant));
    OK(keylatch_manager_free(next));
    OK(keylatch_unpin(pinned));
}

static void forked_child_is_refused(void)
{
    keylatch_manager *locks = fresh();
    keylatch_pinned_key *pinned = pin(locks, "1");
    uint64_t grant;
    int status;
    OK(keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, grant));
    pid_t child = fork();
    if (child == 0) {
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_try_pinned(pinned, EXCLUSIVE, NULL, &grant));
        CHECK_STATUS(KEYLATCH_EFORKED, keylatch_unpin(pinned));
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    OK(keylatch_unpin(pinned));
    OK(keylatch_manager_free(locks));
}

#define THREADS 4
#define TURNS 20000

struct counting {
    keylatch_manager *locks;
    long count;
};

static void *count(void *argument)
{
    struct counting *counting = argument;
    keylatch_pinned_key *pinned = pin(counting->locks, "counted");
    uint64_t grant;
    for (int i = 0; i < TURNS; i++) {
        OK(keylatch_acquire_pinned(pinned, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
        counting->count++;
        OK(keylatch_release(counting->locks, grant));
        if (i % 100 == 0) {
            OK(keylatch_unpin(pinned));
            pinned = pin(counting->locks, "counted");
        }
    }
    OK(keylatch_unpin(pinned));
    return NULL;
}

static void threads_exclude_each_other(void)
{
    struct counting counting = { .locks = fresh() };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, count, &counting) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(counting.count == THREADS * TURNS);
    OK(keylatch_manager_free(counting.locks));
}

/* Readers by key and by a pin; one turn in a hundred writes. */
static void *read_and_count(void *argument)
{
    struct counting *counting = argument;
    keylatch_pinned_key *pinned = pin(counting->locks, "counted");
    keylatch_key key = keylatch_key_of("inodes", "counted");
    uint64_t grant;
    for (int i = 0; i < TURNS; i++) {
        if (i % 100 == 0) {
            OK(keylatch_acquire(counting->locks, &key, EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, &grant));
            counting->count++;
        } else if (i % 2 == 0) {
            OK(keylatch_acquire(counting->locks, &key, SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
            CHECK(counting->count > 0);
        } else {
            OK(keylatch_acquire_pinned(pinned, SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
            CHECK(counting->count > 0);
        }
        OK(keylatch_release(counting->locks, grant));
    }
    OK(keylatch_unpin(pinned));
    return NULL;
}

static void reader_slots_are_a_setting(void)
{
    struct counting counting = { 0 };
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT, settings = KEYLATCH_MANAGER_OPTIONS_INIT;
    pthread_t threads[THREADS];
    options.flags = KEYLATCH_MANAGER_READER_SLOTS;
    OK(keylatch_manager_new(&options, &counting.locks));
    OK(keylatch_manager_settings(counting.locks, &settings));
    CHECK(settings.flags == KEYLATCH_MANAGER_READER_SLOTS);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, read_and_count, &counting) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(counting.count == THREADS * TURNS / 100);
    OK(keylatch_manager_free(counting.locks));
    options.flags = KEYLATCH_MANAGER_NO_READER_SLOTS;
    OK(keylatch_manager_new(&options, &counting.locks));
    OK(keylatch_manager_settings(counting.locks, &settings));
    CHECK(settings.flags == KEYLATCH_MANAGER_NO_READER_SLOTS);
    OK(keylatch_manager_free(counting.locks));
    options.flags = KEYLATCH_MANAGER_READER_SLOTS | KEYLATCH_MANAGER_NO_READER_SLOTS;
    CHECK_STATUS(KEYLATCH_EINVALID, keylatch_manager_new(&options, &counting.locks));
    CHECK(strstr(keylatch_last_error(), "choose one") != NULL);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
#define TEST(name) { #name, name }
    TEST(pin_and_key_are_one_lock),
    TEST(requests_with_options),
    TEST(pins_take_places),
    TEST(results_that_come_later),
    TEST(pins_outlive_their_manager_harmlessly),
    TEST(forked_child_is_refused),
    TEST(threads_exclude_each_other),
    TEST(reader_slots_are_a_setting),
};

/* All of them, or the one that is named. With --no-fork all but those that fork. */
int main(int argument_count, char **arguments)
{
    const char *chosen = argument_count > 1 ? arguments[1] : "";
    int forks = strcmp(chosen, "--no-fork") != 0, passed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (forks ? *chosen != 0 && strcmp(chosen, tests[i].name) != 0 : tests[i].run == forked_child_is_refused)
            continue;
        tests[i].run();
        passed++;
    }
    CHECK(passed > 0);
    printf("%d passed, 0 failed\n", passed);
    return 0;
}
