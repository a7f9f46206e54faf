/* Batches that are answered by a callback or in a queue: what the waiting call does, without a thread that waits. */
#define _GNU_SOURCE

#include "fresh.h"
#include "keylatch.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define UNTOUCHED UINT64_C(77)

struct answer {
    sem_t arrived;
    int32_t status;
    atomic_int called, freed;
};

static void on_result(void *user_data, int32_t status, uint64_t grant)
{
    struct answer *answer = user_data;
    CHECK(grant == 0);
    answer->status = status;
    atomic_fetch_add(&answer->called, 1);
}

static void on_free(void *user_data)
{
    struct answer *answer = user_data;
    atomic_fetch_add(&answer->freed, 1);
    CHECK(sem_post(&answer->arrived) == 0);
}

/* One batch by either way. */
struct batch {
    keylatch_manager *locks;
    keylatch_queue *queue; /* NULL: by callback */
    struct answer answer;
    keylatch_batch_item items[4];
    uint64_t grants[4], ticket;
    int32_t statuses[4];
};

static const keylatch_key *key_of(size_t number)
{
    static keylatch_key keys[4];
    static const char *const names[] = { "1", "2", "3", "4" };
    keys[number] = keylatch_key_of("b", names[number]);
    return &keys[number];
}

static int32_t begin(struct batch *batch, size_t count, uint64_t timeout, const keylatch_request_options *options)
{
    CHECK(sem_init(&batch->answer.arrived, 0, 0) == 0);
    batch->answer.called = batch->answer.freed = 0;
    for (size_t i = 0; i < 4; i++) {
        batch->grants[i] = UNTOUCHED;
        batch->statuses[i] = UNTOUCHED;
    }
    batch->ticket = UNTOUCHED;
    keylatch_batch_item items[4];
    memcpy(items, batch->items, sizeof items);
    int32_t status =
        batch->queue ? keylatch_acquire_batch_queue(batch->locks, items, count, timeout, options, batch->queue, 9,
                                                    batch->grants, batch->statuses, &batch->ticket)
                     : keylatch_acquire_batch_callback(batch->locks, items, count, timeout, options, on_result,
                                                       &batch->answer, on_free, batch->grants, batch->statuses, &batch->ticket);
    /* They may go now. */
    memset(items, 0xff, sizeof items);
    return status;
}

/* The result of a batch that waits. */
static int32_t finish(struct batch *batch)
{
    if (batch->queue) {
        keylatch_completion result;
        OK(keylatch_queue_next(batch->queue, KEYLATCH_WAIT_FOREVER, &result));
        CHECK(result.ticket == batch->ticket && result.token == 9 && result.grant == 0);
        return result.status;
    }
    while (sem_wait(&batch->answer.arrived) != 0)
        ;
    CHECK(batch->answer.called == 1 && batch->answer.freed == 1);
    return batch->answer.status;
}

static uint64_t holders(keylatch_manager *locks)
{
    keylatch_metrics metrics = KEYLATCH_METRICS_INIT;
    OK(keylatch_manager_metrics(locks, KEYLATCH_ALL_SHARDS, &metrics));
    return metrics.holders;
}

static void nothing_was_written(const struct batch *batch)
{
    for (size_t i = 0; i < 4; i++)
        CHECK(batch->grants[i] == UNTOUCHED && batch->statuses[i] == (int32_t)UNTOUCHED);
}

static struct batch made(bool by_queue)
{
    struct batch batch = { .locks = fresh() };
    if (by_queue)
        OK(keylatch_queue_new(batch.locks, &batch.queue));
    for (size_t i = 0; i < 4; i++)
        batch.items[i] = (keylatch_batch_item){ *key_of(i), KEYLATCH_EXCLUSIVE, 0 };
    return batch;
}

static void end(struct batch *batch)
{
    CHECK(holders(batch->locks) == 0);
    OK(keylatch_queue_free(batch->queue));
    OK(keylatch_manager_free(batch->locks));
}

/* All free: had immediately, equal keys once. */
static void free_locks_are_had_immediately(bool by_queue)
{
    struct batch batch = made(by_queue);
    batch.items[2] = (keylatch_batch_item){ *key_of(0), KEYLATCH_SHARED, 0 };
    OK(begin(&batch, 4, 0, NULL));
    CHECK(batch.ticket == 0 && batch.grants[2] == 0 && batch.statuses[2] == KEYLATCH_OK);
    CHECK(batch.answer.called == 0 && batch.answer.freed == (by_queue ? 0 : 1));
    CHECK(holders(batch.locks) == 3);
    size_t released;
    OK(keylatch_release_many(batch.locks, batch.grants, 4, &released));
    CHECK(released == 3);
    OK(begin(&batch, 0, 0, NULL));
    CHECK(batch.ticket == 0);
    end(&batch);
}

