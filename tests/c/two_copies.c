/*
 * A process with two copies of the library, such as the program's own and one that a plug-in brought along: each takes
 * its own handles and no others. And a copy that is closed while a thread of it still has something to do.
 */
#include "check.h"

#include <dlfcn.h>
#include <keylatch.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What the other copy calls the same. */
static struct {
    void *library;
    int32_t (*manager_new)(const keylatch_manager_options *, keylatch_manager **);
    int32_t (*manager_free)(keylatch_manager *);
    int32_t (*queue_new)(keylatch_manager *, keylatch_queue **);
    int32_t (*queue_free)(keylatch_queue *);
    int32_t (*acquire)(keylatch_manager *, const keylatch_key *, int32_t, uint64_t, const keylatch_request_options *, uint64_t *);
    int32_t (*acquire_callback)(keylatch_manager *, const keylatch_key *, int32_t, uint64_t, const keylatch_request_options *,
                                keylatch_callback, void *, keylatch_free_fn, uint64_t *, uint64_t *);
    int32_t (*release)(keylatch_manager *, uint64_t);
} other;

static void *function(const char *name)
{
    void *found = dlsym(other.library, name);

    CHECK(found != NULL);
    return found;
}

static void open_the_other(const char *path)
{
    other.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (other.library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&other.manager_new = function("keylatch_manager_new");
    *(void **)&other.manager_free = function("keylatch_manager_free");
    *(void **)&other.queue_new = function("keylatch_queue_new");
    *(void **)&other.queue_free = function("keylatch_queue_free");
    *(void **)&other.acquire = function("keylatch_acquire");
    *(void **)&other.acquire_callback = function("keylatch_acquire_callback");
    *(void **)&other.release = function("keylatch_release");
    CHECK(other.manager_new != keylatch_manager_new);
}

static void each_takes_its_own_handles(void)
{
    keylatch_manager *mine, *its;
    keylatch_queue *my_queue, *its_queue;
    keylatch_key key = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant, other_grant;

    CHECK(keylatch_manager_new(NULL, &mine) == KEYLATCH_OK);
    CHECK(other.manager_new(NULL, &its) == KEYLATCH_OK);
    CHECK(keylatch_queue_new(mine, &my_queue) == KEYLATCH_OK);
    CHECK(other.queue_new(its, &its_queue) == KEYLATCH_OK);

    CHECK(keylatch_acquire(its, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant) == KEYLATCH_EHANDLE);
    CHECK(other.acquire(mine, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant) == KEYLATCH_EHANDLE);
    CHECK(keylatch_manager_free(its) == KEYLATCH_EHANDLE);
    CHECK(other.manager_free(mine) == KEYLATCH_EHANDLE);
    CHECK(keylatch_queue_free(its_queue) == KEYLATCH_EHANDLE);
    CHECK(other.queue_free(my_queue) == KEYLATCH_EHANDLE);

    /* What belongs together goes together, and knows nothing of the other. */
    CHECK(keylatch_acquire(mine, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant) == KEYLATCH_OK);
    CHECK(other.acquire(its, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &other_grant) == KEYLATCH_OK);
    CHECK(keylatch_release(mine, grant) == KEYLATCH_OK);
    CHECK(other.release(its, other_grant) == KEYLATCH_OK);
    CHECK(keylatch_queue_free(my_queue) == KEYLATCH_OK);
    CHECK(other.queue_free(its_queue) == KEYLATCH_OK);
    CHECK(keylatch_manager_free(mine) == KEYLATCH_OK);
    CHECK(other.manager_free(its) == KEYLATCH_OK);
}

static atomic_int answered = KEYLATCH_OK;

static void answer(void *user_data, int32_t status, uint64_t grant)
{
    (void)user_data, (void)grant;
    answered = status;
}

static void a_thread_goes_on_when_its_library_was_closed(void)
{
    keylatch_manager *its;
    keylatch_key key = keylatch_key_of("photos", "cat.jpg");
    uint64_t grant, none, ticket;

    CHECK(other.manager_new(NULL, &its) == KEYLATCH_OK);
    CHECK(other.acquire(its, &key, KEYLATCH_EXCLUSIVE, 0, NULL, &grant) == KEYLATCH_OK);
    CHECK(other.acquire_callback(its, &key, KEYLATCH_EXCLUSIVE, 20000000, NULL, answer, NULL, NULL, &none, &ticket) ==
          KEYLATCH_OK);
    CHECK(dlclose(other.library) == 0);
    while (answered == KEYLATCH_OK)
        poll(NULL, 0, 1);
    CHECK(answered == KEYLATCH_ETIMEOUT);
}

int main(int count, char **words)
{
    CHECK(count == 2);
    open_the_other(words[1]);
    each_takes_its_own_handles();
    a_thread_goes_on_when_its_library_was_closed();
    puts("two copies of the library");
    return 0;
}
