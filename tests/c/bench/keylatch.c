/* What the bench calls: a number of pairs of acquire and release, through the header as a program would. */
#include <keylatch.h>

#include <stdlib.h>
#include <string.h>

static keylatch_manager *locks;
static keylatch_key key;
static keylatch_pinned_key *pinned;
static keylatch_request_options with_owner;
static keylatch_batch_item batch[16];
static size_t batch_size;

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
    must(keylatch_pin(locks, &key, &pinned));
    memset(&with_owner, 0, sizeof with_owner);
    with_owner.struct_size = sizeof with_owner;
    with_owner.owner = owner;
}

/* One more key of the batch, which takes sixteen. */
void bench_keylatch_batch_add(const char *bucket, const char *object)
{
    batch[batch_size].key = keylatch_key_of(bucket, object);
    batch[batch_size++].mode = KEYLATCH_EXCLUSIVE;
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

static void pinned_pairs(uint64_t count, int32_t mode)
{
    uint64_t grant;
    for (uint64_t i = 0; i < count; i++) {
        must(keylatch_acquire_pinned(pinned, mode, KEYLATCH_WAIT_FOREVER, NULL, &grant));
        must(keylatch_release(locks, grant));
    }
}

void bench_keylatch_pinned(uint64_t count)
{
    pinned_pairs(count, KEYLATCH_EXCLUSIVE);
}

void bench_keylatch_pinned_shared(uint64_t count)
{
    pinned_pairs(count, KEYLATCH_SHARED);
}

/* A number of keys, sixteen at a time. */
void bench_keylatch_batch(uint64_t count)
{
    uint64_t grants[16];
    for (uint64_t i = 0; i < count; i += batch_size) {
        must(keylatch_acquire_batch(locks, batch, batch_size, KEYLATCH_WAIT_FOREVER, NULL, grants, NULL));
        must(keylatch_release_many(locks, grants, batch_size, NULL));
    }
}
