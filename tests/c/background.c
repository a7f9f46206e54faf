/* What happens in the background, through the header alone: results that arrive later, and the threads that bring them. */
#define _GNU_SOURCE

#include "check.h"
#include "keylatch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define MS UINT64_C(1000000)

static keylatch_manager *fresh(void)
{
    keylatch_manager *locks;
    keylatch_manager_options options = { sizeof options };
    options.shards = 16;
    options.max_locks = 100000;
    OK(keylatch_manager_new(&options, &locks));
    return locks;
}

/* A failure of this thread, with copies of what is told of it. */
struct failure {
    const char *text;
    char copy[512];
    keylatch_key key;
};

static struct failure refused(keylatch_manager *locks)
{
    struct failure failure = { 0 };
    keylatch_key key = keylatch_key_of("bucket", "an object that is held");
    uint64_t held, grant;
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
    CHECK_STATUS(KEYLATCH_EWOULDBLOCK, keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &grant));
    OK(keylatch_release(locks, held));
    failure.text = keylatch_last_error();
    CHECK(strlen(failure.text) > 0 && strlen(failure.text) < sizeof failure.copy);
    strcpy(failure.copy, failure.text);
    OK(keylatch_last_key(&failure.key));
    return failure;
}

static void is_as_it_was(const struct failure *failure)
{
    CHECK(strcmp(failure->text, failure->copy) == 0 && keylatch_last_error() == failure->text);
    CHECK(failure->key.object_len == 22 && memcmp(failure->key.object, "an object that is held", 22) == 0);
    CHECK(keylatch_last_status() == KEYLATCH_EWOULDBLOCK);
}

static void a_success_leaves_the_last_failure_alone(void)
{
    keylatch_manager *locks = fresh();
    keylatch_queue *queue;
    keylatch_key key = keylatch_key_of("b", "o");
    keylatch_completion result;
    uint64_t held, grant, ticket;
    size_t count;
    OK(keylatch_queue_new(locks, &queue));
    for (int drained = 0; drained <= 1; drained++) {
        OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, NULL, &held));
        OK(keylatch_acquire_queue(locks, &key, KEYLATCH_EXCLUSIVE, KEYLATCH_WAIT_FOREVER, NULL, queue, 7, &grant, &ticket));
        struct failure failure = refused(locks);
        OK(keylatch_release(locks, held));
        if (drained) {
            OK(keylatch_queue_drain(queue, &result, 1, &count));
            CHECK(count == 1);
        } else {
            OK(keylatch_queue_next(queue, KEYLATCH_WAIT_FOREVER, &result));
        }
        CHECK(result.status == KEYLATCH_OK && result.token == 7);
        is_as_it_was(&failure);
        OK(keylatch_release(locks, result.grant));
        is_as_it_was(&failure);
    }
    OK(keylatch_queue_free(queue));
    OK(keylatch_manager_free(locks));
}

int main(void)
{
    a_success_leaves_the_last_failure_alone();
    puts("1 passed, 0 failed");
    return 0;
}
