/*
 * Eight threads do everything together to a few objects. Who has one alone writes all its bytes and its fence; who shares it
 * finds them whole. At the end nothing is held, no request waits, and no write is missing.
 *
 *     stress [ROUNDS] [--sabotage]      sabotage: some writers have only a shared lock
 */
#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include "keylatch.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define THREADS 8
#define OBJECTS 12
#define MS UINT64_C(1000000)

/* Not atomic: the lock is what protects it. */
struct object {
    unsigned char bytes[256];
    uint64_t fence, writes;
};

struct worker {
    unsigned seed;
    int number;
    keylatch_queue *queue;
    uint64_t acquired, refused;
};

static keylatch_manager *locks;
static struct object objects[OBJECTS];
static atomic_uint_fast64_t writes, callbacks_due;
/* A grant that the next thread to come by releases. */
static atomic_uint_fast64_t left_lying;
static int rounds = 20000;
static bool sabotage;

static keylatch_key key_of(int number)
{
    static const char *const names[OBJECTS] = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l" };
    return keylatch_key_of("stress", names[number]);
}

static void look(const struct object *object)
{
    for (size_t i = 1; i < sizeof object->bytes; i++)
        CHECK(object->bytes[i] == object->bytes[0]);
}

/* With the object to oneself. */
static void write_all(int number, uint64_t grant, unsigned char byte)
{
    struct object *object = &objects[number];
    keylatch_key key = key_of(number);
    uint64_t fence;
    int32_t current;
    look(object);
    if (!sabotage) {
        OK(keylatch_fence(locks, grant, &fence));
        CHECK(fence > object->fence);
        object->fence = fence;
        OK(keylatch_is_current(locks, &key, fence, &current));
        CHECK(current == 1);
    }
    static _Thread_local unsigned turns;
    memset(object->bytes, byte, sizeof object->bytes / 2);
    /* Now and then with the others running in the middle of it. */
    if (++turns % 8 == 0)
        sched_yield();
    memset(object->bytes + sizeof object->bytes / 2, byte, sizeof object->bytes / 2);
    object->writes++;
    atomic_fetch_add(&writes, 1);
}

static bool had(struct worker *worker, int32_t status)
{
    if (status == KEYLATCH_OK) {
        worker->acquired++;
        return true;
    }
    CHECK(status == KEYLATCH_ETIMEOUT || status == KEYLATCH_EWOULDBLOCK || status == KEYLATCH_ECANCELLED || status == KEYLATCH_EUPGRADE);
    worker->refused++;
    return false;
}

static int32_t alone(void)
{
    return sabotage ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE;
}

static void writes_or_reads(struct worker *worker, int number, unsigned dice)
{
    keylatch_key key = key_of(number);
    uint64_t grant;
    bool writes_it = dice % 5 < 3;
    int32_t mode = writes_it ? alone() : KEYLATCH_SHARED;
    int32_t status = dice % 3 ? keylatch_acquire(locks, &key, mode, 20 * MS, NULL, &grant) : keylatch_try(locks, &key, mode, NULL, &grant);
    if (!had(worker, status))
        return;
    if (writes_it)
        write_all(number, grant, (unsigned char)worker->number);
    else
        look(&objects[number]);
    if (dice % 11 == 0 && (grant = atomic_exchange(&left_lying, grant)) == 0)
        return;
    OK(keylatch_release(locks, grant));
}

static void converts(struct worker *worker, int number, unsigned dice)
{
    keylatch_key key = key_of(number);
    uint64_t grant;
    bool up = dice & 1;
    if (!had(worker, keylatch_acquire(locks, &key, up ? KEYLATCH_SHARED : KEYLATCH_EXCLUSIVE, 20 * MS, NULL, &grant)))
        return;
    if (up) {
        look(&objects[number]);
        if (had(worker, dice & 2 ? keylatch_try_upgrade(locks, grant) : keylatch_upgrade(locks, grant, 2 * MS)))
            write_all(number, grant, (unsigned char)worker->number);
    } else {
        write_all(number, grant, (unsigned char)worker->number);
        OK(keylatch_downgrade(locks, grant));
        look(&objects[number]);
    }
    OK(keylatch_release(locks, grant));
}

static void takes_three(struct worker *worker, int number, unsigned dice)
{
    keylatch_batch_item items[3];
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    uint64_t grants[3];
    options.flags = dice & 1 ? KEYLATCH_BEST_EFFORT : 0;
    for (int i = 0; i < 3; i++)
        items[i] = (keylatch_batch_item){ key_of((number + 5 * i) % OBJECTS), i == 1 ? KEYLATCH_SHARED : alone(), 0 };
    if (!had(worker, keylatch_acquire_batch(locks, items, 3, 20 * MS, &options, grants, NULL)))
        return;
    for (int i = 0; i < 3; i++) {
        int object = (number + 5 * i) % OBJECTS;
        CHECK(grants[i] || dice & 1);
        if (grants[i] && i == 1)
            look(&objects[object]);
        else if (grants[i])
            write_all(object, grants[i], (unsigned char)worker->number);
    }
    OK(keylatch_release_many(locks, grants, 3, NULL));
}