/* Two of the keys are held: the batch waits for one after the other, and has what comes before. */
static void held_locks_are_waited_for(bool by_queue)
{
    struct batch batch = made(by_queue);
    uint64_t second, fourth, other;
    OK(keylatch_try(batch.locks, key_of(1), KEYLATCH_EXCLUSIVE, NULL, &second));
    OK(keylatch_try(batch.locks, key_of(3), KEYLATCH_SHARED, NULL, &fourth));
    OK(begin(&batch, 4, KEYLATCH_WAIT_FOREVER, NULL));
    CHECK(batch.ticket != 0 && batch.ticket != UNTOUCHED);
    nothing_was_written(&batch);
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(batch.locks, key_of(0), KEYLATCH_SHARED, NULL, &other));
    OK(keylatch_release(batch.locks, second));
    if (by_queue) {
        /* The batch goes on when its queue is looked at, and is not at its end. */
        keylatch_completion result;
        CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_queue_next(batch.queue, 0, &result));
    }
    OK(keylatch_release(batch.locks, fourth));
    OK(finish(&batch));
    for (size_t i = 0; i < 4; i++) {
        CHECK(batch.statuses[i] == KEYLATCH_OK);
        OK(keylatch_release(batch.locks, batch.grants[i]));
    }
    end(&batch);
}

/* The time is over: nothing is held and nothing was written, or the best was made of it. */
static void time_is_over(bool by_queue)
{
    struct batch batch = made(by_queue);
    uint64_t held;
    OK(keylatch_try(batch.locks, key_of(1), KEYLATCH_EXCLUSIVE, NULL, &held));
    CHECK_STATUS(KEYLATCH_ETIMEOUT, begin(&batch, 4, 0, NULL));
    CHECK(batch.ticket == UNTOUCHED && holders(batch.locks) == 1);
    OK(begin(&batch, 4, 3 * MS, NULL));
    CHECK(finish(&batch) == KEYLATCH_ETIMEOUT && holders(batch.locks) == 1);
    nothing_was_written(&batch);
    keylatch_request_options effort = KEYLATCH_REQUEST_OPTIONS_INIT;
    effort.flags = KEYLATCH_BEST_EFFORT;
    effort.ttl_ns = 3600 * 1000 * MS;
    OK(begin(&batch, 4, 3 * MS, &effort));
    OK(finish(&batch));
    CHECK(batch.grants[1] == 0 && batch.statuses[1] == KEYLATCH_ETIMEOUT && batch.statuses[2] == KEYLATCH_OK);
    uint64_t left;
    OK(keylatch_remaining(batch.locks, batch.grants[0], &left));
    CHECK(left > 0 && left <= effort.ttl_ns);
    size_t released;
    OK(keylatch_release_many(batch.locks, batch.grants, 4, &released));
    CHECK(released == 3);
    OK(keylatch_release(batch.locks, held));
    end(&batch);
}

/* Cancelled by its ticket, while it waits for its first lock and for a later one. */
static void cancelled_batch_holds_nothing(bool by_queue)
{
    for (int later = 0; later <= 1; later++) {
        struct batch batch = made(by_queue);
        uint64_t held[2];
        int32_t cancelled;
        OK(keylatch_try(batch.locks, key_of(0), KEYLATCH_EXCLUSIVE, NULL, &held[0]));
        OK(keylatch_try(batch.locks, key_of(2), KEYLATCH_EXCLUSIVE, NULL, &held[1]));
        keylatch_request_options effort = KEYLATCH_REQUEST_OPTIONS_INIT;
        effort.flags = KEYLATCH_BEST_EFFORT;
        OK(begin(&batch, 4, KEYLATCH_WAIT_FOREVER, &effort));
        if (later) {
            OK(keylatch_release(batch.locks, held[0]));
            keylatch_completion result;
            uint64_t other = 0;
            if (by_queue)
                CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_queue_next(batch.queue, 0, &result));
            else /* The thread of the callbacks has come to the third key when it has the second. */
                while (keylatch_try(batch.locks, key_of(1), KEYLATCH_SHARED, NULL, &other) == KEYLATCH_OK)
                    OK(keylatch_release(batch.locks, other));
        }
        OK(keylatch_cancel(batch.locks, batch.ticket, &cancelled));
        CHECK(cancelled == 1);
        CHECK(finish(&batch) == KEYLATCH_ECANCELLED);
        nothing_was_written(&batch);
        OK(keylatch_cancel(batch.locks, batch.ticket, &cancelled));
        CHECK(cancelled == 0);
        if (!later)
            OK(keylatch_release(batch.locks, held[0]));
        OK(keylatch_release(batch.locks, held[1]));
        end(&batch);
    }
}

