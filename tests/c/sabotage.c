/*
 * Does what must not be done, so that what watches the tests can be seen to notice.
 *
 *     sabotage use-after-free    reads a name that belonged to a listing
 *     sabotage overflow          reads past the end of the library's text
 *     sabotage leak              forgets a text
 *     sabotage race              two threads write with a shared lock only
 */
#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include "keylatch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static keylatch_manager *locks;
static keylatch_key key;
static volatile int seen;
static int written;
static atomic_int here;

static void use_after_free(void)
{
    keylatch_request_options options = KEYLATCH_REQUEST_OPTIONS_INIT;
    keylatch_listing *listing;
    keylatch_holder holder = KEYLATCH_HOLDER_INIT;
    uint64_t grant;
    options.owner_name = "an owner with a name that is kept apart";
    options.owner_name_len = strlen(options.owner_name);
    key = keylatch_key_of("a bucket whose name is too long to be kept in place", "and an object likewise");
    OK(keylatch_try(locks, &key, KEYLATCH_EXCLUSIVE, &options, &grant));
    OK(keylatch_holders(locks, NULL, &listing));
    OK(keylatch_listing_next_holder(listing, &holder));
    OK(keylatch_listing_free(listing));
    seen = *(const volatile char *)holder.key.bucket;
}

static void overflow(void)
{
    char *text;
    OK(keylatch_manager_report(locks, &text));
    seen = ((volatile char *)text)[strlen(text) + 1];
    keylatch_text_free(text);
}

static void leak(void)
{
    char *text;
    OK(keylatch_manager_report(locks, &text));
    seen = text[0];
    /* Where it was is forgotten, too. */
    memset(&text, 0, sizeof text);
}

static void *writes(void *nothing)
{
    uint64_t grant;
    OK(keylatch_acquire(locks, &key, KEYLATCH_SHARED, KEYLATCH_WAIT_FOREVER, NULL, &grant));
    /* Both are inside. */
    atomic_fetch_add_explicit(&here, 1, memory_order_relaxed);
    while (atomic_load_explicit(&here, memory_order_relaxed) < 2)
        ;
    written++;
    OK(keylatch_release(locks, grant));
    return nothing;
}

static void race(void)
{
    pthread_t threads[2];
    key = keylatch_key_of("b", "o");
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, writes, NULL) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(int count, char **arguments)
{
    const struct { const char *name; void (*does)(void); } all[] = {
        { "use-after-free", use_after_free },
        { "overflow", overflow },
        { "leak", leak },
        { "race", race },
    };
    OK(keylatch_manager_new(NULL, &locks));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (count == 2 && strcmp(arguments[1], all[i].name) == 0)
            all[i].does();
    OK(keylatch_manager_free(locks));
    return 0;
}