static void by_queue(struct worker *worker, int number, unsigned dice)
{
    keylatch_key key = key_of(number);
    keylatch_completion result;
    uint64_t grant, ticket;
    int32_t cancelled;
    if (!had(worker, keylatch_acquire_queue(locks, &key, alone(), dice & 1 ? 5 * MS : 50 * MS, NULL, worker->queue, dice, &grant, &ticket)))
        return;
    CHECK(!grant != !ticket);
    if (ticket) {
        if (dice & 2)
            OK(keylatch_cancel(locks, ticket, &cancelled));
        OK(keylatch_queue_next(worker->queue, KEYLATCH_WAIT_FOREVER, &result));
        CHECK(result.token == dice && result.ticket == ticket && !result.grant == (result.status != KEYLATCH_OK));
        if (!had(worker, result.status))
            return;
        grant = result.grant;
    }
    write_all(number, grant, (unsigned char)worker->number);
    OK(keylatch_release(locks, grant));
}

/* Written before the request and read in the callback. */
struct note {
    int number;
};

static void on_result(void *user_data, int32_t status, uint64_t grant)
{
    struct note *note = user_data;
    if (status == KEYLATCH_OK) {
        write_all(note->number, grant, 200);
        OK(keylatch_release(locks, grant));
    } else {
        CHECK(status == KEYLATCH_ETIMEOUT);
    }
}

static void on_free(void *user_data)
{
    free(user_data);
    atomic_fetch_sub(&callbacks_due, 1);
}

static void by_callback(struct worker *worker, int number)
{
    keylatch_key key = key_of(number);
    struct note *note = malloc(sizeof *note);
    uint64_t grant, ticket;
    CHECK(note);
    note->number = number;
    atomic_fetch_add(&callbacks_due, 1);
    if (!had(worker, keylatch_acquire_callback(locks, &key, alone(), 20 * MS, NULL, on_result, note, on_free, &grant, &ticket)) || !grant)
        return;
    write_all(number, grant, (unsigned char)worker->number);
    OK(keylatch_release(locks, grant));
}

static void tidy(void)
{
    uint64_t grant = atomic_exchange(&left_lying, 0);
    if (grant)
        OK(keylatch_release(locks, grant));
}

static void *works(void *argument)
{
    struct worker *worker = argument;
    for (int round = 0; round < rounds; round++) {
        unsigned dice = (unsigned)rand_r(&worker->seed);
        int number = (int)((unsigned)rand_r(&worker->seed) % OBJECTS);
        switch (rand_r(&worker->seed) % 12) {
        case 0: converts(worker, number, dice); break;
        case 1: takes_three(worker, number, dice); break;
        case 2: by_queue(worker, number, dice); break;
        case 3: by_callback(worker, number); break;
        default: writes_or_reads(worker, number, dice); break;
        }
        tidy();
    }
    return NULL;
}

static void until_called_back(void)
{
    for (int i = 0; atomic_load(&callbacks_due) && i < 10000; i++)
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
    CHECK(atomic_load(&callbacks_due) == 0);
}

/* What the library makes with the first callback is made before there are threads: ThreadSanitizer does not see how they
 * wait for each other there. */
static void call_back_once(struct worker *worker)
{
    keylatch_key key = key_of(0);
    uint64_t grant;
    OK(keylatch_acquire(locks, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant));
    by_callback(worker, 0);
    OK(keylatch_release(locks, grant));
    until_called_back();
}

int main(int count, char **arguments)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    keylatch_manager_options options = KEYLATCH_MANAGER_OPTIONS_INIT;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--sabotage") == 0)
            sabotage = true;
        else
            rounds = atoi(arguments[i]);
    }
    options.shards = 4;
    options.flags = KEYLATCH_MANAGER_READER_SLOTS;
    OK(keylatch_manager_new(&options, &locks));
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .seed = (unsigned)i + 1, .number = i + 1 };
        OK(keylatch_queue_new(locks, &workers[i].queue));
    }
    call_back_once(&workers[0]);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, works, &workers[i]) == 0);
    }
    uint64_t acquired = 0, refused = 0, written = 0;
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        acquired += workers[i].acquired, refused += workers[i].refused;
    }
    until_called_back();
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    CHECK(metrics.holders == 0 && metrics.waiters == 0 && metrics.acquisitions >= acquired / 2);
    for (int i = 0; i < OBJECTS; i++) {
        keylatch_key key = key_of(i);
        uint64_t grant;
        OK(keylatch_try(locks, &key, KEYLATCH_SHARED, NULL, &grant));
        look(&objects[i]);
        written += objects[i].writes;
        OK(keylatch_release(locks, grant));
    }
    CHECK(written == atomic_load(&writes));
    for (int i = 0; i < THREADS; i++)
        OK(keylatch_queue_free(workers[i].queue));
    OK(keylatch_manager_free(locks));
    printf("8 threads: %llu locks, %llu refusals, %llu writes, every byte and every fence as it should be\n",
           (unsigned long long)acquired, (unsigned long long)refused, (unsigned long long)written);
    return 0;
}