/* The manager, or the queue, goes while the batch waits. */
static void end_of_the_manager_ends_the_batch(bool by_queue)
{
    struct batch batch = made(by_queue);
    uint64_t held;
    OK(keylatch_try(batch.locks, key_of(1), KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(begin(&batch, 4, KEYLATCH_WAIT_FOREVER, NULL));
    OK(keylatch_manager_free(batch.locks));
    CHECK(finish(&batch) == KEYLATCH_ECLOSED);
    nothing_was_written(&batch);
    OK(keylatch_queue_free(batch.queue));

    batch = made(by_queue);
    OK(keylatch_try(batch.locks, key_of(1), KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(begin(&batch, 4, KEYLATCH_WAIT_FOREVER, NULL));
    if (by_queue) {
        OK(keylatch_queue_free(batch.queue));
        batch.queue = NULL;
        OK(keylatch_release(batch.locks, held));
        end(&batch);
    } else {
        OK(keylatch_manager_free(batch.locks));
        CHECK(finish(&batch) == KEYLATCH_ECLOSED);
    }
}

/* A session is found in a deadlock; freeing its handle meanwhile is harmless. */
static void session_stays_while_its_batch_waits(bool by_queue)
{
    struct batch batch = made(by_queue);
    keylatch_owner_options is_session = KEYLATCH_OWNER_OPTIONS_INIT;
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_owner *session;
    uint64_t held;
    is_session.flags = KEYLATCH_OWNER_SESSION;
    OK(keylatch_owner_new(batch.locks, "txn", 3, &is_session, &session));
    options.owner = session;
    OK(keylatch_try(batch.locks, key_of(2), KEYLATCH_EXCLUSIVE, &options, &held));
    CHECK_STATUS(KEYLATCH_EDEADLOCK, begin(&batch, 4, KEYLATCH_WAIT_FOREVER, &options));
    CHECK(holders(batch.locks) == 1);
    OK(keylatch_release(batch.locks, held));
    OK(keylatch_try(batch.locks, key_of(0), KEYLATCH_EXCLUSIVE, NULL, &held));
    OK(begin(&batch, 4, KEYLATCH_WAIT_FOREVER, &options));
    OK(keylatch_owner_free(session));
    OK(keylatch_release(batch.locks, held));
    OK(finish(&batch));
    size_t released;
    OK(keylatch_release_many(batch.locks, batch.grants, 4, &released));
    CHECK(released == 4);
    end(&batch);
}

/* Two of them in opposite orders, again and again, beside each other: no deadlock, and each alone. */
#define ROUNDS 2000
static int64_t counted;

static void *counts(void *by_queue)
{
    struct batch *shared = by_queue, batch = *shared;
    for (int round = 0; round < ROUNDS; round++) {
        keylatch_batch_item first = batch.items[0];
        batch.items[0] = batch.items[1];
        batch.items[1] = first;
        OK(begin(&batch, 2, KEYLATCH_WAIT_FOREVER, NULL));
        if (batch.ticket != 0)
            OK(finish(&batch));
        counted++;
        size_t released;
        OK(keylatch_release_many(batch.locks, batch.grants, 2, &released));
        CHECK(released == 2);
    }
    return NULL;
}

static void batches_beside_each_other_all_end(bool by_queue)
{
    struct batch batch = made(false), other = batch;
    pthread_t threads[2];
    counted = 0;
    if (by_queue) {
        OK(keylatch_queue_new(batch.locks, &batch.queue));
        OK(keylatch_queue_new(batch.locks, &other.queue));
    }
    CHECK(pthread_create(&threads[0], NULL, counts, &batch) == 0);
    CHECK(pthread_create(&threads[1], NULL, counts, &other) == 0);
    CHECK(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
    CHECK(counted == 2 * ROUNDS);
    OK(keylatch_queue_free(other.queue));
    end(&batch);
}

/* The call itself says what is wrong with it, and nothing arrives. */
static void wrong_calls_are_refused(void)
{
    struct batch batch = made(true);
    keylatch_manager *others = fresh();
    keylatch_queue *queue;
    uint64_t ticket = UNTOUCHED;
    OK(keylatch_queue_new(others, &queue));
    CHECK_STATUS(KEYLATCH_EHANDLE, keylatch_acquire_batch_queue(batch.locks, batch.items, 4, 0, NULL, queue, 1, batch.grants, NULL, &ticket));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_acquire_batch_queue(batch.locks, batch.items, 4, 0, NULL, batch.queue, 1, NULL, NULL, &ticket));
    CHECK_STATUS(KEYLATCH_ENULL, keylatch_acquire_batch_callback(batch.locks, batch.items, 4, 0, NULL, NULL, NULL, NULL, batch.grants, NULL, &ticket));
    keylatch_request_options numbered = KEYLATCH_REQUEST_OPTIONS_INIT;
    numbered.request_id = 1;
    CHECK_STATUS(KEYLATCH_EINVALID, begin(&batch, 4, 0, &numbered));
    batch.items[3].mode = 5;
    CHECK_STATUS(KEYLATCH_EINVALID, begin(&batch, 4, 0, NULL));
    CHECK(ticket == UNTOUCHED);
    OK(keylatch_queue_free(queue));
    OK(keylatch_manager_free(others));
    end(&batch);
}

int main(void)
{
    for (int by_queue = 0; by_queue <= 1; by_queue++) {
        free_locks_are_had_immediately(by_queue);
        held_locks_are_waited_for(by_queue);
        time_is_over(by_queue);
        cancelled_batch_holds_nothing(by_queue);
        end_of_the_manager_ends_the_batch(by_queue);
        session_stays_while_its_batch_waits(by_queue);
        batches_beside_each_other_all_end(by_queue);
    }
    wrong_calls_are_refused();
    return 0;
}
