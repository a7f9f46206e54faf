/* What the bench calls: so many pairs of acquire and release, through the header as a program would. */
#include <keylatch.h>

#include <stdlib.h>
#include <string.h>

static keylatch_manager *locks;
static keylatch_key key;
static keylatch_request_options with_owner;

static void must(int32_t status)
{
    if (status != KEYLATCH_OK)
        abort();
}

void bench_keylatch_open(const char *bucket, const char *object)
{
    keylatch_owner *owner;
    key = keylatch_key_of(bucket, object);
    must(keylatch_manager_new(NULL, &locks));
    must(keylatch_owner_new(locks, "node-7", 6, NULL, &owner));
    memset(&with_owner, 0, sizeof with_owner);
    with_owner.struct_size = sizeof with_owner;
    with_owner.owner = owner;
}

static void pairs(uint64_t count, int32_t mode, const keylatch_request_options *options)
{
    uint64_t grant;
    for (uint64_t i = 0; i < count; i++) {
        must(keylatch_acquire(locks, &key, mode, KEYLATCH_WAIT_FOREVER, options, &grant));
        must(keylatch_release(locks, grant));
    }
}

void bench_keylatch_exclusive(uint64_t count)
{
    pairs(count, KEYLATCH_EXCLUSIVE, NULL);
}

void bench_keylatch_shared(uint64_t count)
{
    pairs(count, KEYLATCH_SHARED, NULL);
}

void bench_keylatch_with_owner(uint64_t count)
{
    pairs(count, KEYLATCH_EXCLUSIVE, &with_owner);
}
